//! `DELETE /api/v1/users/{id}/data` forgets a person, `GET /api/v1/erasures` lists who was forgotten, without names.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller, PageParams, Params, Path};
use kernel::{Permission, Timestamp};
use privacy::{Erasure, Progress};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use super::users::user_id;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(erase)).routes(routes!(list))
}

/// How far an erasure is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The keys are gone; views are being told.
    Begun,
    /// No answer knows the person; checkpoints are being replaced.
    Forgotten,
    /// Checkpoints are without the person.
    Complete,
}

/// Someone who was forgotten, without a name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Erasure)]
pub struct ErasureResponse {
    erasure_id: String,
    status: Status,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The name of the credential that asked for it.
    asked_by: String,
    /// Keys that were dropped; what was sealed under them can be read by nobody.
    keys_dropped: usize,
    /// Whether events of the person were in the log unsealed: they count no more, and stay until the log's retention
    /// ends.
    unsealed_events: bool,
}

impl From<Erasure> for ErasureResponse {
    fn from(erasure: Erasure) -> Self {
        Self {
            erasure_id: erasure.id,
            status: match erasure.progress {
                Progress::KeysDropped => Status::Begun,
                Progress::Told => Status::Forgotten,
                Progress::Complete => Status::Complete,
            },
            at: erasure.at,
            asked_by: erasure.actor,
            keys_dropped: erasure.keys.len(),
            unsealed_events: erasure.person.is_some(),
        }
    }
}

/// What was done to forget a person.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErasureOutcome)]
pub struct EraseResponse {
    /// Names the erasure in the list; missing where nothing was held of the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    erasure_id: Option<String>,
    /// Keys that were dropped; what was sealed under them can be read by nobody.
    keys_dropped: usize,
    /// Dead letters that were removed because they named the person.
    dead_letters_removed: usize,
    /// What others held and removed, by what it is: `feature_rows`.
    removed_elsewhere: BTreeMap<String, u64>,
    /// Whether events of the person stay in the log unsealed until its retention ends. They count no more.
    unsealed_events: bool,
    /// Kept answers are out of reach, and gone after so many seconds.
    kept_answers_gone_within_secs: u64,
    /// Models that learned from the person are trained anew, and earlier versions removed, after so many hours.
    models_replaced_within_hours: u32,
}

/// Forget a person: events, profile, consent, histories, states, dead letters; then checkpoints and models. Again is
/// harmless. It cannot be undone.
#[utoipa::path(delete, path = "/api/v1/users/{id}/data", tag = "privacy", operation_id = "erase_user_data",
    params(("id" = String, Path, description = "The id of the user.", example = "ada")),
    responses((status = 200, body = EraseResponse)))]
async fn erase(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<EraseResponse>> {
    scope.require(Permission::Admin)?;
    let id = user_id(&id)?;
    let forgotten = state.forgetting.forget(&scope, id.as_str()).await?;
    Ok(Json(EraseResponse {
        keys_dropped: forgotten.erasure.as_ref().map_or(0, |erasure| erasure.keys.len()),
        erasure_id: forgotten.erasure.map(|erasure| erasure.id),
        dead_letters_removed: forgotten.dead_letters,
        removed_elsewhere: forgotten.elsewhere,
        unsealed_events: forgotten.unsealed,
        kept_answers_gone_within_secs: state.service.kept_for_secs(),
        models_replaced_within_hours: state.forgetting.models_within_hours(),
    }))
}

/// A page of erasures, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErasurePage)]
pub struct ListResponse {
    erasures: Vec<ErasureResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List who was forgotten, newest first, without names.
#[utoipa::path(get, path = "/api/v1/erasures", tag = "privacy", operation_id = "list_erasures",
    params(PageParams),
    responses((status = 200, body = ListResponse)))]
async fn list(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<ListResponse>> {
    scope.require(Permission::Admin)?;
    let (cursor, limit) = params.checked()?;
    let (erasures, next_cursor) = state.forgetting.erasures().list(&scope, cursor, limit).await?;
    Ok(Json(ListResponse {
        erasures: erasures.into_iter().map(ErasureResponse::from).collect(),
        next_cursor,
    }))
}
