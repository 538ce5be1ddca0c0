//! The model registry over HTTP and from the command line: versions, promotion, rollback, history, clean-up; what it
//! refuses; tenants. What MLflow's own client does is tried by `scripts/test-mlflow`.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{Home, KEY, Server, refused};

const API: &str = "/api/2.0/mlflow";
const ARTIFACTS: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// A run of the default experiment; its id.
fn run(server: &Server) -> String {
    let (status, made) = server.post(&format!("{API}/runs/create"), &json!({"experiment_id": "0"}));
    assert_eq!(status, 200, "{made}");
    made["run"]["info"]["run_id"].as_str().unwrap().to_owned()
}

fn upload(server: &Server, run: &str, path: &str, bytes: &[u8]) -> (u16, Value) {
    let address = format!("{ARTIFACTS}/0/{run}/artifacts/{path}");
    let reply = server.send("PUT", &address, &[("x-api-key", KEY)], Some(bytes));
    (reply.status, reply.json())
}

/// A model with so many versions.
pub(crate) fn model(server: &Server, name: &str, versions: usize) {
    assert_eq!(server.post(&format!("{API}/registered-models/create"), &json!({"name": name})).0, 200);
    for version in 1..=versions {
        let run = run(server);
        assert_eq!(upload(server, &run, "model/weights", &[version as u8; 100]).0, 200);
        let source = format!("runs:/{run}/model");
        let body = json!({"name": name, "source": source, "run_id": run});
        let (status, made) = server.post(&format!("{API}/model-versions/create"), &body);
        assert_eq!(
            (status, made["model_version"]["version"].as_str()),
            (200, Some(version.to_string().as_str()))
        );
    }
}

/// A model whose versions have these files each, named and with their bytes.
pub(crate) fn registered(server: &Server, name: &str, versions: &[&[(&str, &[u8])]]) {
    assert_eq!(server.post(&format!("{API}/registered-models/create"), &json!({"name": name})).0, 200);
    for files in versions {
        let run = run(server);
        for (path, bytes) in *files {
            let (status, told) = upload(server, &run, &format!("model/{path}"), bytes);
            assert_eq!(status, 200, "{told}");
        }
        let body = json!({"name": name, "source": format!("runs:/{run}/model"), "run_id": run});
        assert_eq!(server.post(&format!("{API}/model-versions/create"), &body).0, 200);
    }
}

#[test]
fn of_two_promotions_one_wins() {
    let server = Server::new();
    model(&server, "curve", 3);
    let promote = |body: Value| server.post("/api/v1/models/curve/promote", &body);
    assert_eq!(promote(json!({"version": 1, "expected_version": 0})).1["aliases"]["champion"], 1);
    let answers: Vec<(u16, Value)> = std::thread::scope(|threads| {
        let both = [2, 3].map(|version| {
            threads.spawn(move || promote(json!({"version": version, "expected_version": 1})))
        });
        both.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let lost: Vec<_> = answers.iter().filter(|answer| answer.0 != 200).collect();
    assert_eq!(lost.len(), 1, "{answers:?}");
    refused(lost[0], 409, "CONFLICT", Some("alias"));
    let (status, rolled) = server.post("/api/v1/models/curve/rollback", &json!({"reason": "worse"}));
    assert_eq!((status, &rolled["aliases"]["champion"]), (200, &json!(1)));
    refused(&server.post("/api/v1/models/curve/rollback", &json!({})), 409, "INVALID_STATE", None);
    let history = server.read("/api/v1/models/curve/history?limit=3");
    let actions: Vec<_> =
        history["changes"].as_array().unwrap().iter().map(|one| one["action"].clone()).collect();
    assert_eq!(actions, ["rolled_back", "promoted", "promoted"]);
    assert!(history["next_cursor"].is_string());
    let audit = server.read("/api/v1/audit?limit=1");
    assert_eq!(audit["entries"][0]["action"], "model.rolled_back", "{audit}");
    let versions = server.read("/api/v1/models/curve/versions");
    let first = versions["versions"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&first["stage"], first["files"][0]["size_bytes"].as_u64()),
        (&json!("Production"), Some(100))
    );
    refused(&promote(json!({"version": 9})), 404, "NOT_FOUND", None);
    refused(&promote(json!({"version": 1, "run_id": "x"})), 400, "VALIDATION_ERROR", Some("run_id"));
    refused(&promote(json!({"stage": "Gone"})), 400, "VALIDATION_ERROR", Some("stage"));
}

#[test]
fn the_guides_commands_promote_and_clean_up() {
    let server = Server::new();
    model(&server, "curve_forecaster", 3);
    let home = server.stop();
    let promote = ["promote", "--model", "curve_forecaster", "--stage", "Production"];
    assert!(home.run(&promote).succeeded().stdout.contains("version 3"));
    let named = ["promote", "--model", "curve_forecaster_v2", "--stage", "Production"];
    assert!(home.run(&named).succeeded().stdout.contains("version 2"));
    home.run(&[&promote[..], &["--expect", "1"]].concat()).failed_with("another promotion was first");
    let rolled = home.run(&["rollback", "--model", "curve_forecaster"]).succeeded().stdout;
    assert!(rolled.contains("version 3 (Production)"), "{rolled}");
    let history = home.run(&["history", "--model", "curve_forecaster"]).succeeded().stdout;
    let first = history.lines().next().unwrap();
    assert!(first.contains("rolled_back") && first.contains("2 -> 3"), "{history}");
    let told = home.run(&["cleanup-artifacts", "--days", "0", "--dry-run"]).succeeded().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    let versions = |told: &Value| {
        told["versions"].as_array().unwrap().iter().map(|one| one["version"].clone()).collect::<Vec<_>>()
    };
    assert!(!versions(&told).contains(&json!(3)) && versions(&told).contains(&json!(1)), "{told}");
    let done: Value =
        serde_json::from_str(&home.run(&["cleanup-artifacts", "--days", "0"]).succeeded().stdout).unwrap();
    assert_eq!(versions(&done), versions(&told));
    home.run(&["promote", "--model", "unknown"]).failed_with("there is no registered model");
    home.run(&["promote", "--model", "curve_forecaster", "--stage", "Gone"])
        .failed_with("Production, Staging");
    assert!(home.run(&["audit", "verify"]).succeeded().stdout.starts_with("whole"));
}

#[test]
fn what_breaks_off_is_not_there() {
    let server = Server::new();
    let run = run(&server);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let request = format!(
        "PUT {ARTIFACTS}/0/{run}/artifacts/model.onnx HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: 1000000\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream.write_all(&[7; 500_000]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    // Whether there is an answer to half a request is the transport's business.
    let _ = stream.read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    let listed = server.read(&format!("{API}/artifacts/list?run_id={run}"));
    assert_eq!(listed["files"], json!([]));
    assert_eq!(server.fetch(&format!("{ARTIFACTS}/0/{run}/artifacts/model.onnx")).status, 404);
}

#[test]
fn paths_and_sizes_are_held() {
    let server =
        Home::with_settings("[registry]\nmax_artifact_mb = 1\n[server.rate_limit]\nenabled = false\n")
            .serve();
    let run = run(&server);
    for path in ["../../x", "%2e%2e/x", "a/%2e%2e/%2e%2e/x", "a%5cb", "a//b", "%252e%252e/x"] {
        let (status, told) = upload(&server, &run, path, b"x");
        assert!(matches!(status, 400 | 404), "{path}: {status} {told}");
    }
    let (status, told) = upload(&server, &run, "large", &vec![1; (1 << 20) + 1]);
    assert_eq!((status, told["error_code"].as_str()), (413, Some("RESOURCE_LIMIT_EXCEEDED")), "{told}");
    assert_eq!(upload(&server, &run, "just", &vec![1; 1 << 20]).0, 200);
    let reply = server.fetch(&format!("{ARTIFACTS}/0/{run}/artifacts/just"));
    assert_eq!((reply.status, reply.bytes.len()), (200, 1 << 20));
    assert_eq!(upload(&server, "0".repeat(32).as_str(), "a", b"x").0, 404, "there is no such run");
    let (status, told) = server.get("/api/2.0/mlflow/traces/search");
    assert_eq!((status, told["error_code"].as_str()), (404, Some("ENDPOINT_NOT_FOUND")), "{told}");
}

#[test]
fn a_tenant_sees_no_model_or_artifact_of_another() {
    let home = Home::new();
    let made = home.run(&["keys", "create", "--name", "other", "--permission", "admin", "--tenant", "other"]);
    let other = made.succeeded().stdout.trim().to_owned();
    let server = home.serve();
    model(&server, "planted-model", 1);
    let versions = server.read("/api/v1/models/planted-model/versions");
    let run = versions["versions"][0]["lineage"]["run_id"].as_str().unwrap();
    let search = |key: &str, path: &str, body: Value| {
        let headers = [("x-api-key", key), ("content-type", "application/json")];
        server
            .send("POST", &format!("{API}/{path}"), &headers, Some(body.to_string().as_bytes()))
            .text()
            .to_owned()
    };
    for (path, body) in [
        ("runs/search", json!({"experiment_ids": ["0"], "run_view_type": "ALL"})),
        ("experiments/search", json!({})),
    ] {
        assert!(!search(&other, path, body).contains(run), "{path}");
    }
    for path in [
        format!("{API}/runs/get?run_id={run}"),
        format!("{API}/artifacts/list?run_id={run}"),
        format!("{API}/registered-models/get?name=planted-model"),
        format!("{API}/model-versions/get?name=planted-model&version=1"),
        format!("{API}/model-versions/get-download-uri?name=planted-model&version=1"),
        format!("{ARTIFACTS}/0/{run}/artifacts/model/weights"),
        "/api/v1/models/planted-model/history".to_owned(),
    ] {
        assert_eq!(server.send("GET", &path, &[("x-api-key", &other)], None).status, 404, "{path}");
        assert_eq!(server.fetch(&path).status, 200, "{path}");
    }
    for path in ["registered-models/search", "model-versions/search"] {
        let reply = server.send("GET", &format!("{API}/{path}"), &[("x-api-key", &other)], None);
        assert!(reply.status == 200 && !reply.text().contains("planted"), "{path}: {}", reply.text());
    }
    let gone = format!("{ARTIFACTS}/0/{run}/artifacts");
    assert_eq!(server.send("DELETE", &gone, &[("x-api-key", &other)], None).status, 404);
    assert_eq!(server.fetch(&format!("{gone}/model/weights")).status, 200);
}

/// The same on PostgreSQL and S3, and two servers of one registry: what one promotes the other sees.
#[cfg(all(feature = "postgres", feature = "redis", feature = "s3"))]
#[test]
fn replicas_share_a_registry_on_postgres_and_s3() {
    use crate::replicas::{NO_LIMIT, NO_TRAINING, drop_schema, engine, shared};
    let bucket = format!(
        "[storage.s3]\nendpoint = \"{}\"\nallow_http = true\nregion = \"us-east-1\"\nbucket = \"{}\"\nprefix = \"models-{}\"\n\
         access_key_id = \"{}\"\nsecret_access_key = \"{}\"\n",
        engine("WATERSHED_TEST_S3_URL"),
        engine("WATERSHED_TEST_S3_BUCKET"),
        std::process::id(),
        engine("WATERSHED_TEST_S3_ACCESS_KEY_ID"),
        engine("WATERSHED_TEST_S3_SECRET_ACCESS_KEY"),
    );
    let settings = shared(&format!("{NO_LIMIT}{NO_TRAINING}{bucket}"));
    let home = Home::with_settings(&settings);
    home.run(&["migrate", "up"]).succeeded();
    let (one, two) = (home.serve(), Home::with_settings(&settings).serve());
    model(&one, "curve", 3);
    assert_eq!(two.post("/api/v1/models/curve/promote", &json!({"version": 1})).0, 200);
    let answers: Vec<(u16, Value)> = std::thread::scope(|threads| {
        let both = [(&one, 2), (&two, 3)].map(|(server, version)| {
            let body = json!({"version": version, "expected_version": 1});
            threads.spawn(move || server.post("/api/v1/models/curve/promote", &body))
        });
        both.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.0).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409], "{answers:?}");
    let uri = two.read(&format!("{API}/model-versions/get-download-uri?name=curve&version=2"));
    let root = uri["artifact_uri"].as_str().unwrap().strip_prefix("mlflow-artifacts:/").unwrap();
    assert_eq!(two.fetch(&format!("{ARTIFACTS}/{root}/weights")).bytes, [2; 100]);
    drop(two);
    let home = one.stop();
    let done = home.run(&["cleanup-artifacts", "--days", "0"]).succeeded().stdout;
    assert!(done.contains("\"uploads\""), "{done}");
    drop_schema(&home);
}
