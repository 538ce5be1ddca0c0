//! Who is silent, and not only unheard: the tenants whose time stands still though everything that was sent is here.
//!
//! A tenant whose watermark did not move for a while may be silent, or a stage before this one does not go on and its events
//! wait there. So where somebody seems silent, it is noted how far the topics before reach ([`Front`]), first the one that is
//! furthest away, and each is waited for: until all that it held was taken, committed and delivered, then the next one, and at
//! last this one. Who seemed silent when that began and did not move meanwhile was silent then, and is told that time, not the
//! one that it is by now.
//!
//! Who holds a partition of a stage before, elsewhere or with a failure, may have committed outputs and not delivered them. So once
//! all of a stage's partitions were taken, those outputs are handed to the sink here. A log may keep what it is given twice:
//! each commit is handed on once by a process, and what failed is tried again after a rest that grows.
//!
//! It refuses to guess: while that cannot be known, nobody is silent, and after a while it is said what it waits for. That reaches
//! far: an event that waits in any partition of a stage before may be anybody's, so that the clock stands still for all tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kernel::{Result, TenantId};
use store::ReadLimit;
use tracing::{debug, warn};

use crate::worker::Worker;
use crate::{Source, Task};

/// Between two looks at the stages before.
const LOOKS_AFTER: Duration = Duration::from_secs(1);

/// Between a delivery that failed and the next try; doubled each time, up to the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// After so many times the time of silence without knowing, it is said why.
const PATIENCE: u32 = 5;

/// When each tenant of a partition last moved, and the key that leads a punctuation there.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    seen: BTreeMap<TenantId, (i64, Duration)>,
    pub(crate) key: BTreeMap<TenantId, String>,
    front: Option<Front>,
    looked_at: Option<Duration>,
    /// Since when somebody seems silent and that is not known.
    unsure_since: Option<Duration>,
    has_warned: bool,
}

/// How far what was there at a moment has come.
#[derive(Debug)]
struct Front {
    began: Duration,
    began_ms: i64,
    /// How many stages it went through.
    stages: usize,
    /// By partition of the next one that has not taken it yet, where what is to be taken ends; none before that is known.
    ends: Option<BTreeMap<u32, u64>>,
    /// Partitions that took it, and may not have delivered what they made of it.
    undelivered: BTreeSet<u32>,
}

/// What this process handed on for a partition that it does not have, or that fails here.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// The commit whose outputs the sink took, by its number.
    commit: Option<u64>,
    /// When it may be tried again after a failure, and how long that rest is.
    rests_until: Duration,
    rest: Duration,
}

/// Why it is not known who is silent.
#[derive(Debug)]
struct Obstacle {
    stage: String,
    partition: Option<u32>,
    reason: String,
    /// Whether the front cannot go on, and another one is to begin.
    is_end: bool,
}

impl Silence {
    /// Notes who moved; who did not for a while.
    fn still(&mut self, task: &Task, now: Duration, idle_after: Duration) -> Vec<TenantId> {
        for (tenant, at_ms) in task.watermarks() {
            let seen = self.seen.entry(tenant.clone()).or_insert((at_ms, now));
            if seen.0 != at_ms {
                *seen = (at_ms, now);
            }
        }
        let still = self.seen.iter().filter(|(_, (_, since))| now.saturating_sub(*since) >= idle_after);
        still.map(|(tenant, _)| tenant.clone()).collect()
    }

    /// Nothing is unknown.
    fn is_sure(&mut self) {
        (self.front, self.unsure_since, self.has_warned) = (None, None, false);
    }
}

impl Worker {
    /// The tenants that were silent for a while, and for whom something waits for the time, and when that was, in milliseconds
    /// since 1970.
    pub(crate) async fn silent(&self, task: &mut Task, silence: &mut Silence) -> (Vec<TenantId>, i64) {
        let (now, now_ms) = (self.clock.elapsed(), self.clock.now().as_millisecond());
        let idle_after = self.settings.idle_after;
        let mut still = silence.still(task, now, idle_after);
        let delay_ms = self.topology.event_time.delay_ms;
        let mut is_due = |tenant: &TenantId, time_ms: i64| {
            task.due_ms(tenant).is_some_and(|due_ms| due_ms <= time_ms.saturating_sub(delay_ms))
        };
        still.retain(|tenant| is_due(tenant, now_ms));
        if still.is_empty() {
            silence.is_sure();
            return (still, now_ms);
        }
        if silence.looked_at.is_some_and(|at| now.saturating_sub(at) < LOOKS_AFTER) {
            return (Vec::new(), now_ms);
        }
        silence.looked_at = Some(now);
        let front = silence.front.get_or_insert_with(|| Front {
            began: now,
            began_ms: now_ms,
            stages: 0,
            ends: None,
            undelivered: BTreeSet::new(),
        });
        let (began, began_ms) = (front.began, front.began_ms);
        still.retain(|tenant| is_due(tenant, began_ms));
        let (partition, next) = (task.partition(), task.next_offset());
        if let Err(obstacle) = self.is_through(partition, next, front).await {
            if obstacle.is_end {
                silence.front = None;
            }
            self.complain(partition, silence, &obstacle, now);
            return (Vec::new(), now_ms);
        }
        silence.is_sure();
        still.retain(|tenant| {
            let seen = silence.seen.get_mut(tenant).filter(|seen| began.saturating_sub(seen.1) >= idle_after);
            seen.map(|seen| seen.1 = now).is_some()
        });
        (still, began_ms)
    }

    /// Says once why the clock closes nothing, where that lasts.
    fn complain(&self, partition: u32, silence: &mut Silence, obstacle: &Obstacle, now: Duration) {
        let since = *silence.unsure_since.get_or_insert(now);
        let (topology, reason) = (self.topology.name(), obstacle.reason.as_str());
        let stage = match obstacle.partition {
            Some(partition) => format!("{}, partition {partition}", obstacle.stage),
            None => obstacle.stage.clone(),
        };
        if silence.has_warned || now.saturating_sub(since) < self.settings.idle_after.saturating_mul(PATIENCE)
        {
            debug!(topology, partition, stage, reason, "it is not known who is silent");
            return;
        }
        silence.has_warned = true;
        warn!(topology, partition, stage, reason, "the clock closes nothing until a stage before goes on");
    }

    /// Goes on with a front as far as that goes: all that was there when it began has been taken here.
    async fn is_through(&self, partition: u32, next: u64, front: &mut Front) -> Result<(), Obstacle> {
        let before = self.before();
        while let Some(stage) = before.get(front.stages) {
            stage.pass_on(front).await?;
            (front.stages, front.ends) = (front.stages + 1, None);
        }
        let unknown = |error: kernel::Error| self.obstacle(Some(partition), error.chain());
        if front.ends.is_none() {
            front.ends = Some(self.ends().await.map_err(unknown)?);
        }
        let end = front.ends.as_ref().and_then(|ends| ends.get(&partition)).copied().unwrap_or(0);
        if has_nothing(self.parts.source.as_ref(), partition, next, end).await.map_err(unknown)? {
            return Ok(());
        }
        Err(self.obstacle(Some(partition), "events wait here"))
    }

    /// The stages before, the furthest first.
    fn before(&self) -> Vec<&Self> {
        let mut before: Vec<&Self> =
            std::iter::successors(self.feeder.as_deref(), |stage| stage.feeder.as_deref()).collect();
        before.reverse();
        before
    }

    fn obstacle(&self, partition: Option<u32>, reason: impl Into<String>) -> Obstacle {
        Obstacle { stage: self.topology.name().to_owned(), partition, reason: reason.into(), is_end: false }
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
        let Front { ends: Some(ends), undelivered, .. } = front else { return Ok(()) };
        while let Some((&partition, &end)) = ends.first_key_value() {
            let taken = self.has_taken(partition, end).await;
            let taken = taken.map_err(|error| self.obstacle(Some(partition), error.chain()))?;
            let Some(is_delivered) = taken else {
                return Err(self.obstacle(Some(partition), "events wait there, which is behind or fails"));
            };
            ends.remove(&partition);
            if !is_delivered {
                undelivered.insert(partition);
            }
        }
        while let Some(&partition) = undelivered.first() {
            match self.hand_on(partition).await {
                Ok(true) => undelivered.remove(&partition),
                Ok(false) => return Err(self.obstacle(Some(partition), "its outputs could not be delivered")),
                Err(error) => {
                    return Err(Obstacle { is_end: true, ..self.obstacle(Some(partition), error.chain()) });
                }
            };
        }
        Ok(())
    }

    /// Whether all events of a partition before `end` were taken and committed, and then whether what was made of them is known
    /// to be delivered.
    async fn has_taken(&self, partition: u32, end: u64) -> Result<Option<bool>> {
        let (topology, parts, task) = (&self.topology, &self.parts, &self.settings.task);
        let here = self.standings.lock().get(&partition).and_then(|standing| {
            // What stands in it was delivered, unless it failed since.
            standing.failure.is_none().then_some(standing.next_offset)
        });
        let next = match here {
            Some(next) => next,
            None => match Task::look(topology, &parts.records, task, partition).await? {
                None => return Ok(None),
                Some((next, _)) => next,
            },
        };
        let is_taken = has_nothing(parts.source.as_ref(), partition, next, end).await?;
        Ok(is_taken.then_some(here.is_some()))
    }

    /// Hands on what was committed last in a partition, where that was not done; false while it rests after a failure.
    async fn hand_on(&self, partition: u32) -> Result<bool> {
        let known = {
            let (now, mut all) = (self.clock.elapsed(), self.handed.lock());
            let handed = all.entry(partition).or_default();
            if now < handed.rests_until {
                return Ok(false);
            }
            // Whoever else looks meanwhile does not try too.
            handed.rest = (handed.rest * 2).clamp(FIRST_REST, LONGEST_REST);
            handed.rests_until = now.saturating_add(handed.rest);
            handed.commit
        };
        let (topology, parts, task) = (&self.topology, &self.parts, &self.settings.task);
        let commit =
            Task::deliver_unless(topology, &parts.records, parts.sink.as_ref(), task, partition, known)
                .await?;
        self.handed.lock().insert(partition, Handed { commit, ..Handed::default() });
        Ok(true)
    }
}

/// Whether there is no event from `next` on and before `end`. Brokers have places at the end that no event is at.
async fn has_nothing(source: &dyn Source, partition: u32, next: u64, end: u64) -> Result<bool> {
    if next >= end {
        return Ok(true);
    }
    let one = ReadLimit { events: 1, ..ReadLimit::default() };
    let found = source.read(partition, next, one).await?;
    Ok(found.first().is_none_or(|found| found.offset >= end))
}
