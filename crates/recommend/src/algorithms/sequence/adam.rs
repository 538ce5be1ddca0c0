//! Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019), a limit on the length of the
//! gradient, and a learning rate that rises linearly and falls as a half cosine (Loshchilov and Hutter 2017).
//!
//! Gradients come from several shards and are added in shard order, chunk by chunk, so that the result does not depend
//! on the number of threads. Biases and norms, the matrices of one row, do not decay.

use std::ops::Range;

use rayon::prelude::*;

use super::SequenceSettings;
use super::kernels::{Matrix, add, squared_length, vectorized};
use super::network::Network;

/// Share of training over which the learning rate rises.
const WARM_UP: f32 = 0.1;
/// Gradients longer than this are scaled down to it (Pascanu, Mikolov and Bengio 2013).
const LARGEST_GRADIENT: f32 = 1.0;
/// Values of a parameter that one task updates.
const UPDATE_CHUNK: usize = 1 << 14;
const FIRST_DECAY: f32 = 0.9;
const SECOND_DECAY: f32 = 0.98;

/// The running moments of every gradient.
pub(super) struct Adam {
    first: Network,
    second: Network,
    steps: i32,
}

/// What one step of Adam is the same for every value.
#[derive(Clone, Copy)]
struct Update {
    rate: f32,
    decay: f32,
    gradient_scale: f32,
    first_correction: f32,
    second_correction: f32,
}

impl Adam {
    pub(super) fn new(network: &Network) -> Self {
        Self { first: network.zeros_like(), second: network.zeros_like(), steps: 0 }
    }

    /// Moves `network` against the sum of the shards' gradients; `done` is the share of training that is over.
    pub(super) fn step(
        &mut self,
        network: &mut Network,
        gradients: &[&Network],
        settings: &SequenceSettings,
        done: f32,
    ) {
        self.steps += 1;
        let gradients: Vec<Vec<&Matrix>> = gradients
            .iter()
            .map(|gradient| gradient.matrices().into_iter().map(|(_, matrix)| matrix).collect())
            .collect();
        let length = gradient_length(&gradients);
        let rate = settings.learning_rate * schedule(done);
        let update = Update {
            rate,
            decay: 0.0,
            gradient_scale: (LARGEST_GRADIENT / length).min(1.0),
            first_correction: 1.0 / (1.0 - FIRST_DECAY.powi(self.steps)),
            second_correction: 1.0 / (1.0 - SECOND_DECAY.powi(self.steps)),
        };
        let moments = self.first.matrices_mut().into_iter().zip(self.second.matrices_mut());
        for (index, (matrix, (first, second))) in network.matrices_mut().into_iter().zip(moments).enumerate()
        {
            let decay = if matrix.rows > 1 { rate * settings.weight_decay } else { 0.0 };
            let chunks =
                matrix.values.par_chunks_mut(UPDATE_CHUNK).zip(first.values.par_chunks_mut(UPDATE_CHUNK));
            let chunks = chunks.zip(second.values.par_chunks_mut(UPDATE_CHUNK)).enumerate();
            chunks.for_each(|(chunk, ((values, first), second))| {
                let range = chunk * UPDATE_CHUNK..chunk * UPDATE_CHUNK + values.len();
                let sum = sum_shards(&gradients, index, range);
                update_values(values, first, second, &sum, Update { decay, ..update });
            });
        }
    }
}

/// The shards' gradients of one matrix, added in shard order.
fn sum_shards(gradients: &[Vec<&Matrix>], matrix: usize, range: Range<usize>) -> Vec<f32> {
    let mut sum = vec![0.0; range.len()];
    for gradient in gradients {
        add(&mut sum, &gradient[matrix].values[range.clone()]);
    }
    sum
}

/// The Euclidean length of the summed gradient, in a fixed order of addition.
fn gradient_length(gradients: &[Vec<&Matrix>]) -> f32 {
    let Some(first) = gradients.first() else { return 0.0 };
    let mut squares = 0.0f64;
    for (index, matrix) in first.iter().enumerate() {
        let count = matrix.values.len();
        let parts: Vec<f64> = (0..count.div_ceil(UPDATE_CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let range = chunk * UPDATE_CHUNK..((chunk + 1) * UPDATE_CHUNK).min(count);
                let sum = sum_shards(gradients, index, range);
                f64::from(squared_length(&sum))
            })
            .collect();
        squares += parts.iter().sum::<f64>();
    }
    squares.sqrt() as f32
}

vectorized! {
    fn update_values(values: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], update: Update) {
        let moments = first.iter_mut().zip(second);
        for ((value, (first, second)), gradient) in values.iter_mut().zip(moments).zip(gradient) {
            let gradient = gradient * update.gradient_scale;
            *first = FIRST_DECAY * *first + (1.0 - FIRST_DECAY) * gradient;
            *second = SECOND_DECAY * *second + (1.0 - SECOND_DECAY) * gradient * gradient;
            let step = (*first * update.first_correction) / ((*second * update.second_correction).sqrt() + 1e-8);
            *value -= update.rate * step + update.decay * *value;
        }
    }
}

/// The learning rate's share of its largest value when `done` of training is over.
fn schedule(done: f32) -> f32 {
    if done < WARM_UP {
        return done / WARM_UP;
    }
    let fallen = ((done - WARM_UP) / (1.0 - WARM_UP)).min(1.0);
    0.5 * (1.0 + (std::f32::consts::PI * fallen).cos())
}
