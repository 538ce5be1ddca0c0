//! Where an import stands, so that another run goes on exactly there.

use kernel::{Error, Result};
use serde::{Deserialize, Serialize};

use super::{IMPORT_CHECKPOINT, Report};

/// Every row before it was handed out. Store it together with, or after, what was made of those rows: rows
/// that are read twice have the same [`super::Position`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The format, by name.
    pub format: String,
    /// The file, relative to what is imported. All files before it in the plan are done.
    pub file: String,
    /// Uncompressed bytes before the record.
    pub byte_offset: u64,
    /// Lines or rows before the record.
    pub line: u64,
    /// Rows of the record that are done, where a record holds several.
    pub rows_done: u32,
    /// How many bytes at the head of the file `head_crc32` covers.
    pub head_bytes: u32,
    /// Recognises the file: a checkpoint is refused for another one.
    pub head_crc32: u32,
    /// The counts so far.
    pub report: Report,
}

impl Checkpoint {
    /// Refuses a file whose head is not what it was; a file that has grown is the same file.
    pub(super) fn require_head(&self, head: &[u8]) -> Result<()> {
        let covered = head.get(..self.head_bytes as usize);
        if covered.is_some_and(|bytes| crc32fast::hash(bytes) == self.head_crc32) {
            return Ok(());
        }
        Err(refuse(format!("`{}` has changed since the checkpoint: start again without it", self.file)))
    }
}

pub(super) fn refuse(message: String) -> Error {
    Error::new(IMPORT_CHECKPOINT, message).with_field("checkpoint")
}
