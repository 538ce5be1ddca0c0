//! Engines that fail, and a sink that remembers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Event, Result, Scope, Timestamp, codes};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{
    Appended, EventLog, Extent, LogCapabilities, Page, Query, ReadLimit, Record, Records, Retention, Stored,
    Table, Topic, Write,
};
use stream::{LogSink, Output, Sink};

/// How often a call fails that comes once in a step, and one that comes often.
const OFTEN: f64 = 0.03;
const SELDOM: f64 = 0.003;
/// How often a delivery takes until the next step.
const SLOW: f64 = 0.3;

/// When a call fails.
#[derive(Debug)]
pub(crate) struct Faults(Option<Mutex<ChaCha8Rng>>);

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The call fails and does nothing.
    Before,
    /// The call fails and did it all the same.
    After,
    /// The process ends before the call.
    CrashBefore,
    /// The process ends after the call, before it learns of it.
    CrashAfter,
}

impl Faults {
    pub(crate) fn never() -> Self {
        Self(None)
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Some(Mutex::new(ChaCha8Rng::seed_from_u64(seed ^ 0xfa))))
    }

    fn draw(&self, probability: f64) -> Option<Fault> {
        let mut rng = self.0.as_ref()?.lock();
        let kinds = [Fault::Before, Fault::After, Fault::CrashBefore, Fault::CrashAfter];
        rng.random_bool(probability).then(|| kinds[rng.random_range(0..kinds.len())])
    }

    async fn around<R>(&self, probability: f64, call: impl Future<Output = Result<R>>) -> Result<R> {
        let away = || Error::new(codes::UNAVAILABLE, "is away");
        let fault = self.draw(probability);
        match fault {
            Some(Fault::Before) => return Err(away()),
            Some(Fault::CrashBefore) => return std::future::pending().await,
            _ => {}
        }
        let result = call.await;
        match fault {
            Some(Fault::After) => Err(away()),
            Some(Fault::CrashAfter) => std::future::pending().await,
            _ => result,
        }
    }
}

#[derive(Debug)]
pub(crate) struct FaultyRecords {
    pub(crate) inner: Arc<MemoryRecords>,
    pub(crate) faults: Arc<Faults>,
}

#[async_trait]
impl Records for FaultyRecords {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        self.faults.around(SELDOM, self.inner.get(scope, table, key)).await
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        self.faults.around(SELDOM, self.inner.list(scope, table, query)).await
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        self.faults.around(OFTEN, self.inner.commit(scope, writes)).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        self.inner.erase(scope).await
    }
}

#[derive(Debug)]
pub(crate) struct FaultyLog {
    pub(crate) inner: Arc<MemoryEventLog>,
    pub(crate) faults: Arc<Faults>,
}

#[async_trait]
impl EventLog for FaultyLog {
    fn capabilities(&self) -> LogCapabilities {
        self.inner.capabilities()
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        // Torn: the first ones may be written and the others not.
        if events.len() > 1 && self.faults.draw(OFTEN) == Some(Fault::After) {
            let some = events[..events.len() / 2].to_vec();
            self.inner.append(scope, topic, some).await?;
            return Err(Error::new(codes::UNAVAILABLE, "was torn"));
        }
        self.faults.around(OFTEN, self.inner.append(scope, topic, events)).await
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>> {
        self.faults.around(OFTEN, self.inner.read(topic, partition, offset, limit)).await
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        self.faults.around(SELDOM, self.inner.extents(topic)).await
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.inner.wait(topic, partition, offset).await
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.inner.commit(group, topic, partition, offset).await
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        self.inner.committed(group, topic, partition).await
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64> {
        self.inner.retain(topic, keep, now).await
    }
}

/// A table by id: what comes again must say the same.
#[derive(Debug, Default)]
pub(crate) struct TableSink(Mutex<BTreeMap<String, Vec<u8>>>);

impl TableSink {
    pub(crate) fn rows(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().clone()
    }

    fn take(&self, outputs: &[Output]) {
        let mut rows = self.0.lock();
        for Output { topic, event } in outputs {
            let key = format!("{topic} {} {} {}", event.tenant, event.source, event.id);
            let row = event.to_json();
            let earlier = rows.insert(key.clone(), row.clone());
            assert!(earlier.is_none_or(|earlier| earlier == row), "`{key}` changed what it says");
        }
    }
}

/// The log and the table.
#[derive(Debug)]
pub(crate) struct Both {
    pub(crate) log: LogSink,
    pub(crate) table: Arc<TableSink>,
    pub(crate) faults: Arc<Faults>,
}

#[async_trait]
impl Sink for Both {
    async fn deliver(&self, outputs: Vec<Output>) -> Result<()> {
        self.table.take(&outputs);
        if self.faults.draw(SLOW).is_some() {
            futures::pending!();
        }
        self.log.deliver(outputs).await
    }
}
