//! `POST /api/v1/models/{name}/truths` and `GET /api/v1/models/{name}/accuracy`: what came true of predictions that were kept.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use edge::extract::Object;
use edge::{ApiResult, Body, Caller, Params, Path, check_range};
use kernel::Permission;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::monitoring::predictions::{Sums, TRUTHS_MAX, Told, Truth, VALUES_MAX};
use crate::{Runtime, Selector};

const DAYS_MAX: usize = 366;

pub(super) fn routes() -> OpenApiRouter<Runtime> {
    OpenApiRouter::new().routes(routes!(truths)).routes(routes!(accuracy))
}

/// What came true of a prediction.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PredictionTruth)]
pub struct TruthRequest {
    /// As the prediction was answered with it.
    prediction_id: String,
    /// By output: as many values as the prediction had, in row-major order, null where it is not known yet.
    values: BTreeMap<String, Vec<Option<f64>>>,
}

/// Truths.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PredictionTruths, example = json!({"truths": [
    {"prediction_id": "0123456789abcdef0123456789abcdef", "values": {"y": [1.5, null]}}
]}))]
pub struct TruthsRequest {
    #[schema(value_type = Vec<TruthRequest>, min_items = 1, max_items = 1_000)]
    truths: Vec<Object<TruthRequest>>,
}

/// What became of a truth.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PredictionTruthOutcome)]
pub struct ToldResponse {
    prediction_id: String,
    /// `joined`; `duplicate` where all of it was known; `conflict` where another value is known, which stands; `unknown` id;
    /// `late`; `refused`.
    outcome: &'static str,
    /// Values that were joined.
    joined_values: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What became of truths, in their order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PredictionTruthOutcomes)]
pub struct TruthsResponse {
    outcomes: Vec<ToldResponse>,
}

/// Say what came true of predictions that were kept. The same truth may be sent again.
#[utoipa::path(post, path = "/api/v1/models/{name}/truths", tag = "models", operation_id = "put_prediction_truths",
    params(("name" = String, Path, description = "The registered model.")),
    request_body = TruthsRequest,
    responses((status = 200, body = TruthsResponse)))]
async fn truths(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(asked): Body<TruthsRequest>,
) -> ApiResult<Json<TruthsResponse>> {
    scope.require(Permission::Write)?;
    check_range(asked.truths.len(), 1, TRUTHS_MAX, "truths")?;
    let values = asked.truths.iter().flat_map(|truth| truth.0.values.values()).map(Vec::len);
    check_range(values.max().unwrap_or(0), 0, VALUES_MAX, "truths.values")?;
    let model = runtime.models().model(&scope, &name).await?;
    let truths =
        asked.truths.into_iter().map(|Object(one)| Truth { id: one.prediction_id, values: one.values });
    let truths: Vec<Truth> = truths.collect();
    let monitor = &runtime.0.monitor;
    let (told, compared) = monitor.predictions.join(&scope, &model.id, &truths).await?;
    told.iter().for_each(|told| monitor.metrics.truth(told.outcome));
    monitor.metrics.compared(compared);
    let outcomes = truths.into_iter().zip(told).map(|(truth, told)| {
        let Told { outcome, joined, reason } = told;
        ToldResponse { prediction_id: truth.id, outcome, joined_values: joined, reason }
    });
    Ok(Json(TruthsResponse { outcomes: outcomes.collect() }))
}

/// Which version, and how far back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccuracyParams {
    /// A number, or an alias; `champion` where missing.
    #[param(example = "champion")]
    version: Option<String>,
    /// Days on which something was predicted whose truth is known, 1 to 366; 30 where missing.
    #[param(minimum = 1, maximum = 366, example = 30)]
    #[serde(default = "default_days")]
    days: usize,
}

fn default_days() -> usize {
    30
}

/// How far values were from what came true.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PredictionErrors)]
pub struct ErrorsResponse {
    output: String,
    /// Values whose truth is known.
    count: u64,
    /// The mean of absolute errors.
    mae: f64,
    /// The root of the mean of squared errors.
    rmse: f64,
    /// The mean of errors: above 0 where predictions were too large.
    bias: f64,
    /// The same of persistence (the last value that was asked with), and of the predictions that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    persistence: Option<PersistenceResponse>,
}

/// Persistence beside the predictions of the same values.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PersistenceErrors)]
pub struct PersistenceResponse {
    count: u64,
    mae: f64,
    rmse: f64,
    /// Of the predictions of these values.
    model_mae: f64,
    model_rmse: f64,
}

impl ErrorsResponse {
    fn of((output, sums): (String, Sums)) -> Self {
        let mean = |sum: f64, count: u64| sum / count.max(1) as f64;
        let paired = |sum: f64| mean(sum, sums.paired);
        let persistence = (sums.paired > 0).then(|| PersistenceResponse {
            count: sums.paired,
            mae: paired(sums.persistence_absolute),
            rmse: paired(sums.persistence_squared).sqrt(),
            model_mae: paired(sums.paired_absolute),
            model_rmse: paired(sums.paired_squared).sqrt(),
        });
        Self {
            output,
            count: sums.count,
            mae: mean(sums.absolute, sums.count),
            rmse: mean(sums.squared, sums.count).sqrt(),
            bias: mean(sums.error, sums.count),
            persistence,
        }
    }
}

/// A day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PredictionDay)]
pub struct DayResponse {
    /// The UTC day of the predictions.
    #[schema(format = Date)]
    day: String,
    outputs: Vec<ErrorsResponse>,
}

/// How right a version was.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelAccuracy)]
pub struct AccuracyResponse {
    name: String,
    version: u64,
    /// For so many hours after a prediction a truth is taken.
    truth_hours: u64,
    /// Over all of these days.
    outputs: Vec<ErrorsResponse>,
    /// Oldest first.
    days: Vec<DayResponse>,
}

/// Say how right a version of a model was, by what came true of the predictions that were kept.
#[utoipa::path(get, path = "/api/v1/models/{name}/accuracy", tag = "models", operation_id = "get_model_accuracy",
    params(("name" = String, Path, description = "The registered model."), AccuracyParams),
    responses((status = 200, body = AccuracyResponse)))]
async fn accuracy(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Params(params): Params<AccuracyParams>,
) -> ApiResult<Json<AccuracyResponse>> {
    scope.require(Permission::Read)?;
    check_range(params.days, 1, DAYS_MAX, "days")?;
    let selector = Selector::asked(params.version.as_deref())?;
    let place = runtime.place_of(&scope, &name, selector).await?;
    let monitor = &runtime.0.monitor;
    let days = monitor.predictions.days(&scope, &place, params.days).await?;
    let mut all: BTreeMap<String, Sums> = BTreeMap::new();
    for (output, sums) in days.iter().flat_map(|day| &day.outputs) {
        all.entry(output.clone()).or_default().merge(sums);
    }
    let response = |outputs: BTreeMap<String, Sums>| outputs.into_iter().map(ErrorsResponse::of).collect();
    let days = days.into_iter().map(|day| DayResponse { day: day.day, outputs: response(day.outputs) });
    Ok(Json(AccuracyResponse {
        name,
        version: place.version,
        truth_hours: monitor.settings.truth_hours,
        days: days.collect(),
        outputs: response(all),
    }))
}
