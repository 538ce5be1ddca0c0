//! Commands that ask a running server, which has the folder: of registered models, and of canaries.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::models::model;
use crate::support::{Home, Ran, Server};

fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

/// Runs a command against a server, in its folder.
fn ask(server: &Server, command: &str) -> Ran {
    server.home().run(&words(&format!("{command} --server {}", server.of_all())))
}

#[test]
fn a_folder_that_a_server_has_is_asked_for_at_the_server() {
    let server = Server::new();
    let days: String = (1..=9).map(|day| format!("\n2020-01-0{day},1.{day}")).collect();
    server.home().write("x.csv", format!("date,rate_1{days}"));
    for (command, call) in [
        ("promote --model curve", "POST /api/v1/models/curve/promote"),
        ("rollback --model curve", "POST /api/v1/models/curve/rollback"),
        ("history --model curve", "GET /api/v1/models/curve/history"),
        ("cleanup-artifacts", "POST /api/v1/artifacts/cleanup"),
        ("rollout status", "GET /api/v1/canaries"),
        ("rollout canary recommend popular", "POST /api/v1/canaries"),
        (
            "train curve-forecaster --data-path x.csv --register curve",
            "POST /api/2.0/mlflow/model-versions/create",
        ),
    ] {
        let ran = server.home().run(&words(command)).failed_with("is open in another process");
        assert!(ran.stderr.contains("--server URL") && ran.stderr.contains(call), "{}", ran.stderr);
    }
    let of_model = ["rollout", "status", "--model", "curve"];
    for home in [server.home(), &Home::new()] {
        home.run(&of_model).failed_with("tried by the server that answers for it");
    }
}

#[test]
fn a_model_that_was_trained_is_registered_by_the_server() {
    let server = Server::new();
    let mut table = String::from("date,rate_1,rate_10\n");
    for day in 1..=28 {
        for month in 1..=9 {
            writeln!(
                table,
                "2020-{month:02}-{day:02},{},{}",
                f64::from(day % 5) / 7.0 + 1.0,
                2.0 + f64::from(month) / 90.0
            )
            .unwrap();
        }
    }
    let mut lines: Vec<&str> = table.lines().collect();
    lines[1..].sort_unstable();
    server.home().write("curve.csv", lines.join("\n"));
    let train = "train curve-forecaster --data-path curve.csv --model-type ridge --lookback-days 5";
    let asks_nothing = format!("{train} --server {}", server.of_all());
    server.home().run(&words(&asks_nothing)).failed_with("name that with --register");
    for (name, said) in [("..", "is no name"), ("a/b", "has no `/`")] {
        ask(&server, &format!("{train} --register {name}")).failed_with(said);
    }
    let bare = train.strip_suffix(" --lookback-days 5").unwrap();
    for (flags, said) in [
        ("--output nowhere/x.json", "there is no folder nowhere"),
        ("--output x.json --plot x.json", "is the file of --output too"),
        ("--json drift_reference.json", "is the file of --drift-reference too"),
        ("--train-until 2030-01-01", "too few days after 2030-01-01 have values"),
        ("--train-until 2020-09-27", "too few days after 2020-09-27"),
        ("--lookback-days 2000", "lookback-days must be"),
        ("--lookback-days 240", "rows of history are needed"),
    ] {
        ask(&server, &format!("{bare} --register curve {flags}")).failed_with(said);
    }
    ask(&server, "train curve-forecaster --data-path nowhere/x.csv --register curve")
        .failed_with("nowhere/x.csv cannot be read");
    let key = server.create("/api/v1/keys", &json!({"name": "reader", "permission": "read"}));
    let reader = Home::new().environment("API_KEY", key["api_key"].as_str().unwrap());
    reader.write("curve.csv", lines.join("\n"));
    reader.run(&words(&format!("{train} --register curve --server {}", server.of_all()))).failed_with("403");
    assert!(!reader.path("curve_forecaster.json").exists(), "who may not register is told before");
    let away = format!("{train} --register curve --server localhost:1");
    server.home().run(&words(&away)).failed_with("--server");
    assert!(!server.home().path("curve_forecaster.json").exists(), "nobody waited for a training");
    assert_eq!(server.get("/api/v1/models/curve").0, 404, "what was never trained leaves no model");
    for version in 1..=2 {
        let ran = ask(&server, &format!("{train} --register curve")).succeeded();
        assert!(ran.stderr.contains(&format!("registered version {version} of curve")), "{}", ran.stderr);
    }
    let found = server.read("/api/v1/models/curve/versions");
    let run = found["versions"][0]["lineage"]["run_id"].as_str().unwrap_or_else(|| panic!("{found}"));
    let run = server.read(&format!("/api/2.0/mlflow/runs/get?run_id={run}"))["run"].take();
    assert_eq!(run["info"]["status"], "FINISHED", "{run}");
    let inputs = &run["inputs"]["dataset_inputs"][0];
    assert_eq!(
        (&inputs["dataset"]["name"], &inputs["tags"][0]["value"]),
        (&json!("curve.csv"), &json!("training"))
    );
    let params = run["data"]["params"].as_array().unwrap();
    assert!(params.contains(&json!({"key": "model_type", "value": "ridge"})), "{run}");
    assert!(!run["data"]["metrics"].as_array().unwrap().is_empty(), "{run}");
    std::fs::create_dir(server.home().path("below")).unwrap();
    let evaluate = "evaluate curve-forecaster --model-path curve_forecaster.json --test-data-path curve.csv";
    for (path, said) in [
        ("curve.csv", "is the file of --test-data-path too"),
        ("./curve_forecaster.json", "is the file of --model-path too"),
        ("below/../curve.csv", "is the file of --test-data-path too"),
        ("below/evaluation_report.json --output-dir below", "is the file of --output-dir too"),
        ("nowhere/told.csv", "there is no folder nowhere"),
    ] {
        server.home().run(&words(&format!("{evaluate} --predictions {path}"))).failed_with(said);
    }
    // The files are those of the folder.
    ask(&server, "promote --model curve").succeeded();
    let answer = server.read("/v2/models/curve");
    assert_eq!(answer["platform"], "watershed_curve_forecaster", "{answer}");
}

#[test]
fn registered_models_are_moved_by_the_server() {
    let server = Server::new();
    model(&server, "curve_forecaster", 3);
    let promoted = ask(&server, "promote --model curve_forecaster --stage Production").succeeded();
    assert_eq!(promoted.stdout, "champion of curve_forecaster is version 3 (Production)\n");
    let named = ask(&server, "promote --model curve_forecaster_v2 --reason calmer").succeeded();
    assert!(named.stdout.contains("version 2"), "{}", named.stdout);
    assert_eq!(server.read("/api/v1/models/curve_forecaster")["aliases"], json!({"champion": 2}));
    for (arguments, said) in [
        ("promote --model curve_forecaster --expect 1", "another promotion was first"),
        ("promote --model unknown", "there is no registered model"),
        ("promote --model unknown_v2", "`unknown_v2`"),
        ("promote --model curve_forecaster --stage Gone", "Production, Staging"),
        ("promote --model curve_forecaster_v1 --run-id x", "ends in a version"),
        ("history --model ..", "nothing named `..`"),
        ("cleanup-artifacts --days 100001", "at most 100000"),
    ] {
        ask(&server, arguments).failed_with(said);
    }
    let rolled = ask(&server, "rollback --model curve_forecaster").succeeded().stdout;
    assert!(rolled.contains("version 3 (Production)"), "{rolled}");
    let (history, clean) =
        ("history --model curve_forecaster --count 4", "cleanup-artifacts --days 0 --dry-run");
    let json = |ran: Ran| serde_json::from_str::<Value>(&ran.succeeded().stdout).unwrap();
    let (told, cleaned) = (ask(&server, history).succeeded().stdout, json(ask(&server, clean)));
    assert_eq!(cleaned["versions"][0]["version"], 1, "{cleaned}");
    let home = server.stop();
    assert_eq!(told, home.run(&words(history)).succeeded().stdout, "as the store tells");
    assert_eq!(cleaned, json(home.run(&words(clean))));
}

#[test]
fn a_server_is_named_by_the_settings_and_must_be_one() {
    let server = Server::new();
    model(&server, "curve", 1);
    // A machine without any data.
    let named = |address: &str| {
        let home = Home::new();
        home.append_settings(&format!("[client]\nserver = \"{address}\"\n"));
        home
    };
    let home = named(&server.of_all());
    let ran = home.run(&words("promote --model curve")).succeeded();
    assert!(
        ran.stdout.contains("version 1") && ran.stderr.contains("asking http://127.0.0.1"),
        "{}",
        ran.stderr
    );
    assert!(!home.path("data").exists());
    let history = "history --model curve";
    // The key decides the tenant, and a folder that is named is meant.
    home.run(&words(&format!("{history} --tenant other"))).failed_with("--tenant: is not taken");
    home.run(&words(&format!("{history} --data-dir data"))).failed_with("there are no data");
    let at = |address: &str| format!("{history} --server {address}");
    home.run(&words(&format!("{} --data-dir data", at(&server.of_all()))))
        .failed_with("--data-dir: is not taken");
    let away = named("http://127.0.0.1:1");
    away.run(&words(history)).failed_with("http://127.0.0.1:1/ does not answer");
    away.run(&words(&at(&server.of_all()))).succeeded();
    away.run(&words(&at("localhost:8080"))).failed_with("--server: is the address");
    named("localhost:8080").run(&words(history)).failed_with("client.server: is the address");
    let stranger = Home::new().environment("API_KEY", "wrong-key-of-length");
    stranger.run(&words(&at(&server.of_all()))).failed_with("401");
    let nobody = Home::new().environment("API_KEY", "");
    nobody.run(&words(&at(&server.of_all()))).failed_with("auth.api_key: is needed to ask");
    nobody.run(&words("sample --post http://127.0.0.1:1")).failed_with("auth.api_key: is needed to post");
    // Variables of MLflow and of the platform may name a server that is none of ours, which is not to see the key.
    for name in ["MLFLOW_TRACKING_URI", "ML_MLFLOW_TRACKING_URI"] {
        let home = Home::new().environment(name, server.of_all());
        home.run(&words(history)).failed_with("there are no data");
    }
}

#[test]
fn canaries_of_recommendations_are_begun_and_ended_by_the_server() {
    let server = Server::new();
    for id in ["a", "b"] {
        server.create("/api/v1/entities", &json!({"entity_id": id, "attributes": {"kind": "k"}}));
    }
    let none = ask(&server, "rollout status").succeeded();
    assert!(none.stdout.is_empty() && none.stderr.contains("there is no canary"), "{}", none.stderr);
    let begin = "rollout canary recommend popular --name one --steps 10,25,50,100";
    assert_eq!(ask(&server, begin).succeeded().stdout, "one  running  10 %\n");
    ask(&server, begin).failed_with("is running");
    let foreign = "rollout canary recommend popular --shadow";
    ask(&server, foreign).failed_with("`rollout canary models/NAME` alone");
    let status = ask(&server, "rollout status").succeeded().stdout;
    let nothing = "now  loss: candidate 0.0000 of 0, control 0.0000 of 0; difference ";
    assert!(status.contains(nothing), "{status}");
    let back = ask(&server, "rollout rollback --reason enough").succeeded().stdout;
    assert!(back.starts_with("one  rolled back  0 %") && back.contains("enough"), "{back}");
    let home = server.stop();
    let none = Server::new().stop().run(&words("rollout status")).succeeded();
    assert!(none.stdout.is_empty() && none.stderr.contains("there is no canary"), "{}", none.stderr);
    assert_eq!(back, home.run(&words("rollout status")).succeeded().stdout, "as the store tells");
}

#[cfg(feature = "onnx")]
#[test]
fn versions_of_a_model_are_tried_from_the_command_line() {
    use crate::models::registered;
    use crate::serving::{fixture, promote};
    let server = Server::new();
    let (linear, halves) = (fixture("linear.onnx"), fixture("halves.onnx"));
    registered(&server, "churn", &[&[("model.onnx", &linear)], &[("model.onnx", &halves)]]);
    promote(&server, "churn", 1);
    let begin = |flags: &str| ask(&server, &format!("rollout canary models/churn 2 {flags}"));
    let of_model = |what: &str| ask(&server, &format!("rollout {what} --model churn"));
    begin("--diversity 0.5").failed_with("--diversity");
    begin("--steps 100").failed_with("steps");
    let begun = begin("--steps 10,100 --outcome answer --slow-ms 500").succeeded().stdout;
    assert_eq!(begun, "churn 1  running  10 %  canary: version 2 beside 1\n");
    begin("--ab").failed_with("end it first");
    let status = of_model("status").succeeded().stdout;
    assert!(status.contains("now  errors: candidate 0.0000 of 0"), "{status}");
    of_model("promote").failed_with("promoted by its gates");
    let back = of_model("rollback --reason enough").succeeded().stdout;
    assert!(back.starts_with("churn 1  rolled back  0 %") && back.contains("enough"), "{back}");
    begin("--shadow").succeeded();
    let inputs = json!({"model_name": "churn", "inputs": [{"x": [1.0, 2.0]}]});
    assert_eq!(server.post("/api/v1/predict", &inputs).0, 200);
    let canary = || server.read("/api/v1/models/churn/canaries/2");
    assert!(crate::support::wait(|| canary()["shadow"]["compared"] == 1), "{}", canary());
    let status = of_model("status").succeeded().stdout;
    assert!(status.contains("1 answers compared"), "{status}");
    of_model("rollback 2").succeeded();
    begin("--ab --outcome answer").succeeded();
    let promoted = of_model("promote").succeeded().stdout;
    assert!(promoted.starts_with("churn 3  complete  100 %  ab: version 2"), "{promoted}");
    assert_eq!(server.read("/api/v1/models/churn")["aliases"]["champion"], 2);
}
