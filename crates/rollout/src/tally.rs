//! How many, and how much of them: observations between 0 and 1, counted in whole millionths.
//!
//! Whole numbers make a fold order-insensitive to the bit. To count something larger than 1, divide by its bound first.

use serde::{Deserialize, Serialize};

const UNIT: f64 = 1e6;

/// Observations between 0 and 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// Their sum, in millionths.
    pub total_millionths: u64,
}

impl Tally {
    /// So many observations, of which `hits` are 1 and the others 0. More hits than observations are cut.
    #[must_use]
    pub fn of(hits: u64, count: u64) -> Self {
        Self { count, total_millionths: hits.min(count).saturating_mul(UNIT as u64) }
    }

    /// Adds one observation; what is below 0 counts as 0, what is above 1 as 1, and what is no number is left out.
    pub fn add(&mut self, value: f64) {
        if !value.is_nan() {
            self.count += 1;
            self.total_millionths += (value.clamp(0.0, 1.0) * UNIT).round() as u64;
        }
    }

    /// Adds the observations of another.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.total_millionths += other.total_millionths;
    }

    /// The sum.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.total_millionths as f64 / UNIT
    }

    /// What is missing from the sum where every observation were 1.
    #[must_use]
    pub fn rest(&self) -> f64 {
        (self.count as f64 - self.total()).max(0.0)
    }

    /// The mean; 0 of nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.total() / self.count as f64 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_values_are_cut_or_left_out() {
        let mut tally = Tally::default();
        assert_eq!((tally.mean(), tally.rest()), (0.0, 0.0));
        [-1.0, 0.5, 2.0, f64::NAN, f64::INFINITY].into_iter().for_each(|value| tally.add(value));
        assert_eq!((tally.count, tally.total()), (4, 2.5));
        assert_eq!(Tally::of(9, 3), Tally::of(3, 3));
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_give_the_same(values in proptest::collection::vec(0.0..=1.0_f64, 0..50), cut in 0..50_usize) {
            let fold = |values: &[f64]| {
                let mut tally = Tally::default();
                values.iter().for_each(|value| tally.add(*value));
                tally
            };
            let whole = fold(&values);
            let reversed: Vec<f64> = values.iter().rev().copied().collect();
            prop_assert_eq!(fold(&reversed), whole);
            let (before, after) = values.split_at(cut.min(values.len()));
            let mut merged = fold(after);
            merged.merge(fold(before));
            prop_assert_eq!(merged, whole);
        }
    }
}
