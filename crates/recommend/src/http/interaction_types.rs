//! `/api/v1/interaction-types`: what users can do, and how much each says.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::{ApiResult, Body, Caller, Path, Problem};
use kernel::{Error, ErrorCode, ErrorKind, Permission, Scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{HttpState, check_tenant};
use crate::events::{InteractionTypeData, InteractionTypeName, kinds};
use crate::views::InteractionType;

/// The interaction type is not registered.
pub const INTERACTION_TYPE_NOT_FOUND: ErrorCode = ErrorCode {
    name: "INTERACTION_TYPE_NOT_FOUND",
    kind: ErrorKind::NotFound,
    title: "There is no such interaction type",
};

/// The interaction type is registered already.
pub const INTERACTION_TYPE_EXISTS: ErrorCode = ErrorCode {
    name: "INTERACTION_TYPE_EXISTS",
    kind: ErrorKind::Conflict,
    title: "There is an interaction type of that name already",
};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(list, register)).routes(routes!(read, update, delete))
}

/// A type to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"interaction_type": "share", "weight": 2.5, "description": "sent to a friend"}))]
#[schema(as = NewInteractionType)]
pub struct RegisterRequest {
    /// 1 to 100 bytes.
    #[schema(min_length = 1, max_length = 100)]
    interaction_type: String,
    /// How much one says, −1,000,000 to 1,000,000; negative for a dislike.
    #[schema(minimum = -1_000_000, maximum = 1_000_000)]
    weight: f64,
    /// For people, at most 1,000 bytes.
    #[schema(max_length = 1_000)]
    description: Option<String>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// What a type is from now on. Interactions recorded before count as they did when the model was trained last.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InteractionTypeReplacement, example = json!({"weight": 3.0, "description": "sent to a friend"}))]
pub struct UpdateRequest {
    /// How much one says, −1,000,000 to 1,000,000; negative for a dislike.
    #[schema(minimum = -1_000_000, maximum = 1_000_000)]
    weight: f64,
    /// For people, at most 1,000 bytes.
    #[schema(max_length = 1_000)]
    description: Option<String>,
}

/// A type of interaction.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InteractionType)]
pub struct TypeResponse {
    interaction_type: String,
    weight: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    tenant_id: String,
}

/// Every type of the tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InteractionTypeList)]
pub struct ListResponse {
    interaction_types: Vec<TypeResponse>,
    total: usize,
}

impl TypeResponse {
    fn of(scope: &Scope, kind: &InteractionType) -> Self {
        Self {
            interaction_type: kind.name.to_string(),
            weight: kind.weight,
            description: kind.description.as_deref().map(str::to_owned),
            tenant_id: scope.tenant().to_string(),
        }
    }
}

/// List the types.
#[utoipa::path(get, path = "/api/v1/interaction-types", tag = "interaction types",
        operation_id = "list_interaction_types",
    responses((status = 200, body = ListResponse)))]
async fn list(State(state): State<HttpState>, Caller(scope): Caller) -> ApiResult<Json<ListResponse>> {
    scope.require(Permission::Read)?;
    let view = state.views.of(&scope);
    let view = view.read();
    let kinds = view.interaction_types.all().iter().filter(|kind| !kind.deleted);
    let interaction_types: Vec<_> = kinds.map(|kind| TypeResponse::of(&scope, kind)).collect();
    let total = interaction_types.len();
    Ok(Json(ListResponse { interaction_types, total }))
}

/// Register a type. One that exists is changed with PUT.
#[utoipa::path(post, path = "/api/v1/interaction-types", tag = "interaction types",
        operation_id = "register_interaction_type",
    request_body = RegisterRequest,
    responses((status = 201, body = TypeResponse), (status = 409, description = "It is registered already.",
        body = Problem, content_type = "application/problem+json")))]
async fn register(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Body(request): Body<RegisterRequest>,
) -> ApiResult<(StatusCode, Json<TypeResponse>)> {
    scope.require(Permission::Write)?;
    check_tenant(&scope, request.tenant_id.as_deref())?;
    let RegisterRequest { interaction_type, weight, description, .. } = request;
    if find(&state, &scope, &interaction_type).is_ok() {
        let message = format!("`{}` is registered; use PUT to change it", interaction_type.escape_debug());
        return Err(Error::new(INTERACTION_TYPE_EXISTS, message).with_field("interaction_type").into());
    }
    let data = InteractionTypeData { interaction_type, weight, description };
    state.writer.write(&scope, kinds::INTERACTION_TYPE_PUT, None, None, &data).await?;
    Ok((StatusCode::CREATED, Json(find(&state, &scope, &data.interaction_type)?)))
}

/// Read a type.
#[utoipa::path(get, path = "/api/v1/interaction-types/{type}", tag = "interaction types",
        operation_id = "get_interaction_type",
    params(("type" = String, Path, description = "The name of the type.", example = "share")),
    responses((status = 200, body = TypeResponse)))]
async fn read(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
) -> ApiResult<Json<TypeResponse>> {
    scope.require(Permission::Read)?;
    Ok(Json(find(&state, &scope, &name)?))
}

/// Change a type.
#[utoipa::path(put, path = "/api/v1/interaction-types/{type}", tag = "interaction types",
        operation_id = "replace_interaction_type",
    params(("type" = String, Path, description = "The name of the type.", example = "share")),
        request_body = UpdateRequest,
    responses((status = 200, body = TypeResponse)))]
async fn update(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(request): Body<UpdateRequest>,
) -> ApiResult<Json<TypeResponse>> {
    scope.require(Permission::Write)?;
    find(&state, &scope, &name)?;
    let data = InteractionTypeData {
        interaction_type: name,
        weight: request.weight,
        description: request.description,
    };
    state.writer.write(&scope, kinds::INTERACTION_TYPE_PUT, None, None, &data).await?;
    Ok(Json(find(&state, &scope, &data.interaction_type)?))
}

/// Delete a type: interactions of it are refused from then on.
#[utoipa::path(delete, path = "/api/v1/interaction-types/{type}", tag = "interaction types",
        operation_id = "delete_interaction_type",
    params(("type" = String, Path, description = "The name of the type.", example = "share")),
    responses((status = 204)))]
async fn delete(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    scope.require(Permission::Write)?;
    find(&state, &scope, &name)?;
    let data = InteractionTypeName { interaction_type: name };
    state.writer.write(&scope, kinds::INTERACTION_TYPE_DELETED, None, None, &data).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn find(state: &HttpState, scope: &Scope, name: &str) -> Result<TypeResponse, Error> {
    let view = state.views.of(scope);
    let view = view.read();
    let kind =
        view.interaction_types.find(name).map(|index| &view.interaction_types.all()[usize::from(index)]);
    kind.map(|kind| TypeResponse::of(scope, kind)).ok_or_else(|| {
        let message = format!("`{}` is not registered", name.escape_debug());
        Error::new(INTERACTION_TYPE_NOT_FOUND, message).with_field("interaction_type")
    })
}
