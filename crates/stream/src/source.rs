//! Where events come from.
//!
//! To add a source: [`Source`]. What it cannot read as an event it must hand over all the same, as an event of a type
//! of its own with the bytes in `data_base64`: then it is refused by `read` and found among the dead letters, and
//! the partition goes on.

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Event, Result};
use store::{EventLog, Extent, ReadLimit, Stored, Topic};

/// Ordered, replayable partitions of events.
#[async_trait]
pub trait Source: Send + Sync + Debug {
    /// Reads events from `offset` on, oldest first; none at the end. The same offset always gives the same event.
    ///
    /// # Errors
    /// Those of the engine.
    async fn read(&self, partition: u32, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>>;

    /// What each partition holds.
    ///
    /// # Errors
    /// Those of the engine.
    async fn extents(&self) -> Result<Vec<Extent>>;

    /// Returns when there is an event at `offset` or later.
    ///
    /// # Errors
    /// Those of the engine.
    async fn wait(&self, partition: u32, offset: u64) -> Result<()>;
}

/// A topic of an event log.
#[derive(Debug, Clone)]
pub struct LogSource {
    log: Arc<dyn EventLog>,
    topic: Topic,
}

impl LogSource {
    /// All of a topic.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, topic: Topic) -> Self {
        Self { log, topic }
    }
}

#[async_trait]
impl Source for LogSource {
    async fn read(&self, partition: u32, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        self.log.read(&self.topic, partition, offset, limit).await
    }

    async fn extents(&self) -> Result<Vec<Extent>> {
        self.log.extents(&self.topic).await
    }

    async fn wait(&self, partition: u32, offset: u64) -> Result<()> {
        self.log.wait(&self.topic, partition, offset).await
    }
}

/// The events of another source that are wanted, for a backfill of one tenant, instrument or time.
#[derive(Clone)]
pub struct Selected {
    source: Arc<dyn Source>,
    wants: Arc<dyn Fn(&Event) -> bool + Send + Sync>,
}

impl Debug for Selected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Selected").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Selected {
    /// Those of `source` for which `wants` is true. It must depend on the event alone.
    pub fn new(source: Arc<dyn Source>, wants: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        Self { source, wants: Arc::new(wants) }
    }
}

#[async_trait]
impl Source for Selected {
    async fn read(&self, partition: u32, mut offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        loop {
            let mut found = self.source.read(partition, offset, limit).await?;
            let Some(last) = found.last() else { return Ok(found) };
            offset = last.offset + 1;
            found.retain(|stored| (self.wants)(&stored.event));
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }

    async fn extents(&self) -> Result<Vec<Extent>> {
        self.source.extents().await
    }

    async fn wait(&self, partition: u32, offset: u64) -> Result<()> {
        self.source.wait(partition, offset).await
    }
}
