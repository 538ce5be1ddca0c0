//! Runs, and what they log besides metrics.

use axum::extract::State;
use edge::Caller;
use kernel::{Error, codes};
use models::tracking::{Batch, DatasetInput, NewRun, RunChange, RunStatus, ViewType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::{self, Ask, Pair};
use super::{Answer, SearchFields, answer, done};
use crate::ModelRegistry;

const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 50_000;
const HISTORY_TAG: &str = "mlflow.log-model.history";
const HISTORY_BYTES_MAX: usize = 8_000;

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    experiment_id: String,
    user_id: Option<String>,
    run_name: Option<String>,
    #[serde(default, deserialize_with = "wire::whole")]
    start_time: Option<i64>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Create>,
) -> Answer {
    let new = NewRun {
        experiment_id: asked.experiment_id,
        name: asked.run_name,
        user_id: asked.user_id.unwrap_or_default(),
        start_ms: asked.start_time.filter(|time| *time > 0),
        tags: wire::map_of(asked.tags),
    };
    let made = registry.tracking.create_run(&scope, new).await?;
    answer(json!({"run": wire::run(&made)}))
}

#[derive(Debug, Deserialize)]
pub(super) struct ById {
    run_id: String,
}

/// The id of a run has two names; clients send one of them or both.
#[derive(Debug, Deserialize)]
pub(super) struct ByEither {
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    run_uuid: String,
}

impl ByEither {
    pub(super) fn id(&self) -> &str {
        if self.run_id.is_empty() { &self.run_uuid } else { &self.run_id }
    }
}

pub(super) async fn get(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ByEither>,
) -> Answer {
    let found = registry.tracking.run(&scope, asked.id()).await?;
    answer(json!({"run": wire::run(&found)}))
}

#[derive(Debug, Deserialize)]
pub(super) struct Update {
    #[serde(flatten)]
    id: ByEither,
    status: Option<RunStatus>,
    #[serde(default, deserialize_with = "wire::whole")]
    end_time: Option<i64>,
    run_name: Option<String>,
}

pub(super) async fn update(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Update>,
) -> Answer {
    let change = RunChange {
        status: asked.status,
        end_ms: asked.end_time.filter(|time| *time > 0),
        name: asked.run_name.filter(|name| !name.is_empty()),
    };
    let changed = registry.tracking.update_run(&scope, asked.id.id(), change).await?;
    answer(json!({"run_info": wire::run_info(&changed)}))
}

pub(super) async fn delete(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ById>,
) -> Answer {
    registry.tracking.delete_run(&scope, &asked.run_id).await?;
    done()
}

pub(super) async fn restore(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ById>,
) -> Answer {
    registry.tracking.restore_run(&scope, &asked.run_id).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Find {
    #[serde(default, deserialize_with = "wire::texts")]
    experiment_ids: Vec<String>,
    #[serde(default)]
    run_view_type: ViewType,
    #[serde(flatten)]
    search: SearchFields,
}

pub(super) async fn search(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Find>,
) -> Answer {
    let search = asked.search.search(PAGE_DEFAULT, PAGE_MAX)?;
    let page =
        registry.tracking.search_runs(&scope, &asked.experiment_ids, asked.run_view_type, &search).await?;
    answer(wire::page("runs", page.subjects.iter().map(wire::run).collect(), page.next))
}

#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    id: ByEither,
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn log_param(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Entry>,
) -> Answer {
    let batch = Batch { params: vec![(asked.key, asked.value)], ..Batch::default() };
    registry.tracking.log(&scope, asked.id.id(), &batch).await?;
    done()
}

pub(super) async fn set_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Entry>,
) -> Answer {
    let batch = Batch { tags: vec![(asked.key, asked.value)], ..Batch::default() };
    registry.tracking.log(&scope, asked.id.id(), &batch).await?;
    done()
}

pub(super) async fn delete_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Entry>,
) -> Answer {
    registry.tracking.untag_run(&scope, asked.id.id(), &asked.key).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Inputs {
    run_id: String,
    #[serde(default)]
    datasets: Vec<Input>,
    #[serde(default)]
    models: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct Input {
    dataset: Dataset,
    #[serde(default)]
    tags: Vec<Pair>,
}

#[derive(Debug, Deserialize)]
struct Dataset {
    name: String,
    digest: String,
    #[serde(default)]
    source_type: String,
    #[serde(default)]
    source: String,
    schema: Option<String>,
    profile: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Model {
    model_id: String,
    #[serde(default, deserialize_with = "wire::whole")]
    step: Option<i64>,
}

pub(super) async fn log_inputs(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Inputs>,
) -> Answer {
    let input = |Input { dataset, tags }: Input| {
        let Dataset { name, digest, source_type, source, schema, profile } = dataset;
        DatasetInput { name, digest, source_type, source, schema, profile, tags: wire::map_of(tags) }
    };
    let datasets: Vec<DatasetInput> = asked.datasets.into_iter().map(input).collect();
    let models: Vec<String> = asked.models.into_iter().map(|model| model.model_id).collect();
    registry.tracking.log_inputs(&scope, &asked.run_id, &datasets, &models).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Outputs {
    run_id: String,
    #[serde(default)]
    models: Vec<Model>,
}

pub(super) async fn log_outputs(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Outputs>,
) -> Answer {
    let models: Vec<(String, i64)> =
        asked.models.into_iter().map(|model| (model.model_id, model.step.unwrap_or(0))).collect();
    registry.tracking.log_outputs(&scope, &asked.run_id, &models).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct LogModel {
    run_id: String,
    model_json: String,
}

/// Older clients note each model that they log in a tag of the run.
pub(super) async fn log_model(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<LogModel>,
) -> Answer {
    let fault = |cause: serde_json::Error| {
        Error::new(codes::VALIDATION_ERROR, "is not JSON").with_field("model_json").with_source(cause)
    };
    let model: Value = serde_json::from_str(&asked.model_json).map_err(fault)?;
    let run = registry.tracking.run(&scope, &asked.run_id).await?;
    let before = run.tags.get(HISTORY_TAG).and_then(|text| serde_json::from_str(text).ok());
    let mut history: Vec<Value> = before.unwrap_or_default();
    history.push(model);
    // The oldest go where there is no room.
    let mut text = json!(history).to_string();
    while text.len() > HISTORY_BYTES_MAX && !history.is_empty() {
        history.remove(0);
        text = json!(history).to_string();
    }
    let batch = Batch { tags: vec![(HISTORY_TAG.to_owned(), text)], ..Batch::default() };
    registry.tracking.log(&scope, &asked.run_id, &batch).await?;
    done()
}
