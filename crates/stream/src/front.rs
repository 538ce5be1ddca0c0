//! How far what was there at a moment has come: through the stages before, first the one that is furthest away, and at last to
//! this one.
//!
//! Of each stage it is noted where its topic ends ([`Front`]). Then that is waited for: until all before those ends was taken
//! and committed in every partition, here or elsewhere, and what was made of it was delivered.
//!
//! A task delivers what it committed before it commits again. So what a partition of another process made is delivered once
//! that process commits again. Where nothing was committed for as long as a lease lasts, who has it may be gone, and its
//! outputs are handed to the sink here. A log may keep what it is given twice: each commit is handed on once by a process, and
//! what failed is tried again after a rest that grows.
//!
//! Brokers have places that no event is at, so it is read what comes next where not everything was taken. Such a read takes away
//! the reader that the task itself goes on with: a partition that goes on is read once at most, and one that stands still
//! seldom. Brokers may also hand over nothing for a while, as when a leader moves: that no event is there is believed where
//! they say so again after a rest.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::Result;
use store::ReadLimit;

use crate::task::LastCommit;
use crate::worker::Worker;
use crate::{Step, Task};

/// Between a delivery that failed and the next try; doubled each time, up to the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// How long it is believed what a read found: longer than a request to brokers takes, or a leader to move.
const READS_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// How far what was there at a moment has come.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) began: Duration,
    pub(crate) began_ms: i64,
    /// How many stages it went through.
    stages: usize,
    /// By partition of the next one that has not taken it yet, where what is to be taken ends; none before that is known.
    ends: Option<BTreeMap<u32, u64>>,
    /// By partition that took it, what it may not have delivered.
    undelivered: BTreeMap<u32, Undelivered>,
    places: BTreeMap<u32, Place>,
}

/// A commit whose outputs may not be delivered.
#[derive(Debug, Clone, Copy)]
struct Undelivered {
    /// Its number.
    commit: u64,
    /// The first offset that it did not take.
    next: u64,
    /// Since when it is known to be the last one.
    since: Duration,
}

/// Where a partition stood that did not take everything, when it was looked at last.
#[derive(Debug, Clone, Copy)]
struct Place {
    next: u64,
    read: Option<Found>,
}

/// What a read found at a place.
#[derive(Debug, Clone, Copy)]
struct Found {
    at: Duration,
    /// Where the first event is; none where none was handed over.
    offset: Option<u64>,
}

/// What this process handed on for a partition that it does not have, or that fails here.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// The commit whose outputs the sink took, by its number.
    commit: Option<u64>,
    /// When it may be tried again after a failure, and how long that rest is.
    rests_until: Duration,
    rest: Duration,
    /// Why the last try failed.
    failure: Option<String>,
}

/// Why it is not known who is silent.
#[derive(Debug)]
pub(crate) struct Obstacle {
    pub(crate) stage: String,
    pub(crate) partition: Option<u32>,
    pub(crate) reason: String,
    /// Whether nothing may be in the way, which time will tell.
    is_unproven: bool,
}

impl Front {
    /// Of what is there now.
    pub(crate) fn new(began: Duration, began_ms: i64) -> Self {
        let (undelivered, places) = (BTreeMap::new(), BTreeMap::new());
        Self { began, began_ms, stages: 0, ends: None, undelivered, places }
    }

    /// It went through a stage.
    fn next_stage(&mut self) {
        self.stages += 1;
        self.ends = None;
        self.places.clear();
    }
}

impl Worker {
    /// Goes on with a front as far as that goes: all that was there when it began has been taken here, up to `next` by the
    /// last `step`.
    pub(crate) async fn is_through(
        &self,
        partition: u32,
        next: u64,
        step: Step,
        front: &mut Front,
    ) -> Result<(), Obstacle> {
        let before = self.before();
        while let Some(stage) = before.get(front.stages) {
            stage.pass_on(front).await?;
            front.next_stage();
        }
        if front.ends.is_none() {
            let ends = self.ends().await;
            front.ends = Some(ends.map_err(|error| self.obstacle(Some(partition), error.chain()))?);
        }
        let end = front.ends.as_ref().and_then(|ends| ends.get(&partition)).copied().unwrap_or(0);
        if next < end && matches!(step, Step::Took(_)) {
            return Err(self.waits(partition));
        }
        self.nothing_waits(partition, next, end, &mut front.places).await
    }

    /// The stages before, the furthest first.
    fn before(&self) -> Vec<&Self> {
        let mut before: Vec<&Self> =
            std::iter::successors(self.feeder.as_deref(), |stage| stage.feeder.as_deref()).collect();
        before.reverse();
        before
    }

    fn obstacle(&self, partition: Option<u32>, reason: impl Into<String>) -> Obstacle {
        let (stage, reason) = (self.topology.name().to_owned(), reason.into());
        Obstacle { stage, partition, reason, is_unproven: false }
    }

    fn waits(&self, partition: u32) -> Obstacle {
        self.obstacle(Some(partition), "events wait there, which is behind or fails")
    }

    /// By partition of the source that has anything, where it ends now.
    async fn ends(&self) -> Result<BTreeMap<u32, u64>> {
        let extents = self.parts.source.extents().await?;
        let used = extents.into_iter().filter(|extent| extent.next > extent.first);
        Ok(used.map(|extent| (extent.partition, extent.next)).collect())
    }

    /// Whether all events before the ends of a front were taken and committed in every partition, here or by others; then
    /// whether what was made of them was delivered. What has been found out is not asked again.
    async fn pass_on(&self, front: &mut Front) -> Result<(), Obstacle> {
        if front.ends.is_none() {
            front.ends = Some(self.ends().await.map_err(|error| self.obstacle(None, error.chain()))?);
        }
        let Front { ends: Some(ends), undelivered, places, .. } = front else { return Ok(()) };
        let mut unproven = None;
        for (partition, end) in ends.clone() {
            match self.has_taken(partition, end, places).await {
                Ok(commit) => {
                    ends.remove(&partition);
                    undelivered.extend(commit.map(|commit| (partition, commit)));
                }
                // The rests of all partitions go by at the same time.
                Err(obstacle) if obstacle.is_unproven => unproven = unproven.or(Some(obstacle)),
                Err(obstacle) => return Err(obstacle),
            }
        }
        if let Some(obstacle) = unproven {
            return Err(obstacle);
        }
        while let Some((&partition, &commit)) = undelivered.first_key_value() {
            self.has_delivered(partition, commit).await?;
            undelivered.remove(&partition);
        }
        Ok(())
    }

    /// Up to where the task of a partition that runs here and does not fail took events and delivered what it made of them, and
    /// how often it was opened.
    fn stands(&self, partition: u32) -> Option<(u64, u64)> {
        let standings = self.standings.lock();
        let standing = standings.get(&partition).filter(|standing| standing.failure.is_none())?;
        Some((standing.next_offset, standing.epoch))
    }

    async fn last_commit(&self, partition: u32) -> Result<Option<LastCommit>, Obstacle> {
        let (records, settings) = (&self.parts.records, &self.settings.task);
        let looked = Task::last_commit(&self.topology, records, settings, partition).await;
        looked.map_err(|error| self.obstacle(Some(partition), error.chain()))
    }

    /// That all events of a partition before `end` were taken and committed; the commit that did so, where what it made is not
    /// known to be delivered.
    async fn has_taken(
        &self,
        partition: u32,
        end: u64,
        places: &mut BTreeMap<u32, Place>,
    ) -> Result<Option<Undelivered>, Obstacle> {
        let here = self.stands(partition);
        if here.is_some_and(|(next, _)| next >= end) {
            return Ok(None);
        }
        let Some(last) = self.last_commit(partition).await? else { return Err(self.waits(partition)) };
        // Unless another process opened it since, whatever the task here may think.
        if let Some((next, _)) = here.filter(|(_, epoch)| *epoch == last.epoch) {
            if next < last.next_offset {
                return Err(self.waits(partition));
            }
            self.nothing_waits(partition, next, end, places).await?;
            return Ok(None);
        }
        self.nothing_waits(partition, last.next_offset, end, places).await?;
        let (commit, next, since) = (last.number, last.next_offset, self.clock.elapsed());
        Ok(last.has_outputs.then_some(Undelivered { commit, next, since }))
    }

    /// That no event is from `next` on and before `end`.
    async fn nothing_waits(
        &self,
        partition: u32,
        next: u64,
        end: u64,
        places: &mut BTreeMap<u32, Place>,
    ) -> Result<(), Obstacle> {
        if next >= end {
            return Ok(());
        }
        let known = places.get(&partition).copied();
        if known.is_some_and(|known| known.next != next) {
            places.insert(partition, Place { next, read: None });
            return Err(self.waits(partition));
        }
        let before = known.and_then(|known| known.read);
        let is_old = |found: &Found| self.clock.elapsed().saturating_sub(found.at) >= READS_AGAIN_AFTER;
        let (found, is_proven) = match before {
            Some(found) if !is_old(&found) => (found, false),
            _ => {
                let offset = self.first_from(partition, next).await?;
                let found = Found { at: self.clock.elapsed(), offset };
                places.insert(partition, Place { next, read: Some(found) });
                (found, before.is_some_and(|before| before.offset.is_none()))
            }
        };
        match found.offset {
            Some(offset) if offset < end => Err(self.waits(partition)),
            None if !is_proven => {
                let obstacle = self.obstacle(Some(partition), "what is there is not handed over yet");
                Err(Obstacle { is_unproven: true, ..obstacle })
            }
            _ => Ok(()),
        }
    }

    /// Where the first event from `next` on is; none where none is handed over.
    async fn first_from(&self, partition: u32, next: u64) -> Result<Option<u64>, Obstacle> {
        let one = ReadLimit { events: 1, ..ReadLimit::default() };
        let read = self.parts.source.read(partition, next, one).await;
        let events = read.map_err(|error| self.obstacle(Some(partition), error.chain()))?;
        Ok(events.first().map(|stored| stored.offset))
    }

    /// That the outputs of a commit were delivered: by whoever has the partition, or else from here.
    async fn has_delivered(&self, partition: u32, made: Undelivered) -> Result<(), Obstacle> {
        let is_done_here = self.stands(partition).is_some_and(|(next, _)| next >= made.next);
        let handed = self.handed.lock().get(&partition).and_then(|handed| handed.commit);
        if is_done_here || handed == Some(made.commit) {
            return Ok(());
        }
        let last = self.last_commit(partition).await?;
        // Another commit comes after their delivery.
        if last.is_none_or(|last| last.number != made.commit) {
            return Ok(());
        }
        if self.clock.elapsed().saturating_sub(made.since) < self.settings.lease {
            return Err(self.obstacle(Some(partition), "its outputs may not be delivered yet"));
        }
        self.hand_on(partition, made.commit).await
    }

    /// Hands on the outputs of a commit, unless that rests after a failure.
    async fn hand_on(&self, partition: u32, commit: u64) -> Result<(), Obstacle> {
        {
            let (now, mut all) = (self.clock.elapsed(), self.handed.lock());
            let handed = all.entry(partition).or_default();
            if now < handed.rests_until {
                let reason = handed.failure.as_deref().unwrap_or("its outputs are on their way");
                return Err(self.obstacle(Some(partition), reason));
            }
            // Whoever else looks meanwhile does not try too.
            handed.rest = (handed.rest * 2).clamp(FIRST_REST, LONGEST_REST);
            handed.rests_until = now.saturating_add(handed.rest);
        }
        let (topology, parts, task) = (&self.topology, &self.parts, &self.settings.task);
        let (records, sink) = (&parts.records, parts.sink.as_ref());
        let delivered = Task::deliver_commit(topology, records, sink, task, partition, Some(commit)).await;
        let failure = delivered.err().map(|error| error.chain());
        let mut all = self.handed.lock();
        let Some(reason) = failure else {
            all.insert(partition, Handed { commit: Some(commit), ..Handed::default() });
            return Ok(());
        };
        all.entry(partition).or_default().failure = Some(reason.clone());
        Err(self.obstacle(Some(partition), reason))
    }
}
