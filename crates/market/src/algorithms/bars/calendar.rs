//! When an exchange trades, and which interval of its clock an instant is in.
//!
//! Minutes and hours follow the exchange's clock and never cross a change of it: the hour that comes twice in autumn is
//! two hours. A trading day begins a fixed time before or after midnight (CME: six hours before) and belongs to the
//! date of that midnight. Zones come from the bundled table, so that bars do not depend on the machine.
//!
//! To add an exchange: a [`CalendarSettings`] in configuration. Holidays are given, never computed.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BarFault, Interval};

const MINUTE_US: i64 = 60_000_000;
const DAY_MINUTES: i32 = 1_440;

/// An exchange, as configured. Minutes count from local midnight of the trading date and may be negative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CalendarSettings {
    /// IANA name of its time zone.
    pub time_zone: String,
    /// When a trading day begins, from -1439 to 1439.
    pub day_begins_minute: i32,
    /// When it trades within the day; all the time where it is not given.
    pub trades: Option<Range<i32>>,
    /// Weekdays without trading, 1 for Monday to 7 for Sunday.
    pub closed_weekdays: Vec<i8>,
    /// Dates without trading.
    #[schemars(with = "BTreeSet<String>")]
    pub holidays: BTreeSet<Date>,
}

impl Default for CalendarSettings {
    /// Every day of UTC.
    fn default() -> Self {
        Self {
            time_zone: "UTC".to_owned(),
            day_begins_minute: 0,
            trades: None,
            closed_weekdays: Vec::new(),
            holidays: BTreeSet::new(),
        }
    }
}

/// One interval of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The first microsecond.
    pub start_us: i64,
    /// The microsecond after the last.
    pub end_us: i64,
}

impl Slot {
    /// Whether an instant is in it.
    #[must_use]
    pub fn contains(self, time_us: i64) -> bool {
        self.start_us <= time_us && time_us < self.end_us
    }
}

/// When an exchange trades.
#[derive(Debug, Clone)]
pub struct Calendar {
    zone: TimeZone,
    settings: CalendarSettings,
}

impl Calendar {
    /// Checks the settings.
    ///
    /// # Errors
    /// `Calendar` for a zone that is not in the table, or minutes that are not of a day.
    pub fn new(settings: CalendarSettings) -> Result<Self, BarFault> {
        let bad = |told: String| Err(BarFault::Calendar(told));
        let Ok(zone) = TimeZoneDatabase::bundled().get(&settings.time_zone) else {
            return bad(format!("`{}` is not the IANA name of a time zone", settings.time_zone));
        };
        if settings.day_begins_minute.abs() >= DAY_MINUTES {
            return bad("a day begins less than 24 hours from midnight".to_owned());
        }
        if let Some(trades) = &settings.trades {
            let day = settings.day_begins_minute..settings.day_begins_minute + DAY_MINUTES;
            if trades.is_empty() || trades.start < day.start || trades.end > day.end {
                return bad("an exchange trades within its day, from a minute to a later one".to_owned());
            }
        }
        if settings.closed_weekdays.iter().any(|day| Weekday::from_monday_one_offset(*day).is_err()) {
            return bad("a weekday is a number from 1 (Monday) to 7 (Sunday)".to_owned());
        }
        Ok(Self { zone, settings })
    }

    /// Whether the exchange trades on a date.
    #[must_use]
    pub fn is_open(&self, date: Date) -> bool {
        let weekday = date.weekday().to_monday_one_offset();
        !self.settings.closed_weekdays.contains(&weekday) && !self.settings.holidays.contains(&date)
    }

    /// The trading date that an instant belongs to.
    ///
    /// # Errors
    /// `Time` beyond the year 9999.
    pub fn date_of(&self, time_us: i64) -> Result<Date, BarFault> {
        let local = self.zone.to_datetime(instant(time_us)?);
        let shifted =
            local.checked_sub(minutes(self.settings.day_begins_minute)).map_err(|_| BarFault::Time)?;
        let mut date = shifted.date();
        // Where the clock is put back over the begin of a day, its wall time says the day before once more.
        if time_us >= self.begin(next(date)?)? {
            date = next(date)?;
        } else if time_us < self.begin(date)? {
            date = date.yesterday().map_err(|_| BarFault::Time)?;
        }
        Ok(date)
    }

    /// The whole trading day of a date.
    ///
    /// # Errors
    /// `Time` beyond the year 9999.
    pub fn day(&self, date: Date) -> Result<Slot, BarFault> {
        Ok(Slot { start_us: self.begin(date)?, end_us: self.begin(next(date)?)? })
    }

    /// When the exchange trades on a date; none where it does not.
    ///
    /// # Errors
    /// `Time` beyond the year 9999.
    pub fn session(&self, date: Date) -> Result<Option<Slot>, BarFault> {
        if !self.is_open(date) {
            return Ok(None);
        }
        let Some(trades) = &self.settings.trades else { return self.day(date).map(Some) };
        let slot = Slot { start_us: self.wall(date, trades.start)?, end_us: self.wall(date, trades.end)? };
        Ok(Some(slot))
    }

    /// The interval that an instant is in. For many instants [`super::Slots`] is faster and says the same.
    ///
    /// # Errors
    /// `Time` beyond the year 9999.
    pub fn slot(&self, interval: Interval, time_us: i64) -> Result<Slot, BarFault> {
        match interval {
            Interval::Day => self.day(self.date_of(time_us)?),
            Interval::Minutes(minutes) => Ok(self.clock(time_us)?.slot(minutes, time_us)),
        }
    }

    /// The stretch of time around an instant in which the clock is not changed.
    pub(super) fn clock(&self, time_us: i64) -> Result<Clockwork, BarFault> {
        let now = instant(time_us)?;
        let after = now.checked_add(Span::new().microseconds(1)).map_err(|_| BarFault::Time)?;
        let from = self.zone.preceding(after).next().map(|change| change.timestamp());
        let until = self.zone.following(now).next().map(|change| change.timestamp());
        Ok(Clockwork {
            stretch: Slot {
                start_us: from.unwrap_or(Timestamp::MIN).as_microsecond(),
                end_us: until.unwrap_or(Timestamp::MAX).as_microsecond(),
            },
            offset_us: i64::from(self.zone.to_offset(now).seconds()) * 1_000_000,
        })
    }

    fn begin(&self, date: Date) -> Result<i64, BarFault> {
        self.wall(date, self.settings.day_begins_minute)
    }

    /// The instant at which the clock shows that minute of a date: the first one where it does twice, and the one after
    /// the gap where it never does.
    fn wall(&self, date: Date, minute: i32) -> Result<i64, BarFault> {
        let wall = date.at(0, 0, 0, 0).checked_add(minutes(minute)).map_err(|_| BarFault::Time)?;
        let found = self.zone.to_ambiguous_timestamp(wall).compatible().map_err(|_| BarFault::Time)?;
        Ok(found.as_microsecond())
    }
}

/// A stretch of time with one offset from UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clockwork {
    pub(super) stretch: Slot,
    pub(super) offset_us: i64,
}

impl Clockwork {
    pub(super) fn slot(&self, minutes: u8, time_us: i64) -> Slot {
        let length_us = i64::from(minutes) * MINUTE_US;
        let start_us = (time_us + self.offset_us).div_euclid(length_us) * length_us - self.offset_us;
        Slot {
            start_us: start_us.max(self.stretch.start_us),
            end_us: (start_us + length_us).min(self.stretch.end_us),
        }
    }
}

fn instant(time_us: i64) -> Result<Timestamp, BarFault> {
    Timestamp::from_microsecond(time_us).map_err(|_| BarFault::Time)
}

fn minutes(count: i32) -> Span {
    i64::from(count).minutes()
}

fn next(date: Date) -> Result<Date, BarFault> {
    date.tomorrow().map_err(|_| BarFault::Time)
}
