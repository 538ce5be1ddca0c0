//! When models are trained: in the background, when enough changed, and after so many hours all the same.
//!
//! One training at a time, on a pool of threads of its own, so that requests keep their share of the processors; meanwhile
//! models of other replicas and changes of every catalogue are taken in as ever. A training that fails leaves the served
//! model where it is. One that succeeds and cannot be published, because an engine is away, is kept: publishing is tried again, later and later, before anything is trained anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, Permission, Result, Scope, TenantId, Timestamp};
use models::Registry;
use parking_lot::Mutex;
use store::Leases;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::algorithms::content::{ItemEmbedder, Stoppable};
use crate::metrics::RecommendMetrics;
use crate::service::Service;
use crate::serving::{Index, Recommenders, Trained};
use crate::settings::{RecommendSettings, ScheduleSettings};
use crate::training::{self, MODEL, TrainingProgress, TrainingReport, TrainingSet};
use crate::views::Views;

/// The alias of the version that is served.
const PRODUCTION: &str = "production";

/// Held by the replica that trains for a tenant.
const LEASE: &str = "recommend.train";
const LEASE_LASTS: Duration = Duration::from_secs(60);
/// How long other tenants wait for what changed in the catalogue of one.
const REFRESH_PATIENCE: Duration = Duration::from_secs(2);
/// Refreshes at the same time, of all tenants.
const REFRESHES_MAX: usize = 4;
/// Between two trainings that fail.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// A trained model is given up after so many tries to publish it: what fails as often may lie in the model.
const PUBLISH_TRIES: u32 = 12;

/// What a trainer works with.
#[derive(Debug, Clone)]
pub struct TrainerParts {
    /// What is learned from.
    pub views: Arc<Views>,
    /// Where a model is served.
    pub service: Arc<Service>,
    /// Where a model is kept.
    pub registry: Registry,
    /// When, and what.
    pub settings: Arc<RecommendSettings>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: RecommendMetrics,
    /// One trains at a time, over all replicas.
    pub leases: Leases,
    /// What entities mean beyond their attributes.
    pub embedder: Option<Arc<dyn ItemEmbedder>>,
}

/// What a process does with models besides following the promoted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duties {
    /// It takes part in the election of who trains.
    pub trains: bool,
    /// It answers requests, so states of users are made ahead.
    pub answers: bool,
}

/// Trains, publishes, promotes, serves.
#[derive(Debug, Clone)]
pub struct Trainer {
    parts: TrainerParts,
    duties: Duties,
    turn: Arc<tokio::sync::Mutex<()>>,
    notes: Arc<Mutex<BTreeMap<TenantId, Notes>>>,
    refreshes: Arc<Semaphore>,
}

/// What is remembered of a tenant between two looks.
#[derive(Debug, Default)]
struct Notes {
    /// The newest promotion that was looked at.
    followed: u64,
    /// Trainings that failed in a row.
    failures: u32,
    /// When the next training may begin, by the clock's elapsed time.
    not_before: Duration,
    /// Whether an engine did not answer at the last look, and at the last training.
    is_away: [bool; 2],
    /// Whether a model of this process is on its way from the registry to its place.
    is_swapping: bool,
    /// While what changed in the catalogue is being taken in: ends that.
    refreshing: Option<CancellationToken>,
    /// A model that was trained and is not published yet.
    unpublished: Option<Unpublished>,
}

/// What is done for a tenant again and again.
#[derive(Debug, Clone, Copy)]
enum Work {
    Look,
    Training,
}

/// A trained model on its way to the registry.
#[derive(Debug)]
struct Unpublished {
    trained: Trained,
    report: TrainingReport,
    /// When the view was copied: who is forgotten later may be in it.
    seen_at: Timestamp,
    /// The version that it has, where only the promotion is missing.
    version: Option<u64>,
    tries: u32,
}

impl Trainer {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: TrainerParts) -> Self {
        let duties = Duties { trains: true, answers: true };
        let refreshes = Arc::new(Semaphore::new(REFRESHES_MAX));
        Self { parts, duties, turn: Arc::default(), notes: Arc::default(), refreshes }
    }

    /// The same, with these duties; all of them where not said.
    #[must_use]
    pub fn with_duties(self, duties: Duties) -> Self {
        Self { duties, ..self }
    }

    /// Serves the promoted model of every tenant, or the last good one.
    ///
    /// # Errors
    /// Those of the registry.
    pub async fn restore(&self) -> Result<()> {
        for tenant in self.parts.views.tenants() {
            let scope = Scope::system(tenant, "trainer");
            let Some(model) = self.promoted(&scope).await? else { continue };
            if self.parts.embedder.is_none() {
                self.serve(&scope, model).await?;
            } else {
                // What came after the training is embedded at the first look, while the server answers.
                self.parts.service.serve(&scope, model);
            }
        }
        Ok(())
    }

    /// The promoted model, or the last good one; none where there is none that can be served.
    async fn promoted(&self, scope: &Scope) -> Result<Option<Arc<Recommenders>>> {
        let loaded = self.parts.registry.load(scope, MODEL, PRODUCTION, training::from_artifact).await?;
        Ok(loaded
            .map(|(version, trained)| self.snapshot(scope, version.version, version.created_at, trained)))
    }

    /// The version that is promoted, whole or not.
    pub(crate) async fn promoted_version(&self, scope: &Scope) -> Result<Option<u64>> {
        let promoted = self.parts.registry.resolve(scope, MODEL, PRODUCTION).await?;
        Ok(promoted.map(|promoted| promoted.version))
    }

    /// Serves what another replica promoted since.
    async fn follow(&self, scope: &Scope, stop: &CancellationToken) -> Result<()> {
        let Some(promoted) = self.parts.registry.resolve(scope, MODEL, PRODUCTION).await? else {
            return Ok(());
        };
        // Once for each promotion: where its artifact is damaged an older one was loaded, and stays.
        let is_ours_or_old = {
            let mut notes = self.notes.lock();
            let notes = notes.entry(scope.tenant().clone()).or_default();
            notes.is_swapping || notes.followed >= promoted.version
        };
        if is_ours_or_old || self.served_version(scope) >= promoted.version {
            return Ok(());
        }
        if let Some(model) = self.promoted(scope).await?
            && model.version > self.served_version(scope)
        {
            self.warm(scope, &model, stop).await?;
            // A training of this process may have been quicker.
            if model.version > self.served_version(scope) {
                info!(tenant = %scope.tenant(), version = model.version, "serving a model that another replica trained");
                // What came after its training is taken in right after, and not what came after that of the one before.
                self.parts.service.serve(scope, model);
                if let Some(refreshing) =
                    &self.notes.lock().entry(scope.tenant().clone()).or_default().refreshing
                {
                    refreshing.cancel();
                }
            }
        }
        self.notes.lock().entry(scope.tenant().clone()).or_default().followed = promoted.version;
        Ok(())
    }

    fn served_version(&self, scope: &Scope) -> u64 {
        let served = self.parts.service.served(scope).and_then(|served| served.current());
        served.map_or(0, |served| served.version)
    }

    /// Trains a model on what the view holds, publishes and promotes it, serves it. Where an earlier one could not be
    /// published, that one is, and nothing is trained.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `TRAINING_FAILED`; those of the registry. The served model then stays.
    pub async fn train(
        &self,
        scope: &Scope,
        progress: impl FnMut(&TrainingProgress) + Send + 'static,
    ) -> Result<TrainingReport> {
        scope.require(Permission::Admin)?;
        let _turn = self.turn.lock().await;
        let began = self.parts.clock.elapsed();
        let kept = self.notes.lock().entry(scope.tenant().clone()).or_default().unpublished.take();
        let model = match kept {
            Some(kept) => kept,
            None => self.fit(scope, progress).await?,
        };
        self.swapping(scope, true);
        let served = self.publish_and_serve(scope, model).await;
        self.swapping(scope, false);
        let report = served?;
        self.prune(scope).await?;
        let took = self.parts.clock.elapsed().saturating_sub(began);
        self.parts.metrics.training_seconds.set(took.as_secs_f64());
        info!(version = report.version, seconds = took.as_secs_f64(), "trained");
        Ok(report)
    }

    fn swapping(&self, scope: &Scope, is_swapping: bool) {
        self.notes.lock().entry(scope.tenant().clone()).or_default().is_swapping = is_swapping;
    }

    async fn publish_and_serve(&self, scope: &Scope, mut model: Unpublished) -> Result<TrainingReport> {
        let published = self.publish(scope, &mut model).await;
        let version = match published {
            Ok(version) => version,
            Err(error) => {
                self.keep_unpublished(scope, model, &error);
                return Err(error);
            }
        };
        let Unpublished { trained, mut report, seen_at, .. } = model;
        let model = self.snapshot(scope, version, seen_at, trained);
        // Before it answers, so that a swap makes nobody wait for a state.
        self.warm(scope, &model, &CancellationToken::new()).await?;
        self.serve(scope, model).await?;
        report.version = version;
        Ok(report)
    }

    async fn fit(
        &self,
        scope: &Scope,
        mut progress: impl FnMut(&TrainingProgress) + Send + 'static,
    ) -> Result<Unpublished> {
        let view = self.parts.views.of(scope);
        // Before the view is copied: who is forgotten from now on may be in the model.
        let seen_at = self.parts.clock.now();
        let (settings, clock) = (Arc::clone(&self.parts.settings), Arc::clone(&self.parts.clock));
        // A training that nobody waits for any more asks no embedder any more.
        let stop = CancellationToken::new();
        let _given_up = stop.clone().drop_guard();
        let embedder = self.embedder(&stop);
        let work = move || -> Result<(Trained, TrainingReport)> {
            let set = TrainingSet { embedder, ..TrainingSet::of(&view)? };
            if set.items.is_empty() {
                let message = "there is nothing to train on; record interactions or import a data set first";
                return Err(Error::new(training::NOTHING_TO_TRAIN_ON, message));
            }
            let pool = pool(&settings.schedule)?;
            pool.install(|| training::train(&set, &settings.training, clock.as_ref(), &mut progress))
        };
        let trained = tokio::task::spawn_blocking(work).await.map_err(Error::internal).flatten();
        self.parts.metrics.trained(if trained.is_ok() { "trained" } else { "failed" });
        let (trained, report) = trained?;
        Ok(Unpublished { trained, report, seen_at, version: None, tries: 0 })
    }

    /// Publishes and promotes what is not yet; the version.
    async fn publish(&self, scope: &Scope, model: &mut Unpublished) -> Result<u64> {
        let version = match model.version {
            Some(version) => version,
            None => {
                let artifact = training::to_artifact(&model.trained, &model.report)?;
                let parts = model.report.parts.iter();
                let metrics = parts.map(|part| (format!("{}.ndcg@10", part.name), part.ndcg_at_10)).collect();
                self.parts.registry.publish(scope, MODEL, &artifact, metrics, model.seen_at).await?.version
            }
        };
        model.version = Some(version);
        self.parts.registry.promote(scope, MODEL, PRODUCTION, version, model.seen_at).await?;
        Ok(version)
    }

    fn keep_unpublished(&self, scope: &Scope, mut model: Unpublished, error: &Error) {
        self.parts.metrics.trained("unpublished");
        model.tries += 1;
        let tries = model.tries;
        if tries < PUBLISH_TRIES {
            self.notes.lock().entry(scope.tenant().clone()).or_default().unpublished = Some(model);
        }
        let (tenant, error) = (scope.tenant(), error.chain());
        info!(%tenant, error, tries, kept = tries < PUBLISH_TRIES, "a trained model could not be published");
    }

    fn snapshot(
        &self,
        scope: &Scope,
        version: u64,
        trained_at: Timestamp,
        trained: Trained,
    ) -> Arc<Recommenders> {
        let index = Index::of(&trained, &self.parts.views.of(scope).read());
        Arc::new(Recommenders::new(version, trained_at, trained, index))
    }

    async fn serve(&self, scope: &Scope, model: Arc<Recommenders>) -> Result<()> {
        self.parts.service.serve(scope, model);
        self.refresh_beside(scope).await
    }

    /// [`Trainer::refresh`] beside the workers: an embedder takes its time over many new entities, unless nobody waits.
    async fn refresh_beside(&self, scope: &Scope) -> Result<()> {
        let stop = CancellationToken::new();
        let _given_up = stop.clone().drop_guard();
        let (trainer, scope) = (self.clone(), scope.clone());
        tokio::task::spawn_blocking(move || trainer.refresh(&scope, &stop)).await.map_err(Error::internal)
    }

    /// The embedder until it is told to stop.
    fn embedder(&self, stop: &CancellationToken) -> Option<Arc<dyn ItemEmbedder>> {
        let embedder = self.parts.embedder.clone()?;
        Some(Arc::new(Stoppable::new(embedder, stop.clone())))
    }

    /// Makes the states of users before they ask.
    async fn warm(&self, scope: &Scope, model: &Arc<Recommenders>, stop: &CancellationToken) -> Result<()> {
        if !self.duties.answers {
            return Ok(());
        }
        let (view, model, stop) = (self.parts.views.of(scope), Arc::clone(model), stop.clone());
        let pool = pool(&self.parts.settings.schedule)?;
        let work = move || pool.install(|| model.warm(&view, &|| stop.is_cancelled()));
        let users = tokio::task::spawn_blocking(work).await.map_err(Error::internal)?;
        info!(tenant = %scope.tenant(), users, "states of users are made");
        Ok(())
    }

    /// Warms every model that a start found, while it already answers.
    async fn warm_all(&self, stop: &CancellationToken) {
        for tenant in self.parts.views.tenants() {
            let scope = Scope::system(tenant, "trainer");
            let Some(model) = self.parts.service.served(&scope).and_then(|served| served.current()) else {
                continue;
            };
            if let Err(error) = self.warm(&scope, &model, stop).await {
                error!(tenant = %scope.tenant(), error = %error.chain(), "states were not made ahead");
            }
        }
    }

    /// Takes what changed in the catalogue into the served model, unless it is told to stop meanwhile.
    pub fn refresh(&self, scope: &Scope, stop: &CancellationToken) {
        let Some(model) = self.parts.service.served(scope).and_then(|served| served.current()) else {
            return;
        };
        let embedder = self.embedder(stop);
        if let Some(refreshed) = model.with_catalogue(&self.parts.views.of(scope), embedder.as_deref()) {
            self.parts.service.refresh(scope, Arc::new(refreshed));
        }
    }

    /// Looks every few seconds for a newer model and whether a training is due, until `stop`; then waits for the end of
    /// the training that runs, which gives up.
    pub async fn run(self, stop: CancellationToken) {
        let pause = Duration::from_secs(self.parts.settings.schedule.incremental_update_interval_secs);
        self.warm_all(&stop).await;
        let mut training: Option<JoinHandle<()>> = None;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
            for tenant in self.parts.views.tenants() {
                let scope = Scope::system(tenant, "trainer");
                let looked = self.look_after(&scope, &stop).await;
                self.tell(&scope, Work::Look, looked);
                if stop.is_cancelled() {
                    break;
                }
            }
            if self.duties.trains && training.as_ref().is_none_or(JoinHandle::is_finished) {
                ended(training.take()).await;
                training = Some(tokio::spawn(self.clone().train_due(stop.clone())));
            }
        }
        ended(training).await;
    }

    /// Trains for every tenant where that is due, one after the other, until `stop`.
    async fn train_due(self, stop: CancellationToken) {
        for tenant in self.parts.views.tenants() {
            if stop.is_cancelled() {
                return;
            }
            let scope = Scope::system(tenant, "trainer");
            let trained = self.train_where_due(&scope, &stop).await;
            self.tell(&scope, Work::Training, trained);
        }
    }

    /// Says what went wrong; an engine that is away once, until it answers again.
    fn tell(&self, scope: &Scope, work: Work, done: Result<()>) {
        let mut notes = self.notes.lock();
        let notes = notes.entry(scope.tenant().clone()).or_default();
        let is_away = &mut notes.is_away[work as usize];
        let was_away = std::mem::take(is_away);
        match done {
            Ok(()) if was_away => info!(tenant = %scope.tenant(), "models are looked after again"),
            Ok(()) => {}
            Err(error) if error.kind().is_retryable() => {
                *is_away = true;
                if !was_away {
                    let error = error.chain();
                    warn!(tenant = %scope.tenant(), error, "models are not looked after for now, the served one stays");
                }
            }
            Err(error) => error!(tenant = %scope.tenant(), error = %error.chain(), "training failed"),
        }
    }

    /// Takes in what changed. Where an embedder takes its time over it, that goes on beside, and others have their turn.
    async fn look_after(&self, scope: &Scope, stop: &CancellationToken) -> Result<()> {
        self.follow(scope, stop).await?;
        let Some(refreshing) = Refreshing::begin(self, scope, stop) else { return Ok(()) };
        let refresh = tokio::task::spawn_blocking(move || refreshing.run());
        tokio::time::timeout(REFRESH_PATIENCE, refresh).await.unwrap_or(Ok(())).map_err(Error::internal)
    }

    /// Trains where that is due and no other replica is at it.
    async fn train_where_due(&self, scope: &Scope, stop: &CancellationToken) -> Result<()> {
        let (not_before, is_kept) = {
            let mut notes = self.notes.lock();
            let notes = notes.entry(scope.tenant().clone()).or_default();
            (notes.not_before, notes.unpublished.is_some())
        };
        if !(is_kept || self.is_due(scope)) || self.parts.clock.elapsed() < not_before {
            return Ok(());
        }
        if !self.parts.leases.acquire(scope, LEASE, LEASE_LASTS).await? {
            return Ok(());
        }
        let trained = tokio::select! {
            // Nothing is lost: what is published is whole, and the next start trains again.
            () = stop.cancelled() => Ok(()),
            trained = self.train(scope, |_| ()) => trained.map(drop),
            lost = self.keep_lease(scope) => lost,
        };
        self.note(scope, trained.is_err());
        let released = self.parts.leases.release(scope, LEASE).await;
        trained.and(released)
    }

    /// A training that failed is tried again later and later: what made it fail is still there.
    fn note(&self, scope: &Scope, failed: bool) {
        let mut notes = self.notes.lock();
        let notes = notes.entry(scope.tenant().clone()).or_default();
        notes.failures = if failed { notes.failures.saturating_add(1) } else { 0 };
        let interval = Duration::from_secs(self.parts.settings.schedule.incremental_update_interval_secs);
        let pause = interval.saturating_mul(2_u32.saturating_pow(notes.failures)).min(LONGEST_PAUSE);
        notes.not_before =
            if failed { self.parts.clock.elapsed().saturating_add(pause) } else { Duration::ZERO };
    }

    /// Makes the lease last, for as long as it is waited for.
    async fn keep_lease(&self, scope: &Scope) -> Result<()> {
        loop {
            tokio::time::sleep(LEASE_LASTS / 3).await;
            // Training goes on where the lease cannot be renewed: two models are waste, not harm.
            if let Err(error) = self.parts.leases.acquire(scope, LEASE, LEASE_LASTS).await {
                warn!(tenant = %scope.tenant(), error = %error.chain(), "the lease of training is not renewed");
            }
        }
    }

    /// Whether enough changed since the served model was trained, or enough time passed.
    #[must_use]
    pub fn is_due(&self, scope: &Scope) -> bool {
        let schedule = &self.parts.settings.schedule;
        let interactions = self.parts.views.of(scope).read().activity.interactions();
        let Some(model) = self.parts.service.served(scope).and_then(|served| served.current()) else {
            return interactions >= schedule.min_interactions;
        };
        if self.knows_forgotten(scope, &model) {
            return true;
        }
        let before = model.trained().basis.interactions;
        let grown = interactions.saturating_sub(before) as f64;
        let age = self.parts.clock.now().duration_since(model.trained_at);
        let hours = i64::try_from(schedule.full_rebuild_interval_hours).unwrap_or(i64::MAX);
        let enough = schedule.rebuild_growth * before as f64;
        interactions >= schedule.min_interactions
            && grown >= 1.0
            && (grown >= enough || age.as_hours() >= hours)
    }
}

/// A refresh of a tenant's model, until it is dropped: one at a time of a tenant, and a few in all, for each takes a thread.
struct Refreshing {
    trainer: Trainer,
    scope: Scope,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Refreshing {
    /// None where one goes on, or too many do.
    fn begin(trainer: &Trainer, scope: &Scope, stop: &CancellationToken) -> Option<Self> {
        let mut notes = trainer.notes.lock();
        let notes = notes.entry(scope.tenant().clone()).or_default();
        if notes.refreshing.is_some() {
            return None;
        }
        let place = Arc::clone(&trainer.refreshes).try_acquire_owned().ok()?;
        let stop = stop.child_token();
        notes.refreshing = Some(stop.clone());
        Some(Self { trainer: trainer.clone(), scope: scope.clone(), stop, _place: place })
    }

    fn run(&self) {
        self.trainer.refresh(&self.scope, &self.stop);
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.trainer.notes.lock().entry(self.scope.tenant().clone()).or_default().refreshing = None;
    }
}

impl Trainer {
    /// Removes versions beyond those that are kept, and those that know a user who was forgotten since.
    async fn prune(&self, scope: &Scope) -> Result<()> {
        let (erasures, last_ms) = {
            let view = self.parts.views.of(scope);
            let view = view.read();
            (view.erasures_ms().len() as u64, view.erasures_ms().last().copied())
        };
        let mut kept = self.parts.settings.schedule.versions_kept;
        if let Some(last_ms) = last_ms {
            let versions = self.parts.registry.versions(scope, MODEL).await?;
            let folded = |tags: &BTreeMap<String, String>| tags.get(training::ERASURES)?.parse::<u64>().ok();
            let later = versions.iter().filter(|version| {
                version.created_at.as_millisecond() >= last_ms && folded(&version.tags) >= Some(erasures)
            });
            kept = later.count().clamp(1, kept);
        }
        self.parts.registry.prune(scope, MODEL, kept).await.map(drop)
    }

    /// Whether a user was forgotten since the model was trained, so long ago that it has to go.
    fn knows_forgotten(&self, scope: &Scope, model: &Recommenders) -> bool {
        let trained_ms = model.trained_at.as_millisecond();
        let hours = self.parts.settings.schedule.forget_within_hours;
        let latest_ms = self.parts.clock.now().as_millisecond().saturating_sub(i64::from(hours) * 3_600_000);
        let view = self.parts.views.of(scope);
        let view = view.read();
        // By the clock too: a view that was made again of a log that was cut counts fewer.
        let folded = model.trained().basis.erasures;
        let all = (0_u64..).zip(view.erasures_ms());
        let later = all.filter(|(place, at_ms)| *place >= folded || **at_ms >= trained_ms);
        later.map(|(_, at_ms)| *at_ms).min().is_some_and(|first_ms| first_ms <= latest_ms)
    }
}

/// Waits for the end of a task, which may have ended badly.
async fn ended(task: Option<JoinHandle<()>>) {
    if let Some(task) = task
        && let Err(error) = task.await
    {
        error!(%error, "the task that trains failed");
    }
}

fn pool(schedule: &ScheduleSettings) -> Result<rayon::ThreadPool> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if schedule.threads > 0 { schedule.threads } else { processors.div_ceil(2) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(Error::internal)
}
