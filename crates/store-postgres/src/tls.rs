//! TLS to the server, by rustls. What is verified follows `sslmode`, as every PostgreSQL client has it.

use std::sync::Arc;

use kernel::{Error, Result, codes};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::Address;

/// What a server must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verification {
    /// Nothing: the connection is safe from those who listen, not from those who pose as the server.
    None,
    /// That a known authority vouches for it.
    Authority,
    /// That, and its name.
    Full,
}

/// The connector for an address. Reads certificates from disk.
pub(crate) fn connector(address: &Address) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let roots = match (address.verification, &address.root) {
        (Verification::None, _) => None,
        (_, Some(path)) => {
            let unreadable = |cause| {
                let message = format!("the certificates of `{}` cannot be read", path.display());
                Error::new(codes::VALIDATION_ERROR, message).with_field("sslrootcert").with_source(cause)
            };
            let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            Some(store_of(found.map_err(unreadable)?))
        }
        (_, None) => Some(store_of(rustls_native_certs::load_native_certs().certs)),
    };
    let inner = match roots {
        None => None,
        Some(roots) => {
            let built =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
            let none = |cause| {
                Error::new(codes::VALIDATION_ERROR, "no certificate authority is known; give sslrootcert")
                    .with_field("sslrootcert")
                    .with_source(cause)
            };
            Some(built.map_err(none)?)
        }
    };
    let verifier = Verifier { verification: address.verification, inner, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn store_of(certificates: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    store
}

#[derive(Debug)]
struct Verifier {
    verification: Verification,
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        let found = inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match found {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verification == Verification::Authority => Ok(ServerCertVerified::assertion()),
            found => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
