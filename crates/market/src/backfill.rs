//! Backfill: what the stages would make of the raw ticks of one tenant by the rules of now, beside what was made of them.
//!
//! 1. A plan says up to where the topics go at the start. It is kept, so that a backfill that was stopped goes on.
//! 2. [`replay`] runs the stages that run live, the same code, over the raw topic into a scratch place: from the first
//!    tick on, because what came before decides what is a duplicate and what is late. What the clock said to the bars
//!    ([`marks`]) is said again where it was said.
//! 3. [`difference`] compares the rows of the time range. What differs gets the next revision, what is missing is added, and
//!    what the rules of now no longer make is withdrawn by a revision without values. Nothing is written over.
//!
//! Live goes on meanwhile: its state is not touched, nor its topics but by what it committed to them itself. So that the two
//! never write one revision, rows are compared once live has taken what there was at the start and delivered what it made
//! of it, and bars that live can still change are left to it, and told as such. A lease keeps a second backfill of the
//! tenant away.
//!
//! It refuses a range whose ticks the log no longer holds, or whose log was cut where nobody noted when ticks came. Over
//! brokers a CloudEvent came when it is read, which a replay cannot know again; and where ticks of one instrument came
//! through several partitions, those of one microsecond may stand in another order than live took them in.
//!
//! To add a table: see [`crate::projection`]; its rows are compared like the others.

mod difference;
mod marks;
mod replay;
mod routes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, Result, Scope, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::{
    Columns, Document, EventLog, Expect, Extent, Leases, ReadLimit, Records, Repository, Table, TimeRange,
};
use stream::{HISTORY_GONE, REPLAY_OF, Task, Topology, Totals};

use crate::Topics;
use crate::owner::when_written;
use crate::projection::{ProjectionSink, apply_corrections};
use crate::settings::Rules;
use crate::topology::{self, ENRICHED_TICKS, RAW_TICKS};

pub use difference::{Change, Found, What};
pub use replay::Progress;

/// How long the lease of a backfill lasts that does not renew it.
const LEASE: Duration = Duration::from_secs(60);
/// How often, and after which pause, live is asked again whether it has taken what there is.
const LOOKS: u32 = 40;
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Where live is.
#[derive(Debug, Clone)]
pub struct Live {
    /// Its topics.
    pub topics: Topics,
    /// The state of its stages.
    pub records: Arc<dyn Records>,
    /// Its rows.
    pub columns: Arc<dyn Columns>,
    /// In its records, for a holder of its own name.
    pub leases: Leases,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Where a backfill works: of its own, kept until it is done. Topics in it have one partition.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// What stages hand to each other.
    pub log: Arc<dyn EventLog>,
    /// The plan, and the state of the stages.
    pub records: Arc<dyn Records>,
    /// The rows that it makes.
    pub columns: Arc<dyn Columns>,
}

/// What is made again.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose.
    pub tenant: TenantId,
    /// Prices that happened, and bars that begin, at this time or later.
    pub from: Timestamp,
    /// And before this.
    pub to: Timestamp,
    /// Of this instrument only.
    pub instrument: Option<String>,
    /// Whether nothing is written.
    pub is_dry_run: bool,
    /// Names the settings, so that a backfill does not go on by others.
    pub settings: String,
}

/// What became of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// By stage, what it made of what it took.
    pub stages: BTreeMap<String, StageCounts>,
    /// By table, what was found.
    pub tables: BTreeMap<&'static str, Found>,
    /// Some of the rows that differ, the first of each table.
    pub changes: Vec<Change>,
}

/// What a stage did: `taken` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is the field of `Totals`")]
pub struct StageCounts {
    pub taken: u64,
    pub passed: u64,
    pub duplicates: u64,
    pub dead_lettered: u64,
    pub filtered: u64,
}

impl StageCounts {
    fn add(&mut self, totals: &Totals) {
        self.taken += totals.taken;
        self.passed += totals.passed;
        self.duplicates += totals.duplicates;
        self.dead_lettered += totals.dead_lettered;
        self.filtered += totals.filtered;
    }
}

/// Up to where the topics went when the backfill began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    wanted: String,
    /// By partition, the first raw tick that is not taken.
    until: BTreeMap<u32, u64>,
    /// By partition, the first enriched tick of live that is not looked at.
    told: BTreeMap<u32, u64>,
    planned_at: Timestamp,
}

impl Document for Plan {
    const TABLE: Table = Table { name: "backfill_plans", indexes: &[] };

    fn key(&self) -> String {
        "plan".to_owned()
    }
}

/// Makes again what `wanted` says, and goes on where an earlier call was stopped.
///
/// # Errors
/// `VALIDATION_ERROR` for a range that is none; `CONFLICT` where `scratch` is of another backfill, another one of the tenant
/// runs, live lags or wrote one of its revisions; `HISTORY_GONE` where ticks of the range were cut; those of the engines.
pub async fn backfill(
    live: &Live,
    scratch: &Scratch,
    rules: &Arc<Rules>,
    wanted: &Wanted,
    progress: &Progress,
) -> Result<Report> {
    let (scope, name) = (system(), format!("backfill/{}", wanted.tenant));
    take_lease(live, &scope, &name).await?;
    let renewed = async {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            if let Err(error) = take_lease(live, &scope, &name).await {
                return error;
            }
        }
    };
    let made = tokio::select! {
        made = make(live, scratch, rules, wanted, progress) => made,
        error = renewed => return Err(error),
    };
    live.leases.release(&scope, &name).await?;
    made
}

async fn take_lease(live: &Live, scope: &Scope, name: &str) -> Result<()> {
    if live.leases.acquire(scope, name, LEASE).await? {
        return Ok(());
    }
    let message = format!(
        "another backfill of the tenant runs; wait for its end, or {} seconds where it was killed",
        LEASE.as_secs()
    );
    Err(Error::new(codes::CONFLICT, message))
}

async fn make(
    live: &Live,
    scratch: &Scratch,
    rules: &Arc<Rules>,
    wanted: &Wanted,
    progress: &Progress,
) -> Result<Report> {
    let range = wanted.range()?;
    let plan = planned(live, scratch, wanted).await?;
    let retained_us = check_history(live, rules, wanted).await?;
    let tenant = &wanted.tenant;
    let routes = plan.routes(live, tenant).await?;
    let replay = replay::Replay { live, scratch, rules, tenant, routes: &routes, progress };
    let mut report = Report::default();
    for (stage, totals) in replay.run(&plan).await? {
        report.stages.entry(stage).or_default().add(&totals);
    }
    catch_up(live, rules, &plan, wanted.is_dry_run).await?;
    if !wanted.is_dry_run {
        // What a backfill that was stopped told the topic and not the rows.
        let scope = Scope::system(tenant.clone(), "backfill");
        apply_corrections(&scope, live.topics.log.as_ref(), live.columns.as_ref()).await?;
    }
    let settled = routes::Settled::of(live, scratch, rules, tenant, routes).await?;
    let planned_at = plan.planned_at;
    let comparison =
        difference::Comparison { live, scratch, wanted, range, settled, retained_us, planned_at };
    comparison.run(&mut report, progress).await?;
    Ok(report)
}

impl Wanted {
    fn range(&self) -> Result<TimeRange> {
        let nanoseconds = |time: Timestamp, field: &str| {
            let bounded =
                i64::try_from(time.as_nanosecond()).ok().filter(|ns| ns.abs() <= store::MAX_TIME_NS);
            let message = "must be a time of the years 1685 to 2255";
            bounded.ok_or_else(|| Error::new(codes::VALIDATION_ERROR, message).with_field(field))
        };
        let range =
            TimeRange { from_ns: nanoseconds(self.from, "from")?, to_ns: nanoseconds(self.to, "to")? };
        if range.to_ns <= range.from_ns {
            return Err(Error::new(codes::VALIDATION_ERROR, "must be after `from`").with_field("to"));
        }
        Ok(range)
    }

    /// What must be the same for a backfill to go on.
    fn name(&self) -> String {
        let Self { tenant, from, to, instrument, settings, .. } = self;
        format!("{tenant} {from} {to} {instrument:?} {settings}")
    }
}

fn system() -> Scope {
    Scope::system(TenantId::server(), "backfill")
}

/// By partition, the first offset that does not exist.
fn ends(extents: Vec<Extent>) -> BTreeMap<u32, u64> {
    extents.into_iter().map(|extent| (extent.partition, extent.next)).collect()
}

/// The plan that is under way, else a new one.
async fn planned(live: &Live, scratch: &Scratch, wanted: &Wanted) -> Result<Plan> {
    let scope = system();
    let plans: Repository<Plan> = Repository::new(Arc::clone(&scratch.records));
    if let Some(found) = plans.get(&scope, "plan").await? {
        if found.document.wanted == wanted.name() {
            return Ok(found.document);
        }
        let message = "another backfill was begun here, or the settings are others since; let it end as it was begun, or \
                       begin anew with --restart";
        return Err(Error::new(codes::CONFLICT, message));
    }
    let log = live.topics.log.as_ref();
    // In this order, so that the raw tick of every enriched one that is looked at is taken.
    let told = ends(log.extents(&ENRICHED_TICKS).await?);
    let until = ends(log.extents(&RAW_TICKS).await?);
    let plan = Plan { wanted: wanted.name(), until, told, planned_at: live.clock.now() };
    plans.put(&scope, &plan, Expect::Absent).await?;
    Ok(plan)
}

/// Passes where every tick of the range is still in the log; from when on all that came are there, where some are not.
async fn check_history(live: &Live, rules: &Rules, wanted: &Wanted) -> Result<Option<i64>> {
    let log = live.topics.log.as_ref();
    let mut retained_us = None;
    for extent in log.extents(&RAW_TICKS).await?.into_iter().filter(|extent| extent.first > 0) {
        let came_us = oldest_us(log, extent).await?;
        retained_us = retained_us.max(Some(came_us));
        // A tick is at most so much younger than the moment at which it came.
        let whole_from_us =
            came_us.saturating_add(i64::from(rules.quality.future_tolerance_seconds) * 1_000_000);
        if wanted.from.as_microsecond() < whole_from_us {
            let whole_from = Timestamp::from_microsecond(whole_from_us).unwrap_or(Timestamp::MAX);
            let message = format!(
                "raw ticks before offset {} of partition {} were cut, and what they made would be taken back; begin at \
                 {whole_from} or later",
                extent.first, extent.partition
            );
            return Err(Error::new(HISTORY_GONE, message).with_field("from"));
        }
    }
    Ok(retained_us)
}

/// When the oldest message of a partition that was cut came in. One that was sent through again has the time of the first
/// time, and says nothing about its neighbours.
pub(crate) async fn oldest_us(log: &dyn EventLog, extent: Extent) -> Result<i64> {
    let mut offset = extent.first;
    while offset < extent.next {
        let batch = log.read(&RAW_TICKS, extent.partition, offset, ReadLimit::default()).await?;
        let Some(last) = batch.last() else { break };
        offset = last.offset + 1;
        let mut own = batch.iter().filter(|stored| !stored.event.extensions.contains_key(REPLAY_OF));
        let Some(oldest) = own.next() else { continue };
        return when_written(&oldest.event).map(Timestamp::as_microsecond).ok_or_else(|| {
            let message = format!(
                "raw ticks before offset {} of partition {} were cut, and the message at offset {} does not say when it \
                 came, so that nobody knows which are missing; restore them from a backup, or cut that message too",
                extent.first, extent.partition, oldest.offset
            );
            Error::new(HISTORY_GONE, message)
        });
    }
    Ok(i64::MAX)
}

/// The stages whose work is made again, in order.
fn stages(rules: &Arc<Rules>) -> Result<[Topology; 3]> {
    let mut all = topology::all(rules)?;
    all.truncate(3);
    <[Topology; 3]>::try_from(all).map_err(|_| Error::internal("there are fewer than three stages"))
}

/// Passes once live has taken what stood in its topics when the backfill began, and delivered what it made of it.
async fn catch_up(live: &Live, rules: &Arc<Rules>, plan: &Plan, is_dry_run: bool) -> Result<()> {
    let (topics, records) = (&live.topics, &live.records);
    let sink = ProjectionSink::new(Arc::clone(&topics.log), Arc::clone(&live.columns));
    for stage in stages(rules)? {
        let extents = topics.log.extents(stage.input()).await?;
        let is_first = *stage.input() == RAW_TICKS;
        for Extent { partition, first, next } in extents {
            let until = if is_first { plan.until.get(&partition).copied().unwrap_or(0) } else { next };
            let mut looks = 0;
            loop {
                let taken = Task::look(&stage, records, &topics.task(), partition).await?;
                let taken = taken.map_or(first, |(next, _)| next);
                if taken >= until {
                    break;
                }
                looks += 1;
                if looks == LOOKS {
                    return Err(lags(&stage, partition, until - taken));
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            if !is_dry_run {
                // What it committed and may not have delivered; what comes again is known.
                Task::deliver_last(&stage, records, &sink, &topics.task(), partition).await?;
            }
        }
    }
    Ok(())
}

fn lags(stage: &Topology, partition: u32, events: u64) -> Error {
    let message = format!(
        "`{}` of live has not taken {events} events of partition {partition}; let a server run until `watershed stream lag` \
         says 0, then call it again with the same flags",
        stage.name()
    );
    Error::new(codes::CONFLICT, message)
}
