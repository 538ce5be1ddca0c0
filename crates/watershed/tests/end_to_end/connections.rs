//! Connections, byte by byte: requests that two servers may read differently, slow and silent callers, too many of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Home, KEY, SETTINGS, Server, wait};

const PATIENCE: Duration = Duration::from_secs(30);
const LAMP: &str = r#"{"entity_id":"lamp"}"#;
/// What a smuggler wants to be answered.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that is answered to these bytes until the server closes.
fn answers(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server);
    // The server may refuse before it took everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("not closed: {error}"),
        }
    }
    String::from_utf8(answer).unwrap()
}

fn post(head: &str, body: &str) -> String {
    format!(
        "POST /api/v1/entities HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n{head}\r\n{body}"
    )
}

#[test]
fn a_request_that_others_may_read_differently_is_refused_and_the_connection_closed() {
    let server = Server::new();
    let length = LAMP.len();
    let chunked = format!("{length:x}\r\n{LAMP}\r\n0\r\n\r\n");
    let te = "transfer-encoding: chunked\r\n";
    let cl = format!("content-length: {length}\r\n");
    let cases = [
        ("length and coding", post(&format!("{cl}{te}"), &chunked), 400),
        ("coding and length", post(&format!("{te}{cl}"), &chunked), 400),
        ("coding that is not known", post("transfer-encoding: gzip, chunked\r\n", &chunked), 400),
        ("coding twice", post(&format!("{te}{te}"), &chunked), 400),
        ("coding in disguise", post("transfer-encoding: xchunked\r\n", &chunked), 400),
        ("coding before a colon with a space", post("transfer-encoding : chunked\r\n", &chunked), 400),
        ("length twice", post(&format!("{cl}{cl}"), LAMP), 400),
        ("two lengths", post(&format!("{cl}content-length: 5\r\n"), LAMP), 400),
        ("a list of lengths", post(&format!("content-length: {length}, {length}\r\n"), LAMP), 400),
        ("a length with a sign", post(&format!("content-length: +{length}\r\n"), LAMP), 400),
        ("a length below nothing", post("content-length: -1\r\n", LAMP), 400),
        ("a folded header", post(&format!("{cl}x-a: b\r\n c\r\n"), LAMP), 400),
        ("a folded first header", post(&format!("{cl}x-a:\r\n\tb\r\n"), LAMP), 400),
        ("bare line feeds", post(&cl, LAMP).replace("\r\n", "\n"), 400),
        ("one bare line feed", post(&format!("{cl}x-a: b\n"), LAMP), 400),
        ("a bare carriage return", post(&format!("{cl}x-a: b\rc: d\r\n"), LAMP), 400),
        ("a zero byte in a value", post(&format!("{cl}x-a: b\0c\r\n"), LAMP), 400),
        ("a zero byte in a name", post(&format!("{cl}x\0a: b\r\n"), LAMP), 400),
        ("no name", post(&format!("{cl}: b\r\n"), LAMP), 400),
        ("a large header", post(&format!("{cl}x-a: {}\r\n", "b".repeat(70_000)), LAMP), 431),
        ("many headers", post(&format!("{cl}{}", "x-a: b\r\n".repeat(120)), LAMP), 431),
        ("coding in HTTP/1.0", post(te, &chunked).replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("no protocol", "hello\r\n\r\n".to_owned(), 400),
    ];
    for (what, request, status) in cases {
        let answer = answers(&server, format!("{request}{HIDDEN}").as_bytes());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
    }
    // HTTP/2 that begins as such is HTTP/2, for gRPC: it is answered by its settings.
    let mut stream = connect(&server);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "{frame:?}");
    assert_eq!(server.get("/api/v1/entities/lamp?entity_type=item").0, 404, "nothing was stored");
}

#[test]
fn a_chunk_that_others_may_read_differently_ends_the_connection() {
    let server = Server::new();
    for chunk in ["14\n", "+14\r\n", "0x14\r\n", "fffffffffffffffff\r\n", "14 4\r\n", "-1\r\n", "\r\n"] {
        let request = post("transfer-encoding: chunked\r\n", &format!("{chunk}{LAMP}\r\n0\r\n\r\n{HIDDEN}"));
        let answer = answers(&server, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunk:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{chunk:?}: {answer}");
    }
}

#[test]
fn requests_that_are_fine_follow_each_other_on_one_connection() {
    let server = Server::new();
    let chunked =
        format!("8;a=b\r\n{}\r\n{:x}\r\n{}\r\n0\r\nx-t: 1\r\n\r\n", &LAMP[..8], LAMP.len() - 8, &LAMP[8..]);
    let put = post("transfer-encoding: chunked\r\n", &chunked);
    let again = post(&format!("content-length: {}\r\n", LAMP.len()), LAMP);
    let last = "\r\nGET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = answers(&server, format!("{put}{again}{last}").as_bytes());
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
    assert_eq!(statuses, ["201", "409", "200"], "{answer}");
}

#[test]
fn a_head_that_does_not_end_is_refused() {
    let server = Server::new();
    let mut slow = connect(&server);
    slow.write_all(b"GET /health HTTP/1.1\r\nhost:").unwrap();
    let mut idle = connect(&server);
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // Who waits with a request of its own is not in a hurry.
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    answer.clear();
    idle.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let server = Home::with_settings(&format!("{SETTINGS}[server]\nidle_timeout_secs = 1\n")).serve();
    for first in ["", "GET /health HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let answer = answers(&server, first.as_bytes());
        assert_eq!(answer.matches("HTTP/1.1 200 ").count(), usize::from(!first.is_empty()), "{answer}");
    }
}

#[test]
fn idle_connections_do_not_keep_others_out_until_there_are_too_many() {
    let server = Home::with_settings(&format!("{SETTINGS}[server]\nmax_connections = 600\n")).serve();
    let mut idle: Vec<TcpStream> = (0..500).map(|_| connect(&server)).collect();
    for _ in 0..20 {
        server.read("/api/v1/recommendations/popular");
    }
    idle.extend((0..100).map(|_| connect(&server)));
    let ask = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let refused = answers(&server, ask.as_bytes());
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\"OVERLOADED\""), "{refused}");
    drop(idle);
    assert!(wait(|| answers(&server, ask.as_bytes()).starts_with("HTTP/1.1 200 ")));
    let value = |name: &str| {
        let metrics = server.send("GET", "/metrics", &[], None);
        let line = metrics.text().lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert!(value("http_connections_refused_total ") >= 1);
    assert!(wait(|| value("http_connections_open ") < 100));
}
