//! `/api/v1/entities/bulk` and `/api/v1/interactions/bulk`: many at once, each accepted or refused by itself.
//!
//! The answer keeps the shape that operators know: 202 with a job id, although everything is durable and shown
//! by the views when it comes. An `Idempotency-Key` is the job's id: a request that is sent again with its key, after
//! an answer was lost or an import stopped half-way, stores only what is not there yet.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use edge::ingest::{EVENTS, Receipt};
use edge::{ApiResult, Body, Caller, Problem};
use kernel::{Error, Event, EventDraft, Result, Scope, Timestamp, codes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{Appended, EventLog, Outcome, ReadLimit};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::entities::CreateRequest;
use super::interactions::{RecordRequest, is_same};
use super::{HttpState, IdempotencyParams, check_tenant, idempotency_key, key_was_used};
use crate::events::{EntityData, as_sent, kinds};

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
#[schema(as = EntityImport, example = json!({"entities": [
    {"entity_id": "film-2", "entity_type": "film", "attributes": {"title": "The Short Way", "year": 2001}},
    {"entity_id": "film-3", "entity_type": "film", "attributes": {"title": "No Way Back", "year": 2014}}
]}))]
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
#[schema(as = InteractionImport, example = json!({"interactions": [
    {"user_id": "ada", "entity_id": "film-2", "entity_type": "film", "interaction_type": "like"},
    {"user_id": "ada", "entity_id": "film-3", "entity_type": "film", "interaction_type": {"rating": 4.5}}
]}))]
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
    /// Names the request in the log: its `Idempotency-Key`, else a new id.
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
#[utoipa::path(post, path = "/api/v1/entities/bulk", tag = "entities", operation_id = "import_entities",
    request_body = EntitiesRequest,
    params(IdempotencyParams),
    responses((status = 202, body = ImportResult)))]
async fn entities(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    headers: HeaderMap,
    Body(request): Body<EntitiesRequest>,
) -> ApiResult<(StatusCode, Json<ImportResult>)> {
    check_tenant(&scope, request.tenant_id.as_deref())?;
    let key = idempotency_key(&headers)?;
    let job = Job { kind: kinds::ENTITY_PUT, key, is_same: |known: &EntityData, asked| known == asked };
    take(&state, &scope, job, &request.entities, |record: CreateRequest| {
        check_tenant(&scope, record.tenant_id.as_deref())?;
        Ok((EntityData::from(record), None))
    })
    .await
}

/// Record many interactions.
#[utoipa::path(post, path = "/api/v1/interactions/bulk", tag = "interactions", operation_id = "import_interactions",
    request_body = InteractionsRequest,
    params(IdempotencyParams),
    responses((status = 202, body = ImportResult)))]
async fn interactions(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    headers: HeaderMap,
    Body(request): Body<InteractionsRequest>,
) -> ApiResult<(StatusCode, Json<ImportResult>)> {
    check_tenant(&scope, request.tenant_id.as_deref())?;
    let key = idempotency_key(&headers)?;
    let job = Job { kind: kinds::INTERACTION_RECORDED, key, is_same };
    let view = state.views.of(&scope);
    take(&state, &scope, job, &request.interactions, |record: RecordRequest| {
        let (data, time, tenant_id) = record.split(&view.read())?;
        check_tenant(&scope, tenant_id.as_deref())?;
        Ok((data, time))
    })
    .await
}

/// What a request's records become.
struct Job<D> {
    /// The type of their events.
    kind: &'static str,
    /// The idempotency key.
    key: Option<String>,
    /// Whether what is stored under the key of a record is that record.
    is_same: fn(&D, &D) -> bool,
}

impl<D: DeserializeOwned> Job<D> {
    fn is_stored_as(&self, event: &Event, draft: Result<EventDraft>) -> bool {
        let asked = draft.ok().and_then(|draft| serde_json::from_str(draft.data?.get()).ok());
        let known = event.data_as().ok().filter(|_| event.kind == self.kind);
        known.zip(asked).is_some_and(|(known, asked)| (self.is_same)(&known, &asked))
    }
}

async fn take<R: DeserializeOwned, D: Serialize + DeserializeOwned>(
    state: &HttpState,
    scope: &Scope,
    job: Job<D>,
    records: &[Box<RawValue>],
    convert: impl Fn(R) -> Result<(D, Option<Timestamp>)>,
) -> ApiResult<(StatusCode, Json<ImportResult>)> {
    if records.len() > MAX_RECORDS {
        let message = format!("at most {MAX_RECORDS} records at once, here are {}", records.len());
        return Err(Error::new(codes::TOO_LARGE, message).into());
    }
    let job_id = job.key.clone().unwrap_or_else(|| format!("import_{}", state.writer.new_id()));
    let draft = |index: usize, text: &RawValue| -> Result<EventDraft> {
        let record: R = edge::extract::parse(text.get().as_bytes(), codes::VALIDATION_ERROR)?;
        let (data, time) = convert(record)?;
        Ok(EventDraft {
            specversion: Some(kernel::SPEC_VERSION.to_owned()),
            id: Some(format!("{job_id}:{index}")),
            source: Some("/api/v1/bulk".to_owned()),
            kind: Some(job.kind.to_owned()),
            time: time.map(|time| time.to_string()),
            data: Some(serde_json::value::to_raw_value(&data).map_err(Error::internal)?),
            ..EventDraft::default()
        })
    };
    let drafts = records.iter().enumerate().map(|(index, text)| (draft(index, text), text.get())).collect();
    let mut receipts = state.writer.ingest().accept(scope, drafts).await?;
    let is_it = |index: usize, event: &Event| job.is_stored_as(event, draft(index, &records[index]));
    for index in stored_otherwise(&*state.log, &receipts, is_it).await? {
        receipts[index] = Receipt::Refused(key_was_used());
    }
    Ok((StatusCode::ACCEPTED, Json(ImportResult::of(job_id, receipts))))
}

impl ImportResult {
    fn of(job_id: String, receipts: Vec<Receipt>) -> Self {
        let total_records = receipts.len();
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
        let successful = total_records - failed;
        let status = match (successful, failed) {
            (_, 0) => "completed",
            (0, _) => "failed",
            _ => "partially_completed",
        };
        Self { job_id, status, total_records, processed: total_records, successful, failed, errors }
    }
}

/// The duplicates among the receipts that were stored for something other than `is_it` expects at their index.
async fn stored_otherwise(
    log: &dyn EventLog,
    receipts: &[Receipt],
    is_it: impl Fn(usize, &Event) -> bool,
) -> Result<BTreeSet<usize>> {
    let duplicate = |(index, receipt): (usize, &Receipt)| match receipt {
        Receipt::Stored(place) if place.outcome == Outcome::Duplicate => Some((*place, index)),
        _ => None,
    };
    let mut places: Vec<(Appended, usize)> = receipts.iter().enumerate().filter_map(duplicate).collect();
    places.sort_by_key(|(place, _)| (place.partition, place.offset));
    let mut otherwise = BTreeSet::new();
    let mut rest = places.as_slice();
    while let Some((first, _)) = rest.first() {
        let read = log.read(&EVENTS, first.partition, first.offset, ReadLimit::default()).await?;
        let last = read.last().map_or(first.offset, |stored| stored.offset.max(first.offset));
        let covered =
            rest.partition_point(|(place, _)| place.partition == first.partition && place.offset <= last);
        for (place, index) in &rest[..covered] {
            let found = read.binary_search_by_key(&place.offset, |stored| stored.offset);
            if !found.is_ok_and(|at| is_it(*index, &read[at].event)) {
                otherwise.insert(*index);
            }
        }
        rest = &rest[covered..];
    }
    Ok(otherwise)
}
