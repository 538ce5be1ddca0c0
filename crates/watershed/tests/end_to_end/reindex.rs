//! A change of the model of meanings in a process that is killed in it.

use serde_json::{Value, json};

use crate::support::{Home, SETTINGS, Server, wait};

const ENCODER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder");
const ITEMS: usize = 6_000;

fn settings(search: &str) -> String {
    format!("{SETTINGS}\n[search]\n{search}\n")
}

/// The newest job.
fn job(server: &Server) -> Value {
    server.read("/api/v1/embed/jobs")[0].clone()
}

fn version_that_answers(server: &Server) -> (Value, Value) {
    let (status, answer) = server.post("/api/v1/search", &json!({"query": "gas"}));
    assert_eq!(status, 200, "{answer}");
    (answer["model_version"].clone(), answer["fallback"].clone())
}

#[test]
fn a_reindex_that_is_killed_goes_on_where_it_stood() {
    let server = Home::with_settings(&settings(&format!("model_path = '{ENCODER}'"))).serve();
    for some in (0..ITEMS).collect::<Vec<_>>().chunks(1_000) {
        let item =
            |id: &usize| json!({"entity_type": "note", "entity_id": id.to_string(), "text": "gas rises"});
        let items: Vec<Value> = some.iter().map(item).collect();
        let (status, answer) = server.post("/api/v1/search/index/bulk", &json!({"items": items}));
        assert_eq!(status, 200, "{answer}");
    }
    assert!(
        wait(|| job(&server)["status"] == "serving" && job(&server)["progress"] == 1.0),
        "{}",
        job(&server)
    );
    let before = job(&server);
    // The same weights that read less of a text are another model.
    let home = server.stop();
    let other = home.path("other");
    std::fs::create_dir(&other).unwrap();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(format!("{ENCODER}/{name}"), other.join(name)).unwrap();
    }
    std::fs::write(other.join("sentence_bert_config.json"), r#"{"max_seq_length": 100}"#).unwrap();
    home.write(
        "watershed.toml",
        settings(&format!("model_path = 'other'\nprevious_model_path = '{ENCODER}'")),
    );
    let mut server = home.serve();
    let is_half_way = |job: &Value| {
        job["model_version"] != before["model_version"]
            && job["progress"].as_f64().is_some_and(|part| part > 0.0)
    };
    assert!(wait(|| is_half_way(&job(&server))));
    let seen = job(&server);
    let answering = version_that_answers(&server);
    server.crash_and_restart();
    let after = job(&server);
    assert_eq!(after["job_id"], seen["job_id"], "no other job was begun");
    assert!(after["progress"].as_f64() >= seen["progress"].as_f64(), "{seen} {after}");
    assert!(seen["progress"].as_f64() < Some(1.0), "it was killed in the middle: {seen}");
    assert_eq!(answering, (before["model_version"].clone(), Value::Null), "the model before answered");
    assert!(wait(|| job(&server)["status"] == "serving"), "{}", job(&server));
    assert!(wait(|| version_that_answers(&server) == (seen["model_version"].clone(), Value::Null)));
    let stats = server.read("/api/v1/search/index/stats");
    assert_eq!((&stats["items"], &stats["vectors"]), (&json!(ITEMS), &json!(ITEMS)), "{stats}");
    assert_eq!(
        server.read(&format!("/api/v1/embed/jobs/{}", before["job_id"].as_str().unwrap()))["status"],
        "superseded"
    );
}
