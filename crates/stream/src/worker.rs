//! A worker: runs the tasks of a topology that this process can have, each on its own.
//!
//! A lease for each partition keeps processes from taking tasks from each other; that no two of them commit is
//! the task's own care. A worker holds at most `most_partitions` and at most its fair share (`share`), so that several share
//! a topic, also one that comes later. A step that takes long keeps its lease meanwhile: what one process is slow at,
//! another would begin again and be as slow at.
//!
//! Code of a topology that panics where that cannot be laid on one event (a key, a partial) stops its partition,
//! which is then tried again and told in [`Worker::standings`].
//!
//! It writes a punctuation for each tenant that was silent for `idle_after`, where that closes or settles something, and
//! never more often than that. A tenant whose events wait in a stage before is not silent (`silence`, `front`).
//!
//! Partitions that are added to the topic while it runs are taken like the others. A source that is away is waited for,
//! also at the start.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use kernel::{Clock, Error, Result, Scope, TenantId, codes};
use parking_lot::Mutex;
use store::{EventLog, Extent, Leases, Members, Topic};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info, warn};

use crate::event_time::Punctuation;
use crate::front::Handed;
use crate::share::{Place, Places};
use crate::silence::Silence;
use crate::task::Progress;
use crate::{
    Counts, FENCED, HISTORY_GONE, Output, Sink, Step, Task, TaskParts, TaskSettings, Topology, Totals,
};

/// Keys that are tried until the log puts a punctuation where it belongs.
const MOST_KEYS: u32 = 1_024;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often it is looked for partitions that were added and for other processes, and the group is told how far this came.
const LOOK_AROUND: Duration = Duration::from_secs(5);

/// How often it is asked for a partition that another process has, where there is room for it.
const ASKS_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often a partition is asked how long it is, which may be a question to a broker.
const LOOKS_AT_END_AFTER: Duration = Duration::from_secs(1);

/// How long more is waited for where there just was some, before it is looked whether there is any.
const BELIEVES_IN_MORE: Duration = Duration::from_millis(100);

/// How long is waited for what is on its way to the sink where a task ends.
const LANDS_WITHIN: Duration = Duration::from_secs(2);

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// How each task runs.
    pub task: TaskSettings,
    /// How long a lease lasts; it is renewed at a third of that.
    pub lease: Duration,
    /// After how long without news a tenant is said to be silent.
    pub idle_after: Duration,
    /// The most partitions that this process takes.
    pub most_partitions: usize,
    /// The group under which the log is told how far this came, for tools that show lag. Nothing is read from that: where
    /// to go on is committed with the state.
    pub group: Option<String>,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            task: TaskSettings::default(),
            lease: Duration::from_secs(15),
            idle_after: Duration::from_secs(60),
            most_partitions: usize::MAX,
            group: None,
        }
    }
}

/// Where a task stands, for metrics: with what it took and delivered; of its state, as of its last commit.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// What became of the events.
    pub totals: Totals,
    /// Events whose time is not believed yet.
    pub held: usize,
    /// The first offset that is not taken.
    pub next_offset: u64,
    /// Events in the partition that are not taken, as of a second ago, or of the last try where it fails.
    pub lag_events: u64,
    /// By tenant for whom something waits for a time that the clock has passed, the watermark in milliseconds since 1970.
    pub watermarks_ms: BTreeMap<TenantId, i64>,
    /// By operator, what it counted and how many values it remembers.
    pub operators: Vec<(&'static str, Counts, usize)>,
    /// Why the task does not go on, where it does not.
    pub failure: Option<String>,
    /// How often the task was opened, by any process.
    pub(crate) epoch: u64,
}

/// Runs the tasks of one topology.
#[derive(Debug)]
pub struct Worker {
    pub(crate) topology: Arc<Topology>,
    pub(crate) parts: TaskParts,
    /// Where punctuations are written.
    log: Arc<dyn EventLog>,
    leases: Leases,
    /// The processes that run this stage.
    pub(crate) members: Members,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: WorkerSettings,
    pub(crate) standings: Mutex<BTreeMap<u32, Standing>>,
    counted: Mutex<Totals>,
    /// When a partition failed last.
    pub(crate) failed_at: Mutex<Option<Duration>>,
    /// Runs the stage that writes the topic.
    pub(crate) feeder: Option<Arc<Self>>,
    /// By partition, what was handed on for others.
    pub(crate) handed: Mutex<BTreeMap<u32, Handed>>,
}

/// A sink that goes on with what it was given while nobody waits for it: who does something else meanwhile may need what it
/// holds, such as a connection.
#[derive(Debug)]
struct GoingOn(Arc<dyn Sink>);

#[async_trait]
impl Sink for GoingOn {
    async fn deliver(&self, outputs: Vec<Output>) -> Result<()> {
        let sink = Arc::clone(&self.0);
        let delivering = tokio::spawn(async move { sink.deliver(outputs).await }.in_current_span());
        AbortOnDropHandle::new(delivering).await.map_err(Error::internal)?
    }
}

/// What the group was told last, and when.
#[derive(Debug, Default)]
struct Told {
    next: Option<u64>,
    at: Option<Duration>,
}

/// Where a partition ended when it was asked last.
#[derive(Debug, Default)]
struct End {
    looked_at: Option<Duration>,
    next: u64,
    looking: Option<Look>,
}

/// A question where the partitions of the source end.
#[derive(Debug)]
struct Look {
    /// What had been taken when it was asked.
    taken: u64,
    answer: JoinHandle<Result<Vec<Extent>>>,
}

impl Worker {
    /// A worker that does nothing yet.
    #[must_use]
    pub fn new(
        topology: Arc<Topology>,
        parts: TaskParts,
        log: Arc<dyn EventLog>,
        leases: Leases,
        clock: Arc<dyn Clock>,
        settings: WorkerSettings,
    ) -> Self {
        let parts = TaskParts { sink: Arc::new(GoingOn(parts.sink)), ..parts };
        let members = leases.members(format!("stream/{}/{}", settings.task.namespace, topology.name()));
        Self {
            members,
            topology,
            parts,
            log,
            leases,
            clock,
            settings,
            standings: Mutex::default(),
            counted: Mutex::default(),
            failed_at: Mutex::default(),
            feeder: None,
            handed: Mutex::default(),
        }
    }

    /// After another one, which writes the topic that this one reads: what waits there may still come, and nobody is silent
    /// meanwhile.
    #[must_use]
    pub fn after(self, feeder: Option<Arc<Self>>) -> Self {
        Self { feeder, ..self }
    }

    /// Whether its stage writes this topic, dead letters aside.
    #[must_use]
    pub fn writes(&self, topic: &Topic) -> bool {
        self.topology.outputs().contains(topic)
    }

    /// By partition that this process has, where its task stands.
    #[must_use]
    pub fn standings(&self) -> BTreeMap<u32, Standing> {
        self.standings.lock().clone()
    }

    /// What became of the events that this worker took itself: it never falls, and a partition that comes from another
    /// process adds nothing of what was before.
    #[must_use]
    pub fn counted(&self) -> Totals {
        *self.counted.lock()
    }

    /// Runs until `stop`. What fails is tried again, and told in [`Worker::standings`].
    ///
    /// # Errors
    /// Those of the source that do not pass by themselves, when it cannot say at the start which partitions it has.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<()> {
        let places = Arc::new(Places::new(self.settings.most_partitions));
        let (mut tasks, mut known) = (JoinSet::new(), BTreeSet::new());
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let looked = stop.run_until_cancelled(self.parts.source.extents()).await;
            let found = match looked {
                None => break,
                Some(Ok(extents)) => {
                    pause = self.look_around();
                    extents
                }
                Some(Err(error)) if known.is_empty() && !error.kind().is_retryable() => return Err(error),
                Some(Err(error)) => {
                    pause = (pause * 2).min(LOOK_AROUND);
                    if known.is_empty() {
                        let (topology, error) = (self.topology.name(), error.chain());
                        warn!(
                            topology,
                            error, "the source does not say which partitions it has, and is asked again"
                        );
                    }
                    Vec::new()
                }
            };
            let new: Vec<u32> =
                found.iter().map(|extent| extent.partition).filter(|new| known.insert(*new)).collect();
            if !known.is_empty() {
                let _ = stop.run_until_cancelled(self.keep_to_share(&places, known.len())).await;
            }
            for partition in new {
                let (worker, places, stop) = (Arc::clone(&self), Arc::clone(&places), stop.clone());
                tasks.spawn(async move {
                    worker.run_partition(partition, &places, &stop).await;
                    worker.give_up(partition).await;
                });
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        while tasks.join_next().await.is_some() {}
        self.leave().await;
        Ok(())
    }

    async fn run_partition(&self, partition: u32, places: &Places, stop: &CancellationToken) {
        let mut pause = FIRST_PAUSE;
        while !stop.is_cancelled() {
            let Some(mut place) = places.take() else {
                // Another process is to have it, and tells how it stands.
                self.standings.lock().remove(&partition);
                let resting = tokio::time::sleep(self.look_around().min(ASKS_AGAIN_AFTER));
                let _ = stop.run_until_cancelled(resting).await;
                continue;
            };
            let outcome = self.follow(partition, &mut place, &mut pause, stop).await;
            if stop.is_cancelled() {
                return;
            }
            let failure = outcome.err().filter(|error| error.code() != FENCED);
            let has_failed = failure.is_some();
            if let Some(error) = failure {
                *self.failed_at.lock() = Some(self.clock.elapsed());
                let (topology, error) = (self.topology.name(), error.chain());
                warn!(topology, partition, error, "a task stopped and is opened again");
                self.standings.lock().entry(partition).or_default().failure = Some(error);
            } else {
                self.standings.lock().remove(&partition);
            }
            self.release(partition).await;
            drop(place);
            let resting = async {
                // What it asks may not answer for long, and nobody is to wait for that.
                if has_failed {
                    self.look_behind(partition).await;
                }
                tokio::time::sleep(pause).await;
            };
            let _ = stop.run_until_cancelled(resting).await;
            pause = (pause * 2).min(if has_failed { LONGEST_PAUSE } else { ASKS_AGAIN_AFTER });
        }
    }

    fn look_around(&self) -> Duration {
        LOOK_AROUND.min(self.settings.lease / 3)
    }

    /// Notes how far a partition that does not go on is behind by now, where that can be known.
    async fn look_behind(&self, partition: u32) {
        let (records, settings) = (&self.parts.records, &self.settings.task);
        let looked = Task::look(&self.topology, records, settings, partition).await;
        let extents = self.parts.source.extents().await.unwrap_or_default();
        let Some(extent) = extents.iter().find(|extent| extent.partition == partition) else { return };
        let mut standings = self.standings.lock();
        let standing = standings.entry(partition).or_default();
        if let Ok(looked) = looked {
            standing.next_offset = looked.map_or(extent.first, |(next, _)| next);
        }
        standing.lag_events = extent.next.saturating_sub(standing.next_offset);
    }

    async fn give_up(&self, partition: u32) {
        self.standings.lock().remove(&partition);
        self.release(partition).await;
    }

    async fn release(&self, partition: u32) {
        let released = self.leases.release(&scope(), &self.lease_name(partition)).await;
        if let Err(error) = released {
            warn!(partition, error = %error.chain(), "a lease was not given up and will end by itself");
        }
    }

    fn lease_name(&self, partition: u32) -> String {
        format!("stream/{}/{}/{partition}", self.settings.task.namespace, self.topology.name())
    }

    async fn renew(&self, partition: u32) -> Result<()> {
        if self.leases.acquire(&scope(), &self.lease_name(partition), self.settings.lease).await? {
            return Ok(());
        }
        Err(Error::new(FENCED, "another process has the lease"))
    }

    /// Makes the lease last while something is done. Where another process has it all the same, what is done ends as it
    /// would: its commit decides.
    async fn keeping<T>(&self, partition: u32, doing: impl Future<Output = T>) -> T {
        let mut doing = std::pin::pin!(doing);
        loop {
            if let Ok(done) = tokio::time::timeout(self.settings.lease / 3, &mut doing).await {
                return done;
            }
            // Records that do not answer now may do so before the lease ends.
            if self.renew(partition).await.is_err_and(|error| error.code() == FENCED) {
                return doing.await;
            }
        }
    }

    /// Opens the task and feeds it until something fails, until another process is to have it, or until `stop`.
    async fn follow(
        &self,
        partition: u32,
        place: &mut Place<'_>,
        pause: &mut Duration,
        stop: &CancellationToken,
    ) -> Result<()> {
        let opening = AssertUnwindSafe(self.open(partition)).catch_unwind();
        let Some(opened) = stop.run_until_cancelled(opening).await else { return Ok(()) };
        let (mut task, renewed) = opened.unwrap_or_else(panicked)?;
        place.has_opened();
        info!(topology = self.topology.name(), partition, offset = task.next_offset(), "a task is open");
        let mut counted = task.committed().totals;
        let feeding = self.feed(&mut task, renewed, place, pause, &mut counted);
        let feeding = stop.run_until_cancelled(AssertUnwindSafe(feeding).catch_unwind());
        let fed = feeding.await.unwrap_or(Ok(Ok(())));
        let fed = fed.unwrap_or_else(panicked);
        self.count(task.committed().totals, &mut counted);
        if fed.as_ref().is_err_and(|error| error.code() == FENCED) {
            // Whoever has it now delivers that again, and more by now.
            return fed;
        }
        // So that it is there when this ends, and not only when the task is opened again.
        let landing = tokio::time::timeout(LANDS_WITHIN.min(self.settings.lease / 3), task.land());
        let reason = match landing.await {
            Ok(Ok(())) => return fed,
            Ok(Err(error)) => error.chain(),
            Err(_) => "the sink takes too long".to_owned(),
        };
        let topology = self.topology.name();
        warn!(topology, partition, reason, "outputs are delivered when the task is opened again");
        fed
    }

    /// Takes the lease, then opens the task; when the lease was renewed last.
    async fn open(&self, partition: u32) -> Result<(Task, Duration)> {
        self.renew(partition).await?;
        let renewed = self.clock.elapsed();
        let (topology, parts) = (Arc::clone(&self.topology), self.parts.clone());
        let opening = Task::open(topology, parts, partition, self.settings.task.clone());
        Ok((self.keeping(partition, opening).await?, renewed))
    }

    /// Counts what came since `counted`.
    fn count(&self, totals: Totals, counted: &mut Totals) {
        self.counted.lock().add(&totals.since(&std::mem::replace(counted, totals)));
    }

    /// Feeds a task until something fails, or until another process is to have it.
    async fn feed(
        &self,
        task: &mut Task,
        mut renewed: Duration,
        place: &mut Place<'_>,
        pause: &mut Duration,
        counted: &mut Totals,
    ) -> Result<()> {
        let partition = task.partition();
        let (mut silence, mut told, mut end) = (Silence::default(), Told::default(), End::default());
        loop {
            if place.is_too_many() {
                info!(topology = self.topology.name(), partition, "a task is given to another process");
                return Ok(());
            }
            if self.clock.elapsed().saturating_sub(renewed) >= self.settings.lease / 3 {
                self.renew(partition).await?;
                renewed = self.clock.elapsed();
            }
            let step = self.keeping(partition, task.step_ahead()).await?;
            self.count(task.delivered().totals, counted);
            *pause = FIRST_PAUSE;
            place.has_worked();
            self.look_at_end(partition, task.next_offset(), step, &mut end).await?;
            self.note(partition, task, &end);
            self.tell(partition, task.delivered().next_offset, &mut told).await;
            // It may hand on what others made, to sinks that are slow.
            let looking = self.silent(task, step, &mut silence);
            let (silent, now_ms) = self.keeping(partition, looking).await;
            for tenant in silent {
                self.say(Punctuation { partition, now_ms, is_idle: true }, &tenant, &mut silence).await?;
            }
            // To wait for more costs a log less than to look for it.
            let patience = match step {
                Step::Done => return Ok(()),
                Step::Took(_) if task.has_more_to_do() => continue,
                Step::Took(_) => BELIEVES_IN_MORE,
                Step::Idle => self.settings.idle_after,
            };
            let news = self.parts.source.wait(partition, task.next_offset());
            let waiting = tokio::time::timeout(patience.min(self.settings.lease / 3), task.meanwhile(news));
            if let Ok(outcome) = waiting.await {
                outcome?;
            }
        }
    }

    /// Looks now and then where the partition ends. A task that has something to do waits for the first answer only.
    async fn look_at_end(&self, partition: u32, next: u64, step: Step, end: &mut End) -> Result<()> {
        let is_first = end.looked_at.is_none();
        self.hear_end(partition, is_first, step, end).await?;
        let now = self.clock.elapsed();
        let is_due = end.looked_at.is_none_or(|at| now.saturating_sub(at) >= LOOKS_AT_END_AFTER);
        if is_due && end.looking.is_none() {
            let source = Arc::clone(&self.parts.source);
            let answer = tokio::spawn(async move { source.extents().await });
            (end.looked_at, end.looking) = (Some(now), Some(Look { taken: next, answer }));
        }
        self.hear_end(partition, is_first, step, end).await
    }

    /// Takes in where the partition ends, where that was answered or is to be waited for.
    async fn hear_end(&self, partition: u32, is_first: bool, step: Step, end: &mut End) -> Result<()> {
        let waits = is_first || !matches!(step, Step::Took(_));
        let Some(look) = end.looking.take_if(|look| waits || look.answer.is_finished()) else {
            return Ok(());
        };
        let extents = look.answer.await.map_err(Error::internal)??;
        let extent = extents.iter().find(|extent| extent.partition == partition);
        if let Some(extent) = extent.filter(|extent| extent.next < look.taken) {
            return Err(self.is_shorter(*extent, look.taken));
        }
        end.next = extent.map_or(0, |extent| extent.next);
        Ok(())
    }

    fn note(&self, partition: u32, task: &mut Task, end: &End) {
        let Progress { next_offset: next, totals } = task.delivered();
        let mut watermarks_ms: BTreeMap<TenantId, i64> =
            task.watermarks().map(|(tenant, at_ms)| (tenant.clone(), at_ms)).collect();
        let clock_ms = self.clock.now().as_millisecond().saturating_sub(self.topology.event_time.delay_ms);
        watermarks_ms.retain(|tenant, _| task.due_ms(tenant).is_some_and(|due_ms| due_ms <= clock_ms));
        let standing = Standing {
            totals,
            held: task.held(),
            next_offset: next,
            lag_events: end.next.saturating_sub(next),
            watermarks_ms,
            operators: task.operators(),
            failure: None,
            epoch: task.epoch(),
        };
        self.standings.lock().insert(partition, standing);
    }

    /// Events that were taken are no longer there, and those that come would be passed over until it is as long again.
    fn is_shorter(&self, extent: Extent, next: u64) -> Error {
        let message = format!(
            "partition {} of `{}` ends at {} and was taken up to {next}: it was cut at its end, restored from an older \
             backup, or is another one under the same name; begin a new namespace for it",
            extent.partition,
            self.topology.input(),
            extent.next
        );
        Error::new(HISTORY_GONE, message)
    }

    /// Tells the group how far this came.
    async fn tell(&self, partition: u32, next: u64, told: &mut Told) {
        let Some(group) = &self.settings.group else { return };
        let now = self.clock.elapsed();
        if told.next == Some(next) || told.at.is_some_and(|at| now.saturating_sub(at) < LOOK_AROUND) {
            return;
        }
        *told = Told { next: Some(next), at: Some(now) };
        if let Err(error) = self.log.commit(group, self.topology.input(), partition, next).await {
            warn!(group, partition, error = %error.chain(), "tools that show the lag were not told");
        }
    }

    /// Writes a punctuation to its partition. Those that land elsewhere on the way say so and are passed over.
    async fn say(&self, punctuation: Punctuation, tenant: &TenantId, silence: &mut Silence) -> Result<()> {
        let scope = Scope::system(tenant.clone(), "stream");
        let known = silence.key.get(tenant).cloned();
        let keys = (0..MOST_KEYS).map(|number| format!("punctuation-{number}"));
        for key in known.into_iter().chain(keys) {
            let event = punctuation.event(tenant, &key)?;
            let places = self.log.append(&scope, self.topology.input(), vec![event]).await?;
            if places.first().is_some_and(|place| place.partition == punctuation.partition) {
                silence.key.insert(tenant.clone(), key);
                return Ok(());
            }
        }
        let message = format!("no key leads to partition {}", punctuation.partition);
        Err(Error::new(codes::INTERNAL_ERROR, message))
    }
}

fn panicked<T>(_: Box<dyn Any + Send>) -> Result<T> {
    Err(Error::internal("an operator panicked"))
}

pub(crate) fn scope() -> Scope {
    Scope::system(TenantId::server(), "stream")
}
