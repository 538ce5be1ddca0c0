//! What is known of whoever asks: their history as the models see it, and what they have seen.

use crate::algorithms::History;
use crate::algorithms::topk::ItemSet;
use crate::views::{Entry, TenantView};

/// Interactions that models look at, the latest ones.
pub const HISTORY: usize = 500;

/// A history by entity index of the view, oldest first.
#[derive(Debug, Default)]
pub struct Context {
    /// Entities of positive weight.
    pub entities: Vec<u32>,
    /// Their weights.
    pub weights: Vec<f32>,
    /// When, in unix milliseconds.
    pub times_ms: Vec<i64>,
    /// Every entity the user touched, whatever the weight.
    pub seen: ItemSet,
    /// Interactions the user has in all.
    pub interactions: usize,
}

impl Context {
    /// Of the first `count` interactions of a user.
    #[must_use]
    pub fn of_user(view: &TenantView, history: &[Entry], count: usize) -> Self {
        let history = &history[..count.min(history.len())];
        let mut context = Self { interactions: history.len(), ..Self::default() };
        let latest = history.len().saturating_sub(HISTORY);
        for (position, entry) in history.iter().enumerate() {
            context.seen.insert(entry.entity);
            if position >= latest {
                context.push(entry.entity, view.weight_of(entry), entry.time_ms);
            }
        }
        context
    }

    /// Adds what a weight above zero makes part of the history.
    pub fn push(&mut self, entity: u32, weight: f32, time_ms: i64) {
        if weight > 0.0 {
            self.entities.push(entity);
            self.weights.push(weight);
            self.times_ms.push(time_ms);
        }
    }

    /// As the algorithms take it.
    #[must_use]
    pub fn history(&self) -> History<'_> {
        History { items: &self.entities, weights: &self.weights, times: &self.times_ms }
    }
}
