//! Registering in the data, which this process has open.

use std::collections::BTreeMap;

use kernel::{Result, Scope};
use models::ALREADY_EXISTS;
use models::registered::NewVersion;
use models::tracking::{Batch, DEFAULT_EXPERIMENT, DatasetInput, MetricPoint, NewRun, RunChange, RunStatus};
use registry::ModelRegistry;

use super::{Data, FOLDER, Made, Registration};
use crate::app::Ambient;

pub(super) async fn register(
    registry: &ModelRegistry,
    scope: &Scope,
    name: &str,
    made: Registration<'_>,
) -> Result<Made> {
    find_or_make(registry, scope, name).await?;
    let tags = super::tags(&made).map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let new = NewRun { experiment_id: DEFAULT_EXPERIMENT.to_owned(), tags, ..NewRun::default() };
    let run = registry.tracking.create_run(scope, new).await?;
    let data = data(&made);
    let params = made.params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let metrics = made.metrics.into_iter().map(|(key, value)| point(key, value, run.start_ms)).collect();
    let batch = Batch { params, metrics, ..Batch::default() };
    registry.tracking.log(scope, &run.id, &batch).await?;
    registry.tracking.log_inputs(scope, &run.id, &[data], &[]).await?;
    for (file, text) in made.files {
        let mut upload = registry.files.begin(&run.root(), &format!("{FOLDER}/{file}"), None)?;
        upload.push(scope, text.as_bytes()).await?;
        upload.finish(scope).await?;
    }
    let source = format!("runs:/{}/{FOLDER}", run.id);
    let new = NewVersion { model: name.to_owned(), source, run_id: run.id.clone(), ..NewVersion::default() };
    let version = registry.models.create_version(scope, new).await?.version;
    let end_ms = Some(Ambient::of_system().clock.now().as_millisecond());
    let ended = RunChange { status: Some(RunStatus::Finished), end_ms, ..RunChange::default() };
    registry.tracking.update_run(scope, &run.id, ended).await?;
    Ok(Made { version: version.to_string(), run_id: run.id })
}

async fn find_or_make(registry: &ModelRegistry, scope: &Scope, name: &str) -> Result<()> {
    match registry.models.create(scope, name, "", BTreeMap::new()).await {
        Err(error) if error.code() != ALREADY_EXISTS => Err(error),
        _ => Ok(()),
    }
}

fn point(key: &str, value: f64, timestamp_ms: i64) -> MetricPoint {
    MetricPoint { key: key.to_owned(), value, timestamp_ms, step: 0, model_id: None, dataset: None }
}

fn data(made: &Registration<'_>) -> DatasetInput {
    let Data { name, digest, source } = Data::of(made);
    let (key, value) = Data::CONTEXT;
    DatasetInput {
        name,
        digest,
        source_type: Data::SOURCE_TYPE.to_owned(),
        source,
        schema: None,
        profile: None,
        tags: BTreeMap::from([(key.to_owned(), value.to_owned())]),
    }
}
