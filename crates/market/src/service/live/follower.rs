//! Reads topics on for one caller, and knows how far the caller was told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures::FutureExt;
use kernel::{Event, Result, TenantId};
use serde_json::value::RawValue;
use store::{Extent, Stored, Topic};
use stream::Repeats;

use super::position::{begin, parsed, text};
use super::tails::{Here, PAUSE, SharedTail, Tails};
use super::{LiveKind, LiveQuestion, StartAt, wanted};

/// A partition that is never at its end does not keep the others waiting for longer.
const TURNS: u32 = 16;

/// Something to tell.
#[derive(Debug)]
pub enum Told {
    /// A price or a bar.
    Message {
        /// `price` or `bar`.
        kind: &'static str,
        /// Its event.
        stored: Arc<Stored>,
    },
    /// Events that retention took before they were read.
    Lost {
        /// Of which type.
        kind: &'static str,
        /// How many, of all tenants.
        events: u64,
    },
}

impl Told {
    /// The data of a message as it stands on its topic.
    #[must_use]
    pub fn data(&self) -> Option<&RawValue> {
        match self {
            Self::Message { stored, .. } => stored.event.data.as_deref(),
            Self::Lost { .. } => None,
        }
    }
}

/// Reads on from a position. Its futures may be dropped at any time; what they read then is read again.
#[derive(Debug)]
pub struct Follower {
    tails: Arc<Tails>,
    tenant: TenantId,
    instruments: BTreeSet<String>,
    topics: Vec<TopicTail>,
    /// Topic and partition that may have more.
    ready: VecDeque<(usize, usize)>,
    /// Of one batch at most, beside what was lost before the beginning.
    queue: VecDeque<Queued>,
    turns: u32,
    follow: bool,
}

/// How far one topic was read.
#[derive(Debug)]
struct TopicTail {
    kind: LiveKind,
    topic: Topic,
    partitions: Vec<PartitionTail>,
}

#[derive(Debug)]
struct PartitionTail {
    number: u32,
    /// The caller was told of everything before this.
    told: u64,
    /// What is queued or told goes up to here.
    next: u64,
    /// The end when it began.
    until: u64,
    /// None where nothing is waited for.
    shared: Option<Arc<SharedTail>>,
    /// What the log itself was read for, over one that keeps what is written twice.
    repeats: Option<Repeats>,
}

#[derive(Debug)]
struct Queued {
    topic: usize,
    partition: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Event(Arc<Stored>),
    Lost { events: u64, until: u64 },
}

impl Follower {
    pub(super) async fn begin(tails: Arc<Tails>, tenant: &TenantId, question: &LiveQuestion) -> Result<Self> {
        let wanted = wanted(&question.types)?;
        let positions = match &question.start {
            StartAt::Position(text) => Some(parsed(text, &wanted)?),
            StartAt::Earliest | StartAt::Latest => None,
        };
        let mut follower = Self {
            tails,
            tenant: tenant.clone(),
            instruments: question.instruments.clone(),
            topics: Vec::new(),
            ready: VecDeque::new(),
            queue: VecDeque::new(),
            turns: 0,
            follow: question.follow,
        };
        for (place, kind) in wanted.into_iter().enumerate() {
            let topic = Topic::fixed(kind.topic);
            let extents = follower.tails.extents(&topic).await?;
            let given = positions.as_ref().map(|all| all[place].as_slice());
            let begins = begin(kind, &extents, given, &question.start)?;
            let mut partitions = Vec::new();
            for (partition, (extent, (told, next))) in extents.iter().zip(begins).enumerate() {
                partitions.push(follower.tail(&topic, *extent, extents.len(), (told, next)));
                follower.lost((place, partition), (told, next));
            }
            follower.topics.push(TopicTail { kind, topic, partitions });
        }
        follower.look_at_all();
        Ok(follower)
    }

    fn tail(
        &self,
        topic: &Topic,
        extent: Extent,
        partitions: usize,
        (told, next): (u64, u64),
    ) -> PartitionTail {
        let shared = self.follow.then(|| self.tails.share(topic, extent, partitions));
        PartitionTail { number: extent.partition, told, next, until: extent.next, shared, repeats: None }
    }

    fn lost(&mut self, (topic, partition): (usize, usize), (from, until): (u64, u64)) {
        if until > from {
            let what = What::Lost { events: until - from, until };
            self.queue.push_back(Queued { topic, partition, what });
        }
    }

    /// What comes next; none at the end where it does not go on.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn next(&mut self) -> Result<Option<Told>> {
        loop {
            if let Some(told) = self.queued() {
                return Ok(Some(told));
            }
            // Others read much that is not for this caller.
            tokio::task::consume_budget().await;
            match self.ready.front() {
                Some(place) => self.read(*place).await?,
                None if !self.follow => return Ok(None),
                None => {
                    let woken = self.wait().await?;
                    self.ready.push_back(woken);
                }
            }
        }
    }

    /// What was read already.
    pub fn queued(&mut self) -> Option<Told> {
        let Queued { topic, partition, what } = self.queue.pop_front()?;
        let TopicTail { kind, partitions, .. } = &mut self.topics[topic];
        let tail = &mut partitions[partition];
        let (told, until) = match what {
            What::Event(stored) => {
                let until = stored.offset + 1;
                (Told::Message { kind: kind.message, stored }, until)
            }
            What::Lost { events, until } => (Told::Lost { kind: kind.name, events }, until),
        };
        tail.told = until;
        Some(told)
    }

    /// Where a later stream goes on after everything that was told.
    #[must_use]
    pub fn position(&self) -> String {
        text(self.topics.iter().map(|topic| {
            let told = topic.partitions.iter().map(|tail| tail.told);
            (topic.kind.name, told.collect())
        }))
    }

    /// Takes in partitions that were added since, and passes over what was read and is of others.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn refresh(&mut self) -> Result<()> {
        if self.queue.is_empty() {
            self.pass_over();
        }
        for place in 0..self.topics.len() {
            let topic = self.topics[place].topic.clone();
            let extents = self.tails.partitions(&topic).await?;
            for extent in extents.iter().skip(self.topics[place].partitions.len()) {
                let added = self.tail(&topic, *extent, extents.len(), (extent.first, extent.first));
                self.topics[place].partitions.push(added);
            }
        }
        self.look_at_all();
        Ok(())
    }

    /// Nothing is queued: what was read and not told is of others.
    fn pass_over(&mut self) {
        for tail in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            tail.told = tail.next;
        }
    }

    fn look_at_all(&mut self) {
        let all = self.topics.iter().enumerate();
        self.ready = all
            .flat_map(|(place, topic)| (0..topic.partitions.len()).map(move |partition| (place, partition)))
            .collect();
    }

    async fn wait(&self) -> Result<(usize, usize)> {
        let mut waits = Vec::new();
        for (place, topic) in self.topics.iter().enumerate() {
            for (partition, tail) in topic.partitions.iter().enumerate() {
                let Some(shared) = &tail.shared else { continue };
                let wait = shared.wait(tail.next);
                waits.push(wait.map(move |waited| waited.map(|()| (place, partition))).boxed());
            }
        }
        if waits.is_empty() {
            // Until partitions are there, which `refresh` sees.
            return std::future::pending().await;
        }
        futures::future::select_all(waits).await.0
    }

    /// Queues what a partition has, or notes that it has nothing now.
    async fn read(&mut self, (place, partition): (usize, usize)) -> Result<()> {
        self.pass_over();
        let tail = &mut self.topics[place].partitions[partition];
        if !self.follow && tail.next >= tail.until {
            self.ready.pop_front();
            return Ok(());
        }
        match tail.shared.as_ref().map_or(Ok(Here::Later), |shared| shared.from(tail.next))? {
            Here::Later => return self.read_log((place, partition)).await,
            Here::Nothing => {
                self.ready.pop_front();
            }
            Here::Events(events, end) => {
                // Those who read for all know what came again.
                tail.repeats = None;
                self.take((place, partition), events, end);
            }
        }
        Ok(())
    }

    async fn read_log(&mut self, (place, partition): (usize, usize)) -> Result<()> {
        let TopicTail { topic, partitions, .. } = &self.topics[place];
        let tail = &partitions[partition];
        let (number, next) = (tail.number, tail.next);
        if tail.repeats.is_none() {
            let repeats = self.tails.repeats(topic, number, next).await?;
            self.topics[place].partitions[partition].repeats = repeats;
        }
        let topic = &self.topics[place].topic;
        let batch = self.tails.read(topic, number, next).await?;
        let first = batch.first().map(|stored| stored.offset);
        let mut lost = next;
        if first.is_none_or(|first| first > next) {
            let extents = self.tails.extents(topic).await?;
            // A broker has offsets that no event is at, and they are no loss.
            let held = extents.get(partition).map_or(next, |extent| extent.first);
            lost = first.map_or(held, |first| held.min(first)).max(next);
        }
        let Some(last) = batch.last().map(|stored| stored.offset) else {
            if lost == next && self.follow {
                tokio::time::sleep(PAUSE).await;
            }
            self.ready.pop_front();
            self.lost((place, partition), (next, lost));
            self.topics[place].partitions[partition].next = lost;
            return Ok(());
        };
        self.lost((place, partition), (next, lost));
        let mut new = Vec::with_capacity(batch.len());
        for stored in batch {
            let tail = &mut self.topics[place].partitions[partition];
            if !tail.repeats.as_mut().is_some_and(|known| known.knows(&stored.event)) {
                new.push(Arc::new(stored));
            }
        }
        self.take((place, partition), new, last + 1);
        Ok(())
    }

    fn take(&mut self, (place, partition): (usize, usize), events: Vec<Arc<Stored>>, end: u64) {
        let kind = self.topics[place].kind;
        for stored in events {
            if self.is_wanted(kind, &stored.event) {
                self.queue.push_back(Queued { topic: place, partition, what: What::Event(stored) });
            }
        }
        self.topics[place].partitions[partition].next = end;
        self.ready.pop_front();
        self.ready.push_back((place, partition));
        self.turns += 1;
        if self.turns.is_multiple_of(TURNS) {
            self.look_at_all();
        }
    }

    fn is_wanted(&self, kind: LiveKind, event: &Event) -> bool {
        event.tenant == self.tenant
            && event.kind == kind.event
            && event.data.is_some()
            && (self.instruments.is_empty()
                || event.subject.as_ref().is_some_and(|subject| self.instruments.contains(subject)))
    }
}
