//! The `Columns` port.
//!
//! Each declared table is a table `columns_NAME` with one typed column for each value, made when it is first used and
//! widened when a release adds columns. Its one index has the order of every read, so that a page, the last row of a series
//! and the next series are each found in it, and the highest revision of a row comes first. An append is one statement that
//! leaves what is there as it is. Aggregates are added up by the server, in the order of the rows.

mod sql;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Result, Scope, codes};
use parking_lot::Mutex;
use store::{
    Aggregation, Bucket, Column, ColumnKind, ColumnPage, ColumnRow, ColumnScan, ColumnTable, ColumnValue,
    Columns, Partial, TimeRange, out_of_precision,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::columns::sql::type_of;
use crate::database::Database;

const REMOVED_AT_ONCE: i32 = 5_000;

const OPEN: &str = "SELECT open_column_table($1, $2, $3)";
const ERASE: &str = "SELECT erase_columns($1, $2)";

/// The columns of one schema.
#[derive(Debug)]
pub(crate) struct PostgresColumns {
    database: Arc<Database>,
    /// The tables that are known to be there, with the columns they have.
    open: Mutex<HashMap<&'static str, &'static [Column]>>,
}

impl PostgresColumns {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database, open: Mutex::default() }
    }

    /// Sees to it that the table is there and has every column.
    async fn open(&self, table: ColumnTable) -> Result<()> {
        if self.open.lock().get(table.name).is_some_and(|held| held.starts_with(table.columns)) {
            return Ok(());
        }
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let types: Vec<&str> = table.columns.iter().map(|column| type_of(column.kind)).collect();
        let rows = self.database.query(OPEN, &[&table.name, &names, &types]).await?;
        if let Some(other) = rows.first().and_then(|row| row.get::<_, Option<String>>(0)) {
            let message = format!("column `{other}` of `{}` was stored as another kind", table.name);
            return Err(Error::new(codes::CORRUPTED, message));
        }
        self.open.lock().insert(table.name, table.columns);
        Ok(())
    }

    /// Removes what is in a range of a series, some at a time.
    async fn remove(&self, scope: &Scope, table: ColumnTable, series: &str, range: TimeRange) -> Result<u64> {
        let sql = sql::delete(table);
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&scope.tenant().as_str(), &series, &range.from_ns, &range.to_ns, &i64::from(REMOVED_AT_ONCE)];
        let mut removed = 0;
        loop {
            let found = count_of(&self.database.query(&sql, &parameters).await?);
            removed += found;
            if found == 0 {
                return Ok(removed);
            }
        }
    }
}

fn count_of(rows: &[Row]) -> u64 {
    rows.first().map_or(0, |row| row.get::<_, i64>(0).cast_unsigned())
}

/// A row whose first columns are time, id and revision, and whose values follow.
fn row_of(table: ColumnTable, series: String, row: &Row) -> Result<ColumnRow> {
    let value = |(place, column): (usize, &Column)| match column.kind {
        ColumnKind::Float => row.get::<_, Option<f64>>(place).map(ColumnValue::Float),
        ColumnKind::Integer => row.get::<_, Option<i64>>(place).map(ColumnValue::Integer),
        ColumnKind::Text => row.get::<_, Option<String>>(place).map(ColumnValue::Text),
    };
    let values = (3..).zip(table.columns).map(|at| value(at).unwrap_or(ColumnValue::Missing)).collect();
    let revision = u32::try_from(row.get::<_, i32>(2));
    let revision = revision.map_err(|_| Error::new(codes::CORRUPTED, "a stored revision is negative"))?;
    Ok(ColumnRow { series, time_ns: row.get(0), id: row.get(1), revision, values })
}

/// The values of one column, as an array.
fn array_of(rows: &[&ColumnRow], place: usize, kind: ColumnKind) -> Box<dyn ToSql + Sync + Send> {
    fn collect<T>(
        rows: &[&ColumnRow],
        place: usize,
        value: impl Fn(&ColumnValue) -> Option<T>,
    ) -> Vec<Option<T>> {
        rows.iter().map(|row| value(&row.values[place])).collect()
    }
    match kind {
        ColumnKind::Float => Box::new(collect(rows, place, |value| match value {
            ColumnValue::Float(number) => Some(*number),
            _ => None,
        })),
        ColumnKind::Integer => Box::new(collect(rows, place, |value| match value {
            ColumnValue::Integer(number) => Some(*number),
            _ => None,
        })),
        ColumnKind::Text => Box::new(collect(rows, place, |value| match value {
            ColumnValue::Text(text) => Some(text.clone()),
            _ => None,
        })),
    }
}

fn bucket_of(row: &Row, measures: usize) -> Bucket {
    let partial = |measure: usize| {
        let at = 2 + measure * sql::FIGURES;
        let count = row.get::<_, i64>(at).cast_unsigned();
        (count > 0).then(|| Partial {
            count,
            sum: row.get(at + 1),
            min: row.get(at + 2),
            max: row.get(at + 3),
            first: row.get(at + 4),
            last: row.get(at + 5),
            first_ns: row.get(at + 6),
            last_ns: row.get(at + 7),
        })
    };
    let rows = row.get::<_, i64>(1).cast_unsigned();
    Bucket { start_ns: row.get(0), rows, partials: (0..measures).map(partial).collect() }
}

#[async_trait]
impl Columns for PostgresColumns {
    async fn append(&self, scope: &Scope, table: ColumnTable, rows: Vec<ColumnRow>) -> Result<u64> {
        table.check_rows(&rows)?;
        if rows.is_empty() {
            return Ok(0);
        }
        self.open(table).await?;
        // In one order everywhere, so that two appends never wait for each other; the sort is stable, so that the first
        // of two stays the first.
        let mut sorted: Vec<&ColumnRow> = rows.iter().collect();
        sorted.sort_by_key(|row| (&row.series, row.time_ns, &row.id, row.revision));
        let revision = |row: &&ColumnRow| i32::try_from(row.revision).map_err(Error::internal);
        let series: Vec<&str> = sorted.iter().map(|row| &*row.series).collect();
        let times: Vec<i64> = sorted.iter().map(|row| row.time_ns).collect();
        let ids: Vec<&str> = sorted.iter().map(|row| &*row.id).collect();
        let revisions: Vec<i32> = sorted.iter().map(revision).collect::<Result<_>>()?;
        let arrays: Vec<Box<dyn ToSql + Sync + Send>> =
            (0..).zip(table.columns).map(|(place, column)| array_of(&sorted, place, column.kind)).collect();
        let tenant = scope.tenant().as_str();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&tenant, &series, &times, &ids, &revisions];
        parameters.extend(arrays.iter().map(|array| &**array as &(dyn ToSql + Sync)));
        Ok(count_of(&self.database.query(&sql::append(table), &parameters).await?))
    }

    async fn scan(&self, scope: &Scope, table: ColumnTable, scan: &ColumnScan) -> Result<ColumnPage> {
        let after = scan.check(table)?;
        self.open(table).await?;
        let TimeRange { mut from_ns, mut to_ns } = scan.range;
        if let Some(after) = &after {
            if scan.descending { to_ns = after.time_ns + 1 } else { from_ns = after.time_ns }
        }
        // One more tells whether there is another page.
        let limit = i64::try_from(scan.limit + 1).map_err(Error::internal)?;
        let tenant = scope.tenant().as_str();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&tenant, &scan.series, &from_ns, &to_ns, &limit];
        if let Some(after) = &after {
            parameters.extend([&after.time_ns as &(dyn ToSql + Sync), &after.id]);
        }
        let sql = sql::scan(table, scan.descending, after.is_some());
        let rows = self.database.read(&sql, &parameters).await?;
        let rows = rows.iter().map(|row| row_of(table, scan.series.clone(), row)).collect::<Result<_>>()?;
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
        self.open(table).await?;
        let parameters: [&(dyn ToSql + Sync); 4] = [&scope.tenant().as_str(), &series, &time_ns, &id];
        let rows = self.database.read(&sql::revisions(table), &parameters).await?;
        rows.iter().map(|row| row_of(table, series.to_owned(), row)).collect()
    }

    async fn latest(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &[&str],
        as_of_ns: i64,
    ) -> Result<Vec<ColumnRow>> {
        table.check_latest(series, as_of_ns)?;
        self.open(table).await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&scope.tenant().as_str(), &series, &as_of_ns];
        let rows = self.database.read(&sql::latest(table), &parameters).await?;
        rows.iter().map(|row| row_of(table, row.get(3 + table.columns.len()), row)).collect()
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        table: ColumnTable,
        aggregation: &Aggregation,
    ) -> Result<Vec<Bucket>> {
        aggregation.check(table)?;
        self.open(table).await?;
        let (range, bucket_ns) = (aggregation.range, aggregation.bucket_ns);
        // As far from zero as a bucket is long, so that no difference is beyond the numbers of the server.
        let origin_ns = aggregation.origin_ns.rem_euclid(bucket_ns);
        let tenant = scope.tenant().as_str();
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&tenant, &aggregation.series, &range.from_ns, &range.to_ns, &origin_ns, &bucket_ns];
        let found = self.database.read(&sql::aggregate(table, &aggregation.measures), &parameters).await;
        let rows = found.map_err(|error| match error.code() {
            // Nothing else of this statement can be out of its range.
            codes::VALIDATION_ERROR => out_of_precision(),
            _ => error,
        })?;
        Ok(rows.iter().map(|row| bucket_of(row, aggregation.measures.len())).collect())
    }

    async fn series(
        &self,
        scope: &Scope,
        table: ColumnTable,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        table.check_series(after, limit)?;
        self.open(table).await?;
        let limit = i64::try_from(limit).map_err(Error::internal)?;
        // No series has an empty name.
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&scope.tenant().as_str(), &after.unwrap_or_default(), &limit];
        let rows = self.database.read(&sql::series(table), &parameters).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn delete(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: Option<&str>,
        range: TimeRange,
    ) -> Result<u64> {
        table.check_delete(series, range)?;
        self.open(table).await?;
        if let Some(series) = series {
            return self.remove(scope, table, series, range).await;
        }
        let (mut removed, mut after) = (0, None::<String>);
        loop {
            let page = self.series(scope, table, after.as_deref(), store::MAX_SERIES).await?;
            for series in &page {
                removed += self.remove(scope, table, series, range).await?;
            }
            after = page.last().cloned();
            if after.is_none() {
                return Ok(removed);
            }
        }
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        let mut erased = 0;
        loop {
            let rows = self.database.query(ERASE, &[&scope.tenant().as_str(), &REMOVED_AT_ONCE]).await?;
            let found = count_of(&rows);
            if found == 0 {
                return Ok(erased);
            }
            erased += found;
        }
    }
}
