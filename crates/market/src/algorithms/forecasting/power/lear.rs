//! LEAR: one LASSO for each hour, fitted on a window of days.

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::LAG_DAYS;
use super::columns::{COLUMNS, Scales};
use super::market::{HOURS, PowerMarket};
use crate::algorithms::forecasting::lasso::{Lasso, Solution, by_akaike};
use crate::algorithms::forecasting::{ForecastFault, matrix};

const PATH_STEPS: usize = 40;
const PATH_RATIO: f64 = 2e-3;
/// Scaled prices further out than this are taken for a slip of the line, not for a forecast.
pub(super) const SCALED_MAX: f64 = 6.0;

/// The regression of an hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hour {
    /// Of the scaled prices.
    mean: f64,
    penalty: f64,
    coefficients: Vec<f64>,
}

/// What a window of days taught.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lear {
    scales: Scales,
    /// Of each column.
    means: Vec<f64>,
    /// One over the deviation of each column; 0 for one that does not vary.
    factors: Vec<f64>,
    hours: Vec<Hour>,
}

/// Forecasts days with one calibration window, fitted anew each day.
pub(super) fn walk(
    market: &PowerMarket,
    first: usize,
    count: usize,
    window_days: usize,
    penalty_days: usize,
) -> Result<Vec<[f64; HOURS]>, ForecastFault> {
    let mut before: Option<Lear> = None;
    let mut out = Vec::with_capacity(count);
    for step in 0..count {
        let day = first + step;
        if day > market.price_days() {
            return Err(ForecastFault::TooFewDays { needed: day, found: market.price_days() });
        }
        let fitted =
            Lear::fit(market, window_days, day, before.filter(|_| step % penalty_days != 0).as_ref());
        out.push(fitted.predict(market, day));
        before = Some(fitted);
    }
    Ok(out)
}

impl Lear {
    /// Fits on the days of a window before `day`: with the penalties of the day before from its coefficients, without them
    /// with penalties by the Akaike criterion.
    pub(super) fn fit(market: &PowerMarket, window_days: usize, day: usize, before: Option<&Self>) -> Self {
        let from = day.saturating_sub(window_days).max(LAG_DAYS);
        let scales = Scales::of(market, from, day);
        let (mut rows, mut targets) = (scales.rows(market, from..day), scales.targets(market, from..day));
        let count = day - from;
        let (means, factors) = standardise(&mut rows);
        let centres = centre(&mut targets);
        let scale = faer::Scale(1.0 / count as f64);
        let gram = matrix::transposed_product(rows.as_ref(), rows.as_ref()) * scale;
        let correlations = matrix::transposed_product(rows.as_ref(), targets.as_ref()) * scale;
        let hour = |(hour, mean): (usize, f64)| {
            let variance = targets.col(hour).iter().map(|value| value * value).sum::<f64>() / count as f64;
            let problem = Lasso { gram: &gram, correlation: correlations.col_as_slice(hour), variance };
            let (penalty, solution) = match before.map(|before| &before.hours[hour]) {
                Some(before) => {
                    let mut solution = problem.start(&before.coefficients);
                    problem.descend(&mut solution, before.penalty);
                    (before.penalty, solution)
                }
                None => choose(&problem, count),
            };
            Hour { mean, penalty, coefficients: solution.coefficients }
        };
        let hours = centres.into_iter().enumerate().map(hour).collect();
        Self { scales, means, factors, hours }
    }

    /// The prices of a day that has seven days before it.
    pub(super) fn predict(&self, market: &PowerMarket, day: usize) -> [f64; HOURS] {
        let rows = self.scales.rows(market, day..day + 1);
        let known = self.means.iter().zip(&self.factors).enumerate();
        let row: Vec<f64> = known.map(|(at, (mean, factor))| (rows[(0, at)] - mean) * factor).collect();
        let scaled = std::array::from_fn(|hour| {
            let hour = &self.hours[hour];
            let told: f64 = hour.coefficients.iter().zip(&row).map(|(b, x)| b * x).sum();
            (told + hour.mean).clamp(-SCALED_MAX, SCALED_MAX)
        });
        self.scales.prices(scaled)
    }

    /// Whether its arrays fit together.
    pub(super) fn is_sound(&self) -> bool {
        self.hours.len() == HOURS
            && [self.means.len(), self.factors.len()] == [COLUMNS; 2]
            && self.hours.iter().all(|hour| hour.coefficients.len() == COLUMNS)
    }
}

/// The penalty by the Akaike criterion with the target's variance as the noise, over the root of the rows, as the program
/// of LEAR's authors does: it chooses on columns of length one and fits on columns of deviation one.
fn choose(problem: &Lasso<'_>, rows: usize) -> (f64, Solution) {
    let (penalty, mut solution) = by_akaike(problem, rows, problem.variance, PATH_STEPS, PATH_RATIO);
    let penalty = penalty / (rows as f64).sqrt();
    problem.descend(&mut solution, penalty);
    (penalty, solution)
}

/// Takes the mean from each column and divides it by its deviation. Returns the means, and what was multiplied with.
fn standardise(rows: &mut Mat<f64>) -> (Vec<f64>, Vec<f64>) {
    let count = rows.nrows() as f64;
    (0..COLUMNS)
        .map(|column| {
            let values = rows.col_as_slice_mut(column);
            let mean = values.iter().sum::<f64>() / count;
            let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            let factor = if square > 1e-12 { 1.0 / square.sqrt() } else { 0.0 };
            values.iter_mut().for_each(|value| *value = (*value - mean) * factor);
            (mean, factor)
        })
        .unzip()
}

fn centre(targets: &mut Mat<f64>) -> Vec<f64> {
    (0..targets.ncols())
        .map(|column| {
            let values = targets.col_as_slice_mut(column);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter_mut().for_each(|value| *value -= mean);
            mean
        })
        .collect()
}
