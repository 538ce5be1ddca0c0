//! Every storage port in one folder on disk, with nothing else installed.
//!
//! | file in the folder | holds |
//! |---|---|
//! | `FORMAT` | the version of this layout; the one before is brought up to it, another is refused |
//! | `LOCK` | locked while a process has the folder open |
//! | `keyed/` | one `fjall` database: records, events, vectors, columns |
//! | `blobs/` | one file per object |
//!
//! Every write of every port goes through one thread, which commits what is waiting as one batch, syncs it to
//! disk, and only then answers (group commit). It refuses a folder that another process has open, a journal with
//! damage before its end, and writes that would eat into the reserve of disk space.
//!
//! What is known of failures, and tested:
//! - **A killed process or machine**: every acknowledged write is there; one that was not acknowledged is there whole
//!   or not at all. A write torn at the end of the journal is cut when the folder is opened.
//! - **Damaged files**: a damaged journal is refused when the folder is opened (see `journal.rs` for how damage is
//!   told from a torn end, and for the one case that cannot be: a flipped bit in the frame of the very last write).
//!   Damaged tables are refused when the folder is opened or the damaged block is read; events are checked once more by
//!   the checksum of their chunk, and a gap between offsets is damage too.
//! - **A full disk**: writes are refused with `STORAGE_FULL` before the database meets it. Should it meet it anyway (its
//!   own threads then stop for good), reading goes on, writes are refused, and it is opened again in the process once
//!   there is room.
//! - **A failing disk**: after any other error of a write or a sync, nothing is written until the process is started
//!   again.
//!
//! To add a port: its file here, one keyspace in `engine.rs`, one call of its conformance suite in the tests.

mod blobs;
mod cache;
mod columns;
mod config;
mod engine;
mod event_log;
mod folder;
mod journal;
mod keys;
mod records;
mod space;
mod vectors;
mod writer;

#[cfg(test)]
mod full_disk;

use std::path::Path;
use std::sync::Arc;

use kernel::{Clock, Result};
use store::{Blobs, Cache, Columns, EventLog, Records, Vectors};

pub use config::Options;

use crate::blobs::EmbeddedBlobs;
use crate::cache::EmbeddedCache;
use crate::columns::EmbeddedColumns;
use crate::engine::Engine;
use crate::event_log::EmbeddedEventLog;
use crate::folder::Folder;
use crate::records::EmbeddedRecords;
use crate::space::{FileSystemSpace, FreeSpace};
use crate::vectors::EmbeddedVectors;
use crate::writer::Writer;

/// The cache alone, for a process that keeps nothing in a folder.
#[must_use]
pub fn memory_cache(options: &Options, clock: Arc<dyn Clock>) -> Arc<dyn Cache> {
    Arc::new(EmbeddedCache::new(options.cache_bytes, 0, clock))
}

/// An open folder. The folder stays open until the store and every port that came from it are dropped; the last
/// drop ends the writer thread and waits for it.
#[derive(Debug, Clone)]
pub struct EmbeddedStore {
    records: Arc<EmbeddedRecords>,
    event_log: Arc<EmbeddedEventLog>,
    cache: Arc<EmbeddedCache>,
    vectors: Arc<EmbeddedVectors>,
    columns: Arc<EmbeddedColumns>,
    blobs: Arc<EmbeddedBlobs>,
}

impl EmbeddedStore {
    /// Opens the folder at `path`, making it when it is not there. Blocks while the journal is read.
    ///
    /// # Errors
    /// `CONFLICT` when another process has the folder open, `VALIDATION_ERROR` for bad options or another format,
    /// `CORRUPTED` when stored bytes fail their checksum, `STORAGE_FULL` or `UNAVAILABLE` when the disk fails.
    pub fn open(path: &Path, options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::open_on(path, options, clock, Box::new(FileSystemSpace::new(path)))
    }

    /// Whether there is a folder of this engine at `path`, made by [`EmbeddedStore::open`].
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        Folder::is_at(path)
    }

    fn open_on(
        path: &Path,
        options: Options,
        clock: Arc<dyn Clock>,
        space: Box<dyn FreeSpace>,
    ) -> Result<Self> {
        options.check()?;
        let folder = Folder::open(path)?;
        let blobs_folder = folder.blobs();
        let engine = Arc::new(Engine::open(folder, options, Arc::clone(&clock), space)?);
        let blobs = EmbeddedBlobs::open(&blobs_folder, Arc::clone(&engine))?;
        let writer = Arc::new(Writer::start(Arc::clone(&engine))?);
        Ok(Self {
            records: Arc::new(EmbeddedRecords::new(Arc::clone(&writer))),
            event_log: Arc::new(EmbeddedEventLog::open(Arc::clone(&writer))?),
            cache: Arc::new(EmbeddedCache::new(options.cache_bytes, engine.opened(), clock)),
            vectors: Arc::new(EmbeddedVectors::new(Arc::clone(&writer))),
            columns: Arc::new(EmbeddedColumns::new(writer)),
            blobs: Arc::new(blobs),
        })
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> Arc<dyn Records> {
        Arc::clone(&self.records) as Arc<dyn Records>
    }

    /// The event log.
    #[must_use]
    pub fn event_log(&self) -> Arc<dyn EventLog> {
        Arc::clone(&self.event_log) as Arc<dyn EventLog>
    }

    /// The cache, which lives in memory.
    #[must_use]
    pub fn cache(&self) -> Arc<dyn Cache> {
        Arc::clone(&self.cache) as Arc<dyn Cache>
    }

    /// The vectors.
    #[must_use]
    pub fn vectors(&self) -> Arc<dyn Vectors> {
        Arc::clone(&self.vectors) as Arc<dyn Vectors>
    }

    /// How many vectors of large collections are not in their index yet. Until they are, each search scores them all.
    #[must_use]
    pub fn vectors_to_index(&self) -> usize {
        self.vectors.waiting()
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> Arc<dyn Columns> {
        Arc::clone(&self.columns) as Arc<dyn Columns>
    }

    /// The blobs.
    #[must_use]
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::clone(&self.blobs) as Arc<dyn Blobs>
    }
}
