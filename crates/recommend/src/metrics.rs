//! Every metric this domain emits. Label values come from fixed sets.
//!
//! The cache's names are the ones that operators' alerts and dashboards use, whichever engine keeps the answers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How an answer was made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnswerLabels {
    /// The algorithm that was asked for.
    pub algorithm: &'static str,
    /// The algorithm that answered in its place, or `none`.
    pub fallback: &'static str,
    /// `true` or `false`.
    pub cold_start: &'static str,
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TrainingLabels {
    /// `trained` or `failed`.
    pub outcome: &'static str,
}

/// What was decided of a canary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    decision: &'static str,
}

/// The metrics of canaries.
#[derive(Debug, Clone, Default)]
pub struct CanaryMetrics {
    decisions: Family<DecisionLabels, Counter>,
    /// Tenants that one runs for, as this server's view knows.
    pub running: Gauge,
    /// Answers that do not count because what waits to be written is full, or the log is away.
    pub uncounted: Counter,
    /// Looks at the gates of a tenant that failed.
    pub failed_looks: Counter,
}

impl CanaryMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for decision in ["advanced", "completed", "rolled_back"] {
            drop(metrics.decisions.get_or_create(&DecisionLabels { decision }));
        }
        let help = "Decisions about canaries, by the server that put them into the audit";
        registry.register("recommend_canary_decisions", help, metrics.decisions.clone());
        registry.register("recommend_canaries_running", "Canaries that run", metrics.running.clone());
        let help = "Answers of canaries that do not count";
        registry.register("recommend_canary_uncounted", help, metrics.uncounted.clone());
        let help = "Looks at the gates of a canary that failed";
        registry.register("recommend_canary_looks_failed", help, metrics.failed_looks.clone());
        metrics
    }

    /// Counts a decision.
    pub fn decided(&self, decision: &'static str) {
        self.decisions.get_or_create(&DecisionLabels { decision }).inc();
    }
}

/// A kind of kept answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheName {
    /// For a user, and about an entity.
    Recommendations,
    /// The same for everyone.
    Trending,
}

/// Which cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
}

impl CacheName {
    fn labels(self) -> CacheLabels {
        let cache = match self {
            Self::Recommendations => "recommendations",
            Self::Trending => "trending",
        };
        CacheLabels { cache }
    }
}

/// What became of the questions that a cache was asked.
#[derive(Debug, Clone, Default)]
pub struct CacheMetrics {
    hits: Family<CacheLabels, Counter>,
    misses: Family<CacheLabels, Counter>,
    coalesced: Family<CacheLabels, Counter>,
}

impl CacheMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for name in [CacheName::Recommendations, CacheName::Trending] {
            // A rate needs series that begin at nought.
            for family in [&metrics.hits, &metrics.misses, &metrics.coalesced] {
                drop(family.get_or_create(&name.labels()));
            }
        }
        registry.register("redis_cache_hits", "Answers that the cache had", metrics.hits.clone());
        registry.register(
            "redis_cache_misses",
            "Answers that the cache was asked for and did not have",
            metrics.misses.clone(),
        );
        let help = "Requests that took the answer which an equal one was waiting for";
        registry.register("recommend_answers_coalesced", help, metrics.coalesced.clone());
        metrics
    }

    /// The cache had it.
    pub fn hit(&self, name: CacheName) {
        self.hits.get_or_create(&name.labels()).inc();
    }

    /// The cache did not have it, or did not answer.
    pub fn miss(&self, name: CacheName) {
        self.misses.get_or_create(&name.labels()).inc();
    }

    /// It was being made already.
    pub fn coalesced(&self, name: CacheName) {
        self.coalesced.get_or_create(&name.labels()).inc();
    }
}

/// The metrics of this domain.
#[derive(Debug, Clone, Default)]
pub struct RecommendMetrics {
    answers: Family<AnswerLabels, Counter>,
    trainings: Family<TrainingLabels, Counter>,
    /// Of canaries.
    pub canaries: CanaryMetrics,
    /// Of kept answers.
    pub cache: CacheMetrics,
    /// Seconds that the last training took.
    pub training_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl RecommendMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            cache: CacheMetrics::register(registry),
            canaries: CanaryMetrics::register(registry),
            ..Self::default()
        };
        for outcome in ["trained", "failed", "unpublished"] {
            drop(metrics.trainings.get_or_create(&TrainingLabels { outcome }));
        }
        registry.register("recommend_answers", "Answers made, by how", metrics.answers.clone());
        registry.register("recommend_trainings", "Trainings by how they ended", metrics.trainings.clone());
        registry.register(
            "recommend_training_seconds",
            "Seconds that the last training took",
            metrics.training_seconds.clone(),
        );
        metrics
    }

    /// Counts an answer.
    pub fn answered(&self, algorithm: &'static str, fallback: Option<&'static str>, cold_start: bool) {
        let cold_start = if cold_start { "true" } else { "false" };
        let labels = AnswerLabels { algorithm, fallback: fallback.unwrap_or("none"), cold_start };
        self.answers.get_or_create(&labels).inc();
    }

    /// Counts a training.
    pub fn trained(&self, outcome: &'static str) {
        self.trainings.get_or_create(&TrainingLabels { outcome }).inc();
    }
}
