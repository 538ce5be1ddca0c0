//! Kernel regression of all 24 hours at once, on the columns of LEAR, each group with a weight.

use faer::Mat;

use super::columns::{COLUMNS, GROUPS, Scales};
use super::market::{HOURS, PowerMarket};
use super::{LAG_DAYS, PowerSettings};
use crate::algorithms::forecasting::ForecastFault;
use crate::algorithms::forecasting::kernel::KernelRegression;
use rayon::prelude::*;

/// How much each group of columns counts in a distance, in the order of [`GROUPS`]: what is near tells more.
const WEIGHTS: [f64; GROUPS.len()] = [3.0, 1.0, 0.3, 1.0, 4.0, 0.5, 0.3, 4.0, 0.5, 0.3];
const WEEKDAY_WEIGHT: f64 = 1.0;
const SEASON_WEIGHT: f64 = 0.3;
/// Of a scaled price; see LEAR.
const SCALED_MAX: f64 = 6.0;

/// Forecasts days; it is fitted on the evenings before every `kernel_days`-th.
pub(super) fn walk(
    market: &PowerMarket,
    first: usize,
    count: usize,
    settings: &PowerSettings,
) -> Result<Vec<[f64; HOURS]>, ForecastFault> {
    let starts: Vec<usize> = (first..first + count).step_by(settings.kernel_days).collect();
    let blocks: Vec<Vec<[f64; HOURS]>> = starts
        .par_iter()
        .map(|day| block(market, *day, settings.kernel_days.min(first + count - day), settings))
        .collect::<Result<_, _>>()?;
    Ok(blocks.concat())
}

/// Fits on the days before `day` and forecasts the days from it, each from the prices of the days before it.
fn block(
    market: &PowerMarket,
    day: usize,
    count: usize,
    settings: &PowerSettings,
) -> Result<Vec<[f64; HOURS]>, ForecastFault> {
    if day + count > market.price_days() + 1 {
        return Err(ForecastFault::TooShort { needed: day + count - 1, found: market.price_days() });
    }
    let from = day.saturating_sub(settings.kernel_window_days).max(LAG_DAYS);
    let scales = Scales::of(market, from, day);
    let rows = weighted(&scales, market, from..day);
    let fitted = KernelRegression::fit(rows, &scales.targets(market, from..day), settings.kernel)?;
    let predicted = fitted.predict(weighted(&scales, market, day..day + count).as_ref());
    let row = |row: usize| std::array::from_fn(|hour| predicted[(row, hour)].clamp(-SCALED_MAX, SCALED_MAX));
    Ok((0..count).map(|index| scales.prices(row(index))).collect())
}

/// The columns and the season, each group divided by its size, so that a distance is of groups.
fn weighted(scales: &Scales, market: &PowerMarket, days: std::ops::Range<usize>) -> Mat<f64> {
    let rows = scales.rows(market, days.clone());
    Mat::from_fn(days.len(), COLUMNS + 2, |row, column| {
        if column >= COLUMNS {
            let angle = std::f64::consts::TAU * market.season(days.start + row);
            let value = if column == COLUMNS { angle.sin() } else { angle.cos() };
            return SEASON_WEIGHT.sqrt() * value;
        }
        let weight = match WEIGHTS.get(column / HOURS) {
            Some(weight) => weight / HOURS as f64,
            None => WEEKDAY_WEIGHT / 7.0,
        };
        weight.sqrt() * rows[(row, column)]
    })
}
