//! Putting a forecaster that was trained into the registry: a run with its settings, scores and data, and a version of a
//! registered model made of its files. It refuses nothing that the registry takes, and promotes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use kernel::{Error, Result, Scope, codes};
use market::algorithms::forecasting::Report;
use models::ALREADY_EXISTS;
use models::registered::NewVersion;
use models::tracking::{Batch, DEFAULT_EXPERIMENT, DatasetInput, MetricPoint, NewRun, RunChange, RunStatus};
use registry::ModelRegistry;

use crate::app::Ambient;
use crate::cli::TrainCurve;
use crate::commands::models as registered;
use crate::config::Config;
use crate::{forecasters, terminal};

/// The folder of the model's files among those of its run.
const FOLDER: &str = "model";

/// What was trained.
pub(super) struct Trained {
    pub(super) report: Report,
    pub(super) model: String,
    pub(super) drift_reference: String,
}

/// Makes a version of the model `name` and says which.
pub(super) async fn register(
    config: &Config,
    name: &str,
    asked: &TrainCurve,
    trained: &Trained,
) -> Result<()> {
    let (registry, scope) = registered::open(config).await?;
    let source = "watershed train curve-forecaster";
    let tags = BTreeMap::from([
        ("mlflow.source.name".to_owned(), source.to_owned()),
        ("watershed.code_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    let new = NewRun { experiment_id: DEFAULT_EXPERIMENT.to_owned(), tags, ..NewRun::default() };
    let run = registry.tracking.create_run(&scope, new).await?;
    let (params, metrics) = (params(asked), metrics(&trained.report, run.start_ms));
    let batch = Batch { params, metrics, ..Batch::default() };
    registry.tracking.log(&scope, &run.id, &batch).await?;
    registry.tracking.log_inputs(&scope, &run.id, &[data(&asked.data_path, &trained.report)], &[]).await?;
    let files =
        [(forecasters::FILE, &trained.model), (rollout::drift::document::FILE, &trained.drift_reference)];
    for (file, text) in files {
        let mut upload = registry.files.begin(&run.root(), &format!("{FOLDER}/{file}"), None)?;
        upload.push(&scope, text.as_bytes()).await?;
        upload.finish(&scope).await?;
    }
    let version = make_version(&registry, &scope, name, &run.id).await?;
    let end_ms = Some(Ambient::of_system().clock.now().as_millisecond());
    let ended = RunChange { status: Some(RunStatus::Finished), end_ms, ..RunChange::default() };
    registry.tracking.update_run(&scope, &run.id, ended).await?;
    terminal::note(format!(
        "registered version {version} of {name} (run {}); to serve it: watershed promote --model {name} --version {version}",
        run.id
    ));
    Ok(())
}

async fn make_version(registry: &ModelRegistry, scope: &Scope, name: &str, run_id: &str) -> Result<u64> {
    match registry.models.create(scope, name, "", BTreeMap::new()).await {
        Err(error) if error.code() != ALREADY_EXISTS => return Err(error),
        _ => {}
    }
    let source = format!("runs:/{run_id}/{FOLDER}");
    let new =
        NewVersion { model: name.to_owned(), source, run_id: run_id.to_owned(), ..NewVersion::default() };
    Ok(registry.models.create_version(scope, new).await?.version)
}

fn params(asked: &TrainCurve) -> Vec<(String, String)> {
    let until = asked.train_until.map_or_else(|| "all".to_owned(), |date| date.to_string());
    [
        ("curve_type", asked.curve_type.to_string()),
        ("model_type", asked.model_type.name().to_owned()),
        ("lookback_days", asked.lookback_days.to_string()),
        ("forecast_horizon", asked.forecast_horizon.to_string()),
        ("n_estimators", asked.n_estimators.to_string()),
        ("max_depth", asked.max_depth.to_string()),
        ("learning_rate", asked.learning_rate.to_string()),
        ("alpha", asked.alpha.to_string()),
        ("seed", asked.seed.to_string()),
        ("train_until", until),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn metrics(report: &Report, timestamp_ms: i64) -> Vec<MetricPoint> {
    let p = report.diebold_mariano.as_ref().map(|test| ("diebold_mariano_p", test.p_value));
    let scores = [
        ("rmse", report.model.rmse),
        ("mae", report.model.mae),
        ("persistence_rmse", report.persistence.rmse),
        ("seasonal_naive_rmse", report.seasonal_naive.rmse),
    ];
    let point = |(key, value): (&str, f64)| MetricPoint {
        key: key.to_owned(),
        value,
        timestamp_ms,
        step: 0,
        model_id: None,
        dataset: None,
    };
    scores.into_iter().chain(p).map(point).collect()
}

fn data(path: &Path, report: &Report) -> DatasetInput {
    let name = path.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy());
    DatasetInput {
        name: name.into_owned(),
        digest: report.snapshot.chars().take(16).collect(),
        source_type: "local".to_owned(),
        source: path.display().to_string(),
        schema: None,
        profile: None,
        tags: BTreeMap::from([("mlflow.data.context".to_owned(), "training".to_owned())]),
    }
}

/// Refuses a name before hours are spent on training.
pub(super) fn check(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        let message = "is empty; give the name of the registered model";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--register"));
    }
    Ok(())
}
