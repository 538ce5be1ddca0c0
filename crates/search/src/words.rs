//! The indexes of words as a [`Sink`], and building one again beside the one that answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Result, TenantId, codes};
use store::{EventLog, ReadLimit, Stored};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::follower::Sink;
use crate::index::{Library, Progress, TextIndex};
use crate::items::Change;
use crate::log::{ITEMS, change_of};

/// Indexes that may keep the memory of writing.
const WRITERS_MAX: usize = 16;

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
    /// Where the indexes stand. Held while they are written.
    standing: Mutex<Progress>,
    /// Held while an index is built again.
    rebuilding: Mutex<()>,
}

impl Words {
    pub(crate) fn new(library: Arc<Library>) -> Self {
        Self { library, standing: Mutex::default(), rebuilding: Mutex::default() }
    }

    /// Builds the index of a tenant again from the log and serves it in place of the one before, which answers until then.
    /// Returns how many events of the tenant are in it.
    ///
    /// # Errors
    /// `CONFLICT` while another is built; those of the log and the disk.
    pub(crate) async fn rebuild(&self, log: &dyn EventLog, tenant: &TenantId) -> Result<u64> {
        let busy = |_| Error::new(codes::CONFLICT, "an index is being built again; wait until it is done");
        let _rebuilding = self.rebuilding.try_lock().map_err(busy)?;
        let library = Arc::clone(&self.library);
        let of_tenant = tenant.clone();
        let rebuilt = blocking(move || library.begin_again(&of_tenant)).await?;
        let mut at = Progress::new();
        let until = self.standing.lock().await.clone();
        let mut count = fill(log, tenant, &rebuilt.index, &mut at, &until).await?;
        // The rest while nothing is written, so that nothing is missing.
        let standing = self.standing.lock().await;
        count += fill(log, tenant, &rebuilt.index, &mut at, &standing).await?;
        let (library, of_tenant) = (Arc::clone(&self.library), tenant.clone());
        blocking(move || library.replace(&of_tenant, rebuilt)).await?;
        drop(standing);
        info!(%tenant, events = count, "a search index was built again");
        Ok(count)
    }
}

/// Puts what the log holds of a tenant between two places into an index.
async fn fill(
    log: &dyn EventLog,
    tenant: &TenantId,
    index: &Arc<TextIndex>,
    at: &mut Progress,
    until: &Progress,
) -> Result<u64> {
    let mut count = 0;
    for (partition, end) in until {
        let next = at.entry(*partition).or_default();
        while *next < *end {
            let mut batch = log.read(&ITEMS, *partition, *next, ReadLimit::default()).await?;
            batch.retain(|stored| stored.offset < *end);
            let Some(last) = batch.last() else { break };
            *next = last.offset + 1;
            if let Some(changes) = changes(&batch).remove(tenant) {
                count += changes.len() as u64;
                let index = Arc::clone(index);
                blocking(move || index.apply(&changes)).await?;
            }
        }
    }
    Ok(count)
}

#[async_trait]
impl Sink for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    async fn restore(&self, _: &dyn EventLog) -> Result<Progress> {
        let library = Arc::clone(&self.library);
        let progress = blocking(move || library.load()).await?;
        self.standing.lock().await.clone_from(&progress);
        Ok(progress)
    }

    async fn clear(&self) -> Result<()> {
        let mut standing = self.standing.lock().await;
        standing.clear();
        let library = Arc::clone(&self.library);
        blocking(move || library.clear()).await
    }

    async fn take(&self, batch: Vec<Stored>) -> Result<()> {
        let _writing = self.standing.lock().await;
        let library = Arc::clone(&self.library);
        blocking(move || {
            let changes = changes(&batch);
            for (tenant, changes) in &changes {
                let index = library.for_writing(tenant)?;
                index.apply(changes)?;
                if library.len() > WRITERS_MAX {
                    index.rest();
                }
            }
            Ok(())
        })
        .await
    }

    async fn save(&self, _: &dyn EventLog, progress: &Progress) -> Result<()> {
        let mut standing = self.standing.lock().await;
        standing.clone_from(progress);
        let (library, progress) = (Arc::clone(&self.library), progress.clone());
        blocking(move || library.save(&progress)).await
    }
}

/// Runs what waits for a disk or computes long.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
