//! What runs log: metrics, parameters, tags, data and models, in batches.

use std::collections::BTreeMap;

use kernel::{Permission, Result, Scope, codes};
use store::{Expect, Repository, Versioned, Write};

use super::metrics::{Point, check_point};
use super::runs::{NAME_TAG, require_active};
use super::{ATTEMPTS, DatasetInput, MetricPoint, Run, Tracking, too_many};
use crate::limits::{PARAM_BYTES_MAX, TAG_BYTES_MAX, check_count, check_key, check_value, invalid, missing};

/// Metrics of one batch.
const METRICS_MAX: usize = 1_000;
/// Parameters, or tags, of one batch.
const ENTRIES_MAX: usize = 1_000;
const DATASETS_MAX: usize = 1_000;

/// What is logged at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Points.
    pub metrics: Vec<MetricPoint>,
    /// Settings.
    pub params: Vec<(String, String)>,
    /// Free text.
    pub tags: Vec<(String, String)>,
}

impl Batch {
    fn check(&self) -> Result<()> {
        let counts = [
            (self.metrics.len(), METRICS_MAX, "metrics"),
            (self.params.len(), ENTRIES_MAX, "params"),
            (self.tags.len(), ENTRIES_MAX, "tags"),
        ];
        for (count, most, field) in counts {
            if count > most {
                return Err(invalid(field, format!("a batch has at most {most}, not {count}")));
            }
        }
        for (number, point) in self.metrics.iter().enumerate() {
            check_point(point, &format!("metrics[{number}]"))?;
        }
        for (number, (key, value)) in self.params.iter().enumerate() {
            check_key(key, &format!("params[{number}].key"))?;
            check_value(value, PARAM_BYTES_MAX, &format!("params[{number}].value"))?;
        }
        for (number, (key, value)) in self.tags.iter().enumerate() {
            check_key(key, &format!("tags[{number}].key"))?;
            check_value(value, TAG_BYTES_MAX, &format!("tags[{number}].value"))?;
        }
        Ok(())
    }

    fn apply(&self, run: &mut Run) -> Result<()> {
        for (key, value) in &self.params {
            let kept = run.params.entry(key.clone()).or_insert_with(|| value.clone());
            if kept != value {
                let message = format!(
                    "the parameter `{key}` was logged before with another value and is never changed"
                );
                return Err(invalid("params", message));
            }
        }
        for (key, value) in &self.tags {
            if key == NAME_TAG {
                run.name.clone_from(value);
            }
            run.tags.insert(key.clone(), value.clone());
        }
        for point in &self.metrics {
            let latest = run.metrics.entry(point.key.clone()).or_insert_with(|| point.clone());
            if latest.rank() < point.rank() {
                *latest = point.clone();
            }
        }
        check_count(run.params.len(), "params")?;
        check_count(run.tags.len(), "tags")?;
        check_count(run.metrics.len(), "metrics")
    }
}

impl Tracking {
    /// Logs a batch: all of it or nothing. To log the same again is fine.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`, also for a parameter that had another value; `NOT_FOUND`; `INVALID_STATE` for a deleted run;
    /// `PERMISSION_DENIED`; those of the engine.
    pub async fn log(&self, scope: &Scope, run_id: &str, batch: &Batch) -> Result<()> {
        scope.require(Permission::Write)?;
        batch.check()?;
        for _ in 0..ATTEMPTS {
            let found = self.found_run(scope, run_id).await?;
            let Versioned { version, document: mut run } = found.ok_or_else(|| missing("run", run_id))?;
            require_active(&run)?;
            batch.apply(&mut run)?;
            let mut writes = vec![Repository::write(&run, Expect::Version(version))?];
            writes.extend(points(&run, &batch.metrics)?);
            match self.records.commit(scope, writes).await {
                Ok(_) => return self.note_on_models(scope, run_id, &batch.metrics).await,
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(too_many())
    }

    /// Removes a tag of a run.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of [`Tracking::log`].
    pub async fn untag_run(&self, scope: &Scope, run_id: &str, key: &str) -> Result<()> {
        let edit = |run: &mut Run| run.tags.remove(key).map(drop).ok_or_else(|| missing("tag", key));
        self.change_run(scope, run_id, edit).await.map(drop)
    }

    /// Notes the data and the models that a run read.
    ///
    /// # Errors
    /// As [`Tracking::log`].
    pub async fn log_inputs(
        &self,
        scope: &Scope,
        run_id: &str,
        datasets: &[DatasetInput],
        models: &[String],
    ) -> Result<()> {
        for (number, dataset) in datasets.iter().enumerate() {
            check_key(&dataset.name, &format!("datasets[{number}].dataset.name"))?;
            check_key(&dataset.digest, &format!("datasets[{number}].dataset.digest"))?;
        }
        let edit = |run: &mut Run| {
            for dataset in datasets {
                let is_same = |one: &DatasetInput| one.name == dataset.name && one.digest == dataset.digest;
                match run.datasets.iter_mut().find(|one| is_same(one)) {
                    Some(known) => known.tags.extend(dataset.tags.clone()),
                    None => run.datasets.push(dataset.clone()),
                }
            }
            for model in models {
                if !run.model_inputs.contains(model) {
                    run.model_inputs.push(model.clone());
                }
            }
            check_related(run)
        };
        self.change_run(scope, run_id, edit).await.map(drop)
    }

    /// Notes the models that a run made, each with its step.
    ///
    /// # Errors
    /// As [`Tracking::log`].
    pub async fn log_outputs(&self, scope: &Scope, run_id: &str, models: &[(String, i64)]) -> Result<()> {
        let edit = |run: &mut Run| {
            for model in models {
                if !run.model_outputs.contains(model) {
                    run.model_outputs.push(model.clone());
                }
            }
            check_related(run)
        };
        self.change_run(scope, run_id, edit).await.map(drop)
    }
}

fn check_related(run: &Run) -> Result<()> {
    if run.datasets.len().max(run.model_inputs.len()).max(run.model_outputs.len()) > DATASETS_MAX {
        return Err(invalid("run_id", format!("a run has at most {DATASETS_MAX} data sets or models")));
    }
    Ok(())
}

/// Each point once, however often it is logged.
fn points(run: &Run, metrics: &[MetricPoint]) -> Result<Vec<Write>> {
    let mut writes = BTreeMap::new();
    for metric in metrics {
        let point = Point { run_id: run.id.clone(), point: metric.clone() };
        writes.insert(store::Document::key(&point), Repository::write(&point, Expect::Any)?);
    }
    Ok(writes.into_values().collect())
}
