//! Market data from outside: a tick in, prices and bars out, whatever happens in between.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Home, KEY, SETTINGS, Server, encode, metric, refused, wait};

pub(crate) const TICKS: &str = "/api/v1/market/ticks";

/// A tick of an hour on the first day of 2024.
pub(crate) fn tick(sequence: u64, minute: u32, second: u32, price: impl Into<Value>) -> Value {
    let time = format!("2024-01-01T{:02}:{:02}:{second:02}Z", minute / 60, minute % 60);
    json!({
        "source_system": "feed", "market": "MISO", "symbol": "MISO_INDIANA_HUB", "sequence": sequence, "timestamp": time,
        "price": price.into(), "volume": 2
    })
}

pub(crate) fn price(server: &Server) -> Option<f64> {
    let (status, answer) = server.get("/api/v1/market/prices/MISO_INDIANA_HUB");
    (status == 200).then(|| answer["price"].as_f64().unwrap())
}

/// Minute, close, trades, revision, state of each bar.
pub(crate) fn bars(server: &Server, query: &str) -> Vec<(String, f64, u64, Option<u64>, String)> {
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

#[test]
fn an_operator_makes_rows_again_and_compares_them() {
    let server = Server::new();
    let address = format!("http://{}", server.address());
    let flags = ["sample", "--mode", "malformed", "--count", "100", "--seed", "7"];
    let elsewhere = Home::new();
    let posted = elsewhere.run(&[&flags[..], &["--post", &address]].concat()).succeeded();
    assert!(posted.stdout.starts_with("100 stored, 0 known already, 0 refused"), "{}", posted.stdout);
    let printed = elsewhere.run(&flags).succeeded().stdout;
    assert_eq!(printed, elsewhere.run(&flags).succeeded().stdout, "a seed is a seed");
    assert_eq!(printed.lines().count(), 100);
    elsewhere.run(&["sample", "--post", "nowhere"]).failed_with("--post");
    let passed = ["stage=\"aggregation\"", "outcome=\"passed\""];
    assert!(wait(|| metric(&server, "stage_events_total", &passed) == 80.0));
    let home = server.stop();

    let compared = home.run(&["reconcile"]).succeeded().stdout;
    assert!(compared.contains("market_prices 2024-01-01: 80 rows, sum "), "{compared}");
    let quality = home.run(&["quality", "report", "--by", "day"]).succeeded().stdout;
    assert!(quality.starts_with("2024-01-01T00:00:00Z: 80 prices: "), "{quality}");
    assert!(quality.contains("refused by normalization: "), "{quality}");
    let of_brent = home.run(&["quality", "report", "--instrument", "BRENT_M1", "--market", "ice"]);
    let brent: u64 = of_brent.succeeded().stdout.split([':', ' ']).nth(2).unwrap().parse().unwrap();
    assert!(brent > 0);

    let range = ["backfill", "--from", "2024-01-01", "--to", "2024-02-01"];
    let same = home.run(&range).succeeded().stdout;
    assert!(same.contains("normalization: 100 taken, 80 passed, 0 known, 20 dead letters"), "{same}");
    let line = |equal: u64, changed: u64, would: &str| {
        format!(
            "market_prices: {equal} equal, 0 {would}added, {changed} {would}changed, 0 {would}withdrawn, 0 left to live"
        )
    };
    assert!(same.contains(&line(80, 0, "")), "{same}");
    home.append_settings("[market.instruments.BRENT_M1]\ncurrency = \"EUR\"\n");
    let dry = home.run(&[&range[..], &["--dry-run"]].concat()).succeeded().stdout;
    assert!(dry.contains(&line(80 - brent, brent, "would be ")), "{dry}");
    assert!(dry.contains("changed, revision 1: currency \"unknown\" -> \"EUR\""), "{dry}");
    for instrument in ["HENRY_HUB_M3", "BRENT_M1"] {
        home.run(&[&range[..], &["--instrument", instrument]].concat()).succeeded();
    }
    assert!(home.run(&range).succeeded().stdout.contains(&line(80, 0, "")));
    assert!(!home.path("data/backfill").exists(), "what it worked in is gone");
    home.run(&["reconcile"]).succeeded();
    assert!(home.run(&["projection", "rebuild"]).succeeded().stdout.starts_with("0 rows"));
    home.run(&["backfill", "--from", "2024-02-01", "--to", "2024-01-01"]).failed_with("must be after `from`");
}

#[test]
fn a_feed_is_declared_and_not_compiled() {
    let feed = "[[market.feeds]]\nname = \"nordic\"\nsources = [\"np\"]\nmarket = \"NP\"\ncurrency = \"EUR\"\n\
                [market.feeds.fields]\nsymbol = \"area\"\ntimestamp = \"at\"\n\
                price = { cel = \"payload.cents / 100.0\" }\n";
    let broken = Home::with_settings(&format!("{SETTINGS}{}", feed.replace("payload", "secret")));
    broken.run(&["config"]).failed_with("market.feeds.nordic.fields.price");
    let server = Home::with_settings(&format!("{SETTINGS}{feed}")).serve();
    let message = json!({"source_system": "np", "area": "SE3", "cents": -1250, "at": "2024-01-01T00:00:00Z"});
    let (_, verdict) = server.post("/api/v1/market/validate", &message);
    assert_eq!((&verdict["feed"], &verdict["valid"]), (&json!("nordic"), &json!(true)), "{verdict}");
    let (_, verdict) = server.post("/api/v1/market/validate", &tick(1, 1, 0, 5.0));
    assert_eq!(verdict["feed"], Value::Null);
    server.create(TICKS, &message);
    let told = || server.get("/api/v1/market/prices/SE3");
    assert!(wait(|| told().0 == 200));
    let (_, price) = told();
    assert_eq!(
        (&price["price"], &price["market"], &price["currency"]),
        (&json!(-12.5), &json!("NP"), &json!("EUR"))
    );
}

/// Type, id and data of each event of a stream that ended.
fn told(reply: &str) -> Vec<(String, String, Value)> {
    let field = |event: &str, name: &str| {
        let line = event.lines().find_map(|line| line.strip_prefix(name));
        line.map_or_else(String::new, |text| text.trim().to_owned())
    };
    let events = reply.split("\n\n").filter(|event| event.contains("data:"));
    let read = |event: &str| {
        let data = serde_json::from_str(&field(event, "data:")).unwrap();
        (field(event, "event:"), field(event, "id:"), data)
    };
    events.map(read).collect()
}

#[test]
fn a_stream_goes_on_where_it_ended() {
    let server = Server::new();
    let (status, _) =
        server.post(TICKS, &json!([tick(1, 1, 0, 31.2), tick(2, 2, 0, -36.98), tick(3, 11, 0, 30.0)]));
    assert_eq!(status, 200);
    let path = "/api/v1/market/stream?types=price,bar_5m&symbols=MISO_INDIANA_HUB&follow=false";
    let stream = |from: &str| {
        let reply = server.fetch(&format!("{path}&from={from}"));
        assert_eq!((reply.status, reply.header("content-type")), (200, "text/event-stream"));
        told(reply.text())
    };
    assert!(wait(|| stream("earliest").len() == 5));
    let whole = stream("earliest");
    let kinds: Vec<&str> = whole.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!((kinds.iter().filter(|kind| **kind == "price").count(), kinds[4]), (3, "end"), "{whole:?}");
    assert!(whole.iter().any(|(kind, _, data)| kind == "bar" && data["close"] == -36.98), "{whole:?}");
    for cut in 0..4 {
        assert_eq!(stream(&encode(&whole[cut].1)), whole[cut + 1..], "from {}", whole[cut].1);
    }
    refused(&server.get(&format!("{path}&from=price:9")), 400, "VALIDATION_ERROR", Some("from"));
}

/// The next frame of a WebSocket: its first byte and its payload.
fn frame(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    socket.read_exact(&mut head).unwrap();
    let length = match head[1] {
        126 => {
            let mut bytes = [0; 2];
            socket.read_exact(&mut bytes).unwrap();
            usize::from(u16::from_be_bytes(bytes))
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

/// The next message of a WebSocket that is no sign of life.
fn message(socket: &mut TcpStream) -> Value {
    loop {
        let (kind, payload) = frame(socket);
        if kind == 0x89 {
            continue;
        }
        assert_eq!(kind, 0x81, "{payload:?}");
        let message: Value = serde_json::from_slice(&payload).unwrap();
        if message["type"] != "heartbeat" {
            return message;
        }
        assert!(message["id"].as_str().is_some_and(|id| id.starts_with("price:")), "{message}");
    }
}

/// A WebSocket that offers these protocols, and the head of the answer.
fn websocket(server: &Server, protocols: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!(
        "GET /ws/prices?from=earliest HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: {protocols}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (socket, String::from_utf8(head).unwrap())
}

#[test]
fn a_websocket_tells_prices_to_whoever_proves_a_key() {
    let server = Server::new();
    server.create(TICKS, &tick(1, 1, 0, 31.2));
    for protocols in ["watershed.v1", "watershed.v1, bearer.not-the-key-of-this-server"] {
        assert!(websocket(&server, protocols).1.starts_with("HTTP/1.1 401"), "{protocols}");
    }
    let (mut socket, head) = websocket(&server, &format!("watershed.v1, bearer.{KEY}"));
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("watershed.v1\r\n"), "{head}");
    let told = message(&mut socket);
    assert_eq!((&told["type"], &told["data"]["data"]["price"]), (&json!("price"), &json!(31.2)));
    // What is no request passes, line feeds and all, and is refused as what it is.
    socket.write_all(&[0x81, 0x83, 0, 0, 0, 0, b'\n', b'\n', b'\n']).unwrap();
    let end = message(&mut socket);
    assert_eq!((&end["type"], &end["data"]["code"]), (&json!("end"), &json!("UNEXPECTED_MESSAGE")));
    let (kind, payload) = frame(&mut socket);
    assert_eq!((kind, u16::from_be_bytes([payload[0], payload[1]])), (0x88, 1003));
    drop(socket);
    assert!(wait(|| metric(&server, "market_streams_open", &[]) == 0.0));
    let ended = ["reason=\"UNEXPECTED_MESSAGE\""];
    assert!(metric(&server, "market_streams_ended_total", &ended) == 1.0);

    // A server that stops says so, and does not wait for streams that never end.
    let (mut socket, _) = websocket(&server, &format!("bearer.{KEY}"));
    message(&mut socket);
    server.ask_to_stop();
    let end = message(&mut socket);
    assert_eq!(end["data"]["code"], "SERVER_STOPPING", "{end}");
    assert!(end["data"]["retry_ms"].as_u64().is_some_and(|wait| wait >= 1_000), "{end}");
    drop(socket);
    server.stop();
}

#[test]
fn a_curve_prices_what_was_quoted() {
    let server = Server::new();
    let path = "/api/v1/market/curves/UST";
    refused(&server.get(path), 404, "CURVE_NOT_FOUND", Some("name"));
    // The Treasury's par yields of 2022-12-30.
    let rates =
        [("1m", 4.12), ("3m", 4.42), ("6m", 4.76), ("1y", 4.73), ("2y", 4.41), ("3y", 4.22), ("5y", 3.99)];
    let rates = rates.into_iter().chain([("7y", 3.96), ("10y", 3.88), ("20y", 4.14), ("30y", 3.97)]);
    let quotes: Vec<Value> =
        rates.map(|(tenor, percent)| json!({"tenor": tenor, "rate": percent / 100.0})).collect();
    let set = json!({"as_of": "2022-12-30T00:00:00Z", "quotes": quotes});
    let first = server.create(&format!("{path}/quotes"), &set);
    assert_eq!(server.create(&format!("{path}/quotes"), &set), first);
    for interpolation in ["linear", "flat_forward", "monotone_convex", "pchip"] {
        let curve = server.read(&format!("{path}?interpolation={interpolation}"));
        let points = curve["points"].as_array().unwrap();
        assert_eq!(points.len(), 11);
        for point in points {
            let [par, quoted] = ["par_rate", "quoted_rate"].map(|name| point[name].as_f64().unwrap());
            assert!((par - quoted).abs() < 1e-6, "{interpolation}: {point}");
        }
        assert_eq!(curve["arbitrage"], json!([]), "{interpolation}");
    }
    assert_eq!(server.read(&format!("{path}?horizon=1y"))["points"].as_array().unwrap().len(), 12);
    refused(&server.get(&format!("{path}?as_of=2022-12-29T00:00:00Z")), 404, "CURVE_NOT_FOUND", Some("name"));
    refused(
        &server.post(&format!("{path}/quotes"), &json!({"as_of": "2022-12-30T00:00:00Z", "quotes": []})),
        400,
        "VALIDATION_ERROR",
        Some("quotes"),
    );
}

#[test]
fn topics_are_cut_and_what_was_made_of_them_stays() {
    let server = Server::new();
    let ticks: Vec<Value> = (0..30).map(|number| tick(number.into(), 10 * number, 0, number)).collect();
    server.post(TICKS, &json!(ticks));
    assert!(wait(|| price(&server) == Some(29.0)));
    // The last one is closed by the clock, some time.
    let closed = |server: &Server| {
        let found = bars(server, "interval=5m&limit=100");
        found.into_iter().filter(|bar| bar.3.is_some()).collect::<Vec<_>>()
    };
    let of_first = |server: &Server| closed(server).into_iter().take(29).collect::<Vec<_>>();
    assert!(wait(|| of_first(&server).len() == 29));
    let before = of_first(&server);
    let home = server.stop();
    home.append_settings("[market]\ntopic_retention_days = 30\n");
    let mut server = home.serve();
    assert!(wait(|| server.log().contains("removed from topics of market data")), "the start cuts nothing");
    assert_eq!(of_first(&server), before);
    // Whoever opens the stages again delivers what they committed last.
    server.crash_and_restart();
    assert_eq!(of_first(&server), before);
    server.create(TICKS, &tick(100, 302, 0, 7.0));
    // It closes the thirtieth: a stop in between would leave that one to the next start.
    assert!(wait(|| price(&server) == Some(7.0) && closed(&server).len() >= 30));
    let home = server.stop();
    home.run(&["reconcile"]).succeeded();
    assert!(home.run(&["projection", "rebuild"]).succeeded().stdout.starts_with("0 rows"));
}
