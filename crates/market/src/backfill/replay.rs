//! The stages over the raw ticks of one tenant, each to its end before the next, into a scratch place.
//!
//! The first stage has a state for each partition in which raw ticks came. What it makes of all of them is merged by when it
//! came in, and goes to the partition of its instrument, as live does it: the state of a later stage is of a tenant in a
//! partition, and so it is the one that live had.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Event, Result, Scope, TenantId, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use store::{Columns, EventLog, Extent, ReadLimit, Stored, Topic};
use stream::{
    Backfill, LogSink, LogSource, Output, REPLAY_OF, Sink, Source, TaskParts, TaskSettings, Totals,
};

use super::marks::{Marked, find};
use super::routes::Routes;
use super::{Live, Plan, Scratch, stages};
use crate::events::RECEIVED_AT;
use crate::owner::{BrokerTicks, complete};
use crate::projection::Rows;
use crate::settings::Rules;
use crate::topology::{ENRICHED_TICKS, NORMALISED_TICKS, RAW_TICKS};

/// The namespace of the states of a backfill.
const NAMESPACE: &str = "backfill";
/// What the stages are at.
const WORK: [&str; 3] = ["reading ticks", "enriching", "making bars"];

/// Told how far a backfill came: what it does, how much of it is done, how much there is.
pub type Progress = Arc<dyn Fn(&'static str, u64, u64) + Send + Sync>;

/// How the stages run here.
pub(super) fn settings() -> TaskSettings {
    TaskSettings { namespace: NAMESPACE.to_owned(), ..TaskSettings::default() }
}

/// Normalised ticks that are merged before they are written.
const MERGED_AT_ONCE: usize = 1_000;

/// A replay of the stages.
pub(super) struct Replay<'a> {
    pub(super) live: &'a Live,
    pub(super) scratch: &'a Scratch,
    pub(super) rules: &'a Arc<Rules>,
    pub(super) tenant: &'a TenantId,
    pub(super) routes: &'a Routes,
    pub(super) progress: &'a Progress,
}

/// What became of the events of a stage.
pub(super) type Made = Option<(String, Totals)>;

impl Replay<'_> {
    /// Takes the raw ticks of a plan. By stage and partition what became of the events.
    pub(super) async fn run(&self, plan: &Plan) -> Result<Vec<(String, Totals)>> {
        let mut sum = Vec::new();
        for (partition, until) in &plan.until {
            sum.extend(self.normalise(*partition, *until).await?);
        }
        self.merge(plan.until.keys()).await?;
        for partition in self.routes.partitions() {
            sum.extend(self.enrich(*partition).await?);
            let told = plan.told.get(partition).copied().unwrap_or(0);
            sum.extend(self.make_bars(*partition, told).await?);
        }
        Ok(sum)
    }

    /// The first stage over the raw ticks of a partition before `until`.
    pub(super) async fn normalise(&self, partition: u32, until: u64) -> Result<Made> {
        self.stage(0, partition, Arc::new(self.raw(partition)), until).await
    }

    /// The second stage over what was merged.
    pub(super) async fn enrich(&self, partition: u32) -> Result<Made> {
        let normalised = self.of_scratch(of_partition(&NORMALISED_TICKS, partition), partition);
        let end = normalised.extent().await?.next;
        self.stage(1, partition, Arc::new(normalised), end).await
    }

    /// The third stage; what the clock said stands in the enriched ticks of live before `told`.
    async fn make_bars(&self, partition: u32, told: u64) -> Result<Made> {
        let enriched = self.of_scratch(of_partition(&ENRICHED_TICKS, partition), partition);
        let marks = find(self.live.topics.log.as_ref(), self.tenant, partition, told, &enriched).await?;
        let marked = Marked::new(enriched, marks);
        let end = marked.end().await?;
        self.stage(2, partition, Arc::new(marked), end).await
    }

    async fn stage(&self, place: usize, partition: u32, source: Arc<dyn Source>, until: u64) -> Result<Made> {
        let stage = Arc::new(stages(self.rules)?[place].clone());
        let source = Told { source, what: WORK[place], until, progress: Arc::clone(self.progress) };
        let sink = ScratchSink {
            log: LogSink::new(Arc::clone(&self.scratch.log)),
            columns: Arc::clone(&self.scratch.columns),
            partition,
        };
        let records = Arc::clone(&self.scratch.records);
        let parts = TaskParts { source: Arc::new(source), sink: Arc::new(sink), records };
        let range = Backfill {
            namespace: NAMESPACE.to_owned(),
            until: [(partition, until)].into(),
            ..Backfill::default()
        };
        let totals = stream::backfill(&stage, &parts, &range).await?;
        Ok(totals.into_values().next().map(|totals| (stage.name().to_owned(), totals)))
    }

    /// What the first stage made in every partition, to the partitions of the instruments. Where a stop was in between, the
    /// log knows what it has.
    pub(super) async fn merge(&self, partitions: impl Iterator<Item = &u32>) -> Result<()> {
        let line = |partition: &u32| Line {
            source: self.of_scratch(made_of(*partition), *partition),
            offset: 0,
            waiting: VecDeque::new(),
            came_us: i64::MIN,
        };
        let mut lines: Vec<Line> = partitions.map(line).collect();
        let mut merged: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
        let mut count = 0;
        loop {
            let mut next: Option<(i64, usize)> = None;
            for (place, line) in lines.iter_mut().enumerate() {
                if let Some(came_us) = line.next_us().await? {
                    next = Some(next.map_or((came_us, place), |least| least.min((came_us, place))));
                }
            }
            let found = next.and_then(|(_, place)| lines[place].waiting.pop_front());
            let is_last = found.is_none();
            if let Some((_, event)) = found {
                let partition = self.routes.of(event.subject.as_deref().unwrap_or_default());
                merged.entry(partition).or_default().push(event);
                count += 1;
            }
            if is_last || count == MERGED_AT_ONCE {
                count = 0;
                let scope = Scope::system(self.tenant.clone(), "backfill");
                for (partition, events) in std::mem::take(&mut merged) {
                    let topic = of_partition(&NORMALISED_TICKS, partition);
                    self.scratch.log.append(&scope, &topic, events).await?;
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn raw(&self, partition: u32) -> RawTicks {
        let log = Arc::clone(&self.live.topics.log);
        let are_of_brokers = self.live.topics.are_of_brokers;
        let source: Arc<dyn Source> = if are_of_brokers {
            Arc::new(BrokerTicks::new(log, Arc::clone(self.rules), Arc::clone(&self.live.clock)))
        } else {
            Arc::new(LogSource::new(log, RAW_TICKS))
        };
        RawTicks {
            source,
            rules: Arc::clone(self.rules),
            tenant: self.tenant.clone(),
            partition,
            are_of_brokers,
        }
    }

    fn of_scratch(&self, topic: Topic, partition: u32) -> ScratchSource {
        ScratchSource { log: Arc::clone(&self.scratch.log), topic, partition }
    }
}

/// What the first stage made of a partition, with when it came in.
struct Line {
    source: ScratchSource,
    offset: u64,
    waiting: VecDeque<(i64, Event)>,
    /// The newest so far: what was sent through again came after what stands before it.
    came_us: i64,
}

impl Line {
    /// When the next tick came in; none at the end.
    async fn next_us(&mut self) -> Result<Option<i64>> {
        #[derive(Deserialize)]
        struct Came {
            ingested_at: i64,
        }
        if self.waiting.is_empty() {
            for Stored { offset, event } in self.source.events(self.offset, ReadLimit::default()).await? {
                self.offset = offset + 1;
                self.came_us = self.came_us.max(event.data_as::<Came>()?.ingested_at);
                self.waiting.push_back((self.came_us, event));
            }
        }
        Ok(self.waiting.front().map(|(came_us, _)| *came_us))
    }
}

/// The scratch topic of what the first stage makes of a raw partition.
fn made_of(partition: u32) -> Topic {
    Topic::new(format!("{NORMALISED_TICKS}.made.{partition}"))
        .expect("the names of the stages' topics are short")
}

/// The scratch topic that stands for one partition of a topic.
fn of_partition(topic: &Topic, partition: u32) -> Topic {
    Topic::new(format!("{topic}.{partition}")).expect("the names of the stages' topics are short")
}

/// The raw ticks of a tenant in a partition, as the way in would take them by the rules of now.
#[derive(Debug)]
struct RawTicks {
    source: Arc<dyn Source>,
    rules: Arc<Rules>,
    tenant: TenantId,
    partition: u32,
    are_of_brokers: bool,
}

impl RawTicks {
    /// Its time by the rules of now. One that was sent through again has the time that it had.
    fn refresh(&self, event: &mut Event) {
        let noted = event.extensions.get(RECEIVED_AT).and_then(Value::as_str);
        let Some(received) = noted.and_then(|text| text.parse::<Timestamp>().ok()) else { return };
        if event.extensions.contains_key(REPLAY_OF) {
            return;
        }
        let scope = Scope::system(event.tenant.clone(), "backfill");
        // What the way in would refuse stays what it is, for the stage to refuse.
        let _ = complete(&self.rules, &scope, event, received);
    }
}

#[async_trait]
impl Source for RawTicks {
    async fn read(&self, partition: u32, mut offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        loop {
            let mut found = self.source.read(partition, offset, limit).await?;
            let Some(last) = found.last() else { return Ok(found) };
            offset = last.offset + 1;
            found.retain(|stored| stored.event.tenant == self.tenant);
            if found.is_empty() {
                continue;
            }
            if !self.are_of_brokers {
                found.iter_mut().for_each(|stored| self.refresh(&mut stored.event));
            }
            return Ok(found);
        }
    }

    async fn extents(&self) -> Result<Vec<Extent>> {
        let extents = self.source.extents().await?;
        Ok(extents.into_iter().filter(|extent| extent.partition == self.partition).collect())
    }

    async fn wait(&self, partition: u32, offset: u64) -> Result<()> {
        self.source.wait(partition, offset).await
    }
}

/// A scratch topic, as the partition that it stands for.
#[derive(Debug)]
pub(super) struct ScratchSource {
    log: Arc<dyn EventLog>,
    topic: Topic,
    partition: u32,
}

impl ScratchSource {
    pub(super) async fn extent(&self) -> Result<Extent> {
        match self.log.extents(&self.topic).await?[..] {
            [one] => Ok(Extent { partition: self.partition, ..one }),
            _ => Err(Error::internal("topics of a backfill have one partition")),
        }
    }

    pub(super) async fn events(&self, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        self.log.read(&self.topic, 0, offset, limit).await
    }
}

#[async_trait]
impl Source for ScratchSource {
    async fn read(&self, _: u32, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        self.events(offset, limit).await
    }

    async fn extents(&self) -> Result<Vec<Extent>> {
        Ok(vec![self.extent().await?])
    }

    async fn wait(&self, _: u32, offset: u64) -> Result<()> {
        self.log.wait(&self.topic, 0, offset).await
    }
}

/// A source that tells how far it was read.
struct Told {
    source: Arc<dyn Source>,
    what: &'static str,
    until: u64,
    progress: Progress,
}

impl Debug for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Told").field("source", &self.source).finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for Told {
    async fn read(&self, partition: u32, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        (self.progress)(self.what, offset.min(self.until), self.until);
        self.source.read(partition, offset, limit).await
    }

    async fn extents(&self) -> Result<Vec<Extent>> {
        self.source.extents().await
    }

    async fn wait(&self, partition: u32, offset: u64) -> Result<()> {
        self.source.wait(partition, offset).await
    }
}

/// What the next stage reads goes to the scratch log, rows to the scratch tables; the rest was only counted.
#[derive(Debug)]
struct ScratchSink {
    log: LogSink,
    columns: Arc<dyn Columns>,
    partition: u32,
}

#[async_trait]
impl Sink for ScratchSink {
    async fn deliver(&self, outputs: Vec<Output>) -> Result<()> {
        let mut rows = Rows::default();
        for output in &outputs {
            rows.add(&output.topic, &output.event)?;
        }
        let handed_on =
            outputs.into_iter().filter(|output| [NORMALISED_TICKS, ENRICHED_TICKS].contains(&output.topic));
        let renamed = handed_on.map(|Output { topic, event }| {
            let topic = match topic == NORMALISED_TICKS {
                true => made_of(self.partition),
                false => of_partition(&topic, self.partition),
            };
            Output { topic, event }
        });
        self.log.deliver(renamed.collect()).await?;
        rows.write(self.columns.as_ref()).await.map(drop)
    }
}
