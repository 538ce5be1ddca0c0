//! `/api/v1/keys`: make, list, rotate and revoke the API keys of one's own tenant.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kernel::{Permission, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{ApiKey, KeyRing, NewKey};
use crate::openapi::permission;
use crate::{ApiResult, Body, Caller, Params, Path, Problem, check_range};

const DEFAULT_GRACE_SECS: u64 = 3_600;

/// The routes.
pub fn routes(keys: Arc<KeyRing>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(revoke))
        .routes(routes!(rotate))
        .with_state(keys)
}

/// What the key shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "web shop", "permission": "write"}))]
#[schema(as = NewKey)]
pub struct CreateRequest {
    /// For people, 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `read`, `write` or `admin`; each includes those before it.
    #[schema(schema_with = permission)]
    permission: Permission,
    /// When it stops to work; never where missing.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// For how long the secret before still works.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KeyRotation, example = json!({"grace_secs": 600}))]
pub struct RotateRequest {
    /// Seconds; an hour where missing.
    grace_secs: Option<u64>,
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyResponse {
    /// Names the key.
    id: String,
    name: String,
    tenant_id: String,
    /// `read`, `write` or `admin`.
    #[schema(schema_with = permission)]
    permission: Permission,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// To about half a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
}

impl From<ApiKey> for KeyResponse {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            tenant_id: key.tenant.to_string(),
            permission: key.permission,
            created_at: key.created_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
        }
    }
}

/// A key with its secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyWithSecret)]
pub struct SecretResponse {
    /// What callers send. It cannot be read again.
    api_key: String,
    #[serde(flatten)]
    key: KeyResponse,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Keys a page, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, example = 20)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// Where an earlier page ended.
    cursor: Option<String>,
}

fn default_limit() -> usize {
    100
}

/// A page of keys, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyList)]
pub struct ListResponse {
    keys: Vec<KeyResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Make a key.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", operation_id = "create_key",
    request_body = CreateRequest,
    responses((status = 201, body = SecretResponse),
        (status = 409, description = "The tenant has as many keys as it may.", body = Problem,
        content_type = "application/problem+json")))]
async fn create(
    State(keys): State<Arc<KeyRing>>,
    Caller(scope): Caller,
    Body(request): Body<CreateRequest>,
) -> ApiResult<(StatusCode, Json<SecretResponse>)> {
    let CreateRequest { name, permission, expires_at } = request;
    let (key, api_key) = keys.create(&scope, NewKey { name, permission, expires_at }).await?;
    Ok((StatusCode::CREATED, Json(SecretResponse { api_key, key: key.into() })))
}

/// List the keys, also those that ended in the last 30 days.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", operation_id = "list_keys",
    params(ListParams),
    responses((status = 200, body = ListResponse)))]
async fn list(
    State(keys): State<Arc<KeyRing>>,
    Caller(scope): Caller,
    Params(request): Params<ListParams>,
) -> ApiResult<Json<ListResponse>> {
    check_range(request.limit, 1, 1_000, "limit")?;
    let (keys, next_cursor) = keys.page(&scope, request.cursor.as_deref(), request.limit)?;
    Ok(Json(ListResponse { keys: keys.into_iter().map(KeyResponse::from).collect(), next_cursor }))
}

/// End a key for good.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "revoke_key",
    params(("id" = String, Path, description = "The id of the key, from the list.")),
    responses((status = 204)))]
async fn revoke(
    State(keys): State<Arc<KeyRing>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    keys.revoke(&scope, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a key another secret; the one before works on for a while.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys", operation_id = "rotate_key",
    params(("id" = String, Path, description = "The id of the key, from the list.")),
    request_body = RotateRequest,
    responses((status = 200, body = SecretResponse),
        (status = 409, description = "The key is revoked.", body = Problem,
        content_type = "application/problem+json")))]
async fn rotate(
    State(keys): State<Arc<KeyRing>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Body(request): Body<RotateRequest>,
) -> ApiResult<Json<SecretResponse>> {
    let grace = Duration::from_secs(request.grace_secs.unwrap_or(DEFAULT_GRACE_SECS));
    let (key, api_key) = keys.rotate(&scope, &id, grace).await?;
    Ok(Json(SecretResponse { api_key, key: key.into() }))
}
