//! The rows of a job on their way in: kept part by part, so that no more than a part of them is in memory. What is not finished
//! leaves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use edge::extract::parse;
use kernel::{Error, Result, Scope, codes};
use store::{Expect, PutMode, Versioned};
use tracing::warn;

use super::{Job, Jobs, Status};
use crate::scalar::Scalars;

/// A row has so many bytes at most.
pub(crate) const ROW_BYTES_MAX: usize = 1 << 20;
/// A part ends with the row that fills it.
const PART_BYTES: usize = 256 << 10;
const PART_ROWS: usize = 1_024;
/// The longest that rows may take to come; later the job is taken for one of a process that died.
pub(super) const LONGEST: Duration = Duration::from_secs(3_600);

/// What a model is asked about one row.
pub(super) type Row = BTreeMap<String, Scalars>;

/// A row as it was sent.
///
/// # Errors
/// `VALIDATION_ERROR` or `INVALID_REQUEST` for what is no object of numbers and texts.
pub(super) fn row(text: &[u8]) -> Result<Row> {
    parse::<Row>(text, codes::VALIDATION_ERROR)
}

/// A job whose rows are coming.
#[derive(Debug)]
pub(crate) struct Upload {
    jobs: Jobs,
    scope: Scope,
    job: Versioned<Job>,
    part: Vec<u8>,
    part_rows: usize,
    bytes: u64,
    is_kept: bool,
}

impl Upload {
    pub(super) fn new(jobs: Jobs, scope: Scope, job: Versioned<Job>) -> Self {
        Self { jobs, scope, job, part: Vec::new(), part_rows: 0, bytes: 0, is_kept: false }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// Those of a row; `TOO_LARGE` for it or for all of them; `TIMED_OUT`; those of the engine.
    pub(crate) async fn push(&mut self, text: &[u8]) -> Result<()> {
        let too_large = |message: String| Error::new(codes::TOO_LARGE, message);
        if text.len() > ROW_BYTES_MAX {
            return Err(too_large(format!("a row has at most {ROW_BYTES_MAX} bytes")));
        }
        self.bytes += text.len() as u64 + 1;
        let most = self.jobs.0.settings.max_mb;
        if self.bytes > most << 20 {
            return Err(too_large(format!(
                "a job has at most {most} MiB (`runtime.jobs.max_mb`); send several"
            )));
        }
        let age_ms = self.jobs.0.clock.now().as_millisecond() - self.job.document.created_ms;
        if u128::try_from(age_ms).is_ok_and(|age_ms| age_ms > LONGEST.as_millis()) {
            return Err(Error::new(
                codes::TIMED_OUT,
                "the rows of a job come within an hour; send several jobs",
            ));
        }
        row(text)?;
        // A line break within an object is only for the eye.
        self.part.extend(text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
        self.part.push(b'\n');
        self.part_rows += 1;
        if self.part_rows >= PART_ROWS || self.part.len() >= PART_BYTES {
            self.keep_part().await
        } else {
            Ok(())
        }
    }

    async fn keep_part(&mut self) -> Result<()> {
        let job = &mut self.job.document;
        let (path, body) = (job.input(job.parts), std::mem::take(&mut self.part));
        self.jobs.0.blobs.put(&self.scope, &path, body.into(), PutMode::Create).await?;
        job.parts += 1;
        job.rows += std::mem::take(&mut self.part_rows) as u64;
        Ok(())
    }

    /// That was all: the job waits for its turn.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where there was no row; `CONFLICT` where it was cancelled meanwhile; those of the engine.
    pub(crate) async fn finish(mut self) -> Result<Job> {
        if self.part_rows > 0 {
            self.keep_part().await?;
        }
        if self.job.document.rows == 0 {
            return Err(Error::new(codes::VALIDATION_ERROR, "has at least one row").with_field("inputs"));
        }
        self.job.document.status = Status::Queued;
        let expect = Expect::Version(self.job.version);
        self.jobs.0.jobs.put(&self.scope, &self.job.document, expect).await?;
        self.is_kept = true;
        Ok(self.job.document.clone())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (jobs, scope, job) = (self.jobs.clone(), self.scope.clone(), self.job.document.clone());
        tokio::spawn(async move {
            if let Err(error) = jobs.forget(&scope, &job).await {
                warn!(job = %job.id, error = %error.chain(), "what came of a job that broke off is dropped later");
            }
        });
    }
}
