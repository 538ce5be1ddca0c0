//! What can be set about the sequence model, and what is refused.
//!
//! A new setting needs a default that keeps old files readable (`serde(default)` covers it) and a line in `validate`.

use serde::{Deserialize, Serialize};

use super::SequenceError;

/// Settings of [`SequenceModel::fit`](super::SequenceModel::fit). The default is the best found on MovieLens 1M by
/// validation; [`SequenceSettings::light`] trains several times faster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SequenceSettings {
    /// Length of an item embedding and of the hidden state, 1 to 1,024.
    pub dimensions: usize,
    /// Blocks of recurrence and feed-forward, 1 to 16.
    pub layers: usize,
    /// Width of the recurrent state of a block, in multiples of `dimensions`, 1 to 8.
    pub state_factor: usize,
    /// Width of the feed-forward layer of a block, in multiples of `dimensions`, 1 to 8.
    pub feed_forward_factor: usize,
    /// Passes over the training events, at least 1; the learning rate falls to zero over all of them.
    pub epochs: usize,
    /// Share of values dropped after the embedding and after each layer while training, 0 to below 1.
    pub dropout: f32,
    /// Largest step of Adam, above 0 and at most 1.
    pub learning_rate: f32,
    /// Decoupled weight decay of the matrices, a share of the learning rate, 0 to below 1.
    pub weight_decay: f32,
    /// Share of the target probability spread over the catalogue, 0 to below 1; full softmax only.
    pub label_smoothing: f32,
    /// Positions whose gradients make one step of Adam, at least 1; small data use fewer.
    pub batch_positions: usize,
    /// Events after which the gradient through time is cut, at least 1; states are carried on.
    pub window: usize,
    /// Catalogues above this size use a sampled softmax.
    pub full_softmax_items: usize,
    /// Negatives shared by the positions of a batch under the sampled softmax, at least 1.
    pub negatives: usize,
    /// Events from which the state of a known history is built, at least 1: its last ones.
    pub history: usize,
    /// Users whose last item is held out to find the best epoch; 0 keeps the last epoch.
    pub validation_users: usize,
    /// Epochs without a better validation before training stops, at least 1.
    pub patience: usize,
    /// Seed of weights, order and dropout. The same seed and data give the same model on one kind of processor.
    pub seed: u64,
}

impl Default for SequenceSettings {
    fn default() -> Self {
        Self {
            dimensions: 128,
            layers: 2,
            state_factor: 1,
            feed_forward_factor: 2,
            epochs: 20,
            dropout: 0.3,
            learning_rate: 2e-3,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            batch_positions: 6_400,
            window: 100,
            full_softmax_items: 8_192,
            negatives: 1_024,
            history: 200,
            validation_users: 0,
            patience: 3,
            seed: 1,
        }
    }
}

impl SequenceSettings {
    /// Half the width and fewer epochs: about a minute on two cores for a million events over 3,400 items.
    pub fn light() -> Self {
        Self { dimensions: 64, epochs: 10, dropout: 0.2, ..Self::default() }
    }

    /// # Errors
    /// [`SequenceError::Setting`] names the first value out of its range.
    pub fn validate(&self) -> Result<(), SequenceError> {
        let counts = [
            ("dimensions", self.dimensions, 1_024),
            ("layers", self.layers, 16),
            ("state_factor", self.state_factor, 8),
            ("feed_forward_factor", self.feed_forward_factor, 8),
            ("epochs", self.epochs, 10_000),
            ("batch_positions", self.batch_positions, 1 << 20),
            ("window", self.window, 10_000),
            ("negatives", self.negatives, 1 << 16),
            ("history", self.history, 100_000),
            ("patience", self.patience, 10_000),
        ];
        for (name, value, most) in counts {
            if value == 0 || value > most {
                return Err(SequenceError::Setting {
                    name,
                    value: value as f64,
                    allowed: "a positive, moderate count",
                });
            }
        }
        let shares = [
            ("dropout", self.dropout),
            ("weight_decay", self.weight_decay),
            ("label_smoothing", self.label_smoothing),
        ];
        for (name, value) in shares {
            if !(0.0..1.0).contains(&value) {
                return Err(SequenceError::Setting { name, value: value.into(), allowed: "0 to below 1" });
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            let value = self.learning_rate.into();
            return Err(SequenceError::Setting {
                name: "learning_rate",
                value,
                allowed: "above 0, at most 1",
            });
        }
        Ok(())
    }

    /// Width of the recurrent state of a block.
    pub(super) fn state_width(&self) -> usize {
        self.dimensions * self.state_factor
    }

    /// Width of the feed-forward layer of a block.
    pub(super) fn feed_forward_width(&self) -> usize {
        self.dimensions * self.feed_forward_factor
    }
}
