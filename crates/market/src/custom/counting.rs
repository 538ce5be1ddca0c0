//! Counting what projections keep: how many keys a projection has of a tenant stands in a record of its own, which every
//! commit that adds or takes away a key changes with it. Commits that only replace values do not touch it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Result, Scope, codes};
use serde::{Deserialize, Serialize};
use store::{Document, Expect, Records, Repository, Table, Versioned, Write};

use super::Kept;

/// Keys of one commit.
pub(super) const KEYS_AT_ONCE: usize = 500;
/// How often it is tried where others write the same keys, or change how many the same projection has.
pub(super) const TRIES: usize = 64;

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

/// The counts that a commit changes, as they were read and as they are to be.
#[derive(Debug, Default)]
pub(super) struct Counts {
    by_key: BTreeMap<String, (Option<u64>, u64, Count)>,
}

impl Counts {
    pub(super) async fn of(
        &mut self,
        records: &Arc<dyn Records>,
        scope: &Scope,
        kept: &Kept,
    ) -> Result<&mut Count> {
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
    pub(super) fn write(self, writes: &mut Vec<Write>) -> Result<()> {
        for (version, before, count) in self.by_key.into_values() {
            if count.keys != before {
                writes.push(Repository::write(&count, version.map_or(Expect::Absent, Expect::Version))?);
            }
        }
        Ok(())
    }
}

/// What is done with values that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// They go.
    Remove,
    /// They are written as they are here.
    Write,
}

/// Changes those that still are as they were read; how many. What another wrote meanwhile stays as that one wrote it. Where
/// others write all the while none is changed, and whoever asked may ask again.
pub(super) async fn change(
    records: &Arc<dyn Records>,
    scope: &Scope,
    change: Change,
    found: &[Versioned<Kept>],
) -> Result<u64> {
    let kept: Repository<Kept> = Repository::new(Arc::clone(records));
    let mut changed = 0;
    for some in found.chunks(KEYS_AT_ONCE) {
        let mut some: Vec<&Versioned<Kept>> = some.iter().collect();
        for _ in 0..TRIES {
            if some.is_empty() {
                break;
            }
            let commit = writes(records, scope, change, &some).await?;
            match records.commit(scope, commit).await {
                Ok(_) => {
                    changed += some.len() as u64;
                    break;
                }
                Err(error) if error.code() == codes::CONFLICT => {
                    some = kept.unchanged(scope, some, |read| (read.document.key(), read.version)).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(changed)
}

/// The commit that changes these.
async fn writes(
    records: &Arc<dyn Records>,
    scope: &Scope,
    change: Change,
    some: &[&Versioned<Kept>],
) -> Result<Vec<Write>> {
    let (mut writes, mut counts) = (Vec::new(), Counts::default());
    for Versioned { version, document } in some {
        let expect = Expect::Version(*version);
        let write = match change {
            Change::Write => Repository::write(document, expect)?,
            Change::Remove => {
                let counted = counts.of(records, scope, document).await?;
                counted.keys = counted.keys.saturating_sub(1);
                Write::Delete { table: Kept::TABLE, key: document.key(), expect }
            }
        };
        writes.push(write);
    }
    counts.write(&mut writes)?;
    Ok(writes)
}
