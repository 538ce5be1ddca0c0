//! Restore: a backup goes into engines that have nothing yet.
//!
//! A mark in the records says that a restore is under way. It is put first and removed last: servers refuse such
//! data, and the same restore, begun again, goes on where it was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use kernel::{Error, Result, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::{
    Blobs, Document, EventLog, Expect, PutMode, Records, Repository, SavedRecord, Stored, Table, Topic,
};

use crate::plan::Ends;
use crate::verify::{events, records};
use crate::{Plan, Rules, Segment, Step, Tell, Vault, aside, latest, scope_of, system_scope};

const UNDER_WAY: &str = "under-way";
const RECORDS_AT_ONCE: usize = 1_000;
const EVENTS_AT_ONCE: usize = 5_000;
/// Segments that are read and checked while another is written.
const SEGMENTS_AHEAD: usize = 2;

/// Where a backup goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The documents.
    pub records: Arc<dyn Records>,
    /// The events.
    pub log: Arc<dyn EventLog>,
    /// The objects.
    pub blobs: Arc<dyn Blobs>,
}

/// What was brought back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Events, without those that an earlier, killed attempt wrote.
    pub events: u64,
    /// Records.
    pub records: u64,
    /// Objects.
    pub objects: u64,
    /// The time of the newest event.
    pub newest_event: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
struct UnderWay {
    plan: String,
}

impl Document for UnderWay {
    const TABLE: Table = Table { name: "restores", indexes: &[] };

    fn key(&self) -> String {
        UNDER_WAY.to_owned()
    }
}

async fn under_way(records: &Arc<dyn Records>) -> Result<Option<String>> {
    let marks = Repository::<UnderWay>::new(Arc::clone(records));
    let found = marks.get(&system_scope(), UNDER_WAY).await?;
    Ok(found.map(|found| found.document.plan))
}

/// Refuses records that a restore did not finish.
///
/// # Errors
/// `CONFLICT`; those of the engine.
pub async fn refuse_unfinished(records: &Arc<dyn Records>) -> Result<()> {
    match under_way(records).await? {
        None => Ok(()),
        Some(_) => {
            let message = "a restore into this store was cut off; run the same `watershed restore` again";
            Err(Error::new(codes::CONFLICT, message))
        }
    }
}

impl Target {
    /// Whether there is nothing, or only what the same restore left when it was killed.
    ///
    /// # Errors
    /// `CONFLICT` naming what is there and what to do; those of the engines.
    pub async fn check(&self, rules: &Rules, plan: &Plan) -> Result<()> {
        let elsewhere = "restore into an empty data folder (--data-dir) or schema (storage.postgres.schema)";
        let refused = |what: String| Error::new(codes::CONFLICT, format!("{what}; {elsewhere}"));
        match under_way(&self.records).await? {
            Some(found) if found == plan.name() => return Ok(()),
            Some(_) => return Err(refused("another restore into this store was cut off".to_owned())),
            None => {}
        }
        for topic in &rules.topics {
            if self.log.extents(topic).await?.iter().any(|extent| extent.next > 0) {
                return Err(refused(format!("there are events in topic `{topic}`")));
            }
        }
        let first = self.records.snapshot(&[]).try_next().await?;
        match first.iter().flatten().next() {
            None => Ok(()),
            Some(record) => Err(refused(format!("there are records in table `{}`", record.table))),
        }
    }
}

/// Brings a plan back. Verify it first ([`crate::verify_plan`]).
///
/// # Errors
/// Those of [`Target::check`], with nothing written; `CORRUPTED` naming a damaged part; those of the engines.
pub async fn restore(
    target: &Target,
    rules: &Rules,
    vault: &Vault,
    plan: &Plan,
    tell: Tell<'_>,
) -> Result<Restored> {
    target.check(rules, plan).await?;
    let ends = plan.ends(vault).await?;
    let marks = Repository::<UnderWay>::new(Arc::clone(&target.records));
    let system = system_scope();
    marks.put(&system, &UnderWay { plan: plan.name() }, Expect::Any).await?;
    let run = Run { target, rules, vault, plan, ends, tell };
    let mut restored = Restored { objects: run.objects().await?, ..Restored::default() };
    run.events(&mut restored).await?;
    restored.records = run.records().await? + run.latest().await?;
    marks.delete(&system, UNDER_WAY, Expect::Any).await?;
    Ok(restored)
}

/// Says again that a restore is under way: what opened the store after it could not, and servers must not take it for
/// whole. The same restore, begun again, goes on.
///
/// # Errors
/// Those of the engine.
pub async fn unfinish(target: &Target, plan: &Plan) -> Result<()> {
    let marks = Repository::<UnderWay>::new(Arc::clone(&target.records));
    marks.put(&system_scope(), &UnderWay { plan: plan.name() }, Expect::Any).await.map(drop)
}

struct Run<'a> {
    target: &'a Target,
    rules: &'a Rules,
    vault: &'a Vault,
    plan: &'a Plan,
    ends: Ends,
    tell: Tell<'a>,
}

impl Run<'_> {
    async fn objects(&self) -> Result<u64> {
        let objects = &self.plan.state().objects;
        let mut tenants: BTreeSet<TenantId> = objects.iter().map(|object| object.tenant.clone()).collect();
        tenants.insert(TenantId::server());
        // Objects may outlive a database. What is a fold of another log must not be taken for one of this log.
        for tenant in &tenants {
            let scope = scope_of(tenant);
            for folder in &self.rules.folders_left_out {
                for blob in self.target.blobs.list(&scope, folder).await? {
                    self.target.blobs.delete(&scope, &blob.path).await?;
                }
            }
        }
        for (done, object) in (1..).zip(objects) {
            let body = self.vault.get(&object.part).await?;
            let scope = scope_of(&object.tenant);
            self.target.blobs.put(&scope, &object.path, body.into(), PutMode::Replace).await?;
            (self.tell)(Step { what: "objects", done, total: objects.len() as u64 });
        }
        for view in self.plan.views() {
            let body = self.vault.get(&view.part).await?;
            self.target.blobs.put(&system_scope(), &view.path, body.into(), PutMode::Replace).await?;
        }
        Ok(objects.len() as u64)
    }

    async fn events(&self, restored: &mut Restored) -> Result<()> {
        let log = self.plan.log();
        let total = log.events();
        for topic in &log.topics {
            let name = Topic::new(&topic.topic)?;
            let partitions = u32::try_from(topic.partitions.len()).map_err(Error::internal)?;
            let held = self.target.log.extents(&name).await?;
            let held: BTreeMap<u32, u64> =
                held.iter().map(|extent| (extent.partition, extent.next)).collect();
            for (partition, part) in (0_u32..).zip(&topic.partitions) {
                let next = held.get(&partition).copied().unwrap_or(0);
                let end = self.ends.get(&(topic.topic.clone(), partition)).copied().unwrap_or(part.next);
                let left = part.segments.iter().filter(|segment| segment.next > next && segment.first < end);
                let load = |segment: &Segment| self.load(segment.clone(), next..end);
                let loads: Vec<_> = left.map(load).collect();
                let mut loaded = stream::iter(loads).buffered(SEGMENTS_AHEAD);
                while let Some(mut events) = loaded.try_next().await? {
                    if let Some(last) = events.last() {
                        restored.newest_event = restored.newest_event.max(Some(last.event.time));
                    }
                    restored.events += events.len() as u64;
                    while !events.is_empty() {
                        let rest = events.split_off(events.len().min(EVENTS_AT_ONCE));
                        self.target.log.restore(&name, partitions, partition, events).await?;
                        events = rest;
                    }
                    (self.tell)(Step { what: "events", done: restored.events, total });
                }
            }
        }
        Ok(())
    }

    /// The events of a segment whose places are `wanted`.
    async fn load(&self, segment: Segment, wanted: Range<u64>) -> Result<Vec<Stored>> {
        let raw = self.vault.get(&segment.part).await?;
        let (first, end) = (segment.first, segment.next);
        let mut events = aside(move || events(first, end, &raw)).await?;
        events.retain(|stored| wanted.contains(&stored.offset));
        Ok(events)
    }

    /// The tables that are kept once, as the newest backup has them.
    async fn latest(&self) -> Result<u64> {
        let put = async |records: Vec<SavedRecord>| {
            for some in records.chunks(RECORDS_AT_ONCE) {
                self.target.records.restore(some.to_vec()).await?;
            }
            Ok(())
        };
        latest::restore(self.vault, self.plan.state().kept_once, put).await
    }

    async fn records(&self) -> Result<u64> {
        let state = self.plan.state();
        let total = state.record_count();
        let mut done = 0;
        for part in &state.records {
            let raw = self.vault.get(&part.part).await?;
            let (tenant, table, count) = (part.tenant.to_string(), part.table.clone(), part.count);
            let found: Vec<SavedRecord> = aside(move || records(&tenant, &table, count, &raw)).await?;
            for some in found.chunks(RECORDS_AT_ONCE) {
                self.target.records.restore(some.to_vec()).await?;
            }
            done += count;
            (self.tell)(Step { what: "records", done, total });
        }
        Ok(done)
    }
}
