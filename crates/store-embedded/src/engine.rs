//! The database under the ports: its keyspaces, how it opens, and how it opens again after the disk was full.

use std::fmt::{self, Debug};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch, PersistMode, Slice,
};
use kernel::{Clock, Error, Result, codes};
use parking_lot::{Mutex, RwLock};

use crate::config::Options;
use crate::folder::Folder;
use crate::journal::check_journals;
use crate::space::{FreeSpace, Room};

/// The keyspaces. The names are on disk: never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    /// topic, partition, offset of the first → checksum, events.
    Events,
    /// topic, hash of tenant, source and id → partition, offset.
    EventIds,
    /// topic name → number, partition count; group, topic, partition → committed offset; and the like.
    Meta,
    /// tenant, table, key → version, index entries, body.
    Records,
    /// tenant, table, index, value, key → nothing.
    Indexes,
    /// tenant, collection, key → vector, tags.
    Vectors,
    /// tenant, table, series, time, id, revision → values.
    Columns,
}

const SPACES: [(Space, &str); 7] = [
    (Space::Events, "events"),
    (Space::EventIds, "event_ids"),
    (Space::Meta, "meta"),
    (Space::Records, "records"),
    (Space::Indexes, "indexes"),
    (Space::Vectors, "vectors"),
    (Space::Columns, "columns"),
];

const SMALL_BUFFER_BYTES: u64 = 8 << 20;
const JOURNAL_BYTES: u64 = 128 << 20;
const BROKEN: &str = "the disk failed; check it, then start the server again";
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

/// An open database.
pub(crate) struct Tables {
    database: Database,
    keyspaces: Vec<Keyspace>,
}

impl Debug for Tables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    fn open(folder: &Folder, options: &Options) -> Result<Self> {
        let path = folder.keyed();
        check_journals(&path)?;
        // Where stored bytes are not what they should be, `fjall` may panic instead of failing.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = Database::builder(&path)
                .cache_size(options.block_cache_bytes)
                .journal_compression(CompressionType::None)
                .max_journaling_size(JOURNAL_BYTES)
                // With more, all but one of them spin while one compacts.
                .worker_threads(1)
                .open()?;
            let keyspaces = SPACES
                .map(|(space, name)| database.keyspace(name, || keyspace_options(space, options)))
                .into_iter()
                .collect::<fjall::Result<_>>()?;
            Ok(Self { database, keyspaces })
        }));
        let damaged =
            |_| Error::new(codes::CORRUPTED, "the database cannot be opened; restore it from a copy");
        opened.map_err(damaged)?.map_err(|cause| failure("the database cannot be opened", cause))
    }

    /// One keyspace.
    pub(crate) fn space(&self, space: Space) -> &Keyspace {
        &self.keyspaces[space as usize]
    }

    /// The value of a key.
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Slice>> {
        self.space(space).get(key).map_err(|cause| failure("a stored value cannot be read", cause))
    }

    /// A view that does not change.
    pub(crate) fn snapshot(&self) -> fjall::Snapshot {
        self.database.snapshot()
    }

    /// An empty batch that is synced when it is committed.
    pub(crate) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncAll))
    }

    // With four full buffers or thirty fresh tables in a keyspace, a commit of `fjall` waits until its threads have
    // caught up, for ever when they have given up. So it is waited for here, where their giving up is seen.
    fn wait_for_buffers(&self) -> fjall::Result<()> {
        let behind =
            |keyspace: &Keyspace| keyspace.sealed_memtable_count() > 1 || keyspace.l0_table_count() > 12;
        while self.keyspaces.iter().any(behind) {
            // Does nothing but tell whether they have.
            self.database.persist(PersistMode::Buffer)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    // What its threads need to move everything to sorted tables: the buffers once more, and the ids, which are
    // rewritten in no order, up to one level of their tables.
    fn working_bytes(&self) -> u64 {
        self.database.write_buffer_size() + self.space(Space::EventIds).disk_space().min(512 << 20)
    }
}

fn keyspace_options(space: Space, options: &Options) -> KeyspaceCreateOptions {
    let defaults = KeyspaceCreateOptions::default();
    match space {
        Space::Events | Space::Columns => defaults
            .max_memtable_size(options.write_buffer_bytes)
            .data_block_size_policy(BlockSizePolicy::all(32 << 10))
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4)),
        Space::EventIds => defaults
            .max_memtable_size(options.write_buffer_bytes)
            .data_block_compression_policy(CompressionPolicy::disabled())
            // Smaller tables, so that one compaction does not hold up the next flush for long.
            .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(16 << 20))),
        _ => defaults.max_memtable_size(SMALL_BUFFER_BYTES),
    }
}

/// Where the database stands.
#[derive(Debug)]
enum State {
    /// It works.
    Open(Arc<Tables>),
    /// It gave up: it still reads, and is opened again when there is room.
    Failed(Arc<Tables>),
    /// The disk failed: it still reads, as far as that goes, until the process is started again.
    Broken(Arc<Tables>),
    /// It is being opened again, or that failed.
    Closed,
}

/// The database, its options, and the disk under it.
#[derive(Debug)]
pub(crate) struct Engine {
    options: Options,
    clock: Arc<dyn Clock>,
    space: Box<dyn FreeSpace>,
    state: RwLock<State>,
    last_attempt: Mutex<Option<Duration>>,
    opened: u64,
    // Last, so that the lock goes after the database.
    folder: Folder,
}

impl Engine {
    /// Opens the database in `folder`. `space` tells what is free on the disk under it.
    pub(crate) fn open(
        folder: Folder,
        options: Options,
        clock: Arc<dyn Clock>,
        space: Box<dyn FreeSpace>,
    ) -> Result<Self> {
        let tables = Tables::open(&folder, &options)?;
        folder.upgrade()?;
        let opened = count_opening(&tables)?;
        let state = RwLock::new(State::Open(Arc::new(tables)));
        Ok(Self { options, clock, space, state, last_attempt: Mutex::default(), opened, folder })
    }

    /// The options it was opened with.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// How often the folder was opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened
    }

    /// The database, for reading.
    ///
    /// # Errors
    /// `UNAVAILABLE` while it is being opened again.
    pub(crate) fn tables(&self) -> Result<Arc<Tables>> {
        match &*self.state.read() {
            State::Open(tables) | State::Failed(tables) | State::Broken(tables) => Ok(Arc::clone(tables)),
            State::Closed => {
                Err(Error::new(codes::UNAVAILABLE, "the store is being opened again; try again"))
            }
        }
    }

    /// The database, for writing, opened again when it gave up and there is room; true when it was.
    ///
    /// # Errors
    /// `STORAGE_FULL` while there is no room, `UNAVAILABLE` while it cannot be opened.
    pub(crate) fn writable(&self) -> Result<(Arc<Tables>, bool)> {
        match &*self.state.read() {
            State::Open(tables) => return Ok((Arc::clone(tables), false)),
            State::Broken(_) => return Err(Error::new(codes::UNAVAILABLE, BROKEN)),
            State::Failed(_) | State::Closed => {}
        }
        Room::measure(&*self.space, self.options.reserve_bytes, 0)?.take(0, false)?;
        let now = self.clock.elapsed();
        let mut last_attempt = self.last_attempt.lock();
        if last_attempt.is_some_and(|last| now < last.saturating_add(REOPEN_PAUSE)) {
            return Err(Error::new(
                codes::UNAVAILABLE,
                "the store gave up and is not open again yet; try again",
            ));
        }
        *last_attempt = Some(now);
        Ok((self.reopen()?, true))
    }

    fn reopen(&self) -> Result<Arc<Tables>> {
        let previous = std::mem::replace(&mut *self.state.write(), State::Closed);
        if let State::Failed(mut tables) = previous {
            // Readers hold it for the length of one call.
            let mut waits = 0;
            while Arc::get_mut(&mut tables).is_none() {
                if waits == 2_000 {
                    *self.state.write() = State::Failed(tables);
                    return Err(Error::new(codes::UNAVAILABLE, "the store is still being read; try again"));
                }
                waits += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let tables = Arc::new(Tables::open(&self.folder, &self.options)?);
        *self.state.write() = State::Open(Arc::clone(&tables));
        tracing::info!(folder = %self.folder.path().display(), "opened the store again");
        Ok(tables)
    }

    /// How much may be written now.
    pub(crate) fn room(&self, tables: &Tables) -> Result<Room> {
        let reserve_bytes = self.options.reserve_bytes;
        Room::measure(&*self.space, reserve_bytes, tables.working_bytes())
    }

    /// Refuses a blob that would leave less than the database needs.
    pub(crate) fn check_blob_room(&self, bytes: u64) -> Result<()> {
        let working_bytes = self.tables()?.working_bytes().saturating_add(bytes);
        Room::measure(&*self.space, self.options.reserve_bytes, working_bytes)?.take(0, false)
    }

    /// Commits a batch and syncs it. When that fails, the database has given up.
    pub(crate) fn commit(&self, tables: &Arc<Tables>, batch: OwnedWriteBatch) -> Result<()> {
        let outcome = tables.wait_for_buffers().and_then(|()| batch.commit());
        let Err(cause) = outcome else { return Ok(()) };
        let is_broken = is_disk_failure(&cause);
        let error = failure("the write failed; send the same again", cause);
        if is_broken {
            tracing::error!(error = %error.chain(), "{BROKEN}");
            *self.state.write() = State::Broken(Arc::clone(tables));
            return Err(error);
        }
        tracing::info!(error = %error.chain(), "the store gave up, it opens again when there is room");
        self.give_up(tables);
        let room = self.room(tables).and_then(|mut room| room.take(0, false));
        Err(room.err().unwrap_or(error))
    }

    /// Takes no more writes until the database was opened again.
    pub(crate) fn give_up(&self, tables: &Arc<Tables>) {
        *self.state.write() = State::Failed(Arc::clone(tables));
    }
}

// Kept on disk, so that what counts up in memory can go on above what an earlier process gave out.
fn count_opening(tables: &Tables) -> Result<u64> {
    const KEY: &[u8] = b"opened\0";
    let earlier = tables.get(Space::Meta, KEY)?.and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok());
    let opened = earlier.map_or(0, u64::from_be_bytes) + 1;
    let mut batch = tables.batch();
    batch.insert(tables.space(Space::Meta), KEY, opened.to_be_bytes());
    batch.commit().map_err(|cause| failure("the folder cannot be written", cause))?;
    Ok(opened)
}

// After a failed sync, what the file system still shows of a file may never reach the disk (Rebello et al. 2020, "Can
// applications recover from fsync failures?"), so nothing is built on it in this process.
fn is_disk_failure(cause: &fjall::Error) -> bool {
    match cause {
        fjall::Error::Io(cause) | fjall::Error::Storage(LsmError::Io(cause)) => !is_full(cause),
        _ => false,
    }
}

fn is_full(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The error that a failure of the database is.
pub(crate) fn failure(message: &str, cause: fjall::Error) -> Error {
    let of_io = |cause: &io::Error| match cause.kind() {
        _ if is_full(cause) => codes::STORAGE_FULL,
        // A damaged length or place makes it read where there is nothing.
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::NotFound
        | io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput => codes::CORRUPTED,
        _ => codes::UNAVAILABLE,
    };
    let code = match &cause {
        fjall::Error::Io(cause) | fjall::Error::Storage(LsmError::Io(cause)) => of_io(cause),
        fjall::Error::Poisoned => codes::UNAVAILABLE,
        fjall::Error::Locked => codes::CONFLICT,
        fjall::Error::KeyspaceDeleted => codes::INTERNAL_ERROR,
        _ => codes::CORRUPTED,
    };
    Error::new(code, message).with_source(cause)
}
