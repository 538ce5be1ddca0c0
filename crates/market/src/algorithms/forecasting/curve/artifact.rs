//! The model file: JSON, a version of the format, and BLAKE3 over the model's own text.
//!
//! Numbers are written so that they are read back to the same bit. It refuses other formats, a checksum that does not
//! match, and arrays that do not fit together: nothing is run, nothing is guessed.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::CurveForecaster;
use crate::algorithms::forecasting::ForecastFault;

const FORMAT: &str = "watershed-curve-forecaster";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    format: String,
    version: u32,
    blake3: String,
    #[serde(borrow)]
    model: &'a RawValue,
}

impl CurveForecaster {
    /// The model file.
    ///
    /// # Errors
    /// [`ForecastFault::Artifact`] where a number is not finite.
    pub fn to_json(&self) -> Result<String, ForecastFault> {
        let broken = |cause: serde_json::Error| ForecastFault::Artifact(cause.to_string());
        let model = serde_json::value::to_raw_value(self).map_err(broken)?;
        let blake3 = blake3::hash(model.get().as_bytes()).to_hex().to_string();
        let envelope = Envelope { format: FORMAT.to_owned(), version: VERSION, blake3, model: &model };
        serde_json::to_string(&envelope).map_err(broken)
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`ForecastFault::Artifact`] saying what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, ForecastFault> {
        let broken = |what: &str| ForecastFault::Artifact(what.to_owned());
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|cause| broken(&cause.to_string()))?;
        if envelope.format != FORMAT || envelope.version != VERSION {
            return Err(broken(&format!(
                "it is {} {}, not {FORMAT} {VERSION}",
                envelope.format, envelope.version
            )));
        }
        if blake3::hash(envelope.model.get().as_bytes()).to_hex().as_str() != envelope.blake3 {
            return Err(broken("its checksum does not match"));
        }
        let model: Self =
            serde_json::from_str(envelope.model.get()).map_err(|cause| broken(&cause.to_string()))?;
        model.settings.validate()?;
        let (targets, steps) = (model.targets.len(), model.settings.forecast_horizon);
        if !model.fitted.is_sound(targets, model.features.len(), &model.settings)
            || !model.intervals.is_sound(targets, steps)
        {
            return Err(broken("its arrays do not fit together"));
        }
        Ok(model)
    }
}
