//! The `Records` port.
//!
//! A record is its version, its index entries (so that they can be removed when it changes), and its body. An index
//! entry is a key alone; it sorts by value and then by key. Versions come from one counter for the whole folder, so
//! that no key ever has the same version twice.

mod saved;
mod stored;

use std::sync::Arc;

use async_trait::async_trait;
use fjall::{Readable, Slice};
use kernel::{Error, Result, Scope, codes};
use store::{
    IndexValue, Page, Position, Query, Record, Records, RecordsSnapshot, SavedRecord, Selection, Table, Write,
};
use tokio::sync::oneshot;

use crate::engine::{Space, Tables, failure};
use crate::keys::{Key, read_value};
use crate::records::stored::StoredRecord;
use crate::writer::{Group, Job, Writer};

const ERASE_AT_ONCE: usize = 1_000;

/// The records of one folder.
#[derive(Debug)]
pub(crate) struct EmbeddedRecords {
    writer: Arc<Writer>,
}

impl EmbeddedRecords {
    pub(crate) fn new(writer: Arc<Writer>) -> Self {
        Self { writer }
    }
}

fn table_key(scope: &Scope, table: Table) -> Key {
    Key::of(scope).name(table.name)
}

fn index_key(scope: &Scope, table: Table, index: &str) -> Key {
    table_key(scope, table).name(index)
}

#[async_trait]
impl Records for EmbeddedRecords {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        let tables = self.writer.engine().tables()?;
        let place = table_key(scope, table).last(key.as_bytes());
        let found = tables.get(Space::Records, place.bytes())?;
        found.map(|bytes| Ok(StoredRecord::read(&bytes)?.into_record(key.to_owned()))).transpose()
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        let after = query.check(table)?;
        let tables = self.writer.engine().tables()?;
        let listing = Listing::new(scope, table, query.clone(), after);
        tokio::task::spawn_blocking(move || listing.run(&tables)).await.map_err(Error::internal)?
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        Write::check_all(&writes)?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let job = CommitJob { scope: scope.clone(), writes, versions: Vec::new(), answer };
        self.writer.run(Box::new(job), answered).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        let mut erased = 0;
        loop {
            let (answer, answered) = oneshot::channel();
            let job = EraseJob { scope: scope.clone(), erased: 0, answer };
            let found = self.writer.run(Box::new(job), answered).await?;
            if found == 0 {
                return Ok(erased);
            }
            erased += found;
        }
    }

    fn snapshot(&self, except: &[&str]) -> RecordsSnapshot {
        saved::snapshot(self.writer.engine().tables(), except)
    }

    async fn restore(&self, records: Vec<SavedRecord>) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.writer.run(Box::new(saved::RestoreJob { records, answer }), answered).await
    }
}

/// The key under which the newest version is kept, and that version as the group has it.
fn newest_version(group: &Group<'_>) -> Result<(Slice, u64)> {
    let key: Slice = Key::default().name("version").into_bytes().into();
    let version = group.get(Space::Meta, &key)?.map_or(Ok(0), |bytes| {
        let damaged = |_| Error::new(codes::CORRUPTED, "the newest version cannot be read");
        <[u8; 8]>::try_from(&*bytes).map(u64::from_be_bytes).map_err(damaged)
    })?;
    Ok((key, version))
}

/// One page: where in the keys it lies and how to read an entry.
struct Listing {
    table: Table,
    query: Query,
    after: Option<Position>,
    records: Key,
    entries: Key,
    is_indexed: bool,
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Listing {
    fn new(scope: &Scope, table: Table, query: Query, after: Option<Position>) -> Self {
        let records = table_key(scope, table);
        let index = |name| index_key(scope, table, name);
        // What every key of the list begins with, what it starts at, and what it ends before.
        let (entries, start, end) = match &query.selection {
            Selection::All => (records.clone(), records.clone(), records.end()),
            Selection::Prefix(prefix) => {
                let start = records.clone().last(prefix.as_bytes());
                let end = start.end();
                (records.clone(), start, end)
            }
            Selection::Equal(name, value) => {
                let entries = index(name).value(value);
                let end = entries.end();
                (entries.clone(), entries, end)
            }
            Selection::Between(name, from, to) => {
                (index(name), index(name).value(from), index(name).value(to).end())
            }
        };
        let is_indexed = matches!(&query.selection, Selection::Equal(..) | Selection::Between(..));
        Self { table, query, after, records, entries, is_indexed, start: start.into_bytes(), end }
    }

    /// The range that is left after the cursor. A cursor from outside the list cannot widen it.
    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut start, mut end) = (self.start.clone(), self.end.clone());
        if let Some(after) = &self.after {
            let mut place = self.entries.clone();
            if let Some(value) = &after.value {
                place = place.value(value);
            }
            let place = place.last(after.key.as_bytes()).into_bytes();
            if self.query.descending {
                end = end.min(place);
            } else {
                // The smallest key that is larger.
                start = start.max([&place[..], &[0]].concat());
            }
        }
        (start, end)
    }

    fn run(&self, tables: &Tables) -> Result<Page> {
        let (start, end) = self.range();
        let mut records = Vec::new();
        let mut cursor = None;
        if start >= end {
            return Ok(Page { records, cursor });
        }
        let snapshot = tables.snapshot();
        let space = if self.is_indexed { Space::Indexes } else { Space::Records };
        let entries = snapshot.range(tables.space(space), start..end);
        let entries: Box<dyn Iterator<Item = fjall::Guard>> =
            if self.query.descending { Box::new(entries.rev()) } else { Box::new(entries) };
        let mut last = None;
        for entry in entries {
            if records.len() == self.query.limit {
                cursor = last.map(|position| self.query.cursor_after(self.table, &position));
                break;
            }
            let (place, value) =
                entry.into_inner().map_err(|cause| failure("a stored record cannot be read", cause))?;
            let position = self.position(&place)?;
            let bytes =
                if self.is_indexed { self.record_at(tables, &snapshot, &position.key)? } else { value };
            records.push(StoredRecord::read(&bytes)?.into_record(position.key.clone()));
            last = Some(position);
        }
        Ok(Page { records, cursor })
    }

    fn position(&self, place: &[u8]) -> Result<Position> {
        let rest = &place[self.entries.bytes().len()..];
        let (value, key) = match &self.query.selection {
            Selection::Between(..) => {
                let (value, key) = read_value(rest)?;
                (Some(value), key)
            }
            _ => (None, rest),
        };
        let key = String::from_utf8(key.to_vec());
        let key = key.map_err(|_| Error::new(codes::CORRUPTED, "a stored key is not text"))?;
        Ok(Position { value, key })
    }

    fn record_at(&self, tables: &Tables, snapshot: &fjall::Snapshot, key: &str) -> Result<Slice> {
        let place = self.records.clone().last(key.as_bytes());
        let found = snapshot
            .get(tables.space(Space::Records), place.bytes())
            .map_err(|cause| failure("a stored record cannot be read", cause))?;
        found.ok_or_else(|| {
            let message = format!("an index of `{}` names `{key}`, which is not there", self.table.name);
            Error::new(codes::CORRUPTED, message)
        })
    }
}

/// One call of `commit`.
struct CommitJob {
    scope: Scope,
    writes: Vec<Write>,
    versions: Vec<u64>,
    answer: oneshot::Sender<Result<Vec<u64>>>,
}

impl Job for CommitJob {
    fn bytes(&self) -> u64 {
        let of = |write: &Write| match write {
            Write::Put { key, body, indexes, .. } => key.len() + body.len() + 200 + indexes.len() * 700,
            Write::Delete { key, .. } => key.len() + 200,
        };
        self.writes.iter().map(|write| of(write) as u64).sum()
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        // Everything is read and compared before the first change.
        let mut earlier = Vec::with_capacity(self.writes.len());
        for write in &self.writes {
            let place: Slice =
                table_key(&self.scope, write.table()).last(write.key().as_bytes()).into_bytes().into();
            let found =
                group.get(Space::Records, &place)?.map(|bytes| StoredRecord::read(&bytes)).transpose()?;
            write.expect().check(write.table(), write.key(), found.as_ref().map(|record| record.version))?;
            earlier.push((place, found));
        }
        let (version_key, mut version) = newest_version(group)?;
        for (write, (place, found)) in std::mem::take(&mut self.writes).into_iter().zip(earlier) {
            for entry in found.iter().flat_map(|record| &record.entries) {
                group.remove_unseen(Space::Indexes, entry.clone());
            }
            match write {
                Write::Put { table, key, body, indexes, .. } => {
                    version += 1;
                    let entry = |(name, value): &(&str, IndexValue)| {
                        index_key(&self.scope, table, name)
                            .value(value)
                            .last(key.as_bytes())
                            .into_bytes()
                            .into()
                    };
                    let entries: Vec<Slice> = indexes.iter().map(entry).collect();
                    for entry in &entries {
                        group.put_unseen(Space::Indexes, entry.clone(), Slice::from([]));
                    }
                    group.put(Space::Records, place, StoredRecord { version, entries, body }.write());
                    self.versions.push(version);
                }
                Write::Delete { .. } => {
                    if found.is_some() {
                        group.remove(Space::Records, place);
                    }
                    self.versions.push(0);
                }
            }
        }
        group.put(Space::Meta, version_key, version.to_be_bytes().into());
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { versions, answer, .. } = *self;
        let _ = answer.send(outcome.map(|()| versions));
    }
}

/// Removes some records of a tenant.
struct EraseJob {
    scope: Scope,
    erased: u64,
    answer: oneshot::Sender<Result<u64>>,
}

impl Job for EraseJob {
    fn bytes(&self) -> u64 {
        ERASE_AT_ONCE as u64 * 200
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let prefix = Key::of(&self.scope);
        let mut found = Vec::new();
        for entry in group.tables().space(Space::Records).prefix(prefix.bytes()).take(ERASE_AT_ONCE) {
            let (place, value) =
                entry.into_inner().map_err(|cause| failure("a stored record cannot be read", cause))?;
            // An earlier job of the group may have changed or removed it.
            let record = match group.get(Space::Records, &place)? {
                Some(newer) => StoredRecord::read(&newer)?,
                None => {
                    StoredRecord::read(&value)?;
                    continue;
                }
            };
            found.push((place, record));
        }
        self.erased = found.len() as u64;
        for (place, record) in found {
            for entry in record.entries {
                group.remove_unseen(Space::Indexes, entry);
            }
            group.remove(Space::Records, place);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let _ = self.answer.send(outcome.map(|()| self.erased));
    }
}
