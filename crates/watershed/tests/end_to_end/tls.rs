//! TLS: certificates that are served, changed without a restart, and asked of clients.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Home, KEY, SETTINGS, Server, wait};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
type Identity = (String, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn write(home: &Home, (certificate, key): &Identity) {
    home.write("certificate.pem", certificate);
    home.write("key.pem", key);
}

fn home(more: &str) -> Home {
    let tls = format!("{SETTINGS}[server.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n{more}");
    Home::with_settings(&tls)
}

/// The answer of a server whose certificate this authority vouches for; none where either refuses the other.
fn ask(server: &Server, trusted: &Authority, identity: Option<&Identity>, path: &str) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.0.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    };
    let name = ServerName::try_from("shop.example").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(server.address()).unwrap());
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\nx-api-key: {KEY}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn is_served(server: &Server, trusted: &Authority, identity: Option<&Identity>) -> bool {
    let answer = ask(server, trusted, identity, "/api/v1/recommendations/popular");
    answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

#[test]
fn certificates_change_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let home = home("").allowing("the certificate stays as it was");
    write(&home, &old.issue("shop.example"));
    let server = home.serve();
    assert!(is_served(&server, &old, None) && !is_served(&server, &new, None));

    server.home().write("certificate.pem", "damaged");
    server.signal("-HUP");
    assert!(wait(|| server.log().contains("the certificate stays as it was")));
    assert!(is_served(&server, &old, None));

    // Found without being told, too.
    write(server.home(), &new.issue("shop.example"));
    assert!(wait(|| is_served(&server, &new, None)));
    assert!(!is_served(&server, &old, None));
    let metrics = ask(&server, &new, None, "/metrics").unwrap();
    for outcome in ["ok", "failed"] {
        assert!(
            metrics.contains(&format!("tls_certificate_reloads_total{{outcome=\"{outcome}\"}}")),
            "{metrics}"
        );
    }
}

#[test]
fn a_client_without_a_certificate_is_cut_off_where_one_is_required() {
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let good = clients.issue("till.example");
    for (more, is_optional) in [("", false), ("client_auth = \"optional\"\n", true)] {
        let home = home(&format!("client_ca = \"clients.pem\"\n{more}"));
        write(&home, &authority.issue("shop.example"));
        home.write("clients.pem", clients.0.pem());
        let server = home.serve();
        assert!(is_served(&server, &authority, Some(&good)));
        assert_eq!(is_served(&server, &authority, None), is_optional);
        assert!(!is_served(&server, &authority, Some(&others.issue("till.example"))));
    }
}

#[test]
fn nobody_is_answered_in_the_open_where_there_is_a_certificate() {
    let home = home("");
    write(&home, &Authority::new().issue("shop.example"));
    let server = home.serve();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn certificates_that_do_not_fit_stop_the_start() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("shop.example");
    let check = |identity: Identity, part: &str| {
        let home = home("");
        write(&home, &identity);
        home.run(&["serve", "--port", "0"]).failed_with(part);
    };
    check((certificate.clone(), authority.issue("shop.example").1), "server.tls.certificate");
    check((certificate, String::new()), "server.tls.key");
    check((String::new(), key), "server.tls.certificate");
    home("").run(&["serve", "--port", "0"]).failed_with("server.tls.certificate");
}
