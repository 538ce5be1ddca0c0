//! How a model goes live with care, and how one notices that the world has left it: pure functions and plain state.
//!
//! - [`assignment`]: who is in which arm, the same on every replica and at every step.
//! - [`sequential`]: tests and intervals that hold at every look, however often one looks.
//! - [`canary`]: one step at a time, with gates, and back by itself. [`decision`]: where it goes; [`report`]: what is told.
//! - [`comparison`]: A against B on an outcome. [`shadow`]: how far two models' outputs are apart.
//! - [`drift`]: whether what comes in now is like what the model was trained on.
//!
//! It refuses clocks, randomness and I/O: a domain folds what it saw into these, and does what they say. What is called
//! order-insensitive is counted in whole numbers, so that any order of the same observations gives the same bytes.
//!
//! To add a gate: a variant of [`canary::Gate`], a tally in [`canary::Counts`].

pub mod assignment;
pub mod canary;
pub mod comparison;
pub mod decision;
pub mod drift;
pub mod report;
pub mod sequential;
pub mod shadow;
mod tally;

pub use tally::Tally;

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}")]
pub struct Invalid {
    /// Its name.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

pub(crate) fn require(holds: bool, field: &'static str, rule: &'static str) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { field, rule }) }
}
