//! Reads timestamps: a number since the Unix epoch in a unit that is given or told by its size, or a date and
//! time as RFC 3339, as `2006-01-02 15:04:05 +0000 UTC` (how Go prints it), or without an offset, which is
//! read as UTC.
//!
//! Refuses: local time zones, and years outside -9999 to 9999.

use std::str::FromStr;

use jiff::civil;
use kernel::Timestamp;

use super::fields::shown;

/// What a timestamp column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeUnit {
    /// Numbers by their size (see [`TimeUnit::of_size`]), anything else as a date and time.
    #[default]
    Auto,
    /// Seconds since the Unix epoch; a fraction is kept.
    Seconds,
    /// Milliseconds since the Unix epoch.
    Milliseconds,
    /// Microseconds since the Unix epoch.
    Microseconds,
    /// Nanoseconds since the Unix epoch.
    Nanoseconds,
    /// A date and time in text.
    Rfc3339,
}

impl FromStr for TimeUnit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.strip_prefix("unix_").unwrap_or(text) {
            "auto" => Self::Auto,
            "s" => Self::Seconds,
            "ms" => Self::Milliseconds,
            "us" => Self::Microseconds,
            "ns" => Self::Nanoseconds,
            "rfc3339" => Self::Rfc3339,
            _ => return Err(format!("`{text}` is not a time unit: use s, ms, us, ns, rfc3339 or auto")),
        })
    }
}

impl TimeUnit {
    /// The unit in which a number is a time between 1973 and 5138, which no number is in two units.
    #[must_use]
    pub fn of_size(number: f64) -> Self {
        match number.abs() {
            size if size < 1e11 => Self::Seconds,
            size if size < 1e14 => Self::Milliseconds,
            size if size < 1e17 => Self::Microseconds,
            _ => Self::Nanoseconds,
        }
    }

    /// Reads one cell.
    pub(super) fn read(self, text: &str) -> Result<Timestamp, String> {
        let text = text.trim();
        if self == Self::Rfc3339 {
            return read_date(text);
        }
        if let Ok(whole) = text.parse::<i64>() {
            return self.of_whole(whole);
        }
        match text.parse::<f64>() {
            Ok(number) => self.of_number(number),
            Err(_) if self == Self::Auto => read_date(text),
            Err(_) => Err(format!("{} is not a number of {}", shown(text), self.plural())),
        }
    }

    fn of_whole(self, whole: i64) -> Result<Timestamp, String> {
        let unit = if self == Self::Auto { Self::of_size(whole as f64) } else { self };
        match unit {
            Self::Milliseconds => Timestamp::from_millisecond(whole),
            Self::Microseconds => Timestamp::from_microsecond(whole),
            Self::Nanoseconds => Timestamp::from_nanosecond(i128::from(whole)),
            _ => Timestamp::from_second(whole),
        }
        .map_err(|_| format!("{whole} {} is out of the range of time", unit.plural()))
    }

    pub(super) fn of_number(self, number: f64) -> Result<Timestamp, String> {
        let unit = if self == Self::Auto { Self::of_size(number) } else { self };
        let scale = match unit {
            Self::Milliseconds => 1e-3,
            Self::Microseconds => 1e-6,
            Self::Nanoseconds => 1e-9,
            _ => 1.0,
        };
        if number.is_finite() && number.fract() == 0.0 && number.abs() < 9e15 {
            return unit.of_whole(number as i64);
        }
        let milliseconds = (number * scale * 1e3).round();
        // The cast saturates and turns NaN into 0, so both are refused before it.
        if !milliseconds.is_finite() {
            return Err(format!("{number} is not a time"));
        }
        Timestamp::from_millisecond(milliseconds as i64)
            .map_err(|_| format!("{number} is out of the range of time"))
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
            _ => "seconds",
        }
    }
}

fn read_date(text: &str) -> Result<Timestamp, String> {
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp);
    }
    if let Some(timestamp) = read_go(text) {
        return Ok(timestamp);
    }
    let civil = text.parse::<civil::DateTime>();
    civil
        .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC))
        .map(|zoned| zoned.timestamp())
        .map_err(|_| format!("{} is not a time such as 2024-05-01T12:00:00Z", shown(text)))
}

/// `2020-01-01 01:01:01.000000001 +0000 UTC`, with the name of the zone, which says nothing new, left out.
fn read_go(text: &str) -> Option<Timestamp> {
    let mut words = text.split(' ');
    let (date, time, offset) = (words.next()?, words.next()?, words.next()?);
    let (sign, digits) = offset.split_at_checked(1)?;
    if !matches!(sign, "+" | "-") || digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{date}T{time}{sign}{}:{}", &digits[..2], &digits[2..]).parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read() {
        let check = |unit: &str, text: &str, expected: Result<&str, &str>| {
            let read = unit.parse::<TimeUnit>().unwrap().read(text).map(|timestamp| timestamp.to_string());
            match expected {
                Ok(expected) => assert_eq!(read.as_deref(), Ok(expected), "{text} {unit}"),
                Err(part) => {
                    assert!(read.as_ref().is_err_and(|reason| reason.contains(part)), "{text}: {read:?}");
                }
            }
        };
        check("s", "881250949", Ok("1997-12-04T15:55:49Z"));
        check("s", "1.5", Ok("1970-01-01T00:00:01.5Z"));
        check("unix_ms", "1700000000123", Ok("2023-11-14T22:13:20.123Z"));
        check("us", "1700000000123456", Ok("2023-11-14T22:13:20.123456Z"));
        check("ns", "1700000000123456789", Ok("2023-11-14T22:13:20.123456789Z"));
        check("auto", "1700000000", Ok("2023-11-14T22:13:20Z"));
        check("auto", "1700000000000", Ok("2023-11-14T22:13:20Z"));
        check("auto", "1700000000000000", Ok("2023-11-14T22:13:20Z"));
        check("auto", "1700000000000000000", Ok("2023-11-14T22:13:20Z"));
        check("auto", "1.7e9", Ok("2023-11-14T22:13:20Z"));
        check("auto", " 2024-05-01T12:00:00+02:00 ", Ok("2024-05-01T10:00:00Z"));
        check("rfc3339", "2024-05-01 12:00:00Z", Ok("2024-05-01T12:00:00Z"));
        check("auto", "2024-05-01 12:00:00", Ok("2024-05-01T12:00:00Z"));
        check("auto", "2024-05-01", Ok("2024-05-01T00:00:00Z"));
        check("auto", "2020-01-01 01:01:01.000000001 +0000 UTC", Ok("2020-01-01T01:01:01.000000001Z"));
        check("auto", "2020-01-01 01:01:01 +0200 EET", Ok("2019-12-31T23:01:01Z"));
        check("s", "-62135596800", Ok("0001-01-01T00:00:00Z"));
        check("s", "noon", Err("`noon` is not a number of seconds"));
        check("auto", "noon", Err("`noon` is not a time such as"));
        check("auto", "", Err("is not a time such as"));
        check("s", "9223372036854775807", Err("out of the range"));
        check("s", "1e300", Err("out of the range"));
        check("s", "NaN", Err("not a time"));
        check("ms", "inf", Err("not a time"));
        assert!("minutes".parse::<TimeUnit>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,30}|[0-9.e:TZ +-]{0,30}") {
            for unit in [TimeUnit::Auto, TimeUnit::Seconds, TimeUnit::Nanoseconds, TimeUnit::Rfc3339] {
                let _ = unit.read(&text);
            }
        }
    }
}
