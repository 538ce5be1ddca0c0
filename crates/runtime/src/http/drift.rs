//! `GET /api/v1/models/{name}/drift`: whether what a version is asked and answers is like what it learned from.

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Caller, Params, Path};
use kernel::Timestamp;
use rollout::drift::FeatureReport;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::monitoring::windows::Look;
use crate::{Runtime, Selector};

pub(super) fn routes() -> OpenApiRouter<Runtime> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Which version.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DriftParams {
    /// A number, or an alias; `champion` where missing.
    #[param(example = "champion")]
    version: Option<String>,
}

/// One comparison.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelDriftLook)]
pub struct LookResponse {
    /// 1 for the first.
    look: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// When its first window began.
    #[schema(value_type = String, format = DateTime)]
    begin: Timestamp,
    /// When its last window ended.
    #[schema(value_type = String, format = DateTime)]
    end: Timestamp,
    /// Rows that were asked.
    seen: u64,
    /// Of these, the sample that was compared.
    rows: usize,
    /// Features that drifted.
    drifted: Vec<String>,
}

impl From<Look> for LookResponse {
    fn from(look: Look) -> Self {
        let Look { look, at, from, until, seen, rows, drifted } = look;
        Self { look, at, begin: from, end: until, seen, rows, drifted }
    }
}

/// What the last comparison found of a feature.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelDriftFeature)]
pub struct FeatureResponse {
    feature: String,
    /// Rows that had a value.
    count: usize,
    /// Rows that had none.
    missing: usize,
    /// The largest distance of both distribution functions (Kolmogorov and Smirnov).
    #[serde(skip_serializing_if = "Option::is_none")]
    statistic: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p_value: Option<f64>,
    /// After Holm, over all features: it drifted where this is at most `level`.
    adjusted_p_value: f64,
    /// For people; nothing is decided by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    population_stability_index: Option<f64>,
    drifted: bool,
}

impl From<FeatureReport> for FeatureResponse {
    fn from(report: FeatureReport) -> Self {
        Self {
            feature: report.feature,
            count: report.count,
            missing: report.missing,
            statistic: report.statistic,
            p_value: report.p_value,
            adjusted_p_value: report.adjusted_p_value,
            population_stability_index: report.population_stability_index,
            drifted: report.drifted,
        }
    }
}

/// Whether a version drifts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelDrift)]
pub struct DriftResponse {
    name: String,
    version: u64,
    /// Whether the last comparison found drift; missing before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    drifting: Option<bool>,
    /// Features of its reference; none where it is not watched.
    reference_features: usize,
    /// Why it is not watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    /// Seconds of a window.
    window_secs: u64,
    /// Distinct rows that the next comparison has so far, 256 at most: of the window that goes on, and of those before it that had
    /// too few. What servers saw since they last wrote it, within `runtime.monitoring.flush_secs`, is not among them.
    rows_seen: usize,
    /// Distinct rows below which nothing is compared.
    rows_min: usize,
    /// When the window that goes on ends. It is compared within three `runtime.monitoring.flush_secs` after.
    #[schema(value_type = String, format = DateTime)]
    window_ends: Timestamp,
    /// What an adjusted p-value is compared with in the last comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<f64>,
    /// Of the last comparison, by name.
    features: Vec<FeatureResponse>,
    /// Newest first, 50 at most.
    looks: Vec<LookResponse>,
}

/// Say whether a version of a model drifts: its reference against what all servers were asked.
#[utoipa::path(get, path = "/api/v1/models/{name}/drift", tag = "models", operation_id = "get_model_drift",
    params(("name" = String, Path, description = "The registered model."), DriftParams),
    responses((status = 200, body = DriftResponse)))]
async fn get(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Params(params): Params<DriftParams>,
) -> ApiResult<Json<DriftResponse>> {
    let selector = Selector::asked(params.version.as_deref())?;
    let place = runtime.standing_place(&scope, &name, selector).await?;
    let monitor = &runtime.0.monitor;
    let head = monitor.windows.head(&scope, &place).await?.map(|head| head.document);
    let (rows_seen, window_ends) =
        monitor.windows.waiting(&scope, &place, monitor.now(), &monitor.settings).await?;
    // Only looked at: a question about drift drops no version that answers.
    let loaded = runtime.0.shelf.peek(&place);
    let (reference_features, fault) = match loaded.as_ref().map(|loaded| &loaded.watched) {
        Some(Ok(watch)) => (watch.document.features.len(), None),
        Some(Err(fault)) => {
            let none = "the version has no `drift_reference.json`; log one beside the model";
            (0, Some(fault.clone().unwrap_or_else(|| none.to_owned())))
        }
        None => (
            0,
            Some("the version is not in memory of this server; it is watched once it is asked".to_owned()),
        ),
    };
    let drifting = head.as_ref().filter(|head| head.looks > 0).map(|head| head.is_drifting());
    let head = head.unwrap_or_default();
    let level = head.last.as_ref().map(|report| report.level);
    let features = head.last.map(|report| report.features).unwrap_or_default();
    Ok(Json(DriftResponse {
        name,
        version: place.version,
        drifting,
        reference_features,
        fault,
        window_secs: monitor.settings.window_secs,
        rows_seen,
        rows_min: monitor.settings.rows_min,
        window_ends,
        level,
        features: features.into_iter().map(Into::into).collect(),
        looks: head.history.into_iter().map(Into::into).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RuntimeSettings;
    use crate::tests::home;

    #[tokio::test]
    async fn a_question_about_drift_loads_nothing() {
        let home = home(RuntimeSettings::default());
        let version = home.factor("curve", 2.0).await;
        let params = DriftParams { version: Some(version.to_string()) };
        let (runtime, scope) = (home.runtime.clone(), home.scope.clone());
        let told = get(State(runtime), Caller(scope), Path("curve".to_owned()), Params(params)).await;
        let told = told.map_err(|_| "refused").unwrap().0;
        assert!(told.fault.unwrap().contains("not in memory") && told.version == version);
        assert_eq!((told.rows_seen, told.rows_min), (0, 50));
        assert!(home.runtime.0.shelf.all().is_empty());
    }
}
