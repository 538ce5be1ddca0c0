//! Two stages over brokers: a log of two partitions that keeps what it is given twice, a sink that may be away or hang, and raw
//! events that may not be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Error, Event, ManualClock, Scope, TenantId, Timestamp, codes};
use parking_lot::Mutex;
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{
    Appended, EventLog, Extent, Leases, LogCapabilities, ReadLimit, Records, Retention, Stored, Topic,
};
use stream::{
    LogSink, LogSource, Output, Sink, Source, TaskParts, TaskSettings, Topology, Worker, WorkerSettings,
};
use tokio_util::sync::CancellationToken;

use crate::{MIDDLE, MINUTE_MS, OUT, RAW, pass, sums};

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
pub(crate) struct Rows {
    sink: LogSink,
    pub(crate) is_away: AtomicBool,
    pub(crate) hangs: AtomicBool,
    pub(crate) deliveries: AtomicU64,
}

#[async_trait]
impl Sink for Rows {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        let before = self.deliveries.fetch_add(1, Ordering::Relaxed);
        assert!(before < 1_000, "it is handed on without an end");
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.sink.deliver(outputs).await?;
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Error::new(codes::UNAVAILABLE, "what the rows go to is away"));
        }
        Ok(())
    }
}

/// The raw events, one partition of which may not be read.
#[derive(Debug)]
pub(crate) struct Torn {
    source: LogSource,
    pub(crate) broken: Mutex<Option<u32>>,
    /// The one that has events and hands over none.
    pub(crate) withheld: Mutex<Option<u32>>,
    /// Reads of one event, as no task does.
    pub(crate) looks: AtomicU64,
}

impl Torn {
    fn is_withheld(&self, partition: u32) -> bool {
        *self.withheld.lock() == Some(partition)
    }
}

#[async_trait]
impl Source for Torn {
    async fn read(&self, partition: u32, offset: u64, limit: ReadLimit) -> kernel::Result<Vec<Stored>> {
        if limit.events == 1 {
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
        if *self.broken.lock() == Some(partition) {
            return Err(Error::new(codes::CORRUPTED, "the partition cannot be read"));
        }
        if self.is_withheld(partition) {
            return Ok(Vec::new());
        }
        self.source.read(partition, offset, limit).await
    }

    async fn extents(&self) -> kernel::Result<Vec<Extent>> {
        self.source.extents().await
    }

    async fn wait(&self, partition: u32, offset: u64) -> kernel::Result<()> {
        while self.is_withheld(partition) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.source.wait(partition, offset).await
    }
}

/// Two stages over brokers of two partitions.
pub(crate) struct Brokers {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) records: Arc<dyn Records>,
    clock: Arc<ManualClock>,
    pub(crate) rows: Arc<Rows>,
    pub(crate) raw: Arc<Torn>,
    pub(crate) first: Arc<Worker>,
    pub(crate) stop_first: CancellationToken,
    stop: CancellationToken,
}

impl Brokers {
    /// Where the first stage `is_elsewhere`, the second one sees of it what is committed.
    pub(crate) fn new(is_elsewhere: bool) -> Self {
        let log = Keeping { log: MemoryEventLog::new(2), appended: AtomicU64::new(0) };
        let log: Arc<dyn EventLog> = Arc::new(log);
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let clock = Arc::new(ManualClock::at(Timestamp::from_millisecond(20 * MINUTE_MS).unwrap()));
        let sink = LogSink::new(Arc::clone(&log));
        let (is_away, hangs, deliveries) =
            (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
        let rows = Arc::new(Rows { sink, is_away, hangs, deliveries });
        let source = LogSource::new(Arc::clone(&log), RAW);
        let (broken, withheld, looks) = (Mutex::new(None), Mutex::new(None), AtomicU64::new(0));
        let raw = Arc::new(Torn { source, broken, withheld, looks });
        let worker = |holder: &str, topology: Topology, source: Arc<dyn Source>, sink: Arc<dyn Sink>| {
            let leases = Leases::new(Arc::clone(&records), clock.clone(), holder.to_owned());
            let parts = TaskParts { source, sink, records: Arc::clone(&records) };
            let idle_after = Duration::from_secs(60);
            let settings = WorkerSettings { task: task_settings(), idle_after, ..WorkerSettings::default() };
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
        Self { log, records, clock, rows, raw, first, stop_first, stop }
    }

    /// To a partition of the raw topic.
    pub(crate) async fn send(&self, partition: u32, tenant: &str, minute: i64, number: i64) {
        let scope = Scope::system(TenantId::new(tenant).unwrap(), "test");
        let time = Timestamp::from_millisecond(minute * MINUTE_MS).unwrap();
        let event = |key: String| {
            let data = serde_json::value::to_raw_value(&number).unwrap();
            let event = Event::new(scope.tenant(), key.clone(), "/feed", "number", time);
            Event { data: Some(data.into()), partition_key: Some(key), ..event }
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

    pub(crate) async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    pub(crate) async fn events(&self, topic: &Topic) -> Vec<Event> {
        let limit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
        let mut events = Vec::new();
        for partition in 0..2 {
            let found = self.log.read(topic, partition, 0, limit).await.unwrap();
            events.extend(found.into_iter().map(|stored| stored.event));
        }
        events
    }

    /// Of whom a sum was told.
    pub(crate) async fn summed(&self) -> Vec<String> {
        self.events(&OUT).await.into_iter().map(|event| event.tenant.to_string()).collect()
    }

    /// Of all numbers that are in a sum.
    pub(crate) async fn total(&self) -> i64 {
        let told = self.events(&OUT).await;
        told.iter().map(|event| event.data_as::<(i64, u32, i64)>().unwrap().2).sum()
    }

    pub(crate) fn stop(&self) {
        self.stop_first.cancel();
        self.stop.cancel();
    }
}

/// Of every task.
pub(crate) fn task_settings() -> TaskSettings {
    TaskSettings { log_keeps_repeats: true, ..TaskSettings::default() }
}
