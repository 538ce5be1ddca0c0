//! What a failure of the driver or the server means to a caller. Nothing of the server's text reaches the message;
//! the cause is kept for the log.

use kernel::{Error, ErrorCode, codes};
use tokio_postgres::error::SqlState;

/// A failure of one call, and what it says about the connection.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// The connection cannot be used again.
    pub(crate) is_broken: bool,
    /// The server is away, so the same call on a new connection may fail too.
    pub(crate) is_outage: bool,
}

impl Failure {
    fn new(code: ErrorCode, message: &str) -> Self {
        Self { error: Error::new(code, message), is_broken: false, is_outage: false }
    }

    fn broken(mut self) -> Self {
        self.is_broken = true;
        self
    }

    fn outage(mut self) -> Self {
        (self.is_broken, self.is_outage) = (true, true);
        self
    }

    fn caused_by(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { error: self.error.with_source(cause), ..self }
    }

    /// The server did not answer in time.
    pub(crate) fn silent() -> Self {
        Self::new(codes::TIMED_OUT, "the database did not answer in time; try again").outage()
    }

    /// The circuit is open.
    pub(crate) fn refused(error: Error) -> Self {
        Self { error, is_broken: false, is_outage: false }
    }

    /// The server was found to be away while this call waited for it.
    pub(crate) fn abandoned() -> Self {
        let message =
            "the database went away in the middle of a call, which may be done or not; send it again";
        Self::new(codes::UNAVAILABLE, message).outage()
    }

    /// No connection could be made in time.
    pub(crate) fn unreachable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(codes::UNAVAILABLE, "the database cannot be reached; try again").outage().caused_by(cause)
    }

    /// The calls before this one have every connection.
    pub(crate) fn exhausted() -> Self {
        Self::new(codes::OVERLOADED, "every connection to the database is in use; try again")
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(cause: tokio_postgres::Error) -> Self {
        let away = "the database does not answer; try again";
        let found = match cause.code() {
            None if cause.is_closed() || is_of_the_network(&cause) => {
                Some(Self::new(codes::UNAVAILABLE, away).outage())
            }
            None => return Self { error: Error::internal(cause), is_broken: true, is_outage: false },
            Some(state) => of_state(state, away),
        };
        match found {
            Some(found) => found.caused_by(cause),
            None => Self { error: Error::internal(cause), is_broken: false, is_outage: false },
        }
    }
}

fn is_of_the_network(cause: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(cause);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The states of the server's manual, appendix A, that mean something other than a defect.
fn of_state(state: &SqlState, away: &str) -> Option<Failure> {
    let class = state.code().get(..2).unwrap_or_default();
    Some(match (class, state.code()) {
        (_, "57014") => {
            Failure::new(codes::TIMED_OUT, "the database took too long; ask for less or try again")
        }
        (_, "55P03" | "40001" | "40P01") => {
            Failure::new(codes::OVERLOADED, "the database is busy; try again")
        }
        (_, "53100") => {
            Failure::new(codes::STORAGE_FULL, "the database has no room left; nothing was written")
        }
        (_, "53300") => {
            Failure::new(codes::UNAVAILABLE, "the database takes no more connections; try again").outage()
        }
        ("53", _) => Failure::new(codes::UNAVAILABLE, "the database is out of resources; try again"),
        // After a failover, the old primary still answers.
        (_, "25006") => {
            Failure::new(codes::UNAVAILABLE, "the database takes no writes at the moment").broken()
        }
        ("57" | "08", _) => Failure::new(codes::UNAVAILABLE, away).outage(),
        ("58", _) => Failure::new(codes::UNAVAILABLE, "the disk of the database failed").broken(),
        (_, "XX001" | "XX002") => Failure::new(codes::CORRUPTED, "the database found damaged data"),
        ("28", _) | (_, "3D000") => Failure::new(
            codes::UNAVAILABLE,
            "the database refused the connection; check the user, the password and the name in its URL",
        )
        .outage(),
        (_, "42501") => Failure::new(codes::UNAVAILABLE, "the account may not do this in the database"),
        (_, "3F000" | "42P01" | "42883") => {
            Failure::new(codes::UNAVAILABLE, "the schema is not there; run `watershed migrate up`")
        }
        (_, "22003") => Failure::new(codes::VALIDATION_ERROR, "a number is out of the range of the database"),
        (_, "54000") => Failure::new(codes::TOO_LARGE, "the database refused the size of the request"),
        _ => return None,
    })
}
