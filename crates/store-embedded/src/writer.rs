//! The one thread that writes.
//!
//! It takes every job that is waiting, up to a bound, lets each add to one batch, commits and syncs the batch, and
//! answers all of them: one sync for all that came while the last one ran. Because it is alone, what a job reads
//! in its group is what it writes against.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::thread::JoinHandle;

use fjall::{OwnedWriteBatch, Slice};
use kernel::{Error, Result, codes};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::engine::{Engine, Space, Tables};

const QUEUE_JOBS: usize = 4_096;
const QUEUE_BYTES: u32 = 64 << 20;
const GROUP_JOBS: usize = 1_024;
const GROUP_BYTES: u64 = 8 << 20;

/// One caller's write.
pub(crate) trait Job: Send {
    /// About how much it writes.
    fn bytes(&self) -> u64;

    /// About how much memory it takes while it waits.
    fn held_bytes(&self) -> u64 {
        self.bytes()
    }

    /// Whether it is there to make room, and so may use the reserve.
    fn makes_room(&self) -> bool {
        false
    }

    /// Adds its changes to the group. Where it fails, it must not have added any.
    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()>;

    /// Does what follows from the outcome in memory and answers the caller.
    fn finish(self: Box<Self>, outcome: Result<()>);
}

/// The changes of several jobs, as they will be.
pub(crate) struct Group<'a> {
    tables: &'a Tables,
    batch: OwnedWriteBatch,
    pending: FxHashMap<(Space, Slice), Option<Slice>>,
    next_offsets: FxHashMap<(u32, u32), u64>,
}

impl Debug for Group<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Group").finish_non_exhaustive()
    }
}

impl<'a> Group<'a> {
    fn new(tables: &'a Tables) -> Self {
        Self {
            tables,
            batch: tables.batch(),
            pending: FxHashMap::default(),
            next_offsets: FxHashMap::default(),
        }
    }

    /// The database as it was before the group.
    pub(crate) fn tables(&self) -> &'a Tables {
        self.tables
    }

    /// The value of a key as the group has it.
    pub(crate) fn get(&self, space: Space, key: &Slice) -> Result<Option<Slice>> {
        self.pending(space, key).map_or_else(|| self.tables.get(space, key), Ok)
    }

    /// What a job of the group did to a key: nothing, or its new value, which is none when it was removed.
    pub(crate) fn pending(&self, space: Space, key: &Slice) -> Option<Option<Slice>> {
        self.pending.get(&(space, key.clone())).cloned()
    }

    /// Sets the value of a key.
    pub(crate) fn put(&mut self, space: Space, key: Slice, value: Slice) {
        self.batch.insert(self.tables.space(space), key.clone(), value.clone());
        self.pending.insert((space, key), Some(value));
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, space: Space, key: Slice) {
        self.batch.remove(self.tables.space(space), key.clone());
        self.pending.insert((space, key), None);
    }

    /// Sets the value of a key that no job of the group asks for.
    pub(crate) fn put_unseen(&mut self, space: Space, key: Slice, value: Slice) {
        self.batch.insert(self.tables.space(space), key, value);
    }

    /// Removes a key that no job of the group asks for.
    pub(crate) fn remove_unseen(&mut self, space: Space, key: Slice) {
        self.batch.remove(self.tables.space(space), key);
    }

    /// The next offset of a partition as the group has it; `published` is that of the database.
    pub(crate) fn next_offset(&mut self, topic: u32, partition: u32, published: u64) -> &mut u64 {
        self.next_offsets.entry((topic, partition)).or_insert(published)
    }
}

/// What is told to every part that keeps something of the database in memory.
pub(crate) trait Watcher: Send + Sync {
    /// The database was opened again.
    fn reopened(&self, tables: &Tables) -> Result<()>;
}

struct Queued {
    job: Box<dyn Job>,
    // Frees its share of the queue when dropped.
    _room: tokio::sync::OwnedSemaphorePermit,
}

/// The way to the writing thread. The last drop ends the thread after the queued jobs, and waits for it.
pub(crate) struct Writer {
    engine: Arc<Engine>,
    queue: Option<mpsc::Sender<Queued>>,
    room: Arc<Semaphore>,
    watchers: Arc<Mutex<Vec<Arc<dyn Watcher>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(engine: Arc<Engine>) -> Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_JOBS);
        let watchers: Arc<Mutex<Vec<Arc<dyn Watcher>>>> = Arc::default();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn({
            let (engine, watchers) = (Arc::clone(&engine), Arc::clone(&watchers));
            move || run(&engine, &watchers, jobs)
        });
        let thread = thread.map_err(Error::internal)?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
        Ok(Self { engine, queue: Some(queue), room, watchers, thread: Some(thread) })
    }

    /// The engine it writes to.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Adds a part that wants to know when the database was opened again.
    pub(crate) fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.watchers.lock().push(watcher);
    }

    /// Queues a job, waiting while the queue is full. The answer comes through the job.
    pub(crate) async fn send(&self, job: Box<dyn Job>) -> Result<()> {
        let gone = || Error::new(codes::UNAVAILABLE, "the store is closed");
        let share = u32::try_from(job.held_bytes()).unwrap_or(u32::MAX).min(QUEUE_BYTES);
        let room = Arc::clone(&self.room).acquire_many_owned(share).await.map_err(|_| gone())?;
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(Queued { job, _room: room }).await.map_err(|_| gone())
    }

    /// Queues a job and waits for its answer.
    pub(crate) async fn run<R>(&self, job: Box<dyn Job>, answer: oneshot::Receiver<Result<R>>) -> Result<R> {
        self.send(job).await?;
        answer.await.map_err(|_| Error::internal("the writing thread dropped a job"))?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        let Some(thread) = self.thread.take() else { return };
        // A job's answer can be what drops the last handle, on the thread itself.
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("the writing thread panicked");
        }
    }
}

fn run(engine: &Engine, watchers: &Mutex<Vec<Arc<dyn Watcher>>>, mut jobs: mpsc::Receiver<Queued>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut bytes = first.job.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_JOBS
            && bytes < GROUP_BYTES
            && let Ok(next) = jobs.try_recv()
        {
            bytes += next.job.bytes();
            group.push(next);
        }
        run_group(engine, watchers, group);
    }
}

fn run_group(engine: &Engine, watchers: &Mutex<Vec<Arc<dyn Watcher>>>, jobs: Vec<Queued>) {
    let writable = writable(engine, watchers).and_then(|tables| Ok((engine.room(&tables)?, tables)));
    let (mut room, tables) = match writable {
        Ok(found) => found,
        Err(error) => return jobs.into_iter().for_each(|queued| queued.job.finish(Err(copy(&error)))),
    };
    let mut group = Group::new(&tables);
    let mut prepared = Vec::with_capacity(jobs.len());
    for mut queued in jobs {
        let job = &mut queued.job;
        match room.take(job.bytes(), job.makes_room()).and_then(|()| job.prepare(&mut group)) {
            Ok(()) => prepared.push(queued),
            Err(error) => queued.job.finish(Err(error)),
        }
    }
    let outcome = engine.commit(&tables, group.batch);
    drop(tables);
    for queued in prepared {
        queued.job.finish(outcome.as_ref().copied().map_err(copy));
    }
}

fn writable(engine: &Engine, watchers: &Mutex<Vec<Arc<dyn Watcher>>>) -> Result<Arc<Tables>> {
    let (tables, reopened) = engine.writable()?;
    if reopened {
        for watcher in &*watchers.lock() {
            watcher.reopened(&tables).inspect_err(|_| engine.give_up(&tables))?;
        }
    }
    Ok(tables)
}

// An error is not `Clone`, because its cause is not; the cause is logged where it happened.
fn copy(error: &Error) -> Error {
    let copy = Error::new(error.code(), error.message());
    match error.field() {
        Some(field) => copy.with_field(field),
        None => copy,
    }
}
