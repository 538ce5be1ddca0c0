//! The columns of Lago et al. 2021, scaled by what was known when they are fitted.
//!
//! Prices of one, two, three and seven days before, both forecasts of the day and of one and seven days before, and the
//! weekday: 10 × 24 + 7. Each hour of each series is scaled by its median and its median absolute deviation in the
//! calibration window, then by `asinh`, so that spikes are large and not ruinous (Uniejewski, Weron and Ziel 2018).

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::market::{HOURS, PowerMarket};
use crate::algorithms::forecasting::matrix::median;

const SERIES: usize = 3;
const WEEKDAYS: usize = 7;
/// A normal distribution's standard deviation over its median absolute deviation.
const NORMAL: f64 = 1.0 / 0.674_489_750_196_082;
/// Hours that hardly move are scaled by this part of the mean deviation of all hours, at least.
const FLOOR: f64 = 0.05;

/// A column group: which series, how many days before.
pub(super) const GROUPS: [(usize, usize); 10] =
    [(0, 1), (0, 2), (0, 3), (0, 7), (1, 0), (1, 1), (1, 7), (2, 0), (2, 1), (2, 7)];
/// Columns of a day.
pub(super) const COLUMNS: usize = GROUPS.len() * HOURS + WEEKDAYS;

/// How one series is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    median: [f64; HOURS],
    deviation: [f64; HOURS],
}

impl Scale {
    fn of(days: &[[f64; HOURS]]) -> Self {
        let mut medians = [0.0; HOURS];
        let mut deviation = [0.0; HOURS];
        let mut values = Vec::with_capacity(days.len());
        for hour in 0..HOURS {
            values.clear();
            values.extend(days.iter().map(|day| day[hour]));
            medians[hour] = median(&mut values);
            values.iter_mut().for_each(|value| *value = (*value - medians[hour]).abs());
            deviation[hour] = median(&mut values) * NORMAL;
        }
        let floor = FLOOR * deviation.iter().sum::<f64>() / HOURS as f64;
        let least = if floor > 0.0 { floor } else { 1.0 };
        deviation.iter_mut().for_each(|value| *value = value.max(least));
        Self { median: medians, deviation }
    }

    fn apply(&self, hour: usize, value: f64) -> f64 {
        ((value - self.median[hour]) / self.deviation[hour]).asinh()
    }

    fn undo(&self, hour: usize, value: f64) -> f64 {
        value.sinh() * self.deviation[hour] + self.median[hour]
    }
}

/// The scales of a calibration window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Scales([Scale; SERIES]);

impl Scales {
    /// By the days `from..until`.
    pub(super) fn of(market: &PowerMarket, from: usize, until: usize) -> Self {
        Self(market.series().map(|series| Scale::of(&series[from..until])))
    }

    /// A row of columns for each of these days, which must have seven days before them.
    pub(super) fn rows(&self, market: &PowerMarket, days: std::ops::Range<usize>) -> Mat<f64> {
        let (series, first) = (market.series(), days.start);
        Mat::from_fn(days.len(), COLUMNS, |row, column| {
            let day = first + row;
            match GROUPS.get(column / HOURS) {
                Some((of, lag)) => self.0[*of].apply(column % HOURS, series[*of][day - lag][column % HOURS]),
                None => f64::from(u8::from(market.weekday(day) == column % HOURS)),
            }
        })
    }

    /// The scaled prices of these days.
    pub(super) fn targets(&self, market: &PowerMarket, days: std::ops::Range<usize>) -> Mat<f64> {
        let prices = market.series()[0];
        Mat::from_fn(days.len(), HOURS, |row, hour| self.0[0].apply(hour, prices[days.start + row][hour]))
    }

    /// Prices of scaled ones.
    pub(super) fn prices(&self, scaled: [f64; HOURS]) -> [f64; HOURS] {
        std::array::from_fn(|hour| self.0[0].undo(hour, scaled[hour]))
    }
}
