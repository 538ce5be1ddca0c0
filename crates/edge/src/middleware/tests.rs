//! Limits of time and number, panics, and the log lines of an outage.

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
use crate::streams::AnswerStream;

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

const STREAMS: StreamLimits = StreamLimits {
    places: PlaceLimits { per_tenant: 2, in_all: 4 },
    bytes_per_second_min: 0,
    window: Duration::from_secs(10),
};
const ANSWERS: PlaceLimits = PlaceLimits { per_tenant: 1, in_all: 2 };

fn server(settles_in: Duration) -> Router {
    limited_server(
        settles_in,
        Limits { request_timeout: LIMIT, concurrency: 4, streams: STREAMS, answers: ANSWERS },
    )
}

fn limited_server(settles_in: Duration, limits: Limits) -> Router {
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

const LINES: &str = "application/x-ndjson";

#[tokio::test(start_paused = true)]
async fn streams_take_no_place_of_other_requests() {
    let limits = Limits { request_timeout: LIMIT, concurrency: 1, streams: STREAMS, answers: ANSWERS };
    let server = limited_server(Duration::ZERO, limits);
    let long: Vec<Part> = (0..20).map(|id| (900, Some(line(id)))).collect();
    let streams = [0, 1].map(|_| tokio::spawn(send(server.clone(), LINES, long.clone())));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let single = || send(server.clone(), "application/cloudevents+json", vec![(0, Some(line(50)))]);
    assert_eq!(single().await.0, 201, "the streams do not hold the only place");
    let (status, problem) = send(server.clone(), LINES, long.clone()).await;
    assert_eq!((status, problem["code"].as_str()), (429, Some("TOO_MANY_STREAMS")), "{problem}");
    assert_eq!(single().await.0, 200);
    for stream in streams {
        assert_eq!(stream.await.unwrap().0, 200);
    }
    assert_eq!(send(server, LINES, long).await.0, 200, "the places are free again");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_sends_too_little_is_ended_and_told_what_was_taken() {
    let limits = StreamLimits { bytes_per_second_min: 50, ..STREAMS };
    let limits = Limits { request_timeout: LIMIT, concurrency: 4, streams: limits, answers: ANSWERS };
    let steady: Vec<Part> = (0..40).map(|id| (900, Some(line(id)))).collect();
    let (status, told) = send(limited_server(Duration::ZERO, limits), LINES, steady).await;
    assert_eq!((status, told["stored"].as_u64()), (200, Some(40)), "{told}");
    let trickle = line(1).chars().map(|byte| (900, Some(byte.to_string()))).collect::<Vec<_>>();
    let parts = [vec![(0, Some(line(0)))], trickle].concat();
    let (status, told) = send(limited_server(Duration::ZERO, limits), LINES, parts).await;
    assert_eq!((status, told["code"].as_str()), (408, Some("STREAM_TOO_SLOW")), "{told}");
    assert_eq!((told["status"].as_u64(), told["stored"].as_u64()), (Some(408), Some(1)), "{told}");
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

/// Counts the lines of requests that failed, and what they say was left out.
#[derive(Debug, Default, Clone)]
struct Lines(Arc<Mutex<(usize, u64)>>);

impl tracing::field::Visit for Lines {
    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        if field.name() == "left_out" {
            self.0.lock().1 += value;
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn Debug) {}
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().0 += 1;
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn an_outage_is_a_line_a_second_and_every_request_is_counted() {
    let manual = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let clock: Arc<dyn Clock> = Arc::clone(&manual) as _;
    let metrics = HttpMetrics::register(&mut Registry::default());
    let limits = Limits { request_timeout: LIMIT, concurrency: 1, streams: STREAMS, answers: ANSWERS };
    let state = Around::new(metrics.clone(), clock, Arc::new(SeededEntropy::new(1)), limits);
    let away = || async { ApiError(Error::new(codes::UNAVAILABLE, "the database is away")) };
    let fine = || async { "fine" };
    let server = Router::new().route("/", axum::routing::get(away)).route("/fine", axum::routing::get(fine));
    let server = server.layer(middleware::from_fn_with_state(state, around));
    let ask = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        server.clone().oneshot(request).await.unwrap().status()
    };
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    for _ in 0..100 {
        assert_eq!(ask("/").await, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(*lines.0.lock(), (1, 0), "one line for all of them");
    manual.advance(Duration::from_secs(1));
    ask("/").await;
    assert_eq!(*lines.0.lock(), (2, 99));
    ask("/").await;
    manual.advance(Duration::from_secs(1));
    ask("/fine").await;
    assert_eq!(*lines.0.lock(), (3, 100), "the last one is told of by whoever comes next");
    assert_eq!(metrics.errors("GET", "/"), 102);
}

#[tokio::test]
async fn a_panic_is_an_answer_and_gives_its_place_back() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let metrics = HttpMetrics::register(&mut Registry::default());
    let limits = Limits { request_timeout: LIMIT, concurrency: 1, streams: STREAMS, answers: ANSWERS };
    let state = Around::new(metrics.clone(), clock, Arc::new(SeededEntropy::new(1)), limits);
    let defect = || async { if LIMIT.is_zero() { "never" } else { panic!("a defect") } };
    let server = Router::new().route("/", axum::routing::get(defect));
    let server = server.layer(middleware::from_fn_with_state(state, around));
    for _ in 0..2 {
        let response = server.clone().oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert!(response.headers().contains_key(&REQUEST_ID));
    }
    assert_eq!(metrics.in_flight.get(), 0);
}

/// Answers with a piece after each of these milliseconds.
async fn export(answer: AnswerStream, pauses_ms: Vec<u64>) -> Response {
    let piece = async |mut pauses: std::vec::IntoIter<u64>| {
        tokio::time::sleep(Duration::from_millis(pauses.next()?)).await;
        Some((Ok(Bytes::from_static(b"piece")), pauses))
    };
    answer.body(stream::unfold(pauses_ms.into_iter(), piece)).into_response()
}

#[tokio::test(start_paused = true)]
async fn a_streamed_answer_holds_a_place_until_its_body_is_gone() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let metrics = HttpMetrics::register(&mut Registry::default());
    let limits = Limits { request_timeout: LIMIT, concurrency: 1, streams: STREAMS, answers: ANSWERS };
    let state = Around::new(metrics.clone(), clock, Arc::new(SeededEntropy::new(1)), limits);
    let ask = async |tenant: &str, pauses_ms: &[u64]| {
        let pauses_ms = pauses_ms.to_vec();
        let handler = |answer: AnswerStream| export(answer, pauses_ms);
        let scope = Scope::system(TenantId::new(tenant).unwrap(), "test");
        let server = Router::new().route("/", axum::routing::get(handler)).layer(Extension(Caller(scope)));
        let server = server.layer(middleware::from_fn_with_state(state.clone(), around));
        server.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap()
    };
    let refused = |answer: &Response| {
        let headers = answer.headers();
        let told = (answer.status().as_u16(), &headers["content-type"], &headers["retry-after"]);
        assert_eq!(
            told,
            (429, &HeaderValue::from_static("application/problem+json"), &HeaderValue::from_static("1"))
        );
    };
    let first = ask("shop", &[900, 900, 900]).await;
    assert_eq!(first.status(), StatusCode::OK);
    refused(&ask("shop", &[]).await);
    let dropped = ask("bar", &[900]).await;
    refused(&ask("inn", &[]).await);
    assert_eq!(metrics.answer_streams_open.get(), 2);
    drop(dropped);
    let late = ask("inn", &[900, 1_100]).await;
    assert!(late.into_body().collect().await.is_err(), "a piece that takes too long breaks it off");
    let whole = first.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(whole.len(), 15, "the whole may take longer than a request");
    assert_eq!((metrics.answer_streams_open.get(), metrics.answer_streams_refused.get()), (0, 2));
    assert_eq!(ask("shop", &[]).await.status(), StatusCode::OK, "the place is free again");
}
