//! The stored form of a record: version, index entries, body.

use bytes::Bytes;
use fjall::Slice;
use kernel::{Error, Result, codes};
use store::Record;

/// A record as it is stored: version (8 bytes), count of index entries (2), each entry (2 bytes of length, then
/// the key), and the body to the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoredRecord {
    pub(super) version: u64,
    pub(super) entries: Vec<Slice>,
    pub(super) body: Bytes,
}

impl StoredRecord {
    pub(super) fn write(&self) -> Slice {
        let entry_bytes: usize = self.entries.iter().map(|entry| entry.len() + 2).sum();
        let mut bytes = Vec::with_capacity(10 + entry_bytes + self.body.len());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        let length_of =
            |length: usize| u16::try_from(length).expect("keys and index counts are bounded").to_be_bytes();
        bytes.extend_from_slice(&length_of(self.entries.len()));
        for entry in &self.entries {
            bytes.extend_from_slice(&length_of(entry.len()));
            bytes.extend_from_slice(entry);
        }
        bytes.extend_from_slice(&self.body);
        bytes.into()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::new(codes::CORRUPTED, "a stored record is damaged");
        let (version, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let (count, mut rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
        let mut entries = Vec::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, after) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
            let (entry, after) =
                after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(damaged)?;
            entries.push(Slice::from(entry));
            rest = after;
        }
        let body = Bytes::copy_from_slice(rest);
        Ok(Self { version: u64::from_be_bytes(*version), entries, body })
    }

    pub(super) fn into_record(self, key: String) -> Record {
        Record { key, version: self.version, body: self.body }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trips(version: u64, entries: Vec<Vec<u8>>, body: Vec<u8>) {
            let record = StoredRecord {
                version,
                entries: entries.into_iter().map(Slice::from).collect(),
                body: body.into(),
            };
            prop_assert_eq!(StoredRecord::read(&record.write()).unwrap(), record);
        }

        #[test]
        fn garbage_is_refused_or_read(bytes: Vec<u8>) {
            let _ = StoredRecord::read(&bytes);
        }
    }
}
