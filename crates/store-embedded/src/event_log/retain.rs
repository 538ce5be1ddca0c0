//! Retention: the oldest events go, with their ids, a few thousand at a time, so that appends are not held up. What stays of
//! a chunk is written anew.

use std::sync::Arc;

use fjall::Slice;
use kernel::{Error, Result, Timestamp};
use store::{Retention, Topic};
use tokio::sync::oneshot;

use crate::engine::{Space, Tables};
use crate::event_log::append::{id_hash, id_key};
use crate::event_log::chunk::Chunk;
use crate::event_log::reading::{Met, Reading};
use crate::event_log::topics::{TopicState, first_key};
use crate::event_log::{EmbeddedEventLog, place_key};
use crate::writer::{Group, Job};

const EVENTS_AT_ONCE: usize = 5_000;

impl EmbeddedEventLog {
    /// Removes what one partition need not keep; returns how many events went.
    pub(super) async fn retain_partition(
        &self,
        topic: &Topic,
        partition: u32,
        keep: &Retention,
        now: Timestamp,
    ) -> Result<u64> {
        let Some(state) = self.topics.look(topic, partition)? else { return Ok(0) };
        let mut removed = 0;
        while let Some((number, extent)) = state.written(partition) {
            let tables = self.writer.engine().tables()?;
            let offsets = extent.first..extent.next;
            let reading = Reading { topic: topic.clone(), number, partition, offsets };
            let keep = keep.clone();
            let find = move || find_old(&tables, &reading, &keep, now);
            let old = tokio::task::spawn_blocking(find).await.map_err(Error::internal)??;
            let count = old.ids.len();
            if count > 0 {
                let (answer, answered) = oneshot::channel();
                let job =
                    RetainJob { state: Arc::clone(&state), partition, first: extent.first, old, answer };
                self.writer.run(Box::new(job), answered).await?;
                removed += count as u64;
            }
            if count < EVENTS_AT_ONCE {
                break;
            }
        }
        Ok(removed)
    }
}

/// The oldest events, which need not stay.
#[derive(Default)]
struct Old {
    ids: Vec<Slice>,
    /// Where the chunks begin that have one.
    chunks: Vec<u64>,
    /// What is left of the last one.
    rest: Option<Chunk>,
}

fn find_old(tables: &Tables, reading: &Reading, keep: &Retention, now: Timestamp) -> Result<Old> {
    let mut old = Old::default();
    let end = keep.end(reading.partition);
    let mut last = 0..0;
    reading.run(tables, |Met { stored, chunk, .. }| {
        let held = reading.offsets.end - stored.offset;
        let goes = stored.offset < end && !keep.keeps(stored.event.time, held, now);
        if goes {
            old.ids.push(id_key(reading.number, id_hash(&stored.event)));
            if old.chunks.last() != Some(&chunk.start) {
                old.chunks.push(chunk.start);
            }
            last = chunk;
        }
        goes && old.ids.len() < EVENTS_AT_ONCE
    })?;
    let end = reading.offsets.start + old.ids.len() as u64;
    if end < last.end {
        let place = place_key(reading.number, reading.partition, last.start);
        let value = tables.get(Space::Events, &place)?.unwrap_or_else(|| Slice::from([]));
        let from = u32::try_from(end - last.start).map_err(Error::internal)?;
        old.rest = Chunk::rest(&place, &value, from)?;
    }
    Ok(old)
}

/// Removes the oldest events of a partition.
struct RetainJob {
    state: Arc<TopicState>,
    partition: u32,
    first: u64,
    old: Old,
    answer: oneshot::Sender<Result<()>>,
}

impl RetainJob {
    fn end(&self) -> u64 {
        self.first + self.old.ids.len() as u64
    }
}

impl Job for RetainJob {
    fn bytes(&self) -> u64 {
        self.old.ids.len() as u64 * 100 + self.old.rest.as_ref().map_or(0, Chunk::bytes)
    }

    fn makes_room(&self) -> bool {
        true
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let topic = self.state.number().ok_or_else(|| Error::internal("a topic was not made"))?;
        for start in &self.old.chunks {
            group.remove_unseen(Space::Events, place_key(topic, self.partition, *start).into());
        }
        if let Some(rest) = &self.old.rest {
            let place = place_key(topic, self.partition, self.end());
            group.put_unseen(Space::Events, place.into(), rest.value(&place).into());
        }
        for id in &self.old.ids {
            group.remove(Space::EventIds, id.clone());
        }
        group.put(Space::Meta, first_key(topic, self.partition), self.end().to_be_bytes().into());
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        if outcome.is_ok() {
            self.state.forget_before(self.partition, self.end());
        }
        let _ = self.answer.send(outcome);
    }
}
