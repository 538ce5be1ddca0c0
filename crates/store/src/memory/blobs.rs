//! The fake of the `Blobs` port.

use std::sync::Arc;

use object_store::memory::InMemory;

use crate::ObjectBlobs;

/// Blobs that live in memory.
#[must_use]
pub fn memory_blobs() -> ObjectBlobs {
    ObjectBlobs::new(Arc::new(InMemory::new()))
}
