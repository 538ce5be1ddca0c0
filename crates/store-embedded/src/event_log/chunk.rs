//! What is stored of events: those of one partition that were appended together, under the offset of the first.
//!
//! One value for many events costs the database one key, and LZ4 finds more in many than in one; it is done once, by the
//! caller's thread. A stored value is a CRC-32 over its place and the rest, and the rest: of a single event its JSON, of
//! several [`MANY`], how many there are, and the LZ4 block of their JSON, each after its length.
//!
//! It refuses more than [`MOST_EVENTS`] at once, so that the chunk of an offset is found by looking so far back.

use std::ops::Range;

use kernel::{Error, Event, Result, codes};

/// Of one chunk.
pub(super) const MOST_EVENTS: u32 = 256;
/// A chunk takes no more events from there on, so that a read in the midst of it costs little.
const FULL_BYTES: usize = 64 << 10;

const CHECKSUM_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;
/// Begins what is stored of several events. The JSON of one begins with a brace.
const MANY: u8 = 1;
/// LZ4 makes at most so many bytes of one.
const MOST_COMPRESSED: usize = 255;

/// Events that become one value.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Each after its length.
    bytes: Vec<u8>,
    count: u32,
}

impl Draft {
    /// Adds an event; the length of its JSON.
    pub(super) fn add(&mut self, event: &Event) -> usize {
        self.add_with(|bytes| {
            serde_json::to_writer(bytes, event).expect("every part of an event has a JSON form");
        })
    }

    fn add_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let start = self.bytes.len() + LENGTH_BYTES;
        self.bytes.resize(start, 0);
        write(&mut self.bytes);
        let length = self.bytes.len() - start;
        let stored = u32::try_from(length).expect("an event is within what an append takes");
        self.bytes[start - LENGTH_BYTES..start].copy_from_slice(&stored.to_le_bytes());
        self.count += 1;
        length
    }

    /// Whether the next event belongs to another chunk.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL_BYTES || self.count == MOST_EVENTS
    }

    pub(super) fn close(self) -> Chunk {
        let Self { bytes, count } = self;
        if count == 1 {
            return Chunk { count, body: bytes[LENGTH_BYTES..].to_vec() };
        }
        Self { bytes, count }.compress()
    }

    fn compress(&self) -> Chunk {
        let compressed = lz4_flex::block::compress_prepend_size(&self.bytes);
        Chunk { count: self.count, body: [&[MANY], &self.count.to_le_bytes()[..], &compressed].concat() }
    }
}

/// Events that are ready to be stored, but for their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) count: u32,
    body: Vec<u8>,
}

impl Chunk {
    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        (CHECKSUM_BYTES + self.body.len()) as u64
    }

    /// What is stored of it at a place.
    pub(super) fn value(&self, place: &[u8]) -> Vec<u8> {
        [&checksum(place, &self.body)[..], &self.body].concat()
    }

    /// Those of a stored one from a number on.
    pub(super) fn rest(place: &[u8], value: &[u8], from: u32) -> Result<Option<Self>> {
        let count = u32::try_from(count(place, value)?).map_err(|_| damaged())?;
        let body = checked(place, value)?.to_vec();
        Self { count, body }.filter(|number| number >= from)
    }

    /// Those for whose number in it `keeps` is true; none where there are none.
    pub(super) fn filter(self, keeps: impl Fn(u32) -> bool) -> Result<Option<Self>> {
        let count = self.count;
        if (0..count).all(&keeps) {
            return Ok(Some(self));
        }
        let mut draft = Draft::default();
        let opened = Opened::of_body(&self.body)?;
        for (number, json) in (0..count).zip(opened.all()) {
            if keeps(number) {
                draft.add_with(|bytes| bytes.extend_from_slice(json));
            }
        }
        // Compressed also where one is left, so that it takes no more than was reckoned with.
        Ok((draft.count > 0).then(|| draft.compress()))
    }
}

/// A stored chunk, as it is read.
#[derive(Debug)]
pub(super) struct Opened {
    bytes: Vec<u8>,
    /// Where the JSON of each is.
    events: Vec<Range<usize>>,
}

impl Opened {
    /// Reads what [`Chunk::value`] made for that place.
    ///
    /// # Errors
    /// `CORRUPTED` where it is not that.
    pub(super) fn read(place: &[u8], value: &[u8]) -> Result<Self> {
        Self::of_body(checked(place, value)?)
    }

    fn of_body(body: &[u8]) -> Result<Self> {
        let Some(rest) = body.strip_prefix(&[MANY]) else {
            return Ok(Self { bytes: body.to_vec(), events: std::iter::once(0..body.len()).collect() });
        };
        let (count, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (length, rest) = lz4_flex::block::uncompressed_size(rest).map_err(|_| damaged())?;
        if length > rest.len().saturating_mul(MOST_COMPRESSED) {
            return Err(damaged());
        }
        let bytes = lz4_flex::block::decompress(rest, length).map_err(|_| damaged())?;
        let mut events = Vec::new();
        let mut end = 0;
        while end < bytes.len() {
            let (length, rest) = bytes[end..].split_first_chunk::<LENGTH_BYTES>().ok_or_else(damaged)?;
            let length = u32::from_le_bytes(*length) as usize;
            if length > rest.len() {
                return Err(damaged());
            }
            let start = end + LENGTH_BYTES;
            end = start + length;
            events.push(start..end);
        }
        if events.len() != u32::from_le_bytes(*count) as usize {
            return Err(damaged());
        }
        Ok(Self { bytes, events })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.events.len() as u64
    }

    /// The JSON of one by its number, which is below the count.
    pub(super) fn json(&self, number: u64) -> &[u8] {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        &self.bytes[self.events[at].clone()]
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count()).map(|number| self.json(number))
    }
}

/// How many events a stored value holds, without reading them.
///
/// # Errors
/// `CORRUPTED` where it is none of that place.
pub(super) fn count(place: &[u8], value: &[u8]) -> Result<u64> {
    let body = checked(place, value)?;
    let Some(rest) = body.strip_prefix(&[MANY]) else { return Ok(1) };
    let (count, _) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    Ok(u64::from(u32::from_le_bytes(*count)))
}

fn checked<'a>(place: &[u8], value: &'a [u8]) -> Result<&'a [u8]> {
    let wrong = || Error::new(codes::CORRUPTED, "the checksum is wrong");
    let (found, body) = value.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(wrong)?;
    if checksum(place, body) == *found { Ok(body) } else { Err(wrong()) }
}

fn checksum(place: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(place);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

fn damaged() -> Error {
    Error::new(codes::CORRUPTED, "its chunk cannot be read")
}

#[cfg(test)]
mod tests {
    use kernel::{TenantId, Timestamp};
    use proptest::prelude::*;

    use super::*;

    const PLACE: &[u8] = b"place";

    fn event(id: u32) -> Event {
        let tenant = TenantId::new("desk").unwrap();
        Event::new(&tenant, id.to_string(), "/test", "t", Timestamp::UNIX_EPOCH)
    }

    fn chunk(ids: Range<u32>) -> Chunk {
        let mut draft = Draft::default();
        ids.for_each(|id| assert_eq!(draft.add(&event(id)), event(id).to_json().len()));
        draft.close()
    }

    fn ids(chunk: &Chunk) -> Vec<u32> {
        let value = chunk.value(PLACE);
        let opened = Opened::read(PLACE, &value).unwrap();
        assert_eq!((opened.count(), count(PLACE, &value).unwrap()), (chunk.count.into(), chunk.count.into()));
        opened.all().map(|json| Event::from_json(json).unwrap().id.parse().unwrap()).collect()
    }

    #[test]
    fn events_are_read_as_they_were_written() {
        for most in [1, 2, 3, 100, MOST_EVENTS] {
            assert_eq!(ids(&chunk(0..most)), (0..most).collect::<Vec<_>>());
        }
        let single = chunk(7..8).value(PLACE);
        assert_eq!(single[CHECKSUM_BYTES..], event(7).to_json(), "as format 1 has it");
        assert!(chunk(0..100).bytes() < chunk(0..1).bytes() * 100 / 4);
    }

    #[test]
    fn some_are_left_out() {
        let without =
            |range: Range<u32>, keeps: fn(u32) -> bool| chunk(range).filter(keeps).unwrap().as_ref().map(ids);
        assert_eq!(without(0..5, |_| true), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(without(0..5, |number| number % 2 == 0), Some(vec![0, 2, 4]));
        assert_eq!(without(10..15, |number| number == 3), Some(vec![13]));
        assert_eq!(without(10..15, |_| false), None);
        assert_eq!(without(10..11, |_| false), None);
        let rest = |from| Chunk::rest(PLACE, &chunk(0..4).value(PLACE), from).unwrap().as_ref().map(ids);
        assert_eq!((rest(0), rest(3), rest(4)), (Some(vec![0, 1, 2, 3]), Some(vec![3]), None));
        let large = Event { subject: Some("x".repeat(100_000)), ..event(0) };
        let mut draft = Draft::default();
        draft.add(&event(1));
        draft.add(&large);
        let both = draft.close();
        let bytes = both.bytes();
        assert!(both.filter(|number| number == 1).unwrap().unwrap().bytes() <= bytes);
    }

    #[test]
    fn a_chunk_has_an_end() {
        let mut draft = Draft::default();
        while !draft.is_full() {
            draft.add(&event(draft.count));
        }
        assert!(draft.bytes.len() < FULL_BYTES && draft.count == MOST_EVENTS);
        let mut draft = Draft::default();
        while !draft.is_full() {
            draft.add(&Event { subject: Some("x".repeat(1_000)), ..event(draft.count) });
        }
        assert!(draft.bytes.len() < 2 * FULL_BYTES && draft.count < MOST_EVENTS);
    }

    proptest! {
        #[test]
        fn damage_is_found(at in 0_usize..400, bit in 0_u32..8, cut in 0_usize..400, many: bool) {
            let chunk = chunk(0..if many { 30 } else { 1 });
            let mut value = chunk.value(PLACE);
            let at = at % value.len();
            value[at] ^= 1 << bit;
            prop_assert_eq!(Opened::read(PLACE, &value).unwrap_err().code(), codes::CORRUPTED);
            value[at] ^= 1 << bit;
            prop_assert!(Opened::read(b"other", &value).is_err());
            // One that is not whole, with a checksum that is right.
            let mut body = chunk.body;
            body.truncate((cut % body.len()).max(1));
            if many {
                let again = Chunk { count: chunk.count, body }.value(PLACE);
                prop_assert!(Opened::read(PLACE, &again).is_err());
                _ = count(PLACE, &again);
            }
        }
    }
}
