//! Where an import stands, so that another run reads what is new or was changed, and nothing else.
//!
//! A file is recognised by its name and by all of the content that was read of it, never by a part of it. Refuses:
//! a checkpoint of another format or mapping, as the rows would be others.

use kernel::{Error, Result};
use serde::{Deserialize, Serialize};

use super::source::{Since, compare};
use super::{BadLine, IMPORT_CHECKPOINT, Mark, Plan, Report};

/// Every row before it was handed out. Store it together with, or after, what was made of those rows: a row that
/// is read twice has the same [`super::ImportedRow::id`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The format, by name.
    pub format: String,
    /// The mapping, in a form that is only compared.
    pub mapping: Option<String>,
    /// Each file that was begun, in the order of reading.
    pub files: Vec<FileMark>,
}

/// How far the reading of one file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileMark {
    /// The file, relative to what is imported.
    pub file: String,
    /// Whether it was read to its end.
    pub finished: bool,
    /// Uncompressed bytes before the next record.
    pub byte_offset: u64,
    /// Lines or rows before the next record.
    pub line: u64,
    /// CRC-32 of the bytes before the next record.
    pub crc32: u32,
    /// Rows of the next record that are done, where a record holds several.
    pub rows_done: u32,
    /// What was read of it, and what could not be.
    pub report: Report,
}

impl Checkpoint {
    /// What is the same in every checkpoint of a plan.
    pub(super) fn of(plan: &Plan, files: Vec<FileMark>) -> Self {
        let mapping = plan.mapping.as_ref().map(|mapping| format!("{mapping:?}"));
        Self { format: plan.format.name().to_owned(), mapping, files }
    }

    /// Whether it is of these files: each that it has begun is as it was as far as it was read, and one is there at
    /// least. Files that came or went since do not count.
    ///
    /// # Errors
    /// `IMPORT_SOURCE` for a file that cannot be read.
    pub fn is_of(&self, plan: &Plan) -> Result<bool> {
        let mut is_any = false;
        for file in &plan.files {
            let Some(mark) = self.files.iter().find(|mark| mark.file == file.name) else { continue };
            is_any = true;
            if compare(&file.path, mark.byte_offset, mark.crc32)? == Since::Changed {
                return Ok(false);
            }
        }
        Ok(is_any)
    }

    /// Refuses a plan that would read other rows from the same files.
    pub(super) fn require(&self, plan: &Plan) -> Result<()> {
        let Self { format, mapping, .. } = Self::of(plan, Vec::new());
        if self.format != format {
            return Err(refuse(format!("it is of {}, the files are {format}", self.format)));
        }
        if self.mapping != mapping {
            return Err(refuse("it is of another mapping of the columns"));
        }
        Ok(())
    }
}

impl FileMark {
    pub(super) fn mark(&self) -> Mark {
        Mark { offset: self.byte_offset, line: self.line, crc32: self.crc32 }
    }
}

/// The sum over files, with the first `kept` lines that could not be read.
pub(super) fn total<'a>(reports: impl Iterator<Item = &'a Report>, kept: usize) -> Report {
    let mut total = Report::default();
    for report in reports {
        total.entities += report.entities;
        total.users += report.users;
        total.interactions += report.interactions;
        total.bad_lines += report.bad_lines;
        let room = kept.saturating_sub(total.first_bad_lines.len());
        total.first_bad_lines.extend(report.first_bad_lines.iter().take(room).map(BadLine::clone));
    }
    total
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(IMPORT_CHECKPOINT, message).with_field("checkpoint")
}
