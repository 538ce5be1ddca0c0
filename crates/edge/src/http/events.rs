//! `POST /api/v1/events`: CloudEvents in, one by one, in batches, or as a stream of lines.
//!
//! | content type | body | answer |
//! |---|---|---|
//! | `application/cloudevents+json`, `application/json` (an object) | one event | its result, 201 or 200 |
//! | `application/cloudevents-batch+json`, `application/json` (an array) | up to 10,000 events | a result each, 200 or 207 |
//! | `application/x-ndjson` | an event a line, any number | counts, and the lines that were refused |
//!
//! Sending the same again is safe: an event is one per (tenant, source, id). A stream may take any time, as long as
//! the caller goes on sending enough; one that stalls, trickles or breaks off is told what was taken in until then. What
//! came is stored each 1,000 lines or 4 MiB, whichever is first.

use std::fmt::{self, Debug};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use kernel::{Error, EventDraft, MAX_EVENT_BYTES, Permission, Result, Scope, codes, json};
use serde::Serialize;
use serde_json::value::RawValue;
use store::{MAX_APPEND_BATCH, Outcome};
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::cloud_event::CloudEvent;
use crate::extract::{check_encoding, media_type, read_all};
use crate::ingest::{Ingest, Receipt, not_an_event};
use crate::middleware::StepLimit;
use crate::{ApiError, ApiResult, Caller, Problem};

/// Lines taken in at once.
const LINES_PER_APPEND: usize = 1_000;
/// As many bytes are taken in however few lines they are, so that a stream needs little memory.
const BYTES_PER_APPEND: usize = 4 << 20;
/// Refused lines told in the answer to a stream.
const MAX_TOLD: usize = 1_000;

/// The routes.
pub fn routes(ingest: Ingest) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(post)).with_state(ingest)
}

/// What became of what was sent without a fault: one event that was there already, a batch, or a stream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Taken {
    /// Of one event.
    One(EventResult),
    /// Of a batch.
    Batch(BatchResult),
    /// Of a stream.
    Stream(StreamResult),
}

/// What became of a batch or a stream of which a part was refused.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum BatchOrStream {
    /// Of a batch.
    Batch(BatchResult),
    /// Of a stream.
    Stream(StreamResult),
}

/// What became of one event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventResult {
    /// `stored`, `duplicate` or `refused`.
    status: &'static str,
    /// The partition of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<u32>,
    /// The place in the partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

impl EventResult {
    fn of(receipt: &Receipt) -> Self {
        match receipt {
            Receipt::Stored(place) => Self {
                status: if place.outcome == Outcome::New { "stored" } else { "duplicate" },
                partition: Some(place.partition),
                offset: Some(place.offset),
                problem: None,
            },
            Receipt::Refused(error) => {
                Self { status: "refused", partition: None, offset: None, problem: Some(Problem::of(error)) }
            }
        }
    }
}

/// What became of a batch, an event each, in the order they were sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResult {
    stored: usize,
    duplicates: usize,
    refused: usize,
    results: Vec<EventResult>,
}

/// A refused line of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedLine {
    /// 1 for the first.
    line: u64,
    problem: Problem,
}

/// What became of a stream of lines.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct StreamResult {
    stored: u64,
    duplicates: u64,
    refused: u64,
    /// The first 1,000 refused lines. The newest 10,000 of a tenant are among the dead letters.
    refused_lines: Vec<RefusedLine>,
    /// Refused lines beyond those.
    #[serde(skip_serializing_if = "is_zero")]
    refused_lines_left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a stream ended before its end, and what became of the whole lines until then.
#[derive(Debug, Serialize, ToSchema)]
pub struct BrokenStream {
    #[serde(flatten)]
    problem: Problem,
    #[serde(flatten)]
    until_then: StreamResult,
}

/// Take events in. They are durable when this answers, and views show them.
///
/// A stream of lines has no limit of size or time, but a pause in it has one, and a tenant has so many at once.
#[utoipa::path(post, path = "/api/v1/events", tag = "events", operation_id = "post_events",
    request_body(content(
        (CloudEvent = "application/cloudevents+json", example = json!(CloudEvent::example("1"))),
        (Vec<CloudEvent> = "application/cloudevents-batch+json", example = json!([CloudEvent::example("2"),
        CloudEvent::example("3")])),
        (String = "application/x-ndjson", example = json!(format!("{}\n", CloudEvent::example("4")))))),
    responses((status = 201, description = "one event, stored", body = EventResult),
        (status = 200, description = "one event, a duplicate; a batch or stream, nothing refused", body = Taken),
        (status = 207, description = "a batch or stream, some refused", body = BatchOrStream),
        (status = 408, description = "the stream sent too little for too long; whole lines until then were taken in",
            body = BrokenStream, content_type = "application/problem+json"),
        (status = 504, description = "the stream stalled; whole lines until then were taken in", body = BrokenStream,
            content_type = "application/problem+json")))]
async fn post(State(ingest): State<Ingest>, Caller(scope): Caller, request: Request) -> ApiResult<Response> {
    take(&Intake { ingest, read: Arc::new(read_draft) }, &scope, request).await
}

/// What a text says, as an event.
pub type ReadText = dyn Fn(&str) -> Result<EventDraft> + Send + Sync;

/// Takes in what each text of a request says, for an endpoint whose texts are not events yet.
#[derive(Clone)]
pub struct Intake {
    /// Where events go.
    pub ingest: Ingest,
    /// What a text says, as an event. It has at most [`MAX_EVENT_BYTES`].
    pub read: Arc<ReadText>,
}

impl Debug for Intake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Intake").field("ingest", &self.ingest).finish_non_exhaustive()
    }
}

impl Intake {
    fn draft(&self, text: &str) -> Result<EventDraft> {
        sized(text.as_bytes())?;
        (self.read)(text)
    }
}

/// Takes one text, an array of them or a stream of lines in, as `POST /api/v1/events` does.
///
/// # Errors
/// `PERMISSION_DENIED`; what is wrong with the request as a whole, or with its only text; those of the log.
pub async fn take(intake: &Intake, scope: &Scope, request: Request) -> ApiResult<Response> {
    scope.require(Permission::Write)?;
    check_encoding(request.headers())?;
    let kind = media_type(request.headers()).unwrap_or_else(|| "application/json".to_owned());
    match kind.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            stream(intake, scope, request).await
        }
        "application/json" | "application/cloudevents+json" | "application/cloudevents-batch+json" => {
            let body = read_all(request, &()).await?;
            if body.trim_ascii_start().starts_with(b"[") {
                batch(intake, scope, &body).await
            } else {
                single(intake, scope, &body).await
            }
        }
        other => {
            let message = format!(
                "`{other}` is not understood; send application/cloudevents+json, \
                 application/cloudevents-batch+json or application/x-ndjson"
            );
            Err(Error::new(codes::UNSUPPORTED_MEDIA_TYPE, message).into())
        }
    }
}

async fn single(intake: &Intake, scope: &Scope, body: &[u8]) -> ApiResult<Response> {
    let text = String::from_utf8_lossy(body);
    let draft = utf8(body).and_then(|text| intake.draft(text));
    let receipts = intake.ingest.accept(scope, vec![(draft, text.as_ref())]).await?;
    match receipts.into_iter().next() {
        Some(Receipt::Refused(error)) => Err(error.into()),
        Some(receipt @ Receipt::Stored(place)) => {
            let status = if place.outcome == Outcome::New { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(EventResult::of(&receipt))).into_response())
        }
        None => Err(Error::internal("no receipt for an event").into()),
    }
}

async fn batch(intake: &Intake, scope: &Scope, body: &[u8]) -> ApiResult<Response> {
    let texts = match elements(body) {
        Ok(texts) => texts,
        // Which of its events are good cannot be told, so the letter is of the whole.
        Err(error) => {
            return Err(intake.ingest.refuse(scope, &String::from_utf8_lossy(body), error).await.into());
        }
    };
    if texts.len() > MAX_APPEND_BATCH {
        let message = format!("a batch has at most {MAX_APPEND_BATCH} events, this one {}", texts.len());
        return Err(Error::new(codes::TOO_LARGE, message).into());
    }
    let drafts = texts.iter().map(|text| (intake.draft(text.get()), text.get())).collect();
    let receipts = intake.ingest.accept(scope, drafts).await?;
    let results: Vec<EventResult> = receipts.iter().map(EventResult::of).collect();
    let count = |status: &str| results.iter().filter(|result| result.status == status).count();
    let (stored, duplicates, refused) = (count("stored"), count("duplicate"), count("refused"));
    let status = if refused == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    Ok((status, Json(BatchResult { stored, duplicates, refused, results })).into_response())
}

fn elements(body: &[u8]) -> Result<Vec<&RawValue>> {
    serde_json::from_str(utf8(body)?)
        .map_err(|cause| Error::new(codes::INVALID_REQUEST, format!("the body is not a JSON array: {cause}")))
}

async fn stream(intake: &Intake, scope: &Scope, request: Request) -> ApiResult<Response> {
    let mut limit = StepLimit::take_over(&request, scope)?;
    let mut told = StreamResult::default();
    match take_stream(intake, scope, &mut limit, request.into_body(), &mut told).await {
        Ok(()) => {
            let status = if told.refused == 0 { StatusCode::OK } else { StatusCode::MULTI_STATUS };
            Ok((status, Json(told)).into_response())
        }
        Err(error) => {
            let broken = BrokenStream { problem: Problem::of(&error), until_then: told };
            let text = serde_json::to_vec(&broken).map_err(Error::internal)?;
            Ok(ApiError(error).into_response().map(|_| Body::from(text)))
        }
    }
}

async fn take_stream(
    intake: &Intake,
    scope: &Scope,
    limit: &mut StepLimit,
    body: Body,
    told: &mut StreamResult,
) -> Result<()> {
    let mut body = body.into_data_stream();
    let mut lines = Lines::default();
    let unread = loop {
        let asked = Instant::now();
        let chunk = match limit.step("the stream did not go on", body.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(cause))) => {
                break Err(Error::new(codes::INVALID_REQUEST, "the stream broke off").with_source(cause));
            }
            Ok(None) => break Ok(()),
            Err(late) => break Err(late),
        };
        let waited = asked.elapsed();
        lines.push(&chunk);
        if let Err(slow) = limit.received(chunk.len(), waited) {
            break Err(slow);
        }
        while let Some(batch) = lines.take() {
            append_lines(intake, scope, limit, &batch, told).await?;
        }
    };
    if unread.is_ok() {
        lines.close();
    }
    // A line that was cut is not one that was sent.
    append_lines(intake, scope, limit, &lines.whole(), told).await?;
    unread
}

async fn append_lines(
    intake: &Intake,
    scope: &Scope,
    limit: &StepLimit,
    lines: &[(u64, Bytes)],
    told: &mut StreamResult,
) -> Result<()> {
    limit.step("the last lines were not acknowledged", take_lines(intake, scope, lines, told)).await?
}

async fn take_lines(
    intake: &Intake,
    scope: &Scope,
    lines: &[(u64, Bytes)],
    told: &mut StreamResult,
) -> Result<()> {
    let texts: Vec<_> = lines.iter().map(|(_, line)| String::from_utf8_lossy(line)).collect();
    let draft = |line| utf8(line).and_then(|text| intake.draft(text));
    let drafts = lines.iter().zip(&texts).map(|((_, line), text)| (draft(line), text.as_ref()));
    let receipts = intake.ingest.accept(scope, drafts.collect()).await?;
    for ((line, _), receipt) in lines.iter().zip(receipts) {
        match receipt {
            Receipt::Stored(place) if place.outcome == Outcome::New => told.stored += 1,
            Receipt::Stored(_) => told.duplicates += 1,
            Receipt::Refused(error) => {
                told.refused += 1;
                if told.refused_lines.len() < MAX_TOLD {
                    told.refused_lines.push(RefusedLine { line: *line, problem: Problem::of(&error) });
                } else {
                    told.refused_lines_left_out += 1;
                }
            }
        }
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|cause| not_an_event(format!("the text is not UTF-8: {cause}")))
}

fn sized(bytes: &[u8]) -> Result<&[u8]> {
    if bytes.len() > MAX_EVENT_BYTES {
        let message = format!("an event has at most {MAX_EVENT_BYTES} bytes, this one has more");
        return Err(Error::new(codes::TOO_LARGE, message));
    }
    Ok(bytes)
}

fn read_draft(text: &str) -> Result<EventDraft> {
    json::read(text).map_err(|fault| {
        let error = not_an_event(match fault.is_data {
            true => fault.message,
            false => format!("it is not JSON: {}", fault.message),
        });
        match fault.field {
            Some(field) => error.with_field(field),
            None => error,
        }
    })
}

/// Cuts a stream of bytes into numbered lines, leaving out blank ones. Of a line that is too long, just enough is kept
/// to see that it is.
#[derive(Debug, Default)]
struct Lines {
    open: BytesMut,
    whole: std::collections::VecDeque<(u64, Bytes)>,
    whole_bytes: usize,
    seen: u64,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.extend(&rest[..end]);
            rest = &rest[end + 1..];
            self.close();
        }
        self.extend(rest);
    }

    fn extend(&mut self, part: &[u8]) {
        let room = (MAX_EVENT_BYTES + 1).saturating_sub(self.open.len());
        self.open.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn close(&mut self) {
        self.seen += 1;
        let line = self.open.split().freeze();
        if !line.iter().all(u8::is_ascii_whitespace) {
            self.whole_bytes += line.len();
            self.whole.push_back((self.seen, line));
        }
    }

    /// The next lines that are taken in at once, where there are enough.
    fn take(&mut self) -> Option<Vec<(u64, Bytes)>> {
        if self.whole.len() < LINES_PER_APPEND && self.whole_bytes < BYTES_PER_APPEND {
            return None;
        }
        let count = self.whole.len().min(LINES_PER_APPEND);
        let taken: Vec<(u64, Bytes)> = self.whole.drain(..count).collect();
        self.whole_bytes -= taken.iter().map(|(_, line)| line.len()).sum::<usize>();
        Some(taken)
    }

    fn whole(self) -> Vec<(u64, Bytes)> {
        self.whole.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_depend_on_how_the_stream_is_cut() {
        let text = b"{\"a\":1}\r\n\n  \n{\"b\":2}\nlast";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            for chunk in text.chunks(size) {
                lines.push(chunk);
            }
            lines.close();
            let found: Vec<_> =
                lines.whole().into_iter().map(|(number, line)| (number, line.to_vec())).collect();
            let expected =
                vec![(1, b"{\"a\":1}\r".to_vec()), (4, b"{\"b\":2}".to_vec()), (5, b"last".to_vec())];
            assert_eq!(found, expected, "cut every {size} bytes");
        }
    }

    #[test]
    fn long_lines_are_taken_in_before_there_are_many() {
        let mut lines = Lines::default();
        let line = [vec![b'x'; 1 << 19], vec![b'\n']].concat();
        let mut taken = 0;
        for pushed in 1..=64 {
            lines.push(&line);
            taken += lines.take().map_or(0, |batch| batch.len());
            assert!(pushed - taken < 8, "{pushed} lines came and {taken} were taken in");
        }
    }

    #[test]
    fn an_endless_line_is_refused_and_takes_no_more_memory_than_a_long_one() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; MAX_EVENT_BYTES];
        lines.push(&chunk);
        assert!(sized(&lines.open).is_ok());
        (0..3).for_each(|_| lines.push(&chunk));
        lines.push(b"\nnext");
        lines.close();
        let found = lines.whole();
        assert_eq!((found[0].1.len(), found[1].1.as_ref()), (MAX_EVENT_BYTES + 1, &b"next"[..]));
        assert_eq!(sized(&found[0].1).unwrap_err().code(), codes::TOO_LARGE);
    }
}
