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

/// The middle of the values; the mean of the two in the middle of an even count. 0 for none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { 0.5 * (values[middle - 1] + values[middle]) }
}
