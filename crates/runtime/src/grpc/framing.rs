//! One message in, one message out (github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). A message is a byte that says
//! whether it is compressed, its length in four bytes, and itself.
//!
//! Handlers fail with problems, as those of HTTP do, so that limits, logs and metrics see one kind of failure. [`translate`]
//! makes statuses of them on the way out: also of those of callers without a credential and of a server that has too much to
//! do.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use edge::extract::{media_type, read_all};
use edge::{ApiError, ApiResult};
use http_body_util::{BodyExt, Full};
use kernel::{Error, Result, codes};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Message};
use serde::Deserialize;

use super::METHODS;

const MEDIA_TYPE: &str = "application/grpc";
/// The flag and the length.
const HEAD_BYTES: usize = 5;
const MAX_PROBLEM_BYTES: usize = 1 << 20;
/// Fields of a message: two bytes of a request may be an input, which takes some hundreds in memory.
const MAX_FIELDS: usize = 4_096;
/// What a status message may not have as it is: everything but printable ASCII, and the percent sign.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The stable code of a problem, which has more to tell than a status.
static CODE: HeaderName = HeaderName::from_static("problem-code");

/// The numbers of statuses (github.com/grpc/grpc/blob/master/doc/statuscodes.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Status {
    /// The one that says what the status of a problem says.
    fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::InvalidArgument,
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::PermissionDenied,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::CONFLICT => Self::FailedPrecondition,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::Unimplemented,
            StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INSUFFICIENT_STORAGE => Self::ResourceExhausted,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Self::DeadlineExceeded,
            StatusCode::INTERNAL_SERVER_ERROR => Self::Internal,
            _ => Self::Unknown,
        }
    }

    fn header(self) -> HeaderValue {
        HeaderValue::from(self as u16)
    }
}

/// The message of a request.
///
/// # Errors
/// `UNSUPPORTED_MEDIA_TYPE` for what is not gRPC, or compressed; `TOO_LARGE` over the limit of bodies; `INVALID_REQUEST` for a
/// body that is not one message.
pub(super) async fn read<T: Message + Default>(request: Request) -> Result<T> {
    if !is_grpc(request.headers()) {
        let message = "this address speaks gRPC: send `content-type: application/grpc`";
        return Err(Error::new(codes::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let mut body = read_all(request, &()).await?;
    let refused = |message: &str| Error::new(codes::INVALID_REQUEST, message);
    if body.len() < HEAD_BYTES {
        return Err(refused("the body ends before its message"));
    }
    let (flag, length) = (body.get_u8(), body.get_u32());
    if flag != 0 {
        let message = "messages are taken as they are, not compressed";
        return Err(Error::new(codes::UNSUPPORTED_MEDIA_TYPE, message));
    }
    if usize::try_from(length).ok() != Some(body.len()) {
        return Err(refused("the body is not one message of the length that it says"));
    }
    let other = |cause: DecodeError| refused("the message is not one of this method").with_source(cause);
    if fields(body.clone()).map_err(other)? > MAX_FIELDS {
        return Err(Error::new(codes::TOO_LARGE, format!("a message has at most {MAX_FIELDS} fields")));
    }
    T::decode(body).map_err(other)
}

/// How many fields a message has, without those within them.
fn fields(mut message: Bytes) -> Result<usize, DecodeError> {
    let mut count = 0;
    while message.has_remaining() {
        let (tag, wire_type) = decode_key(&mut message)?;
        skip_field(wire_type, tag, &mut message, DecodeContext::default())?;
        count += 1;
    }
    Ok(count)
}

/// The answer that has this message.
pub(super) fn reply(message: &impl Message) -> ApiResult<Response> {
    let length = message.encoded_len();
    let told = u32::try_from(length)
        .map_err(|_| Error::new(codes::TOO_LARGE, "the answer has 4 GiB or more; ask for less at once"))?;
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(told);
    message.encode(&mut bytes).map_err(Error::internal)?;
    let trailers = HeaderMap::from_iter([(STATUS.clone(), HeaderValue::from_static("0"))]);
    let body = Full::new(bytes.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Ok(response)
}

/// Answers one call.
pub(super) async fn call<T, R>(
    request: Request,
    answer: impl AsyncFnOnce(T) -> Result<R>,
) -> ApiResult<Response>
where
    T: Message + Default,
    R: Message,
{
    let asked = read(request).await?;
    reply(&answer(asked).await.map_err(ApiError)?)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    matches!(media_type(headers).as_deref(), Some("application/grpc" | "application/grpc+proto"))
}

/// What is read of a problem.
#[derive(Debug, Default, Deserialize)]
struct Told {
    #[serde(default)]
    detail: String,
    #[serde(default)]
    code: String,
}

/// Middleware around every address: a caller of gRPC is told of problems by statuses.
pub async fn translate(request: Request, next: Next) -> Response {
    if !is_grpc(request.headers()) {
        return next.run(request).await;
    }
    let is_method = METHODS.contains(&request.uri().path());
    let response = next.run(request).await;
    if is_grpc(response.headers()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, MAX_PROBLEM_BYTES).await.unwrap_or_default();
    let told: Told = serde_json::from_slice(&bytes).unwrap_or_default();
    let status = if is_method { Status::of(parts.status) } else { Status::Unimplemented };
    let detail =
        if is_method { told.detail } else { "the server has no such method; see docs/serving.md".to_owned() };
    parts.status = StatusCode::OK;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    parts.headers.insert(STATUS.clone(), status.header());
    let message = utf8_percent_encode(&detail, ESCAPED).to_string();
    for (name, value) in [(&MESSAGE, message), (&CODE, told.code)] {
        if let Some(value) = HeaderValue::from_str(&value).ok().filter(|value| !value.is_empty()) {
            parts.headers.insert(name.clone(), value);
        }
    }
    Response::from_parts(parts, Body::from(Bytes::new()))
}
