//! The rows of a backfill beside those of live, in the order of (series, time, id), and what is to be done about each.
//!
//! | of the backfill | of live | |
//! |---|---|---|
//! | there | the same values | equal |
//! | there | not there | added, under the revision that live would have given |
//! | there | other values | the next revision |
//! | not there | there | withdrawn: the next revision, without values |
//! | a bar that live can still change, a price or quote that came after the plan or before what is left of the raw ticks | | left to live |

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

use kernel::{Error, Result, Scope, Timestamp, codes};
use serde::Serialize;
use serde_json::Value;
use store::{ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, MAX_SERIES, TimeRange};

use super::replay::Progress;
use super::routes::Settled;
use super::{Live, Report, Scratch, Wanted};
use crate::projection::{Corrections, PRICES, QUOTES, is_withdrawn, tables, withdrawn};

const ROWS_AT_ONCE: usize = 1_000;
/// Rows of a table that a report shows.
const MOST_SHOWN: usize = 20;
/// Clocks of servers differ by less: prices that came so shortly before the plan are left to live.
const MARGIN_US: i64 = 60_000_000;

/// What is done about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was missing.
    Added,
    /// It says something else.
    Changed,
    /// The rules of now do not make it.
    Withdrawn,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its table.
    pub table: &'static str,
    /// What is done about it.
    pub what: What,
    /// The instrument.
    pub instrument: String,
    /// When it happened, or begins.
    pub time: Timestamp,
    /// The revision that it gets.
    pub revision: u32,
    /// The columns that differ: their name, what live had, what it is now.
    pub values: Vec<(&'static str, Value, Value)>,
}

/// What was found in a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Rows that are the same.
    pub equal: u64,
    /// Rows that were missing.
    pub added: u64,
    /// Rows that say something else.
    pub changed: u64,
    /// Rows that the rules of now do not make.
    pub withdrawn: u64,
    /// Rows that live can still change, or is at work on.
    pub left_to_live: u64,
}

impl Found {
    /// Rows that differ.
    #[must_use]
    pub fn different(self) -> u64 {
        self.added + self.changed + self.withdrawn
    }
}

/// Two sets of rows.
pub(super) struct Comparison<'a> {
    pub(super) live: &'a Live,
    pub(super) scratch: &'a Scratch,
    pub(super) wanted: &'a Wanted,
    pub(super) range: TimeRange,
    pub(super) settled: Settled,
    /// Raw ticks that came in before are cut, in microseconds since 1970; none where all are there.
    pub(super) retained_us: Option<i64>,
    pub(super) planned_at: Timestamp,
}

impl Comparison<'_> {
    pub(super) async fn run(&self, report: &mut Report, progress: &Progress) -> Result<()> {
        let scope = Scope::system(self.wanted.tenant.clone(), "backfill");
        for table in tables() {
            let all = self.series(&scope, table).await?;
            let (mut found, mut changes) = (Found::default(), Vec::new());
            for (place, series) in all.iter().enumerate() {
                progress("comparing rows", place as u64, all.len() as u64);
                self.compare(&scope, table, series, &mut found, &mut changes).await?;
            }
            report.tables.insert(table.name, found);
            report.changes.extend(changes);
        }
        Ok(())
    }

    /// The instruments that either has.
    async fn series(&self, scope: &Scope, table: ColumnTable) -> Result<BTreeSet<String>> {
        if let Some(one) = &self.wanted.instrument {
            return Ok([one.clone()].into());
        }
        let mut all = BTreeSet::new();
        for columns in [&self.scratch.columns, &self.live.columns] {
            let mut after: Option<String> = None;
            loop {
                let page = columns.series(scope, table, after.as_deref(), MAX_SERIES).await?;
                after = page.last().cloned();
                let is_last = page.len() < MAX_SERIES;
                all.extend(page);
                if is_last {
                    break;
                }
            }
        }
        Ok(all)
    }

    async fn compare(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &str,
        found: &mut Found,
        changes: &mut Vec<Change>,
    ) -> Result<()> {
        let scan = || ColumnScan::new(series, self.range, ROWS_AT_ONCE);
        let mut made = Rows::new(self.scratch.columns.as_ref(), scope, table, scan());
        let mut kept = Rows::new(self.live.columns.as_ref(), scope, table, scan());
        let (mut one, mut other) = (made.next().await?, kept.next().await?);
        let mut corrections = Vec::new();
        while one.is_some() || other.is_some() {
            let order = match (&one, &other) {
                (Some(one), Some(other)) => (one.time_ns, &one.id).cmp(&(other.time_ns, &other.id)),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let of_made = if order.is_le() { std::mem::replace(&mut one, made.next().await?) } else { None };
            let of_kept =
                if order.is_ge() { std::mem::replace(&mut other, kept.next().await?) } else { None };
            let Some((what, row)) = self.judge(table, of_made, of_kept.as_ref(), found)? else { continue };
            if changes.len() < MOST_SHOWN {
                changes.push(change(table, what, &row, of_kept.as_ref()));
            }
            corrections.push(row);
            if corrections.len() == ROWS_AT_ONCE {
                self.write(scope, table, &mut corrections).await?;
            }
        }
        self.write(scope, table, &mut corrections).await
    }

    /// Counts a row, and says what is to be written of it.
    fn judge(
        &self,
        table: ColumnTable,
        made: Option<ColumnRow>,
        kept: Option<&ColumnRow>,
        found: &mut Found,
    ) -> Result<Option<(What, ColumnRow)>> {
        let (what, row) = match (made, kept) {
            (None, None) => return Ok(None),
            (None, Some(kept)) if is_withdrawn(kept) => return Ok(None),
            (Some(made), Some(kept)) if made.values == kept.values => {
                found.equal += 1;
                return Ok(None);
            }
            (Some(made), None) => (What::Added, made),
            (Some(made), Some(kept)) => (What::Changed, ColumnRow { revision: kept.revision + 1, ..made }),
            (None, Some(kept)) => (What::Withdrawn, withdrawn(kept)),
        };
        let shown = if what == What::Withdrawn { kept.unwrap_or(&row) } else { &row };
        if !self.is_settled(table, what, shown)? {
            found.left_to_live += 1;
            return Ok(None);
        }
        match what {
            What::Added => found.added += 1,
            What::Changed => found.changed += 1,
            What::Withdrawn => found.withdrawn += 1,
        }
        Ok(Some((what, row)))
    }

    /// Whether live writes no other revision of a row.
    fn is_settled(&self, table: ColumnTable, what: What, row: &ColumnRow) -> Result<bool> {
        let whole = |name: &str| match row.values.get(table.place(name)?) {
            Some(ColumnValue::Integer(value)) => Ok::<_, Error>(*value),
            _ => Ok(i64::MAX),
        };
        if [PRICES.name, QUOTES.name].contains(&table.name) {
            // Live writes a price or a quote once; one that came later is none of the replay.
            let newest_us = self.planned_at.as_microsecond() - MARGIN_US;
            let received_us = whole("received_us")?;
            let is_held = self.retained_us.is_none_or(|retained_us| received_us > retained_us);
            return Ok(what != What::Withdrawn || (is_held && received_us <= newest_us));
        }
        Ok(whole("interval_end_us")? <= self.settled.until_us(&row.series))
    }

    /// To the topic of corrections first, so that rows can be made again from the topics.
    pub(super) async fn write(
        &self,
        scope: &Scope,
        table: ColumnTable,
        rows: &mut Vec<ColumnRow>,
    ) -> Result<()> {
        let rows = std::mem::take(rows);
        if rows.is_empty() || self.wanted.is_dry_run {
            return Ok(());
        }
        let corrections = Corrections { table, rows: &rows };
        corrections.append(scope, self.live.topics.log.as_ref(), self.planned_at).await?;
        let new = self.live.columns.append(scope, table, rows.clone()).await?;
        if new < rows.len() as u64 { self.check_written(scope, table, &rows).await } else { Ok(()) }
    }

    /// Passes where each row is there as it was written. The first of one revision stays, which may be that of live.
    async fn check_written(&self, scope: &Scope, table: ColumnTable, rows: &[ColumnRow]) -> Result<()> {
        for row in rows {
            let found = self.live.columns.revisions(scope, table, &row.series, row.time_ns, &row.id).await?;
            if found.contains(row) {
                continue;
            }
            let message = format!(
                "revision {} of `{}` of `{}` was written by live meanwhile; call it again, with the same flags",
                row.revision,
                row.series.escape_debug(),
                table.name
            );
            return Err(Error::new(codes::CONFLICT, message));
        }
        Ok(())
    }
}

/// What a row was and is.
fn change(table: ColumnTable, what: What, row: &ColumnRow, kept: Option<&ColumnRow>) -> Change {
    let told = |row: Option<&ColumnRow>, place: usize| {
        row.and_then(|row| row.values.get(place)).map_or(Value::Null, crate::projection::json)
    };
    let columns = table.columns.iter().enumerate();
    let values = columns.map(|(place, column)| (column.name, told(kept, place), told(Some(row), place)));
    Change {
        table: table.name,
        what,
        instrument: row.series.clone(),
        time: Timestamp::from_nanosecond(row.time_ns.into()).unwrap_or_default(),
        revision: row.revision,
        values: values.filter(|(_, before, after)| before != after).collect(),
    }
}

/// The rows of a scan, page by page.
struct Rows<'a> {
    columns: &'a dyn Columns,
    scope: &'a Scope,
    table: ColumnTable,
    scan: Option<ColumnScan>,
    page: VecDeque<ColumnRow>,
}

impl<'a> Rows<'a> {
    fn new(columns: &'a dyn Columns, scope: &'a Scope, table: ColumnTable, scan: ColumnScan) -> Self {
        Self { columns, scope, table, scan: Some(scan), page: VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<ColumnRow>> {
        while self.page.is_empty()
            && let Some(scan) = self.scan.take()
        {
            let page = self.columns.scan(self.scope, self.table, &scan).await?;
            self.page.extend(page.rows);
            self.scan = page.cursor.map(|cursor| ColumnScan { cursor: Some(cursor), ..scan });
        }
        Ok(self.page.pop_front())
    }
}
