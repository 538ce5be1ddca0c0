//! The shape of a year in power and gas: how a price of a year or a month is spread over months or hours, as history
//! says, with its mean kept.
//!
//! A profile is a mean for each month of the year, and one for each hour of each weekday within months.
//! [`SeasonalShape::spread`] scales or
//! shifts what history says so that the mean over the hours asked for is the price that was given, exactly up to
//! rounding: what was bought as a year is not worth more in hours.
//!
//! Shifting keeps its meaning with prices of zero and below; scaling is for prices that are always positive. Cells
//! without history take the mean of their hour on other weekdays, and are counted.

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const MONTHS: usize = 12;
const WEEKDAYS: usize = 7;
const HOURS: usize = 24;

/// How a shape is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShapeKind {
    /// Differences are added. Any price.
    #[default]
    Shift,
    /// Quotients are multiplied. Only where means are above zero.
    Scale,
}

/// Why there is no shape.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShapeFault {
    /// No history.
    #[error("a shape needs history")]
    Empty,
    /// A price that is not finite.
    #[error("a price of the history is not a finite number")]
    NotFinite,
    /// A mean of zero or below, which nothing can be scaled by.
    #[error("a mean of the history is not above zero; shift instead of scaling")]
    NotPositive,
}

/// A mean of the history at one local time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    sum: f64,
    /// What rounding lost of the sum (Neumaier 1974), so that long histories lose nothing.
    lost: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        let sum = self.sum + value;
        self.lost +=
            if self.sum.abs() >= value.abs() { (self.sum - sum) + value } else { (value - sum) + self.sum };
        self.sum = sum;
        self.count += 1;
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.sum + self.lost) / self.count as f64)
    }
}

/// What history says of each month, and of each hour of each weekday.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeasonalShape {
    kind: ShapeKind,
    /// A difference or a quotient for each month, January first.
    months: Vec<f64>,
    /// A difference or a quotient for each month, weekday, and hour.
    hours: Vec<f64>,
    /// Cells without history.
    pub empty_cells: usize,
}

impl SeasonalShape {
    /// From prices at local times (daily prices count for the hour that they are given at).
    ///
    /// # Errors
    /// See [`ShapeFault`].
    pub fn fit(
        kind: ShapeKind,
        history: impl IntoIterator<Item = (DateTime, f64)>,
    ) -> Result<Self, ShapeFault> {
        let mut all = Mean::default();
        let mut months = [Mean::default(); MONTHS];
        let mut hours = [Mean::default(); HOURS * WEEKDAYS * MONTHS];
        for (time, price) in history {
            if !price.is_finite() {
                return Err(ShapeFault::NotFinite);
            }
            all.add(price);
            months[month_of(time)].add(price);
            hours[cell_of(time)].add(price);
        }
        let level = all.value().ok_or(ShapeFault::Empty)?;
        let month_means: Vec<f64> = months.iter().map(|mean| mean.value().unwrap_or(level)).collect();
        let hour_means: Vec<f64> = (0..hours.len())
            .map(|cell| hours[cell].value().unwrap_or_else(|| around(&hours, cell, &month_means)))
            .collect();
        if kind == ShapeKind::Scale && (level <= 0.0 || month_means.iter().any(|mean| *mean <= 0.0)) {
            return Err(ShapeFault::NotPositive);
        }
        let against = |value: f64, base: f64| match kind {
            ShapeKind::Shift => value - base,
            ShapeKind::Scale => value / base,
        };
        let month_of_cell = |cell: usize| month_means[cell / (WEEKDAYS * HOURS)];
        Ok(Self {
            kind,
            hours: (0..hours.len()).map(|cell| against(hour_means[cell], month_of_cell(cell))).collect(),
            months: month_means.iter().map(|mean| against(*mean, level)).collect(),
            empty_cells: hours.iter().filter(|mean| mean.count == 0).count(),
        })
    }

    /// The price of each of these local times, of which the mean is `price`. An hour that comes twice is given twice.
    #[must_use]
    pub fn spread(&self, price: f64, times: &[DateTime]) -> Vec<f64> {
        let raw: Vec<f64> = times.iter().map(|time| self.raw(*time)).collect();
        self.levelled(price, &raw, &vec![1.0; raw.len()])
    }

    /// The price of each month (January first) of which the mean, weighted by the hours of each, is `price`.
    #[must_use]
    pub fn months(&self, price: f64, hours: &[f64; MONTHS]) -> Vec<f64> {
        self.levelled(price, &self.months, hours)
    }

    fn raw(&self, time: DateTime) -> f64 {
        let (month, hour) = (self.months[month_of(time)], self.hours[cell_of(time)]);
        match self.kind {
            ShapeKind::Shift => month + hour,
            ShapeKind::Scale => month * hour,
        }
    }

    /// Moves or scales `raw` so that its weighted mean is `price`.
    fn levelled(&self, price: f64, raw: &[f64], weights: &[f64]) -> Vec<f64> {
        let mut sum = Mean::default();
        let mut total = Mean::default();
        for (value, weight) in raw.iter().zip(weights) {
            sum.add(value * weight);
            total.add(*weight);
        }
        let mean = (sum.sum + sum.lost) / (total.sum + total.lost);
        match self.kind {
            ShapeKind::Shift => raw.iter().map(|value| price + (value - mean)).collect(),
            // A few hours can have a mean of zero; then there is nothing to scale, and the price stands for each.
            ShapeKind::Scale if mean == 0.0 => vec![price; raw.len()],
            ShapeKind::Scale => raw.iter().map(|value| price * (value / mean)).collect(),
        }
    }
}

/// The mean of the hour on other weekdays of the month, else of the month.
fn around(hours: &[Mean], cell: usize, month_means: &[f64]) -> f64 {
    let (month, hour) = (cell / (WEEKDAYS * HOURS), cell % HOURS);
    let mut of_hour = Mean::default();
    for weekday in 0..WEEKDAYS {
        if let Some(value) = hours[(month * WEEKDAYS + weekday) * HOURS + hour].value() {
            of_hour.add(value);
        }
    }
    of_hour.value().unwrap_or(month_means[month])
}

fn month_of(time: DateTime) -> usize {
    (time.month() - 1) as usize
}

fn cell_of(time: DateTime) -> usize {
    let weekday = time.weekday().to_monday_zero_offset() as usize;
    (month_of(time) * WEEKDAYS + weekday) * HOURS + time.hour() as usize
}
