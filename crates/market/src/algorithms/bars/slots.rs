//! The interval of each of many instants, without asking the time zone for each.
//!
//! Kept are the stretches between changes of the clock and the days that were met. An answer that was kept is the
//! answer: a stretch or a day that contains the instant is the only one that does.

use rustc_hash::FxHashMap;

use super::calendar::{Calendar, Clockwork, Slot};
use super::{BarFault, Interval};

const DAY_US: i64 = 86_400_000_000;
const DAYS_KEPT: usize = 4_096;
const STRETCHES_KEPT: usize = 64;

/// What was learned of a calendar.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    stretches: Vec<Clockwork>,
    days: FxHashMap<i64, Slot>,
}

impl Slots {
    /// The interval that an instant is in. Always the same calendar must be given.
    ///
    /// # Errors
    /// `Time` beyond the year 9999.
    pub fn slot(&mut self, calendar: &Calendar, interval: Interval, time_us: i64) -> Result<Slot, BarFault> {
        match interval {
            Interval::Minutes(minutes) => Ok(self.clock(calendar, time_us)?.slot(minutes, time_us)),
            Interval::Day => self.day(calendar, time_us),
        }
    }

    fn clock(&mut self, calendar: &Calendar, time_us: i64) -> Result<Clockwork, BarFault> {
        if let Some(known) = self.stretches.iter().find(|known| known.stretch.contains(time_us)) {
            return Ok(*known);
        }
        let found = calendar.clock(time_us)?;
        if self.stretches.len() == STRETCHES_KEPT {
            self.stretches.clear();
        }
        self.stretches.push(found);
        Ok(found)
    }

    fn day(&mut self, calendar: &Calendar, time_us: i64) -> Result<Slot, BarFault> {
        // A day of an exchange covers parts of two or three days of UTC, so that each of these keeps the last one met.
        let key = time_us.div_euclid(DAY_US / 4);
        if let Some(known) = self.days.get(&key)
            && known.contains(time_us)
        {
            return Ok(*known);
        }
        let found = calendar.slot(Interval::Day, time_us)?;
        if self.days.len() == DAYS_KEPT {
            self.days.clear();
        }
        self.days.insert(key, found);
        Ok(found)
    }
}
