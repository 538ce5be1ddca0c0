//! What happens around every request: an id, a metric, a log line, a time limit, load shedding.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kernel::{Clock, Entropy, Error, codes};
use tokio::sync::Semaphore;
use tracing::{debug, info};

use crate::leftover::Leftover;
use crate::metrics::{RequestLabels, RouteLabels};
use crate::{ApiError, HttpMetrics};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 128;

/// How long and how many.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest a request may take before it is answered with 504. Streams are exempt once they began.
    pub request_timeout: Duration,
    /// Requests answered at once; more are answered with 503 at once.
    pub concurrency: usize,
}

/// What the middleware works with.
#[derive(Debug, Clone)]
pub struct Around {
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
        Self { metrics, clock, entropy, timeout: limits.request_timeout, places }
    }
}

/// The middleware.
pub async fn around(State(around): State<Around>, request: Request, next: Next) -> Response {
    let began = around.clock.elapsed();
    let id = request_id(&around, &request);
    let method = method_label(request.method());
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    around.metrics.in_flight.inc();
    let (request, leftover) = Leftover::watch(request);
    let mut response = limited(&around, request, next).await;
    if let Some(leftover) = leftover {
        response = leftover.discard(response).await;
    }
    around.metrics.in_flight.dec();

    let status = response.status();
    let took = around.clock.elapsed().saturating_sub(began);
    around
        .metrics
        .requests
        .get_or_create(&RequestLabels { method, path: path.clone(), status: status.as_u16() })
        .inc();
    around
        .metrics
        .duration_seconds
        .get_or_create(&RouteLabels { path: path.clone() })
        .observe(took.as_secs_f64());
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if status.is_server_error() {
        around.metrics.errors.inc();
        info!(request_id = ?id, method, path, status = status.as_u16(), duration_us, "request failed");
    } else {
        debug!(request_id = ?id, method, path, status = status.as_u16(), duration_us, "request");
    }
    response.headers_mut().insert(REQUEST_ID.clone(), id);
    response
}

async fn limited(around: &Around, request: Request, next: Next) -> Response {
    let Ok(_place) = around.places.try_acquire() else {
        let message = "the server answers as many requests as it can; try again shortly";
        return ApiError(Error::new(codes::OVERLOADED, message)).into_response();
    };
    match tokio::time::timeout(around.timeout, next.run(request)).await {
        Ok(response) => response,
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

/// Turns a panic into a logged 500, so that one defect does not end the connection.
#[must_use]
pub fn panicked() -> Response {
    let mut response =
        ApiError(Error::new(codes::INTERNAL_ERROR, "an internal error was logged")).into_response();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
