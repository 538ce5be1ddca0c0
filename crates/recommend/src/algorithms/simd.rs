//! The few vector loops that the algorithms spend their time in, with the instruction set chosen at run time.
//!
//! Refuses: anything that a matrix product of `faer` does as well.

use pulp::{Arch, Simd, WithSimd};

/// The sum of products of two slices of the same length.
#[inline(always)]
pub(crate) fn dot_with<S: Simd>(simd: S, left: &[f32], right: &[f32]) -> f32 {
    let (left_lanes, left_tail) = S::as_simd_f32s(left);
    let (right_lanes, right_tail) = S::as_simd_f32s(right);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (left_fours, left_rest) = left_lanes.as_chunks::<4>();
    let (right_fours, right_rest) = right_lanes.as_chunks::<4>();
    for (left, right) in left_fours.iter().zip(right_fours) {
        for lane in 0..4 {
            sums[lane] = simd.mul_add_e_f32s(left[lane], right[lane], sums[lane]);
        }
    }
    for (&left, &right) in left_rest.iter().zip(right_rest) {
        sums[0] = simd.mul_add_e_f32s(left, right, sums[0]);
    }
    let total = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    let tail: f32 = left_tail.iter().zip(right_tail).map(|(left, right)| left * right).sum();
    simd.reduce_sum_f32s(total) + tail
}

/// `target += scale * source`, element by element.
#[inline(always)]
pub(crate) fn add_scaled_with<S: Simd>(simd: S, scale: f32, source: &[f32], target: &mut [f32]) {
    let (source_lanes, source_tail) = S::as_simd_f32s(source);
    let (target_lanes, target_tail) = S::as_mut_simd_f32s(target);
    let scale_lanes = simd.splat_f32s(scale);
    for (target, &source) in target_lanes.iter_mut().zip(source_lanes) {
        *target = simd.mul_add_e_f32s(scale_lanes, source, *target);
    }
    for (target, &source) in target_tail.iter_mut().zip(source_tail) {
        *target += scale * source;
    }
}

/// The sum of products of two slices of the same length.
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    debug_assert_eq!(left.len(), right.len());
    struct Dot<'a>(&'a [f32], &'a [f32]);
    impl WithSimd for Dot<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            dot_with(simd, self.0, self.1)
        }
    }
    Arch::new().dispatch(Dot(left, right))
}

/// `products[r] = matrix[r] . vector` for a row-major `matrix` of `products.len()` rows as wide as `vector`.
pub(crate) fn matrix_times_vector(matrix: &[f32], vector: &[f32], products: &mut [f32]) {
    debug_assert_eq!(matrix.len(), vector.len() * products.len());
    struct Product<'a>(&'a [f32], &'a [f32], &'a mut [f32]);
    impl WithSimd for Product<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for (row, product) in self.0.chunks_exact(self.1.len()).zip(self.2) {
                *product = dot_with(simd, row, self.1);
            }
        }
    }
    if vector.is_empty() {
        products.fill(0.0);
    } else {
        Arch::new().dispatch(Product(matrix, vector, products));
    }
}

/// Adds `scale * vector vector'` to the lower triangle of a row-major square `matrix`.
pub(crate) fn add_outer_lower(scale: f32, vector: &[f32], matrix: &mut [f32]) {
    debug_assert_eq!(matrix.len(), vector.len() * vector.len());
    struct Outer<'a>(f32, &'a [f32], &'a mut [f32]);
    impl WithSimd for Outer<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self(scale, vector, matrix) = self;
            for (row, &value) in vector.iter().enumerate() {
                let target = &mut matrix[row * vector.len()..][..vector.len()];
                // Up to a whole vector past the diagonal: the upper triangle is not read.
                let end = (row + 1).next_multiple_of(16).min(vector.len());
                add_scaled_with(simd, scale * value, &vector[..end], &mut target[..end]);
            }
        }
    }
    Arch::new().dispatch(Outer(scale, vector, matrix));
}

/// Rows that are added in one pass over the sums.
const ROWS_PER_PASS: usize = 8;

/// `sums += scale * matrix[row]`, row after row, for rows of a row-major quantised `matrix` as wide as there are sums.
/// Several rows share one pass over the sums, whose traffic would otherwise cost more than the products.
pub(crate) fn add_scaled_rows_i8(matrix: &[i8], rows: &[(usize, f32)], sums: &mut [f32]) {
    struct Rows<'a>(&'a [i8], &'a [(usize, f32)], &'a mut [f32]);
    impl WithSimd for Rows<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            let Self(matrix, rows, sums) = self;
            let (passes, rest) = rows.as_chunks::<ROWS_PER_PASS>();
            for pass in passes {
                add_pass(matrix, pass, sums);
            }
            for row in rest {
                add_pass(matrix, &[*row], sums);
            }
        }
    }
    Arch::new().dispatch(Rows(matrix, rows, sums));
}

/// A plain loop, which the compiler turns into the widest vectors of the machine that it is inlined for.
#[inline(always)]
fn add_pass<const ROWS: usize>(matrix: &[i8], rows: &[(usize, f32); ROWS], sums: &mut [f32]) {
    let width = sums.len();
    let mut values = [&matrix[..0]; ROWS];
    for (values, &(row, _)) in values.iter_mut().zip(rows) {
        *values = &matrix[row * width..][..width];
    }
    for column in 0..width {
        let mut sum = sums[column];
        for row in 0..ROWS {
            sum += rows[row].1 * f32::from(values[row][column]);
        }
        sums[column] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_plain_loops_at_every_length() {
        for len in 0..80_usize {
            let left: Vec<f32> = (0..len).map(|index| index as f32 * 0.5 - 3.0).collect();
            let right: Vec<f32> = (0..len).map(|index| 2.0 - index as f32).collect();
            let expected: f32 = left.iter().zip(&right).map(|(left, right)| left * right).sum();
            assert!((dot(&left, &right) - expected).abs() <= 1e-4 * expected.abs().max(1.0));
            let mut products = [0.0; 2];
            matrix_times_vector(&[left.clone(), right.clone()].concat(), &right, &mut products);
            assert_eq!(products[0], dot(&left, &right));
            let quantised: Vec<i8> = (0..len).map(|index| index as i8 - 40).collect();
            let mut sums = right.clone();
            let rows: Vec<(usize, f32)> = (0..11).map(|row| (row % 2, 0.5 + row as f32)).collect();
            let matrix = [quantised.clone(), quantised.iter().map(|value| -value / 2).collect()].concat();
            add_scaled_rows_i8(&matrix, &rows, &mut sums);
            let mut expected = right.clone();
            for (row, scale) in rows {
                let row = &matrix[row * len..][..len];
                expected.iter_mut().zip(row).for_each(|(sum, value)| *sum += scale * f32::from(*value));
            }
            assert_eq!(sums, expected);
        }
    }
}
