//! What was tried: experiments, their runs with parameters, metrics, tags and data, and the models that runs made.
//!
//! A run is one document with the latest point of each metric; every point ever logged stands beside it. Changes are
//! compare-and-set, so that two who log to one run at once both get their say.
//!
//! It refuses to change a parameter once it is written, and to log to a run that was deleted.

mod documents;
mod experiments;
mod logged_models;
mod logging;
mod metrics;
mod runs;

use std::sync::Arc;

use kernel::{Clock, Entropy, Error, Result, Scope, codes};
use serde::{Deserialize, Serialize};
use store::{Document, Expect, Query, Records, Repository, Versioned};

use crate::files::Files;
use crate::search::{Page, Pager, Subject};
use documents::ExperimentName;
pub(crate) use documents::{ARTIFACTS, entry, number, text};
pub use documents::{DatasetInput, Experiment, LoggedModel, LoggedModelStatus, MetricPoint, Run, RunStatus};
pub use experiments::DEFAULT_EXPERIMENT;
pub use logged_models::NewLoggedModel;
pub use logging::Batch;
pub use runs::{NewRun, RunChange};

/// Others who change the same document meanwhile, at most.
const ATTEMPTS: usize = 64;
const PAGE: usize = 500;

/// Which of the living and the deleted are looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ViewType {
    /// Those that are not deleted.
    #[default]
    ActiveOnly,
    /// Those that are.
    DeletedOnly,
    /// Both.
    All,
}

impl ViewType {
    fn shows(self, is_deleted: bool) -> bool {
        match self {
            Self::ActiveOnly => !is_deleted,
            Self::DeletedOnly => is_deleted,
            Self::All => true,
        }
    }
}

/// A search over one resource.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// In MLflow's grammar; empty for everything.
    pub filter: String,
    /// What comes first.
    pub order_by: Vec<String>,
    /// Where the page before ended.
    pub page_token: Option<String>,
    /// On one page.
    pub max_results: usize,
}

/// Experiments, runs and logged models of every tenant.
#[derive(Debug, Clone)]
pub struct Tracking {
    records: Arc<dyn Records>,
    experiments: Repository<Experiment>,
    names: Repository<ExperimentName>,
    runs: Repository<Run>,
    logged_models: Repository<LoggedModel>,
    files: Files,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Tracking {
    /// Over these engines.
    #[must_use]
    pub fn new(
        records: Arc<dyn Records>,
        files: Files,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self {
            experiments: Repository::new(Arc::clone(&records)),
            names: Repository::new(Arc::clone(&records)),
            runs: Repository::new(Arc::clone(&records)),
            logged_models: Repository::new(Arc::clone(&records)),
            records,
            files,
            clock,
            entropy,
        }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    fn new_id(&self) -> String {
        self.entropy.id(self.clock.now()).simple().to_string()
    }
}

/// Reads a document, changes it and writes it back, again where another was faster.
async fn change<D: Document, T>(
    repository: &Repository<D>,
    scope: &Scope,
    key: &str,
    missing: impl Fn() -> Error,
    change: impl Fn(&mut D) -> Result<T>,
) -> Result<(D, T)> {
    for _ in 0..ATTEMPTS {
        let found = repository.get(scope, key).await?;
        let Some(Versioned { version, mut document }) = found else { return Err(missing()) };
        let told = change(&mut document)?;
        match repository.put(scope, &document, Expect::Version(version)).await {
            Ok(_) => return Ok((document, told)),
            Err(error) if error.code() == codes::CONFLICT => {}
            Err(error) => return Err(error),
        }
    }
    Err(too_many())
}

fn too_many() -> Error {
    Error::new(codes::CONFLICT, "it is changed by too many at once; try again")
}

/// Offers every document of a query to a pager.
async fn offer_all<D: Document + Subject>(
    repository: &Repository<D>,
    scope: &Scope,
    mut query: Query,
    pager: &mut Pager<D>,
    shows: impl Fn(&D) -> bool,
) -> Result<()> {
    loop {
        let (page, cursor) = repository.list(scope, &query).await?;
        page.into_iter().map(|found| found.document).filter(&shows).for_each(|one| pager.offer(one));
        match cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(()),
        }
    }
}

/// A page of a search.
pub type Found<S> = Page<S>;

#[cfg(test)]
mod tests;
