//! What the tests share: the broker that the environment names, brokers of a test's own, events. A test that lacks its
//! broker fails and says how to run it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod broker;

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Entropy, Event, Scope, SystemClock, SystemEntropy, TenantId, Timestamp};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use store::{EventLog, ReadLimit, Secret, Stored, Topic};
use store_kafka::{KafkaStore, Settings};

/// The variable, which `scripts/with-engines` sets.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "this is how a test learns of its broker")]
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `scripts/with-engines --only kafka cargo nextest run -p store-kafka`")
    })
}

/// The address of the shared broker.
#[track_caller]
pub(crate) fn shared() -> String {
    variable("WATERSHED_TEST_KAFKA_URL")
}

/// Settings for `url` with topics that no other test has.
pub(crate) fn settings(url: &str) -> Settings {
    Settings {
        url: Secret::new(url),
        topic_prefix: format!("test-{:016x}.", SystemEntropy::new().next_u64()),
        partitions: 3,
        ..Settings::default()
    }
}

pub(crate) fn open(settings: &Settings) -> KafkaStore {
    KafkaStore::open(settings, Arc::new(SystemClock::new())).unwrap()
}

pub(crate) fn shop() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

pub(crate) fn event(id: u64, key: &str) -> Event {
    Event {
        partition_key: Some(key.to_owned()),
        ..Event::new(shop().tenant(), id.to_string(), "/test", "test.happened", Timestamp::UNIX_EPOCH)
    }
}

/// Everything that a partition holds from `offset` on, when the brokers hand it over.
pub(crate) async fn read(log: &Arc<dyn EventLog>, topic: &Topic, partition: u32, offset: u64) -> Vec<Stored> {
    let all = ReadLimit { events: usize::MAX, bytes: usize::MAX };
    let (mut found, mut failures): (Vec<Stored>, u32) = (Vec::new(), 0);
    while failures < 10 {
        let next = found.last().map_or(offset, |last| last.offset + 1);
        match log.read(topic, partition, next, all).await {
            Err(error) if error.kind().is_retryable() => {
                failures += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            read => match read.unwrap() {
                none if none.is_empty() => return found,
                more => found.extend(more),
            },
        }
    }
    panic!("partition {partition} of {topic} is not handed over");
}

/// Writes a record as somebody else would.
pub(crate) async fn produce(settings: &Settings, topic: &str, partition: i32, value: &[u8]) {
    let brokers = settings.url.expose().trim_start_matches("kafka://");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("message.max.bytes", "80000000").set("linger.ms", "0");
    let producer: FutureProducer = config.create().unwrap();
    let name = format!("{}{topic}", settings.topic_prefix);
    let record = FutureRecord::<[u8], [u8]>::to(&name).partition(partition).payload(value);
    producer.send(record, Duration::from_secs(60)).await.map_err(|(error, _)| error).unwrap();
}

/// Returns when `holds` says so; panics after `limit`.
pub(crate) async fn until(limit: Duration, what: &str, holds: impl AsyncFn() -> bool) {
    let clock = SystemClock::new();
    while !holds().await {
        assert!(clock.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How long a future takes, beside what it gives.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let clock = SystemClock::new();
    let value = future.await;
    (value, clock.elapsed())
}
