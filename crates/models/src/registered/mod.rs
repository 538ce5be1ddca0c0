//! The registry: models by name, their immutable versions, the aliases that say which of them serves, and all that was
//! done to them.
//!
//! Making a version takes its files over from a run or a logged model, with their checksums: whatever becomes of the run,
//! the version keeps its bytes. An alias moves in one transaction together with the line of the history that tells of
//! it; whoever moves one and is not the first is told so.
//!
//! It refuses to change a version, to delete one that an alias points at, and to let callers move what a part of
//! Watershed manages. Versions are made with `write`; aliases are moved and things deleted with `admin`.

mod cleanup;
mod documents;
mod manifest;
mod models;
mod promotion;
mod versions;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use kernel::{Clock, Entropy, Error, Result, Scope, codes};
use store::{Expect, Records, Repository, Versioned, Write};

pub use cleanup::{CleanedUp, KeptVersion, RemovedVersion};
pub(crate) use documents::version_key;
pub use documents::{
    CANARY, CHAMPION, Change, Lineage, RegisteredModel, RegisteredVersion, SHADOW, Stage, VersionFile,
};
pub use models::{check_model_name, name_and_version};
pub(crate) use promotion::point;
pub use promotion::{Promotion, Wanted};
pub use versions::NewVersion;

use crate::files::Files;
use crate::limits::{INVALID_STATE, missing};
use crate::tracking::Tracking;

/// Others who change the same model meanwhile, at most.
const ATTEMPTS: usize = 64;
const PAGE: usize = 500;
pub(crate) const NAME_BYTES_MAX: usize = 250;

/// Is told what is about to be done to a model.
#[async_trait]
pub trait Witness: Send + Sync + Debug {
    /// Writes it down.
    async fn note(
        &self,
        scope: &Scope,
        action: &'static str,
        subject: &str,
        details: BTreeMap<String, String>,
    ) -> Result<()>;
}

/// Is asked whether a version may take an alias, before it does. A way back is not asked for.
#[async_trait]
pub trait Gate: Send + Sync + Debug {
    /// # Errors
    /// Why not, and what to do.
    async fn check(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        version: &RegisteredVersion,
        alias: &str,
    ) -> Result<()>;
}

/// Registered models of every tenant.
#[derive(Debug, Clone)]
pub struct RegisteredModels {
    records: Arc<dyn Records>,
    models: Repository<RegisteredModel>,
    versions: Repository<RegisteredVersion>,
    changes: Repository<Change>,
    files: Files,
    tracking: Tracking,
    witness: Arc<dyn Witness>,
    gate: Arc<OnceLock<Arc<dyn Gate>>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// What a [`Change`] tells besides who and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told<'a> {
    pub action: &'static str,
    pub alias: Option<&'a str>,
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub reason: &'a str,
}

impl RegisteredModels {
    /// Over these engines.
    #[must_use]
    pub fn new(
        records: Arc<dyn Records>,
        files: Files,
        tracking: Tracking,
        witness: Arc<dyn Witness>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            models: Repository::new(Arc::clone(&records)),
            versions: Repository::new(Arc::clone(&records)),
            changes: Repository::new(Arc::clone(&records)),
            records,
            files,
            tracking,
            witness,
            gate: Arc::default(),
            clock,
            entropy,
        }
    }

    /// Has promotions asked for from now on; the first gate stays.
    pub fn guard(&self, gate: Arc<dyn Gate>) {
        self.gate.get_or_init(|| gate);
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    async fn found(&self, scope: &Scope, name: &str) -> Result<Versioned<RegisteredModel>> {
        let is_one = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control);
        let found = if is_one { self.models.get(scope, name).await? } else { None };
        found.ok_or_else(|| missing("registered model", name))
    }

    /// A model.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of the engine.
    pub async fn model(&self, scope: &Scope, name: &str) -> Result<RegisteredModel> {
        Ok(self.found(scope, name).await?.document)
    }

    /// A version of a model.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of the engine.
    pub async fn version(&self, scope: &Scope, name: &str, version: u64) -> Result<RegisteredVersion> {
        let model = self.model(scope, name).await?;
        self.version_of(scope, &model, version).await
    }

    pub(super) async fn version_of(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        version: u64,
    ) -> Result<RegisteredVersion> {
        let found = self.versions.get(scope, &version_key(&model.id, version)).await?;
        let missing = || missing(&format!("version {version} of the registered model"), &model.name);
        Ok(found.ok_or_else(missing)?.document)
    }

    /// Changes a model together with its history: all of it or nothing.
    ///
    /// `edit` is asked again where another was faster; it tells of itself what happened, or nothing where nothing did.
    /// The version that it `needs` is there when it is committed.
    async fn alter<'a>(
        &self,
        scope: &Scope,
        name: &str,
        needs: Option<u64>,
        edit: impl Fn(&mut RegisteredModel) -> Result<(Option<Told<'a>>, Vec<Write>)>,
    ) -> Result<RegisteredModel> {
        let mut is_noted = false;
        for _ in 0..ATTEMPTS {
            let Versioned { version, document: mut model } = self.found(scope, name).await?;
            let (told, mut writes) = edit(&mut model)?;
            if let Some(needed) = needs {
                self.version_of(scope, &model, needed).await?;
            }
            let now_ms = self.now_ms();
            model.updated_ms = now_ms.max(model.updated_ms);
            if let Some(told) = told {
                if !std::mem::replace(&mut is_noted, true) {
                    self.note(scope, &model.name, &told).await?;
                }
                writes.push(change(scope, &mut model, now_ms, &told)?);
            }
            writes.push(Repository::write(&model, Expect::Version(version))?);
            match self.records.commit(scope, writes).await {
                Ok(_) => return Ok(model),
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, "the model is changed by too many at once; try again"))
    }

    async fn note(&self, scope: &Scope, name: &str, told: &Told<'_>) -> Result<()> {
        let mut details = BTreeMap::new();
        let mut tell = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                details.insert(name.to_owned(), value);
            }
        };
        tell("alias", told.alias.map(str::to_owned));
        tell("from", told.from.map(|version| version.to_string()));
        tell("to", told.to.map(|version| version.to_string()));
        tell("reason", Some(told.reason.to_owned()));
        self.witness.note(scope, told.action, name, details).await
    }
}

/// The next line of a model's history.
pub(crate) fn change(
    scope: &Scope,
    model: &mut RegisteredModel,
    at_ms: i64,
    told: &Told<'_>,
) -> Result<Write> {
    model.changes += 1;
    let actor = scope.actor().to_string();
    let change = Change {
        model_id: model.id.clone(),
        sequence: model.changes,
        at_ms,
        actor,
        action: told.action.strip_prefix("model.").unwrap_or(told.action).to_owned(),
        alias: told.alias.map(str::to_owned),
        from: told.from,
        to: told.to,
        reason: told.reason.to_owned(),
    };
    Repository::write(&change, Expect::Absent)
}

/// Passes where callers may move the model.
fn require_unmanaged(model: &RegisteredModel) -> Result<()> {
    match &model.managed_by {
        None => Ok(()),
        Some(part) => {
            let message = format!(
                "versions of `{}` are made and promoted by `{part}`; they can only be looked at",
                model.name
            );
            Err(Error::new(INVALID_STATE, message))
        }
    }
}

#[cfg(test)]
mod tests;
