//! How wrong a forecast may be: split conformal intervals (Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018), locally
//! weighted, so that they are wide where the curve has lately moved much.
//!
//! Errors of the same settings on the last fifth of the history, fitted without it, are measured in deviations of the
//! recent changes of their tenor; the quantile of those is what an interval is made of. Quantiles are of the errors with their
//! sign, so that they may lie further on one side. They promise their coverage where errors over deviations stay as they were.
//! Where the fifth is too short for a coverage there is neither.

use serde::{Deserialize, Serialize};

use super::fitted::{Fitted, Shape};
use super::{CurveSettings, levels};
use crate::algorithms::forecasting::conformal::{self, COVERAGES, Quantiles, half_widths};
use crate::algorithms::forecasting::{ForecastFault, Panel};

/// The part of the history that is held out to learn from.
pub(super) const HELD_OUT: f64 = 0.2;
/// Changes that tell how much a tenor moves now.
const RECENT_ROWS: usize = 60;
/// A tenor that hardly moves is taken to move by this part of what it did over all of its history.
const FLOOR: f64 = 0.1;
const LEAST: f64 = 1e-12;

/// Half widths by step, then target; empty where nothing is known.
pub type HalfWidths = Vec<Vec<[f64; COVERAGES.len()]>>;

/// Quantiles by step, then target; empty where nothing is known.
pub type CurveQuantiles = Vec<Vec<Quantiles>>;

/// What is known of the errors of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    /// Of the changes of each target over the history.
    deviations: Vec<f64>,
    /// In deviations of the recent changes.
    widths: HalfWidths,
    /// Of errors with their sign, in the same. Files of version 1 have none.
    #[serde(default)]
    quantiles: CurveQuantiles,
    /// Of the errors of persistence over the same rows, in the unit of the values.
    #[serde(default)]
    persistence: CurveQuantiles,
}

/// Errors by step, then target.
type Errors = Vec<Vec<Vec<f64>>>;

impl Intervals {
    /// Whether the history was too short for any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.widths.is_empty()
    }

    /// Whether there are quantiles.
    #[must_use]
    pub fn has_quantiles(&self) -> bool {
        !self.quantiles.is_empty()
    }

    /// Learns from the rows before `until`.
    ///
    /// # Errors
    /// As [`super::CurveForecaster::train`], except that too short a history is no fault: there are no intervals then.
    pub fn learn(panel: &Panel, until: usize, settings: &CurveSettings) -> Result<Self, ForecastFault> {
        let none = || Self {
            deviations: Vec::new(),
            widths: Vec::new(),
            quantiles: Vec::new(),
            persistence: Vec::new(),
        };
        let split = until - (until as f64 * HELD_OUT) as usize;
        let earlier = match Fitted::train(panel, split, settings) {
            Ok(earlier) => earlier,
            Err(ForecastFault::TooShort { .. }) => return Ok(none()),
            Err(fault) => return Err(fault),
        };
        let targets = panel.targets.len();
        let deviations = (0..targets).map(|target| deviation(panel, 0..until - 1, target)).collect();
        let mut known = Self { deviations, ..none() };
        let rows = split..until.saturating_sub(settings.forecast_horizon);
        let (mut errors, mut naive) = known.errors(&earlier, panel, rows, settings)?;
        known.quantiles = by_cell(&mut errors, conformal::quantiles);
        known.persistence = by_cell(&mut naive, conformal::quantiles);
        errors.iter_mut().flatten().flatten().for_each(|error| *error = error.abs());
        known.widths = by_cell(&mut errors, half_widths);
        Ok(known)
    }

    /// What was quoted less what was forecast, in deviations; and less what was quoted before.
    fn errors(
        &self,
        earlier: &Fitted,
        panel: &Panel,
        rows: std::ops::Range<usize>,
        settings: &CurveSettings,
    ) -> Result<(Errors, Errors), ForecastFault> {
        let targets = panel.targets.len();
        let shape = Shape::of(panel, settings);
        let mut errors = vec![vec![Vec::new(); targets]; settings.forecast_horizon];
        let mut naive = errors.clone();
        for row in rows {
            let scales: Vec<f64> = (0..targets).map(|target| self.scale(panel, row, target)).collect();
            for (step, values) in levels(earlier, &shape, panel, row)?.iter().enumerate() {
                let (truth, quoted) = (&panel.values[row + step + 1], &panel.quoted[row + step + 1]);
                for target in (0..targets).filter(|target| quoted[*target]) {
                    errors[step][target].push((truth[target] - values[target]) / scales[target]);
                    naive[step][target].push((truth[target] - panel.values[row][target]) / scales[target]);
                }
            }
        }
        Ok((errors, naive))
    }

    /// Half widths around the forecast that is made of a row.
    #[must_use]
    pub fn at(&self, panel: &Panel, row: usize) -> HalfWidths {
        let of = |(target, widths): (usize, &[f64; COVERAGES.len()])| {
            let scale = self.scale(panel, row, target);
            widths.map(|width| width * scale)
        };
        self.widths.iter().map(|step| step.iter().enumerate().map(of).collect()).collect()
    }

    /// Quantiles around the values that were forecast of a row.
    #[must_use]
    pub fn quantiles_at(&self, panel: &Panel, row: usize, values: &[Vec<f64>]) -> CurveQuantiles {
        let step = |(step, values): (&Vec<Quantiles>, &Vec<f64>)| -> Vec<Quantiles> {
            let of = |(target, (errors, value)): (usize, (&Quantiles, &f64))| {
                let scale = self.scale(panel, row, target);
                errors.map(|error| value + error * scale)
            };
            step.iter().zip(values).enumerate().map(of).collect()
        };
        self.quantiles.iter().zip(values).map(step).collect()
    }

    /// What persistence and its errors, in deviations as those of the model, say of a row, to compare with.
    #[must_use]
    pub fn persistence_at(&self, panel: &Panel, row: usize) -> CurveQuantiles {
        let of = |(target, (errors, today)): (usize, (&Quantiles, &f64))| {
            let scale = self.scale(panel, row, target);
            errors.map(|error| today + error * scale)
        };
        let step = |step: &Vec<Quantiles>| step.iter().zip(&panel.values[row]).enumerate().map(of).collect();
        self.persistence.iter().map(step).collect()
    }

    /// Whether its arrays fit together.
    pub(super) fn is_sound(&self, targets: usize, steps: usize) -> bool {
        let is_empty = self.widths.is_empty() && self.quantiles.is_empty() && self.persistence.is_empty();
        is_empty
            || (self.deviations.len() == targets
                && fits(&self.widths, steps, targets)
                && fits(&self.quantiles, steps, targets)
                && fits(&self.persistence, steps, targets))
    }

    fn scale(&self, panel: &Panel, row: usize, target: usize) -> f64 {
        let recent = deviation(panel, row.saturating_sub(RECENT_ROWS)..row, target);
        recent.max(FLOOR * self.deviations[target]).max(LEAST)
    }
}

/// Whether it is empty or of so many steps and targets.
fn fits<T>(table: &[Vec<T>], steps: usize, targets: usize) -> bool {
    table.is_empty() || (table.len() == steps && table.iter().all(|step| step.len() == targets))
}

/// What the errors of each step and target say; nothing at all where they are too few for one of them.
fn by_cell<T>(errors: &mut [Vec<Vec<f64>>], of: impl Fn(&mut [f64]) -> Option<T>) -> Vec<Vec<T>> {
    let step =
        |step: &mut Vec<Vec<f64>>| -> Option<Vec<T>> { step.iter_mut().map(|errors| of(errors)).collect() };
    errors.iter_mut().map(step).collect::<Option<_>>().unwrap_or_default()
}

/// The root of the mean squared change after each of these rows.
fn deviation(panel: &Panel, rows: std::ops::Range<usize>, target: usize) -> f64 {
    let count = rows.len().max(1) as f64;
    let square = |row: usize| (panel.values[row + 1][target] - panel.values[row][target]).powi(2);
    (rows.map(square).sum::<f64>() / count).sqrt()
}
