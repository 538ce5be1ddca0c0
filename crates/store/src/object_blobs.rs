//! [`ObjectBlobs`]: the `Blobs` port over anything the `object_store` crate can open. The tenant is the first
//! segment of every path, and its name is encoded so that it cannot leave its folder.
//!
//! Over a network, large objects go and come in parts ([`ObjectBlobs::in_parts`]). A large object that must not be
//! there yet is first put aside, in a folder that no tenant can have, and then copied if its path is still free: parts
//! alone cannot be put conditionally.

use std::error::Error as StdError;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use kernel::{Entropy, Error, Result, Scope, Timestamp, codes};
use object_store::path::{Path, PathPart};
use object_store::{
    Error as StoreError, GetOptions, ObjectStore, ObjectStoreExt, PutMode as StorePutMode, PutOptions,
};

use crate::object_parts::{download, upload};
use crate::{BlobInfo, Blobs, PutMode, check_path};

// A tenant's name has no `!`.
const ASIDE: &str = "!aside";

/// Blobs over an object store.
#[derive(Debug, Clone)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    parts: Option<Parts>,
}

#[derive(Debug, Clone)]
struct Parts {
    bytes: usize,
    entropy: Arc<dyn Entropy>,
}

impl ObjectBlobs {
    /// Over `store`, whose `put` must be durable when it returns.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, parts: None }
    }

    /// Puts and gets objects of more than `bytes` in parts of that size, a few at a time. `entropy` names what is put
    /// aside on the way. What a crash leaves there, and parts that were never put together, is for the store's own
    /// rules of expiry.
    #[must_use]
    pub fn in_parts(mut self, bytes: usize, entropy: Arc<dyn Entropy>) -> Self {
        self.parts = Some(Parts { bytes: bytes.max(1), entropy });
        self
    }

    /// The parts to use for so many bytes, if any.
    fn parts_for(&self, bytes: usize) -> Option<&Parts> {
        self.parts.as_ref().filter(|parts| bytes > parts.bytes)
    }

    async fn put_parts(&self, parts: &Parts, place: &Path, body: &Bytes, mode: PutMode) -> StoreResult<()> {
        if mode == PutMode::Replace {
            return upload(&*self.store, place, body, parts.bytes).await;
        }
        match self.store.head(place).await {
            Ok(_) => return Err(taken(place)),
            Err(StoreError::NotFound { .. }) => {}
            Err(cause) => return Err(cause),
        }
        let name = parts.entropy.id(Timestamp::UNIX_EPOCH).simple().to_string();
        let aside = Path::from_iter([PathPart::from(ASIDE), PathPart::from(name)]);
        upload(&*self.store, &aside, body, parts.bytes).await?;
        let outcome = self.store.copy_if_not_exists(&aside, place).await;
        // The object is there or not already; what stays aside takes room and nothing else.
        let _ = self.store.delete(&aside).await;
        outcome
    }

    /// The whole object: its first part tells how many more there are.
    async fn get_parts(&self, parts: &Parts, place: &Path) -> StoreResult<Bytes> {
        let bytes = parts.bytes as u64;
        let options = GetOptions { range: Some((0..bytes).into()), ..GetOptions::default() };
        let first = match self.store.get_opts(place, options).await {
            Ok(first) => first,
            Err(cause @ StoreError::NotFound { .. }) => return Err(cause),
            // An empty object has no first part.
            Err(cause) => match self.store.head(place).await {
                Ok(meta) if meta.size == 0 => return Ok(Bytes::new()),
                _ => return Err(cause),
            },
        };
        let meta = first.meta.clone();
        let first = first.bytes().await?;
        if meta.size <= bytes {
            return Ok(first);
        }
        let mut whole = Vec::with_capacity(usize::try_from(meta.size).unwrap_or_default());
        whole.extend_from_slice(&first);
        download(&*self.store, &meta, bytes..meta.size, parts.bytes, &mut whole).await?;
        Ok(whole.into())
    }
}

type StoreResult<T> = object_store::Result<T>;

fn taken(place: &Path) -> StoreError {
    StoreError::AlreadyExists { path: place.to_string(), source: "it was there before".into() }
}

fn folder_of(scope: &Scope) -> Path {
    Path::from_iter([PathPart::from(scope.tenant().as_str())])
}

fn place(scope: &Scope, path: &str) -> Result<Path> {
    check_path(path)?;
    Ok(path.split('/').fold(folder_of(scope), |folder, segment| folder.join(segment)))
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

fn failure(path: &str, cause: StoreError) -> Error {
    let (code, message) = match &cause {
        StoreError::NotFound { .. } => (codes::NOT_FOUND, format!("there is no object `{path}`")),
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => {
            (codes::CONFLICT, format!("there is an object `{path}` already"))
        }
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => {
            (codes::INTERNAL_ERROR, "the object store lacks an operation".to_owned())
        }
        _ if is_storage_full(&cause) => {
            (codes::STORAGE_FULL, "the disk is full; make room, then send the same again".to_owned())
        }
        _ => (codes::UNAVAILABLE, format!("the object store did not serve `{path}`")),
    };
    Error::new(code, message).with_source(cause)
}

/// The error of a get in parts.
fn reading(path: &str, cause: StoreError) -> Error {
    if matches!(cause, StoreError::Precondition { .. }) {
        let message = format!("`{path}` was replaced while it was read; read it again");
        return Error::new(codes::UNAVAILABLE, message).with_source(cause);
    }
    failure(path, cause)
}

fn is_storage_full(cause: &(dyn StdError + 'static)) -> bool {
    let mut error = Some(cause);
    while let Some(current) = error {
        let kind = current.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        error = current.source();
    }
    false
}

#[async_trait]
impl Blobs for ObjectBlobs {
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()> {
        let place = place(scope, path)?;
        if let Some(parts) = self.parts_for(body.len()) {
            let outcome = self.put_parts(parts, &place, &body, mode).await;
            return outcome.map_err(|cause| failure(path, cause));
        }
        let mode = match mode {
            PutMode::Replace => StorePutMode::Overwrite,
            PutMode::Create => StorePutMode::Create,
        };
        let options = PutOptions::from(mode);
        self.store.put_opts(&place, body.into(), options).await.map_err(|cause| failure(path, cause))?;
        Ok(())
    }

    async fn get(&self, scope: &Scope, path: &str) -> Result<Bytes> {
        let place = place(scope, path)?;
        if let Some(parts) = &self.parts {
            return self.get_parts(parts, &place).await.map_err(|cause| reading(path, cause));
        }
        let found = self.store.get(&place).await.map_err(|cause| failure(path, cause))?;
        found.bytes().await.map_err(|cause| failure(path, cause))
    }

    async fn get_range(&self, scope: &Scope, path: &str, range: Range<u64>) -> Result<Bytes> {
        let place = place(scope, path)?;
        if range.start > range.end {
            return Err(invalid("range", "the range ends before it starts"));
        }
        let found = self.store.head(&place).await.map_err(|cause| failure(path, cause))?;
        let range = range.start..range.end.min(found.size);
        if range.start >= range.end {
            return Ok(Bytes::new());
        }
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        if let Some(parts) = self.parts_for(length) {
            let mut body = Vec::with_capacity(length);
            let done = download(&*self.store, &found, range, parts.bytes, &mut body).await;
            return done.map(|()| body.into()).map_err(|cause| reading(path, cause));
        }
        self.store.get_range(&place, range).await.map_err(|cause| failure(path, cause))
    }

    async fn list(&self, scope: &Scope, prefix: &str) -> Result<Vec<BlobInfo>> {
        let tenant = folder_of(scope);
        let folder = if prefix.is_empty() { tenant.clone() } else { place(scope, prefix)? };
        let metas: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(|cause| failure(prefix, cause))?;
        let info = |meta: object_store::ObjectMeta| {
            let below = meta.location.prefix_match(&tenant)?;
            let path = below.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            Some(BlobInfo { path, size_bytes: meta.size })
        };
        let mut found: Vec<BlobInfo> = metas.into_iter().filter_map(info).collect();
        found.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }

    async fn delete(&self, scope: &Scope, path: &str) -> Result<()> {
        let place = place(scope, path)?;
        match self.store.delete(&place).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(cause) => Err(failure(path, cause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_tenant_cannot_leave_its_folder() {
        for name in ["..", ".", "a..b", "shop"] {
            let scope = Scope::system(kernel::TenantId::new(name).unwrap(), "test");
            let path = place(&scope, "a/b").unwrap();
            let segments: Vec<_> = path.as_ref().split('/').collect();
            assert_eq!(segments.len(), 3, "{path}");
            assert!(segments.iter().all(|segment| !matches!(*segment, "" | "." | "..")), "{path}");
        }
    }

    #[tokio::test]
    async fn bad_paths_are_refused_everywhere() {
        let blobs = ObjectBlobs::new(Arc::new(InMemory::new()));
        let scope = Scope::system(kernel::TenantId::new("shop").unwrap(), "test");
        for path in ["../other/a", "a//b", "/a", "a/..", "a b"] {
            let put = blobs.put(&scope, path, Bytes::new(), PutMode::Replace).await.unwrap_err();
            assert_eq!(put.code(), codes::VALIDATION_ERROR, "{path}");
            assert!(blobs.get(&scope, path).await.is_err(), "{path}");
            assert!(blobs.list(&scope, path).await.is_err(), "{path}");
            assert!(blobs.delete(&scope, path).await.is_err(), "{path}");
        }
    }

    /// Objects around the size of a part, put and got in parts, whole and in ranges.
    #[tokio::test]
    async fn parts_make_the_whole() {
        let store = Arc::new(InMemory::new());
        let entropy = Arc::new(kernel::SeededEntropy::new(7));
        let blobs = ObjectBlobs::new(Arc::clone(&store) as Arc<_>).in_parts(10, entropy);
        let scope = Scope::system(kernel::TenantId::new("shop").unwrap(), "test");
        for (length, mode) in
            [0, 1, 9, 10, 11, 20, 95].into_iter().zip([PutMode::Create, PutMode::Replace].iter().cycle())
        {
            let body: Bytes = (0..length).collect();
            let path = format!("a/{length}");
            blobs.put(&scope, &path, body.clone(), *mode).await.unwrap();
            assert_eq!(blobs.get(&scope, &path).await.unwrap(), body);
            let refused = blobs.put(&scope, &path, body.clone(), PutMode::Create).await.unwrap_err();
            assert_eq!(refused.code(), codes::CONFLICT, "{length}");
            for (from, to) in [(0, 200), (3, 40), (9, 11), (94, 95)] {
                let found = blobs.get_range(&scope, &path, from..to).await.unwrap();
                let end = body.len().min(to as usize);
                assert_eq!(found, body.slice((from as usize).min(end)..end), "{length} {from}..{to}");
            }
        }
        let left: Vec<_> = store.list(Some(&Path::from(ASIDE))).try_collect().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(blobs.get(&scope, "missing").await.unwrap_err().code(), codes::NOT_FOUND);
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let check = |kind: io::ErrorKind, code: kernel::ErrorCode| {
            let source = Box::new(io::Error::from(kind));
            let found = failure("a", StoreError::Generic { store: "test", source });
            assert_eq!(found.code(), code);
        };
        check(io::ErrorKind::StorageFull, codes::STORAGE_FULL);
        check(io::ErrorKind::PermissionDenied, codes::UNAVAILABLE);
    }
}
