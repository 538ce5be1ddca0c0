//! What names, keys and values may be. The numbers are those of MLflow, so that its client meets no surprise.

use kernel::{Error, ErrorCode, ErrorKind, Result, codes};

/// A thing of that name is there already.
pub const ALREADY_EXISTS: ErrorCode = ErrorCode {
    name: "ALREADY_EXISTS",
    kind: ErrorKind::Conflict,
    title: "There is one of that name already",
};

/// What was asked for does not fit what the thing is now.
pub const INVALID_STATE: ErrorCode = ErrorCode {
    name: "INVALID_STATE",
    kind: ErrorKind::Conflict,
    title: "The request does not fit the state of what it is about",
};

const KEY_BYTES_MAX: usize = 250;
pub(crate) const PARAM_BYTES_MAX: usize = 6_000;
pub(crate) const TAG_BYTES_MAX: usize = 8_000;
pub(crate) const MODEL_TAG_BYTES_MAX: usize = 100_000;
/// Parameters, tags or latest metrics of one run.
pub(crate) const ENTRIES_MAX: usize = 10_000;

pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

pub(crate) fn missing(what: &str, name: &str) -> Error {
    let shown: String = name.chars().take(100).collect();
    Error::new(codes::NOT_FOUND, format!("there is no {what} `{}`", shown.escape_debug()))
}

/// Checks the key of a metric, parameter or tag.
pub(crate) fn check_key(key: &str, field: &str) -> Result<()> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains(char::is_control) {
        let message = format!("has 1 to {KEY_BYTES_MAX} bytes and no control characters");
        return Err(invalid(field, message));
    }
    Ok(())
}

/// Checks the length of a value.
pub(crate) fn check_value(value: &str, most: usize, field: &str) -> Result<()> {
    if value.len() > most {
        return Err(invalid(field, format!("has at most {most} bytes, not {}", value.len())));
    }
    Ok(())
}

/// Checks the name of an experiment or model.
pub(crate) fn check_name(name: &str, most: usize, field: &str) -> Result<()> {
    if name.trim().is_empty() || name.len() > most || name.contains(char::is_control) {
        return Err(invalid(field, format!("has 1 to {most} bytes and no control characters")));
    }
    Ok(())
}

/// Checks that something does not grow without end.
pub(crate) fn check_count(count: usize, field: &str) -> Result<()> {
    if count > ENTRIES_MAX {
        return Err(invalid(field, format!("there are at most {ENTRIES_MAX} of one run or model")));
    }
    Ok(())
}
