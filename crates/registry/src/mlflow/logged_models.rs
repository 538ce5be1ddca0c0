//! Models that runs made, before they are registered.

use axum::extract::State;
use edge::{Caller, Path};
use kernel::{Error, codes};
use models::tracking::{LoggedModelStatus, NewLoggedModel};
use serde::Deserialize;
use serde_json::json;

use super::wire::{self, Ask, Pair};
use super::{Answer, SearchFields, answer, done};
use crate::ModelRegistry;

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    experiment_id: String,
    name: Option<String>,
    model_type: Option<String>,
    source_run_id: Option<String>,
    #[serde(default)]
    params: Vec<Pair>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Create>,
) -> Answer {
    let present = |text: Option<String>| text.filter(|text| !text.is_empty());
    let new = NewLoggedModel {
        experiment_id: asked.experiment_id,
        name: present(asked.name),
        model_type: present(asked.model_type),
        source_run_id: present(asked.source_run_id),
        params: wire::map_of(asked.params),
        tags: wire::map_of(asked.tags),
    };
    let made = registry.tracking.create_logged_model(&scope, new).await?;
    answer(json!({"model": wire::logged_model(&made)}))
}

pub(super) async fn get(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> Answer {
    let found = registry.tracking.logged_model(&scope, &id).await?;
    answer(json!({"model": wire::logged_model(&found)}))
}

#[derive(Debug, Deserialize)]
pub(super) struct Finalize {
    status: LoggedModelStatus,
}

pub(super) async fn finalize(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Ask(asked): Ask<Finalize>,
) -> Answer {
    let changed = registry.tracking.finalize_logged_model(&scope, &id, asked.status).await?;
    answer(json!({"model": wire::logged_model(&changed)}))
}

pub(super) async fn delete(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> Answer {
    registry.tracking.delete_logged_model(&scope, &id).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Tags {
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn set_tags(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Ask(asked): Ask<Tags>,
) -> Answer {
    let tags: Vec<_> = asked.tags.into_iter().map(|tag| (tag.key, Some(tag.value))).collect();
    let changed = registry.tracking.tag_logged_model(&scope, &id, &tags).await?;
    answer(json!({"model": wire::logged_model(&changed)}))
}

pub(super) async fn delete_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path((id, key)): Path<(String, String)>,
) -> Answer {
    registry.tracking.tag_logged_model(&scope, &id, &[(key, None)]).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    #[serde(default)]
    params: Vec<Pair>,
}

pub(super) async fn log_params(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Ask(asked): Ask<Params>,
) -> Answer {
    registry.tracking.log_model_params(&scope, &id, &wire::map_of(asked.params)).await?;
    done()
}

/// Here an order is a field and a direction, not a text.
#[derive(Debug, Deserialize)]
pub(super) struct By {
    field_name: String,
    ascending: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Find {
    #[serde(default, deserialize_with = "wire::texts")]
    experiment_ids: Vec<String>,
    filter: Option<String>,
    #[serde(default)]
    order_by: Vec<By>,
    #[serde(default)]
    datasets: Vec<serde_json::Value>,
    page_token: Option<String>,
    #[serde(default, deserialize_with = "wire::whole")]
    max_results: Option<i64>,
}

pub(super) async fn search(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Find>,
) -> Answer {
    if !asked.datasets.is_empty() {
        let message = "models are searched by the latest value of a metric, whatever it was measured on";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("datasets").into());
    }
    let order = |by: &By| {
        let direction = if by.ascending.unwrap_or(true) { "ASC" } else { "DESC" };
        format!("{} {direction}", by.field_name)
    };
    let fields = SearchFields {
        filter: asked.filter,
        order_by: asked.order_by.iter().map(order).collect(),
        page_token: asked.page_token,
        max_results: asked.max_results,
    };
    let search = fields.search(PAGE_DEFAULT, PAGE_MAX)?;
    let page = registry.tracking.search_logged_models(&scope, &asked.experiment_ids, &search).await?;
    answer(wire::page("models", page.subjects.iter().map(wire::logged_model).collect(), page.next))
}
