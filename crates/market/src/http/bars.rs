//! `GET /api/v1/market/bars/{instrument}`: bars of a range, as JSON, lines or CSV.

use axum::extract::State;
use axum::response::Response;
use edge::extract::time;
use edge::{ApiResult, Caller, Params, Path, check_range};
use kernel::{Error, Result, Timestamp, codes};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lines::Format;
use super::{HttpState, earliest, latest};
use crate::algorithms::bars::Interval;
use crate::events::moment;
use crate::service::{BarQuestion, BarState, ToldBar};

const HEADER: [&str; 13] = [
    "interval_start",
    "interval_end",
    "state",
    "revision",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "vwap",
    "trade_count",
    "market",
    "bars",
];

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Which bars.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BarParams {
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
    /// Bars at most, 1 to 10,000.
    #[param(minimum = 1, maximum = 10_000, example = 100)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// Whether intervals in which the market was open and nobody traded have a line of their own, with `state` `gap`. It
    /// needs `from`.
    #[serde(default)]
    gaps: bool,
    /// Merge neighbours until there are at most so many lines, 1 to 10,000.
    #[param(minimum = 1, maximum = 10_000, example = 50)]
    downsample: Option<usize>,
    /// How they are written.
    #[serde(default)]
    #[param(inline, example = "json")]
    format: Format,
}

pub(super) fn default_interval() -> String {
    Interval::FIVE_MINUTES.to_string()
}

pub(super) fn default_limit() -> usize {
    1_000
}

/// One bar.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Bar)]
pub struct BarLine {
    #[schema(value_type = String, format = DateTime)]
    interval_start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    interval_end: Timestamp,
    /// `open` while it has trades that were not told on its topic yet, `closed`, or `gap`.
    state: &'static str,
    /// How often it changed since it was first told; missing before, and where bars were merged.
    revision: Option<u32>,
    open: Option<f64>,
    high: Option<f64>,
    low: Option<f64>,
    close: Option<f64>,
    volume: Option<f64>,
    /// The mean price weighted by volume; missing without volume.
    vwap: Option<f64>,
    trade_count: u64,
    /// In capitals; empty where nobody said.
    market: String,
    /// How many bars it was merged from.
    bars: u32,
}

impl From<ToldBar> for BarLine {
    fn from(bar: ToldBar) -> Self {
        let values = bar.values;
        Self {
            interval_start: moment(bar.start_us),
            interval_end: moment(bar.end_us),
            state: state_name(bar.state),
            revision: bar.revision,
            open: values.map(|values| values.open),
            high: values.map(|values| values.high),
            low: values.map(|values| values.low),
            close: values.map(|values| values.close),
            volume: values.map(|values| values.volume),
            vwap: values.and_then(|values| values.vwap),
            trade_count: values.map_or(0, |values| values.trade_count),
            market: bar.market,
            bars: bar.bars,
        }
    }
}

pub(super) fn state_name(state: BarState) -> &'static str {
    match state {
        BarState::Open => "open",
        BarState::Closed => "closed",
        BarState::Gap => "gap",
    }
}

/// Bars of an instrument, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BarList)]
pub struct BarsResponse {
    instrument_id: String,
    interval: String,
    bars: Vec<BarLine>,
    /// Pass it as `from` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_from: Option<Timestamp>,
}

/// The interval of a request.
pub(super) fn interval_of(text: &str) -> Result<Interval> {
    text.parse().map_err(|_| {
        let message = format!("`{}` is not one of 5m, 1h, 1d", text.escape_debug());
        Error::new(codes::VALIDATION_ERROR, message).with_field("interval")
    })
}

impl BarParams {
    fn question(&self, instrument: &str) -> Result<BarQuestion> {
        check_range(self.limit, 1, 10_000, "limit")?;
        if let Some(most) = self.downsample {
            check_range(most, 1, 10_000, "downsample")?;
        }
        let interval = interval_of(&self.interval)?;
        if self.gaps && self.from.is_none() {
            let message = "must be given where gaps are asked for";
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("from"));
        }
        Ok(BarQuestion {
            instrument: instrument.to_owned(),
            interval,
            from: self.from.unwrap_or_else(earliest),
            to: self.to.unwrap_or_else(latest),
            market: self.market.clone(),
            limit: self.limit,
            has_gaps: self.gaps,
            downsample: self.downsample,
        })
    }
}

/// Read the bars of an instrument.
///
/// A bar is there from its first trade on, `open` until it was told on its topic. A late trade revises it.
#[utoipa::path(get, path = "/api/v1/market/bars/{instrument}", tag = "market", operation_id = "list_market_bars",
    params(("instrument" = String, Path, description = "The id of the instrument.", example = "MISO_INDIANA_HUB"),
        BarParams),
    responses((status = 200, content((BarsResponse = "application/json"), (String = "application/x-ndjson"),
        (String = "text/csv")))))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(instrument): Path<String>,
    Params(params): Params<BarParams>,
) -> ApiResult<Response> {
    let question = params.question(&instrument)?;
    let answer = state.service.bars(&scope, &question).await?;
    let next_from = answer.next_from_us.map(moment);
    let lines: Vec<BarLine> = answer.bars.into_iter().map(BarLine::from).collect();
    Ok(params.format.answer(&HEADER, lines, next_from, |bars| {
        let interval = question.interval.to_string();
        BarsResponse { instrument_id: instrument, interval, bars, next_from }
    })?)
}
