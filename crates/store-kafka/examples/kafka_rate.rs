//! Measures the log on brokers: `kafka_rate URL [EVENTS]` appends events of about 250 bytes in batches of 1,000 from 4
//! tasks and reads them back, then appends 500 one by one and waits for each to be readable. Its topic is left behind.

#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::sync::Arc;
use std::time::Duration;

use kernel::{
    Clock, Entropy, Event, EventDraft, Result, Scope, SystemClock, SystemEntropy, TenantId, Timestamp,
};
use store::{EventLog, ReadLimit, Secret, Topic};
use store_kafka::{KafkaStore, Settings};

const TOPIC: Topic = Topic::fixed("rate");
const TASKS: u64 = 4;
const BATCH: u64 = 1_000;
const SINGLE: u64 = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, events) = match &arguments[..] {
        [url] => (url, 200_000),
        [url, events] => (url, events.parse().expect("a count of events")),
        _ => {
            println!("usage: kafka_rate URL [EVENTS]");
            return;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(measure(url, events)).expect("the broker is good");
}

async fn measure(url: &str, events: u64) -> Result<()> {
    let settings = Settings {
        url: Secret::new(url),
        topic_prefix: format!("rate-{:016x}.", SystemEntropy::new().next_u64()),
        partitions: 2,
        // A broker that is slow is measured, not given up.
        request_timeout_ms: 60_000,
        ..Settings::default()
    };
    let clock = Arc::new(SystemClock::new());
    let store = KafkaStore::open(&settings, clock.clone())?;
    let log = store.event_log();
    log.extents(&TOPIC).await?;
    let began = clock.elapsed();
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(append(Arc::clone(&log), task, events / TASKS))).collect();
    for task in tasks {
        task.await.expect("a task ends")?;
    }
    let took = clock.elapsed().saturating_sub(began);
    println!("appended {events} events in {took:.2?}: {:.0} a second", per_second(events, took));
    let began = clock.elapsed();
    let mut read = 0;
    for extent in log.extents(&TOPIC).await? {
        let mut offset = extent.first;
        while offset < extent.next {
            let found = log.read(&TOPIC, extent.partition, offset, ReadLimit::default()).await?;
            offset = found.last().map_or(extent.next, |last| last.offset + 1);
            read += found.len() as u64;
        }
    }
    let took = clock.elapsed().saturating_sub(began);
    println!("read {read} events in {took:.2?}: {:.0} a second", per_second(read, took));
    one_by_one(&log, &clock).await
}

async fn append(log: Arc<dyn EventLog>, task: u64, events: u64) -> Result<()> {
    for first in (0..events).step_by(usize::try_from(BATCH).expect("it is small")) {
        let batch = (first..(first + BATCH).min(events)).map(|number| event(task, number)).collect();
        log.append(&scope(), &TOPIC, batch).await?;
    }
    Ok(())
}

/// How long it takes until what was appended is read by one who waits for it.
async fn one_by_one(log: &Arc<dyn EventLog>, clock: &Arc<SystemClock>) -> Result<()> {
    let mut times = Vec::new();
    for number in 0..SINGLE {
        let event = event(TASKS, number);
        // One key, so one partition: it is known after the first.
        let event = Event { partition_key: Some("one".to_owned()), ..event };
        let began = clock.elapsed();
        let Some(place) = log.append(&scope(), &TOPIC, vec![event]).await?.pop() else { continue };
        log.wait(&TOPIC, place.partition, place.offset).await?;
        log.read(&TOPIC, place.partition, place.offset, ReadLimit::default()).await?;
        times.push(clock.elapsed().saturating_sub(began));
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    println!("append to readable: median {:.2?}, p95 {:.2?}, p99 {:.2?}", at(50), at(95), at(99));
    Ok(())
}

fn scope() -> Scope {
    Scope::system(TenantId::new("desk").expect("a lawful name"), "rate")
}

fn event(task: u64, number: u64) -> Event {
    let draft = EventDraft {
        specversion: Some("1.0".to_owned()),
        id: Some(format!("{task}-{number}")),
        source: Some("/rate".to_owned()),
        kind: Some("market.tick".to_owned()),
        partitionkey: Some(format!("instrument-{}", number % 500)),
        data: serde_json::value::RawValue::from_string(format!(
            r#"{{"symbol":"PJM_WESTERN_HUB","price":31.{number},"volume":10,"bid":31.1,"ask":31.3}}"#
        ))
        .ok(),
        ..EventDraft::default()
    };
    draft.seal(&scope(), Timestamp::UNIX_EPOCH).expect("a lawful event")
}

fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
