//! Every metric of webhooks. Label values come from fixed sets, never from what a tenant wrote.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::subscriptions::Kind;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    Retried,
    Dead,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Delivered, Self::Retried, Self::Dead];

    fn labels(self) -> OutcomeLabels {
        let outcome = match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::Dead => "dead",
        };
        OutcomeLabels { outcome }
    }
}

/// The metrics of webhooks.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    attempts: Family<OutcomeLabels, Counter>,
    events: Family<EventLabels, Counter>,
    duration_seconds: Histogram,
}

impl WebhookMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let duration_seconds = Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0]);
        let metrics = Self { attempts: Family::default(), events: Family::default(), duration_seconds };
        // A rate needs series that begin at nought.
        for outcome in Outcome::ALL {
            drop(metrics.attempts.get_or_create(&outcome.labels()));
        }
        for kind in Kind::ALL {
            drop(metrics.events.get_or_create(&EventLabels { event: kind.name() }));
        }
        let help = "Attempts to deliver a webhook's message, by what became of it";
        registry.register("webhook_attempts", help, metrics.attempts.clone());
        registry.register(
            "webhook_events",
            "Messages written down, one for each webhook",
            metrics.events.clone(),
        );
        let help = "From the request to a receiver to its answer";
        registry.register("webhook_attempt_duration_seconds", help, metrics.duration_seconds.clone());
        metrics
    }

    pub(crate) fn attempted(&self, outcome: Outcome) {
        self.attempts.get_or_create(&outcome.labels()).inc();
    }

    pub(crate) fn answered(&self, took: Duration) {
        self.duration_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn announced(&self, kind: Kind, messages: usize) {
        self.events.get_or_create(&EventLabels { event: kind.name() }).inc_by(messages as u64);
    }
}
