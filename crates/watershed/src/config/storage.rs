//! The `storage` section: which engine serves each port, and where the engines are.

use std::path::PathBuf;
use std::time::Duration;

use kernel::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sections::require;

#[cfg(feature = "clickhouse")]
pub(crate) type ClickHouseSettings = store_clickhouse::Settings;
#[cfg(not(feature = "clickhouse"))]
pub(crate) type ClickHouseSettings = not_built::NotBuilt<not_built::ClickHouse>;
#[cfg(feature = "kafka")]
pub(crate) type KafkaSettings = store_kafka::Settings;
#[cfg(not(feature = "kafka"))]
pub(crate) type KafkaSettings = not_built::NotBuilt<not_built::Kafka>;
#[cfg(feature = "postgres")]
pub(crate) type PostgresSettings = store_postgres::Settings;
#[cfg(not(feature = "postgres"))]
pub(crate) type PostgresSettings = not_built::NotBuilt<not_built::Postgres>;
#[cfg(feature = "redis")]
pub(crate) type RedisSettings = store_redis::Settings;
#[cfg(not(feature = "redis"))]
pub(crate) type RedisSettings = not_built::NotBuilt<not_built::Redis>;
#[cfg(feature = "s3")]
pub(crate) type S3Settings = store_s3::Settings;
#[cfg(not(feature = "s3"))]
pub(crate) type S3Settings = not_built::NotBuilt<not_built::S3>;

const MAX_RETENTION_DAYS: u32 = 36_500;

/// An engine that a port can be served by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// The best one that is configured, else the embedded one.
    #[default]
    Auto,
    /// The data folder.
    Embedded,
    /// The server of `storage.postgres`.
    Postgres,
    /// The servers of `storage.redis`.
    Redis,
    /// The bucket of `storage.s3`.
    S3,
    /// The brokers of `storage.kafka`.
    Kafka,
    /// The server of `storage.clickhouse`.
    ClickHouse,
}

/// Which engine serves each port, and where the engines are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StorageSettings {
    /// The folder of the embedded engines.
    pub data_dir: PathBuf,
    /// How long a start waits for a database or a bucket that does not answer, trying again and again, before it ends
    /// with an error; 0 tries once. A cache that is away is not waited for. At most 3,600.
    pub startup_timeout_secs: u64,
    /// Documents: `auto`, `embedded` or `postgres`.
    pub records: Engine,
    /// Events: `auto`, `embedded` or `postgres`.
    pub log: Engine,
    /// Topics of streams, which market data goes through: `auto`, `kafka`, or the engine of `log`. What stands in the topics
    /// of another engine is not carried over: a stage that was changed to brokers begins there, and goes on where it was when
    /// it is changed back.
    pub topics: Engine,
    /// What may vanish: `auto`, `embedded` or `redis`.
    pub cache: Engine,
    /// Nearest neighbours, which searches by meaning ask: `auto`, `embedded` or `postgres`. Vectors of another engine are not
    /// carried over: `POST /api/v1/embed/reindex` makes them again.
    pub vectors: Engine,
    /// Rows by series and time, such as prices and bars: `auto`, `embedded`, `postgres` or `clickhouse`. Rows of
    /// another engine are not carried over: `watershed projection rebuild` and `backfill` make them again.
    pub columns: Engine,
    /// Artifacts and checkpoints: `auto`, `embedded`, `postgres` or `s3`.
    pub blobs: Engine,
    /// Days that events stay in the log, by their own time; for ever where missing. Views, models and answers keep what
    /// older events made of them. What is read from the log does not: exports and lists of interactions, and a rebuild of
    /// the view. An older event that is sent again is taken for a new one.
    pub log_retention_days: Option<u32>,
    /// Start although events were cut from the log that no checkpoint holds: after a loss of the checkpoints, or under a
    /// version that cannot read those of an earlier one. What they said is then missing from the views.
    pub accept_partial_history: bool,
    /// The database.
    pub postgres: Option<PostgresSettings>,
    /// The cache servers.
    pub redis: Option<RedisSettings>,
    /// The bucket.
    pub s3: Option<S3Settings>,
    /// The brokers whose topics streams read and write (`topics`). They do not serve `log`: what a caller sends twice must be
    /// taken once, and brokers do not drop what they have.
    pub kafka: Option<KafkaSettings>,
    /// The column store, for rows by series and time that outgrow the database (`columns`).
    pub clickhouse: Option<ClickHouseSettings>,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("watershed-data"),
            startup_timeout_secs: 60,
            records: Engine::Auto,
            log: Engine::Auto,
            topics: Engine::Auto,
            cache: Engine::Auto,
            vectors: Engine::Auto,
            columns: Engine::Auto,
            blobs: Engine::Auto,
            log_retention_days: None,
            accept_partial_history: false,
            postgres: None,
            redis: None,
            s3: None,
            kafka: None,
            clickhouse: None,
        }
    }
}

/// The engine of each port, once `auto` is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub records: Engine,
    pub log: Engine,
    pub topics: Engine,
    pub cache: Engine,
    pub vectors: Engine,
    pub columns: Engine,
    pub blobs: Engine,
}

impl Chosen {
    /// Whether any port is served by this engine.
    #[cfg_attr(
        not(any(feature = "clickhouse", feature = "postgres", feature = "redis", feature = "s3")),
        expect(dead_code, reason = "there is one engine")
    )]
    pub(crate) fn uses(&self, engine: Engine) -> bool {
        [self.records, self.log, self.cache, self.vectors, self.columns, self.blobs].contains(&engine)
    }

    /// Whether any port is served by a server that a start cannot do without.
    pub(crate) fn needs_servers(&self) -> bool {
        let needed = [self.records, self.log, self.topics, self.vectors, self.columns, self.blobs];
        needed.iter().any(|engine| *engine != Engine::Embedded)
    }

    /// Whether other servers may work on the same records.
    pub(crate) fn shares_records(&self) -> bool {
        self.records != Engine::Embedded
    }

    /// Whether any port is served from the data folder.
    pub(crate) fn needs_folder(&self) -> bool {
        [self.records, self.log, self.vectors, self.columns, self.blobs].contains(&Engine::Embedded)
    }
}

impl StorageSettings {
    /// Settles `auto`.
    pub(crate) fn chosen(&self) -> Chosen {
        let first = |asked: Engine, configured: &[(bool, Engine)]| match asked {
            Engine::Auto => {
                let found = configured.iter().find(|(is_configured, _)| *is_configured);
                found.map_or(Engine::Embedded, |(_, engine)| *engine)
            }
            named => named,
        };
        let postgres = (self.is_configured(Engine::Postgres), Engine::Postgres);
        let clickhouse = (self.is_configured(Engine::ClickHouse), Engine::ClickHouse);
        let log = first(self.log, &[postgres]);
        Chosen {
            records: first(self.records, &[postgres]),
            log,
            topics: first(self.topics, &[(self.is_configured(Engine::Kafka), Engine::Kafka), (true, log)]),
            cache: first(self.cache, &[(self.is_configured(Engine::Redis), Engine::Redis)]),
            vectors: first(self.vectors, &[postgres]),
            columns: first(self.columns, &[clickhouse, postgres]),
            blobs: first(self.blobs, &[(self.is_configured(Engine::S3), Engine::S3), postgres]),
        }
    }

    /// Whether it is known where the engine is: a pool size alone names no server.
    fn is_configured(&self, engine: Engine) -> bool {
        match engine {
            #[cfg(feature = "postgres")]
            Engine::Postgres => self.postgres.as_ref().is_some_and(|postgres| postgres.url.is_some()),
            #[cfg(feature = "redis")]
            Engine::Redis => self.redis.as_ref().is_some_and(|redis| !redis.url.is_empty()),
            #[cfg(feature = "s3")]
            Engine::S3 => self.s3.as_ref().is_some_and(|s3| !s3.bucket.is_empty()),
            Engine::Embedded | Engine::Auto => true,
            #[cfg(feature = "kafka")]
            Engine::Kafka => self.kafka.as_ref().is_some_and(|kafka| !kafka.url.is_empty()),
            #[cfg(feature = "clickhouse")]
            Engine::ClickHouse => {
                self.clickhouse.as_ref().is_some_and(|clickhouse| !clickhouse.url.is_empty())
            }
            #[cfg(not(all(
                feature = "clickhouse",
                feature = "kafka",
                feature = "postgres",
                feature = "redis",
                feature = "s3"
            )))]
            _ => false,
        }
    }

    /// How old an event of the log may become.
    pub(crate) fn log_retention(&self) -> Option<Duration> {
        self.log_retention_days.map(|days| Duration::from_secs(u64::from(days) * 24 * 3_600))
    }

    pub(super) fn validate(&self) -> Result<()> {
        let is_bounded = self.startup_timeout_secs <= 3_600;
        require(is_bounded, "storage.startup_timeout_secs", "must be at most 3600")?;
        let documents: &[Engine] = &[Engine::Embedded, Engine::Postgres];
        let chosen = self.chosen();
        let topics = [Engine::Kafka, chosen.log];
        let ports: [(&str, Engine, &[Engine]); 7] = [
            ("storage.records", chosen.records, documents),
            ("storage.log", chosen.log, documents),
            ("storage.topics", chosen.topics, &topics),
            ("storage.vectors", chosen.vectors, documents),
            ("storage.columns", chosen.columns, &[Engine::Embedded, Engine::Postgres, Engine::ClickHouse]),
            ("storage.cache", chosen.cache, &[Engine::Embedded, Engine::Redis]),
            ("storage.blobs", chosen.blobs, &[Engine::Embedded, Engine::Postgres, Engine::S3]),
        ];
        for (name, engine, able) in ports {
            require(able.contains(&engine), name, "this engine does not serve this port; see the schema")?;
            let is_configured = self.is_configured(engine);
            require(is_configured, name, "says an engine that is not configured; give its section too")?;
        }
        #[cfg(feature = "clickhouse")]
        if let Some(clickhouse) = self.clickhouse.as_ref().filter(|clickhouse| !clickhouse.url.is_empty()) {
            clickhouse.check().map_err(|error| {
                let field = format!("storage.clickhouse.{}", error.field().unwrap_or_default());
                error.with_field(field)
            })?;
            let tables: Vec<&str> =
                market::projection::every_table().iter().map(|table| table.name).collect();
            for table in clickhouse.retention_days.keys() {
                let message = format!("names no table; there are {}", tables.join(", "));
                let field = format!("storage.clickhouse.retention_days.{table}");
                require(tables.contains(&table.as_str()), &field, &message)?;
            }
        }
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            kafka.check()?;
        }
        let days = self.log_retention_days;
        require(
            days.is_none_or(|days| (1..=MAX_RETENTION_DAYS).contains(&days)),
            "storage.log_retention_days",
            "must be between 1 and 36500",
        )
    }
}

#[cfg(not(all(
    feature = "clickhouse",
    feature = "kafka",
    feature = "postgres",
    feature = "redis",
    feature = "s3"
)))]
mod not_built {
    //! The sections of engines that this build leaves out: they are refused with what to do about it.

    use std::borrow::Cow;
    use std::marker::PhantomData;

    use schemars::{JsonSchema, Schema, SchemaGenerator};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// An engine's name and feature.
    pub(crate) trait Named {
        const NAME: &'static str;
    }

    macro_rules! named {
        ($($feature:literal $engine:ident $name:literal;)*) => {$(
            #[cfg(not(feature = $feature))]
            #[derive(Debug, Clone, PartialEq)]
            pub(crate) struct $engine;
            #[cfg(not(feature = $feature))]
            impl Named for $engine {
                const NAME: &'static str = $name;
            }
        )*};
    }

    named! {
        "clickhouse" ClickHouse "clickhouse";
        "kafka" Kafka "kafka";
        "postgres" Postgres "postgres";
        "redis" Redis "redis";
        "s3" S3 "s3";
    }

    /// Settings that no value of exists.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) enum NotBuilt<E> {
        #[expect(dead_code, reason = "it only carries the engine's type")]
        Never(std::convert::Infallible, PhantomData<E>),
    }

    impl<E> Serialize for NotBuilt<E> {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Never(never, _) => match *never {},
            }
        }
    }

    impl<'de, E: Named> Deserialize<'de> for NotBuilt<E> {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            let name = E::NAME;
            let message =
                format!("this build has no {name} engine; build with `cargo build --features {name}`");
            Err(serde::de::Error::custom(message))
        }
    }

    impl<E> JsonSchema for NotBuilt<E> {
        fn schema_name() -> Cow<'static, str> {
            "NotBuilt".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            Schema::from(false)
        }
    }
}
