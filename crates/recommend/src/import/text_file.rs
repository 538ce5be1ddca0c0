//! Reads a file made of lines: cuts it into records, checks the text, splits it, and hands it to a
//! [`Decode`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Error, Result};

use super::fields::{Fields, Separator, Splitter, text_of};
use super::records::{Cut, Found, MAX_RECORD_BYTES, Records};
use super::source::{self, Source};
use super::{Fault, IMPORT_FORMAT, Mark, Parts, Reader, Step};

/// How the lines of a file are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) separator: Separator,
    /// Whether `"` has the meaning that RFC 4180 gives it; needs a separator of one byte.
    pub(super) quotes: bool,
    /// Whether the first line names the columns.
    pub(super) header: bool,
    /// Whether bytes that are not UTF-8 are Latin-1.
    pub(super) latin1: bool,
}

/// Turns the fields of one record into rows.
pub(super) trait Decode: Send {
    /// Takes the names of the columns; called once, where the dialect has a header.
    fn header(&mut self, _columns: &[&str]) -> Result<()> {
        Ok(())
    }

    /// Adds the rows of a record; may add some and still report a fault.
    fn record(&mut self, fields: &Fields<'_>, line: u64, rows: &mut Parts) -> Result<(), Fault>;
}

pub(super) struct TextFile {
    path: PathBuf,
    dialect: Dialect,
    decode: Box<dyn Decode>,
    records: Records,
    read_bytes: Arc<AtomicU64>,
    splitter: Splitter,
    /// The number of columns, where a header says it.
    columns: Option<usize>,
    reported_empty: bool,
}

impl TextFile {
    /// Opens `path` and reads the header, if there is one.
    pub(super) fn open(path: &Path, dialect: Dialect, decode: Box<dyn Decode>) -> Result<Self> {
        let Source { input, read_bytes } = Source::open(path)?;
        let quoting = match dialect.separator {
            Separator::Byte(byte) if dialect.quotes => Some(byte),
            _ => None,
        };
        let mut file = Self {
            path: path.to_owned(),
            dialect,
            decode,
            records: Records::new(input, quoting),
            read_bytes,
            splitter: Splitter::default(),
            columns: None,
            reported_empty: false,
        };
        if dialect.header {
            file.read_header()?;
        }
        Ok(file)
    }

    fn read_header(&mut self) -> Result<()> {
        let Self { dialect, decode, records, splitter, .. } = self;
        let refuse = |reason: &str| {
            Error::new(
                IMPORT_FORMAT,
                format!("the header of `{}` cannot be read: {reason}", self.path.display()),
            )
        };
        let found = match records.peek().map_err(|cause| source::fault(&self.path, &cause))? {
            Cut::End => return Ok(()),
            Cut::Record(found) => found,
            Cut::TooLong => return Err(refuse("it is longer than 1 MiB")),
            Cut::Quote(reason) => return Err(refuse(reason)),
        };
        let text = text_of(records.bytes(&found), dialect.latin1).map_err(|fault| refuse(&fault.reason))?;
        let fields = splitter.split(&text, dialect.separator, found.quoted);
        let columns: Vec<&str> = fields.iter().map(str::trim).collect();
        decode.header(&columns)?;
        self.columns = Some(columns.len());
        drop(text);
        self.records.pass(&found);
        Ok(())
    }

    fn step(&mut self, found: &Found, line: u64, rows: &mut Parts) -> Result<Step> {
        let Self { dialect, decode, records, splitter, columns, .. } = self;
        let mut ragged = false;
        let read = text_of(records.bytes(found), dialect.latin1).and_then(|text| {
            let fields = splitter.split(&text, dialect.separator, found.quoted);
            match *columns {
                Some(columns) if fields.len() != columns => {
                    ragged = true;
                    Err(Fault::line(format!("it has {} fields, the header has {columns}", fields.len())))
                }
                _ => decode.record(&fields, line, rows),
            }
        });
        // A record of several lines with a wrong number of fields is most likely a stray quote that swallowed
        // good lines: only the first is passed by.
        if ragged && found.lines() > 1 {
            self.records.pass_line().map_err(|cause| source::fault(&self.path, &cause))?;
        } else {
            self.records.pass(found);
        }
        Ok(Step::Record { line, fault: read.err() })
    }
}

impl Reader for TextFile {
    fn next_record(&mut self, rows: &mut Parts) -> Result<Step> {
        loop {
            let line = self.records.line() + 1;
            let cut = self.records.peek().map_err(|cause| source::fault(&self.path, &cause))?;
            let reason = match cut {
                Cut::End if self.records.offset() == 0 && !self.reported_empty => {
                    self.reported_empty = true;
                    "the file is empty".to_owned()
                }
                Cut::End => return Ok(Step::End),
                Cut::TooLong => format!("the line is longer than {MAX_RECORD_BYTES} bytes"),
                Cut::Quote(reason) => {
                    self.records.pass_line().map_err(|cause| source::fault(&self.path, &cause))?;
                    reason.to_owned()
                }
                Cut::Record(found) if self.records.bytes(&found).trim_ascii().is_empty() => {
                    self.records.pass(&found);
                    continue;
                }
                Cut::Record(found) => return self.step(&found, line, rows),
            };
            return Ok(Step::Record { line, fault: Some(Fault::line(reason)) });
        }
    }

    fn mark(&self) -> Mark {
        self.records.mark()
    }

    fn position_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}
