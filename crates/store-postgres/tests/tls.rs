//! What a server must prove, by `sslmode`: a proxy speaks TLS in front of the server.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::Schema;
use kernel::{ErrorKind, SystemClock};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use store_postgres::{DatabaseUrl, Migrator, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A port where the server answers over TLS, as `localhost`.
async fn serve(issuer: &CertifiedIssuer<'static, KeyPair>) -> u16 {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = common::url();
    let server = url.split_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                // The protocol's request for TLS, and "yes".
                let mut request = [0; 8];
                near.read_exact(&mut request).await.unwrap();
                assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
                near.write_all(b"S").await.unwrap();
                let Ok(mut near) = acceptor.accept(near).await else { return };
                let mut far = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    port
}

async fn connects(url: String) -> bool {
    let settings = Settings { url: Some(DatabaseUrl::new(url)), ..Schema::empty().settings.clone() };
    match Migrator::new(&settings, &SystemClock::new()).status().await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_proves_what_the_url_demands() {
    let (own, other) = (authority(), authority());
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, issuer: &CertifiedIssuer<'static, KeyPair>| {
        let path = folder.path().join(name);
        std::fs::write(&path, issuer.pem()).unwrap();
        path
    };
    let (own_path, other_path) = (write("own.pem", &own), write("other.pem", &other));
    let port = serve(&own).await;
    let check = async |host: &str, mode: &str, root: Option<&Path>, holds: bool| {
        let root = root.map(|path| format!("&sslrootcert={}", path.display())).unwrap_or_default();
        let url = format!("postgres://watershed@{host}:{port}/postgres?sslmode={mode}{root}");
        assert_eq!(connects(url.clone()).await, holds, "{url}");
    };
    check("localhost", "prefer", None, true).await;
    check("127.0.0.1", "require", None, true).await;
    check("localhost", "verify-full", Some(&own_path), true).await;
    check("127.0.0.1", "verify-full", Some(&own_path), false).await;
    check("127.0.0.1", "verify-ca", Some(&own_path), true).await;
    check("127.0.0.1", "require", Some(&own_path), true).await;
    check("localhost", "verify-ca", Some(&other_path), false).await;
    check("localhost", "verify-full", Some(&other_path), false).await;
    check("localhost", "verify-full", None, false).await;
}

/// A server that does not speak TLS is used without where that is allowed, and refused where it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_where_it_is_demanded() {
    for (mode, holds) in [("disable", true), ("prefer", true), ("require", false), ("verify-full", false)] {
        assert_eq!(connects(format!("{}?sslmode={mode}", common::url())).await, holds, "{mode}");
    }
}

/// A file of certificates that is not there is told by its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_file_is_told() {
    let url = format!("{}?sslmode=verify-full&sslrootcert=/not/there.pem", common::url());
    let settings = Settings { url: Some(DatabaseUrl::new(url)), ..Settings::default() };
    let error = Migrator::new(&settings, &SystemClock::new()).status().await.unwrap_err();
    assert_eq!((error.field(), error.kind()), (Some("sslrootcert"), ErrorKind::Invalid));
}
