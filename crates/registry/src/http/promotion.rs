//! `POST /api/v1/models/{name}/promote` and `/rollback`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Body, Caller, Path, Problem};
use kernel::{Error, Permission, Result, codes};
use models::registered::{CHAMPION, Promotion, RegisteredModel, Stage, Wanted};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::ModelRegistry;

pub(super) fn routes() -> OpenApiRouter<ModelRegistry> {
    OpenApiRouter::new().routes(routes!(promote)).routes(routes!(rollback))
}

/// A promotion. Where neither `version` nor `run_id` is given, the `canary` is promoted, else the newest version.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ModelPromotion, example = json!({"version": 2, "stage": "Production", "expected_version": 1}))]
pub struct PromoteRequest {
    /// The version that is promoted.
    #[schema(minimum = 1)]
    version: Option<u64>,
    /// The newest version that came from this run.
    run_id: Option<String>,
    /// `Production` (the alias `champion`) or `Staging` (`canary`).
    stage: Option<String>,
    /// The alias that moves, in place of a stage; `champion` where neither is given.
    alias: Option<String>,
    /// The version that the alias points at now, 0 for none. Where it points elsewhere, nothing happens and the answer is
    /// 409: another was first.
    expected_version: Option<u64>,
    /// Why, for the history.
    #[serde(default)]
    #[schema(max_length = 1_000)]
    reason: String,
}

/// A rollback.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ModelRollback, example = json!({"reason": "worse loss"}))]
pub struct RollbackRequest {
    /// The alias that goes back; `champion` where missing.
    alias: Option<String>,
    /// The version that it points at now. Where it points elsewhere, nothing happens and the answer is 409.
    expected_version: Option<u64>,
    /// Why, for the history.
    #[serde(default)]
    #[schema(max_length = 1_000)]
    reason: String,
}

/// Where the aliases of a model point now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelAliases)]
pub struct AliasesResponse {
    name: String,
    /// The version that each alias points at.
    aliases: BTreeMap<String, u64>,
}

impl From<RegisteredModel> for AliasesResponse {
    fn from(model: RegisteredModel) -> Self {
        Self { name: model.name, aliases: model.aliases }
    }
}

/// The alias that a stage or an alias names.
///
/// # Errors
/// `VALIDATION_ERROR` where both are given, or a stage has no alias.
pub fn alias_of(stage: Option<&str>, alias: Option<&str>) -> Result<String> {
    let fault = |message: &str| Error::new(codes::VALIDATION_ERROR, message).with_field("stage");
    match (stage, alias) {
        (Some(_), Some(_)) => Err(fault("give a stage or an alias, not both")),
        (None, alias) => Ok(alias.unwrap_or(CHAMPION).to_owned()),
        (Some(stage), None) => {
            let alias = Stage::parse(stage).and_then(Stage::alias);
            alias.map(str::to_owned).ok_or_else(|| fault("is one of Production, Staging"))
        }
    }
}

/// Point an alias of a model at a version.
#[utoipa::path(post, path = "/api/v1/models/{name}/promote", tag = "models", operation_id = "promote_model",
    params(("name" = String, Path, description = "The registered model.")),
    request_body = PromoteRequest,
    responses((status = 200, body = AliasesResponse),
        (status = 409, description = "another promotion was first, or the model is managed by the server",
            body = Problem, content_type = "application/problem+json")))]
async fn promote(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(asked): Body<PromoteRequest>,
) -> ApiResult<Json<AliasesResponse>> {
    scope.require(Permission::Admin)?;
    let wanted = match (asked.version, asked.run_id) {
        (Some(_), Some(_)) => {
            let message = "give a version or a run, not both";
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("run_id").into());
        }
        (Some(version), None) => Wanted::Version(version),
        (None, Some(run)) => Wanted::OfRun(run),
        (None, None) => Wanted::Next,
    };
    let alias = alias_of(asked.stage.as_deref(), asked.alias.as_deref())?;
    let promotion = Promotion { wanted, alias, expected: asked.expected_version, reason: asked.reason };
    Ok(Json(registry.models.promote(&scope, &name, &promotion).await?.into()))
}

/// Point an alias of a model back at where it pointed before its last promotion.
#[utoipa::path(post, path = "/api/v1/models/{name}/rollback", tag = "models", operation_id = "rollback_model",
    params(("name" = String, Path, description = "The registered model.")),
    request_body = RollbackRequest,
    responses((status = 200, body = AliasesResponse),
        (status = 409, description = "the alias is elsewhere, there is nothing to go back to, or the model is managed",
            body = Problem, content_type = "application/problem+json")))]
async fn rollback(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(asked): Body<RollbackRequest>,
) -> ApiResult<Json<AliasesResponse>> {
    scope.require(Permission::Admin)?;
    let alias = alias_of(None, asked.alias.as_deref())?;
    let (expected, reason) = (asked.expected_version, asked.reason);
    Ok(Json(registry.models.rollback(&scope, &name, &alias, expected, &reason).await?.into()))
}
