//! Cuts the topics to the age that the settings give, now and every hour.
//!
//! An event counts as old by its own time: a tick by when it happened, a bar by when it begins. It goes when all before it in
//! its partition went, and never
//! - before every stage that reads it committed what it made of it, and the view has it in every checkpoint that is kept; the
//!   stages of custom projections aside, which pass over what was cut, so that one that fails holds nothing up;
//! - while it may be delivered again: a stage that is opened delivers what it committed last, and a log that no longer holds
//!   it takes it for new;
//! - while the raw tick that an enriched one was made of is there: a backfill reads both;
//! - where it is the newest of its partition, which could else not be put back where it ends.
//!
//! Between the look at what may go and its removal some time passes ([`GRACE`]), for those who stand still in the middle of a
//! delivery. Whoever stands still for longer tells again what was cut meanwhile.
//!
//! It refuses topics of brokers, which are cut by the brokers' own settings, and the topic of corrections: what a correction
//! mends may stay longer than it, and would come back wrong. Rows stay: they are made again only as far as the topics go.
//!
//! To add a view over one of the topics: its checkpoint in [`Keeper::lower_to_views`]. Stages are found by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Event, Result, Scope, TenantId};
use parking_lot::Mutex;
use serde::Deserialize;
use store::{EventLog, Extent, MAX_APPEND_BATCH, ReadLimit, Records, Retention, Topic};
use stream::{Output, Projector, Sink, Task, Topology};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Topics;
use crate::backfill::oldest_us;
use crate::events::{kinds, topics};
use crate::topology::{CUSTOM, ENRICHED_TICKS, RAW_TICKS};
use crate::views::MarketViews;

const PAUSE: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Twice as long as a stage's lease lasts: who lost it without a word has delivered by then, or has ended.
const GRACE: Duration = Duration::from_secs(30);

/// By partition, the first offset that stays.
type Before = BTreeMap<u32, u64>;

/// Keeps the topics short.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) topics: Topics,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) stages: Vec<Topology>,
    pub(crate) view: Arc<Projector<MarketViews>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Events that are older may go.
    pub(crate) days: u32,
}

impl Keeper {
    /// Cuts until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        if !self.topics.log.capabilities().retains_at_once {
            warn!("market.topic_retention_days cuts no topics of brokers: set retention.ms there");
            return;
        }
        while !stop.is_cancelled() {
            match self.cut(&stop).await {
                Ok(0) => {}
                Ok(events) => {
                    info!(events, "events past their retention were removed from topics of market data");
                }
                Err(error) => {
                    warn!(error = %error.chain(), "topics of market data were not cut, trying again in an hour");
                }
            }
            let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }

    /// Removes what may go, some time after it was looked at; returns how many events went.
    async fn cut(&self, stop: &CancellationToken) -> Result<u64> {
        let may_go = self.may_go().await?;
        if may_go.is_empty() || stop.run_until_cancelled(tokio::time::sleep(GRACE)).await.is_none() {
            return Ok(0);
        }
        self.remove(may_go).await
    }

    fn by_age(&self) -> Retention {
        Retention { age: Some(DAY * self.days), ..Retention::default() }
    }

    /// By topic that has something old, in the order of the stages, the first offsets that are needed.
    async fn may_go(&self) -> Result<Vec<(Topic, Before)>> {
        let (log, keep) = (self.topics.log.as_ref(), self.by_age());
        let mut due = Vec::new();
        for name in topics::ALL.into_iter().filter(|name| *name != topics::CORRECTED_ROWS) {
            let topic = Topic::fixed(name);
            let extents = log.extents(&topic).await?;
            if !self.is_due(&topic, &extents, &keep).await? {
                continue;
            }
            let mut before: Before =
                extents.iter().map(|extent| (extent.partition, extent.next.saturating_sub(1))).collect();
            lower(&mut before, &self.taken_by_stages(&topic, &extents).await?);
            if topic == ENRICHED_TICKS {
                self.lower_to_views(&mut before).await?;
            }
            due.push((topic, before));
        }
        if !due.is_empty() {
            // After the extents, so that what is delivered since is after all that may go.
            let again = self.may_come_again(due.iter().map(|(topic, _)| topic.clone())).await?;
            due.iter_mut().for_each(|(topic, before)| lower(before, &again[&*topic]));
        }
        Ok(due)
    }

    /// Removes it; returns how many events went.
    async fn remove(&self, may_go: Vec<(Topic, Before)>) -> Result<u64> {
        let mut removed = 0;
        for (topic, mut before) in may_go {
            if topic == ENRICHED_TICKS {
                self.lower_to_raw_ticks(&mut before).await?;
            }
            let keep = Retention { before: Some(before), ..self.by_age() };
            removed += self.topics.log.retain(&topic, keep, self.clock.now()).await?;
        }
        Ok(removed)
    }

    /// Whether the oldest event of any partition may go: to look at more for nothing would be waste.
    async fn is_due(&self, topic: &Topic, extents: &[Extent], keep: &Retention) -> Result<bool> {
        let one = ReadLimit { events: 1, ..ReadLimit::default() };
        for extent in extents.iter().filter(|extent| extent.next > extent.first + 1) {
            let oldest = self.topics.log.read(topic, extent.partition, extent.first, one).await?;
            let held = extent.next - extent.first;
            if oldest.first().is_some_and(|oldest| !keep.keeps(oldest.event.time, held, self.clock.now())) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// By partition, what some stage has not taken.
    async fn taken_by_stages(&self, topic: &Topic, extents: &[Extent]) -> Result<Before> {
        let mut before = Before::new();
        let reads = |stage: &&Topology| stage.input() == topic && !stage.name().starts_with(CUSTOM);
        for stage in self.stages.iter().filter(reads) {
            for extent in extents {
                let settings = self.topics.task();
                let looked = Task::look(stage, &self.records, &settings, extent.partition).await?;
                let next = looked.map_or(0, |(next, _)| next);
                before.entry(extent.partition).and_modify(|least| *least = next.min(*least)).or_insert(next);
            }
        }
        Ok(before)
    }

    /// What a restart of a view may need stays, and all of a partition that not every checkpoint has.
    async fn lower_to_views(&self, before: &mut Before) -> Result<()> {
        let covered = self.view.checkpoint().await?;
        for (partition, end) in before {
            *end = covered.get(partition).copied().unwrap_or(0).min(*end);
        }
        Ok(())
    }

    /// By topic and partition, the oldest event that a stage delivers again when it is opened.
    async fn may_come_again(&self, of: impl Iterator<Item = Topic>) -> Result<BTreeMap<Topic, Before>> {
        let log = self.topics.log.as_ref();
        let again = Again { log, before: Mutex::new(of.map(|topic| (topic, Before::new())).collect()) };
        for stage in &self.stages {
            for extent in log.extents(stage.input()).await? {
                let settings = self.topics.task();
                match Task::deliver_last(stage, &self.records, &again, &settings, extent.partition).await {
                    // As where it fails otherwise, nothing waits for it.
                    Err(error) if stage.name().starts_with(CUSTOM) => {
                        let (stage, partition) = (stage.name(), extent.partition);
                        let error = error.chain();
                        warn!(stage, partition, %error, "what a stage of projections committed last cannot be delivered");
                    }
                    done => done?,
                }
            }
        }
        Ok(again.before.into_inner())
    }

    /// What was made of raw ticks that are there stays with them.
    async fn lower_to_raw_ticks(&self, before: &mut Before) -> Result<()> {
        #[derive(Deserialize)]
        struct Came {
            ingested_at: i64,
        }
        let log = self.topics.log.as_ref();
        let (held_us, alone_us) = held_raw_ticks(log).await?;
        let is_held = |came: Came| came.ingested_at >= held_us || alone_us.contains(&came.ingested_at);
        for extent in log.extents(&ENRICHED_TICKS).await? {
            let Some(end) = before.get_mut(&extent.partition) else { continue };
            let mut offset = extent.first;
            'partition: while offset < *end {
                let batch = log.read(&ENRICHED_TICKS, extent.partition, offset, ReadLimit::default()).await?;
                let Some(last) = batch.last() else { break };
                offset = last.offset + 1;
                for stored in batch.iter().filter(|stored| stored.event.kind == kinds::ENRICHED_TICK) {
                    if is_held(stored.event.data_as()?) {
                        *end = stored.offset.min(*end);
                        break 'partition;
                    }
                }
            }
        }
        Ok(())
    }
}

/// From when on raw ticks came that are there, and when those came that are alone in a partition which was never cut.
async fn held_raw_ticks(log: &dyn EventLog) -> Result<(i64, BTreeSet<i64>)> {
    let (mut held_us, mut alone_us) = (i64::MAX, BTreeSet::new());
    for extent in log.extents(&RAW_TICKS).await? {
        let came_us = oldest_us(log, extent).await?;
        // Nobody may send to a partition any more: what is left there must not hold up all others.
        match (extent.first, extent.next - extent.first) {
            // It is there for its offset, and no backfill reaches back to it.
            (1.., 1) => {}
            (0, 1) => {
                alone_us.insert(came_us);
            }
            _ => held_us = held_us.min(came_us),
        }
    }
    Ok((held_us, alone_us))
}

/// Appends once more what a stage delivers to some topics, because the log says of events that it has where they stand.
#[derive(Debug)]
struct Again<'a> {
    log: &'a dyn EventLog,
    before: Mutex<BTreeMap<Topic, Before>>,
}

#[async_trait]
impl Sink for Again<'_> {
    async fn deliver(&self, outputs: Vec<Output>) -> Result<()> {
        let mut events: BTreeMap<(Topic, TenantId), Vec<Event>> = BTreeMap::new();
        for Output { topic, event } in outputs {
            if self.before.lock().contains_key(&topic) {
                events.entry((topic, event.tenant.clone())).or_default().push(event);
            }
        }
        for ((topic, tenant), mut events) in events {
            let scope = Scope::system(tenant, "market");
            while !events.is_empty() {
                let rest = events.split_off(events.len().min(MAX_APPEND_BATCH));
                let places = self.log.append(&scope, &topic, std::mem::replace(&mut events, rest)).await?;
                let mut before = self.before.lock();
                let before = before.entry(topic.clone()).or_default();
                for place in places {
                    let least = before.entry(place.partition).or_insert(place.offset);
                    *least = place.offset.min(*least);
                }
            }
        }
        Ok(())
    }
}

fn lower(before: &mut Before, by: &Before) {
    for (partition, least) in by {
        before.entry(*partition).and_modify(|offset| *offset = (*offset).min(*least));
    }
}

#[cfg(test)]
mod tests;
