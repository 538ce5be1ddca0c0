//! The network: embedding, a stack of blocks, and the normalised hidden state that scores the next item.
//!
//! ```text
//! x = dropout(norm(embedding[item]))
//! per block:  x += dropout(recurrence(norm(x)));  x += dropout(feed_forward(norm(x)))
//! hidden = norm(x)
//! ```
//!
//! Pre-normalised residual blocks (Xiong et al. 2020) over a gated linear recurrence. The output layer is in
//! `objective.rs`; the layers and their derivatives are in `layers.rs`. A new layer in the block must appear in
//! `Block::matrices`, `Block::matrices_mut`, and in both passes; the check in `gradient_check.rs` then covers it.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::SequenceSettings;
use super::dropout::Dropout;
use super::kernels::{Matrix, add};
use super::layers::{FeedForward, FeedForwardTape, Recurrence, RecurrenceTape};
use super::norm::{Norm, NormTape};

/// Marks a position without an input, or without a next item to learn from.
pub(super) const NONE: u32 = u32::MAX;

/// One recurrence and one feed-forward layer, each normalised before and added to what came in.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub recurrence_norm: Norm,
    pub recurrence: Recurrence,
    pub feed_forward_norm: Norm,
    pub feed_forward: FeedForward,
}

impl Block {
    /// Every matrix with its name, in the order of [`Block::matrices_mut`].
    pub(super) fn matrices(&self) -> [(&'static str, &Matrix); 9] {
        [
            ("recurrence_norm.scale", &self.recurrence_norm.scale),
            ("recurrence_norm.shift", &self.recurrence_norm.shift),
            ("recurrence.gates", &self.recurrence.gates),
            ("recurrence.gate_bias", &self.recurrence.gate_bias),
            ("recurrence.output", &self.recurrence.output),
            ("feed_forward_norm.scale", &self.feed_forward_norm.scale),
            ("feed_forward_norm.shift", &self.feed_forward_norm.shift),
            ("feed_forward.expand", &self.feed_forward.expand),
            ("feed_forward.contract", &self.feed_forward.contract),
        ]
    }

    pub(super) fn matrices_mut(&mut self) -> [&mut Matrix; 9] {
        [
            &mut self.recurrence_norm.scale,
            &mut self.recurrence_norm.shift,
            &mut self.recurrence.gates,
            &mut self.recurrence.gate_bias,
            &mut self.recurrence.output,
            &mut self.feed_forward_norm.scale,
            &mut self.feed_forward_norm.shift,
            &mut self.feed_forward.expand,
            &mut self.feed_forward.contract,
        ]
    }
}

/// All parameters, or a gradient of all parameters.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// Items × dimensions; input and output embedding at once.
    pub embedding: Matrix,
    /// 1 × items: how popular an item is apart from any history.
    pub bias: Matrix,
    pub input_norm: Norm,
    pub blocks: Vec<Block>,
    pub output_norm: Norm,
}

impl Network {
    /// Every matrix with its name, in the order of [`Network::matrices_mut`].
    pub(super) fn matrices(&self) -> Vec<(String, &Matrix)> {
        let mut matrices = vec![
            ("embedding".to_owned(), &self.embedding),
            ("bias".to_owned(), &self.bias),
            ("input_norm.scale".to_owned(), &self.input_norm.scale),
            ("input_norm.shift".to_owned(), &self.input_norm.shift),
            ("output_norm.scale".to_owned(), &self.output_norm.scale),
            ("output_norm.shift".to_owned(), &self.output_norm.shift),
        ];
        for (index, block) in self.blocks.iter().enumerate() {
            let named = block.matrices().map(|(name, matrix)| (format!("blocks.{index}.{name}"), matrix));
            matrices.extend(named);
        }
        matrices
    }

    pub(super) fn matrices_mut(&mut self) -> Vec<&mut Matrix> {
        let mut matrices = vec![
            &mut self.embedding,
            &mut self.bias,
            &mut self.input_norm.scale,
            &mut self.input_norm.shift,
            &mut self.output_norm.scale,
            &mut self.output_norm.shift,
        ];
        for block in &mut self.blocks {
            matrices.extend(block.matrices_mut());
        }
        matrices
    }

    /// Every matrix zero, or one for the scales of norms: the shapes of a model.
    pub(super) fn shaped(item_count: usize, settings: &SequenceSettings) -> Self {
        let dimensions = settings.dimensions;
        let (width, hidden) = (settings.state_width(), settings.feed_forward_width());
        let block = Block {
            recurrence_norm: Norm::new(dimensions),
            recurrence: Recurrence {
                gates: Matrix::zeros(dimensions, 3 * width),
                gate_bias: Matrix::zeros(1, 3 * width),
                output: Matrix::zeros(width, dimensions),
            },
            feed_forward_norm: Norm::new(dimensions),
            feed_forward: FeedForward {
                expand: Matrix::zeros(dimensions, 2 * hidden),
                contract: Matrix::zeros(hidden, dimensions),
            },
        };
        Self {
            embedding: Matrix::zeros(item_count, dimensions),
            bias: Matrix::zeros(1, item_count),
            input_norm: Norm::new(dimensions),
            blocks: vec![block; settings.layers],
            output_norm: Norm::new(dimensions),
        }
    }

    /// Random weights of variance one over their inputs. Forget biases run from -1 to 5, so that states remember from
    /// one to a hundred events from the start.
    pub(super) fn random(item_count: usize, settings: &SequenceSettings) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let mut network = Self::shaped(item_count, settings);
        fill_normal(&mut network.embedding, 0.02, &mut rng);
        for block in &mut network.blocks {
            let width = block.recurrence.width();
            let step = 6.0 / (width.max(2) - 1) as f32;
            for (index, bias) in block.recurrence.gate_bias.values[..width].iter_mut().enumerate() {
                *bias = step * index as f32 - 1.0;
            }
            for (matrix, gain) in [
                (&mut block.recurrence.gates, 1.0),
                (&mut block.recurrence.output, 1.0),
                (&mut block.feed_forward.expand, 1.0),
                (&mut block.feed_forward.contract, 0.5),
            ] {
                fill_normal(matrix, gain / (matrix.rows as f32).sqrt(), &mut rng);
            }
        }
        network
    }

    /// The same shapes with every value zero.
    pub(super) fn zeros_like(&self) -> Self {
        let mut zeros = self.clone();
        zeros.clear();
        zeros
    }

    /// Sets every value to zero.
    pub(super) fn clear(&mut self) {
        for matrix in self.matrices_mut() {
            matrix.values.fill(0.0);
        }
    }

    /// Runs `inputs` and leaves the hidden states, positions × dimensions, in `tape.hidden()`. `carried` has one matrix
    /// of streams × width per block and moves on to the state after the last step. `dropout` is off without a generator.
    pub(super) fn forward(
        &self,
        window: &Window<'_>,
        carried: &mut [Matrix],
        mut dropout: Option<DropoutDraw<'_>>,
        tape: &mut Tape,
    ) {
        let positions = window.inputs.len();
        let values = positions * self.embedding.columns;
        tape.blocks.resize_with(self.blocks.len(), BlockTape::default);
        let Tape { embedded, x, y, input_norm, input_dropout, blocks, output_norm } = tape;
        embedded.reset(positions, self.embedding.columns);
        for (row, &item) in window.inputs.iter().enumerate() {
            if item != NONE {
                embedded.row_mut(row).copy_from_slice(self.embedding.row(item as usize));
            }
        }
        self.input_norm.forward(embedded, input_norm);
        x.clone_from(&input_norm.output);
        DropoutDraw::next(&mut dropout, values, input_dropout).apply(&mut x.values);
        for ((block, tape), carried) in self.blocks.iter().zip(blocks).zip(carried) {
            block.recurrence_norm.forward(x, &mut tape.recurrence_norm);
            let input = &tape.recurrence_norm.output;
            block.recurrence.forward(input, window.keep, carried, &mut tape.recurrence, y);
            DropoutDraw::next(&mut dropout, values, &mut tape.recurrence_dropout).apply(&mut y.values);
            add(&mut x.values, &y.values);
            block.feed_forward_norm.forward(x, &mut tape.feed_forward_norm);
            block.feed_forward.forward(&tape.feed_forward_norm.output, &mut tape.feed_forward, y);
            DropoutDraw::next(&mut dropout, values, &mut tape.feed_forward_dropout).apply(&mut y.values);
            add(&mut x.values, &y.values);
        }
        self.output_norm.forward(x, output_norm);
    }

    /// Adds to `gradient` the derivative of a loss whose derivative by the hidden states is `hidden_gradient`. Uses up
    /// the tape of the [`Network::forward`] before it.
    pub(super) fn backward(
        &self,
        window: &Window<'_>,
        tape: &mut Tape,
        hidden_gradient: &Matrix,
        gradient: &mut Network,
    ) {
        let Tape { x, y, input_norm, input_dropout, blocks, output_norm, .. } = tape;
        x.reset(hidden_gradient.rows, hidden_gradient.columns);
        self.output_norm.backward(output_norm, hidden_gradient, &mut gradient.output_norm, x);
        // From here on `x` is the gradient of the residual stream, `y` that of a branch.
        let layers = self.blocks.iter().zip(blocks).zip(&mut gradient.blocks);
        for ((block, tape), gradient) in layers.rev() {
            y.clone_from(x);
            tape.feed_forward_dropout.apply(&mut y.values);
            let branch = &mut tape.branch;
            branch.reset(x.rows, x.columns);
            let input = &tape.feed_forward_norm.output;
            block.feed_forward.backward(input, &mut tape.feed_forward, y, &mut gradient.feed_forward, branch);
            block.feed_forward_norm.backward(
                &tape.feed_forward_norm,
                branch,
                &mut gradient.feed_forward_norm,
                x,
            );
            y.clone_from(x);
            tape.recurrence_dropout.apply(&mut y.values);
            branch.reset(x.rows, x.columns);
            let input = &tape.recurrence_norm.output;
            block.recurrence.backward(input, &mut tape.recurrence, y, &mut gradient.recurrence, branch);
            block.recurrence_norm.backward(&tape.recurrence_norm, branch, &mut gradient.recurrence_norm, x);
        }
        input_dropout.apply(&mut x.values);
        y.reset(x.rows, x.columns);
        self.input_norm.backward(input_norm, x, &mut gradient.input_norm, y);
        for (row, &item) in window.inputs.iter().enumerate() {
            if item != NONE {
                add(gradient.embedding.row_mut(item as usize), y.row(row));
            }
        }
    }
}

/// Some steps of some parallel streams, time-major.
pub(super) struct Window<'a> {
    /// The item of each position, or [`NONE`].
    pub inputs: &'a [u32],
    /// 0 where a position begins a new user, 1 elsewhere.
    pub keep: &'a [f32],
}

/// Where dropout masks come from during training.
pub(super) struct DropoutDraw<'a> {
    pub probability: f32,
    pub rng: &'a mut ChaCha8Rng,
}

impl DropoutDraw<'_> {
    /// A new mask while training, no mask otherwise.
    fn next<'a>(draw: &mut Option<Self>, count: usize, mask: &'a mut Dropout) -> &'a Dropout {
        match draw {
            Some(draw) => mask.draw(count, draw.probability, draw.rng),
            None => mask.disable(),
        }
        mask
    }
}

#[derive(Default)]
struct BlockTape {
    recurrence_norm: NormTape,
    recurrence: RecurrenceTape,
    recurrence_dropout: Dropout,
    feed_forward_norm: NormTape,
    feed_forward: FeedForwardTape,
    feed_forward_dropout: Dropout,
    branch: Matrix,
}

/// What the forward pass leaves for the backward pass, and buffers reused from window to window.
#[derive(Default)]
pub(super) struct Tape {
    embedded: Matrix,
    x: Matrix,
    y: Matrix,
    input_norm: NormTape,
    input_dropout: Dropout,
    blocks: Vec<BlockTape>,
    output_norm: NormTape,
}

impl Tape {
    /// Positions × dimensions; scores are its products with the item embeddings.
    pub(super) fn hidden(&self) -> &Matrix {
        &self.output_norm.output
    }

    /// As [`Tape::hidden`], by value.
    pub(super) fn into_hidden(self) -> Matrix {
        self.output_norm.output
    }
}

/// Normal values of the given deviation, by Box and Muller (1958).
pub(super) fn fill_normal(matrix: &mut Matrix, deviation: f32, rng: &mut ChaCha8Rng) {
    for value in &mut matrix.values {
        let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
        let angle = std::f32::consts::TAU * rng.random::<f32>();
        *value = deviation * radius * angle.cos();
    }
}
