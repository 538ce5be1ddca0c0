//! Taking away what nobody can be told any more: in the background what is past its time, some at a time, and by a rebuild what
//! is kept for declarations of before, of all tenants.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Result, Scope, TenantId, codes};
use store::{Expect, IndexValue, Query, Records, Repository, Selection, Table, Tenants, Versioned};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Kept;
use super::counting::{Change, Count, KEYS_AT_ONCE, change};
use crate::algorithms::projections::Projection;
use crate::settings::Rules;

/// Of whom anything was ever kept.
pub(super) const TENANTS: Table = Table { name: "market_projection_tenants", indexes: &[] };
/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(60);
/// How long a sweep takes away of one tenant, before it is the turn of the next.
const TURN: Duration = Duration::from_secs(10);

/// What became of a page.
#[derive(Debug)]
pub(super) struct Swept {
    pub(super) removed: u64,
    /// Whether there was anything to do.
    pub(super) is_any: bool,
}

/// A page by what is to become of it.
#[derive(Debug, Default)]
struct Sorted {
    /// Of declarations that are no more.
    former: Vec<Versioned<Kept>>,
    /// Past their time.
    ended: Vec<Versioned<Kept>>,
    /// Noted to end at another time than they do: made when the projection was to say something for less long, or past its time
    /// in less than a millisecond.
    moved: Vec<Versioned<Kept>>,
}

/// Takes away what projections no longer say.
#[derive(Debug)]
pub(crate) struct Sweeper {
    records: Arc<dyn Records>,
    kept: Repository<Kept>,
    rules: Arc<Rules>,
    clock: Arc<dyn Clock>,
}

impl Sweeper {
    pub(crate) fn new(records: Arc<dyn Records>, rules: Arc<Rules>, clock: Arc<dyn Clock>) -> Self {
        Self { kept: Repository::new(Arc::clone(&records)), records, rules, clock }
    }

    /// Sweeps until `stop`. Several servers may: what one took away another does not find.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut is_failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
            let Some(done) = stop.run_until_cancelled(self.sweep()).await else { break };
            match done {
                Ok(_) if std::mem::take(&mut is_failing) => {
                    info!("values of projections past their time go again");
                }
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    warn!(error = %error.chain(), "values of projections past their time stay for now");
                }
                _ => {}
            }
        }
    }

    async fn scopes(&self) -> Result<Vec<Scope>> {
        let tenants = Tenants::new(Arc::clone(&self.records), TENANTS).all().await?;
        Ok(tenants.into_iter().map(|tenant: TenantId| Scope::system(tenant, "market")).collect())
    }

    /// Takes away what is past its time, of each tenant for [`TURN`] at most; how many.
    pub(crate) async fn sweep(&self) -> Result<u64> {
        let mut swept = 0;
        for scope in self.scopes().await? {
            let begun = self.clock.elapsed();
            loop {
                let page = self.sweep_page(&scope).await?;
                swept += page.removed;
                if !page.is_any || self.clock.elapsed().saturating_sub(begun) >= TURN {
                    break;
                }
            }
        }
        Ok(swept)
    }

    /// Takes away some of what is past its time.
    pub(super) async fn sweep_page(&self, scope: &Scope) -> Result<Swept> {
        let to = IndexValue::Integer(self.clock.now().as_millisecond());
        let range = Selection::Between("ends", IndexValue::Integer(i64::MIN), to);
        let (found, _) = self.kept.list(scope, &Query::new(range, KEYS_AT_ONCE)).await?;
        let Sorted { former, mut ended, moved } = self.sorted(found);
        ended.extend(former);
        change(&self.records, scope, Change::Write, &moved).await?;
        let removed = change(&self.records, scope, Change::Remove, &ended).await?;
        Ok(Swept { removed, is_any: !(ended.is_empty() && moved.is_empty()) })
    }

    fn sorted(&self, found: Vec<Versioned<Kept>>) -> Sorted {
        let (mut sorted, now) = (Sorted::default(), self.clock.now());
        for found in found {
            match found.document.declared(&self.rules) {
                None => sorted.former.push(found),
                Some(declared) if found.document.lives(declared, now) => {
                    sorted.moved.extend(moves(found, declared));
                }
                Some(_) => sorted.ended.push(found),
            }
        }
        sorted
    }

    /// Takes away all that is kept for other declarations, and all that is past its time; how many of each. Of the rest it is
    /// noted when it ends by the declaration of now.
    pub(super) async fn remove_former(&self) -> Result<(u64, u64)> {
        let (mut removed, mut ended) = (0, 0);
        for scope in self.scopes().await? {
            let mut query = Query::new(Selection::All, KEYS_AT_ONCE);
            loop {
                let (page, cursor) = self.kept.list(&scope, &query).await?;
                let sorted = self.sorted(page);
                removed += change(&self.records, &scope, Change::Remove, &sorted.former).await?;
                ended += change(&self.records, &scope, Change::Remove, &sorted.ended).await?;
                change(&self.records, &scope, Change::Write, &sorted.moved).await?;
                query.cursor = cursor;
                if query.cursor.is_none() {
                    break;
                }
            }
            self.remove_counts(&scope).await?;
        }
        Ok((removed, ended))
    }

    /// Counts of declarations of before, where nothing is left.
    async fn remove_counts(&self, scope: &Scope) -> Result<()> {
        let counts: Repository<Count> = Repository::new(Arc::clone(&self.records));
        for found in counts.list_all(scope, Query::new(Selection::All, KEYS_AT_ONCE)).await? {
            if found.document.keys > 0 {
                continue;
            }
            let key = store::Document::key(&found.document);
            match counts.delete(scope, &key, Expect::Version(found.version)).await {
                Err(error) if error.code() != codes::CONFLICT => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The value as it ends by its declaration, where it is noted to end otherwise.
fn moves(found: Versioned<Kept>, declared: &Projection) -> Option<Versioned<Kept>> {
    let before = found.document.ends_ms;
    let moved = Versioned { document: found.document.ending(declared), version: found.version };
    (moved.document.ends_ms != before).then_some(moved)
}
