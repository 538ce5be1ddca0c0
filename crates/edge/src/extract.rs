//! Extractors whose rejections are problems that name the field.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use axum::extract::path::ErrorKind as PathFault;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use kernel::{Error, ErrorCode, Result, Timestamp, codes, json};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use utoipa::IntoParams;

use crate::ApiError;

/// Passes when a number of a request is within its bounds.
///
/// # Errors
/// `VALIDATION_ERROR` naming the field.
pub fn check_range(value: usize, least: usize, most: usize, field: &str) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::new(codes::VALIDATION_ERROR, format!("must be between {least} and {most}, not {value}"))
        .with_field(field))
}

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = media_type(request.headers());
        if !matches!(kind.as_deref(), None | Some("application/json")) {
            let message =
                format!("send `content-type: application/json`, not `{}`", kind.unwrap_or_default());
            return Err(ApiError(Error::new(codes::UNSUPPORTED_MEDIA_TYPE, message)));
        }
        check_encoding(request.headers())?;
        let bytes = read_all(request, state).await?;
        Ok(Self(parse(&bytes, codes::VALIDATION_ERROR)?))
    }
}

/// Refuses a compressed body, which would be read as text.
///
/// # Errors
/// `UNSUPPORTED_MEDIA_TYPE`.
pub fn check_encoding(headers: &HeaderMap) -> Result<()> {
    let encoded = headers.get_all(header::CONTENT_ENCODING).iter().find(|value| *value != "identity");
    encoded.map_or(Ok(()), |value| {
        let shown = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let message = format!("a body is taken as it is, not with `content-encoding: {shown}`");
        Err(Error::new(codes::UNSUPPORTED_MEDIA_TYPE, message).with_field("content-encoding"))
    })
}

/// The body, whole. The size limit is a layer around the routes.
///
/// # Errors
/// `TOO_LARGE` over the limit; `INVALID_REQUEST` when the caller went away.
pub async fn read_all<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Error> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(cause)
            if cause.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE =>
        {
            Error::new(codes::TOO_LARGE, "the body is larger than the server takes; send it in parts")
        }
        other => Error::new(codes::INVALID_REQUEST, "the body could not be read").with_source(other),
    })
}

/// The media type of the body in lower case, without parameters.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Parses a JSON object; a fault names the path of the field. Text that is not JSON at all is `INVALID_REQUEST`.
///
/// # Errors
/// `code` for a field that does not fit.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], code: ErrorCode) -> Result<T> {
    let text = std::str::from_utf8(bytes)
        .map_err(|cause| Error::new(codes::INVALID_REQUEST, format!("the body is not UTF-8: {cause}")))?;
    // An array would fill the fields in order, which nobody means.
    if text.trim_start().starts_with('[') {
        return Err(Error::new(code, "must be a JSON object, not an array"));
    }
    json::read_lenient(text).map_err(|fault| match fault.field {
        Some(field) if fault.is_data => Error::new(code, fault.message).with_field(field),
        None if fault.is_data => Error::new(code, fault.message),
        _ => Error::new(codes::INVALID_REQUEST, format!("the body is not JSON: {}", fault.message)),
    })
}

/// An object within a body. [`parse`] looks at the outermost only; here an array is refused in its place too.
#[derive(Debug, Clone, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// What stands in the address for its parameters. A fault names the parameter.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(value) = axum::extract::Path::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError(address_fault(rejection)))?;
        Ok(Self(value))
    }
}

fn address_fault(rejection: PathRejection) -> Error {
    let PathRejection::FailedToDeserializePathParams(fault) = rejection else {
        return Error::internal(rejection);
    };
    let invalid = |message: String| Error::new(codes::VALIDATION_ERROR, message);
    match fault.kind() {
        PathFault::InvalidUtf8InPathParam { key } => not_utf8().with_field(key),
        PathFault::ParseErrorAtKey { key, value, .. } => {
            invalid(format!("`{value}` cannot be taken")).with_field(key)
        }
        PathFault::DeserializeError { key, message, .. } => invalid(message.clone()).with_field(key),
        _ => Error::internal(fault),
    }
}

fn not_utf8() -> Error {
    Error::new(codes::VALIDATION_ERROR, "must be UTF-8, percent-encoded")
}

/// Query parameters. A fault names the parameter; an unknown parameter is a fault where `T` denies it.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        all_utf8(query)?;
        repeated(query)?;
        let deserializer = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        let value = serde_path_to_error::deserialize(deserializer)
            .map_err(|fault| ApiError(parameter_fault(query, &fault)))?;
        Ok(Self(value))
    }
}

/// A time among query parameters, for a field that is left out where it is missing: `deserialize_with` beside `default`.
///
/// # Errors
/// Where it is not RFC 3339 with an offset.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = text.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "`{text}` is not an RFC 3339 time with an offset, as 2026-01-31T12:00:00Z"
        ))
    })?;
    Ok(Some(time))
}

/// Which page of a list, where nothing else is asked of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// Entries a page, 1 to 1,000; 50 where missing.
    #[param(minimum = 1, maximum = 1_000, example = 20)]
    #[serde(default = "default_limit")]
    limit: usize,
    /// Where an earlier page ended.
    cursor: Option<String>,
}

fn default_limit() -> usize {
    50
}

impl PageParams {
    /// Where the page begins, and its longest.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a limit out of bounds.
    pub fn checked(self) -> Result<(Option<String>, usize)> {
        check_range(self.limit, 1, 1_000, "limit")?;
        Ok((self.cursor, self.limit))
    }
}

fn parameter_fault(query: &str, fault: &serde_path_to_error::Error<serde_urlencoded::de::Error>) -> Error {
    let field = json::field(&fault.path().to_string(), &fault.inner().to_string()).unwrap_or_default();
    let given = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| *name == field);
    let cause = json::in_words(&fault.inner().to_string());
    let message = match given {
        // The parser of numbers does not say what it was given.
        Some((_, value)) if cause.contains("invalid digit found") || cause.contains("integer from empty") => {
            format!("`{value}` is not a whole number")
        }
        Some((_, value)) if !cause.contains('`') => format!("`{value}` cannot be taken: {cause}"),
        _ => cause,
    };
    let error = Error::new(codes::VALIDATION_ERROR, message);
    if field.is_empty() { error } else { error.with_field(field) }
}

/// Refuses what is not text, which the decoder would replace without a word.
fn all_utf8(query: &str) -> Result<(), ApiError> {
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_text = |part| percent_encoding::percent_decode_str(part).decode_utf8().is_ok();
        if !is_text(name) || !is_text(value) {
            let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
            return Err(ApiError(not_utf8().with_field(name.replace('+', " "))));
        }
    }
    Ok(())
}

/// Refuses a parameter given twice, because which one counts would be a guess.
fn repeated(query: &str) -> Result<(), ApiError> {
    let mut seen = BTreeMap::new();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if seen.insert(name.clone(), ()).is_some() {
            let error = Error::new(codes::VALIDATION_ERROR, "is given twice").with_field(name.into_owned());
            return Err(ApiError(error));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its shape is tested")]
    struct Shape {
        items: Vec<Object<Inner>>,
    }

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only its shape is tested")]
    struct Inner {
        value: f64,
    }

    #[test]
    fn faults_name_the_field() {
        let check = |body: &[u8], code: &str, field: Option<&str>| {
            let error = parse::<Shape>(body, codes::VALIDATION_ERROR).unwrap_err();
            assert_eq!(
                (error.code().name, error.field()),
                (code, field),
                "{}",
                String::from_utf8_lossy(body)
            );
        };
        check(br#"{"items":[{"value":1},{"value":"x"}]}"#, "VALIDATION_ERROR", Some("items[1].value"));
        check(br#"{"items":[{"value":NaN}]}"#, "INVALID_REQUEST", None);
        check(br#"{"items":[{"value":1e999}]}"#, "INVALID_REQUEST", None);
        check(br#"{"items":[[1]]}"#, "VALIDATION_ERROR", Some("items[0]"));
        check(br#"{}"#, "VALIDATION_ERROR", Some("items"));
        check(br#"{"items":[{}]}"#, "VALIDATION_ERROR", Some("items[0].value"));
        check(br#"{"items":[],"items":[]}"#, "VALIDATION_ERROR", Some("items"));
        check(br#"{"items":[]} trailing"#, "INVALID_REQUEST", None);
        check(br#"{"items":"#, "INVALID_REQUEST", None);
        check(b"\xff\xfe", "INVALID_REQUEST", None);
        check(br#" [[]]"#, "VALIDATION_ERROR", None);
        check(b"", "INVALID_REQUEST", None);
    }
}
