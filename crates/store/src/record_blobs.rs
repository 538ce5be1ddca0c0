//! [`RecordBlobs`]: the `Blobs` port over `Records`, for deployments that have a database and no object store.
//!
//! An object is a head and chunks of 4 MiB. The chunks are written first, under a name that no other put has; the head then
//! appears in one commit, and with it the whole object. What a put that died left behind is never seen, and takes room
//! until the tenant is erased.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use kernel::{Entropy, Error, Result, Scope, codes};
use serde::{Deserialize, Serialize};

use crate::port::blobs::check_path;
use crate::{
    BlobInfo, Blobs, Document, Expect, PutMode, Query, Records, Repository, Selection, Table, Versioned,
    Write,
};

const CHUNK_BYTES: usize = 4 << 20;
const CHUNKS: Table = Table { name: "blob_chunks", indexes: &[] };
/// Others who replace the same object meanwhile, at most.
const ATTEMPTS: usize = 16;
const PAGE: usize = 1_000;

/// Objects in the records of an engine.
#[derive(Debug, Clone)]
pub struct RecordBlobs {
    records: Arc<dyn Records>,
    heads: Repository<Head>,
    entropy: Arc<dyn Entropy>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    path: String,
    size_bytes: u64,
    /// What its chunks are called.
    name: String,
}

impl Document for Head {
    const TABLE: Table = Table { name: "blob_heads", indexes: &[] };

    fn key(&self) -> String {
        self.path.clone()
    }
}

impl Head {
    fn chunk_count(&self) -> u64 {
        self.size_bytes.div_ceil(CHUNK_BYTES as u64)
    }

    fn chunk(&self, number: u64) -> String {
        format!("{}:{number:08}", self.name)
    }
}

impl RecordBlobs {
    /// Over an engine; `entropy` names the chunks.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, entropy: Arc<dyn Entropy>) -> Self {
        Self { heads: Repository::new(Arc::clone(&records)), records, entropy }
    }

    async fn head(&self, scope: &Scope, path: &str) -> Result<Option<Versioned<Head>>> {
        self.heads.get(scope, path).await
    }

    async fn write_chunks(&self, scope: &Scope, head: &Head, body: &Bytes) -> Result<()> {
        for number in 0..head.chunk_count() {
            let start = number as usize * CHUNK_BYTES;
            let chunk = body.slice(start..body.len().min(start + CHUNK_BYTES));
            let write = Write::Put {
                table: CHUNKS,
                key: head.chunk(number),
                body: chunk,
                indexes: Vec::new(),
                expect: Expect::Any,
            };
            self.records.commit(scope, vec![write]).await?;
        }
        Ok(())
    }

    async fn remove_chunks(&self, scope: &Scope, head: &Head) -> Result<()> {
        let delete = |number| Write::Delete { table: CHUNKS, key: head.chunk(number), expect: Expect::Any };
        let writes: Vec<Write> = (0..head.chunk_count()).map(delete).collect();
        for writes in writes.chunks(PAGE) {
            self.records.commit(scope, writes.to_vec()).await?;
        }
        Ok(())
    }

    /// Makes the object visible; returns the one that it replaced.
    async fn publish(&self, scope: &Scope, head: &Head, mode: PutMode) -> Result<Option<Head>> {
        for _ in 0..ATTEMPTS {
            let found = self.head(scope, &head.path).await?;
            let expect = match (&found, mode) {
                (Some(_), PutMode::Create) => return Err(taken(&head.path)),
                (Some(found), PutMode::Replace) => Expect::Version(found.version),
                (None, _) => Expect::Absent,
            };
            match self.heads.put(scope, head, expect).await {
                Ok(_) => return Ok(found.map(|found| found.document)),
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, format!("`{}` is replaced by too many at once", head.path)))
    }

    /// The bytes of a range, or none where the object was replaced in between.
    async fn read(&self, scope: &Scope, head: &Head, range: Range<u64>) -> Result<Option<Bytes>> {
        let chunk_bytes = CHUNK_BYTES as u64;
        let mut read = BytesMut::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
        for number in range.start / chunk_bytes..range.end.div_ceil(chunk_bytes) {
            let Some(chunk) = self.records.get(scope, CHUNKS, &head.chunk(number)).await? else {
                return Ok(None);
            };
            let start = number * chunk_bytes;
            let within = |at: u64| (at.saturating_sub(start) as usize).min(chunk.body.len());
            read.extend_from_slice(&chunk.body[within(range.start)..within(range.end)]);
        }
        Ok(Some(read.freeze()))
    }
}

#[async_trait]
impl Blobs for RecordBlobs {
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()> {
        check_path(path)?;
        if mode == PutMode::Create && self.head(scope, path).await?.is_some() {
            return Err(taken(path));
        }
        let name = format!("{:016x}{:016x}", self.entropy.next_u64(), self.entropy.next_u64());
        let head = Head { path: path.to_owned(), size_bytes: body.len() as u64, name };
        self.write_chunks(scope, &head, &body).await?;
        match self.publish(scope, &head, mode).await {
            Ok(None) => Ok(()),
            Ok(Some(replaced)) => self.remove_chunks(scope, &replaced).await,
            Err(error) => {
                // The head may be there although its commit was not confirmed; then the chunks must stay.
                if error.code() == codes::CONFLICT {
                    self.remove_chunks(scope, &head).await?;
                }
                Err(error)
            }
        }
    }

    async fn get(&self, scope: &Scope, path: &str) -> Result<Bytes> {
        self.get_range(scope, path, 0..u64::MAX).await
    }

    async fn get_range(&self, scope: &Scope, path: &str, range: Range<u64>) -> Result<Bytes> {
        check_path(path)?;
        if range.start > range.end {
            let message = format!("a range begins before it ends, not {}..{}", range.start, range.end);
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("range"));
        }
        for _ in 0..ATTEMPTS {
            let head = self.head(scope, path).await?.ok_or_else(|| missing(path))?.document;
            let end = range.end.min(head.size_bytes);
            if let Some(bytes) = self.read(scope, &head, range.start.min(end)..end).await? {
                return Ok(bytes);
            }
        }
        Err(Error::new(codes::UNAVAILABLE, format!("`{path}` is replaced faster than it can be read")))
    }

    async fn list(&self, scope: &Scope, prefix: &str) -> Result<Vec<BlobInfo>> {
        let selection = if prefix.is_empty() {
            Selection::All
        } else {
            check_path(prefix)?;
            Selection::Prefix(format!("{prefix}/"))
        };
        let mut query = Query::new(selection, PAGE);
        let mut found = Vec::new();
        loop {
            let (heads, cursor) = self.heads.list(scope, &query).await?;
            let heads = heads.into_iter().map(|head| head.document);
            found.extend(heads.map(|head| BlobInfo { path: head.path, size_bytes: head.size_bytes }));
            match cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(found),
            }
        }
    }

    async fn delete(&self, scope: &Scope, path: &str) -> Result<()> {
        check_path(path)?;
        for _ in 0..ATTEMPTS {
            let Some(head) = self.head(scope, path).await? else { return Ok(()) };
            match self.heads.delete(scope, path, Expect::Version(head.version)).await {
                Ok(()) => return self.remove_chunks(scope, &head.document).await,
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, format!("`{path}` is replaced by too many at once")))
    }
}

fn taken(path: &str) -> Error {
    Error::new(codes::CONFLICT, format!("there is an object at `{path}` already"))
}

fn missing(path: &str) -> Error {
    Error::new(codes::NOT_FOUND, format!("there is no object at `{path}`"))
}

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use kernel::{SeededEntropy, TenantId};

    use super::*;
    use crate::memory::MemoryRecords;

    fn open() -> impl AsyncFn() -> Arc<dyn Blobs> {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let entropy = Arc::new(SeededEntropy::new(1));
        async move || {
            Arc::new(RecordBlobs::new(Arc::clone(&records), Arc::clone(&entropy) as Arc<_>)) as Arc<_>
        }
    }

    crate::blobs_conformance!(open());

    #[tokio::test]
    async fn large_objects_are_cut_and_leave_nothing_behind() {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let blobs = RecordBlobs::new(Arc::clone(&records), Arc::new(SeededEntropy::new(1)));
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let chunks = async || {
            records.list(&scope, CHUNKS, &Query::new(Selection::All, 100)).await.unwrap().records.len()
        };
        let body: Bytes = (0..2 * CHUNK_BYTES + 10).map(|byte| (byte % 251) as u8).collect();
        blobs.put(&scope, "a", body.clone(), PutMode::Create).await.unwrap();
        assert_eq!(chunks().await, 3);
        let across = CHUNK_BYTES as u64 - 3..2 * CHUNK_BYTES as u64 + 4;
        let expected = body.slice(across.start as usize..across.end as usize);
        assert!(blobs.get_range(&scope, "a", across).await.unwrap() == expected);
        blobs.put(&scope, "a", body.slice(..CHUNK_BYTES), PutMode::Replace).await.unwrap();
        assert_eq!(chunks().await, 1);
        assert!(blobs.put(&scope, "a", body, PutMode::Create).await.is_err());
        blobs.delete(&scope, "a").await.unwrap();
        assert_eq!(chunks().await, 0);
    }
}
