//! The errors of training. Scoring has none: a trained model answers every history.
//!
//! Refuses: one variant per cause. There are as many kinds as there are things the caller can do.

use thiserror::Error;

/// Why a model cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AlgorithmError {
    /// The data is malformed: repair the named field and try again.
    #[error("interactions are malformed: {0}")]
    Interactions(String),
    /// A setting is out of its range: change it.
    #[error("setting `{name}` is out of range: {reason}")]
    Setting {
        /// The field of the settings struct.
        name: &'static str,
        /// What is accepted.
        reason: &'static str,
    },
    /// The model would not fit: use fewer items, a sparse variant, or a larger limit.
    #[error("training needs {needed_bytes} bytes and the limit is {limit_bytes}: {advice}")]
    TooLarge {
        /// Memory that training needs at its peak.
        needed_bytes: usize,
        /// The limit that was set.
        limit_bytes: usize,
        /// What to use instead.
        advice: &'static str,
    },
    /// Nobody waits for it any more: there is nothing to do.
    #[error("it was stopped")]
    Stopped,
    /// The equations have no stable solution: raise the named regularisation.
    #[error("the equations are not positive definite: raise `{0}`")]
    Singular(&'static str),
}

/// Checks one setting; `Err` names it.
pub(crate) fn require(holds: bool, name: &'static str, reason: &'static str) -> Result<(), AlgorithmError> {
    if holds { Ok(()) } else { Err(AlgorithmError::Setting { name, reason }) }
}
