//! Records as a backup keeps them: all of one moment out, and back in with their versions.

use std::sync::Arc;

use fjall::{Readable, Slice};
use kernel::{Error, Result, TenantId, codes};
use store::{IndexValue, RecordsSnapshot, SavedRecord};
use tokio::sync::{mpsc, oneshot};

use crate::engine::{Space, Tables, failure};
use crate::keys::{Key, read_value};
use crate::records::newest_version;
use crate::records::stored::StoredRecord;
use crate::writer::{Group, Job};

const PAGE_RECORDS: usize = 1_000;
const PAGE_BYTES: usize = 4 << 20;
/// Pages that wait for whoever reads them.
const PAGES_AHEAD: usize = 2;

type Page = Result<Vec<SavedRecord>>;

/// Reads on a thread of its own, for as long as somebody takes the pages.
pub(super) fn snapshot(tables: Result<Arc<Tables>>, except: &[&str]) -> RecordsSnapshot {
    let except: Vec<String> = except.iter().map(|&table| table.to_owned()).collect();
    let (sender, receiver) = mpsc::channel(PAGES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let outcome = tables.and_then(|tables| read(&tables, &except, &sender));
        if let Err(error) = outcome {
            // Whoever does not listen any more need not know.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let next = async |mut pages: mpsc::Receiver<Page>| pages.recv().await.map(|page| (page, pages));
    Box::pin(futures::stream::unfold(receiver, next))
}

fn read(tables: &Tables, except: &[String], pages: &mpsc::Sender<Page>) -> Result<()> {
    let snapshot = tables.snapshot();
    let (mut page, mut bytes) = (Vec::new(), 0);
    for entry in snapshot.iter(tables.space(Space::Records)) {
        let (place, value) =
            entry.into_inner().map_err(|cause| failure("a stored record cannot be read", cause))?;
        let record = saved(&place, &value)?;
        if except.contains(&record.table) {
            continue;
        }
        bytes += record.bytes();
        page.push(record);
        if page.len() >= PAGE_RECORDS || bytes >= PAGE_BYTES {
            bytes = 0;
            if pages.blocking_send(Ok(std::mem::take(&mut page))).is_err() {
                return Ok(());
            }
        }
    }
    if !page.is_empty() {
        let _ = pages.blocking_send(Ok(page));
    }
    Ok(())
}

fn damaged() -> Error {
    Error::new(codes::CORRUPTED, "the key of a stored record cannot be read")
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| damaged())
}

/// A name and what follows it.
fn name(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

fn saved(place: &[u8], value: &[u8]) -> Result<SavedRecord> {
    let (tenant, rest) = name(place)?;
    let (table, key) = name(rest)?;
    let prefix_bytes = tenant.len() + table.len() + 2;
    let stored = StoredRecord::read(value)?;
    let mut indexes = Vec::with_capacity(stored.entries.len());
    for entry in &stored.entries {
        let (index, value) = name(entry.get(prefix_bytes..).ok_or_else(damaged)?)?;
        indexes.push((text(index)?, read_value(value)?.0));
    }
    indexes.sort();
    Ok(SavedRecord {
        tenant: TenantId::new(text(tenant)?)?,
        table: text(table)?,
        key: text(key)?,
        version: stored.version,
        body: stored.body,
        indexes,
    })
}

/// One call of `restore`.
pub(super) struct RestoreJob {
    pub(super) records: Vec<SavedRecord>,
    pub(super) answer: oneshot::Sender<Result<()>>,
}

impl Job for RestoreJob {
    fn bytes(&self) -> u64 {
        self.records.iter().map(|record| record.bytes() as u64 + 200).sum()
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let (version_key, mut newest) = newest_version(group)?;
        for record in std::mem::take(&mut self.records) {
            let table = Key::default().name(record.tenant.as_str()).name(&record.table);
            let entry = |(index, value): &(String, IndexValue)| -> Slice {
                table.clone().name(index).value(value).last(record.key.as_bytes()).into_bytes().into()
            };
            let entries: Vec<Slice> = record.indexes.iter().map(entry).collect();
            for entry in &entries {
                group.put_unseen(Space::Indexes, entry.clone(), Slice::from([]));
            }
            let place = table.last(record.key.as_bytes()).into_bytes().into();
            let stored = StoredRecord { version: record.version, entries, body: record.body };
            group.put(Space::Records, place, stored.write());
            newest = newest.max(record.version);
        }
        group.put(Space::Meta, version_key, newest.to_be_bytes().into());
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let _ = self.answer.send(outcome);
    }
}
