//! Changes of state as bytes: for each its part, its key and its value, or that it is gone.
//!
//! The state of a task is a log of such changes, a segment for each commit, so that a commit writes what changed and no
//! more, in one piece. The oldest segments are read again as new ones come, and what is still needed of them is
//! written once more: with twice as much read as written, at most half of the log is out of date in the long run.

use kernel::{Error, Result, codes};

use super::head::Pages;

/// The part that is the task's own.
pub(crate) const HELD: u16 = u16::MAX;

const GONE: u32 = u32::MAX;
const SMALL_BYTES: u64 = 1 << 20;
const REMOVED_AT_ONCE: usize = 256;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) part: u16,
    pub(crate) key: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
}

impl<'a> Change<'a> {
    pub(crate) fn write(self, bytes: &mut Vec<u8>) {
        let length = |part: &[u8]| u32::try_from(part.len()).expect("a key or a value has less than 4 GiB");
        bytes.extend_from_slice(&self.part.to_le_bytes());
        bytes.extend_from_slice(&length(self.key).to_le_bytes());
        bytes.extend_from_slice(&self.value.map_or(GONE, length).to_le_bytes());
        bytes.extend_from_slice(self.key);
        bytes.extend_from_slice(self.value.unwrap_or_default());
    }

    pub(crate) fn read_all(mut bytes: &'a [u8]) -> Result<Vec<Self>> {
        let mut changes = Vec::new();
        while !bytes.is_empty() {
            let read = Self::read(bytes);
            let (change, rest) =
                read.ok_or_else(|| Error::new(codes::CORRUPTED, "stored changes of state cannot be read"))?;
            changes.push(change);
            bytes = rest;
        }
        Ok(changes)
    }

    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (part, bytes) = bytes.split_first_chunk::<2>()?;
        let (key, bytes) = bytes.split_first_chunk::<4>()?;
        let (value, bytes) = bytes.split_first_chunk::<4>()?;
        let (key, bytes) = bytes.split_at_checked(u32::from_le_bytes(*key) as usize)?;
        let (value, bytes) = match u32::from_le_bytes(*value) {
            GONE => (None, bytes),
            length => {
                let (value, bytes) = bytes.split_at_checked(length as usize)?;
                (Some(value), bytes)
            }
        };
        Some((Self { part: u16::from_le_bytes(*part), key, value }, bytes))
    }
}

/// Whether another old segment is to be read again, where `written` bytes are new, and `read` bytes in `removed`
/// segments were read already.
pub(crate) fn is_cleaning_due(
    segments: &[Pages],
    most: usize,
    written: usize,
    read: u64,
    removed: usize,
) -> bool {
    let are_many = segments.len() > most && removed < 4;
    let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let is_large = bytes > SMALL_BYTES && read < 2 * written as u64;
    !segments.is_empty() && removed < REMOVED_AT_ONCE && (are_many || is_large)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..9)
    }

    proptest! {
        #[test]
        fn changes_round_trip(
            changes in proptest::collection::vec(
                (any::<u16>(), some_bytes(), proptest::option::of(some_bytes())),
                0..9,
            ),
            cut in 0_usize..200,
        ) {
            let changes: Vec<Change<'_>> = changes
                .iter()
                .map(|(part, key, value)| Change { part: *part, key, value: value.as_deref() })
                .collect();
            let mut bytes = Vec::new();
            changes.iter().for_each(|change| change.write(&mut bytes));
            prop_assert_eq!(&Change::read_all(&bytes).unwrap(), &changes);
            // Cut anywhere, it is an error or fewer changes, never a panic.
            bytes.truncate(cut.min(bytes.len()));
            if let Ok(fewer) = Change::read_all(&bytes) {
                prop_assert_eq!(&fewer[..], &changes[..fewer.len()]);
            }
        }
    }
}
