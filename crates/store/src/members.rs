//! Members of a group: which processes share a work at this time, and how much of it each has.
//!
//! A member says so again and again; one that says nothing new for a while is none any more. How long is measured by the clock
//! of who looks, so that it does not matter how far the clocks of the processes lie apart. Two that look at the same time may
//! see different members: what they share must be guarded on its own, by a lease.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Result, Scope, codes};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Document, Expect, Leases, Query, Selection, Table, Versioned};

/// Members read at once.
const PAGE: usize = 1_000;

/// How much of the work a process has, and could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// What it has.
    pub held: u32,
    /// The most it can have as things are.
    pub room: u32,
    /// The most it may ever have.
    pub most: u32,
}

/// A process in a group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Member {
    group: String,
    holder: String,
    load: Load,
}

impl Document for Member {
    const TABLE: Table = Table { name: "leases", indexes: &[] };

    fn key(&self) -> String {
        key(&self.group, &self.holder)
    }
}

fn key(group: &str, holder: &str) -> String {
    format!("members/{group}/{holder}")
}

/// One group, as one process sees it.
#[derive(Debug)]
pub struct Members {
    leases: Leases,
    group: String,
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// What another one said last, and when that was first seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    version: u64,
    at: Duration,
}

impl Leases {
    /// The group of that name, which this process is not yet a member of.
    #[must_use]
    pub fn members(&self, group: String) -> Members {
        Members { leases: self.clone(), group, seen: Mutex::default() }
    }
}

impl Members {
    /// The name of this process.
    #[must_use]
    pub fn own(&self) -> &str {
        &self.leases.holder
    }

    /// Says that this process is of the group and how loaded it is. The same of everyone who said something new within
    /// `lasting`, by name; who said nothing for twice that is taken away.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn join(&self, scope: &Scope, load: Load, lasting: Duration) -> Result<BTreeMap<String, Load>> {
        let own = Member { group: self.group.clone(), holder: self.own().to_owned(), load };
        self.leases.members.put(scope, &own, Expect::Any).await?;
        let query = Query::new(Selection::Prefix(key(&self.group, "")), PAGE);
        let found = self.leases.members.list_all(scope, query).await?;
        let silent = self.see(&found);
        let mut present = BTreeMap::from([(own.holder, load)]);
        for Versioned { document: member, version } in found {
            match silent.get(&member.holder) {
                Some(silent) if *silent >= lasting * 2 => self.forget(scope, &member, version).await?,
                Some(silent) if *silent < lasting => {
                    present.entry(member.holder).or_insert(member.load);
                }
                _ => {}
            }
        }
        Ok(present)
    }

    /// For how long each of them has said nothing new.
    fn see(&self, found: &[Versioned<Member>]) -> BTreeMap<String, Duration> {
        let now = self.leases.clock.elapsed();
        let mut seen = self.seen.lock();
        let before = std::mem::take(&mut *seen);
        for Versioned { document, version } in found {
            let known = before.get(&document.holder).filter(|known| known.version == *version);
            let last = known.copied().unwrap_or(Seen { version: *version, at: now });
            seen.insert(document.holder.clone(), last);
        }
        seen.iter().map(|(holder, last)| (holder.clone(), now.saturating_sub(last.at))).collect()
    }

    async fn forget(&self, scope: &Scope, member: &Member, version: u64) -> Result<()> {
        match self.leases.members.delete(scope, &member.key(), Expect::Version(version)).await {
            Err(error) if error.code() == codes::CONFLICT => Ok(()),
            other => other,
        }
    }

    /// Says that this process is no longer of the group.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn leave(&self, scope: &Scope) -> Result<()> {
        self.leases.members.delete(scope, &key(&self.group, self.own()), Expect::Any).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::{ManualClock, TenantId, Timestamp};

    use super::*;
    use crate::Records;
    use crate::memory::MemoryRecords;

    const LASTING: Duration = Duration::from_secs(15);

    #[tokio::test]
    async fn who_says_nothing_or_leaves_is_no_member() {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        // An hour apart.
        let hour = Timestamp::UNIX_EPOCH + Duration::from_secs(3_600);
        let clocks = [Timestamp::UNIX_EPOCH, hour].map(|at| Arc::new(ManualClock::at(at)));
        let process = |holder: &str, clock: &Arc<ManualClock>| {
            Leases::new(Arc::clone(&records), Arc::clone(clock) as Arc<_>, holder.to_owned())
        };
        let (one, two) = (process("one", &clocks[0]), process("two", &clocks[1]));
        let other = two.members("stage-2".to_owned());
        let (one, two) = (one.members("stage".to_owned()), two.members("stage".to_owned()));
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let join = async |members: &Members, room: u32| {
            let load = Load { held: 1, room, most: 9 };
            let present = members.join(&scope, load, LASTING).await.unwrap();
            present.into_iter().map(|(holder, load)| format!("{holder} {}", load.room)).collect::<Vec<_>>()
        };
        let pass = |seconds: u64| clocks.each_ref().map(|clock| clock.advance(Duration::from_secs(seconds)));
        assert_eq!(join(&one, 4).await, ["one 4"]);
        assert_eq!(join(&two, 8).await, ["one 4", "two 8"]);
        assert_eq!(join(&other, 1).await, ["two 1"], "groups know nothing of each other");
        assert_eq!(join(&one, 4).await, ["one 4", "two 8"]);
        pass(10);
        assert_eq!(join(&one, 3).await, ["one 3", "two 8"]);
        pass(5);
        assert_eq!(join(&one, 3).await, ["one 3"], "the other said nothing for too long");
        assert_eq!(join(&two, 8).await, ["one 3", "two 8"]);
        assert_eq!(join(&one, 3).await, ["one 3", "two 8"]);
        two.leave(&scope).await.unwrap();
        assert_eq!(join(&one, 3).await, ["one 3"]);
        assert_eq!(join(&two, 8).await, ["one 3", "two 8"]);
        assert_eq!(join(&one, 3).await, ["one 3", "two 8"]);
        pass(30);
        assert_eq!(join(&one, 3).await, ["one 3"]);
        let left = one.leases.members.list_all(&scope, Query::new(Selection::All, 10)).await.unwrap();
        assert_eq!(left.len(), 2, "one of each group: who says nothing for long is taken away");
    }
}
