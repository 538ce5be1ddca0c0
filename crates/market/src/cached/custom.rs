//! Custom projections: `served:custom:NAME:KEY`, as `GET /api/v1/market/projections/{name}/{key}` answers.
//!
//! What changed is looked for in the records by when it was written, from a little before the last look on, for who wrote may
//! have another clock: where nobody writes nothing is read. What would end soon is read again, some at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use kernel::{Clock, Error, Result, Scope, TenantId};
use store::{IndexValue, Query, Records, Repository, Selection, Topic};

use super::{Batch, Due, MOST_DUE, Served, State, Written};
use crate::algorithms::projections::Projection;
use crate::custom::Kept;
use crate::http::projections::ValueResponse;
use crate::settings::Rules;
use crate::topology::RAW_TICKS;
use crate::views::MarketViews;

const PAGE: usize = 1_000;
const READS_AT_ONCE: usize = 16;
/// As far as clocks of processes may differ, and a commit may last: as long as a lease does.
const CLOCKS_DIFFER_MS: i64 = 15_000;

/// What projections keep of the tenants of a view.
#[derive(Debug)]
pub(crate) struct Customs {
    views: Arc<MarketViews>,
    rules: Arc<Rules>,
    kept: Repository<Kept>,
    clock: Arc<dyn Clock>,
    tenants: BTreeMap<TenantId, Known>,
}

/// What is known of a tenant.
#[derive(Debug, Default)]
struct Known {
    /// When it was looked for changes last, in milliseconds since 1970; none before the first look.
    looked_ms: Option<i64>,
    /// The look that goes on, page by page.
    paging: Option<Paging>,
    /// The number of the writer's look in which all changes were seen.
    seen_in: u64,
    /// By name in the cache, where it is in the records, and in which state.
    values: BTreeMap<String, (String, i64, String)>,
}

/// A look at what changed, half done.
#[derive(Debug)]
struct Paging {
    from_ms: i64,
    began_ms: i64,
    cursor: Option<String>,
}

impl Customs {
    pub(crate) fn new(
        views: Arc<MarketViews>,
        rules: Arc<Rules>,
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { views, rules, kept: Repository::new(records), clock, tenants: BTreeMap::new() }
    }

    /// Takes in a page of what was written since the last look; by name, what that was. Whether there is more is in
    /// [`Known::paging`].
    async fn changed(&mut self, scope: &Scope, look: u64) -> Result<BTreeMap<String, Kept>> {
        let now_ms = self.clock.now().as_millisecond();
        let known = self.tenants.entry(scope.tenant().clone()).or_default();
        if known.seen_in == look {
            return Ok(BTreeMap::new());
        }
        // Where this fails it begins again.
        let Paging { from_ms, began_ms, cursor } = known.paging.take().unwrap_or_else(|| Paging {
            from_ms: known.looked_ms.map_or(0, |looked_ms| looked_ms.saturating_sub(CLOCKS_DIFFER_MS)),
            began_ms: now_ms,
            cursor: None,
        });
        let (from, to) = (IndexValue::Integer(from_ms), IndexValue::Integer(i64::MAX));
        let range = Selection::Between("changed", from, to);
        let query = Query { cursor, ..Query::new(range, PAGE) };
        let (page, cursor) = self.kept.list(scope, &query).await?;
        let mut changed = BTreeMap::new();
        for kept in page.into_iter().map(|found| found.document) {
            let declared = self.rules.projections.named(&kept.projection);
            if declared.is_some_and(|(_, definition)| definition == kept.definition) {
                let name = format!("{}:{}", kept.projection, kept.key);
                known.values.insert(name.clone(), place(&kept));
                changed.insert(name, kept);
            }
        }
        if cursor.is_some() {
            known.paging = Some(Paging { from_ms, began_ms, cursor });
        } else {
            (known.looked_ms, known.seen_in) = (Some(began_ms), look);
        }
        Ok(changed)
    }

    /// What is kept at these places, by name.
    async fn read(&self, scope: &Scope, places: &[(String, String)]) -> Result<BTreeMap<String, Kept>> {
        let reads: Vec<_> = places.iter().map(|(_, place)| self.kept.get(scope, place)).collect();
        let found: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
        let names = places.iter().map(|(name, _)| name.clone());
        let found = names.zip(found).filter_map(|(name, found)| Some((name, found?.document)));
        Ok(found.collect())
    }

    /// The value and its declaration, where it still says something.
    fn living(&self, kept: Option<Kept>) -> Option<(Kept, &Projection)> {
        let kept = kept?;
        let (projection, definition) = self.rules.projections.named(&kept.projection)?;
        let lives = definition == kept.definition && kept.lives(projection, self.clock.now());
        lives.then_some((kept, projection))
    }

    /// A page of what changed of a tenant, and what of it does not stand, so many at most.
    async fn due_of(&mut self, tenant: &TenantId, written: &Written, most: usize) -> Result<Batch> {
        let scope = Scope::system(tenant.clone(), "market");
        let mut found = self.changed(&scope, written.look).await?;
        let Some(known) = self.tenants.get(tenant) else { return Ok(Batch::default()) };
        let lacking =
            known.values.iter().filter(|(name, (_, at, id))| !written.stands(tenant, name, *at, id));
        let lacking: Vec<(String, String)> =
            lacking.take(most).map(|(name, (place, _, _))| (name.clone(), place.clone())).collect();
        let is_more = known.paging.is_some() || lacking.len() == most;
        let unread: Vec<(String, String)> =
            lacking.iter().filter(|(name, _)| !found.contains_key(name)).cloned().collect();
        found.extend(self.read(&scope, &unread).await?);
        let (mut due, mut states) = (Vec::new(), Vec::new());
        for (name, _) in lacking {
            let Some((kept, projection)) = self.living(found.remove(&name)) else {
                states.push((name, None));
                continue;
            };
            states.push((name.clone(), Some(place(&kept))));
            let left_us = kept.ends_us(projection).map(|end_us| end_us - self.clock.now().as_microsecond());
            let lives_at_most = left_us.map(|left_us| Duration::from_micros(left_us.max(0).unsigned_abs()));
            let state = State { at: kept.occurred_us, id: kept.id.clone() };
            let value = serde_json::to_vec(&ValueResponse::of(tenant, kept)).map_err(Error::internal)?;
            due.push(Due { tenant: tenant.clone(), name, state, value, lives_at_most });
        }
        if let Some(known) = self.tenants.get_mut(tenant) {
            for (name, state) in states {
                match state {
                    Some(state) => known.values.insert(name, state),
                    None => known.values.remove(&name),
                };
            }
        }
        Ok(Batch { due, is_more })
    }
}

/// Where a value is in the records, and its state.
fn place(kept: &Kept) -> (String, i64, String) {
    (store::Document::key(kept), kept.occurred_us, kept.id.clone())
}

#[async_trait]
impl Served for Customs {
    fn kind(&self) -> &'static str {
        "custom"
    }

    fn topic(&self) -> Topic {
        RAW_TICKS
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn due(&mut self, written: &Written) -> Result<Batch> {
        let mut all = Batch::default();
        for tenant in self.views.tenants() {
            let room = MOST_DUE.saturating_sub(all.due.len());
            if room == 0 {
                all.is_more = true;
                break;
            }
            let Batch { due, is_more } = self.due_of(&tenant, written, room).await?;
            all.due.extend(due);
            all.is_more |= is_more;
        }
        Ok(all)
    }
}
