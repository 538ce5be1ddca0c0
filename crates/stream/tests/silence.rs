//! Two stages, the first of which may fail: who waits there is not silent, and who is silent is found out all the same. The
//! clock stands still but for what a test says.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Error, Event, ManualClock, Scope, TenantId, Timestamp, codes};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{
    Appended, EventLog, Extent, Leases, LogCapabilities, ReadLimit, Records, Retention, Stored, Topic,
};
use stream::{
    Emission, EventTime, LogSink, LogSource, Output, PUNCTUATION, Partial, Sink, Source, TaskParts,
    TaskSettings, Topology, Windows, Worker, WorkerSettings, read,
};
use tokio_util::sync::CancellationToken;

const RAW: Topic = Topic::fixed("raw");
const MIDDLE: Topic = Topic::fixed("middle");
const OUT: Topic = Topic::fixed("out");
const DEAD: Topic = Topic::fixed("dead");
const MINUTE_MS: i64 = 60_000;

/// Hands on while it is open, after so many seconds.
#[derive(Debug)]
struct Gate {
    sink: LogSink,
    is_open: AtomicBool,
    delay: AtomicU64,
}

#[async_trait]
impl Sink for Gate {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        tokio::time::sleep(Duration::from_secs(self.delay.load(Ordering::Relaxed))).await;
        if self.is_open.load(Ordering::Relaxed) {
            return self.sink.deliver(outputs).await;
        }
        Err(Error::new(codes::UNAVAILABLE, "what the rows go to is away"))
    }
}

/// Passes numbers on.
fn pass() -> Topology {
    let built = Topology::new("pass", RAW, || {
        read("decode", |event| Ok((event.time, event.data_as::<i64>()?))).to(
            "passed",
            MIDDLE,
            |(time, number)| Emission::new("number", *time, number),
        )
    });
    built.unwrap().with_dead_letters(DEAD)
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Total(i64);

impl Partial for Total {
    type Item = (i64, i64);
    type Output = i64;

    fn add(&mut self, _: i64, item: &(i64, i64)) {
        self.0 += item.1;
    }

    fn merge(&mut self, other: Self) {
        self.0 += other.0;
    }

    fn finish(&self) -> i64 {
        self.0
    }
}

/// Adds numbers up in windows of ten minutes, with a minute of disorder.
fn sums() -> Topology {
    let built = Topology::new("sums", MIDDLE, || {
        let key = |_: &(i64, i64), key: &mut Vec<u8>| key.push(b'k');
        read("decode", |event| Ok((event.time.as_millisecond(), event.data_as()?)))
            .window::<Total, _>("ten", Windows::tumbling(10 * MINUTE_MS), (key, |item: &(i64, i64)| item.0))
            .to("out", OUT, |result| {
                let said = (result.start_ms / MINUTE_MS, result.revision, result.value);
                Emission::new("sum", Timestamp::UNIX_EPOCH, &said)
            })
    });
    let rule = EventTime { delay_ms: MINUTE_MS, future_limit_ms: None, believed_run: 0 };
    built.unwrap().with_dead_letters(DEAD).with_event_time(rule)
}

struct House {
    log: Arc<dyn EventLog>,
    clock: Arc<ManualClock>,
    gate: Arc<Gate>,
    first: Arc<Worker>,
    sent: u64,
    stop: CancellationToken,
}

impl House {
    /// Both stages run; where the first one `is_elsewhere`, another process has it.
    fn new(is_elsewhere: bool) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(1));
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let clock = Arc::new(ManualClock::at(Timestamp::from_millisecond(20 * MINUTE_MS).unwrap()));
        let sink = LogSink::new(Arc::clone(&log));
        let gate = Arc::new(Gate { sink, is_open: AtomicBool::new(true), delay: AtomicU64::new(0) });
        let worker = |holder: &str, topology: Topology, sink: Arc<dyn Sink>| {
            let leases = Leases::new(Arc::clone(&records), clock.clone(), holder.to_owned());
            let source = Arc::new(LogSource::new(Arc::clone(&log), topology.input().clone()));
            let parts = TaskParts { source, sink, records: Arc::clone(&records) };
            let settings =
                WorkerSettings { idle_after: Duration::from_secs(60), ..WorkerSettings::default() };
            Worker::new(Arc::new(topology), parts, Arc::clone(&log), leases, clock.clone(), settings)
        };
        let pass = |holder: &str| Arc::new(worker(holder, pass(), gate.clone()));
        let first = pass("one");
        let known = if is_elsewhere { pass("two") } else { Arc::clone(&first) };
        let second = worker("two", sums(), Arc::new(LogSink::new(Arc::clone(&log)))).after(Some(known));
        let stop = CancellationToken::new();
        for worker in [Arc::clone(&first), Arc::new(second)] {
            tokio::spawn(worker.run(stop.clone()));
        }
        Self { log, clock, gate, first, sent: 0, stop }
    }

    async fn send(&mut self, tenant: &str, minute: i64, number: i64) {
        self.sent += 1;
        let scope = Scope::system(TenantId::new(tenant).unwrap(), "test");
        let time = Timestamp::from_millisecond(minute * MINUTE_MS).unwrap();
        let data = serde_json::value::to_raw_value(&number).unwrap();
        let event = Event::new(scope.tenant(), format!("e{}", self.sent), "/feed", "number", time);
        self.log.append(&scope, &RAW, vec![Event { data: Some(data), ..event }]).await.unwrap();
    }

    /// So much time goes by, and the stages do in it what they can.
    async fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        tokio::time::sleep(Duration::from_secs(25)).await;
    }

    async fn events(&self, topic: &Topic) -> Vec<Event> {
        let limit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
        let found = self.log.read(topic, 0, 0, limit).await.unwrap();
        found.into_iter().map(|stored| stored.event).collect()
    }

    async fn sums(&self) -> Vec<String> {
        let told = self.events(&OUT).await;
        told.iter().map(|event| event.data.as_ref().unwrap().get().to_owned()).collect()
    }

    async fn is_anybody_silent(&self) -> bool {
        self.events(&MIDDLE).await.iter().any(|event| event.kind == PUNCTUATION)
    }
}

async fn who_waits_is_not_silent(is_elsewhere: bool) {
    let mut house = House::new(is_elsewhere);
    house.send("desk", 1, 1).await;
    house.pass(1).await;
    assert_eq!(house.events(&MIDDLE).await.len(), 1);
    house.gate.is_open.store(false, Ordering::Relaxed);
    house.send("desk", 2, 2).await;
    for minute in 0..30 {
        house.pass(60).await;
        if minute == 3 {
            house.send("desk", 3, 4).await;
        }
        assert!(!house.is_anybody_silent().await, "minute {minute}");
    }
    let standing = house.first.standings().remove(&0).unwrap();
    assert!(standing.failure.unwrap().contains("is away"));
    assert_eq!(standing.lag_events, 1, "what came while it fails is seen");
    house.send("desk", 4, 8).await;
    house.pass(0).await;
    assert_eq!(house.first.standings()[&0].lag_events, 2);

    house.gate.is_open.store(true, Ordering::Relaxed);
    house.pass(1).await;
    assert_eq!(house.events(&MIDDLE).await.len(), 4, "everything came, and nothing else");
    assert_eq!(house.sums().await, [""; 0]);
    house.pass(30).await;
    assert!(!house.is_anybody_silent().await, "it moved half a minute ago");
    house.pass(31).await;
    assert_eq!(house.sums().await, ["[0,0,15]"], "now it is silent");
    assert!(house.events(&DEAD).await.is_empty(), "nothing came too late");
    house.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_a_stage_that_fails_is_not_silent() {
    who_waits_is_not_silent(false).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_a_stage_of_another_process_is_not_silent() {
    who_waits_is_not_silent(true).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_found_out_while_others_go_on() {
    let mut house = House::new(false);
    house.send("desk", 1, 1).await;
    for step in 0..6 {
        house.send("other", 20 + step, 1).await;
        house.pass(30).await;
        house.send("other", 20 + step, 1).await;
    }
    house.pass(1).await;
    let silent: Vec<String> = house
        .events(&MIDDLE)
        .await
        .into_iter()
        .filter(|event| event.kind == PUNCTUATION)
        .map(|event| event.tenant.to_string())
        .collect();
    assert_eq!(silent, ["desk"], "once, and not who goes on");
    assert_eq!(house.sums().await[0], "[0,0,1]");
    house.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_told_the_time_when_that_was_so() {
    let mut house = House::new(false);
    house.send("desk", 1, 1).await;
    house.pass(1).await;
    // It is silent, which is known only once what another one sent before has come.
    house.gate.delay.store(20, Ordering::Relaxed);
    house.send("other", 20, 1).await;
    house.clock.advance(Duration::from_secs(61));
    let silent_at = house.clock.now();
    tokio::time::sleep(Duration::from_secs(6)).await;
    // By then it goes on, and this is on its way.
    house.clock.advance(Duration::from_secs(20 * 60));
    house.send("desk", 31, 2).await;
    for _ in 0..18 {
        house.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let told = house.events(&MIDDLE).await;
    let silent: Vec<_> = told.iter().filter(|event| event.kind == PUNCTUATION).collect();
    assert_eq!(silent.iter().map(|event| event.time).collect::<Vec<_>>(), [silent_at]);
    assert!(house.events(&DEAD).await.is_empty(), "nothing came too late");
    house.stop.cancel();
}

/// A log of two partitions that keeps what it is given twice, as brokers do.
#[derive(Debug)]
struct Keeping {
    log: MemoryEventLog,
    appended: AtomicU64,
}

#[async_trait]
impl EventLog for Keeping {
    fn capabilities(&self) -> LogCapabilities {
        LogCapabilities { deduplicates: false, ..self.log.capabilities() }
    }

    async fn append(
        &self,
        scope: &Scope,
        topic: &Topic,
        mut events: Vec<Event>,
    ) -> kernel::Result<Vec<Appended>> {
        for event in &mut events {
            // It goes where it would, and is known by nothing.
            let key = event.partition_key.get_or_insert_with(|| event.id.clone()).clone();
            event.id = format!("{key}#{}", self.appended.fetch_add(1, Ordering::Relaxed));
        }
        self.log.append(scope, topic, events).await
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> kernel::Result<Vec<Stored>> {
        self.log.read(topic, partition, offset, limit).await
    }

    async fn extents(&self, topic: &Topic) -> kernel::Result<Vec<Extent>> {
        self.log.extents(topic).await
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> kernel::Result<()> {
        self.log.wait(topic, partition, offset).await
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> kernel::Result<()> {
        self.log.commit(group, topic, partition, offset).await
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> kernel::Result<u64> {
        self.log.committed(group, topic, partition).await
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> kernel::Result<u64> {
        self.log.retain(topic, keep, now).await
    }
}

/// As a sink of rows: the log, then what may be away.
#[derive(Debug)]
struct Rows {
    sink: LogSink,
    is_away: AtomicBool,
    deliveries: AtomicU64,
}

#[async_trait]
impl Sink for Rows {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        let before = self.deliveries.fetch_add(1, Ordering::Relaxed);
        assert!(before < 1_000, "it is handed on without an end");
        self.sink.deliver(outputs).await?;
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Error::new(codes::UNAVAILABLE, "what the rows go to is away"));
        }
        Ok(())
    }
}

/// The raw events, one partition of which may not be read.
#[derive(Debug)]
struct Torn {
    source: LogSource,
    broken: Mutex<Option<u32>>,
}

#[async_trait]
impl Source for Torn {
    async fn read(&self, partition: u32, offset: u64, limit: ReadLimit) -> kernel::Result<Vec<Stored>> {
        if *self.broken.lock() == Some(partition) {
            return Err(Error::new(codes::CORRUPTED, "the partition cannot be read"));
        }
        self.source.read(partition, offset, limit).await
    }

    async fn extents(&self) -> kernel::Result<Vec<Extent>> {
        self.source.extents().await
    }

    async fn wait(&self, partition: u32, offset: u64) -> kernel::Result<()> {
        self.source.wait(partition, offset).await
    }
}

/// Two stages over brokers of two partitions.
struct Brokers {
    log: Arc<dyn EventLog>,
    clock: Arc<ManualClock>,
    rows: Arc<Rows>,
    raw: Arc<Torn>,
    first: Arc<Worker>,
    stop_first: CancellationToken,
    stop: CancellationToken,
}

impl Brokers {
    /// Where the first stage `is_elsewhere`, the second one sees of it what is committed.
    fn new(is_elsewhere: bool) -> Self {
        let log = Keeping { log: MemoryEventLog::new(2), appended: AtomicU64::new(0) };
        let log: Arc<dyn EventLog> = Arc::new(log);
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let clock = Arc::new(ManualClock::at(Timestamp::from_millisecond(20 * MINUTE_MS).unwrap()));
        let (is_away, deliveries) = (AtomicBool::new(false), AtomicU64::new(0));
        let rows = Arc::new(Rows { sink: LogSink::new(Arc::clone(&log)), is_away, deliveries });
        let source = LogSource::new(Arc::clone(&log), RAW);
        let raw = Arc::new(Torn { source, broken: Mutex::new(None) });
        let worker = |holder: &str, topology: Topology, source: Arc<dyn Source>, sink: Arc<dyn Sink>| {
            let leases = Leases::new(Arc::clone(&records), clock.clone(), holder.to_owned());
            let parts = TaskParts { source, sink, records: Arc::clone(&records) };
            let task = TaskSettings { log_keeps_repeats: true, ..TaskSettings::default() };
            let idle_after = Duration::from_secs(60);
            let settings = WorkerSettings { task, idle_after, ..WorkerSettings::default() };
            Worker::new(Arc::new(topology), parts, Arc::clone(&log), leases, clock.clone(), settings)
        };
        let pass = |holder: &str| Arc::new(worker(holder, pass(), raw.clone(), rows.clone()));
        let first = pass("one");
        let known = if is_elsewhere { pass("two") } else { Arc::clone(&first) };
        let middle = Arc::new(LogSource::new(Arc::clone(&log), MIDDLE));
        let out = Arc::new(LogSink::new(Arc::clone(&log)));
        let second = Arc::new(worker("two", sums(), middle, out).after(Some(known)));
        let (stop_first, stop) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(Arc::clone(&first).run(stop_first.clone()));
        tokio::spawn(second.run(stop.clone()));
        Self { log, clock, rows, raw, first, stop_first, stop }
    }

    /// To a partition of the raw topic.
    async fn send(&self, partition: u32, tenant: &str, minute: i64, number: i64) {
        let scope = Scope::system(TenantId::new(tenant).unwrap(), "test");
        let time = Timestamp::from_millisecond(minute * MINUTE_MS).unwrap();
        let event = |key: String| {
            let data = serde_json::value::to_raw_value(&number).unwrap();
            let event = Event::new(scope.tenant(), key.clone(), "/feed", "number", time);
            Event { data: Some(data), partition_key: Some(key), ..event }
        };
        for number in 0..64 {
            let key = format!("k{number}");
            let probe = Topic::fixed("probe");
            let place = self.log.append(&scope, &probe, vec![event(key.clone())]).await.unwrap();
            if place[0].partition == partition {
                self.log.append(&scope, &RAW, vec![event(key)]).await.unwrap();
                return;
            }
        }
        panic!("no key leads to partition {partition}");
    }

    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn events(&self, topic: &Topic) -> Vec<Event> {
        let limit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
        let mut events = Vec::new();
        for partition in 0..2 {
            let found = self.log.read(topic, partition, 0, limit).await.unwrap();
            events.extend(found.into_iter().map(|stored| stored.event));
        }
        events
    }

    /// Of whom a sum was told.
    async fn summed(&self) -> Vec<String> {
        self.events(&OUT).await.into_iter().map(|event| event.tenant.to_string()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_elsewhere_is_handed_on_once_and_with_rests_while_that_fails() {
    let brokers = Brokers::new(true);
    brokers.send(0, "desk", 1, 1).await;
    brokers.pass(3).await;
    // Who has the first stage commits, delivers half of it, and is gone.
    brokers.rows.is_away.store(true, Ordering::Relaxed);
    brokers.send(1, "other", 1, 2).await;
    brokers.pass(1).await;
    brokers.stop_first.cancel();
    brokers.pass(20).await;
    let before = brokers.rows.deliveries.load(Ordering::Relaxed);
    brokers.pass(600).await;
    let tried = brokers.rows.deliveries.load(Ordering::Relaxed) - before;
    assert!((5..=40).contains(&tried), "{tried} in ten minutes");
    assert!(brokers.summed().await.is_empty(), "rows are missing, and perhaps events");

    brokers.rows.is_away.store(false, Ordering::Relaxed);
    brokers.pass(200).await;
    let mut summed = brokers.summed().await;
    summed.sort();
    assert_eq!(summed, ["desk", "other"], "once each");
    let before = brokers.rows.deliveries.load(Ordering::Relaxed);
    // Another one falls silent, and nothing was committed since.
    let scope = Scope::system(TenantId::new("late").unwrap(), "test");
    let data = serde_json::value::to_raw_value(&3).unwrap();
    let event = Event::new(scope.tenant(), "late", "/feed", "number", Timestamp::UNIX_EPOCH);
    brokers.log.append(&scope, &MIDDLE, vec![Event { data: Some(data), ..event }]).await.unwrap();
    brokers.pass(200).await;
    assert_eq!(brokers.summed().await.len(), 3);
    assert_eq!(brokers.rows.deliveries.load(Ordering::Relaxed), before, "each commit is handed on once");
    brokers.stop.cancel();
}

/// What is warned of.
#[derive(Debug, Default, Clone)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_fails_stops_the_clock_only_where_events_wait_in_it_and_that_is_said() {
    let warnings = Warnings::default();
    let _heard = tracing::subscriber::set_default(warnings.clone());
    let brokers = Brokers::new(false);
    brokers.send(0, "desk", 1, 1).await;
    brokers.send(1, "other", 1, 2).await;
    brokers.pass(3).await;
    *brokers.raw.broken.lock() = Some(1);
    brokers.pass(30).await;
    assert!(brokers.first.standings()[&1].failure.is_some());
    brokers.pass(60).await;
    let mut summed = brokers.summed().await;
    summed.sort();
    assert_eq!(summed, ["desk", "other"], "nothing waits in the one that fails");

    let about_the_clock = || -> Vec<String> {
        let said = warnings.0.lock();
        said.iter().filter(|said| said.contains("the clock closes nothing")).cloned().collect()
    };
    assert_eq!(about_the_clock(), [""; 0]);
    brokers.send(1, "other", 21, 3).await;
    brokers.send(0, "desk", 21, 4).await;
    // So long that its bar would be due.
    brokers.pass(1_000).await;
    assert_eq!(brokers.summed().await.len(), 2, "what waits may be anybody's");
    let said = about_the_clock();
    assert_eq!(said.len(), 1, "once: {said:?}");
    assert!(said[0].contains("pass, partition 1") && said[0].contains("cannot be read"), "{said:?}");

    *brokers.raw.broken.lock() = None;
    brokers.pass(120).await;
    let mut summed = brokers.summed().await;
    summed.sort();
    assert_eq!(summed, ["desk", "desk", "other", "other"]);
    brokers.stop.cancel();
}
