//! Users who are held out, and how rows are put together.

use crate::algorithms::{AlgorithmError, History, Interactions};
use serde::Serialize;
use std::collections::BTreeSet;

/// Users who are held out: what may be seen of each and what has to be found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Holdout {
    users: Vec<u32>,
    histories: Interactions,
    targets: Interactions,
}

impl Holdout {
    /// The number of users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The size of the catalogue.
    pub fn item_count(&self) -> usize {
        self.targets.item_count()
    }

    /// The index that each user has in the data before the split.
    pub fn users(&self) -> &[u32] {
        &self.users
    }

    /// What may be seen: row `n` is about `users()[n]`.
    pub fn histories(&self) -> &Interactions {
        &self.histories
    }

    /// What has to be found, parallel to the histories; never empty, never in the history. The weights are the gains.
    pub fn targets(&self) -> &Interactions {
        &self.targets
    }

    /// The users at these positions, in this order: for a cheaper look at a part.
    ///
    /// # Panics
    /// If a position is not below [`Holdout::len`].
    #[must_use]
    pub fn subset(&self, positions: &[usize]) -> Self {
        let take = |rows: &Interactions| {
            let mut taken = Rows::like(rows);
            positions.iter().for_each(|&position| taken.push(rows.row(position)));
            taken.finish().expect("rows of valid interactions are valid")
        };
        Self {
            users: positions.iter().map(|&position| self.users[position]).collect(),
            histories: take(&self.histories),
            targets: take(&self.targets),
        }
    }
}

/// Interactions that grow by rows.
pub(super) struct Rows {
    offsets: Vec<usize>,
    items: Vec<u32>,
    weights: Vec<f32>,
    times: Vec<i64>,
    item_count: usize,
}

impl Rows {
    /// No rows, over the catalogue of `model`.
    pub(super) fn like(model: &Interactions) -> Self {
        Self::over(model.item_count())
    }

    /// No rows, over `item_count` items.
    pub(super) fn over(item_count: usize) -> Self {
        Self { offsets: vec![0], items: vec![], weights: vec![], times: vec![], item_count }
    }

    pub(super) fn push(&mut self, row: History<'_>) {
        self.push_where(row, |_| true);
    }

    /// Adds a row of the entries whose position in `row` is kept.
    pub(super) fn push_where(&mut self, row: History<'_>, keep: impl Fn(usize) -> bool) {
        for entry in (0..row.len()).filter(|&entry| keep(entry)) {
            self.items.push(row.items[entry]);
            self.weights.push(row.weights[entry]);
            self.times.extend(row.times.get(entry));
        }
        self.offsets.push(self.items.len());
    }

    pub(super) fn finish(self) -> Result<Interactions, AlgorithmError> {
        Interactions::new(self.offsets, self.items, self.weights, self.times, self.item_count)
    }
}

/// Holds users out one by one.
pub(super) struct Builder {
    users: Vec<u32>,
    histories: Rows,
    targets: Rows,
    /// Targets dropped because the history has them, or because they repeat.
    pub(super) seen_targets: usize,
    /// Users dropped because no target was left.
    pub(super) skipped_users: usize,
}

impl Builder {
    pub(super) fn like(model: &Interactions) -> Self {
        let (histories, targets) = (Rows::like(model), Rows::like(model));
        Self { users: vec![], histories, targets, seen_targets: 0, skipped_users: 0 }
    }

    /// Holds out one user of the data.
    pub(super) fn push(&mut self, user: usize, history: History<'_>, targets: History<'_>) {
        let mut seen: BTreeSet<u32> = history.items.iter().copied().collect();
        let is_new: Vec<bool> = targets.items.iter().map(|&item| seen.insert(item)).collect();
        let kept = is_new.iter().filter(|&&is_new| is_new).count();
        self.seen_targets += targets.len() - kept;
        if kept == 0 {
            self.skipped_users += 1;
            return;
        }
        self.users.push(user as u32);
        self.histories.push(history);
        self.targets.push_where(targets, |entry| is_new[entry]);
    }

    pub(super) fn finish(self) -> Result<Holdout, AlgorithmError> {
        Ok(Holdout {
            users: self.users,
            histories: self.histories.finish()?,
            targets: self.targets.finish()?,
        })
    }
}

/// The entries `range` of a row.
pub(super) fn slice(row: History<'_>, range: std::ops::Range<usize>) -> History<'_> {
    let times = if row.times.is_empty() { row.times } else { &row.times[range.clone()] };
    History { items: &row.items[range.clone()], weights: &row.weights[range], times }
}
