//! Formats that are written so many rows at once: rows are read until there are enough, and written where they hold up nobody.

use bytes::Bytes;
use futures::{Stream, stream};
use kernel::{Error, Result};
use store::ColumnRow;

use crate::service::export::Export;

/// Tests have few.
const BATCH_ROWS: usize = if cfg!(test) { 2 } else { 8_192 };

/// Writes rows, and keeps what it needs between them.
pub(super) trait Batches: Send + 'static {
    /// Some rows, with what stands before the first.
    fn batch(&mut self, rows: &[ColumnRow]) -> Result<Bytes>;

    /// The last rows, maybe none, and what stands behind them.
    fn end(self, rows: &[ColumnRow]) -> Result<Bytes>;
}

/// An export, piece by piece.
pub(super) fn pieces<B: Batches>(
    export: Export,
    batches: B,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold(Some((export, batches)), |begun| async move {
        let Some((mut export, mut batches)) = begun else { return Ok(None) };
        let mut rows = Vec::new();
        while rows.len() < BATCH_ROWS {
            match export.next().await? {
                Some(more) => rows.extend(more),
                None => {
                    let end = tokio::task::spawn_blocking(move || batches.end(&rows));
                    return Ok(Some((end.await.map_err(Error::internal)??, None)));
                }
            }
        }
        let batch = tokio::task::spawn_blocking(move || batches.batch(&rows).map(|piece| (piece, batches)));
        let (piece, batches) = batch.await.map_err(Error::internal)??;
        Ok(Some((piece, Some((export, batches)))))
    })
}
