//! Certificates of the server, and of clients where they must show one, by rustls. Files that change are taken over
//! while serving; connections that stand keep what they began with.
//!
//! It refuses files that do not fit together: at the start with an error, later by keeping the last good ones, with a log
//! line and a count.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, Result, codes};
use parking_lot::{Mutex, RwLock};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::metrics::{AccessMetrics, OutcomeLabels};

/// The name of HTTP/2 in a handshake.
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";
/// Between two looks at the files.
const INTERVAL: Duration = Duration::from_secs(2);

/// Where the certificates are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate and those between it and the authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The authorities of client certificates, in PEM; none asks clients for nothing.
    pub client_authorities: Option<PathBuf>,
    /// Whether clients without a certificate are served all the same. One that is shown must be good in any case.
    pub is_client_optional: bool,
}

/// The certificates that are in force.
pub struct Certificates {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    seen: Mutex<blake3::Hash>,
    metrics: AccessMetrics,
}

impl Debug for Certificates {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting whose file cannot be read or does not fit.
    pub fn open(files: TlsFiles, metrics: AccessMetrics) -> Result<Self> {
        let read = Read::of(&files)?;
        let current = RwLock::new(Arc::new(read.config(&files)?));
        Ok(Self { files, current, seen: Mutex::new(read.hash()), metrics })
    }

    /// What the next handshake uses.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }

    /// Takes over files that changed.
    pub fn look(&self) {
        let mut seen = self.seen.lock();
        let read = Read::of(&self.files);
        // Files that cannot be read have a hash too, so that each fault is told once.
        let hash = read.as_ref().map_or_else(|error| blake3::hash(error.chain().as_bytes()), Read::hash);
        if std::mem::replace(&mut *seen, hash) == hash {
            return;
        }
        let outcome = match read.and_then(|read| read.config(&self.files)) {
            Ok(config) => {
                *self.current.write() = Arc::new(config);
                info!(certificate = %self.files.certificate.display(), "the certificate was reloaded");
                "ok"
            }
            Err(error) => {
                error!(error = %error.chain(), "the certificate stays as it was");
                "failed"
            }
        };
        self.metrics.certificate_reloads.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Looks at the files again and again until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let this = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || this.look()).await.is_err() {
                return;
            }
        }
    }
}

/// The files as they were read.
struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authorities: Option<Vec<u8>>,
}

impl Read {
    fn of(files: &TlsFiles) -> Result<Self> {
        let authorities = files.client_authorities.as_ref();
        Ok(Self {
            certificate: read(&files.certificate, "certificate")?,
            key: read(&files.key, "key")?,
            client_authorities: authorities.map(|path| read(path, "client_ca")).transpose()?,
        })
    }

    fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.certificate, &self.key, self.client_authorities.as_ref().unwrap_or(&Vec::new())] {
            hasher.update(&part.len().to_le_bytes()).update(part);
        }
        hasher.finalize()
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&self.certificate, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|cause| fault("key", "holds no private key in PEM").with_source(cause))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Error::internal)?;
        let builder = match &self.client_authorities {
            None => builder.with_no_client_auth(),
            Some(authorities) => builder.with_client_cert_verifier(verifier(authorities, files, provider)?),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|cause| fault("certificate", "does not fit its key").with_source(cause))?;
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        Ok(config)
    }
}

fn verifier(
    authorities: &[u8],
    files: &TlsFiles,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let unfit = |cause| fault("client_ca", "holds no authority that can be used").with_source(cause);
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities, "client_ca")? {
        roots.add(certificate).map_err(unfit)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if files.is_client_optional { builder.allow_unauthenticated() } else { builder };
    builder
        .build()
        .map_err(|cause| fault("client_ca", "holds no authority that can be used").with_source(cause))
}

fn certificates(pem: &[u8], setting: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|cause| fault(setting, "is not PEM").with_source(cause))?;
    if found.is_empty() { Err(fault(setting, "holds no certificate in PEM")) } else { Ok(found) }
}

fn read(path: &Path, setting: &str) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|cause| fault(setting, format!("{} cannot be read", path.display())).with_source(cause))
}

fn fault(setting: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message.into()).with_field(format!("server.tls.{setting}"))
}
