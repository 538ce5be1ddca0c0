//! Leases over `Records`: who of several processes does what only one should do.
//!
//! A lease is an optimisation: its holder may lose it unseen when it stalls. What it guards must be right all the same,
//! by a compare-and-set of its own. The clocks of the processes must not differ by more than a lease lasts.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};

use crate::members::Member;
use crate::{Document, Expect, Records, Repository, Table, Versioned};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    name: String,
    holder: String,
    until: Timestamp,
}

impl Document for Held {
    const TABLE: Table = Table { name: "leases", indexes: &[] };

    fn key(&self) -> String {
        self.name.clone()
    }
}

/// The leases of one process.
#[derive(Debug, Clone)]
pub struct Leases {
    held: Repository<Held>,
    pub(crate) members: Repository<Member>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) holder: String,
}

impl Leases {
    /// For the process `holder`, whose name no other has.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>, holder: String) -> Self {
        let (held, members) = (Repository::new(Arc::clone(&records)), Repository::new(records));
        Self { held, members, clock, holder }
    }

    /// Takes the lease, or makes it last `lasting` from now where this process has it. False when another has it.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn acquire(&self, scope: &Scope, name: &str, lasting: Duration) -> Result<bool> {
        let now = self.clock.now();
        let found = self.held.get(scope, name).await?;
        let others =
            |held: &Versioned<Held>| held.document.holder != self.holder && now < held.document.until;
        if found.as_ref().is_some_and(others) {
            return Ok(false);
        }
        let until = now.checked_add(lasting).map_err(Error::internal)?;
        let held = Held { name: name.to_owned(), holder: self.holder.clone(), until };
        let expect = found.map_or(Expect::Absent, |found| Expect::Version(found.version));
        match self.held.put(scope, &held, expect).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == codes::CONFLICT => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the lease up where this process has it.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn release(&self, scope: &Scope, name: &str) -> Result<()> {
        let Some(found) = self.held.get(scope, name).await? else { return Ok(()) };
        if found.document.holder != self.holder {
            return Ok(());
        }
        match self.held.delete(scope, name, Expect::Version(found.version)).await {
            Err(error) if error.code() == codes::CONFLICT => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::{ManualClock, TenantId};

    use super::*;
    use crate::memory::MemoryRecords;

    #[tokio::test]
    async fn one_holds_it_until_it_is_given_up_or_ends() {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let leases =
            |holder: &str| Leases::new(Arc::clone(&records), Arc::clone(&clock) as Arc<_>, holder.to_owned());
        let (one, two) = (leases("one"), leases("two"));
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let acquire =
            async |leases: &Leases| leases.acquire(&scope, "train", Duration::from_secs(60)).await.unwrap();
        assert!(acquire(&one).await);
        assert!(!acquire(&two).await);
        clock.advance(Duration::from_secs(59));
        assert!(acquire(&one).await, "the holder makes it last");
        clock.advance(Duration::from_secs(59));
        assert!(!acquire(&two).await);
        clock.advance(Duration::from_secs(1));
        assert!(acquire(&two).await, "it ended");
        one.release(&scope, "train").await.unwrap();
        assert!(!acquire(&one).await, "who lost it cannot give it up");
        two.release(&scope, "train").await.unwrap();
        assert!(acquire(&one).await);
    }
}
