//! The endpoints of this domain, one file for each resource. Wire types live beside their handler and are
//! converted by hand; what the view holds is never serialised directly.
//!
//! To add one: a file with its request, response and handler, a line in [`routes`], a case in the end-to-end
//! tests; then `make generate` for the OpenAPI document.

pub mod bulk;
pub mod canaries;
pub mod consent;
pub mod data_export;
pub mod entities;
pub mod erasures;
pub mod export;
pub mod interaction_types;
pub mod interactions;
mod parameters;
pub mod recommendations;
pub mod users;
mod whole_log;

use std::sync::Arc;

use edge::Ingest;
use kernel::{Error, Event, Result, Scope, Timestamp, codes};
use serde::Serialize;
use store::{Appended, EventLog};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

use crate::canaries::Canaries;
use crate::candidates::CandidateSource;
use crate::events::as_sent;
use crate::forgetting::Forgetting;
use crate::service::Service;
use crate::views::Views;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub struct HttpState {
    /// Answers.
    pub service: Arc<Service>,
    /// Writes.
    pub writer: Writer,
    /// Reads.
    pub views: Arc<Views>,
    /// Reads back what was written.
    pub log: Arc<dyn EventLog>,
    /// Forgets.
    pub forgetting: Arc<Forgetting>,
    /// Tries.
    pub canaries: Arc<Canaries>,
    /// Finds by text.
    pub candidates: Option<Arc<dyn CandidateSource>>,
}

/// Every route of this domain.
pub fn routes(state: HttpState) -> OpenApiRouter {
    OpenApiRouter::new()
        .merge(entities::routes())
        .merge(users::routes())
        .merge(consent::routes())
        .merge(data_export::routes())
        .merge(erasures::routes())
        .merge(canaries::routes())
        .merge(interactions::routes())
        .merge(interaction_types::routes())
        .merge(bulk::routes())
        .merge(export::routes())
        .merge(recommendations::routes())
        .with_state(state)
}

/// Makes events of what the typed endpoints take, and appends them.
#[derive(Debug, Clone)]
pub struct Writer {
    ingest: Ingest,
}

impl Writer {
    /// Writes through `ingest`.
    #[must_use]
    pub fn new(ingest: Ingest) -> Self {
        Self { ingest }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.ingest.clock().now()
    }

    /// A new id.
    #[must_use]
    pub fn new_id(&self) -> String {
        self.ingest.new_id()
    }

    /// Checks and appends one event; returns its id and place once the view shows it. A retry with the same
    /// `idempotency_key` gives the first one's place.
    ///
    /// # Errors
    /// What does not fit; those of the log.
    pub async fn write<T: Serialize>(
        &self,
        scope: &Scope,
        kind: &'static str,
        idempotency_key: Option<String>,
        time: Option<Timestamp>,
        data: &T,
    ) -> Result<(String, Appended)> {
        let id = idempotency_key.unwrap_or_else(|| self.new_id());
        let event = self.event(scope, kind, id.clone(), time, data)?;
        let place = self.ingest.append_checked(scope, event).await.map_err(as_sent)?;
        Ok((id, place))
    }

    /// The event that [`Writer::write`] appends, not yet checked by its owner.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the data have no JSON form.
    pub fn event<T: Serialize>(
        &self,
        scope: &Scope,
        kind: &'static str,
        id: String,
        time: Option<Timestamp>,
        data: &T,
    ) -> Result<Event> {
        Ok(Event {
            data: Some(serde_json::value::to_raw_value(data).map_err(Error::internal)?.into()),
            ..Event::new(scope.tenant(), id, "/api/v1", kind, time.unwrap_or_else(|| self.now()))
        })
    }

    /// The way in for many events at once.
    #[must_use]
    pub fn ingest(&self) -> &Ingest {
        &self.ingest
    }
}

/// What a write may carry.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it documents the header, which `idempotency_key` reads")]
pub struct IdempotencyParams {
    /// 1 to 255 visible characters. The same request sent again with it is done once; another one is refused.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

/// The `Idempotency-Key` header, where there is one.
///
/// # Errors
/// `VALIDATION_ERROR` when it is not a sane id.
pub(crate) fn idempotency_key(headers: &axum::http::HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().and_then(|text| kernel::Id::new(text).ok());
    let wrong = || {
        Error::new(codes::VALIDATION_ERROR, "must be 1 to 255 visible characters")
            .with_field("idempotency-key")
    };
    text.map(|id| Some(id.to_string())).ok_or_else(wrong)
}

/// The error for an idempotency key under which something else was written.
pub(crate) fn key_was_used() -> Error {
    Error::new(codes::CONFLICT, "was used for another request, or for what is gone since; send a new key")
        .with_field("idempotency-key")
}

/// Refuses a `tenant_id` that the credential does not speak for.
pub(crate) fn check_tenant(scope: &Scope, tenant_id: Option<&str>) -> Result<()> {
    match tenant_id {
        Some(tenant) if tenant != scope.tenant().as_str() => {
            let message = format!("the credential speaks for `{}`", scope.tenant());
            Err(Error::new(codes::TENANT_MISMATCH, message).with_field("tenant_id"))
        }
        _ => Ok(()),
    }
}

/// A time of the view on the wire.
pub(crate) fn timestamp(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}
