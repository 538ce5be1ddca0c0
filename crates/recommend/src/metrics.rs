//! Every metric this domain emits. Label values come from fixed sets.

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

/// The metrics of this domain.
#[derive(Debug, Clone, Default)]
pub struct RecommendMetrics {
    answers: Family<AnswerLabels, Counter>,
    trainings: Family<TrainingLabels, Counter>,
    /// Seconds that the last training took.
    pub training_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl RecommendMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("recommend_answers", "Answers by how they were made", metrics.answers.clone());
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
