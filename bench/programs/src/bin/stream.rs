//! Runs a stream job over ticks that it makes, and prints how many it took in a second, as one line of JSON.
//!
//! `normalise` reads an event as JSON, checks it, drops duplicates and writes it as JSON. `windows` makes highest,
//! lowest and sum of each instrument for three sizes of window. State and offsets are committed to memory or,
//! durably, to a folder; outputs are dropped or appended to the folder's log. To add a job: a variant of [`Job`], its
//! topology.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program that prints")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use bench::process::processor_seconds;
use clap::{Parser, ValueEnum};
use kernel::{Clock, Event, SystemClock, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use store::memory::MemoryRecords;
use store::{Extent, ReadLimit, Records, Stored, Topic};
use store_embedded::{EmbeddedStore, Options};
use stream::{
    Deduplication, Emission, LogSink, Output, Partial, Rejection, Sink, Source, Step, Task, TaskParts,
    TaskSettings, Topology, WindowResult, Windows, read,
};

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TICKS: Topic = Topic::fixed("ticks");
const OUT: Topic = Topic::fixed("out");

/// Runs a stream job and tells what it cost.
#[derive(Debug, Parser)]
#[command(name = "bench-stream")]
struct Arguments {
    /// The job
    #[arg(long)]
    job: Job,
    /// Where state and offsets are committed
    #[arg(long, default_value = "memory")]
    store: Store,
    /// Where outputs go; `log` needs the embedded store
    #[arg(long, default_value = "discard")]
    sink: Outputs,
    /// How duplicates are told
    #[arg(long, default_value = "sequence")]
    identity: Identity,
    /// Ticks
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// Instruments
    #[arg(long, default_value_t = 1_000)]
    instruments: u64,
    /// Ticks at most in a commit
    #[arg(long, default_value_t = 10_000)]
    batch: usize,
    /// Where the folder of the embedded store is made
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Job {
    Normalise,
    Windows,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Store {
    Memory,
    Embedded,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Outputs {
    Discard,
    Log,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Identity {
    Sequence,
    Hash,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tick {
    symbol: String,
    market: String,
    sequence: u64,
    price: f64,
    volume: f64,
    bid: f64,
    ask: f64,
    #[serde(skip)]
    time_ms: i64,
}

/// Highest, lowest, and how much.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Extremes {
    highest: Option<f64>,
    lowest: Option<f64>,
    volume: f64,
    count: u64,
}

impl Partial for Extremes {
    type Item = Tick;
    type Output = Self;

    fn add(&mut self, _: i64, tick: &Tick) {
        self.highest = Some(self.highest.map_or(tick.price, |highest| highest.max(tick.price)));
        self.lowest = Some(self.lowest.map_or(tick.price, |lowest| lowest.min(tick.price)));
        self.volume += tick.volume;
        self.count += 1;
    }

    fn merge(&mut self, other: Self) {
        self.highest = self.highest.into_iter().chain(other.highest).reduce(f64::max);
        self.lowest = self.lowest.into_iter().chain(other.lowest).reduce(f64::min);
        self.volume += other.volume;
        self.count += other.count;
    }

    fn finish(&self) -> Self {
        self.clone()
    }
}

fn decode(event: &Event) -> Result<Tick, Rejection> {
    let tick: Tick = event.data_as()?;
    Ok(Tick { time_ms: event.time.as_millisecond(), ..tick })
}

fn check(tick: Tick) -> Result<Tick, Rejection> {
    if tick.price.is_finite() && tick.volume >= 0.0 && !tick.symbol.is_empty() {
        return Ok(tick);
    }
    Err(Rejection { code: "VALIDATION_ERROR", reason: "price and volume must be numbers".to_owned() })
}

fn moment(time_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(time_ms).unwrap_or_default()
}

fn topology(job: Job, identity: Identity) -> kernel::Result<Topology> {
    match job {
        Job::Normalise => Topology::new("normalise", TICKS, move || {
            read("decode", decode)
                .map("check", check)
                .deduplicate("once", Deduplication::default(), move |tick, key| {
                    key.extend_from_slice(tick.symbol.as_bytes());
                    if identity == Identity::Hash {
                        key.extend_from_slice(&tick.sequence.to_le_bytes());
                        return None;
                    }
                    Some(tick.sequence)
                })
                .to("out", OUT, |tick| {
                    Ok(Emission::new("tick.normalised", moment(tick.time_ms), tick)?.about(&tick.symbol))
                })
        }),
        Job::Windows => Topology::new("windows", TICKS, || {
            let key = |tick: &Tick, key: &mut Vec<u8>| key.extend_from_slice(tick.symbol.as_bytes());
            let fold = (key, |tick: &Tick| tick.time_ms);
            let say = |result: &WindowResult<Extremes>| {
                Emission::new("window", moment(result.start_ms), &(result.revision, &result.value))
            };
            let windows = |minutes: i64| Windows::tumbling(minutes * 60_000).with_lateness(300_000);
            read("decode", decode)
                .branch(|ticks| ticks.window::<Extremes, _>("5m", windows(5), fold).to("5m_out", OUT, say))
                .branch(|ticks| ticks.window::<Extremes, _>("1h", windows(60), fold).to("1h_out", OUT, say))
                .window::<Extremes, _>("1d", windows(1_440), fold)
                .to("1d_out", OUT, say)
        }),
    }
}

/// Events as JSON, read anew each time.
#[derive(Debug)]
struct Lines(Vec<Vec<u8>>);

#[async_trait]
impl Source for Lines {
    async fn read(&self, _: u32, offset: u64, limit: ReadLimit) -> kernel::Result<Vec<Stored>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let lines = (offset..).zip(self.0[start..].iter().take(limit.events));
        lines.map(|(offset, line)| Ok(Stored { offset, event: Event::from_json(line)? })).collect()
    }

    async fn extents(&self) -> kernel::Result<Vec<Extent>> {
        Ok(vec![Extent { partition: 0, first: 0, next: self.0.len() as u64 }])
    }

    async fn wait(&self, _: u32, _: u64) -> kernel::Result<()> {
        std::future::pending().await
    }
}

#[derive(Debug)]
struct Discard;

#[async_trait]
impl Sink for Discard {
    async fn deliver(&self, _: Vec<Output>) -> kernel::Result<()> {
        Ok(())
    }
}

/// Ticks at 20,000 a second of event time, a little out of order, one in a hundred twice.
fn ticks(arguments: &Arguments) -> Lines {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut lines: Vec<Vec<u8>> = Vec::with_capacity(arguments.events);
    let mut sequences = vec![0_u64; usize::try_from(arguments.instruments).unwrap_or(1)];
    for number in 0..arguments.events as u64 {
        if number > 0 && rng.random_bool(0.01) {
            let again = lines[rng.random_range(lines.len().saturating_sub(1_000)..lines.len())].clone();
            lines.push(again);
            continue;
        }
        let instrument = rng.random_range(0..sequences.len());
        sequences[instrument] += 1;
        let time = moment(1_704_067_200_000 + (number / 20) as i64 - rng.random_range(0..2_000));
        let price = f64::from(rng.random_range(-500..20_000)) / 100.0;
        let tick = Tick {
            symbol: format!("INSTRUMENT_{instrument}"),
            market: "PJM".to_owned(),
            sequence: sequences[instrument],
            price,
            volume: f64::from(rng.random_range(1..500)),
            bid: price - 0.05,
            ask: price + 0.05,
            time_ms: 0,
        };
        let data = serde_json::to_string(&tick).unwrap_or_default();
        let line = format!(
            r#"{{"specversion":"1.0","id":"t{number}","source":"/feeds/pjm","type":"tick.raw","tenantid":"desk","time":"{time}","subject":"{}","data":{data}}}"#,
            tick.symbol
        );
        lines.push(line.into_bytes());
    }
    Lines(lines)
}

async fn run(arguments: &Arguments) -> kernel::Result<serde_json::Value> {
    let clock = Arc::new(SystemClock::new());
    let source = Arc::new(ticks(arguments));
    let folder = tempfile::tempdir_in(&arguments.folder).map_err(kernel::Error::internal)?;
    let store = match arguments.store {
        Store::Memory => None,
        Store::Embedded => {
            let clock = Arc::clone(&clock) as Arc<dyn Clock>;
            Some(EmbeddedStore::open(folder.path(), Options::default(), clock)?)
        }
    };
    let records = store
        .as_ref()
        .map_or_else(|| Arc::new(MemoryRecords::new()) as Arc<dyn Records>, EmbeddedStore::records);
    let sink: Arc<dyn Sink> = match (&store, arguments.sink) {
        (Some(store), Outputs::Log) => Arc::new(LogSink::new(store.event_log())),
        _ => Arc::new(Discard),
    };
    let bytes: usize = source.0.iter().map(Vec::len).sum();
    let parts = TaskParts { source, sink, records };
    let settings = TaskSettings {
        batch: ReadLimit { events: arguments.batch, bytes: usize::MAX },
        ..TaskSettings::default()
    };
    let topology = Arc::new(topology(arguments.job, arguments.identity)?);
    let mut task = Task::open(topology, parts, 0, settings).await?;
    let (began, before) = (clock.elapsed(), processor_seconds(None).map_err(kernel::Error::internal)?);
    while let Step::Took(_) = task.step().await? {}
    let seconds = (clock.elapsed() - began).as_secs_f64();
    let processor = processor_seconds(None).map_err(kernel::Error::internal)? - before;
    let events = arguments.events as f64;
    Ok(serde_json::json!({
        "events": arguments.events,
        "bytes_per_event": bytes / arguments.events.max(1),
        "seconds": seconds,
        "events_per_second": (events / seconds).round(),
        "processor_seconds": processor,
        "events_per_processor_second": (events / processor).round(),
        "totals": format!("{:?}", task.totals()),
    }))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome =
        runtime.map_err(kernel::Error::internal).and_then(|runtime| runtime.block_on(run(&arguments)));
    match outcome {
        Ok(measured) => {
            println!("{measured}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    }
}
