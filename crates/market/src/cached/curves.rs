//! Snapshots of curves: `served:curve_snapshot:CURVE:HORIZON`, twelve points up to each of the guide's horizons, of the newest
//! quotes, as `GET /api/v1/market/curves/{name}?horizon=` answers.
//!
//! Which curves there are, and which were quoted anew, the topic of their quotes says; what they are is read from the rows,
//! which every answer is made of. An event is on the topic a moment before it is a row, so that the row is looked for
//! again, for [`PATIENCE`]; what is no row by then counts for nothing, until something makes it one.
//!
//! Quotes that make no curve are warned of once. Their curve is not written again until it is quoted anew: what stands of it in
//! the cache stays as it was and ends within `market.cache.ttl_seconds`. All others go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Error, Result, Scope, TenantId, Timestamp};
use serde::Serialize;
use store::{ColumnRow, Columns, EventLog, MAX_TIME_NS, ReadLimit, Stored, Topic};
use tracing::warn;

use super::turns::Turns;
use super::{Batch, Due, MOST_DUE, Served, State, Written};
use crate::events::{LatestMetadata, kinds};
use crate::http::curves::{CurveResponse, snapshot};
use crate::service::curves::{CURVE_QUOTES, KeptQuotes, UPDATES, kept, row_of};

/// The guide's horizons.
const HORIZONS: [&str; 4] = ["1m", "3m", "6m", "1y"];
const PATIENCE: Duration = Duration::from_secs(10);
/// Curves that are read and made before they are written.
const CURVES_AT_ONCE: usize = 100;

/// The curves that the topic tells of.
#[derive(Debug)]
pub(crate) struct Curves {
    log: Arc<dyn EventLog>,
    columns: Arc<dyn Columns>,
    next: BTreeMap<u32, u64>,
    known: BTreeMap<TenantId, BTreeMap<String, Newest>>,
    turns: Turns,
}

/// The newest quotes of a curve, as far as is known.
#[derive(Debug)]
struct Newest {
    time_ns: i64,
    revision: u32,
    told: Timestamp,
    /// Until when its row is looked for.
    until: Duration,
    /// The time and the revision of quotes that make no curve.
    refused: Option<(i64, u32)>,
}

impl Newest {
    fn place(&self) -> (i64, u32) {
        (self.time_ns, self.revision)
    }

    /// Notes that these quotes make no curve.
    fn refuse(&mut self, tenant: &TenantId, curve: &str, place: (i64, u32), error: &Error) {
        if self.refused.replace(place) != Some(place) {
            let (tenant, error) = (tenant.as_str(), error.chain());
            warn!(
                tenant,
                curve,
                revision = place.1,
                error,
                "a curve is not served from the cache until it is quoted anew"
            );
        }
    }
}

impl Curves {
    pub(crate) fn new(log: Arc<dyn EventLog>, columns: Arc<dyn Columns>) -> Self {
        let (next, known, turns) = (BTreeMap::new(), BTreeMap::new(), Turns::default());
        Self { log, columns, next, known, turns }
    }

    /// Takes in what came to the topic.
    async fn follow(&mut self, now: Duration) -> Result<()> {
        for extent in self.log.extents(&UPDATES).await? {
            let mut next = self.next.get(&extent.partition).copied().unwrap_or(0).max(extent.first);
            while next < extent.next {
                let batch = self.log.read(&UPDATES, extent.partition, next, ReadLimit::default()).await?;
                let Some(last) = batch.last() else { break };
                next = last.offset + 1;
                batch.iter().for_each(|stored| self.take(stored, now));
                self.next.insert(extent.partition, next);
            }
        }
        Ok(())
    }

    fn take(&mut self, stored: &Stored, now: Duration) {
        let event = &stored.event;
        // At brokers others may write to the topic, and what is no set of quotes is none here either.
        let quotes = (event.kind == kinds::CURVE_QUOTES).then(|| event.data_as().ok()).flatten();
        let Some(row) = quotes.and_then(|quotes| row_of(quotes, stored.offset).ok()).flatten() else {
            return;
        };
        let (time_ns, revision, until) = (row.time_ns, row.revision, now + PATIENCE);
        let found = Newest { time_ns, revision, told: event.time, until, refused: None };
        let curves = self.known.entry(event.tenant.clone()).or_default();
        if curves.get(&row.series).is_none_or(|known| known.place() < found.place()) {
            curves.insert(row.series, found);
        }
    }

    /// The curves of a tenant that do not stand as they should, from the one on whose turn it is.
    fn names(&self, tenant: &TenantId, written: &Written) -> Vec<String> {
        let is_due = |(name, newest): &(&String, &Newest)| {
            let id = newest.revision.to_string();
            let stands = |horizon| written.stands(tenant, &named(name, horizon), newest.time_ns, &id);
            newest.refused != Some(newest.place()) && !HORIZONS.into_iter().all(stands)
        };
        let curves = self.known.get(tenant).into_iter().flatten();
        let mut names: Vec<String> = curves.filter(is_due).map(|(name, _)| name.clone()).collect();
        if let Some(last) = self.turns.after(tenant) {
            let first = names.partition_point(|name| name.as_str() <= last);
            names.rotate_left(first);
        }
        names
    }

    /// What does not stand of these curves of a tenant.
    async fn made(&mut self, tenant: &TenantId, names: &[String], written: &Written) -> Result<Vec<Due>> {
        let scope = Scope::system(tenant.clone(), "market");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rows = self.columns.latest(&scope, CURVE_QUOTES, &names, MAX_TIME_NS).await?;
        let mut found: BTreeMap<&str, &ColumnRow> =
            rows.iter().map(|row| (row.series.as_str(), row)).collect();
        let mut due = Vec::new();
        let Some(curves) = self.known.get_mut(tenant) else { return Ok(due) };
        for name in names {
            let Some(newest) = curves.get_mut(name) else { continue };
            let is_over = written.now >= newest.until;
            let Some(row) = found.remove(name) else {
                if is_over {
                    curves.remove(name);
                }
                continue;
            };
            let place = (row.time_ns, row.revision);
            if is_over {
                (newest.time_ns, newest.revision) = place;
            }
            let made = match kept(row) {
                Ok(kept) => values(tenant, kept, place, newest.told, written).await,
                Err(error) => Err(error),
            };
            match made {
                Ok(made) => due.extend(made),
                Err(error) => newest.refuse(tenant, name, place, &error),
            }
        }
        Ok(due)
    }
}

#[async_trait]
impl Served for Curves {
    fn kind(&self) -> &'static str {
        "curve_snapshot"
    }

    fn topic(&self) -> Topic {
        UPDATES
    }

    fn pause(&self) -> Duration {
        // Each is a question to brokers where the topic is theirs.
        Duration::from_secs(1)
    }

    async fn due(&mut self, written: &Written) -> Result<Batch> {
        self.follow(written.now).await?;
        let mut due = Vec::new();
        let tenants = self.turns.of(self.known.keys().cloned().collect());
        for (at, tenant) in tenants.iter().enumerate() {
            let names = self.names(tenant, written);
            for names in names.chunks(CURVES_AT_ONCE) {
                due.extend(self.made(tenant, names, written).await?);
                if due.len() >= MOST_DUE
                    && let Some(last) = names.last()
                {
                    self.turns.stop_behind(last.clone(), &tenants, at);
                    return Ok(Batch { due, is_more: true });
                }
            }
            self.turns.finish(tenant);
        }
        Ok(Batch { due, is_more: false })
    }
}

fn named(curve: &str, horizon: &str) -> String {
    format!("{curve}:{horizon}")
}

/// What does not stand of a curve.
async fn values(
    tenant: &TenantId,
    kept: KeptQuotes,
    (at, revision): (i64, u32),
    told: Timestamp,
    written: &Written,
) -> Result<Vec<Due>> {
    let id = revision.to_string();
    let stands = |horizon: &&str| written.stands(tenant, &named(&kept.set.curve, horizon), at, &id);
    let horizons: Vec<&'static str> = HORIZONS.into_iter().filter(|horizon| !stands(horizon)).collect();
    if horizons.is_empty() {
        return Ok(Vec::new());
    }
    let tenant = tenant.clone();
    // Many long terms take a while.
    let made = tokio::task::spawn_blocking(move || {
        let due = |horizon: &'static str| {
            Ok(Due {
                tenant: tenant.clone(),
                name: named(&kept.set.curve, horizon),
                state: State { at, id: id.clone() },
                value: value(&tenant, &kept, horizon, told)?,
                lives_at_most: None,
            })
        };
        horizons.into_iter().map(due).collect()
    });
    made.await.map_err(Error::internal)?
}

/// A snapshot in the guide's form.
fn value(tenant: &TenantId, kept: &KeptQuotes, horizon: &'static str, told: Timestamp) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Snapshot<'a> {
        projection_type: &'static str,
        instrument_id: &'a str,
        data: Data,
        last_updated: Timestamp,
        tenant_id: &'a str,
        metadata: LatestMetadata<'a>,
    }
    #[derive(Serialize)]
    struct Data {
        horizon: &'static str,
        #[serde(flatten)]
        curve: CurveResponse,
    }
    let id = format!("{}/{}/{}", kept.set.curve, kept.set.as_of, kept.revision);
    let told = Snapshot {
        projection_type: "curve_snapshot",
        instrument_id: &kept.set.curve,
        data: Data { horizon, curve: snapshot(kept.clone(), horizon)? },
        last_updated: told,
        tenant_id: tenant.as_str(),
        metadata: LatestMetadata { projection_id: &id, source_event_id: None },
    };
    serde_json::to_vec(&told).map_err(Error::internal)
}
