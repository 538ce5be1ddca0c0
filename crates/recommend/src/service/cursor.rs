//! Cursors: where a page ended, and of which list.
//!
//! A cursor pins the model version and how much of the user's history counts, so that a click between two pages
//! neither repeats nor skips a result. It is refused once that model is no longer held.

use kernel::{Error, ErrorCode, ErrorKind, Result};

/// The cursor cannot be continued.
pub const CURSOR_EXPIRED: ErrorCode = ErrorCode {
    name: "CURSOR_EXPIRED",
    kind: ErrorKind::Conflict,
    title: "The list that the cursor belongs to is gone",
};

/// The text is not a cursor of this request.
pub const INVALID_CURSOR: ErrorCode = ErrorCode {
    name: "INVALID_CURSOR",
    kind: ErrorKind::Invalid,
    title: "The cursor is not one of this request",
};

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The model that made the list; 0 where none did.
    pub model_version: u64,
    /// Interactions of the user that count.
    pub history: u64,
    /// Results given so far.
    pub offset: u64,
    /// Of the request's other parameters.
    pub fingerprint: u64,
}

impl Cursor {
    /// The text form.
    #[must_use]
    pub fn encode(self) -> String {
        format!("{:x}.{:x}.{:x}.{:x}", self.model_version, self.history, self.offset, self.fingerprint)
    }

    /// Reads the text form; the fingerprint must be the request's.
    ///
    /// # Errors
    /// `INVALID_CURSOR`.
    pub fn decode(text: &str, fingerprint: u64) -> Result<Self> {
        let invalid = |message: &str| Error::new(INVALID_CURSOR, message).with_field("cursor");
        let numbers: Vec<u64> = text
            .split('.')
            .map(|part| u64::from_str_radix(part, 16))
            .collect::<Result<_, _>>()
            .map_err(|_| invalid("is not a cursor that this server gave"))?;
        let [model_version, history, offset, found] = numbers[..] else {
            return Err(invalid("is not a cursor that this server gave"));
        };
        if found != fingerprint {
            return Err(invalid("belongs to a request with other parameters"));
        }
        Ok(Self { model_version, history, offset, fingerprint })
    }
}

/// The error for a cursor whose model is gone.
#[must_use]
pub fn expired() -> Error {
    Error::new(CURSOR_EXPIRED, "the model was trained anew since; ask for the first page again")
        .with_field("cursor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_refuse_others() {
        let cursor = Cursor { model_version: 3, history: 17, offset: 20, fingerprint: u64::MAX };
        assert_eq!(Cursor::decode(&cursor.encode(), u64::MAX).unwrap(), cursor);
        for text in ["", "1", "1.2.3", "1.2.3.4.5", "x.1.1.1", &cursor.encode()] {
            assert_eq!(Cursor::decode(text, 1).unwrap_err().code(), INVALID_CURSOR, "{text}");
        }
    }
}
