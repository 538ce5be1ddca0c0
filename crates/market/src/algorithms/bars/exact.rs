//! Sums that do not depend on their order: decimal fixed point with nine places in 128 bits.
//!
//! Sums of doubles differ in the last bits with the order of their terms, and a bar must not: the same trades give the
//! same bytes, live, shuffled and backfilled. Prices and volumes are decimals, so that nine places keep them as they
//! were; what is finer is rounded to the nearest.

use super::BarFault;

/// The largest magnitude of a price or a volume.
pub const MAGNITUDE_MAX: f64 = 9e9;

const UNITS: f64 = 1e9;

/// The number in billionths.
pub(super) fn units(value: f64, field: &'static str) -> Result<i64, BarFault> {
    // Written so that NaN is refused too.
    if value.abs() <= MAGNITUDE_MAX {
        Ok((value * UNITS).round() as i64)
    } else {
        Err(BarFault::OutOfRange { field })
    }
}

/// The sum of two totals.
pub(super) fn sum(left: i128, right: i128) -> Result<i128, BarFault> {
    left.checked_add(right).ok_or(BarFault::Overflow)
}

/// A total of billionths as a number, to the nearest double.
pub(super) fn number(units: i128) -> f64 {
    units as f64 / UNITS
}

/// The quotient of a total of products (in billionths of billionths) and a total (in billionths).
pub(super) fn quotient(products: i128, units: i128) -> f64 {
    products as f64 / units as f64 / UNITS
}
