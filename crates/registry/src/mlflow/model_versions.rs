//! Versions of registered models.

use axum::extract::State;
use edge::Caller;
use kernel::{Error, Permission, Result, codes};
use models::INVALID_STATE;
use models::registered::{NewVersion, RegisteredModel};
use serde::Deserialize;
use serde_json::{Value, json};

use super::wire::{self, ARTIFACTS, Ask, Pair};
use super::{Answer, SearchFields, answer, done};
use crate::ModelRegistry;

const PAGE_DEFAULT: usize = 10_000;
const PAGE_MAX: usize = 200_000;

/// The number of a version.
pub(super) fn number(version: Option<i64>) -> Result<u64> {
    let version = version.and_then(|version| u64::try_from(version).ok()).filter(|version| *version > 0);
    version.ok_or_else(|| Error::new(codes::VALIDATION_ERROR, "is a number from 1").with_field("version"))
}

#[derive(Debug, Deserialize)]
pub(super) struct Create {
    name: String,
    source: String,
    run_id: Option<String>,
    run_link: Option<String>,
    description: Option<String>,
    model_id: Option<String>,
    #[serde(default)]
    tags: Vec<Pair>,
}

pub(super) async fn create(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Create>,
) -> Answer {
    let new = NewVersion {
        model: asked.name,
        source: asked.source,
        run_id: asked.run_id.unwrap_or_default(),
        run_link: asked.run_link.unwrap_or_default(),
        logged_model_id: asked.model_id.filter(|id| !id.is_empty()),
        description: asked.description.unwrap_or_default(),
        tags: wire::map_of(asked.tags),
    };
    let made = registry.models.create_version(&scope, new).await?;
    let model = registry.models.model(&scope, &made.model).await?;
    answer(json!({"model_version": wire::version(&made, &model)}))
}

#[derive(Debug, Deserialize)]
pub(super) struct ByNumber {
    name: String,
    #[serde(default, deserialize_with = "wire::whole")]
    version: Option<i64>,
}

pub(super) async fn get(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ByNumber>,
) -> Answer {
    let model = registry.models.model(&scope, &asked.name).await?;
    let found = registry.models.version(&scope, &asked.name, number(asked.version)?).await?;
    answer(json!({"model_version": wire::version(&found, &model)}))
}

pub(super) async fn search(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<SearchFields>,
) -> Answer {
    let page = registry.models.search_versions(&scope, &asked.search(PAGE_DEFAULT, PAGE_MAX)?).await?;
    let mut models: Vec<RegisteredModel> = Vec::new();
    let mut found: Vec<Value> = Vec::new();
    for version in &page.subjects {
        let known = models.iter().position(|model| model.name == version.model);
        let at = match known {
            Some(at) => at,
            None => match registry.models.model(&scope, &version.model).await {
                Ok(model) => {
                    models.push(model);
                    models.len() - 1
                }
                // Deleted since the search.
                Err(error) if error.code() == codes::NOT_FOUND => continue,
                Err(error) => return Err(error.into()),
            },
        };
        found.push(wire::version(version, &models[at]));
    }
    answer(wire::page("model_versions", found, page.next))
}

#[derive(Debug, Deserialize)]
pub(super) struct Update {
    #[serde(flatten)]
    which: ByNumber,
    #[serde(default)]
    description: String,
}

pub(super) async fn update(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Update>,
) -> Answer {
    let (name, version) = (&asked.which.name, number(asked.which.version)?);
    let changed = registry.models.describe_version(&scope, name, version, &asked.description).await?;
    let model = registry.models.model(&scope, name).await?;
    answer(json!({"model_version": wire::version(&changed, &model)}))
}

pub(super) async fn delete(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ByNumber>,
) -> Answer {
    registry.models.delete_version(&scope, &asked.name, number(asked.version)?).await?;
    done()
}

#[derive(Debug, Deserialize)]
pub(super) struct Transition {
    #[serde(flatten)]
    which: ByNumber,
    stage: String,
    /// One version is in a stage: who was there is always put away, or goes back.
    #[serde(default, deserialize_with = "wire::flag", rename = "archive_existing_versions")]
    _archive: bool,
}

pub(super) async fn transition(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Transition>,
) -> Answer {
    scope.require(Permission::Admin)?;
    let stage = wire::stage(&asked.stage, "stage")?;
    let (name, version) = (&asked.which.name, number(asked.which.version)?);
    let model = registry.models.set_stage(&scope, name, version, stage).await?;
    let found = registry.models.version(&scope, name, version).await?;
    answer(json!({"model_version": wire::version(&found, &model)}))
}

pub(super) async fn download_uri(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<ByNumber>,
) -> Answer {
    let found = registry.models.version(&scope, &asked.name, number(asked.version)?).await?;
    let root = found.root.ok_or_else(|| {
        let message =
            format!("the artifacts of `{}` are loaded by this server and not given out", asked.name);
        Error::new(INVALID_STATE, message)
    })?;
    answer(json!({"artifact_uri": format!("{ARTIFACTS}{root}")}))
}

#[derive(Debug, Deserialize)]
pub(super) struct Tag {
    #[serde(flatten)]
    which: ByNumber,
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn set_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Tag>,
) -> Answer {
    let (name, version) = (&asked.which.name, number(asked.which.version)?);
    registry.models.tag_version(&scope, name, version, &asked.key, Some(&asked.value)).await?;
    done()
}

pub(super) async fn delete_tag(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Ask(asked): Ask<Tag>,
) -> Answer {
    let (name, version) = (&asked.which.name, number(asked.which.version)?);
    registry.models.tag_version(&scope, name, version, &asked.key, None).await?;
    done()
}
