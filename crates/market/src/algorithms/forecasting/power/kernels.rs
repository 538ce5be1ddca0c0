//! Kernel regression of all 24 hours at once, on the columns of LEAR, each group with a weight.

use faer::Mat;
use jiff::civil::Date;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::{COLUMNS, GROUPS, Scales};
use super::lear::SCALED_MAX;
use super::market::{HOURS, PowerMarket};
use super::{LAG_DAYS, PowerSettings};
use crate::algorithms::forecasting::kernel::KernelRegression;
use crate::algorithms::forecasting::{ForecastFault, KernelSettings};

/// How much each group of columns counts in a distance, in the order of [`GROUPS`]: what is near tells more.
const WEIGHTS: [f64; GROUPS.len()] = [3.0, 1.0, 0.3, 1.0, 4.0, 0.5, 0.3, 4.0, 0.5, 0.3];
const WEEKDAY_WEIGHT: f64 = 1.0;
const SEASON_WEIGHT: f64 = 0.3;

/// A regression with the days that it compares with, the seven before the first of them too: its rows are made of these again
/// when it is read from a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub(super) struct Kernel {
    days: PowerMarket,
    pub(super) settings: KernelSettings,
    scales: Scales,
    regression: KernelRegression,
}

/// What a file has of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    settings: KernelSettings,
    first_day: Date,
    prices: Vec<[f64; HOURS]>,
    forecasts: [Vec<[f64; HOURS]>; 2],
    /// By day from the eighth on.
    weights: Vec<[f64; HOURS]>,
}

impl Kernel {
    /// Fits on the days of the window before `day`.
    pub(super) fn fit(
        market: &PowerMarket,
        day: usize,
        settings: &PowerSettings,
    ) -> Result<Self, ForecastFault> {
        let from = day.saturating_sub(settings.kernel_window_days).max(LAG_DAYS);
        let days = market.part(from - LAG_DAYS..day);
        let (scales, rows) = rows_of(&days);
        let targets = scales.targets(&days, LAG_DAYS..days.price_days());
        let regression = KernelRegression::fit(rows, &targets, settings.kernel)?;
        Ok(Self { days, settings: settings.kernel, scales, regression })
    }

    /// The prices of a day that has seven days before it.
    pub(super) fn predict(&self, market: &PowerMarket, day: usize) -> [f64; HOURS] {
        let row = weighted(&self.scales, market, day..day + 1);
        let row: Vec<f64> = (0..row.ncols()).map(|column| row[(0, column)]).collect();
        let told = self.regression.at(&row);
        self.scales.prices(std::array::from_fn(|hour| told[hour].clamp(-SCALED_MAX, SCALED_MAX)))
    }
}

impl From<Kernel> for Record {
    fn from(kernel: Kernel) -> Self {
        let weights = kernel.regression.weights();
        let [prices, one, two] = kernel.days.series().map(<[_]>::to_vec);
        Self {
            settings: kernel.settings,
            first_day: kernel.days.date(0),
            prices,
            forecasts: [one, two],
            weights: (0..weights.nrows())
                .map(|row| std::array::from_fn(|hour| weights[(row, hour)]))
                .collect(),
        }
    }
}

impl TryFrom<Record> for Kernel {
    type Error = ForecastFault;

    fn try_from(record: Record) -> Result<Self, ForecastFault> {
        let Record { settings, first_day, prices, forecasts, weights } = record;
        let days = PowerMarket::new(first_day, prices, forecasts)?;
        let misfit = || ForecastFault::Artifact("the days of the kernel do not fit its weights".to_owned());
        if days.price_days() != days.exogenous_days() || days.price_days() <= LAG_DAYS {
            return Err(misfit());
        }
        let (scales, rows) = rows_of(&days);
        let weights = Mat::from_fn(weights.len(), HOURS, |row, hour| weights[row][hour]);
        let regression = KernelRegression::again(rows, weights, settings).ok_or_else(misfit)?;
        Ok(Self { days, settings, scales, regression })
    }
}

/// The scales and rows of all days but the first seven.
fn rows_of(days: &PowerMarket) -> (Scales, Mat<f64>) {
    let scales = Scales::of(days, LAG_DAYS, days.price_days());
    let rows = weighted(&scales, days, LAG_DAYS..days.price_days());
    (scales, rows)
}

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
        return Err(ForecastFault::TooFewDays { needed: day + count - 1, found: market.price_days() });
    }
    let Kernel { scales, regression, .. } = Kernel::fit(market, day, settings)?;
    let predicted = regression.predict(weighted(&scales, market, day..day + count).as_ref());
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
