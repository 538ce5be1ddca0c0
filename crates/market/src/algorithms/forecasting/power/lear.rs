//! LEAR: one LASSO for each hour, fitted each day on a window of days.

use faer::Mat;

use super::LAG_DAYS;
use super::columns::{COLUMNS, Scales};
use super::market::{HOURS, PowerMarket};
use crate::algorithms::forecasting::lasso::{Lasso, Solution, by_akaike};
use crate::algorithms::forecasting::{ForecastFault, matrix};

const PATH_STEPS: usize = 40;
const PATH_RATIO: f64 = 2e-3;
/// Scaled prices further out than this are taken for a slip of the line, not for a forecast.
const SCALED_MAX: f64 = 6.0;

/// What a window remembers of the day before.
struct Hour {
    penalty: f64,
    coefficients: Vec<f64>,
}

/// Forecasts days with one calibration window.
pub(super) fn walk(
    market: &PowerMarket,
    first: usize,
    count: usize,
    window_days: usize,
    penalty_days: usize,
) -> Result<Vec<[f64; HOURS]>, ForecastFault> {
    let mut hours: Vec<Option<Hour>> = (0..HOURS).map(|_| None).collect();
    let mut out = Vec::with_capacity(count);
    for step in 0..count {
        let day = first + step;
        if day > market.price_days() {
            return Err(ForecastFault::TooShort { needed: day, found: market.price_days() });
        }
        let from = day.saturating_sub(window_days).max(LAG_DAYS);
        out.push(forecast(market, from, day, &mut hours, step % penalty_days == 0));
    }
    Ok(out)
}

fn forecast(
    market: &PowerMarket,
    from: usize,
    day: usize,
    hours: &mut [Option<Hour>],
    is_choosing: bool,
) -> [f64; HOURS] {
    let scales = Scales::of(market, from, day);
    let (mut rows, mut targets) = (scales.rows(market, from..day + 1), scales.targets(market, from..day));
    let count = day - from;
    let last: Vec<f64> = standardise(&mut rows, count);
    let means = centre(&mut targets);
    let known = rows.as_ref().subrows(0, count);
    let scale = faer::Scale(1.0 / count as f64);
    let gram = matrix::transposed_product(known, known) * scale;
    let correlations = matrix::transposed_product(known, targets.as_ref()) * scale;
    let mut scaled = [0.0; HOURS];
    for (hour, kept) in hours.iter_mut().enumerate() {
        let variance = targets.col(hour).iter().map(|value| value * value).sum::<f64>() / count as f64;
        let problem = Lasso { gram: &gram, correlation: correlations.col_as_slice(hour), variance };
        let solution = match kept.as_ref().filter(|_| !is_choosing) {
            Some(before) => {
                let mut solution = problem.start(&before.coefficients);
                problem.descend(&mut solution, before.penalty);
                (before.penalty, solution)
            }
            None => choose(&problem, count),
        };
        let (penalty, solution) = solution;
        let value: f64 =
            solution.coefficients.iter().zip(&last).map(|(b, x)| b * x).sum::<f64>() + means[hour];
        scaled[hour] = value.clamp(-SCALED_MAX, SCALED_MAX);
        *kept = Some(Hour { penalty, coefficients: solution.coefficients });
    }
    scales.prices(scaled)
}

/// The penalty by the Akaike criterion with the target's variance as the noise, over the root of the rows, as the program
/// of LEAR's authors does: it chooses on columns of length one and fits on columns of deviation one.
fn choose(problem: &Lasso<'_>, rows: usize) -> (f64, Solution) {
    let (penalty, mut solution) = by_akaike(problem, rows, problem.variance, PATH_STEPS, PATH_RATIO);
    let penalty = penalty / (rows as f64).sqrt();
    problem.descend(&mut solution, penalty);
    (penalty, solution)
}

/// Takes the mean of the first `count` rows from each column and divides it by their deviation. Returns the last row.
fn standardise(rows: &mut Mat<f64>, count: usize) -> Vec<f64> {
    (0..COLUMNS)
        .map(|column| {
            let values = rows.col_as_slice_mut(column);
            let mean = values[..count].iter().sum::<f64>() / count as f64;
            let square =
                values[..count].iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
            let divisor = if square > 1e-12 { square.sqrt() } else { f64::INFINITY };
            values.iter_mut().for_each(|value| *value = (*value - mean) / divisor);
            values[count]
        })
        .collect()
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
