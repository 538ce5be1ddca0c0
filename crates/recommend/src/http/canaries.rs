//! `/api/v1/canaries`: try another algorithm on some of the users, see how it does, go on or back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::{ApiResult, Body, Caller, Path, Problem};
use kernel::{Error, Permission, Timestamp, codes};
use rollout::canary::{Plan, Reading};
use rollout::report::{PlanReport, ReadingReport};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{HttpState, timestamp};
use crate::canaries::NewCanary;
use crate::events::{ArmSettings, CanaryStarted, Mode, Stage};
use crate::service::Algorithm;
use crate::views::{Canary, Decision};

/// Seconds within which what was shown must be chosen, where nothing else is asked.
const OUTCOME_WINDOW_SECONDS: u64 = 24 * 3_600;
/// Milliseconds above which an answer is slow, where nothing else is asked.
const SLOW_MS: u64 = 100;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new()
        .routes(routes!(start, list))
        .routes(routes!(read))
        .routes(routes!(roll_back))
        .routes(routes!(promote))
}

/// What is tried, on whom, and when it goes on or back. What is missing is as the schema says.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewCanary, example = json!({"name": "collaborative-first", "mode": "ab", "algorithm": "collaborative"}))]
pub struct StartRequest {
    /// Letters, digits, `-`, `_` and `.`; made where missing.
    #[schema(min_length = 1, max_length = 100, pattern = "^[A-Za-z0-9._-]+$")]
    name: Option<String>,
    /// `canary` (where missing): the gates take it on and back. `ab`: an A/B test at the first of `steps` (50 where missing),
    /// which an operator ends; only the gates of errors and latency take it back.
    mode: Mode,
    /// The algorithm that is tried; `hybrid` where missing.
    #[schema(value_type = Option<Algorithm>)]
    algorithm: Option<String>,
    /// The share of collaborative sources in a hybrid that is tried.
    #[schema(minimum = 0, maximum = 1)]
    collaborative_weight: Option<f64>,
    /// How much variety counts against score in what is tried.
    #[schema(minimum = 0, maximum = 1)]
    diversity: Option<f64>,
    /// Percent of the users at each step, rising to 100; 10, 25, 50, 100 where missing.
    #[schema(min_items = 1, max_items = 20)]
    steps: Option<Vec<u8>>,
    /// Users with a known outcome that a step needs in each arm; 100 where missing.
    #[schema(minimum = 1)]
    sample_min: Option<u64>,
    /// Seconds that a step takes at least; 3,600 where missing.
    step_seconds_min: Option<u64>,
    /// The probability that a candidate which is no worse is rolled back, at most; 0.05 where missing.
    #[schema(minimum = 0.000001, maximum = 0.5)]
    false_alarm: Option<f64>,
    /// How much larger the candidate's share of failed answers may be; 0 where missing.
    #[schema(minimum = 0, exclusive_maximum = 1)]
    tolerance_errors: Option<f64>,
    /// How much larger its share of slow answers may be; 0 where missing.
    #[schema(minimum = 0, exclusive_maximum = 1)]
    tolerance_latency: Option<f64>,
    /// How much larger its share of answers of which nothing is chosen may be; 0 where missing.
    #[schema(minimum = 0, exclusive_maximum = 1)]
    tolerance_loss: Option<f64>,
    /// Where given, all users get the candidate only once it is certain that its loss is not larger by so much.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    loss_margin: Option<f64>,
    /// Seconds within which something that was shown must be chosen to count; a day where missing.
    #[schema(minimum = 1, maximum = 2_592_000)]
    outcome_window_seconds: Option<u64>,
    /// Milliseconds above which an answer is slow; 100 where missing.
    slow_ms: Option<u64>,
}

impl StartRequest {
    fn canary(self) -> NewCanary {
        let usual = Plan::default();
        let steps = if self.mode == Mode::Ab { vec![50, 100] } else { usual.steps_percent };
        let plan = Plan {
            steps_percent: self.steps.unwrap_or(steps),
            sample_min: self.sample_min.unwrap_or(usual.sample_min),
            step_seconds_min: self.step_seconds_min.unwrap_or(usual.step_seconds_min),
            false_alarm: self.false_alarm.unwrap_or(usual.false_alarm),
            tolerance_errors: self.tolerance_errors.unwrap_or(usual.tolerance_errors),
            tolerance_latency: self.tolerance_latency.unwrap_or(usual.tolerance_latency),
            tolerance_loss: self.tolerance_loss.unwrap_or(usual.tolerance_loss),
            loss_margin: self.loss_margin,
        };
        let Self { name, mode, algorithm, collaborative_weight, diversity, .. } = self;
        NewCanary {
            name,
            mode,
            candidate: ArmSettings { algorithm, collaborative_weight, diversity },
            plan,
            outcome_window_seconds: self.outcome_window_seconds.unwrap_or(OUTCOME_WINDOW_SECONDS),
            slow_ms: self.slow_ms.unwrap_or(SLOW_MS),
        }
    }
}

fn report(started: &CanaryStarted, reading: &Reading) -> ReadingReport {
    ReadingReport::of(started.mode, &started.plan, reading)
}

/// A decision, and what it rests on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CanaryDecision)]
pub struct DecisionResponse {
    sequence: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    stage: Stage,
    /// Percent of the users that get the candidate since.
    percent: u8,
    /// Who decided, where it was not the gates.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    reason: String,
    /// What the gates said.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<ReadingReport>,
}

impl DecisionResponse {
    fn of(started: &CanaryStarted, decision: &Decision) -> Self {
        let data = &decision.data;
        Self {
            sequence: data.sequence,
            at: timestamp(decision.at_ms),
            stage: data.stage,
            percent: data.percent,
            actor: data.actor.clone(),
            reason: data.reason.clone(),
            evidence: data.reading.as_ref().map(|reading| report(started, reading)),
        }
    }
}

/// A canary as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Canary)]
pub struct CanaryResponse {
    name: String,
    mode: Mode,
    stage: Stage,
    /// Percent of the users that get the candidate.
    percent: u8,
    steps: Vec<u8>,
    /// What its gates go by.
    plan: PlanReport,
    /// Seconds within which something that was shown must be chosen to count.
    outcome_window_seconds: u64,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// What was served before.
    control: ArmSettings,
    /// What is tried.
    candidate: ArmSettings,
    /// What the gates say now, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reading: Option<ReadingReport>,
    /// Oldest first.
    decisions: Vec<DecisionResponse>,
}

fn shown(canary: &Canary, reading: Option<&Reading>) -> CanaryResponse {
    CanaryResponse {
        name: canary.started.canary.clone(),
        mode: canary.started.mode,
        stage: canary.stage,
        percent: canary.percent,
        steps: canary.started.plan.steps_percent.clone(),
        plan: PlanReport::of(&canary.started.plan, canary.started.slow_ms),
        outcome_window_seconds: canary.started.outcome_window_seconds,
        started_at: timestamp(canary.started_at_ms),
        control: canary.started.control.clone(),
        candidate: canary.started.candidate.clone(),
        reading: reading.map(|reading| report(&canary.started, reading)),
        decisions: canary.decisions.iter().map(|one| DecisionResponse::of(&canary.started, one)).collect(),
    }
}

/// Try other answers on some of the users. Requests that name an algorithm, weights or diversity take no part.
#[utoipa::path(post, path = "/api/v1/canaries", tag = "canaries", operation_id = "start_canary",
    request_body = StartRequest,
    responses((status = 201, body = CanaryResponse), (status = 409, description = "One runs, or there was one of that name.",
        body = Problem, content_type = "application/problem+json")))]
async fn start(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Body(request): Body<StartRequest>,
) -> ApiResult<(StatusCode, Json<CanaryResponse>)> {
    let canary = state.canaries.start(&scope, request.canary()).await?;
    Ok((StatusCode::CREATED, Json(shown(&canary, None))))
}

/// The canaries that are remembered, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CanaryPage)]
pub struct ListResponse {
    /// At most 50. The first says what is served.
    canaries: Vec<CanaryResponse>,
}

/// List canaries, newest first.
#[utoipa::path(get, path = "/api/v1/canaries", tag = "canaries", operation_id = "list_canaries",
    responses((status = 200, body = ListResponse)))]
async fn list(State(state): State<HttpState>, Caller(scope): Caller) -> ApiResult<Json<ListResponse>> {
    scope.require(Permission::Read)?;
    let canaries = state.canaries.list(&scope);
    Ok(Json(ListResponse { canaries: canaries.iter().map(|canary| shown(canary, None)).collect() }))
}

/// Read a canary: how far it is, what the gates say, what was decided on what evidence.
#[utoipa::path(get, path = "/api/v1/canaries/{name}", tag = "canaries", operation_id = "get_canary",
    params(("name" = String, Path, description = "The name of the canary.", example = "collaborative-first")),
    responses((status = 200, body = CanaryResponse)))]
async fn read(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
) -> ApiResult<Json<CanaryResponse>> {
    scope.require(Permission::Read)?;
    let missing = || Error::new(codes::NOT_FOUND, format!("there is no canary `{}`", name.escape_debug()));
    let canary = state.canaries.find(&scope, &name).ok_or_else(missing)?;
    let reading = state.canaries.reading(&scope, &canary).await?;
    Ok(Json(shown(&canary, reading.as_ref())))
}

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = CanaryEnd, example = json!({"reason": "complaints"}))]
pub struct EndRequest {
    /// For the audit.
    #[schema(max_length = 1_000)]
    reason: String,
}

/// Give the candidate to nobody any more. Also a complete canary goes back, while it is the last that began.
#[utoipa::path(post, path = "/api/v1/canaries/{name}/rollback", tag = "canaries", operation_id = "roll_back_canary",
    params(("name" = String, Path, description = "The name of the canary.", example = "collaborative-first")),
    request_body = EndRequest,
    responses((status = 200, body = CanaryResponse), (status = 409, description = "It is not in force.",
        body = Problem, content_type = "application/problem+json")))]
async fn roll_back(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(request): Body<EndRequest>,
) -> ApiResult<Json<CanaryResponse>> {
    let canary = state.canaries.roll_back(&scope, &name, &request.reason).await?;
    Ok(Json(shown(&canary, None)))
}

/// Give the candidate of an A/B test to everyone. A canary is promoted by its gates alone.
#[utoipa::path(post, path = "/api/v1/canaries/{name}/promote", tag = "canaries", operation_id = "promote_canary",
    params(("name" = String, Path, description = "The name of the A/B test.", example = "collaborative-first")),
    request_body = EndRequest,
    responses((status = 200, body = CanaryResponse), (status = 409, description = "It is not in force, or no A/B test.",
        body = Problem, content_type = "application/problem+json")))]
async fn promote(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(request): Body<EndRequest>,
) -> ApiResult<Json<CanaryResponse>> {
    let canary = state.canaries.promote(&scope, &name, &request.reason).await?;
    Ok(Json(shown(&canary, None)))
}
