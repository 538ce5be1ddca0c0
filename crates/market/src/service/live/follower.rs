//! Reads topics on for one caller, and knows how far the caller was told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use futures::FutureExt;
use kernel::{Error, Event, Result, TenantId};
use serde_json::value::RawValue;
use store::{Extent, Stored, Topic};
use stream::Repeats;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::position::{begin, parsed, text};
use super::tails::{Behind, Here, PAUSE, SharedTail, Tails};
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

/// Reads on from a position. Its futures may be dropped at any time; what of the log they were reading then is read on.
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
    /// What the log itself is read for. It is a task of its own, so that a log that is slower than whoever waits for it is
    /// not asked from the start again, and its turn does not wait for a slow caller.
    reading: Option<Reading>,
    turns: u32,
    follow: bool,
}

#[derive(Debug)]
struct Reading {
    place: (usize, usize),
    task: AbortOnDropHandle<Result<Behind>>,
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
            reading: None,
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
            if let Some(reading) = &mut self.reading {
                let (place, found) = (reading.place, (&mut reading.task).await);
                self.reading = None;
                self.take_behind(place, found.map_err(Error::internal)??);
                continue;
            }
            match self.ready.front() {
                Some(place) => self.read(*place)?,
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

    /// Queues what a partition has, begins to read it, or notes that it has nothing now.
    fn read(&mut self, (place, partition): (usize, usize)) -> Result<()> {
        self.pass_over();
        let tail = &mut self.topics[place].partitions[partition];
        if !self.follow && tail.next >= tail.until {
            self.ready.pop_front();
            return Ok(());
        }
        match tail.shared.as_ref().map_or(Ok(Here::Later), |shared| shared.from(tail.next))? {
            Here::Later => self.read_log((place, partition)),
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

    fn read_log(&mut self, place: (usize, usize)) {
        let TopicTail { topic, partitions, .. } = &mut self.topics[place.0];
        let tail = &mut partitions[place.1];
        let (tails, topic, follow) = (Arc::clone(&self.tails), topic.clone(), self.follow);
        let (number, next, repeats) = (tail.number, tail.next, tail.repeats.take());
        let read = async move {
            let found = tails.behind(&topic, number, next, repeats).await?;
            if found.batch.is_empty() && found.held == next && follow {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(found)
        };
        let task = AbortOnDropHandle::new(tokio::spawn(read.in_current_span()));
        self.reading = Some(Reading { place, task });
    }

    /// Queues what the log had, and what it had no longer.
    fn take_behind(&mut self, place: (usize, usize), found: Behind) {
        let tail = &mut self.topics[place.0].partitions[place.1];
        let next = tail.next;
        tail.repeats = found.repeats;
        let Some(last) = found.batch.last().map(|stored| stored.offset) else {
            tail.next = found.held;
            self.ready.retain(|ready| *ready != place);
            self.lost(place, (next, found.held));
            return;
        };
        let mut new = Vec::with_capacity(found.batch.len());
        for stored in found.batch {
            if !tail.repeats.as_mut().is_some_and(|known| known.knows(&stored.event)) {
                new.push(Arc::new(stored));
            }
        }
        self.lost(place, (next, found.held));
        self.take(place, new, last + 1);
    }

    fn take(&mut self, (place, partition): (usize, usize), events: Vec<Arc<Stored>>, end: u64) {
        let kind = self.topics[place].kind;
        for stored in events {
            if self.is_wanted(kind, &stored.event) {
                self.queue.push_back(Queued { topic: place, partition, what: What::Event(stored) });
            }
        }
        self.topics[place].partitions[partition].next = end;
        // It need not be the first one: all may have been looked at since it began to be read.
        self.ready.retain(|ready| *ready != (place, partition));
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
