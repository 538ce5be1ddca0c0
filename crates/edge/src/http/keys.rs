//! `/api/v1/keys`: make, list, rotate and revoke the API keys of one's own tenant.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use kernel::{Permission, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{ApiKey, KeyRing, NewKey};
use crate::{ApiResult, Body, Caller, Problem};

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
pub struct CreateRequest {
    /// For people, 1 to 100 bytes.
    name: String,
    /// `read`, `write` or `admin`; each includes those before it.
    #[schema(value_type = String)]
    permission: Permission,
    /// When it stops to work; never where missing.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

/// For how long the secret before still works.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// An hour where missing.
    grace_secs: Option<u64>,
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyResponse {
    /// Names the key.
    id: String,
    name: String,
    tenant_id: String,
    /// `read`, `write` or `admin`.
    #[schema(value_type = String)]
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
pub struct SecretResponse {
    /// What callers send. It cannot be read again.
    api_key: String,
    #[serde(flatten)]
    key: KeyResponse,
}

/// Keys, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListResponse {
    keys: Vec<KeyResponse>,
}

/// Make a key.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = CreateRequest,
    responses((status = 201, body = SecretResponse), (status = "4XX", body = Problem)))]
async fn create(
    State(keys): State<Arc<KeyRing>>,
    Caller(scope): Caller,
    Body(request): Body<CreateRequest>,
) -> ApiResult<(StatusCode, Json<SecretResponse>)> {
    let CreateRequest { name, permission, expires_at } = request;
    let (key, api_key) = keys.create(&scope, NewKey { name, permission, expires_at }).await?;
    Ok((StatusCode::CREATED, Json(SecretResponse { api_key, key: key.into() })))
}

/// List the keys, also those that work no more.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys",
    responses((status = 200, body = ListResponse), (status = "4XX", body = Problem)))]
async fn list(State(keys): State<Arc<KeyRing>>, Caller(scope): Caller) -> ApiResult<Json<ListResponse>> {
    Ok(Json(ListResponse { keys: keys.list(&scope)?.into_iter().map(KeyResponse::from).collect() }))
}

/// End a key for good.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path,)),
    responses((status = 204), (status = "4XX", body = Problem)))]
async fn revoke(
    State(keys): State<Arc<KeyRing>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    keys.revoke(&scope, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a key another secret; the one before works on for a while.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys", params(("id" = String, Path,)),
    request_body = RotateRequest,
    responses((status = 200, body = SecretResponse), (status = "4XX", body = Problem)))]
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
