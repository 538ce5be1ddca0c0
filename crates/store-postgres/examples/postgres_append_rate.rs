//! Measures the event log on a server: `postgres_append_rate fill URL [EVENTS]` appends events of about 250 bytes in batches of
//! 1,000 from 4 tasks and reads them back; `postgres_append_rate single URL [EVENTS]` appends one by one from 1 and from 64
//! tasks; `postgres_append_rate two URL [EVENTS]` does so from 32 tasks in each of two stores. Each makes a schema and drops it.

#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::sync::Arc;
use std::time::Duration;

use kernel::{
    Clock, Entropy, Error, Event, EventDraft, Result, Scope, SystemClock, SystemEntropy, TenantId, Timestamp,
};
use store::{EventLog, ReadLimit, Topic};
use store_postgres::{DatabaseUrl, Migrator, PostgresStore, Settings};

const TOPIC: Topic = Topic::fixed("events");
const TASKS: u64 = 4;
const BATCH: u64 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let count = |text: &str| text.parse::<u64>().expect("a count of events");
    let outcome = match arguments[..] {
        ["fill", url] => runtime.block_on(on_schema(url, async |settings| fill(settings, 200_000).await)),
        ["fill", url, events] => {
            runtime.block_on(on_schema(url, async |settings| fill(settings, count(events)).await))
        }
        ["single", url] => runtime.block_on(on_schema(url, async |settings| single(settings, 4_096).await)),
        ["single", url, events] => {
            runtime.block_on(on_schema(url, async |settings| single(settings, count(events)).await))
        }
        ["two", url] => runtime.block_on(on_schema(url, async |settings| two(settings, 8_192).await)),
        ["two", url, events] => {
            runtime.block_on(on_schema(url, async |settings| two(settings, count(events)).await))
        }
        _ => {
            println!("usage: postgres_append_rate fill|single|two URL [EVENTS]");
            return;
        }
    };
    outcome.expect("the server is good");
}

/// What one task appends, and where.
type Task = (Arc<dyn EventLog>, Vec<Vec<Event>>);

/// Does the work on a schema that is dropped after it.
async fn on_schema(url: &str, work: impl AsyncFnOnce(&Settings) -> Result<()>) -> Result<()> {
    let schema = format!("append_rate_{:016x}", SystemEntropy::new().next_u64());
    let settings = Settings { url: Some(DatabaseUrl::new(url)), schema, ..Settings::default() };
    let clock = SystemClock::new();
    let migrator = Migrator::new(&settings, &clock);
    migrator.up().await?;
    let outcome = work(&settings).await;
    migrator.down(0).await?;
    outcome
}

async fn open(settings: &Settings) -> Result<PostgresStore> {
    PostgresStore::open(settings.clone(), Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new())).await
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

/// Appends each list of batches from a task of its own; tells the whole time, and the middle and 99th hundredth of
/// the appends.
async fn append(work: Vec<Task>) -> Result<(Duration, Duration, Duration)> {
    let clock = Arc::new(SystemClock::new());
    let begin = clock.elapsed();
    let tasks: Vec<_> = work
        .into_iter()
        .map(|(log, batches)| {
            let clock = Arc::clone(&clock);
            tokio::spawn(async move {
                let mut times = Vec::new();
                for batch in batches {
                    let start = clock.elapsed();
                    log.append(&scope(), &TOPIC, batch).await?;
                    times.push(clock.elapsed().saturating_sub(start));
                }
                Ok::<_, Error>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.map_err(Error::internal)??);
    }
    let whole = clock.elapsed().saturating_sub(begin);
    times.sort_unstable();
    Ok((whole, times[times.len() / 2], times[times.len() * 99 / 100]))
}

async fn fill(settings: &Settings, events: u64) -> Result<()> {
    let log = open(settings).await?.event_log();
    let size = event(0, 0).to_json().len();
    let of_each = events.div_ceil(TASKS * BATCH);
    let work = (0..TASKS).map(|task| {
        let batch = |batch| (0..BATCH).map(|number| event(task, batch * BATCH + number)).collect();
        (Arc::clone(&log), (0..of_each).map(batch).collect())
    });
    let (whole, middle, high) = append(work.collect()).await?;
    let appended = of_each * TASKS * BATCH;
    println!(
        "appended {appended} events of {size} bytes from {TASKS} tasks in batches of {BATCH}: {}, p50 {middle:?}, \
         p99 {high:?}",
        rate(appended, whole)
    );
    let clock = SystemClock::new();
    let begin = clock.elapsed();
    let mut count = 0;
    for extent in log.extents(&TOPIC).await? {
        let mut offset = extent.first;
        while offset < extent.next {
            let found = log.read(&TOPIC, extent.partition, offset, ReadLimit::default()).await?;
            offset += found.len() as u64;
            count += found.len() as u64;
        }
    }
    println!("read {count} events: {}", rate(count, clock.elapsed().saturating_sub(begin)));
    Ok(())
}

fn singles(log: &Arc<dyn EventLog>, tasks: u64, first: u64, events: u64) -> Vec<Task> {
    let batches = |task: u64| (0..events / tasks).map(|number| vec![event(first + task, number)]).collect();
    (0..tasks).map(|task| (Arc::clone(log), batches(task))).collect()
}

async fn single(settings: &Settings, events: u64) -> Result<()> {
    let log = open(settings).await?.event_log();
    for tasks in [1, 64] {
        let (whole, middle, high) = append(singles(&log, tasks, tasks * 100, events)).await?;
        println!("single events from {tasks} tasks: {}, p50 {middle:?}, p99 {high:?}", rate(events, whole));
    }
    Ok(())
}

async fn two(settings: &Settings, events: u64) -> Result<()> {
    let logs = [open(settings).await?.event_log(), open(settings).await?.event_log()];
    let mut work = singles(&logs[0], 32, 0, events / 2);
    work.extend(singles(&logs[1], 32, 100, events / 2));
    let (whole, middle, high) = append(work).await?;
    println!(
        "single events from 32 tasks in each of 2 stores: {}, p50 {middle:?}, p99 {high:?}",
        rate(events, whole)
    );
    Ok(())
}
