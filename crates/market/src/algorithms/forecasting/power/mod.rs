//! Day-ahead power prices: the 24 hours of tomorrow, from the prices known today and two forecasts of tomorrow.
//!
//! - [`PowerMarket`]: whole days of 24 hours. [`PowerMarket::parse`] reads the tables of Lago et al. 2021.
//! - [`forecast_days`]: walks over days; the forecast of a day sees prices of the days before and the two forecasts up
//!   to that day, never more.
//! - LEAR (Uniejewski, Nowotarski and Weron 2016; Lago, Marcjasz, De Schutter and Weron 2021): one LASSO for each hour on
//!   247 columns, fitted each day, averaged over calibration windows.
//! - Kernel regression on the same columns, which bends where LEAR is straight; it is fitted anew every few days.
//!
//! The answer is their weighted mean; [`half_widths`] tells how far from it prices may be, [`Calibration`] in which part of the
//! cases. [`PowerForecaster`] is both as of one day, in a file; [`PowerReport`] says how good it was. It refuses hours that are
//! missing: a market has whole days, or no forecast.

mod calibration;
mod columns;
mod fitted;
mod forecaster;
mod intervals;
mod kernels;
mod lear;
mod market;
mod report;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ForecastFault, KernelSettings};
pub use calibration::{Calibration, DayQuantiles};
pub use forecaster::{CALIBRATION_REFIT_DAYS, DayAhead, PowerForecaster};
pub use intervals::half_widths;
pub use market::{HOURS, PowerMarket};
pub use report::{CoverageReport, HourReport, PowerReport, PriceScores, RefittedReport, mean_errors};

const LAG_DAYS: usize = PowerMarket::LAG_DAYS;

/// How the price of a day is forecast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PowerSettings {
    /// Days that each LEAR is calibrated on; the forecasts are averaged.
    pub lear_windows_days: Vec<usize>,
    /// Days after which LEAR chooses its penalties anew; coefficients are fitted each day.
    pub penalty_days: usize,
    /// Days that the kernel regression is calibrated on.
    pub kernel_window_days: usize,
    /// Days after which the kernel regression is fitted anew.
    pub kernel_days: usize,
    /// Of the kernel regression.
    pub kernel: KernelSettings,
    /// The part of the kernel regression in the mean, 0 to 1.
    pub kernel_weight: f64,
    /// Days whose errors intervals and quantiles are made of; 0 for none.
    pub calibration_days: usize,
}

impl Default for PowerSettings {
    fn default() -> Self {
        Self {
            lear_windows_days: vec![56, 84, 1_092, 1_456],
            penalty_days: 28,
            kernel_window_days: 1_456,
            kernel_days: 1,
            kernel: KernelSettings::default(),
            kernel_weight: 0.6,
            calibration_days: 273,
        }
    }
}

impl PowerSettings {
    /// Days of history before the first forecast, at least.
    #[must_use]
    pub fn days_needed(&self) -> usize {
        let shortest = self.lear_windows_days.iter().copied().min().unwrap_or(0);
        LAG_DAYS + shortest.max(28)
    }

    fn validate(&self) -> Result<(), ForecastFault> {
        let refused = |name, bounds| Err(ForecastFault::Setting { name, bounds });
        if self.lear_windows_days.is_empty() || self.lear_windows_days.iter().any(|days| *days < 28) {
            return refused("lear_windows_days", "at least one window of 28 days or more");
        }
        if self.penalty_days == 0 || self.kernel_days == 0 {
            return refused("penalty_days and kernel_days", "at least 1");
        }
        if self.kernel_window_days < 28 {
            return refused("kernel_window_days", "at least 28");
        }
        let kernel = self.kernel;
        let positive = [kernel.length, kernel.noise, kernel.decay_rows];
        if positive.iter().any(|value| !(*value > 0.0 && value.is_finite()))
            || !(0.0..1e6).contains(&kernel.linear)
        {
            return refused("kernel", "of positive length, noise and decay_rows, and linear from 0");
        }
        if !(0.0..=1.0).contains(&self.kernel_weight) {
            return refused("kernel_weight", "from 0 to 1");
        }
        if self.calibration_days != 0 && !calibration::DAYS.contains(&self.calibration_days) {
            return refused("calibration_days", "0, or from 63 to 1456");
        }
        Ok(())
    }
}

/// Forecasts of the parts and their mean; a row for each day, a column for each hour.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PowerForecast {
    /// The mean of the windows.
    pub lear: Vec<[f64; HOURS]>,
    /// Of the kernel regression.
    pub kernel: Vec<[f64; HOURS]>,
    /// The weighted mean, which is the answer.
    pub mean: Vec<[f64; HOURS]>,
}

/// Forecasts each day of `first..first + count`, as if standing on the evening before it.
///
/// Windows longer than the history are cut. Days are independent pieces of work of fixed sizes: the same bits on any
/// number of threads.
///
/// # Errors
/// Settings out of bounds, too little history, days beyond the forecasts that are known.
pub fn forecast_days(
    market: &PowerMarket,
    first: usize,
    count: usize,
    settings: &PowerSettings,
) -> Result<PowerForecast, ForecastFault> {
    settings.validate()?;
    let needed = settings.days_needed();
    if first < needed {
        return Err(ForecastFault::TooFewDays { needed, found: first });
    }
    if first + count > market.exogenous_days() || first > market.price_days() || count == 0 {
        return Err(ForecastFault::TooFewDays { needed: first + count, found: market.exogenous_days() });
    }
    let mut windows = settings.lear_windows_days.clone();
    windows.push(0);
    let mut parts: Vec<Vec<[f64; HOURS]>> = windows
        .par_iter()
        .map(|window| match window {
            0 => kernels::walk(market, first, count, settings),
            window => lear::walk(market, first, count, *window, settings.penalty_days),
        })
        .collect::<Result<_, _>>()?;
    let kernel = parts.pop().unwrap_or_default();
    Ok(PowerForecast::of(&parts, kernel, settings.kernel_weight))
}

impl PowerForecast {
    fn of(lear_windows: &[Vec<[f64; HOURS]>], kernel: Vec<[f64; HOURS]>, kernel_weight: f64) -> Self {
        let windows = lear_windows.len() as f64;
        let average = |day: usize, hour: usize| {
            lear_windows.iter().map(|window| window[day][hour]).sum::<f64>() / windows
        };
        let days = 0..kernel.len();
        let lear: Vec<[f64; HOURS]> =
            days.clone().map(|day| std::array::from_fn(|hour| average(day, hour))).collect();
        let mix = |day: usize, hour: usize| {
            kernel_weight * kernel[day][hour] + (1.0 - kernel_weight) * lear[day][hour]
        };
        let mean = days.map(|day| std::array::from_fn(|hour| mix(day, hour))).collect();
        Self { lear, kernel, mean }
    }

    /// Some of the days.
    fn part(&self, days: std::ops::Range<usize>) -> Self {
        let of = |all: &Vec<[f64; HOURS]>| all[days.clone()].to_vec();
        Self { lear: of(&self.lear), kernel: of(&self.kernel), mean: of(&self.mean) }
    }

    /// Puts the days of another behind its own.
    fn append(&mut self, mut more: Self) {
        self.lear.append(&mut more.lear);
        self.kernel.append(&mut more.kernel);
        self.mean.append(&mut more.mean);
    }
}

/// The prices of the same hour one day before, on Tuesday to Friday, and one week before on other days: the seasonal
/// naive forecast of the field (Nogales et al. 2002).
#[must_use]
pub fn naive(market: &PowerMarket, day: usize) -> [f64; HOURS] {
    let lag = if matches!(market.weekday(day), 1..=4) { 1 } else { 7 };
    market.prices(day - lag)
}

#[cfg(test)]
mod tests;
