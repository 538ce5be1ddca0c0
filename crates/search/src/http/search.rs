//! `POST /api/v1/search`, also as `POST /search`: what is found for a query.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::post;
use edge::{ApiResult, Body, Caller, Params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::check_tenant;
use crate::algorithms::fusion::Fusion;
use crate::index::{Filter, TermShare};
use crate::items::{attribute, check_tag, invalid};
use crate::questions::{Answer, Explanation, Question, SearchResult};
use crate::service::Search;

/// Tags, types and attributes of one filter, at most.
const WANTED_MAX: usize = 50;

pub(super) fn routes() -> OpenApiRouter<Arc<Search>> {
    OpenApiRouter::new().routes(routes!(search)).route("/search", post(search))
}

/// Whose items.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchParams {
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
}

/// What is looked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SearchRequest, example = json!({
    "query": "curve steepening", "filters": {"tags": ["rates"]}, "limit": 5, "highlight": true
}))]
pub struct SearchRequest {
    /// In the words of who looks, 1 to 4,096 bytes.
    #[schema(min_length = 1, max_length = 4096)]
    query: String,
    /// Whether meaning counts too, and not words alone; true where missing.
    #[serde(default = "yes")]
    semantic: bool,
    /// What may be found.
    #[serde(default)]
    filters: Filters,
    /// Results at most, 1 to 100.
    #[serde(default = "ten")]
    #[schema(minimum = 1, maximum = 100)]
    limit: usize,
    /// The least cosine of what is found by meaning, -1 to 1.
    #[serde(default)]
    #[schema(minimum = -1, maximum = 1)]
    similarity_threshold: f32,
    /// How rankings by words and by meaning become one; the server's way where missing.
    fusion: Option<Fusion>,
    /// How many of the best a cross-encoder reads together with the query and puts in its own order, from `limit` to 100. It
    /// takes time for each. Needs `search.rerank_model_path`.
    #[schema(minimum = 1, maximum = 100)]
    rerank: Option<usize>,
    /// Whether words that no text has are taken for mistyped; true where missing.
    #[serde(default = "yes")]
    typo_tolerance: bool,
    /// Whether to count the types and tags of what has a word of the query.
    #[serde(default)]
    facets: bool,
    /// Whether results have their text; true where missing.
    #[serde(default = "yes")]
    include_text: bool,
    /// Whether to show a piece of each text, or all of a short one, with what was found marked by `<em>`; the rest of it is
    /// escaped for HTML.
    #[serde(default)]
    highlight: bool,
    /// Whether to tell where each score comes from.
    #[serde(default)]
    explain: bool,
}

fn yes() -> bool {
    true
}

fn ten() -> usize {
    10
}

/// One type, or any of several.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = SearchTypes)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What an item must have to be found.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SearchFilters)]
pub struct Filters {
    /// This type, or one of these.
    #[serde(rename = "type")]
    kind: Option<OneOrMany>,
    /// Must be the credential's tenant where given.
    tenant_id: Option<String>,
    /// Every one of these tags.
    #[serde(default)]
    #[schema(max_items = 50)]
    tags: Vec<String>,
    /// Every one of these attributes: strings, numbers and booleans.
    #[serde(default)]
    metadata: Map<String, Value>,
}

impl Filters {
    fn read(self) -> kernel::Result<Filter> {
        let types = match self.kind {
            None => Vec::new(),
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
        };
        if types.len() + self.tags.len() + self.metadata.len() > WANTED_MAX {
            return Err(invalid("filters", format!("ask for at most {WANTED_MAX} things at once")));
        }
        types.iter().try_for_each(|kind| check_tag("filters.type", kind))?;
        self.tags.iter().try_for_each(|tag| check_tag("filters.tags", tag))?;
        let read = |(name, value): (&String, &Value)| {
            let message = "can be asked for as a string, a number or a boolean";
            attribute(name, value).ok_or_else(|| invalid(&format!("filters.metadata.{name}"), message))
        };
        let attributes = self.metadata.iter().map(read).collect::<kernel::Result<_>>()?;
        Ok(Filter { types, tags: self.tags, attributes })
    }
}

/// What a word adds to the score by words.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchWord)]
pub struct WordResponse {
    /// The terms of the text that stand for the word.
    terms: Vec<String>,
    /// How often they come, weighted.
    frequency: f32,
    /// How many texts have the commonest of them.
    documents: u64,
    /// How much the word tells.
    inverse_document_frequency: f32,
    /// How many terms the text has, rounded if it is long.
    length: u32,
    /// What it adds.
    score: f32,
}

impl From<TermShare> for WordResponse {
    fn from(share: TermShare) -> Self {
        let TermShare { terms, frequency, documents, inverse_document_frequency, length, score } = share;
        Self { terms, frequency, documents, inverse_document_frequency, length, score }
    }
}

/// Where a score comes from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchExplanation)]
pub struct ExplanationResponse {
    /// What words gave of the score.
    lexical: Option<f64>,
    /// What meaning gave of the score.
    semantic: Option<f64>,
    /// The BM25 score.
    bm25: Option<f32>,
    /// The cosine to the query.
    cosine: Option<f32>,
    /// What the cross-encoder says, where `rerank` asked it: then it is the score, and the rest says how the candidate was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    rerank: Option<f32>,
    /// What each word adds to the BM25 score.
    words: Vec<WordResponse>,
}

impl From<Explanation> for ExplanationResponse {
    fn from(explanation: Explanation) -> Self {
        let Explanation { lexical, semantic, bm25, cosine, rerank, words } = explanation;
        let words = words.into_iter().map(WordResponse::from).collect();
        Self { lexical, semantic, bm25, cosine, rerank, words }
    }
}

/// One result.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchResult)]
pub struct ResultResponse {
    entity_type: String,
    entity_id: String,
    /// Higher is better.
    score: f64,
    metadata: Map<String, Value>,
    tags: Vec<String>,
    /// Missing where `include_text` is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// A piece of the text, escaped, with what was found in `<em>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    highlight: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ExplanationResponse>,
}

impl ResultResponse {
    fn of(result: SearchResult, has_text: bool) -> Self {
        let SearchResult { item, score, highlight, explanation } = result;
        Self {
            entity_type: item.entity_type.to_string(),
            entity_id: item.entity_id.to_string(),
            score,
            metadata: item.metadata,
            tags: item.tags.into_iter().collect(),
            text: has_text.then_some(item.text),
            highlight,
            explanation: explanation.map(ExplanationResponse::from),
        }
    }
}

/// How many of what has a word of the query.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchFacets)]
pub struct FacetsResponse {
    types: BTreeMap<String, u64>,
    tags: BTreeMap<String, u64>,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SearchResponse)]
pub struct SearchResponse {
    /// Best first.
    results: Vec<ResultResponse>,
    /// How many items have a word of the query, or results if those are more.
    total: u64,
    query: String,
    /// Whether meaning counted.
    semantic: bool,
    /// Why meaning did not count although it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<&'static str>,
    /// The version of the model that meaning was understood by.
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
    /// The version of the cross-encoder that put the results in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    rerank_model_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facets: Option<FacetsResponse>,
    latency_ms: f64,
}

/// Search items by words and by meaning.
#[utoipa::path(post, path = "/api/v1/search", tag = "search", operation_id = "search_items",
    params(SearchParams),
    request_body = SearchRequest,
    responses((status = 200, body = SearchResponse)))]
async fn search(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Params(params): Params<SearchParams>,
    Body(request): Body<SearchRequest>,
) -> ApiResult<Json<SearchResponse>> {
    check_tenant(&scope, params.tenant_id.as_deref())?;
    check_tenant(&scope, request.filters.tenant_id.as_deref())?;
    let began = search.clock().elapsed();
    let question = Question {
        query: request.query.clone(),
        semantic: request.semantic,
        filter: request.filters.read()?,
        limit: request.limit,
        similarity_min: request.similarity_threshold,
        fusion: request.fusion,
        rerank: request.rerank,
        forgives_typos: request.typo_tolerance,
        counts_facets: request.facets,
        highlights: request.highlight,
        explains: request.explain,
    };
    let answer = search.search(&scope, question).await?;
    let Answer { results, total, semantic, fallback, types, tags, model, reranker } = answer;
    Ok(Json(SearchResponse {
        results: results.into_iter().map(|one| ResultResponse::of(one, request.include_text)).collect(),
        total,
        query: request.query,
        semantic,
        fallback,
        model_version: model.map(|model| model.version),
        rerank_model_version: reranker.map(|model| model.version),
        facets: request.facets.then_some(FacetsResponse { types, tags }),
        latency_ms: search.clock().elapsed().saturating_sub(began).as_secs_f64() * 1e3,
    }))
}
