//! Objects, sealed under the store's key: checkpoints hold whole views, and models the names of users.
//!
//! What was put before anything was sealed is read as it is. A part of an object is cut from the whole.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Error, Result, Scope, codes};
use store::{BlobInfo, Blobs, PutMode};

use crate::{Keyring, corrupted};

/// How a sealed value begins.
const MAGIC: &[u8; 8] = b"WSSEAL1\0";

/// Seals a value for the place that `about` names.
pub(crate) fn seal(keyring: &Keyring, about: &str, plain: Bytes) -> Bytes {
    match keyring.store().filter(|_| keyring.seals()) {
        None => plain,
        Some(cipher) => {
            let sealed = cipher.seal(&*keyring.entropy, about.as_bytes(), &plain);
            [MAGIC.as_slice(), &sealed].concat().into()
        }
    }
}

/// Opens what [`seal`] made; anything else is as it is.
pub(crate) fn open(keyring: &Keyring, about: &str, value: Bytes) -> Result<Bytes> {
    let Some(sealed) = value.strip_prefix(MAGIC) else { return Ok(value) };
    let cipher = keyring.store().ok_or_else(|| corrupted("what is sealed has no key"))?;
    let plain = cipher.open(about.as_bytes(), sealed);
    plain.map(Bytes::from).map_err(|error| corrupted(format!("{about}: {}", error.message())))
}

/// Objects over others, sealed.
#[derive(Debug)]
pub struct SealedBlobs {
    inner: Arc<dyn Blobs>,
    keyring: Arc<Keyring>,
}

impl SealedBlobs {
    /// Over `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Blobs>, keyring: Arc<Keyring>) -> Self {
        Self { inner, keyring }
    }
}

fn about(scope: &Scope, path: &str) -> String {
    format!("object/{}/{path}", scope.tenant())
}

#[async_trait]
impl Blobs for SealedBlobs {
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()> {
        let sealed = seal(&self.keyring, &about(scope, path), body);
        self.inner.put(scope, path, sealed, mode).await
    }

    async fn get(&self, scope: &Scope, path: &str) -> Result<Bytes> {
        open(&self.keyring, &about(scope, path), self.inner.get(scope, path).await?)
    }

    async fn get_range(&self, scope: &Scope, path: &str, range: Range<u64>) -> Result<Bytes> {
        if range.end < range.start {
            return Err(Error::new(codes::VALIDATION_ERROR, "a range ends before it starts"));
        }
        let whole = self.get(scope, path).await?;
        let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole.slice(at(range.start)..at(range.end)))
    }

    async fn list(&self, scope: &Scope, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list(scope, prefix).await
    }

    async fn delete(&self, scope: &Scope, path: &str) -> Result<()> {
        self.inner.delete(scope, path).await
    }
}
