//! `/api/v1/users/{id}`: what is known of a user.

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Body, Caller, Path};
use kernel::{Error, ErrorCode, ErrorKind, Id, Permission, Result, Scope, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{HttpState, timestamp};
use crate::attributes::{AttributeValue, Attributes};
use crate::events::{UserData, kinds};

/// Nothing is known of the user.
pub const USER_NOT_FOUND: ErrorCode =
    ErrorCode { name: "USER_NOT_FOUND", kind: ErrorKind::NotFound, title: "Nothing is known of that user" };

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(read, replace))
}

/// What is known of a user from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UserReplacement, example = json!({"attributes": {"country": "GB", "age": 36, "member": true}}))]
pub struct ReplaceRequest {
    /// Replaces all attributes.
    #[serde(default, deserialize_with = "crate::attributes::deserialize_attributes")]
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    attributes: Attributes,
}

/// What is known of a user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserResponse {
    user_id: String,
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    attributes: Attributes,
    /// How many interactions are recorded.
    interactions: usize,
    tenant_id: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Read a user.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users", operation_id = "get_user",
    params(("id" = String, Path, description = "The id of the user.", example = "ada")),
    responses((status = 200, body = UserResponse)))]
async fn read(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<UserResponse>> {
    scope.require(Permission::Read)?;
    Ok(Json(show(&state, &scope, &id)?))
}

/// Describe a user, who is added where unknown.
#[utoipa::path(put, path = "/api/v1/users/{id}", tag = "users", operation_id = "replace_user",
    params(("id" = String, Path, description = "The id of the user.", example = "ada")),
    request_body = ReplaceRequest,
    responses((status = 200, body = UserResponse)))]
async fn replace(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Body(request): Body<ReplaceRequest>,
) -> ApiResult<Json<UserResponse>> {
    let data = UserData { user_id: user_id(&id)?, attributes: request.attributes };
    state.writer.write(&scope, kinds::USER_PUT, None, None, &data).await?;
    Ok(Json(show(&state, &scope, &id)?))
}

/// The id of a user as it stands in an address, whether or not anything is known of them.
pub(super) fn user_id(id: &str) -> Result<Id> {
    Id::new(id).map_err(|error| error.with_field("id"))
}

fn show(state: &HttpState, scope: &Scope, id: &str) -> Result<UserResponse> {
    let view = state.views.of(scope);
    let view = view.read();
    let user =
        view.users.find(id).and_then(|index| view.users.get(index)).ok_or_else(|| user_not_found(id))?;
    Ok(UserResponse {
        user_id: user.id.to_string(),
        attributes: user.attributes.clone(),
        interactions: user.history.len(),
        tenant_id: scope.tenant().to_string(),
        created_at: timestamp(user.created_at_ms),
    })
}

/// The error for a user of whom nothing is known.
pub(crate) fn user_not_found(id: &str) -> Error {
    Error::new(USER_NOT_FOUND, format!("nothing is known of user `{}`", id.escape_debug()))
        .with_field("user_id")
}
