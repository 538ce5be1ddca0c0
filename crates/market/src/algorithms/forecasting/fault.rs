//! Why there is no forecast.

use thiserror::Error;

/// Why there is no forecast. Each says what to mend.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ForecastFault {
    /// Too little history for what is asked.
    #[error(
        "{needed} rows of history are needed, {found} are there; give more history or a shorter lookback"
    )]
    TooShort {
        /// Rows that the settings need.
        needed: usize,
        /// Rows that there are.
        found: usize,
    },
    /// Too few days for what is asked.
    #[error(
        "{needed} days of 24 hours are needed, {found} are there; give more history, or use shorter windows"
    )]
    TooFewDays {
        /// Days that the settings need.
        needed: usize,
        /// Days that there are.
        found: usize,
    },
    /// A value that is not a number.
    #[error("row {row} of {column} is not a finite number; leave a field empty where there is no value")]
    NotFinite {
        /// From 0.
        row: usize,
        /// The column's name.
        column: String,
    },
    /// A file that is not such a table.
    #[error("{0}")]
    Format(String),
    /// A setting out of its bounds.
    #[error("{name} must be {bounds}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it may be.
        bounds: &'static str,
    },
    /// Columns that differ from those of the training.
    #[error("the data have the columns {found}, the model was trained on {expected}")]
    Columns {
        /// Of the model.
        expected: String,
        /// Of the data.
        found: String,
    },
    /// Equations without a stable solution.
    #[error("the equations have no stable solution; use a larger alpha")]
    Singular,
    /// A series that no model smooths.
    #[error("the history cannot be smoothed: {0}; use another model type, or give more of it")]
    Smoothing(String),
    /// A model file that is not what was written.
    #[error("the model file is damaged or of another format: {0}")]
    Artifact(String),
    /// A chart that cannot be drawn.
    #[error("the chart cannot be drawn: {0}")]
    Chart(String),
}
