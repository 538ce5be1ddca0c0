//! A split that comes with the data: a training file and a test file. Validation is carved out of the training file.
//!
//! The final fit sees the whole training file, which is also the history at test time. The test file is never drawn from.

use super::holdout::{Builder, Rows};
use super::{Parts, Split, active_users, choose, generator};
use crate::algorithms::{History, Interactions};
use crate::evaluation::{EvaluationError, require};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Which interactions of the training file validate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of the draws.
    pub seed: u64,
    /// The share of each user's training interactions that validates, in (0, 1); at least one of two or more.
    pub validation_share: f64,
    /// Take the last ones instead of random ones. For test files that are later than their training file.
    pub validate_on_last: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 0, validation_share: 0.1, validate_on_last: false }
    }
}

/// Uses the split as it is: row `n` of `test` is the same user as row `n` of `train`. Rows that one side lacks are empty.
///
/// # Errors
/// [`EvaluationError::Setting`] for a share out of range, [`EvaluationError::Data`] where the catalogues differ or nobody can
/// be held out.
pub fn split(
    train: &Interactions,
    test: &Interactions,
    settings: &Settings,
) -> Result<Split, EvaluationError> {
    let share = settings.validation_share;
    require(share > 0.0 && share < 1.0, "validation_share", "between 0 and 1, both excluded")?;
    if train.item_count() != test.item_count() {
        let (train, test) = (train.item_count(), test.item_count());
        return Err(EvaluationError::Data(format!(
            "the training file has {train} items and the test file {test}"
        )));
    }
    if !test.is_empty() && known_already(train, test) == test.len() {
        return Err(EvaluationError::Data(
            "the training part holds the whole test part, and what a user has seen is not ranked; name the training \
             file of the split, such as u1.base for u1.test"
                .to_owned(),
        ));
    }
    let mut fit = Rows::like(train);
    let (mut validation, mut held_out) = (Builder::like(train), Builder::like(train));
    for (user, row) in train.rows().enumerate() {
        let is_target = validation_targets(user, row.len(), settings);
        let part = |wanted: bool| {
            let mut rows = Rows::like(train);
            rows.push_where(row, |entry| is_target[entry] == wanted);
            rows.finish()
        };
        let (history, targets) = (part(false)?, part(true)?);
        fit.push(history.row(0));
        if row.len() > 1 {
            validation.push(user, history.row(0), targets.row(0));
        }
    }
    for (user, targets) in test.rows().enumerate().filter(|(_, targets)| !targets.is_empty()) {
        let history = if user < train.user_count() { train.row(user) } else { History::EMPTY };
        held_out.push(user, history, targets);
    }
    let cold_users = (0..test.user_count())
        .filter(|&user| {
            !test.row(user).is_empty() && (user >= train.user_count() || train.row(user).is_empty())
        })
        .count();
    let which = if settings.validate_on_last { "the last" } else { "a random" };
    Parts {
        protocol: "given split".to_owned(),
        seed: Some(settings.seed),
        users: active_users(train) + cold_users,
        interactions: train.len() + test.len(),
        fit: Arc::new(fit.finish()?),
        final_fit: Arc::new(train.clone()),
        validation,
        choices: None,
        test: held_out,
        notes: vec![format!(
            "validation: {which} {:.0} % of each user's training interactions",
            100.0 * share
        )],
    }
    .finish()
}

/// Interactions of the test part whose user and item are in the training part too.
fn known_already(train: &Interactions, test: &Interactions) -> usize {
    let of_user = |(before, after): (History<'_>, History<'_>)| {
        let before: BTreeSet<u32> = before.items.iter().copied().collect();
        after.items.iter().filter(|item| before.contains(item)).count()
    };
    train.rows().zip(test.rows()).map(of_user).sum()
}

/// The share of users from which on a test file counts as later than its training file.
const LATER_SHARE: f64 = 0.9;

/// Whether the test file is what came after the training file: so for nine in ten of the users who are in both. False
/// where times are not known.
#[must_use]
pub fn is_later(train: &Interactions, test: &Interactions) -> bool {
    let (mut both, mut later) = (0_usize, 0_usize);
    for (before, after) in train.rows().zip(test.rows()) {
        if let (Some(last), Some(first)) = (before.times.last(), after.times.first()) {
            both += 1;
            later += usize::from(last <= first);
        }
    }
    both > 0 && later as f64 >= LATER_SHARE * both as f64
}

/// Which entries of a row of this length validate.
fn validation_targets(user: usize, length: usize, settings: &Settings) -> Vec<bool> {
    let most = length.saturating_sub(1);
    let count = ((length as f64 * settings.validation_share).round() as usize).clamp(most.min(1), most);
    if settings.validate_on_last {
        return (0..length).map(|entry| entry >= length - count).collect();
    }
    choose(length, count, &mut generator(settings.seed, user as u64))
}
