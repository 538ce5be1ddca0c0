//! The model as what every algorithm is, for evaluation and for histories that nobody keeps a state of.

use super::{SequenceModel, State};
use crate::algorithms::{History, Recommender, Scratch};

impl State {
    /// Memory that it takes.
    pub fn size_bytes(&self) -> usize {
        std::mem::size_of::<Self>() + std::mem::size_of_val(self.values.as_slice())
    }
}

impl Recommender for SequenceModel {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn item_count(&self) -> usize {
        SequenceModel::item_count(self)
    }

    fn score(&self, history: History<'_>, _scratch: &mut Scratch, scores: &mut [f32]) {
        self.score_all(&self.state_of(history.items), scores);
    }

    /// Empty: the score is not a sum over the history.
    fn contributions(&self, _history: History<'_>, _item: u32) -> Vec<(usize, f32)> {
        Vec::new()
    }
}
