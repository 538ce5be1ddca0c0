//! What happens around every request: an id, a trace, a metric, a log line, a time limit, load shedding.
//!
//! Every log line of a request is written within a span that has its `request_id`, `method` and `path`, and its
//! `trace_id` where it is part of a trace.

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
use kernel::{Clock, Entropy, Error, Result, TenantId, codes};
use tokio::sync::Semaphore;
use tracing::{Instrument, Span, debug, error, error_span, field, info};

use crate::leftover::Leftover;
use crate::{ApiError, HttpMetrics};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static TRACE_RESPONSE: HeaderName = HeaderName::from_static("traceresponse");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest a request may take before it is answered with 504; for a streamed body the longest that each of
    /// its steps may take. An answer that is a stream is exempt once it began.
    pub request_timeout: Duration,
    /// Requests answered at once; more are answered with 503 at once.
    pub concurrency: usize,
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
        Self { tracing: None, watch: None, metrics, clock, entropy, timeout: limits.request_timeout, places }
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
        info!(status = status.as_u16(), duration_us, "request failed");
    } else {
        debug!(status = status.as_u16(), duration_us, "request");
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID.clone(), id);
    if let Some(traced) = traced {
        headers.insert(TRACE_RESPONSE.clone(), traced.response);
    }
    response
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

/// The time limit of one request, which stands in its extensions.
#[derive(Debug, Clone)]
struct TimeLimit {
    longest: Duration,
    by_step: Arc<AtomicBool>,
}

/// A time limit that holds for each step of a request instead of the whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepLimit(Option<Duration>);

impl StepLimit {
    /// Takes the limit of this request over: from now on the handler has to put every wait through
    /// [`StepLimit::step`]. There is none outside [`around`].
    pub(crate) fn take_over(request: &Request) -> Self {
        let limit = request.extensions().get::<TimeLimit>();
        Self(limit.map(|limit| {
            limit.by_step.store(true, Ordering::Relaxed);
            limit.longest
        }))
    }

    /// What the work gives.
    ///
    /// # Errors
    /// `TIMED_OUT` saying `late` when it takes longer than the limit.
    pub(crate) async fn step<T>(self, late: &str, work: impl Future<Output = T>) -> Result<T> {
        let Some(longest) = self.0 else { return Ok(work.await) };
        let timed_out = |_| Error::new(codes::TIMED_OUT, format!("{late} within {} ms", longest.as_millis()));
        tokio::time::timeout(longest, work).await.map_err(timed_out)
    }
}

async fn limited(around: &Around, mut request: Request, next: Next) -> Response {
    let Ok(_place) = around.places.try_acquire() else {
        let message = "the server answers as many requests as it can; try again shortly";
        return ApiError(Error::new(codes::OVERLOADED, message)).into_response();
    };
    let limit = TimeLimit { longest: around.timeout, by_step: Arc::default() };
    request.extensions_mut().insert(limit.clone());
    let mut answer = std::pin::pin!(next.run(request));
    match tokio::time::timeout(around.timeout, &mut answer).await {
        Ok(response) => response,
        Err(_) if limit.by_step.load(Ordering::Relaxed) => answer.await,
        Err(_) => {
            let message = format!("not answered within {} ms", around.timeout.as_millis());
            ApiError(Error::new(codes::TIMED_OUT, message)).into_response()
        }
    }
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
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use axum::{Extension, Router, middleware};
    use bytes::Bytes;
    use futures::stream;
    use http_body_util::BodyExt;
    use kernel::{Event, ManualClock, Scope, SeededEntropy, TenantId, Timestamp};
    use prometheus_client::registry::Registry;
    use serde_json::{Value, json};
    use store::memory::{MemoryEventLog, MemoryRecords};
    use store::{Appended, DeadLetters};
    use tower::ServiceExt;

    use super::*;
    use crate::Caller;
    use crate::ingest::{EventOwner, Ingest, IngestParts};

    const LIMIT: Duration = Duration::from_secs(1);

    /// Takes every event; its view shows them after a while.
    #[derive(Debug)]
    struct Owner {
        settles_in: Duration,
    }

    #[async_trait::async_trait]
    impl EventOwner for Owner {
        fn kinds(&self) -> &'static [&'static str] {
            &["a.b.v1"]
        }

        fn admit(&self, _: &Scope, _: &mut Event) -> Result<()> {
            Ok(())
        }

        async fn settled(&self, _: &[Appended]) {
            tokio::time::sleep(self.settles_in).await;
        }
    }

    fn server(settles_in: Duration) -> Router {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
        let metrics = HttpMetrics::register(&mut Registry::default());
        let parts = IngestParts {
            log: Arc::new(MemoryEventLog::new(1)),
            dead_letters: DeadLetters::new(Arc::new(MemoryRecords::new())),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            metrics: metrics.clone(),
        };
        let ingest = Ingest::new(parts, &[Arc::new(Owner { settles_in }) as Arc<dyn EventOwner>]);
        let limits = Limits { request_timeout: LIMIT, concurrency: 4 };
        let state = Around::new(metrics, clock, entropy, limits);
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let (events, _) = crate::http::events::routes(ingest).split_for_parts();
        events.layer(Extension(Caller(scope))).layer(middleware::from_fn_with_state(state, around))
    }

    fn line(id: usize) -> String {
        format!("{}\n", json!({"specversion": "1.0", "id": id.to_string(), "source": "/s", "type": "a.b.v1"}))
    }

    /// A part of a body, the milliseconds before it; none breaks the body off.
    type Part = (u64, Option<String>);

    async fn send(server: Router, content_type: &str, parts: Vec<Part>) -> (u16, Value) {
        let parts = stream::unfold(parts.into_iter(), async |mut parts| {
            let (pause_ms, text) = parts.next()?;
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            Some((text.map(Bytes::from).ok_or(broken), parts))
        });
        let request = Request::post("/api/v1/events").header("content-type", content_type);
        let request = request.body(Body::from_stream(parts)).unwrap();
        let response = server.oneshot(request).await.unwrap_or_else(|error: Infallible| match error {});
        let status = response.status().as_u16();
        let kind = response.headers()["content-type"].clone();
        assert_eq!(kind, if status < 400 { "application/json" } else { "application/problem+json" });
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_lines_has_a_limit_for_each_pause_only() {
        let check = async |settles_ms: u64, parts: Vec<Part>, expected: (u16, Option<&str>, u64, u64)| {
            let server = server(Duration::from_millis(settles_ms));
            let (status, told) = send(server, "application/x-ndjson", parts).await;
            let counts = ["stored", "refused"].map(|name| told[name].as_u64().unwrap());
            assert_eq!((status, told["code"].as_str(), counts[0], counts[1]), expected, "{told}");
            if status >= 400 {
                assert_eq!(told["status"], status);
            }
        };
        let steady: Vec<Part> = (0..20).map(|id| (900, Some(line(id)))).collect();
        check(0, steady.clone(), (200, None, 20, 0)).await;
        check(900, steady.clone(), (200, None, 20, 0)).await;

        let late = (1_100, Some(line(20)));
        let cut = (0, Some("{\"specversion\":".to_owned()));
        let ended = |more: Vec<Part>| [steady.clone(), more].concat();
        check(0, ended(vec![late.clone()]), (504, Some("TIMED_OUT"), 20, 0)).await;
        check(0, ended(vec![cut.clone(), late]), (504, Some("TIMED_OUT"), 20, 0)).await;
        check(0, ended(vec![cut.clone()]), (207, None, 20, 1)).await;
        check(0, ended(vec![cut, (0, None)]), (400, Some("INVALID_REQUEST"), 20, 0)).await;
        let many = vec![(0, Some((0..1_500).map(line).collect::<String>()))];
        check(900, many.clone(), (200, None, 1_500, 0)).await;
        check(1_100, many, (504, Some("TIMED_OUT"), 0, 0)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn everything_else_has_a_limit_for_the_whole() {
        let json = "application/cloudevents+json";
        let text = line(1);
        let slow = |pause_ms: u64| {
            vec![(pause_ms, Some(text[..20].to_owned())), (pause_ms, Some(text[20..].to_owned()))]
        };
        assert_eq!(send(server(Duration::ZERO), json, slow(400)).await.0, 201);
        let (status, problem) = send(server(Duration::ZERO), json, slow(600)).await;
        assert_eq!((status, problem["code"].as_str()), (504, Some("TIMED_OUT")));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_gives_its_place_back() {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let metrics = HttpMetrics::register(&mut Registry::default());
        let limits = Limits { request_timeout: LIMIT, concurrency: 1 };
        let state = Around::new(metrics.clone(), clock, Arc::new(SeededEntropy::new(1)), limits);
        let defect = || async { if LIMIT.is_zero() { "never" } else { panic!("a defect") } };
        let server = Router::new().route("/", axum::routing::get(defect));
        let server = server.layer(middleware::from_fn_with_state(state, around));
        for _ in 0..2 {
            let response =
                server.clone().oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert!(response.headers().contains_key(&REQUEST_ID));
        }
        assert_eq!(metrics.in_flight.get(), 0);
    }
}
