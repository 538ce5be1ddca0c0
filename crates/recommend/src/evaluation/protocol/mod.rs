//! Protocols: how interactions become training, validation and test.
//!
//! Every protocol gives the same three things, and the types keep them apart. [`Training`] is what fitting, tuning and
//! blending may see. [`Test`] holds the final users and the interactions that the final fit may use. Nothing that takes
//! a [`Training`] can reach a [`Test`].
//!
//! Items that a user has in the history are never ranked for that user, so that a target that is also in the history
//! is no target. Users who are left with no target are not evaluated. [`Description::notes`] counts both.
//!
//! Refuses: rows that are not in time order (see [`Interactions`]), repeat consumption.
//! To add one more: a file with `Settings` and a `split` function, a variant of [`Protocol`], a row in the tests.

pub mod given;
mod holdout;
pub mod last_item_out;
pub mod lists;
mod sampling;
pub mod strong_generalisation;
pub mod temporal;

pub use holdout::Holdout;
pub(super) use sampling::{choose, generator, shuffle};

use super::EvaluationError;
use crate::algorithms::Interactions;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What fitting, tuning and blending may see.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    /// Interactions to fit on.
    pub interactions: Arc<Interactions>,
    /// Users to compare settings on.
    pub validation: Holdout,
    /// The same users, each several times with other targets, where targets are drawn at random.
    drawn_again: Option<Holdout>,
}

impl Training {
    /// What settings and blend are chosen on: the validation part, drawn several times where targets are drawn at random.
    pub fn choices(&self) -> &Holdout {
        self.drawn_again.as_ref().unwrap_or(&self.validation)
    }
}

/// What the final figures are measured on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    /// Interactions for the final fit, with the settings already chosen: those of [`Training`] and, where the protocol
    /// says so, the validation targets.
    pub interactions: Arc<Interactions>,
    /// Users to measure on.
    pub holdout: Holdout,
}

/// Training, test and what they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Split {
    /// For the caption of every table.
    pub description: Description,
    /// Before the settings are chosen.
    pub training: Training,
    /// After.
    pub test: Test,
}

/// What a reader must know about a split to compare figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// The protocol with its settings, as a phrase.
    pub protocol: String,
    /// The seed of the split; `None` where nothing is drawn.
    pub seed: Option<u64>,
    /// Users with at least one interaction, held out or not.
    pub users: usize,
    /// The whole catalogue, which is what is ranked.
    pub items: usize,
    /// Interactions before the split, after the protocol's own filters.
    pub interactions: usize,
    /// `interactions / (users * items)`.
    pub density: f64,
    /// Interactions that the final fit sees.
    pub training_interactions: usize,
    /// Users of the validation part.
    pub validation_users: usize,
    /// Users of the test part.
    pub test_users: usize,
    /// What was left out and why.
    pub notes: Vec<String>,
}

/// A protocol that splits one set of interactions. A split that is already given is [`given::split`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum Protocol {
    /// See [`last_item_out`].
    LastItemOut,
    /// See [`strong_generalisation`].
    StrongGeneralisation(strong_generalisation::Settings),
    /// See [`temporal`].
    Temporal(temporal::Settings),
}

impl Protocol {
    /// Splits the interactions.
    ///
    /// # Errors
    /// [`EvaluationError::Setting`] for settings out of range, [`EvaluationError::Data`] where nobody can be held out.
    pub fn split(&self, data: &Interactions) -> Result<Split, EvaluationError> {
        match self {
            Self::LastItemOut => last_item_out::split(data),
            Self::StrongGeneralisation(settings) => strong_generalisation::split(data, settings),
            Self::Temporal(settings) => temporal::split(data, settings),
        }
    }
}

/// The parts of a split before they are described.
struct Parts {
    protocol: String,
    seed: Option<u64>,
    /// Users and interactions before the split.
    users: usize,
    interactions: usize,
    fit: Arc<Interactions>,
    final_fit: Arc<Interactions>,
    validation: holdout::Builder,
    /// See [`Training::choices`].
    choices: Option<holdout::Builder>,
    test: holdout::Builder,
    notes: Vec<String>,
}

impl Parts {
    fn finish(self) -> Result<Split, EvaluationError> {
        let mut notes = self.notes;
        for (part, builder) in [("validation", &self.validation), ("test", &self.test)] {
            if builder.seen_targets > 0 {
                notes.push(format!(
                    "{} {part} targets are in the history and not counted",
                    builder.seen_targets
                ));
            }
            if builder.skipped_users > 0 {
                notes.push(format!(
                    "{} {part} users have no target and are not counted",
                    builder.skipped_users
                ));
            }
        }
        let (validation, test) = (self.validation.finish()?, self.test.finish()?);
        let drawn_again = self.choices.map(holdout::Builder::finish).transpose()?;
        for (part, holdout) in [("validation", &validation), ("test", &test)] {
            if holdout.is_empty() {
                return Err(EvaluationError::Data(format!("no user is left for the {part} part")));
            }
        }
        let items = self.final_fit.item_count();
        let cells = self.users as f64 * items as f64;
        let description = Description {
            protocol: self.protocol,
            seed: self.seed,
            users: self.users,
            items,
            interactions: self.interactions,
            density: if cells > 0.0 { self.interactions as f64 / cells } else { 0.0 },
            training_interactions: self.final_fit.len(),
            validation_users: validation.len(),
            test_users: test.len(),
            notes,
        };
        Ok(Split {
            description,
            training: Training { interactions: self.fit, validation, drawn_again },
            test: Test { interactions: self.final_fit, holdout: test },
        })
    }
}

/// The number of users with at least one interaction.
fn active_users(data: &Interactions) -> usize {
    data.rows().filter(|row| !row.is_empty()).count()
}

#[cfg(test)]
mod tests;
