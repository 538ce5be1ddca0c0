//! `GET /api/v1/users/{id}/data-export`: everything that is held of one person, as one JSON document, as a stream.
//!
//! The log is read through from its beginning: there is no index of it by person, on purpose. One that fails half-way
//! breaks the connection off, so that no one takes a part for the whole.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use edge::{AnswerStream, ApiResult, Caller, Path};
use futures::{StreamExt, stream};
use kernel::{Error, Event, Id, Permission, Result, Scope, Timestamp};
use privacy::Personal;
use serde::Serialize;
use store::{DeadLetter, ReadLimit};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::users::user_id;
use super::whole_log::WholeLog;
use super::{HttpState, timestamp};
use crate::attributes::{AttributeValue, Attributes};
use crate::events::OfRecommend;
use crate::forgetting::letters_about;
use crate::views::{Place, TenantView, User};

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(export))
}

/// What is known of the person now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Profile {
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    attributes: Attributes,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    personalisation: bool,
    training: bool,
    /// What answers rest on.
    history: Vec<HistoryRow>,
}

/// One thing that the person did, as answers know it. Its event may have left the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryRow {
    entity_id: String,
    entity_type: String,
    interaction_type: String,
    weight: f32,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

/// A refused thing that names the person.
#[derive(Debug, Serialize, ToSchema)]
pub struct LetterRow {
    id: String,
    #[schema(value_type = String, format = DateTime)]
    refused_at: Timestamp,
    reason: String,
    body: String,
}

/// Everything that is held of one person.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PersonalData)]
pub struct Document {
    /// `watershed.person.v1`.
    format: &'static str,
    user_id: String,
    tenant_id: String,
    #[schema(value_type = String, format = DateTime)]
    generated_at: Timestamp,
    /// What is not in here, and why.
    manifest: Vec<&'static str>,
    /// Missing where no answer knows the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
    dead_letters: Vec<LetterRow>,
    /// Every event about the person, as it was sent (CloudEvents), in the order of arrival.
    #[schema(value_type = Vec<Object>)]
    events: Vec<()>,
}

const FORMAT: &str = "watershed.person.v1";
const MANIFEST: [&str; 4] = [
    "events that are older than `recommend.retention_days`: nothing counts them; they go with the log's own retention",
    "kept answers: they are made from `history`, and gone after `recommend.cache.recommendation_ttl_secs`",
    "models: they hold numbers learned from `history`, and are trained anew from it",
    "checkpoints and backups: they hold what is here, sealed where `compliance.encrypt_personal` is set",
];

/// Export everything that is held of one person.
#[utoipa::path(get, path = "/api/v1/users/{id}/data-export", tag = "privacy", operation_id = "export_user_data",
    params(("id" = String, Path, description = "The id of the user.", example = "ada")),
    responses((status = 200, body = Document)))]
async fn export(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    answer: AnswerStream,
) -> ApiResult<Response> {
    scope.require(Permission::Admin)?;
    let id = user_id(&id)?;
    let head = head(&state, &scope, id.as_str()).await?;
    let log = Arc::clone(&state.log);
    let whole = WholeLog::begin(log, edge::ingest::EVENTS, ReadLimit::default()).await?;
    let reader = Arc::new((state, scope, id));
    let events = stream::try_unfold((whole, true), move |(mut whole, first)| {
        let reader = Arc::clone(&reader);
        async move {
            let Some(read) = whole.next().await? else { return Ok::<_, Error>(None) };
            let (text, first) = rows(&reader, read, first)?;
            Ok(Some((text, (whole, first))))
        }
    });
    let end = stream::once(std::future::ready(Ok(Bytes::from_static(b"]}\n"))));
    let text = stream::once(std::future::ready(Ok(Bytes::from(head)))).chain(events).chain(end);
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"person.json\""),
    ];
    Ok((headers, answer.body(text)).into_response())
}

/// The document up to its first event.
async fn head(state: &HttpState, scope: &Scope, id: &str) -> Result<String> {
    let letters = letters_about(state.forgetting.dead_letters(), scope, id).await?;
    let profile = {
        let view = state.views.of(scope);
        let view = view.read();
        view.users.find(id).and_then(|index| view.users.get(index)).map(|user| profile(&view, user))
    };
    let document = Document {
        format: FORMAT,
        user_id: id.to_owned(),
        tenant_id: scope.tenant().to_string(),
        generated_at: state.writer.now(),
        manifest: MANIFEST.to_vec(),
        profile,
        dead_letters: letters.into_iter().map(LetterRow::from).collect(),
        events: Vec::new(),
    };
    let text = serde_json::to_string(&document).map_err(Error::internal)?;
    let cut = text.strip_suffix("]}").map(str::to_owned);
    cut.ok_or_else(|| Error::internal("a document does not end with its events"))
}

fn profile(view: &TenantView, user: &User) -> Profile {
    let row = |entry: &crate::views::Entry| {
        let entity = view.entities.get(entry.entity);
        HistoryRow {
            entity_id: entity.map(|entity| entity.id.to_string()).unwrap_or_default(),
            entity_type: entity.map(|entity| view.entities.type_of(entity).to_owned()).unwrap_or_default(),
            interaction_type: view.interaction_types.all()[usize::from(entry.kind)].name.to_string(),
            weight: view.weight_of(entry),
            timestamp: timestamp(entry.time_ms()),
        }
    };
    Profile {
        attributes: user.attributes.clone(),
        created_at: timestamp(user.created_at_ms),
        personalisation: user.consent.personalisation,
        training: user.consent.training,
        history: user.history.iter().map(row).collect(),
    }
}

impl From<DeadLetter> for LetterRow {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { id, refused_at, reason, body, .. } = letter;
        Self { id, refused_at, reason, body }
    }
}

/// The person's events among those that were read, as text, with commas between them.
fn rows(
    reader: &(HttpState, Scope, Id),
    read: Vec<(Place, Event)>,
    mut first: bool,
) -> Result<(Bytes, bool)> {
    let (state, scope, id) = reader;
    let view = state.views.of(scope);
    let view = view.read();
    let mut text = Vec::new();
    for (place, mut event) in read {
        if event.tenant != *scope.tenant() || privacy::is_erased(&event) || !view.counts(&event, place) {
            continue;
        }
        if OfRecommend.person(&event)?.is_none_or(|person| person.id != id.as_str()) {
            continue;
        }
        event.extensions.remove(privacy::KEY_MARK);
        if !std::mem::take(&mut first) {
            text.push(b',');
        }
        text.extend_from_slice(&event.to_json());
    }
    Ok((text.into(), first))
}
