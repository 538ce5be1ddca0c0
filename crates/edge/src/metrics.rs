//! Every metric the edge emits. Label values come from fixed sets (route patterns, methods, status codes), never
//! from what a caller sent.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::http::health::PROBES;

/// The route and method of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The HTTP method.
    pub method: &'static str,
    /// The route's pattern, `unmatched` where there is none.
    pub path: String,
}

/// The route, method and status of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResponseLabels {
    /// The HTTP method.
    pub method: &'static str,
    /// The route's pattern, `unmatched` where there is none.
    pub path: String,
    /// The status code.
    pub status: u16,
}

/// The route of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// The route's pattern.
    pub path: String,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabels {
    /// `stored`, `duplicate` or `refused`.
    pub outcome: &'static str,
}

/// Why a stream was refused or ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StreamLabels {
    /// `too_many` or `too_slow`.
    pub reason: &'static str,
}

/// Whether something went well.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// `ok` or `failed`.
    pub outcome: &'static str,
}

/// The metrics of connections and of what proves who callers are.
#[derive(Debug, Clone)]
pub struct AccessMetrics {
    /// Open connections.
    pub connections_open: Gauge,
    /// Connections over the limit.
    pub connections_refused: Counter,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Counter,
    /// Certificate files that changed.
    pub certificate_reloads: Family<OutcomeLabels, Counter>,
    /// Reads of the identity provider's keys.
    pub token_key_reads: Family<OutcomeLabels, Counter>,
}

impl AccessMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections_open: Gauge::default(),
            connections_refused: Counter::default(),
            handshakes_failed: Counter::default(),
            certificate_reloads: Family::default(),
            token_key_reads: Family::default(),
        };
        for outcome in ["ok", "failed"] {
            // Made at once, because a rate needs a series that was there before the first.
            for family in [&metrics.certificate_reloads, &metrics.token_key_reads] {
                drop(family.get_or_create(&OutcomeLabels { outcome }));
            }
        }
        registry.register("http_connections_open", "Open connections", metrics.connections_open.clone());
        registry.register(
            "http_connections_refused",
            "Connections over the limit",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "tls_handshakes_failed",
            "TLS handshakes that failed or took too long",
            metrics.handshakes_failed.clone(),
        );
        registry.register(
            "tls_certificate_reloads",
            "Certificate files that changed, by whether they were taken over",
            metrics.certificate_reloads.clone(),
        );
        registry.register(
            "token_key_reads",
            "Reads of the identity provider's keys",
            metrics.token_key_reads.clone(),
        );
        metrics
    }
}

/// The metrics of the edge.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    /// Answered requests.
    requests: Family<RequestLabels, Counter>,
    /// Requests answered with a status of 500 or more, under the labels of `requests`, so that one can be divided
    /// by the other as it stands.
    errors: Family<RequestLabels, Counter>,
    /// Answers by status.
    responses: Family<ResponseLabels, Counter>,
    /// From the request's head to the answer's head.
    duration_seconds: Family<RouteLabels, Histogram>,
    /// Requests being answered.
    pub in_flight: Gauge,
    /// Events by what became of them.
    pub events: Family<EventLabels, Counter>,
    /// Streams of events that are open.
    pub streams_open: Gauge,
    /// Streams of events that were refused or ended.
    pub streams_refused: Family<StreamLabels, Counter>,
    /// Answers that are streams, such as exports, that are being sent.
    pub answer_streams_open: Gauge,
    /// Those that were refused.
    pub answer_streams_refused: Counter,
}

impl HttpMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            errors: Family::default(),
            responses: Family::default(),
            duration_seconds: Family::new_with_constructor(histogram),
            in_flight: Gauge::default(),
            events: Family::default(),
            streams_open: Gauge::default(),
            streams_refused: Family::default(),
            answer_streams_open: Gauge::default(),
            answer_streams_refused: Counter::default(),
        };
        registry.register("http_requests", "Answered requests", metrics.requests.clone());
        registry.register(
            "http_requests_errors",
            "Requests answered with 500 or more, but for the probes",
            metrics.errors.clone(),
        );
        registry.register("http_responses", "Answers by status", metrics.responses.clone());
        registry.register(
            "http_request_duration_seconds",
            "From the request's head to the answer's head",
            metrics.duration_seconds.clone(),
        );
        registry.register("http_requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        registry.register("events_received", "Events by what became of them", metrics.events.clone());
        registry.register(
            "event_streams_open",
            "Streams of events that are open",
            metrics.streams_open.clone(),
        );
        registry.register(
            "event_streams_refused",
            "Streams of events that were refused or ended, by why",
            metrics.streams_refused.clone(),
        );
        registry.register(
            "answer_streams_open",
            "Exports that are being sent",
            metrics.answer_streams_open.clone(),
        );
        registry.register(
            "answer_streams_refused",
            "Exports that were refused, for there were as many as there may be",
            metrics.answer_streams_refused.clone(),
        );
        // Made at once, because a rate needs a series that was there before the first.
        for reason in ["too_many", "too_slow"] {
            drop(metrics.streams_refused.get_or_create(&StreamLabels { reason }));
        }
        metrics
    }

    /// Requests that failed.
    #[cfg(test)]
    pub(crate) fn errors(&self, method: &'static str, path: &str) -> u64 {
        self.errors.get_or_create(&RequestLabels { method, path: path.to_owned() }).get()
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, method: &'static str, path: &str, status: StatusCode, took: Duration) {
        let labels = RequestLabels { method, path: path.to_owned() };
        self.requests.get_or_create(&labels).inc();
        // A probe that says no does what it is for.
        let failed = status.is_server_error() && !PROBES.contains(&path);
        // Made with the first request, because a rate needs a series that was there before the first error.
        self.errors.get_or_create(&labels).inc_by(u64::from(failed));
        let RequestLabels { method, path } = labels;
        self.duration_seconds.get_or_create(&RouteLabels { path: path.clone() }).observe(took.as_secs_f64());
        self.responses.get_or_create(&ResponseLabels { method, path, status: status.as_u16() }).inc();
    }
}

fn histogram() -> Histogram {
    Histogram::new([
        0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
    ])
}
