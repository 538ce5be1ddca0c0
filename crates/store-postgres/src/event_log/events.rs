//! What an event is in the database.

use kernel::{Error, Event, Result, codes};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// How much one statement carries, unless one event alone is larger.
pub(super) const MAX_BATCH_BYTES: usize = 32 << 20;
pub(super) const MAX_BATCH_EVENTS: usize = store::MAX_APPEND_BATCH;

/// An event that is ready to be written, but for its offset.
#[derive(Debug)]
pub(super) struct NewEvent {
    pub(super) id_hash: Uuid,
    pub(super) partition: u32,
    pub(super) time_ms: i64,
    pub(super) checksum: i32,
    pub(super) json: Vec<u8>,
}

impl NewEvent {
    /// Does what takes time: hashing and encoding.
    pub(super) fn new(event: &Event, partitions: u32) -> Self {
        let partition = if partitions == 1 {
            0
        } else {
            let key = event.partition_key.as_deref().or(event.subject.as_deref()).unwrap_or(&event.id);
            let hash = xxh3_64(&[event.tenant.as_str().as_bytes(), b"\0", key.as_bytes()].concat());
            u32::try_from(hash % u64::from(partitions)).expect("it is below a u32")
        };
        let json = event.to_json();
        let checksum = crc32fast::hash(&json).cast_signed();
        Self { id_hash: id_hash(event), partition, time_ms: event.time.as_millisecond(), checksum, json }
    }
}

/// What two events share only when they are the same one.
fn id_hash(event: &Event) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    for part in [event.tenant.as_str(), "\0", &event.source, "\0", &event.id] {
        hasher.update(part.as_bytes());
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Uuid::from_bytes(hash)
}

/// The event that was stored so.
pub(super) fn decode(checksum: i32, json: &[u8]) -> Result<Event> {
    if crc32fast::hash(json).cast_signed() != checksum {
        return Err(Error::new(codes::CORRUPTED, "the checksum is wrong"));
    }
    Event::from_json(json)
}

/// The events in order, in parts that have room in one statement.
pub(super) fn parts_of(events: Vec<NewEvent>) -> Vec<Vec<NewEvent>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        let part = parts.last_mut().expect("it begins with one");
        if !part.is_empty() && bytes + event.json.len() > MAX_BATCH_BYTES {
            bytes = event.json.len();
            parts.push(vec![event]);
        } else {
            bytes += event.json.len();
            part.push(event);
        }
    }
    parts
}
