//! Writing what projections keep: of each key the newest, and of keys at most so many, exactly.
//!
//! How many keys a projection has of a tenant is counted in a record of its own, which every commit that adds or takes away a
//! key changes with it. Commits that only replace values do not touch it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use kernel::{Clock, Result, Scope, codes};
use serde::{Deserialize, Serialize};
use store::{Document, Expect, Records, Repository, Table, Tenants, Versioned, Write};

use super::Kept;

/// Keys of one commit.
pub(super) const KEYS_AT_ONCE: usize = 500;
const READS_AT_ONCE: usize = 16;
/// How often it is tried where others write the same keys, or add some to the same projection.
const TRIES: usize = 64;
/// Of whom anything was ever kept.
pub(super) const TENANTS: Table = Table { name: "market_projection_tenants", indexes: &[] };

/// How many keys a projection has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) projection: String,
    pub(super) definition: String,
    pub(super) keys: u64,
}

impl Document for Count {
    const TABLE: Table = Table { name: "market_projection_counts", indexes: &[] };

    fn key(&self) -> String {
        format!("{}/{}", self.projection, self.definition)
    }
}

/// What was done with values.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// How many are now kept.
    pub(super) written: u64,
    /// Those for whose keys there is no room.
    pub(super) refused: Vec<Kept>,
}

/// Writes what projections keep.
#[derive(Debug)]
pub(super) struct Keeping {
    records: Arc<dyn Records>,
    tenants: Tenants,
    clock: Arc<dyn Clock>,
    pub(super) most_keys: u64,
}

impl Keeping {
    pub(super) fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>, most_keys: u64) -> Self {
        let tenants = Tenants::new(Arc::clone(&records), TENANTS);
        Self { records, tenants, clock, most_keys }
    }

    /// Keeps those that are newer than what is there, and that still say something.
    pub(super) async fn keep(&self, scope: &Scope, found: Vec<Kept>) -> Result<Done> {
        let (mut newest, now_ms) = (BTreeMap::<String, Kept>::new(), self.clock.now().as_millisecond());
        for kept in found.into_iter().filter(|kept| kept.ends_ms.is_none_or(|ends_ms| ends_ms > now_ms)) {
            let key = kept.key();
            if newest.get(&key).is_none_or(|known| known.order() < kept.order()) {
                newest.insert(key, kept);
            }
        }
        let mut all = Done::default();
        if newest.is_empty() {
            return Ok(all);
        }
        self.tenants.note(scope.tenant()).await?;
        let newest: Vec<(String, Kept)> = newest.into_iter().collect();
        for some in newest.chunks(KEYS_AT_ONCE) {
            let done = self.keep_some(scope, some).await?;
            all.written += done.written;
            all.refused.extend(done.refused);
        }
        Ok(all)
    }

    async fn keep_some(&self, scope: &Scope, some: &[(String, Kept)]) -> Result<Done> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (writes, done) = self.writes(scope, some).await?;
            if writes.is_empty() {
                return Ok(done);
            }
            match self.records.commit(scope, writes).await {
                Err(error) if error.code() == codes::CONFLICT && tries < TRIES => {}
                written => return written.map(|_| done),
            }
        }
    }

    /// The commit that keeps what is newer by what is there now, and what it does.
    async fn writes(&self, scope: &Scope, some: &[(String, Kept)]) -> Result<(Vec<Write>, Done)> {
        let kept: Repository<Kept> = Repository::new(Arc::clone(&self.records));
        let reads: Vec<_> = some.iter().map(|(key, _)| kept.get(scope, key)).collect();
        let before: Vec<Option<Versioned<Kept>>> =
            futures::stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        let (mut writes, mut done, mut counts) = (Vec::new(), Done::default(), Counts::default());
        // Who reads what changed looks back by the time of writing: it is told for each try.
        let changed_ms = self.clock.now().as_millisecond();
        for ((_, new), before) in some.iter().zip(before) {
            let expect = match before {
                Some(before) if before.document.order() < new.order() => Expect::Version(before.version),
                Some(_) => continue,
                None => {
                    let counted = counts.of(&self.records, scope, new).await?;
                    if counted.keys >= self.most_keys {
                        done.refused.push(new.clone());
                        continue;
                    }
                    counted.keys += 1;
                    Expect::Absent
                }
            };
            writes.push(Repository::write(&Kept { changed_ms, ..new.clone() }, expect)?);
            done.written += 1;
        }
        if !writes.is_empty() {
            counts.write(&mut writes)?;
        }
        Ok((writes, done))
    }
}

/// Takes these away, where they still are as they were read; how many. Where another wrote meanwhile none is, and whoever asked
/// may ask again.
pub(super) async fn remove(
    records: &Arc<dyn Records>,
    scope: &Scope,
    found: &[Versioned<Kept>],
) -> Result<u64> {
    let mut removed = 0;
    for some in found.chunks(KEYS_AT_ONCE) {
        let (mut writes, mut counts) = (Vec::new(), Counts::default());
        for Versioned { version, document } in some {
            let counted = counts.of(records, scope, document).await?;
            counted.keys = counted.keys.saturating_sub(1);
            let expect = Expect::Version(*version);
            writes.push(Write::Delete { table: Kept::TABLE, key: document.key(), expect });
        }
        counts.write(&mut writes)?;
        match records.commit(scope, writes).await {
            Ok(_) => removed += some.len() as u64,
            Err(error) if error.code() == codes::CONFLICT => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// The counts that a commit changes, as they were read and as they are to be.
#[derive(Debug, Default)]
struct Counts {
    by_key: BTreeMap<String, (Option<u64>, u64, Count)>,
}

impl Counts {
    async fn of(&mut self, records: &Arc<dyn Records>, scope: &Scope, kept: &Kept) -> Result<&mut Count> {
        let new = Count { projection: kept.projection.clone(), definition: kept.definition.clone(), keys: 0 };
        let key = new.key();
        if !self.by_key.contains_key(&key) {
            let found = Repository::<Count>::new(Arc::clone(records)).get(scope, &key).await?;
            let (version, count) = found.map_or((None, new), |found| (Some(found.version), found.document));
            self.by_key.insert(key.clone(), (version, count.keys, count));
        }
        let (_, _, count) = self.by_key.get_mut(&key).expect("it was just put there");
        Ok(count)
    }

    /// Those that changed.
    fn write(self, writes: &mut Vec<Write>) -> Result<()> {
        for (version, before, count) in self.by_key.into_values() {
            if count.keys != before {
                writes.push(Repository::write(&count, version.map_or(Expect::Absent, Expect::Version))?);
            }
        }
        Ok(())
    }
}
