//! Large objects in parts, a few at a time, so that each request is short and can be tried again by itself.

use std::ops::Range;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, Result};

const AT_ONCE: usize = 4;

/// Puts `body` at `place` in parts; the object is there whole or not at all.
pub(crate) async fn upload(
    store: &dyn ObjectStore,
    place: &Path,
    body: &Bytes,
    part_bytes: usize,
) -> Result<()> {
    let mut upload = store.put_multipart(place).await?;
    let starts = (0..body.len()).step_by(part_bytes);
    let parts = starts.map(|start| body.slice(start..body.len().min(start + part_bytes)));
    let sent: Vec<_> = parts.map(|part| upload.put_part(part.into())).collect();
    let outcome = stream::iter(sent).buffer_unordered(AT_ONCE).try_collect::<()>().await;
    if let Err(cause) = outcome {
        // The first failure is the one to tell.
        let _ = upload.abort().await;
        return Err(cause);
    }
    upload.complete().await?;
    Ok(())
}

/// Appends `range` of the object to `whole`; fails with `Precondition` when the object is another one by now.
pub(crate) async fn download(
    store: &dyn ObjectStore,
    object: &ObjectMeta,
    range: Range<u64>,
    part_bytes: usize,
    whole: &mut Vec<u8>,
) -> Result<()> {
    let starts = (range.start..range.end).step_by(part_bytes);
    let part = |start: u64| {
        let end = range.end.min(start + part_bytes as u64);
        let options = GetOptions {
            range: Some((start..end).into()),
            if_match: object.e_tag.clone(),
            ..GetOptions::default()
        };
        async move { store.get_opts(&object.location, options).await?.bytes().await }
    };
    let mut parts = stream::iter(starts.map(part)).buffered(AT_ONCE);
    while let Some(part) = parts.next().await {
        whole.extend_from_slice(&part?);
    }
    Ok(())
}
