//! The `EventLog` port.
//!
//! Events are stored in chunks: see `chunk.rs`. Ids are kept by the first 128 bits of BLAKE3 over (tenant, 0, source,
//! 0, id). An event goes to the partition that XXH3 of (tenant, 0, partition key or subject or id) names. A read ends at
//! the last acknowledged event, whatever else the database holds by then; what was just written is read from memory.

mod append;
mod chunk;
mod reading;
mod recent;
mod restore;
mod retain;
mod topics;

use std::sync::Arc;

use async_trait::async_trait;
use fjall::Slice;
use kernel::{Error, Event, Result, Scope, Timestamp, codes};
use store::recent::Recent;
use store::{
    Appended, EventLog, Extent, LogCapabilities, ReadLimit, Retention, Stored, Topic, check_append,
    check_group, check_restore, no_partition, other_partitions,
};
use tokio::sync::oneshot;

use crate::config::Options;
use crate::engine::Space;
use crate::event_log::append::{AppendJob, NewEvents};
use crate::event_log::reading::Reading;
use crate::event_log::recent::RecentIds;
use crate::event_log::restore::{RestoreJob, RestoredEvents};
use crate::event_log::topics::{TopicState, Topics};
use crate::keys::Key;
use crate::writer::{Group, Job, Writer};

const PLACE_BYTES: usize = 16;

// Below this many events, handing them to another thread costs more than it saves.
const INLINE_EVENTS: usize = 64;

/// The log of one folder.
#[derive(Debug)]
pub(crate) struct EmbeddedEventLog {
    writer: Arc<Writer>,
    topics: Arc<Topics>,
    ids: Arc<RecentIds>,
    recent: Arc<Recent>,
    // One retention at a time, because it reads what it then removes.
    retaining: tokio::sync::Mutex<()>,
}

impl EmbeddedEventLog {
    /// Reads which topics there are and how far they go.
    pub(crate) fn open(writer: Arc<Writer>) -> Result<Self> {
        let ids = Arc::<RecentIds>::default();
        let &Options { partitions, recent_bytes, .. } = writer.engine().options();
        let recent = Arc::new(Recent::new(recent_bytes));
        let memory = (Arc::clone(&ids), Arc::clone(&recent));
        let topics = Arc::new(Topics::load(&*writer.engine().tables()?, partitions, memory)?);
        writer.watch(Arc::clone(&topics) as Arc<_>);
        Ok(Self { writer, topics, ids, recent, retaining: tokio::sync::Mutex::default() })
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
        let sent = self.recent.send(topic);
        let events = if events.len() <= INLINE_EVENTS {
            NewEvents::new(events, partitions, sent)
        } else {
            let ids = Arc::clone(&self.ids);
            let tables = self.writer.engine().tables()?;
            let topic = state.number().ok_or_else(|| Error::internal("a topic was not made"))?;
            let prepare = move || {
                let mut events = NewEvents::new(events, partitions, sent);
                events.look_up(topic, &ids, &tables)?;
                Ok::<_, Error>(events)
            };
            tokio::task::spawn_blocking(prepare).await.map_err(Error::internal)??
        };
        let (answer, answered) = oneshot::channel();
        let job = AppendJob::new(state, Arc::clone(&self.ids), events, answer);
        self.writer.run(Box::new(job), answered).await
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
        // What is durable and not told yet is not read.
        let most = usize::try_from(offsets.end - offsets.start).unwrap_or(usize::MAX);
        let wanted = ReadLimit { events: limit.events.min(most), ..limit };
        let recalled = self.recent.read(topic, partition, offsets.start, wanted);
        if !recalled.events.is_empty() {
            return Ok(recalled.events);
        }
        let tables = self.writer.engine().tables()?;
        let start = offsets.start;
        let reading = Reading { topic: topic.clone(), number, partition, offsets };
        let read = move || {
            let mut events = Vec::new();
            let mut bytes = 0_usize;
            reading.run(&tables, |met| {
                bytes = bytes.saturating_add(met.bytes);
                let fits = events.is_empty() || bytes <= limit.bytes;
                if fits {
                    events.push(met.stored);
                }
                fits && events.len() < limit.events
            })?;
            Ok::<_, Error>(events)
        };
        let events = tokio::task::spawn_blocking(read).await.map_err(Error::internal)??;
        if let Some(last) = events.last() {
            self.recent.reaches(topic, partition, start, last.offset + 1);
        }
        Ok(events)
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
        let encode = move || RestoredEvents::new(events);
        let events = tokio::task::spawn_blocking(encode).await.map_err(Error::internal)?;
        let (answer, answered) = oneshot::channel();
        let ids = Arc::clone(&self.ids);
        let job = RestoreJob { topic: topic.clone(), state, ids, partition, events, answer };
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
