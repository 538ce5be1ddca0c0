//! `watershed promote`, `rollback`, `history` and `cleanup-artifacts`: the registered models of a tenant, straight in the
//! store, or asked of the server that the settings or `--server` name ([`served`]), which beside embedded engines is the only
//! way: their folder has one owner. A server also tries what it promotes.

mod served;

use std::collections::BTreeMap;

use kernel::{Error, Result, Scope, Timestamp, codes};
use models::registered::{CHAMPION, Change, Promotion, Wanted};
use registry::ModelRegistry;

use super::remote::{Remote, or_ask};
use super::{say_json, scope};
use crate::app::{self, Ambient};
use crate::cli::{CleanupArtifacts, History, Promote, Rollback};
use crate::config::Config;
use crate::engines::Engines;
use crate::{guard, terminal};

/// Changes that are printed, at most.
const CHANGES_MAX: usize = 10_000;

pub(super) async fn open(config: &Config) -> Result<(ModelRegistry, Scope)> {
    let ambient = Ambient::of_system();
    let engines = Engines::open(&config.storage, &ambient).await?;
    let guarded = guard::open(config, &engines, &ambient).await?;
    let (audit, _) = app::access(&engines, &ambient).await?;
    Ok((app::models(config, &engines, &guarded, &ambient, audit), scope(config, "models")?))
}

/// The same; where the data are another's, the error says which call asks that.
async fn open_or(config: &Config, call: &str) -> Result<(ModelRegistry, Scope)> {
    open(config).await.map_err(|error| or_ask(error, call))
}

pub(super) async fn promote(promote: Promote, config: Config) -> Result<()> {
    if let Some(server) = Remote::of(&config)? {
        return served::promote(&server, &promote).await;
    }
    let call = format!("POST /api/v1/models/{}/promote", promote.model);
    let (registry, scope) = open_or(&config, &call).await?;
    let (model, named) = registry.models.meant(&scope, &promote.model).await?;
    let wanted = match (version_of(&promote, named)?, &promote.run_id) {
        (Some(version), _) => Wanted::Version(version),
        (None, Some(run)) => Wanted::OfRun(run.clone()),
        (None, None) => Wanted::Next,
    };
    let alias = alias_of(&promote)?;
    let promotion = Promotion { wanted, alias, expected: promote.expect, reason: promote.reason };
    let moved = registry.models.promote(&scope, &model.name, &promotion).await?;
    tell(&moved.name, &moved.aliases, &promotion.alias);
    Ok(())
}

/// The version that was asked for, or that the model's name ends in.
fn version_of(promote: &Promote, named: Option<u64>) -> Result<Option<u64>> {
    let version = promote.version.or(named);
    if version.is_some() && promote.run_id.is_some() {
        let message = "the model's name ends in a version; give no run beside it";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--run-id"));
    }
    Ok(version)
}

fn alias_of(promote: &Promote) -> Result<String> {
    let stage = promote.alias.is_none().then_some(promote.stage.as_str());
    registry::http::alias_of(stage, promote.alias.as_deref()).map_err(|error| error.with_field("--stage"))
}

pub(super) async fn rollback(rollback: Rollback, config: Config) -> Result<()> {
    if let Some(server) = Remote::of(&config)? {
        return served::rollback(&server, &rollback).await;
    }
    let call = format!("POST /api/v1/models/{}/rollback", rollback.model);
    let (registry, scope) = open_or(&config, &call).await?;
    let model = registry.models.meant(&scope, &rollback.model).await?.0;
    let moved =
        registry.models.rollback(&scope, &model.name, &rollback.alias, None, &rollback.reason).await?;
    tell(&moved.name, &moved.aliases, &rollback.alias);
    Ok(())
}

fn tell(model: &str, aliases: &BTreeMap<String, u64>, alias: &str) {
    let version = aliases.get(alias).copied().unwrap_or_default();
    let stage = if alias == CHAMPION { " (Production)" } else { "" };
    terminal::say(format!("{alias} of {model} is version {version}{stage}"));
}

pub(super) async fn history(history: History, config: Config) -> Result<()> {
    let count = history.count.clamp(1, CHANGES_MAX);
    if let Some(server) = Remote::of(&config)? {
        return served::history(&server, &history.model, count).await;
    }
    let call = format!("GET /api/v1/models/{}/history", history.model);
    let (registry, scope) = open_or(&config, &call).await?;
    let model = registry.models.meant(&scope, &history.model).await?.0;
    let (changes, _) = registry.models.history(&scope, &model.name, None, count).await?;
    changes.iter().for_each(say_change);
    Ok(())
}

fn say_change(change: &Change) {
    let at = Timestamp::from_millisecond(change.at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let version =
        |version: Option<u64>| version.map_or_else(|| "-".to_owned(), |version| version.to_string());
    terminal::say(format!(
        "{:>6}  {at}  {}  {}  {}  {} -> {}  {}",
        change.sequence,
        change.actor,
        change.action,
        change.alias.as_deref().unwrap_or("-"),
        version(change.from),
        version(change.to),
        change.reason
    ));
}

pub(super) async fn clean_up(cleanup: CleanupArtifacts, config: Config) -> Result<()> {
    if let Some(server) = Remote::of(&config)? {
        return served::clean_up(&server, &cleanup).await;
    }
    let (registry, scope) = open_or(&config, "POST /api/v1/artifacts/cleanup").await?;
    let done = registry.models.clean_up(&scope, cleanup.days, cleanup.dry_run).await?;
    say_json(&done)
}
