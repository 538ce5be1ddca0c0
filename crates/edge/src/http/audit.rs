//! `GET /api/v1/audit`: who changed what.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use kernel::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::audit::{AuditLog, Entry};
use crate::{ApiResult, Caller, PageParams, Params};

/// The routes.
pub fn routes(audit: AuditLog) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).with_state(audit)
}

/// One entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntry {
    /// 1 for the first.
    sequence: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The name of a credential, or `system:` and the part of Watershed.
    actor: String,
    action: String,
    subject: String,
    details: BTreeMap<String, String>,
    /// The hash of the entry before; empty for the first.
    previous: String,
    /// BLAKE3 over the entry as JSON with an empty `hash`.
    hash: String,
}

impl From<Entry> for AuditEntry {
    fn from(entry: Entry) -> Self {
        let Entry { sequence, at, actor, action, subject, details, previous, hash } = entry;
        Self { sequence, at, actor, action, subject, details, previous, hash }
    }
}

/// A page of entries, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub struct Response {
    entries: Vec<AuditEntry>,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List who changed what, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", operation_id = "list_audit",
    params(PageParams),
    responses((status = 200, body = Response)))]
async fn list(
    State(audit): State<AuditLog>,
    Caller(scope): Caller,
    Params(params): Params<PageParams>,
) -> ApiResult<Json<Response>> {
    let (cursor, limit) = params.checked()?;
    let (entries, next_cursor) = audit.list(&scope, cursor, limit).await?;
    Ok(Json(Response { entries: entries.into_iter().map(AuditEntry::from).collect(), next_cursor }))
}
