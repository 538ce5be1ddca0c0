//! Whole days of hourly prices with two forecasts for each hour.

use jiff::Span;
use jiff::civil::{Date, DateTime, Time, date};

use crate::algorithms::forecasting::ForecastFault;

/// Hours of a day; clock changes are settled by whoever publishes the table.
pub const HOURS: usize = 24;
const PRICE_MAX: f64 = 1e6;
/// Of the two forecasts: megawatts, or whatever they are in.
const FORECAST_MAX: f64 = 1e9;
/// Days are counted from here where the part of the year is told, so that it is the same for any first day of a table.
const EPOCH: Date = date(2000, 1, 1);
/// What the columns behind the time are called, whatever their names.
const NAMES: [&str; 3] = ["price", "forecast 1", "forecast 2"];
const DAYS_OF_YEAR: f64 = 365.25;

/// Prices and two exogenous forecasts, by day and hour. Forecasts may go further than prices.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerMarket {
    first_day: Date,
    prices: Vec<[f64; HOURS]>,
    exogenous: [Vec<[f64; HOURS]>; 2],
}

impl PowerMarket {
    /// Days before the first one that has all its columns.
    pub const LAG_DAYS: usize = 7;

    /// Puts whole days together.
    ///
    /// # Errors
    /// [`ForecastFault::Format`] where lengths differ, or a value is no number of a size that can be meant.
    pub fn new(
        first_day: Date,
        prices: Vec<[f64; HOURS]>,
        exogenous: [Vec<[f64; HOURS]>; 2],
    ) -> Result<Self, ForecastFault> {
        if exogenous[0].len() != exogenous[1].len() || exogenous[0].len() < prices.len() {
            let message = "both forecasts need the same days, and at least those of the prices";
            return Err(ForecastFault::Format(message.to_owned()));
        }
        let days = Span::new().try_days(i64::try_from(exogenous[0].len()).unwrap_or(i64::MAX));
        if days.and_then(|days| first_day.checked_add(days)).is_err() {
            return Err(ForecastFault::Format("the days go beyond the calendar".to_owned()));
        }
        for (column, days) in NAMES.into_iter().zip([&prices, &exogenous[0], &exogenous[1]]) {
            let most = if column == NAMES[0] { PRICE_MAX } else { FORECAST_MAX };
            let wrong = |value: &f64| !value.is_finite() || value.abs() > most;
            if let Some(row) = days.as_flattened().iter().position(wrong) {
                let (value, hour) = (days.as_flattened()[row], row % HOURS);
                let date =
                    first_day.saturating_add(Span::new().days(i64::try_from(row / HOURS).unwrap_or(0)));
                let message =
                    format!("{column} of hour {hour} of {date} is {value}, not from -{most} to {most}");
                return Err(ForecastFault::Format(message));
            }
        }
        Ok(Self { first_day, prices, exogenous })
    }

    /// Reads rows of `time, price, forecast, forecast` with a head, an hour each, from midnight on without a gap. Prices that are
    /// not known yet, at the end, are empty.
    ///
    /// # Errors
    /// [`ForecastFault::Format`] and [`ForecastFault::NotFinite`], naming the line.
    pub fn parse(text: &str) -> Result<Self, ForecastFault> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let mut columns: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::new());
        let mut first_day = None;
        for (index, record) in reader.records().enumerate() {
            let record = record.map_err(|cause| ForecastFault::unread(text, &cause))?;
            let line = || ForecastFault::line(text, record.position());
            let wrong = |what: &str| ForecastFault::Format(format!("line {}: {what}", line()));
            let time: DateTime = record
                .get(0)
                .and_then(|field| field.parse().ok())
                .ok_or_else(|| wrong("the time is not a time"))?;
            let first = *first_day.get_or_insert_with(|| time.date());
            let expected = hour_of(first, index);
            if Some(time) != expected {
                let expected = expected.map_or_else(|| "no more".to_owned(), |time| time.to_string());
                return Err(wrong(&format!("{expected} was expected, every hour once from midnight on")));
            }
            for (column, field) in columns.iter_mut().zip(1..) {
                match record.get(field) {
                    Some("") if field == 1 => {}
                    Some(_) if field == 1 && column.len() < index => {
                        return Err(wrong("a price after an hour without one"));
                    }
                    Some(text) if !text.is_empty() => {
                        column.push(ForecastFault::number(text, line, NAMES[field - 1])?);
                    }
                    _ => return Err(wrong("a price and two forecasts are needed")),
                }
            }
        }
        let first_day = first_day.ok_or_else(|| ForecastFault::Format("the table has no rows".to_owned()))?;
        for (column, name) in columns.iter().zip(["prices", "forecasts", "forecasts"]) {
            let rest = column.len() % HOURS;
            if rest != 0 {
                let message = format!("the last day has {rest} of {HOURS} {name}; days are whole");
                return Err(ForecastFault::Format(message));
            }
        }
        let [prices, one, two] = columns.map(|column| column.as_chunks::<HOURS>().0.to_vec());
        Self::new(first_day, prices, [one, two])
    }

    /// Days with prices.
    #[must_use]
    pub fn price_days(&self) -> usize {
        self.prices.len()
    }

    /// Days with both forecasts.
    #[must_use]
    pub fn exogenous_days(&self) -> usize {
        self.exogenous[0].len()
    }

    /// The prices of a day, from 0.
    ///
    /// # Panics
    /// For a day without prices.
    #[must_use]
    pub fn prices(&self, day: usize) -> [f64; HOURS] {
        self.prices[day]
    }

    /// One of the two forecasts of a day, from 0.
    ///
    /// # Panics
    /// For a day without forecasts, and a third of them.
    #[must_use]
    pub fn exogenous(&self, which: usize, day: usize) -> [f64; HOURS] {
        self.exogenous[which][day]
    }

    /// The date of a day, from 0, which need not be in the table.
    #[must_use]
    pub fn date(&self, day: usize) -> Date {
        let days = Span::new().try_days(i64::try_from(day).unwrap_or(i64::MAX));
        days.map_or(Date::MAX, |days| self.first_day.saturating_add(days))
    }

    /// How many days with both forecasts are not after a date.
    #[must_use]
    pub fn days_until(&self, date: Date) -> usize {
        let days = days_between(self.first_day, date) + 1;
        usize::try_from(days).unwrap_or(0).min(self.exogenous_days())
    }

    /// Some of the days; prices as far as there are any.
    pub(super) fn part(&self, days: std::ops::Range<usize>) -> Self {
        let of = |all: &[[f64; HOURS]]| all[days.start.min(all.len())..days.end.min(all.len())].to_vec();
        Self {
            first_day: self.date(days.start),
            prices: of(&self.prices),
            exogenous: [of(&self.exogenous[0]), of(&self.exogenous[1])],
        }
    }

    /// All days of prices, or of a forecast.
    pub(super) fn series(&self) -> [&[[f64; HOURS]]; 3] {
        [&self.prices, &self.exogenous[0], &self.exogenous[1]]
    }

    /// 0 for Monday.
    #[must_use]
    pub fn weekday(&self, day: usize) -> usize {
        let first = self.first_day.weekday().to_monday_zero_offset();
        (usize::from(first.unsigned_abs()) + day) % 7
    }

    /// The part of a year that has passed since some day, 0 to 1.
    pub(super) fn season(&self, day: usize) -> f64 {
        let since = i64::from(days_between(EPOCH, self.first_day)) + i64::try_from(day).unwrap_or(i64::MAX);
        (since as f64 / DAYS_OF_YEAR).rem_euclid(1.0)
    }
}

/// The hour so many after the midnight of a day.
fn hour_of(first: Date, hours: usize) -> Option<DateTime> {
    let span = Span::new().try_hours(i64::try_from(hours).ok()?).ok()?;
    first.to_datetime(Time::midnight()).checked_add(span).ok()
}

fn days_between(from: Date, until: Date) -> i32 {
    (until - from).get_days()
}
