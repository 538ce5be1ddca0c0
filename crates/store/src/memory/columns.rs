//! The fake of the `Columns` port: one sorted map; every read goes over all of it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use kernel::{Result, Scope, TenantId};
use parking_lot::RwLock;

use crate::{
    Accumulator, Aggregation, Bucket, ColumnPage, ColumnPlace, ColumnRow, ColumnScan, ColumnTable,
    ColumnValue, Columns, TimeRange,
};

/// Tenant, table, series, time, id.
type Name = (TenantId, String, String, i64, String);
type Revisions = BTreeMap<u32, Vec<ColumnValue>>;

/// Rows in a map.
#[derive(Debug, Default)]
pub struct MemoryColumns {
    rows: RwLock<BTreeMap<Name, Revisions>>,
}

impl MemoryColumns {
    /// No rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The row that counts of each name that passes, in order.
    fn rows(
        &self,
        scope: &Scope,
        table: ColumnTable,
        passes: impl Fn(&str, i64, &str) -> bool,
    ) -> Vec<ColumnRow> {
        let rows = self.rows.read();
        let of_table = rows.iter().filter(|(name, _)| name.0 == *scope.tenant() && name.1 == table.name);
        of_table
            .filter(|(name, _)| passes(&name.2, name.3, &name.4))
            .filter_map(|(name, revisions)| Some(row_of(table, name, revisions.last_key_value()?)))
            .collect()
    }
}

fn row_of(table: ColumnTable, name: &Name, (revision, values): (&u32, &Vec<ColumnValue>)) -> ColumnRow {
    let mut values = values.clone();
    values.resize(table.columns.len(), ColumnValue::Missing);
    ColumnRow { series: name.2.clone(), time_ns: name.3, id: name.4.clone(), revision: *revision, values }
}

#[async_trait]
impl Columns for MemoryColumns {
    async fn append(&self, scope: &Scope, table: ColumnTable, rows: Vec<ColumnRow>) -> Result<u64> {
        table.check_rows(&rows)?;
        let mut held = self.rows.write();
        let mut added = 0;
        for row in rows {
            let name = (scope.tenant().clone(), table.name.to_owned(), row.series, row.time_ns, row.id);
            let revisions = held.entry(name).or_default();
            revisions.entry(row.revision).or_insert_with(|| {
                added += 1;
                row.values
            });
        }
        Ok(added)
    }

    async fn scan(&self, scope: &Scope, table: ColumnTable, scan: &ColumnScan) -> Result<ColumnPage> {
        let after = scan.check(table)?;
        let is_after = |time_ns: i64, id: &str| {
            let Some(after) = &after else { return true };
            let place = ColumnPlace { time_ns, id: id.to_owned() };
            if scan.descending { place < *after } else { place > *after }
        };
        let mut rows = self.rows(scope, table, |series, time_ns, id| {
            series == scan.series && scan.range.contains(time_ns) && is_after(time_ns, id)
        });
        if scan.descending {
            rows.reverse();
        }
        Ok(scan.page(table, rows))
    }

    async fn revisions(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &str,
        time_ns: i64,
        id: &str,
    ) -> Result<Vec<ColumnRow>> {
        table.check_row_name(series, time_ns, id)?;
        let name = (scope.tenant().clone(), table.name.to_owned(), series.to_owned(), time_ns, id.to_owned());
        let rows = self.rows.read();
        Ok(rows.get(&name).into_iter().flatten().map(|revision| row_of(table, &name, revision)).collect())
    }

    async fn latest(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &[&str],
        as_of_ns: i64,
    ) -> Result<Vec<ColumnRow>> {
        table.check_latest(series, as_of_ns)?;
        let last = |wanted: &&str| {
            self.rows(scope, table, |series, time_ns, _| series == *wanted && time_ns <= as_of_ns).pop()
        };
        Ok(series.iter().filter_map(last).collect())
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        table: ColumnTable,
        aggregation: &Aggregation,
    ) -> Result<Vec<Bucket>> {
        let mut sums = Accumulator::new(aggregation, table)?;
        let passes = |series: &str, time_ns: i64, _: &str| {
            series == aggregation.series && aggregation.range.contains(time_ns)
        };
        self.rows(scope, table, passes).iter().try_for_each(|row| sums.add(row))?;
        Ok(sums.finish())
    }

    async fn series(
        &self,
        scope: &Scope,
        table: ColumnTable,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        table.check_series(after, limit)?;
        let rows = self.rows(scope, table, |series, _, _| after.is_none_or(|after| series > after));
        let series: BTreeSet<String> = rows.into_iter().map(|row| row.series).collect();
        Ok(series.into_iter().take(limit).collect())
    }

    async fn delete(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: Option<&str>,
        range: TimeRange,
    ) -> Result<u64> {
        table.check_delete(series, range)?;
        let goes = |name: &Name| {
            name.0 == *scope.tenant()
                && name.1 == table.name
                && series.is_none_or(|series| name.2 == series)
                && range.contains(name.3)
        };
        Ok(remove(&mut self.rows.write(), goes))
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        Ok(remove(&mut self.rows.write(), |name| name.0 == *scope.tenant()))
    }
}

fn remove(rows: &mut BTreeMap<Name, Revisions>, goes: impl Fn(&Name) -> bool) -> u64 {
    let mut removed = 0;
    rows.retain(|name, revisions| {
        let stays = !goes(name);
        removed += if stays { 0 } else { revisions.len() as u64 };
        stays
    });
    removed
}
