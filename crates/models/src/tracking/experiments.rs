//! Experiments. Names are unique by a record of their own, written in the same transaction.

use std::collections::BTreeMap;

use kernel::{Error, Permission, Result, Scope, codes};
use store::{Expect, Query, Repository, Selection, Versioned, Write};

use super::documents::{EXPERIMENTS, ExperimentName};
use super::{Experiment, Found, PAGE, Search, Tracking, ViewType, change, offer_all};
use crate::limits::{
    ALREADY_EXISTS, INVALID_STATE, check_count, check_key, check_name, check_value, invalid, missing,
};
use crate::search::{Filter, Order, Pager};

/// The experiment that every tenant has.
pub const DEFAULT_EXPERIMENT: &str = "0";
const DEFAULT_NAME: &str = "Default";
const NAME_BYTES_MAX: usize = 500;
const TAG_BYTES_MAX: usize = 20_000;

impl Tracking {
    /// Makes an experiment.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`; `VALIDATION_ERROR`; `PERMISSION_DENIED`; those of the engine.
    pub async fn create_experiment(
        &self,
        scope: &Scope,
        name: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<Experiment> {
        scope.require(Permission::Write)?;
        check_name(name, NAME_BYTES_MAX, "name")?;
        for (key, value) in &tags {
            check_tag(key, value)?;
        }
        let now_ms = self.now_ms();
        // 18 digits, as other servers give them.
        let id = format!("{}", 100_000_000_000_000_000 + self.entropy.next_u64() % 900_000_000_000_000_000);
        let (created_ms, updated_ms) = (now_ms, now_ms);
        let experiment = Experiment {
            id: id.clone(),
            name: name.to_owned(),
            is_deleted: false,
            created_ms,
            updated_ms,
            tags,
        };
        let name = ExperimentName { name: name.to_owned(), id };
        if name.name == DEFAULT_NAME {
            return Err(taken(&name.name));
        }
        let writes =
            vec![Repository::write(&experiment, Expect::Absent)?, Repository::write(&name, Expect::Absent)?];
        match self.records.commit(scope, writes).await {
            Ok(_) => Ok(experiment),
            Err(error) if error.code() == codes::CONFLICT => Err(taken(&name.name)),
            Err(error) => Err(error),
        }
    }

    async fn found(&self, scope: &Scope, id: &str) -> Result<Option<Versioned<Experiment>>> {
        if !is_id(id) {
            return Ok(None);
        }
        self.experiments.get(scope, id).await
    }

    /// The experiment of an id, deleted or not.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of the engine.
    pub async fn experiment(&self, scope: &Scope, id: &str) -> Result<Experiment> {
        match self.found(scope, id).await? {
            Some(found) => Ok(found.document),
            None if id == DEFAULT_EXPERIMENT => Ok(default_experiment()),
            None => Err(missing("experiment", id)),
        }
    }

    /// The experiment of a name, deleted or not.
    ///
    /// # Errors
    /// As [`Tracking::experiment`].
    pub async fn experiment_named(&self, scope: &Scope, name: &str) -> Result<Experiment> {
        check_name(name, NAME_BYTES_MAX, "experiment_name")?;
        if let Some(found) = self.names.get(scope, name).await? {
            return self.experiment(scope, &found.document.id).await;
        }
        let default = self.experiment(scope, DEFAULT_EXPERIMENT).await?;
        if default.name == name { Ok(default) } else { Err(missing("experiment", name)) }
    }

    /// Changes an experiment.
    async fn change_experiment(
        &self,
        scope: &Scope,
        id: &str,
        edit: impl Fn(&mut Experiment) -> Result<()>,
    ) -> Result<Experiment> {
        scope.require(Permission::Write)?;
        if id == DEFAULT_EXPERIMENT && self.found(scope, id).await?.is_none() {
            // Whoever is faster wrote the same.
            let _ = self.experiments.put(scope, &default_experiment(), Expect::Absent).await;
        }
        let now_ms = self.now_ms();
        if !is_id(id) {
            return Err(missing("experiment", id));
        }
        let edit = |experiment: &mut Experiment| {
            experiment.updated_ms = now_ms;
            edit(experiment)
        };
        Ok(change(&self.experiments, scope, id, || missing("experiment", id), edit).await?.0)
    }

    /// Deletes an experiment, so that it can be restored.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_STATE` for the default one; `PERMISSION_DENIED`; those of the engine.
    pub async fn delete_experiment(&self, scope: &Scope, id: &str) -> Result<()> {
        if id == DEFAULT_EXPERIMENT {
            return Err(Error::new(INVALID_STATE, "the default experiment cannot be deleted"));
        }
        let delete = |experiment: &mut Experiment| {
            experiment.is_deleted = true;
            Ok(())
        };
        self.change_experiment(scope, id, delete).await.map(drop)
    }

    /// Undoes a deletion.
    ///
    /// # Errors
    /// As [`Tracking::delete_experiment`].
    pub async fn restore_experiment(&self, scope: &Scope, id: &str) -> Result<()> {
        let restore = |experiment: &mut Experiment| {
            experiment.is_deleted = false;
            Ok(())
        };
        self.change_experiment(scope, id, restore).await.map(drop)
    }

    /// Gives an experiment another name.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`; `NOT_FOUND`; `INVALID_STATE` for the default one; `PERMISSION_DENIED`; those of the engine.
    pub async fn rename_experiment(&self, scope: &Scope, id: &str, name: &str) -> Result<()> {
        scope.require(Permission::Write)?;
        check_name(name, NAME_BYTES_MAX, "new_name")?;
        if id == DEFAULT_EXPERIMENT {
            return Err(Error::new(INVALID_STATE, "the default experiment keeps its name"));
        }
        let Some(Versioned { version, document }) = self.found(scope, id).await? else {
            return Err(missing("experiment", id));
        };
        if document.name == name {
            return Ok(());
        }
        if name == DEFAULT_NAME || self.names.get(scope, name).await?.is_some() {
            return Err(taken(name));
        }
        let (before, named) =
            (document.name.clone(), ExperimentName { name: name.to_owned(), id: id.to_owned() });
        let renamed = Experiment { name: name.to_owned(), updated_ms: self.now_ms(), ..document };
        let table = <ExperimentName as store::Document>::TABLE;
        let writes = vec![
            Repository::write(&renamed, Expect::Version(version))?,
            Repository::write(&named, Expect::Absent)?,
            Write::Delete { table, key: before, expect: Expect::Any },
        ];
        self.records.commit(scope, writes).await.map(drop)
    }

    /// Sets a tag, or removes it where there is no value.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`; `NOT_FOUND`; `PERMISSION_DENIED`; those of the engine.
    pub async fn tag_experiment(
        &self,
        scope: &Scope,
        id: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<()> {
        check_tag(key, value.unwrap_or_default())?;
        let edit = |experiment: &mut Experiment| {
            match value {
                Some(value) => drop(experiment.tags.insert(key.to_owned(), value.to_owned())),
                None if experiment.tags.remove(key).is_none() => return Err(missing("tag", key)),
                None => {}
            }
            check_count(experiment.tags.len(), "tags")
        };
        self.change_experiment(scope, id, edit).await.map(drop)
    }

    /// Searches experiments.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`; those of the engine.
    pub async fn search_experiments(
        &self,
        scope: &Scope,
        view: ViewType,
        search: &Search,
    ) -> Result<Found<Experiment>> {
        let filter = Filter::parse(&search.filter, &EXPERIMENTS)?;
        let order = Order::parse(&search.order_by, "creation_time DESC", &EXPERIMENTS)?;
        let asked = format!("experiments {view:?}");
        let mut pager = Pager::new(filter, order, &asked, search.page_token.as_deref(), search.max_results)?;
        let default = self.experiment(scope, DEFAULT_EXPERIMENT).await?;
        if view.shows(default.is_deleted) {
            pager.offer(default);
        }
        let shows = |one: &Experiment| one.id != DEFAULT_EXPERIMENT && view.shows(one.is_deleted);
        offer_all(&self.experiments, scope, Query::new(Selection::All, PAGE), &mut pager, shows).await?;
        pager.page()
    }
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 64 && !id.contains(char::is_control)
}

/// It is there before anyone writes to it.
fn default_experiment() -> Experiment {
    Experiment {
        id: DEFAULT_EXPERIMENT.to_owned(),
        name: DEFAULT_NAME.to_owned(),
        is_deleted: false,
        created_ms: 0,
        updated_ms: 0,
        tags: BTreeMap::new(),
    }
}

fn check_tag(key: &str, value: &str) -> Result<()> {
    check_key(key, "key")?;
    check_value(value, TAG_BYTES_MAX, "value")
}

fn taken(name: &str) -> Error {
    Error::new(ALREADY_EXISTS, format!("there is an experiment named `{name}` already, maybe a deleted one"))
}

impl Tracking {
    /// Passes where runs may be made in the experiment.
    pub(super) async fn require_active(&self, scope: &Scope, id: &str) -> Result<()> {
        if self.experiment(scope, id).await?.is_deleted {
            return Err(invalid("experiment_id", "the experiment was deleted; restore it first"));
        }
        Ok(())
    }
}
