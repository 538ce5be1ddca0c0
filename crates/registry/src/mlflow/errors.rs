//! Errors as MLflow's clients know them: to each problem its `error_code` and `message` are added, also where the
//! credential or the limit refused the request before it came to a handler.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

const MAX_PROBLEM_BYTES: usize = 1 << 20;

/// Middleware around every address.
pub async fn translate(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_ours = ["/api/2.0/mlflow", "/api/3.0/mlflow"].iter().any(|prefix| path.starts_with(prefix));
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !is_ours || kind.is_none_or(|kind| kind != "application/problem+json") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_PROBLEM_BYTES).await.unwrap_or_default();
    let Ok(Value::Object(mut problem)) = serde_json::from_slice(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    let code = problem.get("code").and_then(Value::as_str).unwrap_or_default();
    let is_address =
        problem.get("detail").and_then(Value::as_str).is_some_and(|text| text.contains("/api/docs"));
    let code = if is_address { "ENDPOINT_NOT_FOUND" } else { mlflow_code(code) };
    let message = problem.get("detail").cloned().unwrap_or_default();
    problem.insert("error_code".to_owned(), json!(code));
    problem.insert("message".to_owned(), message);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(Value::Object(problem).to_string()))
}

/// The name that MLflow has for one of our codes.
fn mlflow_code(code: &str) -> &'static str {
    match code {
        "NOT_FOUND" => "RESOURCE_DOES_NOT_EXIST",
        "ALREADY_EXISTS" => "RESOURCE_ALREADY_EXISTS",
        "CONFLICT" => "RESOURCE_CONFLICT",
        "INVALID_STATE" => "INVALID_STATE",
        "AUTH_ERROR" => "UNAUTHENTICATED",
        "PERMISSION_DENIED" | "TENANT_MISMATCH" => "PERMISSION_DENIED",
        "TOO_LARGE" => "RESOURCE_LIMIT_EXCEEDED",
        "RATE_LIMIT_EXCEEDED" | "TOO_MANY_STREAMS" | "STREAM_TOO_SLOW" => "REQUEST_LIMIT_EXCEEDED",
        "OVERLOADED" | "UNAVAILABLE" | "TIMED_OUT" => "TEMPORARILY_UNAVAILABLE",
        "STORAGE_FULL" => "RESOURCE_EXHAUSTED",
        "CORRUPTED" => "DATA_LOSS",
        "INVALID_REQUEST" => "MALFORMED_REQUEST",
        "METHOD_NOT_ALLOWED" => "ENDPOINT_NOT_FOUND",
        "VALIDATION_ERROR" | "REFUSED_FORMAT" | "UNSUPPORTED_MEDIA_TYPE" | "INVALID_ID" => {
            "INVALID_PARAMETER_VALUE"
        }
        _ => "INTERNAL_ERROR",
    }
}
