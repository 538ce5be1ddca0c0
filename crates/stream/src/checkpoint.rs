//! Checkpoints: the state of a fold together with the log offsets it stands for, in one checksummed object.
//!
//! Layout: 8 bytes magic, 4 bytes header length (little endian), the header as JSON, the state. The header holds
//! the BLAKE3 hash of the state. The newest two are kept, so that a damaged one costs a longer catch-up and
//! never the view.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::{Error, Result, Scope, codes};
use serde::{Deserialize, Serialize};
use store::{Blobs, PutMode};
use tracing::warn;

const MAGIC: &[u8; 8] = b"WSCHECK1";
const KEPT: usize = 2;

/// A fold's state and where in the log it stands.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The fold's format.
    pub format: u32,
    /// For each partition, the offset of the first event that is not in the state.
    pub offsets: BTreeMap<u32, u64>,
    /// The encoded state.
    pub state: Bytes,
}

impl Checkpoint {
    /// Reads a stored one, of any format.
    ///
    /// # Errors
    /// `CORRUPTED` where it is damaged.
    pub fn from_bytes(body: &Bytes) -> Result<Self> {
        open(body)
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    offsets: BTreeMap<u32, u64>,
    state_bytes: u64,
    blake3: String,
}

/// The checkpoints of one fold over one topic.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    blobs: Arc<dyn Blobs>,
    scope: Scope,
    folder: String,
}

impl Checkpoints {
    /// The folder of all checkpoints; under it `TOPIC/NAME/POSITION`, the newest last.
    pub const FOLDER: &'static str = "checkpoints";

    /// Kept under `checkpoints/TOPIC/NAME/` of the scope's tenant.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>, scope: Scope, topic: &str, name: &str) -> Self {
        Self { blobs, scope, folder: format!("{}/{topic}/{name}", Self::FOLDER) }
    }

    /// Writes a checkpoint, then removes all but the newest two.
    ///
    /// # Errors
    /// Those of the engine. Older checkpoints are then still there.
    pub async fn save(&self, checkpoint: &Checkpoint) -> Result<()> {
        let position: u64 = checkpoint.offsets.values().sum();
        let path = format!("{}/{position:020}", self.folder);
        self.blobs.put(&self.scope, &path, seal(checkpoint)?, PutMode::Replace).await?;
        self.keep(KEPT).await
    }

    /// Removes all but the newest `count`.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn keep(&self, count: usize) -> Result<()> {
        let mut paths = self.paths().await?;
        paths.truncate(paths.len().saturating_sub(count));
        for path in paths {
            self.blobs.delete(&self.scope, &path).await?;
        }
        Ok(())
    }

    /// The newest checkpoint of this format that passes its checksum; none where there is none. A damaged or
    /// foreign one is reported in the log and passed over.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn newest(&self, format: u32) -> Result<Option<Checkpoint>> {
        for path in self.paths().await?.into_iter().rev() {
            let body = self.blobs.get(&self.scope, &path).await?;
            match open(&body) {
                Ok(checkpoint) if checkpoint.format == format => return Ok(Some(checkpoint)),
                Ok(checkpoint) => {
                    warn!(%path, found = checkpoint.format, wanted = format, "checkpoint has another format");
                }
                Err(error) => warn!(%path, error = %error.chain(), "checkpoint is damaged"),
            }
        }
        Ok(None)
    }

    /// For each partition, the first offset that the restore of any good checkpoint of this format would read; empty
    /// where there is none. What is before may leave the log.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn covered(&self, format: u32) -> Result<BTreeMap<u32, u64>> {
        let mut covered: Option<BTreeMap<u32, u64>> = None;
        for path in self.paths().await? {
            let body = self.blobs.get(&self.scope, &path).await?;
            let Some(found) = open(&body).ok().filter(|checkpoint| checkpoint.format == format) else {
                continue;
            };
            covered = Some(match covered {
                None => found.offsets,
                Some(mut covered) => {
                    covered.retain(|partition, _| found.offsets.contains_key(partition));
                    for (partition, offset) in &mut covered {
                        *offset = (*offset).min(found.offsets[partition]);
                    }
                    covered
                }
            });
        }
        Ok(covered.unwrap_or_default())
    }

    async fn paths(&self) -> Result<Vec<String>> {
        let listed = self.blobs.list(&self.scope, &self.folder).await?;
        Ok(listed.into_iter().map(|blob| blob.path).collect())
    }
}

fn seal(checkpoint: &Checkpoint) -> Result<Bytes> {
    let header = Header {
        format: checkpoint.format,
        offsets: checkpoint.offsets.clone(),
        state_bytes: checkpoint.state.len() as u64,
        blake3: blake3::hash(&checkpoint.state).to_hex().to_string(),
    };
    let header = serde_json::to_vec(&header).map_err(Error::internal)?;
    let header_bytes = u32::try_from(header.len()).map_err(Error::internal)?;
    let mut body = Vec::with_capacity(12 + header.len() + checkpoint.state.len());
    body.extend_from_slice(MAGIC);
    body.extend_from_slice(&header_bytes.to_le_bytes());
    body.extend_from_slice(&header);
    body.extend_from_slice(&checkpoint.state);
    Ok(body.into())
}

fn open(body: &Bytes) -> Result<Checkpoint> {
    let damaged = |reason: &str| Error::new(codes::CORRUPTED, format!("a checkpoint {reason}"));
    let (magic, rest) = body.split_at_checked(8).ok_or_else(|| damaged("is cut short"))?;
    if magic != MAGIC {
        return Err(damaged("does not begin as one"));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("is cut short"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (header, _) = rest.split_at_checked(length).ok_or_else(|| damaged("is cut short"))?;
    let header: Header = serde_json::from_slice(header)
        .map_err(|cause| damaged("has a header that cannot be read").with_source(cause))?;
    let state = body.slice(12 + length..);
    if state.len() as u64 != header.state_bytes || blake3::hash(&state).to_hex().as_str() != header.blake3 {
        return Err(damaged("fails its checksum"));
    }
    Ok(Checkpoint { format: header.format, offsets: header.offsets, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damage_is_found() {
        let checkpoint = Checkpoint {
            format: 3,
            offsets: BTreeMap::from([(0, 17)]),
            state: Bytes::from_static(b"some state"),
        };
        let sealed = seal(&checkpoint).unwrap();
        let opened = open(&sealed).unwrap();
        assert_eq!((opened.format, opened.state, opened.offsets), (3, checkpoint.state, checkpoint.offsets));
        for length in 0..sealed.len() {
            assert!(open(&sealed.slice(..length)).is_err(), "cut at {length}");
        }
        let state_start = sealed.len() - 10;
        for position in (0..12).chain(state_start..sealed.len()) {
            let mut damaged = sealed.to_vec();
            damaged[position] ^= 0x40;
            assert!(open(&damaged.into()).is_err(), "flipped at {position}");
        }
    }
}
