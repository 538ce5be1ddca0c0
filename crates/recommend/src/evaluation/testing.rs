//! Small data and a recommender that scores as it is told, for the tests of this folder.

use crate::algorithms::{History, Interactions, Recommender, Scratch};

/// Scores item `i` with `scores[i]`, whatever the history.
#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    pub(crate) name: &'static str,
    pub(crate) scores: Vec<f32>,
}

impl Recommender for Fixed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn item_count(&self) -> usize {
        self.scores.len()
    }

    fn score(&self, _: History<'_>, _: &mut Scratch, scores: &mut [f32]) {
        scores.copy_from_slice(&self.scores);
    }

    fn contributions(&self, _: History<'_>, _: u32) -> Vec<(usize, f32)> {
        Vec::new()
    }
}

/// Users `0..user_count` with `length(user)` interactions: item `(7 * user + 3 * position) % item_count`, one a second,
/// weights 1 to 5.
pub(crate) fn interactions(
    user_count: usize,
    item_count: u32,
    length: impl Fn(usize) -> usize,
) -> Interactions {
    let mut events = Vec::new();
    for user in 0..user_count {
        for position in 0..length(user) {
            let item = (7 * user + 3 * position) as u32 % item_count;
            events.push((user as u32, item, 1.0 + (position % 5) as f32, (position * 1_000 + user) as i64));
        }
    }
    Interactions::from_events(user_count, item_count as usize, &events).expect("made in order")
}
