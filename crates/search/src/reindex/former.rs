//! Takes away the vectors of jobs that neither answer nor are to: first it notes when that was found out, and after a while,
//! in which servers that were away have learned of it and a change back is fast, it removes them and then the job.
//!
//! It refuses to begin while nothing answers. A removal that was begun is in the job's record, so that another server goes on
//! with it, and a change back to the model begins a new job. To have something else removed: do it before the record goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, Result, Scope, TenantId};
use store::{Collection, EventLog, Expect, Metric, ReadLimit, Versioned};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::keeper::Keeper;
use super::{Direction, Reindex, scope};
use crate::log::ITEMS;
use crate::meanings::remove_some;

/// Between two looks; short beside the time that former vectors are kept.
const LOOK: Duration = Duration::from_secs(60);
const LEASE: &str = "search.former_vectors";
const LEASE_LASTS: Duration = Duration::from_secs(60);

impl Keeper {
    /// Looks for former jobs until `stop`.
    pub(super) async fn remove_former_until(self: Arc<Self>, stop: CancellationToken) {
        let mut is_failing = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let looked = self.remove_former(&stop).await;
            if let Err(error) = &looked
                && !is_failing
            {
                warn!(error = %error.chain(), "vectors of former jobs are not removed for now");
            }
            is_failing = looked.is_err();
        }
    }

    /// One look: notes which jobs are former ones, and removes what was one for long enough.
    ///
    /// # Errors
    /// Those of the records, the log and the vectors; `CONFLICT` where a job changes meanwhile: the next look sees it.
    pub(crate) async fn remove_former(&self, stop: &CancellationToken) -> Result<()> {
        let jobs = self.jobs();
        let Some(direction) = jobs.direction().await? else { return Ok(()) };
        if direction.serving.is_none() || !self.may_remove().await? {
            return Ok(());
        }
        let mut failed = None;
        for job in jobs.all().await?.into_iter().filter(|job| !direction.names(&job.id)) {
            if stop.is_cancelled() {
                break;
            }
            // The record again: whoever makes it the goal writes it before the direction.
            let Some(found) = jobs.get(&job.id).await? else { continue };
            // One that cannot be removed does not hold up the others.
            if let Err(error) = self.look_at_former(found, stop).await {
                failed.get_or_insert(error);
            }
        }
        self.parts.leases.release(&scope(), LEASE).await?;
        failed.map_or(Ok(()), Err)
    }

    /// One of several servers removes.
    async fn may_remove(&self) -> Result<bool> {
        self.parts.leases.acquire(&scope(), LEASE, LEASE_LASTS).await
    }

    async fn look_at_former(&self, found: Versioned<Reindex>, stop: &CancellationToken) -> Result<()> {
        let Versioned { version, document: mut job } = found;
        let Some(collection) = self.collection(&job) else { return Ok(()) };
        let now = self.parts.clock.now();
        match job.superseded_at {
            _ if job.is_removing => {}
            None => {
                job.superseded_at = Some(now);
                return self.jobs().put(&job, Expect::Version(version)).await.map(drop);
            }
            Some(since) if now.as_millisecond() - since.as_millisecond() < self.kept_for_ms() => {
                return Ok(());
            }
            Some(_) => {
                job.is_removing = true;
                self.jobs().put(&job, Expect::Version(version)).await?;
            }
        }
        self.remove(&job, collection, stop).await
    }

    fn kept_for_ms(&self) -> i64 {
        i64::try_from(self.parts.keeps_former.as_millis()).unwrap_or(i64::MAX)
    }

    /// Nothing where it is not known how long its vectors are.
    fn collection(&self, job: &Reindex) -> Option<Collection> {
        let dimensions = Some(job.dimensions).filter(|dimensions| *dimensions > 0)?;
        Some(Collection { name: self.name_of(job), dimensions, metric: Metric::Cosine })
    }

    async fn remove(&self, job: &Reindex, collection: Collection, stop: &CancellationToken) -> Result<()> {
        let mut count = 0;
        for tenant in tenants(self.parts.log.as_ref()).await? {
            let scope = Scope::system(tenant, "search");
            loop {
                if stop.is_cancelled() || !self.may_remove().await? {
                    return Ok(());
                }
                match remove_some(self.parts.vectors.as_ref(), &scope, collection).await? {
                    0 => break,
                    removed => count += removed,
                }
            }
        }
        self.jobs().remove(&job.id).await?;
        info!(job = job.id, model = job.model, vectors = count, "the vectors of a former job are removed");
        Ok(())
    }
}

/// Everyone who ever had an item.
async fn tenants(log: &dyn EventLog) -> Result<BTreeSet<TenantId>> {
    let mut tenants = BTreeSet::new();
    for extent in log.extents(&ITEMS).await? {
        let mut next = extent.first;
        while next < extent.next {
            let batch = log.read(&ITEMS, extent.partition, next, ReadLimit::default()).await?;
            let Some(last) = batch.last() else { break };
            if last.offset < next {
                return Err(Error::internal("the log gave events from before the place that was asked for"));
            }
            next = last.offset + 1;
            for stored in batch {
                if !tenants.contains(&stored.event.tenant) {
                    tenants.insert(stored.event.tenant);
                }
            }
        }
    }
    Ok(tenants)
}

impl Direction {
    /// Whether a job answers or is to.
    fn names(&self, id: &str) -> bool {
        self.goal == id || self.serving.as_deref() == Some(id)
    }
}
