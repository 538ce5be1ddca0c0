//! Finds the best epoch: the last item of some users is kept from training and ranked against the catalogue.

use rayon::prelude::*;

use super::SequenceModel;
use super::streams::Histories;

/// Shorter histories keep all their events for training.
const FEWEST_EVENTS: usize = 3;
/// Ranks beyond this count nothing.
const CUTOFF: usize = 10;

/// The users whose last item is held out.
pub(super) struct Holdout {
    /// For every user, whether the last item is held out.
    pub held_out: Vec<bool>,
    users: Vec<usize>,
}

impl Holdout {
    /// Spreads at most `count` held-out users evenly over those with enough events.
    pub(super) fn choose(histories: Histories<'_>, count: usize) -> Self {
        let eligible: Vec<usize> =
            (0..histories.users()).filter(|&user| histories.row(user).len() >= FEWEST_EVENTS).collect();
        let count = count.min(eligible.len());
        let users: Vec<usize> = (0..count).map(|index| eligible[index * eligible.len() / count]).collect();
        let mut held_out = vec![false; histories.users()];
        for &user in &users {
            held_out[user] = true;
        }
        Self { held_out, users }
    }

    /// Mean NDCG of the held-out items among the items that the user has not had; none without held-out users.
    pub(super) fn measure(&self, model: &SequenceModel, histories: Histories<'_>) -> Option<f32> {
        if self.users.is_empty() {
            return None;
        }
        let gains: Vec<f32> = self.users.par_iter().map(|&user| gain(model, histories.row(user))).collect();
        Some(gains.iter().sum::<f32>() / gains.len() as f32)
    }
}

/// The discounted gain of the last item of a row, given those before it.
fn gain(model: &SequenceModel, row: &[u32]) -> f32 {
    let Some((&target, history)) = row.split_last() else { return 0.0 };
    let mut scores = vec![0.0; model.item_count()];
    model.score_all(&model.state_of(history), &mut scores);
    let threshold = scores[target as usize];
    for &item in history {
        scores[item as usize] = f32::MIN;
    }
    let rank = scores.iter().filter(|&&score| score > threshold).count();
    if rank < CUTOFF { 1.0 / (rank as f32 + 2.0).log2() } else { 0.0 }
}
