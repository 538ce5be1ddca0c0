//! Why a message is not a tick: a stable code, the field, and a sentence for people.
//!
//! The dead-letter record of the guide knows two codes for what a producer can mend, `CONTRACT_VIOLATION` (the shape
//! is wrong) and `VALIDATION_ERROR` (a value is); [`RejectionCode::wire_name`] says which. To add a code: a variant and
//! a line in the table below it.

use std::borrow::Cow;

use serde::Serialize;

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum RejectionCode {
    /// Not JSON, not UTF-8, or not an object.
    Malformed,
    /// More bytes than an event may have.
    TooLarge,
    /// A field that a tick cannot do without.
    Missing,
    /// A field is of another type than it should be.
    WrongType,
    /// The same field twice in one object: which one holds is anybody's guess.
    Repeated,
    /// The raw payload is not JSON text.
    Encoding,
    /// The message speaks for a tenant that its sender does not.
    TenantMismatch,
    /// A name is empty, too long, or has control characters.
    BadName,
    /// NaN, an infinity, or more than a double can hold.
    NotFinite,
    /// A time that is none, or whose unit would be a guess.
    BadTime,
    /// A price that the rules of its market do not allow.
    PriceNotAllowed,
    /// A volume below zero.
    NegativeVolume,
}

impl RejectionCode {
    /// Its name, as it is serialised.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::TooLarge => "TOO_LARGE",
            Self::Missing => "MISSING",
            Self::WrongType => "WRONG_TYPE",
            Self::Repeated => "REPEATED",
            Self::Encoding => "ENCODING",
            Self::TenantMismatch => "TENANT_MISMATCH",
            Self::BadName => "BAD_NAME",
            Self::NotFinite => "NOT_FINITE",
            Self::BadTime => "BAD_TIME",
            Self::PriceNotAllowed => "PRICE_NOT_ALLOWED",
            Self::NegativeVolume => "NEGATIVE_VOLUME",
        }
    }

    /// The code of the guide's dead-letter record.
    #[must_use]
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Malformed
            | Self::TooLarge
            | Self::Missing
            | Self::WrongType
            | Self::Repeated
            | Self::Encoding => "CONTRACT_VIOLATION",
            Self::TenantMismatch
            | Self::BadName
            | Self::NotFinite
            | Self::BadTime
            | Self::PriceNotAllowed
            | Self::NegativeVolume => "VALIDATION_ERROR",
        }
    }
}

/// A message that is not a tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Rejection {
    /// What was wrong.
    pub code: RejectionCode,
    /// The field, as a path from the root of the message with dots; empty where it is the whole message.
    pub field: String,
    /// For people: lowercase, says what to do.
    pub message: Cow<'static, str>,
}

impl Rejection {
    pub(crate) fn new(
        code: RejectionCode,
        field: impl Into<String>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { code, field: field.into(), message: message.into() }
    }
}

impl From<Rejection> for kernel::Error {
    fn from(rejection: Rejection) -> Self {
        let code = match rejection.code {
            RejectionCode::TenantMismatch => kernel::codes::TENANT_MISMATCH,
            RejectionCode::TooLarge => kernel::codes::TOO_LARGE,
            RejectionCode::Malformed => kernel::codes::INVALID_REQUEST,
            _ => kernel::codes::VALIDATION_ERROR,
        };
        Self::new(code, rejection.message).with_field(rejection.field)
    }
}
