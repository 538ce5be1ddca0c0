//! One error type. Its kind says what the caller should do, its code is stable and public, its message is for
//! people and may change, its source chain is kept for the log and never shown to a caller.
//!
//! To add a code: one line in [`codes`] when two crates need it, else a `const` beside its owner. A code is
//! never renamed and never reused.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Mend the request; the same one fails again.
    Invalid,
    /// Prove who you are.
    Unauthenticated,
    /// Ask for a permission.
    Forbidden,
    /// It is not there.
    NotFound,
    /// It is there already, or it changed since it was read: read it again, then decide.
    Conflict,
    /// Send less at once.
    TooLarge,
    /// Wait, then send the same again.
    Busy,
    /// Something that this depends on is away: the same request may succeed later.
    Unavailable,
    /// An operator must make room; nothing was written.
    StorageFull,
    /// Stored bytes are not what was written; an operator must look.
    Corrupted,
    /// A defect of Watershed.
    Internal,
}

impl ErrorKind {
    /// Whether sending the same request again later can succeed.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable | Self::StorageFull)
    }
}

/// A stable, public name of one thing that can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode {
    /// `SCREAMING_SNAKE_CASE`, unique over all crates.
    pub name: &'static str,
    /// What the caller should do.
    pub kind: ErrorKind,
    /// One short sentence that fits every occurrence.
    pub title: &'static str,
}

/// The codes that several crates use.
pub mod codes {
    use super::{ErrorCode, ErrorKind};

    macro_rules! codes {
        ($($name:ident, $kind:ident, $title:literal;)*) => {
            $(
                #[doc = $title]
                pub const $name: ErrorCode =
                    ErrorCode { name: stringify!($name), kind: ErrorKind::$kind, title: $title };
            )*
            /// Every code of this crate.
            pub const ALL: &[ErrorCode] = &[$($name),*];
        };
    }

    codes! {
        INVALID_REQUEST, Invalid, "The request cannot be understood";
        VALIDATION_ERROR, Invalid, "A field of the request is not acceptable";
        INVALID_ID, Invalid, "An id is empty, too long, or has control characters";
        INVALID_TENANT, Invalid, "A tenant name has characters it may not have";
        INVALID_EVENT, Invalid, "An event is not a valid CloudEvent";
        AUTH_ERROR, Unauthenticated, "The credential is missing or not valid";
        PERMISSION_DENIED, Forbidden, "The credential does not have the permission";
        TENANT_MISMATCH, Forbidden, "The credential does not speak for that tenant";
        NOT_FOUND, NotFound, "There is nothing at that address";
        METHOD_NOT_ALLOWED, Invalid, "That address does not answer this method";
        UNSUPPORTED_MEDIA_TYPE, Invalid, "The content type is not one that is understood here";
        CONFLICT, Conflict, "It exists already or has changed since it was read";
        TOO_LARGE, TooLarge, "The request is larger than the limit";
        OVERLOADED, Busy, "The server has more work than it can take";
        TIMED_OUT, Unavailable, "The work was not done within the time limit";
        UNAVAILABLE, Unavailable, "Something that this depends on does not answer";
        STORAGE_FULL, StorageFull, "The disk is full; nothing was written";
        CORRUPTED, Corrupted, "Stored data failed its checksum";
        INTERNAL_ERROR, Internal, "The server failed to answer";
    }
}

/// Something that went wrong, and what to do about it.
pub struct Error(Box<Inner>);

struct Inner {
    code: ErrorCode,
    message: String,
    field: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with a public message: lowercase, no full stop, says what to do.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), field: None, source: None }))
    }

    /// Names the field (a JSON pointer or a parameter) that the message is about.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// Keeps the cause, for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// A defect: the cause is logged, the caller learns nothing of it.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(codes::INTERNAL_ERROR, "an internal error was logged").with_source(source)
    }

    /// The stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.code.kind
    }

    /// The message for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The field it is about, where there is one.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// The message and every cause under it, for the log.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.field {
            Some(field) => write!(formatter, "{field}: {}", self.0.message),
            None => formatter.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.0.code.name, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_screaming() {
        let names: BTreeSet<_> = codes::ALL.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), codes::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')));
    }

    #[test]
    fn chain_keeps_causes_and_display_hides_them() {
        let cause = std::io::Error::other("disk on fire");
        let error = Error::new(codes::UNAVAILABLE, "the log cannot be read").with_source(cause);
        assert_eq!(error.to_string(), "the log cannot be read");
        assert_eq!(error.chain(), "the log cannot be read: disk on fire");
    }
}
