//! Products and positive definite systems over `faer`, on one thread, so that the order of sums is fixed.
//!
//! It refuses shapes that do not fit by panicking, as `faer` does: callers check their input first.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatRef, Par, Side};

use super::ForecastFault;

/// `leftᵀ · right`.
pub(super) fn transposed_product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    product(left.transpose(), right)
}

/// `left · right`.
pub(super) fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(left.nrows(), right.ncols());
    matmul(out.as_mut(), Accum::Replace, left, right, 1.0, Par::Seq);
    out
}

/// The solution of `matrix · x = right` for a symmetric positive definite matrix, of which the lower half is read.
///
/// # Errors
/// [`ForecastFault::Singular`] where it is not positive definite.
pub(super) fn solve(matrix: &Mat<f64>, right: &Mat<f64>) -> Result<Mat<f64>, ForecastFault> {
    let factor = matrix.llt(Side::Lower).map_err(|_| ForecastFault::Singular)?;
    let solved = factor.solve(right);
    let is_finite =
        (0..solved.ncols()).all(|column| solved.col(column).iter().all(|value| value.is_finite()));
    if is_finite { Ok(solved) } else { Err(ForecastFault::Singular) }
}

/// The middle of the values; the mean of the two in the middle of an even count. 0 for none. Reorders them.
pub(super) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let is_odd = values.len() % 2 == 1;
    let (below, middle, _) = values.select_nth_unstable_by(values.len() / 2, f64::total_cmp);
    if is_odd { *middle } else { 0.5 * (below.iter().copied().fold(f64::NEG_INFINITY, f64::max) + *middle) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_median_is_that_of_the_sorted_values(mut values in proptest::collection::vec(-9.0..9.0_f64, 1..40)) {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let middle = sorted.len() / 2;
            let two = [sorted[middle], sorted[middle - usize::from(sorted.len() % 2 == 0)]];
            prop_assert_eq!(median(&mut values), 0.5 * (two[0] + two[1]));
        }
    }

    #[test]
    fn the_median_of_nothing_is_zero() {
        assert_eq!(median(&mut []), 0.0);
    }
}
