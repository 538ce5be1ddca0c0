//! Whole days of hourly prices with two forecasts for each hour.

use jiff::civil::Date;

use crate::algorithms::forecasting::ForecastFault;

/// Hours of a day; clock changes are settled by whoever publishes the table.
pub const HOURS: usize = 24;
const PRICE_MAX: f64 = 1e6;

/// Prices and two exogenous forecasts, by day and hour. Forecasts may go further than prices.
#[derive(Debug, Clone, PartialEq)]
pub struct PowerMarket {
    first_day: Date,
    prices: Vec<[f64; HOURS]>,
    exogenous: [Vec<[f64; HOURS]>; 2],
}

impl PowerMarket {
    /// Puts whole days together.
    ///
    /// # Errors
    /// [`ForecastFault::Format`] where lengths differ, [`ForecastFault::NotFinite`] where a value is not a number.
    pub fn new(
        first_day: Date,
        prices: Vec<[f64; HOURS]>,
        exogenous: [Vec<[f64; HOURS]>; 2],
    ) -> Result<Self, ForecastFault> {
        if exogenous[0].len() != exogenous[1].len() || exogenous[0].len() < prices.len() {
            let message = "both forecasts need the same days, and at least those of the prices";
            return Err(ForecastFault::Format(message.to_owned()));
        }
        for (column, days) in
            [("price", &prices), ("forecast 1", &exogenous[0]), ("forecast 2", &exogenous[1])]
        {
            let wrong = |value: &f64| !value.is_finite() || (column == "price" && value.abs() > PRICE_MAX);
            if let Some(row) = days.as_flattened().iter().position(wrong) {
                return Err(ForecastFault::NotFinite { row, column: column.to_owned() });
            }
        }
        Ok(Self { first_day, prices, exogenous })
    }

    /// Reads rows of `time, price, forecast, forecast` with a head, an hour each, from midnight on without a gap.
    ///
    /// # Errors
    /// [`ForecastFault::Format`] naming the line.
    pub fn parse(text: &str) -> Result<Self, ForecastFault> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
        let mut columns: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::new());
        let mut first_day = None;
        for (index, record) in reader.records().enumerate() {
            let wrong = |what: &str| ForecastFault::Format(format!("line {}: {what}", index + 2));
            let record = record.map_err(|cause| wrong(&cause.to_string()))?;
            let time: jiff::civil::DateTime = record
                .get(0)
                .and_then(|field| field.parse().ok())
                .ok_or_else(|| wrong("the time is not a time"))?;
            let first = *first_day.get_or_insert_with(|| time.date());
            let expected = first.to_datetime(jiff::civil::Time::midnight())
                + jiff::Span::new().hours(i64::try_from(index).unwrap_or(i64::MAX));
            if time != expected {
                return Err(wrong(&format!("{expected} was expected, every hour once from midnight on")));
            }
            for (column, field) in columns.iter_mut().zip(1..) {
                let value = record.get(field).and_then(|field| field.parse().ok());
                column.push(value.ok_or_else(|| wrong("a price and two forecasts are needed"))?);
            }
        }
        let first_day = first_day.ok_or_else(|| ForecastFault::Format("the table has no rows".to_owned()))?;
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

    /// The part of the year that has passed, 0 to 1.
    pub(super) fn season(&self, day: usize) -> f64 {
        let first = f64::from(self.first_day.day_of_year());
        ((first + day as f64) / 365.25).fract()
    }
}
