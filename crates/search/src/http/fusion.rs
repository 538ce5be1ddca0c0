//! `POST /api/v1/search/fusion/learn`: the share for meaning, learned on judged queries.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use edge::{ApiResult, Body, Caller, Problem};
use kernel::{Id, Result};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::algorithms::fusion::Fusion;
use crate::items::{ItemName, invalid};
use crate::learning::{JudgedQuery, Lesson};
use crate::questions::Question;
use crate::service::{RESULTS_MAX, Search, check};

/// Queries of one request, at most.
const QUERIES_MAX: usize = 500;
/// Judged items of one query, at most.
const JUDGED_MAX: usize = 1_000;
/// A grade is from minus this to this.
const GRADE_MAX: i32 = 100;

pub(super) fn routes() -> OpenApiRouter<Arc<Search>> {
    OpenApiRouter::new().routes(routes!(learn))
}

/// An item and how relevant it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JudgedItem)]
pub struct JudgedItem {
    #[schema(value_type = String, min_length = 1, max_length = 200)]
    entity_type: Id,
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    entity_id: Id,
    /// Above 0 is relevant; 1 where missing.
    #[serde(default = "one")]
    #[schema(minimum = -100, maximum = 100)]
    grade: i32,
}

fn one() -> i32 {
    1
}

/// A query and what should be found for it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = JudgedSearch)]
pub struct JudgedSearch {
    /// 1 to 4,096 bytes.
    #[schema(min_length = 1, max_length = 4096)]
    query: String,
    /// 1,000 at most.
    #[schema(max_items = 1000)]
    judged: Vec<JudgedItem>,
}

/// What to learn from.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LearnFusionRequest, example = json!({
    "queries": [{"query": "steeper curves", "judged": [{"entity_type": "note", "entity_id": "2024-03-01"}]}]
}))]
pub struct LearnRequest {
    /// 500 at most.
    #[schema(min_items = 1, max_items = 500)]
    queries: Vec<JudgedSearch>,
}

/// Mean nDCG@10 over the queries.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FusionQuality)]
pub struct QualityResponse {
    words: f64,
    meaning: f64,
    rrf: f64,
    /// Of the queries that the share was learned on.
    learned: f64,
    /// Of queries that it was not learned on, each fifth by the share that the rest teaches: what to compare with the
    /// others. Missing with fewer than 10 queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    learned_held_out: Option<f64>,
}

/// What was learned.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LearnedFusion)]
pub struct LearnResponse {
    /// For requests, and for `search.fusion`.
    fusion: Fusion,
    ndcg_at_10: QualityResponse,
    /// Relevant items that there are not, so that nothing was learned of them: look at their types and ids.
    unknown_items: usize,
}

impl From<Lesson> for LearnResponse {
    fn from(lesson: Lesson) -> Self {
        let Lesson { learned, words, meaning, rrf, unknown_items } = lesson;
        let ndcg_at_10 = QualityResponse {
            words,
            meaning,
            rrf,
            learned: learned.ndcg,
            learned_held_out: learned.held_out_ndcg,
        };
        Self { fusion: Fusion::Learned(learned.weight), ndcg_at_10, unknown_items }
    }
}

fn read(place: usize, asked: JudgedSearch) -> Result<JudgedQuery> {
    if asked.judged.len() > JUDGED_MAX {
        let message = format!("a query has at most {JUDGED_MAX} judged items, not {}", asked.judged.len());
        return Err(invalid(&format!("queries[{place}].judged"), message));
    }
    if let Some(at) =
        asked.judged.iter().position(|item| item.grade.unsigned_abs() > GRADE_MAX.unsigned_abs())
    {
        let message = format!("is from -{GRADE_MAX} to {GRADE_MAX}, not {}", asked.judged[at].grade);
        return Err(invalid(&format!("queries[{place}].judged[{at}].grade"), message));
    }
    let judged = asked.judged.into_iter().map(|item| {
        let name = ItemName { entity_type: item.entity_type, entity_id: item.entity_id };
        (name.key(), item.grade)
    });
    let question = Question::new(asked.query, RESULTS_MAX);
    check(&question).map_err(|error| {
        let field = format!("queries[{place}].{}", error.field().unwrap_or_default());
        error.with_field(field)
    })?;
    Ok(JudgedQuery { question, judged: judged.collect() })
}

/// Learn how much meaning is to count, on queries with what should be found for them. Nothing is kept: set what is answered
/// in `search.fusion`, or send it with searches.
#[utoipa::path(post, path = "/api/v1/search/fusion/learn", tag = "search", operation_id = "learn_search_fusion",
    request_body = LearnRequest,
    responses((status = 200, body = LearnResponse),
        (status = 404, description = "There is no encoder.", body = Problem, content_type = "application/problem+json")))]
async fn learn(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Body(request): Body<LearnRequest>,
) -> ApiResult<Json<LearnResponse>> {
    let count = request.queries.len();
    if !(1..=QUERIES_MAX).contains(&count) {
        return Err(invalid("queries", format!("give 1 to {QUERIES_MAX} queries, not {count}")).into());
    }
    let queries = request.queries.into_iter().enumerate().map(|(place, asked)| read(place, asked));
    let queries = queries.collect::<Result<Vec<_>>>()?;
    Ok(Json(search.learn_fusion(&scope, queries).await?.into()))
}
