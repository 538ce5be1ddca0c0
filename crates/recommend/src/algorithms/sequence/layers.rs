//! The two layers of a block, each with its forward pass and its hand-derived backward pass.
//!
//! A layer is a struct of matrices; its gradient is the same struct. `forward` fills a tape with what `backward` needs;
//! `backward` adds to the gradient and to the gradient of its input. Rows are positions, time-major: row
//! `step · streams + stream`. A new layer follows the same three parts and joins the gradient check of the network.

use super::kernels::{
    Matrix, add_column_sums, add_scaled, multiply, multiply_add, sigmoid, silu, silu_slope, vectorized,
};

/// A gated linear recurrence (Qin, Yang and Zhong 2023, HGRN; Feng et al. 2024, minGRU):
///
/// ```text
/// [f, v, o] = x · gates + gate_bias
/// state     = σ(f) · state_before + (1 − σ(f)) · silu(v)
/// y         = (state · silu(o)) · output
/// ```
///
/// The gates do not read the state, so that all products run over a whole window of steps at once and only an
/// elementwise scan is sequential. `gates` is dimensions × 3 width, `output` is width × dimensions.
#[derive(Clone, Debug)]
pub(super) struct Recurrence {
    pub gates: Matrix,
    pub gate_bias: Matrix,
    pub output: Matrix,
}

#[derive(Default)]
pub(super) struct RecurrenceTape {
    keep: Vec<f32>,
    gates: Matrix,
    /// The carried state in the first `streams` rows, then the state after each position.
    states: Matrix,
    gated: Matrix,
}

impl Recurrence {
    pub(super) fn width(&self) -> usize {
        self.output.rows
    }

    /// `keep` is 0 where a position is the first of its user and 1 elsewhere. `carried` is streams × width: the state
    /// before the first step, replaced by the state after the last.
    pub(super) fn forward(
        &self,
        input: &Matrix,
        keep: &[f32],
        carried: &mut Matrix,
        tape: &mut RecurrenceTape,
        y: &mut Matrix,
    ) {
        let (streams, width) = (carried.rows, self.width());
        tape.gates.reset(input.rows, 3 * width);
        multiply(tape.gates.view_mut(), input.view(), self.gates.view());
        tape.states.reset(streams + input.rows, width);
        tape.states.values[..streams * width].copy_from_slice(&carried.values);
        tape.gated.reset(input.rows, width);
        tape.keep.clear();
        tape.keep.extend_from_slice(keep);
        scan(&self.gate_bias.values, streams, tape);
        carried.values.copy_from_slice(&tape.states.values[input.rows * width..]);
        y.reset(input.rows, input.columns);
        multiply(y.view_mut(), tape.gated.view(), self.output.view());
    }

    /// The gradient is cut at the first step of the window: truncated back-propagation through time (Williams and Peng
    /// 1990).
    pub(super) fn backward(
        &self,
        input: &Matrix,
        tape: &mut RecurrenceTape,
        y_gradient: &Matrix,
        gradient: &mut Recurrence,
        input_gradient: &mut Matrix,
    ) {
        let width = self.width();
        let streams = tape.states.rows - input.rows;
        multiply_add(gradient.output.view_mut(), tape.gated.view().transpose(), y_gradient.view());
        // The tape's buffers become the gradients of what they held.
        multiply(tape.gated.view_mut(), y_gradient.view(), self.output.view().transpose());
        let mut from_future = Matrix::zeros(streams, width);
        scan_backward(tape, &mut from_future);
        add_column_sums(&mut gradient.gate_bias.values, &tape.gates);
        multiply_add(gradient.gates.view_mut(), input.view().transpose(), tape.gates.view());
        multiply_add(input_gradient.view_mut(), tape.gates.view(), self.gates.view().transpose());
    }
}

vectorized! {
    fn scan(gate_bias: &[f32], streams: usize, tape: &mut RecurrenceTape) {
        let width = tape.states.columns;
        for (row, &keep) in tape.keep.iter().enumerate() {
            let gates = tape.gates.row_mut(row);
            add_scaled(gates, 1.0, gate_bias);
            let (before, after) = tape.states.values.split_at_mut((streams + row) * width);
            let before = &before[row * width..][..width];
            recur(gates, keep, before, &mut after[..width], tape.gated.row_mut(row));
        }
    }

    fn scan_backward(tape: &mut RecurrenceTape, from_future: &mut Matrix) {
        let streams = from_future.rows;
        for (row, &keep) in tape.keep.iter().enumerate().rev() {
            let (before, after) = (tape.states.row(row), tape.states.row(streams + row));
            let from_future = from_future.row_mut(row % streams);
            recur_backward(tape.gates.row_mut(row), keep, before, after, tape.gated.row(row), from_future);
        }
    }
}

/// One step of one stream; `gates` holds `[f, v, o]` before their nonlinearities.
#[inline(always)]
fn recur(gates: &[f32], keep: f32, before: &[f32], after: &mut [f32], gated: &mut [f32]) {
    let width = before.len();
    let (forget, rest) = gates.split_at(width);
    let (value, output) = rest.split_at(width);
    let (output, after, gated) = (&output[..width], &mut after[..width], &mut gated[..width]);
    for index in 0..width {
        let forget = sigmoid(forget[index]);
        after[index] = forget * keep * before[index] + (1.0 - forget) * silu(value[index]);
        gated[index] = after[index] * silu(output[index]);
    }
}

/// The reverse of [`recur`]: `gates` becomes its own gradient, `from_future` is the gradient of the state that later
/// steps sent and is replaced by what this step sends to the one before.
#[inline(always)]
fn recur_backward(
    gates: &mut [f32],
    keep: f32,
    before: &[f32],
    after: &[f32],
    gated_gradient: &[f32],
    from_future: &mut [f32],
) {
    let width = before.len();
    let (forgets, rest) = gates.split_at_mut(width);
    let (values, outputs) = rest.split_at_mut(width);
    let (outputs, after) = (&mut outputs[..width], &after[..width]);
    let (gated_gradient, from_future) = (&gated_gradient[..width], &mut from_future[..width]);
    for index in 0..width {
        let (forget, value, output) = (sigmoid(forgets[index]), values[index], outputs[index]);
        let state_gradient = from_future[index] + gated_gradient[index] * silu(output);
        outputs[index] = gated_gradient[index] * after[index] * silu_slope(output);
        values[index] = state_gradient * (1.0 - forget) * silu_slope(value);
        forgets[index] = state_gradient * (keep * before[index] - silu(value)) * forget * (1.0 - forget);
        from_future[index] = state_gradient * forget * keep;
    }
}

/// A gated feed-forward layer (Shazeer 2020, SwiGLU): `(silu(x · A) · (x · B)) · contract`. `expand` is `[A, B]`,
/// dimensions × 2 hidden; `contract` is hidden × dimensions.
#[derive(Clone, Debug)]
pub(super) struct FeedForward {
    pub expand: Matrix,
    pub contract: Matrix,
}

#[derive(Default)]
pub(super) struct FeedForwardTape {
    expanded: Matrix,
    gated: Matrix,
}

impl FeedForward {
    pub(super) fn forward(&self, input: &Matrix, tape: &mut FeedForwardTape, y: &mut Matrix) {
        let hidden = self.contract.rows;
        tape.expanded.reset(input.rows, 2 * hidden);
        multiply(tape.expanded.view_mut(), input.view(), self.expand.view());
        tape.gated.reset(input.rows, hidden);
        gate(tape);
        y.reset(input.rows, input.columns);
        multiply(y.view_mut(), tape.gated.view(), self.contract.view());
    }

    pub(super) fn backward(
        &self,
        input: &Matrix,
        tape: &mut FeedForwardTape,
        y_gradient: &Matrix,
        gradient: &mut FeedForward,
        input_gradient: &mut Matrix,
    ) {
        multiply_add(gradient.contract.view_mut(), tape.gated.view().transpose(), y_gradient.view());
        // The tape's buffers become the gradients of what they held.
        multiply(tape.gated.view_mut(), y_gradient.view(), self.contract.view().transpose());
        gate_backward(tape);
        multiply_add(gradient.expand.view_mut(), input.view().transpose(), tape.expanded.view());
        multiply_add(input_gradient.view_mut(), tape.expanded.view(), self.expand.view().transpose());
    }
}

vectorized! {
    fn gate(tape: &mut FeedForwardTape) {
        for row in 0..tape.gated.rows {
            let (gate, value) = tape.expanded.row(row).split_at(tape.gated.columns);
            let gated = tape.gated.row_mut(row).iter_mut();
            for (gated, (gate, value)) in gated.zip(gate.iter().zip(value)) {
                *gated = silu(*gate) * value;
            }
        }
    }

    /// Replaces `expanded` by its gradient, from the gradient of `gated` in its place.
    fn gate_backward(tape: &mut FeedForwardTape) {
        for row in 0..tape.gated.rows {
            let (gates, values) = tape.expanded.row_mut(row).split_at_mut(tape.gated.columns);
            let upstream = tape.gated.row(row);
            for ((gate, value), upstream) in gates.iter_mut().zip(values).zip(upstream) {
                let (before, linear) = (*gate, *value);
                *gate = upstream * linear * silu_slope(before);
                *value = upstream * silu(before);
            }
        }
    }
}
