//! TLS: a server that an authority vouches for is used, any other is not.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::path::Path;
use std::sync::Arc;

use kernel::{SystemClock, SystemEntropy, codes};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use store::Secret;
use store_redis::{Mode, RedisStore, Settings};
use support::servers::{PASSWORD, Server, free_port};
use support::{open, settings};

/// Writes an authority's certificate, and a certificate and key that it gave to `host`.
fn write_certificates(folder: &Path, host: &str) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("own.pem"), own.pem()).unwrap();
    std::fs::write(folder.join("own.key"), key.serialize_pem()).unwrap();
}

async fn server(folder: &Path, host: &str) -> (Server, Settings) {
    write_certificates(folder, host);
    let name = |file: &str| folder.join(file).display().to_string();
    let (ca, own, key, tls_port) = (name("ca.pem"), name("own.pem"), name("own.key"), free_port());
    let port = tls_port.to_string();
    let files = ["--tls-ca-cert-file", &ca, "--tls-cert-file", &own, "--tls-key-file", &key];
    let options = [&["--tls-port", &port, "--tls-auth-clients", "no"][..], &files].concat();
    let server = Server::start(folder, free_port(), &options).await;
    let url = format!("rediss://:{PASSWORD}@127.0.0.1:{tls_port}");
    (server, Settings { ca_file: ca, ..settings(&url, Mode::Plain) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_must_prove_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, settings) = server(folder.path(), "127.0.0.1").await;
    open(&settings).await.ping().await.unwrap();
    let unknown = Settings { ca_file: String::new(), ..settings.clone() };
    let error = open(&unknown).await.ping().await.unwrap_err();
    assert_eq!(error.code(), codes::UNAVAILABLE);
    assert!(error.chain().contains("certificate"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_for_its_host() {
    let folder = tempfile::tempdir().unwrap();
    let (_server, settings) = server(folder.path(), "elsewhere.example").await;
    let error = open(&settings).await.ping().await.unwrap_err();
    assert!(error.chain().contains("certificate"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_is_refused_at_once() {
    let cases = [("rediss://a", "/missing"), ("redis://a", "/etc/hostname")];
    for (url, file) in cases {
        let settings = Settings { url: Secret::new(url), ca_file: file.to_owned(), ..Settings::default() };
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
        let error = RedisStore::open(&settings, clock, entropy).await.unwrap_err();
        assert_eq!((error.code(), error.field()), (codes::VALIDATION_ERROR, Some("ca_file")));
    }
}
