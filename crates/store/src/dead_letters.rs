//! Dead letters: what was refused at the door or could not be folded, kept with the reason.
//!
//! A letter's id is derived from where it came from, so that a replay of the log does not write it twice. A tenant has
//! a bounded number of letters and keeps none for ever: the oldest go as new ones come, those that grew too old some at a
//! time. Writers at the same time may go beyond the bound, until the last of them has cut what is too much.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, Event, Result, Scope, TenantId, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Document, Expect, IndexValue, Query, Records, Repository, Selection, Table, Versioned, Write};

/// The most bytes of a refused body that are kept.
const MAX_BODY_BYTES: usize = 16 << 10;

/// What a tenant keeps.
const BOUNDS: Bounds = Bounds { letters: 10_000, age: Duration::from_secs(30 * 24 * 60 * 60) };

/// Letters written in one commit.
const LETTERS_PER_COMMIT: usize = 250;

/// Letters that are cut in one commit.
const CUT_PER_COMMIT: usize = 1_000;

/// Old letters that a commit removes beyond the number that it writes.
const MORE_REMOVED: usize = 50;

/// Something that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Unique in the tenant.
    pub id: String,
    /// When it was refused.
    pub refused_at: Timestamp,
    /// Where: `edge` or the topic of the log.
    pub stage: String,
    /// The stable code of the reason.
    pub code: String,
    /// The reason, for people.
    pub reason: String,
    /// The event's type, where it had one.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// The event's id, where it had one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event_id: Option<String>,
    /// What was sent, cut to 16 KiB.
    pub body: String,
}

impl DeadLetter {
    /// A letter for a stored event.
    #[must_use]
    pub fn of_event(id: String, event: &Event, code: &str, reason: String, now: Timestamp) -> Self {
        let stage = id.split(':').next().unwrap_or_default().to_owned();
        Self {
            id,
            refused_at: now,
            stage,
            code: code.to_owned(),
            reason,
            kind: Some(event.kind.clone()),
            event_id: Some(event.id.clone()),
            body: shorten(&String::from_utf8_lossy(&event.to_json())),
        }
    }

    /// A letter for text that did not become an event.
    #[must_use]
    pub fn of_text(id: String, text: &str, error: &Error, now: Timestamp) -> Self {
        Self {
            id,
            refused_at: now,
            stage: "edge".to_owned(),
            code: error.code().name.to_owned(),
            reason: error.to_string(),
            kind: None,
            event_id: None,
            body: shorten(text),
        }
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(MAX_BODY_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A letter with its place among those of its tenant.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    letter: DeadLetter,
    /// Grows by one with each letter. Two processes may give the same one.
    #[serde(default)]
    sequence: i64,
}

impl Document for Kept {
    const TABLE: Table = Table { name: "dead_letters", indexes: &["refused_at", "sequence"] };

    fn key(&self) -> String {
        self.letter.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![
            ("refused_at", IndexValue::Integer(self.letter.refused_at.as_millisecond())),
            ("sequence", IndexValue::Integer(self.sequence)),
        ]
    }
}

/// The letters with up to this number in the index.
fn up_to(index: &'static str, most: i64) -> Selection {
    Selection::Between(index, IndexValue::Integer(i64::MIN), IndexValue::Integer(most))
}

fn delete(old: Versioned<Kept>) -> Write {
    Write::Delete { table: Kept::TABLE, key: old.document.letter.id, expect: Expect::Any }
}

/// What is kept of a tenant's letters.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// The newest so many.
    letters: usize,
    /// Those that are no older than this when the next one comes.
    age: Duration,
}

impl Bounds {
    /// Those that are too many.
    fn too_many(self, last_sequence: i64) -> Selection {
        let letters = i64::try_from(self.letters).unwrap_or(i64::MAX);
        up_to("sequence", last_sequence.saturating_sub(letters))
    }

    /// Those that are too old.
    fn too_old(self, now: Timestamp) -> Selection {
        let age_ms = i64::try_from(self.age.as_millis()).unwrap_or(i64::MAX);
        up_to("refused_at", now.as_millisecond().saturating_sub(age_ms) - 1)
    }
}

/// The dead letters of every tenant.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    records: Arc<dyn Records>,
    letters: Repository<Kept>,
    /// The last sequence number that this process gave.
    given: Arc<Mutex<BTreeMap<TenantId, i64>>>,
    /// Held by who cuts.
    cutting: Arc<tokio::sync::Mutex<()>>,
    bounds: Bounds,
}

impl DeadLetters {
    /// Over an engine.
    #[must_use]
    pub fn new(records: Arc<dyn Records>) -> Self {
        let letters = Repository::new(Arc::clone(&records));
        Self { letters, records, given: Arc::default(), cutting: Arc::default(), bounds: BOUNDS }
    }

    /// Keeps letters, the newest last, replacing those with the same id. Of more than a tenant may have, the last
    /// ones are kept. Some of the tenant's letters that are too old go at the same time, and all that are too many after.
    ///
    /// # Errors
    /// Those of the engine; an earlier part of many letters may be kept then.
    pub async fn add(&self, scope: &Scope, mut letters: Vec<DeadLetter>) -> Result<()> {
        letters.drain(..letters.len().saturating_sub(self.bounds.letters));
        let mut letters = letters.into_iter();
        while letters.len() > 0 {
            self.commit(scope, letters.by_ref().take(LETTERS_PER_COMMIT).collect()).await?;
        }
        self.cut(scope).await
    }

    /// Removes what is beyond the bound, also what writers at the same time put there.
    async fn cut(&self, scope: &Scope) -> Result<()> {
        let _cutting = self.cutting.lock().await;
        let last = self.given.lock().get(scope.tenant()).copied().unwrap_or_default();
        let beyond = Query::new(self.bounds.too_many(last), CUT_PER_COMMIT);
        loop {
            let (old, _) = self.letters.list(scope, &beyond).await?;
            if old.is_empty() {
                return Ok(());
            }
            self.records.commit(scope, old.into_iter().map(delete).collect()).await?;
        }
    }

    async fn commit(&self, scope: &Scope, letters: Vec<DeadLetter>) -> Result<()> {
        let Some(now) = letters.iter().map(|letter| letter.refused_at).max() else { return Ok(()) };
        let room = letters.len() + MORE_REMOVED;
        let last = self.give(scope, letters.len()).await?;
        let first = last - letters.len() as i64 + 1;
        let kept: Vec<_> =
            (first..).zip(letters).map(|(sequence, letter)| Kept { letter, sequence }).collect();
        let mut writes =
            kept.iter().map(|one| Repository::write(one, Expect::Any)).collect::<Result<Vec<_>>>()?;
        let written: HashSet<String> = kept.into_iter().map(|one| one.letter.id).collect();
        let (old, _) = self.letters.list(scope, &Query::new(self.bounds.too_old(now), room)).await?;
        writes.extend(old.into_iter().filter(|old| !written.contains(&old.document.letter.id)).map(delete));
        self.records.commit(scope, writes).await.map(drop)
    }

    /// Gives the next sequence numbers; returns the last of them.
    async fn give(&self, scope: &Scope, count: usize) -> Result<i64> {
        let newest = Query { descending: true, ..Query::new(up_to("sequence", i64::MAX), 1) };
        let (newest, _) = self.letters.list(scope, &newest).await?;
        let stored = newest.first().map_or(0, |newest| newest.document.sequence);
        let mut given = self.given.lock();
        let last = given.entry(scope.tenant().clone()).or_default();
        *last = stored.max(*last) + count as i64;
        Ok(*last)
    }

    /// One page, newest first, and the cursor of the next.
    ///
    /// # Errors
    /// Those of [`Records::list`].
    pub async fn list(
        &self,
        scope: &Scope,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, Option<String>)> {
        let query = Query { selection: up_to("refused_at", i64::MAX), descending: true, cursor, limit };
        let (letters, cursor) = self.letters.list(scope, &query).await?;
        Ok((letters.into_iter().map(|kept| kept.document.letter).collect(), cursor))
    }

    /// One letter.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn get(&self, scope: &Scope, id: &str) -> Result<Option<DeadLetter>> {
        Ok(self.letters.get(scope, id).await?.map(|kept| kept.document.letter))
    }

    /// Forgets one letter.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove(&self, scope: &Scope, id: &str) -> Result<()> {
        self.letters.delete(scope, id, Expect::Any).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryRecords;

    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

    fn scope(tenant: &str) -> Scope {
        Scope::system(TenantId::new(tenant).unwrap(), "test")
    }

    fn bounded(records: &Arc<MemoryRecords>, letters: usize) -> DeadLetters {
        let bounds = Bounds { letters, ..BOUNDS };
        DeadLetters { bounds, ..DeadLetters::new(Arc::clone(records) as Arc<dyn Records>) }
    }

    fn letters(numbers: std::ops::Range<i64>, day: i64) -> Vec<DeadLetter> {
        let error = Error::new(kernel::codes::INVALID_EVENT, "no event");
        let time = Timestamp::from_millisecond(day * DAY_MS).unwrap();
        numbers.map(|number| DeadLetter::of_text(format!("{number:06}"), "text", &error, time)).collect()
    }

    /// The first and the last of the numbers that are kept, and how many.
    async fn kept(dead_letters: &DeadLetters, tenant: &str) -> Option<(i64, i64, usize)> {
        let (found, _) = dead_letters.list(&scope(tenant), None, 10_000).await.unwrap();
        let numbers: Vec<i64> = found.iter().map(|letter| letter.id.parse().unwrap()).collect();
        Some((*numbers.iter().min()?, *numbers.iter().max()?, numbers.len()))
    }

    #[tokio::test]
    async fn the_newest_of_each_tenant_are_kept() {
        let check = async |limit: usize, adds: &[usize], expected: Option<(i64, i64, usize)>| {
            let records = Arc::new(MemoryRecords::new());
            bounded(&records, limit).add(&scope("other"), letters(0..3, 0)).await.unwrap();
            let mut next = 0;
            for count in adds {
                // Each time as a process that was started anew.
                let dead_letters = bounded(&records, limit);
                let end = next + *count as i64;
                dead_letters.add(&scope("shop"), letters(next..end, 0)).await.unwrap();
                next = end;
            }
            let dead_letters = bounded(&records, limit);
            assert_eq!(kept(&dead_letters, "shop").await, expected, "{limit} {adds:?}");
            assert_eq!(kept(&dead_letters, "other").await, Some((0, 2, 3)));
        };
        check(10, &[0], None).await;
        check(10, &[1], Some((0, 0, 1))).await;
        check(10, &[4, 6], Some((0, 9, 10))).await;
        check(10, &[1; 25], Some((15, 24, 10))).await;
        check(10, &[4, 6, 7], Some((7, 16, 10))).await;
        check(10, &[300], Some((290, 299, 10))).await;
        check(600, &[2_000], Some((1_400, 1_999, 600))).await;
    }

    #[tokio::test]
    async fn writers_at_the_same_time_keep_to_the_bound() {
        let records = Arc::new(MemoryRecords::new());
        let dead_letters = bounded(&records, 100);
        let add = async |writer: i64| {
            for round in 0..10 {
                let first = writer * 1_000 + round * 30;
                dead_letters.add(&scope("shop"), letters(first..first + 30, 0)).await.unwrap();
            }
        };
        futures::future::join_all((0..8).map(add)).await;
        assert_eq!(kept(&dead_letters, "shop").await.unwrap().2, 100);
        // And what an earlier release left.
        bounded(&records, 100_000).add(&scope("shop"), letters(90_000..92_500, 0)).await.unwrap();
        dead_letters.add(&scope("shop"), letters(95_000..95_001, 0)).await.unwrap();
        assert_eq!(kept(&dead_letters, "shop").await, Some((92_401, 95_000, 100)));
    }

    #[tokio::test]
    async fn old_letters_go_some_at_a_time_as_new_ones_come() {
        let dead_letters = bounded(&Arc::new(MemoryRecords::new()), 1_000);
        dead_letters.add(&scope("shop"), letters(0..120, 0)).await.unwrap();
        let check = async |number: i64, day: i64, expected: (i64, i64, usize)| {
            dead_letters.add(&scope("shop"), letters(number..number + 1, day)).await.unwrap();
            assert_eq!(kept(&dead_letters, "shop").await, Some(expected), "{number} on day {day}");
        };
        check(120, 30, (0, 120, 121)).await;
        let removed = MORE_REMOVED as i64 + 1;
        check(121, 31, (removed, 121, 122 - removed as usize)).await;
        check(122, 31, (2 * removed, 122, 123 - 2 * removed as usize)).await;
        check(123, 31, (120, 123, 4)).await;
        check(124, 90, (124, 124, 1)).await;
    }

    #[tokio::test]
    async fn a_letter_that_is_written_again_is_kept_once_and_counts_as_new() {
        let dead_letters = bounded(&Arc::new(MemoryRecords::new()), 3);
        for number in [0, 1, 2, 0, 3] {
            dead_letters.add(&scope("shop"), letters(number..number + 1, number)).await.unwrap();
        }
        let (found, _) = dead_letters.list(&scope("shop"), None, 10).await.unwrap();
        let ids: Vec<_> = found.iter().map(|letter| letter.id.as_str()).collect();
        assert_eq!(ids, ["000003", "000002", "000000"]);
        let again = letters(0..1, 500);
        dead_letters.add(&scope("shop"), again.clone()).await.unwrap();
        assert_eq!(dead_letters.get(&scope("shop"), "000000").await.unwrap(), again.into_iter().next());
    }
}
