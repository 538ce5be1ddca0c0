//! The indexes of words as a [`Sink`], and building one again beside the one that answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Result, TenantId, codes};
use store::{EventLog, Extent, ReadLimit, Stored};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::follower::Sink;
use crate::index::{Library, Place, Progress, TextIndex};
use crate::items::Change;
use crate::log::{ITEMS, change_of, mark_of};
use crate::rebuilding::Gauge;

/// Indexes that may keep the memory of writing.
const WRITERS_MAX: usize = if cfg!(test) { 2 } else { 16 };

/// The changes of a batch, by tenant. What cannot be read is told and left out: it can be read by nobody, ever.
pub(crate) fn changes(batch: &[Stored]) -> BTreeMap<TenantId, Vec<Change>> {
    let mut changes: BTreeMap<TenantId, Vec<Change>> = BTreeMap::new();
    for stored in batch {
        match change_of(&stored.event) {
            Ok(Some(change)) => changes.entry(stored.event.tenant.clone()).or_default().push(change),
            Ok(None) => {}
            Err(error) => {
                warn!(error = %error.chain(), offset = stored.offset, "an event of an item cannot be read");
            }
        }
    }
    changes
}

/// The indexes of all tenants.
#[derive(Debug)]
pub(crate) struct Words {
    library: Arc<Library>,
    /// Where the indexes stand; nothing until they are read. Held while they are written.
    standing: Mutex<Option<Progress>>,
    /// Indexes that keep the memory of writing, the one that was written last at the end.
    writing: Arc<parking_lot::Mutex<VecDeque<TenantId>>>,
    /// Held while an index is built again.
    rebuilding: Mutex<()>,
}

impl Words {
    pub(crate) fn new(library: Arc<Library>) -> Self {
        Self { library, standing: Mutex::default(), writing: Arc::default(), rebuilding: Mutex::default() }
    }

    /// Builds the index of a tenant again from the log and serves it in place of the one before, which answers until then.
    /// Returns how many events of the tenant are in it; `gauge` says how far it is, and `begun` is called when it is this one's
    /// turn.
    ///
    /// # Errors
    /// `CONFLICT` while another is built; `UNAVAILABLE` before the indexes are read; those of the log and the disk.
    pub(crate) async fn rebuild(
        &self,
        log: &dyn EventLog,
        tenant: &TenantId,
        gauge: &Gauge,
        begun: impl FnOnce(),
    ) -> Result<u64> {
        let busy = |_| Error::new(codes::CONFLICT, "an index is being built again; wait until it is done");
        let _rebuilding = self.rebuilding.try_lock().map_err(busy)?;
        let early = || Error::new(codes::UNAVAILABLE, "the indexes are not read yet; try again");
        let until = self.standing.lock().await.clone().ok_or_else(early)?;
        begun();
        gauge.expect(length(log, &until).await?);
        let library = Arc::clone(&self.library);
        let of_tenant = tenant.clone();
        let rebuilt = blocking(move || library.begin_again(&of_tenant)).await?;
        let mut at = Progress::new();
        fill(log, tenant, (&rebuilt.index, gauge), &mut at, &until).await?;
        // The rest while nothing is written, so that nothing is missing.
        let standing = self.standing.lock().await;
        let until = standing.as_ref().ok_or_else(early)?;
        fill(log, tenant, (&rebuilt.index, gauge), &mut at, until).await?;
        let (library, of_tenant) = (Arc::clone(&self.library), tenant.clone());
        blocking(move || library.replace(&of_tenant, rebuilt)).await?;
        drop(standing);
        let count = gauge.changes();
        info!(%tenant, events = count, "a search index was built again");
        Ok(count)
    }
}

/// Events that the log holds up to a place.
async fn length(log: &dyn EventLog, until: &Progress) -> Result<u64> {
    let extents = log.extents(&ITEMS).await?;
    let held = |extent: &Extent| {
        let next = until.get(&extent.partition).map_or(0, |place| place.next);
        next.saturating_sub(extent.first)
    };
    Ok(extents.iter().map(held).sum())
}

/// Puts what the log holds of a tenant between two places into an index.
async fn fill(
    log: &dyn EventLog,
    tenant: &TenantId,
    (index, gauge): (&Arc<TextIndex>, &Gauge),
    at: &mut Progress,
    until: &Progress,
) -> Result<()> {
    for (partition, Place { next: end, .. }) in until {
        let at = at.entry(*partition).or_default();
        while at.next < *end {
            let mut batch = log.read(&ITEMS, *partition, at.next, ReadLimit::default()).await?;
            batch.retain(|stored| stored.offset < *end);
            let Some(last) = batch.last() else { break };
            at.next = last.offset + 1;
            let changes = changes(&batch).remove(tenant).unwrap_or_default();
            let (events, count) = (batch.len() as u64, changes.len() as u64);
            if count > 0 {
                let index = Arc::clone(index);
                blocking(move || index.apply(&changes)).await?;
            }
            gauge.note(events, count);
        }
    }
    Ok(())
}

#[async_trait]
impl Sink for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    async fn restore(&self, _: &dyn EventLog) -> Result<Progress> {
        let mut standing = self.standing.lock().await;
        let library = Arc::clone(&self.library);
        let progress = blocking(move || library.load()).await?;
        *standing = Some(progress.clone());
        Ok(progress)
    }

    async fn clear(&self) -> Result<()> {
        let mut standing = self.standing.lock().await;
        *standing = Some(Progress::new());
        let library = Arc::clone(&self.library);
        blocking(move || library.clear()).await
    }

    async fn take(&self, partition: u32, batch: Vec<Stored>) -> Result<()> {
        let place = |last: &Stored| Place { next: last.offset + 1, mark: mark_of(&last.event) };
        let Some(place) = batch.last().map(place) else { return Ok(()) };
        let mut standing = self.standing.lock().await;
        let (library, writing) = (Arc::clone(&self.library), Arc::clone(&self.writing));
        blocking(move || {
            for (tenant, changes) in &changes(&batch) {
                library.for_writing(tenant)?.apply(changes)?;
                if let Some(oldest) = written(&mut writing.lock(), tenant) {
                    library.rest_one(&oldest);
                }
            }
            Ok(())
        })
        .await?;
        // In the same breath: a rebuild that begins now has to have this batch.
        standing.get_or_insert_default().insert(partition, place);
        Ok(())
    }

    async fn save(&self, _: &dyn EventLog, progress: &Progress) -> Result<()> {
        let _writing = self.standing.lock().await;
        let (library, progress) = (Arc::clone(&self.library), progress.clone());
        blocking(move || library.save(&progress)).await
    }
}

/// Notes that an index was written; returns the one that gives its memory up for that.
fn written(writing: &mut VecDeque<TenantId>, tenant: &TenantId) -> Option<TenantId> {
    writing.retain(|known| known != tenant);
    writing.push_back(tenant.clone());
    if writing.len() > WRITERS_MAX { writing.pop_front() } else { None }
}

/// Runs what waits for a disk or computes long.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
