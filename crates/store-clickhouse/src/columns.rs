//! The `Columns` port: each declared table is a table `columns_NAME`, its rows in the order of every read.
//!
//! `lib.rs` says how rows decide among themselves. What is older than a table is kept (`retention_days`) is passed over by
//! reads from the moment on, so that it does not matter when the server drops it, and no earlier revision comes to light
//! because a later one was dropped first.

mod sql;
mod tables;

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Entropy, Error, Result, Scope, codes};
use store::{
    Aggregation, Bucket, ColumnPage, ColumnRow, ColumnScan, ColumnTable, Columns, MAX_TIME_NS, Partial,
    TimeRange, out_of_precision,
};
use tokio::sync::{Mutex, MutexGuard};

use crate::client::Client;
use crate::columns::sql::Rows;
use crate::columns::tables::Tables;
use crate::config::Settings;
use crate::encoding::{Reader, put_text, put_value};
use crate::migrations::{TABLES, tables};

const DAY_NS: i64 = 86_400 * 1_000_000_000;
/// How far back the last row of a series is looked for first: most are near, and months that are not looked at cost nothing.
const NEAR_NS: [i64; 2] = [2 * DAY_NS, 60 * DAY_NS];
const TURNS: usize = 64;

/// The columns of one database.
#[derive(Debug)]
pub(crate) struct ClickHouseColumns {
    client: Arc<Client>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tables: Tables,
    patience: Duration,
    /// Who looks what is there and then writes does so alone in this process, of each table of a tenant.
    turns: [Mutex<()>; TURNS],
}

/// What names a row in a revision.
type Name = (String, i64, String, u32);

fn name_of(row: &ColumnRow) -> Name {
    (row.series.clone(), row.time_ns, row.id.clone(), row.revision)
}

impl ClickHouseColumns {
    pub(crate) fn new(
        client: Arc<Client>,
        settings: &Settings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let tables = Tables::new(Arc::clone(&client), settings);
        let (patience, turns) = (settings.request_timeout(), std::array::from_fn(|_| Mutex::new(())));
        Self { client, clock, entropy, tables, patience, turns }
    }

    /// Waits as long as a statement may take: behind a delete that takes longer callers come again.
    async fn turn(&self, scope: &Scope, table: &str) -> Result<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        (scope.tenant().as_str(), table).hash(&mut hasher);
        let turn = &self.turns[usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0)];
        tokio::time::timeout(self.patience, turn.lock()).await.map_err(|_| {
            let message = format!("others write to or delete from `{table}` for too long; send it again");
            Error::new(codes::OVERLOADED, message)
        })
    }

    /// The rows of a tenant in a table, which is there afterwards.
    async fn rows<'a>(&'a self, scope: &'a Scope, table: ColumnTable) -> Result<Rows<'a>> {
        self.tables.open(table).await?;
        Ok(self.tables.rows(scope, table))
    }

    /// The first time that is kept of a table.
    fn kept_from_ns(&self, table: ColumnTable) -> i64 {
        let Some(days) = self.tables.retention_days(table.name) else { return -MAX_TIME_NS };
        let now_ns = i64::try_from(self.clock.now().as_nanosecond()).unwrap_or(MAX_TIME_NS);
        now_ns.saturating_sub(i64::from(days) * DAY_NS).max(-MAX_TIME_NS)
    }

    fn kept(&self, table: ColumnTable, range: TimeRange) -> TimeRange {
        TimeRange { from_ns: range.from_ns.max(self.kept_from_ns(table)), ..range }
    }

    /// Higher the earlier it is, and different for each append.
    fn precedence(&self) -> u128 {
        let now_us = u64::try_from(self.clock.now().as_microsecond()).unwrap_or(0);
        (u128::from(u64::MAX - now_us) << 64) | u128::from(self.entropy.next_u64())
    }

    /// The precedence of each of these rows that is there.
    async fn known(&self, of: &Rows<'_>, rows: &[&ColumnRow]) -> Result<HashMap<Name, u128>> {
        let answer = self.client.read(of.known(rows)?).await?;
        let mut reader = Reader(&answer);
        let mut known: HashMap<Name, u128> = HashMap::new();
        while !reader.is_empty() {
            let name = (reader.text()?, reader.i64()?, reader.text()?, reader.u32()?);
            known.insert(name, reader.u128()?);
        }
        Ok(known)
    }

    async fn select(&self, table: ColumnTable, statement: String) -> Result<Vec<ColumnRow>> {
        let answer = self.client.read(statement).await?;
        let mut reader = Reader(&answer);
        let mut rows = Vec::new();
        while !reader.is_empty() {
            rows.push(ColumnRow {
                series: reader.text()?,
                time_ns: reader.i64()?,
                id: reader.text()?,
                revision: reader.u32()?,
                values: reader.values(table)?,
            });
        }
        Ok(rows)
    }

    async fn remove(&self, of: &Rows<'_>, series: Option<&str>, range: Option<TimeRange>) -> Result<u64> {
        let removed = Reader(&self.client.read(of.count(series, range)).await?).u64()?;
        if removed > 0 {
            self.client.work(of.remove(series, range)).await?;
        }
        Ok(removed)
    }
}

/// The rows of an INSERT.
fn encoded(scope: &Scope, rows: &[&ColumnRow], precedence: u128) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.bytes() + 64).sum());
    for row in rows {
        put_text(&mut bytes, scope.tenant().as_str());
        put_text(&mut bytes, &row.series);
        bytes.extend(row.time_ns.to_le_bytes());
        put_text(&mut bytes, &row.id);
        bytes.extend(row.revision.to_le_bytes());
        bytes.extend(precedence.to_le_bytes());
        row.values.iter().for_each(|value| put_value(&mut bytes, value));
    }
    bytes
}

fn buckets_of(answer: &[u8], measures: usize) -> Result<Vec<Bucket>> {
    let mut reader = Reader(answer);
    let mut buckets = Vec::new();
    while !reader.is_empty() {
        let mut bucket =
            Bucket { start_ns: reader.i64()?, rows: reader.u64()?, partials: Vec::with_capacity(measures) };
        for _ in 0..measures {
            let partial = Partial {
                count: reader.u64()?,
                sum: reader.f64()?,
                min: reader.f64()?,
                max: reader.f64()?,
                first: reader.f64()?,
                last: reader.f64()?,
                first_ns: reader.i64()?,
                last_ns: reader.i64()?,
            };
            let lost = reader.u64()?;
            if lost > 0 || !partial.sum.is_finite() {
                return Err(out_of_precision());
            }
            bucket.partials.push((partial.count > 0).then_some(partial));
        }
        buckets.push(bucket);
    }
    Ok(buckets)
}

#[async_trait]
impl Columns for ClickHouseColumns {
    async fn append(&self, scope: &Scope, table: ColumnTable, rows: Vec<ColumnRow>) -> Result<u64> {
        table.check_rows(&rows)?;
        if rows.is_empty() {
            return Ok(0);
        }
        let of = self.rows(scope, table).await?;
        let mut seen = HashSet::new();
        let rows: Vec<&ColumnRow> = rows.iter().filter(|row| seen.insert(name_of(row))).collect();
        let _turn = self.turn(scope, table.name).await?;
        let (precedence, mut attempts) = (self.precedence(), 0);
        loop {
            let known = self.known(&of, &rows).await?;
            let own =
                known.iter().filter(|(name, held)| **held == precedence && seen.contains(*name)).count();
            let missing: Vec<&ColumnRow> =
                rows.iter().filter(|row| !known.contains_key(&name_of(row))).copied().collect();
            let added = (own + missing.len()) as u64;
            if missing.is_empty() {
                return Ok(added);
            }
            let bytes = encoded(scope, &missing, precedence);
            match self.client.insert(&of.insert(), bytes).await {
                Ok(()) => return Ok(added),
                Err(failure) if self.client.may_go_on(&failure, attempts).await => attempts += 1,
                Err(failure) => return Err(failure.error),
            }
        }
    }

    async fn scan(&self, scope: &Scope, table: ColumnTable, scan: &ColumnScan) -> Result<ColumnPage> {
        let after = scan.check(table)?;
        let of = self.rows(scope, table).await?;
        let mut range = self.kept(table, scan.range);
        if let Some(after) = &after {
            if scan.descending {
                range.to_ns = after.time_ns + 1;
            } else {
                range.from_ns = range.from_ns.max(after.time_ns);
            }
        }
        let rows = self.select(table, of.scan(scan, range, after.as_ref())).await?;
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
        let of = self.rows(scope, table).await?;
        if time_ns < self.kept_from_ns(table) {
            return Ok(Vec::new());
        }
        self.select(table, of.revisions(series, time_ns, id)).await
    }

    async fn latest(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &[&str],
        as_of_ns: i64,
    ) -> Result<Vec<ColumnRow>> {
        table.check_latest(series, as_of_ns)?;
        let of = self.rows(scope, table).await?;
        let kept_from_ns = self.kept_from_ns(table);
        let now_ns = i64::try_from(self.clock.now().as_nanosecond()).unwrap_or(MAX_TIME_NS);
        let near = NEAR_NS.map(|length_ns| as_of_ns.min(now_ns).saturating_sub(length_ns).max(kept_from_ns));
        let mut found: HashMap<String, ColumnRow> = HashMap::new();
        for from_ns in near.into_iter().chain([kept_from_ns]) {
            let missing: Vec<&str> =
                series.iter().filter(|name| !found.contains_key(**name)).copied().collect();
            if missing.is_empty() {
                break;
            }
            let rows = self.select(table, of.latest(&missing, from_ns, as_of_ns)).await?;
            found.extend(rows.into_iter().map(|row| (row.series.clone(), row)));
        }
        Ok(series.iter().filter_map(|name| found.remove(*name)).collect())
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        table: ColumnTable,
        aggregation: &Aggregation,
    ) -> Result<Vec<Bucket>> {
        aggregation.check(table)?;
        let of = self.rows(scope, table).await?;
        let range = self.kept(table, aggregation.range);
        let answer = self.client.read(of.aggregate(aggregation, range)?).await?;
        buckets_of(&answer, aggregation.measures.len())
    }

    async fn series(
        &self,
        scope: &Scope,
        table: ColumnTable,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        table.check_series(after, limit)?;
        let of = self.rows(scope, table).await?;
        // No series has an empty name.
        let statement = of.series(after.unwrap_or_default(), self.kept_from_ns(table), limit);
        let answer = self.client.read(statement).await?;
        let mut reader = Reader(&answer);
        let mut names = Vec::new();
        while !reader.is_empty() {
            names.push(reader.text()?);
        }
        Ok(names)
    }

    async fn delete(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: Option<&str>,
        range: TimeRange,
    ) -> Result<u64> {
        table.check_delete(series, range)?;
        let of = self.rows(scope, table).await?;
        let _turn = self.turn(scope, table.name).await?;
        self.remove(&of, series, Some(range)).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        let mut erased = 0;
        for name in tables(&self.client, self.tables.database()).await? {
            let bare = name
                .strip_prefix(TABLES)
                .ok_or_else(|| Error::new(codes::CORRUPTED, format!("`{name}` is no table of columns")))?;
            let of = self.tables.rows(scope, ColumnTable { name: "", columns: &[] }).of_table(&name);
            let _turn = self.turn(scope, bare).await?;
            erased += self.remove(&of, None, None).await?;
        }
        Ok(erased)
    }
}
