//! `/api/v1/market/curves/{name}`: the curve through what was quoted, and `/quotes`: quotes in, and their history.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::extract::time;
use edge::{ApiResult, Body, Caller, Params, Path, check_range};
use kernel::{Error, Result, Timestamp, codes};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use crate::algorithms::curves::{Arbitrage, Curve, CurvePoint, Method};
use crate::events::moment;
use crate::service::curves::{KeptQuotes, QuoteSet, TenorQuote, years};

/// As many as the guide's snapshots have.
const SNAPSHOT_POINTS: usize = 12;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(quotes, history))
}

/// One quoted tenor.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenorQuote)]
pub struct QuoteLine {
    /// A number of days, weeks, months or years.
    #[schema(example = "6m", pattern = "^[0-9]{1,5}[dwmyDWMY]$")]
    tenor: String,
    /// The par rate, a fraction of one: 0.05 is five percent.
    #[schema(example = 0.0476)]
    rate: f64,
}

/// What was quoted at one time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCurveQuotes, example = json!(example()))]
pub struct QuotesRequest {
    /// When; a set for the same time takes the place of the one before.
    #[serde(deserialize_with = "moment_of")]
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    /// How often a year coupons are paid, 1 to 12.
    #[serde(default = "default_frequency")]
    #[schema(minimum = 1, maximum = 12)]
    frequency: u32,
    /// By rising term, 1 to 64.
    #[schema(min_items = 1, max_items = 64)]
    quotes: Vec<QuoteLine>,
}

fn example() -> serde_json::Value {
    serde_json::json!({"as_of": "2022-12-30T00:00:00Z", "frequency": 2, "quotes": [
        {"tenor": "6m", "rate": 0.0476}, {"tenor": "2y", "rate": 0.0441}, {"tenor": "10y", "rate": 0.0388}]})
}

fn default_frequency() -> u32 {
    2
}

fn moment_of<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Timestamp, D::Error> {
    let found: Option<Timestamp> = time(deserializer)?;
    found.ok_or_else(|| serde::de::Error::custom("must be a time such as 2024-01-01T00:00:00Z"))
}

/// A set of quotes that is kept.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CurveQuotes)]
pub struct QuotesResponse {
    curve: String,
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    /// Higher for a set that came later.
    revision: u32,
    frequency: u32,
    quotes: Vec<QuoteLine>,
}

impl From<KeptQuotes> for QuotesResponse {
    fn from(KeptQuotes { set, revision }: KeptQuotes) -> Self {
        let line = |quote: TenorQuote| QuoteLine { tenor: quote.tenor, rate: quote.rate };
        Self {
            curve: set.curve,
            as_of: set.as_of,
            revision,
            frequency: set.frequency,
            quotes: set.quotes.into_iter().map(line).collect(),
        }
    }
}

/// How a curve runs between quotes.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// Straight lines between zero rates.
    Linear,
    /// Straight lines between logarithms of discount factors.
    FlatForward,
    /// Hagan and West.
    #[default]
    MonotoneConvex,
    /// Fritsch and Butland, on logarithms of discount factors.
    Pchip,
}

impl From<Interpolation> for Method {
    fn from(interpolation: Interpolation) -> Self {
        match interpolation {
            Interpolation::Linear => Self::Linear,
            Interpolation::FlatForward => Self::FlatForward,
            Interpolation::MonotoneConvex => Self::MonotoneConvex,
            Interpolation::Pchip => Self::Pchip,
        }
    }
}

/// Which curve of that name.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CurveParams {
    /// As it was then; the newest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
    /// How it runs between quotes.
    #[serde(default)]
    #[param(inline, example = "monotone_convex")]
    interpolation: Interpolation,
    /// Twelve points evenly apart up to this tenor, such as `1m`, `3m`, `6m`, `1y`, instead of the quoted tenors.
    #[param(example = "1y")]
    horizon: Option<String>,
}

/// One term of a curve. Zero and forward rates are continuously compounded; all are fractions of one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketCurvePoint)]
pub struct PointLine {
    /// As it was quoted; missing between quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenor: Option<String>,
    term_years: f64,
    /// What one is worth now.
    discount: f64,
    zero_rate: f64,
    /// At that moment.
    forward_rate: f64,
    /// At which a bond of that term costs what it pays back.
    par_rate: f64,
    /// What was quoted; missing between quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    quoted_rate: Option<f64>,
}

/// What would be free money.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketCurveFault)]
pub struct FaultLine {
    /// `implied_negative_forward` where the quotes make it, `interpolated_negative_forward` where only the interpolation does.
    kind: &'static str,
    from_years: f64,
    until_years: f64,
    /// The forward rate.
    rate: f64,
}

impl From<Arbitrage> for FaultLine {
    fn from(fault: Arbitrage) -> Self {
        match fault {
            Arbitrage::ImpliedNegativeForward { from_years, until_years, rate } => {
                Self { kind: "implied_negative_forward", from_years, until_years, rate }
            }
            Arbitrage::InterpolatedNegativeForward { from_years, until_years, rate } => {
                Self { kind: "interpolated_negative_forward", from_years, until_years, rate }
            }
        }
    }
}

/// A curve through quotes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MarketCurve)]
pub struct CurveResponse {
    curve: String,
    /// When its quotes were quoted.
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    revision: u32,
    frequency: u32,
    interpolation: Interpolation,
    points: Vec<PointLine>,
    /// The longest quoted term; beyond it the forward rate stays.
    last_term_years: f64,
    /// Empty where there is none.
    arbitrage: Vec<FaultLine>,
}

/// Which times.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryParams {
    /// From then on; the earliest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<Timestamp>,
    /// Before this; the newest where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<Timestamp>,
    /// Sets a page, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, example = 20)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// Where an earlier page ended: its `next_cursor`.
    cursor: Option<String>,
}

fn default_limit() -> usize {
    100
}

/// Sets of quotes, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CurveQuotesList)]
pub struct HistoryResponse {
    quotes: Vec<QuotesResponse>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

fn line(curve: &Curve, point: CurvePoint, quoted: Option<&TenorQuote>) -> Result<PointLine> {
    Ok(PointLine {
        tenor: quoted.map(|quote| quote.tenor.clone()),
        term_years: point.term_years,
        discount: point.discount,
        zero_rate: point.zero_rate,
        forward_rate: point.forward_rate,
        par_rate: curve.par_rate(point.term_years).map_err(Error::internal)?,
        quoted_rate: quoted.map(|quote| quote.rate),
    })
}

/// Read a curve, as of a time.
///
/// Made of the newest quotes until then: zero rates, forward rates and par rates at the quoted tenors, and what would be free
/// money.
#[utoipa::path(get, path = "/api/v1/market/curves/{name}", tag = "market", operation_id = "get_market_curve",
    params(("name" = String, Path, description = "The name of the curve.", example = "UST"), CurveParams),
    responses((status = 200, body = CurveResponse)))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Params(params): Params<CurveParams>,
) -> ApiResult<Json<CurveResponse>> {
    let time = params.as_of.unwrap_or_else(|| moment(store::MAX_TIME_NS / 1_000));
    let up_to_years = params.horizon.as_deref().map(horizon).transpose()?;
    let kept = state.service.quotes_as_of(&scope, &name, time).await?;
    // Many long terms take a while.
    let answer = tokio::task::spawn_blocking(move || shape(kept, params.interpolation, up_to_years));
    Ok(Json(answer.await.map_err(Error::internal)??))
}

fn horizon(tenor: &str) -> Result<f64> {
    years(tenor).filter(|up_to| *up_to > 0.0 && *up_to <= 100.0).ok_or_else(|| {
        let message = "must be a tenor such as 3m or 10y, of 100 years at most";
        Error::new(codes::VALIDATION_ERROR, message).with_field("horizon")
    })
}

/// Twelve points of a curve evenly up to a tenor, as they are answered.
///
/// # Errors
/// `VALIDATION_ERROR` where the quotes make no curve, or the tenor is none.
pub(crate) fn snapshot(kept: KeptQuotes, tenor: &str) -> Result<CurveResponse> {
    shape(kept, Interpolation::default(), Some(horizon(tenor)?))
}

/// The curve at its quoted tenors, or evenly up to a term.
fn shape(kept: KeptQuotes, interpolation: Interpolation, up_to_years: Option<f64>) -> Result<CurveResponse> {
    let KeptQuotes { set, revision } = kept;
    let curve = set.curve(interpolation.into())?;
    let points: Result<Vec<PointLine>> = match up_to_years {
        None => {
            let term = |quote: &TenorQuote| years(&quote.tenor).unwrap_or_default();
            set.quotes.iter().map(|quote| line(&curve, curve.point(term(quote)), Some(quote))).collect()
        }
        Some(up_to) => {
            let points = curve.snapshot(up_to, SNAPSHOT_POINTS);
            points.into_iter().map(|point| line(&curve, point, None)).collect()
        }
    };
    Ok(CurveResponse {
        curve: set.curve,
        as_of: set.as_of,
        revision,
        frequency: set.frequency,
        interpolation,
        points: points?,
        last_term_years: curve.last_term_years(),
        arbitrage: curve.faults().into_iter().map(FaultLine::from).collect(),
    })
}

/// Take in what was quoted of a curve. It is durable when this answers, and the same sent again changes nothing.
#[utoipa::path(post, path = "/api/v1/market/curves/{name}/quotes", tag = "market",
    operation_id = "post_market_curve_quotes",
    params(("name" = String, Path, description = "The name of the curve.", example = "UST")),
    request_body = QuotesRequest,
    responses((status = 201, body = QuotesResponse)))]
async fn quotes(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(request): Body<QuotesRequest>,
) -> ApiResult<(StatusCode, Json<QuotesResponse>)> {
    let quote = |line: QuoteLine| TenorQuote { tenor: line.tenor, rate: line.rate };
    let set = QuoteSet {
        curve: name,
        as_of: request.as_of,
        frequency: request.frequency,
        quotes: request.quotes.into_iter().map(quote).collect(),
    };
    let kept = state.service.quote(&scope, set, state.ingest.clock().now()).await?;
    Ok((StatusCode::CREATED, Json(kept.into())))
}

/// List what was quoted of a curve, newest first.
#[utoipa::path(get, path = "/api/v1/market/curves/{name}/quotes", tag = "market",
    operation_id = "list_market_curve_quotes",
    params(("name" = String, Path, description = "The name of the curve.", example = "UST"), HistoryParams),
    responses((status = 200, body = HistoryResponse)))]
async fn history(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Params(params): Params<HistoryParams>,
) -> ApiResult<Json<HistoryResponse>> {
    check_range(params.limit, 1, 1_000, "limit")?;
    let from = params.from.unwrap_or_else(|| moment(-store::MAX_TIME_NS / 1_000));
    let to = params.to.unwrap_or_else(|| moment(store::MAX_TIME_NS / 1_000));
    let HistoryParams { cursor, limit, .. } = params;
    let found = state.service.quote_history(&scope, &name, (from, to), cursor, limit).await?;
    let (quotes, next_cursor) = (found.0.into_iter().map(QuotesResponse::from).collect(), found.1);
    Ok(Json(HistoryResponse { quotes, next_cursor }))
}
