//! Group commit: appends to one topic that wait while a transaction runs are written together by the next one.
//!
//! The topic's row is locked from the start of the function until its commit, so a second transaction at the same time
//! would only wait for the first. `examples/postgres_append_rate.rs` measures it: `single` from 1 and from 64 tasks shows what
//! writing together gains.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::{Error, Result, codes};
use parking_lot::Mutex;
use store::{Appended, Outcome, Topic};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::database::Database;
use crate::event_log::events::{MAX_BATCH_BYTES, MAX_BATCH_EVENTS, NewEvent};
use crate::event_log::topics::KnownTopic;
use crate::event_log::waiters::Waiters;

/// Calls that may wait at once; more are refused. Fewer than a server answers requests at once, so that writes which
/// wait for a database that stalls leave room for reads.
const MAX_WAITING: usize = 512;

const APPEND: &str = "SELECT at_partition, at_place, is_new FROM append_events($1, $2, $3, $4, $5, $6)";

/// One call of `append`, or a part of it.
struct Job {
    events: Vec<NewEvent>,
    answer: oneshot::Sender<Result<Vec<Appended>>>,
}

impl Job {
    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.json.len()).sum()
    }
}

/// A writing task for each topic that is written to. A task ends when this is dropped, after what waits is written.
#[derive(Debug)]
pub(super) struct Writers {
    database: Arc<Database>,
    waiters: Arc<Waiters>,
    queues: Mutex<HashMap<i32, mpsc::Sender<Job>>>,
    places: Semaphore,
}

impl Writers {
    pub(super) fn new(database: Arc<Database>, waiters: Arc<Waiters>) -> Self {
        Self { database, waiters, queues: Mutex::default(), places: Semaphore::new(MAX_WAITING) }
    }

    /// Appends, and returns when it is durable.
    pub(super) async fn append(
        &self,
        topic: &Topic,
        known: KnownTopic,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Appended>> {
        let overloaded =
            || Error::new(codes::OVERLOADED, "too many appends wait for the database; try again");
        let _place = self.places.try_acquire().map_err(|_| overloaded())?;
        let (answer, answered) = oneshot::channel();
        let queue = self.queue(topic, known);
        queue.try_send(Job { events, answer }).map_err(|_| overloaded())?;
        answered
            .await
            .map_err(|_| Error::new(codes::UNAVAILABLE, "the writer ended; send the events again"))?
    }

    fn queue(&self, topic: &Topic, known: KnownTopic) -> mpsc::Sender<Job> {
        let mut queues = self.queues.lock();
        let queue = queues.entry(known.number).or_insert_with(|| {
            let (queue, jobs) = mpsc::channel(MAX_WAITING);
            let writer = Writer {
                database: Arc::clone(&self.database),
                waiters: Arc::clone(&self.waiters),
                topic: topic.clone(),
                number: known.number,
            };
            tokio::spawn(writer.run(jobs));
            queue
        });
        queue.clone()
    }
}

struct Writer {
    database: Arc<Database>,
    waiters: Arc<Waiters>,
    topic: Topic,
    number: i32,
}

impl Writer {
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut next = jobs.recv().await;
        while let Some(first) = next.take() {
            // The callers that the last group answered are about to send their next.
            tokio::task::yield_now().await;
            let (mut count, mut bytes) = (first.events.len(), first.bytes());
            let mut group = vec![first];
            while let Ok(job) = jobs.try_recv() {
                count += job.events.len();
                bytes += job.bytes();
                if count > MAX_BATCH_EVENTS || bytes > MAX_BATCH_BYTES {
                    next = Some(job);
                    break;
                }
                group.push(job);
            }
            self.write(group).await;
            if next.is_none() {
                next = jobs.recv().await;
            }
        }
    }

    async fn write(&self, group: Vec<Job>) {
        let batch = Batch::of(&group);
        let outcome = batch.write(self).await;
        match outcome {
            Ok(places) => {
                self.waiters.publish(&self.topic, &places);
                let mut numbers = batch.numbers.iter();
                for job in group {
                    let places = numbers.by_ref().take(job.events.len()).map(|(number, is_first)| {
                        let place = places[*number];
                        // Within the group, only the first of an id is new.
                        let outcome = if *is_first { place.outcome } else { Outcome::Duplicate };
                        Appended { outcome, ..place }
                    });
                    let _ = job.answer.send(Ok(places.collect()));
                }
            }
            Err(error) => {
                let cause: Arc<Error> = Arc::new(error);
                for job in group {
                    let copy = Error::new(cause.code(), cause.message()).with_source(Arc::clone(&cause));
                    let _ = job.answer.send(Err(copy));
                }
            }
        }
    }
}

/// The distinct events of a group, column by column.
#[derive(Default)]
struct Batch<'a> {
    partitions: Vec<i32>,
    ids: Vec<Uuid>,
    times_ms: Vec<i64>,
    checksums: Vec<i32>,
    bodies: Vec<&'a [u8]>,
    // For each event of the group: its row, and whether it is the first with its id.
    numbers: Vec<(usize, bool)>,
}

impl<'a> Batch<'a> {
    fn of(group: &'a [Job]) -> Self {
        let mut batch = Self::default();
        let mut rows: HashMap<Uuid, usize> = HashMap::new();
        for event in group.iter().flat_map(|job| &job.events) {
            let new_row = batch.ids.len();
            let row = *rows.entry(event.id_hash).or_insert(new_row);
            batch.numbers.push((row, row == new_row));
            if row < new_row {
                continue;
            }
            batch.partitions.push(event.partition.cast_signed());
            batch.ids.push(event.id_hash);
            batch.times_ms.push(event.time_ms);
            batch.checksums.push(event.checksum);
            batch.bodies.push(&event.json);
        }
        batch
    }

    async fn write(&self, writer: &Writer) -> Result<Vec<Appended>> {
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&writer.number, &self.partitions, &self.ids, &self.times_ms, &self.checksums, &self.bodies];
        let notice = writer.waiters.notice(&writer.topic);
        let notice = (writer.waiters.channel(), &*notice);
        let rows = writer.database.query_and_notify(APPEND, &parameters, notice).await?;
        if rows.len() != self.ids.len() {
            return Err(Error::internal("an append has not as many places as events"));
        }
        let place = |row: &Row| Appended {
            partition: row.get::<_, i32>(0).cast_unsigned(),
            offset: row.get::<_, i64>(1).cast_unsigned(),
            outcome: if row.get(2) { Outcome::New } else { Outcome::Duplicate },
        };
        Ok(rows.iter().map(place).collect())
    }
}
