//! Measures the event log on a folder: `append_rate fill FOLDER [EVENTS]` appends events of about 250 bytes in
//! batches of 1,000 from 4 tasks; `append_rate open FOLDER` opens the folder again, reads all of it, and tells time
//! and memory; `append_rate single FOLDER [EVENTS]` appends one by one from 1 and from 64 tasks.

#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Event, EventDraft, Result, Scope, SystemClock, TenantId, Timestamp};
use store::{EventLog, ReadLimit, Topic};
use store_embedded::{EmbeddedStore, Options};

const TOPIC: Topic = Topic::fixed("events");
const TASKS: u64 = 4;
const BATCH: u64 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let count = |text: &str| text.parse::<u64>().expect("a count of events");
    let outcome = match arguments[..] {
        ["fill", folder] => runtime.block_on(fill(Path::new(folder), 1_000_000)),
        ["fill", folder, events] => runtime.block_on(fill(Path::new(folder), count(events))),
        ["open", folder] => runtime.block_on(open(Path::new(folder))),
        ["single", folder] => runtime.block_on(single(Path::new(folder), 2_000)),
        ["single", folder, events] => runtime.block_on(single(Path::new(folder), count(events))),
        _ => {
            println!("usage: append_rate fill|open|single FOLDER [EVENTS]");
            return;
        }
    };
    outcome.expect("the folder is good");
}

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").expect("a lawful name"), "append_rate")
}

fn event(task: u64, number: u64) -> Event {
    let (item, user) = (number * 7_919 % 50_000, number * 104_729 % 100_000);
    let json = format!(
        r#"{{"specversion":"1.0","id":"{task:02}-{number:012}","source":"/shop/web","type":"dev.watershed.interaction.v1","time":"2026-01-01T00:00:00Z","subject":"user:{user}","data":{{"user":"user:{user}","item":"item:{item}","kind":"view","value":1.0}}}}"#
    );
    let draft: EventDraft = serde_json::from_str(&json).expect("the event is good");
    draft.seal(&scope(), Timestamp::UNIX_EPOCH).expect("the event is good")
}

fn rate(count: u64, time: Duration) -> String {
    let count = u32::try_from(count).map_or(f64::MAX, f64::from);
    format!("{:.0} events/s", count / time.as_secs_f64())
}

fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or(name).to_owned();
    format!("{}, {}", line("VmRSS"), line("VmHWM")).replace('\t', " ")
}

/// Processor time of this process, as Linux counts it.
fn processor_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn sync_latency(folder: &Path, clock: &dyn Clock) -> (Duration, Duration) {
    fs::create_dir_all(folder).expect("the folder can be made");
    let path = folder.join("sync_probe");
    let mut file = File::create(&path).expect("the folder can be written");
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = clock.elapsed();
            file.write_all(&[7; 4_096]).expect("the folder can be written");
            file.sync_all().expect("the folder can be synced");
            clock.elapsed().saturating_sub(start)
        })
        .collect();
    fs::remove_file(path).expect("it was made here");
    times.sort();
    (times[100], times[198])
}

async fn fill(folder: &Path, events: u64) -> Result<()> {
    let clock = Arc::new(SystemClock::new());
    let (middle, high) = sync_latency(folder, &*clock);
    println!("write 4 KiB and fsync: p50 {middle:?}, p99 {high:?}");
    let store = EmbeddedStore::open(folder, Options::default(), Arc::clone(&clock) as Arc<_>)?;
    let log = store.event_log();
    let start: u64 = log.extents(&TOPIC).await?.iter().map(|extent| extent.next).sum();
    let size = event(0, 0).to_json().len();
    // Made before the clock starts, a round at a time, so that what is measured is the log.
    let mut appending = Duration::ZERO;
    let mut working_seconds = 0.0;
    let mut slowest = Duration::ZERO;
    let rounds = events.div_ceil(TASKS * BATCH * 25);
    for round in 0..rounds {
        let batches = |task: u64| -> Vec<Vec<Event>> {
            let first = start + round * BATCH * 25;
            (0..25)
                .map(|batch| (0..BATCH).map(|number| event(task, first + batch * BATCH + number)).collect())
                .collect()
        };
        let work: Vec<_> = (0..TASKS).map(batches).collect();
        let (begin, begin_seconds) = (clock.elapsed(), processor_seconds());
        let tasks: Vec<_> = work
            .into_iter()
            .map(|batches| tokio::spawn(append_all(Arc::clone(&log), batches, Arc::clone(&clock))))
            .collect();
        for task in tasks {
            slowest = slowest.max(task.await.map_err(kernel::Error::internal)??);
        }
        appending += clock.elapsed().saturating_sub(begin);
        working_seconds += processor_seconds() - begin_seconds;
    }
    let appended = rounds * TASKS * BATCH * 25;
    println!(
        "appended {appended} events of {size} bytes from {TASKS} tasks in batches of {BATCH}: {}",
        rate(appended, appending)
    );
    println!("slowest append {slowest:?}; {working_seconds:.1} s of processor time; {}", memory());
    Ok(())
}

async fn append_all(
    log: Arc<dyn EventLog>,
    batches: Vec<Vec<Event>>,
    clock: Arc<SystemClock>,
) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for batch in batches {
        let start = clock.elapsed();
        log.append(&scope(), &TOPIC, batch).await?;
        slowest = slowest.max(clock.elapsed().saturating_sub(start));
    }
    Ok(slowest)
}

async fn single(folder: &Path, events: u64) -> Result<()> {
    let clock = Arc::new(SystemClock::new());
    let store = EmbeddedStore::open(folder, Options::default(), Arc::clone(&clock) as Arc<_>)?;
    let log = store.event_log();
    for tasks in [1, 64] {
        let batches = |task: u64| {
            (0..events / tasks).map(|number| vec![event(1_000 + tasks * 100 + task, number)]).collect()
        };
        let work: Vec<Vec<Vec<Event>>> = (0..tasks).map(batches).collect();
        let begin = clock.elapsed();
        let running: Vec<_> = work
            .into_iter()
            .map(|batches| tokio::spawn(append_all(Arc::clone(&log), batches, Arc::clone(&clock))))
            .collect();
        for task in running {
            task.await.map_err(kernel::Error::internal)??;
        }
        println!("single events from {tasks} tasks: {}", rate(events, clock.elapsed().saturating_sub(begin)));
    }
    Ok(())
}

async fn open(folder: &Path) -> Result<()> {
    let clock = Arc::new(SystemClock::new());
    println!("before opening: {}", memory());
    let begin = clock.elapsed();
    let store = EmbeddedStore::open(folder, Options::default(), Arc::clone(&clock) as Arc<_>)?;
    let opening = clock.elapsed().saturating_sub(begin);
    println!("opened in {opening:?}, {:.2} s of processor time; {}", processor_seconds(), memory());
    let log = store.event_log();
    let (begin, begin_seconds) = (clock.elapsed(), processor_seconds());
    let mut count = 0;
    for extent in log.extents(&TOPIC).await? {
        let mut offset = extent.first;
        while offset < extent.next {
            let found = log.read(&TOPIC, extent.partition, offset, ReadLimit::default()).await?;
            offset += found.len() as u64;
            count += found.len() as u64;
        }
    }
    let reading = rate(count, clock.elapsed().saturating_sub(begin));
    let seconds = processor_seconds() - begin_seconds;
    println!("read {count} events: {reading}, {seconds:.1} s of processor time; {}", memory());
    let json = event(0, 0).to_json();
    let begin = clock.elapsed();
    for _ in 0..200_000 {
        Event::from_json(&json)?;
    }
    println!("decode alone: {}", rate(200_000, clock.elapsed().saturating_sub(begin)));
    Ok(())
}
