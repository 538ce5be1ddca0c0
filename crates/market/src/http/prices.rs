//! `GET /api/v1/market/prices` and `/{instrument}`: newest prices, and the price as of a time.

use axum::Json;
use axum::extract::State;
use edge::extract::time;
use edge::{ApiResult, Caller, Params, Path, check_range};
use kernel::{Scope, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use crate::events::moment;
use crate::service::{Filter, Quoted};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// Which time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PriceParams {
    /// The price that the instrument had then; the newest one where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
}

/// Which instruments, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InstrumentParams {
    /// Those whose id begins so.
    #[param(example = "MISO")]
    pub(super) prefix: Option<String>,
    /// Those whose newest price is of this market, in capitals.
    #[param(example = "MISO")]
    pub(super) market: Option<String>,
    /// What is traded.
    #[param(example = "electricity")]
    pub(super) commodity: Option<String>,
    /// Where.
    #[param(example = "midwest")]
    pub(super) region: Option<String>,
    /// Instruments a page, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, example = 20)]
    #[serde(default = "default_limit")]
    pub(super) limit: usize,
    /// Where an earlier page ended: its `next_cursor`.
    pub(super) cursor: Option<String>,
}

fn default_limit() -> usize {
    100
}

impl InstrumentParams {
    pub(super) fn filter(&self) -> kernel::Result<Filter> {
        check_range(self.limit, 1, 1_000, "limit")?;
        let Self { prefix, market, commodity, region, .. } = self;
        Ok(Filter {
            prefix: prefix.clone(),
            market: market.clone(),
            commodity: commodity.clone(),
            region: region.clone(),
        })
    }
}

/// The price of an instrument.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketPrice)]
pub struct PriceResponse {
    instrument_id: String,
    price: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<f64>,
    /// Of the newest quote, which may be of another time.
    #[serde(skip_serializing_if = "Option::is_none")]
    bid_price: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ask_price: Option<f64>,
    /// In capitals; empty where nobody said.
    market: String,
    currency: String,
    unit: String,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    /// When it was taken in.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    source_system: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    tick_id: String,
    quality_flags: Vec<String>,
    tenant_id: String,
}

impl PriceResponse {
    fn of(scope: &Scope, quoted: Quoted) -> Self {
        let Quoted { instrument, price, quote } = quoted;
        Self {
            instrument_id: instrument,
            price: price.price,
            volume: price.volume,
            bid_price: quote.as_ref().and_then(|quote| quote.bid),
            ask_price: quote.as_ref().and_then(|quote| quote.ask),
            market: price.market.into(),
            currency: price.currency.into(),
            unit: price.unit.into(),
            occurred_at: moment(price.occurred_us),
            received_at: moment(price.received_us),
            source_system: price.source_system.into(),
            sequence: price.sequence,
            tick_id: price.tick_id.into(),
            quality_flags: price.quality_flags.into_iter().map(String::from).collect(),
            tenant_id: scope.tenant().to_string(),
        }
    }
}

/// A page of prices, in the order of the instruments' ids.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketPriceList)]
pub struct ListResponse {
    prices: Vec<PriceResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List the newest prices.
#[utoipa::path(get, path = "/api/v1/market/prices", tag = "market", operation_id = "list_market_prices",
    params(InstrumentParams),
    responses((status = 200, body = ListResponse)))]
async fn list(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<InstrumentParams>,
) -> ApiResult<Json<ListResponse>> {
    let (found, next_cursor) =
        state.service.prices(&scope, &params.filter()?, params.cursor.as_deref(), params.limit)?;
    let prices = found.into_iter().map(|quoted| PriceResponse::of(&scope, quoted)).collect();
    Ok(Json(ListResponse { prices, next_cursor }))
}

/// Read the price of an instrument.
#[utoipa::path(get, path = "/api/v1/market/prices/{instrument}", tag = "market", operation_id = "get_market_price",
    params(("instrument" = String, Path, description = "The id of the instrument.", example = "MISO_INDIANA_HUB"),
        PriceParams),
    responses((status = 200, body = PriceResponse)))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(instrument): Path<String>,
    Params(params): Params<PriceParams>,
) -> ApiResult<Json<PriceResponse>> {
    let quoted = match params.as_of {
        None => state.service.price(&scope, &instrument)?,
        Some(time) => state.service.price_as_of(&scope, &instrument, time).await?,
    };
    Ok(Json(PriceResponse::of(&scope, quoted)))
}
