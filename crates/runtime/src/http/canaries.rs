//! `/api/v1/models/{name}/canaries`: try another version of a model on some requests, beside all of them, or as one of two.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use edge::{ApiResult, Body, Caller, Path, Problem};
use kernel::{Error, Permission, Result, Timestamp, codes};
use rollout::canary::{Plan, Reading};
use rollout::decision::Stage;
use rollout::report::{PlanReport, ReadingReport};
use rollout::shadow::Shadow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::predict::{Version, selector};
use crate::Runtime;
use crate::canaries::{Answers, Canary, Decision, Mode, NewCanary, Outcome, SHOWN};

const SLOW_MS: u64 = 120;

pub(super) fn routes() -> OpenApiRouter<Runtime> {
    OpenApiRouter::new()
        .routes(routes!(start, list))
        .routes(routes!(read))
        .routes(routes!(roll_back))
        .routes(routes!(promote))
}

/// What is tried, on how many, and when it goes on or back. What is missing is as the schema says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewModelCanary, example = json!({"version": "2", "mode": "canary", "steps": [10, 25, 50, 100]}))]
pub struct StartRequest {
    /// The version that is tried: a number, or an alias.
    #[schema(value_type = String)]
    version: Version,
    /// `canary` (where missing): the gates take it on and back. `ab`: an A/B test at the first of `steps` (50 where missing), which
    /// an operator ends. `shadow`: the version is asked too and not heard, for the first of `steps` (100 where missing).
    #[serde(default)]
    mode: Mode,
    /// What a loss is; `truth` where missing.
    #[serde(default)]
    outcome: Outcome,
    /// Percent of the subjects at each step, rising to 100; 10, 25, 50, 100 where missing.
    #[schema(min_items = 1, max_items = 20)]
    steps: Option<Vec<u8>>,
    /// Answers with a known outcome that a step needs in each arm; 100 where missing.
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
    /// How much larger its mean loss may be; 0 where missing.
    #[schema(minimum = 0, exclusive_maximum = 1)]
    tolerance_loss: Option<f64>,
    /// Where given, all get the candidate only once it is certain that its loss is not larger by so much.
    #[schema(exclusive_minimum = 0, maximum = 1)]
    loss_margin: Option<f64>,
    /// Milliseconds above which an answer is slow; 120 where missing.
    slow_ms: Option<u64>,
    /// The output whose loss counts; the first by name where missing.
    output: Option<String>,
    /// An absolute error of so much or more counts as a whole loss; 1 where missing.
    #[schema(exclusive_minimum = 0)]
    loss_scale: Option<f64>,
}

impl StartRequest {
    fn canary(self) -> Result<NewCanary> {
        let usual = Plan::default();
        let steps = match self.mode {
            Mode::Canary => usual.steps_percent,
            Mode::Ab => vec![50, 100],
            Mode::Shadow => vec![100],
        };
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
        Ok(NewCanary {
            candidate: selector(Some(self.version)).map_err(|error| error.with_field("version"))?,
            mode: self.mode,
            outcome: self.outcome,
            plan,
            slow_ms: self.slow_ms.unwrap_or(SLOW_MS),
            output: self.output,
            loss_scale: self.loss_scale.unwrap_or(1.0),
        })
    }
}

/// A decision, and what it rests on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelCanaryDecision)]
pub struct DecisionResponse {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    stage: Stage,
    /// Percent of the subjects that get the candidate since.
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
    fn of(canary: &Canary, decision: &Decision) -> Self {
        Self {
            at: time(decision.at_ms),
            stage: decision.stage,
            percent: decision.percent,
            actor: decision.actor.clone(),
            reason: decision.reason.clone(),
            evidence: decision.reading.as_ref().and_then(|reading| report(canary, reading)),
        }
    }
}

/// How far a shadow's output is from what was served.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ShadowDifference)]
pub struct DifferenceResponse {
    /// The output, and the place in it where it has several values.
    output: String,
    /// Values that were compared.
    count: u64,
    /// Of them, equal to the bit.
    equal: u64,
    /// Of them, where one was no number, or another text.
    unlike: u64,
    /// The mean of shadow less served.
    mean: f64,
    /// The mean absolute difference.
    mean_absolute: f64,
    /// 95 % of absolute differences are at or below it; at most twice too large.
    p95_absolute: f64,
    /// The largest absolute difference.
    largest_absolute: f64,
}

/// What a shadow said.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelShadow)]
pub struct ShadowResponse {
    /// Answers, or rows of them, that were compared.
    compared: u64,
    /// Of them, where one had an output that the other had not.
    mismatched: u64,
    /// Requests that it was asked; missing once it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<u64>,
    /// Of them, that it failed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    /// Requests that it was not asked, because too many were under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u64>,
    /// By output; 64 values at most.
    outputs: Vec<DifferenceResponse>,
}

impl ShadowResponse {
    fn of(shadow: &Shadow, answers: Option<&Answers>) -> Self {
        let outputs = shadow.outputs.iter().map(|(output, found)| DifferenceResponse {
            output: output.clone(),
            count: found.count,
            equal: found.equal,
            unlike: found.unlike,
            mean: found.mean(),
            mean_absolute: found.mean_absolute(),
            p95_absolute: found.quantile(0.95),
            largest_absolute: found.largest(),
        });
        Self {
            compared: shadow.answers,
            mismatched: shadow.mismatched,
            asked: answers.map(|answers| answers.candidate.errors.count),
            failed: answers.map(|answers| answers.candidate.errors.total().round() as u64),
            skipped: answers.map(|answers| answers.skipped),
            outputs: outputs.collect(),
        }
    }
}

/// A canary of a version as it stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelCanary)]
pub struct CanaryResponse {
    model: String,
    /// 1 for the model's first.
    sequence: u64,
    mode: Mode,
    outcome: Outcome,
    stage: Stage,
    /// Percent of the subjects that get the candidate.
    percent: u8,
    steps: Vec<u8>,
    /// What its gates go by; missing of a shadow, which has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanReport>,
    /// The output whose loss counts; the first by name where missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// An absolute error of so much or more counts as a whole loss.
    loss_scale: f64,
    /// The champion when it began.
    control_version: u64,
    /// The version that is tried.
    candidate_version: u64,
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// What the gates say now, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reading: Option<ReadingReport>,
    /// What the shadow said.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<ShadowResponse>,
    /// Oldest first.
    decisions: Vec<DecisionResponse>,
}

/// The number of a canary in an address.
fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(100).collect();
        Error::new(codes::NOT_FOUND, format!("the model had no canary `{}`", shown.escape_debug()))
    })
}

fn time(at_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn report(canary: &Canary, reading: &Reading) -> Option<ReadingReport> {
    Some(ReadingReport::of(canary.mode.gated()?, &canary.plan, reading))
}

fn shown(canary: &Canary, reading: Option<&Reading>, answers: Option<&Answers>) -> CanaryResponse {
    let shadow = answers.map(|answers| &answers.shadow).or(canary.shadow.as_ref());
    CanaryResponse {
        model: canary.model.clone(),
        sequence: canary.sequence,
        mode: canary.mode,
        outcome: canary.outcome,
        stage: canary.stage,
        percent: canary.percent,
        steps: canary.plan.steps_percent.clone(),
        plan: canary.mode.gated().map(|_| PlanReport::of(&canary.plan, canary.slow_ms)),
        output: canary.output.clone(),
        loss_scale: canary.loss_scale,
        control_version: canary.control,
        candidate_version: canary.candidate,
        started_at: time(canary.started_ms),
        reading: reading.and_then(|reading| report(canary, reading)),
        shadow: shadow.map(|shadow| ShadowResponse::of(shadow, answers)),
        decisions: canary.decisions.iter().map(|one| DecisionResponse::of(canary, one)).collect(),
    }
}

/// Try another version of a model. Requests for its champion take part.
#[utoipa::path(post, path = "/api/v1/models/{name}/canaries", tag = "models", operation_id = "start_model_canary",
    params(("name" = String, Path, description = "The registered model.")),
    request_body = StartRequest,
    responses((status = 201, body = CanaryResponse), (status = 409, description = "One runs, or a version cannot be served.",
        body = Problem, content_type = "application/problem+json")))]
async fn start(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path(name): Path<String>,
    Body(request): Body<StartRequest>,
) -> ApiResult<(StatusCode, Json<CanaryResponse>)> {
    scope.require(Permission::Admin)?;
    let canary = runtime.start_canary(&scope, &name, request.canary()?).await?;
    Ok((StatusCode::CREATED, Json(shown(&canary, None, None))))
}

/// The canaries of a model, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModelCanaryPage)]
pub struct ListResponse {
    /// At most 50.
    canaries: Vec<CanaryResponse>,
}

/// List canaries of a model, newest first.
#[utoipa::path(get, path = "/api/v1/models/{name}/canaries", tag = "models", operation_id = "list_model_canaries",
    params(("name" = String, Path, description = "The registered model.")),
    responses((status = 200, body = ListResponse)))]
async fn list(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path(name): Path<String>,
) -> ApiResult<Json<ListResponse>> {
    scope.require(Permission::Read)?;
    let model = runtime.models().model(&scope, &name).await?;
    let found = runtime.0.canaries.list(&scope, &model.id, SHOWN).await?;
    Ok(Json(ListResponse {
        canaries: found.iter().map(|found| shown(&found.document, None, None)).collect(),
    }))
}

/// Read a canary of a model: how far it is, what the gates say, how far a shadow is off, what was decided on what evidence.
#[utoipa::path(get, path = "/api/v1/models/{name}/canaries/{sequence}", tag = "models", operation_id = "get_model_canary",
    params(("name" = String, Path, description = "The registered model."),
        ("sequence" = u64, Path, description = "Its number.", example = 1)),
    responses((status = 200, body = CanaryResponse)))]
async fn read(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path((name, sequence)): Path<(String, String)>,
) -> ApiResult<Json<CanaryResponse>> {
    let canary = runtime.canary(&scope, &name, number(&sequence)?).await?;
    let canaries = &runtime.0.canaries;
    let (mut reading, mut answers) = (None, None);
    if canary.stage == Stage::Running {
        reading = canaries.reading(&scope, &canary).await?;
        if canary.mode == Mode::Shadow {
            answers = Some(canaries.answers(&scope, &canary).await?);
        }
    }
    Ok(Json(shown(&canary, reading.as_ref(), answers.as_ref())))
}

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ModelCanaryEnd, example = json!({"reason": "complaints"}))]
pub struct EndRequest {
    /// For the audit.
    #[schema(max_length = 1_000)]
    reason: String,
}

/// Give the candidate to nobody any more. Once it is the champion, the model's rollback moves that back.
#[utoipa::path(post, path = "/api/v1/models/{name}/canaries/{sequence}/rollback", tag = "models",
    operation_id = "roll_back_model_canary",
    params(("name" = String, Path, description = "The registered model."),
        ("sequence" = u64, Path, description = "Its number.", example = 1)),
    request_body = EndRequest,
    responses((status = 200, body = CanaryResponse), (status = 409, description = "It has ended.",
        body = Problem, content_type = "application/problem+json")))]
async fn roll_back(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path((name, sequence)): Path<(String, String)>,
    Body(request): Body<EndRequest>,
) -> ApiResult<Json<CanaryResponse>> {
    let canary =
        runtime.end_canary(&scope, (&name, number(&sequence)?), Stage::RolledBack, &request.reason).await?;
    Ok(Json(shown(&canary, None, None)))
}

/// Make the candidate of an A/B test or a shadow the champion. A canary is promoted by its gates alone.
#[utoipa::path(post, path = "/api/v1/models/{name}/canaries/{sequence}/promote", tag = "models",
    operation_id = "promote_model_canary",
    params(("name" = String, Path, description = "The registered model."),
        ("sequence" = u64, Path, description = "Its number.", example = 1)),
    request_body = EndRequest,
    responses((status = 200, body = CanaryResponse), (status = 409, description = "It has ended, or is a canary.",
        body = Problem, content_type = "application/problem+json")))]
async fn promote(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Path((name, sequence)): Path<(String, String)>,
    Body(request): Body<EndRequest>,
) -> ApiResult<Json<CanaryResponse>> {
    let canary =
        runtime.end_canary(&scope, (&name, number(&sequence)?), Stage::Complete, &request.reason).await?;
    Ok(Json(shown(&canary, None, None)))
}
