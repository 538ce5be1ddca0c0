//! The shape of every error, and the API document.

use serde_json::{Value, json};

use crate::support::{KEY, Server};

/// Name, method, path, body.
const CASES: &[(&str, &str, &str, Option<&str>)] = &[
    ("a body that is not JSON", "POST", "/api/v1/entities", Some("{\"entity_id\": ")),
    ("a body that is not an object", "POST", "/api/v1/entities", Some("[]")),
    ("a missing field", "POST", "/api/v1/entities", Some("{}")),
    ("an unknown field", "POST", "/api/v1/entities", Some(r#"{"entity_id":"e","colour":1}"#)),
    ("a field of the wrong type", "POST", "/api/v1/interactions/bulk", Some(r#"{"interactions":7}"#)),
    ("a bad attribute", "POST", "/api/v1/entities", Some(r#"{"entity_id":"e","attributes":{"a":{"b":1}}}"#)),
    ("a bad id", "POST", "/api/v1/entities", Some(r#"{"entity_id":""}"#)),
    ("another tenant", "POST", "/api/v1/entities", Some(r#"{"entity_id":"e","tenant_id":"else"}"#)),
    ("an entity that exists", "POST", "/api/v1/entities", Some(r#"{"entity_id":"known"}"#)),
    ("an entity that does not exist", "GET", "/api/v1/entities/none?entity_type=film", None),
    ("an ambiguous entity", "GET", "/api/v1/entities/twice", None),
    ("a user that does not exist", "GET", "/api/v1/users/none", None),
    ("an interaction type that does not exist", "GET", "/api/v1/interaction-types/none", None),
    (
        "an unknown interaction type",
        "POST",
        "/api/v1/interactions",
        Some(r#"{"user_id":"u","entity_id":"e","interaction_type":"zap"}"#),
    ),
    (
        "an ancient interaction",
        "POST",
        "/api/v1/interactions",
        Some(
            r#"{"user_id":"u","entity_id":"e","interaction_type":"view","timestamp":"1900-01-01T00:00:00Z"}"#,
        ),
    ),
    ("an event that is none", "POST", "/api/v1/events", Some("{}")),
    (
        "an unknown event type",
        "POST",
        "/api/v1/events",
        Some(r#"{"specversion":"1.0","id":"1","source":"/s","type":"a.b.v1"}"#),
    ),
    (
        "an array in place of an object",
        "POST",
        "/api/v1/recommendations/session",
        Some(r#"{"interactions":[],"options":[5]}"#),
    ),
    ("an unknown parameter", "GET", "/api/v1/recommendations/popular?cuont=5", None),
    ("a parameter given twice", "GET", "/api/v1/recommendations/popular?count=5&count=6", None),
    ("a parameter out of range", "GET", "/api/v1/recommendations/popular?count=0", None),
    ("a parameter of the wrong type", "GET", "/api/v1/interactions/user/u?limit=ten", None),
    ("an unknown algorithm", "GET", "/api/v1/recommendations/user/u?algorithm=magic", None),
    ("a bad filter", "GET", "/api/v1/recommendations/popular?filter=1%20%2B", None),
    (
        "a count that is no number",
        "POST",
        "/api/v1/recommendations/session",
        Some(r#"{"interactions":[],"options":{"count":[5]}}"#),
    ),
    ("a date that is none", "GET", "/api/v1/export/interactions?start_date=yesterday", None),
    ("a function that does not exist", "GET", "/api/v1/recommendations/popular?filter=min(1,2)==1", None),
    (
        "an event without its payload",
        "POST",
        "/api/v1/events",
        Some(
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"recommend.user.put.v1","data_base64":"e30="}"#,
        ),
    ),
    (
        "an event with another payload",
        "POST",
        "/api/v1/events",
        Some(r#"{"specversion":"1.0","id":"1","source":"/s","type":"recommend.user.put.v1","data":7}"#),
    ),
    ("an address that is not text", "GET", "/api/v1/entities/%ff", None),
    ("an entity of no type", "GET", "/api/v1/entities/none", None),
    ("a bad cursor", "GET", "/api/v1/recommendations/popular?cursor=x", None),
    ("a bad export format", "GET", "/api/v1/export/users?format=xml", None),
    ("a dead letter that does not exist", "GET", "/api/v1/dead-letters/none", None),
    ("an unknown address", "GET", "/api/v1/nothing", None),
    ("a method that is not answered", "DELETE", "/api/v1/entities", None),
];

#[test]
fn errors_keep_their_shape() {
    let server = Server::new();
    for body in [
        json!({"entity_id": "known"}),
        json!({"entity_id": "twice"}),
        json!({"entity_id": "twice", "entity_type": "film"}),
    ] {
        server.create("/api/v1/entities", &body);
    }
    let mut told = serde_json::Map::new();
    let mut tell = |name: &str, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>| {
        let reply = server.send(method, path, headers, body.map(str::as_bytes));
        assert_eq!(reply.header("content-type"), "application/problem+json", "{name}");
        assert_eq!(reply.json()["status"].as_u64(), Some(u64::from(reply.status)), "{name}");
        told.insert(name.to_owned(), reply.json());
    };
    let key = ("x-api-key", KEY);
    for (name, method, path, body) in CASES {
        tell(name, method, path, &[key, ("content-type", "application/json")], *body);
    }
    tell("no credential", "GET", "/api/v1/entities/known", &[], None);
    tell(
        "a wrong content type",
        "POST",
        "/api/v1/entities",
        &[key, ("content-type", "text/csv")],
        Some("a,b"),
    );
    tell(
        "a wrong content type of events",
        "POST",
        "/api/v1/events",
        &[key, ("content-type", "text/csv")],
        Some("a"),
    );
    let packed = [key, ("content-type", "application/json"), ("content-encoding", "gzip")];
    for (name, path) in [("a packed body", "/api/v1/entities"), ("a packed event", "/api/v1/events")] {
        tell(name, "POST", path, &packed, Some("\u{1f}"));
    }
    let long = "k".repeat(256);
    let headers = [key, ("content-type", "application/json"), ("idempotency-key", long.as_str())];
    tell("a bad idempotency key", "POST", "/api/v1/entities", &headers, Some(r#"{"entity_id":"e"}"#));
    let large = " ".repeat((10 << 20) + 1);
    tell(
        "a large body",
        "POST",
        "/api/v1/entities",
        &[key, ("content-type", "application/json")],
        Some(&large),
    );
    insta::assert_json_snapshot!("errors", Value::Object(told));
}

#[test]
fn the_document_is_the_one_in_the_repository() {
    let server = Server::new();
    let served = server.read("/api/docs");
    assert!(served["paths"].as_object().unwrap().len() >= 20);
    let printed: Value = serde_json::from_str(&server.home().run(&["openapi"]).succeeded().stdout).unwrap();
    assert!(printed == served, "`watershed openapi` prints another document than /api/docs serves");
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/generated/openapi.json");
    let Ok(kept) = std::fs::read_to_string(kept) else { return };
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert!(kept == served, "docs/generated/openapi.json is stale: run `make generate`");
}
