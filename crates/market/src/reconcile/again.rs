//! A second look at days that differ, row by row, because they differ by what came while they were read.
//!
//! What is served counts once it was told, and is told before it is served. So what was told before the rows are read must be
//! among them, or comes there soon; and what is among them beyond that must have been told by the time they were read.
//!
//! Where retention cut the topics, rows stay: up to the day of the oldest event that is held, only what is missing counts.
//!
//! It refuses to take what is missing for late without end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use kernel::{Result, Scope};
use store::{Columns, EventLog, ReadLimit, Topic};

use super::{DAY_NS, Days, Place, Tally, ends, served, told, told_topics};
use crate::events::topics;
use crate::projection::{PRICES, QUOTES};
use crate::topology::BAR_KINDS;

/// A row that was told and is not served is looked for so often more, in seconds.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Rows by their checksums.
type Rows = BTreeMap<Place, HashMap<u128, Tally>>;

/// The days as they are when what came meanwhile is left out. All their rows are in memory, by their checksums.
///
/// # Errors
/// Those of the engines.
pub(super) async fn look(
    scope: &Scope,
    log: &dyn EventLog,
    columns: &dyn Columns,
    days: &BTreeSet<Place>,
) -> Result<Days> {
    let (mut missing, mut beyond) = (Rows::new(), Rows::new());
    let mut found: Days = days.iter().map(|place| (*place, Default::default())).collect();
    let before = ends(log).await?;
    told(scope, log, None, &before, |place, row| {
        if let Some((told, _)) = found.get_mut(&place) {
            told.add(row);
            missing.entry(place).or_default().insert(row.checksum, row);
        }
    })
    .await?;
    // Nobody knows any more whether what is served of days that were cut was told. They may be most of all.
    let cut = cut_until(log).await?;
    let is_cut = |(table, day): Place| cut.get(table).is_some_and(|until| day <= *until);
    served(scope, columns, Some(days), |place, row| {
        if missing.get_mut(&place).and_then(|rows| rows.remove(&row.checksum)).is_some() {
            if let Some((_, served)) = found.get_mut(&place) {
                served.add(row);
            }
        } else if !is_cut(place) {
            beyond.entry(place).or_default().insert(row.checksum, row);
        }
    })
    .await?;
    let after = ends(log).await?;
    told(scope, log, Some(&before), &after, |place, row| {
        if let Some(rows) = beyond.get_mut(&place) {
            rows.remove(&row.checksum);
        }
    })
    .await?;
    for (place, rows) in beyond {
        let (_, served) = found.entry(place).or_default();
        rows.into_values().for_each(|row| served.add(row));
    }
    for _ in 0..TRIES {
        missing.retain(|_, rows| !rows.is_empty());
        if missing.is_empty() {
            break;
        }
        // It was told a moment ago, and its row is on the way.
        tokio::time::sleep(PAUSE).await;
        let days = missing.keys().copied().collect();
        served(scope, columns, Some(&days), |place, row| {
            let late = missing.get_mut(&place).and_then(|rows| rows.remove(&row.checksum));
            if let (Some(row), Some((_, served))) = (late, found.get_mut(&place)) {
                served.add(row);
            }
        })
        .await?;
    }
    Ok(found)
}

/// By table, the last day of which events may have been cut, as far as what is left tells; no table whose topics are whole.
async fn cut_until(log: &dyn EventLog) -> Result<BTreeMap<&'static str, i64>> {
    let mut cut = BTreeMap::new();
    for name in told_topics() {
        let (topic, mut until) = (Topic::fixed(name), None);
        for extent in log.extents(&topic).await?.into_iter().filter(|extent| extent.first > 0) {
            let one = ReadLimit { events: 1, ..ReadLimit::default() };
            let oldest = log.read(&topic, extent.partition, extent.first, one).await?;
            // The newest of a partition stays however old it is, and what was before it may be younger.
            let oldest = oldest.first().filter(|oldest| oldest.offset + 1 < extent.next);
            let time = oldest.map(|stored| stored.event.time.as_nanosecond());
            let day = time.and_then(|time_ns| i64::try_from(time_ns.div_euclid(i128::from(DAY_NS))).ok());
            until = until.max(Some(day.unwrap_or(i64::MAX)));
        }
        let Some(until) = until else { continue };
        let of_ticks = [PRICES, QUOTES].map(|table| (topics::ENRICHED_TICKS, table.name)).into_iter();
        for (of, table) in of_ticks.chain(BAR_KINDS.map(|kind| (kind.topic, kind.table.name))) {
            if name == of || name == topics::CORRECTED_ROWS {
                cut.entry(table).and_modify(|day| *day = until.max(*day)).or_insert(until);
            }
        }
    }
    Ok(cut)
}
