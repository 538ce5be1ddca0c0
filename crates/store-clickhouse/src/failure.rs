//! What a failure of the connection or the server means to a caller. Nothing of the server's text reaches the message; the
//! cause is kept for the log, without the address.

use kernel::{Error, ErrorCode, codes};

const AWAY: &str = "ClickHouse does not answer; what was to be stored may be stored or not; send it again";
const TEXT_CHARACTERS_MAX: usize = 500;

/// A failure of one call.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// The server is away, so that the same call may succeed when it is back.
    pub(crate) is_outage: bool,
}

impl Failure {
    fn outage(code: ErrorCode, message: &str) -> Self {
        Self { error: Error::new(code, message), is_outage: true }
    }

    /// The circuit is open, or every connection is taken.
    pub(crate) fn refused(error: Error) -> Self {
        Self { error, is_outage: false }
    }

    /// What the client says of a request without an answer.
    pub(crate) fn of_request(cause: reqwest::Error) -> Self {
        // The statement is in the address, and data may be in the statement.
        let cause = cause.without_url();
        let found = if cause.is_connect() {
            Self::outage(
                codes::UNAVAILABLE,
                "ClickHouse cannot be reached; nothing was stored; send it again",
            )
        } else if cause.is_timeout() {
            let message = "ClickHouse did not answer in time; what was to be stored may be stored or not; send it again";
            Self::outage(codes::TIMED_OUT, message)
        } else {
            Self::outage(codes::UNAVAILABLE, AWAY)
        };
        Self { error: found.error.with_source(cause), ..found }
    }

    /// An answer that is not the wanted one: its status, the server's number for the failure, and its text.
    pub(crate) fn of_answer(status: u16, number: Option<u32>, text: &str) -> Self {
        let cause = format!("{status}: {}", text.chars().take(TEXT_CHARACTERS_MAX).collect::<String>());
        let found = match number {
            Some(number) => of_number(number),
            // What stands between answered.
            None if matches!(status, 502..=504) => Some(Self::outage(codes::UNAVAILABLE, AWAY)),
            None => None,
        };
        match found {
            Some(found) => Self { error: found.error.with_source(cause), ..found },
            None => Self { error: Error::internal(cause), is_outage: false },
        }
    }
}

/// The numbers of the server's `ErrorCodes.cpp` that mean something other than a defect.
fn of_number(number: u32) -> Option<Failure> {
    let (code, message) = match number {
        159 | 160 | 209 => (codes::TIMED_OUT, "ClickHouse took too long; ask for less or try again"),
        202 | 203 | 241 | 252 | 439 => {
            (codes::OVERLOADED, "ClickHouse is busy or has no memory for this; try again or ask for less")
        }
        243 => (codes::STORAGE_FULL, "ClickHouse has no room left; nothing was written"),
        60 | 81 => (
            codes::UNAVAILABLE,
            "the tables are not there; run `watershed migrate up`, then start the servers again",
        ),
        192..=194 | 497 | 516 => {
            let message = "ClickHouse refused the account; check the user, the password and its grants";
            (codes::UNAVAILABLE, message)
        }
        164 | 242 | 319 | 415 | 999 => {
            let message = "ClickHouse is read-only, the account there is, or both are for now; mend that or send it again";
            (codes::UNAVAILABLE, message)
        }
        210 | 236 | 394 | 425 => (codes::UNAVAILABLE, AWAY),
        40 | 246 => (codes::CORRUPTED, "ClickHouse found damaged data"),
        _ => return None,
    };
    Some(Failure { error: Error::new(code, message), is_outage: matches!(number, 210 | 236) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_say_what_to_do() {
        let check = |status: u16, number: Option<u32>, code: ErrorCode, is_outage: bool| {
            let found = Failure::of_answer(status, number, "Code: 1. DB::Exception: secret text");
            assert_eq!((found.error.code(), found.is_outage), (code, is_outage), "{status} {number:?}");
            assert!(!found.error.message().contains("secret"));
        };
        check(500, Some(159), codes::TIMED_OUT, false);
        check(500, Some(252), codes::OVERLOADED, false);
        check(500, Some(241), codes::OVERLOADED, false);
        check(507, Some(243), codes::STORAGE_FULL, false);
        check(404, Some(60), codes::UNAVAILABLE, false);
        check(403, Some(516), codes::UNAVAILABLE, false);
        check(500, Some(242), codes::UNAVAILABLE, false);
        check(500, Some(210), codes::UNAVAILABLE, true);
        check(500, Some(40), codes::CORRUPTED, false);
        check(503, None, codes::UNAVAILABLE, true);
        check(500, Some(62), codes::INTERNAL_ERROR, false);
        check(200, None, codes::INTERNAL_ERROR, false);
    }
}
