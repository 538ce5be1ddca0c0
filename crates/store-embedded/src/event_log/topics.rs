//! Which topics there are, how far each partition goes, and who waits for more.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use fjall::Slice;
use kernel::{Error, Result, codes};
use parking_lot::RwLock;
use store::recent::Recent;
use store::{Appended, Extent, Topic, no_partition};
use tokio::sync::{oneshot, watch};

use crate::engine::{Space, Tables, failure};
use crate::event_log::chunk::{self, MOST_EVENTS};
use crate::event_log::reading::corrupted;
use crate::event_log::recent::RecentIds;
use crate::event_log::{offset_of, place_key, read_u64};
use crate::keys::Key;
use crate::writer::{Group, Job, Watcher};

/// One topic, as far as it is acknowledged.
#[derive(Debug)]
pub(super) struct TopicState {
    number: OnceLock<u32>,
    partitions: Vec<watch::Sender<Extent>>,
}

impl TopicState {
    fn new(partitions: u32) -> Self {
        let empty = |partition| watch::Sender::new(Extent { partition, first: 0, next: 0 });
        Self { number: OnceLock::new(), partitions: (0..partitions).map(empty).collect() }
    }

    /// Its number on disk, once it is there.
    pub(super) fn number(&self) -> Option<u32> {
        self.number.get().copied()
    }

    pub(super) fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).expect("it was made from a u32")
    }

    /// How far a partition goes.
    pub(super) fn extent(&self, partition: u32) -> Option<Extent> {
        Some(*self.partitions.get(partition as usize)?.borrow())
    }

    /// Its number and how far a partition goes, once it was written to.
    pub(super) fn written(&self, partition: u32) -> Option<(u32, Extent)> {
        Some((self.number()?, self.extent(partition)?))
    }

    /// Tells of events that are durable now.
    pub(super) fn publish<'a>(&self, places: impl Iterator<Item = &'a Appended>) {
        let mut next_offsets = HashMap::new();
        for place in places {
            next_offsets.insert(place.partition, place.offset + 1);
        }
        for (partition, next) in next_offsets {
            self.partitions[partition as usize].send_modify(|extent| extent.next = extent.next.max(next));
        }
    }

    /// Tells that events before `first` are gone.
    pub(super) fn forget_before(&self, partition: u32, first: u64) {
        self.partitions[partition as usize].send_modify(|extent| extent.first = extent.first.max(first));
    }

    pub(super) async fn wait(&self, partition: u32, offset: u64) -> Result<()> {
        let mut extent = self.partitions[partition as usize].subscribe();
        extent.wait_for(|extent| extent.next > offset).await.map_err(Error::internal)?;
        Ok(())
    }
}

/// Every topic by name. A topic that somebody waits for is here before it is on disk.
#[derive(Debug)]
pub(super) struct Topics {
    new_topic_partitions: u32,
    by_name: RwLock<HashMap<Topic, Arc<TopicState>>>,
    memory: Memory,
}

/// What is kept in memory of the newest events.
type Memory = (Arc<RecentIds>, Arc<Recent>);

impl Topics {
    /// Reads them from the database.
    pub(super) fn load(tables: &Tables, new_topic_partitions: u32, memory: Memory) -> Result<Self> {
        let topics = Self { new_topic_partitions, by_name: RwLock::default(), memory };
        topics.reopened(tables)?;
        Ok(topics)
    }

    /// A topic, made in memory when it is new.
    pub(super) fn state(&self, topic: &Topic) -> Arc<TopicState> {
        self.state_with(topic, self.new_topic_partitions)
    }

    /// A topic, made in memory with so many partitions when it is new.
    pub(super) fn state_with(&self, topic: &Topic, partitions: u32) -> Arc<TopicState> {
        if let Some(state) = self.by_name.read().get(topic) {
            return Arc::clone(state);
        }
        let make = || Arc::new(TopicState::new(partitions));
        Arc::clone(self.by_name.write().entry(topic.clone()).or_insert_with(make))
    }

    /// A topic, if it is known.
    ///
    /// # Errors
    /// `NOT_FOUND` for a partition it does not have.
    pub(super) fn look(&self, topic: &Topic, partition: u32) -> Result<Option<Arc<TopicState>>> {
        let state = self.by_name.read().get(topic).cloned();
        let count = state.as_ref().map_or(self.new_topic_partitions, |state| state.partition_count());
        if partition < count { Ok(state) } else { Err(no_partition(topic, partition, count as usize)) }
    }

    /// How far each partition of a topic goes.
    pub(super) fn extents(&self, topic: &Topic) -> Vec<Extent> {
        match self.by_name.read().get(topic) {
            Some(state) => state.partitions.iter().map(|extent| *extent.borrow()).collect(),
            None => (0..self.new_topic_partitions)
                .map(|partition| Extent { partition, first: 0, next: 0 })
                .collect(),
        }
    }

    /// The job that puts a new topic on disk.
    pub(super) fn make(&self, topic: &Topic, answer: oneshot::Sender<Result<()>>) -> MakeTopicJob {
        MakeTopicJob { topic: topic.clone(), state: self.state(topic), number: None, answer }
    }
}

impl Watcher for Topics {
    // A commit that failed may be on disk whole after all, so `next` can be further than what was told.
    fn reopened(&self, tables: &Tables) -> Result<()> {
        let (ids, recent) = &self.memory;
        ids.reset();
        recent.forget_all();
        for entry in tables.space(Space::Meta).prefix(topic_key("").bytes()) {
            let (key, value) =
                entry.into_inner().map_err(|cause| failure("the topics cannot be read", cause))?;
            let (topic, number, partitions) = read_topic(&key, &value)?;
            let state = {
                let mut by_name = self.by_name.write();
                Arc::clone(
                    by_name.entry(topic.clone()).or_insert_with(|| Arc::new(TopicState::new(partitions))),
                )
            };
            for partition in 0..partitions {
                let extent = read_extent(tables, &topic, number, partition)?;
                state.partitions[partition as usize].send_replace(extent);
            }
            let _ = state.number.set(number);
        }
        Ok(())
    }
}

fn topic_key(name: &str) -> Key {
    Key::default().name("topic").last(name.as_bytes())
}

fn read_topic(key: &[u8], value: &[u8]) -> Result<(Topic, u32, u32)> {
    let damaged = || Error::new(codes::CORRUPTED, "the list of topics is damaged");
    let name = std::str::from_utf8(&key[topic_key("").bytes().len()..]).map_err(|_| damaged())?;
    let topic = Topic::new(name).map_err(|_| damaged())?;
    let (number, partitions) = value.split_first_chunk::<4>().ok_or_else(damaged)?;
    let partitions = partitions.try_into().map(u32::from_be_bytes).map_err(|_| damaged())?;
    Ok((topic, u32::from_be_bytes(*number), partitions))
}

/// The key under which the first held offset of a partition is kept; 0 where there is none.
pub(super) fn first_key(topic: u32, partition: u32) -> Slice {
    let place = [topic.to_be_bytes(), partition.to_be_bytes()].concat();
    Key::default().name("first").last(&place).into_bytes().into()
}

fn read_extent(tables: &Tables, name: &Topic, topic: u32, partition: u32) -> Result<Extent> {
    let first = tables.get(Space::Meta, &first_key(topic, partition))?;
    let first = first.map_or(Ok(0), |bytes| read_u64(&bytes))?;
    // Some of a chunk may be gone.
    let start = first.saturating_sub(u64::from(MOST_EVENTS) - 1);
    let range = place_key(topic, partition, start)..=place_key(topic, partition, u64::MAX);
    let next = match tables.space(Space::Events).range(range).next_back() {
        None => first,
        Some(entry) => {
            let entry = entry.into_inner();
            let (key, value) = entry.map_err(|cause| failure("the newest event cannot be read", cause))?;
            let damaged = || Error::new(codes::CORRUPTED, "the key of the newest event is damaged");
            let offset = offset_of(&key).ok_or_else(damaged)?;
            let count =
                chunk::count(&key, &value).map_err(|cause| corrupted(name, partition, offset, cause))?;
            offset.checked_add(count).ok_or_else(damaged)?
        }
    };
    // Everything before `first` was given out and removed.
    Ok(Extent { partition, first, next: next.max(first) })
}

/// Gives a new topic its number.
pub(super) struct MakeTopicJob {
    topic: Topic,
    state: Arc<TopicState>,
    number: Option<u32>,
    answer: oneshot::Sender<Result<()>>,
}

impl Job for MakeTopicJob {
    fn bytes(&self) -> u64 {
        256
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let key: Slice = topic_key(self.topic.as_str()).into_bytes().into();
        // Two callers may have found it missing.
        if let Some(found) = group.get(Space::Meta, &key)? {
            self.number = Some(read_topic(&key, &found)?.1);
            return Ok(());
        }
        let counter: Slice = Key::default().name("topics").into_bytes().into();
        let used = group.get(Space::Meta, &counter)?.map_or(Ok(0), |bytes| read_u64(&bytes))?;
        let number = u32::try_from(used).map_err(Error::internal)?;
        group.put(Space::Meta, counter, (used + 1).to_be_bytes().into());
        let value = [number.to_be_bytes(), self.state.partition_count().to_be_bytes()].concat();
        group.put(Space::Meta, key, value.into());
        self.number = Some(number);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        if let (Ok(()), Some(number)) = (&outcome, self.number) {
            let _ = self.state.number.set(number);
        }
        let _ = self.answer.send(outcome);
    }
}
