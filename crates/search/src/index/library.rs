//! The indexes of all tenants, in one folder: `TENANT/GENERATION/`, which of the generations is served in
//! `TENANT/current`, and how much of the log is in all of them in `progress`. Or in memory, made again from the log at
//! each start.
//!
//! Progress is written after the indexes, so that after a crash the last changes are taken in again, which changes
//! nothing. What another [`FORMAT`] left, or an index that is damaged, is removed and made again: the log has
//! everything. It refuses a folder that holds anything else, and one that another process has.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::{Error, Result, Scope, TenantId, codes};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::{FORMAT, TextIndex};
use crate::algorithms::bm25::Bm25;

/// Locked by the process that has the folder.
const LOCK: &str = "lock";
/// How the folder of a tenant begins.
const TENANT: &str = "t-";

/// How much of a partition is in an index, and by what its log is known again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The first event that is not in.
    pub next: u64,
    /// Of the event before that, what no other event has; empty where none is in.
    pub mark: String,
}

/// How much of the log is in an index, by partition.
pub type Progress = BTreeMap<u32, Place>;

#[derive(Debug, Clone)]
struct Served {
    index: Arc<TextIndex>,
    generation: u64,
}

/// The indexes of all tenants.
#[derive(Debug)]
pub struct Library {
    folder: Option<PathBuf>,
    bm25: Bm25,
    served: RwLock<BTreeMap<TenantId, Served>>,
    making: Mutex<()>,
    /// Held by the process that has the folder.
    lock: Mutex<Option<fs::File>>,
}

impl Library {
    /// Over a folder, which is made where it does not exist, or in memory without one. Nothing is read yet.
    #[must_use]
    pub fn new(folder: Option<PathBuf>, bm25: Bm25) -> Self {
        Self { folder, bm25, served: RwLock::default(), making: Mutex::default(), lock: Mutex::default() }
    }

    /// Opens every index and returns how much of the log they hold.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where the folder holds something else; `UNAVAILABLE` where it cannot be read or written, or another
    /// process has it.
    pub fn load(&self) -> Result<Progress> {
        self.take_folder()?;
        match self.try_load() {
            Ok(Some(progress)) => return Ok(progress),
            Ok(None) => {}
            Err(error) if error.code() == codes::CORRUPTED => {
                warn!(error = %error.chain(), "the search index is damaged; it is built again from the log");
            }
            Err(error) => return Err(error),
        }
        self.clear()?;
        Ok(Progress::new())
    }

    /// Makes the folder this process's own.
    fn take_folder(&self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut lock = self.lock.lock();
        if lock.is_some() {
            return Ok(());
        }
        fs::create_dir_all(folder).map_err(|cause| fault(folder, cause))?;
        let mut is_ours = true;
        for entry in fs::read_dir(folder).map_err(|cause| fault(folder, cause))? {
            let name = entry.map_err(|cause| fault(folder, cause))?.file_name();
            is_ours &= [LOCK, "format.new"].iter().any(|known| name == *known);
        }
        if !is_ours && !folder.join("format").exists() {
            let message = format!("{} holds something else than search indexes", folder.display());
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("search.index_dir"));
        }
        let file = fs::File::create(folder.join(LOCK)).map_err(|cause| fault(folder, cause))?;
        file.try_lock().map_err(|cause| {
            let message = format!("another process has the search indexes in {}", folder.display());
            Error::new(codes::UNAVAILABLE, message).with_source(cause)
        })?;
        *lock = Some(file);
        Ok(())
    }

    /// Forgets every index.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn clear(&self) -> Result<()> {
        self.served.write().clear();
        let Some(folder) = &self.folder else { return Ok(()) };
        // In this order a crash in between leaves a folder that is known as ours, and is cleared again.
        write_file(&folder.join("format"), FORMAT.to_string().as_bytes())?;
        remove(&folder.join("progress"), |path| fs::remove_file(path))?;
        for entry in fs::read_dir(folder).map_err(|cause| fault(folder, cause))? {
            let path = entry.map_err(|cause| fault(folder, cause))?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(TENANT)) {
                remove(&path, |path| fs::remove_dir_all(path))?;
            }
        }
        Ok(())
    }

    /// Nothing where the folder is to be filled from the beginning.
    fn try_load(&self) -> Result<Option<Progress>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let is_ours = fs::read_to_string(folder.join("format")).is_ok_and(|text| text == FORMAT.to_string());
        if !is_ours {
            return Ok(None);
        }
        let progress = match fs::read(folder.join("progress")) {
            Ok(progress) => progress,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(fault(folder, cause)),
        };
        let progress = serde_json::from_slice(&progress).map_err(|cause| damaged(folder, cause))?;
        let mut served = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(|cause| fault(folder, cause))? {
            let path = entry.map_err(|cause| fault(folder, cause))?.path();
            if let Some(tenant) = tenant_of(&path) {
                served.insert(tenant, self.load_tenant(&path)?);
            }
        }
        *self.served.write() = served;
        Ok(Some(progress))
    }

    fn load_tenant(&self, folder: &Path) -> Result<Served> {
        let text = fs::read_to_string(folder.join("current")).map_err(|cause| fault(folder, cause))?;
        let generation = text.parse().map_err(|cause| damaged(folder, cause))?;
        self.remove_others(folder, generation)?;
        let index = Arc::new(TextIndex::open(&folder.join(text), self.bm25)?);
        index.check()?;
        Ok(Served { index, generation })
    }

    /// Removes generations that are not served: what a crash left of a rebuild, and what was served before.
    fn remove_others(&self, folder: &Path, generation: u64) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(|cause| fault(folder, cause))? {
            let path = entry.map_err(|cause| fault(folder, cause))?.path();
            let is_other = path.file_name().and_then(|name| name.to_str()) != Some(&generation.to_string());
            if path.is_dir() && is_other {
                fs::remove_dir_all(&path).map_err(|cause| fault(&path, cause))?;
            }
        }
        Ok(())
    }

    /// The index of the scope's tenant; nothing where it never had an item.
    #[must_use]
    pub fn of(&self, scope: &Scope) -> Option<Arc<TextIndex>> {
        self.served.read().get(scope.tenant()).map(|served| Arc::clone(&served.index))
    }

    /// Lets go of the memory of writing and of the folder.
    pub fn close(&self) {
        self.served.read().values().for_each(|served| served.index.rest());
        *self.lock.lock() = None;
    }

    /// Lets go of the memory of writing the index of a tenant.
    pub(crate) fn rest_one(&self, tenant: &TenantId) {
        let index = self.served.read().get(tenant).map(|served| Arc::clone(&served.index));
        if let Some(index) = index {
            index.rest();
        }
    }

    /// The index of a tenant, made where there is none.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn for_writing(&self, tenant: &TenantId) -> Result<Arc<TextIndex>> {
        let _making = self.making.lock();
        if let Some(served) = self.served.read().get(tenant) {
            return Ok(Arc::clone(&served.index));
        }
        let index = self.make(tenant, 1)?;
        self.serve(tenant, Served { index: Arc::clone(&index), generation: 1 })?;
        Ok(index)
    }

    /// An empty index that is not served yet, to be filled beside the one that is.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn begin_again(&self, tenant: &TenantId) -> Result<Rebuilt> {
        // So that nobody else makes the first one meanwhile.
        self.for_writing(tenant)?;
        let generation = self.served.read().get(tenant).map_or(1, |served| served.generation + 1);
        Ok(Rebuilt { index: self.make(tenant, generation)?, generation })
    }

    /// Serves what was filled, in place of what was served before, which is removed.
    ///
    /// # Errors
    /// Those of the disk; then the index before is served on.
    pub(crate) fn replace(&self, tenant: &TenantId, rebuilt: Rebuilt) -> Result<()> {
        let Rebuilt { index, generation } = rebuilt;
        self.serve(tenant, Served { index, generation })?;
        let Some(folder) = self.folder_of(tenant) else { return Ok(()) };
        self.remove_others(&folder, generation)
    }

    fn folder_of(&self, tenant: &TenantId) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{TENANT}{tenant}")))
    }

    fn make(&self, tenant: &TenantId, generation: u64) -> Result<Arc<TextIndex>> {
        let Some(folder) = self.folder_of(tenant) else {
            return TextIndex::in_memory(self.bm25).map(Arc::new);
        };
        let folder = folder.join(generation.to_string());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|cause| fault(&folder, cause))?;
        }
        fs::create_dir_all(&folder).map_err(|cause| fault(&folder, cause))?;
        TextIndex::open(&folder, self.bm25).map(Arc::new)
    }

    fn serve(&self, tenant: &TenantId, served: Served) -> Result<()> {
        if let Some(folder) = self.folder_of(tenant) {
            write_file(&folder.join("current"), served.generation.to_string().as_bytes())?;
        }
        self.served.write().insert(tenant.clone(), served);
        Ok(())
    }

    /// Remembers how much of the log the indexes hold.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn save(&self, progress: &Progress) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let text = serde_json::to_vec(progress).map_err(Error::internal)?;
        write_file(&folder.join("progress"), &text)
    }
}

/// An index that is being filled.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub index: Arc<TextIndex>,
    generation: u64,
}

fn tenant_of(path: &Path) -> Option<TenantId> {
    let name = path.file_name()?.to_str()?.strip_prefix(TENANT)?;
    // Without it the folder was only begun; the log is read again from before it.
    if !path.join("current").exists() {
        return None;
    }
    TenantId::new(name).ok()
}

/// Writes a file whole or not at all.
fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(|cause| fault(path, cause))
}

/// Removes what may be gone already.
fn remove(path: &Path, remove: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match remove(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(fault(path, cause)),
        _ => Ok(()),
    }
}

fn damaged(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("the search index in {} is damaged", path.display());
    Error::new(codes::CORRUPTED, message).with_source(cause)
}

fn fault(path: &Path, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = format!("the search index in {} cannot be read or written", path.display());
    Error::new(codes::UNAVAILABLE, message).with_source(cause)
}
