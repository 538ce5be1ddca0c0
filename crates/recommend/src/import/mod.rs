//! Readers that turn foreign files into a stream of typed [`Row`]s, in constant memory, with a stable name
//! for each row, so that importing twice is the same as importing once. (The names alone take memory: see
//! [`Options::row_ids`].)
//!
//! ```text
//! Plan::detect(path, &request)  ->  Importer::start(plan, options)  ->  Iterator<Item = Result<ImportedRow>>
//! ```
//!
//! It knows the file system, and neither the store nor HTTP. It refuses: guessing silently (where the format
//! or a column is unclear the error says what to pass), reading a line of more than 1 MiB into memory, and
//! values that are not what their column says. A line that cannot be read is reported with file, line, column
//! and reason, and the next one is read; with [`Options::strict`] the first such line ends the import.
//!
//! To add one more format: a variant of [`Format`] with its name, its recognition in `detect`, and a `Decode`
//! for it when it is made of lines (see `lightgcn`), or a `Reader` when it is not (see `gorse_dump`). Then a
//! file of it in `tests/corpus/import/`, which every reader is run over, and one in `fuzz/corpus/import/`.

mod assemble;
mod cells;
mod checkpoint;
mod classify;
mod delimited;
mod detect;
mod fields;
mod gorse;
mod gorse_dump;
mod guess;
mod importer;
mod json_lines;
mod lightgcn;
mod mapping;
mod movielens;
#[cfg(feature = "parquet")]
mod parquet_rows;
mod protobuf;
mod records;
mod report;
mod row_ids;
mod source;
#[cfg(test)]
mod tests;
mod text_file;
mod times;

use std::fmt;
use std::sync::Arc;

use kernel::{Error, ErrorCode, ErrorKind, Id, Timestamp};

use crate::attributes::Attributes;

pub use checkpoint::{Checkpoint, FileMark};
pub use detect::{Format, IgnoredFile, Plan, Request};
pub use importer::{Importer, Options, Resumed};
pub use mapping::Mapping;
pub use records::MAX_RECORD_BYTES;
pub use report::{BadLine, Progress, Report};
pub use times::TimeUnit;

/// The format of a file or folder is not clear, or is not supported by this build.
pub const IMPORT_FORMAT: ErrorCode = ErrorCode {
    name: "IMPORT_FORMAT",
    kind: ErrorKind::Invalid,
    title: "The format of the import is not clear",
};
/// The column mapping does not fit the file.
pub const IMPORT_MAPPING: ErrorCode = ErrorCode {
    name: "IMPORT_MAPPING",
    kind: ErrorKind::Invalid,
    title: "The column mapping does not fit the file",
};
/// A line could not be read, and the import is strict.
pub const IMPORT_LINE: ErrorCode = ErrorCode {
    name: "IMPORT_LINE",
    kind: ErrorKind::Invalid,
    title: "A line of the import is not acceptable",
};
/// A file cannot be opened or read.
pub const IMPORT_SOURCE: ErrorCode = ErrorCode {
    name: "IMPORT_SOURCE",
    kind: ErrorKind::Unavailable,
    title: "A file of the import cannot be read",
};
/// The checkpoint does not belong to these files.
pub const IMPORT_CHECKPOINT: ErrorCode = ErrorCode {
    name: "IMPORT_CHECKPOINT",
    kind: ErrorKind::Conflict,
    title: "The checkpoint does not belong to these files",
};

/// Every code of the importers.
pub const ALL_CODES: &[ErrorCode] =
    &[IMPORT_FORMAT, IMPORT_MAPPING, IMPORT_LINE, IMPORT_SOURCE, IMPORT_CHECKPOINT];

/// One fact of a foreign file. The attributes of an entity or user are to be merged into what is known of it
/// by name, as several files may speak of the same one (MovieLens titles and links).
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Something that can be recommended.
    Entity {
        /// Its name.
        entity_id: Id,
        /// Its type, such as `movie`.
        entity_type: Id,
        /// What is known of it; within the limits of [`crate::attributes`].
        attributes: Attributes,
        /// Never recommended while true.
        hidden: bool,
        /// Not recommended before.
        available_from: Option<Timestamp>,
    },
    /// Someone to whom it can be recommended.
    User {
        /// Their name.
        user_id: Id,
        /// What is known of them.
        attributes: Attributes,
    },
    /// Something that a user did with an entity.
    Interaction {
        /// Who.
        user_id: Id,
        /// With what.
        entity_id: Id,
        /// The type of the entity.
        entity_type: Id,
        /// What they did, such as `view`.
        interaction_type: Id,
        /// The rating or strength; finite.
        value: Option<f64>,
        /// When; absent where the file does not say.
        timestamp: Option<Timestamp>,
        /// Anything else that was mapped.
        metadata: Attributes,
    },
}

impl Row {
    /// An entity that may be recommended at once.
    #[must_use]
    pub fn described(entity_id: Id, entity_type: Id, attributes: Attributes) -> Self {
        Self::Entity { entity_id, entity_type, attributes, hidden: false, available_from: None }
    }
}

/// Where a row stands, for people: its text form is such as `ratings.csv:731204` or `train.txt:12#3`. It is no
/// name of the row, as lines may come and go before it: that is [`ImportedRow::id`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The file, relative to what was imported, with `/` between folders.
    pub file: Arc<str>,
    /// The line, or the row in a file without lines; from 1.
    pub line: u64,
    /// The place within a line that holds several rows; from 1. 0 where a line is one row.
    pub part: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file, self.line)?;
        if self.part > 0 {
            write!(formatter, "#{}", self.part)?;
        }
        Ok(())
    }
}

/// A row and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedRow {
    /// The fact.
    pub row: Row,
    /// Where it stands.
    pub position: Position,
    /// Its name, where [`Options::row_ids`] asks for it: made of the file and of what the row says, so the same in
    /// every run, on every machine, and wherever the row stands in the file. Use it, with a name for the data set,
    /// as the id of the event made from the row.
    pub id: Option<String>,
}

/// Why one line, or one part of it, is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    column: String,
    reason: String,
}

impl Fault {
    fn new(column: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { column: column.into(), reason: reason.into() }
    }

    /// A fault of the whole line.
    fn line(reason: impl Into<String>) -> Self {
        Self::new("", reason)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::new(error.field().unwrap_or_default(), error.message())
    }
}

/// The rows of one record, each with its part (see [`Position::part`]).
type Parts = Vec<(u32, Row)>;

/// What a reader found.
enum Step {
    /// Nothing more.
    End,
    /// A record: its rows are in the buffer; there may be a fault as well.
    Record {
        /// The line or row number.
        line: u64,
        /// What was wrong with it or with a part of it.
        fault: Option<Fault>,
    },
}

/// The place between two records, to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mark {
    /// Uncompressed bytes before it; those of the whole file where rows are not in the order of bytes.
    offset: u64,
    /// Lines or rows before it.
    line: u64,
    /// CRC-32 of those bytes.
    crc32: u32,
}

/// Reads one file record by record.
trait Reader: Send {
    /// Reads the next record and adds its rows to `rows`.
    fn next_record(&mut self, rows: &mut Parts) -> kernel::Result<Step>;

    /// The place after the last record that was read.
    fn mark(&self) -> Mark;

    /// Bytes of the file read so far, compressed where it is compressed.
    fn position_bytes(&self) -> u64;
}
