//! The ids of the newest events, in memory.
//!
//! Whether an id is known is looked up by the caller's thread, while the writing thread serves others. What was
//! committed between that look and the caller's turn is here, so that the writing thread need not look again.

use std::collections::VecDeque;

use fjall::Slice;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

const RECENT_IDS: usize = 100_000;

/// A partition and an offset.
pub(super) type Place = (u32, u64);

/// When a look was taken: so many appends were done by then.
#[derive(Debug, Clone, Copy)]
pub(super) struct LookedAt(u64);

/// The ids of the newest appends.
#[derive(Debug, Default)]
pub(super) struct RecentIds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    places: FxHashMap<Slice, Place>,
    // The ids of each append that is covered, oldest first.
    appends: VecDeque<Vec<Slice>>,
    done: u64,
}

impl RecentIds {
    /// Now, for a look that is taken after.
    pub(super) fn now(&self) -> LookedAt {
        LookedAt(self.0.lock().done)
    }

    /// Adds the new ids of an append that is durable.
    pub(super) fn add(&self, ids: Vec<(Slice, Place)>) {
        let mut state = self.0.lock();
        state.done += 1;
        state.appends.push_back(ids.iter().map(|(id, _)| id.clone()).collect());
        state.places.extend(ids);
        while state.places.len() > RECENT_IDS
            && let Some(oldest) = state.appends.pop_front()
        {
            for id in oldest {
                state.places.remove(&id);
            }
        }
    }

    /// The place of an id that came after the look; an error when that is too long ago to tell.
    pub(super) fn find(&self, looked_at: LookedAt, id: &Slice) -> Result<Option<Place>, Forgotten> {
        let state = self.0.lock();
        let covered = state.done - state.appends.len() as u64;
        if looked_at.0 < covered { Err(Forgotten) } else { Ok(state.places.get(id).copied()) }
    }

    /// Forgets everything, and every look that was taken: what is on disk may not be what was committed.
    pub(super) fn reset(&self) {
        let mut state = self.0.lock();
        state.done += 1;
        state.appends.clear();
        state.places.clear();
    }
}

/// The look was taken too long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forgotten;

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u64>) -> Vec<(Slice, Place)> {
        numbers.map(|number| (Slice::from(number.to_be_bytes()), (0, number))).collect()
    }

    #[test]
    fn what_came_after_the_look_is_found_or_said_to_be_forgotten() {
        let recent = RecentIds::default();
        let id = |number: u64| Slice::from(number.to_be_bytes());
        let before = recent.now();
        recent.add(ids(0..10));
        let between = recent.now();
        recent.add(ids(10..20));
        assert_eq!(recent.find(before, &id(3)), Ok(Some((0, 3))));
        assert_eq!(recent.find(between, &id(15)), Ok(Some((0, 15))));
        assert_eq!(recent.find(before, &id(99)), Ok(None));
        recent.add(ids(1_000..1_000 + RECENT_IDS as u64));
        assert_eq!(recent.find(before, &id(3)), Err(Forgotten));
        assert_eq!(recent.find(between, &id(15)), Err(Forgotten));
        let late = recent.now();
        assert_eq!(recent.find(late, &id(99)), Ok(None));
        recent.reset();
        assert_eq!(recent.find(late, &id(99)), Err(Forgotten));
        assert_eq!(recent.find(recent.now(), &id(1_000)), Ok(None));
    }
}
