//! Who is silent, and not only unheard: the tenants whose time stands still though everything that was sent is here.
//!
//! A tenant whose watermark did not move for a while may be silent, or a stage before this one does not go on and its events
//! wait there. So where somebody seems silent, it is waited until everything that was there by then has come ([`Front`]). Who
//! seemed silent when that began and did not move meanwhile was silent then, and is told that time, not the one that it is by
//! now.
//!
//! It refuses to guess: while that cannot be known, nobody is silent, and after a while it is said what it waits for. That reaches
//! far: an event that waits in any partition of a stage before may be anybody's, so that the clock stands still for all tenants.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::TenantId;
use tracing::{debug, warn};

use crate::front::{Front, Obstacle};
use crate::worker::Worker;
use crate::{Step, Task};

/// Between two looks at the stages before.
const LOOKS_AFTER: Duration = Duration::from_secs(1);

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
    /// since 1970. The task did `step` last.
    pub(crate) async fn silent(
        &self,
        task: &mut Task,
        step: Step,
        silence: &mut Silence,
    ) -> (Vec<TenantId>, i64) {
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
        let front = silence.front.get_or_insert_with(|| Front::new(now, now_ms));
        let (began, began_ms) = (front.began, front.began_ms);
        still.retain(|tenant| is_due(tenant, began_ms));
        let (partition, next) = (task.partition(), task.next_offset());
        if let Err(obstacle) = self.is_through(partition, next, step, front).await {
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
}
