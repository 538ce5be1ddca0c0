//! Versions: made once from files that are there, and never changed.

use std::collections::BTreeMap;

use kernel::{Error, Permission, Result, Scope, codes};
use store::{Document, Expect, IndexValue, Query, Repository, Selection, Versioned, Write};

use super::documents::VERSIONS;
use super::manifest::{names_pickle, signature};
use super::models::{check_description, check_tag};
use super::{
    ATTEMPTS, Lineage, PAGE, RegisteredModel, RegisteredModels, RegisteredVersion, Told, VersionFile, change,
    require_unmanaged, version_key,
};
use crate::files::{ArtifactFile, REFUSED_FORMAT, check_artifact_path, split_root};
use crate::limits::{INVALID_STATE, check_count, check_value, invalid, missing};
use crate::search::{Filter, Order, Page, Pager};
use crate::tracking::{ARTIFACTS, Search};

const SOURCE_BYTES_MAX: usize = 2_000;
const MLMODEL: &str = "MLmodel";
const MLMODEL_BYTES_MAX: u64 = 4 << 20;

/// A version to be.
#[derive(Debug, Clone, Default)]
pub struct NewVersion {
    /// The registered model.
    pub model: String,
    /// Where its files are: `mlflow-artifacts:/…`, `runs:/RUN/path`, `models:/m-…`.
    pub source: String,
    /// The run that made it.
    pub run_id: String,
    /// A page about the run.
    pub run_link: String,
    /// The logged model that it was.
    pub logged_model_id: Option<String>,
    /// For people.
    pub description: String,
    /// Free text.
    pub tags: BTreeMap<String, String>,
}

impl RegisteredModels {
    /// Makes the next version of a model from files that are there.
    ///
    /// # Errors
    /// `NOT_FOUND` for the model, run or files; `VALIDATION_ERROR` for the source; `REFUSED_FORMAT` where the model says
    /// that it loads a pickle; `INVALID_STATE` where the model is managed; `PERMISSION_DENIED`; those of the engine.
    pub async fn create_version(&self, scope: &Scope, new: NewVersion) -> Result<RegisteredVersion> {
        scope.require(Permission::Write)?;
        check_description(&new.description)?;
        check_value(&new.source, SOURCE_BYTES_MAX, "source")?;
        for (key, value) in &new.tags {
            check_tag(key, value)?;
        }
        let (root, folder) = self.source(scope, &new).await?;
        let new = self.with_run(scope, new).await?;
        let lineage = self.lineage(scope, &new.run_id).await?;
        for attempt in 0..ATTEMPTS {
            let Versioned { version, document: mut model } = self.found(scope, &new.model).await?;
            require_unmanaged(&model)?;
            let (made, mut writes) =
                self.next_version(scope, &mut model, &new, (&root, folder.as_deref()), &lineage).await?;
            let told = Told { action: "model.version_created", to: Some(made.version), ..Told::default() };
            if attempt == 0 {
                self.note(scope, &model.name, &told).await?;
            }
            writes.push(change(scope, &mut model, made.created_ms, &told)?);
            writes.push(Repository::write(&model, Expect::Version(version))?);
            match self.records.commit(scope, writes).await {
                Ok(_) => {
                    self.register_on_logged_model(scope, &made).await?;
                    return Ok(made);
                }
                // Another version, or one of the files, was written meanwhile.
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, "the model or its files are changed by too many at once; try again"))
    }

    /// Newer clients name the logged model alone, which knows its run.
    async fn with_run(&self, scope: &Scope, mut new: NewVersion) -> Result<NewVersion> {
        if let (true, Some(id)) = (new.run_id.is_empty(), &new.logged_model_id) {
            new.run_id = self.tracking.logged_model(scope, id).await?.source_run_id.unwrap_or_default();
        }
        Ok(new)
    }

    async fn next_version(
        &self,
        scope: &Scope,
        model: &mut RegisteredModel,
        new: &NewVersion,
        from: (&str, Option<&str>),
        lineage: &Lineage,
    ) -> Result<(RegisteredVersion, Vec<Write>)> {
        let now_ms = self.now_ms();
        model.latest_version += 1;
        model.updated_ms = now_ms;
        let version = model.latest_version;
        let root = format!("registered/{}/{version}", model.id);
        let (files, mut writes) = self.files.take_over(scope, from, &root).await?;
        if files.is_empty() {
            return Err(missing("artifact to make a version of at", &new.source));
        }
        let made = RegisteredVersion {
            model: model.name.clone(),
            model_id: model.id.clone(),
            version,
            id: format!("{}/{version:010}", model.name),
            created_ms: now_ms,
            updated_ms: now_ms,
            user_id: scope.actor().to_string(),
            description: new.description.clone(),
            source: new.source.clone(),
            run_id: new.run_id.clone(),
            run_link: new.run_link.clone(),
            logged_model_id: new.logged_model_id.clone(),
            tags: new.tags.clone(),
            root: Some(root),
            checksum: checksum(&files),
            signature: self.read_signature(scope, &files).await?,
            files: files.iter().map(version_file).collect(),
            lineage: lineage.clone(),
            metrics: BTreeMap::new(),
        };
        writes.push(Repository::write(&made, Expect::Absent)?);
        Ok((made, writes))
    }

    /// Where the files are: a root, and a folder in it.
    async fn source(&self, scope: &Scope, new: &NewVersion) -> Result<(String, Option<String>)> {
        let refused = || {
            invalid(
                "source",
                "names artifacts that are kept here: `mlflow-artifacts:/…`, `runs:/…` or `models:/m-…`",
            )
        };
        let folder = |path: &str| {
            let path = path.trim_matches('/');
            if path.is_empty() { Ok(None) } else { check_artifact_path(path).map(|()| Some(path.to_owned())) }
        };
        if let Some(rest) = new.source.strip_prefix("runs:/") {
            let (run, path) = rest.trim_start_matches('/').split_once('/').unwrap_or((rest, ""));
            return Ok((self.tracking.run(scope, run).await?.root(), folder(path)?));
        }
        if let Some(rest) = new.source.strip_prefix("models:/") {
            let (id, path) = rest.trim_start_matches('/').split_once('/').unwrap_or((rest, ""));
            return Ok((self.tracking.logged_model(scope, id).await?.root(), folder(path)?));
        }
        let path = new.source.strip_prefix(ARTIFACTS).ok_or_else(refused)?.trim_matches('/');
        check_artifact_path(path).map_err(|_| refused())?;
        let (root, folder) = split_root(path).ok_or_else(refused)?;
        Ok((root.to_owned(), folder.map(str::to_owned)))
    }

    async fn lineage(&self, scope: &Scope, run_id: &str) -> Result<Lineage> {
        if run_id.is_empty() {
            return Ok(Lineage::default());
        }
        let run = self.tracking.run(scope, run_id).await?;
        let tag = |name: &str| run.tags.get(name).cloned();
        Ok(Lineage {
            code_version: tag("mlflow.source.git.commit").or_else(|| tag("watershed.code_version")),
            source: tag("mlflow.source.name"),
            data: run.datasets.iter().map(|data| format!("{}@{}", data.name, data.digest)).collect(),
        })
    }

    async fn read_signature(&self, scope: &Scope, files: &[ArtifactFile]) -> Result<Option<String>> {
        let Some(file) = files.iter().find(|file| file.path == MLMODEL) else { return Ok(None) };
        let bytes = self.files.read(scope, file, MLMODEL_BYTES_MAX).await?;
        let text = String::from_utf8_lossy(&bytes);
        if names_pickle(&text) {
            let message = "the model says that it loads a pickle, which runs code when it is read; store ONNX or safetensors";
            return Err(Error::new(REFUSED_FORMAT, message).with_field("source"));
        }
        Ok(signature(&text))
    }

    async fn register_on_logged_model(&self, scope: &Scope, made: &RegisteredVersion) -> Result<()> {
        let Some(id) = &made.logged_model_id else { return Ok(()) };
        let note = |model: &mut crate::tracking::LoggedModel| {
            model.registrations.push((made.model.clone(), made.version));
            Ok(())
        };
        match self.tracking.change_logged_model(scope, id, note).await {
            Err(error) if error.code() != codes::NOT_FOUND => Err(error),
            _ => Ok(()),
        }
    }

    async fn change_version(
        &self,
        scope: &Scope,
        name: &str,
        version: u64,
        edit: impl Fn(&mut RegisteredVersion) -> Result<()>,
    ) -> Result<RegisteredVersion> {
        scope.require(Permission::Write)?;
        let model = self.model(scope, name).await?;
        for _ in 0..ATTEMPTS {
            let found = self.versions.get(scope, &version_key(&model.id, version)).await?;
            let what = || missing(&format!("version {version} of the registered model"), name);
            let Versioned { version: at, mut document } = found.ok_or_else(what)?;
            edit(&mut document)?;
            document.updated_ms = self.now_ms();
            match self.versions.put(scope, &document, Expect::Version(at)).await {
                Ok(_) => return Ok(document),
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, "the version is changed by too many at once; try again"))
    }

    /// Describes a version.
    ///
    /// # Errors
    /// `NOT_FOUND`; `VALIDATION_ERROR`; `PERMISSION_DENIED`; those of the engine.
    pub async fn describe_version(
        &self,
        scope: &Scope,
        name: &str,
        version: u64,
        description: &str,
    ) -> Result<RegisteredVersion> {
        check_description(description)?;
        let edit = |found: &mut RegisteredVersion| {
            description.clone_into(&mut found.description);
            Ok(())
        };
        self.change_version(scope, name, version, edit).await
    }

    /// Sets a tag of a version, or removes it where there is no value.
    ///
    /// # Errors
    /// As [`RegisteredModels::describe_version`].
    pub async fn tag_version(
        &self,
        scope: &Scope,
        name: &str,
        version: u64,
        key: &str,
        value: Option<&str>,
    ) -> Result<()> {
        check_tag(key, value.unwrap_or_default())?;
        let edit = |found: &mut RegisteredVersion| {
            match value {
                Some(value) => drop(found.tags.insert(key.to_owned(), value.to_owned())),
                None => drop(found.tags.remove(key)),
            }
            check_count(found.tags.len(), "tags")
        };
        self.change_version(scope, name, version, edit).await.map(drop)
    }

    /// Deletes a version and its files.
    ///
    /// # Errors
    /// `INVALID_STATE` where an alias points at it, or where the model is managed; `NOT_FOUND`; `PERMISSION_DENIED`; those
    /// of the engine.
    pub async fn delete_version(&self, scope: &Scope, name: &str, version: u64) -> Result<()> {
        scope.require(Permission::Admin)?;
        let root = self.version(scope, name, version).await?.root;
        let edit = |model: &mut RegisteredModel| {
            require_unmanaged(model)?;
            if let Some(alias) = model.aliases_of(version).first() {
                let message = format!("the alias `{alias}` points at version {version}; move it first");
                return Err(Error::new(INVALID_STATE, message));
            }
            model.archived.remove(&version);
            let told = Told { action: "model.version_deleted", to: Some(version), ..Told::default() };
            let (table, key) = (RegisteredVersion::TABLE, version_key(&model.id, version));
            Ok((Some(told), vec![Write::Delete { table, key, expect: Expect::Any }]))
        };
        self.alter(scope, name, None, edit).await?;
        match root {
            Some(root) => self.files.remove(scope, &root, None).await.map(drop),
            None => Ok(()),
        }
    }

    /// Searches versions.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`; those of the engine.
    pub async fn search_versions(&self, scope: &Scope, search: &Search) -> Result<Page<RegisteredVersion>> {
        let filter = Filter::parse(&search.filter, &VERSIONS)?;
        let order = Order::parse(&search.order_by, "creation_timestamp DESC", &VERSIONS)?;
        let selection = match filter.exactly("name") {
            Some(name) if name.len() <= super::NAME_BYTES_MAX => {
                Selection::Equal("model", IndexValue::Text(name.to_owned()))
            }
            _ => Selection::All,
        };
        let mut pager =
            Pager::new(filter, order, "versions", search.page_token.as_deref(), search.max_results)?;
        let mut query = Query::new(selection, PAGE);
        loop {
            let (page, cursor) = self.versions.list(scope, &query).await?;
            page.into_iter().for_each(|found| pager.offer(found.document));
            match cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return pager.page(),
            }
        }
    }
}

fn version_file(file: &ArtifactFile) -> VersionFile {
    VersionFile { path: file.path.clone(), size_bytes: file.size_bytes, sha256: file.sha256.clone() }
}

/// One checksum for all files: of the lines `sha256 size path`, by path.
fn checksum(files: &[ArtifactFile]) -> String {
    let lines = files.iter().map(|file| format!("{} {} {}\n", file.sha256, file.size_bytes, file.path));
    crate::files::sha256(lines.collect::<String>().as_bytes())
}
