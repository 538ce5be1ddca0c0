//! `/api/v1/embed/reindex` and `/api/v1/embed/jobs`: vectors made again as jobs, and how far they are.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::{ApiResult, Caller, Path, Problem};
use kernel::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::questions::{JobState, JobStatus};
use crate::service::Search;

pub(super) fn routes() -> OpenApiRouter<Arc<Search>> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(list)).routes(routes!(read))
}

/// A job that was begun.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReindexBegun)]
pub struct BegunResponse {
    job_id: String,
    status: &'static str,
    message: &'static str,
}

/// A re-index job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReindexJob)]
pub struct JobResponse {
    job_id: String,
    /// `making`; `serving`, when its vectors answer; `superseded`, when others do in their place; `removing`, when its
    /// vectors are taken away. When they are gone, so is the job.
    status: &'static str,
    model: String,
    model_version: String,
    /// The part of all changes of items that is in, 0 to 1.
    progress: f64,
    #[schema(value_type = String, format = DateTime)]
    begun_at: Timestamp,
    /// When a server last wrote how far it is.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// When there first was a vector of every item.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<Timestamp>,
    /// When it was found that others answer in its place; its vectors go `search.former_vectors_keep_secs` later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    superseded_at: Option<Timestamp>,
}

fn name_of(state: JobState) -> &'static str {
    match state {
        JobState::Making => "making",
        JobState::Serving => "serving",
        JobState::Superseded => "superseded",
        JobState::Removing => "removing",
    }
}

impl From<JobStatus> for JobResponse {
    fn from(status: JobStatus) -> Self {
        let JobStatus { job, state, progress } = status;
        Self {
            job_id: job.id,
            status: name_of(state),
            model: job.model,
            model_version: job.model_version,
            progress,
            begun_at: job.begun_at,
            updated_at: job.updated_at,
            completed_at: job.completed_at,
            superseded_at: job.superseded_at,
        }
    }
}

/// Make all vectors again, of all tenants. Those that answer do so until the new ones are complete.
#[utoipa::path(post, path = "/api/v1/embed/reindex", tag = "embeddings", operation_id = "reindex_embeddings",
    responses((status = 202, body = BegunResponse),
        (status = 404, description = "There is no encoder.", body = Problem, content_type = "application/problem+json")))]
async fn start(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
) -> ApiResult<(StatusCode, Json<BegunResponse>)> {
    let JobStatus { job, state, .. } = search.reindex(&scope).await?;
    let message = "the vectors are made beside those that answer";
    Ok((StatusCode::ACCEPTED, Json(BegunResponse { job_id: job.id, status: name_of(state), message })))
}

/// List re-index jobs, the newest first, at most 100.
#[utoipa::path(get, path = "/api/v1/embed/jobs", tag = "embeddings", operation_id = "list_reindex_jobs",
    responses((status = 200, body = [JobResponse])))]
async fn list(State(search): State<Arc<Search>>, Caller(scope): Caller) -> ApiResult<Json<Vec<JobResponse>>> {
    Ok(Json(search.jobs(&scope).await?.into_iter().map(JobResponse::from).collect()))
}

/// Read a re-index job.
#[utoipa::path(get, path = "/api/v1/embed/jobs/{id}", tag = "embeddings", operation_id = "get_reindex_job",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, body = JobResponse),
        (status = 404, description = "There is no such job.", body = Problem, content_type = "application/problem+json")))]
async fn read(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<JobResponse>> {
    Ok(Json(search.job(&scope, &id).await?.into()))
}
