//! The `Records` port.
//!
//! A commit is one statement, which calls the function `commit_records` of the schema: it locks, compares, and writes.
//! A page is one statement, which continues after the last key (no `OFFSET`). Keys and values are stored as bytes.

mod ranges;
mod saved;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Error, Result, Scope, codes};
use store::{
    Expect, IndexValue, Page, Position, Query, Record, Records, RecordsSnapshot, SavedRecord, Selection,
    Table, Write,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use xxhash_rust::xxh3::xxh3_64;

use crate::database::Database;
use crate::records::ranges::{Range, read_value, value_bytes};

/// The most bytes one commit carries; the protocol has no room for more than 1 GiB.
const MAX_COMMIT_BYTES: usize = 256 << 20;

// Each lock takes a place in a table of the server that all connections share.
const MAX_KEY_LOCKS: usize = 64;

const ERASE_AT_ONCE: i32 = 5_000;

const GET: &str = "SELECT version, body FROM records WHERE tenant = $1 AND table_name = $2 AND key = $3";
const COMMIT: &str = "SELECT versions, conflict_place, conflict_version \
                      FROM commit_records($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
const ERASE: &str = "SELECT erase_records($1, $2, $3)";

/// The records of one schema.
#[derive(Debug)]
pub(crate) struct PostgresRecords {
    database: Arc<Database>,
    schema: String,
}

impl PostgresRecords {
    pub(crate) fn new(database: Arc<Database>, schema: String) -> Self {
        Self { database, schema }
    }

    /// The number of the advisory lock of a tenant, or of one of its keys.
    fn lock(&self, scope: &Scope, place: Option<(&str, &str)>) -> i64 {
        let (table, key) = place.unwrap_or_default();
        let parts = [&self.schema, scope.tenant().as_str(), table, key];
        xxh3_64(parts.join("\0").as_bytes()).cast_signed()
    }
}

fn version_of(version: i64) -> Result<u64> {
    u64::try_from(version).map_err(|_| Error::new(codes::CORRUPTED, "a stored version is negative"))
}

fn record_of(key: String, version: i64, body: Vec<u8>) -> Result<Record> {
    Ok(Record { key, version: version_of(version)?, body: Bytes::from(body) })
}

fn key_of(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|cause| Error::new(codes::CORRUPTED, "a stored key is not UTF-8").with_source(cause))
}

#[async_trait]
impl Records for PostgresRecords {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        let tenant = scope.tenant().as_str();
        let rows = self.database.read(GET, &[&tenant, &table.name, &key.as_bytes()]).await?;
        rows.first().map(|row| record_of(key.to_owned(), row.get(0), row.get(1))).transpose()
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        let after = query.check(table)?;
        let Some(range) = Range::new(query, after.as_ref()) else {
            return Ok(Page { records: Vec::new(), cursor: None });
        };
        // One more tells whether there is another page.
        let limit = i64::try_from(query.limit + 1).map_err(Error::internal)?;
        let tenant = scope.tenant().as_str();
        let rows = match &query.selection {
            Selection::All | Selection::Prefix(_) => {
                let mut parameters: Vec<&(dyn ToSql + Sync)> =
                    vec![&tenant, &table.name, &limit, &range.start];
                parameters.extend(range.end.as_ref().map(|end| end as &(dyn ToSql + Sync)));
                self.database.read(&by_key(&range, query.descending), &parameters).await?
            }
            Selection::Equal(index, _) | Selection::Between(index, ..) => {
                let (from_value, to_value) = (&range.start_value, &range.end_value);
                let parameters: [&(dyn ToSql + Sync); 8] =
                    [&tenant, &table.name, &limit, &range.start, &range.end, index, from_value, to_value];
                self.database.read(&by_value(query.descending), &parameters).await?
            }
        };
        page_of(table, query, rows)
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        Write::check_all(&writes)?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let columns = Columns::of(&writes)?;
        let key_locks = (writes.len() <= MAX_KEY_LOCKS).then(|| {
            let lock = |write: &Write| self.lock(scope, Some((write.table().name, write.key())));
            // In one order everywhere, so that two commits never wait for each other.
            let mut locks: Vec<i64> = writes.iter().map(lock).collect();
            locks.sort_unstable();
            locks.dedup();
            locks
        });
        let parameters: [&(dyn ToSql + Sync); 12] = [
            &scope.tenant().as_str(),
            &self.lock(scope, None),
            &key_locks,
            &columns.tables,
            &columns.keys,
            &columns.expects,
            &columns.bodies,
            &columns.index_names,
            &columns.value_tables,
            &columns.value_keys,
            &columns.value_names,
            &columns.values,
        ];
        let rows = self.database.query(COMMIT, &parameters).await?;
        let row = rows.first().ok_or_else(|| Error::internal("a commit had no answer"))?;
        if let Some(place) = row.get::<_, Option<i64>>(1) {
            let place = usize::try_from(place - 1).map_err(Error::internal)?;
            let write = writes.get(place).ok_or_else(|| Error::internal("a conflict has no write"))?;
            let found = row.get::<_, Option<i64>>(2).map(version_of).transpose()?;
            write.expect().check(write.table(), write.key(), found)?;
            return Err(Error::internal("a conflict is none"));
        }
        row.get::<_, Vec<i64>>(0).into_iter().map(version_of).collect()
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        let mut erased = 0;
        loop {
            let parameters: [&(dyn ToSql + Sync); 3] =
                [&scope.tenant().as_str(), &self.lock(scope, None), &ERASE_AT_ONCE];
            let rows = self.database.query(ERASE, &parameters).await?;
            let found: i64 = rows.first().map_or(0, |row| row.get(0));
            if found == 0 {
                return Ok(erased);
            }
            erased += version_of(found)?;
        }
    }

    fn snapshot(&self, except: &[&str]) -> RecordsSnapshot {
        saved::snapshot(Arc::clone(&self.database), except)
    }

    async fn restore(&self, records: Vec<SavedRecord>) -> Result<()> {
        saved::restore(&self.database, &records).await
    }
}

/// The writes of a commit, column by column.
#[derive(Default)]
struct Columns<'a> {
    tables: Vec<&'a str>,
    keys: Vec<&'a [u8]>,
    expects: Vec<i64>,
    bodies: Vec<Option<&'a [u8]>>,
    index_names: Vec<String>,
    value_tables: Vec<&'a str>,
    value_keys: Vec<&'a [u8]>,
    value_names: Vec<&'a str>,
    values: Vec<Vec<u8>>,
}

impl<'a> Columns<'a> {
    fn of(writes: &'a [Write]) -> Result<Self> {
        let mut columns = Self::default();
        let mut bytes = 0;
        for write in writes {
            let (table, key) = (write.table().name, write.key().as_bytes());
            columns.tables.push(table);
            columns.keys.push(key);
            columns.expects.push(match write.expect() {
                Expect::Any => -2,
                Expect::Absent => -1,
                // No version is ever so large.
                Expect::Version(version) => i64::try_from(version).unwrap_or(i64::MAX),
            });
            let (body, indexes): (_, &[(&'static str, IndexValue)]) = match write {
                Write::Put { body, indexes, .. } => (Some(&body[..]), indexes),
                Write::Delete { .. } => (None, &[]),
            };
            bytes += body.map_or(0, <[u8]>::len);
            columns.bodies.push(body);
            columns.index_names.push(indexes.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(","));
            for (name, value) in indexes {
                columns.value_tables.push(table);
                columns.value_keys.push(key);
                columns.value_names.push(name);
                columns.values.push(value_bytes(value));
            }
        }
        if bytes > MAX_COMMIT_BYTES {
            let message =
                format!("the bodies of a commit have at most {MAX_COMMIT_BYTES} bytes, not {bytes}");
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        Ok(columns)
    }
}

fn direction(is_descending: bool) -> &'static str {
    if is_descending { "DESC" } else { "ASC" }
}

fn by_key(range: &Range, is_descending: bool) -> String {
    // Two statements instead of one with "or null", which would read on to the end of the table.
    let end = if range.end.is_some() { "AND key < $5" } else { "" };
    format!(
        "SELECT key, version, body FROM records WHERE tenant = $1 AND table_name = $2 AND key >= $4 {end} \
         ORDER BY key {} LIMIT $3",
        direction(is_descending)
    )
}

fn by_value(is_descending: bool) -> String {
    let direction = direction(is_descending);
    format!(
        "SELECT r.key, r.version, r.body, v.value FROM ( \
             SELECT key, value FROM record_values \
             WHERE tenant = $1 AND table_name = $2 AND index_name = $6 \
             AND (value, key) >= ($7, $4) AND (value, key) < ($8, $5) \
             ORDER BY value {direction}, key {direction} LIMIT $3 \
         ) v JOIN LATERAL ( \
             SELECT key, version, body FROM records \
             WHERE tenant = $1 AND table_name = $2 AND key = v.key LIMIT 1 \
         ) r ON true \
         ORDER BY v.value {direction}, v.key {direction}"
    )
}

fn page_of(table: Table, query: &Query, rows: Vec<Row>) -> Result<Page> {
    let has_more = rows.len() > query.limit;
    let is_by_value = matches!(query.selection, Selection::Between(..));
    let mut records = Vec::with_capacity(rows.len().min(query.limit));
    let mut cursor = None;
    for (place, row) in rows.into_iter().take(query.limit).enumerate() {
        let record = record_of(key_of(row.get(0))?, row.get(1), row.get(2))?;
        if has_more && place + 1 == query.limit {
            let value = if is_by_value { Some(read_value(row.get(3))?) } else { None };
            cursor = Some(query.cursor_after(table, &Position { value, key: record.key.clone() }));
        }
        records.push(record);
    }
    Ok(Page { records, cursor })
}
