//! `GET /api/v1/market/projections`: the custom projections of the settings; `/{name}` and `/{name}/{key}`: what they have.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller, Params, Path, check_range};
use kernel::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use crate::algorithms::projections::Projection;
use crate::custom::Kept;
use crate::events::moment;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(declared)).routes(routes!(list)).routes(routes!(get))
}

/// A custom projection, as the settings have it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketProjection)]
pub struct ProjectionResponse {
    name: String,
    /// `price`, `quote`, `bar_5m`, `bar_1h` or `bar_1d`.
    from: &'static str,
    /// Only events of which this is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<String>,
    /// Of each there is the newest; the instrument where missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Expressions by the name of the field.
    fields: BTreeMap<String, String>,
    /// How long a value says something after it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_seconds: Option<u64>,
}

impl From<&Projection> for ProjectionResponse {
    fn from(projection: &Projection) -> Self {
        let Projection { name, from, when, key, fields, ttl_seconds } = projection.clone();
        Self { name, from: from.name(), when, key, fields, ttl_seconds }
    }
}

/// The custom projections of the settings.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketProjectionList)]
pub struct DeclaredResponse {
    projections: Vec<ProjectionResponse>,
}

/// Where a value is from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketProjectionOrigin)]
pub struct OriginLine {
    /// The tick or the revision of a bar that it was made of.
    projection_id: String,
}

/// The newest that a projection has of a key, in the guide's form.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketProjectionValue)]
pub struct ValueResponse {
    /// The name of the projection.
    projection_type: String,
    key: String,
    /// The instrument that it was made of.
    instrument_id: String,
    /// The fields of the projection; one is missing where its expression names what the event does not have.
    #[schema(value_type = Object)]
    data: Map<String, Value>,
    /// When it happened; of a bar its end.
    #[schema(value_type = String, format = DateTime)]
    last_updated: Timestamp,
    tenant_id: String,
    metadata: OriginLine,
}

impl ValueResponse {
    pub(crate) fn of(tenant: &TenantId, kept: Kept) -> Self {
        Self {
            projection_type: kept.projection,
            key: kept.key,
            instrument_id: kept.instrument_id,
            data: kept.data,
            last_updated: moment(kept.told_us),
            tenant_id: tenant.to_string(),
            metadata: OriginLine { projection_id: kept.id },
        }
    }
}

/// A page of values, in the order of their keys.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketProjectionValues)]
pub struct ListResponse {
    values: Vec<ValueResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Values a page at most, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, example = 20)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// Where an earlier page ended: its `next_cursor`.
    cursor: Option<String>,
}

fn default_limit() -> usize {
    100
}

/// List the custom projections of the settings.
#[utoipa::path(get, path = "/api/v1/market/projections", tag = "market", operation_id = "list_market_projections",
    responses((status = 200, body = DeclaredResponse)))]
async fn declared(
    State(state): State<HttpState>,
    Caller(scope): Caller,
) -> ApiResult<Json<DeclaredResponse>> {
    let projections = state.custom.declared(&scope)?.into_iter().map(ProjectionResponse::from).collect();
    Ok(Json(DeclaredResponse { projections }))
}

/// List what a custom projection has, the newest of each key.
#[utoipa::path(get, path = "/api/v1/market/projections/{name}", tag = "market",
    operation_id = "list_market_projection_values",
    params(("name" = String, Path, description = "The name of the projection.", example = "notional"), ListParams),
    responses((status = 200, body = ListResponse)))]
async fn list(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Params(params): Params<ListParams>,
) -> ApiResult<Json<ListResponse>> {
    check_range(params.limit, 1, 1_000, "limit")?;
    let (page, now) = ((params.cursor, params.limit), state.ingest.clock().now());
    let (found, next_cursor) = state.custom.list(&scope, &name, page, now).await?;
    let values = found.into_iter().map(|kept| ValueResponse::of(scope.tenant(), kept)).collect();
    Ok(Json(ListResponse { values, next_cursor }))
}

/// Read the newest that a custom projection has of a key.
#[utoipa::path(get, path = "/api/v1/market/projections/{name}/{key}", tag = "market",
    operation_id = "get_market_projection_value",
    params(("name" = String, Path, description = "The name of the projection.", example = "notional"),
        ("key" = String, Path, description = "The key, an instrument unless the projection says otherwise.",
            example = "MISO_INDIANA_HUB")),
    responses((status = 200, body = ValueResponse)))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path((name, key)): Path<(String, String)>,
) -> ApiResult<Json<ValueResponse>> {
    let kept = state.custom.get(&scope, &name, &key, state.ingest.clock().now()).await?;
    Ok(Json(ValueResponse::of(scope.tenant(), kept)))
}
