//! Tasks in several processes over engines that fail, hang and tear, many times over: what comes out is what would
//! have come out of one process that nothing happened to, and what a plain calculation says.
//!
//! To look into a seed that fails: `SEEDS` to that one alone.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

mod faults;
mod oracle;
mod ticks;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use kernel::{Event, Scope};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{EventLog, ReadLimit, Topic};
use stream::{FENCED, LogSink, LogSource, Step, Task, TaskParts, TaskSettings, Topology};

use crate::faults::{Both, Faults, FaultyLog, FaultyRecords, TableSink};
use crate::ticks::{INPUT, Producer, topology};

const SEEDS: std::ops::Range<u64> = 0..24;
const PARTITIONS: u32 = 2;
const PROCESSES: usize = 3;
const STEPS: usize = 400;

/// Everything that survives a crash.
struct World {
    topology: Arc<Topology>,
    log: Arc<MemoryEventLog>,
    records: Arc<MemoryRecords>,
    table: Arc<TableSink>,
}

impl World {
    fn new() -> Self {
        Self {
            topology: Arc::new(topology()),
            log: Arc::new(MemoryEventLog::new(PARTITIONS)),
            records: Arc::new(MemoryRecords::new()),
            table: Arc::default(),
        }
    }

    fn parts(&self, faults: &Arc<Faults>) -> TaskParts {
        let log = Arc::new(FaultyLog { inner: Arc::clone(&self.log), faults: Arc::clone(faults) });
        let sink = LogSink::new(Arc::clone(&log) as Arc<dyn EventLog>);
        TaskParts {
            source: Arc::new(LogSource::new(log, INPUT)),
            sink: Arc::new(Both { log: sink, table: Arc::clone(&self.table), faults: Arc::clone(faults) }),
            records: Arc::new(FaultyRecords { inner: Arc::clone(&self.records), faults: Arc::clone(faults) }),
        }
    }

    /// Takes everything that is in the log, with nothing in the way. The state of each partition.
    fn finish(&self, events: usize, namespace: &str) -> Vec<Vec<u8>> {
        let parts = self.parts(&Arc::new(Faults::never()));
        let partition = |partition| {
            let settings = settings(events, namespace);
            let opening = Task::open(Arc::clone(&self.topology), parts.clone(), partition, settings);
            let mut task = opening.now_or_never().unwrap().unwrap();
            while let Step::Took(_) = task.step().now_or_never().unwrap().unwrap() {}
            check_balance(&mut task);
            let state = task.state();
            let reopening = Task::open(
                Arc::clone(&self.topology),
                parts.clone(),
                partition,
                self::settings(events, namespace),
            );
            let mut reopened = reopening.now_or_never().unwrap().unwrap();
            assert_eq!(reopened.state(), state, "what is stored is what is known");
            state
        };
        (0..PARTITIONS).map(partition).collect()
    }

    /// Every event of a topic, by partition.
    fn events(&self, topic: &Topic) -> Vec<Vec<Event>> {
        let limit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
        let read = |partition| {
            let stored = self.log.read(topic, partition, 0, limit).now_or_never().unwrap().unwrap();
            stored.into_iter().map(|stored| stored.event).collect()
        };
        (0..PARTITIONS).map(read).collect()
    }

    /// Every output by topic and what it says, sorted: between two input partitions there is no order.
    fn outputs(&self) -> BTreeMap<String, Vec<String>> {
        let of_topic = |topic: &Topic| {
            let events = self.events(topic).into_iter().flatten();
            let mut texts: Vec<String> =
                events.map(|event| String::from_utf8(event.to_json()).unwrap()).collect();
            texts.sort();
            (topic.to_string(), texts)
        };
        ticks::outputs().iter().map(of_topic).collect()
    }
}

/// Few segments, so that old ones are cleaned away all the time.
fn settings(events: usize, namespace: &str) -> TaskSettings {
    let batch = ReadLimit { events, ..ReadLimit::default() };
    TaskSettings { namespace: namespace.to_owned(), batch, most_segments: 5, ..TaskSettings::default() }
}

fn check_balance(task: &mut Task) {
    let (totals, held) = (task.totals(), task.held() as u64);
    let accounted = totals.passed + totals.duplicates + totals.dead_lettered + totals.filtered + held;
    assert_eq!(totals.taken, accounted, "{totals:?}");
    assert_eq!(task.next_offset(), totals.taken + totals.punctuations);
    for (name, counts, _) in task.operators() {
        let accounted = counts.passed + counts.duplicates + counts.rejected + counts.filtered;
        assert_eq!(counts.taken, accounted, "{name} {counts:?}");
    }
}

/// Runs tasks in several processes that crash, sleep and take partitions from each other. How many events were taken,
/// of how many, and how often a task was opened and lost.
fn run(world: &World, seed: u64) -> [u64; 4] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let faults = Arc::new(Faults::seeded(seed));
    let mut producer = Producer::new(seed);
    let mut tasks: Vec<Vec<Option<Task>>> =
        (0..PROCESSES).map(|_| (0..PARTITIONS).map(|_| None).collect()).collect();
    let mut next = [0; PARTITIONS as usize];
    let (mut sent, mut opened, mut lost) = (0, 0, 0);
    for _ in 0..STEPS {
        let events = producer.some();
        sent += events.len() as u64;
        for event in events {
            let scope = Scope::system(event.tenant.clone(), "test");
            world.log.append(&scope, &INPUT, vec![event]).now_or_never().unwrap().unwrap();
        }
        let process = rng.random_range(0..PROCESSES);
        let partition = rng.random_range(0..PARTITIONS);
        let place = &mut tasks[process][partition as usize];
        *place = match place.take() {
            // A crash, or a process that sleeps and finds out later that it lost its part.
            Some(_) if rng.random_bool(0.05) => None,
            Some(task) if rng.random_bool(0.3) => Some(task),
            Some(mut task) => {
                let stepped = match rng.random_bool(0.7) {
                    true => task.step_ahead().now_or_never(),
                    false => task.step().now_or_never(),
                };
                match stepped {
                    Some(Ok(_)) => {
                        next[partition as usize] = task.next_offset();
                        Some(task)
                    }
                    // Whoever was in the midst of a commit finds out that it is of no more use.
                    Some(Err(error)) if error.code() == FENCED => {
                        lost += u64::from(error.message().contains("another process"));
                        None
                    }
                    _ if rng.random_bool(0.5) => Some(task),
                    _ => None,
                }
            }
            None if rng.random_bool(0.1) => {
                let settings = settings(rng.random_range(1..24), "live");
                let opening =
                    Task::open(Arc::clone(&world.topology), world.parts(&faults), partition, settings);
                opened += 1;
                opening.now_or_never().and_then(Result::ok)
            }
            None => None,
        };
    }
    [next.iter().sum(), sent, opened, lost]
}

#[test]
fn whatever_happens_comes_to_the_same() {
    // One of the operators panics on purpose, which is no news.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some("ninety-nine") {
            report(panic);
        }
    }));
    let mut ran = [0; 4];
    for seed in SEEDS {
        let world = World::new();
        let counts = run(&world, seed);
        (0..4).for_each(|place| ran[place] += counts[place]);
        let states = world.finish(64, "live");

        let calm = World { log: Arc::clone(&world.log), ..World::new() };
        let fresh = World::new();
        for events in world.events(&INPUT) {
            for event in events {
                let scope = Scope::system(event.tenant.clone(), "test");
                fresh.log.append(&scope, &INPUT, vec![event]).now_or_never().unwrap().unwrap();
            }
        }
        assert_eq!(fresh.finish(1_000, "live"), states, "seed {seed}: state of an uninterrupted run");
        assert_eq!(fresh.outputs(), world.outputs(), "seed {seed}: outputs of an uninterrupted run");
        assert_eq!(fresh.table.rows(), world.table.rows(), "seed {seed}: rows of the sink");

        let before = world.outputs();
        assert_eq!(calm.finish(7, "backfill"), states, "seed {seed}: backfill in a namespace of its own");
        assert_eq!(calm.outputs(), before, "seed {seed}: a backfill adds nothing to what live made");
        oracle::check(&world, seed);
    }
    let [taken, sent, opened, lost] = ran;
    assert!(2 * taken > sent && opened > 300 && lost > 50, "much happened: {ran:?}");
}
