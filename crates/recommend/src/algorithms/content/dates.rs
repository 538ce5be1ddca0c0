//! Dates among the attributes: a text such as `1995-01-31` or `1995-01-31T08:00:00Z` is a place in time, so that dates that
//! are near are alike, where names would only be equal or not.
//!
//! Refuses every spelling but that of RFC 3339 and ISO 8601 with all digits: `01/02/95` is two dates.

use jiff::civil::Date;

/// Days since 1970 of a text that begins with a date and goes on with a time of day, if with anything; the time is dropped.
pub(super) fn days(text: &str) -> Option<f64> {
    let (date, rest) = text.trim().split_at_checked(10)?;
    if !(rest.is_empty() || rest.starts_with(['T', 't', ' '])) || date.as_bytes()[4] != b'-' {
        return None;
    }
    let date: Date = date.parse().ok()?;
    let since = date.since((jiff::Unit::Day, Date::constant(1970, 1, 1))).ok()?;
    Some(f64::from(since.get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days() {
        for (text, expected) in [
            ("1970-01-01", Some(0.0)),
            ("1969-12-31", Some(-1.0)),
            ("1995-01-01", Some(9_131.0)),
            (" 1995-01-01 ", Some(9_131.0)),
            ("1995-01-01T23:59:59Z", Some(9_131.0)),
            ("1995-01-01 00:00", Some(9_131.0)),
            ("1995-13-01", None),
            ("1995-01-011", None),
            ("01-Jan-1995", None),
            ("01/02/1995", None),
            ("19950101ab", None),
            ("1995", None),
            ("", None),
            ("Ärger über", None),
        ] {
            assert_eq!(days(text), expected, "{text:?}");
        }
    }
}
