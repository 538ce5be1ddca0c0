//! Models themselves: made, described, tagged, renamed, deleted, found.

use std::collections::BTreeMap;

use kernel::{Error, Permission, Result, Scope, codes};
use store::{Document, Expect, Query, Repository, Selection, Versioned, Write};

use super::documents::MODELS;
use super::{
    Change, NAME_BYTES_MAX, PAGE, RegisteredModel, RegisteredModels, Told, change, require_unmanaged,
};
use crate::limits::{
    ALREADY_EXISTS, INVALID_STATE, MODEL_TAG_BYTES_MAX, check_count, check_key, check_name, check_value,
    invalid, missing,
};
use crate::search::{Filter, Order, Page, Pager};
use crate::tracking::Search;

const DESCRIPTION_BYTES_MAX: usize = 100_000;
/// A model that is renamed or deleted has at most so many versions.
const MAX_VERSIONS_AT_ONCE: usize = 4_000;

/// Checks the name of a model.
///
/// # Errors
/// `VALIDATION_ERROR`.
pub fn check_model_name(name: &str, field: &str) -> Result<()> {
    check_name(name, NAME_BYTES_MAX, field)?;
    if name.contains(['/', ':']) {
        return Err(invalid(field, "has no `/` and no `:`"));
    }
    Ok(())
}

pub(super) fn check_tag(key: &str, value: &str) -> Result<()> {
    check_key(key, "key")?;
    check_value(value, MODEL_TAG_BYTES_MAX, "value")
}

pub(super) fn check_description(text: &str) -> Result<()> {
    check_value(text, DESCRIPTION_BYTES_MAX, "description")
}

fn taken(name: &str) -> Error {
    Error::new(ALREADY_EXISTS, format!("there is a registered model `{name}` already"))
}

impl RegisteredModels {
    /// Makes a model without versions.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`; `VALIDATION_ERROR`; `PERMISSION_DENIED`; those of the engine.
    pub async fn create(
        &self,
        scope: &Scope,
        name: &str,
        description: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<RegisteredModel> {
        scope.require(Permission::Write)?;
        check_model_name(name, "name")?;
        check_description(description)?;
        for (key, value) in &tags {
            check_tag(key, value)?;
        }
        let now_ms = self.now_ms();
        let mut model = RegisteredModel {
            name: name.to_owned(),
            id: self.entropy.id(self.clock.now()).simple().to_string(),
            created_ms: now_ms,
            updated_ms: now_ms,
            description: description.to_owned(),
            tags,
            ..RegisteredModel::default()
        };
        if self.models.get(scope, name).await?.is_some() {
            return Err(taken(name));
        }
        let told = Told { action: "model.created", ..Told::default() };
        self.note(scope, name, &told).await?;
        let writes =
            vec![change(scope, &mut model, now_ms, &told)?, Repository::write(&model, Expect::Absent)?];
        match self.records.commit(scope, writes).await {
            Ok(_) => Ok(model),
            Err(error) if error.code() == codes::CONFLICT => Err(taken(name)),
            Err(error) => Err(error),
        }
    }

    /// Describes a model.
    ///
    /// # Errors
    /// `NOT_FOUND`; `VALIDATION_ERROR`; `PERMISSION_DENIED`; those of the engine.
    pub async fn describe(&self, scope: &Scope, name: &str, description: &str) -> Result<RegisteredModel> {
        scope.require(Permission::Write)?;
        check_description(description)?;
        let edit = |model: &mut RegisteredModel| {
            description.clone_into(&mut model.description);
            Ok((None, Vec::new()))
        };
        self.alter(scope, name, None, edit).await
    }

    /// Sets a tag of a model, or removes it where there is no value.
    ///
    /// # Errors
    /// As [`RegisteredModels::describe`].
    pub async fn tag(&self, scope: &Scope, name: &str, key: &str, value: Option<&str>) -> Result<()> {
        scope.require(Permission::Write)?;
        check_tag(key, value.unwrap_or_default())?;
        let edit = |model: &mut RegisteredModel| {
            match value {
                Some(value) => drop(model.tags.insert(key.to_owned(), value.to_owned())),
                None => drop(model.tags.remove(key)),
            }
            check_count(model.tags.len(), "tags")?;
            Ok((None, Vec::new()))
        };
        self.alter(scope, name, None, edit).await.map(drop)
    }

    /// Gives a model another name.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`; `INVALID_STATE` where it is managed; those of [`RegisteredModels::describe`].
    pub async fn rename(&self, scope: &Scope, name: &str, wanted: &str) -> Result<RegisteredModel> {
        scope.require(Permission::Admin)?;
        check_model_name(wanted, "new_name")?;
        let Versioned { version, document: mut model } = self.found(scope, name).await?;
        require_unmanaged(&model)?;
        if self.models.get(scope, wanted).await?.is_some() {
            return Err(taken(wanted));
        }
        let reason = format!("was `{name}`");
        let told = Told { action: "model.renamed", reason: &reason, ..Told::default() };
        self.note(scope, wanted, &told).await?;
        wanted.clone_into(&mut model.name);
        model.updated_ms = self.now_ms();
        let mut writes = vec![change(scope, &mut model, self.now_ms(), &told)?];
        writes.push(Repository::write(&model, Expect::Absent)?);
        let table = RegisteredModel::TABLE;
        writes.push(Write::Delete { table, key: name.to_owned(), expect: Expect::Version(version) });
        for found in self.all_versions(scope, &model.id).await? {
            let mut renamed = found.document;
            wanted.clone_into(&mut renamed.model);
            renamed.id = format!("{wanted}/{:010}", renamed.version);
            writes.push(Repository::write(&renamed, Expect::Version(found.version))?);
        }
        self.records.commit(scope, writes).await?;
        Ok(model)
    }

    /// Deletes a model with all its versions. Its history stays, and its audit.
    ///
    /// # Errors
    /// `INVALID_STATE` where an alias points at a version, or where it is managed; those of
    /// [`RegisteredModels::describe`].
    pub async fn delete(&self, scope: &Scope, name: &str) -> Result<()> {
        scope.require(Permission::Admin)?;
        let Versioned { version, document: mut model } = self.found(scope, name).await?;
        require_unmanaged(&model)?;
        if let Some((alias, version)) = model.aliases.iter().next() {
            let message =
                format!("the alias `{alias}` points at version {version}; remove the aliases first");
            return Err(Error::new(INVALID_STATE, message));
        }
        let told = Told { action: "model.deleted", ..Told::default() };
        self.note(scope, name, &told).await?;
        let mut writes = vec![change(scope, &mut model, self.now_ms(), &told)?];
        let table = RegisteredModel::TABLE;
        writes.push(Write::Delete { table, key: name.to_owned(), expect: Expect::Version(version) });
        let versions = self.all_versions(scope, &model.id).await?;
        for found in &versions {
            let expect = Expect::Version(found.version);
            let table = super::RegisteredVersion::TABLE;
            writes.push(Write::Delete { table, key: found.document.key(), expect });
        }
        self.records.commit(scope, writes).await?;
        for root in versions.into_iter().filter_map(|found| found.document.root) {
            self.files.remove(scope, &root, None).await?;
        }
        Ok(())
    }

    /// Every version of a model, oldest first.
    pub(super) async fn all_versions(
        &self,
        scope: &Scope,
        model_id: &str,
    ) -> Result<Vec<Versioned<super::RegisteredVersion>>> {
        let mut query = Query::new(Selection::Prefix(format!("{model_id}/")), PAGE);
        let mut found = Vec::new();
        loop {
            let (page, cursor) = self.versions.list(scope, &query).await?;
            found.extend(page);
            match cursor {
                Some(_) if found.len() > MAX_VERSIONS_AT_ONCE => {
                    return Err(Error::new(
                        codes::TOO_LARGE,
                        "the model has too many versions; clean up first",
                    ));
                }
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(found),
            }
        }
    }

    /// Searches models.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`; those of the engine.
    pub async fn search(&self, scope: &Scope, search: &Search) -> Result<Page<RegisteredModel>> {
        let filter = Filter::parse(&search.filter, &MODELS)?;
        let order = Order::parse(&search.order_by, "name", &MODELS)?;
        let mut pager =
            Pager::new(filter, order, "models", search.page_token.as_deref(), search.max_results)?;
        let mut query = Query::new(Selection::All, PAGE);
        loop {
            let (page, cursor) = self.models.list(scope, &query).await?;
            page.into_iter().for_each(|found| pager.offer(found.document));
            match cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return pager.page(),
            }
        }
    }

    /// A page of what was done to a model, newest first, and where the next begins.
    ///
    /// # Errors
    /// `NOT_FOUND`; `VALIDATION_ERROR` for the cursor; those of the engine.
    pub async fn history(
        &self,
        scope: &Scope,
        name: &str,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Change>, Option<String>)> {
        let model = self.model(scope, name).await?;
        let selection = Selection::Prefix(format!("{}/", model.id));
        let query = Query { descending: true, cursor, ..Query::new(selection, limit) };
        let (page, cursor) = self.changes.list(scope, &query).await?;
        Ok((page.into_iter().map(|found| found.document).collect(), cursor))
    }

    /// The model that a name means, and the version where the name ends in one: `curve_v2` is version 2 of `curve` where
    /// there is no model of the whole name.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of the engine.
    pub async fn meant(&self, scope: &Scope, name: &str) -> Result<(RegisteredModel, Option<u64>)> {
        let whole = match self.found(scope, name).await {
            Ok(found) => return Ok((found.document, None)),
            Err(error) => error,
        };
        match (name_and_version(name), whole.code()) {
            (Some((model, version)), codes::NOT_FOUND) => match self.found(scope, model).await {
                Ok(found) => Ok((found.document, Some(version))),
                Err(_) => Err(missing("registered model", name)),
            },
            _ => Err(whole),
        }
    }
}

/// The model and the version that a name such as `curve_v2` may mean, where there is no model of the whole name.
#[must_use]
pub fn name_and_version(name: &str) -> Option<(&str, u64)> {
    let (model, digits) = name.rsplit_once("_v")?;
    Some((model, digits.parse().ok().filter(|version| *version > 0)?))
}
