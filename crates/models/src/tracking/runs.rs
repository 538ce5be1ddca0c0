//! Runs: made, changed, deleted, found.

use std::collections::BTreeMap;

use kernel::{Error, Permission, Result, Scope, codes};
use store::{Expect, IndexValue, Query, Selection, Versioned};

use super::documents::RUNS;
use super::{Found, PAGE, Run, RunStatus, Search, Tracking, ViewType, change, offer_all};
use crate::limits::TAG_BYTES_MAX;
use crate::limits::{INVALID_STATE, check_count, check_key, check_name, check_value, invalid, missing};
use crate::search::{Filter, Order, Pager};

const NAME_BYTES_MAX: usize = 250;
/// A search goes over at most so many experiments.
const MAX_EXPERIMENTS: usize = 1_000;
/// The tag that repeats the name.
pub(super) const NAME_TAG: &str = "mlflow.runName";

/// A run to be.
#[derive(Debug, Clone, Default)]
pub struct NewRun {
    /// Its experiment.
    pub experiment_id: String,
    /// For people; made where missing.
    pub name: Option<String>,
    /// Who runs it.
    pub user_id: String,
    /// Milliseconds since 1970; now where missing.
    pub start_ms: Option<i64>,
    /// Free text.
    pub tags: BTreeMap<String, String>,
}

/// What of a run changes.
#[derive(Debug, Clone, Default)]
pub struct RunChange {
    /// How it stands.
    pub status: Option<RunStatus>,
    /// When it ended.
    pub end_ms: Option<i64>,
    /// What it is called.
    pub name: Option<String>,
}

impl Tracking {
    /// Begins a run.
    ///
    /// # Errors
    /// `NOT_FOUND` for the experiment; `VALIDATION_ERROR`; `PERMISSION_DENIED`; those of the engine.
    pub async fn create_run(&self, scope: &Scope, new: NewRun) -> Result<Run> {
        scope.require(Permission::Write)?;
        self.require_active(scope, &new.experiment_id).await?;
        for (key, value) in &new.tags {
            check_key(key, "tags")?;
            check_value(value, TAG_BYTES_MAX, "tags")?;
        }
        check_count(new.tags.len(), "tags")?;
        let id = self.new_id();
        let mut tags = new.tags;
        let given = new.name.filter(|name| !name.is_empty()).or_else(|| tags.get(NAME_TAG).cloned());
        // What is random in an id stands at its end.
        let name = given.unwrap_or_else(|| format!("run-{}", &id[id.len() - 8..]));
        check_name(&name, NAME_BYTES_MAX, "run_name")?;
        tags.insert(NAME_TAG.to_owned(), name.clone());
        let run = Run {
            id,
            experiment_id: new.experiment_id,
            name,
            user_id: new.user_id,
            start_ms: new.start_ms.unwrap_or_else(|| self.now_ms()),
            tags,
            ..Run::default()
        };
        self.runs.put(scope, &run, Expect::Absent).await?;
        Ok(run)
    }

    pub(super) async fn found_run(&self, scope: &Scope, id: &str) -> Result<Option<Versioned<Run>>> {
        if !is_run_id(id) {
            return Ok(None);
        }
        self.runs.get(scope, id).await
    }

    /// A run, deleted or not.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of the engine.
    pub async fn run(&self, scope: &Scope, id: &str) -> Result<Run> {
        Ok(self.found_run(scope, id).await?.ok_or_else(|| missing("run", id))?.document)
    }

    /// Changes a run that is not deleted.
    pub(super) async fn change_run<T>(
        &self,
        scope: &Scope,
        id: &str,
        edit: impl Fn(&mut Run) -> Result<T>,
    ) -> Result<(Run, T)> {
        scope.require(Permission::Write)?;
        if !is_run_id(id) {
            return Err(missing("run", id));
        }
        let edit = |run: &mut Run| {
            require_active(run)?;
            edit(run)
        };
        change(&self.runs, scope, id, || missing("run", id), edit).await
    }

    /// Changes how a run stands and what it is called.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_STATE` for a deleted one; `PERMISSION_DENIED`; those of the engine.
    pub async fn update_run(&self, scope: &Scope, id: &str, wanted: RunChange) -> Result<Run> {
        if let Some(name) = &wanted.name {
            check_name(name, NAME_BYTES_MAX, "run_name")?;
        }
        let edit = |run: &mut Run| {
            run.status = wanted.status.unwrap_or(run.status);
            run.end_ms = wanted.end_ms.or(run.end_ms);
            if let Some(name) = &wanted.name {
                run.name.clone_from(name);
                run.tags.insert(NAME_TAG.to_owned(), name.clone());
            }
            Ok(())
        };
        Ok(self.change_run(scope, id, edit).await?.0)
    }

    /// Deletes a run, so that it can be restored until a clean-up.
    ///
    /// # Errors
    /// `NOT_FOUND`; `PERMISSION_DENIED`; those of the engine.
    pub async fn delete_run(&self, scope: &Scope, id: &str) -> Result<()> {
        let now_ms = self.now_ms();
        self.mark_run(scope, id, |run| run.deleted_ms = Some(now_ms)).await
    }

    /// Undoes a deletion.
    ///
    /// # Errors
    /// As [`Tracking::delete_run`].
    pub async fn restore_run(&self, scope: &Scope, id: &str) -> Result<()> {
        self.mark_run(scope, id, |run| run.deleted_ms = None).await
    }

    async fn mark_run(&self, scope: &Scope, id: &str, mark: impl Fn(&mut Run)) -> Result<()> {
        scope.require(Permission::Write)?;
        if !is_run_id(id) {
            return Err(missing("run", id));
        }
        let edit = |run: &mut Run| {
            mark(run);
            Ok(())
        };
        change(&self.runs, scope, id, || missing("run", id), edit).await.map(drop)
    }

    /// Searches the runs of experiments.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`; those of the engine.
    pub async fn search_runs(
        &self,
        scope: &Scope,
        experiments: &[String],
        view: ViewType,
        search: &Search,
    ) -> Result<Found<Run>> {
        if experiments.len() > MAX_EXPERIMENTS {
            return Err(invalid("experiment_ids", format!("are at most {MAX_EXPERIMENTS}")));
        }
        let filter = Filter::parse(&search.filter, &RUNS)?;
        let order = Order::parse(&search.order_by, "start_time DESC", &RUNS)?;
        let asked = format!("runs {experiments:?} {view:?}");
        let mut pager = Pager::new(filter, order, &asked, search.page_token.as_deref(), search.max_results)?;
        for id in experiments.iter().filter(|id| !id.is_empty() && id.len() <= 64) {
            let selection = Selection::Equal("experiment", IndexValue::Text(id.clone()));
            let shows = |run: &Run| view.shows(run.deleted_ms.is_some());
            offer_all(&self.runs, scope, Query::new(selection, PAGE), &mut pager, shows).await?;
        }
        pager.page()
    }
}

pub(super) fn require_active(run: &Run) -> Result<()> {
    if run.deleted_ms.is_none() {
        return Ok(());
    }
    Err(Error::new(INVALID_STATE, format!("the run `{}` was deleted; restore it first", run.id)))
}

fn is_run_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Tracking {
    /// Removes runs that were deleted before a time, with their points and artifacts; only names them in a `dry_run`.
    ///
    /// # Errors
    /// Those of the engines.
    pub(crate) async fn remove_deleted(
        &self,
        scope: &Scope,
        before_ms: i64,
        dry_run: bool,
    ) -> Result<Vec<String>> {
        let mut query = Query::new(Selection::All, PAGE);
        let mut removed = Vec::new();
        loop {
            let (page, cursor) = self.runs.list(scope, &query).await?;
            for Versioned { version, document: run } in page {
                if run.deleted_ms.is_none_or(|at| at >= before_ms) {
                    continue;
                }
                if !dry_run {
                    self.files.remove(scope, &run.root(), None).await?;
                    self.remove_points(scope, &run.id).await?;
                    match self.runs.delete(scope, &run.id, Expect::Version(version)).await {
                        // A run that was restored meanwhile stays; one that another clean-up removed is gone.
                        Err(error) if matches!(error.code(), codes::CONFLICT | codes::NOT_FOUND) => continue,
                        done => done?,
                    };
                }
                removed.push(run.id);
            }
            match cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(removed),
            }
        }
    }
}

impl Tracking {
    /// Passes where artifacts may be written below a root: that of a run that is not deleted, or of a logged model.
    ///
    /// # Errors
    /// `INVALID_STATE` for the files of a version and for a deleted run; `NOT_FOUND`; `PERMISSION_DENIED`; those of the
    /// engine.
    pub async fn require_writable(&self, scope: &Scope, root: &str) -> Result<()> {
        scope.require(Permission::Write)?;
        match root.split('/').collect::<Vec<_>>().as_slice() {
            ["registered", ..] => Err(Error::new(INVALID_STATE, "the files of a version are never changed")),
            [_, "models", id, _] => self.logged_model(scope, id).await.map(drop),
            [_, id, _] => require_active(&self.run(scope, id).await?),
            _ => Err(missing("run", root)),
        }
    }
}
