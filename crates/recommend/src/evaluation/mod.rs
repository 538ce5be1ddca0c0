//! Offline evaluation: how well an algorithm ranks what it has not seen.
//!
//! The order of work: a protocol splits interactions into [`Training`] and [`Test`]; [`tuning`] and the blend see only
//! the first; [`ranking::evaluate`] ranks the whole catalogue for each held-out user; [`bootstrap`] says how sure the
//! means are; [`report`] writes the table. Everything random is seeded: the same input gives the same bytes.
//!
//! Refuses: sampled negatives that are not labelled so, a table without popularity, settings chosen on the test part,
//! reading a clock. Durations come from the [`kernel::Clock`] that is passed in.
//!
//! To add a measure: a variant of [`metrics::Kind`], its name and its formula in [`metrics`]. To add a protocol: a file
//! in `protocol/` that returns a [`Split`].

pub mod bootstrap;
pub mod exposure;
pub mod metrics;
pub mod protocol;
pub mod ranking;
pub mod report;
pub mod tuning;

pub use protocol::{Holdout, Split, Test, Training};

use crate::algorithms::AlgorithmError;
use thiserror::Error;

/// Why an evaluation cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvaluationError {
    /// The data does not fit the protocol: the message says what is missing.
    #[error("the data does not fit the protocol: {0}")]
    Data(String),
    /// A setting is out of its range: change it.
    #[error("setting `{name}` is out of range: {reason}")]
    Setting {
        /// The field of the settings struct.
        name: &'static str,
        /// What is accepted.
        reason: &'static str,
    },
    /// A name or settings that cannot be read; the message names it.
    #[error("cannot read {0}")]
    Unreadable(String),
    /// A model could not be fitted.
    #[error(transparent)]
    Algorithm(#[from] AlgorithmError),
    /// The chart could not be drawn.
    #[error("cannot draw the chart: {0}")]
    Chart(String),
}

/// Checks one setting; `Err` names it.
fn require(holds: bool, name: &'static str, reason: &'static str) -> Result<(), EvaluationError> {
    if holds { Ok(()) } else { Err(EvaluationError::Setting { name, reason }) }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod trec_eval;
