//! One try to join truths to predictions, on what was read of both: what became of each, and what is to be written.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{Result, Timestamp};
use store::{Document, Expect, Repository, Versioned, Write};

use super::VALUE_MAX;
use super::documents::{Day, Kept, day_of};
use crate::canaries::Losses;

/// A truth.
#[derive(Debug, Clone)]
pub(crate) struct Truth {
    pub(crate) id: String,
    /// By output; none where it is not known yet.
    pub(crate) values: BTreeMap<String, Vec<Option<f64>>>,
}

/// What became of a truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) outcome: &'static str,
    /// Values that were joined.
    pub(crate) joined: usize,
    /// Why it was not.
    pub(crate) reason: Option<String>,
}

impl Told {
    fn not(outcome: &'static str, reason: impl Into<String>) -> Self {
        Self { outcome, joined: 0, reason: Some(reason.into()) }
    }
}

/// One try to join.
#[derive(Debug, Default)]
pub(super) struct Joining {
    now: Timestamp,
    pub(super) predictions: BTreeMap<String, Versioned<Kept>>,
    pub(super) days: BTreeMap<String, (Day, Expect)>,
    /// By the key of their canary.
    pub(super) losses: BTreeMap<String, (Losses, Expect)>,
    changed: BTreeSet<String>,
    changed_losses: BTreeSet<String>,
    changed_days: BTreeSet<String>,
    pub(super) compared: [u64; 3],
}

impl Joining {
    /// A try that begins now.
    pub(super) fn at(now: Timestamp) -> Self {
        Self { now, ..Self::default() }
    }

    pub(super) fn take_in(&mut self, truth: &Truth) -> Told {
        let Some(found) = self.predictions.get_mut(&truth.id) else {
            return Told::not("unknown", "no prediction of this model that was kept has this id");
        };
        let kept = &mut found.document;
        if self.now > kept.until {
            return Told::not("late", format!("truths of it were taken until {}", kept.until));
        }
        let new = match new_values(kept, truth) {
            Ok(new) => new,
            Err(told) => return told,
        };
        if new.is_empty() {
            return Told { outcome: "duplicate", joined: 0, reason: None };
        }
        let key = day_of(kept).key();
        let Some((day, _)) = self.days.get_mut(&key) else {
            return Told::not("unknown", "no prediction of this model that was kept has this id");
        };
        for (output, at, value) in &new {
            let predicted = kept.outputs[*output][*at];
            let persistence = kept.persistence.get(*output).copied();
            let sums = day.outputs.entry((*output).clone()).or_default();
            if let Some(which) = sums.add(predicted, persistence, *value) {
                self.compared[which] += 1;
            }
            let length = kept.outputs[*output].len();
            kept.truth.entry((*output).clone()).or_insert_with(|| vec![None; length])[*at] = Some(*value);
        }
        if let Some(member) = &kept.canary
            && let Some(loss) = member.loss(&kept.outputs, &kept.truth)
            && let Some((losses, _)) = self.losses.get_mut(&member.canary)
        {
            losses.add(member, loss);
            self.changed_losses.insert(member.canary.clone());
            // Once: the rest of its truth changes nothing of it.
            kept.canary = None;
        }
        self.changed.insert(truth.id.clone());
        self.changed_days.insert(key);
        Told { outcome: "joined", joined: new.len(), reason: None }
    }

    pub(super) fn writes(&self) -> Result<Vec<Write>> {
        let kept = self.changed.iter().filter_map(|id| self.predictions.get(id));
        let kept = kept.map(|found| Repository::write(&found.document, Expect::Version(found.version)));
        let days = self.changed_days.iter().filter_map(|key| self.days.get(key));
        let days = days.map(|(day, expect)| Repository::write(day, *expect));
        let losses = self.changed_losses.iter().filter_map(|key| self.losses.get(key));
        kept.chain(days).chain(losses.map(|(losses, expect)| Repository::write(losses, *expect))).collect()
    }
}

type NewValue<'a> = (&'a String, usize, f64);

/// The values that were not known yet, or why the truth is not taken.
fn new_values<'a>(kept: &Kept, truth: &'a Truth) -> std::result::Result<Vec<NewValue<'a>>, Told> {
    let mut new = Vec::new();
    for (output, values) in &truth.values {
        let shown = output.escape_debug();
        let Some(predicted) = kept.outputs.get(output) else {
            return Err(Told::not("refused", format!("the prediction has no output `{shown}`")));
        };
        if values.len() != predicted.len() {
            let reason = format!("`{shown}` has {} values, not {}", predicted.len(), values.len());
            return Err(Told::not("refused", reason));
        }
        for (at, value) in values.iter().enumerate() {
            let Some(value) = *value else { continue };
            if !value.is_finite() || value.abs() > VALUE_MAX {
                return Err(Told::not("refused", format!("`{shown}` has a value beyond 1e100")));
            }
            match kept.truth.get(output).and_then(|known| known[at]) {
                None => new.push((output, at, value)),
                Some(known) if known.to_bits() == value.to_bits() => {}
                Some(known) => {
                    let reason = format!("value {at} of `{shown}` is {known} already, and stands");
                    return Err(Told::not("conflict", reason));
                }
            }
        }
    }
    Ok(new)
}
