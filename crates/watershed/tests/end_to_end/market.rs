//! Market data from outside: a tick in, prices and bars out, whatever happens in between.

use serde_json::{Value, json};

use crate::support::{Home, KEY, SETTINGS, Server, metric, refused, wait};

const TICKS: &str = "/api/v1/market/ticks";

/// A tick of an hour on the first day of 2024.
fn tick(sequence: u64, minute: u32, second: u32, price: impl Into<Value>) -> Value {
    let time = format!("2024-01-01T{:02}:{:02}:{second:02}Z", minute / 60, minute % 60);
    json!({
        "source_system": "feed", "market": "MISO", "symbol": "MISO_INDIANA_HUB", "sequence": sequence, "timestamp": time,
        "price": price.into(), "volume": 2
    })
}

fn price(server: &Server) -> Option<f64> {
    let (status, answer) = server.get("/api/v1/market/prices/MISO_INDIANA_HUB");
    (status == 200).then(|| answer["price"].as_f64().unwrap())
}

/// Minute, close, trades, revision, state of each bar.
fn bars(server: &Server, query: &str) -> Vec<(String, f64, u64, Option<u64>, String)> {
    let answer = server.read(&format!("/api/v1/market/bars/MISO_INDIANA_HUB?{query}"));
    let line = |bar: &Value| {
        (
            bar["interval_start"].as_str().unwrap()[11..16].to_owned(),
            bar["close"].as_f64().unwrap(),
            bar["trade_count"].as_u64().unwrap(),
            bar["revision"].as_u64(),
            bar["state"].as_str().unwrap().to_owned(),
        )
    };
    answer["bars"].as_array().unwrap().iter().map(line).collect()
}

fn bar(
    minute: &str,
    close: f64,
    trades: u64,
    revision: Option<u64>,
    state: &str,
) -> (String, f64, u64, Option<u64>, String) {
    (minute.to_owned(), close, trades, revision, state.to_owned())
}

#[test]
fn a_tick_becomes_a_price_and_bars() {
    let server = Server::new();
    refused(
        &server.get("/api/v1/market/prices/MISO_INDIANA_HUB"),
        404,
        "INSTRUMENT_NOT_FOUND",
        Some("instrument"),
    );
    server.create(TICKS, &tick(1, 1, 0, 31.2));
    assert!(wait(|| price(&server) == Some(31.2)));
    assert_eq!(bars(&server, "interval=5m"), [bar("00:00", 31.2, 1, None, "open")]);
    for interval in ["1h", "1d"] {
        assert_eq!(bars(&server, &format!("interval={interval}")).len(), 1);
    }
    let told = server.read("/api/v1/market/prices/MISO_INDIANA_HUB");
    assert_eq!(
        (&told["currency"], &told["unit"], &told["market"]),
        (&json!("USD"), &json!("MWh"), &json!("MISO"))
    );

    // Below zero, later, and early enough to close the first bar.
    let (status, taken) = server.post(TICKS, &json!([tick(2, 2, 0, -36.98), tick(3, 11, 0, 30.0)]));
    assert_eq!((status, &taken["stored"]), (200, &json!(2)), "{taken}");
    assert!(wait(|| bars(&server, "interval=5m")[0].3.is_some()));
    let closed = bar("00:00", -36.98, 2, Some(0), "closed");
    assert_eq!(bars(&server, "interval=5m"), [closed, bar("00:10", 30.0, 1, None, "open")]);
    let then = server.read("/api/v1/market/prices/MISO_INDIANA_HUB?as_of=2024-01-01T00:05:00Z");
    assert_eq!((&then["price"], &then["quality_flags"][0]), (&json!(-36.98), &json!("price_negative")));

    // A late one revises the bar and is not the newest price.
    server.create(TICKS, &tick(4, 3, 0, 29.0));
    assert!(wait(|| bars(&server, "interval=5m")[0].3 == Some(1)));
    assert_eq!(bars(&server, "interval=5m")[0], bar("00:00", 29.0, 3, Some(1), "closed"));
    assert_eq!(price(&server), Some(30.0));

    // The same in the guide's envelope is known by its number.
    let again = json!({"envelope": {"event_id": "e", "tenant_id": "default", "source": "x"}, "payload": tick(4, 3, 0, 29.0)});
    server.create(TICKS, &again);
    assert!(wait(|| metric(&server, "normalized_duplicates_total", &[]) == 1.0));
    let lines = format!("{}\n{}\n\n{{\n", tick(5, 12, 0, 28.0), tick(5, 12, 0, 28.0));
    let (status, taken) = server.post_as("application/x-ndjson", TICKS, lines);
    let counts = (&taken["stored"], &taken["duplicates"], &taken["refused"]);
    assert_eq!((status, counts), (207, (&json!(1), &json!(1), &json!(1))), "{taken}");
    let event = json!({"specversion": "1.0", "id": "c1", "source": "/feed", "type": "market.tick.raw.v1", "data": tick(6, 13, 0, 27.0)});
    let (status, taken) = server.post_as("application/cloudevents+json", "/api/v1/events", event.to_string());
    assert_eq!(status, 201, "{taken}");
    assert!(wait(|| price(&server) == Some(27.0)));
    conserved(&server);
}

/// What came into each stage is what went out, was known, was refused or was left out.
fn conserved(server: &Server) {
    for stage in ["normalization", "enrichment", "aggregation", "projection"] {
        let outcome = |outcome: &str| {
            let labels = [format!("stage=\"{stage}\""), format!("outcome=\"{outcome}\"")];
            metric(server, "stage_events_total", &labels.each_ref().map(String::as_str))
        };
        let out = || ["passed", "duplicate", "dead_lettered", "filtered"].map(outcome).iter().sum::<f64>();
        // Each is read on its own, while stages go on.
        assert!(wait(|| outcome("taken") == out()), "{stage}: {} is not {}", outcome("taken"), out());
    }
}

#[test]
fn answers_in_other_forms() {
    let server = Server::new();
    let ticks: Vec<Value> = (0..4).map(|number| tick(number + 1, 10 * number as u32 + 1, 0, 30.5)).collect();
    assert_eq!(server.post(TICKS, &json!(ticks)).0, 200);
    assert!(wait(|| price(&server).is_some() && bars(&server, "interval=5m").len() == 4));
    let path =
        "/api/v1/market/bars/MISO_INDIANA_HUB?from=2024-01-01T00:00:00Z&to=2024-01-01T00:20:00Z&gaps=true";
    let csv = server.fetch(&format!("{path}&format=csv"));
    assert!(csv.header("content-type").starts_with("text/csv"));
    let lines: Vec<&str> = csv.text().lines().collect();
    assert!(lines[0].starts_with("interval_start,interval_end,state,revision,open,"), "{lines:?}");
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[2].contains(",gap,,,,,,,,0,MISO,1"), "{lines:?}");
    let lines = server.fetch(&format!("{path}&format=ndjson&limit=1"));
    assert_eq!(lines.header("next-from"), "2024-01-01T00:10:00Z");
    assert_eq!(bars(&server, "downsample=1")[0].2, 4);
    for (query, field) in [
        ("interval=7m", "interval"),
        ("interval=1m", "interval"),
        ("gaps=true", "from"),
        ("limit=0", "limit"),
        ("from=yesterday", "from"),
        ("from=2024-01-02T00:00:00Z&to=2024-01-01T00:00:00Z", "to"),
    ] {
        let answer = server.get(&format!("/api/v1/market/bars/MISO_INDIANA_HUB?{query}"));
        refused(&answer, 400, "VALIDATION_ERROR", Some(field));
    }
    let listed = server.read("/api/v1/market/prices?market=MISO&commodity=electricity&limit=1");
    assert_eq!(
        (listed["prices"].as_array().unwrap().len(), &listed["next_cursor"]),
        (1, &Value::Null),
        "{listed}"
    );
    assert_eq!(server.read("/api/v1/market/prices?prefix=PJM")["prices"], json!([]));
    let known = server.read("/api/v1/market/instruments/MISO_INDIANA_HUB");
    assert_eq!(
        (&known["commodity"]["label"], &known["method"]),
        (&json!("electricity"), &json!("rules")),
        "{known}"
    );
    assert!(known["confidence"].as_f64().unwrap() > 0.5 && known["region"]["reason"].is_string(), "{known}");
    refused(&server.get("/api/v1/market/instruments/X"), 404, "INSTRUMENT_NOT_FOUND", Some("instrument"));
    assert_eq!(server.read("/api/v1/market/instruments")["instruments"].as_array().unwrap().len(), 1);
    assert!(
        server.read("/api/v1/market/taxonomy")["commodity"]
            .as_array()
            .unwrap()
            .contains(&json!("electricity"))
    );
}

#[test]
fn a_bad_tick_is_a_dead_letter_until_it_is_replayed() {
    let server = Server::new();
    let (status, verdict) = server.post("/api/v1/market/validate", &tick(1, 1, 0, "NaN"));
    assert_eq!(
        (status, &verdict["valid"], &verdict["errors"][0]["code"]),
        (200, &json!(false), &json!("NOT_FINITE"))
    );
    let (_, verdict) = server.post("/api/v1/market/validate", &tick(1, 1, 0, 5.0));
    assert_eq!((&verdict["valid"], &verdict["errors"]), (&json!(true), &json!([])), "{verdict}");
    assert_eq!(verdict["tick"]["payload"]["price"], 5.0);
    server.create(TICKS, &tick(1, 1, 0, "NaN"));
    // A feed that calls its price otherwise.
    let other = json!({"source_system": "feed", "symbol": "MISO_INDIANA_HUB", "timestamp": "2024-01-01T00:02:00Z", "lmp": 17.5});
    server.create(TICKS, &other);
    let letters = || server.read("/api/v1/market/dead-letters")["dead_letters"].as_array().unwrap().clone();
    assert!(wait(|| letters().len() == 2));
    let found = letters();
    assert_eq!((&found[1]["code"], &found[1]["stage"]), (&json!("NOT_FINITE"), &json!("normalization")));
    assert!(found[1]["reason"].as_str().unwrap().contains("price"), "{}", found[1]);
    assert_eq!(found[1]["event"]["data"]["price"], "NaN");
    let id = found[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.read(&format!("/api/v1/market/dead-letters/{id}"))["code"], "MISSING");
    let first = server.read("/api/v1/market/dead-letters?limit=1");
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(
        server.read(&format!("/api/v1/market/dead-letters?cursor={cursor}"))["dead_letters"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    refused(&server.get("/api/v1/market/dead-letters?stage=none"), 400, "VALIDATION_ERROR", Some("stage"));
    refused(&server.get("/api/v1/market/dead-letters/none"), 404, "NOT_FOUND", None);

    let home = server.stop();
    let listed = home.run(&["dlq", "list", "--count", "1"]).succeeded().stdout;
    assert!(
        listed.starts_with(&format!("{id}  2024-01-01T00:02:00Z  MISSING  ")) || listed.contains("MISSING"),
        "{listed}"
    );
    assert!(home.run(&["dlq", "show", &id]).succeeded().stdout.contains("\"lmp\":17.5"));
    home.run(&["dlq", "show", "none"]).failed_with("there is no dead letter");
    let lag = home.run(&["stream", "lag"]).succeeded().stdout;
    assert!(lag.lines().any(|line| line.starts_with("normalization") && line.ends_with(" 0")), "{lag}");
    assert!(home.run(&["projection", "rebuild"]).succeeded().stdout.starts_with("0 rows"));
    home.append_settings("[market.mapping]\nprice = [\"price\", \"lmp\"]\n");
    let server = home.serve();
    let (status, replayed) = server.post(&format!("/api/v1/market/dead-letters/{id}/replay"), &json!({}));
    assert_eq!((status, &replayed["status"]), (202, &json!("stored")), "{replayed}");
    assert!(wait(|| price(&server) == Some(17.5)));
    conserved(&server);
}

#[test]
fn a_crash_loses_nothing_and_doubles_nothing() {
    let mut server = Server::new();
    let (batches, each) = (8_u64, 50_u64);
    for batch in 0..batches {
        let ticks: Vec<Value> = (0..each)
            .map(|number| {
                let sequence = batch * each + number;
                tick(sequence + 1, (sequence / 10) as u32, (sequence % 10) as u32 * 6, sequence as f64)
            })
            .collect();
        let (status, taken) = server.post(TICKS, &json!(ticks));
        assert_eq!((status, &taken["stored"]), (200, &json!(each)), "{taken}");
        match batch % 3 {
            0 => server.crash_and_restart(),
            1 => server.restart(),
            _ => {}
        }
    }
    let all = batches * each;
    assert!(wait(|| price(&server) == Some((all - 1) as f64)));
    let whole =
        |interval: &str| bars(&server, &format!("interval={interval}")).iter().map(|bar| bar.2).sum::<u64>();
    for interval in ["5m", "1h", "1d"] {
        assert!(wait(|| whole(interval) == all), "{interval}: {} of {all}", whole(interval));
    }
    let found = bars(&server, "interval=5m");
    assert!(found.iter().all(|bar| bar.2 == each && bar.3.is_none_or(|revision| revision == 0)), "{found:?}");
    conserved(&server);
}

#[test]
fn the_stages_are_drawn() {
    let home = Home::new();
    let drawn = home.run(&["stream", "topology"]).succeeded().stdout;
    for part in [
        "normalization: normalise → deduplicate",
        "▶ aggregated.market.bars.1d.v1",
        "processing.deadletter.market.ticks.v1",
    ] {
        assert!(drawn.contains(part), "no `{part}` in {drawn}");
    }
    assert!(!home.path("data").exists(), "a drawing needs no folder");
}

#[test]
fn tenants_see_their_own() {
    let home = Home::new();
    let made = home.run(&["keys", "create", "--name", "other", "--permission", "admin", "--tenant", "other"]);
    let other = made.succeeded().stdout.trim().to_owned();
    let server = home.serve();
    server.create(TICKS, &tick(1, 1, 0, 31.2));
    let ask = |key: &str, method: &str, path: &str, body: Option<&Value>| {
        let headers = [("x-api-key", key), ("content-type", "application/json")];
        let text = body.map(Value::to_string);
        let reply = server.send(method, path, &headers, text.as_deref().map(str::as_bytes));
        (reply.status, reply.json())
    };
    assert_eq!(ask(&other, "POST", TICKS, Some(&tick(1, 1, 0, 99.0))).0, 201);
    let path = "/api/v1/market/prices/MISO_INDIANA_HUB";
    assert!(wait(|| price(&server) == Some(31.2) && ask(&other, "GET", path, None).1["price"] == 99.0));
    let bars = ask(&other, "GET", "/api/v1/market/bars/MISO_INDIANA_HUB?interval=1d", None).1;
    assert_eq!(
        (&bars["bars"][0]["close"], &bars["bars"][0]["trade_count"]),
        (&json!(99.0), &json!(1)),
        "{bars}"
    );
    // The message names a tenant that its sender does not speak for, in either place.
    let mut foreign = tick(2, 1, 0, 1.0);
    foreign["tenant_id"] = json!("default");
    refused(&ask(&other, "POST", TICKS, Some(&foreign)), 403, "TENANT_MISMATCH", Some("tenant_id"));
    assert_eq!(ask(&other, "POST", TICKS, Some(&tick(3, 1, 30, "NaN"))).0, 201);
    let letters = |key: &str| {
        ask(key, "GET", "/api/v1/market/dead-letters", None).1["dead_letters"].as_array().unwrap().len()
    };
    assert!(wait(|| letters(&other) == 1));
    assert_eq!(letters(KEY), 0);
    let id = ask(&other, "GET", "/api/v1/market/dead-letters", None).1["dead_letters"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    refused(
        &server.post(&format!("/api/v1/market/dead-letters/{id}/replay"), &json!({})),
        404,
        "NOT_FOUND",
        None,
    );
}

#[test]
fn without_market_data_nothing_of_it_is_there() {
    let server = Home::with_settings(&format!("{SETTINGS}[market]\nenabled = false\n")).serve();
    assert_eq!(server.get("/api/v1/market/prices").0, 404);
    assert!(server.read("/api/docs")["paths"].get(TICKS).is_none());
    let event = json!({"specversion": "1.0", "id": "c1", "source": "/feed", "type": "market.tick.raw.v1", "data": tick(6, 13, 0, 27.0)});
    let answer = server.post_as("application/cloudevents+json", "/api/v1/events", event.to_string());
    refused(&answer, 400, "UNKNOWN_EVENT_TYPE", Some("type"));
}
