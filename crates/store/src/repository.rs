//! `Repository<D>`: typed documents over [`Records`], written once for every domain and every engine.

use std::marker::PhantomData;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use kernel::{Error, Result, Scope, codes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Expect, IndexValue, Query, Record, Records, Table, Write};

const READS_AT_ONCE: usize = 16;

/// A type that is kept as a JSON document in one table.
pub trait Document: Serialize + DeserializeOwned + Send + Sync {
    /// Its table.
    const TABLE: Table;

    /// Its key, 1 to 512 bytes.
    fn key(&self) -> String;

    /// Its place in the table's indexes.
    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        Vec::new()
    }
}

/// A document with the version it was read at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<D> {
    /// The version, for [`Expect::Version`].
    pub version: u64,
    /// The document.
    pub document: D,
}

/// Typed access to the documents of one table.
#[derive(Debug)]
pub struct Repository<D> {
    records: Arc<dyn Records>,
    document: PhantomData<fn() -> D>,
}

impl<D> Clone for Repository<D> {
    fn clone(&self) -> Self {
        Self { records: Arc::clone(&self.records), document: PhantomData }
    }
}

impl<D: Document> Repository<D> {
    /// Over an engine.
    #[must_use]
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records, document: PhantomData }
    }

    /// The document at `key`.
    ///
    /// # Errors
    /// Those of the engine; `CORRUPTED` when the stored body is not a `D`.
    pub async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Versioned<D>>> {
        self.records.get(scope, D::TABLE, key).await?.as_ref().map(decode).transpose()
    }

    /// The documents at `keys`, in their order.
    ///
    /// # Errors
    /// As of [`Repository::get`].
    pub async fn get_many(
        &self,
        scope: &Scope,
        keys: impl IntoIterator<Item = &str>,
    ) -> Result<Vec<Option<Versioned<D>>>> {
        let reads: Vec<_> = keys.into_iter().map(|key| self.get(scope, key)).collect();
        stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
    }

    /// Those of some that were read, each told as its key and version, that nobody wrote or removed since.
    ///
    /// # Errors
    /// As of [`Repository::get`].
    pub async fn unchanged<T>(
        &self,
        scope: &Scope,
        mut read: Vec<T>,
        place: impl Fn(&T) -> (String, u64),
    ) -> Result<Vec<T>> {
        let places: Vec<(String, u64)> = read.iter().map(place).collect();
        let now = self.get_many(scope, places.iter().map(|(key, _)| key.as_str())).await?;
        let mut versions = places.iter().map(|(_, version)| *version).zip(now);
        read.retain(|_| {
            versions.next().is_some_and(|(version, now)| now.is_some_and(|now| now.version == version))
        });
        Ok(read)
    }

    /// Writes one document and returns its version.
    ///
    /// # Errors
    /// `CONFLICT` when `expect` does not hold.
    pub async fn put(&self, scope: &Scope, document: &D, expect: Expect) -> Result<u64> {
        let versions = self.records.commit(scope, vec![Self::write(document, expect)?]).await?;
        versions.first().copied().ok_or_else(|| Error::internal("a commit returned no version"))
    }

    /// Removes one document.
    ///
    /// # Errors
    /// `CONFLICT` when `expect` does not hold.
    pub async fn delete(&self, scope: &Scope, key: &str, expect: Expect) -> Result<()> {
        let write = Write::Delete { table: D::TABLE, key: key.to_owned(), expect };
        self.records.commit(scope, vec![write]).await.map(drop)
    }

    /// One page and the cursor of the next.
    ///
    /// # Errors
    /// Those of [`Records::list`].
    pub async fn list(&self, scope: &Scope, query: &Query) -> Result<(Vec<Versioned<D>>, Option<String>)> {
        let page = self.records.list(scope, D::TABLE, query).await?;
        let documents = page.records.iter().map(decode).collect::<Result<_>>()?;
        Ok((documents, page.cursor))
    }

    /// Every document from the query's place on, read page by page: for what is few.
    ///
    /// # Errors
    /// Those of [`Records::list`].
    pub async fn list_all(&self, scope: &Scope, mut query: Query) -> Result<Vec<Versioned<D>>> {
        let mut all = Vec::new();
        loop {
            let (page, cursor) = self.list(scope, &query).await?;
            all.extend(page);
            if cursor.is_none() {
                return Ok(all);
            }
            query.cursor = cursor;
        }
    }

    /// The write that [`Repository::put`] does, for a transaction over several tables.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the document has no JSON form.
    pub fn write(document: &D, expect: Expect) -> Result<Write> {
        let body = serde_json::to_vec(document).map_err(Error::internal)?;
        Ok(Write::Put {
            table: D::TABLE,
            key: document.key(),
            body: body.into(),
            indexes: document.indexes(),
            expect,
        })
    }
}

fn decode<D: Document>(record: &Record) -> Result<Versioned<D>> {
    let document = serde_json::from_slice(&record.body).map_err(|cause| {
        let message = format!("record `{}` of table `{}` cannot be read", record.key, D::TABLE.name);
        Error::new(codes::CORRUPTED, message).with_source(cause)
    })?;
    Ok(Versioned { version: record.version, document })
}
