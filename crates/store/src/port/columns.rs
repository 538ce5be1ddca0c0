//! The `Columns` port: typed rows by tenant, table, series and time, and bounded aggregates over them.
//!
//! A [`ColumnTable`] is declared in code: a name and the columns of its values. A series is what is looked at together,
//! an instrument for example. Rules every engine keeps:
//! - An append is all or nothing, durable when it returns, and seen by every read after it.
//! - A row is named by series, time and id, and has revisions. What was stored under a revision never changes: to append
//!   it again is a duplicate, whatever the values. A higher revision takes the row's place in every read, in whatever
//!   order they came; the earlier ones stay readable ([`Columns::revisions`]).
//! - Rows of a series are in the order of (time, id); times are nanoseconds since 1970 in UTC, and a range holds its start
//!   and not its end.
//! - Numbers are finite; a value may be missing. Columns may be added at the end of a table; rows of before have nothing
//!   there. Otherwise a table never changes: another takes its place.
//! - Aggregates are over the row that counts of each, in order, so that they are the same on every engine and whenever they
//!   are asked. They are partial: those of neighbouring buckets merge into those of larger ones, of calendar days for
//!   example, whose length a bucket cannot have.
//! - No call can see or touch another tenant.

mod aggregate;
mod check;
mod scan;

use std::fmt::Debug;

use async_trait::async_trait;
use kernel::{Result, Scope};

pub use aggregate::{Accumulator, Aggregation, Bucket, Measure, Partial, out_of_precision};
pub use scan::{ColumnPage, ColumnPlace, ColumnScan, TimeRange};

/// The most rows one `append` takes.
pub const MAX_APPEND_ROWS: usize = 10_000;
/// The most bytes of series, ids and texts that one `append` takes.
pub const MAX_APPEND_BYTES: usize = 16 << 20;
/// The most rows one page holds.
pub const MAX_SCAN_ROWS: usize = 10_000;
/// The most buckets one aggregation has.
pub const MAX_BUCKETS: usize = 10_000;
/// The most columns of a table.
pub const MAX_COLUMNS: usize = 64;
/// The longest name of a series and the longest id, in bytes.
pub(crate) const MAX_SERIES_BYTES: usize = 256;
/// The longest text in a row, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 16 << 10;
/// The most series that one call names or lists.
pub const MAX_SERIES: usize = 1_000;
/// Times are from minus this to this: the years 1685 to 2255.
pub const MAX_TIME_NS: i64 = 9_000_000_000_000_000_000;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// A finite number in double precision.
    Float,
    /// A whole number.
    Integer,
    /// A text of at most 16 KiB without U+0000.
    Text,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// `a-z 0-9 _`, at most 40 characters.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
}

/// A table: a fixed name and its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnTable {
    /// `a-z 0-9 _`, at most 40 characters.
    pub name: &'static str,
    /// 1 to 64, each name once. Those that are added later stand at the end.
    pub columns: &'static [Column],
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnValue {
    /// Nothing.
    Missing,
    /// Of a [`ColumnKind::Float`].
    Float(f64),
    /// Of a [`ColumnKind::Integer`].
    Integer(i64),
    /// Of a [`ColumnKind::Text`].
    Text(String),
}

/// One row in one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnRow {
    /// What it belongs to, 1 to 256 bytes without U+0000.
    pub series: String,
    /// When it happened, in nanoseconds since 1970 in UTC.
    pub time_ns: i64,
    /// Tells rows of one time apart, 1 to 256 bytes without U+0000. The same input gives the same id.
    pub id: String,
    /// 0 for the first result, higher for each that revises it.
    pub revision: u32,
    /// One for each column, in the table's order.
    pub values: Vec<ColumnValue>,
}

/// Typed rows by time.
#[async_trait]
pub trait Columns: Send + Sync + Debug {
    /// Adds rows; returns how many were not there yet. Of two in one batch with the same name and revision the first
    /// stays.
    ///
    /// # Errors
    /// Those of [`ColumnTable::check_rows`]; then none was written.
    async fn append(&self, scope: &Scope, table: ColumnTable, rows: Vec<ColumnRow>) -> Result<u64>;

    /// One page of a series, in order, each row in its highest revision.
    ///
    /// # Errors
    /// Those of [`ColumnScan::check`].
    async fn scan(&self, scope: &Scope, table: ColumnTable, scan: &ColumnScan) -> Result<ColumnPage>;

    /// Every revision of one row, lowest first.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for what cannot name a row.
    async fn revisions(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &str,
        time_ns: i64,
        id: &str,
    ) -> Result<Vec<ColumnRow>>;

    /// The last row of each series at or before `as_of_ns`, in the order of `series`; those that have none are left out.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for more than 1,000 series, or one that is named twice.
    async fn latest(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &[&str],
        as_of_ns: i64,
    ) -> Result<Vec<ColumnRow>>;

    /// Partial aggregates of a series, bucket by bucket, in order; a bucket without rows is left out.
    ///
    /// # Errors
    /// Those of [`Aggregation::check`]; `VALIDATION_ERROR` when a sum or a product is beyond double precision.
    async fn aggregate(
        &self,
        scope: &Scope,
        table: ColumnTable,
        aggregation: &Aggregation,
    ) -> Result<Vec<Bucket>>;

    /// The series that have rows, byte by byte in order, after one of them; at most `limit`.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a limit that is not 1 to 1,000.
    async fn series(
        &self,
        scope: &Scope,
        table: ColumnTable,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>>;

    /// Removes the rows of a time range with all their revisions, of one series or of all; returns how many revisions
    /// went. Where it fails half-way, what went stays gone; to call it again is safe.
    async fn delete(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: Option<&str>,
        range: TimeRange,
    ) -> Result<u64>;

    /// Removes every row of the scope's tenant in every table; returns how many revisions went.
    async fn erase(&self, scope: &Scope) -> Result<u64>;
}
