//! What an import has done: progress for a bar, counts, and the first lines that could not be read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far an import is, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes read of all files, compressed where they are compressed.
    pub position_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

/// A line that could not be read: `ratings.csv:731204: rating: ...`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    /// The file, relative to what was imported.
    pub file: String,
    /// The line or row, from 1.
    pub line: u64,
    /// The column, where it is about one.
    pub column: Option<String>,
    /// What is wrong and what is expected.
    pub reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: ", self.file, self.line)?;
        if let Some(column) = &self.column {
            write!(formatter, "{column}: ")?;
        }
        formatter.write_str(&self.reason)
    }
}

/// Counts of an import, over all runs that one checkpoint joins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Rows about entities.
    pub entities: u64,
    /// Rows about users.
    pub users: u64,
    /// Interactions.
    pub interactions: u64,
    /// Lines that could not be read, wholly or in part.
    pub bad_lines: u64,
    /// The first of them.
    pub first_bad_lines: Vec<BadLine>,
}

impl Report {
    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.entities + self.users + self.interactions
    }
}
