//! The newest events that this process wrote, kept for its own readers.
//!
//! A stage that follows another one in the same process reads what was acknowledged a moment ago. To fetch that from a
//! broker or a disk and to read its JSON again costs about as much as the stage does, so what is acknowledged stays here for
//! a while, under the offsets that it was given.
//!
//! What others write in between is a gap, and a gap is read from the log, as is whatever is no longer here: nothing here is
//! taken for the end of a partition, or for all that it has. All topics together keep as many bytes as the settings
//! say; what was written first goes first, and where nobody read it, what comes after it is not kept until somebody does.
//! Where they keep more than a part of that, what every reader has read goes at once: memory that is used again while it is in
//! a processor's cache costs much less.
//!
//! What is said of brokers is for a log that others write to as well ([`Recent::patience`], [`Row`]).
//!
//! It refuses topics that nobody here reads; events that the log would give back as others ([`Event::is_lawful`]); and
//! offsets that are not above those that were known before the append was sent: they are of another topic under the same
//! name, or of records that an earlier try had written, and what was kept of that partition goes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Event, MAX_EVENT_BYTES};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Appended, Outcome, ReadLimit, Stored, Topic};

/// About how long an append takes where brokers are busy.
const WAITS_FOR_SENT: Duration = Duration::from_millis(200);
const WAITS_FOR_MORE: Duration = Duration::from_millis(50);

/// The part of the bytes from which on what was read goes, so that readers that come late find something.
const SHARE_OF_READ: usize = 8;
/// The part of the bytes after which a reader that did not go on is not waited for.
const SHARE_OF_STALE: usize = 2;
/// Of a partition, as many are remembered.
const MOST_READERS: usize = 32;

/// What an event takes besides its texts, which are about as long as its record.
const BYTES_BESIDE_TEXTS: usize = size_of::<Kept>() + 128;

/// An event, and the length of its record.
#[derive(Debug)]
struct Kept {
    event: Event,
    bytes: usize,
}

/// Reads that found what they asked for, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Where the first one began, which is where its reader left the client of brokers that it had.
    pub from: u64,
    /// How many there were.
    pub reads: u32,
}

/// What a read found here.
#[derive(Debug)]
pub struct Recalled {
    /// In order, without a gap.
    pub events: Vec<Stored>,
    /// That of which the read is the last one; where it found nothing, the one before it.
    pub row: Option<Row>,
    /// How long the partition is at least.
    pub end: u64,
}

/// Events that follow each other without a gap.
type Run = Arc<Vec<Kept>>;

/// What is kept of one partition.
#[derive(Debug, Default)]
struct Part {
    /// By the offset of the first event of each. They do not overlap.
    runs: BTreeMap<u64, Run>,
    /// How long it is at least: the offset after the newest event that was written here, or handed over by a broker.
    end: u64,
    /// The offset after the newest event that was written here.
    own_end: u64,
    /// Whether nobody else seems to write: nobody did between the newest two appends, and no reader waited in vain since.
    is_alone: bool,
    /// Each time that it is forgotten gives it another one.
    generation: u64,
    /// Up to where it was read here, or asked for.
    read_to: u64,
    /// Those who read here, the one that read last at the end. They are told from each other by where they go on alone: of two
    /// at the same place one may be overlooked, and asks the brokers.
    readers: Vec<Reader>,
    row: Option<Row>,
    grown: Arc<Notify>,
}

/// Somebody who reads here.
#[derive(Debug)]
struct Reader {
    /// Where it goes on.
    next: u64,
    /// How many bytes had been kept when it read last.
    kept_bytes: usize,
}

/// A run in the order of writing.
#[derive(Debug)]
struct Written {
    topic: Topic,
    partition: u32,
    first: u64,
    /// The offset after its last.
    end: u64,
    bytes: usize,
    /// How many bytes had been kept before it.
    kept_bytes: usize,
}

/// What is kept of one topic.
#[derive(Debug, Default)]
struct Shelf {
    parts: BTreeMap<u32, Part>,
    /// Appends that are not acknowledged.
    in_flight: usize,
}

#[derive(Debug, Default)]
struct Shelves {
    /// The topics that are read here.
    topics: BTreeMap<Topic, Shelf>,
    order: VecDeque<Written>,
    bytes: usize,
    /// Of all that was ever kept.
    kept_bytes: usize,
    generations: u64,
}

/// What is no longer kept. To drop it takes a while.
#[derive(Debug)]
pub struct Gone {
    _runs: Vec<Run>,
}

/// An append that was sent and is not acknowledged.
#[derive(Debug)]
pub struct Sent {
    recent: Arc<Recent>,
    topic: Topic,
    /// By partition that is read here, its generation and its end before.
    before: BTreeMap<u32, (u64, u64)>,
}

impl Sent {
    /// Takes in what was acknowledged: events in the order in which they were sent, each with the length of its record. Those
    /// that were there before stay where they are.
    pub fn keep(&self, places: &[Appended], events: impl Iterator<Item = (Event, usize)>) -> Gone {
        let mut partitions: BTreeMap<u32, Vec<(u64, Option<Kept>)>> = BTreeMap::new();
        for (place, (event, bytes)) in places.iter().zip(events) {
            if place.outcome == Outcome::Duplicate {
                continue;
            }
            let is_as_read = bytes <= MAX_EVENT_BYTES && event.is_lawful();
            let kept = is_as_read.then_some(Kept { event, bytes });
            partitions.entry(place.partition).or_default().push((place.offset, kept));
        }
        let recent = &self.recent;
        let mut gone = Vec::new();
        let mut shelves = recent.shelves.lock();
        let kept_bytes = shelves.kept_bytes;
        for (partition, mut kept) in partitions {
            let Some(before) = self.before.get(&partition) else { continue };
            kept.sort_by_key(|(offset, _)| *offset);
            shelves.take_in(&self.topic, partition, *before, kept, &mut gone);
        }
        while shelves.bytes > recent.most_bytes && shelves.drop_oldest(&mut gone) {}
        // Not all at once, since nobody gets at anything meanwhile.
        let most_gone = 2 * (shelves.kept_bytes - kept_bytes);
        let least = shelves.bytes.saturating_sub(most_gone).max(recent.most_bytes / SHARE_OF_READ);
        while shelves.bytes > least && shelves.is_oldest_read(recent.most_bytes / SHARE_OF_STALE) {
            shelves.drop_oldest(&mut gone);
        }
        drop(shelves);
        Gone { _runs: gone }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let mut shelves = self.recent.shelves.lock();
        let Some(shelf) = shelves.topics.get_mut(&self.topic) else { return };
        shelf.in_flight = shelf.in_flight.saturating_sub(1);
    }
}

/// The newest events of each topic that is read here.
#[derive(Debug)]
pub struct Recent {
    most_bytes: usize,
    shelves: Mutex<Shelves>,
}

impl Recent {
    /// Keeps as much; nothing where that is zero.
    #[must_use]
    pub fn new(most_bytes: u64) -> Self {
        Self { most_bytes: usize::try_from(most_bytes).unwrap_or(usize::MAX), shelves: Mutex::default() }
    }

    /// Keeps what is written to a partition from now on; how its readers learn that it grew.
    pub fn follow(&self, topic: &Topic, partition: u32) -> Arc<Notify> {
        Arc::clone(&self.shelves.lock().followed(topic, partition).grown)
    }

    /// How long the partition is at least.
    pub fn end(&self, topic: &Topic, partition: u32) -> u64 {
        self.shelves.lock().part(topic, partition).map_or(0, |part| part.end)
    }

    /// How long what comes at `offset` is to be waited for here before brokers are asked, where the newest event was written
    /// here: for long where two of three are so: something is sent, the reader has all that was written here, and nobody else
    /// seems to write. Brokers hand over what is sent sooner than they acknowledge it, and a reader that took it from them would
    /// go on to do so, for a while with all that comes.
    pub fn patience(&self, topic: &Topic, partition: u32, offset: u64) -> Duration {
        let mut shelves = self.shelves.lock();
        let is_sending = shelves.topics.get(topic).is_some_and(|shelf| shelf.in_flight > 0);
        let written = shelves.part(topic, partition).filter(|part| part.own_end > 0 && part.end == offset);
        let Some(part) = written else { return Duration::ZERO };
        let has_all = part.own_end == offset;
        match [is_sending, has_all, part.is_alone].into_iter().filter(|is_so| *is_so).count() {
            2.. => WAITS_FOR_SENT,
            _ if has_all => WAITS_FOR_MORE,
            _ => Duration::ZERO,
        }
    }

    /// A reader waited as long as it was to and nothing came: others may write there now.
    pub fn waited_in_vain(&self, topic: &Topic, partition: u32) {
        if let Some(part) = self.shelves.lock().part(topic, partition) {
            part.is_alone = false;
        }
    }

    /// Notes that an append is sent now; none where nobody reads the topic here.
    pub fn send(self: &Arc<Self>, topic: &Topic) -> Option<Sent> {
        let mut shelves = self.shelves.lock();
        let shelf = shelves.topics.get_mut(topic).filter(|_| self.most_bytes > 0)?;
        shelf.in_flight += 1;
        let before = shelf.parts.iter().map(|(at, part)| (*at, (part.generation, part.end))).collect();
        Some(Sent { recent: Arc::clone(self), topic: topic.clone(), before })
    }

    /// Drops all that is kept.
    pub fn forget_all(&self) {
        let mut gone = Vec::new();
        let mut shelves = self.shelves.lock();
        let parts = |(topic, shelf): (&Topic, &Shelf)| {
            shelf.parts.keys().map(|partition| (topic.clone(), *partition)).collect::<Vec<_>>()
        };
        let parts: Vec<(Topic, u32)> = shelves.topics.iter().flat_map(parts).collect();
        for (topic, partition) in parts {
            shelves.forget(&topic, partition, &mut gone);
        }
        drop(shelves);
    }

    /// Drops what is kept of a partition that may not be what it was.
    pub fn forget(&self, topic: &Topic, partition: u32) {
        let mut gone = Vec::new();
        self.shelves.lock().forget(topic, partition, &mut gone);
    }

    /// What is kept from `offset` on, up to the first gap. Nobody needs to have asked before.
    pub fn read(&self, topic: &Topic, partition: u32, offset: u64, limit: ReadLimit) -> Recalled {
        let (runs, row, end, generation) = {
            let mut shelves = self.shelves.lock();
            let part = shelves.followed(topic, partition);
            let before = part.row;
            let runs = part.read(offset, limit.events);
            let row = if runs.is_empty() { before } else { part.row };
            (runs, row, part.end, part.generation)
        };
        let events = events(runs, offset, limit);
        if let Some(last) = events.last() {
            self.shelves.lock().goes_on(topic, partition, generation, offset, last.offset + 1);
        }
        Recalled { events, row, end }
    }

    /// Brokers gave a reader at `offset` what there is up to `end`.
    pub fn reaches(&self, topic: &Topic, partition: u32, offset: u64, end: u64) {
        if let Some(part) = self.shelves.lock().part(topic, partition) {
            part.end = part.end.max(end);
            part.take_reader(offset);
        }
    }

    /// The reads of a partition that found what they asked for, where the last one did.
    pub fn row(&self, topic: &Topic, partition: u32) -> Option<Row> {
        self.shelves.lock().part(topic, partition)?.row
    }
}

impl Part {
    /// The runs that hold `offset` and what follows it without a gap, as many as make that many events.
    fn read(&mut self, offset: u64, events: usize) -> Vec<(u64, Run)> {
        self.read_to = self.read_to.max(offset);
        let mut found = Vec::new();
        let before = self.runs.range(..=offset).next_back();
        let Some((start, _)) = before.filter(|(first, run)| *first + run.len() as u64 > offset) else {
            self.row = self.row.filter(|_| offset == self.own_end);
            return found;
        };
        let mut next = *start;
        for (first, run) in self.runs.range(start..) {
            let has_enough = next.saturating_sub(offset) >= events as u64;
            if *first != next || has_enough {
                break;
            }
            next += run.len() as u64;
            found.push((*first, Arc::clone(run)));
        }
        let Row { from, reads } = self.row.unwrap_or(Row { from: offset, reads: 0 });
        self.row = Some(Row { from, reads: reads.saturating_add(1) });
        found
    }

    /// Forgets a reader that goes on at `offset`.
    fn take_reader(&mut self, offset: u64) {
        if let Some(place) = self.readers.iter().position(|reader| reader.next == offset) {
            self.readers.remove(place);
        }
    }

    /// Whether one of so many places is taken already.
    fn has_any(&self, first: u64, places: usize) -> bool {
        let before = self.runs.range(..first + places as u64).next_back();
        before.is_some_and(|(start, run)| start + run.len() as u64 > first)
    }
}

impl Shelves {
    fn part(&mut self, topic: &Topic, partition: u32) -> Option<&mut Part> {
        self.topics.get_mut(topic)?.parts.get_mut(&partition)
    }

    fn followed(&mut self, topic: &Topic, partition: u32) -> &mut Part {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), Shelf::default());
        }
        let generations = &mut self.generations;
        let shelf = self.topics.get_mut(topic).expect("it was just put there");
        shelf.parts.entry(partition).or_insert_with(|| {
            *generations += 1;
            Part { generation: *generations, ..Part::default() }
        })
    }

    /// Puts what was written there, by offset, where the partition still is what it was `before`.
    fn take_in(
        &mut self,
        topic: &Topic,
        partition: u32,
        before: (u64, u64),
        kept: Vec<(u64, Option<Kept>)>,
        gone: &mut Vec<Run>,
    ) {
        let Some(part) = self.part(topic, partition).filter(|part| part.generation == before.0) else {
            return;
        };
        let is_below = kept.first().is_some_and(|(first, _)| *first < before.1);
        let is_twice = kept.windows(2).any(|pair| pair[0].0 == pair[1].0);
        let (first, next) =
            kept.first().zip(kept.last()).map_or((0, 0), |(first, last)| (first.0, last.0 + 1));
        let is_whole = next - first == kept.len() as u64;
        let runs = runs(kept);
        if is_below || is_twice || runs.iter().any(|(first, run)| part.has_any(*first, run.len())) {
            self.forget(topic, partition, gone);
            return;
        }
        part.is_alone = part.own_end > 0 && part.own_end == first && is_whole;
        part.end = part.end.max(next);
        part.own_end = part.own_end.max(next);
        part.grown.notify_waiters();
        for (first, run) in runs {
            self.put(topic, partition, first, run);
        }
    }

    fn put(&mut self, topic: &Topic, partition: u32, first: u64, run: Vec<Kept>) {
        let bytes = run.iter().map(|kept| kept.bytes + BYTES_BESIDE_TEXTS).sum();
        let end = first + run.len() as u64;
        let Some(part) = self.part(topic, partition) else { return };
        part.runs.insert(first, Arc::new(run));
        let kept_bytes = self.kept_bytes;
        self.bytes += bytes;
        self.kept_bytes += bytes;
        self.order.push_back(Written { topic: topic.clone(), partition, first, end, bytes, kept_bytes });
    }

    /// Whoever reads a partition of this generation from `offset` on goes on at `next`.
    fn goes_on(&mut self, topic: &Topic, partition: u32, generation: u64, offset: u64, next: u64) {
        let kept_bytes = self.kept_bytes;
        let Some(part) = self.part(topic, partition).filter(|part| part.generation == generation) else {
            return;
        };
        part.read_to = part.read_to.max(next);
        part.take_reader(offset);
        part.readers.push(Reader { next, kept_bytes });
        if part.readers.len() > MOST_READERS {
            part.readers.remove(0);
        }
    }

    /// Whether what was written first was read by all who read there, but for those who did not go on since as much was kept;
    /// where nobody read it, whether as much was kept since.
    fn is_oldest_read(&self, stale_bytes: usize) -> bool {
        let Some(Written { topic, partition, end, kept_bytes, .. }) = self.order.front() else {
            return false;
        };
        let part = self.topics.get(topic).and_then(|shelf| shelf.parts.get(partition));
        let readers = part.map_or(&[][..], |part| &part.readers);
        let is_old = |kept_bytes: usize| self.kept_bytes - kept_bytes > stale_bytes;
        let has_it = |reader: &Reader| reader.next >= *end;
        (readers.iter().any(has_it) || is_old(*kept_bytes))
            && readers.iter().all(|reader| has_it(reader) || is_old(reader.kept_bytes))
    }

    /// False where nothing is left.
    fn drop_oldest(&mut self, gone: &mut Vec<Run>) -> bool {
        let Some(Written { topic, partition, first, end, bytes, .. }) = self.order.pop_front() else {
            return false;
        };
        self.bytes -= bytes;
        let Some(part) = self.part(&topic, partition) else { return true };
        gone.extend(part.runs.remove(&first));
        // Who is where nothing is left does not go on from here.
        part.readers.retain(|reader| reader.next >= end);
        if part.read_to < first {
            self.forget(&topic, partition, gone);
            self.topics.get_mut(&topic).and_then(|shelf| shelf.parts.remove(&partition));
        }
        true
    }

    fn forget(&mut self, topic: &Topic, partition: u32, gone: &mut Vec<Run>) {
        self.generations += 1;
        let generation = self.generations;
        let Some(part) = self.part(topic, partition) else { return };
        gone.extend(std::mem::take(&mut part.runs).into_values());
        let grown = Arc::clone(&part.grown);
        *part = Part { generation, grown, ..Part::default() };
        let bytes = &mut self.bytes;
        self.order.retain(|written| {
            let is_gone = written.partition == partition && written.topic == *topic;
            *bytes -= if is_gone { written.bytes } else { 0 };
            !is_gone
        });
    }
}

/// The events of runs from `offset` on, up to the limit; one of them whatever its size.
fn events(runs: Vec<(u64, Run)>, offset: u64, limit: ReadLimit) -> Vec<Stored> {
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    for (first, run) in runs {
        let from = usize::try_from(offset.saturating_sub(first)).unwrap_or(usize::MAX).min(run.len());
        for (at, kept) in (first.max(offset)..).zip(&run[from..]) {
            let is_full = kept.bytes > limit.bytes.saturating_sub(bytes);
            if found.len() == limit.events || is_full && !found.is_empty() {
                return found;
            }
            bytes += kept.bytes;
            found.push(Stored { offset: at, event: kept.event.clone() });
        }
    }
    found
}

/// Events by offset, as runs without a gap.
fn runs(kept: Vec<(u64, Option<Kept>)>) -> Vec<(u64, Vec<Kept>)> {
    let mut runs: Vec<(u64, Vec<Kept>)> = Vec::new();
    for (offset, kept) in kept {
        let Some(kept) = kept else { continue };
        match runs.last_mut() {
            Some((first, run)) if *first + run.len() as u64 == offset => run.push(kept),
            _ => runs.push((offset, vec![kept])),
        }
    }
    runs
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
