//! Traces of requests, sent to an OpenTelemetry collector as OTLP over HTTP, in W3C Trace Context.
//!
//! Spans wait in a queue of bounded length for a thread of their own. Nobody waits for the collector: what does not fit
//! or cannot be sent is counted and dropped. It refuses to record what a caller sent beside its trace context.
//!
//! To record another step of a request: a `debug_span!` around it, in a crate that is named in [`TARGETS`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use edge::middleware::{InTrace, Tracing};
use kernel::{Error, Result, codes};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Status, TraceContextExt, TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter as Exporter};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use rustls::crypto::{CryptoProvider, ring};
use tracing::{Level, Span, debug, warn};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use crate::config::TraceSettings;

/// The crates whose spans are recorded.
const TARGETS: [&str; 3] = ["edge", "recommend", "stream"];
/// One batch is given up after so long.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);

/// The open connection to the collector.
#[derive(Debug)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    counts: Counts,
}

/// What became of spans.
#[derive(Debug, Clone, Default)]
struct Counts {
    sent: Counter,
    lost: Counter,
}

impl Traces {
    /// None where no collector is named.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when the address cannot be used.
    pub(crate) fn open(settings: &TraceSettings) -> Result<Option<Self>> {
        let Some(endpoint) = settings.collector() else { return Ok(None) };
        if CryptoProvider::get_default().is_none() {
            // The client takes the provider of the process. Who set another one before has the say.
            let _ = ring::default_provider().install_default();
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_LIMIT)
            .build()
            .map_err(|cause| {
                Error::new(codes::VALIDATION_ERROR, cause.to_string()).with_field("trace.endpoint")
            })?;
        let counts = Counts::default();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Watched { exporter, is_away: AtomicBool::default(), counts: counts.clone() })
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio))))
            .with_resource(Resource::builder().with_service_name(settings.service_name.clone()).build())
            .build();
        let tracer = provider.tracer("watershed");
        Ok(Some(Self { provider, tracer, counts }))
    }

    /// Hands spans to the queue.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let layer: OpenTelemetryLayer<S, SdkTracer> = tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        layer.with_filter(Targets::new().with_targets(TARGETS.map(|target| (target, Level::DEBUG))))
    }

    /// Makes requests part of traces.
    pub(crate) fn tracing(&self) -> Arc<dyn Tracing> {
        Arc::new(TraceContext(TraceContextPropagator::new()))
    }

    /// Registers what became of spans.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("trace_spans_sent", "Spans that the collector took", self.counts.sent.clone());
        registry.register("trace_spans_lost", "Spans that could not be sent", self.counts.lost.clone());
    }

    /// Sends what is left, within the limit.
    pub(crate) fn end(self, limit: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(limit) {
            debug!(%error, "the last spans were not sent");
        }
    }
}

/// Counts what is sent, and says once when the collector goes away or comes back.
#[derive(Debug)]
struct Watched {
    exporter: SpanExporter,
    is_away: AtomicBool,
    counts: Counts,
}

impl Exporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        let (counter, is_away) = match &result {
            Ok(()) => (&self.counts.sent, false),
            Err(_) => (&self.counts.lost, true),
        };
        counter.inc_by(spans);
        match (self.is_away.swap(is_away, Ordering::Relaxed), &result) {
            (false, Err(error)) => {
                warn!(%error, "the collector of traces does not answer; spans are dropped");
            }
            (true, Ok(())) => tracing::info!("the collector of traces answers again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// W3C Trace Context between a request's headers and its span.
#[derive(Debug)]
struct TraceContext(TraceContextPropagator);

impl Tracing for TraceContext {
    fn begin(&self, span: &Span, method: &'static str, path: &str, headers: &HeaderMap) -> Option<InTrace> {
        span.record("otel.kind", "server");
        let caller = self.0.extract(&Headers(headers));
        if caller.span().span_context().is_valid() {
            // Refused where spans are not recorded at all.
            let _ = span.set_parent(caller);
        }
        let context = span.context();
        let current = context.span();
        let found = current.span_context();
        if !found.is_valid() {
            return None;
        }
        current.update_name(format!("{method} {path}"));
        span.set_attribute("http.request.method", method);
        span.set_attribute("http.route", path.to_owned());
        let (trace_id, span_id) = (found.trace_id().to_string(), found.span_id());
        let text = format!("00-{trace_id}-{span_id}-{:02x}", found.trace_flags().to_u8());
        Some(InTrace { trace_id, response: HeaderValue::try_from(text).ok()? })
    }

    fn end(&self, span: &Span, status: StatusCode) {
        span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.set_status(Status::error(status.to_string()));
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}
