//! How long a bar is: some minutes of an hour, an hour, or a trading day of an exchange.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BarFault;

/// How long a bar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Interval {
    /// Minutes that divide an hour; 60 is the hour. They begin at whole ones of the exchange's clock.
    Minutes(u8),
    /// The trading day of the exchange, 23 or 25 hours long where its clock is put forward or back.
    Day,
}

impl Interval {
    /// Five minutes.
    pub const FIVE_MINUTES: Self = Self::Minutes(5);
    /// An hour.
    pub const HOUR: Self = Self::Minutes(60);
}

impl fmt::Display for Interval {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minutes(60) => formatter.write_str("1h"),
            Self::Minutes(minutes) => write!(formatter, "{minutes}m"),
            Self::Day => formatter.write_str("1d"),
        }
    }
}

impl FromStr for Interval {
    type Err = BarFault;

    fn from_str(text: &str) -> Result<Self, BarFault> {
        let minutes = match text {
            "1d" => return Ok(Self::Day),
            "1h" => Some(60),
            _ => text.strip_suffix('m').and_then(|count| count.parse::<u8>().ok()),
        };
        minutes
            .filter(|minutes| *minutes > 0 && 60 % minutes == 0)
            .map(Self::Minutes)
            .ok_or_else(|| BarFault::Interval(text.to_owned()))
    }
}

impl TryFrom<String> for Interval {
    type Error = BarFault;

    fn try_from(text: String) -> Result<Self, BarFault> {
        text.parse()
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        interval.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_guide() {
        for (text, interval) in [
            ("5m", Interval::FIVE_MINUTES),
            ("1h", Interval::HOUR),
            ("1d", Interval::Day),
            ("1m", Interval::Minutes(1)),
        ] {
            assert_eq!(text.parse(), Ok(interval));
            assert_eq!(interval.to_string(), text);
        }
        assert_eq!("60m".parse(), Ok(Interval::HOUR));
        for text in ["", "m", "0m", "7m", "2h", "2d", "61m", "5 m", "-5m", "300m"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }
}
