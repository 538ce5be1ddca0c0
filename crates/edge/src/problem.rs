//! Errors on the wire: RFC 9457 problem details with a stable `code`.
//!
//! The status follows from the error's kind, in one table. An internal cause is never shown; it goes to the log with the
//! request's line (see `middleware`).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kernel::{Error, ErrorCode, ErrorKind, codes};
use serde::Serialize;
use utoipa::ToSchema;

use crate::limits::RATE_LIMIT_EXCEEDED;
use crate::sampled::Failed;
use crate::streams::{STREAM_TOO_SLOW, TOO_MANY_STREAMS};

/// What a handler returns.
pub type ApiResult<T> = Result<T, ApiError>;

/// An [`Error`] on its way to the caller.
#[derive(Debug)]
pub struct ApiError(pub Error);

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The body of every error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:watershed:problem:VALIDATION_ERROR",
    "title": "A field of the request is not acceptable",
    "status": 400,
    "detail": "count: must be between 1 and 100, not 0",
    "code": "VALIDATION_ERROR",
    "field": "count"
}))]
pub struct Problem {
    /// A name for the kind of problem, the same for every occurrence.
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence that fits every occurrence.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time and what to do.
    pub detail: String,
    /// The stable code.
    pub code: &'static str,
    /// The field or parameter it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// The status that stands for an error code.
#[must_use]
pub fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        codes::METHOD_NOT_ALLOWED => return StatusCode::METHOD_NOT_ALLOWED,
        codes::UNSUPPORTED_MEDIA_TYPE => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        codes::TIMED_OUT => return StatusCode::GATEWAY_TIMEOUT,
        STREAM_TOO_SLOW => return StatusCode::REQUEST_TIMEOUT,
        RATE_LIMIT_EXCEEDED | TOO_MANY_STREAMS => return StatusCode::TOO_MANY_REQUESTS,
        _ => {}
    }
    match code.kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Busy | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Problem {
    /// The problem that tells of `error`.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let code = error.code();
        Self {
            kind: format!("urn:watershed:problem:{}", code.name),
            title: code.title,
            status: status_of(code).as_u16(),
            detail: error.to_string(),
            code: code.name,
            field: error.field().map(str::to_owned),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = self.0;
        let status = status_of(error.code());
        let mut response = (status, Json(Problem::of(&error))).into_response();
        if status.is_server_error() {
            response.extensions_mut().insert(Failed::of(&error));
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if error.kind().is_retryable() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shared_code_has_its_status() {
        let table: Vec<String> =
            codes::ALL.iter().map(|code| format!("{} {}", status_of(*code).as_u16(), code.name)).collect();
        let expected = "400 INVALID_REQUEST
400 VALIDATION_ERROR
400 INVALID_ID
400 INVALID_TENANT
400 INVALID_EVENT
401 AUTH_ERROR
403 PERMISSION_DENIED
403 TENANT_MISMATCH
404 NOT_FOUND
405 METHOD_NOT_ALLOWED
415 UNSUPPORTED_MEDIA_TYPE
409 CONFLICT
413 TOO_LARGE
503 OVERLOADED
504 TIMED_OUT
503 UNAVAILABLE
507 STORAGE_FULL
500 CORRUPTED
500 INTERNAL_ERROR";
        assert_eq!(table.join("\n"), expected);
    }
}
