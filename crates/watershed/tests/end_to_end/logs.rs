//! The lines that an operator collects: their form, what they say, and what they must not say.

use serde_json::{Value, json};

use crate::support::{Home, KEY, refused};

const SECRET: &str = "a-body-that-nobody-may-log";

/// The log of a server that answered some requests with these variables.
fn log_of(variables: &[(&'static str, &'static str)]) -> String {
    let home = variables.iter().fold(Home::new(), |home, (name, value)| home.environment(name, *value));
    let mut server = home.allowing("request refused").serve();
    for (path, id) in [("/api/v1/recommendations/popular?count=0", "request-1"), ("/ready", "request-2")] {
        server.send("GET", path, &[("x-api-key", KEY), ("x-request-id", id)], None);
    }
    server.create("/api/v1/entities", &json!({"entity_id": "a", "attributes": {"text": SECRET}}));
    let wrong = server.send("GET", "/api/docs", &[("x-api-key", "another-secret-that-is-wrong")], None);
    refused(&(wrong.status, wrong.json()), 401, "AUTH_ERROR", None);
    server.restart();
    let log = server.log();
    for secret in [KEY, SECRET, "another-secret-that-is-wrong"] {
        assert!(!log.contains(secret), "`{secret}` is in the log");
    }
    log
}

fn lines(log: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    log.lines().map(parse).collect()
}

#[test]
fn a_json_line_has_the_same_fields_each_time() {
    let log = log_of(&[("LOG_FORMAT", "json"), ("LOG_LEVEL", "debug")]);
    let lines = lines(&log);
    for line in &lines {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "no `{field}` in {line}");
        }
        assert!(line["timestamp"].as_str().unwrap().parse::<kernel::Timestamp>().is_ok(), "{line}");
    }
    let about = |id: &str| {
        let found = |line: &&Value| line["span"]["request_id"] == id && line["message"] == "request";
        lines.iter().find(found).unwrap_or_else(|| panic!("nothing of {id} in {log}"))
    };
    let line = about("request-1");
    assert_eq!((&line["level"], &line["target"]), (&json!("DEBUG"), &json!("edge::middleware")));
    assert_eq!(line["status"], 400);
    assert!(line["duration_us"].is_u64(), "{line}");
    let span = json!({
        "name": "request", "request_id": "request-1", "method": "GET", "path": "/api/v1/recommendations/popular"
    });
    assert_eq!(line["span"], span);
    assert_eq!(about("request-2")["status"], 200);
    let said = |message: &str| lines.iter().any(|line| line["message"] == message);
    for message in ["serving", "stopping: not ready any more", "finishing the requests in flight", "stopped"]
    {
        assert!(said(message), "no `{message}` in {log}");
    }
}

#[test]
fn levels_and_filters_choose_the_lines() {
    let check = |variables: &[(&'static str, &'static str)], requests: bool, serving: bool| {
        let log = log_of(variables);
        let has = |text: &str| log.lines().any(|line| line.contains(text));
        assert_eq!((has("duration_us"), has("serving")), (requests, serving), "{variables:?}: {log}");
    };
    check(&[], false, true);
    check(&[("LOG_LEVEL", "error")], false, false);
    check(&[("LOG_LEVEL", "debug")], true, true);
    check(&[("LOG_LEVEL", "debug"), ("RUST_LOG", "warn")], false, false);
    // As the guide sets them.
    check(&[("LOG_LEVEL", "info"), ("RUST_LOG", "info,recommendation_api=debug")], true, true);
    let text = log_of(&[("LOG_FORMAT", "text"), ("RUST_LOG", "trace")]);
    assert!(text.contains("request_id=\"request-1\""), "{text}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let check = |name: &'static str, value: &'static str, part: &str| {
        Home::new().environment(name, value).run(&["config"]).failed_with(part);
    };
    check("LOG_FORMAT", "xml", "log.format");
    check("RUST_LOG", "edge=loud", "is not a log filter");
}
