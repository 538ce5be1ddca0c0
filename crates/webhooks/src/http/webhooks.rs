//! `/api/v1/webhooks`: make, list, read, change, remove and try webhooks, and give them other secrets.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::{ApiResult, Body, Caller, Path, Problem};
use kernel::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::deliveries::DeliveryResponse;
use crate::Webhooks;
use crate::subscriptions::{Change, Kind, NewWebhook, Webhook};

const DEFAULT_GRACE_SECS: u64 = 24 * 3_600;

pub(super) fn routes() -> OpenApiRouter<Arc<Webhooks>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, update, remove))
        .routes(routes!(test))
        .routes(routes!(rotate))
}

/// What the webhook shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewWebhook, example = json!({
    "url": "https://hooks.example.com/watershed", "events": ["model.updated"], "description": "tells the team"
}))]
pub struct CreateRequest {
    /// Where messages go: `https://`, and a public address unless the settings allow others.
    #[schema(max_length = 2048)]
    url: String,
    /// What it wants to hear of.
    #[schema(min_items = 1)]
    events: Vec<Kind>,
    /// For people, at most 500 bytes.
    #[serde(default)]
    #[schema(max_length = 500)]
    description: String,
    /// Whether messages are sent; true where missing.
    #[serde(default = "yes")]
    active: bool,
}

fn yes() -> bool {
    true
}

/// What shall be different; what is missing stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookChange, example = json!({"active": false}))]
pub struct UpdateRequest {
    /// Where messages go.
    #[schema(max_length = 2048)]
    url: Option<String>,
    /// What it wants to hear of.
    #[schema(min_items = 1)]
    events: Option<Vec<Kind>>,
    /// For people, at most 500 bytes.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Whether messages are sent. What is pending when a webhook is switched off becomes a dead letter.
    active: Option<bool>,
}

/// How long the secret before signs on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookRotation, example = json!({"grace_secs": 3600}))]
pub struct RotateRequest {
    /// Seconds in which messages are signed with the secret before too; a day where missing, 0 for not at all.
    #[serde(default)]
    #[schema(maximum = 604_800)]
    grace_secs: Option<u64>,
}

/// A webhook, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct WebhookResponse {
    /// Names the webhook.
    id: String,
    url: String,
    events: Vec<Kind>,
    description: String,
    active: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Until when messages are signed with the secret before too, since the last rotation; missing without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    previous_secret_until: Option<Timestamp>,
}

impl From<Webhook> for WebhookResponse {
    fn from(webhook: Webhook) -> Self {
        let Webhook { id, url, events, description, active, created_at, updated_at, made: _, before } =
            webhook;
        let previous_secret_until = before.map(|before| before.until);
        Self { id, url, events, description, active, created_at, updated_at, previous_secret_until }
    }
}

/// A webhook with its secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookWithSecret)]
pub struct SecretResponse {
    /// What messages are signed with: `Watershed-Signature: t=UNIX,v1=HEX`, where `v1` is HMAC-SHA256 under this text over
    /// `t`, a full stop and the body. For a while after a rotation there is a second `v1`, under the secret before. It
    /// cannot be read again.
    secret: String,
    #[serde(flatten)]
    webhook: WebhookResponse,
}

/// Webhooks, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookList)]
pub struct ListResponse {
    webhooks: Vec<WebhookResponse>,
}

/// Make a webhook.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks", operation_id = "create_webhook",
    request_body = CreateRequest,
    responses((status = 201, body = SecretResponse),
        (status = 409, description = "The tenant has as many webhooks as it may have.", body = Problem,
        content_type = "application/problem+json")))]
async fn create(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Body(request): Body<CreateRequest>,
) -> ApiResult<(StatusCode, Json<SecretResponse>)> {
    let CreateRequest { url, events, description, active } = request;
    let new = NewWebhook { url, events, description, active };
    let (webhook, secret) = webhooks.subscriptions().create(&scope, new).await?;
    Ok((StatusCode::CREATED, Json(SecretResponse { secret, webhook: webhook.into() })))
}

/// List the webhooks.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks", operation_id = "list_webhooks",
    responses((status = 200, body = ListResponse)))]
async fn list(State(webhooks): State<Arc<Webhooks>>, Caller(scope): Caller) -> ApiResult<Json<ListResponse>> {
    let found = webhooks.subscriptions().list(&scope).await?;
    Ok(Json(ListResponse { webhooks: found.into_iter().map(WebhookResponse::from).collect() }))
}

/// Read a webhook.
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "get_webhook",
    params(("id" = String, Path, description = "The id of the webhook, from the list.")),
    responses((status = 200, body = WebhookResponse)))]
async fn get(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<WebhookResponse>> {
    Ok(Json(webhooks.subscriptions().get(&scope, &id).await?.into()))
}

/// Change a webhook.
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "update_webhook",
    params(("id" = String, Path, description = "The id of the webhook, from the list.")),
    request_body = UpdateRequest,
    responses((status = 200, body = WebhookResponse),
        (status = 409, description = "Another changed it at the same time.", body = Problem,
        content_type = "application/problem+json")))]
async fn update(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Body(request): Body<UpdateRequest>,
) -> ApiResult<Json<WebhookResponse>> {
    let UpdateRequest { url, events, description, active } = request;
    let change = Change { url, events, description, active };
    Ok(Json(webhooks.subscriptions().update(&scope, &id, change).await?.into()))
}

/// Remove a webhook.
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "delete_webhook",
    params(("id" = String, Path, description = "The id of the webhook, from the list.")),
    responses((status = 204),
        (status = 409, description = "Another changed it at the same time.", body = Problem,
        content_type = "application/problem+json")))]
async fn remove(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    webhooks.subscriptions().delete(&scope, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a webhook a message of the type `webhook.test`.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks", operation_id = "test_webhook",
    params(("id" = String, Path, description = "The id of the webhook, from the list.")),
    responses((status = 202, description = "It is written down and will be sent.", body = DeliveryResponse),
        (status = 409, description = "The webhook is not active.", body = Problem,
        content_type = "application/problem+json")))]
async fn test(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<DeliveryResponse>)> {
    Ok((StatusCode::ACCEPTED, Json(webhooks.test(&scope, &id).await?.into())))
}

/// Give a webhook another secret; messages are signed with the one before too for a while.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/rotate-secret", tag = "webhooks",
    operation_id = "rotate_webhook_secret",
    params(("id" = String, Path, description = "The id of the webhook, from the list.")),
    request_body = RotateRequest,
    responses((status = 200, body = SecretResponse),
        (status = 409, description = "Another changed it at the same time.", body = Problem,
        content_type = "application/problem+json")))]
async fn rotate(
    State(webhooks): State<Arc<Webhooks>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Body(request): Body<RotateRequest>,
) -> ApiResult<Json<SecretResponse>> {
    let grace = Duration::from_secs(request.grace_secs.unwrap_or(DEFAULT_GRACE_SECS));
    let (webhook, secret) = webhooks.subscriptions().rotate(&scope, &id, grace).await?;
    Ok(Json(SecretResponse { secret, webhook: webhook.into() }))
}
