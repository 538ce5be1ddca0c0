//! The sequence model: the next item from all before it, in a state of constant size that one event updates.
//!
//! A gated linear recurrence with feed-forward blocks (`network.rs`, `layers.rs`) is trained by cross-entropy over the
//! whole catalogue (`objective.rs`) with hand-derived gradients, on parallel streams of users (`streams.rs`,
//! `training.rs`). Serving keeps a [`State`] per user: [`SequenceModel::advance`] costs microseconds, whatever the length
//! of the history, so that an event changes the very next answer.
//!
//! Refused: item ids beyond the catalogue, rows that overlap or leave their data, settings out of range, tensors of the
//! wrong shape or with values that are not finite. Not modelled: times, ratings, attributes of items; an item that was
//! never trained on scores near its initial random value, so callers should leave it to other algorithms.

mod adam;
mod dropout;
mod error;
#[cfg(test)]
mod gradient_check;
mod kernels;
mod layers;
mod network;
mod norm;
mod objective;
mod recommender;
mod settings;
mod streams;
mod tensors;
#[cfg(test)]
mod tests;
mod training;
mod validation;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

pub use error::SequenceError;
use kernels::{Matrix, dot, vectorized};
use network::{Network, Tape, Window};
pub use settings::SequenceSettings;
use streams::Histories;
pub use tensors::{Tensor, as_tensors};

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// From 0.
    pub epoch: usize,
    /// Share of all epochs that is over, 0 to 1.
    pub done: f32,
    /// Mean cross-entropy of this epoch so far, in nats.
    pub loss: f32,
    /// NDCG@10 of the held-out items, once at the end of an epoch and only with `validation_users`.
    pub validation: Option<f32>,
}

/// What one model remembers of one history. Plain numbers: cheap to clone, to store and to send. It means nothing to
/// another model, not even to one of the same shape: rebuild states after training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The recurrent state of each block, then the hidden state that scores items.
    values: Vec<f32>,
}

/// A trained model.
#[derive(Clone, Debug)]
pub struct SequenceModel {
    settings: SequenceSettings,
    network: Network,
}

impl SequenceModel {
    /// Trains on rows of items in time order: row `u` is `items[offsets[u]..offsets[u + 1]]`, ids are below
    /// `item_count`. Runs on the current rayon pool; the result does not depend on its size. `progress` is called after
    /// every batch.
    ///
    /// # Errors
    /// Refuses bad settings, offsets and ids; [`SequenceError::Cancelled`] if `progress` breaks.
    pub fn fit(
        offsets: &[usize],
        items: &[u32],
        item_count: usize,
        settings: SequenceSettings,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self, SequenceError> {
        settings.validate()?;
        check_rows(offsets, items, item_count)?;
        training::train(Histories { offsets, items }, item_count, settings, progress)
    }

    /// What the model was trained with.
    pub fn settings(&self) -> &SequenceSettings {
        &self.settings
    }

    /// The size of the catalogue.
    pub fn item_count(&self) -> usize {
        self.network.embedding.rows
    }

    /// The state before any event; it scores items by their learned popularity.
    pub fn initial_state(&self) -> State {
        State { values: vec![0.0; self.state_length()] }
    }

    /// Moves the state past one event. Unknown items leave it as it is.
    pub fn advance(&self, state: &mut State, item: u32) {
        self.advance_all(state, &[item]);
    }

    /// The state after the last `settings.history` known events of a history.
    pub fn state_of(&self, history: &[u32]) -> State {
        let mut state = self.initial_state();
        let start = history.len().saturating_sub(self.settings.history);
        self.advance_all(&mut state, &history[start..]);
        state
    }

    /// The score of `item` after each of the last `settings.history` known events of a history, so that a difference
    /// is what one event did.
    pub fn score_path(&self, history: &[u32], item: u32) -> Vec<f32> {
        let Some(bias) = self.network.bias.values.get(item as usize) else { return Vec::new() };
        let mut state = self.initial_state();
        let start = history.len().saturating_sub(self.settings.history);
        let hidden = self.advance_all(&mut state, &history[start..]);
        let mut scores = vec![0.0; hidden.rows];
        score_positions(&hidden, self.network.embedding.row(item as usize), *bias, &mut scores);
        scores
    }

    /// Moves the state past the known items; returns the hidden state after each.
    fn advance_all(&self, state: &mut State, items: &[u32]) -> Matrix {
        let known = |&item: &u32| (item as usize) < self.item_count();
        let inputs: Vec<u32> = items.iter().copied().filter(known).collect();
        if inputs.is_empty() || state.values.len() != self.state_length() {
            return Matrix::default();
        }
        let width = self.settings.state_width();
        let (blocks, hidden) = state.values.split_at_mut(self.settings.layers * width);
        let mut carried: Vec<Matrix> = blocks
            .chunks_exact(width)
            .map(|values| Matrix { rows: 1, columns: width, values: values.to_vec() })
            .collect();
        let keep = vec![1.0; inputs.len()];
        let mut tape = Tape::default();
        self.network.forward(&Window { inputs: &inputs, keep: &keep }, &mut carried, None, &mut tape);
        for (values, carried) in blocks.chunks_exact_mut(width).zip(&carried) {
            values.copy_from_slice(&carried.values);
        }
        hidden.copy_from_slice(tape.hidden().row(inputs.len() - 1));
        tape.into_hidden()
    }

    fn state_length(&self) -> usize {
        self.settings.layers * self.settings.state_width() + self.settings.dimensions
    }

    fn hidden<'a>(&self, state: &'a State) -> &'a [f32] {
        state.values.get(self.settings.layers * self.settings.state_width()..).unwrap_or_default()
    }

    /// Scores the whole catalogue, one score per item: the logit of being next. A state of another shape counts as
    /// one without events.
    pub fn score_all(&self, state: &State, scores: &mut [f32]) {
        score_rows(&self.network, self.hidden(state), scores);
    }

    /// Scores some items as [`SequenceModel::score_all`] does; unknown items score negative infinity.
    pub fn score_some(&self, state: &State, items: &[u32], scores: &mut [f32]) {
        score_items(&self.network, self.hidden(state), items, scores);
    }
}

vectorized! {
    fn score_rows(network: &Network, hidden: &[f32], scores: &mut [f32]) {
        let rows = network.embedding.values.chunks_exact(network.embedding.columns);
        for ((score, embedding), bias) in scores.iter_mut().zip(rows).zip(&network.bias.values) {
            *score = dot(hidden, embedding) + bias;
        }
    }

    fn score_positions(hidden: &Matrix, embedding: &[f32], bias: f32, scores: &mut [f32]) {
        for (row, score) in scores.iter_mut().enumerate() {
            *score = dot(hidden.row(row), embedding) + bias;
        }
    }

    fn score_items(network: &Network, hidden: &[f32], items: &[u32], scores: &mut [f32]) {
        for (score, &item) in scores.iter_mut().zip(items) {
            let item = item as usize;
            *score = match network.bias.values.get(item) {
                Some(bias) => dot(hidden, network.embedding.row(item)) + bias,
                None => f32::NEG_INFINITY,
            };
        }
    }
}

fn check_rows(offsets: &[usize], items: &[u32], item_count: usize) -> Result<(), SequenceError> {
    if item_count >= network::NONE as usize {
        return Err(SequenceError::Catalogue { item_count });
    }
    let ends_match = match (offsets.first(), offsets.last()) {
        (Some(&first), Some(&last)) => first == 0 && last == items.len(),
        _ => items.is_empty(),
    };
    if !ends_match || !offsets.is_sorted() {
        return Err(SequenceError::Offsets { items: items.len() });
    }
    match items.iter().position(|&item| item as usize >= item_count) {
        Some(event) => Err(SequenceError::Item { item: items[event], event, item_count }),
        None => Ok(()),
    }
}
