//! Which texts are encoded together: as many as fit into a budget of tokens, in the order of their lengths.
//!
//! A batch costs what its tokens cost, not what its longest text costs, since nothing is padded; the budget only keeps
//! what is computed on within the processor's caches. Batches depend on the texts alone, so that the same texts give the
//! same vectors whatever the number of threads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Texts by number, in batches. Texts without tokens are in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches(Vec<Vec<usize>>);

impl Batches {
    /// For texts of these lengths; a text that is longer than the budget is alone.
    #[must_use]
    pub fn new(lengths: &[usize], budget: usize) -> Self {
        let mut order: Vec<usize> = (0..lengths.len()).filter(|text| lengths[*text] > 0).collect();
        // The longest first: who is done early takes a small one.
        order.sort_by_key(|text| (usize::MAX - lengths[*text], *text));
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for text in order {
            match batches.last_mut() {
                Some(batch) if lengths[text] <= room => batch.push(text),
                _ => {
                    batches.push(vec![text]);
                    room = budget.max(lengths[text]);
                }
            }
            room -= lengths[text];
        }
        Self(batches)
    }

    /// Runs every batch, on up to so many threads, and returns each with what came of it, in their order.
    pub fn run<T: Send>(
        self,
        threads: NonZeroUsize,
        work: impl Fn(&[usize]) -> T + Sync,
    ) -> Vec<(Vec<usize>, T)> {
        let batches = self.0;
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, T)>> = Mutex::default();
        let worker = || {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(place) else { return };
                let came = work(batch);
                done.lock().push((place, came));
            }
        };
        let helpers = threads.get().min(batches.len()).saturating_sub(1);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(worker);
            }
            worker();
        });
        let mut done = done.into_inner();
        done.sort_by_key(|(place, _)| *place);
        batches.into_iter().zip(done).map(|(batch, (_, came))| (batch, came)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_share_the_budget() {
        let check = |lengths: &[usize], budget, expected: &[&[usize]]| {
            assert_eq!(Batches::new(lengths, budget).0, expected, "{lengths:?}");
        };
        check(&[2, 5, 3, 0, 1], 6, &[&[1], &[2, 0, 4]]);
        check(&[9, 1], 4, &[&[0], &[1]]);
        check(&[], 4, &[]);
        check(&[0], 4, &[]);
    }

    proptest! {
        #[test]
        fn every_text_is_encoded_once_within_the_budget(
            lengths in proptest::collection::vec(0_usize..40, 0..40), budget in 1_usize..100, threads in 1_usize..4,
        ) {
            let threads = NonZeroUsize::new(threads).unwrap();
            let ran = Batches::new(&lengths, budget).run(threads, |batch| batch.iter().map(|text| lengths[*text]).sum::<usize>());
            for (batch, tokens) in &ran {
                prop_assert!(*tokens <= budget || batch.len() == 1);
            }
            let mut texts: Vec<usize> = ran.into_iter().flat_map(|(batch, _)| batch).collect();
            texts.sort_unstable();
            let expected: Vec<usize> = (0..lengths.len()).filter(|text| lengths[*text] > 0).collect();
            prop_assert_eq!(texts, expected);
        }
    }
}
