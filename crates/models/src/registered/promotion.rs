//! Moving aliases: promotion, rollback, stages. One transaction each; of two at once, one is told that it came second.

use kernel::{Error, Permission, Result, Scope, codes};
use store::{Query, Selection, Write};

use super::{
    CANARY, CHAMPION, PAGE, RegisteredModel, RegisteredModels, RegisteredVersion, SHADOW, Stage, Told,
    require_unmanaged,
};
use crate::limits::{INVALID_STATE, check_value, invalid, missing};

const ALIAS_BYTES_MAX: usize = 255;
const ALIASES_MAX: usize = 100;
const REASON_BYTES_MAX: usize = 1_000;

/// Which version is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// This one.
    Version(u64),
    /// The newest that came from this run.
    OfRun(String),
    /// The canary, or the newest where there is none and that was not put away: what was taken back is promoted only where
    /// someone says which it is.
    Next,
}

/// A promotion.
#[derive(Debug, Clone)]
pub struct Promotion {
    /// Which version.
    pub wanted: Wanted,
    /// Which alias goes there.
    pub alias: String,
    /// The version that the alias points at now, as the caller believes; `Some(0)` for none. Another is a conflict.
    pub expected: Option<u64>,
    /// Why, for the history.
    pub reason: String,
}

impl RegisteredModels {
    /// Points an alias at a version.
    ///
    /// # Errors
    /// `CONFLICT` where the alias is, or meanwhile went, elsewhere than the caller believes; `NOT_FOUND`; those of the
    /// [`Gate`](super::Gate), where there is one; `INVALID_STATE` where the model is managed; `PERMISSION_DENIED`; those of the engine.
    pub async fn promote(&self, scope: &Scope, name: &str, promotion: &Promotion) -> Result<RegisteredModel> {
        self.promote_with(scope, name, promotion, &[]).await
    }

    /// The same in one transaction with other writes.
    ///
    /// # Errors
    /// As [`RegisteredModels::promote`]; `CONFLICT` also where what the other writes expect does not hold.
    pub async fn promote_with(
        &self,
        scope: &Scope,
        name: &str,
        promotion: &Promotion,
        others: &[Write],
    ) -> Result<RegisteredModel> {
        scope.require(Permission::Admin)?;
        check_alias(&promotion.alias)?;
        check_value(&promotion.reason, REASON_BYTES_MAX, "reason")?;
        let seen = self.model(scope, name).await?;
        let before = seen.aliases.get(&promotion.alias).copied();
        let expected = promotion.expected.unwrap_or_else(|| before.unwrap_or(0));
        if expected != before.unwrap_or(0) {
            return Err(moved(&promotion.alias, expected, before));
        }
        let wanted = self.wanted(scope, &seen, &promotion.wanted).await?;
        let to = wanted.version;
        require_unmanaged(&seen)?;
        if let Some(gate) = self.gate.get() {
            gate.check(scope, &seen, &wanted, &promotion.alias).await?;
        }
        let edit = |model: &mut RegisteredModel| {
            require_unmanaged(model)?;
            let from = model.aliases.get(&promotion.alias).copied();
            if from.unwrap_or(0) != expected {
                return Err(moved(&promotion.alias, expected, from));
            }
            if promotion.wanted == Wanted::Next && next_of(model)? != to {
                let message = format!(
                    "version {to} was the next one of `{name}` and no longer is; look at its history, then decide"
                );
                return Err(Error::new(codes::CONFLICT, message).with_field("version"));
            }
            point(model, &promotion.alias, to);
            if model.aliases.len() > ALIASES_MAX {
                return Err(invalid("alias", format!("a model has at most {ALIASES_MAX} aliases")));
            }
            let (alias, reason) = (Some(promotion.alias.as_str()), promotion.reason.as_str());
            let told = Told { action: "model.promoted", alias, from, to: Some(to), reason };
            Ok((Some(told), others.to_vec()))
        };
        self.alter(scope, name, Some(to), edit).await
    }

    /// Points an alias back at where it pointed before its last promotion.
    ///
    /// # Errors
    /// `INVALID_STATE` where there is nothing to go back to; those of [`RegisteredModels::promote`].
    pub async fn rollback(
        &self,
        scope: &Scope,
        name: &str,
        alias: &str,
        expected: Option<u64>,
        reason: &str,
    ) -> Result<RegisteredModel> {
        scope.require(Permission::Admin)?;
        check_alias(alias)?;
        check_value(reason, REASON_BYTES_MAX, "reason")?;
        let seen = self.model(scope, name).await?;
        require_unmanaged(&seen)?;
        let from = seen.aliases.get(alias).copied();
        if let Some(expected) = expected.filter(|expected| from.unwrap_or(0) != *expected) {
            return Err(moved(alias, expected, from));
        }
        let to = self.before(scope, &seen, alias).await?.ok_or_else(|| {
            let message =
                format!("there is no version that `{alias}` of `{name}` could go back to; see its history");
            Error::new(INVALID_STATE, message)
        })?;
        let edit = |model: &mut RegisteredModel| {
            let now = model.aliases.get(alias).copied();
            if now != from {
                return Err(moved(alias, from.unwrap_or(0), now));
            }
            point(model, alias, to);
            let told = Told { action: "model.rolled_back", alias: Some(alias), from, to: Some(to), reason };
            Ok((Some(told), Vec::new()))
        };
        self.alter(scope, name, Some(to), edit).await
    }

    /// Where an alias pointed before it was promoted to where it points now, if that version is still there.
    pub(super) async fn before(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        alias: &str,
    ) -> Result<Option<u64>> {
        let Some(current) = model.aliases.get(alias).copied() else { return Ok(None) };
        let mut query =
            Query { descending: true, ..Query::new(Selection::Prefix(format!("{}/", model.id)), PAGE) };
        loop {
            let (page, cursor) = self.changes.list(scope, &query).await?;
            for change in page.into_iter().map(|found| found.document) {
                let is_it = change.alias.as_deref() == Some(alias)
                    && change.to == Some(current)
                    && change.action != "rolled_back";
                if let Some(from) = change.from.filter(|from| is_it && *from != current) {
                    let key = super::version_key(&model.id, from);
                    return Ok(self.versions.get(scope, &key).await?.map(|_| from));
                }
            }
            match cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(None),
            }
        }
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// `INVALID_STATE` where the model is managed; `NOT_FOUND`; `PERMISSION_DENIED`; those of the engine.
    pub async fn remove_alias(&self, scope: &Scope, name: &str, alias: &str) -> Result<()> {
        scope.require(Permission::Admin)?;
        let edit = |model: &mut RegisteredModel| {
            require_unmanaged(model)?;
            let from = model.aliases.remove(alias);
            // To remove what is not there is fine.
            let told = from.map(|_| Told {
                action: "model.alias_removed",
                alias: Some(alias),
                from,
                ..Told::default()
            });
            Ok((told, Vec::new()))
        };
        self.alter(scope, name, None, edit).await.map(drop)
    }

    /// Takes an alias from a version that did not do well under it, and puts the version away: nobody promotes it unasked. In one
    /// transaction with other writes, which are made also where the alias names it no longer.
    ///
    /// # Errors
    /// As [`RegisteredModels::remove_alias`]; `CONFLICT` also where what the other writes expect does not hold.
    pub async fn put_away(
        &self,
        scope: &Scope,
        name: &str,
        (alias, version): (&str, u64),
        reason: &str,
        others: &[Write],
    ) -> Result<()> {
        scope.require(Permission::Admin)?;
        check_value(reason, REASON_BYTES_MAX, "reason")?;
        let edit = |model: &mut RegisteredModel| {
            if require_unmanaged(model).is_err() || model.aliases.get(alias) != Some(&version) {
                return Ok((None, others.to_vec()));
            }
            model.aliases.remove(alias);
            // Another alias may have it serve all the same.
            if model.stage(version) == Stage::None {
                model.archived.insert(version);
            }
            let (action, alias, from) = ("model.archived", Some(alias), Some(version));
            Ok((Some(Told { action, alias, from, reason, ..Told::default() }), others.to_vec()))
        };
        self.alter(scope, name, None, edit).await.map(drop)
    }

    /// Puts a version into a stage by moving aliases.
    ///
    /// # Errors
    /// As [`RegisteredModels::promote`].
    pub async fn set_stage(
        &self,
        scope: &Scope,
        name: &str,
        version: u64,
        stage: Stage,
    ) -> Result<RegisteredModel> {
        scope.require(Permission::Admin)?;
        if let Some(alias) = stage.alias() {
            let (wanted, alias) = (Wanted::Version(version), alias.to_owned());
            let reason = format!("stage {}", stage.name());
            return self.promote(scope, name, &Promotion { wanted, alias, expected: None, reason }).await;
        }
        let edit = |model: &mut RegisteredModel| {
            require_unmanaged(model)?;
            let held = model.aliases_of(version);
            for alias in held.iter().filter(|alias| [CHAMPION, CANARY, SHADOW].contains(&alias.as_str())) {
                model.aliases.remove(alias);
            }
            match stage {
                Stage::Archived => model.archived.insert(version),
                _ => model.archived.remove(&version),
            };
            let action = if stage == Stage::Archived { "model.archived" } else { "model.unstaged" };
            Ok((Some(Told { action, to: Some(version), ..Told::default() }), Vec::new()))
        };
        self.alter(scope, name, Some(version), edit).await
    }

    async fn wanted(
        &self,
        scope: &Scope,
        model: &RegisteredModel,
        wanted: &Wanted,
    ) -> Result<RegisteredVersion> {
        match wanted {
            Wanted::Version(version) => self.version_of(scope, model, *version).await,
            Wanted::Next => self.version_of(scope, model, next_of(model)?).await,
            Wanted::OfRun(run_id) => {
                let mut found =
                    self.all_versions(scope, &model.id).await?.into_iter().map(|found| found.document);
                let newest = found.rfind(|version| version.run_id == *run_id);
                newest.ok_or_else(|| {
                    missing(&format!("version of `{}` that is registered from the run", model.name), run_id)
                })
            }
        }
    }
}

/// The canary, or the newest version where there is none and that was not put away.
fn next_of(model: &RegisteredModel) -> Result<u64> {
    let version = model.aliases.get(CANARY).copied().unwrap_or(model.latest_version);
    if version == 0 {
        let message = format!("`{}` has no version yet; register one", model.name);
        return Err(Error::new(codes::NOT_FOUND, message));
    }
    if model.archived.contains(&version) {
        let message = format!(
            "the newest version of `{}`, {version}, was put away or taken back; say which version is to be promoted",
            model.name
        );
        return Err(Error::new(INVALID_STATE, message).with_field("version"));
    }
    Ok(version)
}

/// A version that serves no longer is put away; one that does is not.
pub(crate) fn point(model: &mut RegisteredModel, alias: &str, to: u64) {
    let from = model.aliases.insert(alias.to_owned(), to);
    if alias == CHAMPION {
        model.archived.extend(from.filter(|from| *from != to));
        // It is no longer on its way.
        model.aliases.retain(|other, version| other != CANARY || *version != to);
    }
    if [CHAMPION, CANARY].contains(&alias) {
        model.archived.remove(&to);
    }
}

fn moved(alias: &str, expected: u64, found: Option<u64>) -> Error {
    let named =
        |version: u64| if version == 0 { "no version".to_owned() } else { format!("version {version}") };
    let message = format!(
        "`{alias}` points at {}, not at {}: another promotion was first; look at the history, then decide",
        named(found.unwrap_or(0)),
        named(expected)
    );
    Error::new(codes::CONFLICT, message).with_field("alias")
}

/// Names such as `latest` or `v3` mean something else to clients.
fn check_alias(alias: &str) -> Result<()> {
    let is_lawful = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let lower = alias.to_ascii_lowercase();
    let is_version =
        lower.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    if alias.is_empty() || alias.len() > ALIAS_BYTES_MAX || !alias.bytes().all(is_lawful) {
        return Err(invalid("alias", format!("has 1 to {ALIAS_BYTES_MAX} characters of a-z A-Z 0-9 _ - .")));
    }
    if lower == "latest" || is_version || lower.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid(
            "alias",
            "must not be `latest`, a number, or `v` and a number, which name versions",
        ));
    }
    Ok(())
}
