//! What clients of OpenAI look for beside vectors: `GET /v1/models`, `/v1/models/{id}`, and errors in their form.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use edge::dialect::Dialect;
use edge::{ApiResult, Caller, Path};
use kernel::Permission;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::encoder::ModelIdentity;
use crate::service::Search;

/// Problems under `/v1` have the member `error` too, which OpenAI's clients show.
pub const DIALECT: Dialect = Dialect { is_ours, add };

pub(super) fn routes() -> OpenApiRouter<Arc<Search>> {
    OpenApiRouter::new()
        .routes(routes!(models))
        .routes(routes!(model))
        .route("/v1/models/{id}/{*rest}", get(model_in_steps))
}

fn is_ours(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/")
}

fn add(problem: &mut Map<String, Value>) {
    let (status, field) = (problem.get("status").and_then(Value::as_u64), problem.get("field"));
    let kind = match status {
        Some(429) => "requests",
        Some(500..) => "server_error",
        _ => "invalid_request_error",
    };
    // The names that its clients know; where they know none, ours.
    let code = match (status, field.and_then(Value::as_str)) {
        (Some(401), _) => json!("invalid_api_key"),
        (Some(404), Some("model")) => json!("model_not_found"),
        (Some(429), _) => json!("rate_limit_exceeded"),
        _ => problem.get("code").cloned().unwrap_or_default(),
    };
    let message = problem.get("detail").cloned().unwrap_or_default();
    let error = json!({"message": message, "type": kind, "param": field, "code": code});
    problem.insert("error".to_owned(), error);
}

/// An encoder, as OpenAI's API has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListedModel)]
pub struct ModelResponse {
    /// The name that `/v1/embeddings` takes.
    id: String,
    object: &'static str,
    /// Seconds since 1970; 0, for nobody says when it was made.
    created: i64,
    owned_by: &'static str,
}

impl ModelResponse {
    fn of(model: &ModelIdentity) -> Self {
        Self { id: model.name.clone(), object: "model", created: 0, owned_by: "watershed" }
    }
}

/// The encoders.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListedModels)]
pub struct ModelsResponse {
    object: &'static str,
    data: Vec<ModelResponse>,
}

/// List the encoders, as OpenAI's clients ask.
#[utoipa::path(get, path = "/v1/models", tag = "embeddings", operation_id = "list_openai_models",
    responses((status = 200, body = ModelsResponse)))]
async fn models(State(search): State<Arc<Search>>, Caller(scope): Caller) -> ApiResult<Json<ModelsResponse>> {
    scope.require(Permission::Read)?;
    let mut data: Vec<ModelResponse> = Vec::new();
    for model in search.models() {
        // Two versions may have one name, which the newer answers to.
        if !data.iter().any(|listed| listed.id == model.name) {
            data.push(ModelResponse::of(model));
        }
    }
    Ok(Json(ModelsResponse { object: "list", data }))
}

/// Get an encoder, as OpenAI's clients ask.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "embeddings", operation_id = "get_openai_model",
    params(("id" = String, Path, example = "all-MiniLM-L6-v2",
        description = "The model, by any name that `/v1/embeddings` takes; a slash may be percent-encoded or not.")),
    responses((status = 200, body = ModelResponse),
        (status = 404, description = "There is no model of that name here, or none at all.", body = edge::Problem,
            content_type = "application/problem+json")))]
async fn model(
    State(search): State<Arc<Search>>,
    Caller(scope): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<ModelResponse>> {
    scope.require(Permission::Read)?;
    Ok(Json(ModelResponse::of(search.model(Some(&id))?)))
}

/// The same for clients that leave the slashes of a name as they are.
async fn model_in_steps(
    search: State<Arc<Search>>,
    caller: Caller,
    Path((first, rest)): Path<(String, String)>,
) -> ApiResult<Json<ModelResponse>> {
    model(search, caller, Path(format!("{first}/{rest}"))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_form_that_clients_show() {
        let check = |status: u64, code: &str, field: Option<&str>, expected: Value| {
            let mut problem = Map::from_iter([
                ("status".to_owned(), json!(status)),
                ("code".to_owned(), json!(code)),
                ("detail".to_owned(), json!("why")),
            ]);
            problem.extend(field.map(|field| ("field".to_owned(), json!(field))));
            add(&mut problem);
            assert_eq!(problem["error"], expected);
            assert_eq!(problem["code"], code, "ours stays");
        };
        let error = |kind: &str, param: Value, code: &str| json!({"message": "why", "type": kind, "param": param, "code": code});
        let invalid = "invalid_request_error";
        check(404, "NOT_FOUND", Some("model"), error(invalid, json!("model"), "model_not_found"));
        check(404, "NO_ENCODER", None, error(invalid, Value::Null, "NO_ENCODER"));
        check(
            400,
            "VALIDATION_ERROR",
            Some("input[1]"),
            error(invalid, json!("input[1]"), "VALIDATION_ERROR"),
        );
        check(401, "AUTH_ERROR", None, error(invalid, Value::Null, "invalid_api_key"));
        check(429, "RATE_LIMIT_EXCEEDED", None, error("requests", Value::Null, "rate_limit_exceeded"));
        check(503, "OVERLOADED", None, error("server_error", Value::Null, "OVERLOADED"));
        assert!(is_ours("/v1/embeddings") && !is_ours("/v1x") && !is_ours("/api/v1/embed"));
    }
}
