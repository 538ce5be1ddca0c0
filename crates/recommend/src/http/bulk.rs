//! `/api/v1/entities/bulk` and `/api/v1/interactions/bulk`: many at once, each accepted or refused by itself.
//!
//! The answer keeps the shape that operators know: 202 with a job id, although everything is durable and shown
//! by the views when it comes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::ingest::Receipt;
use edge::{ApiResult, Body, Caller, Problem};
use kernel::{Error, EventDraft, Result, Scope, Timestamp, codes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::entities::CreateRequest;
use super::interactions::{RecordRequest, as_sent};
use super::{HttpState, check_tenant};
use crate::events::{EntityData, kinds};

/// Records in one request.
const MAX_RECORDS: usize = 100_000;
/// Errors told in the answer; all of them are among the dead letters.
const MAX_TOLD: usize = 1_000;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(entities)).routes(routes!(interactions))
}

/// Entities to create or replace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntitiesRequest {
    /// Up to 100,000.
    #[schema(value_type = Vec<CreateRequest>)]
    entities: Vec<Box<RawValue>>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// Interactions to record.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InteractionsRequest {
    /// Up to 100,000.
    #[schema(value_type = Vec<RecordRequest>)]
    interactions: Vec<Box<RawValue>>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// What became of a bulk request.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportResult {
    /// Names the request in the log.
    job_id: String,
    /// `completed`, `partially_completed` or `failed`.
    status: &'static str,
    total_records: usize,
    processed: usize,
    successful: usize,
    failed: usize,
    /// The first 1,000 refused records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ImportError>,
}

/// A refused record.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportError {
    /// Its place in the request, 0 for the first.
    index: usize,
    problem: Problem,
}

/// Create or replace many entities.
#[utoipa::path(post, path = "/api/v1/entities/bulk", tag = "entities", request_body = EntitiesRequest,
    responses((status = 202, body = ImportResult), (status = "4XX", body = Problem)))]
async fn entities(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Body(request): Body<EntitiesRequest>,
) -> ApiResult<(StatusCode, Json<ImportResult>)> {
    check_tenant(&scope, request.tenant_id.as_deref())?;
    take(&state, &scope, kinds::ENTITY_PUT, &request.entities, |record: CreateRequest| {
        check_tenant(&scope, record.tenant_id.as_deref())?;
        Ok((EntityData::from(record), None))
    })
    .await
}

/// Record many interactions.
#[utoipa::path(post, path = "/api/v1/interactions/bulk", tag = "interactions", request_body = InteractionsRequest,
    responses((status = 202, body = ImportResult), (status = "4XX", body = Problem)))]
async fn interactions(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Body(request): Body<InteractionsRequest>,
) -> ApiResult<(StatusCode, Json<ImportResult>)> {
    check_tenant(&scope, request.tenant_id.as_deref())?;
    take(&state, &scope, kinds::INTERACTION_RECORDED, &request.interactions, |record: RecordRequest| {
        let (data, time, tenant_id) = record.split();
        check_tenant(&scope, tenant_id.as_deref())?;
        Ok((data, time))
    })
    .await
}

async fn take<R: DeserializeOwned, D: Serialize>(
    state: &HttpState,
    scope: &Scope,
    kind: &'static str,
    records: &[Box<RawValue>],
    convert: impl Fn(R) -> Result<(D, Option<Timestamp>)>,
) -> ApiResult<(StatusCode, Json<ImportResult>)> {
    if records.len() > MAX_RECORDS {
        let message = format!("at most {MAX_RECORDS} records at once, here are {}", records.len());
        return Err(Error::new(codes::TOO_LARGE, message).into());
    }
    let job_id = format!("import_{}", state.writer.new_id());
    let draft = |index: usize, text: &RawValue| -> Result<EventDraft> {
        let record: R = edge::extract::parse(text.get().as_bytes(), codes::VALIDATION_ERROR)?;
        let (data, time) = convert(record)?;
        Ok(EventDraft {
            specversion: Some(kernel::SPEC_VERSION.to_owned()),
            id: Some(format!("{job_id}:{index}")),
            source: Some("/api/v1/bulk".to_owned()),
            kind: Some(kind.to_owned()),
            time: time.map(|time| time.to_string()),
            data: Some(serde_json::value::to_raw_value(&data).map_err(Error::internal)?),
            ..EventDraft::default()
        })
    };
    let drafts = records.iter().enumerate().map(|(index, text)| (draft(index, text), text.get())).collect();
    let receipts = state.writer.ingest().accept(scope, drafts).await?;
    let mut errors = Vec::new();
    let mut failed = 0;
    for (index, receipt) in receipts.into_iter().enumerate() {
        if let Receipt::Refused(error) = receipt {
            failed += 1;
            if errors.len() < MAX_TOLD {
                errors.push(ImportError { index, problem: Problem::of(&as_sent(error)) });
            }
        }
    }
    let total_records = records.len();
    let successful = total_records - failed;
    let status = match (successful, failed) {
        (_, 0) => "completed",
        (0, _) => "failed",
        _ => "partially_completed",
    };
    let result =
        ImportResult { job_id, status, total_records, processed: total_records, successful, failed, errors };
    Ok((StatusCode::ACCEPTED, Json(result)))
}
