//! Popularity, and trending: popularity that fades, by exponential half-life or by a sliding window.
//!
//! Forward decay (Cormode, Shkapenyuk, Srivastava, Xu: "Forward Decay", ICDE 2009): an event at time `t` is stored as
//! `weight * 2^((t - reference) / half_life)`, which never has to be touched again. To read at time `now`, divide by
//! `2^((now - reference) / half_life)`. So an update costs O(1), late events count exactly as if they had come in
//! order, and the ranking needs no clock at all.
//!
//! Refuses: a clock; the caller says what time it is. Weights that are not finite are ignored.

use super::error::{AlgorithmError, require};
use super::interactions::{History, Interactions};
use super::{Recommender, Scratch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One fixed score per item, the same for all users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Popularity {
    /// Score of each item.
    pub scores: Vec<f32>,
}

impl Popularity {
    /// The sum of weights of each item.
    pub fn train(interactions: &Interactions) -> Self {
        let mut sums = vec![0.0_f64; interactions.item_count()];
        for (&item, &weight) in interactions.items().iter().zip(interactions.weights()) {
            sums[item as usize] += f64::from(weight);
        }
        Self { scores: sums.into_iter().map(|sum| sum as f32).collect() }
    }
}

impl Recommender for Popularity {
    fn name(&self) -> &'static str {
        "popular"
    }

    fn item_count(&self) -> usize {
        self.scores.len()
    }

    fn score(&self, _history: History<'_>, _scratch: &mut Scratch, scores: &mut [f32]) {
        scores.copy_from_slice(&self.scores);
    }

    fn contributions(&self, _history: History<'_>, _item: u32) -> Vec<(usize, f32)> {
        Vec::new()
    }
}

/// Sums of weights that halve every `half_life_ms`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecayedSums {
    half_life_ms: f64,
    /// The time at which an event would be stored as its weight; `None` before the first event.
    reference_ms: Option<i64>,
    /// Sums as seen at `reference_ms`.
    sums: Vec<f64>,
}

/// Half lives after the reference at which sums are moved to a new reference; doubles hold about 1,000.
const REBASE_AFTER_HALF_LIVES: f64 = 500.0;

impl DecayedSums {
    /// Sums of zero for `item_count` items, to grow as items appear.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] unless the half life is positive and finite.
    pub fn new(item_count: usize, half_life_ms: f64) -> Result<Self, AlgorithmError> {
        require(
            half_life_ms > 0.0 && half_life_ms.is_finite(),
            "half_life_ms",
            "must be positive and finite",
        )?;
        Ok(Self { half_life_ms, reference_ms: None, sums: vec![0.0; item_count] })
    }

    /// Adds one event; O(1), save that a far later time than any before moves all sums to it once.
    pub fn record(&mut self, item: u32, weight: f32, time_ms: i64) {
        if !weight.is_finite() {
            return;
        }
        self.reference_ms.get_or_insert(time_ms);
        if self.half_lives_since_reference(time_ms) > REBASE_AFTER_HALF_LIVES {
            self.rebase(time_ms);
        }
        let item = item as usize;
        if item >= self.sums.len() {
            self.sums.resize(item + 1, 0.0);
        }
        self.sums[item] += f64::from(weight) * self.half_lives_since_reference(time_ms).exp2();
    }

    /// The sum of one item as of `now_ms`: each event counts `weight * 2^(-age / half_life)`.
    pub fn value(&self, item: u32, now_ms: i64) -> f64 {
        let sum = self.sums.get(item as usize).copied().unwrap_or_default();
        if sum == 0.0 {
            return 0.0;
        }
        // Through logarithms, as either factor alone may leave the range of doubles.
        sum.signum() * (sum.abs().log2() - self.half_lives_since_reference(now_ms)).exp2()
    }

    /// The sums of all items as of `now_ms`.
    pub fn snapshot(&self, now_ms: i64) -> Popularity {
        let scores = (0..self.sums.len() as u32).map(|item| self.value(item, now_ms) as f32).collect();
        Popularity { scores }
    }

    fn half_lives_since_reference(&self, time_ms: i64) -> f64 {
        self.reference_ms
            .map_or(0.0, |reference_ms| time_ms.saturating_sub(reference_ms) as f64 / self.half_life_ms)
    }

    fn rebase(&mut self, time_ms: i64) {
        let factor = (-self.half_lives_since_reference(time_ms)).exp2();
        self.sums.iter_mut().for_each(|sum| *sum *= factor);
        self.reference_ms = Some(time_ms);
    }
}

/// Sums of weights over the last `bucket_count` buckets of `bucket_ms` each.
///
/// The window slides by whole buckets: an event leaves between `(bucket_count - 1) * bucket_ms` and
/// `bucket_count * bucket_ms` after its time. Memory is one entry per item and bucket with events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowedSums {
    bucket_ms: i64,
    bucket_count: i64,
    buckets: BTreeMap<i64, BTreeMap<u32, f64>>,
}

impl WindowedSums {
    /// An empty window.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] unless both are positive.
    pub fn new(bucket_ms: i64, bucket_count: i64) -> Result<Self, AlgorithmError> {
        require(bucket_ms > 0, "bucket_ms", "must be positive")?;
        require(bucket_count > 0, "bucket_count", "must be positive")?;
        Ok(Self { bucket_ms, bucket_count, buckets: BTreeMap::new() })
    }

    /// Adds one event and forgets the buckets that have left the window of the newest event.
    pub fn record(&mut self, item: u32, weight: f32, time_ms: i64) {
        if !weight.is_finite() {
            return;
        }
        let bucket = time_ms.div_euclid(self.bucket_ms);
        let newest = self.buckets.last_key_value().map_or(bucket, |(&newest, _)| newest.max(bucket));
        if bucket > newest.saturating_sub(self.bucket_count) {
            *self.buckets.entry(bucket).or_default().entry(item).or_default() += f64::from(weight);
        }
        self.buckets = self.buckets.split_off(&newest.saturating_sub(self.bucket_count).saturating_add(1));
    }

    /// The sums of `item_count` items over the window that ends at `now_ms`.
    pub fn snapshot(&self, now_ms: i64, item_count: usize) -> Popularity {
        let newest = now_ms.div_euclid(self.bucket_ms);
        let oldest = newest.saturating_sub(self.bucket_count).saturating_add(1);
        let mut sums = vec![0.0_f64; item_count];
        for items in self.buckets.range(oldest..=newest).map(|(_, items)| items) {
            for (&item, &sum) in items.range(..item_count as u32) {
                sums[item as usize] += sum;
            }
        }
        Popularity { scores: sums.into_iter().map(|sum| sum as f32).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn popularity_is_the_sum_of_weights() {
        let interactions =
            Interactions::new(vec![0, 2, 3], vec![0, 1, 1], vec![1.0, 2.0, 3.0], vec![], 3).unwrap();
        let model = Popularity::train(&interactions);
        let mut scores = [f32::NAN; 3];
        model.score(History::EMPTY, &mut Scratch::default(), &mut scores);
        assert_eq!(scores, [1.0, 5.0, 0.0]);
        assert!(model.contributions(History::EMPTY, 1).is_empty());
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(DecayedSums::new(1, 0.0).is_err());
        assert!(DecayedSums::new(1, f64::NAN).is_err());
        assert!(WindowedSums::new(0, 1).is_err());
        assert!(WindowedSums::new(1, 0).is_err());
    }

    #[test]
    fn decay_survives_ancient_and_future_times() {
        let mut sums = DecayedSums::new(1, 1000.0).unwrap();
        for time_ms in [i64::MIN, -1, 0, 1_700_000_000_000, i64::MAX / 2] {
            sums.record(0, 1.0, time_ms);
            sums.record(0, f32::NAN, time_ms);
            let value = sums.value(0, time_ms);
            assert!((1.0..2.0).contains(&value), "{value} at {time_ms}");
        }
        assert_eq!(sums.value(7, 0), 0.0);
    }

    #[test]
    fn the_window_slides_by_buckets() {
        let mut window = WindowedSums::new(DAY_MS, 3).unwrap();
        for (item, day) in [(0, 10), (1, 11), (0, 12), (1, 9), (0, -5)] {
            window.record(item, 1.0, day * DAY_MS);
        }
        assert_eq!(window.snapshot(12 * DAY_MS, 2).scores, [2.0, 1.0]);
        assert_eq!(window.snapshot(13 * DAY_MS, 2).scores, [1.0, 1.0]);
        assert_eq!(window.snapshot(99 * DAY_MS, 2).scores, [0.0, 0.0]);
        window.record(5, 1.0, 99 * DAY_MS);
        assert_eq!(window.snapshot(99 * DAY_MS, 2).scores, [0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn decay_is_exact_in_any_order(
            events in prop::collection::vec((0_u32..4, 0.1_f32..3.0, 0_i64..400 * DAY_MS), 0..40),
        ) {
            let now_ms = 400 * DAY_MS;
            let half_life_ms = DAY_MS as f64 * 0.5;
            let mut sums = DecayedSums::new(2, half_life_ms).unwrap();
            events.iter().for_each(|&(item, weight, time_ms)| sums.record(item, weight, time_ms));
            for item in 0..4 {
                let expected: f64 = events.iter().filter(|event| event.0 == item)
                    .map(|event| f64::from(event.1) * (-((now_ms - event.2) as f64) / half_life_ms).exp2())
                    .sum();
                let value = sums.value(item, now_ms);
                prop_assert!((value - expected).abs() <= 1e-9 * expected, "{value} for {expected}");
            }
        }
    }
}
