//! Records that something happens to: others who write in between, answers that are lost, an engine that is away.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use kernel::{Error, Result, Scope, codes};
use parking_lot::Mutex;
use store::memory::MemoryRecords;
use store::{Page, Query, Record, Records, RecordsSnapshot, SavedRecord, Table, Write};

/// Over records in memory.
#[derive(Default)]
pub(crate) struct Meddled {
    pub(crate) inner: Arc<MemoryRecords>,
    /// Comes between the next list and what is made of it.
    pub(crate) after_list: Mutex<Option<BoxFuture<'static, ()>>>,
    /// Another writes this before the next commit.
    pub(crate) before_commit: Mutex<Option<(Scope, Write)>>,
    /// The next commit to this table is made and told to have failed.
    pub(crate) lost: Mutex<Option<&'static str>>,
    /// Commits to this table are not made.
    pub(crate) is_away: Mutex<Option<&'static str>>,
}

impl fmt::Debug for Meddled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Meddled")
    }
}

fn away() -> Error {
    Error::new(codes::UNAVAILABLE, "the engine is away")
}

#[async_trait]
impl Records for Meddled {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        self.inner.get(scope, table, key).await
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        let page = self.inner.list(scope, table, query).await;
        let meanwhile = self.after_list.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
        page
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        let touches = |table: Option<&str>| writes.iter().any(|write| Some(write.table().name) == table);
        if touches(*self.is_away.lock()) {
            return Err(away());
        }
        let is_lost = {
            let mut lost = self.lost.lock();
            touches(*lost) && lost.take().is_some()
        };
        let before = self.before_commit.lock().take();
        if let Some((other, write)) = before {
            self.inner.commit(&other, vec![write]).await?;
        }
        let made = self.inner.commit(scope, writes).await;
        if is_lost { Err(away()) } else { made }
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
