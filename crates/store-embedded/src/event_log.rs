//! The `EventLog` port.
//!
//! A stored event is its CRC-32 (over place and event) and its JSON. Ids are kept by the first 128 bits of BLAKE3
//! over (tenant, 0, source, 0, id). An event goes to the partition that XXH3 of (tenant, 0, partition key or
//! subject or id) names. A read ends at the last acknowledged event, whatever else the database holds by then.

mod append;
mod recent;
mod restore;
mod retain;
mod topics;

use std::sync::Arc;

use async_trait::async_trait;
use fjall::{Readable, Slice};
use kernel::{Error, Event, Result, Scope, Timestamp, codes};
use store::{
    Appended, EventLog, Extent, LogCapabilities, ReadLimit, Retention, Stored, Topic, check_append,
    check_group, check_restore, no_partition, other_partitions,
};
use tokio::sync::oneshot;

use crate::engine::{Space, Tables, failure};
use crate::event_log::append::{AppendJob, NewEvents};
use crate::event_log::recent::RecentIds;
use crate::event_log::restore::RestoreJob;
use crate::event_log::topics::{TopicState, Topics};
use crate::keys::Key;
use crate::writer::{Group, Job, Writer};

const CHECKSUM_BYTES: usize = 4;
const PLACE_BYTES: usize = 16;

// Below this many events, handing them to another thread costs more than it saves.
const INLINE_EVENTS: usize = 64;

/// The log of one folder.
#[derive(Debug)]
pub(crate) struct EmbeddedEventLog {
    writer: Arc<Writer>,
    topics: Arc<Topics>,
    recent: Arc<RecentIds>,
    // One retention at a time, because it reads what it then removes.
    retaining: tokio::sync::Mutex<()>,
}

impl EmbeddedEventLog {
    /// Reads which topics there are and how far they go.
    pub(crate) fn open(writer: Arc<Writer>) -> Result<Self> {
        let recent = Arc::<RecentIds>::default();
        let partitions = writer.engine().options().partitions;
        let topics = Topics::load(&*writer.engine().tables()?, partitions, Arc::clone(&recent))?;
        let topics = Arc::new(topics);
        writer.watch(Arc::clone(&topics) as Arc<_>);
        Ok(Self { writer, topics, recent, retaining: tokio::sync::Mutex::default() })
    }

    /// The topic's state, made durable when it is new.
    async fn topic_for_writing(&self, topic: &Topic) -> Result<Arc<TopicState>> {
        let state = self.topics.state(topic);
        if state.number().is_none() {
            let (answer, answered) = oneshot::channel();
            self.writer.run(Box::new(self.topics.make(topic, answer)), answered).await?;
        }
        Ok(state)
    }
}

/// The key of an event: topic, partition, offset.
fn place_key(topic: u32, partition: u32, offset: u64) -> [u8; PLACE_BYTES] {
    let mut key = [0; PLACE_BYTES];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..8].copy_from_slice(&partition.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}

fn offset_of(key: &[u8]) -> Option<u64> {
    key.get(8..PLACE_BYTES)?.try_into().ok().map(u64::from_be_bytes)
}

fn checksum(place: &[u8], json: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(place);
    hasher.update(json);
    hasher.finalize().to_le_bytes()
}

fn corrupted(
    topic: &Topic,
    partition: u32,
    offset: u64,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let message = format!("event {offset} of topic `{topic}`, partition {partition} is damaged");
    Error::new(codes::CORRUPTED, message).with_source(cause)
}

fn decode(place: &[u8], value: &[u8]) -> Result<Event> {
    let (found, json) = value.split_first_chunk::<CHECKSUM_BYTES>().unwrap_or((&[0; CHECKSUM_BYTES], &[]));
    if checksum(place, json) != *found {
        return Err(Error::new(codes::CORRUPTED, "the checksum is wrong"));
    }
    Event::from_json(json)
}

/// What a read goes over.
struct Reading {
    topic: Topic,
    number: u32,
    partition: u32,
    offsets: std::ops::Range<u64>,
}

impl Reading {
    /// Calls `found` with each event and its stored size until that returns false. A gap is corruption.
    fn run(&self, tables: &Tables, mut found: impl FnMut(Stored, usize) -> bool) -> Result<()> {
        let key = |offset| place_key(self.number, self.partition, offset);
        let range = key(self.offsets.start)..key(self.offsets.end);
        let mut entries = tables.snapshot().range(tables.space(Space::Events), range);
        for offset in self.offsets.clone() {
            let damaged = |cause: Error| corrupted(&self.topic, self.partition, offset, cause);
            let missing = || damaged(Error::new(codes::CORRUPTED, "it is not there"));
            let entry = entries.next().ok_or_else(missing)?.into_inner();
            let (place, value) = entry.map_err(|cause| {
                let cause = failure("a stored event cannot be read", cause);
                if cause.code() == codes::CORRUPTED { damaged(cause) } else { cause }
            })?;
            if offset_of(&place) != Some(offset) {
                return Err(missing());
            }
            let event = decode(&place, &value).map_err(damaged)?;
            if !found(Stored { offset, event }, value.len()) {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl EventLog for EmbeddedEventLog {
    fn capabilities(&self) -> LogCapabilities {
        LogCapabilities { deduplicates: true, retains_at_once: true, restores: true }
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        check_append(scope, &events)?;
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.topic_for_writing(topic).await?;
        let partitions = state.partition_count();
        let events = if events.len() <= INLINE_EVENTS {
            NewEvents::new(&events, partitions)
        } else {
            let recent = Arc::clone(&self.recent);
            let tables = self.writer.engine().tables()?;
            let topic = state.number().ok_or_else(|| Error::internal("a topic was not made"))?;
            let prepare = move || {
                let mut events = NewEvents::new(&events, partitions);
                events.look_up(topic, &recent, &tables)?;
                Ok::<_, Error>(events)
            };
            tokio::task::spawn_blocking(prepare).await.map_err(Error::internal)??
        };
        let (answer, answered) = oneshot::channel();
        self.writer
            .run(Box::new(AppendJob::new(state, Arc::clone(&self.recent), events, answer)), answered)
            .await
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>> {
        let state = self.topics.look(topic, partition)?;
        let Some((number, extent)) = state.and_then(|state| state.written(partition)) else {
            return Ok(Vec::new());
        };
        let offsets = offset.max(extent.first)..extent.next;
        if offsets.is_empty() {
            return Ok(Vec::new());
        }
        let tables = self.writer.engine().tables()?;
        let reading = Reading { topic: topic.clone(), number, partition, offsets };
        let read = move || {
            let mut events = Vec::new();
            let mut bytes = 0;
            reading.run(&tables, |stored, stored_bytes| {
                bytes += stored_bytes;
                let fits = events.is_empty() || bytes <= limit.bytes;
                if fits {
                    events.push(stored);
                }
                fits && events.len() < limit.events
            })?;
            Ok(events)
        };
        tokio::task::spawn_blocking(read).await.map_err(Error::internal)?
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        Ok(self.topics.extents(topic))
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.topics.look(topic, partition)?;
        self.topics.state(topic).wait(partition, offset).await
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        check_group(group)?;
        self.topics.look(topic, partition)?;
        let (answer, answered) = oneshot::channel();
        let key = committed_key(group, topic, partition);
        self.writer.run(Box::new(OffsetJob { key, offset, answer }), answered).await
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        check_group(group)?;
        self.topics.look(topic, partition)?;
        let tables = self.writer.engine().tables()?;
        let found = tables.get(Space::Meta, &committed_key(group, topic, partition))?;
        found.map_or(Ok(0), |bytes| read_u64(&bytes))
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64> {
        let _one = self.retaining.lock().await;
        let mut removed = 0;
        for partition in 0..self.topics.extents(topic).len() {
            let partition = u32::try_from(partition).map_err(Error::internal)?;
            removed += self.retain_partition(topic, partition, &keep, now).await?;
        }
        Ok(removed)
    }

    async fn restore(
        &self,
        topic: &Topic,
        partitions: u32,
        partition: u32,
        events: Vec<Stored>,
    ) -> Result<()> {
        let state = self.topics.state_with(topic, partitions);
        if state.partition_count() != partitions {
            return Err(other_partitions(topic, state.partition_count() as usize, partitions));
        }
        let extent = state.extent(partition);
        let extent = extent.ok_or_else(|| no_partition(topic, partition, partitions as usize))?;
        check_restore(topic, extent, &events)?;
        self.topic_for_writing(topic).await?;
        let encode = move || -> Vec<(Stored, Vec<u8>)> {
            let pair = |stored: Stored| {
                let json = stored.event.to_json();
                (stored, json)
            };
            events.into_iter().map(pair).collect()
        };
        let events = tokio::task::spawn_blocking(encode).await.map_err(Error::internal)?;
        let (answer, answered) = oneshot::channel();
        let recent = Arc::clone(&self.recent);
        let job = RestoreJob { topic: topic.clone(), state, recent, partition, events, answer };
        self.writer.run(Box::new(job), answered).await
    }
}

fn committed_key(group: &str, topic: &Topic, partition: u32) -> Slice {
    Key::default()
        .name("group")
        .name(group)
        .name(topic.as_str())
        .last(&partition.to_be_bytes())
        .into_bytes()
        .into()
}

fn read_u64(bytes: &[u8]) -> Result<u64> {
    let damaged = |_| Error::new(codes::CORRUPTED, "a stored offset cannot be read");
    bytes.try_into().map(u64::from_be_bytes).map_err(damaged)
}

/// Remembers an offset.
struct OffsetJob {
    key: Slice,
    offset: u64,
    answer: oneshot::Sender<Result<()>>,
}

impl Job for OffsetJob {
    fn bytes(&self) -> u64 {
        self.key.len() as u64 + 8
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        group.put(Space::Meta, self.key.clone(), self.offset.to_be_bytes().into());
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let _ = self.answer.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use kernel::{EventDraft, SystemClock, TenantId};

    use super::*;
    use crate::config::Options;
    use crate::engine::Engine;
    use crate::folder::Folder;
    use crate::space::FileSystemSpace;

    const TOPIC: Topic = Topic::fixed("events");

    fn event(id: u32) -> (Scope, Event) {
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let json = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"t"}}"#);
        let draft: EventDraft = serde_json::from_str(&json).unwrap();
        let event = draft.seal(&scope, Timestamp::UNIX_EPOCH).unwrap();
        (scope, event)
    }

    /// Changes event 2 of 5 behind the log's back, in a way that the database finds nothing wrong with.
    async fn read_after(
        change: impl FnOnce(&mut fjall::OwnedWriteBatch, &fjall::Keyspace, Vec<u8>),
    ) -> Error {
        let folder = tempfile::tempdir().unwrap();
        let space = Box::new(FileSystemSpace::new(folder.path()));
        let opened = Folder::open(folder.path()).unwrap();
        let engine = Engine::open(opened, Options::default(), Arc::new(SystemClock::new()), space).unwrap();
        let writer = Arc::new(Writer::start(Arc::new(engine)).unwrap());
        let log = EmbeddedEventLog::open(Arc::clone(&writer)).unwrap();
        for id in 0..5 {
            let (scope, event) = event(id);
            log.append(&scope, &TOPIC, vec![event]).await.unwrap();
        }
        let tables = writer.engine().tables().unwrap();
        let mut batch = tables.batch();
        let stored = tables.get(Space::Events, &place_key(0, 0, 2)).unwrap().unwrap();
        change(&mut batch, tables.space(Space::Events), stored.to_vec());
        batch.commit().unwrap();
        assert_eq!(log.read(&TOPIC, 0, 3, ReadLimit::default()).await.unwrap().len(), 2, "the rest is whole");
        log.read(&TOPIC, 0, 0, ReadLimit::default()).await.unwrap_err()
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
            let other = checksum(&place_key(0, 0, 9), &bytes[CHECKSUM_BYTES..]);
            batch.insert(events, place_key(0, 0, 2), [&other[..], &bytes[CHECKSUM_BYTES..]].concat());
        });
        let empty = read_after(|batch, events, _| batch.insert(events, place_key(0, 0, 2), []));
        for error in [flipped.await, missing.await, swapped.await, empty.await] {
            assert_eq!(error.code(), codes::CORRUPTED);
            assert_eq!(error.message(), "event 2 of topic `events`, partition 0 is damaged");
        }
    }
}
