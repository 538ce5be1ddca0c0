//! Probes, metrics, credentials, and what every answer has.

use serde_json::Value;

use crate::support::{KEY, Reply, Server, metric, refused};

fn problem(reply: &Reply) -> (u16, Value) {
    assert_eq!(reply.header("content-type"), "application/problem+json", "{}", reply.text());
    (reply.status, reply.json())
}

#[test]
fn probes_and_metrics_need_no_credential() {
    let server = Server::new();
    let health = server.send("GET", "/health", &[], None);
    assert_eq!((health.status, health.text()), (200, "OK"));
    for path in ["/healthz", "/health/live", "/live", "/readyz", "/health/ready"] {
        assert_eq!(server.send("GET", path, &[], None).status, 200, "{path}");
    }
    let ready = server.send("GET", "/ready", &[], None);
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("ready")), "{}", ready.text());
    assert_eq!(ready.json()["checks"]["recommend"], "running");

    server.read("/api/v1/recommendations/popular");
    assert_eq!(server.get("/api/v1/entities/none").0, 404);
    let metrics = server.send("GET", "/metrics", &[], None);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = metrics.text();
    assert!(text.ends_with("# EOF\n"));
    let value = |name: &str, labels: &[&str]| metric(&server, name, labels);
    let popular = r#"path="/api/v1/recommendations/popular""#;
    let get = r#"method="GET""#;
    assert_eq!(value("http_requests_total", &[popular, get]), 1.0);
    assert_eq!(value("http_requests_errors_total", &[popular, get]), 0.0);
    assert_eq!(value("http_responses_total", &[popular, get, r#"status="200""#]), 1.0);
    let missing = [r#"path="/api/v1/entities/{id}""#, r#"status="404""#];
    assert_eq!(value("http_responses_total", &missing), 1.0);
    assert_eq!(value("http_request_duration_seconds_bucket", &[popular, r#"le="+Inf""#]), 1.0);
    assert!(value("http_request_duration_seconds_sum", &[popular]) > 0.0);
}

#[test]
fn every_operation_needs_a_credential() {
    let server = Server::new();
    let document = server.read("/api/docs");
    let paths = document["paths"].as_object().unwrap();
    let mut asked = 0;
    for (path, operations) in paths {
        let path: String = path
            .split('/')
            .map(|part| if part.starts_with('{') { "x" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let body = ["POST", "PUT", "PATCH"].contains(&method.as_str()).then_some(&b"{}"[..]);
            let json = ("content-type", "application/json");
            let wrong = [
                vec![json],
                vec![json, ("x-api-key", "not-the-right-key-at-all")],
                vec![json, ("authorization", "Basic ZW5kLXRvLWVuZDp0ZXN0")],
                vec![json, ("x-tenant-id", "default")],
            ];
            for headers in wrong {
                let reply = server.send(&method, &path, &headers, body);
                assert_eq!(reply.status, 401, "{method} {path} without a credential");
                assert_eq!(reply.header("www-authenticate"), "Bearer");
                refused(&problem(&reply), 401, "AUTH_ERROR", None);
                assert!(!reply.text().contains(KEY));
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "the document names {asked} operations only");
    refused(&problem(&server.send("GET", "/api/docs", &[], None)), 401, "AUTH_ERROR", None);
    for (name, value) in [("authorization", format!("Bearer {KEY}")), ("authorization", KEY.to_owned())] {
        assert_eq!(server.send("GET", "/api/docs", &[(name, value.as_str())], None).status, 200, "{name}");
    }
}

#[test]
fn unknown_addresses_and_methods_are_problems() {
    let server = Server::new();
    let key = [("x-api-key", KEY)];
    for path in ["/", "/nope", "/api/v1/nope", "/api/v2/entities", "/api/v1/entities/", "/health/x"] {
        refused(&problem(&server.send("GET", path, &key, None)), 404, "NOT_FOUND", None);
    }
    let methods = [
        ("DELETE", "/api/v1/entities"),
        ("GET", "/api/v1/events"),
        ("PATCH", "/api/v1/recommendations/popular"),
        ("POST", "/health"),
        ("DELETE", "/metrics"),
    ];
    for (method, path) in methods {
        refused(&problem(&server.send(method, path, &key, None)), 405, "METHOD_NOT_ALLOWED", None);
    }
}

#[test]
fn every_answer_has_a_request_id() {
    let server = Server::new();
    let id = |given: &str, path: &str| {
        let headers = [("x-request-id", given), ("x-api-key", KEY)];
        server.send("GET", path, &headers, None).header("x-request-id").to_owned()
    };
    for path in ["/health", "/api/v1/recommendations/popular", "/api/v1/entities/none", "/nope"] {
        assert_eq!(id("trace-42/a", path), "trace-42/a", "{path}");
    }
    for odd in ["two words", "", "x".repeat(129).as_str()] {
        let given = id(odd, "/health");
        assert!(given != odd && given.len() == 36, "{odd:?} became {given:?}");
    }
    let made = server.send("GET", "/health", &[], None);
    let unauthorised = server.send("GET", "/api/docs", &[], None);
    assert_eq!((made.header("x-request-id").len(), unauthorised.header("x-request-id").len()), (36, 36));
    assert_ne!(made.header("x-request-id"), unauthorised.header("x-request-id"));
}
