//! How far a shadow's outputs are from those that were served: folded into a summary of bounded size for each output.
//!
//! Differences are counted in buckets of powers of two and summed in fixed point, so that any order of answers and any
//! split over processes gives the same bytes. A summary of 1,000 outputs takes about half a megabyte.
//!
//! It refuses more outputs than its limit: the names of outputs come from models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Outputs that are told apart.
const OUTPUTS_MAX: usize = 1_000;
/// The least exponent of a bucket: below 2^-40 a difference is none.
const EXPONENT_MIN: i32 = -40;
/// Buckets, up to 2^24 and beyond.
const BUCKETS: usize = 65;
/// Sums are held in units of 2^-40.
const UNIT: f64 = (1_u64 << 40) as f64;
/// What is larger counts as this in sums.
const LARGEST: f64 = 1e15;

/// The differences of one output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Pairs that were compared.
    pub count: u64,
    /// Pairs of which one was no finite number, and the other was or was another.
    pub unlike: u64,
    /// Pairs that were equal to the bit.
    pub equal: u64,
    /// The sum of shadow less served, in units of 2^-40.
    sum: i128,
    /// The same of absolute differences.
    absolute_sum: i128,
    /// The bits of the largest absolute difference.
    largest_bits: u64,
    buckets: Vec<u64>,
}

impl Default for Differences {
    fn default() -> Self {
        let buckets = vec![0; BUCKETS];
        Self { count: 0, unlike: 0, equal: 0, sum: 0, absolute_sum: 0, largest_bits: 0, buckets }
    }
}

fn bucket(absolute: f64) -> usize {
    if absolute == 0.0 {
        return 0;
    }
    // The upper end is part of a bucket: 2^e lies in that of e.
    let exponent = absolute.log2().ceil() as i32;
    (exponent.saturating_sub(EXPONENT_MIN).max(0) as usize).min(BUCKETS - 1)
}

impl Differences {
    /// Adds what was served and what the shadow said.
    pub fn add(&mut self, served: f64, shadow: f64) {
        self.count += 1;
        if served.to_bits() == shadow.to_bits() {
            self.equal += 1;
        }
        let difference = shadow - served;
        if !difference.is_finite() {
            let same = served.to_bits() == shadow.to_bits() || (served.is_nan() && shadow.is_nan());
            self.unlike += u64::from(!same);
            return;
        }
        let absolute = difference.abs();
        let fixed = |value: f64| (value.clamp(-LARGEST, LARGEST) * UNIT).round() as i128;
        self.sum += fixed(difference);
        self.absolute_sum += fixed(absolute);
        // Of numbers that are not negative, the larger has the larger bits.
        self.largest_bits = self.largest_bits.max(absolute.to_bits());
        self.buckets[bucket(absolute)] += 1;
    }

    /// Adds those of another process.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.unlike += other.unlike;
        self.equal += other.equal;
        self.sum += other.sum;
        self.absolute_sum += other.absolute_sum;
        self.largest_bits = self.largest_bits.max(other.largest_bits);
        for (own, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += other;
        }
    }

    fn compared(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn per_pair(&self, sum: i128) -> f64 {
        sum as f64 / UNIT / self.compared().max(1) as f64
    }

    /// The mean of shadow less served.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.per_pair(self.sum)
    }

    /// The mean absolute difference.
    #[must_use]
    pub fn mean_absolute(&self) -> f64 {
        self.per_pair(self.absolute_sum)
    }

    /// The largest absolute difference.
    #[must_use]
    pub fn largest(&self) -> f64 {
        f64::from_bits(self.largest_bits)
    }

    /// A bound that this share of absolute differences is at or below: at most twice too large, and never too small. What is
    /// below 2^-40 is told as that, beyond 2^24 as the largest.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (share.clamp(0.0, 1.0) * self.compared() as f64).ceil() as u64;
        let mut passed = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            passed += count;
            if passed >= wanted {
                let bound = libm::exp2(f64::from(bucket as i32 + EXPONENT_MIN));
                return if bucket + 1 == BUCKETS { self.largest() } else { bound.min(self.largest()) };
            }
        }
        self.largest()
    }
}

/// The differences of every output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// Answers that were compared.
    pub answers: u64,
    /// Answers of which one had an output that the other had not, or an output beyond the limit.
    pub mismatched: u64,
    /// By the name of the output.
    pub outputs: BTreeMap<String, Differences>,
}

impl Shadow {
    /// Adds one answer: each output as it was served, and as the shadow said.
    pub fn add(&mut self, served: &BTreeMap<String, f64>, shadow: &BTreeMap<String, f64>) {
        self.answers += 1;
        let mut is_mismatched = served.len() != shadow.len();
        for (name, value) in served {
            let Some(other) = shadow.get(name) else {
                is_mismatched = true;
                continue;
            };
            if !self.outputs.contains_key(name) && self.outputs.len() >= OUTPUTS_MAX {
                is_mismatched = true;
                continue;
            }
            self.outputs.entry(name.clone()).or_default().add(*value, *other);
        }
        self.mismatched += u64::from(is_mismatched);
    }

    /// Adds those of another process. Outputs beyond the limit are left out, those first that are later by name.
    pub fn merge(&mut self, other: &Self) {
        self.answers += other.answers;
        self.mismatched += other.mismatched;
        for (name, differences) in &other.outputs {
            self.outputs.entry(name.clone()).or_default().merge(differences);
        }
        while self.outputs.len() > OUTPUTS_MAX {
            self.outputs.pop_last();
        }
    }
}

/// How alike two ranked lists are, 0 to 1: rank-biased overlap (Webber, Moffat and Zobel 2010) down to the shorter of both,
/// as a share of what equal lists of that length would have. `persistence` (0 to 1) is the probability that a reader goes
/// on to the next rank. Names within a list must differ. Two empty lists are alike.
#[must_use]
pub fn rank_biased_overlap(one: &[&str], two: &[&str], persistence: f64) -> f64 {
    let depth = one.len().min(two.len());
    if depth == 0 {
        return if one.len() == two.len() { 1.0 } else { 0.0 };
    }
    let (mut overlap, mut sum, mut most, mut weight) = (0.0, 0.0, 0.0, 1.0);
    for at in 0..depth {
        let (first, second) = (one[at], two[at]);
        let met = if first == second {
            1.0
        } else {
            f64::from(u8::from(two[..at].contains(&first))) + f64::from(u8::from(one[..at].contains(&second)))
        };
        overlap += met;
        sum += weight * overlap / (at + 1) as f64;
        most += weight;
        weight *= persistence;
    }
    sum / most
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn differences_are_summed_up() {
        let mut found = Differences::default();
        for (served, shadow) in [(1.0, 1.0), (1.0, 1.5), (2.0, 1.0), (f64::NAN, 1.0), (f64::NAN, f64::NAN)] {
            found.add(served, shadow);
        }
        assert_eq!((found.count, found.unlike, found.equal), (5, 1, 2));
        assert_eq!((found.mean(), found.mean_absolute(), found.largest()), (-0.5 / 3.0, 0.5, 1.0));
        assert_eq!(
            (found.quantile(0.0), found.quantile(0.6), found.quantile(1.0)),
            (2_f64.powi(-40), 0.5, 1.0)
        );
        assert_eq!((Differences::default().mean(), Differences::default().quantile(0.5)), (0.0, 0.0));
    }

    #[test]
    fn lists_are_compared_from_the_top() {
        let check = |one: &[&str], two: &[&str], expected: f64| {
            let found = rank_biased_overlap(one, two, 0.5);
            assert!((found - expected).abs() < 1e-12, "{one:?} {two:?} {found}");
        };
        check(&["a", "b", "c"], &["a", "b", "c"], 1.0);
        check(&["a", "b"], &["c", "d"], 0.0);
        // 1 of weights 1, 1/2 at ranks 1 and 2: nothing at the first, all at the second.
        check(&["a", "b"], &["b", "a"], 0.5 / 1.5);
        check(&[], &[], 1.0);
        check(&["a"], &[], 0.0);
    }

    #[test]
    fn outputs_are_bounded() {
        let mut shadow = Shadow::default();
        let many: BTreeMap<String, f64> = (0..1_001).map(|at| (format!("{at:04}"), 1.0)).collect();
        shadow.add(&many, &many);
        shadow.add(&BTreeMap::from([("0000".to_owned(), 1.0)]), &BTreeMap::new());
        assert_eq!((shadow.answers, shadow.mismatched, shadow.outputs.len()), (2, 2, OUTPUTS_MAX));
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_give_the_same(
            pairs in proptest::collection::vec((-1e9..1e9_f64, -1e9..1e9_f64), 0..40), cut in 0..40_usize, share in 0.01..1.0_f64,
        ) {
            let fold = |pairs: &[(f64, f64)]| {
                let mut shadow = Shadow::default();
                for (served, other) in pairs {
                    let named = |value: f64| BTreeMap::from([("y".to_owned(), value)]);
                    shadow.add(&named(*served), &named(*other));
                }
                shadow
            };
            let whole = fold(&pairs);
            let reversed: Vec<_> = pairs.iter().rev().copied().collect();
            prop_assert_eq!(&fold(&reversed), &whole);
            let (before, after) = pairs.split_at(cut.min(pairs.len()));
            let mut merged = fold(after);
            merged.merge(&fold(before));
            prop_assert_eq!(&merged, &whole);
            if let Some(found) = whole.outputs.get("y") {
                let mut absolute: Vec<f64> = pairs.iter().map(|(one, two)| (one - two).abs()).collect();
                absolute.sort_by(f64::total_cmp);
                let rank = (share * absolute.len() as f64).ceil() as usize;
                prop_assert!(found.quantile(share) >= absolute[rank - 1]);
            }
        }
    }
}
