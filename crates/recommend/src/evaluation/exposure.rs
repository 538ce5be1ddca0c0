//! Measures of all lists together: how much of the catalogue is shown, how evenly, and how little known it is.
//!
//! Refuses: intervals for coverage and Gini. Resampled users repeat, so that a bootstrap of either is biased.
//! To add one more: a method of [`Exposure`] and a row in the tests.

/// How often each item of the catalogue was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    shown: Vec<u64>,
}

impl Exposure {
    /// Nothing shown of a catalogue of `item_count` items.
    pub fn new(item_count: usize) -> Self {
        Self { shown: vec![0; item_count] }
    }

    /// Adds one list of items. Items that the catalogue does not have are ignored.
    pub fn add(&mut self, list: &[u32]) {
        for &item in list {
            if let Some(count) = self.shown.get_mut(item as usize) {
                *count += 1;
            }
        }
    }

    /// The share of the catalogue that was shown at least once, 0..=1.
    pub fn coverage(&self) -> f64 {
        let shown = self.shown.iter().filter(|&&count| count > 0).count();
        if self.shown.is_empty() { 0.0 } else { shown as f64 / self.shown.len() as f64 }
    }

    /// The Gini coefficient of the times that each item was shown: 0 where all are shown equally often, near 1 where one
    /// item takes all. 0 where nothing was shown.
    pub fn gini(&self) -> f64 {
        let mut counts = self.shown.clone();
        counts.sort_unstable();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return 0.0;
        }
        let size = counts.len() as f64;
        let weighted: f64 = counts
            .iter()
            .enumerate()
            .map(|(rank, &count)| (2.0 * rank as f64 + 1.0 - size) * count as f64)
            .sum();
        weighted / (size * total as f64)
    }
}

/// The mean self-information of a list in bits: `-log2` of the share of `user_count` training users who touched the item
/// (Zhou et al. 2010). An item that nobody touched counts as touched by one. 0 for an empty list.
pub fn novelty(list: &[u32], item_frequencies: &[u32], user_count: usize) -> f64 {
    let users = user_count.max(1) as f64;
    let information = |&item: &u32| {
        let touched = item_frequencies.get(item as usize).copied().unwrap_or(0).max(1);
        // Repeated interactions can make an item more frequent than there are users.
        (users / f64::from(touched)).log2().max(0.0)
    };
    if list.is_empty() { 0.0 } else { list.iter().map(information).sum::<f64>() / list.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(item_count: usize, lists: &[&[u32]], coverage: f64, gini: f64) {
        let mut exposure = Exposure::new(item_count);
        lists.iter().for_each(|list| exposure.add(list));
        assert!((exposure.coverage() - coverage).abs() < 1e-12, "{lists:?} covers {}", exposure.coverage());
        assert!((exposure.gini() - gini).abs() < 1e-12, "{lists:?} has {}", exposure.gini());
    }

    #[test]
    fn agrees_with_values_computed_by_hand() {
        check(0, &[&[1]], 0.0, 0.0);
        check(4, &[], 0.0, 0.0);
        check(4, &[&[0, 1], &[2, 3]], 1.0, 0.0);
        check(4, &[&[2], &[2], &[2]], 0.25, 0.75);
        check(2, &[&[0], &[0], &[0], &[1]], 1.0, 0.25);
        check(2, &[&[0, 9]], 0.5, 0.5);
    }

    #[test]
    fn novelty_is_the_mean_self_information() {
        let frequencies = [8, 4, 0, 99];
        assert_eq!(novelty(&[0], &frequencies, 8), 0.0);
        assert_eq!(novelty(&[0, 1], &frequencies, 8), 0.5);
        assert_eq!(novelty(&[2, 77], &frequencies, 8), 3.0);
        assert_eq!(novelty(&[3], &frequencies, 8), 0.0);
        assert_eq!(novelty(&[], &frequencies, 8), 0.0);
        assert_eq!(novelty(&[0], &[], 0), 0.0);
    }

    proptest! {
        #[test]
        fn both_are_shares(lists in prop::collection::vec(prop::collection::vec(0_u32..20, 0..9), 0..20)) {
            let mut exposure = Exposure::new(15);
            lists.iter().for_each(|list| exposure.add(list));
            prop_assert!((0.0..=1.0).contains(&exposure.coverage()));
            prop_assert!((-1e-12..1.0).contains(&exposure.gini()));
        }
    }
}
