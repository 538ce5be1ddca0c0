//! Features of entities as they were at a time, for training and for serving alike.
//!
//! A set names its features and how long a value may be believed. A row says what an entity's features were from a time on; it
//! never changes: another value for the same entity and time is a conflict, and the first stands. A read as of a time
//! takes for each feature the newest row at or before that time, and none that is older than the time to live then. Rows that
//! were written later than a time can be left out too, so that a training sees what a server saw: up to the time of a commit
//! and the difference of the servers' clocks, for rows are stamped right before they are committed. The time to live is that
//! of now, also where it was another then.
//!
//! It refuses features that the set does not have, values of another kind, and what is no finite number. To add a kind of
//! value: a variant of [`Kind`] and of [`Value`].

mod budget;
mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, Permission, Result, Scope, Timestamp, codes};
use store::{Document, Expect, IndexValue, Query, Records, Repository, Selection, Write};

pub use self::budget::Budget;
pub use self::documents::{FeatureSet, Kind, Value};
use self::documents::{Row, prefix};
use crate::limits::{invalid, missing};

/// Sets of a tenant, about: some more where they are made at once.
pub const SETS_MAX: usize = 1_000;
/// Rows that are written or asked for at once.
pub const ROWS_MAX: usize = 1_000;
/// Rows that the read of one entity looks through.
const SCAN_MAX: usize = 10_000;
/// Rows of the first page of a read, of which each next has four times as many.
const PAGE_MIN: usize = 4;
const PAGE_MAX: usize = 64;
const ATTEMPTS: usize = 8;

/// The feature sets of every tenant.
#[derive(Debug, Clone)]
pub struct Features {
    records: Arc<dyn Records>,
    sets: Repository<FeatureSet>,
    rows: Repository<Row>,
    clock: Arc<dyn Clock>,
}

/// What an entity's features are from a time on.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRow {
    /// The entity's id.
    pub entity: String,
    /// From when on.
    pub event_time: Timestamp,
    /// By feature; those that are not named stay as they were.
    pub values: BTreeMap<String, Value>,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// It is kept.
    Stored,
    /// It was kept before.
    Duplicate,
    /// Another row of this entity and time is kept, and stands.
    Conflict,
    /// It does not fit the set.
    Refused(String),
}

/// A question.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The entity's id.
    pub entity: String,
    /// As of when; now where missing.
    pub as_of: Option<Timestamp>,
    /// Leave out what was written later than this.
    pub written_by: Option<Timestamp>,
}

/// A value and since when it is so.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The value.
    pub value: Value,
    /// Since when.
    pub event_time: Timestamp,
}

/// What is known of an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The entity's id.
    pub entity: String,
    /// As of when.
    pub as_of: Timestamp,
    /// By feature.
    pub values: BTreeMap<String, Known>,
    /// Features of which nothing that may be believed is known.
    pub missing: Vec<String>,
}

impl Features {
    /// Over these parts.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>) -> Self {
        let (sets, rows) = (Repository::new(Arc::clone(&records)), Repository::new(Arc::clone(&records)));
        Self { records, sets, rows, clock }
    }

    /// Makes a set, or changes it: features may be added and the time to live changed, nothing is taken away.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR` naming the field; `TOO_LARGE` for too many sets; `CONFLICT` where another is
    /// changing it.
    pub async fn define(&self, scope: &Scope, set: FeatureSet) -> Result<FeatureSet> {
        scope.require(Permission::Write)?;
        set.check()?;
        let found = self.sets.get(scope, &set.name).await?;
        let Some(found) = found else {
            let (all, _) = self.sets.list(scope, &Query::new(Selection::All, SETS_MAX)).await?;
            if all.len() >= SETS_MAX {
                let message = format!("a tenant has {SETS_MAX} feature sets at most");
                return Err(Error::new(codes::TOO_LARGE, message));
            }
            let set = FeatureSet { created_at: self.clock.now(), ..set };
            self.sets.put(scope, &set, Expect::Absent).await?;
            return Ok(set);
        };
        let known = found.document;
        if set.entity_type != known.entity_type {
            return Err(invalid("entity_type", format!("is `{}` and stays so", known.entity_type)));
        }
        let gone = known.features.iter().find(|(name, kind)| set.features.get(*name) != Some(*kind));
        if let Some((name, kind)) = gone {
            let message = format!("`{name}` is a {} and stays so; make another set", kind.name());
            return Err(invalid("features", message));
        }
        let set = FeatureSet { created_at: known.created_at, ..set };
        self.sets.put(scope, &set, Expect::Version(found.version)).await?;
        Ok(set)
    }

    /// A set.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`.
    pub async fn set(&self, scope: &Scope, name: &str) -> Result<FeatureSet> {
        scope.require(Permission::Read)?;
        let name_is_one = !name.is_empty() && name.len() <= store::MAX_KEY_BYTES;
        let found = if name_is_one { self.sets.get(scope, name).await? } else { None };
        found.map(|found| found.document).ok_or_else(|| missing("feature set", name))
    }

    /// Every set, by name.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of the engine.
    pub async fn sets(&self, scope: &Scope) -> Result<Vec<FeatureSet>> {
        scope.require(Permission::Read)?;
        let found = self.sets.list_all(scope, Query::new(Selection::All, SETS_MAX)).await?;
        Ok(found.into_iter().map(|set| set.document).collect())
    }

    /// Writes rows; what became of each. What is kept is durable, and the same rows may be sent again.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; those of the engine: then nothing of these rows is kept.
    pub async fn write(&self, scope: &Scope, name: &str, rows: &[NewRow]) -> Result<Vec<RowOutcome>> {
        scope.require(Permission::Write)?;
        let set = self.set(scope, name).await?;
        for _ in 0..ATTEMPTS {
            let (outcomes, new) = self.judged(scope, &set, rows).await?;
            // Of all of them alike and as late as can be: who reads what was written by then sees all or none.
            let written_at = self.clock.now();
            let stamped = |mut row: Row| {
                row.written_at = written_at;
                Repository::write(&row, Expect::Absent)
            };
            let writes = new.into_values().map(stamped).collect::<Result<Vec<_>>>()?;
            match self.records.commit(scope, writes).await {
                Ok(_) => return Ok(outcomes),
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::OVERLOADED, "the same rows are written by many at once; send them again"))
    }

    /// What becomes of rows, and those that are new by their key, not stamped yet.
    async fn judged(
        &self,
        scope: &Scope,
        set: &FeatureSet,
        rows: &[NewRow],
    ) -> Result<(Vec<RowOutcome>, BTreeMap<String, Row>)> {
        let mut outcomes = Vec::with_capacity(rows.len());
        let mut new: BTreeMap<String, Row> = BTreeMap::new();
        for row in rows {
            if let Err(reason) = set.takes(row) {
                outcomes.push(RowOutcome::Refused(reason));
                continue;
            }
            let row = Row::of(set, row, Timestamp::UNIX_EPOCH);
            let known = match new.get(&row.key()) {
                Some(known) => Some(known.clone()),
                None => self.rows.get(scope, &row.key()).await?.map(|found| found.document),
            };
            outcomes.push(match known {
                Some(known) if known.values == row.values => RowOutcome::Duplicate,
                Some(_) => RowOutcome::Conflict,
                None => {
                    new.insert(row.key(), row);
                    RowOutcome::Stored
                }
            });
        }
        Ok((outcomes, new))
    }

    /// The time of reads that name none.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What is known of an entity as of a time. `wanted` names the features; all of the set where it is empty. Reads of one
    /// request share a `budget`.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a feature that the set does not have or an entity that can be none; `TOO_LARGE` where too many
    /// rows would have to be looked through, or the budget is spent; those of the engine.
    pub async fn read(
        &self,
        scope: &Scope,
        set: &FeatureSet,
        wanted: &BTreeSet<String>,
        moment: &Moment,
        budget: &Budget,
    ) -> Result<Found> {
        scope.require(Permission::Read)?;
        documents::check_entity(&moment.entity).map_err(|rule| invalid("entity", rule))?;
        if let Some(unknown) = wanted.iter().find(|name| !set.features.contains_key(*name)) {
            return Err(invalid("features", format!("the set has no `{}`", unknown.escape_debug())));
        }
        let all = || set.features.keys().cloned().collect();
        let mut lacking: BTreeSet<String> = if wanted.is_empty() { all() } else { wanted.clone() };
        let as_of = moment.as_of.unwrap_or_else(|| self.clock.now());
        let oldest = as_of.checked_sub(Duration::from_secs(set.ttl_secs)).unwrap_or(Timestamp::UNIX_EPOCH);
        let place = |time| IndexValue::Text(Row::place(&set.name, &moment.entity, time));
        let selection = Selection::Between("moment", place(oldest), place(as_of));
        let mut query = Query { descending: true, ..Query::new(selection, PAGE_MIN) };
        let (mut values, mut scanned) = (BTreeMap::new(), 0);
        // No row is older than that.
        while !lacking.is_empty() && as_of >= Timestamp::UNIX_EPOCH {
            budget.check()?;
            let (rows, cursor) = self.rows.list(scope, &query).await?;
            scanned += rows.len();
            budget.read(rows.iter().map(|row| row.document.size_bytes()));
            for row in rows.into_iter().map(|row| row.document) {
                if moment.written_by.is_some_and(|by| row.written_at > by) {
                    continue;
                }
                for (name, value) in row.values.into_iter().filter(|(name, _)| lacking.contains(name)) {
                    // Rows come newest first.
                    values.entry(name).or_insert(Known { value, event_time: row.event_time });
                }
            }
            lacking.retain(|name| !values.contains_key(name));
            if cursor.is_none() {
                break;
            }
            if scanned >= SCAN_MAX && !lacking.is_empty() {
                let message = format!(
                    "{SCAN_MAX} rows of `{}` have no `{}`; keep features that change seldom in a set of their own",
                    moment.entity.escape_debug(),
                    lacking.first().map_or("", String::as_str)
                );
                return Err(Error::new(codes::TOO_LARGE, message));
            }
            query.cursor = cursor;
            query.limit = (query.limit * 4).min(PAGE_MAX);
        }
        budget.answer(values.iter().map(|(name, known)| documents::size_bytes(name, &known.value)));
        let missing = lacking.into_iter().collect();
        Ok(Found { entity: moment.entity.clone(), as_of, values, missing })
    }

    /// How many rows of an entity a set has.
    ///
    /// # Errors
    /// As [`Features::forget`].
    pub async fn count(&self, scope: &Scope, name: &str, entity: &str) -> Result<u64> {
        scope.require(Permission::Admin)?;
        self.set(scope, name).await?;
        documents::check_entity(entity).map_err(|rule| invalid("entity", rule))?;
        let mut query = Query::new(Selection::Prefix(prefix(name, entity)), PAGE_MAX);
        let mut count = 0;
        loop {
            let page = self.records.list(scope, Row::TABLE, &query).await?;
            count += page.records.len() as u64;
            if page.cursor.is_none() {
                return Ok(count);
            }
            query.cursor = page.cursor;
        }
    }

    /// Forgets an entity of a set; how many rows went.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND` for the set; those of the engine.
    pub async fn forget(&self, scope: &Scope, name: &str, entity: &str) -> Result<u64> {
        scope.require(Permission::Admin)?;
        self.set(scope, name).await?;
        documents::check_entity(entity).map_err(|rule| invalid("entity", rule))?;
        let query = Query::new(Selection::Prefix(prefix(name, entity)), ROWS_MAX);
        let mut gone = 0;
        loop {
            let page = self.records.list(scope, Row::TABLE, &query).await?;
            let delete = |key: String| Write::Delete { table: Row::TABLE, key, expect: Expect::Any };
            gone += page.records.len() as u64;
            let is_last = page.cursor.is_none();
            self.records.commit(scope, page.records.into_iter().map(|row| delete(row.key)).collect()).await?;
            if is_last {
                return Ok(gone);
            }
        }
    }

    /// Rows of a person in every set whose entities are of this type.
    ///
    /// # Errors
    /// As [`Features::forget`].
    pub async fn count_everywhere(&self, scope: &Scope, entity_type: &str, entity: &str) -> Result<u64> {
        let mut count = 0;
        for name in self.sets_of(scope, entity_type, entity).await? {
            count += self.count(scope, &name, entity).await?;
        }
        Ok(count)
    }

    /// Forgets a person in every set whose entities are of this type; how many rows went.
    ///
    /// # Errors
    /// As [`Features::forget`].
    pub async fn forget_everywhere(&self, scope: &Scope, entity_type: &str, entity: &str) -> Result<u64> {
        let mut gone = 0;
        for name in self.sets_of(scope, entity_type, entity).await? {
            gone += self.forget(scope, &name, entity).await?;
        }
        Ok(gone)
    }

    /// The sets that may hold an entity; none where no set can.
    async fn sets_of(&self, scope: &Scope, entity_type: &str, entity: &str) -> Result<Vec<String>> {
        if documents::check_entity(entity).is_err() {
            return Ok(Vec::new());
        }
        let of_type = |set: FeatureSet| (set.entity_type == entity_type).then_some(set.name);
        Ok(self.sets(scope).await?.into_iter().filter_map(of_type).collect())
    }
}

#[cfg(test)]
mod tests;
