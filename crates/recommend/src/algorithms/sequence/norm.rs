//! Layer normalisation (Ba, Kiros and Hinton 2016), forward and backward. Refuses nothing: a constant row gives zeros.

use super::kernels::{Matrix, add_column_sums, dot, sum_pairs, vectorized};

/// Keeps the normalisation finite for a constant row.
const VARIANCE_FLOOR: f32 = 1e-6;

/// `scale · (x − mean) / deviation + shift`, row by row.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub scale: Matrix,
    pub shift: Matrix,
}

#[derive(Default)]
pub(super) struct NormTape {
    normalized: Matrix,
    inverse_deviations: Vec<f32>,
    pub output: Matrix,
}

impl Norm {
    pub(super) fn new(dimensions: usize) -> Self {
        Self { scale: Matrix::filled(1, dimensions, 1.0), shift: Matrix::zeros(1, dimensions) }
    }

    pub(super) fn forward(&self, input: &Matrix, tape: &mut NormTape) {
        tape.normalized.reset(input.rows, input.columns);
        tape.output.reset(input.rows, input.columns);
        tape.inverse_deviations.clear();
        norm_forward(self, input, tape);
    }

    pub(super) fn backward(
        &self,
        tape: &NormTape,
        output_gradient: &Matrix,
        gradient: &mut Norm,
        input_gradient: &mut Matrix,
    ) {
        add_column_sums(&mut gradient.shift.values, output_gradient);
        norm_backward(self, tape, output_gradient, &mut gradient.scale.values, input_gradient);
    }
}

vectorized! {
    fn norm_forward(norm: &Norm, input: &Matrix, tape: &mut NormTape) {
        let (scale, shift) = (&norm.scale.values, &norm.shift.values);
        for row in 0..input.rows {
            let normalized = tape.normalized.row_mut(row);
            let inverse_deviation = normalize(input.row(row), normalized);
            tape.inverse_deviations.push(inverse_deviation);
            let output = tape.output.row_mut(row).iter_mut().zip(normalized);
            for ((output, normalized), (scale, shift)) in output.zip(scale.iter().zip(shift)) {
                *output = *normalized * scale + shift;
            }
        }
    }

    /// With `n` the normalised row and `g = scale · d_output`: `d_input += (g − mean(g) − n · mean(g · n)) / deviation`.
    fn norm_backward(
        norm: &Norm,
        tape: &NormTape,
        output_gradient: &Matrix,
        scale_gradient: &mut [f32],
        input_gradient: &mut Matrix,
    ) {
        let count = output_gradient.columns as f32;
        let mut scaled = vec![0.0f32; output_gradient.columns];
        for row in 0..output_gradient.rows {
            let (normalized, upstream) = (tape.normalized.row(row), output_gradient.row(row));
            let factors = norm.scale.values.iter().zip(scale_gradient.iter_mut());
            for ((scaled, (scale, scale_gradient)), (n, upstream)) in
                scaled.iter_mut().zip(factors).zip(normalized.iter().zip(upstream))
            {
                *scale_gradient += upstream * n;
                *scaled = upstream * scale;
            }
            let mean = sum_pairs(&scaled, &scaled, |value, _| value) / count;
            let slope = dot(&scaled, normalized) / count;
            let inverse_deviation = tape.inverse_deviations[row];
            let target = input_gradient.row_mut(row).iter_mut();
            for (target, (scaled, n)) in target.zip(scaled.iter().zip(normalized)) {
                *target += (scaled - mean - n * slope) * inverse_deviation;
            }
        }
    }
}

/// Writes `(input − mean) / deviation`; returns one over the deviation.
#[inline(always)]
fn normalize(input: &[f32], output: &mut [f32]) -> f32 {
    let count = input.len() as f32;
    let mean = sum_pairs(input, input, |value, _| value) / count;
    let variance = sum_pairs(input, input, |value, _| (value - mean) * (value - mean)) / count;
    let inverse_deviation = 1.0 / (variance + VARIANCE_FLOOR).sqrt();
    for (output, value) in output.iter_mut().zip(input) {
        *output = (value - mean) * inverse_deviation;
    }
    inverse_deviation
}
