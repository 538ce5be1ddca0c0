//! `watershed promote`, `rollback`, `history` and `cleanup-artifacts`: the registered models of a tenant, straight in the
//! store. Beside a server on embedded engines, ask `/api/v1/models/{name}` instead: its folder has one owner.

use kernel::{Error, Result, Scope, Timestamp, codes};
use models::registered::{CHAMPION, Promotion, RegisteredModel, Wanted};
use registry::ModelRegistry;

use super::{say_json, scope};
use crate::app::{self, Ambient};
use crate::cli::{CleanupArtifacts, History, Promote, Rollback};
use crate::config::Config;
use crate::engines::Engines;
use crate::{guard, terminal};

pub(super) async fn open(config: &Config) -> Result<(ModelRegistry, Scope)> {
    let ambient = Ambient::of_system();
    let engines = Engines::open(&config.storage, &ambient).await?;
    let guarded = guard::open(config, &engines, &ambient).await?;
    let (audit, _) = app::access(&engines, &ambient).await?;
    Ok((app::models(config, &engines, &guarded, &ambient, audit), scope(config, "models")?))
}

pub(super) async fn promote(promote: Promote, config: Config) -> Result<()> {
    let (registry, scope) = open(&config).await?;
    let (model, named) = registry.models.meant(&scope, &promote.model).await?;
    let wanted = match (promote.version.or(named), promote.run_id) {
        (Some(_), Some(_)) => {
            let message = "the model's name ends in a version; give no run beside it";
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--run-id"));
        }
        (Some(version), None) => Wanted::Version(version),
        (None, Some(run)) => Wanted::OfRun(run),
        (None, None) => Wanted::Next,
    };
    let stage = promote.alias.is_none().then_some(promote.stage.as_str());
    let alias = registry::http::alias_of(stage, promote.alias.as_deref())
        .map_err(|error| error.with_field("--stage"))?;
    let promotion = Promotion { wanted, alias, expected: promote.expect, reason: promote.reason };
    let moved = registry.models.promote(&scope, &model.name, &promotion).await?;
    tell(&moved, &promotion.alias);
    Ok(())
}

pub(super) async fn rollback(rollback: Rollback, config: Config) -> Result<()> {
    let (registry, scope) = open(&config).await?;
    let model = registry.models.meant(&scope, &rollback.model).await?.0;
    let moved =
        registry.models.rollback(&scope, &model.name, &rollback.alias, None, &rollback.reason).await?;
    tell(&moved, &rollback.alias);
    Ok(())
}

fn tell(model: &RegisteredModel, alias: &str) {
    let version = model.aliases.get(alias).copied().unwrap_or_default();
    let stage = if alias == CHAMPION { " (Production)" } else { "" };
    terminal::say(format!("{} of {} is version {version}{stage}", alias, model.name));
}

pub(super) async fn history(history: History, config: Config) -> Result<()> {
    let (registry, scope) = open(&config).await?;
    let model = registry.models.meant(&scope, &history.model).await?.0;
    let (changes, _) =
        registry.models.history(&scope, &model.name, None, history.count.clamp(1, 10_000)).await?;
    for change in changes {
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
    Ok(())
}

pub(super) async fn clean_up(cleanup: CleanupArtifacts, config: Config) -> Result<()> {
    let (registry, scope) = open(&config).await?;
    let done = registry.models.clean_up(&scope, cleanup.days, cleanup.dry_run).await?;
    say_json(&done)
}
