//! What is told of the stages, read when `/metrics` is. Label values are names of stages and outcomes, never what a tenant
//! wrote.
//!
//! `stage_events_total{stage, outcome}`, since the process began: what came is `taken`, and `passed`, `duplicate`, `dead_lettered` and `filtered`
//! make that sum. The guide's three names of the first stage are kept beside.
//!
//! To add a figure: a line in `encode`, and its row in `docs/monitoring.md`.

use std::sync::Arc;

use kernel::Clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use stream::{Totals, Worker};

/// What is told of streams to callers.
#[derive(Debug, Clone, Default)]
pub struct LiveMetrics {
    /// Open now.
    pub open: Gauge,
    /// Refused, for there were as many as there may be.
    pub refused: Counter,
    /// Told in all.
    pub messages: Counter,
    ended: Family<EndLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    reason: &'static str,
}

/// Why streams end, but for defects.
const ENDS: [&str; 8] = [
    "CREDENTIAL_ENDED",
    "END",
    "GONE",
    "REAUTHENTICATE",
    "SERVER_STOPPING",
    "STREAM_TOO_SLOW",
    "UNAVAILABLE",
    "UNEXPECTED_MESSAGE",
];

/// Registers the count of what projections refuse.
pub(crate) fn refused_values(registry: &mut Registry) -> Counter {
    let refused = Counter::default();
    let help = "Values of keys for which a projection of one's own has no room";
    registry.register("market_projection_values_refused", help, refused.clone());
    refused
}

impl LiveMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("market_streams_open", "Streams of prices and bars", metrics.open.clone());
        let help = "Streams over the limit of a credential, a tenant or the server";
        registry.register("market_streams_refused", help, metrics.refused.clone());
        let help = "Prices and bars that were told in streams";
        registry.register("market_stream_messages", help, metrics.messages.clone());
        // Made at once, because a rate needs a series that was there before the first.
        for reason in ENDS {
            drop(metrics.ended.get_or_create(&EndLabels { reason }));
        }
        registry.register("market_streams_ended", "Streams, by why they ended", metrics.ended.clone());
        metrics
    }

    /// So many prices and bars were told.
    pub fn told(&self, messages: u64) {
        self.messages.inc_by(messages);
    }

    /// A stream ended for this reason, one of a fixed set.
    pub fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&EndLabels { reason }).inc();
    }
}

/// Reads the figures of stages.
#[derive(Debug)]
pub struct StageMetrics {
    /// By the name of the stage.
    pub workers: Vec<(String, Arc<Worker>)>,
    /// For how far behind a watermark is.
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct StageLabels {
    stage: String,
}

#[derive(Debug, Clone, EncodeLabelSet)]
struct OutcomeLabels {
    stage: String,
    outcome: &'static str,
}

/// The sum of a stage over its partitions here; its totals are what this process took.
#[derive(Default)]
struct Sum {
    totals: Totals,
    lag_events: u64,
    state_values: usize,
    failed_partitions: usize,
    /// Of the tenant that is furthest behind.
    watermark_ms: Option<i64>,
}

impl StageMetrics {
    fn sums(&self) -> Vec<(&str, Sum)> {
        self.workers.iter().map(|(stage, worker)| (stage.as_str(), Sum::of(worker))).collect()
    }
}

impl Sum {
    fn of(worker: &Worker) -> Self {
        let mut sum = Self { totals: worker.counted(), ..Self::default() };
        for standing in worker.standings().into_values() {
            sum.lag_events += standing.lag_events;
            sum.state_values += standing.operators.iter().map(|(.., values)| values).sum::<usize>();
            sum.failed_partitions += usize::from(standing.failure.is_some());
            let least = standing.watermarks_ms.into_values().filter(|at_ms| *at_ms > i64::MIN).min();
            sum.watermark_ms = [sum.watermark_ms, least].into_iter().flatten().min();
        }
        sum
    }
}

fn outcomes(totals: &Totals) -> [(&'static str, u64); 5] {
    [
        ("taken", totals.taken),
        ("passed", totals.passed),
        ("duplicate", totals.duplicates),
        ("dead_lettered", totals.dead_lettered),
        ("filtered", totals.filtered),
    ]
}

impl Collector for StageMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let sums = self.sums();
        let help = "Events of a stage, by what became of them";
        let mut family = encoder.encode_descriptor("stage_events", help, None, MetricType::Counter)?;
        for (stage, sum) in &sums {
            for (outcome, value) in outcomes(&sum.totals) {
                let labels = OutcomeLabels { stage: (*stage).to_owned(), outcome };
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut gauges = |name: &str, help: &str, value: &dyn Fn(&Sum) -> Option<i64>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (stage, sum) in &sums {
                let labels = StageLabels { stage: (*stage).to_owned() };
                ConstGauge::new(value(sum).unwrap_or(0)).encode(family.encode_family(&labels)?)?;
            }
            Ok::<(), std::fmt::Error>(())
        };
        let whole = |value: u64| Some(i64::try_from(value).unwrap_or(i64::MAX));
        gauges("stage_lag_events", "Events that the stage has not taken", &|sum| whole(sum.lag_events))?;
        gauges("stage_state_values", "Values that the stage remembers", &|sum| {
            whole(sum.state_values as u64)
        })?;
        gauges("stage_failed_partitions", "Partitions of the stage that do not go on", &|sum| {
            whole(sum.failed_partitions as u64)
        })?;
        let now_ms = self.clock.now().as_millisecond();
        let help = "How far the watermark of the tenant with overdue bars that is furthest behind is behind the clock";
        gauges("stage_watermark_delay_seconds", help, &|sum| {
            sum.watermark_ms.map(|at_ms| now_ms.saturating_sub(at_ms).max(0) / 1_000)
        })?;
        self.first_stage(&sums, &mut encoder)
    }
}

impl StageMetrics {
    /// The names of the guide.
    fn first_stage(
        &self,
        sums: &[(&str, Sum)],
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let totals = sums.first().map(|(_, sum)| sum.totals).unwrap_or_default();
        for (name, help, value) in [
            ("normalized_messages", "Ticks that were normalised", totals.passed),
            ("normalized_errors", "Messages that are no ticks", totals.dead_lettered),
            ("normalized_duplicates", "Ticks that were there before", totals.duplicates),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}
