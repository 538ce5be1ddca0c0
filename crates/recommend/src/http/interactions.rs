//! `/api/v1/interactions`: record one, list by user, list by entity.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::AppendHeaders;
use edge::{ApiResult, Body, Caller, Params, Path, check_range};
use kernel::{Error, Event, Id, Permission, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::{Appended, Outcome, ReadLimit};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::entities::find;
use super::users::user_not_found;
use super::{HttpState, IdempotencyParams, check_tenant, idempotency_key, key_was_used};
use crate::events::{InteractionData, InteractionKind, as_sent, kinds};
use crate::service::cursor::INVALID_CURSOR;
use crate::views::{Place, TenantView};

/// Interactions that a page may pass over.
const MAX_OFFSET: usize = 1_000_000_000;
/// The header that says where the next page begins.
const NEXT_CURSOR: &str = "next-cursor";

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(record)).routes(routes!(by_user)).routes(routes!(by_entity))
}

/// What a user did.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "user_id": "ada", "entity_id": "film-1", "entity_type": "film", "interaction_type": "view"
}))]
#[schema(as = NewInteraction)]
pub struct RecordRequest {
    /// Who.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    user_id: Id,
    /// With what.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    entity_id: Id,
    /// Its type; where missing, that of the one entity with this id, or `item` where there is none.
    entity_type: Option<String>,
    /// A registered name, `{"rating": 4.5}`, or `{"custom": "name"}`, which registers the name with weight 1.
    interaction_type: InteractionKind,
    /// In place of the type's weight.
    #[schema(minimum = -1_000_000, maximum = 1_000_000)]
    weight: Option<f64>,
    /// The answer in which the entity was recommended.
    #[schema(max_length = 100)]
    answer_id: Option<String>,
    /// Kept and given back.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// When; now where missing.
    #[schema(value_type = Option<String>, format = DateTime)]
    timestamp: Option<Timestamp>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

impl RecordRequest {
    /// The event's data, time and the tenant it names.
    pub(crate) fn split(
        self,
        view: &TenantView,
    ) -> Result<(InteractionData, Option<Timestamp>, Option<String>)> {
        let entity_type = type_meant(view, self.entity_type, &self.entity_id)?;
        let data = InteractionData {
            user_id: self.user_id,
            entity_id: self.entity_id,
            entity_type,
            interaction_type: self.interaction_type,
            weight: self.weight,
            answer_id: self.answer_id,
            metadata: self.metadata,
        };
        Ok((data, self.timestamp, self.tenant_id))
    }
}

/// A recorded interaction.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Interaction)]
pub struct InteractionResponse {
    /// The id of its event.
    id: String,
    user_id: String,
    entity_id: String,
    entity_type: String,
    interaction_type: String,
    /// How much it says.
    weight: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_id: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    tenant_id: String,
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
}

impl InteractionResponse {
    pub(crate) fn of(view: &TenantView, event: Event) -> Result<Self> {
        let data: InteractionData = event.data_as()?;
        let (name, own) = data.kind();
        let name = name.to_owned();
        let all = view.interaction_types.all();
        let registered = all.iter().find(|kind| *kind.name == *name).map_or(1.0, |kind| kind.weight);
        Ok(Self {
            id: event.id,
            weight: own.map_or(registered, |weight| weight as f32),
            user_id: data.user_id.to_string(),
            entity_id: data.entity_id.to_string(),
            entity_type: data.entity_type,
            interaction_type: name,
            answer_id: data.answer_id,
            metadata: data.metadata,
            tenant_id: event.tenant.to_string(),
            timestamp: event.time,
        })
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// Interactions a page, 1 to 1,000.
    #[param(minimum = 1, maximum = 1_000, example = 20)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// Interactions to pass over, up to 1,000,000,000. What is recorded between two pages moves the second one: a `cursor`
    /// does not move.
    #[param(maximum = 1_000_000_000, example = 0)]
    #[serde(default)]
    offset: usize,
    /// Where an earlier page ended: its `next-cursor` header. Not together with `offset`.
    cursor: Option<String>,
    /// The entity's type, where ids alone do not tell.
    #[param(example = "film")]
    entity_type: Option<String>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

impl PageParams {
    fn check(&self, scope: &Scope) -> Result<()> {
        scope.require(Permission::Read)?;
        check_tenant(scope, self.tenant_id.as_deref())?;
        check_range(self.limit, 1, 1_000, "limit")?;
        check_range(self.offset, 0, MAX_OFFSET, "offset")?;
        if self.offset > 0 && self.cursor.is_some() {
            return Err(Error::new(
                codes::VALIDATION_ERROR,
                "go on with the cursor or with an offset, not with both",
            )
            .with_field("offset"));
        }
        Ok(())
    }

    /// The page of what is listed oldest first, newest first: what comes strictly before the cursor in the list's order.
    fn page(&self, listed: impl DoubleEndedIterator<Item = Listed>) -> Result<Page> {
        let after = self.cursor.as_deref().map(Listed::read).transpose()?;
        let rest = listed.rev().skip_while(|one| after.is_some_and(|after| *one >= after));
        let mut rest = rest.skip(self.offset);
        let page: Vec<Listed> = rest.by_ref().take(self.limit).collect();
        let more = rest.next().is_some();
        let next = page.last().filter(|_| more).map(|last| last.text());
        Ok(Page { places: page.into_iter().map(|listed| listed.place).collect(), next })
    }
}

/// One page, and where the next one begins.
struct Page {
    places: Vec<Place>,
    next: Option<String>,
}

/// An interaction in the order of a list: by time where the list has one, then as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    time_ms: i64,
    place: Place,
}

impl Listed {
    fn text(self) -> String {
        format!("{:x}.{:x}", self.time_ms, self.place.number())
    }

    fn read(text: &str) -> Result<Self> {
        let parts = text.split_once('.').and_then(|(time_ms, place)| {
            let time_ms = i64::from_str_radix(time_ms, 16).ok()?;
            Some(Self { time_ms, place: Place::of_number(u64::from_str_radix(place, 16).ok()?) })
        });
        let message = "is not a cursor that this server gave";
        parts.ok_or_else(|| Error::new(INVALID_CURSOR, message).with_field("cursor"))
    }
}

/// The lines of a page, and its `next-cursor` header.
type ListResponse = (Option<AppendHeaders<[(&'static str, String); 1]>>, Json<Vec<InteractionResponse>>);

async fn listed(state: &HttpState, scope: &Scope, page: Page) -> Result<ListResponse> {
    let next = page.next.map(|cursor| AppendHeaders([(NEXT_CURSOR, cursor)]));
    Ok((next, Json(load(state, scope, &page.places).await?)))
}

/// Record an interaction. The next answer takes it into account.
#[utoipa::path(post, path = "/api/v1/interactions", tag = "interactions", operation_id = "record_interaction",
    request_body = RecordRequest,
    params(IdempotencyParams),
    responses((status = 201, body = InteractionResponse)))]
async fn record(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    headers: HeaderMap,
    Body(request): Body<RecordRequest>,
) -> ApiResult<(StatusCode, Json<InteractionResponse>)> {
    let (data, time, tenant_id) = request.split(&state.views.of(&scope).read())?;
    check_tenant(&scope, tenant_id.as_deref())?;
    let id = idempotency_key(&headers)?.unwrap_or_else(|| state.writer.new_id());
    let event = state.writer.event(&scope, kinds::INTERACTION_RECORDED, id, time, &data)?;
    let place = state.writer.ingest().append_checked(&scope, event.clone()).await.map_err(as_sent)?;
    if place.outcome == Outcome::Duplicate {
        return Ok((StatusCode::CREATED, Json(earlier(&state, &scope, place, &data).await?)));
    }
    let view = state.views.of(&scope);
    let view = view.read();
    Ok((StatusCode::CREATED, Json(InteractionResponse::of(&view, event)?)))
}

/// Whether both tell of the same act. A type may have been registered between the one and the other.
pub(super) fn is_same(known: &InteractionData, asked: &InteractionData) -> bool {
    known.kind() == asked.kind()
        && (&known.user_id, &known.entity_id, &known.entity_type)
            == (&asked.user_id, &asked.entity_id, &asked.entity_type)
}

/// What an earlier request with the same idempotency key recorded.
async fn earlier(
    state: &HttpState,
    scope: &Scope,
    place: Appended,
    asked: &InteractionData,
) -> Result<InteractionResponse> {
    let one = ReadLimit { events: 1, bytes: 1 };
    let read = state.log.read(&edge::ingest::EVENTS, place.partition, place.offset, one).await?;
    let stored = read.into_iter().next().map(|stored| stored.event);
    let is_it = |event: &Event| event.kind == kinds::INTERACTION_RECORDED && !privacy::is_erased(event);
    let event = stored.filter(is_it).ok_or_else(key_was_used)?;
    let known: InteractionData = event.data_as()?;
    if !is_same(&known, asked) {
        return Err(key_was_used());
    }
    let view = state.views.of(scope);
    let view = view.read();
    InteractionResponse::of(&view, event)
}

/// List what a user did, newest first.
#[utoipa::path(get, path = "/api/v1/interactions/user/{id}", tag = "interactions",
        operation_id = "list_interactions_of_user",
    params(("id" = String, Path, description = "The id of the user.", example = "ada"), PageParams),
    responses((status = 200, body = Vec<InteractionResponse>,
        headers(("next-cursor" = Option<String>, description = "Pass it as `cursor` for the next page; missing on the last one.")))))]
async fn by_user(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<PageParams>,
) -> ApiResult<ListResponse> {
    params.check(&scope)?;
    let page = {
        let view = state.views.of(&scope);
        let view = view.read();
        let user = view.users.find(&id).and_then(|index| view.users.get(index));
        let history = &user.ok_or_else(|| user_not_found(&id))?.history;
        params.page(history.iter().map(|entry| Listed { time_ms: entry.time_ms(), place: entry.place }))?
    };
    Ok(listed(&state, &scope, page).await?)
}

/// List what was done with an entity, newest arrival first.
#[utoipa::path(get, path = "/api/v1/interactions/entity/{id}", tag = "interactions",
        operation_id = "list_interactions_of_entity",
    params(("id" = String, Path, description = "The id of the entity.", example = "film-1"), PageParams),
    responses((status = 200, body = Vec<InteractionResponse>,
        headers(("next-cursor" = Option<String>, description = "Pass it as `cursor` for the next page; missing on the last one.")))))]
async fn by_entity(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<PageParams>,
) -> ApiResult<ListResponse> {
    params.check(&scope)?;
    let entity = find(&state, &scope, params.entity_type.as_deref(), &id)?;
    let page = {
        let view = state.views.of(&scope);
        let view = view.read();
        params.page(view.interactions_of(entity).map(|place| Listed { time_ms: 0, place }))?
    };
    Ok(listed(&state, &scope, page).await?)
}

/// Reads the events at these places back from the log. One that retention removed is left out, as is one of a user who
/// was forgotten.
async fn load(state: &HttpState, scope: &Scope, places: &[Place]) -> Result<Vec<InteractionResponse>> {
    let mut events = Vec::with_capacity(places.len());
    let one = ReadLimit { events: 1, bytes: 1 };
    for place in places {
        let read = state.log.read(&edge::ingest::EVENTS, place.partition(), place.offset(), one).await?;
        let found = read.into_iter().next().filter(|stored| stored.offset == place.offset());
        let of_tenant = found.map(|stored| stored.event).filter(|event| event.tenant == *scope.tenant());
        events.extend(of_tenant.map(|event| (*place, event)));
    }
    let view = state.views.of(scope);
    let view = view.read();
    let counted = events.into_iter().filter(|(place, event)| view.counts(event, *place));
    counted.map(|(_, event)| InteractionResponse::of(&view, event)).collect()
}

/// The type that was named, or the one that is meant.
pub(super) fn type_meant(view: &TenantView, named: Option<String>, id: &Id) -> Result<String> {
    match named {
        Some(named) => Ok(named),
        None => view.entities.type_meant(id.as_str()).map(str::to_owned),
    }
}

fn default_limit() -> usize {
    50
}
