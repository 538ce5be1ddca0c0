//! What is known of whoever asks: their history as the models see it, and what they have seen.

use crate::algorithms::History;
use crate::algorithms::topk::ItemSet;
use crate::views::choices::choices;
use crate::views::{Entry, Place, TenantView};

/// Interactions that models look at, the latest ones.
pub const HISTORY: usize = 500;

/// One act of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Act {
    /// With what.
    pub entity: u32,
    /// How much it says; below 0 against the entity.
    pub weight: f32,
    /// When, in unix milliseconds.
    pub time_ms: i64,
}

/// A history by entity index of the view, oldest first.
#[derive(Debug, Default)]
pub struct Context {
    /// Entities that were chosen, and not taken back since.
    pub entities: Vec<u32>,
    /// Their weights.
    pub weights: Vec<f32>,
    /// When, in unix milliseconds.
    pub times_ms: Vec<i64>,
    /// Every entity the user touched, whatever the weight.
    pub seen: ItemSet,
    /// Interactions the user has in all.
    pub interactions: usize,
    /// Where the interaction that came last stands in the log.
    pub newest: Option<Place>,
}

impl Context {
    /// Of a user's interactions, in the order in which they happened.
    #[must_use]
    pub fn of_user<'a>(view: &TenantView, history: impl IntoIterator<Item = &'a Entry>) -> Self {
        let act = |entry: &Entry| Act {
            entity: entry.entity,
            weight: view.weight_of(entry),
            time_ms: entry.time_ms(),
        };
        let mut newest = None;
        let acts = history.into_iter().inspect(|entry| newest = newest.max(Some(entry.place))).map(act);
        let context = Self::of_acts(acts.collect());
        Self { newest, ..context }
    }

    /// Of anyone's acts, oldest first.
    #[must_use]
    pub fn of_acts(mut acts: Vec<Act>) -> Self {
        let mut context = Self { interactions: acts.len(), ..Self::default() };
        acts.iter().for_each(|act| context.seen.insert(act.entity));
        acts.drain(..acts.len().saturating_sub(HISTORY));
        for act in choices(acts, |act| (act.entity, act.weight)) {
            context.entities.push(act.entity);
            context.weights.push(act.weight);
            context.times_ms.push(act.time_ms);
        }
        context
    }

    /// As the algorithms take it.
    #[must_use]
    pub fn history(&self) -> History<'_> {
        History { items: &self.entities, weights: &self.weights, times: &self.times_ms }
    }
}
