//! `/api/v1/recommendations/...`: for a user, for a session, like an entity, bought together, like a user, and
//! the lists that are the same for everyone.

mod arms;
mod text;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use edge::extract::Object;
use edge::{ApiResult, Body, Caller, Params, Path, check_range};
use kernel::{Error, Id, Permission, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Deserializer};
use tracing::{Instrument, debug_span};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::entities::{find, name_of};
use super::interactions::type_meant;
use super::parameters::{parsed, refuse, share, split};
use super::{HttpState, check_tenant};
use crate::events::{InteractionData, InteractionKind, as_sent, kinds};
use crate::service::cache::{About, Place};
use crate::service::expression;
use crate::service::{
    Algorithm, Answer, Cursor, Pin, Query, Returned, Service, SessionEntry, Shown, SimilarUsers,
};

/// Interactions in one session request.
const MAX_SESSION: usize = 1_000;
/// Ids in `exclude`.
const MAX_EXCLUDED: usize = 1_000;
/// Boosters in one request.
const MAX_BOOSTS: usize = 8;
/// As `result_type`: of every type.
const EVERY_TYPE: &str = "*";
/// How far a cursor goes.
const MAX_DEPTH: usize = 10_000;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(for_user))
        .routes(routes!(for_session))
        .routes(routes!(similar_entities))
        .routes(routes!(bought_together))
        .routes(routes!(similar_users))
        .routes(routes!(trending))
        .routes(routes!(popular))
        .routes(routes!(latest))
}

/// What to recommend, and how.
#[derive(Debug, Clone, Default, Hash, Deserialize, IntoParams, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
#[schema(as = RecommendOptions)]
pub struct RecommendParams {
    /// How many, 1 to 100; 10 where missing.
    #[serde(deserialize_with = "number")]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 100, example = 5)]
    #[schema(value_type = Option<usize>, minimum = 1, maximum = 100)]
    count: Option<String>,
    /// `hybrid` (where missing), `collaborative`, `content_based`, `sequence`, `trending`, `popular` or `latest`.
    #[param(value_type = Option<Algorithm>)]
    #[schema(value_type = Option<Algorithm>)]
    algorithm: Option<String>,
    /// The share of collaborative sources in a hybrid, in place of the learned blend. Refused with any other algorithm.
    #[serde(deserialize_with = "number")]
    #[param(value_type = Option<f32>, minimum = 0, maximum = 1)]
    #[schema(value_type = Option<f32>, minimum = 0, maximum = 1)]
    collaborative_weight: Option<String>,
    /// The share of content in a hybrid. Refused with any other algorithm.
    #[serde(deserialize_with = "number")]
    #[param(value_type = Option<f32>, minimum = 0, maximum = 1)]
    #[schema(value_type = Option<f32>, minimum = 0, maximum = 1)]
    content_weight: Option<String>,
    /// Only entities of this type. Where the address names an entity: the type of that one, which may be left out where
    /// only one type has an entity of that id; what is recommended is then for `result_type` to say.
    #[param(example = "film")]
    entity_type: Option<String>,
    // Only of the questions about an entity, which document it.
    #[param(ignore)]
    #[schema(ignore)]
    result_type: Option<String>,
    /// Only entities of which this CEL expression is true. It sees `id`, `type` and `attributes`.
    #[param(example = "attributes.year >= 1990")]
    filter: Option<String>,
    /// Only entities that search finds for this text, of the best 100 items of its index. What it says counts too: it
    /// raises the odds of the one in place k 101/k-fold. What the algorithm knows nothing of comes behind, by search alone, but
    /// not of what is like an entity or bought with it. Needs a server that searches.
    #[param(min_length = 1, max_length = 4096)]
    #[schema(min_length = 1, max_length = 4096)]
    query: Option<String>,
    /// CEL expressions for the factor by which an entity's odds grow, separated by `;` outside of strings. A factor below
    /// one millionth counts as one millionth, zero and what is below zero too, and one above a million as a million; where
    /// an expression gives no number, or NaN, or an infinite one, its factor is 1.
    #[param(example = "attributes.year >= 2000 ? 1.5 : 1.0")]
    boost: Option<String>,
    /// Leave out what the user or the session touched already; true where missing. Refused where nobody in particular asks.
    #[serde(deserialize_with = "flag")]
    #[param(value_type = Option<bool>)]
    #[schema(value_type = Option<bool>)]
    exclude_seen: Option<String>,
    /// Ids to leave out, separated by commas.
    #[param(example = "film-7,film-8")]
    exclude: Option<String>,
    /// How much variety counts against score, 0 to 1. Refused with `trending`, `popular` and `latest`, and for what is
    /// bought together.
    #[serde(deserialize_with = "number")]
    #[param(value_type = Option<f32>, minimum = 0, maximum = 1)]
    #[schema(value_type = Option<f32>, minimum = 0, maximum = 1)]
    diversity: Option<String>,
    /// Attributes to return: names separated by commas, or `*`.
    #[param(example = "title,price")]
    attributes: Option<String>,
    /// Tell what each score is made of.
    #[serde(deserialize_with = "flag")]
    #[param(value_type = Option<bool>, example = true)]
    #[schema(value_type = Option<bool>)]
    explain: Option<String>,
    /// The window of `trending`, 1 to 31 days. Refused with any other algorithm.
    #[serde(deserialize_with = "number")]
    #[param(value_type = Option<usize>, minimum = 1, maximum = 31)]
    #[schema(value_type = Option<usize>, minimum = 1, maximum = 31)]
    window_days: Option<String>,
    /// Where an earlier page ended. Whatever changes in between, the last 1,000 results are not repeated, and nothing is
    /// passed over because something else moved.
    cursor: Option<String>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// Takes a number as a number (in a body) or as text (in a query).
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a number")]
    enum Wire {
        Text(String),
        Number(serde_json::Number),
    }
    Ok(Option::<Wire>::deserialize(deserializer)?.map(|wire| match wire {
        Wire::Text(text) => text,
        Wire::Number(number) => number.to_string(),
    }))
}

/// Takes true or false as such (in a body) or as text (in a query).
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be true or false")]
    enum Wire {
        Text(String),
        Flag(bool),
    }
    Ok(Option::<Wire>::deserialize(deserializer)?.map(|wire| match wire {
        Wire::Text(text) => text,
        Wire::Flag(flag) => flag.to_string(),
    }))
}

/// What someone did just now, whoever they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "interactions": [
        {"entity_id": "film-1", "entity_type": "film", "interaction_type": "view"},
        {"entity_id": "film-2", "entity_type": "film", "interaction_type": "like"}
    ],
    "options": {"count": 5}
}))]
pub struct SessionRequest {
    /// Oldest first, up to 1,000. Nothing of it is kept; what would be refused as an interaction is refused here.
    #[schema(max_items = 1_000)]
    #[schema(value_type = Vec<SessionInteraction>)]
    interactions: Vec<Object<SessionInteraction>>,
    /// What to recommend, and how.
    #[serde(default)]
    #[schema(value_type = RecommendParams)]
    options: Object<RecommendParams>,
}

/// One thing that someone did.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionInteraction {
    /// With what.
    #[schema(value_type = String)]
    entity_id: Id,
    /// Its type; where missing, that of the one entity with this id.
    entity_type: Option<String>,
    /// What they did; `view` where missing.
    #[serde(default = "default_interaction_type")]
    #[schema(value_type = InteractionKind)]
    interaction_type: InteractionKind,
    /// In place of the type's weight.
    #[schema(minimum = -1_000_000, maximum = 1_000_000)]
    weight: Option<f64>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    timestamp: Option<Timestamp>,
}

impl SessionInteraction {
    /// What it says, where the same would be taken as an event.
    fn entry(self, state: &HttpState, scope: &Scope) -> Result<SessionEntry> {
        let entity_type = type_meant(&state.views.of(scope).read(), self.entity_type, &self.entity_id)?;
        let data = InteractionData {
            user_id: Id::new("session")?,
            entity_id: self.entity_id,
            entity_type,
            interaction_type: self.interaction_type,
            weight: self.weight,
            answer_id: None,
            metadata: BTreeMap::new(),
        };
        let writer = &state.writer;
        let kind = kinds::INTERACTION_RECORDED;
        let mut event = writer.event(scope, kind, String::new(), self.timestamp, &data)?;
        writer.ingest().check(scope, &mut event).map_err(as_sent)?;
        Ok(SessionEntry {
            entity_id: data.entity_id.to_string(),
            entity_type: data.entity_type,
            kind: data.interaction_type,
            weight: data.weight,
            time: self.timestamp,
        })
    }
}

fn default_interaction_type() -> InteractionKind {
    InteractionKind::Named("view".to_owned())
}

/// Recommend entities for a user.
#[utoipa::path(get, path = "/api/v1/recommendations/user/{id}", tag = "recommendations",
        operation_id = "recommend_for_user",
    params(("id" = String, Path, description = "The id of the user.", example = "ada"), RecommendParams),
    responses((status = 200, body = Answer)))]
async fn for_user(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<RecommendParams>,
) -> ApiResult<Response> {
    let user_id = super::users::user_id(&id)?;
    scope.require(Permission::Read)?;
    let about = ("user", &id);
    let (params, assigned) = params.in_canary(&state, &scope, &id, &about);
    let is_first_page = params.cursor.is_none();
    let (query, pin) = params.read(&state, &scope, &about)?;
    let arm = assigned.as_ref().and_then(|assigned| assigned.canary.as_ref());
    let place =
        state.service.place(&scope, About::User(&id), query.algorithm, || params.named(&(about, arm)));
    let canaries = Arc::clone(&state.canaries);
    let asked = Asked { state: &state, scope: scope.clone(), place };
    let question = move |service: &Service, query: &Query| {
        let make = || service.for_user(&scope, &id, query, pin);
        canaries.observe(&scope, &user_id, assigned.as_ref(), is_first_page, make)
    };
    asked.answer(query, question).await
}

/// Recommend entities for what someone did just now.
#[utoipa::path(post, path = "/api/v1/recommendations/session", tag = "recommendations",
        operation_id = "recommend_for_session",
    request_body = SessionRequest,
    responses((status = 200, body = Answer)))]
async fn for_session(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Body(request): Body<SessionRequest>,
) -> ApiResult<Response> {
    scope.require(Permission::Read)?;
    check_range(request.interactions.len(), 0, MAX_SESSION, "interactions")?;
    let interactions = request.interactions.into_iter().enumerate();
    let entry = |(index, Object(interaction)): (usize, Object<SessionInteraction>)| {
        interaction.entry(&state, &scope).map_err(|error| match error.field().map(str::to_owned) {
            Some(field) => error.with_field(format!("interactions.{index}.{field}")),
            None => error,
        })
    };
    let session: Vec<_> = interactions.map(entry).collect::<Result<_>>()?;
    // The debug form has all of an interaction: another session has another list.
    let subject = ("session", format!("{session:?}"));
    let (query, pin) = request.options.0.read(&state, &scope, &subject)?;
    let asked = Asked { state: &state, scope: scope.clone(), place: None };
    asked.answer(query, move |service, query| service.for_session(&scope, &session, query, pin)).await
}

/// Recommend entities like one.
#[utoipa::path(get, path = "/api/v1/recommendations/entity/{id}", tag = "recommendations",
         operation_id = "recommend_similar_entities",
    params(("id" = String, Path, description = "The id of the entity.", example = "film-1"), RecommendParams, ("result_type" = Option<String>, Query,
        description = "Only entities of this type, `*` for every type; of the type of the entity itself where missing.")),
    responses((status = 200, body = Answer)))]
async fn similar_entities(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<RecommendParams>,
) -> ApiResult<Response> {
    let (entity, own_type) = subject(&state, &scope, &params, &id)?;
    let params = params.about_entity(Some(&own_type));
    let about = ("entity", own_type, &id);
    let (query, pin) = params.read(&state, &scope, &about)?;
    let place = state.service.place(&scope, About::Entity, query.algorithm, || params.named(&about));
    let asked = Asked { state: &state, scope: scope.clone(), place };
    asked.answer(query, move |service, query| service.similar_entities(&scope, entity, query, pin)).await
}

/// Recommend entities that are bought together with one.
#[utoipa::path(get, path = "/api/v1/recommendations/bought-together/{id}", tag = "recommendations",
         operation_id = "recommend_bought_together",
    params(("id" = String, Path, description = "The id of the entity.", example = "film-1"), RecommendParams, ("result_type" = Option<String>, Query,
        description = "Only entities of this type; of every type where missing or `*`.")),
    responses((status = 200, body = Answer)))]
async fn bought_together(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<RecommendParams>,
) -> ApiResult<Response> {
    let (entity, own_type) = subject(&state, &scope, &params, &id)?;
    let choices = [
        ("algorithm", &params.algorithm),
        ("collaborative_weight", &params.collaborative_weight),
        ("content_weight", &params.content_weight),
        ("diversity", &params.diversity),
    ];
    refuse(&choices, "there is one way to tell what is bought together; leave it out")?;
    let params = params.about_entity(None);
    let about = ("bought together", own_type, &id);
    let (query, pin) = params.read(&state, &scope, &about)?;
    let place = state.service.place(&scope, About::Entity, query.algorithm, || params.named(&about));
    let asked = Asked { state: &state, scope: scope.clone(), place };
    asked.answer(query, move |service, query| service.bought_together(&scope, entity, query, pin)).await
}

/// The entity that a question is about, and its type.
fn subject(state: &HttpState, scope: &Scope, params: &RecommendParams, id: &str) -> Result<(u32, String)> {
    scope.require(Permission::Read)?;
    check_tenant(scope, params.tenant_id.as_deref())?;
    params.check_nobody()?;
    let entity = find(state, scope, params.entity_type.as_deref(), id)?;
    Ok((entity, name_of(state, scope, entity)?.entity_type))
}

/// How many users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SimilarUserParams {
    /// How many, 1 to 100.
    #[serde(default = "default_count")]
    #[param(minimum = 1, maximum = 100, example = 5)]
    count: usize,
}

fn default_count() -> usize {
    10
}

/// Find users who are like one.
#[utoipa::path(get, path = "/api/v1/recommendations/similar-users/{id}", tag = "recommendations",
        operation_id = "find_similar_users",
    params(("id" = String, Path, description = "The id of the user.", example = "ada"), SimilarUserParams),
    responses((status = 200, body = SimilarUsers)))]
async fn similar_users(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(id): Path<String>,
    Params(params): Params<SimilarUserParams>,
) -> ApiResult<Json<SimilarUsers>> {
    scope.require(Permission::Read)?;
    check_range(params.count, 1, 100, "count")?;
    Ok(Json(state.service.similar_users(&scope, &id, params.count)?))
}

/// What many choose lately.
#[utoipa::path(get, path = "/api/v1/recommendations/trending", tag = "recommendations",
        operation_id = "recommend_trending",
    params(RecommendParams),
    responses((status = 200, body = Answer)))]
async fn trending(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<RecommendParams>,
) -> ApiResult<Response> {
    list(&state, scope, params, Algorithm::Trending).await
}

/// What many chose.
#[utoipa::path(get, path = "/api/v1/recommendations/popular", tag = "recommendations",
        operation_id = "recommend_popular",
    params(RecommendParams),
    responses((status = 200, body = Answer)))]
async fn popular(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<RecommendParams>,
) -> ApiResult<Response> {
    list(&state, scope, params, Algorithm::Popular).await
}

/// What is new.
#[utoipa::path(get, path = "/api/v1/recommendations/latest", tag = "recommendations",
        operation_id = "recommend_latest",
    params(RecommendParams),
    responses((status = 200, body = Answer)))]
async fn latest(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Params(params): Params<RecommendParams>,
) -> ApiResult<Response> {
    list(&state, scope, params, Algorithm::Latest).await
}

async fn list(
    state: &HttpState,
    scope: Scope,
    mut params: RecommendParams,
    algorithm: Algorithm,
) -> ApiResult<Response> {
    if params.algorithm.as_deref().is_some_and(|name| name != algorithm.name()) {
        let message = "is in the address already; leave it out";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("algorithm").into());
    }
    params.check_nobody()?;
    params.algorithm = Some(algorithm.name().to_owned());
    let (query, pin) = params.read(state, &scope, &algorithm.name())?;
    let place = state.service.place(&scope, About::Everyone, algorithm, || params.named(&algorithm.name()));
    let asked = Asked { state, scope: scope.clone(), place };
    asked.answer(query, move |service, query| service.list(&scope, query, pin)).await
}

/// Who asks, and where the answer is kept.
struct Asked<'a> {
    state: &'a HttpState,
    scope: Scope,
    place: Option<Place>,
}

impl Asked<'_> {
    /// The answer, as it was kept or made now.
    async fn answer(
        self,
        query: Query,
        question: impl FnOnce(&Service, &Query) -> Result<Answer> + Send + 'static,
    ) -> ApiResult<Response> {
        // What a text finds changes with the index, which no kept answer knows of.
        let place = self.place.filter(|_| query.text.is_none());
        let query = text::find(self.state, &self.scope, query).await?;
        let making = make(Arc::clone(&self.state.service), query, question);
        let making = making.instrument(debug_span!("recommend.answer"));
        let service = &self.state.service;
        let Some((cache, place)) = service.cache().zip(place) else {
            return Ok(Json(making.await?).into_response());
        };
        let text = cache.answer(service, &self.scope, place, making).await?;
        Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
    }
}

/// Makes the answer; beside the workers where it has expressions, which take long enough to hold up others.
async fn make(
    service: Arc<Service>,
    query: Query,
    question: impl FnOnce(&Service, &Query) -> Result<Answer> + Send + 'static,
) -> Result<Answer> {
    let is_slow = query.has_expressions();
    let work = move || question(&service, &query);
    if is_slow { tokio::task::spawn_blocking(work).await.map_err(Error::internal)? } else { work() }
}

impl RecommendParams {
    /// The same for a question about an entity, where `entity_type` has said which one: from here on it is the type of
    /// the results, `default_type` unless `result_type` says otherwise.
    fn about_entity(mut self, default_type: Option<&str>) -> Self {
        self.entity_type = match self.result_type.take() {
            Some(wanted) => Some(wanted).filter(|wanted| wanted != EVERY_TYPE),
            None => default_type.map(str::to_owned),
        };
        self
    }

    /// The checked query, and the list that a cursor goes on with. `subject` is what the list is about.
    fn read(&self, state: &HttpState, scope: &Scope, subject: &impl Hash) -> Result<(Query, Option<Pin>)> {
        scope.require(Permission::Read)?;
        check_tenant(scope, self.tenant_id.as_deref())?;
        if self.result_type.is_some() {
            let message = "is for questions about an entity; use entity_type";
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("result_type"));
        }
        let algorithm = self.algorithm.as_deref().map(Algorithm::of).transpose()?.unwrap_or_default();
        let settings = state.service.settings();
        let count = parsed(self.count.as_deref(), "count")?.unwrap_or(settings.default_count);
        check_range(count, 1, settings.max_count, "count")?;
        self.check_algorithm(algorithm)?;
        let window_days = parsed(self.window_days.as_deref(), "window_days")?;
        check_range(window_days.unwrap_or(1), 1, 31, "window_days")?;
        let exclude: Vec<String> = split(self.exclude.as_deref(), ',').map(str::to_owned).collect();
        check_range(exclude.len(), 0, MAX_EXCLUDED, "exclude")?;
        let compile = |text: &str, field| state.service.expressions().compile(text, field);
        let boosts = expression::split(self.boost.as_deref().unwrap_or_default(), ';');
        check_range(boosts.len(), 0, MAX_BOOSTS, "boost")?;
        let boosts = boosts.into_iter().map(|text| compile(text, "boost")).collect::<Result<_>>()?;
        let fingerprint = self.fingerprint(scope, subject);
        let cursor = self.cursor.as_deref().map(|text| Cursor::decode(text, fingerprint)).transpose()?;
        let (pin, shown) = cursor.map(|found| (found.pin, found.shown)).unzip();
        let shown: Shown = shown.unwrap_or_default();
        check_range(shown.count(), 0, MAX_DEPTH, "cursor")?;
        let query = Query {
            count,
            algorithm,
            weights: self.weights(algorithm)?,
            entity_type: self.entity_type.clone(),
            filter: self.filter.as_deref().map(|text| compile(text, "filter")).transpose()?,
            boosts,
            text: self.text(state)?,
            candidates: None,
            include_seen: !parsed(self.exclude_seen.as_deref(), "exclude_seen")?.unwrap_or(true),
            exclude,
            diversity: share(self.diversity.as_deref(), "diversity")?.unwrap_or(0.0),
            shown,
            returned: match self.attributes.as_deref() {
                None => Returned::Nothing,
                Some("*") => Returned::All,
                names => Returned::Named(split(names, ',').map(str::to_owned).collect()),
            },
            explain: parsed(self.explain.as_deref(), "explain")?.unwrap_or(false),
            window_days,
            alone: false,
            fingerprint,
        };
        Ok((query, pin))
    }

    /// The subject and every parameter, in words.
    fn named(&self, subject: &impl Debug) -> String {
        format!("{subject:?} {self:?}")
    }

    /// Refuses what would do nothing with this algorithm.
    fn check_algorithm(&self, algorithm: Algorithm) -> Result<()> {
        let name = algorithm.name();
        if algorithm != Algorithm::Trending {
            refuse(
                &[("window_days", &self.window_days)],
                &format!("is of trending; `{name}` has no window"),
            )?;
        }
        if !algorithm.is_personal() {
            refuse(&[("diversity", &self.diversity)], &format!("needs a model; `{name}` has none"))?;
        }
        Ok(())
    }

    /// Refuses what would do nothing where nobody in particular asks.
    fn check_nobody(&self) -> Result<()> {
        refuse(
            &[("exclude_seen", &self.exclude_seen)],
            "is for a user or a session; here nothing has been seen",
        )
    }

    fn weights(&self, algorithm: Algorithm) -> Result<Option<(f32, f32)>> {
        let given =
            [("collaborative_weight", &self.collaborative_weight), ("content_weight", &self.content_weight)];
        if algorithm != Algorithm::Hybrid {
            refuse(&given, &format!("is a share of a hybrid; `{}` has none", algorithm.name()))?;
        }
        let collaborative = share(self.collaborative_weight.as_deref(), "collaborative_weight")?;
        let content = share(self.content_weight.as_deref(), "content_weight")?;
        match (collaborative, content) {
            (None, None) => Ok(None),
            (Some(collaborative), None) => Ok(Some((collaborative, 1.0 - collaborative))),
            (None, Some(content)) => Ok(Some((1.0 - content, content))),
            (Some(collaborative), Some(content)) if (collaborative + content - 1.0).abs() < 1e-3 => {
                Ok(Some((collaborative, content)))
            }
            _ => Err(Error::new(codes::VALIDATION_ERROR, "must make 1 with collaborative_weight")
                .with_field("content_weight")),
        }
    }

    fn fingerprint(&self, scope: &Scope, subject: &impl Hash) -> u64 {
        // `DefaultHasher::new` has fixed keys: two replicas of one build agree.
        let mut hasher = DefaultHasher::new();
        (scope.tenant().as_str(), subject).hash(&mut hasher);
        Self { cursor: None, count: None, ..self.clone() }.hash(&mut hasher);
        hasher.finish()
    }
}
