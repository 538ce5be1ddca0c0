//! `GET /api/v1/models` and `/api/v1/models/{name}`: what is registered, and what of it answers.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller, Path};
use kernel::{Permission, Timestamp};
use models::registered::{CHAMPION, RegisteredModel};
use models::tracking::Search;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{Runtime, Selector};

/// The longest list; MLflow's search goes through more, page by page.
const MODELS_MAX: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<Runtime> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// A registered model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServedModel)]
pub struct ModelEntry {
    name: String,
    /// The one that the alias `champion` points at, else the newest; 0 where there is none.
    version: u64,
    /// The stage of that version.
    stage: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    /// The version that each alias points at.
    aliases: BTreeMap<String, u64>,
    /// The version that answers for `champion` here, where it is in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    serving_version: Option<u64>,
    /// Why the version of `champion` does not answer here.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl ModelEntry {
    fn of(model: RegisteredModel, standing: (Option<u64>, Option<String>)) -> Self {
        let version = model.aliases.get(CHAMPION).copied().unwrap_or(model.latest_version);
        Self {
            version,
            stage: model.stage(version).name(),
            created_at: Timestamp::from_millisecond(model.created_ms).unwrap_or(Timestamp::UNIX_EPOCH),
            name: model.name,
            description: model.description,
            aliases: model.aliases,
            serving_version: standing.0,
            fault: standing.1,
        }
    }
}

/// List registered models by name, 1,000 at most.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", operation_id = "list_models",
    responses((status = 200, body = Vec<ModelEntry>)))]
async fn list(State(runtime): State<Runtime>, Caller(scope): Caller) -> ApiResult<Json<Vec<ModelEntry>>> {
    scope.require(Permission::Read)?;
    let search = Search { max_results: MODELS_MAX, ..Search::default() };
    let found = runtime.models().search(&scope, &search).await?.subjects;
    let entry = |model: RegisteredModel| {
        let standing = runtime.standing(&scope, &model.name, Selector::default());
        ModelEntry::of(model, standing)
    };
    Ok(Json(found.into_iter().map(entry).collect()))
}

/// Get a registered model, and what of it answers here.
#[utoipa::path(get, path = "/api/v1/models/{name}", tag = "models", operation_id = "get_model",
    params(("name" = String, Path, description = "The registered model.")),
    responses((status = 200, body = ModelEntry)))]
async fn get(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path(name): Path<String>,
) -> ApiResult<Json<ModelEntry>> {
    scope.require(Permission::Read)?;
    let model = runtime.models().model(&scope, &name).await?;
    let standing = runtime.standing(&scope, &model.name, Selector::default());
    Ok(Json(ModelEntry::of(model, standing)))
}
