//! `/api/v1/market/dead-letters`: what the stages refused, newest first, with its reason; and replay.
//!
//! A replay sends the message through the stages again, under a new id that names the old one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::{ApiResult, Caller, Params, Path, check_range};
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::Outcome;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use crate::service::{STAGES, StageLetter};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(replay))
}

/// Which letters.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// `normalization`, `enrichment`, `aggregation` or `projection`.
    #[serde(default = "default_stage")]
    #[param(example = "normalization")]
    stage: String,
    /// Letters a page, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, example = 20)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// Where an earlier page ended.
    cursor: Option<String>,
}

fn default_stage() -> String {
    STAGES[0].0.to_owned()
}

fn default_limit() -> usize {
    50
}

/// One refused message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketDeadLetter)]
pub struct LetterResponse {
    /// Names the letter.
    id: String,
    /// The stage that refused it.
    stage: String,
    /// The stable code of the reason.
    code: String,
    /// The reason, with the field.
    reason: String,
    /// The topic of the message.
    topic: String,
    partition: u32,
    offset: u64,
    event_id: String,
    /// When the message says that it happened, or came where it does not say.
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    /// The message as it came, with its event; none where it is too large.
    #[schema(value_type = Option<Value>)]
    event: Option<Box<RawValue>>,
}

impl From<StageLetter> for LetterResponse {
    fn from(found: StageLetter) -> Self {
        let StageLetter { id, letter, occurred_at } = found;
        Self {
            id,
            stage: letter.topology,
            code: letter.code,
            reason: letter.reason,
            topic: letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            event_id: letter.event_id,
            occurred_at,
            event: letter.event,
        }
    }
}

/// A page of refused messages, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketDeadLetterPage)]
pub struct ListResponse {
    dead_letters: Vec<LetterResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What became of a replay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketReplay)]
pub struct ReplayResponse {
    /// `stored`, or `duplicate` where it was replayed in the same millisecond.
    status: &'static str,
    partition: u32,
    offset: u64,
}

/// List what a stage refused, newest first.
#[utoipa::path(get, path = "/api/v1/market/dead-letters", tag = "market", operation_id = "list_market_dead_letters",
    params(ListParams),
    responses((status = 200, body = ListResponse)))]
async fn list(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<ListParams>,
) -> ApiResult<Json<ListResponse>> {
    check_range(params.limit, 1, 1_000, "limit")?;
    let letters = state.service.letters();
    let (found, next_cursor) =
        letters.list(&scope, &params.stage, params.cursor.as_deref(), params.limit).await?;
    let dead_letters = found.into_iter().map(LetterResponse::from).collect();
    Ok(Json(ListResponse { dead_letters, next_cursor }))
}

/// Read what a stage refused.
#[utoipa::path(get, path = "/api/v1/market/dead-letters/{id}", tag = "market", operation_id = "get_market_dead_letter",
    params(("id" = String, Path, description = "The id of the letter, from the list.")),
    responses((status = 200, body = LetterResponse)))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<LetterResponse>> {
    Ok(Json(state.service.letters().get(&scope, &id).await?.into()))
}

/// Send what a stage refused through it again.
#[utoipa::path(post, path = "/api/v1/market/dead-letters/{id}/replay", tag = "market",
    operation_id = "replay_market_dead_letter",
    params(("id" = String, Path, description = "The id of the letter, from the list.")),
    responses((status = 202, description = "It is taken in again.", body = ReplayResponse)))]
async fn replay(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<ReplayResponse>)> {
    let place = state.service.letters().replay(&scope, &id, state.ingest.clock().now()).await?;
    let status = if place.outcome == Outcome::New { "stored" } else { "duplicate" };
    Ok((
        StatusCode::ACCEPTED,
        Json(ReplayResponse { status, partition: place.partition, offset: place.offset }),
    ))
}
