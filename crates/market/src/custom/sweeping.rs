//! Taking away what nobody can be told any more: in the background what is past its time, some at a time, and by a rebuild what
//! is kept for declarations of before, of all tenants.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Result, Scope, TenantId, codes};
use store::{Expect, IndexValue, Query, Records, Repository, Selection, Tenants, Versioned};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Kept;
use super::keeping::{Count, KEYS_AT_ONCE, TENANTS, remove};
use crate::settings::Rules;

/// Between two sweeps.
const PAUSE: Duration = Duration::from_secs(60);
/// Pages of one tenant that a sweep looks at.
const PAGES: usize = 20;

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
            let was_failing = std::mem::replace(&mut is_failing, done.is_err());
            match done {
                Err(error) if !was_failing => {
                    warn!(error = %error.chain(), "values of projections past their time stay for now");
                }
                Ok(_) if was_failing => info!("values of projections past their time go again"),
                _ => {}
            }
        }
    }

    async fn scopes(&self) -> Result<Vec<Scope>> {
        let tenants = Tenants::new(Arc::clone(&self.records), TENANTS).all().await?;
        Ok(tenants.into_iter().map(|tenant: TenantId| Scope::system(tenant, "market")).collect())
    }

    /// Takes away what is past its time, some of each tenant; how many.
    pub(crate) async fn sweep(&self) -> Result<u64> {
        let mut swept = 0;
        for scope in self.scopes().await? {
            for _ in 0..PAGES {
                let (count, is_all) = self.sweep_page(&scope).await?;
                swept += count;
                if is_all {
                    break;
                }
            }
        }
        Ok(swept)
    }

    async fn sweep_page(&self, scope: &Scope) -> Result<(u64, bool)> {
        let now = self.clock.now();
        let to = IndexValue::Integer(now.as_millisecond());
        let range = Selection::Between("ends", IndexValue::Integer(i64::MIN), to);
        let (found, cursor) = self.kept.list(scope, &Query::new(range, KEYS_AT_ONCE)).await?;
        let (mut over, mut others) = (Vec::new(), Vec::new());
        for found in found {
            match self.rules.projections.named(&found.document.projection) {
                Some((declared, definition))
                    if definition == found.document.definition && found.document.lives(declared, now) =>
                {
                    others.push(Versioned { document: found.document.ending(declared), ..found });
                }
                _ => over.push(found),
            }
        }
        // Made when the projection was to say something for less long, or past its time in less than a millisecond.
        let now_ms = now.as_millisecond();
        let moved = others.iter().filter(|kept| kept.document.ends_ms.is_none_or(|ends_ms| ends_ms > now_ms));
        let moved = moved.map(|kept| Repository::write(&kept.document, Expect::Version(kept.version)));
        let moved = moved.collect::<Result<Vec<_>>>()?;
        let is_all = cursor.is_none() || (over.is_empty() && moved.is_empty());
        if !moved.is_empty() {
            match self.records.commit(scope, moved).await {
                Err(error) if error.code() != codes::CONFLICT => return Err(error),
                _ => {}
            }
        }
        Ok((remove(&self.records, scope, &over).await?, is_all))
    }

    /// Takes away all that is kept for other declarations, and all that is past its time; how many of each.
    pub(super) async fn remove_former(&self) -> Result<(u64, u64)> {
        let (mut removed, mut ended) = (0, 0);
        for scope in self.scopes().await? {
            let mut query = Query::new(Selection::All, KEYS_AT_ONCE);
            loop {
                let (page, cursor) = self.kept.list(&scope, &query).await?;
                let (mut former, mut over) = (Vec::new(), Vec::new());
                for found in page {
                    match self.rules.projections.named(&found.document.projection) {
                        Some((declared, definition)) if definition == found.document.definition => {
                            if !found.document.lives(declared, self.clock.now()) {
                                over.push(found);
                            }
                        }
                        _ => former.push(found),
                    }
                }
                removed += remove(&self.records, &scope, &former).await?;
                ended += remove(&self.records, &scope, &over).await?;
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
