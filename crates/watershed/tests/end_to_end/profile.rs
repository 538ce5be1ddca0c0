//! The profile of the process: for administrators, one at a time, and readable.

use prost::Message;
use serde_json::json;

use crate::questions::shop;
use crate::support::{KEY, Server, refused};

const PATH: &str = "/debug/pprof/profile";

/// The parts of pprof's `profile.proto` that are looked at.
#[derive(Message)]
struct Profile {
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
}

#[derive(Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
}

#[test]
fn a_profile_names_what_the_server_did() {
    let server = shop();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.fetch(&format!("{PATH}?seconds=2")));
        while !asked.is_finished() {
            server.read("/api/v1/recommendations/popular?count=100&filter=attributes.price%20%3E%201.0");
        }
        let reply = asked.join().unwrap();
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/octet-stream"));
        let profile = Profile::decode(&reply.bytes[..]).unwrap();
        assert!(profile.samples.iter().any(|sample| sample.locations.len() > 5), "{profile:?}");
        assert!(profile.strings.iter().any(|name| name.contains("recommend")), "{:?}", profile.strings);
    });
}

#[test]
fn only_administrators_take_profiles_and_one_at_a_time() {
    let server = Server::new();
    assert_eq!(server.send("GET", PATH, &[], None).status, 401);
    let made = server.create("/api/v1/keys", &json!({"name": "writer", "permission": "write"}));
    let headers = [("x-api-key", made["api_key"].as_str().unwrap())];
    let reply = server.send("GET", PATH, &headers, None);
    refused(&(reply.status, reply.json()), 403, "PERMISSION_DENIED", None);
    for seconds in ["0", "26", "x", "-1"] {
        refused(&server.get(&format!("{PATH}?seconds={seconds}")), 400, "VALIDATION_ERROR", Some("seconds"));
    }
    std::thread::scope(|scope| {
        let ask = || server.send("GET", &format!("{PATH}?seconds=2"), &[("x-api-key", KEY)], None).status;
        let (one, two) = (scope.spawn(ask), scope.spawn(ask));
        let mut found = [one.join().unwrap(), two.join().unwrap()];
        found.sort_unstable();
        assert_eq!(found, [200, 409]);
    });
}
