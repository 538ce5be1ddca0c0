//! Where a task's records lie, and bytes of any length as pages of records.
//!
//! | key | holds |
//! |---|---|
//! | `NAMESPACE/TOPOLOGY/TOPIC/PARTITION/head` | the head |
//! | `…/s/SEQUENCE/PAGE` | changes of the state, one sequence for each commit |
//! | `…/o/SEQUENCE/PAGE` | outputs of one commit |

use std::sync::Arc;

use bytes::Bytes;
use kernel::{Error, Result, Scope, TenantId, codes};
use store::{Expect, Record, Records, Table, Write};

use super::head::Pages;

const TABLE: Table = Table { name: "stream_tasks", indexes: &[] };

/// Well below what a record may hold.
const PAGE_BYTES: usize = 4 << 20;

/// What pages hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    State,
    Outbox,
}

/// The records of one task.
#[derive(Debug)]
pub(crate) struct Shelf {
    records: Arc<dyn Records>,
    scope: Scope,
    prefix: String,
}

impl Shelf {
    pub(crate) fn new(records: Arc<dyn Records>, prefix: String) -> Self {
        // Tasks are of all tenants, whose names begin the keys within the state.
        let scope = Scope::system(TenantId::server(), "stream");
        Self { records, scope, prefix }
    }

    pub(crate) async fn head(&self) -> Result<Option<Record>> {
        self.records.get(&self.scope, TABLE, &self.head_key()).await
    }

    /// Whether the head has this version.
    pub(crate) async fn is_at(&self, version: u64) -> Result<bool> {
        Ok(self.head().await?.is_some_and(|head| head.version == version))
    }

    fn head_key(&self) -> String {
        format!("{}/head", self.prefix)
    }

    fn page_key(&self, kind: Kind, sequence: u64, page: u32) -> String {
        let kind = match kind {
            Kind::State => 's',
            Kind::Outbox => 'o',
        };
        format!("{}/{kind}/{sequence:016x}/{page:04x}", self.prefix)
    }

    pub(crate) fn put_head(&self, body: Vec<u8>, expect: Expect) -> Write {
        Write::Put { table: TABLE, key: self.head_key(), body: body.into(), indexes: Vec::new(), expect }
    }

    /// The writes that keep `body`; none where it is empty.
    pub(crate) fn put(
        &self,
        kind: Kind,
        sequence: u64,
        body: Vec<u8>,
        writes: &mut Vec<Write>,
    ) -> Option<Pages> {
        let mut rest = Bytes::from(body);
        let mut pages = Pages { sequence, count: 0, bytes: rest.len() as u64 };
        while !rest.is_empty() {
            let body = rest.split_to(rest.len().min(PAGE_BYTES));
            let key = self.page_key(kind, sequence, pages.count);
            writes.push(Write::Put { table: TABLE, key, body, indexes: Vec::new(), expect: Expect::Any });
            pages.count += 1;
        }
        (pages.count > 0).then_some(pages)
    }

    /// The writes that remove pages.
    pub(crate) fn remove(&self, kind: Kind, pages: Pages, writes: &mut Vec<Write>) {
        let remove = |page| Write::Delete {
            table: TABLE,
            key: self.page_key(kind, pages.sequence, page),
            expect: Expect::Any,
        };
        writes.extend((0..pages.count).map(remove));
    }

    pub(crate) async fn read(&self, kind: Kind, pages: Pages) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        for page in 0..pages.count {
            let key = self.page_key(kind, pages.sequence, page);
            let found = self.records.get(&self.scope, TABLE, &key).await?;
            let missing =
                || Error::new(codes::CORRUPTED, format!("`{key}` of the stream's state is missing"));
            body.extend_from_slice(&found.ok_or_else(missing)?.body);
        }
        if body.len() as u64 != pages.bytes {
            let message = format!("the stream's state {:016x} has not the length it had", pages.sequence);
            return Err(Error::new(codes::CORRUPTED, message));
        }
        Ok(body)
    }

    /// Commits; the version of the first write.
    pub(crate) async fn commit(&self, writes: Vec<Write>) -> Result<u64> {
        let versions = self.records.commit(&self.scope, writes).await?;
        versions.first().copied().ok_or_else(|| Error::internal("a commit returned no version"))
    }
}
