//! The fake of the `EventLog` port: a vector per partition.

use std::collections::{BTreeMap, HashMap, VecDeque};

use async_trait::async_trait;
use kernel::{Error, Event, Result, Scope, TenantId, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    Appended, EventLog, Extent, LogCapabilities, Outcome, ReadLimit, Retention, Stored, Topic, check_append,
    check_group, check_restore, no_partition, other_partitions,
};

/// A log in memory.
#[derive(Debug)]
pub struct MemoryEventLog {
    partitions: u32,
    state: Mutex<State>,
    appended: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<Topic, TopicState>,
    committed: BTreeMap<(String, Topic, u32), u64>,
}

#[derive(Debug)]
struct TopicState {
    partitions: Vec<Partition>,
    ids: HashMap<(TenantId, String, String), (u32, u64)>,
}

#[derive(Debug, Default, Clone)]
struct Partition {
    first: u64,
    events: VecDeque<Event>,
}

impl Partition {
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

impl MemoryEventLog {
    /// An empty log whose topics have this many partitions, at least one.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self { partitions: partitions.max(1), state: Mutex::default(), appended: watch::Sender::new(()) }
    }

    fn empty_topic(&self) -> TopicState {
        TopicState { partitions: vec![Partition::default(); self.partitions as usize], ids: HashMap::new() }
    }

    fn with_partition<R>(
        &self,
        topic: &Topic,
        number: u32,
        look: impl FnOnce(Option<&Partition>) -> R,
    ) -> Result<R> {
        let state = self.state.lock();
        let found = state.topics.get(topic);
        let count = found.map_or(self.partitions as usize, |topic| topic.partitions.len());
        if number as usize >= count {
            return Err(no_partition(topic, number, count));
        }
        Ok(look(found.map(|topic| &topic.partitions[number as usize])))
    }
}

fn identity(event: &Event) -> (TenantId, String, String) {
    (event.tenant.clone(), event.source.clone(), event.id.clone())
}

impl TopicState {
    fn append(&mut self, event: Event) -> Appended {
        let identity = identity(&event);
        if let Some((partition, offset)) = self.ids.get(&identity) {
            return Appended { partition: *partition, offset: *offset, outcome: Outcome::Duplicate };
        }
        let key = event.partition_key.as_deref().or(event.subject.as_deref()).unwrap_or(&event.id);
        let hash = crc32fast::hash(format!("{}\0{key}", event.tenant).as_bytes()) as usize;
        let number = hash % self.partitions.len();
        let partition = &mut self.partitions[number];
        let place = (u32::try_from(number).expect("the count is a u32"), partition.next());
        partition.events.push_back(event);
        self.ids.insert(identity, place);
        Appended { partition: place.0, offset: place.1, outcome: Outcome::New }
    }

    fn retain(&mut self, keep: &Retention, now: Timestamp) -> u64 {
        let mut removed = 0;
        for (number, partition) in (0..).zip(&mut self.partitions) {
            while let Some(oldest) = partition.events.front()
                && partition.first < keep.end(number)
                && !keep.keeps(oldest.time, partition.events.len() as u64, now)
            {
                self.ids.remove(&identity(oldest));
                partition.events.pop_front();
                partition.first += 1;
                removed += 1;
            }
        }
        removed
    }
}

#[async_trait]
impl EventLog for MemoryEventLog {
    fn capabilities(&self) -> LogCapabilities {
        LogCapabilities { deduplicates: true, retains_at_once: true, restores: true }
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        check_append(scope, &events)?;
        let places = {
            let mut state = self.state.lock();
            let topic = state.topics.entry(topic.clone()).or_insert_with(|| self.empty_topic());
            events.into_iter().map(|event| topic.append(event)).collect()
        };
        self.appended.send_replace(());
        Ok(places)
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>> {
        self.with_partition(topic, partition, |partition| {
            let Some(partition) = partition else { return Vec::new() };
            if offset >= partition.next() {
                return Vec::new();
            }
            let start = offset.max(partition.first);
            let skip = usize::try_from(start - partition.first).unwrap_or(usize::MAX);
            let mut bytes = 0;
            let mut found = Vec::new();
            for (offset, event) in (start..).zip(partition.events.iter().skip(skip)) {
                bytes += event.to_json().len();
                if !found.is_empty() && (found.len() >= limit.events || bytes > limit.bytes) {
                    break;
                }
                found.push(Stored { offset, event: event.clone() });
            }
            found
        })
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        let count = self.state.lock().topics.get(topic).map(|topic| topic.partitions.len());
        let count = count.map_or(Ok(self.partitions), u32::try_from).map_err(Error::internal)?;
        (0..count)
            .map(|number| {
                self.with_partition(topic, number, |partition| Extent {
                    partition: number,
                    first: partition.map_or(0, |partition| partition.first),
                    next: partition.map_or(0, Partition::next),
                })
            })
            .collect()
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        let mut appended = self.appended.subscribe();
        loop {
            let next = self.with_partition(topic, partition, |found| found.map_or(0, Partition::next))?;
            if next > offset {
                return Ok(());
            }
            appended.changed().await.expect("the sender lives in self");
        }
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        check_group(group)?;
        self.with_partition(topic, partition, |_| ())?;
        self.state.lock().committed.insert((group.to_owned(), topic.clone(), partition), offset);
        Ok(())
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        check_group(group)?;
        self.with_partition(topic, partition, |_| ())?;
        let key = (group.to_owned(), topic.clone(), partition);
        Ok(self.state.lock().committed.get(&key).copied().unwrap_or(0))
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64> {
        let mut state = self.state.lock();
        Ok(state.topics.get_mut(topic).map_or(0, |topic| topic.retain(&keep, now)))
    }
    async fn restore(
        &self,
        topic: &Topic,
        partitions: u32,
        partition: u32,
        events: Vec<Stored>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let held = state.topics.entry(topic.clone()).or_insert_with(|| TopicState {
            partitions: vec![Partition::default(); partitions as usize],
            ids: HashMap::new(),
        });
        if held.partitions.len() != partitions as usize {
            return Err(other_partitions(topic, held.partitions.len(), partitions));
        }
        let at = held.partitions.get_mut(partition as usize);
        let at = at.ok_or_else(|| no_partition(topic, partition, partitions as usize))?;
        check_restore(topic, Extent { partition, first: at.first, next: at.next() }, &events)?;
        if at.events.is_empty() {
            at.first = events.first().map_or(at.first, |stored| stored.offset);
        }
        for stored in events {
            held.ids.insert(identity(&stored.event), (partition, stored.offset));
            at.events.push_back(stored.event);
        }
        drop(state);
        self.appended.send_replace(());
        Ok(())
    }
}
