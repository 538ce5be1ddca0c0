//! Runs over the files of a [`Plan`] and hands out one row after another.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use kernel::{Error, Result};

use super::checkpoint::{Checkpoint, refuse};
use super::classify::Content;
use super::delimited::Delimited;
use super::detect::{Plan, PlannedFile};
use super::gorse_dump::GorseDump;
use super::json_lines::{self, JsonLines};
use super::lightgcn::{self, LightGcn};
use super::text_file::{Decode, TextFile};
use super::{
    BadLine, Fault, IMPORT_LINE, ImportedRow, Mark, Parts, Position, Progress, Reader, Report, Row, Step,
    gorse, source,
};

/// How an import deals with lines that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// End at the first such line, with an error. Otherwise they are counted and passed over.
    pub strict: bool,
    /// How many of them the report keeps.
    pub bad_lines_kept: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { strict: false, bad_lines_kept: 20 }
    }
}

/// The file that is being read.
struct Current {
    index: usize,
    name: Arc<str>,
    head_bytes: u32,
    head_crc32: u32,
    reader: Box<dyn Reader>,
    /// The place before the record in `rows`.
    before: Mark,
    line: u64,
    /// Rows of the record that were handed out.
    rows_done: u32,
}

/// An import under way: an iterator over rows. After an error it ends.
pub struct Importer {
    plan: Plan,
    options: Options,
    report: Report,
    current: Option<Current>,
    rows: VecDeque<(u32, Row)>,
    buffer: Parts,
    /// Rows at the start of the next record that an earlier run has handed out.
    skip_rows: u32,
    finished_bytes: u64,
    ended: bool,
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Importer")
            .field("plan", &self.plan)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Importer {
    /// Starts at the first row.
    ///
    /// # Errors
    /// Where the first file cannot be opened, or the mapping does not fit it.
    pub fn start(plan: Plan, options: Options) -> Result<Self> {
        let mut importer = Self {
            plan,
            options,
            report: Report::default(),
            current: None,
            rows: VecDeque::new(),
            buffer: Parts::new(),
            skip_rows: 0,
            finished_bytes: 0,
            ended: false,
        };
        importer.open(0, Mark::default())?;
        Ok(importer)
    }

    /// Goes on after the last row that was handed out before `checkpoint` was taken.
    ///
    /// # Errors
    /// `IMPORT_CHECKPOINT` where the files are not those of the checkpoint.
    pub fn resume(plan: Plan, options: Options, checkpoint: Checkpoint) -> Result<Self> {
        if checkpoint.format != plan.format.name() {
            return Err(refuse(format!(
                "it is of {}, the files are {}",
                checkpoint.format,
                plan.format.name()
            )));
        }
        let Some(index) = plan.files.iter().position(|file| file.name == checkpoint.file) else {
            return Err(refuse(format!("it is of `{}`, which is not among the files", checkpoint.file)));
        };
        checkpoint.require_head(&source::read_head(&plan.files[index].path)?)?;
        let mut importer = Self::start(plan, options)?;
        importer.finished_bytes = importer.plan.files[..index].iter().map(|file| file.size_bytes).sum();
        importer.open(index, Mark { offset: checkpoint.byte_offset, line: checkpoint.line })?;
        importer.skip_rows = checkpoint.rows_done;
        importer.report = checkpoint.report;
        Ok(importer)
    }

    fn open(&mut self, index: usize, mark: Mark) -> Result<()> {
        let Some(file) = self.plan.files.get(index) else {
            self.ended = true;
            return Ok(());
        };
        let head = source::read_head(&file.path)?;
        self.current = Some(Current {
            index,
            name: Arc::from(file.name.as_str()),
            head_bytes: head.len() as u32,
            head_crc32: crc32fast::hash(&head),
            reader: open_reader(file, &self.plan, mark)?,
            before: mark,
            line: mark.line,
            rows_done: 0,
        });
        Ok(())
    }

    /// Where another run can go on. Everything handed out so far is before it.
    ///
    /// # Errors
    /// `IMPORT_CHECKPOINT` where there was no file to read.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let current = self.current.as_ref().ok_or_else(|| refuse("there was no file to read".to_owned()))?;
        let (mark, rows_done) = match self.rows.is_empty() {
            true => (current.reader.mark(), 0),
            false => (current.before, current.rows_done),
        };
        Ok(Checkpoint {
            format: self.plan.format.name().to_owned(),
            file: current.name.to_string(),
            byte_offset: mark.offset,
            line: mark.line,
            rows_done,
            head_bytes: current.head_bytes,
            head_crc32: current.head_crc32,
            report: self.report.clone(),
        })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let position = self.current.as_ref().map_or(0, |current| current.reader.position_bytes());
        let total_bytes = self.plan.files.iter().map(|file| file.size_bytes).sum();
        Progress { position_bytes: (self.finished_bytes + position).min(total_bytes), total_bytes }
    }

    /// What was read, and what could not be.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What is being read.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Reads one record into `rows`.
    fn read_record(&mut self) -> Result<()> {
        let Some(current) = &mut self.current else {
            self.ended = true;
            return Ok(());
        };
        current.before = current.reader.mark();
        current.rows_done = 0;
        self.buffer.clear();
        let (line, fault) = match current.reader.next_record(&mut self.buffer)? {
            Step::Record { line, fault } => (line, fault),
            Step::End if current.index + 1 < self.plan.files.len() => {
                let index = current.index;
                self.finished_bytes += self.plan.files[index].size_bytes;
                return self.open(index + 1, Mark::default());
            }
            // The reader of the last file stays, so that a checkpoint says where it ended.
            Step::End => {
                self.ended = true;
                return Ok(());
            }
        };
        current.line = line;
        // An earlier run that handed out a part of this record has reported its fault.
        let skipped = std::mem::take(&mut self.skip_rows);
        current.rows_done = skipped;
        self.rows.extend(self.buffer.drain(..).skip(skipped as usize));
        match fault {
            Some(fault) if skipped == 0 => self.note(fault),
            _ => Ok(()),
        }
    }

    fn note(&mut self, fault: Fault) -> Result<()> {
        let (file, line) = self
            .current
            .as_ref()
            .map_or_else(Default::default, |current| (current.name.to_string(), current.line));
        let column = Some(fault.column).filter(|column| !column.is_empty());
        let bad = BadLine { file, line, column, reason: fault.reason };
        if self.options.strict {
            return Err(Error::new(IMPORT_LINE, bad.to_string()));
        }
        self.report.bad_lines += 1;
        if self.report.first_bad_lines.len() < self.options.bad_lines_kept {
            self.report.first_bad_lines.push(bad);
        }
        Ok(())
    }
}

impl Iterator for Importer {
    type Item = Result<ImportedRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let (Some((part, row)), Some(current)) = (self.rows.pop_front(), &mut self.current) {
                current.rows_done += 1;
                match &row {
                    Row::Entity { .. } => self.report.entities += 1,
                    Row::User { .. } => self.report.users += 1,
                    Row::Interaction { .. } => self.report.interactions += 1,
                }
                let position = Position { file: Arc::clone(&current.name), line: current.line, part };
                return Some(Ok(ImportedRow { row, position }));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.read_record() {
                self.ended = true;
                self.rows.clear();
                return Some(Err(error));
            }
        }
    }
}

fn open_reader(file: &PlannedFile, plan: &Plan, mark: Mark) -> Result<Box<dyn Reader>> {
    let path: &Path = &file.path;
    let defaults = plan.defaults.clone();
    let (dialect, decode): (_, Box<dyn Decode>) = match file.content {
        Content::MovieLens(kind) => (kind.dialect(), kind.decode(defaults)?),
        Content::LightGcn { is_test } => (lightgcn::DIALECT, Box::new(LightGcn::new(is_test, defaults)?)),
        Content::Gorse(dialect) if dialect.header => (dialect, Box::new(gorse::Csv::new(defaults))),
        Content::Gorse(dialect) => (dialect, Box::new(gorse::Json::new(defaults))),
        Content::Delimited(dialect) if dialect.header => {
            (dialect, Box::new(Delimited::with_header(plan.mapping.clone(), defaults)))
        }
        Content::Delimited(dialect) => {
            (dialect, Box::new(Delimited::without_header(plan.mapping.clone(), defaults)?))
        }
        Content::Sequences => (lightgcn::DIALECT, Box::new(Delimited::sequences(defaults)?)),
        Content::Ndjson => (json_lines::DIALECT, Box::new(JsonLines::new(plan.mapping.clone(), defaults)?)),
        Content::GorseDump => return Ok(Box::new(GorseDump::open(path, defaults, mark)?)),
        Content::Parquet => return open_parquet(path, plan, mark),
    };
    Ok(Box::new(TextFile::open(path, dialect, decode, mark)?))
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path, plan: &Plan, mark: Mark) -> Result<Box<dyn Reader>> {
    let rows =
        super::parquet_rows::ParquetRows::open(path, plan.mapping.clone(), plan.defaults.clone(), mark)?;
    Ok(Box::new(rows))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(path: &Path, _plan: &Plan, _mark: Mark) -> Result<Box<dyn Reader>> {
    Err(super::detect::fault(format!("`{}` is Parquet, which this build was made without", path.display())))
}
