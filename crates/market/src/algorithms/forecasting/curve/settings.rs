//! What a curve forecaster is asked for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::columns::{MOMENTUM_ROWS, SMOOTHED_ROWS, smooth};
use crate::algorithms::forecasting::{ForecastFault, Panel};

/// What learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    /// Straight lines in the lags, shrunk to no change.
    Ridge,
    /// Means of trees.
    RandomForest,
    /// Sums of trees.
    GradientBoosting,
    /// All that fit the curve, weighted by how well they did on the last fifth; what is left of the weight is persistence.
    Ensemble,
    /// How far each tenor is from the Nelson-Siegel curve of its day, and its changes over a day to a quarter, by ridge.
    NelsonSiegel,
    /// Level, slope and curvature as a vector autoregression, shrunk to a random walk.
    NelsonSiegelVar,
    /// Exponential smoothing of each tenor by itself, fitted on the history that is forecast from.
    Ets,
    /// The same on what is left after the week is taken out.
    Mstl,
}

impl ModelType {
    /// Every type.
    pub const ALL: [Self; 8] = [
        Self::Ridge,
        Self::RandomForest,
        Self::GradientBoosting,
        Self::Ensemble,
        Self::NelsonSiegel,
        Self::NelsonSiegelVar,
        Self::Ets,
        Self::Mstl,
    ];

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ridge => "ridge",
            Self::RandomForest => "random_forest",
            Self::GradientBoosting => "gradient_boosting",
            Self::Ensemble => "ensemble",
            Self::NelsonSiegel => "nelson_siegel",
            Self::NelsonSiegelVar => "nelson_siegel_var",
            Self::Ets => "ets",
            Self::Mstl => "mstl",
        }
    }
}

impl fmt::Display for ModelType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for ModelType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("`{text}` is not one of {known}")
        })
    }
}

/// With what it learns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveSettings {
    /// What learns.
    pub model_type: ModelType,
    /// Days whose changes are columns.
    pub lookback_days: usize,
    /// Days ahead, each from 1.
    pub forecast_horizon: usize,
    /// Trees of a forest or of boosting.
    pub n_estimators: usize,
    /// Splits from the root of a tree to a leaf.
    pub max_depth: usize,
    /// What boosting takes of each tree.
    pub learning_rate: f64,
    /// The penalty of ridge for each row.
    pub alpha: f64,
    /// Of the trees.
    pub seed: u64,
}

impl Default for CurveSettings {
    fn default() -> Self {
        Self {
            model_type: ModelType::RandomForest,
            lookback_days: 30,
            forecast_horizon: 5,
            n_estimators: 100,
            max_depth: 10,
            learning_rate: 0.1,
            alpha: 1.0,
            seed: 42,
        }
    }
}

impl CurveSettings {
    /// Rows up to the one that is forecast from.
    #[must_use]
    pub fn rows_needed(&self) -> usize {
        // Means over ten days of changes need eleven.
        let lags = self.lookback_days.max(11) + 1;
        match self.model_type {
            ModelType::NelsonSiegel | ModelType::Ensemble => {
                lags.max(MOMENTUM_ROWS[MOMENTUM_ROWS.len() - 1] + 1)
            }
            ModelType::Ets | ModelType::Mstl => SMOOTHED_ROWS,
            _ => lags,
        }
    }

    /// Checks what can be known before anything is learned.
    ///
    /// # Errors
    /// A setting out of its bounds; a model type that needs more tenors than the table has.
    pub fn check(&self, panel: &Panel) -> Result<(), ForecastFault> {
        self.validate()?;
        match self.model_type {
            ModelType::NelsonSiegel | ModelType::NelsonSiegelVar => {
                smooth(panel.tenors_years().as_deref()).map(drop)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn validate(&self) -> Result<(), ForecastFault> {
        let check = |is_good: bool, name, bounds| {
            if is_good { Ok(()) } else { Err(ForecastFault::Setting { name, bounds }) }
        };
        check((1..=1_000).contains(&self.lookback_days), "lookback-days", "from 1 to 1000")?;
        check((1..=250).contains(&self.forecast_horizon), "forecast-horizon", "from 1 to 250")?;
        check((1..=10_000).contains(&self.n_estimators), "n-estimators", "from 1 to 10000")?;
        check((1..=30).contains(&self.max_depth), "max-depth", "from 1 to 30")?;
        check(
            self.learning_rate > 0.0 && self.learning_rate <= 1.0,
            "learning-rate",
            "above 0 and at most 1",
        )?;
        check(self.alpha > 0.0 && self.alpha <= 1e9, "alpha", "above 0 and at most 1e9")
    }
}
