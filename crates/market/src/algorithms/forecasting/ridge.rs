//! Ridge regression of many targets at once (Hoerl and Kennard 1970), on standardised columns.
//!
//! The penalty is per row, so that `alpha` means the same for short and long histories. There is no intercept unless
//! asked for: changes of prices have no drift that could be known. It refuses systems without a stable solution.

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::{ForecastFault, matrix};

/// A fitted regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ridge {
    means: Vec<f64>,
    /// One over the deviation; 0 for a column that does not vary.
    scales: Vec<f64>,
    /// By column, then target.
    coefficients: Vec<Vec<f64>>,
}

impl Ridge {
    /// Fits `targets` (rows × targets) to `rows` (rows × columns) with a penalty of `alpha` a row.
    ///
    /// # Errors
    /// [`ForecastFault::Singular`].
    pub(super) fn fit(rows: &[Vec<f64>], targets: &[Vec<f64>], alpha: f64) -> Result<Self, ForecastFault> {
        let (count, width) = (rows.len() as f64, rows.first().map_or(0, Vec::len));
        let mut means = vec![0.0; width];
        let mut squares = vec![0.0; width];
        for row in rows {
            means.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / count);
        }
        for row in rows {
            let away = row.iter().zip(&means).map(|(value, mean)| value - mean);
            squares.iter_mut().zip(away).for_each(|(square, away)| *square += away * away / count);
        }
        let scale = |square: f64| if square > 1e-18 { 1.0 / square.sqrt() } else { 0.0 };
        let scales: Vec<f64> = squares.into_iter().map(scale).collect();
        let columns = Mat::from_fn(rows.len(), width, |row, column| {
            (rows[row][column] - means[column]) * scales[column]
        });
        let wanted =
            Mat::from_fn(rows.len(), targets.first().map_or(0, Vec::len), |row, target| targets[row][target]);
        let mut gram = matrix::transposed_product(columns.as_ref(), columns.as_ref());
        (0..width).for_each(|column| gram[(column, column)] += alpha * count);
        let solved = matrix::solve(&gram, &matrix::transposed_product(columns.as_ref(), wanted.as_ref()))?;
        let coefficients = (0..width)
            .map(|column| (0..solved.ncols()).map(|target| solved[(column, target)]).collect())
            .collect();
        Ok(Self { means, scales, coefficients })
    }

    /// The targets at a row.
    pub(super) fn predict(&self, row: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.coefficients.first().map_or(0, Vec::len)];
        for (column, coefficients) in self.coefficients.iter().enumerate() {
            let value = (row[column] - self.means[column]) * self.scales[column];
            sum.iter_mut().zip(coefficients).for_each(|(sum, coefficient)| *sum += value * coefficient);
        }
        sum
    }

    /// Whether its arrays fit together.
    pub(super) fn is_sound(&self, columns: usize, targets: usize) -> bool {
        [self.means.len(), self.scales.len(), self.coefficients.len()].iter().all(|len| *len == columns)
            && self.coefficients.iter().all(|row| row.len() == targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_line_is_found_and_a_large_alpha_shrinks_it(slope in -5.0..5.0_f64) {
            let rows: Vec<Vec<f64>> = (0..50).map(|row| vec![f64::from(row), 7.0]).collect();
            let targets: Vec<Vec<f64>> = rows.iter().map(|row| vec![slope * (row[0] - 24.5)]).collect();
            let fitted = Ridge::fit(&rows, &targets, 1e-9).unwrap();
            prop_assert!((fitted.predict(&[34.5, 7.0])[0] - 10.0 * slope).abs() < 1e-4);
            let shrunk = Ridge::fit(&rows, &targets, 1.0).unwrap();
            prop_assert!((shrunk.predict(&[34.5, 7.0])[0] - 5.0 * slope).abs() < 1e-6);
        }
    }

    #[test]
    fn constant_columns_and_one_row_predict_no_change() {
        let fitted = Ridge::fit(&[vec![1.0, 2.0]], &[vec![3.0]], 1.0).unwrap();
        assert_eq!(fitted.predict(&[5.0, 5.0]), [0.0]);
        assert_eq!(Ridge::fit(&[vec![1.0]], &[vec![3.0]], 0.0), Err(ForecastFault::Singular));
    }
}
