//! Registered models served over HTTP: curve forecasters that answer as they do offline, and what no engine reads. ONNX is
//! in `serving_onnx`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

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
    for day in 0..120_i32 {
        let date = first.checked_add(jiff::Span::new().days(day)).unwrap();
        let wave = f64::from(day * day % 31) / 13.0;
        writeln!(table, "{date},{},{}", 1.0 + wave / 3.0, 2.0 + wave / 9.0).unwrap();
    }
    home.write("curve.csv", &table);
    let flags = ["--data-path", "curve.csv", "--model-type", "ridge", "--lookback-days", "5"];
    home.run(&[&["train", "curve-forecaster"], &flags[..]].concat()).succeeded();
    let file = std::fs::read(home.path("curve_forecaster.json")).unwrap();
    let offline = market::algorithms::forecasting::curve::CurveForecaster::from_json(
        std::str::from_utf8(&file).unwrap(),
    )
    .unwrap();
    let panel = market::algorithms::forecasting::Panel::parse(&table, offline.curve_type).unwrap();
    let expected = offline.predict(&panel, panel.dates.len() - 1).unwrap().values;
    let server = home.serve();
    registered(&server, "curve_forecaster", &[&[("curve_forecaster.json", &file)]]);
    promote(&server, "curve_forecaster", 1);
    let rows: Vec<Value> = table
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |at: usize| fields[at].parse::<f64>().unwrap();
            json!({"date": fields[0], "rate_1": number(1), "rate_10": number(2)})
        })
        .collect();
    let (status, answer) = server.post("/api/v1/predict", &json!({"inputs": rows}));
    assert_eq!(status, 200, "{answer}");
    let bits = |name: &str| -> Vec<u64> {
        let days = answer["predictions"].as_array().unwrap().iter();
        days.map(|day| day[name].as_f64().unwrap().to_bits()).collect()
    };
    for (number, name) in ["rate_1", "rate_10"].into_iter().enumerate() {
        let offline: Vec<u64> = expected.iter().map(|step| step[number].to_bits()).collect();
        assert_eq!(bits(name), offline, "{name}");
    }
    assert!(answer["predictions"][0]["rate_1.half_width_80"].is_number(), "{answer}");
    let short = server.post("/api/v1/predict", &json!({"inputs": rows[..3]}));
    refused(&short, 400, "VALIDATION_ERROR", Some("inputs"));
}

#[test]
fn what_no_engine_reads_is_refused_clearly() {
    let home = Home::new().allowing("a version of a model cannot be served");
    let server = home.serve();
    registered(&server, "odd", &[&[("weights.h5", b"x")]]);
    refused(&server.get("/v2/models/odd/versions/1"), 409, "MODEL_UNUSABLE", None);
    refused(&server.get("/v2/models/recommender/versions/1"), 404, "NOT_FOUND", None);
}
