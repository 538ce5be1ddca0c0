//! `/api/v1/feature-sets`: features of entities, written as rows and read as of a time.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use edge::audit::Record;
use edge::extract::{Object, time};
use edge::{ApiResult, Body, Caller, Params, Path, check_range};
use futures::{StreamExt, TryStreamExt};
use kernel::{Permission, Timestamp, codes};
use models::features::{Budget, FeatureSet, Found, Kind, Moment, NewRow, ROWS_MAX, RowOutcome, Value};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::ModelRegistry;

/// Reads of one request at once.
const READS_AT_ONCE: usize = 8;

pub(super) fn routes() -> OpenApiRouter<ModelRegistry> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, define))
        .routes(routes!(read, write))
        .routes(routes!(read_many))
        .routes(routes!(forget))
}

/// What a set is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFeatureSet, example = json!({
    "entity_type": "user", "features": {"age": "number", "town": "text"}, "ttl_secs": 86400
}))]
pub struct DefineRequest {
    /// What its entities are; a `user` who is forgotten is forgotten here too.
    #[schema(max_length = 100)]
    entity_type: String,
    /// What each feature is. Features may be added later, none changed or taken away.
    #[schema(schema_with = kinds)]
    features: BTreeMap<String, Kind>,
    /// A value is not believed any more so long after its event time, in seconds.
    #[schema(minimum = 1, maximum = 315_360_000)]
    ttl_secs: u64,
}

fn kinds() -> utoipa::openapi::schema::Object {
    let one = edge::openapi::one_of(&Kind::ALL.map(Kind::name));
    utoipa::openapi::ObjectBuilder::new().additional_properties(Some(one)).build()
}

/// A set of features.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeatureSet)]
pub struct SetResponse {
    name: String,
    entity_type: String,
    /// `number`, `text` or `boolean` of each.
    features: BTreeMap<String, &'static str>,
    ttl_secs: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<FeatureSet> for SetResponse {
    fn from(set: FeatureSet) -> Self {
        let features = set.features.into_iter().map(|(name, kind)| (name, kind.name())).collect();
        let FeatureSet { name, entity_type, ttl_secs, created_at, .. } = set;
        Self { name, entity_type, features, ttl_secs, created_at }
    }
}

/// Feature sets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeatureSets)]
pub struct SetsResponse {
    /// By name.
    feature_sets: Vec<SetResponse>,
}

/// List feature sets.
#[utoipa::path(get, path = "/api/v1/feature-sets", tag = "features", operation_id = "list_feature_sets",
    responses((status = 200, body = SetsResponse)))]
async fn list(State(registry): State<ModelRegistry>, Caller(scope): Caller) -> ApiResult<Json<SetsResponse>> {
    let sets = registry.features.sets(&scope).await?;
    Ok(Json(SetsResponse { feature_sets: sets.into_iter().map(Into::into).collect() }))
}

/// Get a feature set.
#[utoipa::path(get, path = "/api/v1/feature-sets/{name}", tag = "features", operation_id = "get_feature_set",
    params(("name" = String, Path, description = "The feature set.", example = "people")),
    responses((status = 200, body = SetResponse)))]
async fn get(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
) -> ApiResult<Json<SetResponse>> {
    Ok(Json(registry.features.set(&scope, &name).await?.into()))
}

/// Make a feature set, or change it.
#[utoipa::path(put, path = "/api/v1/feature-sets/{name}", tag = "features", operation_id = "put_feature_set",
    params(("name" = String, Path, description = "The feature set.", example = "people")),
    request_body = DefineRequest,
    responses((status = 200, body = SetResponse)))]
async fn define(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(asked): Body<DefineRequest>,
) -> ApiResult<Json<SetResponse>> {
    let DefineRequest { entity_type, features, ttl_secs } = asked;
    let set = FeatureSet { name, entity_type, features, ttl_secs, created_at: Timestamp::UNIX_EPOCH };
    Ok(Json(registry.features.define(&scope, set).await?.into()))
}

/// What an entity's features are from a time on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFeatureRow)]
pub struct RowRequest {
    /// The entity's id.
    entity: String,
    /// From when on.
    #[schema(value_type = String, format = DateTime)]
    event_time: Timestamp,
    /// By feature; those that are not named stay as they were.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    values: BTreeMap<String, Value>,
}

/// Rows of features.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFeatureRows, example = json!({"rows": [
    {"entity": "ada", "event_time": "2026-01-31T12:00:00Z", "values": {"age": 30, "town": "Ulm"}}
]}))]
pub struct WriteRequest {
    #[schema(value_type = Vec<RowRequest>, min_items = 1, max_items = 1_000)]
    rows: Vec<Object<RowRequest>>,
}

/// What became of a row.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeatureRowOutcome)]
pub struct OutcomeResponse {
    entity: String,
    #[schema(value_type = String, format = DateTime)]
    event_time: Timestamp,
    /// `stored`; `duplicate` where the same is kept; `conflict` where another is, which stands; `refused`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// What became of rows, in their order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeatureRowOutcomes)]
pub struct OutcomesResponse {
    outcomes: Vec<OutcomeResponse>,
}

fn told(row: NewRow, outcome: RowOutcome) -> OutcomeResponse {
    let (outcome, reason) = match outcome {
        RowOutcome::Stored => ("stored", None),
        RowOutcome::Duplicate => ("duplicate", None),
        RowOutcome::Conflict => {
            ("conflict", Some("another row of this entity and time is kept, and stands".to_owned()))
        }
        RowOutcome::Refused(reason) => ("refused", Some(reason)),
    };
    OutcomeResponse { entity: row.entity, event_time: row.event_time, outcome, reason }
}

/// Write rows of features. The same rows may be sent again.
#[utoipa::path(post, path = "/api/v1/feature-sets/{name}/features", tag = "features", operation_id = "write_features",
    params(("name" = String, Path, description = "The feature set.", example = "people")),
    request_body = WriteRequest,
    responses((status = 200, body = OutcomesResponse)))]
async fn write(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(asked): Body<WriteRequest>,
) -> ApiResult<Json<OutcomesResponse>> {
    scope.require(Permission::Write)?;
    check_range(asked.rows.len(), 1, ROWS_MAX, "rows")?;
    let row = |Object(row): Object<RowRequest>| {
        let RowRequest { entity, event_time, values } = row;
        NewRow { entity, event_time, values }
    };
    let rows: Vec<NewRow> = asked.rows.into_iter().map(row).collect();
    let outcomes = registry.features.write(&scope, &name, &rows).await?;
    let outcomes = rows.into_iter().zip(outcomes).map(|(row, outcome)| told(row, outcome)).collect();
    Ok(Json(OutcomesResponse { outcomes }))
}

/// Whose features, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadParams {
    /// The entity's id.
    #[param(example = "ada")]
    entity: String,
    /// As of when; now where missing.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
    /// Leave out what was written later than this, by the clocks of the servers.
    #[serde(default, deserialize_with = "time")]
    #[param(value_type = Option<String>, format = DateTime)]
    written_by: Option<Timestamp>,
    /// The features, with commas between; all of the set where missing.
    #[param(example = "age")]
    features: Option<String>,
}

/// A value, and since when it is so.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FeatureValue)]
pub struct ValueResponse {
    #[schema(value_type = serde_json::Value)]
    value: Value,
    #[schema(value_type = String, format = DateTime)]
    event_time: Timestamp,
}

/// What is known of an entity.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EntityFeatures)]
pub struct FoundResponse {
    entity: String,
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
    /// By feature.
    values: BTreeMap<String, ValueResponse>,
    /// Features of which nothing is known that is young enough.
    missing: Vec<String>,
    /// Why this row was not read, where too many rows would have to be looked through; then nothing is told of its features.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl From<Found> for FoundResponse {
    fn from(found: Found) -> Self {
        let Found { entity, as_of, values, missing } = found;
        let values = values
            .into_iter()
            .map(|(name, known)| (name, ValueResponse { value: known.value, event_time: known.event_time }));
        Self { entity, as_of, values: values.collect(), missing, fault: None }
    }
}

/// Read the features of an entity as of a time.
#[utoipa::path(get, path = "/api/v1/feature-sets/{name}/features", tag = "features", operation_id = "read_features",
    params(("name" = String, Path, description = "The feature set.", example = "people"), ReadParams),
    responses((status = 200, body = FoundResponse)))]
async fn read(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Params(params): Params<ReadParams>,
) -> ApiResult<Json<FoundResponse>> {
    let set = registry.features.set(&scope, &name).await?;
    let wanted = params.features.iter().flat_map(|names| names.split(',')).map(str::to_owned).collect();
    let ReadParams { entity, as_of, written_by, .. } = params;
    let moment = Moment { entity, as_of, written_by };
    Ok(Json(registry.features.read(&scope, &set, &wanted, &moment, &Budget::default()).await?.into()))
}

/// Whose features, and when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FeatureMoment)]
pub struct MomentRequest {
    /// The entity's id.
    entity: String,
    /// As of when; now where missing.
    #[schema(value_type = Option<String>, format = DateTime)]
    as_of: Option<Timestamp>,
}

/// Which features of whom, each as of its time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FeatureMoments, example = json!({"rows": [{"entity": "ada", "as_of": "2026-01-31T12:00:00Z"}]}))]
pub struct ReadManyRequest {
    #[schema(value_type = Vec<MomentRequest>, min_items = 1, max_items = 1_000)]
    rows: Vec<Object<MomentRequest>>,
    /// The features; all of the set where missing.
    #[serde(default)]
    features: BTreeSet<String>,
    /// Leave out what was written later than this.
    #[schema(value_type = Option<String>, format = DateTime)]
    written_by: Option<Timestamp>,
}

/// What is known, in the order of the question.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EntityFeaturesList)]
pub struct FoundManyResponse {
    rows: Vec<FoundResponse>,
}

/// Read the features of many entities, each as of its time: the rows of a training. A request looks through a bounded number
/// of kept rows; those of the question that are beyond have a `fault`, and are to be asked again with fewer at once.
#[utoipa::path(post, path = "/api/v1/feature-sets/{name}/features/read", tag = "features",
    operation_id = "read_features_of_many",
    params(("name" = String, Path, description = "The feature set.", example = "people")),
    request_body = ReadManyRequest,
    responses((status = 200, body = FoundManyResponse)))]
async fn read_many(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(asked): Body<ReadManyRequest>,
) -> ApiResult<Json<FoundManyResponse>> {
    check_range(asked.rows.len(), 1, ROWS_MAX, "rows")?;
    let set = registry.features.set(&scope, &name).await?;
    let (features, wanted, written_by) = (&registry.features, &asked.features, asked.written_by);
    let (set, scope, budget, now) = (&set, &scope, &Budget::default(), registry.features.now());
    let reads = asked.rows.into_iter().enumerate().map(|(number, Object(row))| async move {
        let as_of = row.as_of.unwrap_or(now);
        let moment = Moment { entity: row.entity, as_of: Some(as_of), written_by };
        match features.read(scope, set, wanted, &moment, budget).await {
            Ok(found) => Ok(found.into()),
            Err(error) if error.code() == codes::TOO_LARGE => {
                let (entity, fault) = (moment.entity, Some(error.message().to_owned()));
                Ok(FoundResponse { entity, as_of, values: BTreeMap::new(), missing: Vec::new(), fault })
            }
            Err(error) if error.field() == Some("entity") => {
                Err(error.with_field(format!("rows[{number}].entity")))
            }
            Err(error) => Err(error),
        }
    });
    let rows = futures::stream::iter(reads).buffered(READS_AT_ONCE).try_collect::<Vec<_>>().await?;
    Ok(Json(FoundManyResponse { rows }))
}

/// What was forgotten.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ForgottenFeatures)]
pub struct ForgottenResponse {
    rows: u64,
}

/// Forget every row of an entity.
#[utoipa::path(delete, path = "/api/v1/feature-sets/{name}/entities/{entity}", tag = "features",
    operation_id = "delete_features",
    params(("name" = String, Path, description = "The feature set.", example = "people"),
        ("entity" = String, Path, description = "The entity's id.", example = "ada")),
    responses((status = 200, body = ForgottenResponse)))]
async fn forget(
    State(registry): State<ModelRegistry>,
    Caller(scope): Caller,
    Path((name, entity)): Path<(String, String)>,
) -> ApiResult<Json<ForgottenResponse>> {
    scope.require(Permission::Admin)?;
    let rows = registry.features.count(&scope, &name, &entity).await?;
    // Before it is done, and without the entity: it may be a person.
    let details = BTreeMap::from([("rows".to_owned(), rows.to_string())]);
    let record = Record { action: "features.forgotten".to_owned(), subject: name.clone(), details };
    registry.audit.append(&scope, record).await?;
    Ok(Json(ForgottenResponse { rows: registry.features.forget(&scope, &name, &entity).await? }))
}
