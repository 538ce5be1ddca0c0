//! `GET /api/v1/market/spreads/{instrument}`: the spread of the newest quote, and that as of a time; `/history`: what was quoted in
//! the intervals of a range, as JSON, lines or CSV.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use edge::extract::time;
use edge::{ApiResult, Caller, Params, Path, check_range};
use kernel::{Result, Scope, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::bars::{default_interval, default_limit, interval_of};
use super::lines::Format;
use super::{HttpState, earliest, latest};
use crate::events::moment;
use crate::service::{KeptQuote, SpreadQuestion, ToldSpread};

const HEADER: [&str; 14] = [
    "interval_start",
    "interval_end",
    "market",
    "mean",
    "minimum",
    "maximum",
    "last",
    "last_mid_price",
    "mean_basis_points",
    "quote_count",
    "crossed_count",
    "locked_count",
    "one_sided_count",
    "out_of_range_count",
];

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(history))
}

/// Which time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SpreadParams {
    /// The quote that the instrument had then; the newest one where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
}

/// The spread of a quote.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketSpread)]
pub struct SpreadResponse {
    instrument_id: String,
    /// Null where nobody would buy.
    bid_price: Option<f64>,
    /// Null where nobody would sell.
    ask_price: Option<f64>,
    /// Null where one of them is missing.
    mid_price: Option<f64>,
    /// The ask less the bid: zero where they are locked, below zero where they are crossed. Null where one is missing.
    spread: Option<f64>,
    /// The spread in ten-thousandths of the middle. Null where that is zero or below, as power prices may be.
    spread_basis_points: Option<f64>,
    /// In capitals; empty where nobody said.
    market: String,
    currency: String,
    unit: String,
    /// When it was quoted.
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    /// When it was taken in.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    source_system: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    tick_id: String,
    /// Those of its tick, and `crossed`, `locked` or `one_sided` where the spread means nothing.
    quality_flags: Vec<String>,
    tenant_id: String,
}

impl SpreadResponse {
    fn of(scope: &Scope, instrument: String, kept: KeptQuote) -> Self {
        let quote = kept.quote;
        Self {
            instrument_id: instrument,
            bid_price: quote.bid,
            ask_price: quote.ask,
            mid_price: quote.middle(),
            spread: quote.spread(),
            spread_basis_points: quote.basis_points(),
            market: kept.market,
            currency: kept.currency,
            unit: kept.unit,
            occurred_at: moment(quote.time_us),
            received_at: moment(kept.received_us),
            source_system: kept.source_system,
            sequence: kept.sequence,
            tick_id: kept.tick_id,
            quality_flags: kept.quality_flags,
            tenant_id: scope.tenant().to_string(),
        }
    }
}

/// Read the spread of an instrument.
///
/// Of the newest quote by event time, whether there was a trade with it or not. Bid and ask are of one message: none is taken
/// from an earlier one.
#[utoipa::path(get, path = "/api/v1/market/spreads/{instrument}", tag = "market", operation_id = "get_market_spread",
    params(("instrument" = String, Path, description = "The id of the instrument.", example = "MISO_INDIANA_HUB"),
        SpreadParams),
    responses((status = 200, body = SpreadResponse)))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(instrument): Path<String>,
    Params(params): Params<SpreadParams>,
) -> ApiResult<Json<SpreadResponse>> {
    let kept = state.service.quote_as_of(&scope, &instrument, params.as_of).await?;
    Ok(Json(SpreadResponse::of(&scope, instrument, kept)))
}

/// Of which intervals.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryParams {
    /// `5m`, `1h` or `1d`.
    #[serde(default = "default_interval")]
    #[param(example = "5m")]
    interval: String,
    /// Those that begin at that time or later; the earliest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// And before this; the newest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Of this market only, in capitals.
    #[param(example = "MISO")]
    market: Option<String>,
    /// Intervals at most, 1 to 10,000; those of one time at several markets are told together.
    #[param(minimum = 1, maximum = 10_000, example = 100)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// How they are written.
    #[serde(default)]
    #[param(inline, example = "json")]
    format: Format,
}

/// What was quoted in an interval at a market.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IntervalSpread)]
pub struct SpreadLine {
    #[schema(value_type = String, format = DateTime)]
    interval_start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    interval_end: Timestamp,
    /// In capitals; empty where nobody said.
    market: String,
    /// Of the spreads of quotes whose bid is below their ask; each counts once, however long it stood. Null without any.
    mean: Option<f64>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    /// The last of them by event time.
    last: Option<f64>,
    /// The middle between its bid and its ask.
    last_mid_price: Option<f64>,
    /// The mean in ten-thousandths of the middle. Null where the middle of one of them is zero or below.
    mean_basis_points: Option<f64>,
    /// How many those are.
    quote_count: u64,
    /// Quotes whose bid is above their ask: in no figure.
    crossed_count: u64,
    /// Quotes whose bid is their ask: in no figure.
    locked_count: u64,
    /// Quotes without a bid or without an ask: in no figure.
    one_sided_count: u64,
    /// Quotes with a side beyond 9e9: in no figure.
    out_of_range_count: u64,
}

impl From<ToldSpread> for SpreadLine {
    fn from(told: ToldSpread) -> Self {
        let spread = told.summary.spread;
        Self {
            interval_start: moment(told.start_us),
            interval_end: moment(told.end_us),
            market: told.market,
            mean: spread.map(|spread| spread.mean),
            minimum: spread.map(|spread| spread.min),
            maximum: spread.map(|spread| spread.max),
            last: spread.map(|spread| spread.last),
            last_mid_price: spread.map(|spread| spread.last_middle),
            mean_basis_points: spread.and_then(|spread| spread.mean_basis_points),
            quote_count: told.summary.quote_count,
            crossed_count: told.summary.crossed_count,
            locked_count: told.summary.locked_count,
            one_sided_count: told.summary.one_sided_count,
            out_of_range_count: told.out_of_range_count,
        }
    }
}

/// Spreads of an instrument, oldest first. Where nobody quoted there is no line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SpreadHistory)]
pub struct HistoryResponse {
    instrument_id: String,
    interval: String,
    spreads: Vec<SpreadLine>,
    /// Pass it as `from` to get the next page. It is there too where an answer ends because it read as many quotes as it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_from: Option<Timestamp>,
}

impl HistoryParams {
    fn question(&self, instrument: &str) -> Result<SpreadQuestion> {
        check_range(self.limit, 1, 10_000, "limit")?;
        Ok(SpreadQuestion {
            instrument: instrument.to_owned(),
            interval: interval_of(&self.interval)?,
            from: self.from.unwrap_or_else(earliest),
            to: self.to.unwrap_or_else(latest),
            market: self.market.clone(),
            limit: self.limit,
        })
    }
}

/// Read the spreads of an instrument by interval.
///
/// Made of the quotes as they stand now: one that comes late changes its interval.
#[utoipa::path(get, path = "/api/v1/market/spreads/{instrument}/history", tag = "market",
    operation_id = "list_market_spreads",
    params(("instrument" = String, Path, description = "The id of the instrument.", example = "MISO_INDIANA_HUB"),
        HistoryParams),
    responses((status = 200, content((HistoryResponse = "application/json"), (String = "application/x-ndjson"),
        (String = "text/csv")))))]
async fn history(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(instrument): Path<String>,
    Params(params): Params<HistoryParams>,
) -> ApiResult<Response> {
    let question = params.question(&instrument)?;
    let answer = state.service.spreads(&scope, &question).await?;
    let next_from = answer.next_from_us.map(moment);
    let lines: Vec<SpreadLine> = answer.spreads.into_iter().map(SpreadLine::from).collect();
    Ok(params.format.answer(&HEADER, lines, next_from, |spreads| {
        let interval = question.interval.to_string();
        HistoryResponse { instrument_id: instrument, interval, spreads, next_from }
    })?)
}
