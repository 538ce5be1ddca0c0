//! What is kept of experiments, runs and logged models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use store::{Document, IndexValue, Table};

use crate::search::{Entity, Grammar, Kind, Subject, Value};

/// A set of runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// Digits; `0` is the one that every tenant has.
    pub id: String,
    /// Unique within the tenant, deleted ones too.
    pub name: String,
    /// Whether it was deleted and can be restored.
    pub is_deleted: bool,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// Free text.
    pub tags: BTreeMap<String, String>,
}

impl Document for Experiment {
    const TABLE: Table = Table { name: "experiments", indexes: &[] };

    fn key(&self) -> String {
        self.id.clone()
    }
}

/// What can be said of experiments.
pub(super) const EXPERIMENTS: Grammar = Grammar {
    attributes: &[
        ("name", Kind::Text, &[]),
        ("experiment_id", Kind::Text, &[]),
        ("creation_time", Kind::Number, &[]),
        ("last_update_time", Kind::Number, &[]),
    ],
    entities: &[],
};

impl Subject for Experiment {
    fn values(&self, entity: Entity, key: &str) -> Vec<Value> {
        match (entity, key) {
            (Entity::Attribute, "name") => text(&self.name),
            (Entity::Attribute, "experiment_id") => text(&self.id),
            (Entity::Attribute, "creation_time") => number(self.created_ms),
            (Entity::Attribute, _) => number(self.updated_ms),
            (Entity::Tag, key) => entry(&self.tags, key),
            _ => Vec::new(),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }
}

/// The name of an experiment, which makes it unique.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ExperimentName {
    pub name: String,
    pub id: String,
}

impl Document for ExperimentName {
    const TABLE: Table = Table { name: "experiment_names", indexes: &[] };

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// How a run stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// It goes on.
    #[default]
    Running,
    /// It will.
    Scheduled,
    /// It came to its end.
    Finished,
    /// It failed.
    Failed,
    /// It was ended.
    Killed,
}

impl RunStatus {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Scheduled => "SCHEDULED",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
        }
    }
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricPoint {
    /// The metric.
    pub key: String,
    /// Also not finite.
    #[serde(with = "bits")]
    pub value: f64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Which step of the training.
    pub step: i64,
    /// The logged model that it measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// The data set that it was measured on: name and digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<(String, String)>,
}

impl MetricPoint {
    /// What makes one point later than another: the step, then the time, then the value.
    pub(super) fn rank(&self) -> (i64, i64, bool, i64) {
        (self.step, self.timestamp_ms, !self.value.is_nan(), sortable(self.value))
    }
}

/// Integers in the order of floats.
pub(super) fn sortable(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// JSON has no numbers that are not finite.
mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.to_bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// A data set that a run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInput {
    /// Its name.
    pub name: String,
    /// What tells it from others of that name.
    pub digest: String,
    /// What kind of source it has.
    pub source_type: String,
    /// Where it came from.
    pub source: String,
    /// Its columns, as JSON.
    pub schema: Option<String>,
    /// What is in it, as JSON.
    pub profile: Option<String>,
    /// Such as `mlflow.data.context`.
    pub tags: BTreeMap<String, String>,
}

/// One training or evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Its experiment.
    pub experiment_id: String,
    /// For people.
    pub name: String,
    /// Who ran it, as the caller says.
    pub user_id: String,
    /// How it stands.
    pub status: RunStatus,
    /// Milliseconds since 1970.
    pub start_ms: i64,
    /// Milliseconds since 1970.
    pub end_ms: Option<i64>,
    /// When it was deleted; it can be restored until a clean-up.
    pub deleted_ms: Option<i64>,
    /// Settings; never changed once written.
    pub params: BTreeMap<String, String>,
    /// Free text; lineage is in `mlflow.source.*`.
    pub tags: BTreeMap<String, String>,
    /// The latest point of each metric.
    pub metrics: BTreeMap<String, MetricPoint>,
    /// Data that it read.
    pub datasets: Vec<DatasetInput>,
    /// Logged models that it read.
    pub model_inputs: Vec<String>,
    /// Logged models that it made, and at which step.
    pub model_outputs: Vec<(String, i64)>,
}

impl Document for Run {
    const TABLE: Table = Table { name: "runs", indexes: &["experiment"] };

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("experiment", IndexValue::Text(self.experiment_id.clone()))]
    }
}

impl Run {
    /// Where its artifacts are.
    #[must_use]
    pub fn root(&self) -> String {
        format!("{}/{}/artifacts", self.experiment_id, self.id)
    }
}

/// What can be said of runs.
pub(super) const RUNS: Grammar = Grammar {
    attributes: &[
        ("run_id", Kind::Text, &[]),
        ("run_name", Kind::Text, &["run name", "Run name", "Run Name"]),
        ("status", Kind::Text, &[]),
        ("user_id", Kind::Text, &[]),
        ("artifact_uri", Kind::Text, &[]),
        ("start_time", Kind::Number, &["created", "Created"]),
        ("end_time", Kind::Number, &[]),
    ],
    entities: &[Entity::Metric, Entity::Param, Entity::Dataset],
};

/// How artifacts are named to clients.
pub(crate) const ARTIFACTS: &str = "mlflow-artifacts:/";

impl Subject for Run {
    fn values(&self, entity: Entity, key: &str) -> Vec<Value> {
        match (entity, key) {
            (Entity::Attribute, "run_id") => text(&self.id),
            (Entity::Attribute, "run_name") => text(&self.name),
            (Entity::Attribute, "status") => text(self.status.name()),
            (Entity::Attribute, "user_id") => text(&self.user_id),
            (Entity::Attribute, "artifact_uri") => text(&format!("{ARTIFACTS}{}", self.root())),
            (Entity::Attribute, "start_time") => number(self.start_ms),
            (Entity::Attribute, _) => self.end_ms.map(number).unwrap_or_default(),
            (Entity::Metric, key) => {
                self.metrics.get(key).map(|point| Value::Number(point.value)).into_iter().collect()
            }
            (Entity::Param, key) => entry(&self.params, key),
            (Entity::Tag, key) => entry(&self.tags, key),
            (Entity::Dataset, key) => {
                let field = |dataset: &DatasetInput| match key {
                    "name" => Some(dataset.name.clone()),
                    "digest" => Some(dataset.digest.clone()),
                    _ => dataset.tags.get("mlflow.data.context").cloned(),
                };
                self.datasets.iter().filter_map(field).map(Value::Text).collect()
            }
        }
    }

    fn id(&self) -> &str {
        &self.id
    }
}

/// How a logged model stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LoggedModelStatus {
    /// Its artifacts are on their way.
    #[default]
    LoggedModelPending,
    /// They are there.
    LoggedModelReady,
    /// They did not come.
    LoggedModelUploadFailed,
}

impl LoggedModelStatus {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LoggedModelPending => "LOGGED_MODEL_PENDING",
            Self::LoggedModelReady => "LOGGED_MODEL_READY",
            Self::LoggedModelUploadFailed => "LOGGED_MODEL_UPLOAD_FAILED",
        }
    }
}

/// A model that a run made, before it is registered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoggedModel {
    /// `m-` and 32 hexadecimal digits.
    pub id: String,
    /// Its experiment.
    pub experiment_id: String,
    /// For people.
    pub name: String,
    /// What kind of model.
    pub model_type: Option<String>,
    /// The run that made it.
    pub source_run_id: Option<String>,
    /// How it stands.
    pub status: LoggedModelStatus,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// Settings.
    pub params: BTreeMap<String, String>,
    /// Free text.
    pub tags: BTreeMap<String, String>,
    /// The latest point of each metric, and the run that logged it.
    pub metrics: BTreeMap<String, (MetricPoint, String)>,
    /// Registered models and versions that it became.
    pub registrations: Vec<(String, u64)>,
}

impl Document for LoggedModel {
    const TABLE: Table = Table { name: "logged_models", indexes: &["experiment"] };

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("experiment", IndexValue::Text(self.experiment_id.clone()))]
    }
}

impl LoggedModel {
    /// Where its artifacts are.
    #[must_use]
    pub fn root(&self) -> String {
        format!("{}/models/{}/artifacts", self.experiment_id, self.id)
    }
}

/// What can be said of logged models.
pub(super) const LOGGED_MODELS: Grammar = Grammar {
    attributes: &[
        ("name", Kind::Text, &[]),
        ("model_id", Kind::Text, &[]),
        ("model_type", Kind::Text, &[]),
        ("status", Kind::Text, &[]),
        ("source_run_id", Kind::Text, &[]),
        ("creation_timestamp", Kind::Number, &["creation_time"]),
        ("last_updated_timestamp", Kind::Number, &["last_updated_time"]),
    ],
    entities: &[Entity::Metric, Entity::Param],
};

impl Subject for LoggedModel {
    fn values(&self, entity: Entity, key: &str) -> Vec<Value> {
        let optional = |value: &Option<String>| value.as_deref().map(text).unwrap_or_default();
        match (entity, key) {
            (Entity::Attribute, "name") => text(&self.name),
            (Entity::Attribute, "model_id") => text(&self.id),
            (Entity::Attribute, "model_type") => optional(&self.model_type),
            (Entity::Attribute, "status") => text(self.status.name().trim_start_matches("LOGGED_MODEL_")),
            (Entity::Attribute, "source_run_id") => optional(&self.source_run_id),
            (Entity::Attribute, "creation_timestamp") => number(self.created_ms),
            (Entity::Attribute, _) => number(self.updated_ms),
            (Entity::Metric, key) => {
                self.metrics.get(key).map(|(point, _)| Value::Number(point.value)).into_iter().collect()
            }
            (Entity::Param, key) => entry(&self.params, key),
            (Entity::Tag, key) => entry(&self.tags, key),
            (Entity::Dataset, _) => Vec::new(),
        }
    }

    fn id(&self) -> &str {
        &self.id
    }
}

pub(crate) fn text(value: &str) -> Vec<Value> {
    vec![Value::Text(value.to_owned())]
}

/// Milliseconds are exact in a float for 285,000 years.
pub(crate) fn number(value: i64) -> Vec<Value> {
    vec![Value::Number(value as f64)]
}

pub(crate) fn entry(map: &BTreeMap<String, String>, key: &str) -> Vec<Value> {
    map.get(key).cloned().map(Value::Text).into_iter().collect()
}
