//! A task: one partition of one topic through one topology, exactly once.
//!
//! A task reads events, changes the state of its operators, and commits: one transaction of `Records` holds what
//! changed, where to go on, the counts and the outputs that are now to be delivered. Then it delivers them, and only then
//! commits again; what comes next may be read and applied meanwhile ([`Task::step_ahead`]). After a crash the state is as the
//! last commit left it and the outputs of that commit are delivered again, under the ids that they had.
//!
//! Every commit compares the version of the head, and opening a task writes the head. So the task that was opened
//! last is the only one that can commit: another one, however long it slept, gets [`FENCED`] and has delivered
//! nothing that was not committed. A lease (see `Worker`) only keeps two processes from opening the same task in
//! turns.
//!
//! A task that met an error is dropped and opened again: what it knows may not be what was committed.

mod changes;
mod commit;
mod delivery;
mod head;
mod held;
mod look;
mod open;
mod report;
mod settings;
mod shelf;

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::sync::Arc;

use kernel::{Error, ErrorCode, ErrorKind, Event, Result, TenantId};
use store::Stored;
use tracing::warn;

pub use head::Totals;
pub(crate) use look::LastCommit;
pub use settings::{Step, TaskParts, TaskSettings};

use crate::event_time::{Punctuation, TOO_FAR_AHEAD, Tide};
use crate::operator::State;
use crate::task::delivery::Delivery;
use crate::task::head::Head;
use crate::task::held::Held;
use crate::task::shelf::Shelf;
use crate::topology::Program;
use crate::{Context, HISTORY_GONE, Rejection, Topology};

/// Another process has the task now.
pub const FENCED: ErrorCode = ErrorCode {
    name: "FENCED",
    kind: ErrorKind::Conflict,
    title: "Another process has this part of the stream",
};

/// The name under which the task itself refuses events.
const TASK: &str = "task";

/// One partition of a stream in the making.
pub struct Task {
    topology: Arc<Topology>,
    parts: TaskParts,
    settings: TaskSettings,
    partition: u32,
    shelf: Shelf,
    head: Head,
    head_version: u64,
    program: Program,
    held: Held,
    context: Context,
    waiting: VecDeque<Stored>,
    /// As of the last commit, where the next one begins.
    committed: Progress,
    /// As of the last commit that was delivered for certain, where the last one is on its way.
    delivered: Progress,
    /// Events that were applied since the last commit.
    applied: usize,
    is_broken: bool,
    delivery: Delivery,
}

/// How far a task came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// The first offset that is not taken.
    pub(crate) next_offset: u64,
    /// What became of the events before.
    pub(crate) totals: Totals,
}

impl Debug for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Task");
        shown.field("topology", &self.topology.name()).field("partition", &self.partition);
        shown.field("next_offset", &self.head.next_offset).finish_non_exhaustive()
    }
}

impl Task {
    /// Takes the next events, commits, delivers.
    ///
    /// # Errors
    /// [`FENCED`] when another has the task, `HISTORY_GONE` when events were cut that were not taken, those of the
    /// parts. The task is then of no more use, except after an error of the sink, which is tried again.
    pub async fn step(&mut self) -> Result<Step> {
        let step = self.step_ahead().await?;
        self.settle().await?;
        Ok(step)
    }

    /// As [`Task::step`], but where it took events it returns while their outputs are on their way. [`Task::settle`] waits for
    /// them, and so does the next step before it commits or says that there was nothing.
    ///
    /// # Errors
    /// As [`Task::step`]; that of the sink may come with the next step, or with [`Task::settle`].
    pub async fn step_ahead(&mut self) -> Result<Step> {
        if self.is_broken {
            return Err(Error::new(FENCED, "the task met an error and must be opened again"));
        }
        if matches!(self.delivery, Delivery::Due) {
            self.settle().await?;
        }
        if self.waiting.is_empty() && self.applied == 0 && !self.is_done() {
            self.read().await?;
        }
        while self.context.outbox.len() < self.settings.commit_bytes
            && !self.is_done()
            && let Some(stored) = self.waiting.pop_front()
        {
            self.apply(stored);
            self.applied += 1;
        }
        self.settle().await?;
        if self.applied == 0 {
            return Ok(if self.is_done() { Step::Done } else { Step::Idle });
        }
        self.is_broken = true;
        let outputs = self.commit().await?;
        self.is_broken = false;
        let committed = Progress { next_offset: self.head.next_offset, totals: self.head.totals };
        self.delivered = std::mem::replace(&mut self.committed, committed);
        let taken = std::mem::take(&mut self.applied);
        self.delivery.begin(&self.parts.sink, outputs).await?;
        Ok(Step::Took(taken))
    }

    /// Whether its next step does not need to read.
    pub(crate) fn has_more_to_do(&self) -> bool {
        !self.waiting.is_empty() || self.is_done()
    }

    fn is_done(&self) -> bool {
        self.settings.until.is_some_and(|until| self.head.next_offset >= until)
    }

    async fn read(&mut self) -> Result<()> {
        let next = self.head.next_offset;
        let reading = self.parts.source.read(self.partition, next, self.settings.batch);
        let batch = self.delivery.beside(reading).await?;
        if batch.first().is_some_and(|first| first.offset > next) {
            self.check_history().await?;
        }
        self.waiting = VecDeque::from(batch);
        Ok(())
    }

    /// Whether what comes next is still there. Offsets may be missing between others, as after a selection.
    async fn check_history(&mut self) -> Result<()> {
        let next = self.head.next_offset;
        let extents = self.parts.source.extents().await?;
        let extent = extents.iter().find(|extent| extent.partition == self.partition);
        if let Some(first) = extent.map(|extent| extent.first).filter(|first| *first > next) {
            if self.settings.passes_gaps {
                let (topology, partition) = (self.topology.name(), self.partition);
                warn!(topology, partition, from = next, to = first, "events were cut before they were taken");
                return Ok(());
            }
            let message = format!(
                "events {next} to {} of partition {} of `{}` were cut before `{}` took them; restore them from a \
                 backup, or begin a new namespace after them",
                first - 1,
                self.partition,
                self.topology.input,
                self.topology.name()
            );
            return Err(Error::new(HISTORY_GONE, message));
        }
        Ok(())
    }

    fn apply(&mut self, Stored { offset, event }: Stored) {
        if self.settings.until.is_some_and(|until| offset >= until) {
            self.head.next_offset = self.head.next_offset.max(self.settings.until.unwrap_or(offset));
            return;
        }
        self.head.next_offset = offset + 1;
        self.context.stand_at(self.committed.next_offset, offset);
        if self.settings.log_keeps_repeats && self.head.repeats.knows(&event) {
            self.head.totals.taken += 1;
            self.head.totals.duplicates += 1;
            return;
        }
        match Punctuation::of(&event) {
            Ok(None) => self.take(offset, event),
            Ok(Some(punctuation)) => {
                self.head.totals.punctuations += 1;
                if punctuation.partition == self.partition {
                    self.hear(punctuation, offset, event);
                }
            }
            Err(error) => {
                self.head.totals.taken += 1;
                let rejection = Rejection { code: "INVALID_EVENT", reason: error.to_string() };
                self.reject(offset, event, &rejection);
            }
        }
    }

    fn tide(&mut self, tenant: &TenantId) -> &mut Tide {
        if !self.head.tides.contains_key(tenant) {
            self.head.tides.insert(tenant.clone(), Tide::default());
        }
        self.head.tides.get_mut(tenant).expect("it was just put there")
    }

    fn take(&mut self, offset: u64, event: Event) {
        self.head.totals.taken += 1;
        let rule = self.topology.event_time;
        let time_ms = event.time.as_millisecond();
        let is_ahead = self.tide(&event.tenant).is_ahead(rule, time_ms);
        if !is_ahead {
            if !self.held.is_empty() {
                self.refuse_held(&event.tenant);
            }
            return self.process(offset, event);
        }
        let tenant = event.tenant.clone();
        self.held.add(offset, event);
        if rule.believed_run == 0 {
            self.refuse_held(&tenant);
        } else if self.held.count(&tenant) >= rule.believed_run {
            for (offset, event) in self.held.take(&tenant, |_| true) {
                self.process(offset, event);
            }
        }
    }

    fn refuse_held(&mut self, tenant: &TenantId) {
        for (offset, event) in self.held.take(tenant, |_| true) {
            let reason = "its time is further ahead than is believed, and events after it were in time";
            self.reject(offset, event, &Rejection { code: TOO_FAR_AHEAD, reason: reason.to_owned() });
        }
    }

    fn reject(&mut self, offset: u64, event: Event, rejection: &Rejection) {
        self.head.totals.dead_lettered += 1;
        self.context.turn_to(offset, event, i64::MIN);
        self.context.reject(TASK, rejection);
    }

    fn process(&mut self, offset: u64, event: Event) {
        let rule = self.topology.event_time;
        let time_ms = event.time.as_millisecond();
        let watermark_ms = self.tide(&event.tenant).watermark_ms(rule);
        self.context.turn_to(offset, event, watermark_ms);
        self.program.push((), &mut self.context, &mut |(), _| {});
        let (totals, fate) = (&mut self.head.totals, self.context.fate);
        let total = match fate {
            _ if fate.rejections > 0 => &mut totals.dead_lettered,
            _ if fate.arrivals > 0 => &mut totals.passed,
            _ if fate.duplicates > 0 => &mut totals.duplicates,
            _ => &mut totals.filtered,
        };
        *total += 1;
        // What nobody could use says nothing about the time either.
        if fate.rejections == 0 || fate.arrivals > 0 {
            self.believe(time_ms, watermark_ms);
        }
    }

    /// Takes in that the tenant of the event at hand has come this far.
    fn believe(&mut self, time_ms: i64, before_ms: i64) {
        let rule = self.topology.event_time;
        let Some(tide) = self.head.tides.get_mut(self.context.tenant()) else { return };
        tide.believe(time_ms);
        let watermark_ms = tide.watermark_ms(rule);
        if watermark_ms > before_ms {
            self.context.watermark_ms = watermark_ms;
            self.program.advance(&mut self.context, &mut |(), _| {});
        }
    }

    fn hear(&mut self, punctuation: Punctuation, offset: u64, event: Event) {
        let rule = self.topology.event_time;
        let tenant = event.tenant.clone();
        self.tide(&tenant).hear(punctuation.now_ms);
        let tide = *self.tide(&tenant);
        let in_time = |event: &Event| !tide.is_ahead(rule, event.time.as_millisecond());
        for (offset, event) in self.held.take(&tenant, in_time) {
            self.process(offset, event);
        }
        if punctuation.is_idle {
            let watermark_ms = self.tide(&tenant).watermark_ms(rule);
            self.context.turn_to(offset, event, watermark_ms);
            self.believe(punctuation.now_ms, watermark_ms);
        }
    }
}
