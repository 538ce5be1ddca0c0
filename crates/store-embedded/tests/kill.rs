//! A process that is killed loses nothing that it acknowledged.
//!
//! The test starts this very program again as a child, which appends from four tasks and says what was
//! acknowledged, kills it at a random moment, and looks for every word of it. `WATERSHED_KILL_ROUNDS` sets how often.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Event, EventDraft, Scope, SystemClock, TenantId, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::{EventLog, Expect, Outcome, ReadLimit, Records, Table, Topic, Write};
use store_embedded::{EmbeddedStore, Options};

const TOPIC: Topic = Topic::fixed("events");
const TABLE: Table = Table { name: "counters", indexes: &[] };
const PLAN: &str = "plan";
const PARTITIONS: u32 = 3;

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

fn open(folder: &Path) -> EmbeddedStore {
    // Small buffers, so that tables are written and journals change while it is killed.
    let options = Options { partitions: PARTITIONS, write_buffer_bytes: 1 << 20, ..Options::default() };
    EmbeddedStore::open(&folder.join("store"), options, Arc::new(SystemClock::new())).unwrap()
}

fn event(round: u64, task: u64, number: u64) -> Event {
    let padding = "x".repeat(usize::try_from(number % 300).unwrap());
    let json = format!(
        r#"{{"specversion":"1.0","id":"{round}-{task}-{number}","source":"/test","type":"t","partitionkey":"{task}","data":"{padding}"}}"#
    );
    let draft: EventDraft = serde_json::from_str(&json).unwrap();
    draft.seal(&scope(), Timestamp::UNIX_EPOCH).unwrap()
}

/// Says one line at once, whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn append_for_ever(log: Arc<dyn EventLog>, round: u64, task: u64) {
    let mut number = 0;
    loop {
        let size = 1 + (number * 31 + task * 7) % 200;
        let batch: Vec<Event> = (number..number + size).map(|number| event(round, task, number)).collect();
        let places = log.append(&scope(), &TOPIC, batch).await.unwrap();
        let places: Vec<String> =
            places.iter().map(|place| format!("{}:{}", place.partition, place.offset)).collect();
        say(&format!("ack {task} {number} {}", places.join(" ")));
        number += size;
    }
}

async fn count_for_ever(records: Arc<dyn Records>) {
    loop {
        let found = records.get(&scope(), TABLE, "counter").await.unwrap();
        let (value, expect) = match &found {
            None => (1, Expect::Absent),
            Some(record) => {
                let value: u64 = std::str::from_utf8(&record.body).unwrap().parse().unwrap();
                (value + 1, Expect::Version(record.version))
            }
        };
        let body = value.to_string().into();
        let write = Write::Put { table: TABLE, key: "counter".to_owned(), body, indexes: Vec::new(), expect };
        records.commit(&scope(), vec![write]).await.unwrap();
        say(&format!("count {value}"));
    }
}

#[test]
#[ignore = "it is the child that a_killed_process_loses_nothing starts"]
fn child() {
    let Ok(plan) = fs::read_to_string(PLAN) else { return };
    let round: u64 = plan.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(Path::new("."));
        let appending = (0..4).map(|task| tokio::spawn(append_for_ever(store.event_log(), round, task)));
        let mut tasks: Vec<_> = appending.collect();
        tasks.push(tokio::spawn(count_for_ever(store.records())));
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// What the child said before it was killed.
#[derive(Debug, Default)]
struct Acknowledged {
    places: HashMap<String, (u32, u64)>,
    count: u64,
}

impl Acknowledged {
    fn hear(&mut self, round: u64, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["ack", task, first, ref places @ ..] => {
                let first: u64 = first.parse().unwrap();
                for (number, place) in (first..).zip(places) {
                    let (partition, offset) = place.split_once(':').unwrap();
                    let place = (partition.parse().unwrap(), offset.parse().unwrap());
                    self.places.insert(format!("{round}-{task}-{number}"), place);
                }
            }
            ["count", value] => self.count = self.count.max(value.parse().unwrap()),
            _ => {}
        }
    }
}

fn run_and_kill(folder: &Path, round: u64, life: Duration, heard: &mut Acknowledged) {
    fs::write(folder.join(PLAN), round.to_string()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    // Most lives begin with the first acknowledgement; every third with the first word of the test harness, so that
    // it may end while the store is being opened.
    let dies_early = round % 3 == 2;
    let (begun, has_begun) = std::sync::mpsc::channel();
    let out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.starts_with("ack") || dies_early {
                let _ = begun.send(());
            }
            lines.push(line);
        }
        lines
    });
    has_begun.recv().unwrap();
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    let lines = reader.join().unwrap();
    // The last line may be cut.
    lines.iter().take(lines.len().saturating_sub(1)).for_each(|line| heard.hear(round, line));
}

async fn check(folder: &Path, heard: &Acknowledged) {
    let store = open(folder);
    let log = store.event_log();
    let all = ReadLimit { events: usize::MAX, bytes: usize::MAX };
    let mut found = HashMap::new();
    let mut last_number: HashMap<String, u64> = HashMap::new();
    for partition in 0..PARTITIONS {
        for stored in log.read(&TOPIC, partition, 0, all).await.unwrap() {
            let id = stored.event.id;
            let (caller, number) = id.rsplit_once('-').unwrap();
            let number: u64 = number.parse().unwrap();
            let before = last_number.insert(caller.to_owned(), number);
            assert!(before.is_none_or(|before| before + 1 == number), "{id} after {before:?}");
            assert!(found.insert(id.clone(), (partition, stored.offset)).is_none(), "{id} is there twice");
        }
    }
    for (id, place) in &heard.places {
        assert_eq!(found.get(id), Some(place), "{id} was acknowledged");
    }
    let counter = store.records().get(&scope(), TABLE, "counter").await.unwrap();
    let counter = counter.map_or(0, |record| std::str::from_utf8(&record.body).unwrap().parse().unwrap());
    assert!(counter >= heard.count, "count {} was acknowledged, {counter} is there", heard.count);
    // Who did not hear of an acknowledgement sends again, and is told the first place.
    let (id, place) = found.iter().next().unwrap();
    let numbers: Vec<u64> = id.split('-').map(|number| number.parse().unwrap()).collect();
    let again =
        log.append(&scope(), &TOPIC, vec![event(numbers[0], numbers[1], numbers[2])]).await.unwrap()[0];
    assert_eq!((again.partition, again.offset, again.outcome), (place.0, place.1, Outcome::Duplicate));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a benchmark asks for more rounds")]
fn a_killed_process_loses_nothing() {
    let rounds = std::env::var("WATERSHED_KILL_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(42);
    let mut heard = Acknowledged::default();
    for round in 0..rounds {
        let life = Duration::from_millis(random.random_range(0..400));
        run_and_kill(folder.path(), round, life, &mut heard);
        if !heard.places.is_empty() {
            runtime.block_on(check(folder.path(), &heard));
        }
    }
    assert!(
        heard.places.len() > 100,
        "only {} events were acknowledged in {rounds} rounds",
        heard.places.len()
    );
    println!("{} acknowledged events survived {rounds} kills", heard.places.len());
}
