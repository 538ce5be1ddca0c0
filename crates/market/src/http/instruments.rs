//! `GET /api/v1/market/instruments`, `/{id}`, and `/api/v1/market/taxonomy`, `/{instrument_id}`: what instruments are, and
//! why; those of ticks, and those of any name.

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller, Params, Path};
use kernel::{Error, Permission, codes};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use super::prices::InstrumentParams;
use crate::algorithms::instruments::{Classification, Decision, Vocabulary};

/// Of a name that is classified.
const MOST_NAME_BYTES: usize = 256;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(taxonomy))
        .routes(routes!(classify))
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

/// Say what an instrument of that name is, whether or not a tick of it came.
#[utoipa::path(get, path = "/api/v1/market/taxonomy/{instrument_id}", tag = "market", operation_id = "classify_instrument",
    params(("instrument_id" = String, Path, description = "The name.", example = "NG_HH_BALMO")),
    responses((status = 200, body = InstrumentResponse)))]
async fn classify(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<InstrumentResponse>> {
    scope.require(Permission::Read)?;
    if id.len() > MOST_NAME_BYTES {
        let message = format!("must be at most {MOST_NAME_BYTES} bytes, not {}", id.len());
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("instrument_id").into());
    }
    let found = state.service.rules().taxonomy.classify(&id);
    Ok(Json(InstrumentResponse::of(id, found)))
}
