//! How far forecasts were from what came.

use serde::Serialize;

/// Errors of one forecaster over the same cases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Cases.
    pub count: usize,
    /// Mean squared error.
    pub mse: f64,
    /// Its root, in the unit of the values.
    pub rmse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// One less the squared errors over those of the mean; 0 where the truth does not vary.
    pub r2: f64,
    /// The part of the changes whose sign was forecast, among those where both truth and forecast moved; 0 for none.
    pub directional_accuracy: f64,
}

/// One case.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub today: f64,
    pub forecast: f64,
    pub truth: f64,
}

impl Scores {
    pub(super) fn of(cases: impl Iterator<Item = Case> + Clone) -> Self {
        let (mut count, mut square, mut absolute, mut sum) = (0_usize, 0.0, 0.0, 0.0);
        let (mut moved, mut right) = (0_usize, 0_usize);
        for case in cases.clone() {
            let error = case.forecast - case.truth;
            count += 1;
            square += error * error;
            absolute += error.abs();
            sum += case.truth;
            let (told, came) = (case.forecast - case.today, case.truth - case.today);
            if told != 0.0 && came != 0.0 {
                moved += 1;
                right += usize::from((told > 0.0) == (came > 0.0));
            }
        }
        if count == 0 {
            return Self::default();
        }
        let rows = count as f64;
        let mean = sum / rows;
        let spread: f64 = cases.map(|case| (case.truth - mean).powi(2)).sum();
        let mse = square / rows;
        Self {
            count,
            mse,
            rmse: mse.sqrt(),
            mae: absolute / rows,
            r2: if spread > 0.0 { 1.0 - square / spread } else { 0.0 },
            directional_accuracy: if moved > 0 { right as f64 / moved as f64 } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_forecast_and_none() {
        let cases: Vec<Case> =
            (0..5).map(|day| Case { today: 0.0, forecast: f64::from(day), truth: f64::from(day) }).collect();
        let perfect = Scores::of(cases.iter().copied());
        assert_eq!((perfect.rmse, perfect.r2, perfect.directional_accuracy), (0.0, 1.0, 1.0));
        assert_eq!(Scores::of(std::iter::empty()), Scores::default());
        let constant = Scores::of([Case { today: 1.0, forecast: 2.0, truth: 1.0 }; 3].into_iter());
        assert_eq!(
            (constant.rmse, constant.mae, constant.r2, constant.directional_accuracy),
            (1.0, 1.0, 0.0, 0.0)
        );
    }
}
