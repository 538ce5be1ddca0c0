//! The `Columns` port.
//!
//! A row is one entry, whose key is tenant, table, series, time, id and revision, so that a series is read as one range in
//! its order. Revisions of a row lie next to each other, the lowest first; a read takes the last of them. A write looks up
//! the key of each row, to leave what is there as it is. Aggregates go over the range once and keep nothing but buckets.

mod stored;

use std::sync::Arc;

use async_trait::async_trait;
use fjall::{Guard, Slice};
use kernel::{Error, Result, Scope};
use store::{
    Accumulator, Aggregation, Bucket, ColumnPage, ColumnPlace, ColumnRow, ColumnScan, ColumnTable, Columns,
    TimeRange,
};
use tokio::sync::oneshot;

use crate::columns::stored::{Place, read_values, write_values};
use crate::engine::{Space, Tables, failure};
use crate::keys::Key;
use crate::writer::{Group, Job, Writer};

const REMOVED_AT_ONCE: usize = 5_000;

/// The columns of one folder.
#[derive(Debug)]
pub(crate) struct EmbeddedColumns {
    writer: Arc<Writer>,
}

impl EmbeddedColumns {
    pub(crate) fn new(writer: Arc<Writer>) -> Self {
        Self { writer }
    }

    /// Reads in a thread that may block.
    async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Tables) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let tables = self.writer.engine().tables()?;
        tokio::task::spawn_blocking(move || read(&tables)).await.map_err(Error::internal)?
    }

    /// Removes every entry of a range, some at a time; returns how many.
    async fn remove(&self, (start, end): (Vec<u8>, Vec<u8>)) -> Result<u64> {
        let mut removed = 0;
        loop {
            let (answer, answered) = oneshot::channel();
            let job = RemoveJob { start: start.clone(), end: end.clone(), removed: 0, answer };
            let found = self.writer.run(Box::new(job), answered).await?;
            if found == 0 {
                return Ok(removed);
            }
            removed += found;
        }
    }
}

fn table_key(scope: &Scope, table: ColumnTable) -> Key {
    Key::of(scope).name(table.name)
}

fn time_bytes(time_ns: i64) -> [u8; 8] {
    // The sign bit turned, so that times before 1970 come first.
    (time_ns ^ i64::MIN).to_be_bytes()
}

fn row_key(series: &Key, time_ns: i64, id: &str) -> Key {
    series.clone().last(&time_bytes(time_ns)).name(id)
}

/// The keys of a series within a range of time.
fn keys_of(series: &Key, range: TimeRange) -> (Vec<u8>, Vec<u8>) {
    let at = |time_ns| series.clone().last(&time_bytes(time_ns)).into_bytes();
    (at(range.from_ns), at(range.to_ns))
}

/// The rows that count of a range of one series, one after another, in either direction.
struct Rows<'a, I> {
    table: ColumnTable,
    series: &'a str,
    prefix: &'a [u8],
    entries: I,
    descending: bool,
    pending: Option<(Slice, Slice)>,
}

impl<I: Iterator<Item = Guard>> Rows<'_, I> {
    fn row(&self, (key, value): &(Slice, Slice)) -> Result<ColumnRow> {
        let place = Place::read(&key[self.prefix.len()..])?;
        Ok(ColumnRow {
            series: self.series.to_owned(),
            time_ns: place.time_ns,
            id: place.id.to_owned(),
            revision: place.revision,
            values: read_values(self.table, value)?,
        })
    }
}

impl<I: Iterator<Item = Guard>> Iterator for Rows<'_, I> {
    type Item = Result<ColumnRow>;

    fn next(&mut self) -> Option<Self::Item> {
        // All of a key but the revision names the row.
        let is_same = |left: &Slice, right: &Slice| left[..left.len() - 4] == right[..right.len() - 4];
        loop {
            let Some(guard) = self.entries.next() else {
                return self.pending.take().map(|entry| self.row(&entry));
            };
            let entry = match guard.into_inner() {
                Ok(entry) => entry,
                Err(cause) => return Some(Err(failure("a stored row cannot be read", cause))),
            };
            match self.pending.take() {
                None => self.pending = Some(entry),
                Some(pending) if is_same(&pending.0, &entry.0) => {
                    // The highest revision comes last, or first when the order is turned.
                    self.pending = Some(if self.descending { pending } else { entry });
                }
                Some(pending) => {
                    self.pending = Some(entry);
                    return Some(self.row(&pending));
                }
            }
        }
    }
}

/// Goes over the rows that count between two keys of a series.
fn rows_between<'a>(
    tables: &Tables,
    (table, series, key): (ColumnTable, &'a str, &'a Key),
    (start, end): (Vec<u8>, Vec<u8>),
    descending: bool,
) -> Rows<'a, Box<dyn Iterator<Item = Guard>>> {
    // A range that ends before it begins is none.
    let entries = tables.space(Space::Columns).range(start.clone()..end.max(start));
    let entries: Box<dyn Iterator<Item = Guard>> =
        if descending { Box::new(entries.rev()) } else { Box::new(entries) };
    Rows { table, series, prefix: key.bytes(), entries, descending, pending: None }
}

#[async_trait]
impl Columns for EmbeddedColumns {
    async fn append(&self, scope: &Scope, table: ColumnTable, rows: Vec<ColumnRow>) -> Result<u64> {
        table.check_rows(&rows)?;
        if rows.is_empty() {
            return Ok(0);
        }
        let table_key = table_key(scope, table);
        let entry = |row: &ColumnRow| {
            let series = table_key.clone().name(&row.series);
            let key = row_key(&series, row.time_ns, &row.id).last(&row.revision.to_be_bytes());
            (key.into_bytes().into(), write_values(&row.values))
        };
        let entries: Vec<(Slice, Slice)> = rows.iter().map(entry).collect();
        let (answer, answered) = oneshot::channel();
        self.writer.run(Box::new(AppendJob { entries, added: 0, answer }), answered).await
    }

    async fn scan(&self, scope: &Scope, table: ColumnTable, scan: &ColumnScan) -> Result<ColumnPage> {
        let after = scan.check(table)?;
        let series = table_key(scope, table).name(&scan.series);
        let scan = scan.clone();
        self.read(move |tables| {
            let (mut start, mut end) = keys_of(&series, scan.range);
            if let Some(ColumnPlace { time_ns, id }) = after {
                let key = row_key(&series, time_ns, &id);
                if scan.descending { end = key.into_bytes() } else { start = key.end() }
            }
            let of = (table, &*scan.series, &series);
            let rows = rows_between(tables, of, (start, end), scan.descending);
            // One more tells whether there is another page.
            let rows = rows.take(scan.limit + 1).collect::<Result<_>>()?;
            Ok(scan.page(table, rows))
        })
        .await
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
        let prefix = row_key(&table_key(scope, table).name(series), time_ns, id);
        let (series, id) = (series.to_owned(), id.to_owned());
        self.read(move |tables| {
            let row = |guard: Guard| {
                let (key, value) =
                    guard.into_inner().map_err(|cause| failure("a stored row cannot be read", cause))?;
                let revision = stored::read_revision(&key[prefix.bytes().len()..])?;
                let values = read_values(table, &value)?;
                Ok(ColumnRow { series: series.clone(), time_ns, id: id.clone(), revision, values })
            };
            tables.space(Space::Columns).prefix(prefix.bytes()).map(row).collect()
        })
        .await
    }

    async fn latest(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: &[&str],
        as_of_ns: i64,
    ) -> Result<Vec<ColumnRow>> {
        table.check_latest(series, as_of_ns)?;
        let table_key = table_key(scope, table);
        let series: Vec<String> = series.iter().map(|series| (*series).to_owned()).collect();
        // As of the last lawful time there is no time after.
        let range = TimeRange { from_ns: i64::MIN, to_ns: as_of_ns + 1 };
        self.read(move |tables| {
            let last = |series: &String| {
                let key = table_key.clone().name(series);
                rows_between(tables, (table, series, &key), keys_of(&key, range), true).next()
            };
            series.iter().filter_map(last).collect()
        })
        .await
    }

    async fn aggregate(
        &self,
        scope: &Scope,
        table: ColumnTable,
        aggregation: &Aggregation,
    ) -> Result<Vec<Bucket>> {
        aggregation.check(table)?;
        let series = table_key(scope, table).name(&aggregation.series);
        let aggregation = aggregation.clone();
        self.read(move |tables| {
            let mut sums = Accumulator::new(&aggregation, table)?;
            let of = (table, &*aggregation.series, &series);
            for row in rows_between(tables, of, keys_of(&series, aggregation.range), false) {
                sums.add(&row?)?;
            }
            Ok(sums.finish())
        })
        .await
    }

    async fn series(
        &self,
        scope: &Scope,
        table: ColumnTable,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>> {
        table.check_series(after, limit)?;
        let table_key = table_key(scope, table);
        let mut start =
            after.map_or_else(|| table_key.bytes().to_vec(), |after| table_key.clone().name(after).end());
        self.read(move |tables| {
            let mut found = Vec::new();
            while found.len() < limit {
                let Some(first) = tables.space(Space::Columns).range(start..table_key.end()).next() else {
                    break;
                };
                let (key, _) =
                    first.into_inner().map_err(|cause| failure("a stored row cannot be read", cause))?;
                let series = stored::read_name(&key[table_key.bytes().len()..])?.0.to_owned();
                // On to the next one, over all rows of this one.
                start = table_key.clone().name(&series).end();
                found.push(series);
            }
            Ok(found)
        })
        .await
    }

    async fn delete(
        &self,
        scope: &Scope,
        table: ColumnTable,
        series: Option<&str>,
        range: TimeRange,
    ) -> Result<u64> {
        table.check_delete(series, range)?;
        let table_key = table_key(scope, table);
        let of = |series: &str| keys_of(&table_key.clone().name(series), range);
        if let Some(series) = series {
            return self.remove(of(series)).await;
        }
        let (mut removed, mut after) = (0, None::<String>);
        loop {
            let page = self.series(scope, table, after.as_deref(), store::MAX_SERIES).await?;
            for series in &page {
                removed += self.remove(of(series)).await?;
            }
            after = page.last().cloned();
            if after.is_none() {
                return Ok(removed);
            }
        }
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        let tenant = Key::of(scope);
        self.remove((tenant.bytes().to_vec(), tenant.end())).await
    }
}

/// One call of `append`.
struct AppendJob {
    entries: Vec<(Slice, Slice)>,
    added: u64,
    answer: oneshot::Sender<Result<u64>>,
}

impl Job for AppendJob {
    fn bytes(&self) -> u64 {
        self.entries.iter().map(|(key, value)| (key.len() + value.len() + 32) as u64).sum()
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let mut new = Vec::with_capacity(self.entries.len());
        for (key, value) in std::mem::take(&mut self.entries) {
            if group.get(Space::Columns, &key)?.is_none() {
                new.push((key, value));
            }
        }
        // Everything was read before the first change; of two in the batch the first stays.
        for (key, value) in new {
            if group.pending(Space::Columns, &key).is_none_or(|pending| pending.is_none()) {
                group.put(Space::Columns, key, value);
                self.added += 1;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { added, answer, .. } = *self;
        let _ = answer.send(outcome.map(|()| added));
    }
}

/// Removes some entries of a range.
struct RemoveJob {
    start: Vec<u8>,
    end: Vec<u8>,
    removed: u64,
    answer: oneshot::Sender<Result<u64>>,
}

impl Job for RemoveJob {
    fn bytes(&self) -> u64 {
        REMOVED_AT_ONCE as u64 * 200
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        if self.start >= self.end {
            return Ok(());
        }
        let mut found = Vec::new();
        let entries = group.tables().space(Space::Columns).range(self.start.clone()..self.end.clone());
        for entry in entries {
            let key = entry.key().map_err(|cause| failure("a stored row cannot be read", cause))?;
            // An earlier job of the group may have removed it.
            if group.get(Space::Columns, &key)?.is_some() {
                found.push(key);
            }
            if found.len() == REMOVED_AT_ONCE {
                break;
            }
        }
        self.removed = found.len() as u64;
        found.into_iter().for_each(|key| group.remove(Space::Columns, key));
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let _ = self.answer.send(outcome.map(|()| self.removed));
    }
}
