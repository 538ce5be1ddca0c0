//! Feeds an index from the log: what it lacks first, then what comes.
//!
//! A [`Sink`] takes batches in and makes them durable; where it stands is remembered after each partition's. A crash
//! between the two brings the last batch again, so that taking one in twice must change nothing. It refuses to skip what a
//! sink could not take: it tries again until it can. To add an index: a `Sink`.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Error, Result, codes};
use parking_lot::Mutex;
use store::{Appended, EventLog, ReadLimit, Stored};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::index::{Place, Progress};
use crate::log::{ITEMS, mark_of};

const PAUSE: Duration = Duration::from_millis(500);

/// What is fed.
#[async_trait]
pub trait Sink: Send + Sync + Debug + 'static {
    /// What log lines call it.
    fn name(&self) -> &'static str;

    /// How many events it takes at once.
    fn limit(&self) -> ReadLimit {
        ReadLimit::default()
    }

    /// How much of the log it has; a partition that is missing begins at 0.
    async fn restore(&self, log: &dyn EventLog) -> Result<Progress>;

    /// Forgets everything: the log is another one.
    async fn clear(&self) -> Result<()>;

    /// Takes the next events of a partition in, durably.
    async fn take(&self, partition: u32, batch: Vec<Stored>) -> Result<()>;

    /// Remembers where it stands.
    async fn save(&self, log: &dyn EventLog, progress: &Progress) -> Result<()>;
}

/// A sink that is being fed.
#[derive(Debug)]
pub struct Follower {
    progress: watch::Receiver<Progress>,
    has_caught_up: Arc<AtomicBool>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Follower {
    /// Begins to feed, in a task of its own, until [`Follower::stop`].
    #[must_use]
    pub fn start(log: Arc<dyn EventLog>, sink: Arc<dyn Sink>) -> Self {
        Self::start_until(log, sink, CancellationToken::new())
    }

    /// [`Follower::start`], until this token is cancelled too: a sink that knows it may break off what it takes in.
    #[must_use]
    pub fn start_until(log: Arc<dyn EventLog>, sink: Arc<dyn Sink>, stop: CancellationToken) -> Self {
        let (sender, progress) = watch::channel(Progress::new());
        let has_caught_up = Arc::new(AtomicBool::new(false));
        let caught_up = Arc::clone(&has_caught_up);
        let feeder = Feeder { log, sink, progress: sender, has_caught_up: caught_up, is_failing: false };
        let task = tokio::spawn(feeder.run(stop.clone()));
        Self { progress, has_caught_up, stop, task: Mutex::new(Some(task)) }
    }

    /// How much of the log is in.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Whether everything that the log held at the start is in.
    #[must_use]
    pub fn has_caught_up(&self) -> bool {
        self.has_caught_up.load(Ordering::Relaxed)
    }

    /// Returns when every place is in.
    ///
    /// # Errors
    /// `TIMED_OUT` after `patience`; `UNAVAILABLE` where it was stopped.
    pub async fn reached(&self, places: &[Appended], patience: Duration) -> Result<()> {
        let mut progress = self.progress.clone();
        let has_all = |progress: &Progress| {
            let has =
                |place: &Appended| progress.get(&place.partition).is_some_and(|at| at.next > place.offset);
            places.iter().all(has)
        };
        match tokio::time::timeout(patience, progress.wait_for(has_all)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => {
                Err(Error::new(codes::UNAVAILABLE, "stored, but the index does not follow the log"))
            }
            Err(_) => Err(Error::new(codes::TIMED_OUT, "stored, but the index does not show it yet")),
        }
    }

    /// Tells it to stop.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    /// Stops, and returns when what was begun is done.
    pub async fn stop(&self) {
        self.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            warn!(%error, "the task that feeds an index failed");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

/// Whether what is in comes from this log: the last event of each partition is the one that stands there. A log that was cut
/// back, or is another one, has another there or none, however long it is.
///
/// # Errors
/// Those of the log.
pub(crate) async fn is_of(progress: &Progress, log: &dyn EventLog) -> Result<bool> {
    let extents = log.extents(&ITEMS).await?;
    for (partition, place) in progress.iter().filter(|(_, place)| place.next > 0) {
        let last = place.next - 1;
        match extents.iter().find(|extent| extent.partition == *partition) {
            Some(extent) if extent.next >= place.next && extent.first <= last => {}
            // What was cut off cannot be compared.
            Some(extent) if extent.next >= place.next => continue,
            _ => return Ok(false),
        }
        let limit = ReadLimit { events: 1, ..ReadLimit::default() };
        let found = log.read(&ITEMS, *partition, last, limit).await?;
        let is_same = |stored: &Stored| stored.offset == last && mark_of(&stored.event) == place.mark;
        if !found.first().is_some_and(is_same) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Feeder {
    log: Arc<dyn EventLog>,
    sink: Arc<dyn Sink>,
    progress: watch::Sender<Progress>,
    has_caught_up: Arc<AtomicBool>,
    is_failing: bool,
}

impl Feeder {
    async fn run(mut self, stop: CancellationToken) {
        let mut is_restored = false;
        while !stop.is_cancelled() {
            match self.advance(&mut is_restored, &stop).await {
                Ok(()) if std::mem::take(&mut self.is_failing) => {
                    info!(index = self.sink.name(), "the index follows again");
                }
                Ok(()) => {}
                // Broken off, and taken in again at the next start.
                Err(_) if stop.is_cancelled() => break,
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        warn!(error = %error.chain(), index = self.sink.name(), "the index does not follow for now");
                    }
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                    continue;
                }
            }
            // Only the wait may be dropped half-way.
            tokio::select! {
                () = stop.cancelled() => {}
                grown = self.grown() => {
                    if grown.is_err() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
    }

    async fn advance(&self, is_restored: &mut bool, stop: &CancellationToken) -> Result<()> {
        if !*is_restored {
            self.restore().await?;
            *is_restored = true;
        }
        self.catch_up(stop).await
    }

    async fn restore(&self) -> Result<()> {
        let mut progress = self.sink.restore(self.log.as_ref()).await?;
        if !is_of(&progress, self.log.as_ref()).await? {
            warn!(index = self.sink.name(), "the index is of another log; it takes all of this one in");
            self.sink.clear().await?;
            progress.clear();
        }
        for extent in self.log.extents(&ITEMS).await? {
            progress.entry(extent.partition).or_default();
        }
        self.progress.send_replace(progress);
        Ok(())
    }

    /// Takes in everything that the log holds now.
    async fn catch_up(&self, stop: &CancellationToken) -> Result<()> {
        loop {
            let mut has_moved = false;
            let places = self.progress.borrow().clone();
            for (partition, Place { next, .. }) in places {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let batch = self.log.read(&ITEMS, partition, next, self.sink.limit()).await?;
                let Some(last) = batch.last() else { continue };
                let mut progress = self.progress.borrow().clone();
                progress.insert(partition, Place { next: last.offset + 1, mark: mark_of(&last.event) });
                has_moved = true;
                self.sink.take(partition, batch).await?;
                self.sink.save(self.log.as_ref(), &progress).await?;
                self.progress.send_replace(progress);
            }
            if !has_moved {
                self.has_caught_up.store(true, Ordering::Relaxed);
                return Ok(());
            }
        }
    }

    async fn grown(&self) -> Result<()> {
        let places: Vec<(u32, u64)> =
            self.progress.borrow().iter().map(|(at, place)| (*at, place.next)).collect();
        if places.is_empty() {
            return std::future::pending().await;
        }
        let topic = ITEMS;
        let waits = places.iter().map(|(partition, next)| self.log.wait(&topic, *partition, *next));
        let (grown, ..) = futures::future::select_all(waits).await;
        grown
    }
}
