//! The metrics of canaries of versions.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rollout::decision::Stage;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DecisionLabels {
    decision: &'static str,
}

/// The metrics.
#[derive(Debug, Clone)]
pub(crate) struct CanaryMetrics {
    decisions: Family<DecisionLabels, Counter>,
    /// Canaries, tests and shadows that run.
    pub(crate) running: Gauge,
    /// Looks at the gates that failed.
    pub(crate) failed_looks: Counter,
}

impl CanaryMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            decisions: Family::default(),
            running: Gauge::default(),
            failed_looks: Counter::default(),
        };
        for stage in [Stage::Running, Stage::Complete, Stage::RolledBack] {
            drop(metrics.decisions.get_or_create(&DecisionLabels { decision: stage.decided() }));
        }
        let help = "Decisions about canaries of versions";
        registry.register("ml_canary_decisions", help, metrics.decisions.clone());
        let help = "Canaries, A/B tests and shadows of versions that run";
        registry.register("ml_canaries_running", help, metrics.running.clone());
        let help = "Looks at the gates of canaries of versions that failed";
        registry.register("ml_canary_looks_failed", help, metrics.failed_looks.clone());
        metrics
    }

    /// Counts a decision.
    pub(crate) fn decided(&self, stage: Stage) {
        self.decisions.get_or_create(&DecisionLabels { decision: stage.decided() }).inc();
    }
}
