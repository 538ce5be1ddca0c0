//! Connections over real sockets: TLS with both versions of HTTP, certificates that change, limits.

use std::path::Path;

use axum::extract::Request;
use axum::http::{StatusCode, header};
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

/// Agrees to speak another protocol, in which everything comes back; also where nobody asked for it.
async fn switch(request: Request) -> impl axum::response::IntoResponse {
    let switched = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(switched) = switched.await else { return };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(switched));
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, "echo")])
}

struct Running {
    address: SocketAddr,
    /// Of a second port, which says `other`.
    other: SocketAddr,
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
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, second) =
            (listen(free, "--port").await.unwrap(), listen(free, "--port").await.unwrap());
        let (address, other) = (listener.local_addr().unwrap(), second.local_addr().unwrap());
        let slow = || async {
            tokio::time::sleep(SLOW).await;
            "slow"
        };
        let router = Router::new()
            .route("/", get(|| std::future::ready("hello")))
            .route("/slow", get(slow))
            .route("/echo", get(switch));
        let stop = CancellationToken::new();
        let times = ShutdownTimes { delay: Duration::ZERO, longest: Duration::from_secs(5) };
        let of_other = Router::new().route("/", get(|| std::future::ready("other")));
        let ports = vec![Port { listener, router }, Port { listener: second, router: of_other }];
        let serving = serve(ports, settings.clone(), stop.clone(), times);
        Self { address, other, settings, stop, served: tokio::spawn(serving) }
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
async fn one_connection_too_many_of_all_ports_is_told_so() {
    let server = Running::start(2, None).await;
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let first = TcpStream::connect(server.other).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    // It is taken before the third is, whichever port is looked at first.
    while server.settings.metrics.connections_open.get() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let refused = ask(&mut third).await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("OVERLOADED"), "{refused}");
    assert!(ask(&mut second).await.starts_with("HTTP/1.1 200 "));
    drop(first);
    let metrics = &server.settings.metrics;
    while metrics.connections_open.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for (address, says) in [(server.address, "hello"), (server.other, "other")] {
        let answer = ask(&mut TcpStream::connect(address).await.unwrap()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(says), "{answer}");
    }
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

#[tokio::test]
async fn a_client_that_begins_with_http2_is_served_in_the_open() {
    let server = Running::start(10, None).await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://shop.example/").body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    // Its first letter is that of a method too.
    for begin in ["P", "PR", "PRI"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(b"X / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{begin}: {answer}");
    }
    drop(sender);
    server.end().await;
}

#[tokio::test]
async fn who_stops_within_the_first_letters_is_let_go() {
    let server = Running::with_idle(10, None, SLOW / 4).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"PR").await.unwrap();
    let mut left = Vec::new();
    // It is closed, in order or not.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut left)).await.unwrap();
    assert!(left.is_empty());
    server.end().await;
}

/// What is said up to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn a_connection_that_speaks_another_protocol_keeps_its_place_and_holds_no_stop_up() {
    const BYTES: &[u8] = b"\n\n\0POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n";
    let server = Running::start(1, None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let ask = b"GET /echo HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
    stream.write_all(BYTES).await.unwrap();
    let mut back = vec![0; BYTES.len()];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, BYTES);
    let metrics = server.settings.metrics.clone();
    assert_eq!(metrics.connections_open.get(), 1);
    let mut other = TcpStream::connect(server.address).await.unwrap();
    assert!(head(&mut other).await.starts_with("HTTP/1.1 503 "), "the one place is taken");
    server.stop.cancel();
    tokio::time::timeout(Duration::from_secs(4), server.served).await.unwrap().unwrap();
    drop(stream);
    while metrics.connections_open.get() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn nothing_is_taken_for_a_request_after_another_protocol_was_agreed() {
    let server = Running::start(10, None).await;
    let check = async |asks: &str, is_agreed: bool| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let smuggled = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let request = format!("GET /echo HTTP/1.1\r\nhost: x\r\n{asks}\r\n{smuggled}");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut said)).await.unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(!said.contains("hello"), "{asks:?}: {said}");
        assert!(!is_agreed || said.starts_with("HTTP/1.1 101"), "{asks:?}: {said}");
    };
    check("connection: upgrade\r\nupgrade: echo\r\n", true).await;
    // Nobody asked.
    check("", false).await;
    server.end().await;
}

#[tokio::test]
async fn an_upgrade_that_is_refused_ends_the_connection() {
    let server = Running::start(10, None).await;
    for upgrade in [
        "websocket",
        "WebSocket",
        "websocket/13",
        "websocket, x",
        "x, websocket",
        "websocket\r\nupgrade: x",
        "x\r\nupgrade: websocket",
        "h2c, websocket",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let ask = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\n\r\n");
        stream.write_all(ask.repeat(2).as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        let said = String::from_utf8(said).unwrap();
        assert!(
            said.contains("connection: close") && said.matches("hello").count() == 1,
            "{upgrade:?}: {said}"
        );
    }
    server.end().await;
}
