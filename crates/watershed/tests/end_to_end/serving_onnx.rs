//! ONNX models served over HTTP: the Open Inference Protocol, the guide's `/predict` and `/models`, aliases that move under load,
//! files that are damaged.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::models::registered;
use crate::serving::{fixture, promote};
use crate::support::{Home, KEY, SETTINGS, Server, metric, refused, wait};

fn quick() -> Home {
    Home::with_settings(&format!("{SETTINGS}[runtime]\nrefresh_ms = 50\n"))
}

fn x(values: &[f64]) -> Value {
    json!({"inputs": [{"name": "x", "shape": [values.len() / 2, 2], "datatype": "FP32", "data": values}]})
}

#[cfg(feature = "onnxruntime")]
#[test]
#[expect(clippy::disallowed_methods, reason = "this is how a test learns of the library")]
fn onnxruntime_answers_where_it_is_chosen() {
    let settings = format!("{SETTINGS}[runtime]\nrefresh_ms = 50\nonnx_engine = \"onnxruntime\"\n");
    let chosen = || Home::with_settings(&settings).environment("ML_GPU_PREFERENCE", "cpu");
    let library = std::env::var("WATERSHED_TEST_ONNXRUNTIME")
        .expect("is set by `scripts/with-engines --only onnxruntime`");
    let server = chosen().environment("ORT_DYLIB_PATH", library).serve();
    registered(&server, "churn", &[&[("model.onnx", &fixture("linear.onnx"))]]);
    promote(&server, "churn", 1);
    let model = server.read("/v2/models/churn");
    assert_eq!((&model["platform"], &model["batches"]), (&json!("onnxruntime_cpu"), &json!(true)));
    let (status, answer) = server.post("/v2/models/churn/infer", &x(&[1.0, 2.0, 4.0, -8.0]));
    assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!([1.0, 5.0])), "{answer}");
    // An id that the model's table does not have is its caller's mistake: it is told, and no line of the log.
    registered(&server, "table", &[&[("model.onnx", &fixture("two.onnx"))]]);
    promote(&server, "table", 1);
    let unknown = json!({"inputs": [{"name": "ids", "shape": [1], "datatype": "INT64", "data": [99]},
        {"name": "scale", "shape": [1, 1], "datatype": "FP32", "data": [1]}]});
    refused(&server.post("/v2/models/table/infer", &unknown), 400, "VALIDATION_ERROR", Some("inputs"));
    let home = server.stop().environment("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so");
    home.run(&["serve", "--port", "0"]).failed_with(
        "runtime.onnxruntime.library: ONNX Runtime's library /nowhere/libonnxruntime.so cannot be opened",
    );
    // Commands ask no model; the doctor looks whether a server would.
    home.run(&["history", "--model", "churn"]).succeeded();
    home.run(&["doctor"]).failed_with("runtime.onnxruntime.library");
}

/// A model of two versions, of which the first answers.
fn with_two_versions() -> Server {
    let server = quick().serve();
    registered(
        &server,
        "churn",
        &[&[("model.onnx", &fixture("linear.onnx"))], &[("model.onnx", &fixture("halves.onnx"))]],
    );
    promote(&server, "churn", 1);
    server
}

#[test]
fn an_onnx_model_speaks_the_open_inference_protocol() {
    let server = quick().serve();
    registered(&server, "churn", &[&[("model.onnx", &fixture("linear.onnx"))]]);
    refused(&server.get("/v2/models/churn"), 404, "NOT_FOUND", None);
    promote(&server, "churn", 1);
    let served = server.read("/v2");
    assert_eq!(
        (&served["name"], &served["extensions"]),
        (&json!("watershed"), &json!(["binary_tensor_data"]))
    );
    let model = server.read("/v2/models/churn");
    let expected = json!({"name": "churn", "versions": ["1"], "platform": "onnx_tract", "batches": true,
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]});
    assert_eq!(model, expected);
    for path in [
        "/v2/models/churn/ready",
        "/v2/models/churn/versions/1/ready",
        "/v2/models/churn/versions/champion/ready",
    ] {
        assert_eq!(server.read(path)["ready"], true, "{path}");
    }
    let (status, answer) = server.post("/v2/models/churn/infer", &x(&[1.0, 2.0, 4.0, -8.0]));
    let outputs = json!([{"name": "y", "shape": [2, 1], "datatype": "FP32", "data": [1.0, 5.0]}]);
    assert_eq!(
        (status, &answer["outputs"], &answer["model_version"]),
        (200, &outputs, &json!("1")),
        "{answer}"
    );
    let nested = json!({"id": "7", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]}],
        "outputs": [{"name": "y"}]});
    let (status, answer) = server.post("/v2/models/churn/versions/1/infer", &nested);
    assert_eq!(
        (status, &answer["id"], &answer["outputs"][0]["data"]),
        (200, &json!("7"), &json!([1.0])),
        "{answer}"
    );
    for (path, body) in [
        ("/v2/health/live", json!({"live": true})),
        ("/v2/health/ready", json!({"reason": null, "ready": true})),
    ] {
        let reply = server.send("GET", path, &[], None);
        assert_eq!((reply.status, reply.json()), (200, body));
    }
    assert!(metric(&server, "ml_inference_requests_total", &["answered"]) >= 2.0);
    assert!(metric(&server, "ml_model_versions_loaded", &[]) >= 1.0);
}

#[test]
fn tensors_come_and_go_as_bytes() {
    let server = quick().serve();
    registered(&server, "churn", &[&[("model.onnx", &fixture("linear.onnx"))]]);
    let head = json!({"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}],
        "parameters": {"binary_data_output": true}})
    .to_string();
    let mut body = head.clone().into_bytes();
    [1.0_f32, 2.0, 4.0, -8.0].iter().for_each(|value| body.extend(value.to_le_bytes()));
    let length = head.len().to_string();
    let headers = |length| {
        [
            ("x-api-key", KEY),
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", length),
        ]
    };
    let ask = |length, body: &[u8]| {
        server.send("POST", "/v2/models/churn/versions/1/infer", &headers(length), Some(body))
    };
    let reply = ask(&length, &body);
    assert_eq!(reply.status, 200, "{:?}", String::from_utf8_lossy(&reply.bytes));
    let (json, bytes) =
        reply.bytes.split_at(reply.header("inference-header-content-length").parse().unwrap());
    let told: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(told["outputs"][0]["parameters"]["binary_data_size"], 8, "{told}");
    assert_eq!(bytes, [1.0_f32.to_le_bytes(), 5.0_f32.to_le_bytes()].concat());
    let wrong = |reply: crate::support::Reply, field| {
        refused(&(reply.status, reply.json()), 400, "VALIDATION_ERROR", Some(field));
    };
    wrong(ask(&length, &body[..body.len() - 1]), "inputs[0].data");
    wrong(ask(&length, &[&body[..], b"more"].concat()), "inputs");
    wrong(ask("100000", &body), "inference-header-content-length");
    let mut infinite = body;
    infinite.truncate(head.len());
    [1.0_f32, f32::NAN, 4.0, -8.0].iter().for_each(|value| infinite.extend(value.to_le_bytes()));
    wrong(ask(&length, &infinite), "inputs[0].data");
}

#[test]
fn requests_that_do_not_fit_are_refused_with_the_field() {
    let server = quick().serve();
    registered(&server, "churn", &[&[("model.onnx", &fixture("linear.onnx"))]]);
    let path = "/v2/models/churn/versions/1/infer";
    let input = |name: &str, shape: Value, kind: &str, data: Value| json!({"inputs": [{"name": name, "shape": shape, "datatype": kind, "data": data}]});
    let check =
        |body: Value, field: &str| refused(&server.post(path, &body), 400, "VALIDATION_ERROR", Some(field));
    check(input("z", json!([1, 2]), "FP32", json!([1, 2])), "inputs[0].name");
    check(input("x", json!([1, 3]), "FP32", json!([1, 2, 3])), "inputs[0].shape");
    check(input("x", json!([1, 2]), "FP32", json!([1, 2, 3])), "inputs[0].shape");
    check(input("x", json!([2]), "FP32", json!([1, 2])), "inputs[0].shape");
    check(input("x", json!([0, 2]), "FP32", json!([])), "inputs");
    check(input("x", json!([1, 2]), "FP64", json!([1, 2])), "inputs[0].datatype");
    check(input("x", json!([1, 2]), "FP16", json!([1, 2])), "inputs[0].datatype");
    check(input("x", json!([1, 2]), "FP32", json!([1, "a"])), "inputs[0].data");
    check(input("x", json!([1, 2]), "FP32", json!([1, 1e300])), "inputs[0].data");
    check(input("x", json!([1, -2]), "FP32", json!([1, 2])), "inputs[0].shape[1]");
    check(json!({"inputs": []}), "inputs");
    check(json!({"inputs": [], "more": 1}), "more");
    let mut unknown = x(&[1.0, 2.0]);
    unknown["outputs"] = json!([{"name": "z"}]);
    check(unknown, "outputs[0].name");
    let (status, told) = server.post_as("application/json", path, "{\"inputs\":[{\"data\":[NaN]}]}");
    refused(&(status, told.clone()), 400, "INVALID_REQUEST", None);
    assert_eq!(told["error"], told["detail"], "clients of the protocol read `error`");
    refused(&server.post_as("text/plain", path, "{}"), 415, "UNSUPPORTED_MEDIA_TYPE", None);
    refused(
        &server.post("/v2/models/churn/versions/0/infer", &x(&[1.0, 2.0])),
        400,
        "VALIDATION_ERROR",
        Some("version"),
    );
    refused(&server.post("/v2/models/churn/versions/9/infer", &x(&[1.0, 2.0])), 404, "NOT_FOUND", None);
    refused(&server.post("/v2/models/none/infer", &x(&[1.0, 2.0])), 404, "NOT_FOUND", None);
}

#[test]
fn rows_are_asked_as_the_guides_clients_do() {
    let server = with_two_versions();
    let rows = json!([{"x": [1.0, 2.0]}, {"x": [4.0, -8.0]}]);
    let (status, answer) =
        server.post("/api/v1/predict", &json!({"model_name": "churn", "inputs": rows, "user_id": "ada"}));
    assert_eq!((status, &answer["predictions"]), (200, &json!([[1.0], [5.0]])), "{answer}");
    assert_eq!((&answer["model_version"], &answer["model_name"]), (&json!("1"), &json!("churn")));
    assert!(answer["latency_ms"].is_number());
    for (version, expected) in
        [(json!(2), json!([[1.5], [-2.0]])), (json!("production"), json!([[1.0], [5.0]]))]
    {
        let body = json!({"model_name": "churn", "model_version": version, "inputs": rows});
        assert_eq!(server.post("/api/v1/predict", &body).1["predictions"], expected);
    }
    let check = |body: Value, status, code: &str, field| {
        refused(&server.post("/api/v1/predict", &body), status, code, field);
    };
    check(json!({"inputs": rows}), 404, "NOT_FOUND", None);
    check(json!({"model_name": "churn", "inputs": []}), 400, "VALIDATION_ERROR", Some("inputs"));
    check(json!({"model_name": "churn", "inputs": [{}]}), 400, "VALIDATION_ERROR", Some("inputs[0].x"));
    check(
        json!({"model_name": "churn", "inputs": [{"x": [1, 2], "y": 1}]}),
        400,
        "VALIDATION_ERROR",
        Some("inputs[0].y"),
    );
    check(
        json!({"model_name": "churn", "inputs": rows, "experiment_id": "1"}),
        400,
        "VALIDATION_ERROR",
        Some("experiment_id"),
    );
    check(
        json!({"model_name": "churn", "model_version": 0, "inputs": rows}),
        400,
        "VALIDATION_ERROR",
        Some("model_version"),
    );
    let listed = server.read("/api/v1/models");
    let found = listed.as_array().unwrap().iter().find(|model| model["name"] == "churn").unwrap();
    assert_eq!(
        (&found["version"], &found["stage"], &found["serving_version"]),
        (&json!(1), &json!("Production"), &json!(1))
    );
    assert_eq!(server.read("/api/v1/models/churn")["aliases"], json!({"champion": 1}));
}

#[test]
fn many_rows_are_answered_in_the_background_and_outlive_the_server() {
    let mut server = with_two_versions();
    let lines: String = (0..3_000).map(|row| format!("{{\"x\":[{row},2]}}\n")).collect();
    let (status, job) = server.post_as("application/x-ndjson", "/api/v1/batch?model_name=churn", &lines);
    assert_eq!((status, &job["status"]), (202, &json!("queued")), "{job}");
    let path = format!("/api/v1/jobs/{}", job["job_id"].as_str().unwrap());
    server.restart();
    assert!(wait(|| server.read(&path)["status"] == "completed"), "{}", server.read(&path));
    let told = server.read(&path);
    assert_eq!((&told["rows_done"], &told["rows_failed"]), (&json!(3_000), &json!(0)), "{told}");
    let results = server.fetch(&format!("{path}/results"));
    let found: Vec<Value> = results.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = json!([{"x": [0, 2]}, {"x": [1, 2]}, {"x": [2_999, 2]}]);
    let (_, asked) = server.post("/api/v1/predict", &json!({"model_name": "churn", "inputs": rows}));
    for (row, expected) in [0, 1, 2_999].into_iter().zip(asked["predictions"].as_array().unwrap()) {
        assert_eq!(found[row], json!({"row": row, "prediction": expected}));
    }
    assert_eq!(found.len(), 3_000);
    let check = |kind: &str, path: &str, body: &str, code: u16, field| {
        let name = match code {
            404 => "NOT_FOUND",
            415 => "UNSUPPORTED_MEDIA_TYPE",
            _ => "VALIDATION_ERROR",
        };
        refused(&server.post_as(kind, path, body), code, name, field);
    };
    let lines = "application/x-ndjson";
    check(lines, "/api/v1/batch?model_name=churn", "{\"x\":[1,2]}\n[1]\n", 400, Some("line[2]"));
    check(lines, "/api/v1/batch?model_name=churn", "\n", 400, Some("inputs"));
    check(lines, "/api/v1/batch?model_name=none", "{\"x\":[1,2]}", 404, None);
    check("text/plain", "/api/v1/batch?model_name=churn", "{}", 415, None);
    let body = json!({"model_name": "churn", "inputs": [{"x": [1, 2]}]}).to_string();
    check("application/json", "/api/v1/batch?model_name=other", &body, 400, Some("model_name"));
    refused(&server.get("/api/v1/jobs/none"), 404, "NOT_FOUND", None);
    assert!(metric(&server, "ml_batch_rows_total", &["answered"]) >= 1.0);
}

#[test]
fn aliases_move_under_load_and_nothing_fails() {
    let server = with_two_versions();
    let (done, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let (status, answer) = server.post("/v2/models/churn/infer", &x(&[4.0, -8.0]));
                    let expected = if answer["model_version"] == "1" { 5.0 } else { -2.0 };
                    assert_eq!(
                        (status, &answer["outputs"][0]["data"]),
                        (200, &json!([expected])),
                        "{answer}"
                    );
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let serving = |version: &str| {
            wait(|| server.post("/v2/models/churn/infer", &x(&[4.0, -8.0])).1["model_version"] == version)
        };
        for turn in 0..6 {
            let to = if turn % 2 == 0 { 2 } else { 1 };
            if turn == 5 {
                assert_eq!(server.post("/api/v1/models/churn/rollback", &json!({})).0, 200);
            } else {
                promote(&server, "churn", to);
            }
            assert!(serving(&to.to_string()), "turn {turn}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 20);
}

#[test]
fn a_reload_follows_aliases_at_once() {
    let settings = format!("{SETTINGS}[runtime]\nrefresh_ms = 60000\n");
    let server = Home::with_settings(&settings).serve();
    let (linear, halves) = (fixture("linear.onnx"), fixture("halves.onnx"));
    registered(&server, "churn", &[&[("model.onnx", &linear)], &[("model.onnx", &halves)]]);
    promote(&server, "churn", 1);
    let rows = json!({"model_name": "churn", "inputs": [{"x": [1.0, 2.0]}]});
    let version = || server.post("/api/v1/predict", &rows).1["model_version"].clone();
    let reload = || server.post("/reload", &Value::Null).1;
    assert_eq!(version(), "1");
    promote(&server, "churn", 2);
    let expected = json!({"status": "reloaded",
        "models": [{"name": "churn", "alias": "champion", "serving_version": 2}]});
    assert_eq!(reload(), expected);
    assert_eq!(version(), "2");
    // What was deleted is let go.
    let headers = [("x-api-key", KEY), ("content-type", "application/json")];
    let mlflow = "/api/2.0/mlflow/registered-models";
    let gone = |path: &str, body: Value| {
        let body = body.to_string();
        server.send("DELETE", &format!("{mlflow}/{path}"), &headers, Some(body.as_bytes())).status
    };
    assert_eq!(gone("alias", json!({"name": "churn", "alias": "champion"})), 200);
    assert_eq!(reload(), json!({"status": "reloaded", "models": []}));
}

#[test]
fn a_file_that_is_cut_off_leaves_the_old_version_serving() {
    let home = quick()
        .allowing("a version of a model cannot be served")
        .allowing("an earlier version of a model answers");
    let mut server = home.serve();
    let whole = fixture("linear.onnx");
    registered(&server, "churn", &[&[("model.onnx", &whole)], &[("model.onnx", &whole[..whole.len() / 2])]]);
    promote(&server, "churn", 1);
    assert_eq!(server.post("/v2/models/churn/infer", &x(&[1.0, 2.0])).0, 200);
    let second = json!({"version": 2});
    refused(&server.post("/api/v1/models/churn/promote", &second), 409, "MODEL_UNUSABLE", Some("version"));
    let untried = json!({"name": "churn", "version": "2", "key": "runtime.trial", "value": "off"});
    assert_eq!(server.post("/api/2.0/mlflow/model-versions/set-tag", &untried).0, 200);
    promote(&server, "churn", 2);
    assert!(wait(|| server.read("/api/v1/models/churn")["fault"].is_string()));
    let version =
        |server: &Server| server.post("/v2/models/churn/infer", &x(&[1.0, 2.0])).1["model_version"].clone();
    assert_eq!(version(&server), "1");
    refused(&server.get("/v2/models/churn/versions/2/ready"), 409, "MODEL_UNUSABLE", None);
    server.restart();
    assert_eq!(version(&server), "1", "the history knows what answered before");
    assert!(metric(&server, "ml_model_loads_total", &["refused"]) >= 1.0);
}

#[test]
fn a_successor_takes_what_its_callers_send() {
    let server = quick().serve();
    let signature = br#"signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 7]}, "name": "zzz"}]'
"#;
    registered(
        &server,
        "churn",
        &[
            &[("model.onnx", &fixture("linear.onnx"))],
            &[("model.onnx", &fixture("two.onnx"))],
            &[("model.onnx", &fixture("linear.onnx")), ("MLmodel", signature)],
        ],
    );
    promote(&server, "churn", 1);
    for (version, what) in [(2, "no successor of version 1"), (3, "`zzz`")] {
        let asked = server.post("/api/v1/models/churn/promote", &json!({"version": version}));
        refused(&asked, 409, "MODEL_UNUSABLE", Some("version"));
        assert!(asked.1["detail"].as_str().unwrap().contains(what), "{}", asked.1);
    }
    let answer = server.post("/v2/models/churn/infer", &x(&[1.0, 2.0])).1;
    assert_eq!(answer["model_version"], "1", "{answer}");
}

#[test]
fn no_version_takes_traffic_by_way_of_one_that_cannot_be_served() {
    let home = quick()
        .allowing("a version of a model cannot be served")
        .allowing("an earlier version of a model answers");
    let mut server = home.serve();
    let readme: &[(&str, &[u8])] = &[("readme.txt", b"x")];
    let (linear, two) = (fixture("linear.onnx"), fixture("two.onnx"));
    registered(&server, "byp", &[&[("model.onnx", &linear)], readme, &[("model.onnx", &two)]]);
    registered(&server, "kept", &[readme]);
    // What MLflow's client sends for `set_registered_model_alias`.
    let alias = |server: &Server, name: &str, version: u64| {
        let asked = json!({"name": name, "alias": "champion", "version": version.to_string()});
        server.post("/api/2.0/mlflow/registered-models/alias", &asked)
    };
    let refuses = |server: &Server, version: u64, part: &str| {
        let (status, told) = alias(server, "byp", version);
        assert_eq!((status, told["error_code"].as_str()), (409, Some("INVALID_STATE")), "{told}");
        let message = told["message"].as_str().unwrap();
        assert!(message.contains(part) && message.contains("register a good version"), "{message}");
    };
    assert_eq!((alias(&server, "byp", 1).0, alias(&server, "kept", 1).0), (200, 200));
    refuses(&server, 2, "version 1 answers");
    refuses(&server, 3, "no successor of version 1");
    let untried = json!({"name": "byp", "version": "2", "key": "runtime.trial", "value": "off"});
    assert_eq!(server.post("/api/2.0/mlflow/model-versions/set-tag", &untried).0, 200);
    assert_eq!(alias(&server, "byp", 2).0, 200);
    refuses(&server, 3, "no successor of version 1");
    // This process knows of no version that answered; the history does.
    server.restart();
    refuses(&server, 3, "no successor of version 1");
    let answer = server.post("/v2/models/byp/infer", &x(&[1.0, 2.0])).1;
    assert_eq!(answer["model_version"], "1", "{answer}");
    let home = server.stop();
    let ran = home.run(&["doctor"]).failed_with("version 2 of the registered model `byp`");
    assert!(ran.stdout.contains("kept: version 1 is only kept"), "{}", ran.stdout);
    home.run(&["rollback", "--model", "byp"]).succeeded();
    let told = home.run(&["doctor"]).succeeded().stdout;
    assert!(told.contains("byp: version 1 is served by onnx_tract"), "{told}");
}

#[test]
fn too_much_work_is_shed() {
    let settings = "[runtime]\nmax_queued_requests = 1\ncalls = 1\ncalls_per_model = 1\nmax_batch_rows = 1\n";
    let server = Home::with_settings(&format!("{SETTINGS}{settings}")).serve();
    registered(&server, "churn", &[&[("model.onnx", &fixture("linear.onnx"))]]);
    assert_eq!(server.get("/v2/models/churn/versions/1/ready").0, 200);
    let body = x(&[1.0; 20_000]).to_string();
    let headers = [("x-api-key", KEY), ("content-type", "application/json")];
    let shed = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..16 {
            threads.spawn(|| {
                for _ in 0..10 {
                    let reply = server.send(
                        "POST",
                        "/v2/models/churn/versions/1/infer",
                        &headers,
                        Some(body.as_bytes()),
                    );
                    if reply.status == 503 {
                        assert_eq!(
                            (reply.json()["code"].as_str(), reply.header("retry-after")),
                            (Some("OVERLOADED"), "1")
                        );
                        shed.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(reply.status, 200, "{}", reply.text());
                    }
                }
            });
        }
    });
    assert_eq!(
        metric(&server, "ml_inference_requests_total", &["shed"]) as u64,
        shed.load(Ordering::Relaxed)
    );
    assert_eq!(server.post("/v2/models/churn/versions/1/infer", &x(&[1.0, 2.0])).0, 200, "it recovers");
}
