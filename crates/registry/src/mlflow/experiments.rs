//! Experiments.

use std::collections::BTreeSet;

use axum::extract::State;
use edge::Caller;
use kernel::{Error, codes};
use models::tracking::{Search, ViewType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::{self, ARTIFACTS, Ask, Pair};
use super::{Answer, SearchFields, answer, done};
use crate::ModelRegistry;

const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 50_000;

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    name: String,
    artifact_location: Option<String>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Create>,
) -> Answer {
    let location = asked.artifact_location.unwrap_or_default();
    if !location.is_empty() && !location.starts_with(ARTIFACTS) {
        let message = "artifacts are kept by this server; leave it empty";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("artifact_location").into());
    }
    let made = registry.tracking.create_experiment(&scope, &asked.name, wire::map_of(asked.tags)).await?;
    answer(json!({"experiment_id": made.id}))
}

#[derive(Debug, Deserialize)]
pub(super) struct ById {
    experiment_id: String,
}

pub(super) async fn get(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ById>,
) -> Answer {
    let found = registry.tracking.experiment(&scope, &asked.experiment_id).await?;
    answer(json!({"experiment": wire::experiment(&found)}))
}

#[derive(Debug, Deserialize)]
pub(super) struct ByName {
    experiment_name: String,
}

pub(super) async fn get_by_name(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ByName>,
) -> Answer {
    let found = registry.tracking.experiment_named(&scope, &asked.experiment_name).await?;
    answer(json!({"experiment": wire::experiment(&found)}))
}

#[derive(Debug, Deserialize)]
pub(super) struct Find {
    #[serde(default)]
    view_type: ViewType,
    #[serde(flatten)]
    search: SearchFields,
}

pub(super) async fn search(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Find>,
) -> Answer {
    let search = asked.search.search(PAGE_DEFAULT, PAGE_MAX)?;
    let page = registry.tracking.search_experiments(&scope, asked.view_type, &search).await?;
    let found = page.subjects.iter().map(wire::experiment).collect();
    answer(wire::page("experiments", found, page.next))
}

pub(super) async fn delete(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ById>,
) -> Answer {
    registry.tracking.delete_experiment(&scope, &asked.experiment_id).await?;
    done()
}

pub(super) async fn restore(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ById>,
) -> Answer {
    registry.tracking.restore_experiment(&scope, &asked.experiment_id).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Update {
    experiment_id: String,
    new_name: String,
}

pub(super) async fn update(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Update>,
) -> Answer {
    registry.tracking.rename_experiment(&scope, &asked.experiment_id, &asked.new_name).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Tag {
    experiment_id: String,
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn set_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Tag>,
) -> Answer {
    registry.tracking.tag_experiment(&scope, &asked.experiment_id, &asked.key, Some(&asked.value)).await?;
    done()
}

pub(super) async fn delete_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Tag>,
) -> Answer {
    registry.tracking.tag_experiment(&scope, &asked.experiment_id, &asked.key, None).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Datasets {
    #[serde(default, deserialize_with = "wire::texts")]
    experiment_ids: Vec<String>,
}

/// The data sets that the latest runs read.
pub(super) async fn search_datasets(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Datasets>,
) -> Answer {
    let search = Search { max_results: PAGE_DEFAULT, ..Search::default() };
    let page =
        registry.tracking.search_runs(&scope, &asked.experiment_ids, ViewType::ActiveOnly, &search).await?;
    let mut found = BTreeSet::new();
    for run in &page.subjects {
        for data in &run.datasets {
            let context = data.tags.get("mlflow.data.context").cloned().unwrap_or_default();
            found.insert((run.experiment_id.clone(), data.name.clone(), data.digest.clone(), context));
        }
    }
    let told: Vec<Value> = found
        .into_iter()
        .map(|(experiment, name, digest, context)| {
            json!({"experiment_id": experiment, "name": name, "digest": digest, "context": context})
        })
        .collect();
    answer(json!({"dataset_summaries": told}))
}
