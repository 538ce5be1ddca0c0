//! `GET /api/v1/market/statistics/{instrument}`: mean, deviation, range, z-score and volatility of the closing prices of the last
//! bars, bar by bar, as JSON, lines or CSV.

use axum::extract::State;
use axum::response::Response;
use edge::extract::time;
use edge::{ApiResult, Caller, Params, Path, check_range};
use kernel::{Result, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::bars::{default_interval, default_limit, interval_of, state_name};
use super::lines::Format;
use super::{HttpState, earliest, latest};
use crate::algorithms::bars::Change;
use crate::events::moment;
use crate::service::{BarQuestion, StatisticsLine, StatisticsQuestion, WINDOW_MAX};

const HEADER: [&str; 15] = [
    "interval_start",
    "interval_end",
    "state",
    "revision",
    "market",
    "close",
    "window_start",
    "bars",
    "mean",
    "standard_deviation",
    "minimum",
    "maximum",
    "z_score",
    "volatility",
    "change",
];

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Over which bars.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatisticsParams {
    /// `5m`, `1h` or `1d`.
    #[serde(default = "default_interval")]
    #[param(example = "5m")]
    interval: String,
    /// Bars of a window, 2 to 1,000. Those before `from` are part of it.
    #[param(minimum = 2, maximum = 1_000, example = 20)]
    #[serde(default = "default_window")]
    window: usize,
    /// Windows whose last bar begins at that time or later; the earliest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// And before this; the newest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Of this market only, in capitals. It is needed where the bars of a range are of several.
    #[param(example = "MISO")]
    market: Option<String>,
    /// Windows at most, 1 to 10,000.
    #[param(minimum = 1, maximum = 10_000, example = 100)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// How they are written.
    #[serde(default)]
    #[param(inline, example = "json")]
    format: Format,
}

/// The shortest window of the guide is 10; 20 is what charts begin with.
fn default_window() -> usize {
    20
}

/// A bar, and the window that ends with it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WindowStatistics)]
pub struct WindowLine {
    #[schema(value_type = String, format = DateTime)]
    interval_start: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    interval_end: Timestamp,
    /// `open` while the bar has trades that were not told on its topic yet, or `closed`.
    state: &'static str,
    /// How often the bar changed since it was first told; missing before.
    revision: Option<u32>,
    /// In capitals; empty where nobody said.
    market: String,
    /// The closing price of the bar.
    close: f64,
    /// When the first bar of the window begins: gaps are not filled, so that a window may span any time.
    #[schema(value_type = String, format = DateTime)]
    window_start: Timestamp,
    /// Bars of the window; fewer than asked for where the history begins.
    bars: u64,
    /// Of the closing prices.
    mean: f64,
    /// Of the sample; missing of one bar.
    standard_deviation: Option<f64>,
    minimum: f64,
    maximum: f64,
    /// How many deviations the closing price is from the mean; missing without one.
    z_score: Option<f64>,
    /// The standard deviation of the changes from bar to bar, for one step; missing of fewer than two changes.
    volatility: Option<f64>,
    /// What changes those are: `logarithm` of the quotient where every price of the window is positive, else `difference`, in
    /// the unit of the price.
    change: &'static str,
}

impl From<StatisticsLine> for WindowLine {
    fn from(line: StatisticsLine) -> Self {
        let StatisticsLine { bar, close, window_start_us, statistics } = line;
        let prices = statistics.prices;
        Self {
            interval_start: moment(bar.start_us),
            interval_end: moment(bar.end_us),
            state: state_name(bar.state),
            revision: bar.revision,
            market: bar.market,
            close,
            window_start: moment(window_start_us),
            bars: prices.count,
            mean: prices.mean,
            standard_deviation: prices.deviation,
            minimum: prices.min,
            maximum: prices.max,
            z_score: prices.z_score,
            volatility: statistics.volatility,
            change: match statistics.change {
                Change::Difference => "difference",
                Change::Logarithm => "logarithm",
            },
        }
    }
}

/// Statistics of the bars of an instrument, oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WindowStatisticsList)]
pub struct StatisticsResponse {
    instrument_id: String,
    interval: String,
    /// Bars of a window.
    window: usize,
    statistics: Vec<WindowLine>,
    /// Pass it as `from` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_from: Option<Timestamp>,
}

impl StatisticsParams {
    fn question(&self, instrument: &str) -> Result<StatisticsQuestion> {
        check_range(self.limit, 1, 10_000, "limit")?;
        check_range(self.window, 2, WINDOW_MAX, "window")?;
        let bars = BarQuestion {
            instrument: instrument.to_owned(),
            interval: interval_of(&self.interval)?,
            from: self.from.unwrap_or_else(earliest),
            to: self.to.unwrap_or_else(latest),
            market: self.market.clone(),
            limit: self.limit,
            has_gaps: false,
            downsample: None,
        };
        Ok(StatisticsQuestion { bars, window: self.window })
    }
}

/// Read rolling statistics over the bars of an instrument.
///
/// Of the closing prices, bar by bar, made of the bars as they stand now: a bar that is revised changes its windows.
#[utoipa::path(get, path = "/api/v1/market/statistics/{instrument}", tag = "market",
    operation_id = "list_market_statistics",
    params(("instrument" = String, Path, description = "The id of the instrument.", example = "MISO_INDIANA_HUB"),
        StatisticsParams),
    responses((status = 200, content((StatisticsResponse = "application/json"), (String = "application/x-ndjson"),
        (String = "text/csv")))))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(instrument): Path<String>,
    Params(params): Params<StatisticsParams>,
) -> ApiResult<Response> {
    let question = params.question(&instrument)?;
    let answer = state.service.statistics(&scope, &question).await?;
    let next_from = answer.next_from_us.map(moment);
    let lines: Vec<WindowLine> = answer.lines.into_iter().map(WindowLine::from).collect();
    Ok(params.format.answer(&HEADER, lines, next_from, |statistics| StatisticsResponse {
        instrument_id: instrument,
        interval: question.bars.interval.to_string(),
        window: question.window,
        statistics,
        next_from,
    })?)
}
