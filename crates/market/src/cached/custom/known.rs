//! What is known of the values of a tenant, by when each of them has to be looked at: however many there are, the others are
//! left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kernel::TenantId;

use super::PAUSE;
use crate::cached::{State, Written};

/// Values by their names in the cache.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_name: BTreeMap<String, Value>,
    /// The names, by when they are to be looked at.
    queue: BTreeSet<(Duration, String)>,
    /// Those of which it is not known yet what became of them.
    taken: Vec<String>,
}

#[derive(Debug)]
struct Value {
    /// Where it is in the records.
    place: String,
    state: State,
    /// When it is to be looked at, where it is in the queue.
    due: Option<Duration>,
}

impl Values {
    /// A value is in this state. Where it was not before, it is to be written.
    pub(super) fn put(&mut self, name: &str, place: String, state: State, now: Duration) {
        let known = self.by_name.get(name);
        if known.is_some_and(|value| value.state == state) {
            return;
        }
        if let Some(due) = known.and_then(|value| value.due) {
            self.queue.remove(&(due, name.to_owned()));
        }
        self.queue.insert((now, name.to_owned()));
        self.by_name.insert(name.to_owned(), Value { place, state, due: Some(now) });
    }

    /// Whether so many are to be looked at by now, one at least.
    pub(super) fn are_due(&self, now: Duration, count: usize) -> bool {
        self.queue.iter().nth(count.saturating_sub(1)).is_some_and(|(due, _)| *due <= now)
    }

    /// Takes out those that are to be looked at by now, so many at most: their names and where they are in the records. They
    /// come back with [`Values::settle`], whatever happens to who took them.
    pub(super) fn take(&mut self, now: Duration, most: usize) -> Vec<(String, String)> {
        let mut taken = Vec::new();
        while taken.len() < most && self.queue.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, name)) = self.queue.pop_first() else { break };
            let Some(value) = self.by_name.get_mut(&name) else { continue };
            value.due = None;
            self.taken.push(name.clone());
            taken.push((name, value.place.clone()));
        }
        taken
    }

    /// One that was taken is in this state by now; none where it is gone.
    pub(super) fn found(&mut self, name: &str, state: Option<State>) {
        let Some(state) = state else {
            self.by_name.remove(name);
            return;
        };
        if let Some(value) = self.by_name.get_mut(name) {
            value.state = state;
        }
    }

    /// Of those that were taken: what was written is to be looked at before it ends, and the rest at once.
    pub(super) fn settle(&mut self, tenant: &TenantId, written: &Written) {
        for name in std::mem::take(&mut self.taken) {
            let Some(value) = self.by_name.get_mut(&name).filter(|value| value.due.is_none()) else {
                continue;
            };
            let State { at, id } = &value.state;
            // Not at once also where it ends that soon: it says nothing longer than that, however often it is written.
            let again = written.due_at(tenant, &name, *at, id).map(|due| due.max(written.now + PAUSE));
            let due = again.unwrap_or(written.now);
            value.due = Some(due);
            self.queue.insert((due, name));
        }
    }
}
