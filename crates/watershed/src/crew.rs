//! Whether some server of the deployment has each role. A server notes its own roles for a while, again and again, and
//! looks for notes of the others.
//!
//! It refuses to guess: while the records do not answer, what was known last stands. A server whose records are in its
//! data folder is alone, and notes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edge::http::health::Check;
use kernel::{Clock, Error, Result, Scope, TenantId, Timestamp, codes};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use store::{Document, Expect, Records, Repository, Table};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::{Role, Roles};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a note holds.
const NOTE_LASTS: Duration = Duration::from_secs(30);
/// A note that holds longer is not written again.
const NOTE_FRESH: Duration = Duration::from_secs(15);

/// The table of notes; of servers and not of data.
pub(crate) const TABLE: &str = "server_roles";

/// Some server has this role.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    role: Role,
    until: Timestamp,
}

impl Document for Note {
    const TABLE: Table = Table { name: TABLE, indexes: &[] };

    fn key(&self) -> String {
        self.role.name().to_owned()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    role: &'static str,
}

/// The roles of this server, and whether others have the rest.
#[derive(Debug)]
pub(crate) struct Crew {
    /// None where this server is alone.
    notes: Option<Repository<Note>>,
    clock: Arc<dyn Clock>,
    own: Roles,
    missing: Mutex<BTreeSet<Role>>,
    filled: Family<RoleLabels, Gauge>,
}

impl Crew {
    /// A server with these roles; no `records` where no other server can have any.
    pub(crate) fn new(
        own: Roles,
        records: Option<Arc<dyn Records>>,
        clock: Arc<dyn Clock>,
        registry: &mut Registry,
    ) -> Self {
        let (has, filled) = (Family::<RoleLabels, Gauge>::default(), Family::<RoleLabels, Gauge>::default());
        registry.register("server_role", "Whether this server has the role", has.clone());
        let help = "Whether some server of the deployment has the role, as far as this one knows";
        registry.register("deployment_role_filled", help, filled.clone());
        for role in Role::ALL {
            has.get_or_create(&RoleLabels { role: role.name() }).set(own.has(role).into());
            // Until the first look.
            filled.get_or_create(&RoleLabels { role: role.name() }).set(1);
        }
        Self { notes: records.map(Repository::new), clock, own, missing: Mutex::default(), filled }
    }

    /// Notes and looks until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            match self.look().await {
                Ok(missing) => self.tell(&missing),
                Err(error) => {
                    debug!(error = %error.chain(), "the roles of other servers are not known for now");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// The roles that no server has.
    async fn look(&self) -> Result<BTreeSet<Role>> {
        let scope = Scope::system(TenantId::server(), "roles");
        let mut missing = BTreeSet::new();
        for role in Role::ALL {
            let is_filled = match &self.notes {
                None => self.own.has(role),
                Some(notes) => self.is_filled(notes, &scope, role).await?,
            };
            if !is_filled {
                missing.insert(role);
            }
        }
        Ok(missing)
    }

    async fn is_filled(&self, notes: &Repository<Note>, scope: &Scope, role: Role) -> Result<bool> {
        let found = notes.get(scope, role.name()).await?;
        let now = self.clock.now();
        let holds = |at: Timestamp| found.as_ref().is_some_and(|note| at < note.document.until);
        if !self.own.has(role) {
            return Ok(holds(now));
        }
        if !holds(now.checked_add(NOTE_FRESH).map_err(Error::internal)?) {
            let note = Note { role, until: now.checked_add(NOTE_LASTS).map_err(Error::internal)? };
            let expect = found.map_or(Expect::Absent, |found| Expect::Version(found.version));
            match notes.put(scope, &note, expect).await {
                // Another server with the role was faster.
                Err(error) if error.code() == codes::CONFLICT => {}
                other => drop(other?),
            }
        }
        Ok(true)
    }

    fn tell(&self, missing: &BTreeSet<Role>) {
        for role in Role::ALL {
            let is_filled = !missing.contains(&role);
            self.filled.get_or_create(&RoleLabels { role: role.name() }).set(is_filled.into());
        }
        let before = std::mem::replace(&mut *self.missing.lock(), missing.clone());
        if before == *missing {
            return;
        }
        match reason(missing) {
            Some(reason) => warn!("{reason}"),
            None => info!("every role is filled"),
        }
    }
}

fn reason(missing: &BTreeSet<Role>) -> Option<String> {
    let told =
        missing.iter().map(|role| format!("no server has the role `{}`: {}", role.name(), role.loss()));
    Some(told.collect::<Vec<_>>().join("; ")).filter(|told| !told.is_empty())
}

impl Check for Crew {
    fn name(&self) -> &'static str {
        "roles"
    }

    fn fault(&self) -> Option<String> {
        reason(&self.missing.lock())
    }

    fn is_needed(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use kernel::ManualClock;
    use store::memory::MemoryRecords;

    use super::*;

    #[tokio::test]
    async fn a_role_is_missing_once_nobody_notes_it_any_more() {
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let server = |roles: &[Role], records: Option<&Arc<dyn Records>>| {
            let own = serde_json::from_value(serde_json::json!(roles)).unwrap();
            Crew::new(own, records.cloned(), Arc::clone(&clock) as Arc<_>, &mut Registry::default())
        };
        let shared = Some(&records);
        let (api, trainer) = (server(&[Role::Api], shared), server(&[Role::Trainer, Role::Stream], shared));
        let look = async |crew: &Crew| {
            crew.tell(&crew.look().await.unwrap());
            crew.fault()
        };
        let fault = look(&api).await.unwrap();
        assert!(fault.contains("role `stream`") && fault.ends_with("role `trainer`: models are not trained"));
        assert_eq!(look(&trainer).await, None);
        assert_eq!(look(&api).await, None);
        clock.advance(NOTE_LASTS - Duration::from_secs(1));
        assert_eq!(look(&api).await, None, "a note holds for a while");
        clock.advance(Duration::from_secs(2));
        assert!(look(&api).await.is_some());
        let alone = server(&[Role::Stream, Role::Api], None);
        assert!(look(&alone).await.unwrap().contains("`trainer`"));
        assert_eq!(look(&server(&Role::ALL, None)).await, None);
    }
}
