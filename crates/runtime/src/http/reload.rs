//! `POST /reload`, as the operators' guide has it: look now at where aliases point, which is done each `runtime.refresh_ms`
//! anyway. What answers is not dropped: there is nothing to load again of a version, which never changes.

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller};
use kernel::Permission;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::Runtime;
use crate::loading::Standing;

pub(super) fn routes() -> OpenApiRouter<Runtime> {
    OpenApiRouter::new().routes(routes!(reload))
}

/// What answers for an alias that somebody asked for lately.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReloadedModel)]
pub struct ReloadedModel {
    name: String,
    alias: String,
    /// The version that answers, where it is in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    serving_version: Option<u64>,
    /// Why the version that the alias points at does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl From<Standing> for ReloadedModel {
    fn from(standing: Standing) -> Self {
        let Standing { model, alias, version, fault } = standing;
        Self { name: model, alias, serving_version: version, fault }
    }
}

/// What answers on this server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reloaded)]
pub struct ReloadResponse {
    /// `reloaded`, or `degraded` where a version does not answer.
    status: &'static str,
    /// By name and alias; those that somebody asked this server for lately.
    models: Vec<ReloadedModel>,
}

/// Look now at where the aliases of models point, and try versions again that could not be served.
#[utoipa::path(post, path = "/reload", tag = "models", operation_id = "reload_models",
    responses((status = 200, body = ReloadResponse)))]
async fn reload(State(runtime): State<Runtime>, Caller(scope): Caller) -> ApiResult<Json<ReloadResponse>> {
    scope.require(Permission::Admin)?;
    let models: Vec<ReloadedModel> =
        runtime.look_now(&scope).await.into_iter().map(ReloadedModel::from).collect();
    let is_whole = models.iter().all(|model| model.fault.is_none());
    Ok(Json(ReloadResponse { status: if is_whole { "reloaded" } else { "degraded" }, models }))
}
