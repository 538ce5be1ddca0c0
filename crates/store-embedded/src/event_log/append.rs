//! Appending: what the caller's thread prepares, and what the writing thread decides.

use std::sync::Arc;

use fjall::Slice;
use kernel::{Error, Event, Result, codes};
use rustc_hash::FxHashMap;
use store::{Appended, Outcome};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::{Space, Tables};
use crate::event_log::recent::{Forgotten, LookedAt, Place, RecentIds};
use crate::event_log::topics::TopicState;
use crate::event_log::{CHECKSUM_BYTES, checksum, place_key};
use crate::writer::{Group, Job};

const ID_HASH_BYTES: usize = 16;

/// An event that is ready to be written, but for its offset.
#[derive(Debug)]
pub(super) struct NewEvent {
    id_hash: [u8; ID_HASH_BYTES],
    partition: u32,
    json: Vec<u8>,
}

impl NewEvent {
    /// Does what takes time: hashing and encoding.
    pub(super) fn new(event: &Event, partitions: u32) -> Self {
        let partition = if partitions == 1 {
            0
        } else {
            let key = event.partition_key.as_deref().or(event.subject.as_deref()).unwrap_or(&event.id);
            let hash = xxh3_64(&[event.tenant.as_str().as_bytes(), b"\0", key.as_bytes()].concat());
            u32::try_from(hash % u64::from(partitions)).expect("it is below a u32")
        };
        Self { id_hash: id_hash(event), partition, json: event.to_json() }
    }
}

/// What two events share only when they are the same one.
pub(super) fn id_hash(event: &Event) -> [u8; ID_HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in [event.tenant.as_str(), "\0", &event.source, "\0", &event.id] {
        hasher.update(part.as_bytes());
    }
    let mut hash = [0; ID_HASH_BYTES];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..ID_HASH_BYTES]);
    hash
}

/// The key of an id: topic, hash.
pub(super) fn id_key(topic: u32, id_hash: [u8; ID_HASH_BYTES]) -> Slice {
    let mut key = [0; 4 + ID_HASH_BYTES];
    key[..4].copy_from_slice(&topic.to_be_bytes());
    key[4..].copy_from_slice(&id_hash);
    key.into()
}

pub(super) fn place_value(partition: u32, offset: u64) -> Slice {
    let mut value = [0; 12];
    value[..4].copy_from_slice(&partition.to_be_bytes());
    value[4..].copy_from_slice(&offset.to_be_bytes());
    value.into()
}

fn read_place(bytes: &[u8]) -> Result<Place> {
    let damaged = || Error::new(codes::CORRUPTED, "the place of an event id cannot be read");
    let (partition, offset) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let offset = offset.try_into().map_err(|_| damaged())?;
    Ok((u32::from_be_bytes(*partition), u64::from_be_bytes(offset)))
}

/// The events of one call of `append`, ready to be written but for their places.
#[derive(Debug)]
pub(super) struct NewEvents {
    events: Vec<NewEvent>,
    // Where the ids are already, as far as that was looked up.
    earlier: Option<(LookedAt, Vec<Option<Place>>)>,
}

impl NewEvents {
    /// Does what takes time, so that the writing thread need not.
    pub(super) fn new(events: &[Event], partitions: u32) -> Self {
        let events = events.iter().map(|event| NewEvent::new(event, partitions)).collect();
        Self { events, earlier: None }
    }

    /// Looks the ids up. Reads from disk.
    pub(super) fn look_up(&mut self, topic: u32, recent: &RecentIds, tables: &Tables) -> Result<()> {
        let looked_at = recent.now();
        let places = self.events.iter().map(|event| find(tables, &id_key(topic, event.id_hash)));
        self.earlier = Some((looked_at, places.collect::<Result<_>>()?));
        Ok(())
    }
}

fn find(tables: &Tables, id: &Slice) -> Result<Option<Place>> {
    tables.get(Space::EventIds, id)?.map(|found| read_place(&found)).transpose()
}

/// One call of `append`.
pub(super) struct AppendJob {
    topic: Arc<TopicState>,
    recent: Arc<RecentIds>,
    events: NewEvents,
    new_ids: Vec<(Slice, Place)>,
    places: Vec<Appended>,
    answer: oneshot::Sender<Result<Vec<Appended>>>,
}

impl AppendJob {
    pub(super) fn new(
        topic: Arc<TopicState>,
        recent: Arc<RecentIds>,
        events: NewEvents,
        answer: oneshot::Sender<Result<Vec<Appended>>>,
    ) -> Self {
        let places = Vec::with_capacity(events.events.len());
        Self { topic, recent, events, new_ids: Vec::new(), places, answer }
    }

    /// Where an earlier event with this id stands, unless retention took it.
    fn find(&self, group: &Group<'_>, number: usize, id: &Slice) -> Result<Option<Place>> {
        let place = match (group.pending(Space::EventIds, id), &self.events.earlier) {
            (Some(pending), _) => pending.map(|found| read_place(&found)).transpose()?,
            (None, None) => find(group.tables(), id)?,
            (None, Some((looked_at, places))) => match self.recent.find(*looked_at, id) {
                Ok(recent) => recent.or(places[number]),
                Err(Forgotten) => find(group.tables(), id)?,
            },
        };
        let is_held =
            |place: &Place| self.topic.extent(place.0).is_some_and(|extent| place.1 >= extent.first);
        Ok(place.filter(is_held))
    }
}

impl Job for AppendJob {
    fn bytes(&self) -> u64 {
        // An id takes about 60 bytes in the journal, an event 50 and its JSON.
        self.events.events.iter().map(|event| event.json.len() as u64 + 110).sum()
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let topic = self.topic.number().ok_or_else(|| Error::internal("a topic was not made"))?;
        // Reading may fail, so all of it comes before the first change.
        let ids: Vec<Slice> = self.events.events.iter().map(|event| id_key(topic, event.id_hash)).collect();
        let earlier = ids.iter().enumerate().map(|(number, id)| self.find(group, number, id));
        let earlier: Vec<Option<Place>> = earlier.collect::<Result<_>>()?;
        // The id may also come twice in this very batch.
        let mut own: FxHashMap<Slice, Place> = FxHashMap::default();
        for ((event, id), earlier) in
            std::mem::take(&mut self.events.events).into_iter().zip(ids).zip(earlier)
        {
            if let Some((partition, offset)) = earlier.or_else(|| own.get(&id).copied()) {
                self.places.push(Appended { partition, offset, outcome: Outcome::Duplicate });
                continue;
            }
            let published = self.topic.extent(event.partition).map_or(0, |extent| extent.next);
            let next = group.next_offset(topic, event.partition, published);
            let offset = *next;
            *next += 1;
            let place = place_key(topic, event.partition, offset);
            let mut value = Vec::with_capacity(CHECKSUM_BYTES + event.json.len());
            value.extend_from_slice(&checksum(&place, &event.json));
            value.extend_from_slice(&event.json);
            group.put_unseen(Space::Events, place.into(), value.into());
            own.insert(id.clone(), (event.partition, offset));
            group.put(Space::EventIds, id, place_value(event.partition, offset));
            self.places.push(Appended { partition: event.partition, offset, outcome: Outcome::New });
        }
        self.new_ids = own.into_iter().collect();
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { topic, recent, new_ids, places, answer, .. } = *self;
        let _ = answer.send(outcome.map(|()| {
            recent.add(new_ids);
            topic.publish(places.iter().filter(|place| place.outcome == Outcome::New));
            places
        }));
    }
}
