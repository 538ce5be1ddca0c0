//! Removing what is old and of no use: never what an alias points at, nor the newest version, nor the one that a rollback
//! would go to.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Error, Permission, Result, Scope, codes};
use serde::Serialize;
use store::{Query, Selection};

use super::{PAGE, RegisteredModel, RegisteredModels};
use crate::files::Swept;
use crate::limits::{INVALID_STATE, invalid};

/// Older than anything is.
const DAYS_MAX: u32 = 100_000;

/// Versions that are told to be of use: each model has at least one.
const KEPT_TOLD: usize = 1_000;

/// A version that was removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovedVersion {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u64,
    /// Its size.
    pub bytes: u64,
}

/// A version that is old enough to be removed and is of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptVersion {
    /// The model.
    pub model: String,
    /// The version.
    pub version: u64,
    /// What it is of use for, in words.
    pub reason: String,
}

/// What a clean-up removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CleanedUp {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// Versions without an alias.
    pub versions: Vec<RemovedVersion>,
    /// Versions that are as old, and stay; the first 1,000.
    pub kept: Vec<KeptVersion>,
    /// Runs that were deleted before, with their metrics and artifacts.
    pub runs: Vec<String>,
    /// Uploads that broke off.
    pub uploads: Swept,
}

impl RegisteredModels {
    /// Removes versions that are of no use and runs that were deleted, both more than so many days ago, and uploads that broke
    /// off; only tells of them in a `dry_run`. Of use is what an alias points at, where a rollback of one would go to, and the
    /// newest of each model.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for more than 100,000 days; those of the engines.
    pub async fn clean_up(&self, scope: &Scope, days: u32, dry_run: bool) -> Result<CleanedUp> {
        scope.require(Permission::Admin)?;
        if days > DAYS_MAX {
            return Err(invalid("days", format!("must be at most {DAYS_MAX}, not {days}")));
        }
        let age = Duration::from_secs(u64::from(days) * 24 * 60 * 60);
        let before_ms = self.clock.now().checked_sub(age).map_err(Error::internal)?.as_millisecond();
        let mut done = CleanedUp { dry_run, ..CleanedUp::default() };
        let mut query = Query::new(Selection::All, PAGE);
        loop {
            let (page, cursor) = self.models.list(scope, &query).await?;
            for model in page.into_iter().map(|found| found.document) {
                self.clean_model(scope, &model, before_ms, &mut done).await?;
            }
            match cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => break,
            }
        }
        done.runs = self.tracking.remove_deleted(scope, before_ms, dry_run).await?;
        done.uploads = self.files.sweep(scope, dry_run).await?;
        Ok(done)
    }

    async fn clean_model(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        before_ms: i64,
        done: &mut CleanedUp,
    ) -> Result<()> {
        if model.managed_by.is_some() {
            return Ok(());
        }
        let uses = self.uses(scope, model).await?;
        for found in self.all_versions(scope, &model.id).await? {
            let version = found.document;
            if version.created_ms >= before_ms {
                continue;
            }
            if let Some(uses) = uses.get(&version.version) {
                if done.kept.len() < KEPT_TOLD {
                    let reason = uses.join("; ");
                    done.kept.push(KeptVersion { model: version.model, version: version.version, reason });
                }
                continue;
            }
            // An alias that moved there meanwhile is looked at again in the transaction.
            if !done.dry_run
                && let Err(error) = self.delete_version(scope, &model.name, version.version).await
            {
                // Another clean-up was first, or an alias has come to it.
                if matches!(error.code(), codes::NOT_FOUND | INVALID_STATE) {
                    continue;
                }
                return Err(error);
            }
            let bytes = version.size_bytes();
            done.versions.push(RemovedVersion { model: version.model, version: version.version, bytes });
        }
        Ok(())
    }

    /// What versions of a model are of use for.
    async fn uses(&self, scope: &Scope, model: &RegisteredModel) -> Result<BTreeMap<u64, Vec<String>>> {
        let mut uses: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for (alias, version) in &model.aliases {
            uses.entry(*version).or_default().push(format!("the alias {alias} points at it"));
        }
        for alias in model.aliases.keys() {
            if let Some(version) = self.before(scope, model, alias).await? {
                uses.entry(version).or_default().push(format!("a rollback of {alias} would go to it"));
            }
        }
        uses.entry(model.latest_version).or_default().push("it is the newest".to_owned());
        Ok(uses)
    }
}
