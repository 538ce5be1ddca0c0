//! The leading right singular vectors of a sparse matrix, by random projection and power iteration.
//!
//! Halko, Martinsson, Tropp: "Finding Structure with Randomness", SIAM Review 2011, algorithms 4.4 and 5.1. Bases are
//! made orthonormal by two rounds of Cholesky in double precision. Sums run over fixed blocks of rows, so that the
//! result does not depend on the number of threads.
//!
//! Refuses: singular values and left vectors, which nothing here needs.

use super::interactions::Interactions;
use super::simd::add_scaled_with;
use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Accum, Mat, MatMut, MatRef, Par, Spec};
use pulp::{Arch, Simd, WithSimd};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Directions beyond the rank that are tried; Halko et al. advise 5 to 10.
const OVERSAMPLING: usize = 16;

/// Rows of one task.
const BLOCK_ROWS: usize = 2048;

/// `product = sparse * dense`, with `dense` and `product` row-major and `width` wide, on the calling thread.
pub(crate) fn multiply_into(sparse: &Interactions, dense: &[f32], width: usize, product: &mut [f32]) {
    multiply_rows(sparse, 0, dense, width, product);
}

fn multiply_rows(sparse: &Interactions, first: usize, dense: &[f32], width: usize, product: &mut [f32]) {
    struct Multiply<'a>(&'a Interactions, usize, &'a [f32], usize, &'a mut [f32]);
    impl WithSimd for Multiply<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(sparse, first, dense, width, product) = self;
            for (local, target) in product.chunks_exact_mut(width).enumerate() {
                target.fill(0.0);
                let row = sparse.row(first + local);
                for (&column, &value) in row.items.iter().zip(row.weights) {
                    add_scaled_with(simd, value, &dense[column as usize * width..][..width], target);
                }
            }
        }
    }
    Arch::new().dispatch(Multiply(sparse, first, dense, width, product));
}

fn multiply(sparse: &Interactions, dense: &[f32], width: usize) -> Vec<f32> {
    let mut product = vec![0.0; sparse.user_count() * width];
    product
        .par_chunks_mut(BLOCK_ROWS * width)
        .enumerate()
        .for_each(|(block, rows)| multiply_rows(sparse, block * BLOCK_ROWS, dense, width, rows));
    product
}

/// The inner products of the columns of a row-major matrix.
fn gram(matrix: &[f32], width: usize) -> Mat<f64> {
    let partial = |rows: &[f32]| {
        let rows: Vec<f64> = rows.iter().map(|&value| f64::from(value)).collect();
        let rows = MatRef::from_column_major_slice(&rows, width, rows.len() / width);
        let mut sum = Mat::zeros(width, width);
        matmul(sum.as_mut(), Accum::Replace, rows, rows.transpose(), 1.0, Par::Seq);
        sum
    };
    let partials: Vec<Mat<f64>> = matrix.par_chunks(BLOCK_ROWS * width).map(partial).collect();
    partials.into_iter().fold(Mat::zeros(width, width), |total, partial| total + partial)
}

/// Replaces each row `r` of a row-major matrix by `r * factor`.
fn multiply_right(matrix: &mut [f32], width: usize, factor: &Mat<f64>) -> Vec<f32> {
    let factor = Mat::from_fn(width, factor.ncols(), |row, column| factor[(row, column)] as f32);
    let new_width = factor.ncols();
    let mut product = vec![0.0; matrix.len() / width * new_width];
    product.par_chunks_mut(BLOCK_ROWS * new_width).zip(matrix.par_chunks(BLOCK_ROWS * width)).for_each(
        |(product, rows)| {
            let count = rows.len() / width;
            let target = MatMut::from_row_major_slice_mut(product, count, new_width);
            let rows = MatRef::from_row_major_slice(rows, count, width);
            matmul(target, Accum::Replace, rows, &factor, 1.0, Par::Seq);
        },
    );
    product
}

/// Makes the columns orthonormal. Directions that are linearly dependent come out as small noise, not as NaN.
fn orthonormalise(mut matrix: Vec<f32>, width: usize) -> Vec<f32> {
    for _ in 0..2 {
        let mut products = gram(&matrix, width);
        let largest = (0..width).map(|entry| products[(entry, entry)]).fold(0.0, f64::max);
        let shift = largest * 1e-12 + f64::MIN_POSITIVE;
        (0..width).for_each(|entry| products[(entry, entry)] += shift);
        let Ok(factor) = products.llt(faer::Side::Lower) else { return matrix };
        let mut inverse = Mat::<f64>::identity(width, width);
        solve_lower_triangular_in_place(factor.L(), inverse.as_mut(), Par::Seq);
        matrix = multiply_right(&mut matrix, width, &inverse.transpose().to_owned());
    }
    matrix
}

/// The `rank` leading right singular vectors of `sparse`, as a row-major matrix of `item_count` rows, and their
/// number, which is less than `rank` where the matrix is smaller.
pub(crate) fn right_singular_vectors(
    sparse: &Interactions,
    rank: usize,
    power_iterations: usize,
    seed: u64,
) -> (Vec<f32>, usize) {
    let smaller = sparse.user_count().min(sparse.item_count());
    let rank = rank.min(smaller);
    let width = (rank + OVERSAMPLING).min(smaller);
    if rank == 0 {
        return (Vec::new(), 0);
    }
    let transposed = sparse.transpose();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let random = (0..sparse.user_count() * width).map(|_| rng.random::<f32>() - 0.5).collect();
    let mut left: Vec<f32> = random;
    let mut right = orthonormalise(multiply(&transposed, &left, width), width);
    for _ in 0..power_iterations {
        left = orthonormalise(multiply(sparse, &right, width), width);
        right = orthonormalise(multiply(&transposed, &left, width), width);
    }
    // With Z the basis, the singular vectors are Z times the eigenvectors of (X Z)' (X Z).
    let projected = gram(&multiply(sparse, &right, width), width);
    (multiply_right(&mut right, width, &leading_eigenvectors(&projected, rank)), rank)
}

/// The eigenvectors of the `count` largest eigenvalues of a symmetric matrix.
fn leading_eigenvectors(matrix: &Mat<f64>, count: usize) -> Mat<f64> {
    use faer::linalg::evd;
    let width = matrix.nrows();
    let (mut values, mut vectors) = (faer::Col::<f64>::zeros(width), Mat::<f64>::zeros(width, width));
    let needs =
        evd::self_adjoint_evd_scratch::<f64>(width, evd::ComputeEigenvectors::Yes, Par::Seq, Spec::default());
    let mut memory = faer::dyn_stack::MemBuffer::new(needs);
    let stack = faer::dyn_stack::MemStack::new(&mut memory);
    let (diagonal, basis) = (values.as_diagonal_mut(), Some(vectors.as_mut()));
    // It fails only to converge, and only on values that are not finite; the basis as it stands is then kept.
    if evd::self_adjoint_evd(matrix.as_ref(), diagonal, basis, Par::Seq, stack, Spec::default()).is_err() {
        return Mat::identity(width, count);
    }
    // Eigenvalues come in rising order.
    Mat::from_fn(width, count, |row, column| vectors[(row, width - 1 - column)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::testing::{check_threads_agree, random_sets};

    #[test]
    fn spans_the_leading_singular_vectors() {
        let sparse = random_sets(7, 60, 40, 0.3);
        let dense = Mat::from_fn(60, 40, |user, item| {
            f64::from(u8::from(sparse.row(user).items.contains(&(item as u32))))
        });
        let decomposition = dense.thin_svd().unwrap();
        let (vectors, rank) = right_singular_vectors(&sparse, 5, 30, 1);
        assert_eq!((rank, vectors.len()), (5, 200));
        for expected in 0..5 {
            let dots = (0..5).map(|found| {
                let column = (0..40)
                    .map(|item| f64::from(vectors[item * 5 + found]) * decomposition.V()[(item, expected)]);
                column.sum::<f64>().powi(2)
            });
            let captured: f64 = dots.sum();
            assert!((captured - 1.0).abs() < 1e-2, "vector {expected}: {captured}");
        }
    }

    #[test]
    fn small_and_empty_matrices_are_answered() {
        for (users, items) in [(0, 0), (0, 3), (3, 0), (1, 1), (4, 2)] {
            let (vectors, rank) = right_singular_vectors(&random_sets(1, users, items, 0.9), 8, 2, 0);
            assert_eq!((vectors.len(), rank), (items * users.min(items), users.min(items)));
            assert!(vectors.iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn threads_do_not_change_the_vectors() {
        let sparse = random_sets(3, 3000, 50, 0.1);
        check_threads_agree(|| right_singular_vectors(&sparse, 6, 2, 0));
    }
}
