//! A finite number, sent as a number or as decimal text (exchanges send prices as text to keep their digits).

use super::capture::{Scalar, wrong_type};
use super::rejection::{Rejection, RejectionCode};

const TEXT_BYTES_MAX: usize = 64;

/// The number, without the sign of a zero.
///
/// # Errors
/// When it is neither, or not finite; `field` is named.
pub(super) fn finite(value: &Scalar<'_>, field: &str) -> Result<f64, Rejection> {
    let number = match value {
        Scalar::Integer(number) => *number as f64,
        Scalar::Float(number) => *number,
        Scalar::Text(text) if text.len() <= TEXT_BYTES_MAX => {
            text.parse().map_err(|_| wrong_type(field, value, "a number"))?
        }
        other => return Err(wrong_type(field, other, "a number")),
    };
    if number.is_finite() {
        return Ok(number + 0.0);
    }
    Err(Rejection::new(RejectionCode::NotFinite, field, "is not a finite number; leave it out or mend it"))
}
