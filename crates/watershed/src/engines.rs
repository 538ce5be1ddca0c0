//! Opens the engines that the `storage` section names. This is the only file that knows them.
//!
//! To add an engine: its section and its ports in `config/storage.rs`, a line in each `match` here.

use std::path::Path;
use std::sync::Arc;

use edge::http::health::Check;
use kernel::{Error, Result, codes};
use market::Topics;
use market::backfill::Scratch;
use store::memory::MemoryLimiter;
use store::{Blobs, Cache, Columns, EventLog, Limiter, Records};
use store_embedded::{EmbeddedStore, Options};
use tokio_util::sync::CancellationToken;

use crate::app::Ambient;
use crate::config::{Engine, StorageSettings};
#[cfg(any(
    feature = "clickhouse",
    feature = "kafka",
    feature = "postgres",
    feature = "redis",
    feature = "s3"
))]
use crate::pulse::Pace;
use crate::pulse::Pulse;

/// The open ports. An engine is closed when its last port is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Engines {
    pub records: Arc<dyn Records>,
    /// Whether other servers may work on the same records.
    pub are_shared: bool,
    pub log: Arc<dyn EventLog>,
    /// The topics of streams.
    pub topics: Topics,
    pub blobs: Arc<dyn Blobs>,
    pub cache: Arc<dyn Cache>,
    pub columns: Arc<dyn Columns>,
    #[cfg(feature = "search")]
    pub vectors: Arc<dyn store::Vectors>,
    pub limiter: Arc<dyn Limiter>,
    /// The same, where it is shared with other processes.
    #[cfg(feature = "redis")]
    pub shared_limiter: Option<Arc<store::SharedOrLocal>>,
    /// Whether the servers that these ports stand on answer.
    pub pulses: Vec<Arc<Pulse>>,
    #[cfg(feature = "clickhouse")]
    pub clickhouse: Option<store_clickhouse::ClickHouseStore>,
    /// The brokers whose topics streams read and write, where there are some.
    #[cfg(feature = "kafka")]
    pub kafka: Option<store_kafka::KafkaStore>,
    #[cfg(feature = "postgres")]
    pub postgres: Option<store_postgres::PostgresStore>,
    #[cfg(feature = "redis")]
    pub redis: Option<store_redis::RedisStore>,
}

/// The engines themselves, each opened once.
#[derive(Default)]
struct Opened {
    embedded: Option<EmbeddedStore>,
    #[cfg(feature = "clickhouse")]
    clickhouse: Option<store_clickhouse::ClickHouseStore>,
    #[cfg(feature = "kafka")]
    kafka: Option<store_kafka::KafkaStore>,
    #[cfg(feature = "postgres")]
    postgres: Option<store_postgres::PostgresStore>,
    #[cfg(feature = "redis")]
    redis: Option<store_redis::RedisStore>,
    #[cfg(feature = "s3")]
    s3: Option<store_s3::S3Store>,
}

impl Engines {
    /// Opens every port.
    ///
    /// # Errors
    /// Those of the engine, naming the folder or the setting.
    pub(crate) async fn open(settings: &StorageSettings, ambient: &Ambient) -> Result<Self> {
        let chosen = settings.chosen();
        let opened = Opened::open(settings, ambient).await?;
        let limiter: Arc<dyn Limiter> = Arc::new(MemoryLimiter::new(Arc::clone(&ambient.clock)));
        #[cfg(feature = "redis")]
        let shared_limiter = opened.shared_limiter(chosen.cache, &limiter, ambient);
        #[cfg(feature = "redis")]
        let limiter = shared_limiter.clone().map_or(limiter, |shared| shared as Arc<dyn Limiter>);
        let records = opened.records(chosen.records)?;
        let log = opened.log(chosen.log)?;
        Ok(Self {
            topics: opened.topics(chosen.topics, &log, settings)?,
            log,
            blobs: opened.blobs(chosen.blobs, ambient)?,
            cache: opened.cache(chosen.cache, ambient),
            columns: opened.columns(chosen.columns)?,
            #[cfg(feature = "search")]
            vectors: opened.vectors(chosen.vectors)?,
            limiter,
            #[cfg(feature = "redis")]
            shared_limiter,
            pulses: opened.pulses(),
            records,
            are_shared: chosen.shares_records(),
            #[cfg(feature = "clickhouse")]
            clickhouse: opened.clickhouse,
            #[cfg(feature = "kafka")]
            kafka: opened.kafka,
            #[cfg(feature = "postgres")]
            postgres: opened.postgres,
            #[cfg(feature = "redis")]
            redis: opened.redis,
        })
    }

    /// Refuses a data folder that is not there yet, which opening would make.
    ///
    /// # Errors
    /// `NOT_FOUND` naming the setting.
    pub(crate) fn require_folder(settings: &StorageSettings) -> Result<()> {
        if !settings.chosen().needs_folder() || EmbeddedStore::is_at(&settings.data_dir) {
            return Ok(());
        }
        let message = format!(
            "there are no data in `{}`; check the name (serve, import, demo, restore and keys create make one)",
            settings.data_dir.display()
        );
        Err(Error::new(codes::NOT_FOUND, message).with_field("storage.data_dir"))
    }

    /// A place to work in, in a folder of its own, which is made where it is not there.
    ///
    /// # Errors
    /// Those of the engine, naming the folder.
    pub(crate) async fn scratch(folder: &Path, ambient: &Ambient) -> Result<Scratch> {
        let (folder, clock) = (folder.to_owned(), Arc::clone(&ambient.clock));
        let options = Options { partitions: 1, recent_bytes: 0, ..Options::default() };
        let open = move || EmbeddedStore::open(&folder, options, clock);
        let store = tokio::task::spawn_blocking(open).await.map_err(Error::internal)??;
        Ok(Scratch { log: store.event_log(), records: store.records(), columns: store.columns() })
    }

    /// How many of the servers answer.
    pub(crate) fn answering(&self) -> usize {
        self.pulses.iter().filter(|pulse| pulse.fault().is_none()).count()
    }

    /// Listens to the servers until `stop`.
    pub(crate) fn watch(&self, stop: &CancellationToken) {
        for pulse in &self.pulses {
            tokio::spawn(Arc::clone(pulse).run(stop.clone()));
        }
    }
}

impl Opened {
    async fn open(settings: &StorageSettings, ambient: &Ambient) -> Result<Self> {
        let chosen = settings.chosen();
        let mut opened = Self::default();
        if chosen.needs_folder() {
            let (folder, clock) = (settings.data_dir.clone(), Arc::clone(&ambient.clock));
            let open = move || EmbeddedStore::open(&folder, Options::default(), clock);
            opened.embedded = Some(tokio::task::spawn_blocking(open).await.map_err(Error::internal)??);
        }
        #[cfg(feature = "postgres")]
        if let Some(postgres) = settings.postgres.clone().filter(|_| chosen.uses(Engine::Postgres)) {
            let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
            opened.postgres = Some(store_postgres::PostgresStore::open(postgres, clock, entropy).await?);
        }
        #[cfg(feature = "redis")]
        if let Some(redis) = settings.redis.as_ref().filter(|_| chosen.uses(Engine::Redis)) {
            let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
            opened.redis = Some(store_redis::RedisStore::open(redis, clock, entropy).await?);
        }
        #[cfg(feature = "s3")]
        if let Some(s3) = settings.s3.as_ref().filter(|_| chosen.uses(Engine::S3)) {
            let variables = crate::config::aws_variables();
            opened.s3 = Some(store_s3::S3Store::open(s3, variables, Arc::clone(&ambient.entropy))?);
        }
        #[cfg(feature = "clickhouse")]
        if let Some(clickhouse) = settings.clickhouse.as_ref().filter(|_| chosen.uses(Engine::ClickHouse)) {
            let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
            let opened_store = store_clickhouse::ClickHouseStore::open(clickhouse, clock, entropy).await?;
            opened.clickhouse = Some(opened_store);
        }
        #[cfg(feature = "kafka")]
        if let Some(kafka) = settings.kafka.as_ref().filter(|kafka| !kafka.url.is_empty()) {
            opened.kafka = Some(store_kafka::KafkaStore::open(kafka, Arc::clone(&ambient.clock))?);
        }
        Ok(opened)
    }

    fn records(&self, engine: Engine) -> Result<Arc<dyn Records>> {
        match engine {
            #[cfg(feature = "postgres")]
            Engine::Postgres => self.postgres.as_ref().map(store_postgres::PostgresStore::records),
            _ => self.embedded.as_ref().map(EmbeddedStore::records),
        }
        .ok_or_else(|| not_open("storage.records"))
    }

    #[cfg(feature = "search")]
    fn vectors(&self, engine: Engine) -> Result<Arc<dyn store::Vectors>> {
        match engine {
            #[cfg(feature = "postgres")]
            Engine::Postgres => self.postgres.as_ref().map(store_postgres::PostgresStore::vectors),
            _ => self.embedded.as_ref().map(EmbeddedStore::vectors),
        }
        .ok_or_else(|| not_open("storage.records"))
    }

    fn log(&self, engine: Engine) -> Result<Arc<dyn EventLog>> {
        match engine {
            #[cfg(feature = "postgres")]
            Engine::Postgres => self.postgres.as_ref().map(store_postgres::PostgresStore::event_log),
            _ => self.embedded.as_ref().map(EmbeddedStore::event_log),
        }
        .ok_or_else(|| not_open("storage.log"))
    }

    #[cfg_attr(not(feature = "kafka"), expect(unused_variables, reason = "there is one engine"))]
    fn topics(&self, engine: Engine, log: &Arc<dyn EventLog>, settings: &StorageSettings) -> Result<Topics> {
        match engine {
            #[cfg(feature = "kafka")]
            Engine::Kafka => {
                let brokers = self.kafka.as_ref().zip(settings.kafka.as_ref());
                let brokers = brokers.map(|(kafka, set)| {
                    let begin_at_end = set.auto_offset_reset == store_kafka::Start::Latest;
                    Topics::of_brokers(kafka.event_log(), set.lease(), begin_at_end)
                });
                brokers.ok_or_else(|| not_open("storage.topics"))
            }
            _ => Ok(Topics::of_log(Arc::clone(log))),
        }
    }

    fn columns(&self, engine: Engine) -> Result<Arc<dyn Columns>> {
        match engine {
            #[cfg(feature = "clickhouse")]
            Engine::ClickHouse => self.clickhouse.as_ref().map(store_clickhouse::ClickHouseStore::columns),
            #[cfg(feature = "postgres")]
            Engine::Postgres => self.postgres.as_ref().map(store_postgres::PostgresStore::columns),
            _ => self.embedded.as_ref().map(EmbeddedStore::columns),
        }
        .ok_or_else(|| not_open("storage.columns"))
    }

    #[cfg_attr(not(feature = "postgres"), expect(unused_variables, reason = "only for blobs in a database"))]
    fn blobs(&self, engine: Engine, ambient: &Ambient) -> Result<Arc<dyn Blobs>> {
        match engine {
            #[cfg(feature = "s3")]
            Engine::S3 => self.s3.as_ref().map(store_s3::S3Store::blobs),
            #[cfg(feature = "postgres")]
            Engine::Postgres => self.postgres.as_ref().map(|postgres| {
                let entropy = Arc::clone(&ambient.entropy);
                Arc::new(store::RecordBlobs::new(postgres.records(), entropy)) as Arc<dyn Blobs>
            }),
            _ => self.embedded.as_ref().map(EmbeddedStore::blobs),
        }
        .ok_or_else(|| not_open("storage.blobs"))
    }

    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "there is one engine"))]
    fn cache(&self, engine: Engine, ambient: &Ambient) -> Arc<dyn Cache> {
        #[cfg(feature = "redis")]
        if let (Engine::Redis, Some(redis)) = (engine, &self.redis) {
            return redis.cache();
        }
        let of_folder = self.embedded.as_ref().map(EmbeddedStore::cache);
        of_folder
            .unwrap_or_else(|| store_embedded::memory_cache(&Options::default(), Arc::clone(&ambient.clock)))
    }

    #[cfg(feature = "redis")]
    fn shared_limiter(
        &self,
        engine: Engine,
        local: &Arc<dyn Limiter>,
        ambient: &Ambient,
    ) -> Option<Arc<store::SharedOrLocal>> {
        let redis = self.redis.as_ref().filter(|_| engine == Engine::Redis)?;
        let (local, clock) = (Arc::clone(local), Arc::clone(&ambient.clock));
        Some(Arc::new(store::SharedOrLocal::new(redis.limiter(), local, clock)))
    }

    fn pulses(&self) -> Vec<Arc<Pulse>> {
        #[cfg_attr(
            not(any(
                feature = "clickhouse",
                feature = "kafka",
                feature = "postgres",
                feature = "redis",
                feature = "s3"
            )),
            expect(unused_mut, reason = "nothing to add")
        )]
        let mut pulses = Vec::new();
        #[cfg(feature = "postgres")]
        if let Some(postgres) = self.postgres.clone() {
            // The verdict of the pool's heartbeat, which has a connection of its own: a pool that is busy is not away.
            pulses.push(Pulse::new("database", true, Pace::QUICK, move |_| {
                let is_away = postgres.pool().is_open_circuit;
                let away =
                    || Error::new(codes::UNAVAILABLE, "the database is away; it is tried again every second");
                Box::pin(std::future::ready(if is_away { Err(away()) } else { Ok(()) }))
            }));
        }
        // Without it everything is read where writes go.
        #[cfg(feature = "postgres")]
        if let Some(postgres) = self.postgres.clone().filter(|postgres| postgres.read_pool().is_some()) {
            pulses.push(Pulse::new("database_replica", false, Pace::QUICK, move |limit| {
                let postgres = postgres.clone();
                Box::pin(async move { postgres.ping_replica(limit).await })
            }));
        }
        #[cfg(feature = "redis")]
        if let Some(redis) = self.redis.clone() {
            pulses.push(Pulse::new("cache", false, Pace::QUICK, move |_| {
                let redis = redis.clone();
                Box::pin(async move { redis.ping().await })
            }));
        }
        #[cfg(feature = "s3")]
        if let Some(s3) = self.s3.clone() {
            pulses.push(Pulse::new("bucket", false, Pace::SLOW, move |_| {
                let s3 = s3.clone();
                Box::pin(async move { s3.ping().await })
            }));
        }
        // Events are taken in without it, and wait in their topics until it is back.
        #[cfg(feature = "clickhouse")]
        if let Some(clickhouse) = self.clickhouse.clone() {
            pulses.push(Pulse::new("columns", false, Pace::QUICK, move |limit| {
                let clickhouse = clickhouse.clone();
                Box::pin(async move { clickhouse.ping(limit).await })
            }));
        }
        #[cfg(feature = "kafka")]
        if let Some(kafka) = self.kafka.clone() {
            pulses.push(Pulse::new("brokers", false, Pace::QUICK, move |limit| {
                let kafka = kafka.clone();
                Box::pin(async move { kafka.ping(limit).await })
            }));
        }
        pulses
    }
}

fn not_open(setting: &str) -> Error {
    let message = "names an engine that is not configured, or that this build does not have";
    Error::new(codes::VALIDATION_ERROR, message).with_field(setting)
}
