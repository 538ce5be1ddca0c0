//! How wrong a forecast may be: split conformal intervals (Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018), locally
//! weighted, so that they are wide where the curve has lately moved much.
//!
//! Errors of the same settings on the last fifth of the history, fitted without it, are measured in deviations of the
//! recent changes of their tenor; the quantile of those is what an interval is made of. They promise their coverage where
//! errors over deviations stay as they were. Where the fifth is too short for a coverage there is no interval at all.

use serde::{Deserialize, Serialize};

use super::fitted::{Fitted, Shape};
use super::{CurveSettings, levels};
use crate::algorithms::forecasting::conformal::{COVERAGES, half_widths};
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

/// What is known of the errors of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    /// Of the changes of each target over the history.
    deviations: Vec<f64>,
    /// In deviations of the recent changes.
    widths: HalfWidths,
}

impl Intervals {
    /// Whether the history was too short for any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.widths.is_empty()
    }

    /// Learns from the rows before `until`.
    ///
    /// # Errors
    /// As [`super::CurveForecaster::train`], except that too short a history is no fault: there are no intervals then.
    pub fn learn(panel: &Panel, until: usize, settings: &CurveSettings) -> Result<Self, ForecastFault> {
        let none = Self { deviations: Vec::new(), widths: Vec::new() };
        let split = until - (until as f64 * HELD_OUT) as usize;
        let earlier = match Fitted::train(panel, split, settings) {
            Ok(earlier) => earlier,
            Err(ForecastFault::TooShort { .. }) => return Ok(none),
            Err(fault) => return Err(fault),
        };
        let targets = panel.targets.len();
        let deviations = (0..targets).map(|target| deviation(panel, 0..until - 1, target)).collect();
        let mut known = Self { deviations, widths: Vec::new() };
        let shape = Shape::of(panel, settings);
        let mut errors = vec![vec![Vec::new(); targets]; settings.forecast_horizon];
        for row in split..until.saturating_sub(settings.forecast_horizon) {
            let scales: Vec<f64> = (0..targets).map(|target| known.scale(panel, row, target)).collect();
            for (step, values) in levels(&earlier, &shape, panel, row)?.iter().enumerate() {
                let (truth, quoted) = (&panel.values[row + step + 1], &panel.quoted[row + step + 1]);
                for target in (0..targets).filter(|target| quoted[*target]) {
                    errors[step][target].push((truth[target] - values[target]).abs() / scales[target]);
                }
            }
        }
        let step = |step: &mut Vec<Vec<f64>>| -> Option<Vec<_>> {
            step.iter_mut().map(|errors| half_widths(errors)).collect()
        };
        known.widths = errors.iter_mut().map(step).collect::<Option<_>>().unwrap_or_default();
        Ok(known)
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

    /// Whether its arrays fit together.
    pub(super) fn is_sound(&self, targets: usize, steps: usize) -> bool {
        self.widths.is_empty()
            || (self.widths.len() == steps
                && self.deviations.len() == targets
                && self.widths.iter().all(|step| step.len() == targets))
    }

    fn scale(&self, panel: &Panel, row: usize, target: usize) -> f64 {
        let recent = deviation(panel, row.saturating_sub(RECENT_ROWS)..row, target);
        recent.max(FLOOR * self.deviations[target]).max(LEAST)
    }
}

/// The root of the mean squared change after each of these rows.
fn deviation(panel: &Panel, rows: std::ops::Range<usize>, target: usize) -> f64 {
    let count = rows.len().max(1) as f64;
    let square = |row: usize| (panel.values[row + 1][target] - panel.values[row][target]).powi(2);
    (rows.map(square).sum::<f64>() / count).sqrt()
}
