//! Exponential smoothing of one series, without and with its week: ETS chosen by corrected AIC (Hyndman, Koehler, Snyder and
//! Grose 2002), and the same on what is left after MSTL takes the week out (Bandara, Hyndman and Bergmeir 2021), both by
//! `augurs`.
//!
//! Nothing is learned before: the model is chosen and fitted on the history that is forecast from. It refuses multiplicative
//! errors, because a rate may be zero or below. A series that never changes stays as it is.

use augurs_core::{Fit, Predict};
use augurs_ets::AutoETS;
use augurs_mstl::MSTLModel;

use super::ForecastFault;

/// Additive errors, a trend or none, no season: what a season there is is taken out before.
const FORM: &str = "AZN";

/// The values of the next `steps`, after a history; with `period` a season of so many steps.
///
/// # Errors
/// [`ForecastFault::Smoothing`] where no model can be fitted.
pub fn forecast(history: &[f64], period: Option<usize>, steps: usize) -> Result<Vec<f64>, ForecastFault> {
    let last = history.last().copied().unwrap_or_default();
    if history.iter().all(|value| value.to_bits() == last.to_bits()) {
        return Ok(vec![last; steps]);
    }
    let failed = |cause: &dyn std::fmt::Display| ForecastFault::Smoothing(cause.to_string());
    let smoothing = AutoETS::new(1, FORM).map_err(|cause| failed(&cause))?;
    let told = match period {
        None => smoothing
            .fit(history)
            .map_err(|cause| failed(&cause))?
            .predict(steps, None)
            .map_err(|cause| failed(&cause))?,
        Some(period) => MSTLModel::new(vec![period], smoothing.into_trend_model())
            .fit(history)
            .map_err(|cause| failed(&cause))?
            .predict(steps, None)
            .map_err(|cause| failed(&cause))?,
    };
    match told.point.len() == steps && told.point.iter().all(|value| value.is_finite()) {
        true => Ok(told.point),
        false => Err(ForecastFault::Smoothing("it does not say a number for each step".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(rows: usize) -> Vec<f64> {
        (0..rows)
            .map(|row| 40.0 + 0.1 * row as f64 + [0.0, 3.0, -2.0, 5.0, 1.0, -4.0, -3.0][row % 7])
            .collect()
    }

    #[test]
    fn a_trend_goes_on_and_a_week_comes_again() {
        let line: Vec<f64> = (0..120).map(|row| 2.0 + 0.05 * f64::from(row)).collect();
        for (step, value) in forecast(&line, None, 5).unwrap().into_iter().enumerate() {
            assert!((value - (2.0 + 0.05 * (120 + step) as f64)).abs() < 0.02, "{value}");
        }
        let (history, truth) = (wave(140), wave(147));
        let far = |period| {
            let told = forecast(&history, period, 7).unwrap();
            told.iter().zip(&truth[140..]).map(|(told, truth)| (told - truth).abs()).sum::<f64>() / 7.0
        };
        assert!(far(Some(7)) < 0.5, "{}", far(Some(7)));
        assert!(far(Some(7)) < far(None) / 4.0, "{} {}", far(Some(7)), far(None));
    }

    #[test]
    fn odd_histories_are_forecast_or_refused() {
        assert_eq!(forecast(&[2.5; 60], Some(7), 3).unwrap(), [2.5; 3]);
        assert_eq!(forecast(&[2.5; 60], None, 2).unwrap(), [2.5; 2]);
        let step: Vec<f64> = (0..60).map(|row| f64::from(u8::from(row == 59))).collect();
        for period in [None, Some(5)] {
            assert!(forecast(&step, period, 4).unwrap().iter().all(|value| value.abs() <= 2.0));
            assert!(forecast(&[1.0, 2.0], period, 4).is_err());
        }
        let below: Vec<f64> = (0..60).map(|row| -0.5 + 0.01 * f64::from(row % 3)).collect();
        assert!(forecast(&below, None, 1).unwrap()[0] < 0.0);
    }
}
