//! Ranges of time, pages of a series, and the cursor between them.

use kernel::Result;
use serde::{Deserialize, Serialize};

use super::check::{check_text, check_time, invalid};
use super::{ColumnRow, ColumnTable, MAX_SCAN_ROWS};
use crate::port::cursor;

/// From a time on, until before another; in nanoseconds since 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first that is in it.
    pub from_ns: i64,
    /// The first that is not in it any more.
    pub to_ns: i64,
}

impl TimeRange {
    /// Checks that it is one; an empty one is.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a time out of bounds, or an end before the start.
    pub fn check(&self) -> Result<()> {
        check_time("from_ns", self.from_ns)?;
        check_time("to_ns", self.to_ns)?;
        if self.to_ns < self.from_ns {
            return Err(invalid("to_ns", "must not be before `from_ns`"));
        }
        Ok(())
    }

    /// Whether a time is in it.
    #[must_use]
    pub fn contains(&self, time_ns: i64) -> bool {
        (self.from_ns..self.to_ns).contains(&time_ns)
    }
}

/// Where in a series a row stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ColumnPlace {
    /// Its time.
    pub time_ns: i64,
    /// Its id.
    pub id: String,
}

/// A request for a page of a series.
#[derive(Debug, Clone)]
pub struct ColumnScan {
    /// The series.
    pub series: String,
    /// The times.
    pub range: TimeRange,
    /// Newest first.
    pub descending: bool,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
    /// Rows at most, 1 to 10,000.
    pub limit: usize,
}

/// One page of a series.
#[derive(Debug, Clone)]
pub struct ColumnPage {
    /// The rows.
    pub rows: Vec<ColumnRow>,
    /// Pass it on to get the next page; none at the end.
    pub cursor: Option<String>,
}

impl ColumnScan {
    /// The first page of a series, ascending.
    #[must_use]
    pub fn new(series: impl Into<String>, range: TimeRange, limit: usize) -> Self {
        Self { series: series.into(), range, descending: false, cursor: None, limit }
    }

    /// Checks the scan and reads its cursor. Every engine calls it before it reads.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a bad series, range or limit, or a cursor of another scan.
    pub fn check(&self, table: ColumnTable) -> Result<Option<ColumnPlace>> {
        table.check()?;
        check_text("series", &self.series)?;
        self.range.check()?;
        if self.limit == 0 || self.limit > MAX_SCAN_ROWS {
            return Err(invalid("limit", format!("a page has 1 to {MAX_SCAN_ROWS} rows")));
        }
        let Some(text) = &self.cursor else { return Ok(None) };
        let wrong = || invalid("cursor", "the cursor is not one of this scan");
        let (signature, place): (u32, ColumnPlace) = cursor::decode(text).ok_or_else(wrong)?;
        if signature != self.signature(table) || !self.range.contains(place.time_ns) {
            return Err(wrong());
        }
        Ok(Some(place))
    }

    /// The page that ends with the last of `rows`, of which the scan found one more than it may hold where there are
    /// more.
    #[must_use]
    pub fn page(&self, table: ColumnTable, mut rows: Vec<ColumnRow>) -> ColumnPage {
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let place = |row: &ColumnRow| ColumnPlace { time_ns: row.time_ns, id: row.id.clone() };
        let cursor = rows.last().filter(|_| has_more).map(place);
        ColumnPage { cursor: cursor.map(|place| cursor::encode(self.signature(table), &place)), rows }
    }

    // The limit may differ from page to page, everything else may not.
    fn signature(&self, table: ColumnTable) -> u32 {
        let text = format!("{} {} {:?} {:?}", table.name, self.descending, self.range, self.series);
        crc32fast::hash(text.as_bytes())
    }
}
