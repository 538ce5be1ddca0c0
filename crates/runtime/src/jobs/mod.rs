//! Many rows at once, answered in the background.
//!
//! A job is a [`Job`] among the records, its inputs and results in parts among the blobs. It names the version that its model
//! had when it was sent, so that all of it is answered by one version, whatever is promoted meanwhile. [`worker`] answers
//! part by part, and every part that is done is written down: who goes on after a crash repeats one part at most, and writes the
//! same. [`upload`] takes the rows in.
//!
//! It refuses more open jobs of a tenant than the settings say, rows that are no objects, and models that read all rows of a
//! request as one thing. It keeps what is done for a time, and then drops it.

mod document;
mod upload;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use kernel::{Clock, Entropy, Error, Permission, Result, Scope, codes};
use prometheus_client::registry::Registry;
use store::{Blobs, Expect, IndexValue, Leases, Query, Records, Repository, Selection, Tenants, Versioned};

pub(crate) use self::document::{Job, Status};
use self::document::{OPEN, TENANTS};
pub(crate) use self::upload::{ROW_BYTES_MAX, Upload};
use crate::metrics::JobMetrics;
use crate::{Described, JobSettings, Runtime, Selector};

/// Changes of a job are tried so often against others of the same moment.
const TRIES: usize = 20;
/// Jobs that are read at once.
const PAGE: usize = 1_000;
const ID_BYTES_MAX: usize = 64;

/// What jobs work with.
#[derive(Debug)]
pub struct JobParts {
    /// Answers rows.
    pub runtime: Runtime,
    /// Keeps jobs.
    pub records: Arc<dyn Records>,
    /// Keeps inputs and results.
    pub blobs: Arc<dyn Blobs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
}

/// The jobs of every tenant.
#[derive(Debug, Clone)]
pub struct Jobs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Runtime,
    jobs: Repository<Job>,
    tenants: Tenants,
    blobs: Arc<dyn Blobs>,
    leases: Leases,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: JobSettings,
    metrics: JobMetrics,
}

impl Jobs {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: JobParts, settings: JobSettings, registry: &mut Registry) -> Self {
        let JobParts { runtime, records, blobs, clock, entropy } = parts;
        let holder = entropy.id(clock.now()).to_string();
        Self(Arc::new(Inner {
            runtime,
            jobs: Repository::new(Arc::clone(&records)),
            tenants: Tenants::new(Arc::clone(&records), TENANTS),
            leases: Leases::new(records, Arc::clone(&clock), holder),
            blobs,
            clock,
            entropy,
            settings,
            metrics: JobMetrics::register(registry),
        }))
    }

    /// The model that a job asks where its caller names none.
    pub(crate) fn default_model(&self) -> &str {
        self.0.runtime.default_model()
    }

    /// Begins a job; its rows follow.
    ///
    /// # Errors
    /// Those of [`Runtime::describe`]; `VALIDATION_ERROR` where the model has no answer for a row alone; `OVERLOADED` where the
    /// tenant has as many open jobs as it may.
    pub(crate) async fn begin(&self, scope: &Scope, model: &str, selector: Selector) -> Result<Upload> {
        scope.require(Permission::Write)?;
        let Described { version, takes_rows_alone, .. } =
            self.0.runtime.describe(scope, model, selector).await?;
        if !takes_rows_alone {
            let message = format!(
                "version {version} of `{}` reads the rows of a request as one, such as a history, and has no answer for each of \
                 them; send the rows that belong together to POST /api/v1/predict",
                model.escape_debug()
            );
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("model_name"));
        }
        let most = self.0.settings.max_open_per_tenant;
        if self.open(scope, most).await?.len() >= most {
            let message = format!(
                "the tenant has {most} open jobs, as many as it may; wait until one ends, or cancel it"
            );
            return Err(Error::new(codes::OVERLOADED, message));
        }
        let now = self.0.clock.now();
        let id = self.0.entropy.id(now).as_hyphenated().to_string();
        let job = Job::new(id, model.to_owned(), version, now.as_millisecond());
        // Before the job, so that none is missed.
        self.0.tenants.note(scope.tenant()).await?;
        let version = self.0.jobs.put(scope, &job, Expect::Absent).await?;
        Ok(Upload::new(self.clone(), scope.clone(), Versioned { version, document: job }))
    }

    /// A job.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(crate) async fn get(&self, scope: &Scope, id: &str) -> Result<Job> {
        scope.require(Permission::Read)?;
        Ok(self.found(scope, id).await?.document)
    }

    /// Jobs, the newest first, and the cursor of the next page.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a cursor of something else.
    pub(crate) async fn list(
        &self,
        scope: &Scope,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Job>, Option<String>)> {
        scope.require(Permission::Read)?;
        let query = Query { descending: true, cursor, ..Query::new(Selection::All, limit) };
        let (found, cursor) = self.0.jobs.list(scope, &query).await?;
        Ok((found.into_iter().map(|found| found.document).collect(), cursor))
    }

    /// Ends a job where it is; its results so far stay. One that ended stays as it ended.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` where it changes too fast.
    pub(crate) async fn cancel(&self, scope: &Scope, id: &str) -> Result<Job> {
        scope.require(Permission::Write)?;
        for _ in 0..TRIES {
            let found = self.found(scope, id).await?;
            if found.document.status.is_ended() {
                return Ok(found.document);
            }
            let mut job = found.document;
            job.end(Status::Cancelled, self.0.clock.now().as_millisecond());
            match self.0.jobs.put(scope, &job, Expect::Version(found.version)).await {
                Ok(_) => {
                    self.0.metrics.ended(Status::Cancelled);
                    self.drop_inputs(scope, &job).await?;
                    return Ok(job);
                }
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, "the job changes too fast to be cancelled; try again"))
    }

    /// The results of the parts that are done, a line for each row, in the order of the rows.
    ///
    /// # Errors
    /// `NOT_FOUND`; while it is read those of the engine.
    pub(crate) async fn results(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<impl Stream<Item = Result<bytes::Bytes>> + Send + 'static + use<>> {
        let job = self.get(scope, id).await?;
        let (jobs, scope) = (self.clone(), scope.clone());
        Ok(stream::try_unfold(0, move |part| {
            let (jobs, scope) = (jobs.clone(), scope.clone());
            let path = (part < job.parts_done).then(|| job.output(part));
            async move {
                let Some(path) = path else { return Ok(None) };
                Ok(Some((jobs.0.blobs.get(&scope, &path).await?, part + 1)))
            }
        }))
    }

    async fn found(&self, scope: &Scope, id: &str) -> Result<Versioned<Job>> {
        let shown: String = id.chars().take(ID_BYTES_MAX).collect();
        let missing = || {
            let message = format!(
                "there is no job `{}`; it may have been dropped, for jobs are kept for a time",
                shown.escape_debug()
            );
            Error::new(codes::NOT_FOUND, message)
        };
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(missing());
        }
        self.0.jobs.get(scope, id).await?.ok_or_else(missing)
    }

    /// Jobs that did not end, the oldest first.
    async fn open(&self, scope: &Scope, limit: usize) -> Result<Vec<Versioned<Job>>> {
        let all = Selection::Between(OPEN, IndexValue::Integer(i64::MIN), IndexValue::Integer(i64::MAX));
        Ok(self.0.jobs.list(scope, &Query::new(all, limit)).await?.0)
    }

    /// What was asked is not needed any more.
    async fn drop_inputs(&self, scope: &Scope, job: &Job) -> Result<()> {
        for part in 0..job.parts {
            self.0.blobs.delete(scope, &job.input(part)).await?;
        }
        Ok(())
    }

    /// Drops a job with all that belongs to it.
    async fn forget(&self, scope: &Scope, job: &Job) -> Result<()> {
        for blob in self.0.blobs.list(scope, &job.folder()).await? {
            self.0.blobs.delete(scope, &blob.path).await?;
        }
        self.0.jobs.delete(scope, &job.id, Expect::Any).await
    }

    /// The tenants that have, or had, jobs.
    async fn tenants(&self) -> Result<Vec<Scope>> {
        let tenants = self.0.tenants.all().await?;
        Ok(tenants.into_iter().map(|tenant| Scope::system(tenant, "runtime")).collect())
    }

    fn kept(&self) -> Duration {
        Duration::from_secs(self.0.settings.keep_hours * 3_600)
    }
}

#[cfg(test)]
mod tests;
