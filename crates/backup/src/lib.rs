//! Backups of any engines, and their restore into any others.
//!
//! A backup is read through the ports, so it is the same whichever engines hold the data. It goes to a [`Vault`]: a
//! folder or a bucket.
//!
//! ```text
//! manifests/0000000007.json   BLAKE3 of the rest, then JSON: what belongs to backup 7, and the hash of backup 6
//! latest.json, once/BLAKE3    tables that are kept once; replaced by each backup
//! parts/BLAKE3-7              events, records or an object, compressed; named by the hash of what is stored and by the
//!                             backup that it was sent for
//! ```
//!
//! - **One moment.** The records are a snapshot. The log is read after it, so that nothing in the records speaks of
//!   an event that is not there. Views and checkpoints are folds of the log and are not copied, but for one case: where
//!   retention took events before any backup here had them, the newest checkpoint of each view goes along, and a
//!   restore begins with it.
//! - **Incremental.** A part that the backup before has is not sent again. The log goes in segments; only the last
//!   one, while it is small, is sent anew with what came since.
//! - **Some tables only as they are now.** What [`Rules::tables_kept_once`] names is in `latest.json` and `once/`, which
//!   each backup replaces, after the log was read: every event's key is there, but for those that were dropped.
//! - **Whole or not there.** The manifest is put last and never replaced. What a killed backup left is removed by the
//!   next. Two processes that share nothing but the vault may make and prune at the same time: one manifest of a number
//!   wins, and what is pruned was listed before that manifest and is of no later backup by its name.
//! - **Damage is found.** Every byte is under a hash; the hash of a manifest is in the one that follows.
//!
//! It refuses a log that is not the one that the vault has, a restore over data, and a restore of anything that fails
//! its checksum. It encrypts nothing: a vault needs the care that the database needs.
//!
//! To add a kind of data: a list of its parts in [`Manifest`], its lines in `create.rs`, `verify.rs` and `restore.rs`.

mod create;
mod latest;
mod manifest;
mod metrics;
mod part;
mod plan;
mod restore;
mod ship;
#[cfg(test)]
mod tests;
mod vault;
mod verify;
mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::{Clock, Error, Result, Scope, TenantId, codes};
use store::{Blobs, EventLog, Leases, Records, Topic};

pub use create::{Created, Options, Uploaded, create};
pub use manifest::{
    Manifest, Mark, ObjectPart, PartitionPart, Previous, RecordsPart, Segment, TopicPart, ViewPart,
};
pub use metrics::BackupMetrics;
pub use part::Part;
pub use plan::{Plan, Wanted};
pub use restore::{Restored, Target, refuse_unfinished, restore, unfinish};
pub use ship::Shipper;
pub use vault::Vault;
pub use verify::{Verified, verify, verify_plan};

/// What a backup is made of.
#[derive(Debug, Clone)]
pub struct Source {
    /// The documents.
    pub records: Arc<dyn Records>,
    /// The events.
    pub log: Arc<dyn EventLog>,
    /// The objects.
    pub blobs: Arc<dyn Blobs>,
    /// One backup at a time, over all processes.
    pub leases: Leases,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// What belongs to a backup and what does not.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The topics of the log.
    pub topics: Vec<Topic>,
    /// Tables that are left out: what is of this process, or comes back as objects.
    pub tables_left_out: Vec<&'static str>,
    /// Tables that are kept once, as they are when the newest backup is made, and restored so whichever backup is: a
    /// backup must not bring back keys that were dropped since.
    pub tables_kept_once: Vec<&'static str>,
    /// Folders of objects that are left out, because they are made from the log. A restore empties them.
    pub folders_left_out: Vec<&'static str>,
    /// Folders whose objects never change, so that they are read once.
    pub written_once: Vec<&'static str>,
    /// Where the server keeps checkpoints of views, as `FOLDER/TOPIC/VIEW/NAME`, the newest last.
    pub checkpoints: &'static str,
    /// Reads of a checkpoint, by partition, the first event that is not in it; fails for one that is damaged.
    pub progress: fn(&Bytes) -> Result<BTreeMap<u32, u64>>,
}

impl Rules {
    fn is_left_out(&self, path: &str) -> bool {
        within(&self.folders_left_out, path)
    }

    fn is_kept_once(&self, table: &str) -> bool {
        self.tables_kept_once.contains(&table)
    }

    fn is_written_once(&self, path: &str) -> bool {
        within(&self.written_once, path)
    }
}

fn within(folders: &[&str], path: &str) -> bool {
    folders.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
}

/// How far it is: what is being done, how much of it, of how much (0 where that is not known).
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What is being done.
    pub what: &'static str,
    /// How much is done.
    pub done: u64,
    /// Of how much.
    pub total: u64,
}

/// Who is told of each step.
pub type Tell<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// The scope of the server's own data.
fn system_scope() -> Scope {
    scope_of(&TenantId::server())
}

fn scope_of(tenant: &TenantId) -> Scope {
    Scope::system(tenant.clone(), "backup")
}

fn corrupted(message: impl Into<String>) -> Error {
    Error::new(codes::CORRUPTED, message)
}

/// Does work that takes the processor, on a thread where that is no harm.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
}
