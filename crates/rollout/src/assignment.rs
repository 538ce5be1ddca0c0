//! Who is in which arm: a keyed hash of the experiment and the subject, so that every replica says the same without a
//! table, and two experiments cut the same subjects independently.
//!
//! Raising a share only moves subjects into the arm and never out of it. It refuses to look at anything but the id.

use crate::{Invalid, require};

/// Parts that subjects are cut into.
const BUCKETS: u64 = 10_000;

/// The part of a subject under an experiment's key, below 10,000.
#[must_use]
pub fn bucket(key: &str, subject: &str) -> u32 {
    let mut hasher = blake3::Hasher::new_derive_key("watershed rollout 2026 arm of a subject");
    hasher.update(&(key.len() as u64).to_le_bytes()).update(key.as_bytes()).update(subject.as_bytes());
    let hash = hasher.finalize();
    let first = hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    // The high half of the product is even to one part in 2^50.
    ((u128::from(first) * u128::from(BUCKETS)) >> 64) as u32
}

/// Whether a subject is among the `percent` of an experiment that get the candidate.
#[must_use]
pub fn is_candidate(key: &str, subject: &str, percent: u8) -> bool {
    bucket(key, subject) < u32::from(percent) * (BUCKETS / 100) as u32
}

/// Arms with their shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arms {
    /// The first bucket behind each arm.
    ends: Vec<u32>,
}

impl Arms {
    /// Of shares in percent; what they leave of 100 is in no arm.
    ///
    /// # Errors
    /// No arm, or more than 100 percent.
    pub fn new(shares_percent: &[u8]) -> Result<Self, Invalid> {
        let sum: u32 = shares_percent.iter().map(|share| u32::from(*share)).sum();
        require(!shares_percent.is_empty(), "shares_percent", "needs one arm at least")?;
        require(sum <= 100, "shares_percent", "must not make more than 100")?;
        let mut end = 0;
        let ends = shares_percent.iter().map(|share| {
            end += u32::from(*share) * (BUCKETS / 100) as u32;
            end
        });
        Ok(Self { ends: ends.collect() })
    }

    /// The arm of a subject; none where it takes no part.
    #[must_use]
    pub fn of(&self, key: &str, subject: &str) -> Option<usize> {
        let bucket = bucket(key, subject);
        Some(self.ends.partition_point(|end| *end <= bucket)).filter(|arm| *arm < self.ends.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_kept_and_experiments_are_independent() {
        let arms = Arms::new(&[10, 25, 50]).unwrap();
        let (mut counts, mut both) = ([0.0; 4], 0.0);
        let people = 40_000;
        for id in 0..people {
            let subject = format!("user-{id}");
            counts[arms.of("one", &subject).unwrap_or(3)] += 1.0 / f64::from(people);
            let in_both = is_candidate("one", &subject, 50) && is_candidate("two", &subject, 50);
            both += f64::from(u8::from(in_both)) / f64::from(people);
        }
        // Five standard errors of a share of 40,000.
        for (found, wanted) in counts.into_iter().chain([both]).zip([0.10, 0.25, 0.50, 0.15, 0.25]) {
            assert!((found - wanted).abs() < 0.0125, "{counts:?} {both}");
        }
    }

    #[test]
    fn shares_that_make_no_sense_are_refused() {
        for shares in [&[][..], &[60, 41], &[255]] {
            assert!(Arms::new(shares).is_err(), "{shares:?}");
        }
        assert_eq!(Arms::new(&[0]).unwrap().of("key", "subject"), None);
        assert_eq!(Arms::new(&[0, 100]).unwrap().of("key", "subject"), Some(1));
    }

    proptest! {
        #[test]
        fn who_is_in_stays_in(key: String, subject: String, percent in 0..=100_u8, more in 0..=100_u8) {
            let (less, more) = (percent.min(more), percent.max(more));
            prop_assert!(!is_candidate(&key, &subject, 0));
            prop_assert!(is_candidate(&key, &subject, 100));
            prop_assert!(!is_candidate(&key, &subject, less) || is_candidate(&key, &subject, more));
        }
    }
}
