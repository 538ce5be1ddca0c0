//! `GET /api/v1/models/{name}/history`: what was done to a model, newest first.

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller, PageParams, Params, Path};
use kernel::Timestamp;
use models::registered::Change;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::time;
use crate::ModelRegistry;

pub(super) fn routes() -> OpenApiRouter<ModelRegistry> {
    OpenApiRouter::new().routes(routes!(history))
}

/// One thing that was done to a model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelChange)]
pub struct ChangeResponse {
    /// 1 for the first.
    sequence: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The name of a credential, or `system:` and the part of Watershed.
    actor: String,
    /// Such as `promoted`, `rolled_back`, `version_created`.
    action: String,
    /// The alias that moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// The version that the alias pointed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    from_version: Option<u64>,
    /// The version that it points at, or that was made or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_version: Option<u64>,
    /// Why.
    reason: String,
}

impl From<Change> for ChangeResponse {
    fn from(change: Change) -> Self {
        let Change { sequence, at_ms, actor, action, alias, from, to, reason, .. } = change;
        Self { sequence, at: time(at_ms), actor, action, alias, from_version: from, to_version: to, reason }
    }
}

/// A page of changes, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelHistory)]
pub struct HistoryResponse {
    changes: Vec<ChangeResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List what was done to a model, newest first.
#[utoipa::path(get, path = "/api/v1/models/{name}/history", tag = "models", operation_id = "list_model_history",
    params(("name" = String, Path, description = "The registered model."), PageParams),
    responses((status = 200, body = HistoryResponse)))]
async fn history(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<HistoryResponse>> {
    let (cursor, limit) = params.checked()?;
    let (changes, next_cursor) = registry.models.history(&scope, &name, cursor, limit).await?;
    Ok(Json(HistoryResponse { changes: changes.into_iter().map(Into::into).collect(), next_cursor }))
}
