//! Recommendations: events in, ranked and explained answers out.
//!
//! - [`events`]: what is taken in. [`views`]: what it becomes. Both are the contract with the log.
//! - [`algorithms`]: pure functions and structs, each with its paper. Read these first.
//! - [`training`]: from the view to a model; [`trainer`]: when. [`serving`]: the snapshot that requests read.
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
use edge::{EventOwner, Ingest};
use kernel::{Clock, Entropy, Result, Scope};
use models::Registry;
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
    background: Option<JoinHandle<()>>,
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
        let views = Arc::new(Views::default());
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
                dead_letters: parts.dead_letters,
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
        Ok(Self { views, owner, service, trainer, projector, log: parts.log, background: None })
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
        })
    }

    /// What readiness depends on.
    #[must_use]
    pub fn check(&self) -> Arc<dyn Check> {
        Arc::new(FoldCheck(Arc::clone(&self.projector)))
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

    /// Interactions in the view.
    #[must_use]
    pub fn interaction_count(&self, scope: &Scope) -> u64 {
        self.views.of(scope).read().activity.interactions()
    }

    /// Looks after models in the background from now on, until `stop`.
    pub fn start(&mut self, duties: Duties, stop: CancellationToken) {
        self.background = Some(tokio::spawn(self.trainer.clone().with_duties(duties).run(stop)));
    }

    /// What keeps the view current.
    #[must_use]
    pub fn projector(&self) -> Arc<Projector<Views>> {
        Arc::clone(&self.projector)
    }

    /// Writes a last checkpoint and ends. The token given to [`Recommend::start`] must be cancelled before.
    pub async fn stop(self) {
        if let Some(background) = self.background {
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
