//! Cursors: of which list, and what of it was shown.
//!
//! A list goes on in the order of now, without what its earlier pages showed. So, whatever others do, whatever is added,
//! changed or taken away between two pages:
//!
//! - no page repeats a result of the last [`REMEMBERED`] that were shown;
//! - nothing is passed over because something else vanished or moved: what was not shown is still to come, and what rose
//!   above the earlier pages comes next.
//!
//! Beyond the last [`REMEMBERED`] results a cursor only knows how many there were, and passes over as many of the best
//! that it does not remember: those may repeat or be passed over by as many as moved.
//!
//! A cursor also pins the model version and which of the user's interactions count, so that neither a click nor one that
//! arrives late with an earlier time makes another list of it. It is refused once that model is no longer held.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::{Error, ErrorCode, ErrorKind, Result};

use crate::views::Place;

/// Results that a cursor remembers: four bytes each, so that an address with a cursor stays below 8 KiB.
pub const REMEMBERED: usize = 1_000;

/// The cursor cannot be continued.
pub const CURSOR_EXPIRED: ErrorCode = ErrorCode {
    name: "CURSOR_EXPIRED",
    kind: ErrorKind::Conflict,
    title: "The list that the cursor belongs to is gone",
};

/// The text is not a cursor of this request.
pub const INVALID_CURSOR: ErrorCode = ErrorCode {
    name: "INVALID_CURSOR",
    kind: ErrorKind::Invalid,
    title: "The cursor is not one of this request",
};

/// What a list is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The model that made the list; 0 where none did.
    pub model_version: u64,
    /// The interaction of the user that came last of those that count; none where none does.
    pub newest: Option<Place>,
}

/// What earlier pages showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Results that are no longer remembered.
    forgotten: usize,
    /// The name of each that is, hashed, in the order in which they were shown.
    names: VecDeque<u32>,
}

impl Shown {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.forgotten.saturating_add(self.names.len())
    }

    /// How many are no longer remembered.
    #[must_use]
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// The hashed names of those that are.
    pub fn names(&self) -> impl Iterator<Item = u32> {
        self.names.iter().copied()
    }

    /// The hashed name of an entity. One in four million names is taken for one of a thousand others.
    #[must_use]
    pub fn name(entity_type: &str, id: &str) -> u32 {
        // `DefaultHasher::new` has fixed keys: two replicas of one build agree.
        let mut hasher = DefaultHasher::new();
        (entity_type, id).hash(&mut hasher);
        hasher.finish() as u32
    }

    /// The same and one more.
    pub fn add(&mut self, name: u32) {
        self.names.push_back(name);
        while self.names.len() > REMEMBERED {
            self.names.pop_front();
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// What the list is made from.
    pub pin: Pin,
    /// What earlier pages showed.
    pub shown: Shown,
    /// Of the request's other parameters.
    pub fingerprint: u64,
}

impl Cursor {
    /// The text form.
    #[must_use]
    pub fn encode(&self) -> String {
        let Pin { model_version, newest } = self.pin;
        let newest = newest.map_or(0, |place| place.number() + 1);
        let names: Vec<u8> = self.shown.names().flat_map(u32::to_le_bytes).collect();
        let names = URL_SAFE_NO_PAD.encode(names);
        format!("{model_version:x}.{newest:x}.{:x}.{:x}.{names}", self.shown.forgotten, self.fingerprint)
    }

    /// Reads the text form; the fingerprint must be the request's.
    ///
    /// # Errors
    /// `INVALID_CURSOR`.
    pub fn decode(text: &str, fingerprint: u64) -> Result<Self> {
        let invalid = |message: &str| Error::new(INVALID_CURSOR, message).with_field("cursor");
        let (cursor, found) =
            Self::read(text).ok_or_else(|| invalid("is not a cursor that this server gave"))?;
        if found != fingerprint {
            return Err(invalid("belongs to a request with other parameters"));
        }
        Ok(Self { fingerprint, ..cursor })
    }

    fn read(text: &str) -> Option<(Self, u64)> {
        let (numbers, names) = text.rsplit_once('.')?;
        let numbers: Vec<u64> =
            numbers.split('.').map(|part| u64::from_str_radix(part, 16)).collect::<Result<_, _>>().ok()?;
        let [model_version, newest, forgotten, fingerprint] = numbers[..] else { return None };
        let names = URL_SAFE_NO_PAD.decode(names).ok()?;
        let (names, rest) = names.as_chunks::<4>();
        if !rest.is_empty() || names.len() > REMEMBERED {
            return None;
        }
        let shown = Shown {
            forgotten: usize::try_from(forgotten).ok()?,
            names: names.iter().copied().map(u32::from_le_bytes).collect(),
        };
        let pin = Pin { model_version, newest: newest.checked_sub(1).map(Place::of_number) };
        Some((Self { pin, shown, fingerprint }, fingerprint))
    }
}

/// The error for a cursor whose model is gone.
#[must_use]
pub fn expired() -> Error {
    Error::new(CURSOR_EXPIRED, "the model was trained anew since; ask for the first page again")
        .with_field("cursor")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(shown: usize) -> Cursor {
        let pin = Pin { model_version: 3, newest: Some(Place::new(2, 17)) };
        let mut cursor = Cursor { pin, shown: Shown::default(), fingerprint: u64::MAX };
        (0..shown).for_each(|id| cursor.shown.add(Shown::name("film", &id.to_string())));
        cursor
    }

    #[test]
    fn cursors_round_trip_and_refuse_others() {
        for shown in [0, 1, 20, REMEMBERED, REMEMBERED + 5] {
            let cursor = cursor(shown);
            let text = cursor.encode();
            assert_eq!(Cursor::decode(&text, u64::MAX).unwrap(), cursor);
            assert_eq!(cursor.shown.count(), shown);
            assert_eq!(cursor.shown.forgotten(), shown.saturating_sub(REMEMBERED));
            assert!(text.len() < 6_000, "{shown}");
        }
        let nothing = Cursor { pin: Pin { model_version: 0, newest: None }, ..cursor(1) };
        assert_eq!(Cursor::decode(&nothing.encode(), u64::MAX).unwrap(), nothing);
        let other = cursor(2).encode();
        let long = format!("1.1.1.1.{}", "AAAA".repeat(REMEMBERED * 4 / 3 + 4));
        for text in ["", "1", "1.2.3.4", "1.2.3.4.A", "1.2.3.4.AAAA", "1.2.3.4.5.", "x.1.1.1.", &other, &long]
        {
            assert_eq!(Cursor::decode(text, 1).unwrap_err().code(), INVALID_CURSOR, "{text}");
        }
    }
}
