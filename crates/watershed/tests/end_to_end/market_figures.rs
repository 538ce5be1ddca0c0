//! Figures made of market data, from outside: spreads of quotes, and rolling statistics over bars.

use serde_json::{Value, json};

use crate::market::{TICKS, bars, price, tick};
use crate::support::{Server, refused, wait};

#[test]
fn quotes_make_spreads_without_a_trade() {
    let server = Server::new();
    let path = "/api/v1/market/spreads/MISO_INDIANA_HUB";
    refused(&server.get(path), 404, "INSTRUMENT_NOT_FOUND", Some("instrument"));
    let quoted = |sequence: u64, minute: u32, bid: f64, ask: f64| {
        let mut quote = tick(sequence, minute, 0, Value::Null);
        let fields = quote.as_object_mut().unwrap();
        fields.remove("price");
        fields.extend([("bid".to_owned(), json!(bid)), ("ask".to_owned(), json!(ask))]);
        quote
    };
    server.create(TICKS, &tick(1, 1, 0, 31.0));
    assert!(wait(|| price(&server) == Some(31.0)));
    refused(&server.get(path), 404, "QUOTE_NOT_FOUND", Some("instrument"));
    let quotes = json!([
        quoted(2, 1, 31.1, 31.3),
        quoted(3, 2, 31.0, 31.4),
        quoted(4, 3, 31.5, 31.4),
        quoted(5, 4, 31.2, 31.2)
    ]);
    assert_eq!(server.post(TICKS, &quotes).0, 200);
    let spread = || server.get(path).1;
    assert!(wait(|| spread()["sequence"] == 5));
    let locked = spread();
    assert_eq!((&locked["spread"], &locked["mid_price"]), (&json!(0.0), &json!(31.2)));
    assert!(locked["quality_flags"].as_array().unwrap().contains(&json!("locked")), "{locked}");
    let sound = server.read(&format!("{path}?as_of=2024-01-01T00:01:30Z"));
    assert_eq!((&sound["spread"], &sound["currency"]), (&json!(0.2), &json!("USD")));
    assert!((sound["spread_basis_points"].as_f64().unwrap() - 64.102_564).abs() < 1e-6, "{sound}");
    refused(
        &server.get(&format!("{path}?as_of=2023-01-01T00:00:00Z")),
        404,
        "QUOTE_NOT_FOUND",
        Some("instrument"),
    );
    server.create(TICKS, &quoted(6, 6, -5.0, -4.0));
    assert!(wait(|| spread()["sequence"] == 6));
    let negative = spread();
    assert_eq!((&negative["spread"], &negative["spread_basis_points"]), (&json!(1.0), &Value::Null));
    assert_eq!((price(&server), bars(&server, "interval=1d")[0].2), (Some(31.0), 1), "quotes are no trades");

    let history = server.read(&format!("{path}/history?interval=5m&limit=1"));
    let first = &history["spreads"][0];
    assert_eq!(history["next_from"], "2024-01-01T00:05:00Z");
    let counts = ["quote_count", "crossed_count", "locked_count", "one_sided_count"];
    assert_eq!(counts.map(|name| first[name].as_u64().unwrap()), [2, 1, 1, 0], "{first}");
    let figures = ["mean", "minimum", "maximum", "last"].map(|name| first[name].as_f64().unwrap());
    assert_eq!(figures, [0.3, 0.2, 0.4, 0.4]);
    let csv = server.fetch(&format!("{path}/history?interval=1h&format=csv"));
    assert!(csv.text().starts_with("interval_start,interval_end,market,mean,"), "{}", csv.text());
    assert!(csv.text().contains(",3,1,1,0,0"), "{}", csv.text());
    for (query, field) in
        [("interval=2h", "interval"), ("limit=0", "limit"), ("to=1600-01-01T00:00:00Z", "to")]
    {
        refused(&server.get(&format!("{path}/history?{query}")), 400, "VALIDATION_ERROR", Some(field));
    }
    let arrow = server.fetch("/api/v1/market/export/quotes?format=arrow");
    assert_eq!(arrow.header("content-type"), "application/vnd.apache.arrow.stream");
    let accepted = server.fetch("/api/v1/market/export/quotes?format=ndjson");
    assert_eq!(accepted.text().lines().count(), 5);
}

#[test]
fn bars_have_rolling_statistics() {
    let server = Server::new();
    let path = "/api/v1/market/statistics/MISO_INDIANA_HUB";
    refused(&server.get(path), 404, "INSTRUMENT_NOT_FOUND", Some("instrument"));
    let prices = [1.0, 2.0, 4.0, -4.0, 4.0];
    let ticks: Vec<Value> =
        (0..).zip(prices).map(|(bar, price)| tick(u64::from(bar) + 1, 5 * bar, 0, price)).collect();
    assert_eq!(server.post(TICKS, &json!(ticks)).0, 200);
    assert!(wait(|| price(&server).is_some() && bars(&server, "interval=5m").len() == 5));
    let told = server.read(&format!("{path}?interval=5m&window=3"));
    let lines = told["statistics"].as_array().unwrap();
    assert_eq!((lines.len(), &told["window"]), (5, &json!(3)));
    assert_eq!((&lines[0]["bars"], &lines[0]["standard_deviation"]), (&json!(1), &Value::Null));
    assert_eq!((&lines[2]["volatility"], &lines[2]["change"]), (&json!(0.0), &json!("logarithm")));
    assert_eq!((&lines[3]["minimum"], &lines[3]["change"]), (&json!(-4.0), &json!("difference")));
    assert_eq!(lines[4]["window_start"], "2024-01-01T00:10:00Z");
    let deviation = lines[4]["standard_deviation"].as_f64().unwrap();
    assert!((deviation - (64.0_f64 / 3.0).sqrt()).abs() < 1e-9, "{}", lines[4]);
    // A page begins with a whole window.
    let page = server.read(&format!("{path}?interval=5m&window=3&from=2024-01-01T00:20:00Z"));
    let page = page["statistics"].as_array().unwrap();
    assert_eq!(page.len(), 1);
    for name in ["interval_start", "window_start", "bars", "minimum", "maximum", "close", "change"] {
        assert_eq!(page[0][name], lines[4][name], "{name}");
    }
    let csv = server.fetch(&format!("{path}?window=3&format=csv"));
    assert!(
        csv.text().starts_with("interval_start,interval_end,state,revision,market,close,"),
        "{}",
        csv.text()
    );
    assert_eq!(csv.text().lines().count(), 6);
    let lines = server.fetch(&format!("{path}?window=3&format=ndjson&limit=2"));
    assert_eq!(lines.header("next-from"), "2024-01-01T00:10:00Z");
    for (query, field) in [
        ("window=1", "window"),
        ("window=1001", "window"),
        ("interval=1m", "interval"),
        ("limit=0", "limit"),
        ("from=2024-01-02T00:00:00Z&to=2024-01-01T00:00:00Z", "to"),
    ] {
        refused(&server.get(&format!("{path}?{query}")), 400, "VALIDATION_ERROR", Some(field));
    }
}
