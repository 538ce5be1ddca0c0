//! The model file of a curve forecaster, in the [`envelope`] of all of them.
//!
//! Version 2 has quantiles; a file of version 1 is read and has none. It refuses arrays that do not fit together.

use super::CurveForecaster;
use crate::algorithms::forecasting::{ForecastFault, envelope};

const FORMAT: &str = "watershed-curve-forecaster";
const VERSION: u32 = 2;
const OLDEST: u32 = 1;

impl CurveForecaster {
    /// The model file.
    ///
    /// # Errors
    /// [`ForecastFault::Artifact`] where it cannot be written.
    pub fn to_json(&self) -> Result<String, ForecastFault> {
        envelope::write(FORMAT, VERSION, self)
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`ForecastFault::Artifact`] saying what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, ForecastFault> {
        let model: Self = envelope::read(text, FORMAT, OLDEST..=VERSION)?;
        model.settings.validate()?;
        let (targets, steps) = (model.targets.len(), model.settings.forecast_horizon);
        if !model.fitted.is_sound(targets, model.features.len(), &model.settings)
            || !model.intervals.is_sound(targets, steps)
        {
            return Err(ForecastFault::Artifact("its arrays do not fit together".to_owned()));
        }
        Ok(model)
    }
}
