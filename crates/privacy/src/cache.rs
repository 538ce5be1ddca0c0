//! Kept answers, sealed under the store's key: they name users, and a cache may be another's machine.
//!
//! Counters and leases say nothing of a person and pass as they are. A value that does not open is one that is not there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Result, Scope};
use store::{Cache, Lease};

use crate::Keyring;
use crate::blobs::{open, seal};

/// A cache over another, sealed.
#[derive(Debug)]
pub struct SealedCache {
    inner: Arc<dyn Cache>,
    keyring: Arc<Keyring>,
}

impl SealedCache {
    /// Over `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Cache>, keyring: Arc<Keyring>) -> Self {
        Self { inner, keyring }
    }
}

fn about(scope: &Scope, key: &str) -> String {
    format!("value/{}/{key}", scope.tenant())
}

#[async_trait]
impl Cache for SealedCache {
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>> {
        let found = self.inner.get(scope, key).await?;
        Ok(found.and_then(|value| open(&self.keyring, &about(scope, key), value).ok()))
    }

    async fn set(&self, scope: &Scope, key: &str, value: Bytes, time_to_live: Duration) -> Result<()> {
        let sealed = seal(&self.keyring, &about(scope, key), value);
        self.inner.set(scope, key, sealed, time_to_live).await
    }

    async fn remove(&self, scope: &Scope, keys: &[&str]) -> Result<()> {
        self.inner.remove(scope, keys).await
    }

    async fn add(&self, scope: &Scope, key: &str, amount: i64, time_to_live: Duration) -> Result<i64> {
        self.inner.add(scope, key, amount, time_to_live).await
    }

    async fn acquire(
        &self,
        scope: &Scope,
        name: &str,
        holder: &str,
        time_to_live: Duration,
    ) -> Result<Option<Lease>> {
        self.inner.acquire(scope, name, holder, time_to_live).await
    }

    async fn release(&self, scope: &Scope, lease: &Lease) -> Result<()> {
        self.inner.release(scope, lease).await
    }
}
