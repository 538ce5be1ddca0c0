//! A against B on an outcome between 0 and 1, such as a click, a purchase or a satisfied share; never on latency alone.
//!
//! The fold counts in whole numbers, so that any order of outcomes, and any split over processes, gives the same. What is
//! told holds at every look: stop when you like.

use serde::{Deserialize, Serialize};

use crate::Tally;
use crate::sequential::{Interval, against_equal, difference_interval, mean_interval};

/// The outcomes of two arms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Of A.
    pub a: Tally,
    /// Of B.
    pub b: Tally,
}

/// What is known of two arms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The mean of A and where it lies.
    pub a: (f64, Interval),
    /// The mean of B and where it lies.
    pub b: (f64, Interval),
    /// Where B less A lies.
    pub difference: Interval,
    /// The always-valid p-value against both being the same.
    pub p_value: f64,
    /// Whether that is at or below the level.
    pub differs: bool,
}

impl Comparison {
    /// Adds the outcomes of another process.
    pub fn merge(&mut self, other: Self) {
        self.a.merge(other.a);
        self.b.merge(other.b);
    }

    /// What is known at this look. Each of the three intervals and the test holds at `level` by itself.
    #[must_use]
    pub fn outcome(&self, level: f64) -> Outcome {
        let evidence = against_equal(self.a, self.b);
        Outcome {
            a: (self.a.mean(), mean_interval(self.a, level)),
            b: (self.b.mean(), mean_interval(self.b, level)),
            difference: difference_interval(self.a, self.b, level),
            p_value: evidence.p_value(),
            differs: evidence.rejects(level),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_says_which_is_better_and_how_sure_that_is() {
        let mut half = Comparison { a: Tally::of(50, 500), b: Tally::of(90, 500) };
        let early = half.outcome(0.05);
        assert!(early.difference.contains(0.08) && early.a.1.contains(0.1));
        half.merge(half);
        half.merge(half);
        let late = half.outcome(0.05);
        assert!(late.differs && late.difference.lower > 0.0 && late.p_value < early.p_value, "{late:?}");
        let none = Comparison::default().outcome(0.05);
        assert!(!none.differs && none.p_value == 1.0);
    }
}
