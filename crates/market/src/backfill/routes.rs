//! Which partition has the ticks of an instrument, and how far time has come there.
//!
//! The log chooses the partition of a normalised tick by its instrument, each engine in its own way. It is read from the
//! enriched ticks of live; an instrument that live does not have goes to a partition that follows from its name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kernel::{Result, TenantId};
use store::{EventLog, ReadLimit};
use stream::Task;

use super::{Live, Plan, Scratch, replay, stages};
use crate::events::kinds;
use crate::settings::Rules;
use crate::topology::ENRICHED_TICKS;

/// The partitions behind the first stage.
#[derive(Debug)]
pub(super) struct Routes {
    known: HashMap<String, u32>,
    partitions: Vec<u32>,
}

impl Routes {
    /// What the enriched ticks of a tenant before `told` say.
    pub(super) async fn learn(
        log: &dyn EventLog,
        tenant: &TenantId,
        told: &BTreeMap<u32, u64>,
    ) -> Result<Self> {
        let mut known = HashMap::new();
        for extent in log.extents(&ENRICHED_TICKS).await? {
            let (partition, mut offset) = (extent.partition, extent.first);
            let end = told.get(&partition).copied().unwrap_or(0);
            while offset < end {
                let batch = log.read(&ENRICHED_TICKS, partition, offset, ReadLimit::default()).await?;
                let Some(last) = batch.last() else { break };
                offset = last.offset + 1;
                for event in batch.into_iter().map(|stored| stored.event) {
                    let is_tick = event.tenant == *tenant && event.kind == kinds::ENRICHED_TICK;
                    if let Some(instrument) = event.subject.filter(|_| is_tick) {
                        known.insert(instrument, partition);
                    }
                }
            }
        }
        let partitions = if told.is_empty() { vec![0] } else { told.keys().copied().collect() };
        Ok(Self { known, partitions })
    }

    pub(super) fn partitions(&self) -> &[u32] {
        &self.partitions
    }

    /// Where ticks of an instrument are.
    pub(super) fn of(&self, instrument: &str) -> u32 {
        self.known.get(instrument).copied().unwrap_or_else(|| {
            let mut head = [0; 8];
            head.copy_from_slice(&blake3::hash(instrument.as_bytes()).as_bytes()[..8]);
            self.partitions[(u64::from_le_bytes(head) % self.partitions.len() as u64) as usize]
        })
    }
}

/// Up to where bars can no longer change, neither live nor in the replay: by partition, because each has its own time.
#[derive(Debug)]
pub(super) struct Settled {
    routes: Routes,
    until_us: BTreeMap<u32, i64>,
}

impl Settled {
    pub(super) async fn of(
        live: &Live,
        scratch: &Scratch,
        rules: &Arc<Rules>,
        tenant: &TenantId,
        routes: Routes,
    ) -> Result<Self> {
        let [.., bars] = stages(rules)?;
        let mut until_us = BTreeMap::new();
        for partition in routes.partitions() {
            let made = Task::watermarks_at(&bars, &scratch.records, &replay::settings(), *partition).await?;
            let Some(made_ms) = made.get(tenant).copied() else { continue };
            let kept = Task::watermarks_at(&bars, &live.records, &live.topics.task(), *partition).await?;
            // Where live never had the tenant, and has taken everything up to the plan, it has no bar to change.
            let settled_ms = made_ms.min(kept.get(tenant).copied().unwrap_or(made_ms));
            let settled_us = settled_ms.saturating_sub(rules.lateness_ms).saturating_mul(1_000);
            until_us.insert(*partition, settled_us);
        }
        Ok(Self { routes, until_us })
    }

    /// Bars of an instrument that end before do not change any more, in microseconds since 1970.
    pub(super) fn until_us(&self, instrument: &str) -> i64 {
        self.until_us.get(&self.routes.of(instrument)).copied().unwrap_or(i64::MIN)
    }
}

impl Plan {
    /// The partitions by instrument, as they were when the backfill began.
    pub(super) async fn routes(&self, live: &Live, tenant: &TenantId) -> Result<Routes> {
        Routes::learn(live.topics.log.as_ref(), tenant, &self.told).await
    }
}
