//! Answers open jobs, part by part, in turn for each tenant.
//!
//! Who works on a job has its lease. A lease may be lost unseen, so that the lease saves work and nothing more: a part that is
//! done is counted by comparing the version of the job's record, and two that answer the same part write the same bytes,
//! because a version of a model is immutable.

use std::time::Duration;

use kernel::{Error, ErrorKind, Result, Scope, codes};
use serde::Serialize;
use serde_json::value::RawValue;
use store::{Expect, IndexValue, PutMode, Query, Selection};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::document::ENDED;
use super::upload::{LONGEST, row};
use super::{Job, Jobs, PAGE, Status};
use crate::http::predict::{Predictions, stacked};
use crate::model::MODEL_UNUSABLE;
use crate::{Described, Selector};

/// Open jobs are looked for so often.
const PAUSE: Duration = Duration::from_secs(1);
/// Jobs to drop are looked for each time that so much went by.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A lease lasts so long, and is made to last again after a third of it.
const LEASE: Duration = Duration::from_secs(30);
/// Results of a part at most: they are in memory until all of it is answered.
const RESULT_BYTES_MAX: usize = 64 << 20;
/// Parts of a job that are answered before the next tenant's turn.
const PARTS_PER_TURN: usize = 8;
/// Open jobs of a tenant that are looked at for one that nobody works on.
const JOBS_PER_TENANT: usize = 100;

/// What became of a row, as it stands in the results.
#[derive(Debug, Serialize)]
struct Line<'a> {
    row: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RowError>,
}

/// Why a row has no prediction.
#[derive(Debug, Serialize)]
struct RowError {
    code: &'static str,
    message: String,
}

impl RowError {
    fn of(error: &Error) -> Self {
        // A row is asked alone before it is told that it is wrong.
        let field =
            error.field().map(|field| field.trim_start_matches("inputs[0]").trim_start_matches(['.']));
        let message = match field.filter(|field| !field.is_empty()) {
            Some(field) => format!("{field}: {}", error.message()),
            None => error.message().to_owned(),
        };
        Self { code: error.code().name, message }
    }
}

/// What a part gave.
pub(super) struct Done {
    lines: Vec<u8>,
    pub(super) rows: u64,
    failed: u64,
}

impl Jobs {
    /// Works until it is told to stop, to the end of the part that is under way then.
    pub async fn run(self, stop: CancellationToken) {
        let mut swept: Option<Duration> = None;
        let mut is_away = false;
        while !stop.is_cancelled() {
            let worked = self.round(&stop).await;
            let now = self.0.clock.elapsed();
            if swept.is_none_or(|swept| now.saturating_sub(swept) >= SWEEP_EVERY) {
                swept = Some(now);
                if let Err(error) = self.sweep().await {
                    warn!(error = %error.chain(), "jobs that ended cannot be dropped now");
                }
            }
            if let Err(error) = &worked
                && !is_away
            {
                warn!(error = %error.chain(), "jobs cannot be answered now");
            }
            is_away = worked.is_err();
            let worked = worked.unwrap_or(false);
            if !worked {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
    }

    /// A turn for each tenant; whether anything was done.
    pub(crate) async fn round(&self, stop: &CancellationToken) -> Result<bool> {
        let mut worked = false;
        for scope in self.tenants().await? {
            for job in self.open(&scope, JOBS_PER_TENANT).await? {
                let job = job.document;
                if job.status == Status::Uploading {
                    continue;
                }
                if self.0.leases.acquire(&scope, &lease(&job), LEASE).await? {
                    let done = self.turn(&scope, &job.id, stop).await;
                    self.0.leases.release(&scope, &lease(&job)).await?;
                    if self.told(&job, done) {
                        worked = true;
                        break;
                    }
                }
            }
        }
        Ok(worked)
    }

    /// One job's trouble is not another's.
    fn told(&self, job: &Job, done: Result<bool>) -> bool {
        done.unwrap_or_else(|error| {
            warn!(job = %job.id, model = %job.model, error = %error.chain(), "a job waits");
            false
        })
    }

    /// Some parts of a job; whether any was done.
    async fn turn(&self, scope: &Scope, id: &str, stop: &CancellationToken) -> Result<bool> {
        let mut worked = false;
        for _ in 0..PARTS_PER_TURN {
            if stop.is_cancelled() {
                return Ok(worked);
            }
            let Some(found) = self.0.jobs.get(scope, id).await? else { return Ok(worked) };
            let mut job = found.document;
            if job.status.is_ended() {
                return Ok(worked);
            }
            let now_ms = || self.0.clock.now().as_millisecond();
            match self.part(scope, &job).await {
                Ok(None) => return Ok(worked),
                Ok(Some(done)) => {
                    job.status = Status::Running;
                    job.parts_done += 1;
                    job.rows_done += done.rows;
                    job.rows_failed += done.failed;
                    self.0.metrics.rows(done.rows - done.failed, done.failed);
                    if job.parts_done == job.parts {
                        job.end(Status::Completed, now_ms());
                    }
                }
                Err(error) if is_final(&error) => {
                    job.error = Some(error.to_string());
                    job.end(Status::Failed, now_ms());
                }
                Err(error) => return Err(error),
            }
            match self.0.jobs.put(scope, &job, Expect::Version(found.version)).await {
                Ok(_) => worked = true,
                // It was cancelled, or another went on with it: what is true is read again.
                Err(error) if error.code() == codes::CONFLICT => continue,
                Err(error) => return Err(error),
            }
            if job.status.is_ended() {
                self.0.metrics.ended(job.status);
                self.drop_inputs(scope, &job).await?;
                let (rows, failed, status) = (job.rows, job.rows_failed, job.status.name());
                info!(job = %job.id, model = %job.model, status, rows, failed, "a job ended");
            }
        }
        Ok(worked)
    }

    /// Answers the next part and keeps its results; none where another has the lease now.
    pub(super) async fn part(&self, scope: &Scope, job: &Job) -> Result<Option<Done>> {
        let described = self.0.runtime.describe(scope, &job.model, Selector::Version(job.version)).await?;
        let text = self.0.blobs.get(scope, &job.input(job.parts_done)).await?;
        let texts: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).collect();
        let mut done = Done { lines: Vec::new(), rows: 0, failed: 0 };
        let mut renewed: Option<Duration> = None;
        for texts in texts.chunks(self.rows_per_call(&described)) {
            let now = self.0.clock.elapsed();
            if renewed.is_none_or(|renewed| now.saturating_sub(renewed) > LEASE / 3) {
                if !self.0.leases.acquire(scope, &lease(job), LEASE).await? {
                    return Ok(None);
                }
                renewed = Some(now);
            }
            self.ask(scope, job, texts, &mut done).await?;
        }
        let path = job.output(job.parts_done);
        self.0.blobs.put(scope, &path, std::mem::take(&mut done.lines).into(), PutMode::Replace).await?;
        Ok(Some(done))
    }

    /// Rows are put together only where that changes no answer.
    fn rows_per_call(&self, described: &Described) -> usize {
        if described.batches { self.0.runtime.max_batch_rows() } else { 1 }
    }

    /// Asks for all rows at once, and where that fails for each alone.
    async fn ask(&self, scope: &Scope, job: &Job, texts: &[&[u8]], done: &mut Done) -> Result<()> {
        match self.predictions(scope, job, texts).await {
            Ok(predictions) => {
                for prediction in &predictions {
                    write(job, done, Ok(prediction.as_ref()))?;
                }
            }
            Err(error) if !is_of_rows(&error) => return Err(error),
            Err(error) if texts.len() == 1 => write(job, done, Err(&error))?,
            Err(_) => {
                for text in texts {
                    match self.predictions(scope, job, &[text]).await {
                        Ok(predictions) => write(job, done, Ok(predictions[0].as_ref()))?,
                        Err(error) if is_of_rows(&error) => write(job, done, Err(&error))?,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// As many predictions as rows.
    async fn predictions(&self, scope: &Scope, job: &Job, texts: &[&[u8]]) -> Result<Vec<Box<RawValue>>> {
        let rows = texts.iter().map(|text| row(text)).collect::<Result<Vec<_>>>()?;
        let selector = Selector::Version(job.version);
        let inference = self
            .0
            .runtime
            .infer_with(scope, &job.model, selector, |signature| stacked(signature, rows))
            .await?;
        let told = serde_json::to_string(&Predictions(inference.outputs)).map_err(Error::internal)?;
        let found: Vec<Box<RawValue>> = serde_json::from_str(&told).map_err(Error::internal)?;
        if found.len() == texts.len() {
            return Ok(found);
        }
        if texts.len() == 1 {
            return Ok(vec![RawValue::from_string(told).map_err(Error::internal)?]);
        }
        Err(Error::new(codes::VALIDATION_ERROR, "the model gave another number of rows than it was given"))
    }

    /// Drops jobs that ended long enough ago, and those whose rows stopped coming with their process.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let before = |age: Duration| {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            self.0.clock.now().as_millisecond().saturating_sub(age_ms)
        };
        for scope in self.tenants().await? {
            let (first, last) = (IndexValue::Integer(i64::MIN), IndexValue::Integer(before(self.kept())));
            let query = Query::new(Selection::Between(ENDED, first, last), PAGE);
            let mut gone: Vec<Job> =
                self.0.jobs.list(&scope, &query).await?.0.into_iter().map(|found| found.document).collect();
            let open = self.open(&scope, PAGE).await?.into_iter().map(|found| found.document);
            gone.extend(
                open.filter(|job| job.status == Status::Uploading && job.created_ms < before(LONGEST * 2)),
            );
            for job in gone {
                self.forget(&scope, &job).await?;
            }
        }
        Ok(())
    }
}

fn lease(job: &Job) -> String {
    format!("inference-job/{}", job.id)
}

fn write(job: &Job, done: &mut Done, answer: std::result::Result<&RawValue, &Error>) -> Result<()> {
    let row = job.rows_done + done.rows;
    let error = answer.err().map(RowError::of);
    done.failed += u64::from(error.is_some());
    done.rows += 1;
    let line = Line { row, prediction: answer.ok(), error };
    serde_json::to_writer(&mut done.lines, &line).map_err(Error::internal)?;
    done.lines.push(b'\n');
    if done.lines.len() > RESULT_BYTES_MAX {
        let message = format!(
            "{} rows have more than {RESULT_BYTES_MAX} bytes of results; send smaller jobs",
            done.rows
        );
        return Err(Error::new(codes::TOO_LARGE, message));
    }
    Ok(())
}

/// Whether the same job fails again whenever it is tried.
fn is_final(error: &Error) -> bool {
    [codes::NOT_FOUND, codes::CORRUPTED, codes::TOO_LARGE, MODEL_UNUSABLE].contains(&error.code())
}

/// Whether it is about the rows, or what the model makes of them, and not about the server.
fn is_of_rows(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::Internal)
}
