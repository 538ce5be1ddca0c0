//! The `EventLog` port.
//!
//! A stored event is its JSON with its CRC-32. Ids are kept by the first 128 bits of BLAKE3 over (tenant, 0, source,
//! 0, id), in the event's own row, so that an id is known exactly as long as its event is held. An event goes to the
//! partition that XXH3 of (tenant, 0, partition key or subject or id) names.
//!
//! Appending locks the topic's row until the commit, in every process: offsets become visible in their order, so that
//! no reader passes an event whose transaction commits later. Within a process, appends that wait are written together
//! (`writer.rs`). Waiters are woken by `NOTIFY`, and look by themselves now and then (`waiters.rs`).

mod events;
mod topics;
mod waiters;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Entropy, Error, Event, Result, Scope, Timestamp, codes};
use store::{
    Appended, EventLog, Extent, LogCapabilities, ReadLimit, Retention, Stored, Topic, check_append,
    check_group, check_restore, no_partition, other_partitions,
};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tracing::debug;
use uuid::Uuid;

use crate::config::Settings;
use crate::database::Database;
use crate::event_log::events::{NewEvent, decode, parts_of};
use crate::event_log::topics::{KnownTopic, Topics};
use crate::event_log::waiters::Waiters;
use crate::event_log::writer::Writers;

// How much one statement reads; a larger read takes several.
const MAX_READ_EVENTS: usize = 4_096;
const MAX_READ_BYTES: usize = 8 << 20;

// Below this many events, handing them to another thread costs more than it saves.
const INLINE_EVENTS: usize = 64;

const RETAIN_AT_ONCE: i64 = 5_000;

// One statement sees one moment: the extent and the events agree.
const READ: &str = "SELECT p.first_offset, p.next_offset, e.place, e.checksum, e.body \
    FROM partitions p LEFT JOIN LATERAL ( \
        SELECT place, checksum, body FROM ( \
            SELECT place, checksum, body, sum(octet_length(body)) OVER (ORDER BY place) AS bytes, \
                   row_number() OVER (ORDER BY place) AS number \
            FROM (SELECT place, checksum, body FROM events \
                  WHERE topic = $1 AND partition = $2 AND place >= $3 ORDER BY place LIMIT $4) found \
        ) sized WHERE number = 1 OR bytes <= $5 ORDER BY place \
    ) e ON true WHERE p.topic = $1 AND p.partition = $2";
const EXTENTS: &str =
    "SELECT partition, first_offset, next_offset FROM partitions WHERE topic = $1 ORDER BY partition";
const COMMIT: &str = "INSERT INTO group_offsets VALUES ($1, $2, $3, $4) \
    ON CONFLICT (group_name, topic_name, partition) DO UPDATE SET place = excluded.place";
const COMMITTED: &str =
    "SELECT place FROM group_offsets WHERE group_name = $1 AND topic_name = $2 AND partition = $3";
// Both rows are locked before the first offset is read, in the order of the function: where replicas retain at the same
// time, none takes the first offset of before the other for its own.
const RETAIN: &str = "WITH topic AS MATERIALIZED ( \
        SELECT number FROM topics WHERE number = $1 FOR NO KEY UPDATE \
    ), place AS MATERIALIZED ( \
        SELECT p.first_offset FROM topic JOIN partitions p ON p.topic = topic.number \
        WHERE p.partition = $2 FOR UPDATE OF p \
    ) SELECT retain_events($1, $2, $3, $4, least($5, greatest($6 - first_offset, 0))::int) FROM place";
// The topic's row is locked as for an append. Nothing is written unless the events go on where the partition ends, or the
// partition is empty.
const RESTORE: &str = "WITH locked AS MATERIALIZED (SELECT number FROM topics WHERE number = $1 FOR NO KEY UPDATE), \
    moved AS ( \
        UPDATE partitions SET next_offset = $3 + cardinality($4::uuid[]), \
               first_offset = CASE WHEN first_offset = next_offset THEN $3 ELSE first_offset END \
        FROM locked WHERE topic = $1 AND partition = $2 \
        AND (next_offset = $3 OR (first_offset = next_offset AND next_offset < $3)) RETURNING 1 \
    ), written AS ( \
        INSERT INTO events (topic, partition, place, id_hash, time_ms, checksum, body) \
        SELECT $1, $2, $3 + g.number - 1, g.id_hash, g.time_ms, g.checksum, g.body \
        FROM moved, unnest($4::uuid[], $5::bigint[], $6::int[], $7::bytea[]) \
             WITH ORDINALITY AS g (id_hash, time_ms, checksum, body, number) RETURNING 1 \
    ) SELECT count(*) FROM written";

/// The log of one schema.
#[derive(Debug)]
pub(crate) struct PostgresEventLog {
    database: Arc<Database>,
    replica: Option<Arc<Database>>,
    topics: Arc<Topics>,
    waiters: Arc<Waiters>,
    writers: Writers,
}

impl PostgresEventLog {
    pub(crate) fn new(
        database: Arc<Database>,
        replica: Option<Arc<Database>>,
        settings: &Settings,
        entropy: &Arc<dyn Entropy>,
    ) -> Self {
        let topics = Arc::new(Topics::new(Arc::clone(&database), settings.partitions));
        let waiters = Waiters::start(Arc::clone(&topics), settings, entropy);
        let writers = Writers::new(Arc::clone(&database), Arc::clone(&waiters));
        Self { database, replica, topics, waiters, writers }
    }

    /// Reads from one server: events with their stored sizes.
    async fn read_from(&self, database: &Database, reading: &Reading) -> Result<Vec<(Stored, usize)>> {
        let partition = reading.partition.cast_signed();
        let limit = i64::try_from(reading.limit.events.clamp(1, MAX_READ_EVENTS)).map_err(Error::internal)?;
        let bytes = i64::try_from(reading.limit.bytes.min(MAX_READ_BYTES)).map_err(Error::internal)?;
        let rows =
            database.read(READ, &[&reading.number, &partition, &reading.offset, &limit, &bytes]).await?;
        if rows.len() <= INLINE_EVENTS {
            return reading.decode(&rows);
        }
        let reading = reading.clone();
        tokio::task::spawn_blocking(move || reading.decode(&rows)).await.map_err(Error::internal)?
    }

    /// Reads from the replica what it has, and else from the server that takes writes.
    async fn read_page(&self, reading: &Reading) -> Result<Vec<(Stored, usize)>> {
        if let Some(replica) = &self.replica {
            // One that is behind, or away, has nothing; an event that it has never changes.
            match self.read_from(replica, reading).await {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(error) if error.kind().is_retryable() => {
                    debug!(error = %error.chain(), "the replica does not answer, reading where writes go");
                }
                Err(error) => return Err(error),
            }
        }
        self.read_from(&self.database, reading).await
    }
}

/// What one statement reads.
#[derive(Debug, Clone)]
struct Reading {
    topic: Topic,
    number: i32,
    partition: u32,
    offset: i64,
    limit: ReadLimit,
}

impl Reading {
    /// A gap is corruption.
    fn decode(&self, rows: &[Row]) -> Result<Vec<(Stored, usize)>> {
        let mut events = Vec::with_capacity(rows.len());
        let mut expected = self.offset;
        for row in rows {
            let (first, next): (i64, i64) = (row.get(0), row.get(1));
            expected = expected.max(first);
            let Some(place) = row.get::<_, Option<i64>>(2) else {
                let is_end = expected >= next;
                return if is_end { Ok(events) } else { Err(self.damaged(expected, missing())) };
            };
            if place != expected {
                return Err(self.damaged(expected, missing()));
            }
            let body: &[u8] = row.get(4);
            let event = decode(row.get(3), body).map_err(|cause| self.damaged(place, cause))?;
            events.push((Stored { offset: place.cast_unsigned(), event }, body.len()));
            expected += 1;
        }
        Ok(events)
    }

    fn damaged(&self, offset: i64, cause: Error) -> Error {
        let message =
            format!("event {offset} of topic `{}`, partition {} is damaged", self.topic, self.partition);
        Error::new(codes::CORRUPTED, message).with_source(cause)
    }
}

fn missing() -> Error {
    Error::new(codes::CORRUPTED, "it is not there")
}

#[async_trait]
impl EventLog for PostgresEventLog {
    fn capabilities(&self) -> LogCapabilities {
        LogCapabilities { deduplicates: true, retains_at_once: true, restores: true }
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        check_append(scope, &events)?;
        let count = events.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let known = self.topics.open(topic).await?;
        let encode = move || -> Vec<NewEvent> {
            events.iter().map(|event| NewEvent::new(event, known.partitions)).collect()
        };
        let events = if count <= INLINE_EVENTS {
            encode()
        } else {
            tokio::task::spawn_blocking(encode).await.map_err(Error::internal)?
        };
        let mut places = Vec::with_capacity(count);
        // One that has no room in one statement is written in parts, in order.
        for part in parts_of(events) {
            places.extend(self.writers.append(topic, known, part).await?);
        }
        Ok(places)
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>> {
        let Some(known) = self.topics.look(topic, partition).await? else { return Ok(Vec::new()) };
        let mut events: Vec<Stored> = Vec::new();
        let (mut offset, mut bytes) = (offset, 0_usize);
        // The first page is whole where the limits are those of one statement.
        let is_one_page = limit.events <= MAX_READ_EVENTS && limit.bytes <= MAX_READ_BYTES;
        loop {
            let Ok(place) = i64::try_from(offset) else { return Ok(events) };
            let left = ReadLimit {
                events: limit.events.saturating_sub(events.len()),
                bytes: limit.bytes.saturating_sub(bytes),
            };
            let (topic, number) = (topic.clone(), known.number);
            let found =
                self.read_page(&Reading { topic, number, partition, offset: place, limit: left }).await?;
            let Some((last, _)) = found.last() else { return Ok(events) };
            offset = last.offset + 1;
            for (stored, size) in found {
                bytes = bytes.saturating_add(size);
                if !events.is_empty() && (events.len() >= limit.events || bytes > limit.bytes) {
                    return Ok(events);
                }
                events.push(stored);
            }
            if is_one_page || events.len() >= limit.events || bytes >= limit.bytes {
                return Ok(events);
            }
        }
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        self.topics.extents(topic).await
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.topics.look(topic, partition).await?;
        self.waiters.wait(topic, partition, offset).await
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        check_group(group)?;
        self.topics.look(topic, partition).await?;
        let (number, offset) = (partition.cast_signed(), offset.cast_signed());
        self.database.query(COMMIT, &[&group, &topic.as_str(), &number, &offset]).await?;
        Ok(())
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        check_group(group)?;
        self.topics.look(topic, partition).await?;
        let rows =
            self.database.read(COMMITTED, &[&group, &topic.as_str(), &partition.cast_signed()]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).cast_unsigned()))
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64> {
        let Some(known) = self.topics.find(topic).await? else { return Ok(0) };
        let keep_events = keep.events.map(|events| i64::try_from(events).unwrap_or(i64::MAX));
        let keep_from_ms = keep.age.map(|age| {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            now.as_millisecond().saturating_sub(age_ms)
        });
        if keep_events.is_none() && keep_from_ms.is_none() {
            return Ok(0);
        }
        let KnownTopic { number, partitions } = known;
        let mut removed = 0;
        for partition in 0..partitions {
            let end = i64::try_from(keep.end(partition)).unwrap_or(i64::MAX);
            loop {
                let rows = self
                    .database
                    .query(
                        RETAIN,
                        &[
                            &number,
                            &partition.cast_signed(),
                            &keep_events,
                            &keep_from_ms,
                            &RETAIN_AT_ONCE,
                            &end,
                        ],
                    )
                    .await?;
                let found: i64 = rows.first().map_or(0, |row| row.get(0));
                removed += found.cast_unsigned();
                if found < RETAIN_AT_ONCE {
                    break;
                }
            }
        }
        Ok(removed)
    }

    async fn restore(
        &self,
        topic: &Topic,
        partitions: u32,
        partition: u32,
        events: Vec<Stored>,
    ) -> Result<()> {
        let known = self.topics.open_with(topic, partitions).await?;
        if known.partitions != partitions {
            return Err(other_partitions(topic, known.partitions as usize, partitions));
        }
        let extents = self.extents(topic).await?;
        let extent = extents.get(partition as usize).copied();
        let extent = extent.ok_or_else(|| no_partition(topic, partition, partitions as usize))?;
        check_restore(topic, extent, &events)?;
        let Some(mut offset) = events.first().map(|stored| stored.offset.cast_signed()) else {
            return Ok(());
        };
        let encode = move || -> Vec<NewEvent> {
            events.iter().map(|stored| NewEvent::new(&stored.event, 1)).collect()
        };
        let events = tokio::task::spawn_blocking(encode).await.map_err(Error::internal)?;
        for part in parts_of(events) {
            let ids: Vec<Uuid> = part.iter().map(|event| event.id_hash).collect();
            let times_ms: Vec<i64> = part.iter().map(|event| event.time_ms).collect();
            let checksums: Vec<i32> = part.iter().map(|event| event.checksum).collect();
            let bodies: Vec<&[u8]> = part.iter().map(|event| event.json.as_slice()).collect();
            let (number, count) = (partition.cast_signed(), part.len() as i64);
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&known.number, &number, &offset, &ids, &times_ms, &checksums, &bodies];
            let rows = self.database.query(RESTORE, &parameters).await?;
            if rows.first().map(|row| row.get::<_, i64>(0)) != Some(count) {
                let message = format!("partition {partition} of topic `{topic}` was written to meanwhile");
                return Err(Error::new(codes::CONFLICT, message));
            }
            offset += count;
        }
        Ok(())
    }
}
