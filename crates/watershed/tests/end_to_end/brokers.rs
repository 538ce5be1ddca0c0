//! Market data over brokers: a plain client of Kafka writes what the operators' guide has, and answers show it.

use std::time::Duration;

use serde_json::{Value, json};
use store_kafka::rdkafka::ClientConfig;
use store_kafka::rdkafka::consumer::{BaseConsumer, Consumer};
use store_kafka::rdkafka::message::{Header, Message, OwnedHeaders};
use store_kafka::rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use store_kafka::rdkafka::{Offset, TopicPartitionList};

use crate::replicas::engine;
use crate::support::{Home, KEY, SETTINGS, Server, metric, wait};

const RAW: &str = "ingestion.market.ticks.raw.v1";
const START_US: i64 = 1_704_067_200_000_000; // 2024-01-01
const LONG: Duration = Duration::from_secs(20);

/// Topics of its own at the shared brokers, and a plain client that writes to them.
struct Desk {
    home: Option<Home>,
    brokers: String,
    prefix: String,
    client: ThreadedProducer<store_kafka::rdkafka::producer::DefaultProducerContext>,
}

impl Desk {
    fn new(partitions: u32) -> Self {
        let url = engine("WATERSHED_TEST_KAFKA_URL");
        let folder = tempfile::tempdir().unwrap();
        let unique = folder.path().file_name().unwrap().to_str().unwrap().to_lowercase();
        let prefix = format!("e2e-{}-{}.", std::process::id(), unique.trim_start_matches('.'));
        let settings = format!(
            "{SETTINGS}[storage.kafka]\nurl = \"{url}\"\ntopic_prefix = \"{prefix}\"\npartitions = {partitions}\n"
        );
        let brokers = url.trim_start_matches("kafka://").to_owned();
        let client = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
        // A broker beside a whole test run is slow to answer now and then, which is waited for.
        let home = Home::with_settings(&settings).allowing("does not answer");
        let home = home.allowing("a task stopped and is opened again");
        let home = home.allowing("tools that show the lag were not told");
        Self { home: Some(home), brokers, prefix, client }
    }

    /// Serves, and returns when the topic of raw ticks was made.
    fn serve(&mut self) -> Server {
        let server = self.home.take().unwrap().serve();
        let name = format!("{}{RAW}", self.prefix);
        let reader: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        let is_there = || {
            let known = reader.fetch_metadata(Some(&name), LONG).unwrap();
            known.topics().iter().any(|topic| !topic.partitions().is_empty())
        };
        assert!(wait(is_there), "nobody made the topic");
        server
    }

    /// Writes a record as any client does.
    fn write(&self, key: &str, value: &[u8], headers: &[(&str, &str)]) {
        let topic = format!("{}{RAW}", self.prefix);
        let own = headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(*value) })
        });
        let record = BaseRecord::to(&topic).key(key).payload(value).headers(own);
        assert!(self.client.send(record).is_ok());
    }

    fn flush(&self) {
        self.client.flush(LONG).unwrap();
    }

    /// The values of a topic, as a plain reader has them.
    fn values(&self, topic: &str, partitions: i32) -> Vec<Value> {
        let name = format!("{}{topic}", self.prefix);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", "e2e");
        let reader: BaseConsumer = config.create().unwrap();
        let mut found = Vec::new();
        for partition in 0..partitions {
            let (_, end) = reader.fetch_watermarks(&name, partition, LONG).unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&name, partition, Offset::Beginning).unwrap();
            reader.assign(&list).unwrap();
            for _ in 0..end {
                let record = reader.poll(LONG).unwrap().unwrap();
                found.push(serde_json::from_slice(record.payload().unwrap()).unwrap());
            }
        }
        found
    }
}

/// The message of the operators' guide: its flat envelope around the feed's own text.
fn guide(sequence: u64, time_us: i64, price: &Value) -> Value {
    let raw = json!({"price": price, "volume": 10, "bid": 31.1, "ask": 31.3}).to_string();
    json!({
        "event_id": format!("e{sequence}"), "trace_id": "t1", "schema_version": "1.0.0", "tenant_id": "default",
        "producer": "miso@1", "occurred_at": time_us, "ingested_at": time_us + 500_000,
        "payload": {
            "source_system": "miso", "market": "miso", "symbol": "MISO_INDIANA_HUB", "sequence": sequence,
            "received_at": time_us + 400_000, "raw_payload": raw, "encoding": "json", "metadata": {},
            "retry_count": 0, "checksum": null
        }
    })
}

fn plain(sequence: u64, time_us: i64, price: f64) -> Value {
    json!({
        "source_system": "miso", "market": "MISO", "symbol": "MISO_INDIANA_HUB", "sequence": sequence,
        "timestamp": time_us, "price": price, "volume": 10
    })
}

fn price(server: &Server, key: &str) -> Option<f64> {
    let path = "/api/v1/market/prices/MISO_INDIANA_HUB";
    server.send("GET", path, &[("x-api-key", key)], None).json()["price"].as_f64()
}

/// The trades of all bars, and the close of the last one.
fn bars(server: &Server, interval: &str) -> (u64, f64) {
    let path = format!("/api/v1/market/bars/MISO_INDIANA_HUB?interval={interval}&limit=1000");
    let (status, answer) = server.get(&path);
    let bars = answer["bars"].as_array().cloned().unwrap_or_default();
    assert!(status == 200 || status == 404, "{answer}");
    let trades = bars.iter().map(|bar| bar["trade_count"].as_u64().unwrap()).sum();
    (trades, bars.last().map_or(0.0, |bar| bar["close"].as_f64().unwrap()))
}

fn outcome(server: &Server, stage: &str, outcome: &str) -> f64 {
    let labels = [format!("stage=\"{stage}\""), format!("outcome=\"{outcome}\"")];
    metric(server, "stage_events_total", &labels.each_ref().map(String::as_str))
}

fn conserved(server: &Server) {
    for stage in ["normalization", "enrichment", "aggregation", "projection"] {
        let of = |name| outcome(server, stage, name);
        let out = || ["passed", "duplicate", "dead_lettered", "filtered"].map(of).iter().sum::<f64>();
        assert!(wait(|| of("taken") == out()), "{stage}: {} is not {}", of("taken"), out());
    }
}

fn minute(minute: i64) -> i64 {
    START_US + minute * 60_000_000
}

/// Five ticks in every form, one of them twice; one of another tenant; and nine records that are none.
fn write_everything(desk: &Desk) {
    let key = "MISO_INDIANA_HUB";
    // Every form of a message, and one of them twice.
    desk.write(key, guide(1, minute(1), &json!(31.2)).to_string().as_bytes(), &[]);
    desk.write(key, guide(1, minute(1), &json!(31.2)).to_string().as_bytes(), &[]);
    let a = json!({
        "envelope": {"event_type": "tick", "event_id": "e2", "tenant_id": "default", "source": "miso", "version": "1"},
        "payload": plain(2, minute(2), -36.98)
    });
    desk.write(key, a.to_string().as_bytes(), &[]);
    desk.write(key, plain(3, minute(3), 30.0).to_string().as_bytes(), &[]);
    let event = json!({
        "specversion": "1.0", "id": "c4", "source": "/feed", "type": "market.tick.raw.v1",
        "data": plain(4, minute(4), 29.0)
    });
    desk.write(key, event.to_string().as_bytes(), &[("content-type", "application/cloudevents+json")]);
    let attributes =
        [("ce_specversion", "1.0"), ("ce_id", "c5"), ("ce_source", "/feed"), ("ce_type", "tick")];
    desk.write(key, plain(5, minute(11), 28.0).to_string().as_bytes(), &attributes);
    // Another tenant's, and what nobody may say.
    let mut foreign = guide(1, minute(1), &json!(99.0));
    foreign["tenant_id"] = json!("other");
    desk.write(key, foreign.to_string().as_bytes(), &[]);
    foreign["tenant_id"] = json!("_system");
    desk.write(key, foreign.to_string().as_bytes(), &[]);
    let idle = json!({
        "specversion": "1.0", "id": "p", "source": "/watershed/stream", "type": "stream.punctuation",
        "data": {"partition": 0, "now_ms": 4_000_000_000_000_i64, "is_idle": true}
    });
    desk.write(key, idle.to_string().as_bytes(), &[]);
    // Poison, and a producer that is years ahead.
    for poison in [&b"\xff\xfe"[..], b"{\"price\":", b"", b"[1]", b"17"] {
        desk.write(key, poison, &[]);
    }
    desk.write(key, guide(6, minute(1), &json!("NaN")).to_string().as_bytes(), &[]);
    desk.write(key, plain(7, minute(20 * 525_600), 1.0).to_string().as_bytes(), &[]);
    desk.flush();
}

/// The guide's names, and CloudEvents in them.
fn others_read(desk: &Desk) {
    let told = desk.values("normalized.market.ticks.v1", 2);
    assert_eq!(told.len(), 7, "{told:?}");
    let first = told.iter().find(|event| event["data"]["payload"]["source_event_id"] == "e1").unwrap();
    assert_eq!((&first["specversion"], &first["type"]), (&json!("1.0"), &json!("market.tick.normalized.v1")));
    assert_eq!(
        (&first["data"]["payload"]["market"], &first["data"]["trace_id"]),
        (&json!("MISO"), &json!("t1"))
    );
    assert!(wait(|| desk.values("served.market.latest_prices.v1", 2).len() == 7));
}

#[test]
fn ticks_of_a_plain_client_become_prices_and_bars() {
    let mut desk = Desk::new(2);
    let made = desk.home.as_ref().unwrap().run(&[
        "keys",
        "create",
        "--name",
        "other",
        "--permission",
        "admin",
        "--tenant",
        "other",
    ]);
    let other = made.succeeded().stdout.trim().to_owned();
    let server = desk.serve();
    write_everything(&desk);
    assert!(wait(|| price(&server, KEY) == Some(28.0)), "{:?}", price(&server, KEY));
    for interval in ["5m", "1h", "1d"] {
        assert!(wait(|| bars(&server, interval) == (5, 28.0)), "{interval}: {:?}", bars(&server, interval));
    }
    assert!(wait(|| price(&server, &other) == Some(99.0)));
    // Through the server they go to the same topic.
    server.create("/api/v1/market/ticks", &plain(8, minute(12), 27.0));
    assert!(wait(|| price(&server, KEY) == Some(27.0)));
    let letters = || server.read("/api/v1/market/dead-letters")["dead_letters"].as_array().unwrap().clone();
    let told = |letters: &[Value]| {
        let mut codes: Vec<String> =
            letters.iter().map(|letter| letter["code"].as_str().unwrap().to_owned()).collect();
        codes.sort();
        codes
    };
    assert!(wait(|| letters().len() == 8), "{:?}", told(&letters()));
    let codes = told(&letters());
    let count = |code: &str| codes.iter().filter(|found| *found == code).count();
    assert_eq!(
        (count("FROM_THE_FUTURE"), count("NOT_FINITE"), count("TENANT_MISMATCH")),
        (1, 1, 0),
        "{codes:?}"
    );
    conserved(&server);
    assert_eq!(outcome(&server, "normalization", "duplicate"), 1.0);
    assert_eq!(outcome(&server, "normalization", "dead_lettered"), 9.0);

    others_read(&desk);
    let letter = letters().iter().find(|letter| letter["code"] == "NOT_FINITE").unwrap()["id"].clone();
    let letter = letter.as_str().unwrap().to_owned();
    let home = server.stop();
    let lag = home.run(&["stream", "lag"]).succeeded().stdout;
    let stages: Vec<&str> = lag.lines().skip(1).collect();
    assert!(stages.len() == 8 && stages.iter().all(|line| line.ends_with(" 0")), "{lag}");
    assert!(home.run(&["dlq", "show", &letter]).succeeded().stdout.contains("NaN"));
    assert!(home.run(&["dlq", "replay", &letter]).succeeded().stdout.starts_with(&letter));
    assert!(home.run(&["projection", "rebuild"]).succeeded().stdout.starts_with("0 rows"));
    let lag = home.run(&["stream", "lag"]).succeeded().stdout;
    assert!(lag.lines().any(|line| line.starts_with("normalization") && line.ends_with(" 1")), "{lag}");
    let server = home.serve();
    // It is as bad as it was, and all that this process took.
    assert!(wait(|| outcome(&server, "normalization", "dead_lettered") == 1.0));
    assert_eq!(price(&server, KEY), Some(27.0));
}

#[test]
fn a_crash_over_brokers_loses_nothing_and_doubles_nothing() {
    // A commit for every few ticks, so that many are cut short.
    let small = "[market.stages]\nbatch_events = 32\n[market.bars]\nwatermark_delay_seconds = 1\n";
    let mut desk = Desk::new(1);
    desk.home.as_ref().unwrap().append_settings(small);
    let mut server = desk.serve();
    let (rounds, each) = (8_u64, 200_u64);
    for round in 0..rounds {
        for number in round * each..(round + 1) * each {
            // A tick each second of event time.
            let time_us = START_US + number as i64 * 1_000_000;
            let tick = plain(number + 1, time_us, number as f64);
            desk.write("MISO_INDIANA_HUB", tick.to_string().as_bytes(), &[]);
        }
        desk.flush();
        // In the middle of it, and at different places each time.
        std::thread::sleep(Duration::from_millis(100 * round));
        server.crash_and_restart();
    }
    let all = rounds * each;
    assert!(wait(|| price(&server, KEY) == Some((all - 1) as f64)), "{:?}", price(&server, KEY));
    for interval in ["5m", "1h", "1d"] {
        let expected = (all, (all - 1) as f64);
        assert!(wait(|| bars(&server, interval) == expected), "{interval}: {:?}", bars(&server, interval));
    }
    conserved(&server);
    // They count what this process did: what an earlier one committed is not done again.
    for stage in ["normalization", "enrichment", "aggregation", "projection"] {
        let passed = outcome(&server, stage, "passed");
        assert!(passed <= all as f64, "{stage}: {passed}");
    }
    assert_eq!(outcome(&server, "aggregation", "dead_lettered"), 0.0);
    // The view is kept with what it took, and goes on without taking anything twice.
    server.restart();
    assert_eq!(bars(&server, "1d"), (all, (all - 1) as f64));
}
