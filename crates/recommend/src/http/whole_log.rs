//! Reads everything that a topic holds at one moment, piece by piece.
//!
//! It refuses to end early: what the log held at the beginning comes whole, less what retention removed since, or
//! there is an error.

use std::sync::Arc;

use kernel::{Error, Event, Result, codes};
use store::{EventLog, Extent, ReadLimit, Stored, Topic};

use crate::views::Place;

/// What is still to be read of a topic.
#[derive(Debug)]
pub(super) struct WholeLog {
    log: Arc<dyn EventLog>,
    topic: Topic,
    limit: ReadLimit,
    /// Of each partition, from the next offset to the one where the reading ends.
    rest: Vec<Extent>,
}

impl WholeLog {
    /// Everything that the topic holds now: reading a log that grows faster than it is read would not end.
    ///
    /// # Errors
    /// Those of the log.
    pub(super) async fn begin(log: Arc<dyn EventLog>, topic: Topic, limit: ReadLimit) -> Result<Self> {
        let rest = log.extents(&topic).await?;
        Ok(Self { log, topic, limit, rest })
    }

    /// The next events of one partition, oldest first; none when everything was read.
    ///
    /// # Errors
    /// Those of the log; `CORRUPTED` when it does not give what it held at the beginning and still should.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<(Place, Event)>>> {
        while let Some(Extent { partition, first, next: end }) = self.rest.last_mut() {
            if first >= end {
                self.rest.pop();
                continue;
            }
            let batch = self.log.read(&self.topic, *partition, *first, self.limit).await?;
            let Some(last) = batch.last() else {
                *first = first_held(&*self.log, &self.topic, *partition, *first).await?;
                continue;
            };
            *first = last.offset + 1;
            let events = batch.into_iter().filter(|stored| stored.offset < *end);
            let placed = |stored: Stored| (Place::new(*partition, stored.offset), stored.event);
            return Ok(Some(events.map(placed).collect()));
        }
        Ok(None)
    }
}

/// Where a partition begins that holds nothing at `offset` any more.
async fn first_held(log: &dyn EventLog, topic: &Topic, partition: u32, offset: u64) -> Result<u64> {
    let extents = log.extents(topic).await?;
    let found = extents.into_iter().find(|extent| extent.partition == partition && extent.first > offset);
    let lost = || {
        let message = format!("partition {partition} of topic `{topic}` does not give its event {offset}");
        Error::new(codes::CORRUPTED, message)
    };
    found.map(|extent| extent.first).ok_or_else(lost)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use kernel::{EventDraft, Scope, TenantId, Timestamp};
    use store::memory::MemoryEventLog;
    use store::{Appended, LogCapabilities, Retention};

    use super::*;

    const TOPIC: Topic = Topic::fixed("events");

    /// A log that gives nothing at one offset, and then, where told to, removes everything before another.
    #[derive(Debug)]
    struct Holed {
        inner: MemoryEventLog,
        hole: Option<u64>,
        keeps: Option<u64>,
    }

    #[async_trait]
    impl EventLog for Holed {
        fn capabilities(&self) -> LogCapabilities {
            self.inner.capabilities()
        }

        async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
            self.inner.append(scope, topic, events).await
        }

        async fn read(
            &self,
            topic: &Topic,
            partition: u32,
            at: u64,
            limit: ReadLimit,
        ) -> Result<Vec<Stored>> {
            if self.hole != Some(at) {
                return self.inner.read(topic, partition, at, limit).await;
            }
            if self.keeps.is_some() {
                let keep = Retention { events: self.keeps, ..Retention::default() };
                self.inner.retain(topic, keep, Timestamp::UNIX_EPOCH).await?;
            }
            Ok(Vec::new())
        }

        async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
            self.inner.extents(topic).await
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

    async fn append(log: &dyn EventLog, ids: std::ops::Range<u32>) {
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let event = |id: u32| {
            let json = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"a.b.v1"}}"#);
            let draft: EventDraft = serde_json::from_str(&json).unwrap();
            draft.seal(&scope, Timestamp::UNIX_EPOCH).unwrap()
        };
        log.append(&scope, &TOPIC, ids.map(event).collect()).await.unwrap();
    }

    /// The ids that are read of ten events, three at once, while more come.
    async fn read(partitions: u32, hole: Option<u64>, keeps: Option<u64>) -> Result<Vec<u32>> {
        let log = Arc::new(Holed { inner: MemoryEventLog::new(partitions), hole, keeps });
        append(&*log, 0..10).await;
        let limit = ReadLimit { events: 3, ..ReadLimit::default() };
        let mut whole = WholeLog::begin(Arc::clone(&log) as Arc<dyn EventLog>, TOPIC, limit).await?;
        append(&*log, 10..15).await;
        let mut ids = Vec::new();
        while let Some(events) = whole.next().await? {
            ids.extend(events.iter().map(|(_, event)| event.id.parse::<u32>().unwrap()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    #[tokio::test]
    async fn everything_is_read_or_there_is_an_error() {
        let whole: Vec<u32> = (0..10).collect();
        assert_eq!(read(1, None, None).await.unwrap(), whole);
        assert_eq!(read(4, None, None).await.unwrap(), whole);
        for hole in [0, 3, 9] {
            let error = read(1, Some(hole), None).await.unwrap_err();
            assert_eq!(error.code(), codes::CORRUPTED, "{hole}");
            assert!(error.message().contains(&format!("event {hole}")), "{error}");
        }
        let empty: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(2));
        let mut nothing = WholeLog::begin(empty, TOPIC, ReadLimit::default()).await.unwrap();
        assert!(nothing.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_retention_removes_meanwhile_is_passed_over() {
        // Fifteen events are held when the hole is met.
        assert_eq!(read(1, Some(3), Some(8)).await.unwrap(), [0, 1, 2, 7, 8, 9]);
        assert_eq!(read(1, Some(3), Some(5)).await.unwrap(), [0, 1, 2]);
        assert_eq!(read(1, Some(3), Some(0)).await.unwrap(), [0, 1, 2]);
    }
}
