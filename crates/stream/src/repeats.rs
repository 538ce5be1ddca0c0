//! Outputs that come again, over a log that keeps them.
//!
//! A task that was ended after its commit delivers the outputs of that commit again. A log that drops duplicates has them
//! once all the same. Over one that keeps them (a broker without transactions), every output says where it is from, in the
//! extension [`PLACE`], and whoever reads it drops what it had: a [`crate::Task`] by itself, a fold by asking [`Repeats`].
//!
//! A place is `NAMESPACE/PARTITION/BASE/OFFSET/INDEX`: whose output it is, the first offset of the commit that made it, the
//! offset of the event that made it, which of the outputs of that event it is. An output is only ever written when those of
//! every offset before its base are durable, so that nothing before the newest base is missing, and what comes from there
//! again is known. From the base on, single places are remembered, in whatever order they came: as many as one commit
//! has outputs.
//!
//! It refuses nothing: an event without a place, or one that is not of a stream, is no repeat. Nor does it know an output
//! again in another partition: where partitions are added between a crash and the delivery after it, twice is twice.

use std::collections::{BTreeMap, BTreeSet};

use kernel::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The extension that says where an output is from.
pub const PLACE: &str = "streamplace";

/// What every output's source begins with.
pub(crate) const SOURCE: &str = "/watershed/stream/";

/// Where an output is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place<'a> {
    /// Namespace and partition.
    task: &'a str,
    base: u64,
    offset: u64,
    index: u32,
}

impl<'a> Place<'a> {
    fn of(event: &'a Event) -> Option<Self> {
        let text = event.extensions.get(PLACE).and_then(Value::as_str)?;
        let mut parts = text.rsplitn(4, '/');
        let index = parts.next()?.parse().ok()?;
        let offset: u64 = parts.next()?.parse().ok()?;
        let base = parts.next()?.parse().ok()?;
        let task = parts.next()?;
        let (_, partition) = task.rsplit_once('/')?;
        let is_place = base <= offset && partition.parse::<u32>().is_ok();
        is_place.then_some(Self { task, base, offset, index })
    }
}

/// What of the outputs of other tasks was taken, in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// By source, then by namespace and partition.
    tasks: BTreeMap<String, BTreeMap<String, Taken>>,
}

/// What of the outputs of one task was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
struct Taken {
    base: u64,
    places: BTreeSet<(u64, u32)>,
}

/// The same with offsets from the base on, which are short.
#[derive(Serialize, Deserialize)]
struct Stored {
    base: u64,
    places: Vec<(u64, u32)>,
}

impl From<Taken> for Stored {
    fn from(Taken { base, places }: Taken) -> Self {
        let places = places.into_iter().map(|(offset, index)| (offset - base, index));
        Self { base, places: places.collect() }
    }
}

impl From<Stored> for Taken {
    fn from(Stored { base, places }: Stored) -> Self {
        let places = places.into_iter().map(|(ahead, index)| (base.saturating_add(ahead), index));
        Self { base, places: places.collect() }
    }
}

impl Repeats {
    /// Whether nothing with a place ever came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether an event was taken before; from now on it was.
    pub fn knows(&mut self, event: &Event) -> bool {
        if !event.source.starts_with(SOURCE) {
            return false;
        }
        let Some(place) = Place::of(event) else { return false };
        self.taken(&event.source, place.task).knows(place)
    }

    fn taken(&mut self, source: &str, task: &str) -> &mut Taken {
        // Names are copied when a task is first met, and not for every event.
        if !self.tasks.contains_key(source) {
            self.tasks.insert(source.to_owned(), BTreeMap::new());
        }
        let tasks = self.tasks.get_mut(source).expect("it was just put there");
        if !tasks.contains_key(task) {
            tasks.insert(task.to_owned(), Taken::default());
        }
        tasks.get_mut(task).expect("it was just put there")
    }
}

impl Taken {
    fn knows(&mut self, Place { base, offset, index, .. }: Place<'_>) -> bool {
        if offset < self.base {
            return true;
        }
        if base > self.base {
            self.places = self.places.split_off(&(base, 0));
            self.base = base;
        }
        !self.places.insert((offset, index))
    }
}

#[cfg(test)]
mod tests {
    use kernel::{EventDraft, Scope, TenantId, Timestamp};

    use super::*;

    fn event(source: &str, place: &str) -> Event {
        let scope = Scope::system(TenantId::new("desk").unwrap(), "test");
        let draft = EventDraft {
            specversion: Some("1.0".to_owned()),
            id: Some("e".to_owned()),
            source: Some(source.to_owned()),
            kind: Some("t".to_owned()),
            ..EventDraft::default()
        };
        let mut event = draft.seal(&scope, Timestamp::UNIX_EPOCH).unwrap();
        event.extensions.insert(PLACE.to_owned(), Value::String(place.to_owned()));
        event
    }

    #[test]
    fn what_came_is_known_in_whatever_order_it_came() {
        let mut repeats = Repeats::default();
        let mut check = |place: &str, is_known: bool| {
            let source = format!("{SOURCE}bars/1");
            assert_eq!(repeats.knows(&event(&source, place)), is_known, "{place}");
            let bytes = postcard::to_allocvec(&repeats).unwrap();
            assert_eq!(postcard::from_bytes::<Repeats>(&bytes).unwrap(), repeats);
        };
        check("live/0/0/0/0", false);
        check("live/0/0/2/0", false);
        check("live/0/0/2/0", true);
        // One that was left out on the way comes when the commit is delivered again.
        check("live/0/0/1/0", false);
        check("live/0/0/2/1", false);
        check("live/0/0/2/1", true);
        // Of the next commit: everything before it was durable.
        check("live/0/3/5/0", false);
        check("live/0/0/1/7", true);
        check("live/0/3/5/0", true);
        check("live/0/3/4/0", false);
        // Another task, and the same task after its state was taken back: other commits, the same events.
        check("live/1/0/1/0", false);
        check("again/0/0/1/0", false);
        check("live/0/1/4/0", true);
        check("live/0/1/6/0", false);
        check("live/0/6/6/0", true);
        check("live/0/6/7/0", false);
    }

    #[test]
    fn what_has_no_place_is_no_repeat() {
        let mut repeats = Repeats::default();
        for place in ["", "live/0/1/2", "live/0/2/1/0", "live/0/x/1/0", "live/0/0/1/99999999999"] {
            for _ in 0..2 {
                assert!(!repeats.knows(&event(&format!("{SOURCE}bars/1"), place)), "{place}");
            }
        }
        for _ in 0..2 {
            assert!(!repeats.knows(&event("/feed", "live/0/0/1/0")));
        }
        assert!(repeats.is_empty());
    }
}
