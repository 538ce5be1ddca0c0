//! Curves some days ahead: how each tenor will have changed.
//!
//! - [`CurveForecaster::train`]: learns from the rows before one, and from nothing after it.
//! - [`ModelType`]: what learns. All forecast changes, so that knowing nothing is "tomorrow equals today".
//! - [`CurveForecaster::to_json`]: the model file, versioned and with a checksum; read back it predicts the same bits.
//! - [`Intervals`]: how far from the forecast the truth may be.
//!
//! To add a model: a variant of [`ModelType`] and of `Fitted`.

mod artifact;
mod columns;
mod fitted;
mod intervals;
mod settings;
#[cfg(test)]
mod tests;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{CurveType, ForecastFault, Panel};
use fitted::{Fitted, Shape};
use intervals::HELD_OUT;
pub use intervals::{CurveQuantiles, HalfWidths, Intervals};
pub use settings::{CurveSettings, ModelType};

/// A trained model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveForecaster {
    /// Of what.
    pub curve_type: CurveType,
    /// With what.
    pub settings: CurveSettings,
    /// The columns that are forecast.
    pub targets: Vec<String>,
    /// Further columns that it reads.
    pub features: Vec<String>,
    /// The last day that it learned from.
    pub trained_until: Date,
    /// BLAKE3 of the data, in hexadecimal.
    pub snapshot: String,
    tenors_years: Option<Vec<f64>>,
    fitted: Fitted,
    intervals: Intervals,
}

/// A forecast of one day: by step ahead, then target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurveForecast {
    /// Values, step 1 first.
    pub values: Vec<Vec<f64>>,
    /// The half width of the interval of each coverage around them; empty where nothing is known.
    pub half_widths: HalfWidths,
    /// The quantile of each level; empty where nothing is known.
    pub quantiles: CurveQuantiles,
    /// What persistence and its past errors say, to compare with; empty where nothing is known.
    pub persistence_quantiles: CurveQuantiles,
}

impl CurveForecaster {
    /// Learns from the rows before `until`.
    ///
    /// # Errors
    /// Settings out of bounds, too short a history, a model that does not fit the curve.
    pub fn train(
        panel: &Panel,
        until: usize,
        curve_type: CurveType,
        settings: CurveSettings,
    ) -> Result<Self, ForecastFault> {
        let fitted = Fitted::train(panel, until, &settings)?;
        let intervals = Intervals::learn(panel, until, &settings)?;
        let shape = Shape::of(panel, &settings);
        Ok(Self {
            curve_type,
            settings,
            targets: panel.targets.clone(),
            features: panel.features.clone(),
            trained_until: panel.dates[until - 1],
            snapshot: panel.snapshot.clone(),
            tenors_years: shape.tenors_years,
            fitted,
            intervals,
        })
    }

    /// Whether its forecasts have intervals.
    #[must_use]
    pub fn has_intervals(&self) -> bool {
        !self.intervals.is_empty()
    }

    /// Whether its forecasts have quantiles, which those of earlier releases have not.
    #[must_use]
    pub fn has_quantiles(&self) -> bool {
        self.intervals.has_quantiles()
    }

    /// What follows after a row, from that row and those before it.
    ///
    /// # Errors
    /// Other columns than those of the training, too few rows before.
    pub fn predict(&self, panel: &Panel, row: usize) -> Result<CurveForecast, ForecastFault> {
        if panel.targets != self.targets || panel.features != self.features {
            let join = |targets: &[String], features: &[String]| [targets, features].concat().join(", ");
            return Err(ForecastFault::Columns {
                expected: join(&self.targets, &self.features),
                found: join(&panel.targets, &panel.features),
            });
        }
        let needed = self.settings.rows_needed();
        if row + 1 < needed || row >= panel.dates.len() {
            return Err(ForecastFault::TooShort { needed, found: (row + 1).min(panel.dates.len()) });
        }
        let shape = Shape { tenors_years: self.tenors_years.clone(), settings: self.settings };
        let values = levels(&self.fitted, &shape, panel, row)?;
        Ok(CurveForecast {
            half_widths: self.intervals.at(panel, row),
            quantiles: self.intervals.quantiles_at(panel, row, &values),
            persistence_quantiles: self.intervals.persistence_at(panel, row),
            values,
        })
    }
}

/// Forecasts each row of `rows` with a model that is fitted anew before every `refit_rows`-th of them on the rows before
/// it, once for `None`. By row, step and target.
///
/// # Errors
/// As [`CurveForecaster::train`].
pub fn walk_forward(
    panel: &Panel,
    rows: std::ops::Range<usize>,
    settings: &CurveSettings,
    refit_rows: Option<usize>,
) -> Result<Vec<Vec<Vec<f64>>>, ForecastFault> {
    if rows.end > panel.dates.len() || rows.is_empty() {
        return Err(ForecastFault::TooShort {
            needed: rows.end.max(rows.start + 1),
            found: panel.dates.len(),
        });
    }
    let shape = Shape::of(panel, settings);
    let block = refit_rows.unwrap_or_else(|| rows.len()).max(1);
    let mut out = Vec::with_capacity(rows.len());
    for start in rows.clone().step_by(block) {
        let fitted = Fitted::train(panel, start, settings)?;
        for row in start..(start + block).min(rows.end) {
            out.push(levels(&fitted, &shape, panel, row)?);
        }
    }
    Ok(out)
}

/// Today's values and the changes that are forecast.
fn levels(fitted: &Fitted, shape: &Shape, panel: &Panel, row: usize) -> Result<Vec<Vec<f64>>, ForecastFault> {
    let today = &panel.values[row];
    let changes = fitted.changes(panel, row, shape)?;
    let step = |changes: &[f64]| today.iter().zip(changes).map(|(value, change)| value + change).collect();
    Ok(changes.chunks(today.len()).map(step).collect())
}
