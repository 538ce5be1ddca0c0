//! The fake of the `Records` port: one sorted map; lists go over all of it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use kernel::{Result, Scope, TenantId};
use parking_lot::Mutex;

use crate::{
    IndexValue, Page, Position, Query, Record, Records, RecordsSnapshot, SavedRecord, Selection, Table, Write,
};

const SNAPSHOT_PAGE: usize = 1_000;

/// Records in one map.
#[derive(Debug, Default)]
pub struct MemoryRecords {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<(TenantId, String, String), Row>,
    last_version: u64,
}

#[derive(Debug)]
struct Row {
    version: u64,
    body: Bytes,
    indexes: Vec<(String, IndexValue)>,
}

impl MemoryRecords {
    /// No records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Row {
    fn value(&self, index: &str) -> Option<&IndexValue> {
        self.indexes.iter().find(|(name, _)| *name == index).map(|(_, value)| value)
    }

    /// Where the row stands in the list, if it is in it.
    fn position(&self, key: &str, selection: &Selection) -> Option<Position> {
        let position = |value| Some(Position { value, key: key.to_owned() });
        match selection {
            Selection::All => position(None),
            Selection::Prefix(prefix) => key.starts_with(prefix).then(|| position(None))?,
            Selection::Equal(index, value) => (self.value(index) == Some(value)).then(|| position(None))?,
            Selection::Between(index, from, to) => {
                let value = self.value(index).filter(|value| (from..=to).contains(value))?;
                position(Some(value.clone()))
            }
        }
    }
}

#[async_trait]
impl Records for MemoryRecords {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        let state = self.state.lock();
        let row = state.rows.get(&(scope.tenant().clone(), table.name.to_owned(), key.to_owned()));
        Ok(row.map(|row| Record { key: key.to_owned(), version: row.version, body: row.body.clone() }))
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        let after = query.check(table)?;
        let state = self.state.lock();
        let mut found: Vec<(Position, &Row)> = state
            .rows
            .iter()
            .filter(|((tenant, name, _), _)| tenant == scope.tenant() && *name == table.name)
            .filter_map(|((_, _, key), row)| Some((row.position(key, &query.selection)?, row)))
            .collect();
        found.sort_by(|left, right| left.0.cmp(&right.0));
        if query.descending {
            found.reverse();
        }
        if let Some(after) = after {
            found.retain(|(at, _)| if query.descending { *at < after } else { *at > after });
        }
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let cursor = found.last().filter(|_| more).map(|(position, _)| query.cursor_after(table, position));
        let record = |(at, row): (Position, &Row)| Record {
            key: at.key,
            version: row.version,
            body: row.body.clone(),
        };
        Ok(Page { records: found.into_iter().map(record).collect(), cursor })
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        Write::check_all(&writes)?;
        let mut state = self.state.lock();
        let place =
            |write: &Write| (scope.tenant().clone(), write.table().name.to_owned(), write.key().to_owned());
        for write in &writes {
            let found = state.rows.get(&place(write)).map(|row| row.version);
            write.expect().check(write.table(), write.key(), found)?;
        }
        let mut versions = Vec::with_capacity(writes.len());
        for write in writes {
            let place = place(&write);
            match write {
                Write::Put { body, indexes, .. } => {
                    state.last_version += 1;
                    let version = state.last_version;
                    let indexes = indexes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                    state.rows.insert(place, Row { version, body, indexes });
                    versions.push(version);
                }
                Write::Delete { .. } => {
                    state.rows.remove(&place);
                    versions.push(0);
                }
            }
        }
        Ok(versions)
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        let mut state = self.state.lock();
        let before = state.rows.len();
        state.rows.retain(|(tenant, _, _), _| tenant != scope.tenant());
        Ok((before - state.rows.len()) as u64)
    }
    fn snapshot(&self, except: &[&str]) -> RecordsSnapshot {
        let state = self.state.lock();
        let rows = state.rows.iter().filter(|((_, table, _), _)| !except.contains(&table.as_str()));
        let saved = rows.map(|((tenant, table, key), row)| {
            let mut indexes = row.indexes.clone();
            indexes.sort();
            SavedRecord {
                tenant: tenant.clone(),
                table: table.clone(),
                key: key.clone(),
                version: row.version,
                body: row.body.clone(),
                indexes,
            }
        });
        let saved: Vec<SavedRecord> = saved.collect();
        let pages: Vec<Result<Vec<SavedRecord>>> =
            saved.chunks(SNAPSHOT_PAGE).map(|page| Ok(page.to_vec())).collect();
        Box::pin(stream::iter(pages))
    }

    async fn restore(&self, records: Vec<SavedRecord>) -> Result<()> {
        let mut state = self.state.lock();
        for saved in records {
            state.last_version = state.last_version.max(saved.version);
            let row = Row { version: saved.version, body: saved.body, indexes: saved.indexes };
            state.rows.insert((saved.tenant, saved.table, saved.key), row);
        }
        Ok(())
    }
}
