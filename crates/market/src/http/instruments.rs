//! `GET /api/v1/market/instruments`, `/{id}`, and `/api/v1/market/taxonomy`: what instruments are, and why.

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller, Params, Path};
use kernel::Permission;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use super::prices::InstrumentParams;
use crate::algorithms::instruments::{Classification, Decision, Vocabulary};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get)).routes(routes!(taxonomy))
}

/// One label and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InstrumentLabel)]
pub struct Label {
    /// From the taxonomy, or `unknown`.
    label: String,
    reason: String,
}

impl From<Decision> for Label {
    fn from(decision: Decision) -> Self {
        Self { label: decision.label, reason: decision.reason }
    }
}

/// What an instrument is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Instrument)]
pub struct InstrumentResponse {
    instrument_id: String,
    commodity: Label,
    region: Label,
    product_tier: Label,
    /// From 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    confidence: f64,
    /// `override`, `rules` or `fallback`.
    method: &'static str,
    /// The instrument that it is another name of.
    #[serde(skip_serializing_if = "Option::is_none")]
    alias_of: Option<String>,
}

impl InstrumentResponse {
    fn of(id: String, found: Classification) -> Self {
        Self {
            instrument_id: id,
            commodity: found.commodity.into(),
            region: found.region.into(),
            product_tier: found.product_tier.into(),
            confidence: found.confidence,
            method: found.method.name(),
            alias_of: found.alias_of,
        }
    }
}

/// A page of instruments, in the order of their ids.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InstrumentList)]
pub struct ListResponse {
    instruments: Vec<InstrumentResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The labels that there are.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Taxonomy)]
pub struct TaxonomyResponse {
    commodity: Vec<String>,
    region: Vec<String>,
    product_tier: Vec<String>,
    /// How many rules there are for names.
    rules: usize,
}

/// List the instruments that ticks were taken in of.
#[utoipa::path(get, path = "/api/v1/market/instruments", tag = "market", operation_id = "list_instruments",
    params(InstrumentParams),
    responses((status = 200, body = ListResponse)))]
async fn list(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<InstrumentParams>,
) -> ApiResult<Json<ListResponse>> {
    let (found, next_cursor) =
        state.service.instruments(&scope, &params.filter()?, params.cursor.as_deref(), params.limit)?;
    let instruments = found.into_iter().map(|(id, found)| InstrumentResponse::of(id, found)).collect();
    Ok(Json(ListResponse { instruments, next_cursor }))
}

/// Read what an instrument is, and why.
#[utoipa::path(get, path = "/api/v1/market/instruments/{id}", tag = "market", operation_id = "get_instrument",
    params(("id" = String, Path, description = "The id of the instrument.", example = "MISO_INDIANA_HUB")),
    responses((status = 200, body = InstrumentResponse)))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<InstrumentResponse>> {
    let found = state.service.instrument(&scope, &id)?;
    Ok(Json(InstrumentResponse::of(id, found)))
}

/// List the labels of the taxonomy.
#[utoipa::path(get, path = "/api/v1/market/taxonomy", tag = "market", operation_id = "get_market_taxonomy",
    responses((status = 200, body = TaxonomyResponse)))]
async fn taxonomy(
    State(state): State<HttpState>,
    Caller(scope): Caller,
) -> ApiResult<Json<TaxonomyResponse>> {
    scope.require(Permission::Read)?;
    let rules = state.service.rules().taxonomy.rules();
    let Vocabulary { commodity, region, product_tier } = rules.vocabulary.clone();
    Ok(Json(TaxonomyResponse { commodity, region, product_tier, rules: rules.rules.len() }))
}
