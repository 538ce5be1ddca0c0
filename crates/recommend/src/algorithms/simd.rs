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

/// `sums += scale * values` for quantised `values`, as many as there are sums.
pub(crate) fn add_scaled_i8(scale: f32, values: &[i8], sums: &mut [f32]) {
    // A plain loop: inside `dispatch` the compiler turns it into the widest vectors of this machine.
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += scale * f32::from(value);
            }
        },
    );
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
            add_scaled_i8(0.5, &quantised, &mut sums);
            let expected: Vec<f32> =
                right.iter().zip(&quantised).map(|(sum, &value)| sum + 0.5 * f32::from(value)).collect();
            assert_eq!(sums, expected);
        }
    }
}
