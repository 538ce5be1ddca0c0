//! `POST /api/v1/market/validate`: what would become of a message. Nothing of it is kept.

use axum::Json;
use axum::extract::{Request, State};
use edge::extract::{check_encoding, read_all};
use edge::{ApiResult, Caller};
use kernel::{Error, Permission, codes};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use super::ticks::example;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(post))
}

/// What would become of a message.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TickVerdict)]
pub struct VerdictResponse {
    /// Whether it would become a price, a quote or part of a bar.
    valid: bool,
    /// The feed that reads it (`market.feeds`); none where the mapping does.
    feed: Option<String>,
    /// The guide's flags; empty where it is no tick.
    quality_flags: Vec<String>,
    /// Why it would be a dead letter.
    errors: Vec<ErrorLine>,
    /// The tick, as the topic of enriched ticks would have it; none where it is no tick.
    #[schema(value_type = Option<BTreeMap<String, Value>>)]
    tick: Option<Value>,
}

/// Why a message would be a dead letter.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TickFault)]
pub struct ErrorLine {
    /// The stage that would refuse it.
    stage: &'static str,
    /// The stable code.
    code: &'static str,
    /// With the field.
    message: String,
}

/// Say what would become of a raw tick, without storing it.
#[utoipa::path(post, path = "/api/v1/market/validate", tag = "market", operation_id = "validate_market_tick",
    request_body(content((BTreeMap<String, Value> = "application/json", example = json!(example())))),
    responses((status = 200, body = VerdictResponse)))]
async fn post(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    request: Request,
) -> ApiResult<Json<VerdictResponse>> {
    scope.require(Permission::Read)?;
    check_encoding(request.headers())?;
    let body = read_all(request, &()).await?;
    let text = std::str::from_utf8(&body)
        .map_err(|cause| Error::new(codes::INVALID_REQUEST, format!("the body is not UTF-8: {cause}")))?;
    let verdict = state.service.validate(&scope, text, state.ingest.clock().now())?;
    let flags = verdict.tick.as_ref().and_then(|tick| tick.payload.quality_flags.clone()).unwrap_or_default();
    let tick = verdict.tick.as_ref().map(serde_json::to_value).transpose().map_err(Error::internal)?;
    let errors = verdict.refused.into_iter();
    let errors: Vec<ErrorLine> = errors
        .map(|would| ErrorLine { stage: would.stage, code: would.code, message: would.reason })
        .collect();
    Ok(Json(VerdictResponse {
        valid: errors.is_empty(),
        feed: verdict.feed,
        quality_flags: flags.into_iter().map(String::from).collect(),
        errors,
        tick,
    }))
}
