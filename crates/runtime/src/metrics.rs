//! Every metric of the runtime, under the guide's names. Labels are fixed words: models are named by callers.

use std::time::Duration;

use kernel::{Error, ErrorKind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::jobs::Status;

/// What became of something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    outcome: &'static str,
}

/// The metrics.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeMetrics {
    requests: Family<OutcomeLabels, Counter>,
    duration_seconds: Histogram,
    /// Examples of one call of a model.
    pub(crate) batch_rows: Histogram,
    /// Requests that wait for their call.
    pub(crate) queued: Gauge,
    loads: Family<OutcomeLabels, Counter>,
    /// Versions in memory.
    pub(crate) versions: Gauge,
    /// Bytes that were put aside for them.
    pub(crate) memory_bytes: Gauge,
    /// Versions that were dropped to make room.
    pub(crate) evictions: Counter,
}

/// The metrics of jobs.
#[derive(Debug, Clone)]
pub(crate) struct JobMetrics {
    jobs: Family<OutcomeLabels, Counter>,
    rows: Family<OutcomeLabels, Counter>,
}

impl JobMetrics {
    /// Registers every metric.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { jobs: Family::default(), rows: Family::default() };
        for status in Status::ALL.into_iter().filter(|status| status.is_ended()) {
            drop(metrics.jobs.get_or_create(&OutcomeLabels { outcome: status.name() }));
        }
        metrics.rows(0, 0);
        registry.register("ml_batch_jobs", "Jobs by how they ended", metrics.jobs.clone());
        registry.register("ml_batch_rows", "Rows of jobs by what became of them", metrics.rows.clone());
        metrics
    }

    /// Counts a job that ended.
    pub(crate) fn ended(&self, status: Status) {
        self.jobs.get_or_create(&OutcomeLabels { outcome: status.name() }).inc();
    }

    /// Counts rows of a part.
    pub(crate) fn rows(&self, answered: u64, refused: u64) {
        for (outcome, count) in [("answered", answered), ("refused", refused)] {
            self.rows.get_or_create(&OutcomeLabels { outcome }).inc_by(count);
        }
    }
}

const ANSWERS: [&str; 4] = ["answered", "refused", "shed", "failed"];
const LOADS: [&str; 3] = ["loaded", "refused", "failed"];

impl RuntimeMetrics {
    /// Registers every metric.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration_seconds: Histogram::new([
                0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.12, 0.25, 0.5, 1.0, 5.0,
            ]),
            batch_rows: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
            queued: Gauge::default(),
            loads: Family::default(),
            versions: Gauge::default(),
            memory_bytes: Gauge::default(),
            evictions: Counter::default(),
        };
        // Made at once, because a rate needs a series that was there before the first.
        ANSWERS
            .into_iter()
            .for_each(|outcome| drop(metrics.requests.get_or_create(&OutcomeLabels { outcome })));
        LOADS.into_iter().for_each(|outcome| drop(metrics.loads.get_or_create(&OutcomeLabels { outcome })));
        registry.register(
            "ml_inference_requests",
            "Inferences by what became of them",
            metrics.requests.clone(),
        );
        let help = "From a request for an inference to its answer, loading and waiting within";
        registry.register("ml_inference_duration_seconds", help, metrics.duration_seconds.clone());
        registry.register(
            "ml_inference_batch_rows",
            "Examples of one call of a model",
            metrics.batch_rows.clone(),
        );
        registry.register(
            "ml_inference_queue_depth",
            "Requests that wait for their call",
            metrics.queued.clone(),
        );
        registry.register("ml_model_loads", "Versions that were to be loaded", metrics.loads.clone());
        registry.register("ml_model_versions_loaded", "Versions in memory", metrics.versions.clone());
        registry.register(
            "ml_model_memory_bytes",
            "Memory put aside for versions",
            metrics.memory_bytes.clone(),
        );
        registry.register("ml_model_evictions", "Versions dropped to make room", metrics.evictions.clone());
        metrics
    }

    /// Counts an inference.
    pub(crate) fn inferred<T>(&self, outcome: &Result<T, Error>, took: Duration) {
        let outcome = match outcome {
            Ok(_) => "answered",
            Err(error) => match error.kind() {
                ErrorKind::Busy => "shed",
                ErrorKind::Internal
                | ErrorKind::Unavailable
                | ErrorKind::Corrupted
                | ErrorKind::StorageFull => "failed",
                _ => "refused",
            },
        };
        self.requests.get_or_create(&OutcomeLabels { outcome }).inc();
        self.duration_seconds.observe(took.as_secs_f64());
    }

    /// Counts a load.
    pub(crate) fn loaded<T>(&self, outcome: &Result<T, Error>) {
        let outcome = match outcome {
            Ok(_) => "loaded",
            Err(error) if error.code() == crate::model::MODEL_UNUSABLE => "refused",
            Err(_) => "failed",
        };
        self.loads.get_or_create(&OutcomeLabels { outcome }).inc();
    }
}
