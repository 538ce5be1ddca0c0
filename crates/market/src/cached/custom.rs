//! Custom projections: `served:custom:NAME:KEY`, as `GET /api/v1/market/projections/{name}/{key}` answers.
//!
//! What changed is looked for in the records by when it was written, from a little before the last look on, for who wrote may
//! have another clock: where nobody writes nothing is read. Every ten minutes all of it is looked for, so that what came by a
//! clock that was further behind, or by a commit that lasted longer, is found too. What would end soon is read again, some
//! at a time, and comes before what was not there before.

mod known;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Error, Result, Scope, TenantId};
use store::{IndexValue, Query, Records, Repository, Selection, Topic};

use super::turns::Turns;
use super::{Batch, Due, MOST_DUE, Served, State, Written};
use crate::algorithms::projections::Projection;
use crate::custom::Kept;
use crate::http::projections::ValueResponse;
use crate::settings::Rules;
use crate::topology::RAW_TICKS;
use crate::views::MarketViews;

use known::Values;

const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks for all that was ever written.
const WHOLE: Duration = Duration::from_secs(600);
/// Half of what is written at once, so that there is room for what would end soon.
const PAGE: usize = MOST_DUE / 2;
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
    turns: Turns,
}

/// What is known of a tenant.
#[derive(Debug, Default)]
struct Known {
    /// The writer's term for which it is known.
    term: u64,
    /// When it was looked for changes last, in milliseconds since 1970; none before the first look.
    looked_ms: Option<i64>,
    /// When the last look for everything began.
    whole: Option<Duration>,
    /// The look that goes on, page by page.
    paging: Option<Paging>,
    /// The number of the writer's look in which all changes were seen, and when.
    seen: Option<(u64, Duration)>,
    values: Values,
}

/// A look at what changed, half done.
#[derive(Debug)]
struct Paging {
    from_ms: i64,
    began_ms: i64,
    began: Duration,
    cursor: Option<String>,
}

impl Known {
    /// Whether nobody needs to look for changes. A look of the writer may be long.
    fn has_seen_all(&self, written: &Written) -> bool {
        let is_new = |(look, at): (u64, Duration)| look == written.look && written.now < at + PAUSE;
        self.paging.is_none() && self.seen.is_some_and(is_new)
    }

    /// From when on changes are looked for.
    fn looks_from_ms(&self, now: Duration) -> i64 {
        match (self.whole, self.looked_ms) {
            (Some(whole), Some(looked_ms)) if now < whole + WHOLE => {
                looked_ms.saturating_sub(CLOCKS_DIFFER_MS)
            }
            _ => 0,
        }
    }
}

impl Customs {
    pub(crate) fn new(
        views: Arc<MarketViews>,
        rules: Arc<Rules>,
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (kept, tenants) = (Repository::new(records), BTreeMap::new());
        Self { views, rules, kept, clock, tenants, turns: Turns::default() }
    }

    /// Takes in a page of what was written since the last look; by name, what that was. Whether there is more is in
    /// [`Known::paging`].
    async fn changed(&mut self, scope: &Scope, written: &Written) -> Result<BTreeMap<String, Kept>> {
        let now = self.clock.now();
        let known = self.tenants.entry(scope.tenant().clone()).or_default();
        if known.has_seen_all(written) {
            return Ok(BTreeMap::new());
        }
        let (from_ms, began_ms) = (known.looks_from_ms(written.now), now.as_millisecond());
        let new = Paging { from_ms, began_ms, began: written.now, cursor: None };
        // Where this fails it begins again.
        let Paging { from_ms, began_ms, began, cursor } = known.paging.take().unwrap_or(new);
        let (from, to) = (IndexValue::Integer(from_ms), IndexValue::Integer(i64::MAX));
        let range = Selection::Between("changed", from, to);
        let query = Query { cursor, ..Query::new(range, PAGE) };
        let (page, cursor) = self.kept.list(scope, &query).await?;
        let mut changed = BTreeMap::new();
        for kept in page.into_iter().map(|found| found.document) {
            if kept.declared(&self.rules).is_some_and(|projection| kept.lives(projection, now)) {
                let name = format!("{}:{}", kept.projection, kept.key);
                known.values.put(&name, store::Document::key(&kept), state(&kept), written.now);
                changed.insert(name, kept);
            }
        }
        if cursor.is_some() {
            known.paging = Some(Paging { from_ms, began_ms, began, cursor });
            return Ok(changed);
        }
        (known.looked_ms, known.seen) = (Some(began_ms), Some((written.look, written.now)));
        if from_ms == 0 {
            known.whole = Some(began);
        }
        Ok(changed)
    }

    /// What is kept at these places, by name.
    async fn read(&self, scope: &Scope, places: &[(String, String)]) -> Result<BTreeMap<String, Kept>> {
        let found = self.kept.get_many(scope, places.iter().map(|(_, place)| place.as_str())).await?;
        let names = places.iter().map(|(name, _)| name.clone());
        let found = names.zip(found).filter_map(|(name, found)| Some((name, found?.document)));
        Ok(found.collect())
    }

    /// The value and its declaration, where it still says something.
    fn living(&self, kept: Option<Kept>) -> Option<(Kept, &Projection)> {
        let kept = kept?;
        let projection = kept.declared(&self.rules)?;
        kept.lives(projection, self.clock.now()).then_some((kept, projection))
    }

    /// A page of what changed of a tenant, and what of it has to be written by now, so many at most.
    async fn due_of(&mut self, tenant: &TenantId, written: &Written, most: usize) -> Result<Batch> {
        let scope = Scope::system(tenant.clone(), "market");
        let known = self.tenants.entry(tenant.clone()).or_default();
        if known.term != written.term {
            *known = Known { term: written.term, ..Known::default() };
        }
        known.values.settle(tenant, written);
        // Nothing ends because others are new: those are looked for where there is room for all of them.
        let is_full = known.values.are_due(written.now, most.saturating_sub(PAGE) + 1);
        let mut found = if is_full { BTreeMap::new() } else { self.changed(&scope, written).await? };
        let Some(known) = self.tenants.get_mut(tenant) else { return Ok(Batch::default()) };
        let taken = known.values.take(written.now, most);
        let is_more = is_full || known.paging.is_some() || taken.len() == most;
        let unread: Vec<(String, String)> =
            taken.iter().filter(|(name, _)| !found.contains_key(name)).cloned().collect();
        found.extend(self.read(&scope, &unread).await?);
        let (mut due, mut states) = (Vec::new(), Vec::new());
        for (name, _) in taken {
            let Some((kept, projection)) = self.living(found.remove(&name)) else {
                states.push((name, None));
                continue;
            };
            states.push((name.clone(), Some(state(&kept))));
            let left_us = kept.ends_us(projection).map(|end_us| end_us - self.clock.now().as_microsecond());
            let lives_at_most = left_us.map(|left_us| Duration::from_micros(left_us.max(0).unsigned_abs()));
            let state = state(&kept);
            let value = serde_json::to_vec(&ValueResponse::of(tenant, kept)).map_err(Error::internal)?;
            due.push(Due { tenant: tenant.clone(), name, state, value, lives_at_most });
        }
        if let Some(known) = self.tenants.get_mut(tenant) {
            states.into_iter().for_each(|(name, state)| known.values.found(&name, state));
        }
        Ok(Batch { due, is_more })
    }
}

fn state(kept: &Kept) -> State {
    State { at: kept.occurred_us, id: kept.id.clone() }
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
        PAUSE
    }

    async fn due(&mut self, written: &Written) -> Result<Batch> {
        let mut all = Batch::default();
        let tenants = self.turns.of(self.views.tenants());
        for (at, tenant) in tenants.iter().enumerate() {
            let room = MOST_DUE.saturating_sub(all.due.len());
            if room < PAGE {
                self.turns.stop(&tenants, at);
                all.is_more = true;
                break;
            }
            match self.due_of(tenant, written, room).await {
                Ok(Batch { due, is_more }) => {
                    all.due.extend(due);
                    all.is_more |= is_more;
                }
                // Who cannot be read is first in the next batch, fails it, and is the last of the one behind.
                Err(error) => {
                    self.turns.stop(&tenants, at);
                    if all.due.is_empty() {
                        return Err(error);
                    }
                    all.is_more = true;
                    break;
                }
            }
        }
        Ok(all)
    }
}
