//! Pages of other origins, and answers that are compressed.

use std::io::Read;

use crate::support::{Home, KEY, Reply, Server};

const PAGE: &str = "https://shop.example";

/// What a browser asks before it sends a key to another origin.
fn preflight(server: &Server, origin: &str) -> Reply {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-api-key"),
    ];
    server.send("OPTIONS", "/api/v1/interactions", &headers, None)
}

fn ask(server: &Server, origin: &str, key: &str) -> Reply {
    let headers = [("origin", origin), ("x-api-key", key)];
    server.send("GET", "/api/v1/recommendations/popular", &headers, None)
}

#[test]
fn nobody_is_let_in_unless_the_settings_say_so() {
    let server = Server::new();
    for reply in [preflight(&server, PAGE), ask(&server, PAGE, KEY)] {
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
}

#[test]
fn pages_of_the_named_origins_are_let_in() {
    let cors = "[server.cors]\nenabled = true\nallowed_origins = [\"https://shop.example\", \"https://b.example\"]\n";
    let server = Home::with_settings(cors).serve();
    let asked = preflight(&server, PAGE);
    assert_eq!(asked.status, 200, "no key is asked for: {}", asked.text());
    assert_eq!(asked.header("access-control-allow-origin"), PAGE);
    assert!(asked.header("access-control-allow-methods").contains("POST"));
    assert!(asked.header("access-control-allow-headers").contains("x-api-key"));
    let answer = ask(&server, PAGE, KEY);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, PAGE));
    let shown = answer.header("access-control-expose-headers").to_owned();
    for name in ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after", "x-request-id"] {
        assert!(shown.contains(name), "{name} in {shown}");
    }
    assert!(answer.header("vary").to_lowercase().contains("origin"));
    let refused = ask(&server, PAGE, "not-a-key-of-anybody");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, PAGE), "pages see why");
    for reply in [asked, answer, refused] {
        assert_eq!(reply.header("access-control-allow-credentials"), "");
    }
    for reply in [preflight(&server, "https://evil.example"), ask(&server, "https://evil.example", KEY)] {
        assert_eq!(reply.header("access-control-allow-origin"), "");
    }
}

#[test]
fn answers_are_compressed_for_those_who_read_it() {
    let server = Home::with_settings("[server]\ncompression = true\n").serve();
    let fetch = |accepted: &str| {
        server.send("GET", "/api/docs", &[("x-api-key", KEY), ("accept-encoding", accepted)], None)
    };
    let plain = fetch("identity");
    assert_eq!(plain.header("content-encoding"), "");
    let packed = fetch("gzip");
    assert_eq!((packed.status, packed.header("content-encoding")), (200, "gzip"));
    assert!(packed.bytes.len() * 3 < plain.bytes.len(), "{} of {}", packed.bytes.len(), plain.bytes.len());
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut text).unwrap();
    assert!(text == plain.bytes, "the same document");
    let small = server.send("GET", "/api/v1/keys", &[("x-api-key", KEY), ("accept-encoding", "gzip")], None);
    assert_eq!((small.status, small.header("content-encoding")), (200, ""));
}
