//! The `Blobs` port: one file per object, written aside, synced, renamed, and its folder synced. A put that would eat
//! into the reserve of the database beside it is refused.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Error, Result, Scope};
use object_store::local::LocalFileSystem;
use store::{BlobInfo, Blobs, ObjectBlobs, PutMode};

use crate::engine::Engine;
use crate::folder::failure;

/// The blobs of one folder.
#[derive(Debug)]
pub(crate) struct EmbeddedBlobs {
    files: ObjectBlobs,
    engine: Arc<Engine>,
}

impl EmbeddedBlobs {
    /// Opens the blobs in `path`, making the folder when it is not there.
    pub(crate) fn open(path: &Path, engine: Arc<Engine>) -> Result<Self> {
        fs::create_dir_all(path).map_err(|cause| failure(path, &cause))?;
        let files = LocalFileSystem::new_with_prefix(path).map_err(Error::internal)?.with_fsync(true);
        Ok(Self { files: ObjectBlobs::new(Arc::new(files)), engine })
    }
}

#[async_trait]
impl Blobs for EmbeddedBlobs {
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()> {
        self.engine.check_blob_room(body.len() as u64)?;
        self.files.put(scope, path, body, mode).await
    }

    async fn get(&self, scope: &Scope, path: &str) -> Result<Bytes> {
        self.files.get(scope, path).await
    }

    async fn get_range(&self, scope: &Scope, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.files.get_range(scope, path, range).await
    }

    async fn list(&self, scope: &Scope, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.files.list(scope, prefix).await
    }

    async fn delete(&self, scope: &Scope, path: &str) -> Result<()> {
        self.files.delete(scope, path).await
    }
}
