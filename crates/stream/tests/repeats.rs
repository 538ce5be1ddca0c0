//! Two stages over a log that keeps whatever is written to it, torn and twice: the second one takes everything once.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use kernel::{Error, Event, EventDraft, Result, Scope, TenantId, Timestamp, codes};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::value::to_raw_value;
use store::memory::MemoryRecords;
use store::{
    Appended, EventLog, Extent, LogCapabilities, Outcome, ReadLimit, Records, Retention, Stored, Topic,
};
use stream::{
    Emission, KeyedFold, LogSink, LogSource, Rejection, Step, Task, TaskParts, TaskSettings, Topology, read,
};

const IN: Topic = Topic::fixed("in");
const MIDDLE: Topic = Topic::fixed("middle");
const OUT: Topic = Topic::fixed("out");
const NUMBERS: u64 = 300;
const SEEDS: std::ops::Range<u64> = 0..40;

/// Topics of one partition that keep what they are given, and an append that fails halfway now and then.
#[derive(Debug)]
struct KeepingLog {
    topics: Mutex<BTreeMap<String, Vec<Event>>>,
    faults: Mutex<Option<ChaCha8Rng>>,
}

#[async_trait]
impl EventLog for KeepingLog {
    fn capabilities(&self) -> LogCapabilities {
        LogCapabilities { deduplicates: false, retains_at_once: false, restores: false }
    }

    async fn append(&self, _: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        let is_slow = self.faults.lock().as_mut().is_some_and(|rng| rng.random_bool(0.3));
        if is_slow {
            futures::pending!();
        }
        let mut topics = self.topics.lock();
        let kept = topics.entry(topic.to_string()).or_default();
        let mut faults = self.faults.lock();
        let fails = faults.as_mut().is_some_and(|rng| rng.random_bool(0.2));
        let mut places = Vec::new();
        for event in events {
            // Any of them may be missing afterwards, not only the last ones.
            if fails && faults.as_mut().is_some_and(|rng| rng.random_bool(0.3)) {
                continue;
            }
            places.push(Appended { partition: 0, offset: kept.len() as u64, outcome: Outcome::New });
            kept.push(event);
        }
        if fails { Err(Error::new(codes::UNAVAILABLE, "was torn")) } else { Ok(places) }
    }

    async fn read(&self, topic: &Topic, _: u32, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        let topics = self.topics.lock();
        let kept = topics.get(topic.as_str()).into_iter().flatten().enumerate();
        let from = kept.skip(usize::try_from(offset).unwrap()).take(limit.events);
        Ok(from.map(|(place, event)| Stored { offset: place as u64, event: event.clone() }).collect())
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        let next = self.topics.lock().get(topic.as_str()).map_or(0, Vec::len) as u64;
        Ok(vec![Extent { partition: 0, first: 0, next }])
    }

    async fn wait(&self, _: &Topic, _: u32, _: u64) -> Result<()> {
        std::future::pending().await
    }

    async fn commit(&self, _: &str, _: &Topic, _: u32, _: u64) -> Result<()> {
        Ok(())
    }

    async fn committed(&self, _: &str, _: &Topic, _: u32) -> Result<u64> {
        Ok(0)
    }

    async fn retain(&self, _: &Topic, _: Retention, _: Timestamp) -> Result<u64> {
        Ok(0)
    }
}

struct Sum;

impl KeyedFold for Sum {
    type In = u64;
    type State = (u64, u64);
    type Out = (u64, u64);

    fn key(&self, _: &u64, _: &mut Vec<u8>) {}

    fn apply(
        &mut self,
        sum: &mut (u64, u64),
        number: u64,
        out: &mut Vec<(u64, u64)>,
    ) -> Result<(), Rejection> {
        *sum = (sum.0 + 1, sum.1 + number);
        out.push(*sum);
        Ok(())
    }
}

fn number(event: &Event) -> Result<u64, Rejection> {
    event.data_as().map_err(Rejection::from)
}

/// Two outputs for each number, then the count and the sum of all of them.
fn stages() -> [Arc<Topology>; 2] {
    let said = |kind| move |number: &u64| Emission::new(kind, Timestamp::UNIX_EPOCH, number);
    let twice = Topology::new("twice", IN, move || {
        read("decode", number).to("one", MIDDLE, said("one")).to("two", MIDDLE, said("two"))
    });
    let sum = Topology::new("sum", MIDDLE, || {
        read("decode", number)
            .keyed("sum", Sum)
            .to("out", OUT, |sum| Emission::new("sum", Timestamp::UNIX_EPOCH, sum))
    });
    [Arc::new(twice.unwrap()), Arc::new(sum.unwrap())]
}

/// Sends numbers through both stages, which crash; the events in the middle, and what the second stage took and knew.
fn run(seed: u64) -> (usize, u64, u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let faults = Mutex::new(Some(ChaCha8Rng::seed_from_u64(seed ^ 0xfa)));
    let log = Arc::new(KeepingLog { topics: Mutex::default(), faults });
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let scope = Scope::system(TenantId::new("desk").unwrap(), "test");
    let events = (0..NUMBERS).map(|number| {
        let draft = EventDraft {
            specversion: Some("1.0".to_owned()),
            id: Some(number.to_string()),
            source: Some("/feed".to_owned()),
            kind: Some("number".to_owned()),
            data: Some(to_raw_value(&number).unwrap()),
            ..EventDraft::default()
        };
        draft.seal(&scope, Timestamp::UNIX_EPOCH).unwrap()
    });
    log.topics.lock().insert(IN.to_string(), events.collect());
    let open = |stage: &Arc<Topology>, events: usize| {
        let parts = TaskParts {
            source: Arc::new(LogSource::new(Arc::clone(&log) as _, stage.input().clone())),
            sink: Arc::new(LogSink::new(Arc::clone(&log) as _)),
            records: Arc::clone(&records),
        };
        let settings = TaskSettings {
            batch: ReadLimit { events, ..ReadLimit::default() },
            log_keeps_repeats: true,
            ..TaskSettings::default()
        };
        Task::open(Arc::clone(stage), parts, 0, settings).now_or_never().unwrap().unwrap()
    };
    let stages = stages();
    let mut tasks: [Option<Task>; 2] = [None, None];
    for _ in 0..200 {
        let place = rng.random_range(0..2);
        let mut task = match tasks[place].take() {
            Some(_) if rng.random_bool(0.2) => continue,
            Some(task) => task,
            None => open(&stages[place], rng.random_range(1..20)),
        };
        // What a sink refused is in the outbox, for this task or for the one after it.
        let _ = match rng.random_bool(0.5) {
            true => task.step_ahead().now_or_never(),
            false => task.step().now_or_never(),
        };
        tasks[place] = Some(task);
    }
    *log.faults.lock() = None;
    for stage in &stages {
        let mut task = open(stage, 50);
        while let Step::Took(_) = task.step().now_or_never().unwrap().unwrap() {}
    }
    let mut last = open(&stages[1], 1);
    let totals = last.totals();
    assert_eq!(totals.taken, totals.passed + totals.duplicates, "seed {seed}: {totals:?}");
    let middle = log.topics.lock()[MIDDLE.as_str()].len();
    assert_eq!(last.operators()[1].1.passed, 2 * NUMBERS, "seed {seed}");
    let highest = log.topics.lock()[OUT.as_str()]
        .iter()
        .map(|event| event.data_as::<(u64, u64)>().unwrap())
        .max()
        .unwrap();
    assert_eq!(highest, (2 * NUMBERS, NUMBERS * (NUMBERS - 1)), "seed {seed}");
    (middle, totals.passed, totals.duplicates)
}

#[test]
fn what_is_written_twice_is_taken_once() {
    let mut repeated = 0;
    for seed in SEEDS {
        let (middle, passed, duplicates) = run(seed);
        assert_eq!(passed, 2 * NUMBERS, "seed {seed}");
        assert_eq!(middle as u64, passed + duplicates, "seed {seed}");
        repeated += duplicates;
    }
    assert!(repeated > 1_000, "much came again: {repeated}");
}
