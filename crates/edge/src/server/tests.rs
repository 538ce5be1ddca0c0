//! Connections over real sockets: TLS with both versions of HTTP, certificates that change, limits.

use std::path::Path;

use axum::extract::Request;
use axum::routing::get;
use http_body_util::{BodyExt, Empty};
use hyper::Version;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::tls::{HTTP_2, TlsFiles};
use super::*;
use crate::metrics::OutcomeLabels;

const IDLE: Duration = Duration::from_secs(75);
/// How long a slow answer takes.
const SLOW: Duration = Duration::from_millis(1_200);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for a name, and its key.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

fn write(folder: &Path, (certificate, key): &(String, String)) {
    std::fs::write(folder.join("certificate"), certificate).unwrap();
    std::fs::write(folder.join("key"), key).unwrap();
}

fn files(folder: &Path, client_authorities: Option<&Authority>, is_client_optional: bool) -> TlsFiles {
    let path = folder.join("authorities");
    if let Some(authority) = client_authorities {
        std::fs::write(&path, authority.pem()).unwrap();
    }
    let client_authorities = client_authorities.map(|_| path);
    TlsFiles {
        certificate: folder.join("certificate"),
        key: folder.join("key"),
        client_authorities,
        is_client_optional,
    }
}

struct Running {
    address: SocketAddr,
    settings: ConnectionSettings,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<Duration>,
}

impl Running {
    async fn start(max: usize, tls: Option<TlsFiles>) -> Self {
        Self::with_idle(max, tls, IDLE).await
    }

    async fn with_idle(max: usize, tls: Option<TlsFiles>, idle_timeout: Duration) -> Self {
        let metrics = AccessMetrics::register(&mut Registry::default());
        let tls = tls.map(|files| Arc::new(Certificates::open(files, metrics.clone()).unwrap()));
        let settings = ConnectionSettings { max, idle_timeout, tls, metrics };
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = || async {
            tokio::time::sleep(SLOW).await;
            "slow"
        };
        let router = Router::new().route("/", get(|| std::future::ready("hello"))).route("/slow", get(slow));
        let stop = CancellationToken::new();
        let times = ShutdownTimes { delay: Duration::ZERO, longest: Duration::from_secs(5) };
        let serving = serve(listener, router, settings.clone(), stop.clone(), times);
        Self { address, settings, stop, served: tokio::spawn(serving) }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.served).await.unwrap().unwrap();
        assert_eq!(self.settings.metrics.connections_open.get(), 0);
    }

    fn reloads(&self, outcome: &'static str) -> u64 {
        self.settings.metrics.certificate_reloads.get_or_create(&OutcomeLabels { outcome }).get()
    }

    /// The handshake of a client that trusts `authority`, speaks `protocol` and shows `identity`.
    async fn connect(
        &self,
        authority: &Authority,
        protocol: &[u8],
        identity: Option<&(String, String)>,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("shop.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// The version and the body of an answer over TLS.
    async fn ask(
        &self,
        authority: &Authority,
        protocol: &[u8],
        identity: Option<&(String, String)>,
    ) -> Option<(Version, String)> {
        let stream = TokioIo::new(self.connect(authority, protocol, identity).await.ok()?);
        let request = Request::get("https://shop.example/").header("host", "shop.example");
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = if protocol == HTTP_2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.ok()?;
            tokio::spawn(connection);
            sender.send_request(request).await.ok()?
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.ok()?;
            tokio::spawn(connection);
            sender.send_request(request).await.ok()?
        };
        let version = answer.version();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((version, String::from_utf8(body.to_vec()).unwrap()))
    }
}

#[tokio::test]
async fn both_versions_of_http_are_served_and_certificates_change_while_serving() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    write(folder.path(), &old.issue("shop.example"));
    let server = Running::start(10, Some(files(folder.path(), None, false))).await;
    let hello = |version| Some((version, "hello".to_owned()));
    assert_eq!(server.ask(&old, HTTP_2, None).await, hello(Version::HTTP_2));
    assert_eq!(server.ask(&old, b"http/1.1", None).await, hello(Version::HTTP_11));
    assert_eq!(server.ask(&new, HTTP_2, None).await, None);
    let certificates = server.settings.tls.clone().unwrap();

    certificates.look();
    assert_eq!((server.reloads("ok"), server.reloads("failed")), (0, 0), "nothing changed");
    let (certificate, _) = new.issue("shop.example");
    let (_, other_key) = new.issue("shop.example");
    for broken in [
        (certificate.clone(), other_key),
        (certificate[..200].to_owned(), String::new()),
        (String::new(), String::new()),
    ] {
        write(folder.path(), &broken);
        let failed = server.reloads("failed");
        certificates.look();
        certificates.look();
        assert_eq!((server.reloads("ok"), server.reloads("failed")), (0, failed + 1), "told once");
        assert_eq!(server.ask(&old, HTTP_2, None).await, hello(Version::HTTP_2));
    }
    std::fs::remove_file(folder.path().join("key")).unwrap();
    certificates.look();
    assert_eq!(server.ask(&old, HTTP_2, None).await, hello(Version::HTTP_2));

    write(folder.path(), &new.issue("shop.example"));
    certificates.look();
    assert_eq!(server.reloads("ok"), 1);
    assert_eq!(server.ask(&new, HTTP_2, None).await, hello(Version::HTTP_2));
    assert_eq!(server.ask(&old, HTTP_2, None).await, None);
    server.end().await;
}

#[tokio::test]
async fn clients_show_a_certificate_where_they_must() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    write(folder.path(), &authority.issue("shop.example"));
    for is_optional in [false, true] {
        let server = Running::start(10, Some(files(folder.path(), Some(&clients), is_optional))).await;
        for protocol in [HTTP_2, b"http/1.1"] {
            let check = async |identity: Option<(String, String)>, passes: bool| {
                let answer = server.ask(&authority, protocol, identity.as_ref()).await;
                assert_eq!(answer.is_some(), passes, "{identity:?}, optional {is_optional}");
            };
            check(None, is_optional).await;
            check(Some(clients.issue("till.example")), true).await;
            check(Some(others.issue("till.example")), false).await;
        }
        assert!(server.settings.metrics.handshakes_failed.get() >= 2);
        server.end().await;
    }
}

#[test]
fn files_that_do_not_fit_name_their_setting() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let good = authority.issue("shop.example");
    let check = |pair: (&str, &str), field: &str| {
        write(folder.path(), &(pair.0.to_owned(), pair.1.to_owned()));
        let metrics = AccessMetrics::register(&mut Registry::default());
        let error = Certificates::open(files(folder.path(), Some(&authority), false), metrics).unwrap_err();
        assert_eq!(error.field(), Some(field), "{error}");
    };
    check((&good.0, ""), "server.tls.key");
    check(("", &good.1), "server.tls.certificate");
    check((&good.0, &authority.issue("x").1), "server.tls.certificate");
    std::fs::remove_file(folder.path().join("key")).unwrap();
    let missing = files(folder.path(), None, false);
    let metrics = AccessMetrics::register(&mut Registry::default());
    assert_eq!(Certificates::open(missing, metrics).unwrap_err().field(), Some("server.tls.key"));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = Running::start(2, None).await;
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let first = TcpStream::connect(server.address).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let refused = ask(&mut third).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("OVERLOADED"), "{refused}");
    assert!(ask(&mut second).await.starts_with("HTTP/1.1 200 "));
    drop(first);
    let metrics = &server.settings.metrics;
    while metrics.connections_open.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(ask(&mut TcpStream::connect(server.address).await.unwrap()).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(metrics.connections_refused.get(), 1);
    server.end().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_the_end_up() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    write(folder.path(), &authority.issue("shop.example"));
    for tls in [None, Some(files(folder.path(), None, false))] {
        let server = Running::start(10, tls).await;
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        while server.settings.metrics.connections_open.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.end().await;
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn an_idle_http2_connection_that_answers_pings_is_told_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    write(folder.path(), &authority.issue("shop.example"));
    let idle = SLOW / 3;
    let server = Running::with_idle(10, Some(files(folder.path(), None, false)), idle).await;
    let stream = server.connect(&authority, HTTP_2, None).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    // It answers pings for as long as it is polled.
    let ended = tokio::spawn(connection);
    let ask = |path: &str| {
        let uri = format!("https://shop.example{path}");
        Request::builder().uri(uri).body(Empty::<bytes::Bytes>::new()).unwrap()
    };
    let began = tokio::time::Instant::now();
    let answer = sender.send_request(ask("/slow")).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "slow", "an open request is not idle");
    assert!(began.elapsed() >= SLOW && !ended.is_finished());
    assert!(sender.send_request(ask("/")).await.is_ok());
    let ended = tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it is told to go");
    assert!(ended.unwrap().is_ok(), "in order, not cut off");
    assert!(sender.send_request(ask("/")).await.is_err());
    let metrics = server.settings.metrics.clone();
    while metrics.connections_open.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.end().await;
}
