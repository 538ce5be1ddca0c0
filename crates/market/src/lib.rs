//! Market data: raw ticks in; prices, classified instruments, bars, spreads and curves out.
//!
//! - [`events`]: the wire. What ticks, bars and dead letters look like, and the topics they travel on.
//! - [`algorithms`]: pure functions and structs, each with its paper or its rule. Read these first.
//! - [`topology`]: the stages from raw ticks to bars and latest prices. [`projection`]: what they make, as rows.
//! - [`backfill`]: what the rules of now would make of the raw ticks, beside what was made of them.
//! - [`quality_report`] and [`reconcile`]: what an operator asks about rows. [`samples`]: ticks that are made up.
//! - [`custom`]: what projections of the settings keep, by key.
//! - `retention`: how long events stay in the topics.
//! - [`views`]: what requests read. [`service`]: the questions. [`http`]: the same over HTTP. `cached`: what is served
//!   from Redis.
//!
//! | question | answer |
//! |---|---|
//! | what does this message say? | [`algorithms::ticks::normalise`] |
//! | what is this instrument? | [`algorithms::instruments::Taxonomy::classify`] |
//! | is this tick to be trusted? | [`algorithms::quality::assess`] |
//! | open, high, low, close, volume? | [`algorithms::bars::BarSeries`] |
//! | how far are bid and ask apart? | [`algorithms::bars::Quote`] |
//! | how far is a price from what is usual? | [`algorithms::bars::BarWindow`] |
//! | what is money worth in ten years? | [`algorithms::curves::Curve::bootstrap`] |
//!
//! It refuses a number that is not finite, a time whose unit must be guessed, and a price that nobody quoted: what is
//! missing stays missing and says so.
//!
//! To add a feed: a [`algorithms::ticks::Mapping`] in configuration, no code. To add an algorithm: a file in
//! `algorithms/`, pure, with a brute-force oracle in its tests. To add a stage: see [`topology`].

pub mod algorithms;
pub mod backfill;
mod cached;
pub mod custom;
pub mod events;
pub mod http;
pub mod metrics;
pub mod owner;
pub mod projection;
pub mod quality_report;
pub mod reconcile;
mod retention;
pub mod samples;
pub mod service;
mod settings;
#[cfg(test)]
mod tests;
pub mod topology;
pub mod views;

use std::sync::Arc;
use std::time::Duration;

use edge::http::health::Check;
use edge::{EventOwner, Ingest};
use kernel::{Clock, Entropy, Result};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry as Metrics;
use store::{Blobs, Cache, Columns, DeadLetters, EventLog, Leases, ReadLimit, Records, Topic};
use stream::{
    LogSource, Projector, ProjectorParts, ProjectorSettings, Sink, Source, StreamMetrics, TaskParts,
    TaskSettings, Topology, Worker, WorkerSettings,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use utoipa_axum::router::OpenApiRouter;

use cached::Writer;
use custom::{Custom, CustomSink, Sweeper};
use http::HttpState;
use metrics::{LiveMetrics, StageMetrics};
use owner::{BrokerTicks, MarketOwner};
use projection::ProjectionSink;
use retention::Keeper;
use service::Service;
use service::live::Live;
use topology::{AGGREGATION, CUSTOM, ENRICHED_TICKS, RAW_TICKS};
use views::MarketViews;

pub use settings::{
    BarSettings, Calendars, InstrumentTerms, KnownSlots, MarketSettings, PriceCacheSettings, Rules,
    StageSettings, StreamSettings, TaxonomySettings, TermsTable, TopologyFile,
};

/// Between two tries of what an engine that is away did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long streams have to end.
const FAREWELL: Duration = Duration::from_secs(3);
const FAREWELL_TURN: Duration = Duration::from_millis(10);
/// Stages that do not wait for time need not be told of it.
const NEVER: Duration = Duration::from_secs(1 << 40);

/// What the domain works with.
#[derive(Debug, Clone)]
pub struct MarketParts {
    /// Topics.
    pub topics: Topics,
    /// The state of stages.
    pub records: Arc<dyn Records>,
    /// Prices and bars.
    pub columns: Arc<dyn Columns>,
    /// What others read there, where the settings want it.
    pub cache: Arc<dyn Cache>,
    /// Checkpoints of the view.
    pub blobs: Arc<dyn Blobs>,
    /// What the view cannot use.
    pub dead_letters: DeadLetters,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Names of lease holders.
    pub entropy: Arc<dyn Entropy>,
    /// Whether no other process can have the records: what this one had before a crash is then its own at once.
    pub is_alone: bool,
    /// How the view follows the enriched ticks.
    pub views: ProjectorSettings,
}

/// Where the topics are.
#[derive(Debug, Clone)]
pub struct Topics {
    /// Their log.
    pub log: Arc<dyn EventLog>,
    /// Whether others write to them too, and what is written twice stays there: then they are topics of brokers.
    pub are_of_brokers: bool,
    /// How long a partition stays with a process that is silent; the workers' own time where this is none.
    pub lease: Option<Duration>,
    /// Whether raw ticks from before the first start are left out.
    pub begin_at_end: bool,
}

impl Topics {
    /// In the log of the server.
    #[must_use]
    pub fn of_log(log: Arc<dyn EventLog>) -> Self {
        Self { log, are_of_brokers: false, lease: None, begin_at_end: false }
    }

    /// At brokers.
    #[must_use]
    pub fn of_brokers(log: Arc<dyn EventLog>, lease: Duration, begin_at_end: bool) -> Self {
        Self { log, are_of_brokers: true, lease: Some(lease), begin_at_end }
    }

    /// How the tasks of the stages run: offsets are those of one log, and so is the state that stands with them.
    #[must_use]
    pub fn task(&self) -> TaskSettings {
        let namespace = if self.are_of_brokers { "brokers" } else { "live" };
        TaskSettings {
            namespace: namespace.to_owned(),
            log_keeps_repeats: self.are_of_brokers,
            ..TaskSettings::default()
        }
    }

    /// The view of these topics.
    fn views(&self, rules: &Arc<Rules>) -> MarketViews {
        let rules = Arc::clone(rules);
        if self.are_of_brokers {
            MarketViews::over_repeats(rules, "market-brokers")
        } else {
            MarketViews::new(rules)
        }
    }

    fn worker(&self, stage: &Topology, settings: &MarketSettings) -> WorkerSettings {
        let name = stage.name();
        let idle = Duration::from_secs(u64::from(settings.stages.idle_after_seconds));
        let usual = WorkerSettings::default();
        WorkerSettings {
            task: TaskSettings {
                batch: ReadLimit { events: settings.stages.batch_events, ..ReadLimit::default() },
                begins_at_end: self.begin_at_end && *stage.input() == RAW_TICKS,
                // They may have been away from the settings for longer than events stay.
                passes_gaps: name.starts_with(CUSTOM),
                ..self.task()
            },
            lease: self.lease.unwrap_or(usual.lease),
            idle_after: if name == AGGREGATION { idle } else { NEVER },
            group: self.are_of_brokers.then(|| format!("watershed-{name}")),
            ..usual
        }
    }
}

/// The running domain.
#[derive(Debug)]
pub struct Market {
    owner: Arc<MarketOwner>,
    service: Arc<Service>,
    custom: Arc<Custom>,
    live: Arc<Live>,
    projector: Arc<Projector<MarketViews>>,
    workers: Vec<(String, Arc<Worker>)>,
    keeper: Option<Keeper>,
    sweeper: Option<Sweeper>,
    log: Arc<dyn EventLog>,
    columns: Arc<dyn Columns>,
    cached: Vec<Writer>,
    background: Vec<JoinHandle<()>>,
}

impl Market {
    /// Restores the view and catches up with the enriched ticks.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for settings that make no sense; those of the engines.
    pub async fn open(parts: MarketParts, settings: &MarketSettings, metrics: &mut Metrics) -> Result<Self> {
        let rules = Arc::new(settings.rules()?);
        let views = Arc::new(parts.topics.views(&rules));
        let projector = Projector::start(
            ProjectorParts {
                log: Arc::clone(&parts.topics.log),
                blobs: Arc::clone(&parts.blobs),
                dead_letters: parts.dead_letters.clone(),
                clock: Arc::clone(&parts.clock),
                metrics: StreamMetrics::register(metrics.sub_registry_with_prefix("market")),
            },
            ENRICHED_TICKS,
            Arc::clone(&views),
            parts.views,
        )
        .await?;
        let workers = workers(&parts, settings, &rules, &metrics::refused_values(metrics))?;
        let told = StageMetrics { workers: workers.clone(), clock: Arc::clone(&parts.clock) };
        metrics.register_collector(Box::new(told));
        let (columns, log) = (Arc::clone(&parts.columns), Arc::clone(&parts.topics.log));
        let projector = Arc::new(projector);
        let keeper = keeper(&parts, settings, &rules, &projector)?;
        let ttl_max = settings.cache.enabled.then(|| Duration::from_secs(settings.cache.ttl_seconds));
        let cached = ttl_max.map(|ttl_max| cached::all(&parts, &rules, &views, ttl_max));
        let sweeper =
            rules.projections.declared().next().map(|_| {
                Sweeper::new(Arc::clone(&parts.records), Arc::clone(&rules), Arc::clone(&parts.clock))
            });
        let live = Live::new(Arc::clone(&log), settings.streams.clone(), LiveMetrics::register(metrics));
        Ok(Self {
            owner: Arc::new(MarketOwner::new(Arc::clone(&rules), Arc::clone(&log), Arc::clone(&parts.clock))),
            custom: Arc::new(Custom::new(Arc::clone(&rules), Arc::clone(&parts.records))),
            service: Arc::new(Service::new(rules, views, Arc::clone(&columns), Arc::clone(&log))),
            live: Arc::new(live),
            projector,
            workers,
            keeper,
            sweeper,
            log,
            columns,
            cached: cached.transpose()?.unwrap_or_default(),
            background: Vec::new(),
        })
    }

    /// What the edge asks about this domain's events.
    #[must_use]
    pub fn owner(&self) -> Arc<dyn EventOwner> {
        Arc::clone(&self.owner) as Arc<dyn EventOwner>
    }

    /// The questions.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// What keeps the view current.
    #[must_use]
    pub fn projector(&self) -> &Arc<Projector<MarketViews>> {
        &self.projector
    }

    /// The endpoints.
    pub fn routes(&self, ingest: Ingest) -> OpenApiRouter {
        let (service, custom, live) =
            (Arc::clone(&self.service), Arc::clone(&self.custom), Arc::clone(&self.live));
        http::routes(HttpState { service, custom, ingest, live })
    }

    /// What a probe tells of this domain.
    #[must_use]
    pub fn check(&self) -> Arc<dyn Check> {
        Arc::new(MarketCheck { projector: Arc::clone(&self.projector), workers: self.workers.clone() })
    }

    /// Ends the streams to callers, each with its reason, so long after `stop`: when no load balancer sends them back here.
    pub fn end_streams(&self, stop: &CancellationToken, delay: Duration) {
        let (live, stop) = (Arc::clone(&self.live), stop.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            tokio::time::sleep(delay).await;
            live.stop.cancel();
        });
    }

    /// Runs the stages in the background until `stop`, from the first raw tick on, keeps the topics short, and
    /// keeps the cache current.
    pub fn start(&mut self, stop: &CancellationToken) {
        for writer in std::mem::take(&mut self.cached) {
            let (log, stop) = (Arc::clone(&self.log), stop.clone());
            let run = async move {
                if stop.run_until_cancelled(first_event(log.as_ref(), &writer.topic())).await.is_some() {
                    writer.run(stop).await;
                }
            };
            self.background.push(tokio::spawn(run));
        }
        if let Some(keeper) = self.keeper.take() {
            self.background.push(tokio::spawn(keeper.run(stop.clone())));
        }
        if let Some(sweeper) = self.sweeper.take() {
            self.background.push(tokio::spawn(sweeper.run(stop.clone())));
        }
        for (_, worker) in &self.workers {
            let (worker, log, stop) = (Arc::clone(worker), Arc::clone(&self.log), stop.clone());
            let run = async move {
                if stop.run_until_cancelled(first_event(log.as_ref(), &RAW_TICKS)).await.is_some() {
                    run(worker, &stop).await;
                }
            };
            self.background.push(tokio::spawn(run));
        }
    }

    /// Makes the rows of prices and bars again from the topics; returns how many were missing.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn rebuild_rows(&self) -> Result<u64> {
        projection::rebuild(self.log.as_ref(), self.columns.as_ref()).await
    }

    /// Writes a last checkpoint and ends. The token given to [`Market::start`] must be cancelled before.
    pub async fn stop(self) {
        self.live.stop.cancel();
        // A WebSocket is no request any more, and nobody else waits until it was told.
        let ended = async {
            while self.live.open() > 0 {
                tokio::time::sleep(FAREWELL_TURN).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, ended).await;
        for background in self.background {
            let _ = background.await;
        }
        self.projector.stop().await;
    }
}

/// The stages over these parts.
fn workers(
    parts: &MarketParts,
    settings: &MarketSettings,
    rules: &Arc<Rules>,
    refused_values: &Counter,
) -> Result<Vec<(String, Arc<Worker>)>> {
    let holder =
        if parts.is_alone { "alone".to_owned() } else { format!("{:016x}", parts.entropy.next_u64()) };
    let leases = Leases::new(Arc::clone(&parts.records), Arc::clone(&parts.clock), holder);
    let (topics, clock) = (&parts.topics, &parts.clock);
    let rows: Arc<dyn Sink> =
        Arc::new(ProjectionSink::new(Arc::clone(&topics.log), Arc::clone(&parts.columns)));
    let custom = CustomSink::new(
        Arc::clone(&topics.log),
        Arc::clone(&parts.records),
        Arc::clone(rules),
        Arc::clone(clock),
    );
    let custom: Arc<dyn Sink> = Arc::new(custom.counting(refused_values.clone()));
    let mut made: Vec<(String, Arc<Worker>)> = Vec::new();
    for topology in topology::all(rules)?.into_iter().chain(topology::custom(rules)?) {
        let name = topology.name().to_owned();
        let log = Arc::clone(&topics.log);
        let source: Arc<dyn Source> = if topics.are_of_brokers && *topology.input() == RAW_TICKS {
            Arc::new(BrokerTicks::new(Arc::clone(&log), Arc::clone(rules), Arc::clone(clock)))
        } else {
            Arc::new(LogSource::new(Arc::clone(&log), topology.input().clone()))
        };
        let sink = if topology.outputs().contains(&topology::KEPT) { &custom } else { &rows };
        let parts_of_task = TaskParts { source, sink: Arc::clone(sink), records: Arc::clone(&parts.records) };
        let settings = topics.worker(&topology, settings);
        let (topology, clock) = (Arc::new(topology), Arc::clone(clock));
        let feeder = made.iter().find(|(_, before)| before.writes(topology.input()));
        let feeder = feeder.map(|(_, before)| Arc::clone(before));
        let worker = Worker::new(topology, parts_of_task, log, leases.clone(), clock, settings);
        made.push((name, Arc::new(worker.after(feeder))));
    }
    Ok(made)
}

/// Who cuts the topics, where the settings say how old an event may become.
fn keeper(
    parts: &MarketParts,
    settings: &MarketSettings,
    rules: &Arc<Rules>,
    view: &Arc<Projector<MarketViews>>,
) -> Result<Option<Keeper>> {
    let Some(days) = settings.topic_retention_days else { return Ok(None) };
    Ok(Some(Keeper {
        topics: parts.topics.clone(),
        records: Arc::clone(&parts.records),
        stages: topology::all(rules)?.into_iter().chain(topology::custom(rules)?).collect(),
        view: Arc::clone(view),
        clock: Arc::clone(&parts.clock),
        days,
    }))
}

/// Returns once something ever came to a topic, so that who has no market data pays nothing for it.
async fn first_event(log: &dyn EventLog, topic: &Topic) {
    loop {
        match is_used(log, topic).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => {
                warn!(%topic, error = %error.chain(), "whether a topic is used is not known yet, trying again");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn is_used(log: &dyn EventLog, topic: &Topic) -> Result<bool> {
    let extents = log.extents(topic).await?;
    if extents.iter().any(|extent| extent.next > 0) {
        return Ok(true);
    }
    let waits: Vec<_> = extents.iter().map(|extent| log.wait(topic, extent.partition, 0)).collect();
    if waits.is_empty() {
        return Ok(false);
    }
    futures::future::select_all(waits).await.0.map(|()| true)
}

async fn run(worker: Arc<Worker>, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = Arc::clone(&worker).run(stop.clone()).await {
            warn!(error = %error.chain(), "a stage does not run, trying again");
            let _ = stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
        }
    }
}

/// Tells what does not go on. A server answers what it knows all the same.
#[derive(Debug)]
struct MarketCheck {
    projector: Arc<Projector<MarketViews>>,
    workers: Vec<(String, Arc<Worker>)>,
}

impl Check for MarketCheck {
    fn name(&self) -> &'static str {
        "market"
    }

    fn fault(&self) -> Option<String> {
        self.projector.failure().or_else(|| {
            self.workers.iter().find_map(|(stage, worker)| {
                let failure = worker.standings().into_values().find_map(|standing| standing.failure)?;
                Some(format!("{stage}: {failure}"))
            })
        })
    }

    fn is_needed(&self) -> bool {
        false
    }
}
