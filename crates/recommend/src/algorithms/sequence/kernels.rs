//! The arithmetic under the sequence model: a row-major matrix, products through faer, and loops that are compiled
//! once per instruction set and chosen at run time.
//!
//! Products use faer, which picks AVX-512, AVX2 or plain code by itself. The other loops are ordinary Rust inside
//! [`vectorized`], so that the compiler may use wide registers although the binary is built for plain x86-64.
//! Refuses nothing: shapes are an invariant of the callers. A new loop goes in a [`vectorized`] function and calls only
//! `#[inline(always)]` ones; a sum keeps [`LANES`] partial sums, because float addition may not be reordered.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Partial sums of a reduction: one AVX-512 register of `f32`.
const LANES: usize = 16;

/// A row-major matrix. A vector is a matrix of one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, values: vec![0.0; rows * columns] }
    }

    pub(super) fn filled(rows: usize, columns: usize, value: f32) -> Self {
        Self { rows, columns, values: vec![value; rows * columns] }
    }

    /// Changes the shape and sets every value to zero; memory is kept for the next, possibly larger, use.
    pub(super) fn reset(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.values.clear();
        self.values.resize(rows * columns, 0.0);
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }

    #[inline(always)]
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.columns..][..self.columns]
    }

    pub(super) fn view(&self) -> MatRef<'_, f32> {
        MatRef::from_row_major_slice(&self.values, self.rows, self.columns)
    }

    pub(super) fn view_mut(&mut self) -> MatMut<'_, f32> {
        MatMut::from_row_major_slice_mut(&mut self.values, self.rows, self.columns)
    }

    /// Rows `start .. start + count`.
    pub(super) fn view_rows(&self, start: usize, count: usize) -> MatRef<'_, f32> {
        let values = &self.values[start * self.columns..][..count * self.columns];
        MatRef::from_row_major_slice(values, count, self.columns)
    }

    /// Rows `start .. start + count`.
    pub(super) fn view_rows_mut(&mut self, start: usize, count: usize) -> MatMut<'_, f32> {
        let values = &mut self.values[start * self.columns..][..count * self.columns];
        MatMut::from_row_major_slice_mut(values, count, self.columns)
    }
}

/// `output = left · right`, on the calling thread.
pub(super) fn multiply(output: MatMut<'_, f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    matmul(output, Accum::Replace, left, right, 1.0, Par::Seq);
}

/// `output += left · right`, on the calling thread.
pub(super) fn multiply_add(output: MatMut<'_, f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    matmul(output, Accum::Add, left, right, 1.0, Par::Seq);
}

/// Declares functions whose bodies are compiled for AVX-512, AVX2 and plain code; a call runs the widest that the
/// processor has. A closure would not do: the compiler is free not to inline it, and then it stays plain code.
macro_rules! vectorized {
    ($($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $(-> $output:ty)? $body:block)*) => { $(
        $(#[$meta])*
        $visibility fn $name($($argument: $kind),*) $(-> $output)? {
            struct Body<Arguments>(Arguments);
            impl pulp::WithSimd for Body<($($kind,)*)> {
                type Output = vectorized!(@output $($output)?);
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
                    let Body(($($argument,)*)) = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Body(($($argument,)*)))
        }
    )* };
    (@output) => { () };
    (@output $output:ty) => { $output };
}
pub(super) use vectorized;

vectorized! {
    /// `target += source`.
    pub(super) fn add(target: &mut [f32], source: &[f32]) {
        add_scaled(target, 1.0, source);
    }

    /// Adds every row of `matrix` to `sums`: the gradient of a bias.
    pub(super) fn add_column_sums(sums: &mut [f32], matrix: &Matrix) {
        for row in matrix.values.chunks_exact(sums.len()) {
            add_scaled(sums, 1.0, row);
        }
    }

    /// The sum of the squares of `values`.
    pub(super) fn squared_length(values: &[f32]) -> f32 {
        dot(values, values)
    }
}

/// `e^value` within 2 units in the last place, without a branch; finite for every finite argument.
#[inline(always)]
pub(super) fn exp(value: f32) -> f32 {
    // 1.5 · 2^23: adding it rounds to the nearest integer and leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let value = value.clamp(-87.0, 88.0);
    let shifted = value * std::f32::consts::LOG2_E + ROUND;
    let exponent = shifted - ROUND;
    let rest = value - exponent * LN_2_HIGH - exponent * LN_2_LOW;
    let series = 1.0 / 720.0;
    let series = series * rest + 1.0 / 120.0;
    let series = series * rest + 1.0 / 24.0;
    let series = series * rest + 1.0 / 6.0;
    let series = series * rest + 0.5;
    let series = series * rest + 1.0;
    let series = series * rest + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    series * f32::from_bits(power)
}

#[inline(always)]
pub(super) fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + exp(-value))
}

/// `value · sigmoid(value)`, also called swish.
#[inline(always)]
pub(super) fn silu(value: f32) -> f32 {
    value * sigmoid(value)
}

/// The derivative of [`silu`].
#[inline(always)]
pub(super) fn silu_slope(value: f32) -> f32 {
    let gate = sigmoid(value);
    gate * (1.0 + value * (1.0 - gate))
}

/// Sum of `term(left, right)` over two slices of equal length, in [`LANES`] partial sums.
#[inline(always)]
pub(super) fn sum_pairs(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (left_chunks, left_rest) = left.as_chunks::<LANES>();
    let (right_chunks, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left_chunks.iter().zip(right_chunks) {
        for lane in 0..LANES {
            sums[lane] += term(left[lane], right[lane]);
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(&left, &right)| term(left, right)).sum();
    sums.iter().sum::<f32>() + rest
}

/// The inner product of two slices of equal length.
#[inline(always)]
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    sum_pairs(left, right, |left, right| left * right)
}

/// `target += factor · source`.
#[inline(always)]
pub(super) fn add_scaled(target: &mut [f32], factor: f32, source: &[f32]) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += factor * source;
    }
}

/// Replaces logits by their softmax; returns the logarithm of the sum of their exponentials.
#[inline(always)]
pub(super) fn softmax(row: &mut [f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in row.chunks(LANES) {
        for (largest, &value) in largest.iter_mut().zip(chunk) {
            *largest = largest.max(value);
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - largest);
            sums[lane] += chunk[lane];
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for value in rest {
        *value = exp(*value - largest);
        sum += *value;
    }
    let inverse = 1.0 / sum;
    for value in row {
        *value *= inverse;
    }
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_standard_one_and_never_overflows() {
        for step in -8_700..8_800 {
            let value = step as f32 / 100.0;
            let error = (exp(value) / value.exp() - 1.0).abs();
            assert!(error < 3e-7, "exp({value}) is off by {error}");
        }
        assert!(exp(1e30).is_finite() && exp(-1e30) < 1e-37);
    }

    #[test]
    fn softmax_sums_to_one_at_every_length() {
        for length in [1, 2, 15, 16, 17, 100] {
            let mut row: Vec<f32> = (0..length).map(|i| (i * 7 % 13) as f32 * 3.0).collect();
            let expected = row.iter().map(|value| f64::from(*value).exp()).sum::<f64>().ln();
            let log_sum = softmax(&mut row);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!((f64::from(log_sum) - expected).abs() < 1e-4);
        }
    }
}
