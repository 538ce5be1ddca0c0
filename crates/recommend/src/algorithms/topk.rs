//! Selection of the best `count` items of a score slice, with items excluded.
//!
//! Order: higher score first, then the lower item index, so that the same scores give the same list. A score that is
//! NaN or minus infinity is never selected. Refuses: sorting all scores; sampling.
//!
//! Passes over the scores with a threshold that rises: a buffer of twice `count` candidates is cut back to `count`
//! by quickselect whenever it is full, so that most scores cost one comparison.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// An item with its score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Item index.
    pub item: u32,
    /// Score; never NaN.
    pub score: f32,
}

impl Scored {
    /// Best first: higher score, then lower item.
    pub fn best_first(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.item.cmp(&other.item))
    }
}

/// A set of item indices as bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemSet {
    words: Vec<u64>,
}

impl ItemSet {
    /// The set of these items.
    pub fn from_items(items: impl IntoIterator<Item = u32>) -> Self {
        let mut set = Self::default();
        items.into_iter().for_each(|item| set.insert(item));
        set
    }

    /// Adds an item; grows as needed.
    pub fn insert(&mut self, item: u32) {
        let word = (item / 64) as usize;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (item % 64);
    }

    /// Whether the item is in the set.
    pub fn contains(&self, item: u32) -> bool {
        self.words.get((item / 64) as usize).is_some_and(|word| word >> (item % 64) & 1 == 1)
    }

    /// Removes all items and keeps the memory.
    pub fn clear(&mut self) {
        self.words.clear();
    }
}

/// The best `count` items that are not in `excluded`, best first; fewer where there are fewer.
pub fn top_k(scores: &[f32], excluded: &ItemSet, count: usize) -> Vec<Scored> {
    let mut selected = Vec::new();
    top_k_into(scores, |item| excluded.contains(item), count, &mut selected);
    selected
}

/// As [`top_k`], with any test for exclusion, into a buffer that is reused. `is_excluded` is only asked about items
/// that would otherwise be selected.
pub fn top_k_into(
    scores: &[f32],
    is_excluded: impl Fn(u32) -> bool,
    count: usize,
    selected: &mut Vec<Scored>,
) {
    selected.clear();
    if count == 0 {
        return;
    }
    let capacity = count.saturating_mul(2).min(scores.len()).max(1);
    let mut threshold = f32::NEG_INFINITY;
    for (item, &score) in scores.iter().enumerate() {
        // Makes -0 and 0 the same score.
        let score = score + 0.0;
        // False for NaN. Items come in rising order, so a tie with the threshold has already lost.
        if score > threshold && !is_excluded(item as u32) {
            selected.push(Scored { item: item as u32, score });
            if selected.len() >= capacity && selected.len() > count {
                keep_best(selected, count);
                threshold = selected[count - 1].score;
            }
        }
    }
    keep_best(selected, count);
    selected.sort_unstable_by(Scored::best_first);
}

/// Leaves the best `count`, the worst of them last, the others in no order.
fn keep_best(candidates: &mut Vec<Scored>, count: usize) {
    if candidates.len() > count {
        candidates.select_nth_unstable_by(count - 1, Scored::best_first);
        candidates.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn oracle(scores: &[f32], excluded: &[u32], count: usize) -> Vec<Scored> {
        let mut all: Vec<Scored> = (0..scores.len() as u32)
            .filter(|item| !excluded.contains(item))
            .map(|item| Scored { item, score: scores[item as usize] })
            .filter(|scored| scored.score > f32::NEG_INFINITY)
            .collect();
        all.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap().then(a.item.cmp(&b.item)));
        all.truncate(count);
        all
    }

    #[test]
    fn nan_and_minus_infinity_are_never_selected() {
        let scores = [f32::NAN, 1.0, f32::NEG_INFINITY, f32::INFINITY, -0.0, 0.0];
        let items: Vec<u32> =
            top_k(&scores, &ItemSet::default(), 9).iter().map(|scored| scored.item).collect();
        assert_eq!(items, [3, 1, 4, 5]);
    }

    #[test]
    fn empty_inputs_select_nothing() {
        assert!(top_k(&[], &ItemSet::default(), 3).is_empty());
        assert!(top_k(&[1.0], &ItemSet::default(), 0).is_empty());
        assert!(top_k(&[1.0], &ItemSet::from_items([0]), 1).is_empty());
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_sort(
            scores in prop::collection::vec(
                prop_oneof![(0_i8..6).prop_map(f32::from), Just(f32::NAN), Just(f32::NEG_INFINITY)], 0..300),
            excluded in prop::collection::vec(0_u32..300, 0..40),
            count in 0_usize..40,
        ) {
            let set = ItemSet::from_items(excluded.iter().copied());
            prop_assert_eq!(top_k(&scores, &set, count), oracle(&scores, &excluded, count));
        }
    }
}
