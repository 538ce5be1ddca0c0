//! Recommendations: events in, ranked and explained answers out.
//!
//! - [`events`]: what is taken in. [`views`]: what it becomes. Both are the contract with the log.
//! - [`algorithms`]: pure functions and structs, each with its paper. Read these first.
//! - [`training`]: from the view to a model; [`trainer`]: when. [`serving`]: the snapshot that requests read.
//! - [`candidates`]: which entities a text finds, as another domain tells.
//! - [`canaries`]: other answers for some of the users, with gates and a way back.
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
pub mod canaries;
pub mod candidates;
pub mod evaluation;
pub mod events;
pub mod forgetting;
pub mod generate;
pub mod http;
pub mod import;
mod log_ends;
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
use canaries::{Canaries, CanaryParts};
use candidates::CandidateSource;
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
    /// Who else holds something of a person.
    pub holders: Vec<Arc<dyn privacy::Holder>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// What entities mean beyond the words and numbers of their attributes; none leaves it at those.
    pub embedder: Option<Arc<dyn ItemEmbedder>>,
    /// Finds the candidates of a text; requests with a text are refused without it.
    pub candidates: Option<Arc<dyn CandidateSource>>,
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
    canaries: Arc<Canaries>,
    candidates: Option<Arc<dyn CandidateSource>>,
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
        let service = Arc::new(service.keeping(Arc::clone(&parts.cache), settings.cache));
        let projector = projector(&parts, &views, stream_metrics).await?;
        owner.follow(Arc::clone(&projector));
        let forgetting = Arc::new(Forgetting::new(ForgettingParts {
            erasures: parts.erasures,
            views: Arc::clone(&views),
            projector: Arc::clone(&projector),
            service: Arc::clone(&service),
            dead_letters: parts.dead_letters,
            holders: parts.holders,
            audit: parts.audit.clone(),
            log: Arc::clone(&parts.log),
            clock: Arc::clone(&parts.clock),
            retention_days: settings.retention_days.clone(),
            models_within_hours: settings.schedule.forget_within_hours,
        }));
        let holder = format!("{:016x}", parts.entropy.next_u64());
        let leases = Leases::new(Arc::clone(&parts.records), Arc::clone(&parts.clock), holder);
        let canaries = Arc::new(Canaries::new(CanaryParts {
            views: Arc::clone(&views),
            projector: Arc::clone(&projector),
            log: Arc::clone(&parts.log),
            records: Arc::clone(&parts.records),
            audit: parts.audit,
            clock: Arc::clone(&parts.clock),
            entropy: Arc::clone(&parts.entropy),
            leases: leases.clone(),
            metrics: metrics.canaries.clone(),
        }));
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
        let (log, candidates, background) = (parts.log, parts.candidates, Vec::new());
        Ok(Self {
            views,
            owner,
            service,
            trainer,
            projector,
            log,
            forgetting,
            canaries,
            candidates,
            background,
        })
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
            canaries: Arc::clone(&self.canaries),
            candidates: self.candidates.clone(),
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

    /// Other answers for some of the users.
    #[must_use]
    pub fn canaries(&self) -> &Arc<Canaries> {
        &self.canaries
    }

    /// Looks after models, reads the gates of canaries and completes erasures in the background from now on, until `stop`.
    pub fn start(&mut self, duties: Duties, stop: CancellationToken) {
        self.background.push(tokio::spawn(self.trainer.clone().with_duties(duties).run(stop.clone())));
        self.background.push(tokio::spawn(Arc::clone(&self.canaries).run(stop.clone())));
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

/// What folds the log into the views.
async fn projector(
    parts: &RecommendParts,
    views: &Arc<Views>,
    metrics: StreamMetrics,
) -> Result<Arc<Projector<Views>>> {
    let folding = ProjectorParts {
        log: Arc::clone(&parts.log),
        blobs: Arc::clone(&parts.blobs),
        dead_letters: parts.dead_letters.clone(),
        clock: Arc::clone(&parts.clock),
        metrics,
    };
    let settings = parts.views;
    Projector::start(folding, edge::ingest::EVENTS, Arc::clone(views), settings).await.map(Arc::new)
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
