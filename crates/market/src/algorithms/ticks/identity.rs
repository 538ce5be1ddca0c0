//! What makes two messages the same tick: tenant, source and sequence; without a sequence the event id; without that
//! the guide's symbol and microsecond.
//!
//! The guide hashes symbol, microsecond and source alone, and so takes two trades of one microsecond for one. The
//! field keeps its name `tick_id`; its value is 128 bits of BLAKE3 in hexadecimal. What kind of identity it was made
//! from is part of it, so that no sequence meets an event id, and lengths are, so that no two names run together.

use std::fmt;

use kernel::TenantId;
use serde::{Serialize, Serializer};

use super::mapping::SequenceScope;

/// The identity of a tick: equal for the same tick however often it comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TickId(pub [u8; 16]);

impl TickId {
    fn hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

impl fmt::Display for TickId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for TickId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for TickId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

/// The producer's running number, and what it is unique within.
#[derive(Clone, Copy)]
pub(super) struct Number {
    pub(super) sequence: Option<u64>,
    pub(super) scope: SequenceScope,
}

/// What stands in for a running number.
#[derive(Clone, Copy)]
pub(super) struct Instance<'a> {
    pub(super) event_id: Option<&'a str>,
    pub(super) occurred_us: i64,
}

/// The identity of a tick.
pub(super) fn of(
    tenant: &TenantId,
    source: &str,
    symbol: &str,
    number: Number,
    instance: Instance<'_>,
) -> TickId {
    let mut key = Key { bytes: [0; 512], len: 0 };
    key.text(tenant.as_str());
    key.text(source);
    match (number.sequence, number.scope, instance.event_id) {
        (Some(sequence), SequenceScope::Source, _) => {
            key.put(b"n");
            key.put(&sequence.to_le_bytes());
        }
        (Some(sequence), SequenceScope::Symbol, _) => {
            key.put(b"s");
            key.put(&sequence.to_le_bytes());
            key.text(symbol);
        }
        (None, _, Some(event_id)) => {
            key.put(b"e");
            key.text(event_id);
        }
        (None, _, None) => {
            key.put(b"t");
            key.put(&instance.occurred_us.to_le_bytes());
            key.text(symbol);
        }
    }
    let hash = blake3::hash(&key.bytes[..key.len]);
    let mut id = TickId::default();
    id.0.copy_from_slice(&hash.as_bytes()[..16]);
    id
}

/// The bytes that are hashed. Three names of at most 255 bytes would not fit, so that long ones are hashed first.
struct Key {
    bytes: [u8; 512],
    len: usize,
}

impl Key {
    const NAME_BYTES_MAX: usize = 100;

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn text(&mut self, text: &str) {
        self.put(&(text.len() as u32).to_le_bytes());
        if text.len() <= Self::NAME_BYTES_MAX {
            self.put(text.as_bytes());
        } else {
            self.put(blake3::hash(text.as_bytes()).as_bytes());
        }
    }
}
