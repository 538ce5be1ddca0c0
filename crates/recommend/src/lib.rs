//! Recommendations: events in, ranked and explained answers out.
//!
//! - [`events`]: what is taken in. [`views`]: what it becomes. Both are the contract with the log.
//! - [`algorithms`]: pure functions and structs, each with its paper. Read these first.
//! - [`training`]: from the view to a model; [`trainer`]: when. [`serving`]: the snapshot that requests read.
//! - [`forgetting`]: a person is forgotten, and what is too old counts no more.
//! - [`service`]: the questions. [`http`]: the same over HTTP.
//! - [`evaluation`]: how well an algorithm ranks what it has not seen. [`import`], [`generate`]: where data comes from.
//!
//! It refuses to train or to scan the log in a request, to answer with one algorithm in the name of another, and to
//! recommend what is hidden, deleted or not available now.
//!
//! To add an algorithm: a file in `algorithms/`, a variant of [`serving::Part`], a line in `training/fit.rs`; then
//! show with `watershed evaluate` that the hybrid is better for it.

pub mod algorithms;
pub mod attributes;
pub mod evaluation;
pub mod events;
pub mod forgetting;
pub mod generate;
pub mod http;
pub mod import;
pub mod metrics;
pub mod owner;
pub mod service;
pub mod serving;
mod settings;
pub mod trainer;
pub mod training;
pub mod views;

use std::sync::Arc;

use algorithms::content::ItemEmbedder;
use edge::http::health::Check;
use edge::{AuditLog, EventOwner, Ingest};
use forgetting::{Forgetting, ForgettingParts};
use kernel::{Clock, Entropy, Result, Scope};
use models::Registry;
use privacy::Erasures;
use prometheus_client::registry::Registry as Metrics;
use store::{Blobs, Cache, DeadLetters, EventLog, Leases, Records};
use stream::{Projector, ProjectorParts, ProjectorSettings, StreamMetrics};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use http::{HttpState, Writer};
use metrics::RecommendMetrics;
use owner::RecommendOwner;
use service::Service;
use trainer::{Duties, Trainer, TrainerParts};
use training::{TrainingProgress, TrainingReport};
use views::Views;

pub use settings::{AnswerSettings, CacheSettings, IngestSettings, RecommendSettings, ScheduleSettings};

/// What the domain works with.
#[derive(Debug, Clone)]
pub struct RecommendParts {
    /// Events.
    pub log: Arc<dyn EventLog>,
    /// The registry's documents.
    pub records: Arc<dyn Records>,
    /// Artifacts and checkpoints.
    pub blobs: Arc<dyn Blobs>,
    /// Kept answers.
    pub cache: Arc<dyn Cache>,
    /// What cannot be folded.
    pub dead_letters: DeadLetters,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What entities mean beyond the words and numbers of their attributes; none leaves it at those.
    pub embedder: Option<Arc<dyn ItemEmbedder>>,
    /// How the view follows the log.
    pub views: ProjectorSettings,
    /// Who was forgotten.
    pub erasures: Erasures,
    /// Who forgot whom.
    pub audit: AuditLog,
}

/// The running domain.
#[derive(Debug)]
pub struct Recommend {
    views: Arc<Views>,
    owner: Arc<RecommendOwner>,
    service: Arc<Service>,
    trainer: Trainer,
    projector: Arc<Projector<Views>>,
    log: Arc<dyn EventLog>,
    forgetting: Arc<Forgetting>,
    background: Vec<JoinHandle<()>>,
}

impl Recommend {
    /// Restores the view, catches up with the log, serves the last good model.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn open(
        parts: RecommendParts,
        settings: RecommendSettings,
        metrics: &mut Metrics,
    ) -> Result<Self> {
        let settings = Arc::new(settings);
        let stream_metrics = StreamMetrics::register(metrics);
        let metrics = RecommendMetrics::register(metrics);
        let views = Arc::new(Views::judging(settings.rating_least));
        let owner = Arc::new(RecommendOwner::new(
            Arc::clone(&views),
            settings.ingest.clone(),
            Arc::clone(&parts.clock),
        ));
        let service = Service::new(
            Arc::clone(&views),
            settings.answers.clone(),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.entropy),
            metrics.clone(),
        );
        let service = Arc::new(service.keeping(parts.cache, settings.cache));
        let projector = Projector::start(
            ProjectorParts {
                log: Arc::clone(&parts.log),
                blobs: Arc::clone(&parts.blobs),
                dead_letters: parts.dead_letters.clone(),
                clock: Arc::clone(&parts.clock),
                metrics: stream_metrics,
            },
            edge::ingest::EVENTS,
            Arc::clone(&views),
            parts.views,
        )
        .await?;
        let projector = Arc::new(projector);
        owner.follow(Arc::clone(&projector));
        let forgetting = Arc::new(Forgetting::new(ForgettingParts {
            erasures: parts.erasures,
            views: Arc::clone(&views),
            projector: Arc::clone(&projector),
            service: Arc::clone(&service),
            dead_letters: parts.dead_letters,
            audit: parts.audit,
            log: Arc::clone(&parts.log),
            clock: Arc::clone(&parts.clock),
            retention_days: settings.retention_days.clone(),
            models_within_hours: settings.schedule.forget_within_hours,
        }));
        let holder = format!("{:016x}", parts.entropy.next_u64());
        let leases = Leases::new(Arc::clone(&parts.records), Arc::clone(&parts.clock), holder);
        let trainer = Trainer::new(TrainerParts {
            views: Arc::clone(&views),
            service: Arc::clone(&service),
            registry: Registry::new(parts.records, parts.blobs),
            settings,
            clock: parts.clock,
            metrics,
            leases,
            embedder: parts.embedder,
        });
        trainer.restore().await?;
        let (log, background) = (parts.log, Vec::new());
        Ok(Self { views, owner, service, trainer, projector, log, forgetting, background })
    }

    /// What the edge asks about this domain's events.
    #[must_use]
    pub fn owner(&self) -> Arc<dyn EventOwner> {
        Arc::clone(&self.owner) as Arc<dyn EventOwner>
    }

    /// The questions.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The views.
    #[must_use]
    pub fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// The endpoints.
    pub fn routes(&self, ingest: Ingest) -> OpenApiRouter {
        http::routes(HttpState {
            service: Arc::clone(&self.service),
            writer: Writer::new(ingest),
            views: Arc::clone(&self.views),
            log: Arc::clone(&self.log),
            forgetting: Arc::clone(&self.forgetting),
        })
    }

    /// What readiness depends on.
    #[must_use]
    pub fn check(&self) -> Arc<dyn Check> {
        Arc::new(FoldCheck(Arc::clone(&self.projector)))
    }

    /// What keeps models new.
    #[must_use]
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Trains now.
    ///
    /// # Errors
    /// See [`Trainer::train`].
    pub async fn train(
        &self,
        scope: &Scope,
        progress: impl FnMut(&TrainingProgress) + Send + 'static,
    ) -> Result<TrainingReport> {
        self.trainer.train(scope, progress).await
    }

    /// The version that is served.
    #[must_use]
    pub fn model_version(&self, scope: &Scope) -> Option<u64> {
        self.service.served(scope)?.current().map(|model| model.version)
    }

    /// The version that is promoted, whether or not it can be served.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn promoted_version(&self, scope: &Scope) -> Result<Option<u64>> {
        self.trainer.promoted_version(scope).await
    }

    /// Interactions in the view.
    #[must_use]
    pub fn interaction_count(&self, scope: &Scope) -> u64 {
        self.views.of(scope).read().activity.interactions()
    }

    /// Forgets.
    #[must_use]
    pub fn forgetting(&self) -> &Arc<Forgetting> {
        &self.forgetting
    }

    /// Looks after models and completes erasures in the background from now on, until `stop`.
    pub fn start(&mut self, duties: Duties, stop: CancellationToken) {
        self.background.push(tokio::spawn(self.trainer.clone().with_duties(duties).run(stop.clone())));
        self.background.push(tokio::spawn(Arc::clone(&self.forgetting).run(stop)));
    }

    /// Tells of every erasure again, after a restore from before. Returns how many there are.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn forget_again(&self) -> Result<usize> {
        let mut told = 0;
        for tenant in self.views.tenants() {
            told += self.forgetting.again(&Scope::system(tenant, "restore")).await?;
        }
        Ok(told)
    }

    /// What keeps the view current.
    #[must_use]
    pub fn projector(&self) -> Arc<Projector<Views>> {
        Arc::clone(&self.projector)
    }

    /// Writes a last checkpoint and ends. The token given to [`Recommend::start`] must be cancelled before.
    pub async fn stop(self) {
        for background in self.background {
            let _ = background.await;
        }
        self.projector.stop().await;
    }
}

/// Not ready when the fold has stopped.
#[derive(Debug)]
struct FoldCheck(Arc<Projector<Views>>);

impl Check for FoldCheck {
    fn name(&self) -> &'static str {
        "recommend"
    }

    fn fault(&self) -> Option<String> {
        self.0.failure()
    }
}
