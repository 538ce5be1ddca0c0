//! Problems for clients of another protocol: under its addresses each problem gets the members that they look for, also
//! where the credential or a limit refused the request before it came to a handler.
//!
//! It refuses to take members away. To add a protocol: a [`Dialect`] beside its endpoints.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Map, Value};

const MAX_PROBLEM_BYTES: usize = 1 << 20;

/// What the clients of a protocol look for in an error.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// Whether an address is of the protocol.
    pub is_ours: fn(path: &str) -> bool,
    /// Adds its members to a problem.
    pub add: fn(problem: &mut Map<String, Value>),
}

/// Middleware around every address.
pub async fn translate(State(dialects): State<&'static [Dialect]>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let dialect = dialects.iter().find(|dialect| (dialect.is_ours)(path));
    let response = next.run(request).await;
    let Some(dialect) = dialect else { return response };
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/problem+json") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_PROBLEM_BYTES).await.unwrap_or_default();
    let Ok(Value::Object(mut problem)) = serde_json::from_slice(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    (dialect.add)(&mut problem);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(Value::Object(problem).to_string()))
}
