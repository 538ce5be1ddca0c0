//! Temporal split: what happened before a point in time predicts what happened after it, for all users at once.
//!
//! The one protocol in which nothing from the future reaches the fit (Meng et al. 2020). The final fit and the history at
//! test time see everything before the test point.

use super::holdout::{Builder, Rows, slice};
use super::{Parts, Split, active_users};
use crate::algorithms::{History, Interactions};
use crate::evaluation::{EvaluationError, require};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The earliest time that has at least this share of all interactions before it; in (0, 1).
    Share(f64),
    /// Unix milliseconds.
    Time(i64),
}

/// Where the interactions are cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Targets of the validation part begin here and end at `test_from`.
    pub validation_from: Point,
    /// Targets of the test part begin here.
    pub test_from: Point,
    /// Whether users without a history at the cut are evaluated.
    pub include_cold_users: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { validation_from: Point::Share(0.8), test_from: Point::Share(0.9), include_cold_users: false }
    }
}

/// Splits by time.
///
/// # Errors
/// [`EvaluationError::Data`] where times are unknown or a part is empty, [`EvaluationError::Setting`] for shares out of
/// range or cuts in the wrong order.
pub fn split(data: &Interactions, settings: &Settings) -> Result<Split, EvaluationError> {
    if !data.has_times() {
        return Err(EvaluationError::Data("a temporal split needs the times of the interactions".to_owned()));
    }
    let mut times: Vec<i64> = data.rows().flat_map(|row| row.times.iter().copied()).collect();
    times.sort_unstable();
    let validation_from = resolve(settings.validation_from, &times, "validation_from")?;
    let test_from = resolve(settings.test_from, &times, "test_from")?;
    require(validation_from < test_from, "test_from", "later than validation_from")?;
    let (mut fit, mut final_fit) = (Rows::like(data), Rows::like(data));
    let (mut validation, mut test) = (Builder::like(data), Builder::like(data));
    let mut cold_users = 0;
    for (user, row) in data.rows().enumerate() {
        let first = row.times.partition_point(|&time| time < validation_from);
        let second = row.times.partition_point(|&time| time < test_from);
        fit.push(slice(row, 0..first));
        final_fit.push(slice(row, 0..second));
        cold_users += usize::from(second == 0 && !row.is_empty());
        hold_out(user, row, first..second, settings, &mut validation);
        hold_out(user, row, second..row.len(), settings, &mut test);
    }
    let used = if settings.include_cold_users { "evaluated" } else { "not evaluated" };
    Parts {
        protocol: format!("temporal (validation from {validation_from} ms, test from {test_from} ms)"),
        seed: None,
        users: active_users(data),
        interactions: data.len(),
        fit: Arc::new(fit.finish()?),
        final_fit: Arc::new(final_fit.finish()?),
        validation,
        choices: None,
        test,
        notes: vec![format!("{cold_users} users have no history before the test and are {used}")],
    }
    .finish()
}

fn hold_out(
    user: usize,
    row: History<'_>,
    targets: std::ops::Range<usize>,
    settings: &Settings,
    builder: &mut Builder,
) {
    // A user without anything in the range is not one that was skipped.
    if !targets.is_empty() && (targets.start > 0 || settings.include_cold_users) {
        builder.push(user, slice(row, 0..targets.start), slice(row, targets));
    }
}

fn resolve(point: Point, times: &[i64], name: &'static str) -> Result<i64, EvaluationError> {
    match point {
        Point::Time(time) => Ok(time),
        Point::Share(share) => {
            require(share > 0.0 && share < 1.0, name, "a share between 0 and 1, both excluded")?;
            let rank = (share * times.len() as f64).ceil() as usize;
            let message = || EvaluationError::Data("there are no interactions".to_owned());
            times.get(rank.min(times.len().saturating_sub(1))).copied().ok_or_else(message)
        }
    }
}
