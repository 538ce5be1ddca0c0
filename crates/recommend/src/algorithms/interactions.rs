//! Interactions of users with items as compressed sparse rows, and the history of one user.
//!
//! Refuses: names, event types, clocks. Events are mapped to `(user, item, weight, time)` before they come here.
//! To add one more field: add a vector parallel to `items`, check its length in [`Interactions::new`], and carry
//! it through [`Interactions::transpose`] and [`Interactions::deduplicated`].

use super::AlgorithmError;
use serde::{Deserialize, Serialize};

/// What one user did, oldest first. `weights` and `times` are as long as `items`; `times` is empty if unknown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct History<'a> {
    /// Item indices.
    pub items: &'a [u32],
    /// Strength of each interaction; finite.
    pub weights: &'a [f32],
    /// Unix milliseconds, or empty.
    pub times: &'a [i64],
}

/// One row of [`Interactions`].
pub type Row<'a> = History<'a>;

impl<'a> History<'a> {
    /// The history of a user who did nothing.
    pub const EMPTY: Self = Self { items: &[], weights: &[], times: &[] };

    /// The number of interactions.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The last `count` interactions, or all where there are fewer.
    #[must_use]
    pub fn last(self, count: usize) -> History<'a> {
        let start = self.items.len().saturating_sub(count);
        let times = if self.times.is_empty() { self.times } else { &self.times[start..] };
        History { items: &self.items[start..], weights: &self.weights[start..], times }
    }
}

/// How the weights of repeated interactions of one user with one item become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// The sum.
    Sum,
    /// The largest.
    Max,
    /// The most recent.
    Last,
    /// 1, whatever the weights.
    One,
}

/// Interactions as compressed sparse rows: row = user, entries in time order (oldest first).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interactions {
    user_offsets: Vec<usize>,
    items: Vec<u32>,
    weights: Vec<f32>,
    times: Vec<i64>,
    item_count: usize,
}

fn malformed(message: String) -> AlgorithmError {
    AlgorithmError::Interactions(message)
}

impl Interactions {
    /// Takes compressed rows: `user_offsets` has one entry more than there are users, starts at 0, never falls and
    /// ends at `items.len()`. `times` is parallel to `items`, in unix milliseconds, or empty.
    ///
    /// # Errors
    /// [`AlgorithmError::Interactions`] for bad offsets, lengths that differ, an item `>= item_count`, a weight
    /// that is not finite, or times that fall within a row.
    pub fn new(
        user_offsets: Vec<usize>,
        items: Vec<u32>,
        weights: Vec<f32>,
        times: Vec<i64>,
        item_count: usize,
    ) -> Result<Self, AlgorithmError> {
        if user_offsets.first() != Some(&0) || user_offsets.last() != Some(&items.len()) {
            return Err(malformed(format!("user_offsets must start at 0 and end at {}", items.len())));
        }
        if let Some(user) = user_offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(malformed(format!("user_offsets falls after user {user}")));
        }
        if item_count > u32::MAX as usize {
            return Err(malformed(format!("item_count is {item_count}; at most {} items fit", u32::MAX)));
        }
        if weights.len() != items.len() {
            return Err(malformed(format!("{} weights for {} items", weights.len(), items.len())));
        }
        if !times.is_empty() && times.len() != items.len() {
            return Err(malformed(format!("{} times for {} items", times.len(), items.len())));
        }
        if let Some(entry) = items.iter().position(|&item| item as usize >= item_count) {
            return Err(malformed(format!(
                "entry {entry} has item {}; there are {item_count}",
                items[entry]
            )));
        }
        if let Some(entry) = weights.iter().position(|weight| !weight.is_finite()) {
            return Err(malformed(format!("entry {entry} has the weight {}", weights[entry])));
        }
        let interactions = Self { user_offsets, items, weights, times, item_count };
        let falls = |user: &usize| interactions.row(*user).times.windows(2).any(|pair| pair[0] > pair[1]);
        match (0..interactions.user_count()).find(falls) {
            Some(user) => Err(malformed(format!("the times of user {user} are not in order"))),
            None => Ok(interactions),
        }
    }

    /// Groups `(user, item, weight, time in unix milliseconds)` by user and sorts each user by time; entries of the
    /// same time keep their order.
    ///
    /// # Errors
    /// As [`Interactions::new`], and for a user `>= user_count`.
    pub fn from_events(
        user_count: usize,
        item_count: usize,
        events: &[(u32, u32, f32, i64)],
    ) -> Result<Self, AlgorithmError> {
        if let Some(entry) = events.iter().position(|event| event.0 as usize >= user_count) {
            return Err(malformed(format!(
                "entry {entry} has user {}; there are {user_count}",
                events[entry].0
            )));
        }
        let mut order: Vec<usize> = (0..events.len()).collect();
        order.sort_by_key(|&entry| (events[entry].0, events[entry].3));
        let mut user_offsets = vec![0; user_count + 1];
        for event in events {
            user_offsets[event.0 as usize + 1] += 1;
        }
        for user in 0..user_count {
            user_offsets[user + 1] += user_offsets[user];
        }
        let items = order.iter().map(|&entry| events[entry].1).collect();
        let weights = order.iter().map(|&entry| events[entry].2).collect();
        let times = order.iter().map(|&entry| events[entry].3).collect();
        Self::new(user_offsets, items, weights, times, item_count)
    }

    /// One row per user, every weight 1, no times.
    ///
    /// # Errors
    /// As [`Interactions::new`].
    pub fn from_rows<R: AsRef<[u32]>>(rows: &[R], item_count: usize) -> Result<Self, AlgorithmError> {
        let mut user_offsets = Vec::with_capacity(rows.len() + 1);
        user_offsets.push(0);
        let mut items = Vec::new();
        for row in rows {
            items.extend_from_slice(row.as_ref());
            user_offsets.push(items.len());
        }
        let weights = vec![1.0; items.len()];
        Self::new(user_offsets, items, weights, Vec::new(), item_count)
    }

    /// The number of rows.
    pub fn user_count(&self) -> usize {
        self.user_offsets.len() - 1
    }

    /// The number of items, whether or not anyone touched them.
    pub fn item_count(&self) -> usize {
        self.item_count
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether times are known.
    pub fn has_times(&self) -> bool {
        !self.times.is_empty()
    }

    /// Row starts; one more than there are users.
    pub fn user_offsets(&self) -> &[usize] {
        &self.user_offsets
    }

    /// The items of all rows, one after another.
    pub fn items(&self) -> &[u32] {
        &self.items
    }

    /// The weights of all rows, one after another.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The interactions of one user, oldest first.
    ///
    /// # Panics
    /// If `user >= self.user_count()`.
    pub fn row(&self, user: usize) -> Row<'_> {
        let range = self.user_offsets[user]..self.user_offsets[user + 1];
        let times = if self.times.is_empty() { &[] } else { &self.times[range.clone()] };
        Row { items: &self.items[range.clone()], weights: &self.weights[range], times }
    }

    /// All rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.user_count()).map(|user| self.row(user))
    }

    /// The same entries with users and items swapped: row = item, entries in order of user. Times are dropped, as
    /// the rows are no longer in time order.
    #[must_use]
    pub fn transpose(&self) -> Interactions {
        let mut offsets = vec![0_usize; self.item_count + 1];
        for &item in &self.items {
            offsets[item as usize + 1] += 1;
        }
        for item in 0..self.item_count {
            offsets[item + 1] += offsets[item];
        }
        let mut next = offsets.clone();
        let mut users = vec![0_u32; self.items.len()];
        let mut weights = vec![0.0_f32; self.items.len()];
        for (user, row) in self.rows().enumerate() {
            for (&item, &weight) in row.items.iter().zip(row.weights) {
                let slot = &mut next[item as usize];
                users[*slot] = user as u32;
                weights[*slot] = weight;
                *slot += 1;
            }
        }
        Interactions {
            user_offsets: offsets,
            items: users,
            weights,
            times: Vec::new(),
            item_count: self.user_count(),
        }
    }

    /// The same users with one entry per user and item, placed and timed at the last occurrence, weights merged as
    /// stated.
    #[must_use]
    pub fn deduplicated(&self, merge: Merge) -> Interactions {
        let mut merged = Interactions {
            user_offsets: Vec::with_capacity(self.user_offsets.len()),
            items: Vec::with_capacity(self.items.len()),
            weights: Vec::with_capacity(self.items.len()),
            times: Vec::with_capacity(self.times.len()),
            item_count: self.item_count,
        };
        merged.user_offsets.push(0);
        // Per item, the entry of the current user that stands for it, counted from the end of the row.
        let mut kept_entry = vec![usize::MAX; self.item_count];
        for row in self.rows() {
            let start = merged.items.len();
            for entry in (0..row.len()).rev() {
                let (item, weight) = (row.items[entry], row.weights[entry]);
                let kept = &mut kept_entry[item as usize];
                if *kept == usize::MAX {
                    *kept = merged.items.len();
                    merged.items.push(item);
                    merged.weights.push(if merge == Merge::One { 1.0 } else { weight });
                    merged.times.extend(row.times.get(entry));
                    continue;
                }
                let target = &mut merged.weights[*kept];
                match merge {
                    Merge::Sum => *target += weight,
                    Merge::Max => *target = target.max(weight),
                    Merge::Last | Merge::One => {}
                }
            }
            for &item in &merged.items[start..] {
                kept_entry[item as usize] = usize::MAX;
            }
            merged.items[start..].reverse();
            merged.weights[start..].reverse();
            if self.has_times() {
                merged.times[start..].reverse();
            }
            merged.user_offsets.push(merged.items.len());
        }
        merged
    }

    /// The same entries with each weight replaced by `weigh(row, index in the row)`.
    ///
    /// # Panics
    /// If a new weight is not finite.
    #[must_use]
    pub fn map_weights(&self, weigh: impl Fn(&Row<'_>, usize) -> f32) -> Interactions {
        let mut weights = Vec::with_capacity(self.weights.len());
        for row in self.rows() {
            weights.extend((0..row.len()).map(|entry| weigh(&row, entry)));
        }
        assert!(weights.iter().all(|weight| weight.is_finite()), "new weights must be finite");
        Interactions { weights, ..self.clone() }
    }

    /// The entries with a weight above 0.
    #[must_use]
    pub fn positive(&self) -> Interactions {
        let mut kept =
            Interactions { items: Vec::new(), weights: Vec::new(), times: Vec::new(), ..self.clone() };
        for (user, row) in self.rows().enumerate() {
            for entry in (0..row.len()).filter(|&entry| row.weights[entry] > 0.0) {
                kept.items.push(row.items[entry]);
                kept.weights.push(row.weights[entry]);
                kept.times.extend(row.times.get(entry));
            }
            kept.user_offsets[user + 1] = kept.items.len();
        }
        kept
    }

    /// Whether some user has the same item twice.
    pub fn has_repeats(&self) -> bool {
        let mut last_user = vec![usize::MAX; self.item_count];
        (0..self.user_count()).any(|user| {
            let items = self.row(user).items;
            items.iter().any(|&item| std::mem::replace(&mut last_user[item as usize], user) == user)
        })
    }

    /// The number of entries of each item.
    pub fn item_frequencies(&self) -> Vec<u32> {
        let mut counts = vec![0; self.item_count];
        for &item in &self.items {
            counts[item as usize] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_input_is_refused_by_name() {
        let cases = [
            (vec![], vec![], vec![], vec![], 1, "user_offsets must start"),
            (vec![0, 2], vec![0], vec![1.0], vec![], 1, "user_offsets must start"),
            (vec![0, 2, 1, 2], vec![0, 0], vec![1.0; 2], vec![], 1, "user_offsets falls after user 1"),
            (vec![0, 1], vec![0], vec![], vec![], 1, "0 weights for 1 items"),
            (vec![0, 1], vec![0], vec![1.0], vec![1, 2], 1, "2 times for 1 items"),
            (vec![0, 1], vec![3], vec![1.0], vec![], 3, "entry 0 has item 3"),
            (vec![0, 1], vec![0], vec![f32::NAN], vec![], 1, "entry 0 has the weight NaN"),
            (vec![0, 2], vec![0, 0], vec![1.0; 2], vec![2, 1], 1, "the times of user 0"),
        ];
        for (offsets, items, weights, times, item_count, expected) in cases {
            let error =
                Interactions::new(offsets, items, weights, times, item_count).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(
            Interactions::from_events(1, 1, &[(1, 0, 1.0, 0)]).unwrap_err().to_string().contains("user 1")
        );
    }

    #[test]
    fn empty_is_accepted() {
        let empty = Interactions::from_rows::<Vec<u32>>(&[], 0).unwrap();
        assert_eq!((empty.user_count(), empty.item_count(), empty.len()), (0, 0, 0));
        assert_eq!(empty.transpose(), empty);
        assert_eq!(empty.deduplicated(Merge::Sum), empty);
    }

    #[test]
    fn events_are_sorted_by_time_within_a_user() {
        let events = [(1, 2, 1.0, 30), (0, 1, 2.0, 20), (1, 0, 3.0, 10), (1, 1, 4.0, 30)];
        let interactions = Interactions::from_events(2, 3, &events).unwrap();
        assert_eq!(interactions.row(1).items, [0, 2, 1]);
        assert_eq!(interactions.row(1).last(2).times, [30, 30]);
        assert_eq!(interactions.row(0).weights, [2.0]);
    }

    #[test]
    fn repeats_merge_at_the_last_occurrence() {
        let rows =
            Interactions::new(vec![0, 4], vec![1, 0, 1, 2], vec![2.0, 1.0, 1.0, 5.0], vec![1, 2, 3, 4], 3);
        let rows = rows.unwrap();
        assert!(rows.has_repeats());
        for (merge, expected) in [(Merge::Sum, 3.0), (Merge::Max, 2.0), (Merge::Last, 1.0), (Merge::One, 1.0)]
        {
            let merged = rows.deduplicated(merge);
            assert_eq!(merged.row(0).items, [0, 1, 2]);
            assert_eq!(merged.row(0).times, [2, 3, 4]);
            assert_eq!(merged.row(0).weights[1], expected, "{merge:?}");
            assert!(!merged.has_repeats());
        }
    }

    proptest! {
        #[test]
        fn transposing_twice_sorts_rows_by_item(
            rows in prop::collection::vec(prop::collection::btree_set(0_u32..9, 0..6), 0..7),
        ) {
            let rows: Vec<Vec<u32>> = rows.into_iter().map(|row| row.into_iter().collect()).collect();
            let interactions = Interactions::from_rows(&rows, 9).unwrap();
            let transposed = interactions.transpose();
            for (user, row) in rows.iter().enumerate() {
                for item in 0..9 {
                    let there = transposed.row(item as usize).items.contains(&(user as u32));
                    prop_assert_eq!(row.contains(&item), there);
                }
            }
            prop_assert_eq!(transposed.transpose(), interactions);
        }
    }
}
