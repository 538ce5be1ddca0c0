//! `/api/v1/webhook-deliveries`: what was sent, what will be, what was given up (`state=dead`), and sending it again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::{ApiResult, Body, Caller, Params, Path, Problem, check_range};
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Webhooks;
use crate::deliveries::{Delivery, State as Standing, Wanted};

pub(super) fn routes() -> OpenApiRouter<Arc<Webhooks>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(replay_all))
        .routes(routes!(get))
        .routes(routes!(replay))
}

/// Which page, of which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Only those that stand there; `dead` lists what was given up.
    #[param(inline, example = "dead")]
    state: Option<Standing>,
    /// Only those to this webhook.
    #[param(pattern = "^[0-9A-Za-z]{1,64}$")]
    webhook_id: Option<String>,
    /// Deliveries a page, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, example = 20)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// Where an earlier page ended.
    cursor: Option<String>,
}

fn default_limit() -> usize {
    50
}

/// One message to one webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct DeliveryResponse {
    /// Names the delivery; receivers get it as `Watershed-Delivery`.
    id: String,
    webhook_id: String,
    /// The id of the event, the same for every webhook and attempt.
    event_id: String,
    /// The type of the event.
    #[serde(rename = "type")]
    kind: String,
    state: Standing,
    /// Attempts since it was made or replayed.
    attempts: u32,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it is sent next, while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    due_at: Option<Timestamp>,
    /// When it was delivered or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// What the receiver answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_status: Option<u16>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// What is sent: a CloudEvent as JSON text.
    body: String,
}

impl From<Delivery> for DeliveryResponse {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            webhook_id: delivery.webhook_id,
            event_id: delivery.event_id,
            kind: delivery.kind,
            state: delivery.state,
            attempts: delivery.attempts,
            created_at: delivery.created_at,
            due_at: delivery.due_at,
            finished_at: delivery.finished_at,
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            body: delivery.body,
        }
    }
}

/// A page of deliveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookDeliveryPage)]
pub struct ListResponse {
    deliveries: Vec<DeliveryResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which dead letters are sent again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookReplay, example = json!({}))]
pub struct ReplayRequest {
    /// Only those to this webhook; all of the tenant where missing.
    #[schema(pattern = "^[0-9A-Za-z]{1,64}$")]
    webhook_id: Option<String>,
}

/// How many are sent again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookReplayed)]
pub struct ReplayResponse {
    replayed: usize,
    /// Whether dead letters are left; ask again for the next.
    more: bool,
}

/// List deliveries, newest first.
#[utoipa::path(get, path = "/api/v1/webhook-deliveries", tag = "webhooks", operation_id = "list_webhook_deliveries",
    params(ListParams),
    responses((status = 200, body = ListResponse)))]
async fn list(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Params(params): Params<ListParams>,
) -> ApiResult<Json<ListResponse>> {
    let ListParams { state, webhook_id, limit, cursor } = params;
    check_range(limit, 1, 1_000, "limit")?;
    let wanted = Wanted { state, webhook_id };
    let (found, next_cursor) = webhooks.deliveries().list(&scope, &wanted, cursor, limit).await?;
    Ok(Json(ListResponse {
        deliveries: found.into_iter().map(DeliveryResponse::from).collect(),
        next_cursor,
    }))
}

/// Read a delivery.
#[utoipa::path(get, path = "/api/v1/webhook-deliveries/{id}", tag = "webhooks",
    operation_id = "get_webhook_delivery",
    params(("id" = String, Path, description = "The id of the delivery, from the list.")),
    responses((status = 200, body = DeliveryResponse)))]
async fn get(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<DeliveryResponse>> {
    Ok(Json(webhooks.deliveries().get(&scope, &id).await?.into()))
}

/// Send a delivered or dead delivery again.
#[utoipa::path(post, path = "/api/v1/webhook-deliveries/{id}/replay", tag = "webhooks",
    operation_id = "replay_webhook_delivery",
    params(("id" = String, Path, description = "The id of the delivery, from the list.")),
    responses((status = 202, description = "It will be sent.", body = DeliveryResponse),
        (status = 409, description = "It is pending: it will be sent in any case.", body = Problem,
        content_type = "application/problem+json")))]
async fn replay(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<DeliveryResponse>)> {
    Ok((StatusCode::ACCEPTED, Json(webhooks.replay(&scope, &id).await?.into())))
}

/// Send dead deliveries again, the oldest first, 1,000 at most.
#[utoipa::path(post, path = "/api/v1/webhook-deliveries/replay", tag = "webhooks",
    operation_id = "replay_webhook_deliveries",
    request_body = ReplayRequest,
    responses((status = 202, description = "They will be sent.", body = ReplayResponse),
        (status = 409, description = "Another replays them at the same time.", body = Problem,
        content_type = "application/problem+json")))]
async fn replay_all(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Body(request): Body<ReplayRequest>,
) -> ApiResult<(StatusCode, Json<ReplayResponse>)> {
    let (replayed, more) = webhooks.replay_dead(&scope, request.webhook_id).await?;
    Ok((StatusCode::ACCEPTED, Json(ReplayResponse { replayed, more })))
}
