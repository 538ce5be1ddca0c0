//! Reading from the database: chunk by chunk, each with its checksum, and no gap between them.

use std::ops::Range;

use fjall::{Keyspace, Readable};
use kernel::{Error, Event, Result, codes};
use store::{Stored, Topic};

use crate::engine::{Space, Tables, failure};
use crate::event_log::chunk::{MOST_EVENTS, Opened};
use crate::event_log::{PLACE_BYTES, offset_of, place_key};

/// What a read goes over.
pub(super) struct Reading {
    pub(super) topic: Topic,
    pub(super) number: u32,
    pub(super) partition: u32,
    pub(super) offsets: Range<u64>,
}

/// What a read met.
pub(super) struct Met {
    pub(super) stored: Stored,
    /// The length of its JSON.
    pub(super) bytes: usize,
    /// The offsets that are stored together with it.
    pub(super) chunk: Range<u64>,
}

impl Reading {
    fn key(&self, offset: u64) -> [u8; PLACE_BYTES] {
        place_key(self.number, self.partition, offset)
    }

    fn damaged(&self, offset: u64, cause: Error) -> Error {
        corrupted(&self.topic, self.partition, offset, cause)
    }

    fn missing(&self, offset: u64) -> Error {
        self.damaged(offset, Error::new(codes::CORRUPTED, "it is not there"))
    }

    fn failed(&self, offset: u64, cause: fjall::Error) -> Error {
        let cause = failure("a stored event cannot be read", cause);
        if cause.code() == codes::CORRUPTED { self.damaged(offset, cause) } else { cause }
    }

    /// Where the chunk begins that the first offset is in, or would be.
    fn start(&self, snapshot: &fjall::Snapshot, events: &Keyspace) -> Result<u64> {
        let first = self.offsets.start;
        if snapshot.contains_key(events, self.key(first)).map_err(|cause| self.failed(first, cause))? {
            return Ok(first);
        }
        let range = self.key(first.saturating_sub(u64::from(MOST_EVENTS) - 1))..=self.key(first);
        let Some(entry) = snapshot.range(events, range).next_back() else { return Err(self.missing(first)) };
        let place = entry.key().map_err(|cause| self.failed(first, cause))?;
        offset_of(&place).ok_or_else(|| self.missing(first))
    }

    /// Calls `found` with each event until that returns false. A gap is corruption.
    pub(super) fn run(&self, tables: &Tables, mut found: impl FnMut(Met) -> bool) -> Result<()> {
        if self.offsets.is_empty() {
            return Ok(());
        }
        let (snapshot, events) = (tables.snapshot(), tables.space(Space::Events));
        let mut offset = self.offsets.start;
        let mut start = self.start(&snapshot, events)?;
        let mut entries = snapshot.range(events, self.key(start)..self.key(self.offsets.end));
        while offset < self.offsets.end {
            let entry = entries.next().ok_or_else(|| self.missing(offset))?.into_inner();
            let (place, value) = entry.map_err(|cause| self.failed(offset, cause))?;
            let opened = (offset_of(&place) == Some(start)).then(|| Opened::read(&place, &value));
            let opened = opened.ok_or_else(|| self.missing(offset))?;
            let opened = opened.map_err(|cause| self.damaged(offset, cause))?;
            let chunk = start..start + opened.count();
            if !chunk.contains(&offset) {
                return Err(self.missing(offset));
            }
            while offset < chunk.end.min(self.offsets.end) {
                let json = opened.json(offset - chunk.start);
                let event = Event::from_json(json).map_err(|cause| self.damaged(offset, cause))?;
                let (stored, bytes) = (Stored { offset, event }, json.len());
                if !found(Met { stored, bytes, chunk: chunk.clone() }) {
                    return Ok(());
                }
                offset += 1;
            }
            start = chunk.end;
        }
        Ok(())
    }
}

pub(super) fn corrupted(
    topic: &Topic,
    partition: u32,
    offset: u64,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let message = format!("event {offset} of topic `{topic}`, partition {partition} is damaged");
    Error::new(codes::CORRUPTED, message).with_source(cause)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::{EventDraft, Scope, SystemClock, TenantId, Timestamp};
    use store::{EventLog, ReadLimit};

    use super::*;
    use crate::config::Options;
    use crate::engine::Engine;
    use crate::event_log::EmbeddedEventLog;
    use crate::event_log::chunk::Draft;
    use crate::folder::Folder;
    use crate::space::FileSystemSpace;
    use crate::writer::Writer;

    const TOPIC: Topic = Topic::fixed("events");

    fn event(id: u32) -> (Scope, Event) {
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let json = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"t"}}"#);
        let draft: EventDraft = serde_json::from_str(&json).unwrap();
        let event = draft.seal(&scope, Timestamp::UNIX_EPOCH).unwrap();
        (scope, event)
    }

    /// A log of five events, each appended alone, and its writer.
    async fn log(folder: &std::path::Path, options: Options) -> (EmbeddedEventLog, Arc<Writer>) {
        let space = Box::new(FileSystemSpace::new(folder));
        let opened = Folder::open(folder).unwrap();
        let engine = Engine::open(opened, options, Arc::new(SystemClock::new()), space).unwrap();
        let writer = Arc::new(Writer::start(Arc::new(engine)).unwrap());
        let log = EmbeddedEventLog::open(Arc::clone(&writer)).unwrap();
        append(&log, 0..5).await;
        (log, writer)
    }

    async fn append(log: &EmbeddedEventLog, ids: Range<u32>) {
        for (scope, event) in ids.map(event) {
            log.append(&scope, &TOPIC, vec![event]).await.unwrap();
        }
    }

    /// Changes event 2 of 5 behind the log's back, in a way that the database finds nothing wrong with.
    async fn read_after(
        change: impl FnOnce(&mut fjall::OwnedWriteBatch, &fjall::Keyspace, Vec<u8>),
    ) -> Error {
        let folder = tempfile::tempdir().unwrap();
        let (log, writer) = log(folder.path(), Options::default()).await;
        let tables = writer.engine().tables().unwrap();
        let mut batch = tables.batch();
        let stored = tables.get(Space::Events, &place_key(0, 0, 2)).unwrap().unwrap();
        change(&mut batch, tables.space(Space::Events), stored.to_vec());
        batch.commit().unwrap();
        assert_eq!(log.read(&TOPIC, 0, 3, ReadLimit::default()).await.unwrap().len(), 2, "the rest is whole");
        log.read(&TOPIC, 0, 0, ReadLimit::default()).await.unwrap_err()
    }

    #[tokio::test]
    async fn what_was_written_after_the_first_read_is_read_from_memory() {
        for (recent_bytes, is_kept) in [(1 << 20, true), (0, false)] {
            let folder = tempfile::tempdir().unwrap();
            let (log, writer) = log(folder.path(), Options { recent_bytes, ..Options::default() }).await;
            assert_eq!(log.read(&TOPIC, 0, 0, ReadLimit::default()).await.unwrap().len(), 5);
            append(&log, 5..8).await;
            let tables = writer.engine().tables().unwrap();
            let mut batch = tables.batch();
            batch.remove(tables.space(Space::Events), place_key(0, 0, 6));
            batch.commit().unwrap();
            let found = log.read(&TOPIC, 0, 6, ReadLimit::default()).await;
            assert_eq!(found.map_or(0, |found| found.len()), if is_kept { 2 } else { 0 });
            // What is on disk may be another thing after that.
            crate::writer::Watcher::reopened(log.topics.as_ref(), &tables).unwrap();
            assert!(log.read(&TOPIC, 0, 6, ReadLimit::default()).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_damaged_event_is_named() {
        let flipped = read_after(|batch, events, mut bytes| {
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
            batch.insert(events, place_key(0, 0, 2), bytes);
        });
        let missing = read_after(|batch, events, _| batch.remove(events, place_key(0, 0, 2)));
        let swapped = read_after(|batch, events, bytes| {
            let mut draft = Draft::default();
            draft.add(&event(2).1);
            let chunk = draft.close();
            assert_eq!(chunk.value(&place_key(0, 0, 2)), bytes);
            batch.insert(events, place_key(0, 0, 2), chunk.value(&place_key(0, 0, 9)));
        });
        let empty = read_after(|batch, events, _| batch.insert(events, place_key(0, 0, 2), []));
        for error in [flipped.await, missing.await, swapped.await, empty.await] {
            assert_eq!(error.code(), codes::CORRUPTED);
            assert_eq!(error.message(), "event 2 of topic `events`, partition 0 is damaged");
        }
    }
}
