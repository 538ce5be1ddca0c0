//! Members of a group: which processes share a work at this time, and how much of it each has room for.
//!
//! A member says so again and again; one that says nothing for as long as it promised is none any more. Two processes
//! that look at the same time may see different members: what they share must be guarded on its own, by a lease.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Error, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};

use crate::{Document, Expect, Leases, Query, Selection, Table};

/// Members read at once.
const PAGE: usize = 1_000;

/// How much of the work a process has, and could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// What it has.
    pub held: u32,
    /// The most it can have.
    pub room: u32,
}

/// A process in a group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Member {
    group: String,
    holder: String,
    load: Load,
    until: Timestamp,
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

impl Leases {
    /// The name of this process.
    #[must_use]
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Says for `lasting` that this process is of the group and how loaded it is. The same of everyone who is, by name; who
    /// ended is taken away.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn join(
        &self,
        scope: &Scope,
        group: &str,
        load: Load,
        lasting: Duration,
    ) -> Result<BTreeMap<String, Load>> {
        let now = self.clock.now();
        let until = now.checked_add(lasting).map_err(Error::internal)?;
        let own = Member { group: group.to_owned(), holder: self.holder.clone(), load, until };
        self.members.put(scope, &own, Expect::Any).await?;
        let query = Query::new(Selection::Prefix(key(group, "")), PAGE);
        let mut present = BTreeMap::new();
        for found in self.members.list_all(scope, query).await? {
            let (member, version) = (found.document, found.version);
            if now < member.until {
                present.insert(member.holder, member.load);
            } else {
                self.forget(scope, &member, version).await?;
            }
        }
        Ok(present)
    }

    async fn forget(&self, scope: &Scope, member: &Member, version: u64) -> Result<()> {
        match self.members.delete(scope, &member.key(), Expect::Version(version)).await {
            Err(error) if error.code() == codes::CONFLICT => Ok(()),
            other => other,
        }
    }

    /// Says that this process is no longer of the group.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn leave(&self, scope: &Scope, group: &str) -> Result<()> {
        self.members.delete(scope, &key(group, &self.holder), Expect::Any).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::{ManualClock, TenantId};

    use super::*;
    use crate::Records;
    use crate::memory::MemoryRecords;

    #[tokio::test]
    async fn who_says_nothing_or_leaves_is_no_member() {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let process =
            |holder: &str| Leases::new(Arc::clone(&records), Arc::clone(&clock) as Arc<_>, holder.to_owned());
        let (one, two) = (process("one"), process("two"));
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let join = async |process: &Leases, room: u32| {
            let load = Load { held: 1, room };
            let present = process.join(&scope, "stage", load, Duration::from_secs(15)).await.unwrap();
            present.into_iter().map(|(holder, load)| format!("{holder} {}", load.room)).collect::<Vec<_>>()
        };
        assert_eq!(join(&one, 4).await, ["one 4"]);
        assert_eq!(join(&two, 8).await, ["one 4", "two 8"]);
        let others =
            two.join(&scope, "stage-2", Load { held: 0, room: 1 }, Duration::from_secs(15)).await.unwrap();
        assert_eq!(others.len(), 1, "groups know nothing of each other: {others:?}");
        clock.advance(Duration::from_secs(10));
        assert_eq!(join(&one, 3).await, ["one 3", "two 8"]);
        clock.advance(Duration::from_secs(5));
        assert_eq!(join(&one, 3).await, ["one 3"], "the other said nothing for too long");
        assert_eq!(join(&two, 8).await, ["one 3", "two 8"]);
        two.leave(&scope, "stage").await.unwrap();
        assert_eq!(join(&one, 3).await, ["one 3"]);
    }
}
