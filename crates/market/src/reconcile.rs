//! Topics against rows: what the stages and backfills told, day by day, beside what is served of it; and whether every stage
//! accounts for what it took.
//!
//! Rows are compared with all their revisions, by count, by the sum of their first column and by a checksum that does not
//! depend on order, so that nothing of a topic has to be in memory but the names of what was corrected. Beside a server that
//! goes on, days differ by what came meanwhile: those are looked at again, row by row (`again`).
//!
//! It refuses to mend: rows that are missing are made again by `rebuild`, those that are wrong by a backfill.
//!
//! To add a table: see [`crate::projection`].

mod again;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use kernel::{Result, Scope, Timestamp};
use serde::Serialize;
use store::{
    ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, EventLog, MAX_SERIES, MAX_TIME_NS, ReadLimit,
    Records, TimeRange, Topic,
};
use stream::{Repeats, Task, Topology};

use crate::Topics;
use crate::events::topics;
use crate::projection::{json, rows_of, tables};
use crate::topology::BAR_KINDS;

const ROWS_AT_ONCE: usize = 1_000;
const DAY_NS: i64 = 86_400_000_000_000;
const BILLION: f64 = 1e9;

/// Revisions of rows together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub rows: u64,
    /// The sum of their first column (the price, or that of the first trade), in billionths.
    pub sum_billionths: i128,
    /// Differs where anything of any of them does.
    #[serde(serialize_with = "hexadecimal")]
    pub checksum: u128,
}

fn hexadecimal<S: serde::Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:032x}"))
}

impl Tally {
    fn of(row: &ColumnRow) -> Self {
        let values: Vec<_> = row.values.iter().map(json).collect();
        let text = serde_json::json!([row.series, row.time_ns, row.id, row.revision, values]).to_string();
        let mut head = [0; 16];
        head.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
        let sum_billionths = match row.values.first() {
            Some(ColumnValue::Float(first)) => (first * BILLION).round() as i128,
            _ => 0,
        };
        Self { rows: 1, sum_billionths, checksum: u128::from_le_bytes(head) }
    }

    fn add(&mut self, more: Self) {
        self.rows += more.rows;
        self.sum_billionths += more.sum_billionths;
        self.checksum = self.checksum.wrapping_add(more.checksum);
    }
}

/// A day of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Day {
    /// The table.
    pub table: &'static str,
    /// When it begins.
    pub day: Timestamp,
    /// What the topics hold.
    pub told: Tally,
    /// What is served.
    pub served: Tally,
}

/// A partition of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StagePart {
    /// The stage.
    pub stage: String,
    /// The partition.
    pub partition: u32,
    /// Events that it took.
    pub taken: u64,
    /// Events that it passed on, knew, refused or left out.
    pub accounted: u64,
    /// Events that it has not taken.
    pub behind: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Reconciliation {
    /// Every partition of every stage.
    pub stages: Vec<StagePart>,
    /// Every day of every table.
    pub days: Vec<Day>,
}

impl Reconciliation {
    /// How many days and partitions differ.
    #[must_use]
    pub fn differences(&self) -> usize {
        let stages = self.stages.iter().filter(|part| part.taken != part.accounted).count();
        stages + self.days.iter().filter(|day| day.told != day.served).count()
    }
}

/// A table, and a day of it.
type Place = (&'static str, i64);
type Days = BTreeMap<Place, (Tally, Tally)>;
/// The end of every partition of what was told.
type Ends = BTreeMap<(&'static str, u32), u64>;

/// Compares what is of the scope's tenant, and the stages as a whole.
///
/// # Errors
/// Those of the engines.
pub async fn reconcile(
    scope: &Scope,
    topics: &Topics,
    records: &Arc<dyn Records>,
    columns: &dyn Columns,
    stages: &[Topology],
) -> Result<Reconciliation> {
    let mut found = Reconciliation::default();
    for stage in stages {
        for extent in topics.log.extents(stage.input()).await? {
            let looked = Task::look(stage, records, &topics.task(), extent.partition).await?;
            let (next, totals) = looked.unwrap_or_else(|| (extent.first, stream::Totals::default()));
            found.stages.push(StagePart {
                stage: stage.name().to_owned(),
                partition: extent.partition,
                taken: totals.taken,
                accounted: totals.passed + totals.duplicates + totals.dead_lettered + totals.filtered,
                behind: extent.next.saturating_sub(next),
            });
        }
    }
    let mut days = Days::new();
    let log = topics.log.as_ref();
    told(scope, log, None, &ends(log).await?, |place, row| days.entry(place).or_default().0.add(row)).await?;
    served(scope, columns, None, |place, row| days.entry(place).or_default().1.add(row)).await?;
    let differing = days.iter().filter(|(_, (told, served))| told != served).map(|(place, _)| *place);
    let differing: BTreeSet<Place> = differing.collect();
    if !differing.is_empty() {
        days.extend(again::look(scope, log, columns, &differing).await?);
    }
    for ((table, day), (told, served)) in days {
        let day = Timestamp::from_nanosecond(i128::from(day) * i128::from(DAY_NS)).unwrap_or_default();
        found.days.push(Day { table, day, told, served });
    }
    Ok(found)
}

fn place_of(table: ColumnTable, row: &ColumnRow) -> Place {
    (table.name, row.time_ns.div_euclid(DAY_NS))
}

/// What rows are made of. Corrections are first, because a row that a backfill added again counts once.
fn told_topics() -> impl Iterator<Item = &'static str> {
    [topics::CORRECTED_ROWS, topics::ENRICHED_TICKS].into_iter().chain(BAR_KINDS.map(|kind| kind.topic))
}

async fn ends(log: &dyn EventLog) -> Result<Ends> {
    let mut ends = Ends::new();
    for topic in told_topics() {
        let extents = log.extents(&Topic::fixed(topic)).await?;
        ends.extend(extents.into_iter().map(|extent| ((topic, extent.partition), extent.next)));
    }
    Ok(ends)
}

/// Hands over what the topics hold, from the one ends, or from their beginning, to the other.
async fn told(
    scope: &Scope,
    log: &dyn EventLog,
    from: Option<&Ends>,
    until: &Ends,
    mut take: impl FnMut(Place, Tally),
) -> Result<()> {
    let mut corrected = HashSet::new();
    for (&(name, partition), &end) in
        told_topics().flat_map(|topic| until.range((topic, 0)..=(topic, u32::MAX)))
    {
        let topic = Topic::fixed(name);
        let is_correction = name == topics::CORRECTED_ROWS;
        let begin = from.map_or(0, |from| from.get(&(name, partition)).copied().unwrap_or(0));
        let (mut offset, mut repeats) = (begin, Repeats::default());
        while offset < end {
            let batch = log.read(&topic, partition, offset, ReadLimit::default()).await?;
            let Some(last) = batch.last() else { break };
            offset = last.offset + 1;
            let events = batch.iter().filter(|stored| stored.offset < end).map(|stored| &stored.event);
            for event in events.filter(|event| event.tenant == *scope.tenant()) {
                if repeats.knows(event) {
                    continue;
                }
                for (table, row) in rows_of(&topic, event)? {
                    let named =
                        || (table.name, row.series.clone(), row.time_ns, row.id.clone(), row.revision);
                    let is_new = if is_correction {
                        corrected.insert(named())
                    } else {
                        corrected.is_empty() || !corrected.contains(&named())
                    };
                    if is_new {
                        take(place_of(table, &row), Tally::of(&row));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Hands over what is served, with every revision: everything, or what is of these days.
async fn served(
    scope: &Scope,
    columns: &dyn Columns,
    days: Option<&BTreeSet<Place>>,
    mut take: impl FnMut(Place, Tally),
) -> Result<()> {
    for table in tables() {
        let ranges = days.map_or_else(
            || vec![TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS }],
            |days| days.iter().filter(|(name, _)| *name == table.name).map(|(_, day)| range(*day)).collect(),
        );
        let mut after: Option<String> = None;
        while !ranges.is_empty() {
            let series = columns.series(scope, table, after.as_deref(), MAX_SERIES).await?;
            for series in &series {
                for range in &ranges {
                    served_of(scope, columns, table, (series, *range), &mut take).await?;
                }
            }
            after = series.last().cloned();
            if series.len() < MAX_SERIES {
                break;
            }
        }
    }
    Ok(())
}

fn range(day: i64) -> TimeRange {
    let from_ns = day.saturating_mul(DAY_NS);
    let bounded = |time_ns: i64| time_ns.clamp(-MAX_TIME_NS, MAX_TIME_NS);
    TimeRange { from_ns: bounded(from_ns), to_ns: bounded(from_ns.saturating_add(DAY_NS)) }
}

async fn served_of(
    scope: &Scope,
    columns: &dyn Columns,
    table: ColumnTable,
    (series, range): (&str, TimeRange),
    take: &mut impl FnMut(Place, Tally),
) -> Result<()> {
    let mut scan = ColumnScan::new(series, range, ROWS_AT_ONCE);
    loop {
        let page = columns.scan(scope, table, &scan).await?;
        for row in page.rows {
            let place = place_of(table, &row);
            if row.revision == 0 {
                take(place, Tally::of(&row));
                continue;
            }
            let all = columns.revisions(scope, table, series, row.time_ns, &row.id).await?;
            all.iter().for_each(|row| take(place, Tally::of(row)));
        }
        scan.cursor = page.cursor;
        if scan.cursor.is_none() {
            return Ok(());
        }
    }
}
