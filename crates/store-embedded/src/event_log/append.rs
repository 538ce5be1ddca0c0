//! Appending: what the caller's thread prepares, and what the writing thread decides.

use std::sync::Arc;

use fjall::Slice;
use kernel::{Error, Event, Result, codes};
use rustc_hash::FxHashMap;
use store::recent::Sent;
use store::{Appended, Outcome};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::{Space, Tables};
use crate::event_log::chunk::{Chunk, Draft};
use crate::event_log::place_key;
use crate::event_log::recent::{Forgotten, LookedAt, Place, RecentIds};
use crate::event_log::topics::TopicState;
use crate::writer::{Group, Job};

const ID_HASH_BYTES: usize = 16;

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

/// Which partition an event belongs to.
fn partition_of(event: &Event, partitions: u32) -> u32 {
    if partitions == 1 {
        return 0;
    }
    let key = event.partition_key.as_deref().or(event.subject.as_deref()).unwrap_or(&event.id);
    let hash = xxh3_64(&[event.tenant.as_str().as_bytes(), b"\0", key.as_bytes()].concat());
    u32::try_from(hash % u64::from(partitions)).expect("it is below a u32")
}

/// Events of one partition, ready to be written but for their offsets.
#[derive(Debug)]
struct NewChunk {
    partition: u32,
    /// The number of each in its call.
    numbers: Vec<usize>,
    chunk: Chunk,
}

/// The events of one call of `append`, ready to be written but for their places.
#[derive(Debug)]
pub(super) struct NewEvents {
    id_hashes: Vec<[u8; ID_HASH_BYTES]>,
    chunks: Vec<NewChunk>,
    // Where the ids are already, as far as that was looked up.
    earlier: Option<(LookedAt, Vec<Option<Place>>)>,
    // The length of the JSON of all of them.
    json_bytes: u64,
    // For those who read the topic in this process: the events, each with the length of its JSON.
    told: Option<(Sent, Vec<(Event, usize)>)>,
}

impl NewEvents {
    /// Does what takes time, so that the writing thread need not. Events are kept where somebody is to be told.
    pub(super) fn new(events: Vec<Event>, partitions: u32, sent: Option<Sent>) -> Self {
        let mut chunks = Vec::new();
        let mut open: FxHashMap<u32, (Draft, Vec<usize>)> = FxHashMap::default();
        let mut lengths = Vec::with_capacity(events.len());
        for (number, event) in events.iter().enumerate() {
            let partition = partition_of(event, partitions);
            let (draft, numbers) = open.entry(partition).or_default();
            lengths.push(draft.add(event));
            numbers.push(number);
            if draft.is_full() {
                let (draft, numbers) = (std::mem::take(draft), std::mem::take(numbers));
                chunks.push(NewChunk { partition, numbers, chunk: draft.close() });
            }
        }
        let rest = open.into_iter().filter(|(_, (_, numbers))| !numbers.is_empty());
        chunks.extend(rest.map(|(partition, (draft, numbers))| NewChunk {
            partition,
            numbers,
            chunk: draft.close(),
        }));
        let id_hashes = events.iter().map(id_hash).collect();
        let json_bytes = lengths.iter().sum::<usize>() as u64;
        let told = sent.map(|sent| (sent, events.into_iter().zip(lengths).collect()));
        Self { id_hashes, chunks, earlier: None, json_bytes, told }
    }

    /// Looks the ids up. Reads from disk.
    pub(super) fn look_up(&mut self, topic: u32, recent: &RecentIds, tables: &Tables) -> Result<()> {
        let looked_at = recent.now();
        let places = self.id_hashes.iter().map(|hash| find(tables, &id_key(topic, *hash)));
        self.earlier = Some((looked_at, places.collect::<Result<_>>()?));
        Ok(())
    }
}

fn find(tables: &Tables, id: &Slice) -> Result<Option<Place>> {
    tables.get(Space::EventIds, id)?.map(|found| read_place(&found)).transpose()
}

/// What an event is to the log.
#[derive(Debug, Clone, Copy)]
enum Found {
    New,
    /// It stands here already.
    Stands(Place),
    /// It is the one of this number in the same call.
    Same(usize),
}

/// One call of `append`.
pub(super) struct AppendJob {
    topic: Arc<TopicState>,
    ids: Arc<RecentIds>,
    events: NewEvents,
    new_ids: Vec<(Slice, Place)>,
    places: Vec<Appended>,
    answer: oneshot::Sender<Result<Vec<Appended>>>,
}

impl AppendJob {
    pub(super) fn new(
        topic: Arc<TopicState>,
        ids: Arc<RecentIds>,
        events: NewEvents,
        answer: oneshot::Sender<Result<Vec<Appended>>>,
    ) -> Self {
        Self { topic, ids, events, new_ids: Vec::new(), places: Vec::new(), answer }
    }

    /// Where an earlier event with this id stands, unless retention took it.
    fn find(&self, group: &Group<'_>, number: usize, id: &Slice) -> Result<Option<Place>> {
        let place = match (group.pending(Space::EventIds, id), &self.events.earlier) {
            (Some(pending), _) => pending.map(|found| read_place(&found)).transpose()?,
            (None, None) => find(group.tables(), id)?,
            (None, Some((looked_at, places))) => match self.ids.find(*looked_at, id) {
                Ok(recent) => recent.or(places[number]),
                Err(Forgotten) => find(group.tables(), id)?,
            },
        };
        let is_held =
            |place: &Place| self.topic.extent(place.0).is_some_and(|extent| place.1 >= extent.first);
        Ok(place.filter(is_held))
    }

    fn look(&self, group: &Group<'_>, ids: &[Slice]) -> Result<Vec<Found>> {
        // The id may also come twice in this very batch.
        let mut own: FxHashMap<&Slice, usize> = FxHashMap::default();
        let found = |(number, id)| {
            if let Some(place) = self.find(group, number, id)? {
                return Ok(Found::Stands(place));
            }
            let first = *own.entry(id).or_insert(number);
            Ok(if first == number { Found::New } else { Found::Same(first) })
        };
        ids.iter().enumerate().map(found).collect()
    }
}

impl Job for AppendJob {
    fn bytes(&self) -> u64 {
        // An id takes about 60 bytes in the journal, a chunk 50 and its own.
        let chunks: u64 = self.events.chunks.iter().map(|new| new.chunk.bytes() + 50).sum();
        chunks + 60 * self.events.id_hashes.len() as u64
    }

    fn held_bytes(&self) -> u64 {
        self.bytes() + self.events.told.as_ref().map_or(0, |_| self.events.json_bytes)
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let topic = self.topic.number().ok_or_else(|| Error::internal("a topic was not made"))?;
        // Reading may fail, so all of it comes before the first change.
        let ids: Vec<Slice> = self.events.id_hashes.iter().map(|hash| id_key(topic, *hash)).collect();
        let found = self.look(group, &ids)?;
        let is_new = |number: usize| matches!(found[number], Found::New);
        let mut chunks = Vec::new();
        for NewChunk { partition, mut numbers, chunk } in std::mem::take(&mut self.events.chunks) {
            if let Some(chunk) = chunk.filter(|at| is_new(numbers[at as usize]))? {
                numbers.retain(|number| is_new(*number));
                chunks.push((partition, numbers, chunk));
            }
        }
        let nowhere = Appended { partition: 0, offset: 0, outcome: Outcome::New };
        self.places = vec![nowhere; found.len()];
        for (partition, numbers, chunk) in chunks {
            let published = self.topic.extent(partition).map_or(0, |extent| extent.next);
            let next = group.next_offset(topic, partition, published);
            let first = *next;
            *next += u64::from(chunk.count);
            let place = place_key(topic, partition, first);
            group.put_unseen(Space::Events, place.into(), chunk.value(&place).into());
            for (offset, number) in (first..).zip(numbers) {
                self.places[number] = Appended { partition, offset, outcome: Outcome::New };
                group.put(Space::EventIds, ids[number].clone(), place_value(partition, offset));
                self.new_ids.push((ids[number].clone(), (partition, offset)));
            }
        }
        for (number, found) in found.into_iter().enumerate() {
            let (partition, offset) = match found {
                Found::New => continue,
                Found::Stands(place) => place,
                Found::Same(first) => (self.places[first].partition, self.places[first].offset),
            };
            self.places[number] = Appended { partition, offset, outcome: Outcome::Duplicate };
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { topic, ids, events, new_ids, places, answer, .. } = *self;
        let mut gone = None;
        let _ = answer.send(outcome.map(|()| {
            ids.add(new_ids);
            gone = events.told.map(|(sent, events)| sent.keep(&places, events.into_iter()));
            topic.publish(places.iter().filter(|place| place.outcome == Outcome::New));
            places
        }));
        // Freed after the caller may go on.
        drop(gone);
    }
}
