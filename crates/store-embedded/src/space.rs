//! Free disk space, and the reserve that writes leave untouched.
//!
//! The database moves what was written from its journal to sorted tables later, in its own threads, and gives up
//! for good when the disk is full then. So a write is refused while there is still room for that work.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use kernel::{Error, Result, codes};

/// Tells how many bytes are free.
pub(crate) trait FreeSpace: Send + Sync + Debug {
    /// Bytes that this process may still write.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// The file system under a folder.
#[derive(Debug)]
pub(crate) struct FileSystemSpace {
    path: PathBuf,
}

impl FileSystemSpace {
    /// The file system that holds `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

impl FreeSpace for FileSystemSpace {
    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// What may be written before the disk is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    free_bytes: u64,
    reserve_bytes: u64,
    working_bytes: u64,
    taken_bytes: u64,
}

impl Room {
    /// Asks how much is free. `reserve_bytes` stay free, and so do `working_bytes` for what the database has to
    /// move yet.
    pub(crate) fn measure(space: &dyn FreeSpace, reserve_bytes: u64, working_bytes: u64) -> Result<Self> {
        let free_bytes = space.free_bytes().map_err(|cause| {
            Error::new(codes::UNAVAILABLE, "the free disk space cannot be read").with_source(cause)
        })?;
        Ok(Self { free_bytes, reserve_bytes, working_bytes, taken_bytes: 0 })
    }

    /// Takes room for `bytes`: once for the journal and once for the sorted table. What is there to make room may
    /// use half of the reserve.
    pub(crate) fn take(&mut self, bytes: u64, makes_room: bool) -> Result<()> {
        let taken_bytes = self.taken_bytes + bytes;
        let needed_bytes = if makes_room {
            self.reserve_bytes / 2 + taken_bytes
        } else {
            self.reserve_bytes.saturating_add(self.working_bytes).saturating_add(2 * taken_bytes)
        };
        if self.free_bytes < needed_bytes {
            let message = format!(
                "the disk is full: {} MiB are free, {} MiB are needed; make room, then send the same again",
                self.free_bytes >> 20,
                needed_bytes.div_ceil(1 << 20)
            );
            return Err(Error::new(codes::STORAGE_FULL, message));
        }
        self.taken_bytes = taken_bytes;
        Ok(())
    }
}
