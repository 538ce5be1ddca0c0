//! Restoring: events go back to the places they had.

use std::sync::Arc;

use fjall::Slice;
use kernel::{Error, Result};
use store::{Appended, Extent, Outcome, Stored, Topic, check_restore};
use tokio::sync::oneshot;

use crate::engine::Space;
use crate::event_log::append::{id_hash, id_key, place_value};
use crate::event_log::chunk::{Chunk, Draft};
use crate::event_log::place_key;
use crate::event_log::recent::RecentIds;
use crate::event_log::topics::{TopicState, first_key};
use crate::writer::{Group, Job};

/// Events in the order of their places, which follow each other.
pub(super) struct RestoredEvents {
    events: Vec<Stored>,
    chunks: Vec<Chunk>,
}

impl RestoredEvents {
    /// Does what takes time, so that the writing thread need not.
    pub(super) fn new(events: Vec<Stored>) -> Self {
        let (mut chunks, mut draft) = (Vec::new(), Draft::default());
        for stored in &events {
            if draft.is_full() {
                chunks.push(std::mem::take(&mut draft).close());
            }
            draft.add(&stored.event);
        }
        if !events.is_empty() {
            chunks.push(draft.close());
        }
        Self { events, chunks }
    }
}

/// One call of `restore`.
pub(super) struct RestoreJob {
    pub(super) topic: Topic,
    pub(super) state: Arc<TopicState>,
    pub(super) ids: Arc<RecentIds>,
    pub(super) partition: u32,
    pub(super) events: RestoredEvents,
    pub(super) answer: oneshot::Sender<Result<()>>,
}

impl RestoreJob {
    fn extent(&self) -> Result<Extent> {
        self.state.extent(self.partition).ok_or_else(|| Error::internal("a partition is not there"))
    }
}

impl Job for RestoreJob {
    fn bytes(&self) -> u64 {
        let chunks: u64 = self.events.chunks.iter().map(|chunk| chunk.bytes() + 50).sum();
        chunks + 60 * self.events.events.len() as u64
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let topic = self.state.number().ok_or_else(|| Error::internal("a topic was not made"))?;
        let extent = self.extent()?;
        let events = &self.events.events;
        let Some(first) = events.first().map(|stored| stored.offset) else { return Ok(()) };
        // Another job of the group may have moved the end.
        let next = *group.next_offset(topic, self.partition, extent.next);
        if next != extent.next {
            check_restore(&self.topic, Extent { next, ..extent }, events)?;
        }
        if first > next {
            group.put(Space::Meta, first_key(topic, self.partition), first.to_be_bytes().into());
        }
        let mut offset = first;
        for chunk in &self.events.chunks {
            let place = place_key(topic, self.partition, offset);
            group.put_unseen(Space::Events, place.into(), chunk.value(&place).into());
            offset += u64::from(chunk.count);
        }
        for stored in events {
            let id = id_key(topic, id_hash(&stored.event));
            group.put(Space::EventIds, id, place_value(self.partition, stored.offset));
        }
        *group.next_offset(topic, self.partition, extent.next) = offset;
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let events = &self.events.events;
        if let (Ok(()), Some(topic), Some((first, last))) =
            (&outcome, self.state.number(), events.first().zip(events.last()))
        {
            let id = |stored: &Stored| -> Slice { id_key(topic, id_hash(&stored.event)) };
            let ids = events.iter().map(|stored| (id(stored), (self.partition, stored.offset)));
            self.ids.add(ids.collect());
            if self.state.extent(self.partition).is_some_and(|extent| first.offset > extent.next) {
                self.state.forget_before(self.partition, first.offset);
            }
            let last = Appended { partition: self.partition, offset: last.offset, outcome: Outcome::New };
            self.state.publish(std::iter::once(&last));
        }
        let _ = self.answer.send(outcome);
    }
}
