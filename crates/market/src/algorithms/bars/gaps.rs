//! Where bars should be and are not: every interval in which the exchange trades and nobody did.
//!
//! A gap is told as a gap; nothing is carried into it.

use std::collections::BTreeSet;

use super::{BarFault, Calendar, Interval, Slot};

/// The most slots that one question may span.
pub const SLOTS_MAX: usize = 1_000_000;

/// The intervals between two instants in which the exchange trades and that `starts` does not have, in order. Those at
/// the ends count where they begin within the range.
///
/// # Errors
/// `TooLong` for a range of more than [`SLOTS_MAX`] intervals; `Time` beyond the year 9999.
pub fn gaps(
    calendar: &Calendar,
    interval: Interval,
    from_us: i64,
    until_us: i64,
    starts: &BTreeSet<i64>,
) -> Result<Vec<Slot>, BarFault> {
    let mut found = Vec::new();
    let mut seen = 0;
    if from_us >= until_us {
        return Ok(found);
    }
    let mut date = calendar.date_of(from_us)?;
    while calendar.day(date)?.start_us < until_us {
        if let Some(session) = calendar.session(date)? {
            let day = calendar.day(date)?;
            let mut time_us = if interval == Interval::Day { day.start_us } else { session.start_us };
            let end_us = if interval == Interval::Day { day.end_us } else { session.end_us };
            while time_us < end_us {
                let slot = calendar.slot(interval, time_us)?;
                let is_asked = from_us <= slot.start_us && slot.start_us < until_us;
                if is_asked && !starts.contains(&slot.start_us) {
                    found.push(slot);
                }
                time_us = slot.end_us;
                seen += 1;
                if seen > SLOTS_MAX {
                    return Err(BarFault::TooLong);
                }
            }
        } else {
            seen += 1;
            if seen > SLOTS_MAX {
                return Err(BarFault::TooLong);
            }
        }
        date = date.tomorrow().map_err(|_| BarFault::Time)?;
    }
    Ok(found)
}
