//! Market data with its rows in ClickHouse: a tick in, prices and bars out of it, also after it was away for a minute.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kernel::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::fault::{Fault, Wire};
use crate::replicas::{engine, soon};
use crate::support::{Home, SETTINGS, Server, metric};

const TICKS: &str = "/api/v1/market/ticks";
const BARS: &str = "/api/v1/market/bars/MISO_INDIANA_HUB?interval=5m";

/// A database of its own, dropped at the end.
struct Database(String);

impl Database {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("e2e_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Settings of a server with its rows there and everything else in its folder.
    fn settings(&self, url: &str) -> String {
        let section = format!("[storage.clickhouse]\nurl = \"{url}\"\ndatabase = \"{}\"\n", self.0);
        format!("{SETTINGS}{section}retries = 1\nretention_days = {{ bars_5m = 3650 }}\n")
    }

    /// What ClickHouse itself answers, as text; `{}` is a table of the database.
    fn ask(&self, statement: &str) -> String {
        let url = engine("WATERSHED_TEST_CLICKHOUSE_URL");
        let (account, host) = url.trim_start_matches("http://").split_once('@').unwrap();
        let (user, password) = account.split_once(':').unwrap();
        let request = ureq::post(format!("http://{host}/?default_format=TabSeparated"))
            .header("x-clickhouse-user", user)
            .header("x-clickhouse-key", password);
        let statement = statement.replace("{}", &format!("`{}`.columns", self.0));
        let mut answer = request.send(statement).unwrap();
        answer.body_mut().read_to_string().unwrap().trim_end().to_owned()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.ask(&format!("DROP DATABASE IF EXISTS `{}`", self.0));
    }
}

fn tick(sequence: u64, minute: u32, price: f64) -> Value {
    json!({
        "source_system": "feed", "market": "MISO", "symbol": "MISO_INDIANA_HUB", "sequence": sequence,
        "timestamp": format!("2026-01-01T00:{minute:02}:00Z"), "price": price, "volume": 2
    })
}

fn price(server: &Server) -> Option<f64> {
    let (status, answer) = server.get("/api/v1/market/prices/MISO_INDIANA_HUB");
    (status == 200).then(|| answer["price"].as_f64().unwrap())
}

/// Low, close, trades and revision of each bar of five minutes that is closed.
fn bars(server: &Server) -> Vec<Value> {
    let answer = server.read(BARS);
    let closed = answer["bars"].as_array().unwrap().iter().filter(|bar| !bar["revision"].is_null());
    closed.map(|bar| json!([bar["low"], bar["close"], bar["trade_count"], bar["revision"]])).collect()
}

#[test]
fn a_tick_becomes_rows_of_clickhouse() {
    let database = Database::new();
    let url = engine("WATERSHED_TEST_CLICKHOUSE_URL");
    let home = Home::with_settings(&database.settings(&url));
    home.run(&["serve"]).failed_with("watershed migrate up");
    let misspelt = database.settings(&url).replace("bars_5m", "bars_5min");
    Home::with_settings(&misspelt).run(&["config"]).failed_with("names no table; there are market_prices");
    assert!(home.run(&["migrate", "status"]).succeeded().stdout.contains("pending  clickhouse 0001 columns"));
    assert!(home.run(&["migrate", "plan"]).succeeded().stdout.contains("ReplacingMergeTree(precedence)"));
    assert!(home.run(&["migrate", "up"]).succeeded().stdout.contains("done: clickhouse 0001 columns"));
    assert!(home.run(&["migrate", "up"]).succeeded().stdout.contains("nothing to do"));
    assert!(home.run(&["migrate", "status"]).succeeded().stdout.contains("done     clickhouse 0001 columns"));
    let config = home.run(&["config"]).succeeded().stdout;
    let password = url.split(['@', ':']).nth(2).unwrap();
    assert!(config.contains("clickhouse") && !config.contains(password), "{config}");

    let mut server = home.serve();
    assert_eq!(server.send("GET", "/ready", &[], None).json()["checks"]["columns"], "running");
    server.create(TICKS, &tick(1, 1, 31.2));
    assert_eq!(server.post(TICKS, &json!([tick(2, 2, -36.98), tick(3, 11, 30.0)])).0, 200);
    soon("a closed bar", || bars(&server) == [json!([-36.98, -36.98, 2, 0])]);
    soon("the last price", || price(&server) == Some(30.0));
    // A late one makes a revision of the bar, and is no newer price.
    server.create(TICKS, &tick(4, 3, 29.0));
    soon("a revised bar", || bars(&server) == [json!([-36.98, 29.0, 3, 1])]);
    assert_eq!(price(&server), Some(30.0));

    assert_eq!(database.ask("SELECT count(), uniqExact(tenant) FROM {}_market_prices"), "4\t1");
    let stored = "SELECT revision, v_close_price FROM {}_bars_5m ORDER BY revision FORMAT TSV";
    assert_eq!(database.ask(stored), "0\t-36.98\n1\t29");
    assert_eq!(database.ask("SELECT toYYYYMM(max(time)) FROM {}_market_prices"), "202601");
    assert!(database.ask("SHOW CREATE TABLE {}_bars_5m").contains("toIntervalDay(3651)"));
    for table in ["market_prices", "bars_5m"] {
        database.ask(&format!("OPTIMIZE TABLE {{}}_{table} FINAL"));
    }
    assert_eq!(database.ask(stored), "0\t-36.98\n1\t29", "a merge keeps revisions");
    let of_merged = |server: &Server| (bars(server), price(server));
    assert_eq!(of_merged(&server), (vec![json!([-36.98, 29.0, 3, 1])], Some(30.0)));
    let current =
        "SELECT tenant_id, series, revision, close_price, trade_count FROM {} WHERE open_price > 31";
    let current = database.ask(&current.replace("{}", &format!("`{}`.current_bars_5m", database.0)));
    assert_eq!(current, "default\tMISO_INDIANA_HUB\t1\t29\t3");
    assert!(metric(&server, "clickhouse_statements_done_total", &[]) > 0.0);
    assert_eq!(metric(&server, "clickhouse_circuit_open", &[]), 0.0);
    server.crash_and_restart();
    soon("the same after a crash", || of_merged(&server) == (vec![json!([-36.98, 29.0, 3, 1])], Some(30.0)));

    let home = server.stop();
    assert!(home.run(&["doctor"]).succeeded().stdout.contains("column store    answers"));
    assert!(home.run(&["reconcile"]).succeeded().stdout.contains("market_prices 2026-01-01: 4 rows"));
    let down = home.run(&["migrate", "down", "--to", "0", "--engine", "clickhouse"]).succeeded().stdout;
    assert!(down.contains("taken back: clickhouse 0001 columns"), "{down}");
    home.run(&["migrate", "down", "--to", "0", "--engine", "postgres"]).failed_with("names no database");
}

/// How long it is gone.
const GONE: Duration = Duration::from_secs(60);

/// Gone for a minute while ticks come in: every tick is taken, stages wait with what they have and say so, questions about
/// rows are refused with a reason; when it is back, everything is there once.
#[test]
fn ticks_wait_while_clickhouse_is_away() {
    let database = Database::new();
    let wire = Fault::before(&engine("WATERSHED_TEST_CLICKHOUSE_URL"));
    let complaints = [
        "does not answer",
        "ClickHouse is away",
        "ClickHouse cannot be reached",
        "a task stopped and is opened again",
        "request refused",
        "for now",
    ];
    // The ticks are of long ago: the clock, which closes bars where nothing comes for a while, would make them late. It must not
    // while they wait in the stage before, which they do for longer than this.
    let settings = format!("{}[market.stages]\nidle_after_seconds = 25\n", database.settings(&wire.url));
    let home = Home::with_settings(&settings);
    let home = complaints.into_iter().fold(home, Home::allowing);
    home.run(&["migrate", "up"]).succeeded();
    let server = home.serve();
    let clock = SystemClock::new();
    let began = clock.elapsed();
    server.create(TICKS, &tick(1, 1, 31.2));
    soon("a price", || price(&server) == Some(31.2));
    let columns = || server.send("GET", "/ready", &[], None).json()["checks"]["columns"].clone();
    let stopped = || metric(&server, "stage_failed_partitions", &["stage=\"enrichment\""]);

    wire.set(Wire::Cut);
    let mut sent = 1_u64;
    soon("it is told", || columns() != "running");
    assert_eq!(server.send("GET", "/ready", &[], None).status, 200, "ticks are still taken");
    while clock.elapsed() - began < GONE {
        let minute = |sequence: u64| u32::try_from(sequence / 40).unwrap().min(10);
        let ticks: Vec<Value> =
            (sent + 1..=sent + 20).map(|sequence| tick(sequence, minute(sequence), 30.0)).collect();
        assert_eq!(server.post(TICKS, &Value::Array(ticks)).0, 200);
        sent += 20;
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(metric(&server, "clickhouse_statements_failed_total", &[]) > 0.0);
    assert_eq!(metric(&server, "clickhouse_circuit_open", &[]), 1.0);
    assert_eq!(stopped(), 1.0, "the stage says that it waits");
    assert_eq!(price(&server), Some(31.2), "the newest that the views have");
    let (status, problem) = server.get(BARS);
    assert_eq!((status, problem["code"].as_str()), (503, Some("UNAVAILABLE")), "{problem}");

    wire.set(Wire::Whole);
    soon("it is back", || columns() == "running");
    // The last one closes what is open of the bars before.
    sent += 1;
    server.create(TICKS, &tick(sent, 16, 28.0));
    soon("what waited", || price(&server) == Some(28.0) && stopped() == 0.0);
    let count = || database.ask("SELECT count(), uniqExact(id) FROM {}_market_prices FINAL");
    soon("every tick", || count() == format!("{sent}\t{sent}"));
    let trades = || -> u64 {
        let told = server.read(BARS);
        told["bars"].as_array().unwrap().iter().map(|bar| bar["trade_count"].as_u64().unwrap()).sum()
    };
    soon("every tick in a bar, once", || trades() == sent);
    server.stop();
}
