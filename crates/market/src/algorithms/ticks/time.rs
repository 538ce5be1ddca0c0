//! The time of a tick, from whatever a feed sends.
//!
//! | sent | taken as |
//! |---|---|
//! | a number, or text of digits only | the one unit of s, ms, us, ns in which it falls between 1980 and 2100 |
//! | ISO 8601 with an offset | that instant |
//! | ISO 8601 without an offset, or a date alone | UTC |
//!
//! The four ranges do not touch, so that a number fits at most one unit; a number that fits none (`20240101`, `0`, a
//! negative one) is refused rather than guessed, and so is a zone name in brackets. A feed whose numbers lie outside
//! declares its unit. Fractions are kept to the microsecond, the nearest one.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const EARLIEST_SECOND: i64 = 315_532_800; // 1980-01-01
const LATEST_SECOND: i64 = 4_102_444_800; // 2100-01-01
const MICROSECONDS: i64 = 1_000_000;

/// What the numbers of a feed count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum TimeUnit {
    /// Told by size: see the rules of this file.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Thousandths.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Millionths.
    #[serde(rename = "us")]
    Microseconds,
    /// Billionths.
    #[serde(rename = "ns")]
    Nanoseconds,
}

/// Why a time was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TimeFault {
    /// No unit puts it between 1980 and 2100.
    #[error(
        "is between 1980 and 2100 neither in s, ms, us nor ns; send ISO 8601 or declare the unit of the feed"
    )]
    Ambiguous,
    /// Not a number and not ISO 8601.
    #[error("is not a time; send seconds, ms, us or ns since 1970 as a number, or ISO 8601")]
    NotATime,
    /// Not finite.
    #[error("is not a finite number")]
    NotFinite,
}

/// Microseconds since 1970 from a whole number.
///
/// # Errors
/// See [`TimeFault`].
pub fn from_integer(number: i64, unit: TimeUnit) -> Result<i64, TimeFault> {
    let unit = if unit == TimeUnit::Auto { unit_of(number)? } else { unit };
    let instant_us = match unit {
        TimeUnit::Auto | TimeUnit::Seconds => number.checked_mul(MICROSECONDS),
        TimeUnit::Milliseconds => number.checked_mul(1_000),
        TimeUnit::Microseconds => Some(number),
        TimeUnit::Nanoseconds => Some(number.div_euclid(1_000) + i64::from(number.rem_euclid(1_000) >= 500)),
    };
    instant_us.filter(|instant| is_representable(*instant)).ok_or(TimeFault::NotATime)
}

/// Microseconds since 1970 from a number with a fraction.
///
/// # Errors
/// See [`TimeFault`].
pub fn from_float(number: f64, unit: TimeUnit) -> Result<i64, TimeFault> {
    if !number.is_finite() {
        return Err(TimeFault::NotFinite);
    }
    // Casts of floats saturate, and what saturates fits no unit.
    let unit = if unit == TimeUnit::Auto { unit_of(number.floor() as i64)? } else { unit };
    let factor = match unit {
        TimeUnit::Auto | TimeUnit::Seconds => 1e6,
        TimeUnit::Milliseconds => 1e3,
        TimeUnit::Microseconds => 1.0,
        TimeUnit::Nanoseconds => 1e-3,
    };
    let instant = (number * factor).round() as i64;
    if is_representable(instant) { Ok(instant) } else { Err(TimeFault::NotATime) }
}

/// Microseconds since 1970 from text.
///
/// # Errors
/// See [`TimeFault`].
pub fn from_text(text: &str, unit: TimeUnit) -> Result<i64, TimeFault> {
    if let Ok(number) = text.parse::<i64>() {
        return from_integer(number, unit);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && let Ok(number) = text.parse::<f64>()
    {
        return from_float(number, unit);
    }
    // A zone name can contradict the clock time beside it.
    if text.contains('[') {
        return Err(TimeFault::NotATime);
    }
    let instant = match text.parse::<Timestamp>() {
        Ok(instant) => instant,
        Err(_) => naive(text).ok_or(TimeFault::NotATime)?,
    };
    Ok(instant.as_nanosecond().div_euclid(1_000) as i64
        + i64::from(instant.as_nanosecond().rem_euclid(1_000) >= 500))
}

fn naive(text: &str) -> Option<Timestamp> {
    let is_date = text.len() == 10;
    let moment =
        if is_date { text.parse::<Date>().ok()?.at(0, 0, 0, 0) } else { text.parse::<DateTime>().ok()? };
    Offset::UTC.to_timestamp(moment).ok()
}

fn unit_of(number: i64) -> Result<TimeUnit, TimeFault> {
    let units = [
        (TimeUnit::Seconds, 1),
        (TimeUnit::Milliseconds, 1_000),
        (TimeUnit::Microseconds, 1_000_000),
        (TimeUnit::Nanoseconds, 1_000_000_000),
    ];
    let fits = |scale: i64| (EARLIEST_SECOND * scale..LATEST_SECOND * scale).contains(&number);
    units.into_iter().find(|(_, scale)| fits(*scale)).map(|(unit, _)| unit).ok_or(TimeFault::Ambiguous)
}

fn is_representable(instant_us: i64) -> bool {
    Timestamp::from_microsecond(instant_us).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NEW_YEAR_US: i64 = 1_704_067_200_000_000; // 2024-01-01

    #[test]
    fn numbers_and_text_are_recognised() {
        let check = |text: &str, expected: Result<i64, TimeFault>| {
            assert_eq!(from_text(text, TimeUnit::Auto), expected, "{text}");
        };
        for text in [
            "1704067200",
            "1704067200000",
            "1704067200000000",
            "1704067200000000000",
            "1704067200.0",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01 00:00:00",
            "2024-01-01T00:00:00Z",
            "2024-01-01T01:00:00+01:00",
            "2023-12-31T19:00:00.000-05:00",
        ] {
            check(text, Ok(NEW_YEAR_US));
        }
        check("1704067200.25", Ok(NEW_YEAR_US + 250_000));
        check("1704067200000001500", Ok(NEW_YEAR_US + 2));
        check("2024-01-01T00:00:00.123456Z", Ok(NEW_YEAR_US + 123_456));
        check("1986-01-02", Ok(505_008_000_000_000));
        for text in ["0", "-5", "20240101", "10000000000", "9223372036854775807", "100000000000000000000000"]
        {
            assert!(from_text(text, TimeUnit::Auto).is_err(), "{text}");
        }
        for text in ["", "noon", "NaN", "01/02/2024", "2024-01-01T00:00:00[America/New_York]", "2024-13-01"] {
            check(text, Err(TimeFault::NotATime));
        }
        assert_eq!(from_float(f64::NAN, TimeUnit::Auto), Err(TimeFault::NotFinite));
        assert_eq!(from_float(1e300, TimeUnit::Auto), Err(TimeFault::Ambiguous));
        assert_eq!(from_float(1e300, TimeUnit::Seconds), Err(TimeFault::NotATime));
    }

    #[test]
    fn a_declared_unit_is_not_questioned() {
        assert_eq!(from_integer(0, TimeUnit::Seconds), Ok(0));
        assert_eq!(from_integer(86_400_000, TimeUnit::Milliseconds), Ok(86_400_000_000));
        assert_eq!(from_integer(i64::MAX, TimeUnit::Seconds), Err(TimeFault::NotATime));
    }

    proptest! {
        #[test]
        fn every_unit_gives_the_same_instant(second in EARLIEST_SECOND..LATEST_SECOND) {
            for scale in [1, 1_000, 1_000_000, 1_000_000_000] {
                prop_assert_eq!(from_integer(second * scale, TimeUnit::Auto), Ok(second * MICROSECONDS));
            }
        }

        #[test]
        fn text_never_panics(text in "\\PC{0,40}") {
            let _ = from_text(&text, TimeUnit::Auto);
        }
    }
}
