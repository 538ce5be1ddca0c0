//! What happens around every request: an id, a trace, a metric, a log line, a time limit, load shedding.
//!
//! Every log line of a request is written within a span that has its `request_id`, `method` and `path`, and its
//! `trace_id` where it is part of a trace. A request that failed is one line, and of many that fail alike there is one line a
//! second (see `sampled`).

use std::fmt::Debug;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use kernel::{Clock, Entropy, Error, ErrorKind, Result, Scope, TenantId, codes};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{Instrument, Span, debug, error, error_span, field, info, warn};

use crate::leftover::Leftover;
use crate::sampled::{Failed, Sampled};
use crate::streams::{Answers, PlaceLimits, StreamLimits, StreamPlace, Streams};
use crate::{ApiError, HttpMetrics};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest a request may take before it is answered with 504; for a streamed body the longest that each of
    /// its steps may take, and for a streamed answer the longest that each of its pieces may take to make.
    pub request_timeout: Duration,
    /// Requests answered at once; more are answered with 503 at once.
    pub concurrency: usize,
    /// Streams of events have places of their own.
    pub streams: StreamLimits,
    /// And so have answers that are streams.
    pub answers: PlaceLimits,
}

/// The trace that a request is part of, as W3C Trace Context writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTrace {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// What the `traceresponse` header of the answer says.
    pub response: HeaderValue,
}

/// Makes the span of a request part of a trace.
pub trait Tracing: Send + Sync + Debug {
    /// Follows the `traceparent` of the request's headers, or begins a trace. None where the request is in no trace.
    fn begin(&self, span: &Span, method: &'static str, path: &str, headers: &HeaderMap) -> Option<InTrace>;

    /// Notes the status of the answer.
    fn end(&self, span: &Span, status: StatusCode);
}

/// Is told of every answer to a caller whose credential was proven.
pub trait AnswerWatch: Send + Sync + Debug {
    /// The tenant was answered; `failed` where the status is 500 or more.
    fn answered(&self, tenant: &TenantId, failed: bool);
}

/// The tenant of a request, which stands in its extensions and is filled in when the credential is proven: also an
/// answer that is made further out, as that of a request which took too long, is a tenant's.
#[derive(Debug, Clone, Default)]
pub(crate) struct AskedBy(Arc<OnceLock<TenantId>>);

impl AskedBy {
    pub(crate) fn note(&self, tenant: &TenantId) {
        // A request has one credential.
        let _ = self.0.set(tenant.clone());
    }
}

/// What the middleware works with.
#[derive(Debug, Clone)]
pub struct Around {
    tracing: Option<Arc<dyn Tracing>>,
    watch: Option<Arc<dyn AnswerWatch>>,
    metrics: HttpMetrics,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    timeout: Duration,
    places: Arc<Semaphore>,
    streams: Arc<Streams>,
    answers: Arc<Answers>,
    sampled: Arc<Sampled>,
}

impl Around {
    /// The middleware's state.
    #[must_use]
    pub fn new(
        metrics: HttpMetrics,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        limits: Limits,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.concurrency));
        let streams = Streams::new(limits.streams, metrics.clone());
        let answers = Answers::new(limits.answers, metrics.clone());
        let (timeout, sampled) = (limits.request_timeout, Arc::default());
        Self {
            tracing: None,
            watch: None,
            metrics,
            clock,
            entropy,
            timeout,
            places,
            streams,
            answers,
            sampled,
        }
    }

    /// The same, with so many places of its own.
    #[must_use]
    pub fn with_places(self, count: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(count)), ..self }
    }

    /// The same, with every request part of a trace.
    #[must_use]
    pub fn with_tracing(self, tracing: Option<Arc<dyn Tracing>>) -> Self {
        Self { tracing, ..self }
    }

    /// The same, with someone who is told of answers.
    #[must_use]
    pub fn with_watch(self, watch: Arc<dyn AnswerWatch>) -> Self {
        Self { watch: Some(watch), ..self }
    }
}

/// The middleware.
pub async fn around(State(around): State<Around>, request: Request, next: Next) -> Response {
    let began = around.clock.elapsed();
    let id = request_id(&around, &request);
    let method = method_label(request.method());
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    // At the level of errors, so that a line of any level has the request's id.
    let shown = id.to_str().unwrap_or_default();
    let (trace_id, kind) = (field::Empty, field::Empty);
    let span = error_span!("request", request_id = shown, method, path, trace_id, otel.kind = kind);
    let tracing = around.tracing.as_ref();
    let traced = tracing.and_then(|tracing| tracing.begin(&span, method, &path, request.headers()));
    if let Some(traced) = &traced {
        span.record("trace_id", traced.trace_id.as_str());
    }
    let in_flight = InFlight::begin(&around.metrics);
    let (mut request, leftover) = Leftover::watch(request);
    let asked_by = AskedBy::default();
    request.extensions_mut().insert(asked_by.clone());
    let answering = async {
        let answer = AssertUnwindSafe(limited(&around, request, next)).catch_unwind();
        let response = answer.await.unwrap_or_else(|_| panicked());
        match leftover {
            Some(leftover) => leftover.discard(response).await,
            None => response,
        }
    };
    let mut response = answering.instrument(span.clone()).await;
    drop(in_flight);

    let status = response.status();
    let took = around.clock.elapsed().saturating_sub(began);
    around.metrics.answered(method, &path, status, took);
    if let (Some(watch), Some(tenant)) = (&around.watch, asked_by.0.get()) {
        watch.answered(tenant, status.is_server_error());
    }
    if let Some(tracing) = tracing {
        tracing.end(&span, status);
    }
    let _within = span.enter();
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if status.is_server_error() {
        let failed = response.extensions_mut().remove::<Failed>();
        tell_failed(&around.sampled, began.saturating_add(took), status, failed, (&path, duration_us));
    } else {
        debug!(status = status.as_u16(), duration_us, "request");
    }
    for ((code, _), left_out) in around.sampled.overdue(began.saturating_add(took)) {
        info!(code, left_out, "more requests failed alike");
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), id);
    if let Some(traced) = traced {
        headers.insert(TRACE_RESPONSE.clone(), traced.response);
    }
    response
}

/// The one line of a request that failed, unless there was one of its class just now.
fn tell_failed(
    sampled: &Sampled,
    now: Duration,
    status: StatusCode,
    failed: Option<Failed>,
    (path, duration_us): (&str, u64),
) {
    let is_fault = failed.as_ref().is_none_or(Failed::is_fault);
    let code = failed.as_ref().map_or("none", |failed| failed.code);
    let class = (code, if is_fault { path.to_owned() } else { String::new() });
    let Some(left_out) = sampled.admit(class, now) else { return };
    let (status, left_out) = (status.as_u16(), (left_out > 0).then_some(left_out));
    let (kind, error) = failed.map_or((None, None), |failed| (Some(failed.kind), Some(failed.chain)));
    match kind {
        Some(ErrorKind::Internal | ErrorKind::Corrupted) => {
            error!(status, duration_us, code, left_out, error, "request failed");
        }
        Some(ErrorKind::Unavailable | ErrorKind::StorageFull) => {
            warn!(status, duration_us, code, left_out, error, "request refused");
        }
        _ => info!(status, duration_us, code, left_out, error, "request failed"),
    }
}

/// Counts a request until it is answered or dropped.
struct InFlight(HttpMetrics);

impl InFlight {
    fn begin(metrics: &HttpMetrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// What bounds one request, which stands in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) longest: Duration,
    held: Arc<Held>,
    streams: Arc<Streams>,
    pub(crate) answers: Arc<Answers>,
}

#[derive(Debug)]
struct Held {
    by_step: AtomicBool,
    /// One of the requests that are answered at once.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

/// The bounds of a stream: a time limit that holds for each step instead of the whole, and a place among the streams
/// instead of one among the requests.
#[derive(Debug)]
pub(crate) struct StepLimit {
    longest: Option<Duration>,
    place: Option<StreamPlace>,
}

impl StepLimit {
    /// Takes the bounds of this request over: from now on the handler has to put every wait through
    /// [`StepLimit::step`], and has to say what it [received](StepLimit::received). There are none outside [`around`].
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub(crate) fn take_over(request: &Request, scope: &Scope) -> Result<Self> {
        let Some(bounds) = request.extensions().get::<Bounds>() else {
            return Ok(Self { longest: None, place: None });
        };
        let place = bounds.streams.begin(scope.tenant())?;
        bounds.held.by_step.store(true, Ordering::Relaxed);
        drop(bounds.held.place.lock().take());
        Ok(Self { longest: Some(bounds.longest), place: Some(place) })
    }

    /// What the work gives.
    ///
    /// # Errors
    /// `TIMED_OUT` saying `late` when it takes longer than the limit.
    pub(crate) async fn step<T>(&self, late: &str, work: impl Future<Output = T>) -> Result<T> {
        let Some(longest) = self.longest else { return Ok(work.await) };
        let timed_out = |_| Error::new(codes::TIMED_OUT, format!("{late} within {} ms", longest.as_millis()));
        tokio::time::timeout(longest, work).await.map_err(timed_out)
    }

    /// Notes that so many bytes came after they were waited for so long.
    ///
    /// # Errors
    /// `STREAM_TOO_SLOW`.
    pub(crate) fn received(&mut self, bytes: usize, waited: Duration) -> Result<()> {
        self.place.as_mut().map_or(Ok(()), |place| place.received(bytes, waited))
    }
}

async fn limited(around: &Around, mut request: Request, next: Next) -> Response {
    let Ok(place) = Arc::clone(&around.places).try_acquire_owned() else {
        let message = "the server answers as many requests as it can; try again shortly";
        return ApiError(Error::new(codes::OVERLOADED, message)).into_response();
    };
    let held = Arc::new(Held { by_step: AtomicBool::new(false), place: Mutex::new(Some(place)) });
    let (streams, answers) = (Arc::clone(&around.streams), Arc::clone(&around.answers));
    let bounds = Bounds { longest: around.timeout, held: Arc::clone(&held), streams, answers };
    request.extensions_mut().insert(bounds);
    let mut answer = std::pin::pin!(next.run(request));
    let response = match tokio::time::timeout(around.timeout, &mut answer).await {
        Ok(response) => response,
        Err(_) if held.by_step.load(Ordering::Relaxed) => answer.await,
        Err(_) => {
            let message = format!("not answered within {} ms", around.timeout.as_millis());
            ApiError(Error::new(codes::TIMED_OUT, message)).into_response()
        }
    };
    drop(held.place.lock().take());
    response
}

/// The caller's id where it is a sane one, else a new one.
fn request_id(around: &Around, request: &Request) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&value.len())
            && value.as_bytes().iter().all(|byte| byte.is_ascii_graphic())
    };
    if let Some(given) = request.headers().get(&REQUEST_ID).filter(sane) {
        return given.clone();
    }
    let id = around.entropy.id(around.clock.now());
    HeaderValue::try_from(id.as_hyphenated().to_string()).unwrap_or(HeaderValue::from_static("none"))
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Answers a path that no route has.
pub async fn not_found() -> ApiError {
    ApiError(Error::new(codes::NOT_FOUND, "no such address; see /api/docs for all of them"))
}

/// Answers a method that a route does not have.
pub async fn method_not_allowed() -> ApiError {
    ApiError(Error::new(codes::METHOD_NOT_ALLOWED, "this address does not answer that method; see /api/docs"))
}

/// One defect does not end the connection. The panic hook wrote where it happened.
fn panicked() -> Response {
    error!("a handler panicked");
    ApiError(Error::new(codes::INTERNAL_ERROR, "an internal error was logged")).into_response()
}

#[cfg(test)]
mod tests;
