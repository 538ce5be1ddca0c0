//! Every metric the edge emits. Label values come from fixed sets (route patterns, methods, status codes), never
//! from what a caller sent.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The route, method and status of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
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

/// The metrics of the edge.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    /// Answered requests.
    pub requests: Family<RequestLabels, Counter>,
    /// Requests answered with a status of 500 or more.
    pub errors: Counter,
    /// From the request's head to the answer's head.
    pub duration_seconds: Family<RouteLabels, Histogram>,
    /// Requests being answered.
    pub in_flight: Gauge,
    /// Events by what became of them.
    pub events: Family<EventLabels, Counter>,
}

impl HttpMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            errors: Counter::default(),
            duration_seconds: Family::new_with_constructor(histogram),
            in_flight: Gauge::default(),
            events: Family::default(),
        };
        registry.register("http_requests", "Answered requests", metrics.requests.clone());
        registry.register(
            "http_requests_errors",
            "Requests answered with 500 or more",
            metrics.errors.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "From the request's head to the answer's head",
            metrics.duration_seconds.clone(),
        );
        registry.register("http_requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        registry.register("events_received", "Events by what became of them", metrics.events.clone());
        metrics
    }
}

fn histogram() -> Histogram {
    Histogram::new([
        0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
    ])
}
