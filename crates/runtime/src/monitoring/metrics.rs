//! Metrics of what is watched. Labels are fixed words: models are named by callers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Labels {
    outcome: &'static str,
}

/// The metrics.
#[derive(Debug, Clone)]
pub(crate) struct MonitoringMetrics {
    looks: Family<Labels, Counter>,
    /// Versions in memory whose last look found drift.
    pub(crate) drifting: Gauge,
    /// Predictions that were kept.
    pub(crate) kept: Counter,
    truths: Family<Labels, Counter>,
    compared: Family<Labels, Counter>,
}

const LOOKS: [&str; 3] = ["quiet", "drifted", "failed"];
const TRUTHS: [&str; 6] = ["joined", "duplicate", "conflict", "unknown", "late", "refused"];
const COMPARED: [&str; 3] = ["better", "equal", "worse"];

impl MonitoringMetrics {
    /// Registers every metric.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            looks: Family::default(),
            drifting: Gauge::default(),
            kept: Counter::default(),
            truths: Family::default(),
            compared: Family::default(),
        };
        // Made at once, because a rate needs a series that was there before the first.
        let make = |family: &Family<Labels, Counter>, words: &[&'static str]| {
            words.iter().for_each(|outcome| drop(family.get_or_create(&Labels { outcome })));
        };
        make(&metrics.looks, &LOOKS);
        make(&metrics.truths, &TRUTHS);
        make(&metrics.compared, &COMPARED);
        registry.register(
            "ml_drift_looks",
            "Comparisons of what was asked with a reference",
            metrics.looks.clone(),
        );
        let help = "Versions in memory whose last comparison found drift";
        registry.register("ml_drift_drifting_versions", help, metrics.drifting.clone());
        registry.register("ml_predictions_kept", "Predictions that wait for a truth", metrics.kept.clone());
        registry.register("ml_prediction_truths", "Truths by what became of them", metrics.truths.clone());
        let help = "Values of truths, by whether the prediction was nearer than persistence";
        registry.register("ml_prediction_compared", help, metrics.compared.clone());
        metrics
    }

    /// Counts a look.
    pub(crate) fn looked(&self, outcome: &'static str) {
        self.looks.get_or_create(&Labels { outcome }).inc();
    }

    /// Counts a truth.
    pub(crate) fn truth(&self, outcome: &'static str) {
        self.truths.get_or_create(&Labels { outcome }).inc();
    }

    /// Counts values that were nearer than persistence, as near, and farther.
    pub(crate) fn compared(&self, counts: [u64; 3]) {
        for (outcome, count) in COMPARED.into_iter().zip(counts) {
            self.compared.get_or_create(&Labels { outcome }).inc_by(count);
        }
    }
}
