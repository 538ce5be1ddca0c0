//! Custom projections from outside: declared in a file, asked over HTTP, the same after a crash, made again by a command.

use serde_json::{Value, json};

use crate::market::{TICKS, tick};
use crate::support::{Home, SETTINGS, Server, encode, metric, refused, wait};

const PATH: &str = "/api/v1/market/projections";
const DECLARED: &str = r#"
[[projections]]
name = "spread"
from = "quote"
key = "event.market + '/' + event.instrument_id"
fields = { spread = "event.ask_price - event.bid_price" }
[[projections]]
name = "last-bar"
from = "bar_5m"
fields = { close = "event.close", revision = "event.revision" }
[[projections]]
name = "odd"
from = "price"
when = "event.price > 1000.0"
fields = { wrong = "event.price + 'x'" }
"#;

fn home(declared: &str) -> Home {
    let home = Home::new();
    home.write("topology.toml", declared);
    let path = home.path("topology.toml");
    home.append_settings(&format!("[market]\ntopology_file = \"{}\"\n", path.display()));
    home
}

fn data(server: &Server, name: &str) -> Vec<Value> {
    let answer = server.read(&format!("{PATH}/{name}"));
    answer["values"].as_array().unwrap().iter().map(|value| value["data"].clone()).collect()
}

fn quote(sequence: u64, minute: u32, bid: f64, ask: f64) -> Value {
    let mut message = tick(sequence, minute, 0, 1.0);
    (message["bid"], message["ask"]) = (json!(bid), json!(ask));
    message
}

#[test]
fn what_is_declared_in_a_file_is_kept_and_answered() {
    let home = home(DECLARED);
    let drawn = home.run(&["stream", "topology"]).succeeded().stdout;
    for part in
        ["custom_bars_5m: decode → evaluate → project → kept", "projection spread: quote by event.market"]
    {
        assert!(drawn.contains(part), "no `{part}` in {drawn}");
    }
    let mut server = home.serve();
    let declared = server.read(PATH);
    assert_eq!(declared["projections"].as_array().unwrap().len(), 3, "{declared}");
    assert_eq!(declared["projections"][0]["fields"]["spread"], "event.ask_price - event.bid_price");
    assert_eq!(server.post(TICKS, &json!([quote(2, 2, 30.0, 31.0), tick(3, 11, 0, 5.0)])).0, 200);
    assert!(wait(|| data(&server, "spread") == [json!({"spread": 1.0})]));
    assert!(wait(|| data(&server, "last-bar") == [json!({"close": 1.0, "revision": 0.0})]));
    // Late for the one, and a revision of the other.
    server.create(TICKS, &quote(1, 1, 10.0, 40.0));
    assert!(wait(|| data(&server, "last-bar") == [json!({"close": 1.0, "revision": 1.0})]));
    let key = encode("MISO/MISO_INDIANA_HUB");
    let told = server.read(&format!("{PATH}/spread/{key}"));
    assert_eq!((&told["data"], &told["key"]), (&json!({"spread": 1.0}), &json!("MISO/MISO_INDIANA_HUB")));
    assert_eq!(told["last_updated"], "2024-01-01T00:02:00Z");
    server.crash_and_restart();
    assert_eq!(server.read(&format!("{PATH}/spread/{key}")), told);
    server.create(TICKS, &quote(4, 12, 20.0, 22.5));
    assert!(wait(|| data(&server, "spread") == [json!({"spread": 2.5})]));

    refused(&server.get(&format!("{PATH}/none")), 404, "NOT_FOUND", Some("name"));
    refused(&server.get(&format!("{PATH}/spread/none")), 404, "NOT_FOUND", Some("key"));
    refused(&server.get(&format!("{PATH}/spread?limit=0")), 400, "VALIDATION_ERROR", Some("limit"));
    refused(&server.get(&format!("{PATH}/spread?cursor=x")), 400, "VALIDATION_ERROR", Some("cursor"));

    // What fails is seen, and the rest goes on.
    server.create(TICKS, &tick(5, 13, 0, 2_000.0));
    let dead =
        || metric(&server, "stage_events_total", &["stage=\"custom_ticks\"", "outcome=\"dead_lettered\""]);
    assert!(wait(|| dead() == 1.0));
    let letters = server.read("/api/v1/market/dead-letters?stage=projection");
    let letter = &letters["dead_letters"][0];
    assert_eq!((&letter["code"], &letter["stage"]), (&json!("EXPRESSION_FAILED"), &json!("custom_ticks")));
    let path = format!("/api/v1/market/dead-letters/{}/replay", letter["id"].as_str().unwrap());
    refused(&server.post(&path, &json!({})), 409, "CONFLICT", None);

    // Declared otherwise it begins anew, and a command makes it of what was.
    server.create(TICKS, &quote(6, 14, 20.0, 23.0));
    assert!(wait(|| data(&server, "spread") == [json!({"spread": 3.0})]));
    let home = server.stop();
    home.write("topology.toml", DECLARED.replace("event.ask_price -", "10.0 * event.ask_price -"));
    let rebuilt = home.run(&["projection", "rebuild"]).succeeded().stdout;
    for part in [
        "0 rows were missing",
        "1 values of projections",
        "1 values of former",
        "1 times an expression failed",
    ] {
        assert!(rebuilt.contains(part), "no `{part}` in {rebuilt}");
    }
    let server = home.serve();
    assert_eq!(data(&server, "spread"), [json!({"spread": 210.0})]);
    // What the stage committed last was made for the former declaration. It delivers it once more, and it does not come back.
    server.create(TICKS, &quote(7, 14, 20.0, 24.0));
    assert!(wait(|| data(&server, "spread") == [json!({"spread": 220.0})]));
    let again = server.stop().run(&["projection", "rebuild"]).succeeded().stdout;
    assert!(!again.contains("former"), "{again}");
}

#[test]
fn a_file_that_cannot_be_used_is_refused_at_the_start() {
    let check = |declared: &str, part: &str| {
        home(declared).run(&["config"]).failed_with(part);
    };
    check("[bars]\n", "unknown field `bars`");
    check(&DECLARED.replace("event.close", "event."), "market.projections.last-bar.fields.close");
    let missing = format!("{SETTINGS}[market]\ntopology_file = \"/none/topology.toml\"\n");
    Home::with_settings(&missing).run(&["serve"]).failed_with("market.topology_file");
    let schema = Home::new().run(&["stream", "topology", "--schema"]).succeeded().stdout;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert!(schema["properties"]["projections"].is_object(), "{schema}");
}
