//! Who may do what: every endpoint without a credential, with too little permission and from another tenant; keys
//! that are made, rotated and revoked; the audit of it.
//!
//! A new endpoint needs a line in [`ENDPOINTS`].

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Home, KEY, Server, refused};

/// Method, path as documented, path as asked, the permission it needs, a body that is fine.
type Endpoint = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>);

const INTERACTION: &str = r#"{"user_id":"planted-user","entity_id":"planted","interaction_type":"view"}"#;
const EVENT: &str = r#"{"specversion":"1.0","id":"planted-event","source":"/test",
    "type":"recommend.user.put.v1","data":{"user_id":"planted-user"}}"#;

const WEBHOOK: &str = r#"{"url":"https://planted.example/","events":["model.updated"]}"#;

const ENDPOINTS: &[Endpoint] = &[
    ("GET", "/api/v1/audit", "/api/v1/audit", "admin", None),
    ("GET", "/api/v1/dead-letters", "/api/v1/dead-letters", "admin", None),
    ("GET", "/api/v1/dead-letters/{id}", "/api/v1/dead-letters/planted", "admin", None),
    ("DELETE", "/api/v1/dead-letters/{id}", "/api/v1/dead-letters/planted", "admin", None),
    ("POST", "/api/v1/entities", "/api/v1/entities", "write", Some(r#"{"entity_id":"one"}"#)),
    ("POST", "/api/v1/entities/bulk", "/api/v1/entities/bulk", "write", Some(r#"{"entities":[]}"#)),
    ("GET", "/api/v1/entities/{id}", "/api/v1/entities/planted?entity_type=item", "read", None),
    (
        "PATCH",
        "/api/v1/entities/{id}",
        "/api/v1/entities/planted?entity_type=item",
        "write",
        Some(r#"{"hidden":false}"#),
    ),
    (
        "PUT",
        "/api/v1/entities/{id}",
        "/api/v1/entities/planted?entity_type=item",
        "write",
        Some(r#"{"attributes":{}}"#),
    ),
    ("DELETE", "/api/v1/entities/{id}", "/api/v1/entities/planted-too?entity_type=item", "write", None),
    ("POST", "/api/v1/events", "/api/v1/events", "write", Some(EVENT)),
    ("GET", "/api/v1/erasures", "/api/v1/erasures", "admin", None),
    ("GET", "/api/v1/export/entities", "/api/v1/export/entities", "read", None),
    ("GET", "/api/v1/export/interactions", "/api/v1/export/interactions", "read", None),
    ("GET", "/api/v1/export/users", "/api/v1/export/users", "read", None),
    ("GET", "/api/v1/interaction-types", "/api/v1/interaction-types", "read", None),
    (
        "POST",
        "/api/v1/interaction-types",
        "/api/v1/interaction-types",
        "write",
        Some(r#"{"interaction_type":"share","weight":2}"#),
    ),
    ("GET", "/api/v1/interaction-types/{type}", "/api/v1/interaction-types/planted-kind", "read", None),
    (
        "PUT",
        "/api/v1/interaction-types/{type}",
        "/api/v1/interaction-types/planted-kind",
        "write",
        Some(r#"{"weight":2}"#),
    ),
    ("DELETE", "/api/v1/interaction-types/{type}", "/api/v1/interaction-types/planted-kind", "write", None),
    ("POST", "/api/v1/interactions", "/api/v1/interactions", "write", Some(INTERACTION)),
    (
        "POST",
        "/api/v1/interactions/bulk",
        "/api/v1/interactions/bulk",
        "write",
        Some(r#"{"interactions":[]}"#),
    ),
    ("GET", "/api/v1/interactions/entity/{id}", "/api/v1/interactions/entity/planted", "read", None),
    ("GET", "/api/v1/interactions/user/{id}", "/api/v1/interactions/user/planted-user", "read", None),
    ("GET", "/api/v1/keys", "/api/v1/keys", "admin", None),
    ("POST", "/api/v1/keys", "/api/v1/keys", "admin", Some(r#"{"name":"another","permission":"read"}"#)),
    ("DELETE", "/api/v1/keys/{id}", "/api/v1/keys/0000000000000000", "admin", None),
    ("POST", "/api/v1/keys/{id}/rotate", "/api/v1/keys/0000000000000000/rotate", "admin", Some("{}")),
    (
        "GET",
        "/api/v1/recommendations/bought-together/{id}",
        "/api/v1/recommendations/bought-together/planted",
        "read",
        None,
    ),
    ("GET", "/api/v1/recommendations/entity/{id}", "/api/v1/recommendations/entity/planted", "read", None),
    ("GET", "/api/v1/recommendations/latest", "/api/v1/recommendations/latest", "read", None),
    ("GET", "/api/v1/recommendations/popular", "/api/v1/recommendations/popular", "read", None),
    (
        "POST",
        "/api/v1/recommendations/session",
        "/api/v1/recommendations/session",
        "read",
        Some(r#"{"interactions":[]}"#),
    ),
    (
        "GET",
        "/api/v1/recommendations/similar-users/{id}",
        "/api/v1/recommendations/similar-users/planted-user",
        "read",
        None,
    ),
    ("GET", "/api/v1/recommendations/trending", "/api/v1/recommendations/trending", "read", None),
    ("GET", "/api/v1/recommendations/user/{id}", "/api/v1/recommendations/user/planted-user", "read", None),
    ("GET", "/api/v1/users/{id}", "/api/v1/users/planted-user", "read", None),
    ("PUT", "/api/v1/users/{id}", "/api/v1/users/planted-user", "write", Some(r#"{"attributes":{}}"#)),
    ("GET", "/api/v1/users/{id}/consent", "/api/v1/users/planted-user/consent", "read", None),
    (
        "PUT",
        "/api/v1/users/{id}/consent",
        "/api/v1/users/planted-user/consent",
        "write",
        Some(r#"{"training":false}"#),
    ),
    ("DELETE", "/api/v1/users/{id}/data", "/api/v1/users/planted-user/data", "admin", None),
    ("GET", "/api/v1/users/{id}/data-export", "/api/v1/users/planted-user/data-export", "admin", None),
    ("GET", "/api/v1/webhook-deliveries", "/api/v1/webhook-deliveries", "admin", None),
    ("POST", "/api/v1/webhook-deliveries/replay", "/api/v1/webhook-deliveries/replay", "admin", Some("{}")),
    ("GET", "/api/v1/webhook-deliveries/{id}", "/api/v1/webhook-deliveries/00", "admin", None),
    ("POST", "/api/v1/webhook-deliveries/{id}/replay", "/api/v1/webhook-deliveries/00/replay", "admin", None),
    ("GET", "/api/v1/webhooks", "/api/v1/webhooks", "admin", None),
    ("POST", "/api/v1/webhooks", "/api/v1/webhooks", "admin", Some(WEBHOOK)),
    ("GET", "/api/v1/webhooks/{id}", "/api/v1/webhooks/00", "admin", None),
    ("PATCH", "/api/v1/webhooks/{id}", "/api/v1/webhooks/00", "admin", Some(r#"{"active":false}"#)),
    ("DELETE", "/api/v1/webhooks/{id}", "/api/v1/webhooks/00", "admin", None),
    ("POST", "/api/v1/webhooks/{id}/test", "/api/v1/webhooks/00/test", "admin", None),
    ("POST", "/api/v1/webhooks/{id}/rotate-secret", "/api/v1/webhooks/00/rotate-secret", "admin", Some("{}")),
];

fn ask(server: &Server, endpoint: &Endpoint, key: Option<&str>) -> (u16, String) {
    let (method, _, path, _, body) = endpoint;
    let kind = if *path == "/api/v1/events" { "application/cloudevents+json" } else { "application/json" };
    let mut headers = vec![("content-type", kind)];
    headers.extend(key.map(|key| ("x-api-key", key)));
    let reply = server.send(method, path, &headers, body.map(str::as_bytes));
    (reply.status, reply.text().to_owned())
}

fn key(server: &Server, permission: &str) -> String {
    let made = server.create("/api/v1/keys", &json!({"name": permission, "permission": permission}));
    made["api_key"].as_str().unwrap().to_owned()
}

fn plant(server: &Server) {
    for id in ["planted", "planted-too"] {
        server.create("/api/v1/entities", &json!({"entity_id": id, "attributes": {"mark": "planted"}}));
    }
    server.create("/api/v1/interactions", &serde_json::from_str(INTERACTION).unwrap());
    server.create("/api/v1/interaction-types", &json!({"interaction_type": "planted-kind", "weight": 1}));
}

/// A server whose own tenant has planted things, and an administrator's key of another tenant.
fn two_tenants() -> (Server, String) {
    let home = Home::new();
    let made = home.run(&["keys", "create", "--name", "other", "--permission", "admin", "--tenant", "other"]);
    let other = made.succeeded().stdout.trim().to_owned();
    let server = home.serve();
    plant(&server);
    (server, other)
}

#[test]
fn every_endpoint_is_listed_here() {
    let server = Server::new();
    let documented = server.read("/api/docs");
    let mut found = BTreeSet::new();
    for (path, methods) in documented["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            found.insert((method.to_uppercase(), path.clone()));
        }
    }
    let listed: BTreeSet<_> =
        ENDPOINTS.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(found, listed);
}

#[test]
fn every_endpoint_needs_a_credential_and_its_permission() {
    let server = Server::new();
    plant(&server);
    let (reader, writer, admin) = (key(&server, "read"), key(&server, "write"), key(&server, "admin"));
    let (start, last) = reader.split_at(reader.len() - 1);
    let forged = format!("{start}{}", if last == "0" { "1" } else { "0" });
    for endpoint in ENDPOINTS {
        for wrong in [None, Some("wrong-key-of-length"), Some(forged.as_str())] {
            let (status, body) = ask(&server, endpoint, wrong);
            assert!(status == 401 && body.contains("AUTH_ERROR"), "{endpoint:?} {wrong:?}: {status} {body}");
        }
        let (too_weak, enough) = match endpoint.3 {
            "read" => (None, &reader),
            "write" => (Some(&reader), &writer),
            _ => (Some(&writer), &admin),
        };
        if let Some(too_weak) = too_weak {
            let (status, body) = ask(&server, endpoint, Some(too_weak));
            assert!(status == 403 && body.contains("PERMISSION_DENIED"), "{endpoint:?}: {status} {body}");
        }
        let (status, body) = ask(&server, endpoint, Some(enough));
        assert!(status != 401 && status != 403 && status < 500, "{endpoint:?}: {status} {body}");
    }
}

#[test]
fn no_endpoint_shows_or_changes_another_tenant() {
    let (server, other) = two_tenants();
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.0 == "GET") {
        let (status, body) = ask(&server, endpoint, Some(&other));
        let shown = status == 200 && body.contains("\"planted\"");
        assert!(!shown && status < 500, "{endpoint:?}: {status} {body}");
    }
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.0 != "GET") {
        let (status, body) = ask(&server, endpoint, Some(&other));
        assert!(status < 500, "{endpoint:?}: {status} {body}");
    }
    for (id, kept) in [("planted", true), ("planted-too", true), ("one", false)] {
        let (status, entity) = server.get(&format!("/api/v1/entities/{id}?entity_type=item"));
        assert_eq!(status == 200, kept, "{id}: {entity}");
    }
    let planted = server.read("/api/v1/entities/planted?entity_type=item");
    assert_eq!(planted["attributes"]["mark"], "planted", "{planted}");
    assert_eq!(server.read("/api/v1/interaction-types/planted-kind")["weight"], 1.0);
    assert_eq!(server.read("/api/v1/interactions/user/planted-user").as_array().unwrap().len(), 1);
    // The tenant comes from the credential; whatever else names one must agree.
    let named = json!({"entity_id": "x", "tenant_id": "default"}).to_string();
    let headers =
        [("x-api-key", other.as_str()), ("x-tenant-id", "default"), ("content-type", "application/json")];
    let reply = server.send("POST", "/api/v1/entities", &headers, Some(named.as_bytes()));
    assert_eq!((reply.status, reply.json()["code"].as_str()), (403, Some("TENANT_MISMATCH")));
}

#[test]
fn a_key_lives_until_it_is_revoked() {
    let mut server = Server::new();
    let made = server.create("/api/v1/keys", &json!({"name": "shop", "permission": "read"}));
    let (id, first) = (made["id"].as_str().unwrap().to_owned(), made["api_key"].as_str().unwrap().to_owned());
    let works = |server: &Server, key: &str| {
        server.send("GET", "/api/v1/export/users", &[("x-api-key", key)], None).status == 200
    };
    assert!(works(&server, &first));
    let (status, rotated) = server.post(&format!("/api/v1/keys/{id}/rotate"), &json!({"grace_secs": 0}));
    assert_eq!(status, 200, "{rotated}");
    let second = rotated["api_key"].as_str().unwrap().to_owned();
    assert!(!works(&server, &first) && works(&server, &second));
    server.restart();
    assert!(!works(&server, &first) && works(&server, &second), "keys outlive the process");
    let listed = server.read("/api/v1/keys");
    assert!(!listed.to_string().contains(second.rsplit('_').next().unwrap()), "{listed}");
    assert!(listed["keys"][0]["last_used_at"].is_string(), "{listed}");
    assert_eq!(server.delete(&format!("/api/v1/keys/{id}")).0, 204);
    assert!(!works(&server, &second));
    refused(&server.delete("/api/v1/keys/unknown"), 404, "NOT_FOUND", None);
    let actions = |audit: &Value| -> Vec<String> {
        let entries = audit["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(actions(&server.read("/api/v1/audit")), ["key.revoked", "key.rotated", "key.created"]);
    let log = server.log();
    assert!(!log.contains(first.rsplit('_').next().unwrap()), "a secret in the log");
    let home = server.stop();
    let verified = home.run(&["audit", "verify"]).succeeded().stdout;
    assert!(verified.starts_with("whole: 3 entries"), "{verified}");
    home.run(&["audit", "verify", "--head", "00"]).failed_with("it was rewritten");
    assert!(home.run(&["keys", "list"]).succeeded().stdout.contains("revoked"));
}

#[test]
fn settings_are_shown_to_administrators_without_secrets() {
    let server = Server::new();
    let config = server.read("/api/config");
    assert_eq!(config["auth"]["tenant"], "default", "{config}");
    assert!(!config.to_string().contains(KEY));
    let writer = key(&server, "write");
    assert_eq!(server.send("GET", "/api/config", &[("x-api-key", &writer)], None).status, 403);
    assert_eq!(server.send("GET", "/api/config", &[], None).status, 401);
    let (server, other) = two_tenants();
    for path in ["/api/config", "/debug/pprof/profile?seconds=1"] {
        let status = server.send("GET", path, &[("x-api-key", &other)], None).status;
        let expected = if path.contains("pprof") && cfg!(not(feature = "profile")) { 404 } else { 403 };
        assert_eq!(status, expected, "{path} is the operator's");
    }
}

#[test]
fn a_key_that_asks_too_often_is_told_when_to_come_again() {
    let settings = "[server.rate_limit]\nrequests_per_minute = 1\nburst_size = 3\n";
    let server = Home::with_settings(settings).serve();
    let told = |reply: &crate::support::Reply| {
        let number = |name: &str| reply.header(name).parse::<u64>().unwrap();
        (reply.status, number("ratelimit-limit"), number("ratelimit-remaining"))
    };
    let ask = || server.fetch("/api/v1/recommendations/popular");
    let passed: Vec<_> = (0..3).map(|_| told(&ask())).collect();
    assert_eq!(passed, [(200, 3, 2), (200, 3, 1), (200, 3, 0)]);
    let over = ask();
    assert_eq!((told(&over), over.json()["code"].as_str()), ((429, 3, 0), Some("RATE_LIMIT_EXCEEDED")));
    let wait: u64 = over.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // Neither a wrong key nor a header changes the count, and probes are not counted.
    let headers = [("x-api-key", KEY), ("x-forwarded-for", "10.0.0.1"), ("x-ratelimit-bypass", "1")];
    assert_eq!(server.send("GET", "/api/v1/recommendations/popular", &headers, None).status, 429);
    assert_eq!(server.send("GET", "/health", &[], None).status, 200);
}

#[test]
fn bad_keys_are_refused_with_the_field() {
    let server = Server::new();
    let check = |body: Value, field: Option<&str>| {
        refused(&server.post("/api/v1/keys", &body), 400, "VALIDATION_ERROR", field);
    };
    check(json!({"name": "", "permission": "read"}), Some("name"));
    check(json!({"name": "x", "permission": "all"}), Some("permission"));
    check(
        json!({"name": "x", "permission": "read", "expires_at": "2001-01-01T00:00:00Z"}),
        Some("expires_at"),
    );
    check(json!({"permission": "read"}), Some("name"));
}
