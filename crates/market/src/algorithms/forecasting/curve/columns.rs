//! The columns that a forecast is made of, from one row and those before it.

use std::f64::consts::TAU;

use crate::algorithms::forecasting::nelson_siegel::NelsonSiegel;
use crate::algorithms::forecasting::{ForecastFault, Panel, smoothing};

const MEANS: [usize; 2] = [5, 10];
/// A day, a week, a month and a quarter of trading, ascending: policy moves rates the same way for months.
pub(super) const MOMENTUM_ROWS: [usize; 4] = [1, 5, 20, 60];
/// Rows that smoothing is fitted on: some five months of trading.
pub(super) const SMOOTHED_ROWS: usize = 100;
const DAYS_OF_YEAR: f64 = 365.25;
const DAYS_OF_WEEK: f64 = 7.0;

/// The guide's columns, with levels as differences from today, so that they mean the same at any level: changes over each
/// lookback, distance from the means of 5 and 10 days, deviation of the changes of 5 and 10 days, level, slope and
/// curvature, further columns, the season and the weekday.
pub(super) fn lagged(panel: &Panel, row: usize, lookback_days: usize) -> Vec<f64> {
    let today = &panel.values[row];
    let mut out = Vec::new();
    for lag in 1..=lookback_days {
        out.extend(today.iter().zip(&panel.values[row - lag]).map(|(now, then)| now - then));
    }
    for days in MEANS {
        for (target, now) in today.iter().enumerate() {
            let of = |back: usize| panel.values[row - back][target];
            out.push(now - (0..days).map(of).sum::<f64>() / days as f64);
            let changes: Vec<f64> = (0..days).map(|back| of(back) - of(back + 1)).collect();
            let mean = changes.iter().sum::<f64>() / days as f64;
            let square = changes.iter().map(|change| (change - mean).powi(2)).sum::<f64>();
            out.push((square / days as f64).sqrt());
        }
    }
    let (first, middle, last) = (today[0], today[today.len() / 2], today[today.len() - 1]);
    out.extend([today.iter().sum::<f64>() / today.len() as f64, last - first, 2.0 * middle - first - last]);
    out.extend(&panel.extras[row]);
    let date = panel.dates[row];
    for angle in [
        TAU * f64::from(date.day_of_year()) / DAYS_OF_YEAR,
        TAU * f64::from(date.weekday().to_monday_zero_offset()) / DAYS_OF_WEEK,
    ] {
        out.extend([angle.sin(), angle.cos()]);
    }
    out
}

/// How far each tenor is from the smooth curve of its day, and its change over each of [`MOMENTUM_ROWS`].
pub(super) fn reversion(panel: &Panel, row: usize, model: &NelsonSiegel) -> Vec<f64> {
    let today = &panel.values[row];
    let mut out = model.rest(today);
    for lag in MOMENTUM_ROWS {
        out.extend(today.iter().zip(&panel.values[row - lag]).map(|(now, then)| now - then));
    }
    out
}

/// The three factors and their last change.
pub(super) fn factors(panel: &Panel, row: usize, model: &NelsonSiegel) -> Vec<f64> {
    let (now, then) = (model.factors(&panel.values[row]), model.factors(&panel.values[row - 1]));
    now.into_iter().chain(std::array::from_fn::<f64, 3, _>(|factor| now[factor] - then[factor])).collect()
}

/// The changes that smoothing each target by itself expects after a row, step by step; `in_weeks` with a season of a week.
pub(super) fn smoothed(
    panel: &Panel,
    row: usize,
    in_weeks: bool,
    steps: usize,
) -> Result<Vec<f64>, ForecastFault> {
    let rows = row + 1 - SMOOTHED_ROWS..row + 1;
    // Markets that trade at weekends have seven rows to a week, others five.
    let rests = panel.dates[rows.clone()].iter().all(|date| date.weekday().to_monday_zero_offset() < 5);
    let period = in_weeks.then_some(if rests { 5 } else { 7 });
    let mut out = vec![0.0; steps * panel.targets.len()];
    for target in 0..panel.targets.len() {
        let history: Vec<f64> = panel.values[rows.clone()].iter().map(|values| values[target]).collect();
        let told = smoothing::forecast(&history, period, steps)?;
        for (step, value) in told.into_iter().enumerate() {
            out[step * panel.targets.len() + target] = value - panel.values[row][target];
        }
    }
    Ok(out)
}

/// Changes of all targets over each step after a row, step by step.
pub(super) fn changes(panel: &Panel, row: usize, steps: usize) -> Vec<f64> {
    let today = &panel.values[row];
    let of = |step: usize| panel.values[row + step].iter().zip(today).map(|(then, now)| then - now);
    (1..=steps).flat_map(of).collect()
}

/// The smooth curves of these tenors, where there are enough of them.
pub(super) fn smooth(tenors_years: Option<&[f64]>) -> Result<NelsonSiegel, ForecastFault> {
    tenors_years.and_then(|tenors| NelsonSiegel::new(tenors).ok()).ok_or_else(|| {
        let message = "this model type needs a yield curve of at least four tenors; use ridge or ensemble";
        ForecastFault::Format(message.to_owned())
    })
}
