//! `GET /api/v1/dead-letters`, `GET` and `DELETE /api/v1/dead-letters/{id}`: what was refused, and why.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kernel::{Error, Permission, codes};
use serde::Serialize;
use store::{DeadLetter, DeadLetters};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{ApiResult, Caller, PageParams, Params, Path};

/// The routes.
pub fn routes(dead_letters: DeadLetters) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, remove)).with_state(dead_letters)
}

/// One refused thing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct Letter {
    /// Unique in the tenant.
    id: String,
    /// When it was refused.
    #[schema(value_type = String, format = DateTime)]
    refused_at: kernel::Timestamp,
    /// Where: `edge` or the topic of the log.
    stage: String,
    /// The stable code of the reason.
    code: String,
    /// The reason.
    reason: String,
    /// The event's type, where it had one.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// The event's id, where it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    /// What was sent, cut to 16 KiB.
    body: String,
}

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { id, refused_at, stage, code, reason, kind, event_id, body } = letter;
        Self { id, refused_at, stage, code, reason, kind, event_id, body }
    }
}

/// A page of refused things, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeadLetterPage)]
pub struct Response {
    dead_letters: Vec<Letter>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List what was refused, newest first.
#[utoipa::path(get, path = "/api/v1/dead-letters", tag = "events", operation_id = "list_dead_letters",
    params(PageParams),
    responses((status = 200, body = Response)))]
async fn list(
    State(dead_letters): State<DeadLetters>,
    Caller(scope): Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<Response>> {
    scope.require(Permission::Admin)?;
    let (cursor, limit) = params.checked()?;
    let (letters, next_cursor) = dead_letters.list(&scope, cursor, limit).await?;
    Ok(Json(Response { dead_letters: letters.into_iter().map(Letter::from).collect(), next_cursor }))
}

/// Read one refused thing.
#[utoipa::path(get, path = "/api/v1/dead-letters/{id}", tag = "events", operation_id = "get_dead_letter",
    params(("id" = String, Path, description = "The id of the letter, from the list.")),
    responses((status = 200, body = Letter)))]
async fn get(
    State(dead_letters): State<DeadLetters>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Letter>> {
    scope.require(Permission::Admin)?;
    let letter = dead_letters.get(&scope, &id).await?;
    let missing = || Error::new(codes::NOT_FOUND, format!("there is no dead letter `{id}`"));
    Ok(Json(letter.ok_or_else(missing)?.into()))
}

/// Forget one refused thing.
#[utoipa::path(delete, path = "/api/v1/dead-letters/{id}", tag = "events", operation_id = "delete_dead_letter",
    params(("id" = String, Path, description = "The id of the letter, from the list.")),
    responses((status = 204)))]
async fn remove(
    State(dead_letters): State<DeadLetters>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    scope.require(Permission::Admin)?;
    dead_letters.remove(&scope, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
