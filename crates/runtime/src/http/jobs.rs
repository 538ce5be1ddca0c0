//! `/api/v1/batch` and `/api/v1/jobs`: many rows at once, answered in the background.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BytesMut};
use edge::BodyStream;
use edge::extract::{Object, check_encoding, media_type, parse, read_all};
use edge::{AnswerStream, ApiResult, Caller, PageParams, Params, Path};
use kernel::{Error, Permission, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::predict::{Version, selector};
use crate::jobs::{Job, Jobs, ROW_BYTES_MAX, Status, Upload};

pub(super) fn routes(jobs: Jobs) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(submit))
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(results))
        .routes(routes!(cancel))
        .with_state(jobs)
}

/// Rows that a model is asked about in the background.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BatchRequest, example = json!({"model_name": "churn", "inputs": [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}]}))]
pub struct BatchRequest {
    /// A value for each input of the model, by its name.
    #[schema(value_type = Vec<BTreeMap<String, Value>>, min_items = 1)]
    inputs: Vec<Object<BTreeMap<String, Value>>>,
    /// The registered model; `runtime.default_model` where missing.
    #[serde(default)]
    model_name: Option<String>,
    /// A number, or an alias; `champion` where missing. `production` and `staging` stand for `champion` and `canary`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    model_version: Option<Version>,
}

/// What a body of lines cannot say; beside a JSON body they say the same or nothing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BatchParams {
    /// The registered model; `runtime.default_model` where missing.
    #[param(example = "churn")]
    model_name: Option<String>,
    /// A number, or an alias; `champion` where missing.
    #[param(example = "champion")]
    model_version: Option<String>,
}

/// A job that was taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BatchResponse)]
pub struct BatchResponse {
    job_id: String,
    /// `queued`.
    status: &'static str,
    message: String,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceJob)]
pub struct JobResponse {
    job_id: String,
    /// `uploading`, `queued` or `running`; `completed`, `failed` or `cancelled` at its end.
    #[schema(schema_with = statuses)]
    status: &'static str,
    model_name: String,
    /// The version that answers all of it.
    model_version: String,
    rows: u64,
    /// Rows whose results can be read.
    rows_done: u64,
    /// Of these, rows that the model refused; their results say why.
    rows_failed: u64,
    /// From 0 to 1.
    progress: f64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn statuses() -> utoipa::openapi::Schema {
    edge::openapi::one_of(&Status::ALL.map(Status::name))
}

impl From<Job> for JobResponse {
    fn from(job: Job) -> Self {
        let time = |ms| Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
        Self {
            progress: if job.rows == 0 { 0.0 } else { job.rows_done as f64 / job.rows as f64 },
            job_id: job.id,
            status: job.status.name(),
            model_name: job.model,
            model_version: job.version.to_string(),
            rows: job.rows,
            rows_done: job.rows_done,
            rows_failed: job.rows_failed,
            created_at: time(job.created_ms),
            ended_at: job.ended_ms.map(time),
            error: job.error,
        }
    }
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceJobs)]
pub struct JobsResponse {
    /// The newest first.
    jobs: Vec<JobResponse>,
    /// Where the next page begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// Ask a model about many rows in the background.
///
/// A body of lines may be larger than other bodies (`runtime.jobs.max_mb`).
#[utoipa::path(post, path = "/api/v1/batch", tag = "inference", operation_id = "submit_batch",
    params(BatchParams),
    request_body(content((BatchRequest = "application/json"),
        (String = "application/x-ndjson", example = json!("{\"x\":[1.0,2.0]}\n{\"x\":[3.0,4.0]}\n")))),
    responses((status = 202, body = BatchResponse),
        (status = 404, description = "there is no such model, version or alias",
            body = edge::Problem, content_type = "application/problem+json"),
        (status = 409, description = "the version cannot be served",
            body = edge::Problem, content_type = "application/problem+json")))]
async fn submit(
    State(jobs): State<Jobs>,
    Caller(scope): Caller,
    Params(params): Params<BatchParams>,
    request: Request,
) -> ApiResult<(StatusCode, Json<BatchResponse>)> {
    scope.require(Permission::Write)?;
    check_encoding(request.headers())?;
    let job = match media_type(request.headers()).as_deref() {
        None | Some("application/json") => whole(&jobs, &scope, params, request).await?,
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => {
            lines(&jobs, &scope, params, request).await?
        }
        Some(other) => {
            let message = format!("send application/json or application/x-ndjson, not `{other}`");
            return Err(Error::new(codes::UNSUPPORTED_MEDIA_TYPE, message).into());
        }
    };
    let message = format!("{} rows wait; see /api/v1/jobs/{}", job.rows, job.id);
    Ok((StatusCode::ACCEPTED, Json(BatchResponse { job_id: job.id, status: job.status.name(), message })))
}

async fn begin(jobs: &Jobs, scope: &Scope, model: Option<String>, version: Option<String>) -> Result<Upload> {
    let model = model.unwrap_or_else(|| jobs.default_model().to_owned());
    jobs.begin(scope, &model, selector(version.map(Version::Word))?).await
}

/// What the body says, or the address where that says nothing.
fn once(body: Option<String>, address: Option<String>, field: &str) -> Result<Option<String>> {
    if let (Some(body), Some(address)) = (&body, &address)
        && body != address
    {
        let message = "is one thing in the body and another in the address";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field(field));
    }
    Ok(body.or(address))
}

async fn whole(jobs: &Jobs, scope: &Scope, params: BatchParams, request: Request) -> Result<Job> {
    let asked: BatchRequest = parse(&read_all(request, &()).await?, codes::VALIDATION_ERROR)?;
    let model = once(asked.model_name, params.model_name, "model_name")?;
    let version = once(asked.model_version.map(Version::text), params.model_version, "model_version")?;
    let mut upload = begin(jobs, scope, model, version).await?;
    for (number, row) in asked.inputs.iter().enumerate() {
        let text = serde_json::to_vec(&row.0).map_err(Error::internal)?;
        upload.push(&text).await.map_err(|error| within(error, &format!("inputs[{number}]")))?;
    }
    upload.finish().await
}

async fn lines(jobs: &Jobs, scope: &Scope, params: BatchParams, request: Request) -> Result<Job> {
    let mut upload = begin(jobs, scope, params.model_name, params.model_version).await?;
    let mut body = BodyStream::take_over(request, scope)?;
    let (mut open, mut number) = (BytesMut::new(), 0);
    let mut is_more = true;
    while is_more {
        match body.next().await? {
            Some(bytes) => open.extend_from_slice(&bytes),
            None => {
                is_more = false;
                open.extend_from_slice(b"\n");
            }
        }
        while let Some(line) = next_line(&mut open) {
            number += 1;
            if !line.trim_ascii().is_empty() {
                let pushed = body.step(upload.push(&line)).await;
                pushed.map_err(|error| within(error, &format!("line[{number}]")))?;
            }
        }
        if open.len() > ROW_BYTES_MAX {
            let message = format!("a row has at most {ROW_BYTES_MAX} bytes");
            return Err(Error::new(codes::TOO_LARGE, message).with_field(format!("line[{}]", number + 1)));
        }
    }
    upload.finish().await
}

/// A whole line of what came, without its end.
fn next_line(open: &mut BytesMut) -> Option<Bytes> {
    let end = open.iter().position(|byte| *byte == b'\n')?;
    let line = open.split_to(end).freeze();
    open.advance(1);
    Some(line)
}

/// The error, with where in the body it is.
fn within(error: Error, place: &str) -> Error {
    let field = error.field().map_or_else(|| place.to_owned(), |field| format!("{place}.{field}"));
    error.with_field(field)
}

/// List jobs, the newest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "inference", operation_id = "list_jobs",
    params(PageParams),
    responses((status = 200, body = JobsResponse)))]
async fn list(
    State(jobs): State<Jobs>,
    Caller(scope): Caller,
    Params(page): Params<PageParams>,
) -> ApiResult<Json<JobsResponse>> {
    scope.require(Permission::Read)?;
    let (cursor, limit) = page.checked()?;
    let (found, next_cursor) = jobs.list(&scope, cursor, limit).await?;
    Ok(Json(JobsResponse { jobs: found.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Get a job, and how far it is.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "inference", operation_id = "get_job",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, body = JobResponse)))]
async fn get(
    State(jobs): State<Jobs>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<JobResponse>> {
    Ok(Json(jobs.get(&scope, &id).await?.into()))
}

/// Read the results of a job so far, a line for each row in the order of the rows.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/results", tag = "inference", operation_id = "get_job_results",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, content((String = "application/x-ndjson",
        example = json!("{\"row\":0,\"prediction\":[1.0]}\n{\"row\":1,\"error\":{\"code\":\"VALIDATION_ERROR\",\"message\":\"x: is missing\"}}\n"))))))]
async fn results(
    State(jobs): State<Jobs>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    answer: AnswerStream,
) -> ApiResult<Response> {
    let pieces = jobs.results(&scope, &id).await?;
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], answer.body(pieces)).into_response())
}

/// Cancel a job; its results so far stay. A job that ended stays as it is.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "inference", operation_id = "cancel_job",
    params(("id" = String, Path, description = "The job.")),
    responses((status = 200, body = JobResponse)))]
async fn cancel(
    State(jobs): State<Jobs>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<JobResponse>> {
    Ok(Json(jobs.cancel(&scope, &id).await?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_depend_on_how_they_come() {
        let text = b"{\"a\":1}\r\n\n{\"b\":2}\n";
        for size in 1..=text.len() {
            let (mut open, mut found) = (BytesMut::new(), Vec::new());
            for chunk in text.chunks(size) {
                open.extend_from_slice(chunk);
                found.extend(std::iter::from_fn(|| next_line(&mut open)));
            }
            assert_eq!(found, [&b"{\"a\":1}\r"[..], b"", b"{\"b\":2}"]);
        }
    }
}
