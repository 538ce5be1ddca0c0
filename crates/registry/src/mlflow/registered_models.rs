//! Registered models and their aliases.

use axum::extract::State;
use edge::Caller;
use kernel::{Error, Result, Scope, codes};
use models::registered::{Promotion, RegisteredModel, RegisteredVersion, Stage, Wanted};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::{self, Ask, Pair};
use super::{Answer, SearchFields, answer, done};
use crate::ModelRegistry;

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1_000;

/// The newest version that is known of each stage.
async fn latest(
    registry: &ModelRegistry,
    scope: &Scope,
    model: &RegisteredModel,
) -> Result<Vec<RegisteredVersion>> {
    let mut wanted: Vec<u64> = model.aliases.values().copied().collect();
    wanted.extend(model.archived.last());
    wanted.push(model.latest_version);
    wanted.sort_unstable_by(|left, right| right.cmp(left));
    wanted.dedup();
    let (mut found, mut stages): (Vec<RegisteredVersion>, Vec<Stage>) = (Vec::new(), Vec::new());
    for version in wanted.into_iter().filter(|version| *version > 0) {
        let stage = model.stage(version);
        if stages.contains(&stage) {
            continue;
        }
        match registry.models.version(scope, &model.name, version).await {
            Ok(version) => {
                stages.push(stage);
                found.push(version);
            }
            Err(error) if error.code() == codes::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn told(registry: &ModelRegistry, scope: &Scope, model: &RegisteredModel) -> Result<Value> {
    Ok(wire::model(model, &latest(registry, scope, model).await?))
}

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    name: String,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Create>,
) -> Answer {
    let (description, tags) = (asked.description.unwrap_or_default(), wire::map_of(asked.tags));
    let made = registry.models.create(&scope, &asked.name, &description, tags).await?;
    answer(json!({"registered_model": wire::model(&made, &[])}))
}

#[derive(Debug, Deserialize)]
pub(super) struct ByName {
    name: String,
}

pub(super) async fn get(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ByName>,
) -> Answer {
    let found = registry.models.model(&scope, &asked.name).await?;
    answer(json!({"registered_model": told(&registry, &scope, &found).await?}))
}

pub(super) async fn search(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<SearchFields>,
) -> Answer {
    let page = registry.models.search(&scope, &asked.search(PAGE_DEFAULT, PAGE_MAX)?).await?;
    let mut found = Vec::new();
    for model in &page.subjects {
        found.push(told(&registry, &scope, model).await?);
    }
    answer(wire::page("registered_models", found, page.next))
}

#[derive(Debug, Deserialize)]
pub(super) struct Update {
    name: String,
    #[serde(default)]
    description: String,
}

pub(super) async fn update(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Update>,
) -> Answer {
    let changed = registry.models.describe(&scope, &asked.name, &asked.description).await?;
    answer(json!({"registered_model": told(&registry, &scope, &changed).await?}))
}

#[derive(Debug, Deserialize)]
pub(super) struct Rename {
    name: String,
    new_name: String,
}

pub(super) async fn rename(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Rename>,
) -> Answer {
    let changed = registry.models.rename(&scope, &asked.name, &asked.new_name).await?;
    answer(json!({"registered_model": told(&registry, &scope, &changed).await?}))
}

pub(super) async fn delete(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ByName>,
) -> Answer {
    registry.models.delete(&scope, &asked.name).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Latest {
    name: String,
    #[serde(default, deserialize_with = "wire::texts")]
    stages: Vec<String>,
}

pub(super) async fn latest_versions(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Latest>,
) -> Answer {
    let model = registry.models.model(&scope, &asked.name).await?;
    let stages = asked.stages.iter().map(|stage| wire::stage(stage, "stages"));
    let stages = stages.collect::<Result<Vec<Stage>>>()?;
    let mut found = latest(&registry, &scope, &model).await?;
    found.retain(|version| stages.is_empty() || stages.contains(&model.stage(version.version)));
    let found: Vec<Value> = found.iter().map(|version| wire::version(version, &model)).collect();
    answer(json!({"model_versions": found}))
}

#[derive(Debug, Deserialize)]
pub(super) struct Tag {
    name: String,
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn set_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Tag>,
) -> Answer {
    registry.models.tag(&scope, &asked.name, &asked.key, Some(&asked.value)).await?;
    done()
}

pub(super) async fn delete_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Tag>,
) -> Answer {
    registry.models.tag(&scope, &asked.name, &asked.key, None).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Alias {
    name: String,
    alias: String,
    #[serde(default, deserialize_with = "wire::whole")]
    version: Option<i64>,
}

pub(super) async fn version_of_alias(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Alias>,
) -> Answer {
    let model = registry.models.model(&scope, &asked.name).await?;
    let version = model.aliases.get(&asked.alias).copied().ok_or_else(|| {
        let message = format!("`{}` has no alias `{}`", asked.name, asked.alias.escape_debug());
        Error::new(codes::NOT_FOUND, message)
    })?;
    let found = registry.models.version(&scope, &asked.name, version).await?;
    answer(json!({"model_version": wire::version(&found, &model)}))
}

pub(super) async fn set_alias(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Alias>,
) -> Answer {
    let version = super::model_versions::number(asked.version)?;
    let (wanted, alias) = (Wanted::Version(version), asked.alias);
    let promotion = Promotion { wanted, alias, expected: None, reason: String::new() };
    registry.models.promote(&scope, &asked.name, &promotion).await?;
    done()
}

pub(super) async fn delete_alias(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Alias>,
) -> Answer {
    registry.models.remove_alias(&scope, &asked.name, &asked.alias).await?;
    done()
}
