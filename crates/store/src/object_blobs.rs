//! [`ObjectBlobs`]: the `Blobs` port over anything the `object_store` crate can open. The tenant is the first
//! segment of every path, and its name is encoded so that it cannot leave its folder.

use std::error::Error as StdError;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use kernel::{Error, Result, Scope, codes};
use object_store::path::{Path, PathPart};
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode as StorePutMode, PutOptions};

use crate::{BlobInfo, Blobs, PutMode, check_path};

/// Blobs over an object store.
#[derive(Debug, Clone)]
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
}

impl ObjectBlobs {
    /// Over `store`, whose `put` must be durable when it returns.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }
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
