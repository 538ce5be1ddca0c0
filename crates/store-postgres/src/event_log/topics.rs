//! Which topics there are. A topic's number and its count of partitions never change, so they are remembered.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::{Error, Result};
use parking_lot::RwLock;
use store::{Extent, Topic, no_partition};
use tokio_postgres::Row;

use crate::database::Database;
use crate::event_log::EXTENTS;

const FIND: &str = "SELECT number, partitions FROM topics WHERE name = $1";
const OPEN: &str = "SELECT topic_number, topic_partitions FROM open_topic($1, $2)";
const NEXT_OFFSETS: &str = "SELECT t.name, p.partition, p.next_offset FROM topics t \
    JOIN partitions p ON p.topic = t.number WHERE t.name = ANY ($1)";

/// What never changes of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownTopic {
    pub(super) number: i32,
    pub(super) partitions: u32,
}

/// The topics that were met.
#[derive(Debug)]
pub(super) struct Topics {
    database: Arc<Database>,
    new_topic_partitions: u32,
    known: RwLock<HashMap<Topic, KnownTopic>>,
}

impl Topics {
    pub(super) fn new(database: Arc<Database>, new_topic_partitions: u32) -> Self {
        Self { database, new_topic_partitions, known: RwLock::default() }
    }

    fn remember(&self, topic: &Topic, rows: &[Row]) -> Result<Option<KnownTopic>> {
        let Some(row) = rows.first() else { return Ok(None) };
        let partitions = u32::try_from(row.get::<_, i32>(1)).map_err(Error::internal)?;
        let known = KnownTopic { number: row.get(0), partitions };
        self.known.write().insert(topic.clone(), known);
        Ok(Some(known))
    }

    /// A topic, if it is there.
    pub(super) async fn find(&self, topic: &Topic) -> Result<Option<KnownTopic>> {
        let known = self.known.read().get(topic).copied();
        match known {
            Some(known) => Ok(Some(known)),
            None => self.remember(topic, &self.database.read(FIND, &[&topic.as_str()]).await?),
        }
    }

    /// A topic, made when it is new.
    pub(super) async fn open(&self, topic: &Topic) -> Result<KnownTopic> {
        self.open_with(topic, self.new_topic_partitions).await
    }

    /// A topic, made with so many partitions when it is new.
    pub(super) async fn open_with(&self, topic: &Topic, partitions: u32) -> Result<KnownTopic> {
        if let Some(known) = self.find(topic).await? {
            return Ok(known);
        }
        let partitions = partitions.cast_signed();
        let rows = self.database.query(OPEN, &[&topic.as_str(), &partitions]).await?;
        self.remember(topic, &rows)?.ok_or_else(|| Error::internal("a topic was not made"))
    }

    /// A topic, if it is there.
    ///
    /// # Errors
    /// `NOT_FOUND` for a partition it does not have, or would not have.
    pub(super) async fn look(&self, topic: &Topic, partition: u32) -> Result<Option<KnownTopic>> {
        let known = self.find(topic).await?;
        let count = known.map_or(self.new_topic_partitions, |known| known.partitions);
        if partition < count { Ok(known) } else { Err(no_partition(topic, partition, count as usize)) }
    }

    pub(super) async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        let Some(known) = self.find(topic).await? else {
            let empty = |partition| Extent { partition, first: 0, next: 0 };
            return Ok((0..self.new_topic_partitions).map(empty).collect());
        };
        let rows = self.database.read(EXTENTS, &[&known.number]).await?;
        let extent = |row: &Row| Extent {
            partition: row.get::<_, i32>(0).cast_unsigned(),
            first: row.get::<_, i64>(1).cast_unsigned(),
            next: row.get::<_, i64>(2).cast_unsigned(),
        };
        Ok(rows.iter().map(extent).collect())
    }

    /// The next offset of every partition of these topics, as far as they are there.
    pub(super) async fn next_offsets(&self, topics: &[Topic]) -> Result<Vec<(Topic, u32, u64)>> {
        let names: Vec<&str> = topics.iter().map(Topic::as_str).collect();
        let rows = self.database.read(NEXT_OFFSETS, &[&names]).await?;
        let line = |row: &Row| {
            let topic = Topic::new(row.get::<_, String>(0))?;
            Ok((topic, row.get::<_, i32>(1).cast_unsigned(), row.get::<_, i64>(2).cast_unsigned()))
        };
        rows.iter().map(line).collect()
    }
}
