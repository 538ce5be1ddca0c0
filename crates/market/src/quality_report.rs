//! How far prices are to be trusted: how many have which flag, by market, instrument, day or hour; and what was refused.
//!
//! It reads the rows of prices, in their newest revision, and the dead letters. A tick without a price is in neither.
//!
//! To add a way to group: a variant of [`By`].

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Result, Scope, Timestamp};
use serde::Serialize;
use store::{ColumnRow, ColumnScan, ColumnValue, Columns, EventLog, MAX_SERIES, MAX_TIME_NS, TimeRange};

use crate::projection::{PRICES, is_withdrawn};
use crate::service::{STAGES, StageLetters};

const ROWS_AT_ONCE: usize = 5_000;
const LETTERS_AT_ONCE: usize = 1_000;
const HOUR_NS: i64 = 3_600_000_000_000;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Each market; `-` for none.
    Market,
    /// Each instrument.
    Instrument,
    /// Each day of UTC.
    Day,
    /// Each hour of UTC.
    Hour,
}

/// Which prices.
#[derive(Debug, Clone)]
pub struct Question {
    /// Those that happened at this time or later.
    pub from: Option<Timestamp>,
    /// And before this.
    pub to: Option<Timestamp>,
    /// Of this market, in capitals.
    pub market: Option<String>,
    /// Of this instrument.
    pub instrument: Option<String>,
    /// A line for each of these.
    pub by: By,
}

/// A line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Prices.
    pub prices: u64,
    /// By flag how many of them have it; `valid` where they have none.
    pub flags: BTreeMap<String, u64>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// By what they are about.
    pub lines: BTreeMap<String, Line>,
    /// By stage and code how many messages were refused, of all markets and instruments; those that say when they happened
    /// by that time, else by when they came.
    pub refused: BTreeMap<String, BTreeMap<String, u64>>,
}

/// The report for the tenant of the scope.
///
/// # Errors
/// `PERMISSION_DENIED`; those of the engines.
pub async fn report(
    scope: &Scope,
    columns: &dyn Columns,
    log: Arc<dyn EventLog>,
    question: &Question,
) -> Result<Report> {
    let mut found = Report::default();
    let bound = |time: Option<Timestamp>, otherwise: i64| {
        let time_ns = time.map_or_else(|| otherwise.into(), Timestamp::as_nanosecond);
        i64::try_from(time_ns).unwrap_or(otherwise).clamp(-MAX_TIME_NS, MAX_TIME_NS)
    };
    let range =
        TimeRange { from_ns: bound(question.from, -MAX_TIME_NS), to_ns: bound(question.to, MAX_TIME_NS) };
    if let Some(one) = &question.instrument {
        of_series(scope, columns, question, one, range, &mut found).await?;
    } else {
        let mut after: Option<String> = None;
        loop {
            let page = columns.series(scope, PRICES, after.as_deref(), MAX_SERIES).await?;
            for series in &page {
                of_series(scope, columns, question, series, range, &mut found).await?;
            }
            after = page.last().cloned();
            if page.len() < MAX_SERIES {
                break;
            }
        }
    }
    refused(scope, log, range, &mut found).await?;
    Ok(found)
}

async fn of_series(
    scope: &Scope,
    columns: &dyn Columns,
    question: &Question,
    series: &str,
    range: TimeRange,
    found: &mut Report,
) -> Result<()> {
    let mut scan = ColumnScan::new(series, range, ROWS_AT_ONCE);
    loop {
        let page = columns.scan(scope, PRICES, &scan).await?;
        for row in page.rows.iter().filter(|row| !is_withdrawn(row)) {
            let market = text(row, "market")?;
            if question.market.as_ref().is_some_and(|wanted| wanted != market) {
                continue;
            }
            let line = found.lines.entry(about(question.by, market, row)).or_default();
            line.prices += 1;
            for flag in text(row, "quality_flags")?.split(',').filter(|flag| !flag.is_empty()) {
                *line.flags.entry(flag.to_owned()).or_default() += 1;
            }
        }
        scan.cursor = page.cursor;
        if scan.cursor.is_none() {
            return Ok(());
        }
    }
}

fn text<'a>(row: &'a ColumnRow, column: &str) -> Result<&'a str> {
    Ok(match row.values.get(PRICES.place(column)?) {
        Some(ColumnValue::Text(text)) => text,
        _ => "",
    })
}

fn about(by: By, market: &str, row: &ColumnRow) -> String {
    let since = |length_ns: i64| {
        let start_ns = row.time_ns - row.time_ns.rem_euclid(length_ns);
        Timestamp::from_nanosecond(start_ns.into()).unwrap_or_default().to_string()
    };
    match by {
        By::Market if market.is_empty() => "-".to_owned(),
        By::Market => market.to_owned(),
        By::Instrument => row.series.clone(),
        By::Day => since(24 * HOUR_NS),
        By::Hour => since(HOUR_NS),
    }
}

async fn refused(scope: &Scope, log: Arc<dyn EventLog>, range: TimeRange, found: &mut Report) -> Result<()> {
    let letters = StageLetters::new(log);
    for (stage, _) in STAGES {
        let mut cursor: Option<String> = None;
        loop {
            let (page, next) = letters.list(scope, stage, cursor.as_deref(), LETTERS_AT_ONCE).await?;
            for letter in page {
                let time_ns = i64::try_from(letter.occurred_at.as_nanosecond()).unwrap_or(i64::MAX);
                if range.contains(time_ns) {
                    let codes = found.refused.entry(stage.to_owned()).or_default();
                    *codes.entry(letter.letter.code).or_default() += 1;
                }
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(())
}
