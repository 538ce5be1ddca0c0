//! What a backup is cut into: compressed bytes under the name of their hash.

use bytes::Bytes;
use kernel::{Error, Event, Result};
use serde::{Deserialize, Serialize};
use store::{SavedRecord, Stored};

use crate::corrupted;

/// As fast as a disk writes, at a tenth of the size of events.
const ZSTD_LEVEL: i32 = 3;
const LENGTH_BYTES: usize = 4;

/// Zero is not written: manifests of earlier releases have no such field.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The BLAKE3 hash of what is stored, in hexadecimal.
    pub blake3: String,
    /// The size of what is stored.
    pub bytes: u64,
    /// The size before it was compressed.
    pub raw_bytes: u64,
    /// The backup that it was sent for; 0 in backups of earlier releases.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sent_for: u64,
}

impl Part {
    /// Its name in the vault. It names the backup, so that whoever removes what an earlier backup left never removes
    /// what a later one sends, though it be the same bytes.
    pub(crate) fn name(&self) -> String {
        if self.sent_for == 0 { self.blake3.clone() } else { format!("{}-{}", self.blake3, self.sent_for) }
    }
}

/// Compresses and hashes.
pub(crate) fn pack(raw: &[u8]) -> Result<(Part, Bytes)> {
    let stored = zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(Error::internal)?;
    let blake3 = blake3::hash(&stored).to_hex().to_string();
    let part = Part { blake3, bytes: stored.len() as u64, raw_bytes: raw.len() as u64, sent_for: 0 };
    Ok((part, stored.into()))
}

/// What [`pack`] was given.
pub(crate) fn unpack(part: &Part, stored: &[u8]) -> Result<Vec<u8>> {
    if stored.len() as u64 != part.bytes {
        return Err(corrupted(format!("it has {} bytes, not {}", stored.len(), part.bytes)));
    }
    if blake3::hash(stored).to_hex().as_str() != part.blake3 {
        return Err(corrupted("its checksum is wrong"));
    }
    let capacity = usize::try_from(part.raw_bytes).map_err(Error::internal)?;
    let raw = zstd::bulk::decompress(stored, capacity)
        .map_err(|cause| corrupted("it cannot be decompressed").with_source(cause))?;
    if raw.len() as u64 != part.raw_bytes {
        return Err(corrupted("it is not as long as the manifest says"));
    }
    Ok(raw)
}

/// Adds an event: the length of its JSON, little endian, and its JSON.
pub(crate) fn add_event(raw: &mut Vec<u8>, event: &Event) -> Result<()> {
    let json = event.to_json();
    let length = u32::try_from(json.len()).map_err(Error::internal)?;
    raw.extend_from_slice(&length.to_le_bytes());
    raw.extend_from_slice(&json);
    Ok(())
}

/// The events of a segment that begins at the offset `first`.
pub(crate) fn read_events(first: u64, raw: &[u8]) -> Result<Vec<Stored>> {
    let mut events = Vec::new();
    let (mut rest, mut offset) = (raw, first);
    while !rest.is_empty() {
        let short = || corrupted(format!("event {offset} is cut short"));
        let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or_else(short)?;
        let (json, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
        let event = Event::from_json(json)
            .map_err(|cause| corrupted(format!("event {offset} cannot be read")).with_source(cause))?;
        events.push(Stored { offset, event });
        rest = after;
        offset += 1;
    }
    Ok(events)
}

pub(crate) fn write_records(records: &[SavedRecord]) -> Result<Vec<u8>> {
    postcard::to_stdvec(records).map_err(Error::internal)
}

pub(crate) fn read_records(raw: &[u8]) -> Result<Vec<SavedRecord>> {
    postcard::from_bytes(raw).map_err(|cause| corrupted("its records cannot be read").with_source(cause))
}
