//! Why there is no forecast.

use thiserror::Error;

/// So many characters of a field are shown.
const SHOWN: usize = 40;

/// What a number lacks that is none of a finite size.
fn finite(text: &str) -> &'static str {
    if text.parse::<f64>().is_ok() { "finite " } else { "" }
}

impl ForecastFault {
    /// The line of a text where a record begins. The reader tells where the one before ended, and skips empty lines.
    pub(super) fn line(text: &str, record: Option<&csv::Position>) -> usize {
        let ended = record.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(0);
        let rest = text.get(ended..).unwrap_or_default();
        let begun = text.len() - rest.trim_start_matches(['\n', '\r']).len();
        text[..begun].matches('\n').count() + 1
    }

    /// Of a record that cannot be read.
    pub(super) fn unread(text: &str, cause: &csv::Error) -> Self {
        let message = match cause.kind() {
            csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                let line = Self::line(text, pos.as_ref());
                format!("line {line}: there are {len} fields, and {expected_len} in the head")
            }
            _ => cause.to_string(),
        };
        Self::Format(message)
    }

    /// Reads a field of a file.
    ///
    /// # Errors
    /// [`ForecastFault::NotFinite`].
    pub(super) fn number(text: &str, line: impl Fn() -> usize, column: &str) -> Result<f64, Self> {
        text.parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(|| Self::NotFinite {
            line: line(),
            column: column.to_owned(),
            text: text.escape_debug().take(SHOWN).collect(),
        })
    }
}

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
    #[error("line {line}: `{text}` in {column} is not a {}number; leave a field empty where there is no value", finite(.text))]
    NotFinite {
        /// Of the file, from 1.
        line: usize,
        /// The column's name.
        column: String,
        /// What stands there, as far as it is short.
        text: String,
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
