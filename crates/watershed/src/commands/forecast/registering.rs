//! Putting a forecaster that was trained into the registry: a run with its settings, scores and data, and a version of a
//! registered model made of its files. It refuses nothing that the registry takes, and promotes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use kernel::{Error, Result, Scope, codes};
use models::ALREADY_EXISTS;
use models::registered::NewVersion;
use models::tracking::{Batch, DEFAULT_EXPERIMENT, DatasetInput, MetricPoint, NewRun, RunChange, RunStatus};
use registry::ModelRegistry;

use crate::app::Ambient;
use crate::commands::models as registered;
use crate::config::Config;
use crate::terminal;

/// The folder of the model's files among those of its run.
const FOLDER: &str = "model";

/// What is registered, and what is told of it.
pub(super) struct Registration<'a> {
    /// What made it.
    pub(super) command: &'static str,
    /// Its settings.
    pub(super) params: Vec<(&'static str, String)>,
    /// Its scores.
    pub(super) metrics: Vec<(&'static str, f64)>,
    /// The table that it learned from.
    pub(super) data: &'a Path,
    /// BLAKE3 of that, in hexadecimal.
    pub(super) snapshot: &'a str,
    /// The files of the model, by name.
    pub(super) files: Vec<(&'static str, String)>,
}

/// Makes a version of the model `name` and says which.
pub(super) async fn register(config: &Config, name: &str, made: Registration<'_>) -> Result<()> {
    let (registry, scope) = registered::open(config).await?;
    let tags = BTreeMap::from([
        ("mlflow.source.name".to_owned(), made.command.to_owned()),
        ("watershed.code_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    let new = NewRun { experiment_id: DEFAULT_EXPERIMENT.to_owned(), tags, ..NewRun::default() };
    let run = registry.tracking.create_run(&scope, new).await?;
    let params = made.params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let metrics = made.metrics.into_iter().map(|(key, value)| point(key, value, run.start_ms)).collect();
    let batch = Batch { params, metrics, ..Batch::default() };
    registry.tracking.log(&scope, &run.id, &batch).await?;
    registry.tracking.log_inputs(&scope, &run.id, &[data(made.data, made.snapshot)], &[]).await?;
    for (file, text) in made.files {
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

fn point(key: &str, value: f64, timestamp_ms: i64) -> MetricPoint {
    MetricPoint { key: key.to_owned(), value, timestamp_ms, step: 0, model_id: None, dataset: None }
}

fn data(path: &Path, snapshot: &str) -> DatasetInput {
    let name = path.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy());
    DatasetInput {
        name: name.into_owned(),
        digest: snapshot.chars().take(16).collect(),
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
