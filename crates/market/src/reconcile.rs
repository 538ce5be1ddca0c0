//! Topics against rows: what the stages and backfills told, day by day, beside what is served of it; and whether every stage
//! accounts for what it took.
//!
//! Rows are compared with all their revisions, by count, by the sum of their first column and by a checksum that does not
//! depend on order, so that nothing of a topic has to be in memory but the names of what was corrected.
//!
//! It refuses to mend: rows that are missing are made again by `rebuild`, those that are wrong by a backfill.
//!
//! To add a table: see [`crate::projection`].

use std::collections::{BTreeMap, HashSet};
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
use crate::projection::{CORRECTED_ROWS, json, rows_of, tables};
use crate::topology::{BAR_KINDS, ENRICHED_TICKS};

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
    fn add(&mut self, row: &ColumnRow) {
        let values: Vec<_> = row.values.iter().map(json).collect();
        let text = serde_json::json!([row.series, row.time_ns, row.id, row.revision, values]).to_string();
        let mut head = [0; 16];
        head.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
        self.rows += 1;
        self.checksum = self.checksum.wrapping_add(u128::from_le_bytes(head));
        if let Some(ColumnValue::Float(first)) = row.values.first() {
            self.sum_billionths += (first * BILLION).round() as i128;
        }
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

type Days = BTreeMap<(&'static str, i64), (Tally, Tally)>;

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
    told(scope, topics.log.as_ref(), &mut days).await?;
    served(scope, columns, &mut days).await?;
    for ((table, day), (told, served)) in days {
        let day = Timestamp::from_nanosecond(i128::from(day) * i128::from(DAY_NS)).unwrap_or_default();
        found.days.push(Day { table, day, told, served });
    }
    Ok(found)
}

fn day_of(table: ColumnTable, row: &ColumnRow) -> (&'static str, i64) {
    (table.name, row.time_ns.div_euclid(DAY_NS))
}

/// Adds what the topics hold. A row that a backfill added again is in two of them, and counts once.
async fn told(scope: &Scope, log: &dyn EventLog, days: &mut Days) -> Result<()> {
    let mut corrected = HashSet::new();
    let bars = BAR_KINDS.iter().map(|kind| Topic::fixed(kind.topic));
    for topic in [CORRECTED_ROWS, ENRICHED_TICKS].into_iter().chain(bars) {
        let is_correction = topic.as_str() == topics::CORRECTED_ROWS;
        for extent in log.extents(&topic).await? {
            let (mut offset, mut repeats) = (extent.first, Repeats::default());
            while offset < extent.next {
                let batch = log.read(&topic, extent.partition, offset, ReadLimit::default()).await?;
                let Some(last) = batch.last() else { break };
                offset = last.offset + 1;
                for event in
                    batch.iter().map(|stored| &stored.event).filter(|event| event.tenant == *scope.tenant())
                {
                    if repeats.knows(event) {
                        continue;
                    }
                    for (table, row) in rows_of(&topic, event)? {
                        let place =
                            || (table.name, row.series.clone(), row.time_ns, row.id.clone(), row.revision);
                        let is_new = if is_correction {
                            corrected.insert(place())
                        } else {
                            corrected.is_empty() || !corrected.contains(&place())
                        };
                        if is_new {
                            days.entry(day_of(table, &row)).or_default().0.add(&row);
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// Adds what is served, with every revision.
async fn served(scope: &Scope, columns: &dyn Columns, days: &mut Days) -> Result<()> {
    let range = TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS };
    for table in tables() {
        let mut after: Option<String> = None;
        loop {
            let series = columns.series(scope, table, after.as_deref(), MAX_SERIES).await?;
            for series in &series {
                let mut scan = ColumnScan::new(series, range, ROWS_AT_ONCE);
                loop {
                    let page = columns.scan(scope, table, &scan).await?;
                    for row in page.rows {
                        let tally = &mut days.entry(day_of(table, &row)).or_default().1;
                        if row.revision == 0 {
                            tally.add(&row);
                            continue;
                        }
                        let all = columns.revisions(scope, table, series, row.time_ns, &row.id).await?;
                        all.iter().for_each(|row| tally.add(row));
                    }
                    scan.cursor = page.cursor;
                    if scan.cursor.is_none() {
                        break;
                    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MarketSettings;
    use crate::projection::PRICES;
    use crate::quality_report::{By, Question, report};
    use crate::tests::{Desk, MINUTE_MS, START_MS, scope, tick};
    use crate::topology;

    async fn look(desk: &Desk) -> Reconciliation {
        let topics = Topics::of_log(Arc::clone(&desk.log));
        let stages = topology::all(&desk.rules).unwrap();
        reconcile(&scope("desk"), &topics, &desk.records, desk.columns.as_ref(), &stages).await.unwrap()
    }

    async fn a_desk() -> Desk {
        let mut desk = Desk::new(2, &MarketSettings::default());
        // 27 of them on the day before.
        for sequence in 0..60 {
            desk.send("desk", &tick(sequence, 30.0 * sequence as f64 - 800.0, sequence as f64 - 3.5))
                .await
                .unwrap();
        }
        desk.send("desk", &tick(100, 60.0, "NaN")).await.unwrap();
        desk.send("other", &tick(1, 1.0, 99.0)).await.unwrap();
        desk.run().await;
        desk
    }

    #[tokio::test]
    async fn days_agree_until_a_row_is_lost() {
        let desk = a_desk().await;
        let found = look(&desk).await;
        assert_eq!((found.differences(), found.stages.len()), (0, 8), "{found:?}");
        let prices: Vec<&Day> = found.days.iter().filter(|day| day.table == PRICES.name).collect();
        assert_eq!(prices.iter().map(|day| day.served.rows).sum::<u64>(), 60);
        let sum: i128 = prices.iter().map(|day| day.told.sum_billionths).sum();
        assert_eq!(sum, 1_560_000_000_000);
        let start_ns = (START_MS + 10 * MINUTE_MS) * 1_000_000;
        let range = TimeRange { from_ns: start_ns, to_ns: start_ns + MINUTE_MS * 1_000_000 };
        desk.columns.delete(&scope("desk"), PRICES, None, range).await.unwrap();
        let found = look(&desk).await;
        assert_eq!(found.differences(), 1);
        assert_eq!(look(&Desk::new(1, &MarketSettings::default())).await.differences(), 0);
    }

    #[tokio::test]
    async fn flags_are_counted_by_what_is_asked_for() {
        let desk = a_desk().await;
        let all = Question { from: None, to: None, market: None, instrument: None, by: By::Market };
        let ask = async |question: &Question| {
            let log = Arc::clone(&desk.log);
            report(&scope("desk"), desk.columns.as_ref(), log, question).await.unwrap()
        };
        let found = ask(&all).await;
        let line = &found.lines["PJM"];
        assert_eq!((found.lines.len(), line.prices, line.flags["price_negative"]), (1, 60, 4), "{found:?}");
        assert_eq!(found.refused["normalization"]["NOT_FINITE"], 1);
        let days = ask(&Question { by: By::Day, ..all.clone() }).await;
        assert_eq!(days.lines["2024-01-01T00:00:00Z"].prices, 33);
        let end = Timestamp::from_millisecond(START_MS + 60 * MINUTE_MS).unwrap();
        let hour =
            Question { to: Some(end), by: By::Hour, instrument: Some("HUB".to_owned()), ..all.clone() };
        assert_eq!(ask(&hour).await.lines["2024-01-01T00:00:00Z"].prices, 2);
        let none = Question { market: Some("MISO".to_owned()), by: By::Instrument, ..all };
        assert!(ask(&none).await.lines.is_empty());
    }
}
