//! Logged models: what a run made, with its artifacts, before it is registered.

use std::collections::BTreeMap;

use kernel::{Permission, Result, Scope};
use store::{Expect, IndexValue, Query, Selection, Versioned};

use super::documents::LOGGED_MODELS;
use super::{Found, LoggedModel, LoggedModelStatus, MetricPoint, PAGE, Search, Tracking, change, offer_all};
use crate::limits::{
    PARAM_BYTES_MAX, TAG_BYTES_MAX, check_count, check_key, check_name, check_value, missing,
};
use crate::search::{Filter, Order, Pager};

const NAME_BYTES_MAX: usize = 250;

/// A logged model to be.
#[derive(Debug, Clone, Default)]
pub struct NewLoggedModel {
    /// Its experiment.
    pub experiment_id: String,
    /// For people; made where missing.
    pub name: Option<String>,
    /// What kind of model.
    pub model_type: Option<String>,
    /// The run that makes it.
    pub source_run_id: Option<String>,
    /// Settings.
    pub params: BTreeMap<String, String>,
    /// Free text.
    pub tags: BTreeMap<String, String>,
}

impl Tracking {
    /// Makes a logged model, whose artifacts are to come.
    ///
    /// # Errors
    /// `NOT_FOUND` for the experiment; `VALIDATION_ERROR`; `PERMISSION_DENIED`; those of the engine.
    pub async fn create_logged_model(&self, scope: &Scope, new: NewLoggedModel) -> Result<LoggedModel> {
        scope.require(Permission::Write)?;
        self.require_active(scope, &new.experiment_id).await?;
        check_entries(&new.params, PARAM_BYTES_MAX, "params")?;
        check_entries(&new.tags, TAG_BYTES_MAX, "tags")?;
        let id = format!("m-{}", self.new_id());
        let name = new.name.filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| format!("model-{}", &id[id.len() - 8..]));
        check_name(&name, NAME_BYTES_MAX, "name")?;
        let now_ms = self.now_ms();
        let model = LoggedModel {
            id,
            experiment_id: new.experiment_id,
            name,
            model_type: new.model_type,
            source_run_id: new.source_run_id,
            created_ms: now_ms,
            updated_ms: now_ms,
            params: new.params,
            tags: new.tags,
            ..LoggedModel::default()
        };
        self.logged_models.put(scope, &model, Expect::Absent).await?;
        Ok(model)
    }

    async fn found_logged_model(&self, scope: &Scope, id: &str) -> Result<Option<Versioned<LoggedModel>>> {
        if is_model_id(id) { self.logged_models.get(scope, id).await } else { Ok(None) }
    }

    /// A logged model.
    ///
    /// # Errors
    /// `NOT_FOUND`; those of the engine.
    pub async fn logged_model(&self, scope: &Scope, id: &str) -> Result<LoggedModel> {
        let found = self.found_logged_model(scope, id).await?;
        Ok(found.ok_or_else(|| missing("logged model", id))?.document)
    }

    pub(crate) async fn change_logged_model(
        &self,
        scope: &Scope,
        id: &str,
        edit: impl Fn(&mut LoggedModel) -> Result<()>,
    ) -> Result<LoggedModel> {
        scope.require(Permission::Write)?;
        let now_ms = self.now_ms();
        if !is_model_id(id) {
            return Err(missing("logged model", id));
        }
        let edit = |model: &mut LoggedModel| {
            model.updated_ms = now_ms;
            edit(model)
        };
        Ok(change(&self.logged_models, scope, id, || missing("logged model", id), edit).await?.0)
    }

    /// Says how its upload ended.
    ///
    /// # Errors
    /// `NOT_FOUND`; `PERMISSION_DENIED`; those of the engine.
    pub async fn finalize_logged_model(
        &self,
        scope: &Scope,
        id: &str,
        status: LoggedModelStatus,
    ) -> Result<LoggedModel> {
        let edit = |model: &mut LoggedModel| {
            model.status = status;
            Ok(())
        };
        self.change_logged_model(scope, id, edit).await
    }

    /// Deletes a logged model and its artifacts. Versions that were made of it keep theirs.
    ///
    /// # Errors
    /// `NOT_FOUND`; `PERMISSION_DENIED`; those of the engines.
    pub async fn delete_logged_model(&self, scope: &Scope, id: &str) -> Result<()> {
        scope.require(Permission::Write)?;
        let model = self.logged_model(scope, id).await?;
        self.files.remove(scope, &model.root(), None).await?;
        self.logged_models.delete(scope, id, Expect::Any).await
    }

    /// Sets tags, and removes those without a value.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`; `NOT_FOUND`; `PERMISSION_DENIED`; those of the engine.
    pub async fn tag_logged_model(
        &self,
        scope: &Scope,
        id: &str,
        tags: &[(String, Option<String>)],
    ) -> Result<LoggedModel> {
        for (key, value) in tags {
            check_key(key, "tags")?;
            check_value(value.as_deref().unwrap_or_default(), TAG_BYTES_MAX, "tags")?;
        }
        let edit = |model: &mut LoggedModel| {
            for (key, value) in tags {
                match value {
                    Some(value) => drop(model.tags.insert(key.clone(), value.clone())),
                    None => drop(model.tags.remove(key)),
                }
            }
            check_count(model.tags.len(), "tags")
        };
        self.change_logged_model(scope, id, edit).await
    }

    /// Logs settings.
    ///
    /// # Errors
    /// As [`Tracking::tag_logged_model`].
    pub async fn log_model_params(
        &self,
        scope: &Scope,
        id: &str,
        params: &BTreeMap<String, String>,
    ) -> Result<()> {
        check_entries(params, PARAM_BYTES_MAX, "params")?;
        let edit = |model: &mut LoggedModel| {
            model.params.extend(params.clone());
            check_count(model.params.len(), "params")
        };
        self.change_logged_model(scope, id, edit).await.map(drop)
    }

    /// Notes metrics on the models that they measure. A model that is not there is no reason to lose the metric.
    pub(super) async fn note_on_models(
        &self,
        scope: &Scope,
        run_id: &str,
        metrics: &[MetricPoint],
    ) -> Result<()> {
        let mut by_model: BTreeMap<&str, Vec<&MetricPoint>> = BTreeMap::new();
        for point in metrics {
            if let Some(id) = &point.model_id {
                by_model.entry(id).or_default().push(point);
            }
        }
        for (id, points) in by_model {
            if self.found_logged_model(scope, id).await?.is_none() {
                continue;
            }
            let edit = |model: &mut LoggedModel| {
                for point in &points {
                    let noted = ((*point).clone(), run_id.to_owned());
                    let latest = model.metrics.entry(point.key.clone()).or_insert_with(|| noted.clone());
                    if latest.0.rank() < point.rank() {
                        *latest = noted;
                    }
                }
                check_count(model.metrics.len(), "metrics")
            };
            self.change_logged_model(scope, id, edit).await?;
        }
        Ok(())
    }

    /// Searches the logged models of experiments.
    ///
    /// # Errors
    /// `VALIDATION_ERROR`; those of the engine.
    pub async fn search_logged_models(
        &self,
        scope: &Scope,
        experiments: &[String],
        search: &Search,
    ) -> Result<Found<LoggedModel>> {
        let filter = Filter::parse(&search.filter, &LOGGED_MODELS)?;
        let order = Order::parse(&search.order_by, "creation_timestamp DESC", &LOGGED_MODELS)?;
        let asked = format!("logged models {experiments:?}");
        let mut pager = Pager::new(filter, order, &asked, search.page_token.as_deref(), search.max_results)?;
        for id in experiments.iter().filter(|id| !id.is_empty() && id.len() <= 64) {
            let selection = Selection::Equal("experiment", IndexValue::Text(id.clone()));
            offer_all(&self.logged_models, scope, Query::new(selection, PAGE), &mut pager, |_| true).await?;
        }
        pager.page()
    }
}

fn is_model_id(id: &str) -> bool {
    id.len() == 34 && id.starts_with("m-") && id.is_ascii()
}

fn check_entries(entries: &BTreeMap<String, String>, most: usize, field: &str) -> Result<()> {
    check_count(entries.len(), field)?;
    for (key, value) in entries {
        check_key(key, field)?;
        check_value(value, most, field)?;
    }
    Ok(())
}
