//! The vectors of a job as a [`Sink`], while this server has the job: each batch is taken in, and then how far the job is
//! is written, if its record still is the one that this server wrote. A server that lost the job finds that out there, and
//! writes no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Clock, Error, Result, Scope, TenantId, codes};
use store::{EventLog, Expect, ReadLimit, Stored, Versioned};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Jobs, Reindex};
use crate::follower::{Sink, is_of};
use crate::index::Progress;
use crate::items::Change;
use crate::log::change_of;
use crate::meanings::Meanings;

/// Events of one batch: what a crash makes twice.
const EVENTS_AT_ONCE: usize = 256;

/// A job that this server has.
#[derive(Debug)]
pub(crate) struct JobSink {
    meanings: Meanings,
    jobs: Jobs,
    clock: Arc<dyn Clock>,
    /// The record as this server wrote it last.
    held: Mutex<Versioned<Reindex>>,
    /// Cancelled when another server has the job.
    lost: CancellationToken,
    /// Cancelled when this server is to make no more vectors.
    stop: CancellationToken,
}

impl JobSink {
    /// Takes the job: whoever had it can write its progress no more. Nothing where its vectors are of another log, or
    /// the job is gone.
    ///
    /// # Errors
    /// Those of the records and the log; `CONFLICT` where another server takes it at the same time.
    pub(crate) async fn take_over(
        id: &str,
        holder: &str,
        meanings: Meanings,
        jobs: Jobs,
        clock: Arc<dyn Clock>,
        (log, stop): (&dyn EventLog, CancellationToken),
    ) -> Result<Option<Self>> {
        let Some(found) = jobs.get(id).await? else { return Ok(None) };
        let mut job = found.document;
        if !is_of(&job.progress, log).await? {
            warn!(job = id, "vectors are of another log; they are made again");
            jobs.replace(&job).await?;
            return Ok(None);
        }
        holder.clone_into(&mut job.holder);
        let version = jobs.put(&job, Expect::Version(found.version)).await?;
        let held = Mutex::new(Versioned { version, document: job });
        Ok(Some(Self { meanings, jobs, clock, held, lost: CancellationToken::new(), stop }))
    }

    /// Whether another server has the job.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Returns when another server has the job.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Notes that there is a vector of everything that the log held.
    ///
    /// # Errors
    /// As for [`Sink::save`].
    pub(crate) async fn complete(&self) -> Result<()> {
        let now = self.clock.now();
        self.write(|job| {
            job.completed_at.get_or_insert(now);
        })
        .await
    }

    /// Changes the record if it still is as this server wrote it.
    async fn write(&self, change: impl FnOnce(&mut Reindex)) -> Result<()> {
        let mut held = self.held.lock().await;
        let mut job = held.document.clone();
        change(&mut job);
        job.updated_at = self.clock.now();
        match self.jobs.put(&job, Expect::Version(held.version)).await {
            Ok(version) => {
                *held = Versioned { version, document: job };
                Ok(())
            }
            Err(error) => {
                if error.code() == codes::CONFLICT {
                    self.lost.cancel();
                }
                Err(error)
            }
        }
    }
}

/// The changes of a batch with their places, by tenant. What cannot be read is told and left out by the index of words.
fn placed(batch: &[Stored]) -> BTreeMap<TenantId, Vec<(u64, Change)>> {
    let mut changes: BTreeMap<TenantId, Vec<(u64, Change)>> = BTreeMap::new();
    for stored in batch {
        if let Ok(Some(change)) = change_of(&stored.event) {
            changes.entry(stored.event.tenant.clone()).or_default().push((stored.offset, change));
        }
    }
    changes
}

#[async_trait]
impl Sink for JobSink {
    fn name(&self) -> &'static str {
        "vectors"
    }

    fn limit(&self) -> ReadLimit {
        ReadLimit { events: EVENTS_AT_ONCE, ..ReadLimit::default() }
    }

    async fn restore(&self, _: &dyn EventLog) -> Result<Progress> {
        Ok(self.held.lock().await.document.progress.clone())
    }

    /// The log became another one while it was followed: the next to take the job finds out, and begins another.
    async fn clear(&self) -> Result<()> {
        self.lost.cancel();
        Err(Error::new(codes::CONFLICT, "the vectors are of another log; they are made again"))
    }

    async fn take(&self, _: u32, batch: Vec<Stored>) -> Result<()> {
        if self.is_lost() {
            return Err(Error::new(codes::CONFLICT, "another server makes the vectors"));
        }
        for (tenant, changes) in placed(&batch) {
            self.meanings.take(&Scope::system(tenant, "search"), changes, &self.stop).await?;
        }
        Ok(())
    }

    async fn save(&self, _: &dyn EventLog, progress: &Progress) -> Result<()> {
        self.write(|job| job.progress.clone_from(progress)).await
    }
}
