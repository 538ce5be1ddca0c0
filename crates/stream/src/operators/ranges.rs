//! A set of sequence numbers as ranges: a stream without gaps is one range, whatever it holds.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The most ranges that are kept of one stream. More gaps than that, and the oldest numbers are no longer known.
const MOST_RANGES: usize = 4_096;

/// Sequence numbers that were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RangeSet {
    /// First and last number of each range, ascending, with a gap between one and the next.
    ranges: VecDeque<(u64, u64)>,
    /// Nothing is known of smaller numbers.
    floor: u64,
}

/// What is known of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was not seen.
    New,
    /// It was seen.
    Seen,
    /// It is too old to tell.
    Forgotten,
}

impl RangeSet {
    pub(crate) fn look(&self, number: u64) -> Known {
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        if after > 0 && number <= self.ranges[after - 1].1 {
            Known::Seen
        } else if number < self.floor {
            Known::Forgotten
        } else {
            Known::New
        }
    }

    pub(crate) fn insert(&mut self, number: u64) {
        let after = self.ranges.partition_point(|(first, _)| *first <= number);
        let joins_left = after > 0 && self.ranges[after - 1].1.checked_add(1) == Some(number);
        let joins_right =
            self.ranges.get(after).is_some_and(|(first, _)| number.checked_add(1) == Some(*first));
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[after - 1].1 = self.ranges[after].1;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].1 = number,
            (false, true) => self.ranges[after].0 = number,
            (false, false) => self.ranges.insert(after, (number, number)),
        }
        if self.ranges.len() > MOST_RANGES {
            // Where a stream is spread over partitions, each of them has gaps: this is what happens for every number.
            self.ranges.pop_front();
            self.floor = self.ranges[0].0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_gaps_are_forgotten_and_said_to_be() {
        let mut set = RangeSet::default();
        let most = MOST_RANGES as u64;
        (0..=most).for_each(|number| set.insert(2 * number));
        assert_eq!(set.ranges.len(), MOST_RANGES);
        assert_eq!(
            [set.look(0), set.look(1), set.look(2), set.look(3)],
            [Known::Forgotten, Known::Forgotten, Known::Seen, Known::New]
        );
        set.insert(u64::MAX);
        assert_eq!((set.look(u64::MAX), set.look(u64::MAX - 1)), (Known::Seen, Known::New));
    }

    proptest! {
        #[test]
        fn it_is_a_set(numbers in proptest::collection::vec(0_u64..60, 0..80)) {
            let (mut set, mut expected) = (RangeSet::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(set.look(number) == Known::Seen, expected.contains(&number));
                if expected.insert(number) {
                    set.insert(number);
                }
                let next = set.ranges.iter().skip(1);
                let ends = set.ranges.iter().zip(next).all(|(one, two)| one.1 + 1 < two.0);
                prop_assert!(ends, "{:?}", set.ranges);
            }
        }
    }
}
