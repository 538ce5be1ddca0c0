//! Registered models served over HTTP: curve forecasters that answer as they do offline, and what no engine reads. ONNX is
//! in `serving_onnx`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{POWER, power};
use crate::models::registered;
use crate::support::{Home, SETTINGS, Server, refused};

pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/fixtures");
    std::fs::read(folder.join(name)).unwrap()
}

pub(crate) fn promote(server: &Server, name: &str, version: u64) {
    let (status, told) = server.post(&format!("/api/v1/models/{name}/promote"), &json!({"version": version}));
    assert_eq!(status, 200, "{told}");
}

#[test]
fn a_curve_forecaster_answers_as_it_does_offline() {
    let home = Home::with_settings(&format!("{SETTINGS}[server]\nmax_request_size_mb = 4\n"));
    let mut table = String::from("date,rate_1,rate_10\n");
    let first: jiff::civil::Date = "2020-01-01".parse().unwrap();
    for day in 0..240_i32 {
        let date = first.checked_add(jiff::Span::new().days(day)).unwrap();
        let wave = f64::from(day * day % 31) / 13.0;
        // On two days there is no quote: empty offline, null and left out when it is asked.
        let ten_years = if day == 230 || day == 236 { String::new() } else { (2.0 + wave / 9.0).to_string() };
        writeln!(table, "{date},{},{ten_years}", 1.0 + wave / 3.0).unwrap();
    }
    home.write("curve.csv", &table);
    let flags = ["--data-path", "curve.csv", "--model-type", "ridge", "--lookback-days", "5"];
    let more = ["--train-until", "2020-07-31", "--register", "curve_forecaster"];
    home.run(&[&["train", "curve-forecaster"], &flags[..], &more].concat()).succeeded();
    home.run(&["promote", "--model", "curve_forecaster", "--version", "1"]).succeeded();
    let evaluated = [
        "--model-path",
        "curve_forecaster.json",
        "--test-data-path",
        "curve.csv",
        "--predictions",
        "told.csv",
    ];
    home.run(&[&["evaluate", "curve-forecaster"], &evaluated[..]].concat()).succeeded();
    let file = std::fs::read(home.path("curve_forecaster.json")).unwrap();
    let offline = market::algorithms::forecasting::curve::CurveForecaster::from_json(
        std::str::from_utf8(&file).unwrap(),
    )
    .unwrap();
    let panel = market::algorithms::forecasting::Panel::parse(&table, offline.curve_type).unwrap();
    let expected = offline.predict(&panel, panel.dates.len() - 1).unwrap().values;
    let told = std::fs::read_to_string(home.path("told.csv")).unwrap();
    let server = home.serve();
    let version = &server.read("/api/v1/models/curve_forecaster/versions")["versions"][0];
    assert_eq!(version["lineage"]["data"].as_array().map(Vec::len), Some(1), "{version}");
    let rows: Vec<Value> = table
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |at: usize| fields[at].parse::<f64>().unwrap();
            match fields[2] {
                "" if fields[0] == "2020-08-18" => {
                    json!({"date": fields[0], "rate_1": number(1), "rate_10": null})
                }
                "" => json!({"date": fields[0], "rate_1": number(1)}),
                _ => json!({"date": fields[0], "rate_1": number(1), "rate_10": number(2)}),
            }
        })
        .collect();
    let (status, answer) = server.post("/api/v1/predict", &json!({"inputs": rows, "keep": true}));
    assert_eq!(status, 200, "{answer}");
    let bits = |name: &str| -> Vec<u64> {
        let days = answer["predictions"].as_array().unwrap().iter();
        days.map(|day| day[name].as_f64().unwrap().to_bits()).collect()
    };
    for (number, name) in ["rate_1", "rate_10"].into_iter().enumerate() {
        let offline: Vec<u64> = expected.iter().map(|step| step[number].to_bits()).collect();
        assert_eq!(bits(name), offline, "{name}");
        // What `evaluate` wrote of the last day is the same.
        let written = told.lines().filter(|line| line.starts_with("2020-08-27,"));
        let written =
            written.map(|line| line.split(',').nth(2 + number).unwrap().parse::<f64>().unwrap().to_bits());
        assert_eq!(written.collect::<Vec<_>>(), offline, "{name}");
    }
    assert!(answer["predictions"][0]["rate_1.half_width_80"].is_number(), "{answer}");
    assert!(answer["predictions"][4]["rate_10.quantile_95"].is_number(), "{answer}");
    is_joined_with_its_truth(&server, &answer);
    let drift = server.read("/api/v1/models/curve_forecaster/drift");
    assert_eq!((&drift["reference_features"], &drift["fault"]), (&json!(4), &Value::Null), "{drift}");
    let short = server.post("/api/v1/predict", &json!({"inputs": rows[..3]}));
    refused(&short, 400, "VALIDATION_ERROR", Some("inputs"));
    // A day of its own has no forecast: the whole history is one request.
    let job = server.post("/api/v1/batch", &json!({"inputs": rows}));
    refused(&job, 400, "VALIDATION_ERROR", Some("model_name"));
    assert!(job.1["detail"].as_str().unwrap().contains("/api/v1/predict"), "{}", job.1);
    assert_eq!(server.read("/api/v1/jobs")["jobs"], json!([]));
}

#[test]
fn a_power_forecaster_answers_as_it_does_offline() {
    let home = Home::with_settings(&format!("{SETTINGS}[server]\nmax_request_size_mb = 4\n"));
    let table = power(121, true);
    home.write("power.csv", &table);
    let train = ["train", "power-forecaster", "--data-path", "power.csv", "--train-until", "2020-04-25"];
    home.run(&[&train[..], &POWER, &["--register", "prices"]].concat()).succeeded();
    home.run(&["promote", "--model", "prices", "--version", "1"]).succeeded();
    let evaluate = ["evaluate", "power-forecaster", "--model-path", "power_forecaster.json"];
    home.run(&[&evaluate[..], &["--test-data-path", "power.csv", "--predictions", "told.csv"]].concat())
        .succeeded();
    let told = std::fs::read_to_string(home.path("told.csv")).unwrap();
    let server = home.serve();
    let version = &server.read("/api/v1/models/prices/versions")["versions"][0];
    assert_eq!(version["lineage"]["data"].as_array().map(Vec::len), Some(1), "{version}");
    // The seven days before the last and the last, whose prices stand for nothing.
    let rows: Vec<Value> =
        table.lines().rev().take(8 * 24).collect::<Vec<_>>().into_iter().rev().map(row_of).collect();
    let asked =
        |rows: &[Value]| server.post("/api/v1/predict", &json!({"model_name": "prices", "inputs": rows}));
    let (status, answer) = asked(&rows);
    assert_eq!(status, 200, "{answer}");
    let hours = answer["predictions"].as_array().unwrap();
    let names: Vec<&str> = told.lines().next().unwrap().split(',').skip(2).collect();
    let written: Vec<&str> = told.lines().filter(|line| line.starts_with("2020-05-05,")).collect();
    assert_eq!((hours.len(), written.len(), names.len()), (24, 24, 10));
    for (hour, line) in hours.iter().zip(written) {
        assert_eq!(hour["date"], "2020-05-05");
        for (name, field) in names.iter().zip(line.split(',').skip(2)) {
            let (served, offline) = (hour[*name].as_f64().unwrap(), field.parse::<f64>().unwrap());
            assert_eq!(served.to_bits(), offline.to_bits(), "{name}: {line}");
        }
    }
    let drift = server.read("/api/v1/models/prices/drift");
    assert_eq!((&drift["reference_features"], &drift["fault"]), (&json!(4), &Value::Null), "{drift}");
    refused(&asked(&rows[24..]), 400, "VALIDATION_ERROR", Some("inputs"));
    refused(&asked(&rows[1..]), 400, "VALIDATION_ERROR", Some("inputs.date"));
}

/// A line of a table of prices as a row that is asked.
fn row_of(line: &str) -> Value {
    let fields: Vec<&str> = line.split(',').collect();
    let (date, time) = fields[0].split_once(' ').unwrap();
    let number = |at: usize| fields[at].parse::<f64>().unwrap();
    let hour: i64 = time[..2].parse().unwrap();
    json!({"date": date, "hour": hour, "price": number(1), "forecast_1": number(2), "forecast_2": number(3)})
}

/// The answer was kept; its first day comes true as 1 more than was said.
fn is_joined_with_its_truth(server: &Server, answer: &Value) {
    let path = "/api/v1/models/curve_forecaster/truths";
    let first = answer["predictions"][0]["rate_1"].as_f64().unwrap();
    let id = answer["prediction_id"].as_str().unwrap();
    let truths = json!({"truths": [
        {"prediction_id": id, "values": {"rate_1": [first + 1.0, null, null, null, null]}},
        {"prediction_id": "none", "values": {"rate_1": [1.0]}},
        {"prediction_id": id, "values": {"rate_1": [1.0]}},
    ]});
    let outcomes = |told: &Value| -> Vec<String> {
        let told = told["outcomes"].as_array().unwrap().iter();
        told.map(|one| one["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(outcomes(&server.post(path, &truths).1), ["joined", "unknown", "refused"]);
    assert_eq!(outcomes(&server.post(path, &truths).1), ["duplicate", "unknown", "refused"]);
    refused(&server.post(path, &json!({"truths": []})), 400, "VALIDATION_ERROR", Some("truths"));
    let accuracy = server.read("/api/v1/models/curve_forecaster/accuracy?version=1&days=7");
    let output = &accuracy["outputs"][0];
    assert_eq!((&output["output"], &output["count"]), (&json!("rate_1"), &json!(1)), "{accuracy}");
    assert!((output["mae"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{accuracy}");
    assert!((output["bias"].as_f64().unwrap() + 1.0).abs() < 1e-9, "{accuracy}");
    assert_eq!(output["persistence"]["count"], 1, "{accuracy}");
    assert_eq!(accuracy["days"].as_array().unwrap().len(), 1, "{accuracy}");
}

#[test]
fn features_are_read_as_of_a_time_and_forgotten_with_the_user() {
    let server = Server::new();
    let set = json!({"entity_type": "user", "features": {"age": "number"}, "ttl_secs": 3600});
    assert_eq!(server.put("/api/v1/feature-sets/people", &set).0, 200);
    let row = |minute: u32, age: f64| {
        let event_time = format!("2026-01-31T12:{minute:02}:00Z");
        json!({"entity": "ada", "event_time": event_time, "values": {"age": age}})
    };
    let path = "/api/v1/feature-sets/people/features";
    let told = server.post(path, &json!({"rows": [row(0, 30.0), row(30, 31.0), row(0, 32.0)]})).1;
    assert_eq!(told["outcomes"][2]["outcome"], "conflict", "{told}");
    let found = server.read(&format!("{path}?entity=ada&as_of=2026-01-31T12:29:59Z"));
    assert_eq!(found["values"]["age"]["value"], 30.0, "{found}");
    let asked = |minutes: &[&str]| {
        let row = |minute: &&str| json!({"entity": "ada", "as_of": format!("2026-01-31T{minute}:00Z")});
        json!({"rows": minutes.iter().map(row).collect::<Vec<_>>(), "features": ["age"]})
    };
    let (_, found) = server.post(&format!("{path}/read"), &asked(&["11:59", "12:30", "13:31"]));
    assert_eq!(found["rows"][0]["missing"], json!(["age"]), "{found}");
    assert_eq!(found["rows"][1]["values"]["age"]["value"], 31.0, "{found}");
    assert_eq!(found["rows"][2]["missing"], json!(["age"]), "{found}");
    let unknown = server.post(&format!("{path}/read"), &json!({"rows": [{"entity": ""}]}));
    refused(&unknown, 400, "VALIDATION_ERROR", Some("rows[0].entity"));
    refused(&server.get("/api/v1/feature-sets/none/features?entity=ada"), 404, "NOT_FOUND", None);
    // Nothing else is known of her.
    let (status, outcome) = server.delete("/api/v1/users/ada/data");
    assert_eq!((status, &outcome["removed_elsewhere"]), (200, &json!({"feature_rows": 2})), "{outcome}");
    let entry = &server.read("/api/v1/audit?limit=1")["entries"][0];
    assert_eq!((&entry["action"], &entry["details"]["feature_rows"]), (&json!("person.erased"), &json!("2")));
    assert_eq!(entry["subject"], "without_erasure", "nobody is named: {entry}");
    // Again there is nothing, and nothing to note.
    assert_eq!(server.delete("/api/v1/users/ada/data").1["removed_elsewhere"], json!({"feature_rows": 0}));
    assert_eq!(server.read("/api/v1/audit?limit=1")["entries"][0]["sequence"], entry["sequence"]);
    let found = server.read(&format!("{path}?entity=ada&as_of=2026-01-31T12:30:00Z"));
    assert_eq!(found["missing"], json!(["age"]), "{found}");
}

#[test]
fn what_no_engine_reads_is_refused_clearly() {
    let home = Home::new().allowing("a version of a model cannot be served");
    let server = home.serve();
    registered(&server, "odd", &[&[("weights.h5", b"x")]]);
    refused(&server.get("/v2/models/odd/versions/1"), 409, "MODEL_UNUSABLE", None);
    refused(&server.get("/v2/models/recommender/versions/1"), 404, "NOT_FOUND", None);
}
