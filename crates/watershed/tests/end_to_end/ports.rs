//! Parts of the API on ports of their own: what answers there, under the same keys and limits, and what is refused.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{Home, KEY, SETTINGS, metric, refused};

const KEYED: [(&str, &str); 2] = [("x-api-key", KEY), ("content-type", "application/json")];

/// Free ports, by the names that operators know.
fn with_ports(home: Home) -> Home {
    let home = home.environment("ML_MLFLOW_PORT", "0").environment("ML_MODEL_SERVING_PORT", "0");
    if cfg!(feature = "search") {
        return home.environment("ML_EMBEDDING_PORT", "0").environment("ML_SEARCH_PORT", "0");
    }
    home
}

/// The parts that this build has.
fn parts() -> &'static [&'static str] {
    if cfg!(feature = "search") {
        &["registry", "serving", "embedding", "search"]
    } else {
        &["registry", "serving"]
    }
}

/// Whether a documented address is of a part, by the names of its port.
fn is_expected(part: &str, path: &str) -> bool {
    let is = |known: &[&str]| known.contains(&path);
    let begins =
        |known: &[&str]| known.iter().any(|known| path == *known || path.starts_with(&format!("{known}/")));
    let of_model = path.strip_prefix("/api/v1/models/{name}");
    match part {
        "registry" => {
            is(&["/api/v1/models", "/api/v1/artifacts/cleanup"])
                || of_model.is_some_and(|step| {
                    ["", "/history", "/promote", "/rollback", "/versions"].contains(&step)
                })
        }
        "serving" => {
            is(&["/api/v1/batch", "/api/v1/models", "/api/v1/predict", "/reload"])
                || begins(&["/v2", "/api/v1/feature-sets", "/api/v1/jobs"])
                || of_model.is_some_and(|step| {
                    ["", "/accuracy", "/drift", "/truths", "/versions"].contains(&step)
                        || step.starts_with("/canaries")
                })
        }
        // The first of these are those of embeddings there.
        "embedding" => {
            is(&["/api/v1/batch", "/api/v1/jobs", "/api/v1/jobs/{id}", "/api/v1/models"])
                || begins(&["/v1"])
                || begins(&["/api/v1/embed"])
        }
        _ => begins(&["/api/v1/search"]),
    }
}

#[test]
fn every_address_is_on_the_ports_of_its_parts_alone_and_needs_a_credential() {
    let server = with_ports(Home::new()).serve();
    let document = server.read("/api/docs");
    let mut counts = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let steps: Vec<&str> =
            path.split('/').map(|step| if step.starts_with('{') { "x" } else { step }).collect();
        let asked = steps.join("/");
        for method in methods.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            for part in parts() {
                let reply = server.send_to(&server.of_part(part), &method, &asked, &[], None);
                let expected = if is_expected(part, path) { 401 } else { 404 };
                assert_eq!(reply.status, expected, "{method} {path} on the port of {part}: {}", reply.text());
                *counts.entry((*part, expected)).or_insert(0) += 1;
            }
        }
    }
    assert!(
        parts().iter().all(|part| counts[&(*part, 401)] >= 6 && counts[&(*part, 404)] > 50),
        "{counts:?}"
    );
    for part in parts() {
        let address = server.of_part(part);
        assert_ne!(address, server.of_all());
        for path in ["/health", "/live", "/ready", "/metrics"] {
            assert_eq!(server.send_to(&address, "GET", path, &[], None).status, 200, "{path} on {part}");
        }
        // In no document.
        for (path, of) in [
            ("/version", "registry"),
            ("/api/2.0/mlflow/registered-models/search", "registry"),
            ("/api/2.0/mlflow-artifacts/artifacts?path=x", "registry"),
            ("/v2/health/ready", "serving"),
            ("/index/stats", "search"),
            ("/v1/models/owner/name", "embedding"),
            ("/api/config", ""),
            ("/debug/pprof/profile?seconds=1", ""),
        ] {
            let reply = server.send_to(&address, "GET", path, &[], None);
            let expected = match (of == *part, path) {
                (true, "/v2/health/ready") => 200,
                (true, _) => 401,
                (false, _) => 404,
            };
            assert_eq!(reply.status, expected, "{path} on the port of {part}: {}", reply.text());
        }
        let reply = server.send_to(&address, "GET", "/api/v1/keys", &KEYED, None);
        refused(&(reply.status, reply.json()), 404, "NOT_FOUND", None);
        assert!(reply.text().contains(&format!("this port answers `{part}` alone")), "{}", reply.text());
        assert_eq!(server.send_to(&address, "GET", "/api/docs", &KEYED, None).status, 200);
        assert_eq!(server.send_to(&address, "GET", "/api/docs", &[], None).status, 401);
    }
}

#[test]
fn a_part_answers_as_the_servers_own_port_does() {
    let server = with_ports(Home::new()).serve();
    let mut cases = vec![
        ("registry", "/version"),
        ("registry", "/api/2.0/mlflow/registered-models/search"),
        ("registry", "/api/v1/models"),
        ("serving", "/v2"),
        ("serving", "/api/v1/jobs"),
    ];
    if cfg!(feature = "search") {
        cases.extend([("embedding", "/api/v1/embed/models"), ("search", "/index/stats")]);
    }
    for (part, path) in cases {
        let [found, expected] = [server.of_part(part), server.of_all()].map(|address| {
            let reply = server.send_to(&address, "GET", path, &KEYED, None);
            (reply.status, reply.text().to_owned())
        });
        assert_eq!(found, expected, "{path} on the port of {part}");
        assert_eq!(found.0, 200, "{path}: {}", found.1);
    }
    assert!(metric(&server, "http_requests_total", &["path=\"/v2\""]) >= 2.0, "every port is counted");
}

/// Statuses of gRPC: 0 is fine, 5 that it is not here, 16 that there is no credential.
#[cfg(feature = "grpc")]
#[test]
fn grpc_is_answered_on_the_port_of_serving() {
    let server = with_ports(Home::new()).serve();
    let ask = |part: &str, method: &str, key: Option<&str>| {
        let mut headers = vec![("content-type", "application/grpc")];
        headers.extend(key.map(|key| ("x-api-key", key)));
        let reply =
            server.send_to(&server.of_part(part), "POST", &format!("/{method}"), &headers, Some(&[0; 5]));
        assert_eq!(reply.status, 200, "{method}: {}", reply.text());
        if reply.bytes.len() >= 5 { "0".to_owned() } else { reply.header("grpc-status").to_owned() }
    };
    let described = "inference.GRPCInferenceService/ServerMetadata";
    assert_eq!(ask("serving", described, Some(KEY)), "0");
    assert_eq!(ask("serving", described, None), "16");
    assert_eq!(ask("serving", "inference.GRPCInferenceService/ServerReady", None), "0");
    for part in parts() {
        assert_eq!(ask(part, "grpc.health.v1.Health/Check", None), "0", "{part}");
        if *part != "serving" {
            assert_eq!(ask(part, described, Some(KEY)), "5", "{part}");
            assert_eq!(ask(part, "inference.GRPCInferenceService/ServerLive", None), "5", "{part}");
        }
    }
}

#[test]
fn a_server_without_the_role_says_so_on_every_port() {
    let home = with_ports(Home::new()).environment("ROLES", "trainer");
    let server = home.allowing("request refused").allowing("no server has the role").serve();
    for part in parts() {
        let reply = server.send_to(&server.of_part(part), "GET", "/api/v1/models", &KEYED, None);
        assert_eq!((reply.status, reply.json()["code"].as_str()), (503, Some("UNAVAILABLE")), "{part}");
    }
}

#[cfg(feature = "search")]
#[test]
fn names_of_embeddings_are_theirs_on_their_port() {
    let server = with_ports(Home::new()).serve();
    let address = server.of_part("embedding");
    let of_embeddings = server.send_to(&address, "GET", "/api/v1/models", &KEYED, None).json();
    assert_eq!(of_embeddings, server.read("/api/v1/embed/models"));
    let body = json!({"items": [{"text": "a", "type": "note", "id": "1"}]}).to_string();
    let sent = |address: &str, path: &str| {
        let reply = server.send_to(address, "POST", path, &KEYED, Some(body.as_bytes()));
        (reply.status, reply.json()["code"].clone())
    };
    let expected = sent(&server.of_all(), "/api/v1/embed/batch");
    assert_eq!(sent(&address, "/api/v1/batch"), expected);
    assert_ne!(sent(&server.of_all(), "/api/v1/batch"), expected, "rows of models");
}

#[test]
fn limits_are_those_of_all_ports_together() {
    let limits = "[server.rate_limit]\nenabled = true\nrequests_per_minute = 1\nburst_size = 4\n";
    let settings = SETTINGS.replace("[server.rate_limit]\nenabled = false\n", limits);
    let server = with_ports(Home::with_settings(&settings)).serve();
    let addresses = [server.of_part("serving"), server.of_part("registry"), server.of_all()];
    let statuses = |_| {
        addresses.iter().map(|address| server.send_to(address, "GET", "/api/v1/models", &KEYED, None).status)
    };
    let found: Vec<_> = (0..2).flat_map(statuses).collect();
    assert_eq!(found, [200, 200, 200, 200, 429, 429]);
}

#[test]
fn ports_that_are_taken_are_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let serve = |home: Home| home.run(&["serve", "--host", "127.0.0.1", "--port", "0"]);
    let told = format!("cannot listen on 127.0.0.1:{port}");
    let ran = serve(Home::new().environment("ML_MODEL_SERVING_PORT", port)).failed_with(&told);
    assert!(ran.stderr.contains("choose another with server.ports.serving"), "{}", ran.stderr);
    let twice =
        Home::new().environment("ML_MODEL_SERVING_PORT", "9005").environment("ML_MLFLOW_PORT", "9005");
    serve(twice).failed_with("server.ports.serving: must be another port than `server.ports.registry`");
}
