//! Feeds a fold from the log: restores the newest checkpoint, catches up, then follows the log as it grows.
//!
//! One task per projector reads all partitions in turn and is the only writer of its fold. A checkpoint pauses
//! the fold while its state is encoded, and not while it is written.
//!
//! A log may be cut at its beginning. What a checkpoint holds is then all there is of what went. A fold that was so slow
//! that events went before it saw them goes on from the newest checkpoint, which another process wrote; its view may step
//! back by what that checkpoint lacks of other partitions, until it has caught up. Where no checkpoint holds what went,
//! the fold is refused with [`HISTORY_GONE`], unless the settings accept it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kernel::{Clock, Error, ErrorCode, ErrorKind, Result, Scope, TenantId, codes};
use parking_lot::Mutex;
use store::{Appended, DeadLetter, DeadLetters, EventLog, Extent, ReadLimit, Stored, Topic};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{Checkpoint, Checkpoints, Fold, Rejection, StreamMetrics};

/// Events that the view never saw are no longer in the log, and in no checkpoint.
pub const HISTORY_GONE: ErrorCode = ErrorCode {
    name: "HISTORY_GONE",
    kind: ErrorKind::Corrupted,
    title: "The log no longer holds what the view needs",
};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
// Short, because what the log took in meanwhile is to show soon after its return; one read costs it little.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a projector runs.
#[derive(Debug, Clone, Copy)]
pub struct ProjectorSettings {
    /// Events between two checkpoints, at least.
    pub checkpoint_events: u64,
    /// Events taken from the log at once.
    pub batch: ReadLimit,
    /// Whether to go on, with a warning, where events that the view never saw were cut from the log.
    pub accept_partial_history: bool,
    /// Whether it writes for every process that follows the same log: checkpoints, unasked, and dead letters. Where it
    /// does not, another one must.
    pub writes_shared: bool,
}

impl Default for ProjectorSettings {
    fn default() -> Self {
        Self {
            checkpoint_events: 500_000,
            batch: ReadLimit::default(),
            accept_partial_history: false,
            writes_shared: true,
        }
    }
}

/// For each partition, the offset of the first event that is not in the view.
pub type Progress = BTreeMap<u32, u64>;

/// A running fold.
#[derive(Debug)]
pub struct Projector<F> {
    fold: Arc<F>,
    progress: watch::Receiver<Progress>,
    failure: watch::Receiver<Option<String>>,
    asks: mpsc::Sender<Ask>,
    stalled: watch::Receiver<bool>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Asks for a checkpoint of everything folded so far.
#[derive(Debug)]
struct Ask {
    /// Whether every other checkpoint is to go.
    alone: bool,
    answer: oneshot::Sender<Result<Progress>>,
}

/// By partition, what tells that it grew.
type Waits = FuturesUnordered<BoxFuture<'static, (u32, Result<()>)>>;

struct Feeder<F> {
    log: Arc<dyn EventLog>,
    topic: Topic,
    fold: Arc<F>,
    checkpoints: Checkpoints,
    dead_letters: DeadLetters,
    clock: Arc<dyn Clock>,
    metrics: StreamMetrics,
    settings: ProjectorSettings,
    progress: watch::Sender<Progress>,
    /// Whether the log could not be read just now.
    stalled: watch::Sender<bool>,
    /// Whether all partitions stand elsewhere since the last look, and may have stepped back.
    has_jumped: bool,
    since_checkpoint: u64,
    saving: Option<JoinHandle<Result<Progress>>>,
    /// What the newest checkpoint stands for.
    saved: Progress,
    refused: Vec<(Scope, DeadLetter)>,
}

impl<F: Fold> Projector<F> {
    /// Restores the fold and follows the log until [`Projector::stop`]. Returns when the fold has caught up with
    /// the end that the log had at the call.
    ///
    /// # Errors
    /// Those of the log and the blobs; `HISTORY_GONE` where neither holds all that was.
    pub async fn start(
        parts: ProjectorParts,
        topic: Topic,
        fold: Arc<F>,
        settings: ProjectorSettings,
    ) -> Result<Self> {
        let (sender, progress) = watch::channel(Progress::new());
        let (stall, stalled) = watch::channel(false);
        let mut feeder = Feeder {
            checkpoints: Checkpoints::new(parts.blobs, system_scope(), topic.as_str(), fold.name()),
            log: parts.log,
            topic,
            fold: Arc::clone(&fold),
            dead_letters: parts.dead_letters,
            clock: parts.clock,
            metrics: parts.metrics,
            settings,
            progress: sender,
            stalled: stall,
            has_jumped: false,
            since_checkpoint: 0,
            saving: None,
            saved: Progress::new(),
            refused: Vec::new(),
        };
        feeder.restore().await?;
        feeder.catch_up().await?;
        let stop = CancellationToken::new();
        let (failed, failure) = watch::channel(None);
        let (asks, asked) = mpsc::channel(1);
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = feeder.follow(stopped, asked).await {
                error!(error = %error.chain(), fold = feeder.fold.name(), "the fold stopped");
                failed.send_replace(Some(error.chain()));
            }
        });
        Ok(Self { fold, progress, failure, asks, stalled, stop, task: Mutex::new(Some(task)) })
    }

    /// The view.
    #[must_use]
    pub fn fold(&self) -> &Arc<F> {
        &self.fold
    }

    /// Where the view stands.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Why the fold stopped, where it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Returns when the view shows every one of `places`.
    ///
    /// # Errors
    /// `TIMED_OUT` after `patience`, `UNAVAILABLE` when the fold has stopped or cannot read the log for now. The
    /// events are durable all the same and will show later.
    pub async fn reached(&self, places: &[Appended], patience: Duration) -> Result<()> {
        let mut wanted = Progress::new();
        for place in places {
            let next = wanted.entry(place.partition).or_default();
            *next = (*next).max(place.offset + 1);
        }
        let shows = |progress: &Progress| {
            wanted.iter().all(|(partition, next)| progress.get(partition).is_some_and(|at| at >= next))
        };
        let (mut progress, mut stalled) = (self.progress.clone(), self.stalled.clone());
        let reached = async {
            tokio::select! {
                biased;
                reached = progress.wait_for(shows) => reached.is_ok(),
                _ = stalled.wait_for(|stalled| *stalled) => false,
            }
        };
        match tokio::time::timeout(patience, reached).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(codes::UNAVAILABLE, "stored, but the view does not follow the log")),
            Err(_) => Err(Error::new(codes::TIMED_OUT, "stored, but the view does not show it yet")),
        }
    }

    /// Writes a checkpoint of everything folded so far. Returns, by partition, the first event of the log that a restart
    /// may need, whichever of the checkpoints that are kept it begins with.
    ///
    /// # Errors
    /// Those of the blobs; `UNAVAILABLE` when the fold has stopped.
    pub async fn checkpoint(&self) -> Result<Progress> {
        self.ask(false).await
    }

    /// As [`Projector::checkpoint`], and removes every other checkpoint, because they hold what the view forgot.
    ///
    /// # Errors
    /// Those of [`Projector::checkpoint`].
    pub async fn checkpoint_alone(&self) -> Result<Progress> {
        self.ask(true).await
    }

    async fn ask(&self, alone: bool) -> Result<Progress> {
        let stopped = || Error::new(codes::UNAVAILABLE, "the view no longer follows the log");
        let (ask, answer) = oneshot::channel();
        self.asks.send(Ask { alone, answer: ask }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Stops following, writes a last checkpoint, returns when both are done.
    pub async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            error!(%error, "the fold's task failed");
        }
    }
}

impl<F> Drop for Projector<F> {
    /// Whoever gave it up, as a start that failed does, leaves no task behind. The log has everything.
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

/// What a projector works with.
#[derive(Debug, Clone)]
pub struct ProjectorParts {
    /// The log that it follows.
    pub log: Arc<dyn EventLog>,
    /// Where checkpoints go.
    pub blobs: Arc<dyn store::Blobs>,
    /// Where rejected events go.
    pub dead_letters: DeadLetters,
    /// For the time of a rejection.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: StreamMetrics,
}

/// Where a partition stands.
fn at(progress: &Progress, partition: u32) -> u64 {
    progress.get(&partition).copied().unwrap_or(0)
}

fn system_scope() -> Scope {
    Scope::system(TenantId::server(), "projector")
}

impl<F: Fold> Feeder<F> {
    async fn restore(&mut self) -> Result<()> {
        let extents = self.log.extents(&self.topic).await?;
        let mut offsets: Progress = extents.iter().map(|extent| (extent.partition, 0)).collect();
        if let Some(found) = self.checkpoints.newest(self.fold.format()).await? {
            let ahead = found.offsets.iter().any(|(partition, offset)| {
                extents.iter().find(|extent| extent.partition == *partition).is_none_or(|e| e.next < *offset)
            });
            if ahead {
                // A log that was cut back or replaced: the checkpoint speaks of events that no longer exist.
                info!(fold = self.fold.name(), "checkpoint is ahead of the log, rebuilding from the log");
            } else {
                self.fold.decode(&found.state)?;
                self.saved.clone_from(&found.offsets);
                offsets.extend(found.offsets);
            }
        }
        self.progress.send_replace(offsets);
        self.check_history().await
    }

    /// Whether the log still holds everything that is not in the view; what it lost is taken from a checkpoint.
    async fn check_history(&mut self) -> Result<()> {
        let extents = self.log.extents(&self.topic).await?;
        let has_gap = {
            let progress = self.progress.borrow();
            extents.iter().any(|extent| extent.first > at(&progress, extent.partition))
        };
        if !has_gap || self.go_on_from_checkpoint(&extents).await? {
            return Ok(());
        }
        for extent in extents {
            let offset = at(&self.progress.borrow(), extent.partition);
            self.pass_gap(extent.partition, offset, extent.first)?;
        }
        Ok(())
    }

    /// Takes the newest checkpoint in place of the state, where it and the log together hold everything.
    async fn go_on_from_checkpoint(&mut self, extents: &[Extent]) -> Result<bool> {
        if let Err(error) = self.saved().await {
            debug!(error = %error.chain(), "the checkpoint before was not written");
        }
        let fold = self.fold.name();
        let Some(found) = self.checkpoints.newest(self.fold.format()).await? else { return Ok(false) };
        let is_whole = extents
            .iter()
            .all(|extent| (extent.first..=extent.next).contains(&at(&found.offsets, extent.partition)));
        if !is_whole {
            return Ok(false);
        }
        let (state, into) = (found.state, Arc::clone(&self.fold));
        tokio::task::spawn_blocking(move || into.decode(&state)).await.map_err(Error::internal)??;
        let before = self.progress.send_replace(found.offsets.clone());
        let events =
            found.offsets.iter().map(|(partition, next)| next.saturating_sub(at(&before, *partition)));
        let events: u64 = events.sum();
        self.saved = found.offsets;
        self.since_checkpoint = 0;
        self.has_jumped = true;
        self.metrics.overtaken.inc();
        warn!(
            fold,
            events, "events were cut from the log before the view saw them; going on from a newer checkpoint"
        );
        Ok(true)
    }

    /// Passes over events that nothing holds any more, where the settings accept it.
    fn pass_gap(&self, partition: u32, offset: u64, first: u64) -> Result<()> {
        if first <= offset {
            return Ok(());
        }
        let fold = self.fold.name();
        if self.settings.accept_partial_history {
            warn!(
                fold,
                partition,
                from = offset,
                to = first,
                "the view lacks events that were cut from the log"
            );
            self.progress.send_modify(|progress| {
                progress.insert(partition, first);
            });
            return Ok(());
        }
        let message = format!(
            "events {offset} to {} of partition {partition} were cut from the log and no checkpoint of `{fold}` holds \
             them; put the checkpoints back from a backup, or accept a view of what is left",
            first - 1
        );
        Err(Error::new(HISTORY_GONE, message))
    }

    /// Applies everything the log holds now.
    async fn catch_up(&mut self) -> Result<()> {
        loop {
            let partitions: Vec<u32> = self.progress.borrow().keys().copied().collect();
            let mut moved = false;
            for partition in partitions {
                moved |= self.step(partition).await?;
            }
            if !moved {
                return Ok(());
            }
        }
    }

    /// Applies the next batch of one partition; false when there was none. Nothing can fail between the fold and
    /// the note of its progress, so that no event is ever folded twice.
    async fn step(&mut self, partition: u32) -> Result<bool> {
        let offset = at(&self.progress.borrow(), partition);
        let batch = self.log.read(&self.topic, partition, offset, self.settings.batch).await?;
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(false) };
        if first.offset > offset {
            self.check_history().await?;
            if at(&self.progress.borrow(), partition) == offset {
                // Not at its beginning.
                self.pass_gap(partition, offset, first.offset)?;
            }
            return Ok(true);
        }
        let next = last.offset + 1;
        for (index, rejection) in self.fold.apply(partition, &batch) {
            self.refused.push(self.letter(partition, &batch[index], rejection));
        }
        self.since_checkpoint += batch.len() as u64;
        self.progress.send_modify(|progress| {
            progress.insert(partition, next);
        });
        self.deliver_refused().await?;
        if self.settings.writes_shared
            && self.since_checkpoint >= self.settings.checkpoint_events
            && let Err(error) = self.checkpoint().await
        {
            // The log has everything: a checkpoint only makes the next start quicker.
            warn!(error = %error.chain(), fold = self.fold.name(), "no checkpoint was written");
            self.since_checkpoint = self.settings.checkpoint_events / 2;
        }
        Ok(true)
    }

    fn letter(&self, partition: u32, stored: &Stored, rejection: Rejection) -> (Scope, DeadLetter) {
        let scope = Scope::system(stored.event.tenant.clone(), "projector");
        let id = format!("{}:{partition}:{:020}", self.topic, stored.offset);
        (scope, DeadLetter::of_event(id, &stored.event, rejection.code, rejection.reason, self.clock.now()))
    }

    /// Writes the letters that wait. A letter that cannot be written waits on, and no checkpoint passes it.
    async fn deliver_refused(&mut self) -> Result<()> {
        if !self.settings.writes_shared {
            // Who writes them sees every event too.
            self.refused.clear();
        }
        while let Some((scope, letter)) = self.refused.last() {
            self.dead_letters.add(scope, vec![letter.clone()]).await?;
            self.refused.pop();
        }
        Ok(())
    }

    /// Encodes the state and begins to write it, unless the one before is still being written.
    async fn checkpoint(&mut self) -> Result<()> {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return Ok(());
        }
        self.saved().await?;
        self.deliver_refused().await?;
        let offsets = self.progress.borrow().clone();
        let fold = Arc::clone(&self.fold);
        let state = tokio::task::spawn_blocking(move || fold.encode()).await.map_err(Error::internal)?;
        let checkpoint = Checkpoint { format: self.fold.format(), offsets, state: state.into() };
        debug!(fold = self.fold.name(), bytes = checkpoint.state.len(), "checkpoint");
        let checkpoints = self.checkpoints.clone();
        self.saving = Some(tokio::spawn(async move {
            checkpoints.save(&checkpoint).await?;
            Ok(checkpoint.offsets)
        }));
        self.since_checkpoint = 0;
        Ok(())
    }

    /// Waits for the checkpoint that is being written.
    async fn saved(&mut self) -> Result<()> {
        match self.saving.take() {
            Some(saving) => {
                self.saved = saving.await.map_err(Error::internal).flatten()?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Makes everything folded so far durable; returns what every good checkpoint holds.
    async fn checkpoint_now(&mut self, alone: bool) -> Result<Progress> {
        self.saved().await?;
        if self.saved != *self.progress.borrow() {
            self.checkpoint().await?;
            self.saved().await?;
        }
        if alone {
            self.checkpoints.keep(1).await?;
        }
        self.checkpoints.covered(self.fold.format()).await
    }

    /// Follows the log until `stop`. What may pass by itself is waited out; anything else ends the fold.
    async fn follow(&mut self, stop: CancellationToken, mut asked: mpsc::Receiver<Ask>) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        // They are kept while another partition is taken, so that none that grows without a pause keeps the others waiting.
        let mut waits = self.waits();
        while !stop.is_cancelled() {
            // Only the wait may be dropped half-way: dropping a step could lose its progress.
            let (partition, grown) = tokio::select! {
                () = stop.cancelled() => break,
                Some(ask) = asked.recv() => {
                    // Who asked may have gone; the checkpoint is good all the same.
                    let _ = ask.answer.send(self.checkpoint_now(ask.alone).await);
                    continue;
                }
                Some(grown) = waits.next() => grown,
            };
            let result = match grown {
                Ok(()) => self.take_grown(partition).await,
                Err(error) => Err(error),
            };
            // One that fails comes after the others.
            if std::mem::take(&mut self.has_jumped) {
                waits = self.waits();
            } else {
                waits.push(self.wait(partition));
            }
            match result {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    if self.stalled.send_replace(false) {
                        info!(fold = self.fold.name(), "the log answers again");
                    }
                }
                Err(error) if error.kind().is_retryable() => {
                    if !self.stalled.send_replace(true) {
                        warn!(error = %error.chain(), fold = self.fold.name(), "the log does not answer, waiting");
                    }
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = self.last_checkpoint().await {
            warn!(error = %error.chain(), fold = self.fold.name(), "no last checkpoint was written");
        }
        Ok(())
    }

    async fn last_checkpoint(&mut self) -> Result<()> {
        if let Err(error) = self.saved().await {
            debug!(error = %error.chain(), "the checkpoint before the last was not written");
        }
        if self.settings.writes_shared && self.since_checkpoint > 0 {
            self.checkpoint().await?;
        }
        self.saved().await
    }

    /// Takes what a partition has after it grew. Where it grew and yet holds nothing to read, that was cut away.
    async fn take_grown(&mut self, partition: u32) -> Result<()> {
        if self.step(partition).await? { Ok(()) } else { self.check_history().await }
    }

    /// One for each partition.
    fn waits(&self) -> Waits {
        let partitions: Vec<u32> = self.progress.borrow().keys().copied().collect();
        partitions.into_iter().map(|partition| self.wait(partition)).collect()
    }

    /// Returns when the partition holds an event that the fold has not seen.
    fn wait(&self, partition: u32) -> BoxFuture<'static, (u32, Result<()>)> {
        let (log, topic) = (Arc::clone(&self.log), self.topic.clone());
        let offset = at(&self.progress.borrow(), partition);
        async move { (partition, log.wait(&topic, partition, offset).await) }.boxed()
    }
}
