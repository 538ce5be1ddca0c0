//! `/api/v1/search/index`, also as `/index`: put, delete and count what can be found, and build an index again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use edge::{ApiResult, Body, Caller, Path, Problem};
use kernel::{Id, Permission, Result, Scope};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::check_tenant;
use crate::items::{Change, Item, ItemName, invalid};
use crate::rebuilding::{Rebuild, RebuildState};
use crate::service::Search;

/// Items of one request, at most.
const ITEMS_MAX: usize = 1_000;
/// How long a caller waits for an index that is built again.
const REBUILD_PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn routes() -> OpenApiRouter<Arc<Search>> {
    OpenApiRouter::new()
        .routes(routes!(put))
        .routes(routes!(put_many))
        .routes(routes!(remove))
        .routes(routes!(stats))
        .routes(routes!(rebuild))
        .route("/index", post(put))
        .route("/index/bulk", post(put_many))
        .route("/index/{type}/{id}", delete(remove))
        .route("/index/stats", get(stats))
        .route("/index/rebuild", post(rebuild))
}

/// What can be found from now on, in place of what was there before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSearchItem, example = json!({
    "entity_type": "note", "entity_id": "2024-03-01", "text": "The curve steepened as front yields fell.",
    "metadata": {"desk": "rates"}, "tags": ["rates"]
}))]
pub struct PutRequest {
    /// What kind of thing it is, 1 to 200 bytes.
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    entity_type: Id,
    /// Unique within its type, 1 to 255 bytes.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    entity_id: Id,
    /// What it is found by, at most 262,144 bytes. An encoder reads its beginning, as far as the model reads.
    #[schema(min_length = 1, max_length = 262_144)]
    text: String,
    /// Given back with it; strings, numbers and booleans can be asked for.
    #[serde(default)]
    metadata: Map<String, Value>,
    /// What it can be asked for.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 100)]
    tags: BTreeSet<String>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

impl PutRequest {
    fn read(self) -> Change {
        let Self { entity_type, entity_id, text, metadata, tags, tenant_id: _ } = self;
        Change::Put(Box::new(Item { entity_type, entity_id, text, metadata, tags }))
    }

    /// As one of several; an error names the item by its place.
    fn read_at(self, place: usize, scope: &Scope) -> Result<Change> {
        let change = check_tenant(scope, self.tenant_id.as_deref()).and_then(|()| {
            let change = self.read();
            change.check().map(|()| change)
        });
        change.map_err(|error| {
            let item = format!("items[{place}]");
            let field = error.field().map_or_else(|| item.clone(), |field| format!("{item}.{field}"));
            error.with_field(field)
        })
    }
}

/// Several items.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSearchItems, example = json!({"items": [{"entity_type": "note", "entity_id": "1", "text": "gas"}]}))]
pub struct PutManyRequest {
    /// 1,000 at most; where one is refused, none is taken.
    #[schema(max_items = 1000)]
    items: Vec<PutRequest>,
}

/// What became of an item.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchItemTaken)]
pub struct PutResponse {
    /// `indexed` where searches show it; `stored` where they will.
    status: &'static str,
    message: &'static str,
    entity_type: String,
    entity_id: String,
}

/// What became of several items.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchItemsTaken)]
pub struct PutManyResponse {
    /// `indexed` where searches show them; `stored` where they will.
    status: &'static str,
    count: usize,
}

fn status(shows: bool) -> (&'static str, &'static str) {
    match shows {
        true => ("indexed", "it is durable and can be found"),
        false => ("stored", "it is durable and will be found soon"),
    }
}

/// Put an item.
#[utoipa::path(post, path = "/api/v1/search/index", tag = "search", operation_id = "put_search_item",
    request_body = PutRequest,
    responses((status = 200, body = PutResponse)))]
async fn put(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Body(request): Body<PutRequest>,
) -> ApiResult<Json<PutResponse>> {
    check_tenant(&scope, request.tenant_id.as_deref())?;
    let (entity_type, entity_id) = (request.entity_type.to_string(), request.entity_id.to_string());
    let (status, message) = status(search.change(&scope, vec![request.read()]).await?);
    Ok(Json(PutResponse { status, message, entity_type, entity_id }))
}

/// Put several items.
#[utoipa::path(post, path = "/api/v1/search/index/bulk", tag = "search", operation_id = "put_search_items",
    request_body = PutManyRequest,
    responses((status = 200, body = PutManyResponse)))]
async fn put_many(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Body(request): Body<PutManyRequest>,
) -> ApiResult<Json<PutManyResponse>> {
    // First, so that who may not write is told that, whatever the items are.
    scope.require(Permission::Write)?;
    let count = request.items.len();
    if count > ITEMS_MAX {
        return Err(invalid("items", format!("at most {ITEMS_MAX} at once, not {count}")).into());
    }
    let items = request.items.into_iter().enumerate();
    let changes = items.map(|(place, item)| item.read_at(place, &scope)).collect::<Result<Vec<_>>>()?;
    let (status, _) = status(search.change(&scope, changes).await?);
    Ok(Json(PutManyResponse { status, count }))
}

/// Delete an item. One that is not there is deleted already.
#[utoipa::path(delete, path = "/api/v1/search/index/{type}/{id}", tag = "search", operation_id = "delete_search_item",
    params(("type" = String, Path, description = "The type of the item.", example = "note"),
        ("id" = String, Path, description = "The id of the item.", example = "2024-03-01")),
    responses((status = 204)))]
async fn remove(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Path((kind, id)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    let name = ItemName { entity_type: Id::new(kind)?, entity_id: Id::new(id)? };
    search.change(&scope, vec![Change::Delete(name)]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What an index holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchStats)]
pub struct StatsResponse {
    /// Items that can be found.
    items: u64,
    /// Words of all their texts, each as often as it stands there.
    terms: u64,
    /// Segments that they are in.
    segments: usize,
    /// Items with a vector; missing where there is no encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    vectors: Option<u64>,
    /// Whether searches by words show every change.
    is_current: bool,
    /// Whether searches by meaning do; missing where there is no encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_all_vectors: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
    /// The index of words that this server built again last.
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuild: Option<RebuildResponse>,
}

/// Read what the index holds.
#[utoipa::path(get, path = "/api/v1/search/index/stats", tag = "search", operation_id = "get_search_stats",
    responses((status = 200, body = StatsResponse)))]
async fn stats(State(search): State<Arc<Search>>, Caller(scope): Caller) -> ApiResult<Json<StatsResponse>> {
    let stats = search.stats(&scope).await?;
    let (model, model_version) = stats.model.map(|model| (model.name, model.version)).unzip();
    Ok(Json(StatsResponse {
        items: stats.index.items,
        terms: stats.index.terms,
        segments: stats.index.segments,
        vectors: stats.vectors,
        is_current: stats.lag == 0,
        has_all_vectors: stats.vector_lag.map(|lag| lag == 0),
        model,
        model_version,
        rebuild: stats.rebuild.map(RebuildResponse::from),
    }))
}

/// An index that is built again.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchRebuilt)]
pub struct RebuildResponse {
    /// `rebuilt`; `rebuilding`, while it goes on; `failed`, where the index before answers on.
    status: &'static str,
    /// Changes that were taken in.
    changes: u64,
    /// The part of the log that was read, 0 to 1.
    progress: f64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl From<Rebuild> for RebuildResponse {
    fn from(rebuild: Rebuild) -> Self {
        let status = match rebuild.state {
            RebuildState::Building => "rebuilding",
            RebuildState::Rebuilt => "rebuilt",
            RebuildState::Failed => "failed",
        };
        Self { status, changes: rebuild.changes, progress: rebuild.progress, fault: rebuild.fault }
    }
}

/// Build the index of words again from the log. The one before answers until the new one is whole.
///
/// Where that takes longer than five seconds the answer is 202, and the statistics of the index say how far it is.
#[utoipa::path(post, path = "/api/v1/search/index/rebuild", tag = "search", operation_id = "rebuild_search_index",
    responses((status = 200, body = RebuildResponse),
        (status = 202, description = "It goes on.", body = RebuildResponse),
        (status = 409, description = "An index is being built again.", body = Problem,
        content_type = "application/problem+json")))]
async fn rebuild(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
) -> ApiResult<(StatusCode, Json<RebuildResponse>)> {
    let rebuild = search.rebuild(&scope, REBUILD_PATIENCE).await?;
    let status = if rebuild.state == RebuildState::Building { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(rebuild.into())))
}
