//! Streams over a real broker: workers that share a topic and lose members, records of others, brokers that come and go.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Event, SystemClock, Timestamp};
use serde::Deserialize;
use store::memory::MemoryRecords;
use store::{EventLog, Leases, ReadLimit, Records, Topic};
use store_kafka::Settings;
use stream::{
    Emission, FENCED, Letter, LogSink, LogSource, Rejection, Step, Task, TaskParts, TaskSettings, Topology,
    Worker, WorkerSettings, read,
};
use support::broker::Broker;
use support::{event, open, produce, settings, shared, shop, until};
use tokio_util::sync::CancellationToken;

const IN: Topic = Topic::fixed("in");
const OUT: Topic = Topic::fixed("out");
const DEAD: &str = "processing.deadletter.numbers.v1";
const LEASE: Duration = Duration::from_millis(1_500);
const LONG: Duration = Duration::from_secs(60);
const GROUP: &str = "numbers";

#[derive(Deserialize)]
struct Said {
    number: u64,
}

/// Passes numbers on, whoever sent them.
fn numbers() -> Topology {
    let number = |event: &Event| event.data_as::<Said>().map(|said| said.number).map_err(Rejection::from);
    Topology::new("numbers", IN, move || {
        read("decode", number).to("out", OUT, |number| Emission::new("number", Timestamp::UNIX_EPOCH, number))
    })
    .unwrap()
}

struct Place {
    log: Arc<dyn EventLog>,
    records: Arc<dyn Records>,
}

impl Place {
    fn over(settings: &Settings) -> Self {
        Self { log: open(settings).event_log(), records: Arc::new(MemoryRecords::new()) }
    }

    fn parts(&self) -> TaskParts {
        TaskParts {
            source: Arc::new(LogSource::new(Arc::clone(&self.log), IN)),
            sink: Arc::new(LogSink::new(Arc::clone(&self.log))),
            records: Arc::clone(&self.records),
        }
    }

    fn worker(&self, name: &str) -> Arc<Worker> {
        let clock = Arc::new(SystemClock::new());
        let batch = ReadLimit { events: 50, ..ReadLimit::default() };
        let settings = WorkerSettings {
            task: TaskSettings { batch, ..TaskSettings::default() },
            lease: LEASE,
            group: Some(GROUP.to_owned()),
            ..WorkerSettings::default()
        };
        let leases = Leases::new(Arc::clone(&self.records), clock.clone(), name.to_owned());
        let log = Arc::clone(&self.log);
        Arc::new(Worker::new(Arc::new(numbers()), self.parts(), log, leases, clock, settings))
    }

    async fn all(&self, topic: &Topic) -> Vec<Event> {
        let mut found = Vec::new();
        for extent in self.log.extents(topic).await.unwrap() {
            let stored = support::read(&self.log, topic, extent.partition, 0).await;
            found.extend(stored.into_iter().map(|stored| stored.event));
        }
        found
    }

    /// The numbers that came out, by the id under which they did.
    async fn out(&self) -> BTreeMap<String, u64> {
        let events = self.all(&OUT).await;
        events.into_iter().map(|event| (event.id.clone(), event.data_as::<u64>().unwrap())).collect()
    }

    async fn letters(&self) -> BTreeMap<String, Letter> {
        let events = self.all(&Topic::new(DEAD).unwrap()).await;
        events.into_iter().map(|event| (event.id.clone(), event.data_as().unwrap())).collect()
    }

    async fn send(&self, numbers: std::ops::Range<u64>) -> kernel::Result<()> {
        let said = |number: u64| {
            let data = serde_json::value::RawValue::from_string(format!(r#"{{"number":{number}}}"#)).unwrap();
            Event { data: Some(data.into()), ..event(number, &format!("key-{}", number % 32)) }
        };
        self.log.append(&shop(), &IN, numbers.map(said).collect()).await.map(|_| ())
    }
}

fn assert_all(out: &BTreeMap<String, u64>, count: u64) {
    let numbers: BTreeSet<u64> = out.values().copied().collect();
    assert_eq!(numbers, (0..count).collect::<BTreeSet<u64>>(), "every number comes out");
    assert_eq!(out.len() as u64, count, "and under one id each");
}

/// Two workers share four partitions; one dies without a word in the middle of it; the other takes all of them over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_takes_over_from_one_that_died() {
    let place = Place::over(&Settings { partitions: 4, ..settings(&shared()) });
    place.send(0..2_000).await.unwrap();
    let (one, two) = (place.worker("one"), place.worker("two"));
    let stop = CancellationToken::new();
    let dies = tokio::spawn(Arc::clone(&one).run(CancellationToken::new()));
    let taken_of =
        |worker: &Worker| worker.standings().values().map(|standing| standing.totals.taken).sum::<u64>();
    until(LONG, "the first one works", async || taken_of(&one) > 100).await;
    let stays = tokio::spawn(Arc::clone(&two).run(stop.clone()));
    dies.abort();
    place.send(2_000..4_000).await.unwrap();
    until(LONG, "everything is taken, and the totals went over with the state", async || {
        two.standings().len() == 4 && taken_of(&two) == 4_000
    })
    .await;
    assert_all(&place.out().await, 4_000);
    let told = async || {
        for extent in place.log.extents(&IN).await.unwrap() {
            if place.log.committed(GROUP, &IN, extent.partition).await.unwrap() != extent.next {
                return false;
            }
        }
        true
    };
    until(LONG, "the group is told how far it came", told).await;
    stop.cancel();
    stays.await.unwrap().unwrap();
}

/// Whoever opened a partition last has it; what the other does after that is neither committed nor delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_slept_is_fenced() {
    let place = Place::over(&Settings { partitions: 1, ..settings(&shared()) });
    place.send(0..100).await.unwrap();
    let settings =
        TaskSettings { batch: ReadLimit { events: 10, ..ReadLimit::default() }, ..TaskSettings::default() };
    let open = async || Task::open(Arc::new(numbers()), place.parts(), 0, settings.clone()).await.unwrap();
    let mut old = open().await;
    assert_eq!(old.step().await.unwrap(), Step::Took(10));
    let mut new = open().await;
    assert_eq!(new.next_offset(), 10);
    assert_eq!(old.step().await.unwrap_err().code(), FENCED);
    assert_eq!(place.out().await.len(), 10);
    while let Step::Took(_) = new.step().await.unwrap() {}
    assert_all(&place.out().await, 100);
    // What the old one delivered of its last commit was delivered again by the new one, under the same ids.
    assert_eq!(place.all(&OUT).await.len(), 110);
}

/// Records that are none of ours, or no event at all: each is a dead letter, and the partition goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_becomes_dead_letters() {
    let settings = Settings { partitions: 1, ..settings(&shared()) };
    let place = Place::over(&settings);
    place.send(0..10).await.unwrap();
    produce(&settings, "in", 0, b"\xff\xfe\x00").await;
    produce(&settings, "in", 0, b"{\"price\":").await;
    produce(&settings, "in", 0, br#"{"number":10}"#).await;
    produce(&settings, "in", 0, &vec![b' '; 3_000_000]).await;
    produce(
        &settings,
        "in",
        0,
        br#"{"specversion":"1.0","id":"x","source":"/a","type":"t","data":{"number":11}}"#,
    )
    .await;
    produce(&settings, "in", 0, b"").await;
    place.send(12..20).await.unwrap();
    let worker = place.worker("one");
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&worker).run(stop.clone()));
    let next = async || worker.standings().get(&0).map_or(0, |standing| standing.next_offset);
    until(LONG, "all of it is taken", async || next().await == 24).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_all(&place.out().await, 20);
    let letters = place.letters().await;
    let offsets: BTreeSet<u64> = letters.values().map(|letter| letter.offset).collect();
    assert_eq!(offsets, BTreeSet::from([10, 11, 13, 15]));
    let large = letters.values().find(|letter| letter.offset == 13).unwrap();
    assert!(large.event.as_ref().unwrap().get().contains("3000000"), "{large:?}");
}

/// A record of 50 MB, which this broker takes and does not hand over again, does not hold up what is behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_50_megabytes_is_passed_over() {
    let settings = Settings { partitions: 1, request_timeout_ms: 1_000, ..settings(&shared()) };
    let place = Place::over(&settings);
    place.send(0..5).await.unwrap();
    produce(&settings, "in", 0, &vec![b' '; 50_000_000]).await;
    place.send(5..10).await.unwrap();
    let worker = place.worker("one");
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&worker).run(stop.clone()));
    let next = async || worker.standings().get(&0).map_or(0, |standing| standing.next_offset);
    until(LONG, "all of it is taken", async || next().await == 11).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_all(&place.out().await, 10);
    let letters = place.letters().await;
    assert_eq!(letters.values().map(|letter| letter.offset).collect::<Vec<_>>(), [5]);
}

/// A worker that starts before its broker, and sees it die, loses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_late_and_dies_is_waited_for() {
    let mut broker = Broker::new();
    let short = Settings {
        partitions: 2,
        delivery_timeout_ms: 3_000,
        request_timeout_ms: 1_000,
        ..settings(&broker.url())
    };
    let place = Place::over(&short);
    let worker = place.worker("one");
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&worker).run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!running.is_finished(), "it waits");
    broker.start();
    until(LONG, "the broker takes events", async || place.send(0..100).await.is_ok()).await;
    until(LONG, "they come out", async || place.out().await.len() == 100).await;
    broker.kill();
    assert!(place.send(100..101).await.is_err(), "nobody takes it");
    until(LONG, "it is told", async || {
        worker.standings().values().any(|standing| standing.failure.is_some())
    })
    .await;
    broker.start();
    until(LONG, "the broker takes events again", async || place.send(100..200).await.is_ok()).await;
    let caught_up = async || match place.log.extents(&OUT).await {
        Ok(_) => place.out().await.values().collect::<BTreeSet<_>>().len() == 200,
        Err(_) => false,
    };
    until(LONG, "it caught up", caught_up).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}
