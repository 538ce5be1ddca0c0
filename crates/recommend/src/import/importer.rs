//! Runs over the files of a [`Plan`] and hands out one row after another.
//!
//! Where an earlier run left a [`Checkpoint`], a file that is as it was is passed over, one that has grown is gone on
//! with, and any other is read from its start. To go on, a file is read again up to where it stood, without handing
//! anything out: so it is certain that the content is the same and that a record begins there, and rows that say the
//! same are counted (see [`Options::row_ids`]).

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use kernel::{Error, Result};

use super::checkpoint::{Checkpoint, FileMark, total};
use super::classify::Content;
use super::delimited::Delimited;
use super::detect::{Plan, PlannedFile};
use super::gorse_dump::GorseDump;
use super::json_lines::{self, JsonLines};
use super::lightgcn::{self, LightGcn};
use super::row_ids::RowIds;
use super::source::{Since, compare};
use super::text_file::{Decode, TextFile};
use super::{
    BadLine, Fault, IMPORT_LINE, ImportedRow, Mark, Parts, Position, Progress, Reader, Report, Row, Step,
    gorse,
};

/// How an import deals with lines that cannot be read, and what it gives with the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// End at the first such line, with an error. Otherwise they are counted and passed over.
    pub strict: bool,
    /// How many of them the report keeps.
    pub bad_lines_kept: usize,
    /// Whether rows get an [`ImportedRow::id`]. It takes 10 to 20 bytes of memory for each row of the file
    /// that is being read.
    pub row_ids: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { strict: false, bad_lines_kept: 20, row_ids: false }
    }
}

/// What became of a file that an earlier run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// It is gone on with after this line.
    GoesOn {
        /// The file.
        file: String,
        /// The last line or row that was read before.
        line: u64,
    },
    /// It is not what it was, and is read from its start.
    Changed {
        /// The file.
        file: String,
    },
}

/// The file that is being read.
struct Current {
    index: usize,
    name: Arc<str>,
    reader: Box<dyn Reader>,
    ids: Option<RowIds>,
    /// The place before the record in `rows`.
    before: Mark,
    line: u64,
    /// Rows of the record that were handed out.
    rows_done: u32,
    report: Report,
}

impl Current {
    fn mark(&self, mark: Mark, rows_done: u32, finished: bool) -> FileMark {
        FileMark {
            file: self.name.to_string(),
            finished,
            byte_offset: mark.offset,
            line: mark.line,
            crc32: mark.crc32,
            rows_done,
            report: self.report.clone(),
        }
    }

    /// Reads up to `mark`; false where the file does not come by there.
    fn walk(&mut self, mark: Mark) -> Result<bool> {
        let mut rows = Parts::new();
        loop {
            let at = self.reader.mark();
            if at == mark {
                return Ok(true);
            }
            if at.offset > mark.offset || at.line > mark.line {
                return Ok(false);
            }
            if let Step::End = self.reader.next_record(&mut rows)? {
                return Ok(self.reader.mark() == mark);
            }
            for (_, row) in rows.drain(..) {
                self.id_of(&row);
            }
        }
    }

    fn id_of(&mut self, row: &Row) -> Option<String> {
        self.ids.as_mut().map(|ids| ids.next(row))
    }
}

/// An import under way: an iterator over rows. After an error it ends.
pub struct Importer {
    plan: Plan,
    options: Options,
    /// What earlier runs left of files that were not reached yet, or are not there any more.
    earlier: Vec<FileMark>,
    finished: Vec<FileMark>,
    resumed: Vec<Resumed>,
    current: Option<Current>,
    rows: VecDeque<(u32, Row)>,
    buffer: Parts,
    /// Rows at the start of the next record that an earlier run has handed out.
    skip_rows: u32,
    rows_read: u64,
    finished_bytes: u64,
    ended: bool,
}

impl std::fmt::Debug for Importer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Importer")
            .field("plan", &self.plan)
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}

impl Importer {
    /// Starts at the first row.
    ///
    /// # Errors
    /// Where the first file cannot be opened, or the mapping does not fit it.
    pub fn start(plan: Plan, options: Options) -> Result<Self> {
        Self::begin(plan, options, Vec::new())
    }

    /// Goes on after the last row that was handed out before `checkpoint` was taken, and reads what is new or was
    /// changed since.
    ///
    /// # Errors
    /// `IMPORT_CHECKPOINT` where it is of another format or mapping, and as [`Importer::start`].
    pub fn resume(plan: Plan, options: Options, checkpoint: Checkpoint) -> Result<Self> {
        checkpoint.require(&plan)?;
        Self::begin(plan, options, checkpoint.files)
    }

    fn begin(plan: Plan, options: Options, earlier: Vec<FileMark>) -> Result<Self> {
        let mut importer = Self {
            plan,
            options,
            earlier,
            finished: Vec::new(),
            resumed: Vec::new(),
            current: None,
            rows: VecDeque::new(),
            buffer: Parts::new(),
            skip_rows: 0,
            rows_read: 0,
            finished_bytes: 0,
            ended: false,
        };
        importer.open(0)?;
        Ok(importer)
    }

    /// Opens the first file from `index` on of which there is something to read.
    fn open(&mut self, mut index: usize) -> Result<()> {
        while let Some(file) = self.plan.files.get(index) {
            let earlier = self.earlier.iter().position(|mark| mark.file == file.name);
            let Some(mark) = earlier.map(|at| self.earlier.remove(at)) else {
                self.current = Some(self.opened(index)?);
                return Ok(());
            };
            let since = match mark.finished {
                true => compare(&file.path, mark.byte_offset, mark.crc32)?,
                false => Since::Grown,
            };
            if since != Since::Same {
                return self.go_on(index, mark, since);
            }
            self.finished_bytes += file.size_bytes;
            self.finished.push(mark);
            index += 1;
        }
        self.ended = true;
        Ok(())
    }

    fn go_on(&mut self, index: usize, mark: FileMark, since: Since) -> Result<()> {
        if since == Since::Grown {
            let mut current = self.opened(index)?;
            if current.walk(mark.mark())? {
                current.line = mark.line;
                current.report = mark.report;
                self.current = Some(current);
                self.skip_rows = mark.rows_done;
                self.resumed.push(Resumed::GoesOn { file: mark.file, line: mark.line });
                return Ok(());
            }
        }
        self.current = Some(self.opened(index)?);
        self.resumed.push(Resumed::Changed { file: mark.file });
        Ok(())
    }

    fn opened(&self, index: usize) -> Result<Current> {
        let file = &self.plan.files[index];
        let ids = self.options.row_ids.then(|| RowIds::new(&file.name, self.plan.times_are_lines(file)));
        Ok(Current {
            index,
            name: Arc::from(file.name.as_str()),
            reader: open_reader(file, &self.plan)?,
            ids,
            before: Mark::default(),
            line: 0,
            rows_done: 0,
            report: Report::default(),
        })
    }

    /// Where another run can go on. Everything handed out so far is before it.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let current = self.current.as_ref().map(|current| match self.rows.is_empty() {
            true => current.mark(current.reader.mark(), self.skip_rows, false),
            false => current.mark(current.before, current.rows_done, false),
        });
        let files = self.finished.iter().cloned().chain(current).chain(self.earlier.iter().cloned());
        Checkpoint::of(&self.plan, files.collect())
    }

    /// What became of files that an earlier run began, each told once.
    pub fn take_resumed(&mut self) -> Vec<Resumed> {
        std::mem::take(&mut self.resumed)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let position = self.current.as_ref().map_or(0, |current| current.reader.position_bytes());
        let total_bytes = self.plan.files.iter().map(|file| file.size_bytes).sum();
        Progress { position_bytes: (self.finished_bytes + position).min(total_bytes), total_bytes }
    }

    /// What was read of the files so far, by this run and by those before it, and what could not be.
    #[must_use]
    pub fn report(&self) -> Report {
        let current = self.current.iter().map(|current| &current.report);
        total(self.finished.iter().map(|mark| &mark.report).chain(current), self.options.bad_lines_kept)
    }

    /// Rows that were handed out.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.rows_read
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
            Step::End => {
                let index = current.index;
                self.finished.push(current.mark(current.reader.mark(), 0, true));
                self.finished_bytes += self.plan.files[index].size_bytes;
                self.current = None;
                return self.open(index + 1);
            }
        };
        current.line = line;
        // An earlier run that handed out a part of this record has reported its fault.
        let skipped = std::mem::take(&mut self.skip_rows);
        current.rows_done = skipped;
        for (number, part) in self.buffer.drain(..).enumerate() {
            if number < skipped as usize {
                current.id_of(&part.1);
            } else {
                self.rows.push_back(part);
            }
        }
        match fault {
            Some(fault) if skipped == 0 => self.note(fault),
            _ => Ok(()),
        }
    }

    fn note(&mut self, fault: Fault) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let column = Some(fault.column).filter(|column| !column.is_empty());
        let bad =
            BadLine { file: current.name.to_string(), line: current.line, column, reason: fault.reason };
        if self.options.strict {
            return Err(Error::new(IMPORT_LINE, bad.to_string()));
        }
        current.report.bad_lines += 1;
        if current.report.first_bad_lines.len() < self.options.bad_lines_kept {
            current.report.first_bad_lines.push(bad);
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
                    Row::Entity { .. } => current.report.entities += 1,
                    Row::User { .. } => current.report.users += 1,
                    Row::Interaction { .. } => current.report.interactions += 1,
                }
                self.rows_read += 1;
                let id = current.id_of(&row);
                let position = Position { file: Arc::clone(&current.name), line: current.line, part };
                return Some(Ok(ImportedRow { row, position, id }));
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

fn open_reader(file: &PlannedFile, plan: &Plan) -> Result<Box<dyn Reader>> {
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
        Content::GorseDump => return Ok(Box::new(GorseDump::open(path, defaults)?)),
        Content::Parquet => return open_parquet(path, plan),
    };
    Ok(Box::new(TextFile::open(path, dialect, decode)?))
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path, plan: &Plan) -> Result<Box<dyn Reader>> {
    let rows = super::parquet_rows::ParquetRows::open(path, plan.mapping.clone(), plan.defaults.clone())?;
    Ok(Box::new(rows))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(path: &Path, _plan: &Plan) -> Result<Box<dyn Reader>> {
    Err(super::detect::fault(format!("`{}` is Parquet, which this build was made without", path.display())))
}
