//! Principal axes (Pearson 1901): the directions in which rows differ most, one square to the other.
//!
//! An axis and its opposite are the same axis: here its largest component is above zero, so that the same rows give the same
//! axes. Sums are in double precision and on one thread, because their order must not change. It refuses rows that are not
//! numbers.

use faer::linalg::evd;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par, Spec};

/// Rows that are multiplied together.
const BLOCK_ROWS: usize = 1_024;

/// The mean of rows, and their first principal axes.
#[derive(Debug)]
pub(super) struct PrincipalAxes {
    mean: Vec<f64>,
    /// An axis in each column, first the one along which the rows differ most.
    axes: Mat<f64>,
}

impl PrincipalAxes {
    /// The `count` first of rows of this width; nothing where the rows have no such axes, because they are not numbers.
    pub(super) fn new(rows: &[f32], width: usize, count: usize) -> Option<Self> {
        if !rows.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mean = mean(rows, width);
        let axes = leading_eigenvectors(&scatter(rows, &mean), count)?;
        Some(Self { mean, axes })
    }

    /// How far each row is from the mean along each axis.
    pub(super) fn project(&self, rows: &[f32]) -> Vec<f32> {
        let (width, count) = (self.mean.len(), self.axes.ncols());
        let mut projected = Vec::with_capacity(rows.len() / width * count);
        for block in rows.chunks(BLOCK_ROWS * width) {
            let (centred, height) = (centred(block, &self.mean), block.len() / width);
            let mut product = vec![0.0_f64; height * count];
            let target = MatMut::from_row_major_slice_mut(&mut product, height, count);
            let centred = MatRef::from_row_major_slice(&centred, height, width);
            matmul(target, Accum::Replace, centred, &self.axes, 1.0, Par::Seq);
            projected.extend(product.iter().map(|value| *value as f32));
        }
        projected
    }
}

fn mean(rows: &[f32], width: usize) -> Vec<f64> {
    let mut mean = vec![0.0_f64; width];
    for row in rows.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let count = (rows.len() / width).max(1) as f64;
    mean.iter_mut().for_each(|sum| *sum /= count);
    mean
}

fn centred(rows: &[f32], mean: &[f64]) -> Vec<f64> {
    let of_row = |row: &[f32]| -> Vec<f64> {
        row.iter().zip(mean).map(|(value, mean)| f64::from(*value) - mean).collect()
    };
    rows.chunks_exact(mean.len()).flat_map(of_row).collect()
}

/// The covariance of the columns, times the number of rows.
fn scatter(rows: &[f32], mean: &[f64]) -> Mat<f64> {
    let width = mean.len();
    let mut sum = Mat::<f64>::zeros(width, width);
    for block in rows.chunks(BLOCK_ROWS * width) {
        let centred = centred(block, mean);
        let centred = MatRef::from_row_major_slice(&centred, block.len() / width, width);
        matmul(sum.as_mut(), Accum::Add, centred.transpose(), centred, 1.0, Par::Seq);
    }
    sum
}

/// The eigenvectors of the `count` largest eigenvalues of a symmetric matrix, in columns.
fn leading_eigenvectors(matrix: &Mat<f64>, count: usize) -> Option<Mat<f64>> {
    let width = matrix.nrows();
    let (mut values, mut vectors) = (faer::Col::<f64>::zeros(width), Mat::<f64>::zeros(width, width));
    let needs =
        evd::self_adjoint_evd_scratch::<f64>(width, evd::ComputeEigenvectors::Yes, Par::Seq, Spec::default());
    let mut memory = faer::dyn_stack::MemBuffer::new(needs);
    let stack = faer::dyn_stack::MemStack::new(&mut memory);
    let (diagonal, basis) = (values.as_diagonal_mut(), Some(vectors.as_mut()));
    evd::self_adjoint_evd(matrix.as_ref(), diagonal, basis, Par::Seq, stack, Spec::default()).ok()?;
    let sign = |column: usize| {
        let components = (0..width).map(|row| vectors[(row, column)]);
        let largest =
            components.fold(0.0_f64, |most, value| if value.abs() > most.abs() { value } else { most });
        if largest < 0.0 { -1.0 } else { 1.0 }
    };
    // Eigenvalues come in rising order.
    let column_of = |axis: usize| width - 1 - axis;
    let signs: Vec<f64> = (0..count).map(|axis| sign(column_of(axis))).collect();
    Some(Mat::from_fn(width, count, |row, axis| signs[axis] * vectors[(row, column_of(axis))]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn axes_and_places_are_those_worked_out_by_hand() {
        // Around (10, 20), five along (0.6, 0.8) and a half of that across, along (0.8, -0.6).
        let rows = [13.0, 24.0, 7.0, 16.0, 12.0, 18.5, 8.0, 21.5];
        let check = |count: usize, expected: &[f32]| {
            let axes = PrincipalAxes::new(&rows, 2, count).unwrap();
            let found = axes.project(&rows);
            assert_eq!(found.len(), expected.len());
            for (value, expected) in found.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-5, "{found:?}");
            }
        };
        check(2, &[5.0, 0.0, -5.0, 0.0, 0.0, 2.5, 0.0, -2.5]);
        check(1, &[5.0, -5.0, 0.0, 0.0]);
        assert!(PrincipalAxes::new(&[1.0, f32::NAN], 2, 1).is_none());
        // Rows that are all the same are at the mean, whatever the axes.
        let same = PrincipalAxes::new(&[3.0, 4.0, 3.0, 4.0], 2, 2).unwrap();
        assert_eq!(same.project(&[3.0, 4.0]), [0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn axes_are_square_to_one_another_and_keep_the_most(
            rows in proptest::collection::vec(-10.0_f32..10.0, 5 * 4..30 * 4),
            direction in proptest::collection::vec(-1.0_f64..1.0, 4),
        ) {
            let rows = &rows[..rows.len() / 4 * 4];
            let found = PrincipalAxes::new(rows, 4, 4).unwrap();
            let axis = |axis: usize| -> Vec<f64> { (0..4).map(|row| found.axes[(row, axis)]).collect() };
            let dot = |left: &[f64], right: &[f64]| -> f64 {
                left.iter().zip(right).map(|(left, right)| left * right).sum()
            };
            for left in 0..4 {
                for right in 0..4 {
                    let expected = f64::from(u8::from(left == right));
                    prop_assert!((dot(&axis(left), &axis(right)) - expected).abs() < 1e-9);
                }
                prop_assert!(axis(left).iter().copied().fold(0.0, f64::max) >= 0.499, "the largest of four is above zero");
            }
            let centred = centred(rows, &found.mean);
            let spread = |along: &[f64]| -> f64 {
                centred.chunks_exact(4).map(|row| dot(row, along).powi(2)).sum::<f64>() / dot(along, along)
            };
            let spreads: Vec<f64> = (0..4).map(|number| spread(&axis(number))).collect();
            prop_assert!(spreads.is_sorted_by(|left, right| *left >= right - 1e-6), "{spreads:?}");
            let whole: f64 = centred.iter().map(|value| value * value).sum();
            prop_assert!((spreads.iter().sum::<f64>() - whole).abs() < 1e-6 * whole.max(1.0));
            prop_assume!(dot(&direction, &direction) > 1e-3);
            prop_assert!(spread(&direction) <= spreads[0] + 1e-6);
        }
    }
}
