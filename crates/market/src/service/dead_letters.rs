//! What the stages refused: listed, read, and sent through them again.
//!
//! A letter is an event of its stage's topic and stays there, so that its place names it.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use kernel::{Error, Permission, Result, Scope, Timestamp, codes};
use store::{Appended, EventLog, ReadLimit, Stored, Topic};
use stream::{DEAD_LETTER, Letter};

use crate::events::topics;
use crate::topology::CUSTOM;

/// The stages, and where their letters are.
pub const STAGES: [(&str, &str); 4] = [
    ("normalization", topics::DEAD_TICKS),
    ("enrichment", topics::DEAD_ENRICHMENT),
    ("aggregation", topics::DEAD_AGGREGATION),
    ("projection", topics::DEAD_PROJECTION),
];

/// Letters that one page passes over at most, most of them of other tenants.
const MOST_READ: u64 = 50_000;
const READ_AT_ONCE: u64 = 1_000;

/// One refused message.
#[derive(Debug)]
pub struct StageLetter {
    /// Names the letter: stage, partition, offset.
    pub id: String,
    /// What it says.
    pub letter: Letter,
    /// When the message says that it happened, or came where it does not say.
    pub occurred_at: Timestamp,
}

/// The letters of every stage.
#[derive(Debug, Clone)]
pub struct StageLetters {
    log: Arc<dyn EventLog>,
}

/// Where a letter is.
#[derive(Debug, Clone, Copy)]
struct Place {
    stage: usize,
    partition: u32,
    offset: u64,
}

impl Place {
    fn text(self) -> String {
        format!("{}-{}-{}", STAGES[self.stage].0, self.partition, self.offset)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, '-');
        let (offset, partition, stage) = (parts.next()?, parts.next()?, parts.next()?);
        let stage = STAGES.iter().position(|(name, _)| *name == stage)?;
        Some(Self { stage, partition: partition.parse().ok()?, offset: offset.parse().ok()? })
    }

    fn topic(self) -> Topic {
        Topic::fixed(STAGES[self.stage].1)
    }

    fn letter(self, stored: &Stored) -> Result<StageLetter> {
        Ok(StageLetter { id: self.text(), letter: stored.event.data_as()?, occurred_at: stored.event.time })
    }
}

fn invalid(field: &str, message: &str) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

impl StageLetters {
    /// Those in a log.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log }
    }

    /// A page of what a stage refused, newest first, and where the next one begins.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` for a stage or a cursor that is none; those of the log.
    pub async fn list(
        &self,
        scope: &Scope,
        stage: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<StageLetter>, Option<String>)> {
        scope.require(Permission::Admin)?;
        let stage = STAGES.iter().position(|(name, _)| *name == stage);
        let stage = stage.ok_or_else(|| {
            invalid("stage", "must be one of normalization, enrichment, aggregation, projection")
        })?;
        let before = cursor.map(|cursor| {
            let place = Place::read(cursor).filter(|place| place.stage == stage);
            place.ok_or_else(|| invalid("cursor", "is not a cursor that this server gave"))
        });
        self.page(scope, stage, before.transpose()?, limit).await
    }

    /// Partition by partition, the last one first, each from its end.
    async fn page(
        &self,
        scope: &Scope,
        stage: usize,
        before: Option<Place>,
        limit: usize,
    ) -> Result<(Vec<StageLetter>, Option<String>)> {
        let topic = Topic::fixed(STAGES[stage].1);
        let (mut letters, mut read) = (Vec::new(), 0);
        // Brokers keep a letter that was written again after a crash, and what others wrote beside it.
        let mut seen = HashSet::new();
        for extent in self.log.extents(&topic).await?.into_iter().rev() {
            let partition = extent.partition;
            let mut end = match before {
                Some(before) if partition > before.partition => continue,
                Some(before) if partition == before.partition => before.offset.min(extent.next),
                _ => extent.next,
            };
            while end > extent.first {
                let start = end.saturating_sub(READ_AT_ONCE).max(extent.first);
                let batch = self.range(&topic, partition, start..end).await?;
                for stored in batch.iter().rev().filter(|stored| stored.event.tenant == *scope.tenant()) {
                    if stored.event.kind != DEAD_LETTER || !seen.insert(stored.event.id.clone()) {
                        continue;
                    }
                    let place = Place { stage, partition, offset: stored.offset };
                    letters.push(place.letter(stored)?);
                    if letters.len() == limit {
                        return Ok((letters, Some(place.text())));
                    }
                }
                read += end - start;
                end = start;
                if read >= MOST_READ {
                    return Ok((letters, Some(Place { stage, partition, offset: end }.text())));
                }
            }
        }
        Ok((letters, None))
    }

    async fn range(&self, topic: &Topic, partition: u32, offsets: Range<u64>) -> Result<Vec<Stored>> {
        let mut found: Vec<Stored> = Vec::new();
        let mut next = offsets.start;
        while next < offsets.end {
            let events = usize::try_from(offsets.end - next).unwrap_or(usize::MAX);
            let limit = ReadLimit { events, ..ReadLimit::default() };
            let batch = self.log.read(topic, partition, next, limit).await?;
            let Some(last) = batch.last() else { break };
            next = last.offset + 1;
            found.extend(batch.into_iter().filter(|stored| stored.offset < offsets.end));
        }
        Ok(found)
    }

    async fn find(&self, scope: &Scope, id: &str) -> Result<(Place, Stored)> {
        scope.require(Permission::Admin)?;
        let missing =
            || Error::new(codes::NOT_FOUND, format!("there is no dead letter `{}`", id.escape_debug()));
        let place = Place::read(id).ok_or_else(missing)?;
        let topic = place.topic();
        let extents = self.log.extents(&topic).await?;
        if !extents.iter().any(|extent| extent.partition == place.partition) {
            return Err(missing());
        }
        let offsets = place.offset..place.offset.saturating_add(1);
        let found = self.range(&topic, place.partition, offsets).await?.into_iter().next();
        let is_it = |stored: &Stored| {
            stored.offset == place.offset
                && stored.event.tenant == *scope.tenant()
                && stored.event.kind == DEAD_LETTER
        };
        Ok((place, found.filter(is_it).ok_or_else(missing)?))
    }

    /// The letter with this id.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; those of the log.
    pub async fn get(&self, scope: &Scope, id: &str) -> Result<StageLetter> {
        let (place, stored) = self.find(scope, id).await?;
        place.letter(&stored)
    }

    /// Sends the message of a letter through its stage again, as of `now`.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`, also where the message is no longer in the log; `CONFLICT` where a custom projection
    /// refused it; those of the log.
    pub async fn replay(&self, scope: &Scope, id: &str, now: Timestamp) -> Result<Appended> {
        let (place, stored) = self.find(scope, id).await?;
        if place.letter(&stored)?.letter.topology.starts_with(CUSTOM) {
            let message = "the event went through all other stages, and would be in bars twice; mend the projection that \
                           failed, and run `watershed projection rebuild`";
            return Err(Error::new(codes::CONFLICT, message));
        }
        stream::replay(scope, self.log.as_ref(), &stored.event, now).await
    }
}
