//! LEAR, the kernel regression and what is known of their errors, as of one evening, in a file.
//!
//! [`PowerForecaster::train`] fits once on the days before one. Its intervals and quantiles are made of the errors of fits that
//! are as old as it will be: each is used for [`CALIBRATION_REFIT_DAYS`] days, so they hold for a model that is trained anew about
//! as often. An answer needs the prices of the seven days before and the two forecasts of these and of the day itself. The file
//! holds the days that the kernel regression compares with. It refuses files whose arrays do not fit together.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, DayQuantiles};
use super::fitted::Fitted;
use super::market::{HOURS, PowerMarket};
use super::{PowerForecast, PowerSettings};
use crate::algorithms::forecasting::{COVERAGES, ForecastFault, envelope};

/// Days after which a model is fitted anew where its errors are learned.
pub const CALIBRATION_REFIT_DAYS: usize = 28;
const FORMAT: &str = "watershed-power-forecaster";
/// Version 2 has quantiles around the forecast.
const VERSION: u32 = 2;

/// A trained model.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerForecaster {
    /// With what.
    pub settings: PowerSettings,
    /// The last day that it learned from.
    pub trained_until: Date,
    /// BLAKE3 of the data, in hexadecimal.
    pub snapshot: String,
    fitted: Fitted,
    calibration: Option<Calibration>,
}

/// The forecast of a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DayAhead {
    /// By hour.
    pub prices: [f64; HOURS],
    /// By hour, the half width of the interval of each coverage around the price; none where nothing is known.
    pub half_widths: Option<[[f64; COVERAGES.len()]; HOURS]>,
    /// By hour and level; none where nothing is known.
    pub quantiles: Option<DayQuantiles>,
    /// What naive quantiles say, to compare with; none where nothing is known.
    pub naive_quantiles: Option<DayQuantiles>,
}

impl PowerForecaster {
    /// Learns from the days before `until`. `fitted` hears of each fit, of which there are [`PowerForecaster::fits`].
    ///
    /// # Errors
    /// Settings out of bounds, too short a history. Too short a history for the calibration alone is no fault: there are no
    /// intervals and quantiles then.
    pub fn train(
        market: &PowerMarket,
        until: usize,
        settings: &PowerSettings,
        snapshot: &str,
        fitted: &dyn Fn(),
    ) -> Result<Self, ForecastFault> {
        let model = Fitted::train(market, until, settings)?;
        fitted();
        let days = settings.calibration_days;
        let first = until.checked_sub(days).filter(|first| days > 0 && *first >= settings.days_needed());
        let calibration = match first {
            Some(first) => {
                let errors = Self::walk(market, first..until, settings, CALIBRATION_REFIT_DAYS, fitted)?;
                Calibration::learn(market, first, &errors)
            }
            None => None,
        };
        Ok(Self {
            settings: settings.clone(),
            trained_until: market.date(until - 1),
            snapshot: snapshot.to_owned(),
            fitted: model,
            calibration,
        })
    }

    /// How many fits a training makes, at most.
    #[must_use]
    pub fn fits(settings: &PowerSettings) -> usize {
        1 + settings.calibration_days.div_ceil(CALIBRATION_REFIT_DAYS)
    }

    /// Forecasts days with a model that is fitted anew before every `refit_days`-th of them on the days before it.
    ///
    /// # Errors
    /// As [`PowerForecaster::train`].
    pub fn walk(
        market: &PowerMarket,
        days: std::ops::Range<usize>,
        settings: &PowerSettings,
        refit_days: usize,
        fitted: &dyn Fn(),
    ) -> Result<PowerForecast, ForecastFault> {
        let mut out = PowerForecast::default();
        for start in days.clone().step_by(refit_days.max(1)) {
            let end = (start + refit_days.max(1)).min(days.end);
            let model = Fitted::train(market, start, settings)?;
            out.append(model.predict(market, start..end, settings.kernel_weight)?);
            fitted();
        }
        Ok(out)
    }

    /// Whether its forecasts have intervals and quantiles.
    #[must_use]
    pub fn has_intervals(&self) -> bool {
        self.calibration.is_some()
    }

    /// The prices of a day, from those of the seven days before it and the two forecasts up to it.
    ///
    /// # Errors
    /// [`ForecastFault::TooFewDays`] where these are not there.
    pub fn predict(&self, market: &PowerMarket, day: usize) -> Result<DayAhead, ForecastFault> {
        let told = self.fitted.predict(market, day..day + 1, self.settings.kernel_weight)?;
        let calibration = self.calibration.as_ref();
        Ok(DayAhead {
            prices: told.mean[0],
            half_widths: calibration.map(|known| known.half_widths),
            quantiles: calibration.map(|known| known.quantiles(&told, 0)),
            naive_quantiles: calibration.map(|known| known.naive(market, day)),
        })
    }

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
        let model: Self = envelope::read(text, FORMAT, VERSION..=VERSION)?;
        model.settings.validate()?;
        if !model.fitted.is_sound(&model.settings) {
            return Err(ForecastFault::Artifact("its arrays do not fit together".to_owned()));
        }
        Ok(model)
    }
}
