//! Records whose bodies are sealed under the store's key: those of dead letters, which quote what was sent.
//!
//! Keys and indexes stay in the open: whoever uses it must not put a person in them.

use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Result, Scope};
use store::{Page, Query, Record, Records, RecordsSnapshot, SavedRecord, Table, Write};

use crate::Keyring;
use crate::blobs::{open, seal};

/// Records over others, with sealed bodies.
#[derive(Debug)]
pub struct SealedRecords {
    inner: Arc<dyn Records>,
    keyring: Arc<Keyring>,
}

impl SealedRecords {
    /// Over `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Records>, keyring: Arc<Keyring>) -> Self {
        Self { inner, keyring }
    }

    fn open(&self, scope: &Scope, table: Table, record: Record) -> Result<Record> {
        let body = open(&self.keyring, &about(scope, table, &record.key), record.body)?;
        Ok(Record { body, ..record })
    }
}

fn about(scope: &Scope, table: Table, key: &str) -> String {
    format!("record/{}/{}/{key}", scope.tenant(), table.name)
}

#[async_trait]
impl Records for SealedRecords {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        let found = self.inner.get(scope, table, key).await?;
        found.map(|record| self.open(scope, table, record)).transpose()
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        let Page { records, cursor } = self.inner.list(scope, table, query).await?;
        let records = records.into_iter().map(|record| self.open(scope, table, record));
        Ok(Page { records: records.collect::<Result<_>>()?, cursor })
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        let sealed = writes.into_iter().map(|write| match write {
            Write::Put { table, key, body, indexes, expect } => {
                let body = seal(&self.keyring, &about(scope, table, &key), body);
                Write::Put { table, key, body, indexes, expect }
            }
            write @ Write::Delete { .. } => write,
        });
        self.inner.commit(scope, sealed.collect()).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        self.inner.erase(scope).await
    }

    fn snapshot(&self, except: &[&str]) -> RecordsSnapshot {
        self.inner.snapshot(except)
    }

    async fn restore(&self, records: Vec<SavedRecord>) -> Result<()> {
        self.inner.restore(records).await
    }
}
