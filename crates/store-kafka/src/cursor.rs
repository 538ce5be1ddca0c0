//! Reading: clients that each follow one partition, and are kept between reads.
//!
//! A reader that goes on where it was finds its client with records read ahead. One that begins elsewhere gets a client of
//! its own, so that a backfill does not drag back what runs live. Clients that nobody used for longest are closed.

use std::collections::VecDeque;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kernel::{Error, Result, codes};
use parking_lot::Mutex;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use store::Topic;

use crate::connect::{Clients, Listener};
use crate::failure;
use crate::record::Raw;

/// Clients that wait for the next reader, of all partitions.
const MOST_IDLE: usize = 64;
/// Of one partition.
const MOST_IDLE_OF_ONE: usize = 4;

type Client = StreamConsumer<Listener>;

/// What a cursor met.
#[derive(Debug)]
pub(crate) enum Found {
    Record(Box<Raw>),
    /// There was no more when a broker last looked.
    End,
}

/// A client at a place of a partition.
pub(crate) struct Cursor {
    client: Client,
    topic: Topic,
    name: String,
    partition: u32,
    /// The next offset that the client is expected to give.
    next: u64,
    /// What comes before it is passed over.
    from: u64,
    /// Whether a broker said that there is no more.
    is_at_end: bool,
    /// Records that were read and not taken.
    ahead: VecDeque<Raw>,
    /// Whether it follows nothing until a reader needs one.
    is_left: bool,
}

impl Cursor {
    /// The offset of the next record that it hands over, or a later one.
    pub(crate) fn place(&self) -> u64 {
        self.ahead.front().map_or_else(|| self.next.max(self.from), |raw| raw.offset)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Gives a record back.
    pub(crate) fn put_back(&mut self, raw: Raw) {
        self.ahead.push_front(raw);
    }

    fn assign(&mut self, start: u64) -> Result<()> {
        let mut list = TopicPartitionList::with_capacity(1);
        let partition = i32::try_from(self.partition).unwrap_or(i32::MAX);
        let offset = Offset::Offset(i64::try_from(start).unwrap_or(i64::MAX));
        let added = list.add_partition_offset(&self.name, partition, offset);
        added.and_then(|()| self.client.assign(&list)).map_err(|error| {
            Error::internal(error.to_string()) // It asks nobody, so nobody can refuse it.
        })?;
        (self.next, self.from) = (start, start);
        self.is_at_end = false;
        self.is_left = false;
        self.ahead.clear();
        Ok(())
    }

    /// Passes over what comes before `offset`.
    fn pass_to(&mut self, offset: u64) {
        self.ahead.retain(|raw| raw.offset >= offset);
        self.from = offset;
        // What is passed over is still to come.
        self.is_at_end &= self.next >= offset;
    }

    /// Stops following the partition.
    fn leave(&mut self) {
        // A client that cannot stop goes on until what it reads ahead is full.
        let _ = self.client.unassign();
        self.ahead.clear();
        self.is_left = true;
    }

    /// What the client has, without waiting.
    pub(crate) fn ready(&mut self) -> Option<Result<Found>> {
        if let Some(raw) = self.ahead.pop_front() {
            return Some(Ok(Found::Record(Box::new(raw))));
        }
        loop {
            let met = self.client.recv().now_or_never()?;
            let met = met.map(|message| Raw::take(&message));
            if let Some(found) = self.judge(met).transpose() {
                return Some(found);
            }
        }
    }

    /// Waits for what comes. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Found> {
        if let Some(raw) = self.ahead.pop_front() {
            return Ok(Found::Record(Box::new(raw)));
        }
        loop {
            let met = self.client.recv().await.map(|message| Raw::take(&message));
            if let Some(found) = self.judge(met)? {
                return Ok(found);
            }
        }
    }

    /// Waits for a record and keeps it.
    pub(crate) async fn wait(&mut self) -> Result<()> {
        while self.ahead.is_empty() {
            if let Found::Record(raw) = self.next().await? {
                self.ahead.push_back(*raw);
            }
        }
        Ok(())
    }

    fn judge(&mut self, met: Result<Raw, KafkaError>) -> Result<Option<Found>> {
        match met {
            Ok(raw) if raw.offset < self.next => Err(self.is_another(raw.offset)),
            Ok(raw) => {
                self.next = raw.offset + 1;
                self.is_at_end = false;
                Ok((raw.offset >= self.from).then(|| Found::Record(Box::new(raw))))
            }
            Err(KafkaError::PartitionEOF(_)) => {
                self.is_at_end = true;
                Ok(Some(Found::End))
            }
            Err(KafkaError::MessageConsumption(code)) if failure::is_unknown(code) => {
                Err(failure::vanished(&self.name))
            }
            Err(error @ KafkaError::MessageConsumptionFatal(_)) => {
                Err(Error::new(codes::UNAVAILABLE, "the client that reads is of no more use")
                    .with_source(error))
            }
            Err(KafkaError::MessageConsumption(code)) if is_denied(code) => {
                let message = format!(
                    "reading topic `{}`: the brokers do not allow it; mend their access lists",
                    self.name
                );
                Err(Error::new(codes::PERMISSION_DENIED, message))
            }
            // Brokers that are away, leaders that move: the client goes on by itself.
            Err(_) => Ok(None),
        }
    }

    fn is_another(&self, offset: u64) -> Error {
        let message = format!(
            "partition {} of topic `{}` was read up to {} and now gives {offset}: it was cut at its end or is another one \
             under the same name; begin a new namespace for what read it",
            self.partition, self.name, self.next
        );
        Error::new(codes::CORRUPTED, message)
    }
}

fn is_denied(code: rdkafka::types::RDKafkaErrorCode) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed
    )
}

/// The cursors of a log.
pub(crate) struct Cursors {
    clients: Clients,
    /// The one that was used last is the last.
    idle: Mutex<VecDeque<Cursor>>,
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cursors").field("idle", &self.idle.lock().len()).finish_non_exhaustive()
    }
}

/// A cursor that is in use. It goes back when it is dropped, unless it broke.
pub(crate) struct Taken {
    cursors: Arc<Cursors>,
    cursor: Option<Cursor>,
}

impl Taken {
    pub(crate) fn cursor(&mut self) -> &mut Cursor {
        self.cursor.as_mut().expect("it is there until it is dropped")
    }

    /// Closes the cursor: what it knows may be wrong.
    pub(crate) fn discard(mut self) {
        close(self.cursor.take());
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(cursor) = self.cursor.take() {
            self.cursors.give_back(cursor);
        }
    }
}

impl Cursors {
    pub(crate) fn new(clients: Clients) -> Arc<Self> {
        Arc::new(Self { clients, idle: Mutex::default() })
    }

    /// The cursor that stands at the end of `places`, or one within them: their reader went on without it, and it passes over
    /// what that read elsewhere.
    pub(crate) fn at(
        self: &Arc<Self>,
        topic: &Topic,
        partition: u32,
        places: RangeInclusive<u64>,
    ) -> Option<Taken> {
        let follows =
            |cursor: &Cursor| cursor.partition == partition && cursor.topic == *topic && !cursor.is_left;
        let end = *places.end();
        let there = self.take(|cursor| follows(cursor) && cursor.place() == end);
        there.or_else(|| {
            let mut taken = self.take(|cursor| follows(cursor) && places.contains(&cursor.place()))?;
            taken.cursor().pass_to(end);
            Some(taken)
        })
    }

    /// Lets those within `places` follow nothing: their reader went on without them.
    pub(crate) fn leave(self: &Arc<Self>, topic: &Topic, partition: u32, places: Range<u64>) {
        let is_behind = |cursor: &Cursor| {
            let is_of_this = cursor.partition == partition && cursor.topic == *topic;
            is_of_this && places.contains(&cursor.place()) && !cursor.is_left
        };
        while let Some(mut taken) = self.take(is_behind) {
            taken.cursor().leave();
        }
    }

    fn take(self: &Arc<Self>, is_wanted: impl Fn(&Cursor) -> bool) -> Option<Taken> {
        let mut idle = self.idle.lock();
        let place = idle.iter().rposition(is_wanted)?;
        Some(Taken { cursors: Arc::clone(self), cursor: idle.remove(place) })
    }

    /// A cursor that is put at `start`.
    pub(crate) fn open(
        self: &Arc<Self>,
        topic: &Topic,
        name: String,
        partition: u32,
        start: u64,
    ) -> Result<Taken> {
        let mut cursor = match self.spare(topic, partition) {
            Some(cursor) => cursor,
            None => Cursor {
                client: self.clients.reader()?,
                topic: topic.clone(),
                name,
                partition,
                next: start,
                from: start,
                is_at_end: false,
                ahead: VecDeque::new(),
                is_left: false,
            },
        };
        cursor.assign(start)?;
        Ok(Taken { cursors: Arc::clone(self), cursor: Some(cursor) })
    }

    /// The cursor of this partition that its reader left, or that nobody used for longest where there are enough of them.
    fn spare(&self, topic: &Topic, partition: u32) -> Option<Cursor> {
        let mut idle = self.idle.lock();
        let of_this = |cursor: &Cursor| cursor.partition == partition && cursor.topic == *topic;
        if let Some(place) = idle.iter().position(|cursor| of_this(cursor) && cursor.is_left) {
            return idle.remove(place);
        }
        if idle.iter().filter(|cursor| of_this(cursor)).count() < MOST_IDLE_OF_ONE {
            return None;
        }
        let place = idle.iter().position(of_this)?;
        idle.remove(place)
    }

    fn give_back(&self, cursor: Cursor) {
        let mut idle = self.idle.lock();
        idle.push_back(cursor);
        if idle.len() > MOST_IDLE {
            close(idle.pop_front());
        }
    }
}

impl Drop for Cursors {
    fn drop(&mut self) {
        self.idle.lock().drain(..).for_each(|cursor| close(Some(cursor)));
    }
}

/// Closing a client waits for its threads, so a thread does it.
fn close(cursor: Option<Cursor>) {
    if let Some(cursor) = cursor {
        std::thread::spawn(move || drop(cursor));
    }
}

/// How long a read waits for records that the brokers have: long for a client that was just opened, short for one that
/// saw the end, since what is behind that may be no record at all (the marks of transactions).
pub(crate) fn patience(cursor: &Cursor, request: Duration) -> Duration {
    if cursor.is_at_end() { request.min(Duration::from_secs(1)) } else { request }
}
