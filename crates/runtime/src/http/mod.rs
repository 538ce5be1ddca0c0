//! The runtime over HTTP. Everything needs `read`: an inference changes nothing.
//!
//! - [`protocol`]: the Open Inference Protocol v2 (github.com/kserve/open-inference-protocol), with JSON tensors and the binary
//!   tensor data extension.
//! - [`predict`] and [`models`]: what the clients of the operators' guide ask.
//!
//! Probes of the protocol (`/v2/health/live`, `/v2/health/ready`) stand with the others, in `edge`.

mod binary;
pub mod models;
pub mod predict;
pub mod protocol;
mod wire;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;

use crate::Runtime;

/// The routes.
pub fn routes(runtime: Runtime) -> OpenApiRouter {
    OpenApiRouter::new()
        .merge(protocol::routes())
        .merge(predict::routes())
        .merge(models::routes())
        .with_state(runtime)
}

const MAX_PROBLEM_BYTES: usize = 1 << 20;

/// Middleware around every address: problems of `/v2` have the member `error` too, which clients of the protocol show, also
/// where the credential or a limit refused the request before it came to a handler.
pub async fn translate(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_ours = path == "/v2" || path.starts_with("/v2/");
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
    let message = problem.get("detail").cloned().unwrap_or_default();
    problem.insert("error".to_owned(), message);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(Value::Object(problem).to_string()))
}
