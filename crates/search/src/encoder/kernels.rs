//! The loops between the matrix products of an encoder: biases, layer norms, the Gaussian error linear unit, softmax.
//!
//! Products are faer's, which picks the instruction set by itself. Refuses nothing: shapes are an invariant of the
//! callers. Sums keep [`LANES`] partial sums, because float addition may not be reordered.

use faer::linalg::matmul::matmul;
use faer::reborrow::ReborrowMut;
use faer::{Accum, MatMut, MatRef, Par};

use super::vectorized::vectorized;

const LANES: usize = 16;

/// `output = left · right`, on the calling thread.
pub(super) fn multiply(output: MatMut<'_, f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    matmul(output, Accum::Replace, left, right, 1.0, Par::Seq);
}

/// Outputs of a linear layer whose weights lie together: as many as the product works on at once, with the widest registers.
const PANEL: usize = 96;

/// A linear layer, with a bias that is added by whoever uses the output.
///
/// The weights are kept in panels of [`PANEL`] outputs, each by row of input: so a product reads memory from end to end,
/// and for a query of a few words to read is most of the work. Without panels it took twice as long; by row of output,
/// as files have them, they were packed again for each call, and it took four times as long.
#[derive(Debug)]
pub(super) struct Linear {
    weights: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Linear {
    /// Of weights by row of output, as they stand in files.
    pub(super) fn new(weights: &[f32], bias: Vec<f32>) -> Self {
        let inputs = weights.len() / bias.len();
        let mut panels = vec![0.0; weights.len()];
        for (panel, weights) in panels.chunks_mut(PANEL * inputs).zip(weights.chunks(PANEL * inputs)) {
            let width = weights.len() / inputs;
            MatMut::from_row_major_slice_mut(panel, inputs, width)
                .copy_from(MatRef::from_row_major_slice(weights, width, inputs).transpose());
        }
        Self { weights: panels, bias }
    }

    /// `output = input · weights`, for row-major matrices of as many rows as there are tokens.
    pub(super) fn apply(&self, input: &[f32], output: &mut [f32]) {
        let outputs = self.bias.len();
        let inputs = self.weights.len() / outputs;
        let rows = input.len() / inputs;
        let input = MatRef::from_row_major_slice(input, rows, inputs);
        let mut output = MatMut::from_row_major_slice_mut(output, rows, outputs);
        for (number, panel) in self.weights.chunks(PANEL * inputs).enumerate() {
            let width = panel.len() / inputs;
            let output = output.rb_mut().subcols_mut(number * PANEL, width);
            multiply(output, input, MatRef::from_row_major_slice(panel, inputs, width));
        }
    }
}

/// The scale and shift after a layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub epsilon: f32,
}

impl Norm {
    /// `hidden = norm(hidden + added + bias)`, row by row.
    pub(super) fn add_and_apply(&self, hidden: &mut [f32], added: &[f32], bias: &[f32]) {
        add_and_norm(hidden, added, bias, self);
    }
}

vectorized! {
    fn add_and_norm(hidden: &mut [f32], added: &[f32], bias: &[f32], norm: &Norm) {
        let width = bias.len();
        for (row, added) in hidden.chunks_exact_mut(width).zip(added.chunks_exact(width)) {
            for ((value, added), bias) in row.iter_mut().zip(added).zip(bias) {
                *value += added + bias;
            }
            let mean = sum_of(row, |value| value) / width as f32;
            let variance = sum_of(row, |value| (value - mean) * (value - mean)) / width as f32;
            let scale = 1.0 / (variance + norm.epsilon).sqrt();
            for ((value, by), shift) in row.iter_mut().zip(&norm.scale).zip(&norm.shift) {
                *value = (*value - mean) * scale * by + shift;
            }
        }
    }

    /// `values += bias`, row by row.
    pub(super) fn add_bias(values: &mut [f32], bias: &[f32]) {
        for row in values.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        }
    }

    /// `values = gelu(values + bias)`, row by row.
    pub(super) fn add_bias_and_gelu(values: &mut [f32], bias: &[f32]) {
        for row in values.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(value, bias)| *value = gelu(*value + bias));
        }
    }

    /// Each row becomes the softmax of `scale` times it.
    pub(super) fn softmax(values: &mut [f32], width: usize, scale: f32) {
        for row in values.chunks_exact_mut(width) {
            let greatest = row.iter().fold(f32::NEG_INFINITY, |left, right| if *right > left { *right } else { left });
            row.iter_mut().for_each(|value| *value = exp((*value - greatest) * scale));
            let whole = 1.0 / sum_of(row, |value| value);
            row.iter_mut().for_each(|value| *value *= whole);
        }
    }

    /// The mean of the rows, brought to length 1.
    pub(super) fn mean_and_normalise(rows: &[f32], mean: &mut [f32]) {
        mean.fill(0.0);
        for row in rows.chunks_exact(mean.len()) {
            mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let length = sum_of(mean, |value| value * value).sqrt();
        // The direction of the sum is that of the mean.
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        mean.iter_mut().for_each(|value| *value *= scale);
    }
}

#[inline(always)]
fn sum_of(values: &[f32], part: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        for lane in 0..LANES {
            lanes[lane] += part(values[lane]);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        lanes[lane] += part(*value);
    }
    lanes.iter().sum()
}

/// `value · Φ(value)`, by the error function and not by its usual approximation with a hyperbolic tangent.
#[inline(always)]
fn gelu(value: f32) -> f32 {
    let half = 0.5 * value;
    half + half * erf(value * std::f32::consts::FRAC_1_SQRT_2)
}

/// The error function within 3e-7 (Abramowitz and Stegun 1964, 7.1.26).
#[inline(always)]
fn erf(value: f32) -> f32 {
    let size = value.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let series = 1.061_405_4 * t - 1.453_152_1;
    let series = series * t + 1.421_413_8;
    let series = series * t - 0.284_496_74;
    let series = (series * t + 0.254_829_6) * t;
    (1.0 - series * exp(-size * size)).copysign(value)
}

/// `e^value` without a branch; finite for every finite argument.
#[inline(always)]
fn exp(value: f32) -> f32 {
    // 1.5 · 2^23: adding it rounds to the nearest integer and leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let value = value.clamp(-87.0, 88.0);
    let shifted = value * std::f32::consts::LOG2_E + ROUND;
    let exponent = shifted - ROUND;
    let rest = value - exponent * LN_2_HIGH - exponent * LN_2_LOW;
    let series = rest * (1.0 / 720.0) + 1.0 / 120.0;
    let series = series * rest + 1.0 / 24.0;
    let series = series * rest + 1.0 / 6.0;
    let series = series * rest + 0.5;
    let series = series * rest + 1.0;
    let series = series * rest + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    series * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f32, expected: f64, within: f64) {
        assert!((f64::from(value) - expected).abs() <= within, "{value} is not {expected}");
    }

    #[test]
    fn functions_are_near_the_true_ones() {
        for step in -800_i32..=800 {
            let value = step as f32 / 100.0;
            close(exp(value) / f64::from(value).exp() as f32, 1.0, 1e-6);
        }
        // From tables of the error function.
        close(erf(0.5), 0.520_499_877_8, 4e-7);
        close(erf(-1.0), -0.842_700_792_9, 4e-7);
        close(erf(0.0), 0.0, 4e-7);
        close(erf(40.0), 1.0, 0.0);
        close(gelu(1.0), 0.841_344_746, 4e-7);
    }

    #[test]
    fn rows_are_normed() {
        let norm = Norm { scale: vec![1.0, 1.0, 2.0], shift: vec![0.0, 0.0, 1.0], epsilon: 0.0 };
        let mut hidden = [1.0, 2.0, 2.0];
        norm.add_and_apply(&mut hidden, &[0.0, 0.0, 0.5], &[0.0, 0.0, 0.5]);
        // 1, 2, 3 have the mean 2 and the variance 2/3.
        let unit = 1.5_f64.sqrt();
        hidden
            .iter()
            .zip([-unit, 0.0, 2.0 * unit + 1.0])
            .for_each(|(value, expected)| close(*value, expected, 1e-6));
        let mut rows = [0.0, 0.0, 1e30, 1e30];
        softmax(&mut rows, 2, 1.0);
        assert_eq!(rows, [0.5; 4]);
        let mut mean = [0.0; 2];
        mean_and_normalise(&[3.0, 0.0, 0.0, 4.0], &mut mean);
        assert_eq!(mean, [0.6, 0.8]);
        mean_and_normalise(&[0.0; 4], &mut mean);
        assert_eq!(mean, [0.0; 2]);
    }

    #[test]
    fn linear_layers_multiply_by_their_rows() {
        let layer = Linear::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![0.0; 3]);
        let mut output = [0.0; 6];
        layer.apply(&[1.0, 0.0, 1.0, 1.0], &mut output);
        assert_eq!(output, [1.0, 3.0, 5.0, 3.0, 7.0, 11.0]);
    }

    /// Whole numbers, whose sums are exact, and no two rows alike: as many outputs as fill panels, and fewer and more.
    #[test]
    fn linear_layers_may_be_of_any_width() {
        for (outputs, inputs, rows) in
            [(1, 1, 1), (PANEL - 1, 7, 3), (PANEL, 5, 2), (PANEL + 1, 5, 1), (2 * PANEL + 40, 33, 9)]
        {
            let number = |at: usize| (at * 7 % 257) as f32 - 128.0;
            let weights: Vec<f32> = (0..outputs * inputs).map(number).collect();
            let input: Vec<f32> = (0..rows * inputs).map(number).collect();
            let mut output = vec![f32::NAN; rows * outputs];
            Linear::new(&weights, vec![0.0; outputs]).apply(&input, &mut output);
            for (row, output) in input.chunks_exact(inputs).zip(output.chunks_exact(outputs)) {
                let expected: Vec<f32> = weights
                    .chunks_exact(inputs)
                    .map(|weights| weights.iter().zip(row).map(|(weight, value)| weight * value).sum())
                    .collect();
                assert_eq!(output, expected, "{outputs} outputs of {inputs} inputs");
            }
        }
    }
}
