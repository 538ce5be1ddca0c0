//! `/api/v1/entities`: create, replace, patch, read, delete.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use edge::{ApiResult, Body, Caller, Params, Path, Problem};
use kernel::{Error, ErrorCode, ErrorKind, Id, Permission, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::Outcome;
use utoipa::openapi::Ref;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{HttpState, IdempotencyParams, check_tenant, idempotency_key, key_was_used, timestamp};
use crate::attributes::{AttributeValue, Attributes};
use crate::events::{DEFAULT_ENTITY_TYPE, EntityData, EntityName, EntityPatch, kinds};
use crate::owner::{ENTITY_NOT_FOUND, entity_not_found};
use crate::views::{Entities, Entity, Place};

/// The entity exists already.
pub const ENTITY_EXISTS: ErrorCode = ErrorCode {
    name: "ENTITY_EXISTS",
    kind: ErrorKind::Conflict,
    title: "There is an entity of that type and id already",
};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(read, replace, patch, delete))
}

/// An entity to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "entity_id": "film-1", "entity_type": "film",
    "attributes": {"title": "The Long Road", "year": 1994, "genres": ["drama", "crime"], "price": 3.99}
}))]
#[schema(as = NewEntity)]
pub struct CreateRequest {
    /// Unique within its type, 1 to 255 bytes.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    pub(crate) entity_id: Id,
    /// 1 to 100 bytes; `item` where missing.
    #[serde(default = "default_entity_type")]
    #[schema(min_length = 1, max_length = 100)]
    pub(crate) entity_type: String,
    /// Numbers, booleans, texts and lists of texts by name.
    #[serde(default, deserialize_with = "crate::attributes::deserialize_attributes")]
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    pub(crate) attributes: Attributes,
    /// Never recommended while true.
    #[serde(default)]
    pub(crate) hidden: bool,
    /// Not recommended before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) available_from: Option<Timestamp>,
    /// Not recommended from then on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) available_until: Option<Timestamp>,
    /// Must be the credential's tenant where given.
    pub(crate) tenant_id: Option<String>,
}

/// What an entity is from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EntityReplacement, example = json!({
    "attributes": {"title": "The Long Road", "year": 1994, "price": 2.99}
}))]
pub struct ReplaceRequest {
    /// Replaces all attributes.
    #[serde(default, deserialize_with = "crate::attributes::deserialize_attributes")]
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    attributes: Attributes,
    /// Never recommended while true.
    #[serde(default)]
    hidden: bool,
    /// Not recommended before.
    #[schema(value_type = Option<String>, format = DateTime)]
    available_from: Option<Timestamp>,
    /// Not recommended from then on.
    #[schema(value_type = Option<String>, format = DateTime)]
    available_until: Option<Timestamp>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// What changes. A missing field stays as it is; `null` clears (RFC 7396, one level deep).
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it documents the body, which is read as the event's data")]
#[schema(as = EntityPatch, example = json!({"attributes": {"price": 1.99, "genres": null}, "hidden": false}))]
pub struct PatchRequest {
    /// Attributes to set, or to remove where `null`.
    #[schema(schema_with = changed_attributes)]
    attributes: Option<serde_json::Value>,
    /// Whether it is hidden.
    hidden: Option<bool>,
    /// Not recommended before.
    #[schema(value_type = Option<String>, format = DateTime)]
    available_from: Option<serde_json::Value>,
    /// Not recommended from then on.
    #[schema(value_type = Option<String>, format = DateTime)]
    available_until: Option<serde_json::Value>,
}

fn changed_attributes() -> Schema {
    let value = OneOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(SchemaType::Type(Type::Null)))
        .item(Ref::from_schema_name("AttributeValue"));
    let kinds = SchemaType::from_iter([Type::Object, Type::Null]);
    ObjectBuilder::new()
        .schema_type(kinds)
        .additional_properties(Some(Schema::OneOf(value.build())))
        .build()
        .into()
}

/// Which type of entity.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TypeParams {
    /// The entity's type. May be left out where only one type has an entity of that id.
    #[param(example = "film")]
    pub(crate) entity_type: Option<String>,
    /// Must be the credential's tenant where given.
    pub(crate) tenant_id: Option<String>,
}

/// An entity as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Entity)]
pub struct EntityResponse {
    entity_id: String,
    entity_type: String,
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    attributes: Attributes,
    hidden: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    available_from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    available_until: Option<Timestamp>,
    tenant_id: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl EntityResponse {
    pub(crate) fn of(scope: &Scope, entities: &Entities, entity: &Entity) -> Self {
        Self {
            entity_id: entity.id.to_string(),
            entity_type: entities.type_of(entity).to_owned(),
            attributes: entity.attributes.clone(),
            hidden: entity.hidden,
            available_from: entity.available_from_ms.map(timestamp),
            available_until: entity.available_until_ms.map(timestamp),
            tenant_id: scope.tenant().to_string(),
            created_at: timestamp(entity.created_at_ms),
            updated_at: timestamp(entity.updated_at_ms),
        }
    }
}

/// Create an entity.
#[utoipa::path(post, path = "/api/v1/entities", tag = "entities", operation_id = "create_entity",
    request_body = CreateRequest,
    params(IdempotencyParams),
    responses((status = 201, body = EntityResponse), (status = 409,
        description = "It exists already, or the idempotency key was used for another request.",
        body = Problem, content_type = "application/problem+json")))]
async fn create(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    headers: HeaderMap,
    Body(request): Body<CreateRequest>,
) -> ApiResult<(StatusCode, Json<EntityResponse>)> {
    // Before anything is looked up, so that the refusal says nothing of what is there.
    scope.require(Permission::Write)?;
    check_tenant(&scope, request.tenant_id.as_deref())?;
    let data = EntityData::from(request);
    let name = EntityName { entity_id: data.entity_id.clone(), entity_type: data.entity_type.clone() };
    let exists = || {
        let message =
            format!("`{}` of type `{}` exists; use PUT to replace it", name.entity_id, name.entity_type);
        Error::new(ENTITY_EXISTS, message).with_field("entity_id")
    };
    let key = idempotency_key(&headers)?;
    if key.is_none() && find(&state, &scope, Some(&name.entity_type), name.entity_id.as_str()).is_ok() {
        return Err(exists().into());
    }
    let (_, place) = state.writer.write(&scope, kinds::ENTITY_CREATED, key, None, &data).await?;
    let view = state.views.of(&scope);
    let view = view.read();
    let found = view.entities.find(&name.entity_type, name.entity_id.as_str());
    let created = found.and_then(|index| view.entities.get(index)).filter(|entity| entity.exists());
    match created {
        // Another creator was faster: the log put its event first.
        Some(entity) if entity.created_place != Place::new(place.partition, place.offset) => {
            Err(exists().into())
        }
        Some(entity) => Ok((StatusCode::CREATED, Json(EntityResponse::of(&scope, &view.entities, entity)))),
        None if place.outcome == Outcome::Duplicate => Err(key_was_used().into()),
        None => Err(not_shown_yet().into()),
    }
}

/// Read an entity.
#[utoipa::path(get, path = "/api/v1/entities/{id}", tag = "entities", operation_id = "get_entity",
    params(("id" = String, Path, description = "The id of the entity.", example = "film-1"), TypeParams),
    responses((status = 200, body = EntityResponse)))]
async fn read(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<TypeParams>,
) -> ApiResult<Json<EntityResponse>> {
    scope.require(Permission::Read)?;
    check_tenant(&scope, params.tenant_id.as_deref())?;
    let index = find(&state, &scope, params.entity_type.as_deref(), &id)?;
    Ok(Json(show(&state, &scope, index)?))
}

/// Replace an entity.
#[utoipa::path(put, path = "/api/v1/entities/{id}", tag = "entities", operation_id = "replace_entity",
    params(("id" = String, Path, description = "The id of the entity.", example = "film-1"),
        TypeParams, IdempotencyParams),
    request_body = ReplaceRequest,
    responses((status = 200, body = EntityResponse)))]
async fn replace(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<TypeParams>,
    headers: HeaderMap,
    Body(request): Body<ReplaceRequest>,
) -> ApiResult<Json<EntityResponse>> {
    check_tenant(&scope, params.tenant_id.as_deref().or(request.tenant_id.as_deref()))?;
    let index = find(&state, &scope, params.entity_type.as_deref(), &id)?;
    let name = name_of(&state, &scope, index)?;
    let data = EntityData {
        entity_id: name.entity_id,
        entity_type: name.entity_type,
        attributes: request.attributes,
        hidden: request.hidden,
        available_from: request.available_from,
        available_until: request.available_until,
    };
    state.writer.write(&scope, kinds::ENTITY_PUT, idempotency_key(&headers)?, None, &data).await?;
    Ok(Json(show(&state, &scope, index)?))
}

/// Change parts of an entity.
#[utoipa::path(patch, path = "/api/v1/entities/{id}", tag = "entities", operation_id = "patch_entity",
    params(("id" = String, Path, description = "The id of the entity.", example = "film-1"),
        TypeParams, IdempotencyParams),
    request_body = PatchRequest,
    responses((status = 200, body = EntityResponse)))]
async fn patch(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<TypeParams>,
    headers: HeaderMap,
    Body(changes): Body<serde_json::Map<String, serde_json::Value>>,
) -> ApiResult<Json<EntityResponse>> {
    check_tenant(&scope, params.tenant_id.as_deref())?;
    let index = find(&state, &scope, params.entity_type.as_deref(), &id)?;
    let name = name_of(&state, &scope, index)?;
    let mut patch = changes;
    for (field, value) in [("entity_id", name.entity_id.to_string()), ("entity_type", name.entity_type)] {
        if patch.insert(field.to_owned(), value.into()).is_some() {
            return Err(Error::new(codes::VALIDATION_ERROR, "cannot be changed").with_field(field).into());
        }
    }
    let text = serde_json::to_vec(&patch).map_err(Error::internal)?;
    let patch: EntityPatch = edge::extract::parse(&text, codes::VALIDATION_ERROR)?;
    state.writer.write(&scope, kinds::ENTITY_PATCHED, idempotency_key(&headers)?, None, &patch).await?;
    Ok(Json(show(&state, &scope, index)?))
}

/// Delete an entity. It is never recommended again; what users did with it is kept.
#[utoipa::path(delete, path = "/api/v1/entities/{id}", tag = "entities", operation_id = "delete_entity",
    params(("id" = String, Path, description = "The id of the entity.", example = "film-1"),
        TypeParams, IdempotencyParams),
    responses((status = 204)))]
async fn delete(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<TypeParams>,
    headers: HeaderMap,
) -> ApiResult<StatusCode> {
    check_tenant(&scope, params.tenant_id.as_deref())?;
    let index = find(&state, &scope, params.entity_type.as_deref(), &id)?;
    let name = name_of(&state, &scope, index)?;
    state.writer.write(&scope, kinds::ENTITY_DELETED, idempotency_key(&headers)?, None, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<CreateRequest> for EntityData {
    fn from(request: CreateRequest) -> Self {
        Self {
            entity_id: request.entity_id,
            entity_type: request.entity_type,
            attributes: request.attributes,
            hidden: request.hidden,
            available_from: request.available_from,
            available_until: request.available_until,
        }
    }
}

fn default_entity_type() -> String {
    DEFAULT_ENTITY_TYPE.to_owned()
}

/// The index of an entity that exists. Without a type, the id must be of one entity only.
pub(crate) fn find(state: &HttpState, scope: &Scope, entity_type: Option<&str>, id: &str) -> Result<u32> {
    let view = state.views.of(scope);
    let view = view.read();
    let exists = |index: &u32| view.entities.get(*index).is_some_and(Entity::exists);
    let Some(entity_type) = entity_type else {
        return view.entities.only(id)?.ok_or_else(|| {
            let message = format!("there is no entity `{}` of any type", id.escape_debug());
            Error::new(ENTITY_NOT_FOUND, message).with_field("entity_id")
        });
    };
    view.entities.find(entity_type, id).filter(exists).ok_or_else(|| entity_not_found(entity_type, id))
}

fn show(state: &HttpState, scope: &Scope, index: u32) -> Result<EntityResponse> {
    let view = state.views.of(scope);
    let view = view.read();
    let entity = view.entities.get(index).ok_or_else(not_shown_yet)?;
    Ok(EntityResponse::of(scope, &view.entities, entity))
}

/// The type and id of an entity of the view.
pub(crate) fn name_of(state: &HttpState, scope: &Scope, index: u32) -> Result<EntityName> {
    let view = state.views.of(scope);
    let view = view.read();
    let entity = view.entities.get(index).ok_or_else(not_shown_yet)?;
    Ok(EntityName { entity_id: Id::new(&entity.id)?, entity_type: view.entities.type_of(entity).to_owned() })
}

fn not_shown_yet() -> Error {
    Error::new(codes::TIMED_OUT, "stored, but the view does not show it yet; read it again shortly")
}
