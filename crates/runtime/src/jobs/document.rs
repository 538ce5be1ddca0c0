//! What is written down of a job.

use serde::{Deserialize, Serialize};
use store::{Document, IndexValue, Table};

/// The index of jobs that did not end, by when they were made.
pub(super) const OPEN: &str = "open_since";
/// The index of jobs that ended, by when they did.
pub(super) const ENDED: &str = "ended_at";

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Its rows are being sent.
    Uploading,
    /// It waits.
    Queued,
    /// Some of it is answered.
    Running,
    /// All of it is answered.
    Completed,
    /// It cannot be answered.
    Failed,
    /// Its caller ended it.
    Cancelled,
}

impl Status {
    pub(crate) const ALL: [Self; 6] =
        [Self::Uploading, Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    pub(crate) fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Later jobs have larger ones.
    pub(crate) id: String,
    pub(crate) model: String,
    /// The version that answers all of it.
    pub(crate) version: u64,
    pub(crate) status: Status,
    pub(crate) rows: u64,
    pub(crate) rows_done: u64,
    /// Of those that are done, the rows that the model refused.
    pub(crate) rows_failed: u64,
    pub(crate) parts: u64,
    pub(crate) parts_done: u64,
    pub(crate) created_ms: i64,
    pub(crate) ended_ms: Option<i64>,
    /// Why it failed.
    pub(crate) error: Option<String>,
}

impl Job {
    pub(super) fn new(id: String, model: String, version: u64, now_ms: i64) -> Self {
        Self {
            id,
            model,
            version,
            status: Status::Uploading,
            rows: 0,
            rows_done: 0,
            rows_failed: 0,
            parts: 0,
            parts_done: 0,
            created_ms: now_ms,
            ended_ms: None,
            error: None,
        }
    }

    pub(super) fn end(&mut self, status: Status, now_ms: i64) {
        self.status = status;
        self.ended_ms = Some(now_ms);
    }

    pub(super) fn folder(&self) -> String {
        format!("inference-jobs/{}", self.id)
    }

    pub(super) fn input(&self, part: u64) -> String {
        format!("{}/in/{part:08}", self.folder())
    }

    pub(super) fn output(&self, part: u64) -> String {
        format!("{}/out/{part:08}", self.folder())
    }
}

impl Document for Job {
    const TABLE: Table = Table { name: "inference_jobs", indexes: &[OPEN, ENDED] };

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![match self.ended_ms {
            None => (OPEN, IndexValue::Integer(self.created_ms)),
            Some(ended_ms) => (ENDED, IndexValue::Integer(ended_ms)),
        }]
    }
}

/// The tenants that have, or had, a job.
pub(super) const TENANTS: Table = Table { name: "inference_job_tenants", indexes: &[] };
