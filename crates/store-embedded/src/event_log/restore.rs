//! Restoring: events go back to the places they had.

use std::sync::Arc;

use fjall::Slice;
use kernel::{Error, Result};
use store::{Appended, Extent, Outcome, Stored, Topic, check_restore};
use tokio::sync::oneshot;

use crate::engine::Space;
use crate::event_log::append::{id_hash, id_key, place_value};
use crate::event_log::recent::RecentIds;
use crate::event_log::topics::{TopicState, first_key};
use crate::event_log::{CHECKSUM_BYTES, checksum, place_key};
use crate::writer::{Group, Job};

/// One call of `restore`.
pub(super) struct RestoreJob {
    pub(super) topic: Topic,
    pub(super) state: Arc<TopicState>,
    pub(super) recent: Arc<RecentIds>,
    pub(super) partition: u32,
    pub(super) events: Vec<(Stored, Vec<u8>)>,
    pub(super) answer: oneshot::Sender<Result<()>>,
}

impl RestoreJob {
    fn extent(&self) -> Result<Extent> {
        self.state.extent(self.partition).ok_or_else(|| Error::internal("a partition is not there"))
    }
}

impl Job for RestoreJob {
    fn bytes(&self) -> u64 {
        self.events.iter().map(|(_, json)| json.len() as u64 + 110).sum()
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let topic = self.state.number().ok_or_else(|| Error::internal("a topic was not made"))?;
        let extent = self.extent()?;
        let Some(first) = self.events.first().map(|(stored, _)| stored.offset) else { return Ok(()) };
        // Another job of the group may have moved the end.
        let next = *group.next_offset(topic, self.partition, extent.next);
        if next != extent.next {
            let events: Vec<Stored> = self.events.iter().map(|(stored, _)| stored.clone()).collect();
            check_restore(&self.topic, Extent { next, ..extent }, &events)?;
        }
        if first > next {
            group.put(Space::Meta, first_key(topic, self.partition), first.to_be_bytes().into());
        }
        for (stored, json) in &self.events {
            let place = place_key(topic, self.partition, stored.offset);
            let mut value = Vec::with_capacity(CHECKSUM_BYTES + json.len());
            value.extend_from_slice(&checksum(&place, json));
            value.extend_from_slice(json);
            group.put_unseen(Space::Events, place.into(), value.into());
            let id = id_key(topic, id_hash(&stored.event));
            group.put(Space::EventIds, id, place_value(self.partition, stored.offset));
        }
        *group.next_offset(topic, self.partition, extent.next) = first + self.events.len() as u64;
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        if let (Ok(()), Some(topic), Some((first, last))) =
            (&outcome, self.state.number(), self.events.first().zip(self.events.last()))
        {
            let id = |stored: &Stored| -> Slice { id_key(topic, id_hash(&stored.event)) };
            let ids = self.events.iter().map(|(stored, _)| (id(stored), (self.partition, stored.offset)));
            self.recent.add(ids.collect());
            if self.state.extent(self.partition).is_some_and(|extent| first.0.offset > extent.next) {
                self.state.forget_before(self.partition, first.0.offset);
            }
            let last = Appended { partition: self.partition, offset: last.0.offset, outcome: Outcome::New };
            self.state.publish(std::iter::once(&last));
        }
        let _ = self.answer.send(outcome);
    }
}
