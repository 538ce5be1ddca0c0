//! Kernel ridge regression with an exponential kernel, for few rows of many columns (Saunders, Gammerman and Vovk 1998;
//! the mean of a Gaussian process, Rasmussen and Williams 2006, chapter 2).
//!
//! `k(a, b) = exp(-|a - b| / length) + linear · a·b + 1`: rough functions near the data, straight lines far from them.
//! Old rows count less because their noise is larger. All targets share one factorisation. It refuses systems that
//! are not positive definite.

use faer::{Mat, MatRef};
use serde::{Deserialize, Serialize};

use super::{ForecastFault, matrix};

/// How smooth, how noisy, how forgetful.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KernelSettings {
    /// Distance over which functions lose their memory, in units of the scaled rows.
    pub length: f64,
    /// Noise of the newest row, of a signal of 1.
    pub noise: f64,
    /// Rows after which the noise is e times as large.
    pub decay_rows: f64,
    /// Weight of straight lines.
    pub linear: f64,
}

impl Default for KernelSettings {
    fn default() -> Self {
        Self { length: 3.0, noise: 0.1, decay_rows: 400.0, linear: 0.05 }
    }
}

impl KernelSettings {
    /// The kernel, of a distance and a product.
    fn of(&self, distance: f64, product: f64) -> f64 {
        (-distance / self.length).exp() + self.linear * product + 1.0
    }
}

/// A fitted regression: it keeps its rows.
#[derive(Debug, Clone)]
pub(super) struct KernelRegression {
    settings: KernelSettings,
    rows: Mat<f64>,
    weights: Mat<f64>,
}

impl KernelRegression {
    /// Fits rows in the order of time (rows × columns) to targets (rows × targets).
    ///
    /// # Errors
    /// [`ForecastFault::Singular`].
    pub(super) fn fit(
        rows: Mat<f64>,
        targets: &Mat<f64>,
        settings: KernelSettings,
    ) -> Result<Self, ForecastFault> {
        let mut kernel = kernel(rows.as_ref(), rows.as_ref(), settings);
        let count = rows.nrows();
        for row in 0..count {
            kernel[(row, row)] += settings.noise * ((count - row) as f64 / settings.decay_rows).exp();
        }
        let weights = matrix::solve(&kernel, targets)?;
        Ok(Self { settings, rows, weights })
    }

    /// One that was fitted before, on the same rows. `None` where the weights (rows × targets) are not of them.
    pub(super) fn again(rows: Mat<f64>, weights: Mat<f64>, settings: KernelSettings) -> Option<Self> {
        (weights.nrows() == rows.nrows()).then_some(Self { settings, rows, weights })
    }

    /// How much each row says of each target (rows × targets).
    pub(super) fn weights(&self) -> MatRef<'_, f64> {
        self.weights.as_ref()
    }

    /// The targets at one row, in sums of a fixed order: the same bits whoever asks.
    pub(super) fn at(&self, row: &[f64]) -> Vec<f64> {
        let mut squares = vec![0.0; self.rows.nrows()];
        let mut products = vec![0.0; self.rows.nrows()];
        for (column, value) in row.iter().enumerate() {
            let known = self.rows.col_as_slice(column).iter();
            for ((square, product), known) in squares.iter_mut().zip(&mut products).zip(known) {
                *square += (known - value) * (known - value);
                *product += known * value;
            }
        }
        for (product, square) in products.iter_mut().zip(&squares) {
            *product = self.settings.of(square.sqrt(), *product);
        }
        let target = |target: usize| {
            products.iter().zip(self.weights.col_as_slice(target)).map(|(near, weight)| near * weight).sum()
        };
        (0..self.weights.ncols()).map(target).collect()
    }

    /// Targets (rows × targets) at these rows.
    pub(super) fn predict(&self, rows: MatRef<'_, f64>) -> Mat<f64> {
        matrix::product(kernel(rows, self.rows.as_ref(), self.settings).as_ref(), self.weights.as_ref())
    }
}

fn kernel(left: MatRef<'_, f64>, right: MatRef<'_, f64>, settings: KernelSettings) -> Mat<f64> {
    let squares = |rows: MatRef<'_, f64>| -> Vec<f64> {
        let mut sums = vec![0.0; rows.nrows()];
        for column in 0..rows.ncols() {
            for (sum, value) in sums.iter_mut().zip(rows.col(column).iter()) {
                *sum += value * value;
            }
        }
        sums
    };
    let (left_squares, right_squares) = (squares(left), squares(right));
    let mut out = matrix::product(left, right.transpose());
    for (column, right_square) in right_squares.iter().enumerate() {
        for (value, left_square) in out.col_as_slice_mut(column).iter_mut().zip(&left_squares) {
            let distance = (left_square + right_square - 2.0 * *value).max(0.0).sqrt();
            *value = settings.of(distance, *value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_a_bend_that_no_straight_line_has() {
        let rows = Mat::from_fn(80, 1, |row, _| row as f64 / 20.0 - 2.0);
        let targets = Mat::from_fn(80, 2, |row, target| if target == 0 { rows[(row, 0)].abs() } else { 5.0 });
        let settings = KernelSettings { noise: 0.01, decay_rows: 1e9, ..KernelSettings::default() };
        let fitted = KernelRegression::fit(rows.clone(), &targets, settings).unwrap();
        let predicted = fitted.predict(rows.as_ref());
        let worst = (0..80).map(|row| (predicted[(row, 0)] - targets[(row, 0)]).abs()).fold(0.0, f64::max);
        assert!(worst < 0.1, "{worst}");
        assert!((predicted[(40, 1)] - 5.0).abs() < 0.05);
        for row in 0..80 {
            let at = fitted.at(&[rows[(row, 0)]]);
            assert!((at[0] - predicted[(row, 0)]).abs() < 1e-6 && (at[1] - predicted[(row, 1)]).abs() < 1e-6);
        }
        let again = |weights: Mat<f64>| KernelRegression::again(rows.clone(), weights, settings);
        assert_eq!(again(fitted.weights().to_owned()).unwrap().at(&[0.5]), fitted.at(&[0.5]));
        assert!(again(Mat::zeros(79, 2)).is_none());
    }

    #[test]
    fn the_same_row_many_times_is_no_fault() {
        let rows = Mat::from_fn(30, 3, |_, _| 1.0);
        let targets = Mat::from_fn(30, 1, |_, _| 2.0);
        let fitted = KernelRegression::fit(rows.clone(), &targets, KernelSettings::default()).unwrap();
        assert!((fitted.predict(rows.as_ref())[(0, 0)] - 2.0).abs() < 0.1);
    }
}
