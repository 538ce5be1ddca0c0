//! Where a stream goes on: the next offset of every partition of every type, as `price:17.4-bar_5m:3.9`.
//!
//! It refuses what is not of the types that are asked for, and offsets after the end of a topic: they are of another log.

use kernel::Result;
use store::Extent;

use super::{LiveKind, StartAt, invalid};

/// Of a thousand partitions of every type.
const MOST_BYTES: usize = 48 << 10;

/// The offsets of each type, in its order, as text.
pub(super) fn text(topics: impl Iterator<Item = (&'static str, Vec<u64>)>) -> String {
    let part = |(name, offsets): (&str, Vec<u64>)| {
        let offsets: Vec<String> = offsets.iter().map(u64::to_string).collect();
        format!("{name}:{}", offsets.join("."))
    };
    topics.map(part).collect::<Vec<_>>().join("-")
}

/// The offsets of each type, in order.
///
/// # Errors
/// `VALIDATION_ERROR` naming `from`.
pub(super) fn parsed(text: &str, wanted: &[LiveKind]) -> Result<Vec<Vec<u64>>> {
    let is_none = || invalid("from", "is not `earliest`, `latest` or an id that this stream gave");
    if text.len() > MOST_BYTES {
        return Err(is_none());
    }
    let mut found = Vec::new();
    let mut names = Vec::new();
    for part in text.split('-') {
        let (name, offsets) = part.split_once(':').ok_or_else(is_none)?;
        let offsets = offsets.split('.').filter(|offset| !offset.is_empty());
        let offsets: Result<Vec<u64>> = offsets.map(|offset| offset.parse().map_err(|_| is_none())).collect();
        found.push(offsets?);
        names.push(name);
    }
    if wanted.iter().map(|kind| kind.name).ne(names.iter().copied()) {
        let message = format!("is of {}; ask for the same types, or begin with `earliest`", names.join(", "));
        return Err(invalid("from", message.escape_debug().to_string()));
    }
    Ok(found)
}

/// By partition, the offset that was told last and the one to read from: between them is what retention took.
///
/// # Errors
/// `VALIDATION_ERROR` for offsets of another log.
pub(super) fn begin(
    kind: LiveKind,
    extents: &[Extent],
    given: Option<&[u64]>,
    start: &StartAt,
) -> Result<Vec<(u64, u64)>> {
    let Some(given) = given else {
        let of = |extent: &Extent| if *start == StartAt::Earliest { extent.first } else { extent.next };
        return Ok(extents.iter().map(of).map(|offset| (offset, offset)).collect());
    };
    let is_beyond = given.len() > extents.len()
        || given.iter().zip(extents).any(|(offset, extent)| *offset > extent.next);
    if is_beyond {
        let message =
            format!("is after the end of `{}`, and so of another log; begin with `earliest`", kind.topic);
        return Err(invalid("from", message));
    }
    let place = |(partition, extent): (usize, &Extent)| match given.get(partition) {
        Some(offset) => (*offset, (*offset).max(extent.first)),
        // Added since: the caller saw nothing of it.
        None => (extent.first, extent.first),
    };
    Ok(extents.iter().enumerate().map(place).collect())
}
