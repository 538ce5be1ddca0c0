//! What is kept of the training data: for each feature a uniform sample of bounded size.
//!
//! The sample is of the rows with the least keyed hash (bottom-k: Cohen and Kaplan 2007), so that it does not depend on the
//! order of rows, and samples of parts of the data can be merged. A sample, unlike a sketch of quantiles, is what two-sample
//! tests are made for: it adds its own uncertainty and no other. A feature of 1,000 values takes 8 KB.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is kept of one feature.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureReference {
    /// Rows that had a value.
    pub count: u64,
    /// Rows that had none.
    pub missing: u64,
    sample: Vec<f64>,
}

impl FeatureReference {
    /// Of so many rows with a value and without, and a sample of the values in any order; what is no finite number is left
    /// out.
    #[must_use]
    pub fn new(count: u64, missing: u64, mut sample: Vec<f64>) -> Self {
        sample.retain(|value| value.is_finite());
        sample.sort_unstable_by(f64::total_cmp);
        Self { count, missing, sample }
    }

    /// The sample, least first.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.sample
    }
}

/// What is kept of the training data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// By the name of the feature.
    pub features: BTreeMap<String, FeatureReference>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Kept {
    count: u64,
    missing: u64,
    /// By hash and row, which is unique.
    rows: BTreeMap<(u64, u64), f64>,
}

/// Takes rows in.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    size: usize,
    seed: u64,
    features: BTreeMap<String, Kept>,
}

impl Sampler {
    /// Keeps `size` values of each feature at most, one at least.
    #[must_use]
    pub fn new(size: usize, seed: u64) -> Self {
        Self { size: size.max(1), seed, features: BTreeMap::new() }
    }

    /// Takes in a value of a row; what is no finite number is missing. A row has one value of a feature: the same number
    /// twice would count twice.
    pub fn add(&mut self, feature: &str, row: u64, value: f64) {
        if !self.features.contains_key(feature) {
            self.features.insert(feature.to_owned(), Kept::default());
        }
        let Some(kept) = self.features.get_mut(feature) else { return };
        if !value.is_finite() {
            kept.missing += 1;
            return;
        }
        kept.count += 1;
        kept.rows.insert((hash(self.seed, row), row), value);
        if kept.rows.len() > self.size {
            kept.rows.pop_last();
        }
    }

    /// Takes in the rows of another part of the data, sampled with the same seed. Rows of both must have other numbers.
    pub fn merge(&mut self, other: &Self) {
        for (name, theirs) in &other.features {
            let kept = self.features.entry(name.clone()).or_default();
            kept.count += theirs.count;
            kept.missing += theirs.missing;
            kept.rows.extend(theirs.rows.iter());
            while kept.rows.len() > self.size {
                kept.rows.pop_last();
            }
        }
    }

    /// What is kept from now on.
    #[must_use]
    pub fn finish(self) -> Reference {
        let finished = |kept: Kept| {
            let mut sample: Vec<f64> = kept.rows.into_values().collect();
            sample.sort_unstable_by(f64::total_cmp);
            FeatureReference { count: kept.count, missing: kept.missing, sample }
        };
        Reference { features: self.features.into_iter().map(|(name, kept)| (name, finished(kept))).collect() }
    }
}

fn hash(seed: u64, row: u64) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("watershed rollout 2026 sample of rows");
    hasher.update(&seed.to_le_bytes()).update(&row.to_le_bytes());
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_order_and_any_split_keep_the_same_rows(
            values in proptest::collection::vec(prop_oneof![4 => -1e9..1e9_f64, 1 => Just(f64::NAN)], 0..60),
            cut in 0..60_usize, size in 1..40_usize,
        ) {
            let rows: Vec<(u64, f64)> = (0..).zip(values).collect();
            let fold = |rows: &[(u64, f64)]| {
                let mut sampler = Sampler::new(size, 7);
                rows.iter().for_each(|(row, value)| sampler.add("y", *row, *value));
                sampler
            };
            let whole = fold(&rows).finish();
            let reversed: Vec<_> = rows.iter().rev().copied().collect();
            prop_assert_eq!(&fold(&reversed).finish(), &whole);
            let (before, after) = rows.split_at(cut.min(rows.len()));
            let mut merged = fold(after);
            merged.merge(&fold(before));
            prop_assert_eq!(&merged.finish(), &whole);
            if let Some(kept) = whole.features.get("y") {
                prop_assert_eq!(kept.values().len() as u64, kept.count.min(size as u64));
                prop_assert!(kept.values().is_sorted());
            }
        }
    }
}
