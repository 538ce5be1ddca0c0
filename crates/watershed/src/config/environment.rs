//! The environment: the names that operators know, and the setting that each one sets.
//!
//! To add one: a line in [`NAMES`], or in [`IGNORED`] with the reason where there is nothing to set, then `make generate` for
//! `docs/generated/configuration.md`.

use std::collections::BTreeMap;

use kernel::{Error, Result, codes};
use toml::{Table, Value};

use super::Config;

/// How the text of a variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    /// Texts with commas between them.
    List,
    /// What the server is for; `local`, `dev` and `prod` are said too.
    Deployment,
    /// The address of a collector of traces: the port that speaks gRPC stands for the one that speaks HTTP.
    Collector,
}

const TRACING_ENDPOINT: &str = "TRACING_ENDPOINT";
/// The same setting by another name.
const OTEL_EXPORTER: &str = "ML_OTEL_EXPORTER";
const K_NEIGHBORS: &str = "COLLABORATIVE_K_NEIGHBORS";
/// Ports of a collector: OTLP over gRPC, and over HTTP.
const COLLECTOR_PORTS: [&str; 2] = [":4317", ":4318"];

/// Names that operators know and that set nothing here: the value that asks for what is done in any case, and why.
pub(crate) const IGNORED: &[(&str, &str, &str)] = &[
    ("REQUIRE_API_KEY", "true", "every request but the probes needs a key or a token"),
    ("ENABLE_MULTI_TENANCY", "true", "the key or the token says whose data a request is about"),
    ("METRICS_ENABLED", "true", "`/metrics` is always answered, and shows no data of tenants"),
    ("METRICS_PORT", "", "`/metrics` is answered on the server's own port"),
    (
        "DRAIN_REQUESTS_ON_SHUTDOWN",
        "true",
        "requests in flight are always finished, for `SHUTDOWN_TIMEOUT_SECS`",
    ),
    ("WEBHOOK_URL", "", "each tenant makes its webhooks with `POST /api/v1/webhooks`"),
    ("WEBHOOK_SECRET", "", "each webhook has its own secret, made from `WEBHOOK_SECRET_KEYS`"),
    ("USER_PREFERENCE_CACHE_TTL_SECS", "", "what users like is in memory, and always as it is now"),
    (
        "ENTITY_FEATURE_CACHE_TTL_SECS",
        "",
        "the features of entities are in memory, and always as they are now",
    ),
    ("TRENDING_UPDATE_INTERVAL_HOURS", "", "what trends is counted with every interaction"),
    ("POPULAR_ENTITIES_COUNT", "", "every entity is counted; a request says how many it wants"),
    ("COLLABORATIVE_MIN_SIMILARITY", "", "the strongest neighbours are kept, however similar they are"),
    ("MODEL_UPDATE_BATCH_SIZE", "", "a training reads all that there is"),
    ("BULK_IMPORT_BATCH_SIZE", "", "what comes in one request is written at once"),
    (
        "BULK_IMPORT_MAX_RECORDS",
        "",
        "`MAX_REQUEST_SIZE_MB` bounds a request, and streams of events have no end",
    ),
    ("BULK_EXPORT_BATCH_SIZE", "", "exports are streams"),
    ("ML_MODEL_STORAGE_PATH", "", "models lie in the registry, where `storage.blobs` says"),
    ("ML_AUTH_ENABLED", "true", "every request but the probes needs a key or a token"),
    ("ML_JWT_ACCESS_TOKEN_EXPIRE_MINUTES", "", "a token says itself when it ends; who makes it decides"),
    (
        "ML_AB_TESTING_ENABLED",
        "false",
        "canaries are begun one by one, with `watershed rollout` or over HTTP",
    ),
    (
        "ML_MLFLOW_TRACKING_URI",
        "",
        "the registry is this server; `ML_MLFLOW_PORT` gives it a port of its own. Commands ask the server of `--server`",
    ),
    ("ML_MLFLOW_BACKEND_DSN", "", "the registry keeps its records where `storage.records` says"),
    ("ML_MLFLOW_ARTIFACT_URI", "", "artifacts lie where `storage.blobs` says"),
    ("ML_MINIO_ENDPOINT", "", "`S3_ENDPOINT` says where artifacts lie"),
    ("ML_MINIO_ACCESS_KEY", "", "`AWS_ACCESS_KEY_ID` is the key to S3"),
    ("ML_MINIO_SECRET_KEY", "", "`AWS_SECRET_ACCESS_KEY` is the key to S3"),
    (
        "ML_MAX_BATCH_SIZE",
        "",
        "`runtime.max_batch_rows` and `search.batch_tokens` bound what is put together",
    ),
    ("ML_INGEST_QUEUE", "", "what is to be indexed is read from the event log"),
    ("ML_EMBEDDING_SERVICE_URL", "", "search and embeddings are one process"),
    ("ML_SEARCH_SERVICE_URL", "", "search and embeddings are one process"),
    ("ML_VECTOR_BACKEND", "", "vectors lie where `storage.vectors` says"),
    (
        "ML_VECTOR_DUAL_WRITE",
        "false",
        "one engine has the vectors; another model's are made beside the old ones",
    ),
    ("ML_VECTOR_READ_FROM_SECONDARY", "false", "one engine has the vectors"),
    ("ML_VECTOR_DIMENSION", "", "the encoder says how long its vectors are"),
    ("ML_OPENSEARCH_HOSTS", "", "words are indexed by this server, which asks no OpenSearch"),
    ("ML_OPENSEARCH_INDEX", "", "words are indexed by this server, which asks no OpenSearch"),
    ("ML_SEARCH_QUERY_CACHE_TTL", "", "results of searches are not kept: they show the index as it is now"),
    ("ML_SEARCH_RESULT_CACHE_TTL", "", "results of searches are not kept: they show the index as it is now"),
    ("DATA_PROC_CLICKHOUSE_POOL_MIN", "", "connections to ClickHouse are opened when they are needed"),
];

/// Variable, the setting that it sets, the kind of its value.
pub(crate) const NAMES: &[(&str, &str, Kind)] = &[
    ("ML_ENV", "server.environment", Kind::Deployment),
    ("ENVIRONMENT", "server.environment", Kind::Text),
    ("ROLES", "server.roles", Kind::List),
    ("HOST", "server.host", Kind::Text),
    ("PORT", "server.port", Kind::Integer),
    ("ML_MLFLOW_PORT", "server.ports.registry", Kind::Integer),
    ("ML_MODEL_SERVING_PORT", "server.ports.serving", Kind::Integer),
    ("ML_EMBEDDING_PORT", "server.ports.embedding", Kind::Integer),
    ("ML_SEARCH_PORT", "server.ports.search", Kind::Integer),
    ("WORKER_THREADS", "server.worker_threads", Kind::Integer),
    ("MAX_BLOCKING_THREADS", "server.max_blocking_threads", Kind::Integer),
    ("ENABLE_COMPRESSION", "server.compression", Kind::Boolean),
    ("ENABLE_CORS", "server.cors.enabled", Kind::Boolean),
    ("CORS_ALLOWED_ORIGINS", "server.cors.allowed_origins", Kind::List),
    ("MAX_REQUEST_SIZE_MB", "server.max_request_size_mb", Kind::Integer),
    ("SHUTDOWN_TIMEOUT_SECS", "server.shutdown_timeout_secs", Kind::Integer),
    ("MAX_CONNECTIONS", "server.max_connections", Kind::Integer),
    ("IDLE_TIMEOUT_SECS", "server.idle_timeout_secs", Kind::Integer),
    ("TLS_CERT_FILE", "server.tls.certificate", Kind::Text),
    ("TLS_KEY_FILE", "server.tls.key", Kind::Text),
    ("TLS_CLIENT_CA_FILE", "server.tls.client_ca", Kind::Text),
    ("TLS_CLIENT_AUTH", "server.tls.client_auth", Kind::Text),
    ("SHUTDOWN_DELAY_SECS", "server.shutdown_delay_secs", Kind::Integer),
    ("RATE_LIMIT_ENABLED", "server.rate_limit.enabled", Kind::Boolean),
    ("RATE_LIMIT_REQUESTS_PER_MINUTE", "server.rate_limit.requests_per_minute", Kind::Integer),
    ("RATE_LIMIT_BURST_SIZE", "server.rate_limit.burst_size", Kind::Integer),
    ("RATE_LIMIT_TENANT_REQUESTS_PER_MINUTE", "server.rate_limit.tenant_requests_per_minute", Kind::Integer),
    ("RATE_LIMIT_TENANT_BURST_SIZE", "server.rate_limit.tenant_burst_size", Kind::Integer),
    ("API_KEY", "auth.api_key", Kind::Text),
    ("DEFAULT_TENANT_ID", "auth.tenant", Kind::Text),
    ("ML_JWT_SECRET_KEY", "auth.jwt.secret", Kind::Text),
    ("ML_JWT_ALGORITHM", "auth.jwt.algorithms", Kind::List),
    ("JWT_SECRET", "auth.jwt.secret", Kind::Text),
    ("JWT_SECRET_KEY", "auth.jwt.secret", Kind::Text),
    ("JWT_ALGORITHM", "auth.jwt.algorithms", Kind::List),
    ("JWT_JWKS_URL", "auth.jwt.jwks_url", Kind::Text),
    ("JWT_JWKS_FILE", "auth.jwt.jwks_file", Kind::Text),
    ("JWT_ISSUER", "auth.jwt.issuer", Kind::Text),
    ("JWT_AUDIENCE", "auth.jwt.audience", Kind::Text),
    ("JWT_LEEWAY_SECS", "auth.jwt.leeway_secs", Kind::Integer),
    ("JWT_TENANT_CLAIM", "auth.jwt.tenant_claim", Kind::Text),
    ("JWT_ROLES_CLAIM", "auth.jwt.roles_claim", Kind::Text),
    ("WATERSHED_DATA_DIR", "storage.data_dir", Kind::Text),
    ("STARTUP_TIMEOUT_SECS", "storage.startup_timeout_secs", Kind::Integer),
    ("ML_VECTOR_DB_DSN", "storage.postgres.url", Kind::Text),
    ("DATABASE_URL", "storage.postgres.url", Kind::Text),
    ("DATABASE_WRITE_URL", "storage.postgres.url", Kind::Text),
    ("DATABASE_READ_URL", "storage.postgres.read_url", Kind::Text),
    ("DATABASE_MAX_CONNECTIONS", "storage.postgres.max_connections", Kind::Integer),
    ("DATABASE_MIN_CONNECTIONS", "storage.postgres.min_connections", Kind::Integer),
    ("DATABASE_ACQUIRE_TIMEOUT_SECS", "storage.postgres.acquire_timeout_seconds", Kind::Number),
    ("DATABASE_IDLE_TIMEOUT_SECS", "storage.postgres.idle_timeout_seconds", Kind::Number),
    ("DATABASE_MAX_LIFETIME_SECS", "storage.postgres.max_lifetime_seconds", Kind::Number),
    ("ML_REDIS_URL", "storage.redis.url", Kind::Text),
    ("REDIS_URL", "storage.redis.url", Kind::Text),
    ("REDIS_CLUSTER_MODE", "storage.redis.mode", Kind::Text),
    ("REDIS_POOL_SIZE", "storage.redis.pool_size", Kind::Integer),
    ("REDIS_CONNECTION_TIMEOUT_SECS", "storage.redis.connection_timeout_secs", Kind::Integer),
    ("S3_BUCKET", "storage.s3.bucket", Kind::Text),
    ("S3_ENDPOINT", "storage.s3.endpoint", Kind::Text),
    ("DATA_PROC_KAFKA_BOOTSTRAP", "storage.kafka.url", Kind::Text),
    ("DATA_PROC_KAFKA_AUTO_OFFSET_RESET", "storage.kafka.auto_offset_reset", Kind::Text),
    ("DATA_PROC_KAFKA_AUTO_COMMIT", "storage.kafka.auto_commit", Kind::Boolean),
    ("DATA_PROC_KAFKA_MAX_POLL_RECORDS", "storage.kafka.max_poll_records", Kind::Integer),
    ("DATA_PROC_KAFKA_SESSION_TIMEOUT_MS", "storage.kafka.session_timeout_ms", Kind::Integer),
    ("DATA_PROC_KAFKA_FETCH_MIN_BYTES", "storage.kafka.fetch_min_bytes", Kind::Integer),
    ("DATA_PROC_KAFKA_FETCH_MAX_WAIT_MS", "storage.kafka.fetch_max_wait_ms", Kind::Integer),
    ("DATA_PROC_CLICKHOUSE_URL", "storage.clickhouse.url", Kind::Text),
    ("DATA_PROC_CLICKHOUSE_DATABASE", "storage.clickhouse.database", Kind::Text),
    ("DATA_PROC_CLICKHOUSE_POOL_MAX", "storage.clickhouse.max_connections", Kind::Integer),
    ("ENCRYPT_PERSONAL", "compliance.encrypt_personal", Kind::Boolean),
    ("ENCRYPTION_KEYS", "compliance.encryption_keys", Kind::List),
    ("ENCRYPTION_KEY", "compliance.encryption_keys", Kind::List),
    ("BACKUP_TO", "backup.to", Kind::Text),
    ("BACKUP_EVERY_SECS", "backup.every_secs", Kind::Integer),
    ("BACKUP_KEEP", "backup.keep", Kind::Integer),
    ("ML_LOG_LEVEL", "log.level", Kind::Text),
    ("ML_LOG_FORMAT", "log.format", Kind::Text),
    ("LOG_LEVEL", "log.level", Kind::Text),
    ("RUST_LOG", "log.filter", Kind::Text),
    ("LOG_FORMAT", "log.format", Kind::Text),
    ("ML_TRACING_ENABLED", "trace.enabled", Kind::Boolean),
    ("ML_OTEL_SERVICE_NAME", "trace.service_name", Kind::Text),
    ("TRACING_ENABLED", "trace.enabled", Kind::Boolean),
    // Before the standard's name, which wins.
    (TRACING_ENDPOINT, "trace.endpoint", Kind::Collector),
    (OTEL_EXPORTER, "trace.endpoint", Kind::Collector),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "trace.endpoint", Kind::Text),
    ("OTEL_SERVICE_NAME", "trace.service_name", Kind::Text),
    ("OTEL_TRACES_SAMPLER_ARG", "trace.sample_ratio", Kind::Number),
    (
        "SIMILARITY_THRESHOLD",
        "recommend.training.algorithm_settings.content.similarity_threshold",
        Kind::Number,
    ),
    (
        "FEATURE_VECTOR_DIMENSION",
        "recommend.training.algorithm_settings.content.feature_vector_dimension",
        Kind::Integer,
    ),
    ("USE_TFIDF_FOR_TEXT", "recommend.training.algorithm_settings.content.use_tfidf_for_text", Kind::Boolean),
    (
        "NORMALIZE_NUMERICAL_FEATURES",
        "recommend.training.algorithm_settings.content.normalize_numerical_features",
        Kind::Boolean,
    ),
    (K_NEIGHBORS, "recommend.training.algorithm_settings.neighbours.neighbour_count", Kind::Integer),
    ("DEFAULT_RECOMMENDATION_COUNT", "recommend.answers.default_count", Kind::Integer),
    ("MAX_RECOMMENDATION_COUNT", "recommend.answers.max_count", Kind::Integer),
    ("COLLABORATIVE_WEIGHT", "recommend.answers.collaborative_weight", Kind::Number),
    ("CONTENT_BASED_WEIGHT", "recommend.answers.content_based_weight", Kind::Number),
    ("COLD_START_MIN_INTERACTIONS", "recommend.answers.cold_start_min_interactions", Kind::Integer),
    ("TRENDING_WINDOW_DAYS", "recommend.answers.trending_window_days", Kind::Integer),
    ("RECOMMENDATION_CACHE_TTL_SECS", "recommend.cache.recommendation_ttl_secs", Kind::Integer),
    ("TRENDING_CACHE_TTL_SECS", "recommend.cache.trending_ttl_secs", Kind::Integer),
    ("AUTO_REGISTER_ENTITIES", "recommend.ingest.auto_register_entities", Kind::Boolean),
    ("AUTO_REGISTER_INTERACTION_TYPES", "recommend.ingest.auto_register_interaction_types", Kind::Boolean),
    (
        "INCREMENTAL_UPDATE_INTERVAL_SECS",
        "recommend.schedule.incremental_update_interval_secs",
        Kind::Integer,
    ),
    ("FULL_REBUILD_INTERVAL_HOURS", "recommend.schedule.full_rebuild_interval_hours", Kind::Integer),
    ("DATA_PROC_TENANT_ID", "auth.tenant", Kind::Text),
    ("DATA_PROC_NORMALIZATION_MIN_PRICE", "market.quality.price_min", Kind::Number),
    ("DATA_PROC_NORMALIZATION_MAX_PRICE", "market.quality.price_max", Kind::Number),
    ("DATA_PROC_NORMALIZATION_MAX_BATCH_SIZE", "market.stages.batch_events", Kind::Integer),
    ("DATA_PROC_AGGREGATION_WATERMARK_DELAY", "market.bars.watermark_delay_seconds", Kind::Integer),
    ("DATA_PROC_AGGREGATION_LATE_DATA_THRESHOLD", "market.bars.allowed_lateness_seconds", Kind::Integer),
    ("DATA_PROC_PROJECTION_CACHE_TTL", "market.cache.ttl_seconds", Kind::Integer),
    ("NORMALIZE_TICKS_IDEMPOTENCY_TTL_SECONDS", "market.stages.deduplication_seconds", Kind::Integer),
    #[cfg(feature = "search")]
    ("ML_EMBEDDING_MODEL", "search.model_name", Kind::Text),
    #[cfg(feature = "search")]
    ("ML_EMBEDDING_MODEL_PATH", "search.model_path", Kind::Text),
    #[cfg(feature = "search")]
    ("HF_ENDPOINT", "search.hub_url", Kind::Text),
    #[cfg(feature = "search")]
    ("ML_SEARCH_EMBEDDING_CACHE_TTL", "search.embedding_cache_ttl_secs", Kind::Integer),
    #[cfg(feature = "search")]
    ("ML_SEARCH_FUSION_ALGORITHM", "search.fusion", Kind::Text),
    ("ML_MODEL_DEFAULT_NAME", "runtime.default_model", Kind::Text),
    ("ML_GPU_PREFERENCE", "runtime.onnxruntime.device", Kind::Text),
    ("ORT_DYLIB_PATH", "runtime.onnxruntime.library", Kind::Text),
    ("WEBHOOK_ENABLED", "webhooks.enabled", Kind::Boolean),
    ("WEBHOOK_SECRET_KEYS", "webhooks.secret_keys", Kind::List),
    ("WEBHOOK_RETRY_MAX_ATTEMPTS", "webhooks.max_attempts", Kind::Integer),
    ("WEBHOOK_RETRY_BACKOFF_SECS", "webhooks.retry_backoff_secs", Kind::Integer),
];

/// The variables of the process, or those of a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<&'static str, String>);

impl Environment {
    /// What the process was started with. Empty variables count as not set.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub(crate) fn of_process() -> Self {
        let names = NAMES.iter().map(|known| known.0).chain(IGNORED.iter().map(|known| known.0));
        let read =
            |name| std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (name, value));
        Self(names.filter_map(read).collect())
    }

    #[cfg(test)]
    pub(crate) fn of(variables: &[(&'static str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    }

    /// The variables that are set and do not do what they say, and why; operators are to be told.
    pub(crate) fn without_effect(&self, config: &Config) -> Vec<(&'static str, &'static str)> {
        let asks_otherwise = |(name, wanted, _): &&(&str, &str, &str)| {
            self.0.get(*name).is_some_and(|value| wanted.is_empty() || !value.eq_ignore_ascii_case(wanted))
        };
        let mut told: Vec<_> =
            IGNORED.iter().filter(asks_otherwise).map(|known| (known.0, known.2)).collect();
        if self.0.contains_key(K_NEIGHBORS) && !config.recommend.training.algorithms.neighbours {
            told.push((
                K_NEIGHBORS,
                "`recommend.training.algorithms.neighbours` is off, for others are better",
            ));
        }
        for name in [TRACING_ENDPOINT, OTEL_EXPORTER] {
            let is_grpc = self.0.get(name).is_some_and(|endpoint| endpoint.ends_with(COLLECTOR_PORTS[0]));
            if is_grpc && config.trace.collector().is_some() {
                told.push((name, "spans go over HTTP, to port 4318; 4317 speaks gRPC"));
            }
        }
        told
    }

    pub(super) fn apply(&self, table: &mut Table) -> Result<()> {
        for (name, path, kind) in NAMES {
            if let Some(text) = self.0.get(name) {
                super::set(table, path, value_of(name, text, *kind)?);
            }
        }
        Ok(())
    }
}

/// The variables that every client of S3 knows.
#[cfg(feature = "s3")]
pub(crate) fn aws_variables() -> Vec<(String, String)> {
    std::env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect()
}

fn value_of(name: &str, text: &str, kind: Kind) -> Result<Value> {
    let fault = |wanted: &str| {
        Error::new(codes::VALIDATION_ERROR, format!("`{text}` is not {wanted}")).with_field(name)
    };
    match kind {
        Kind::Text => Ok(Value::String(text.to_owned())),
        Kind::Collector => {
            let [grpc, http] = COLLECTOR_PORTS;
            let host = text.strip_suffix(grpc);
            Ok(Value::String(host.map_or_else(|| text.to_owned(), |host| format!("{host}{http}"))))
        }
        Kind::Deployment => {
            let name = match text {
                "local" | "dev" => "development",
                "prod" => "production",
                other => other,
            };
            Ok(Value::String(name.to_owned()))
        }
        Kind::List => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
        }
        Kind::Integer => text.parse().map(Value::Integer).map_err(|_| fault("a whole number")),
        Kind::Number => text.parse().map(Value::Float).map_err(|_| fault("a number")),
        Kind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Value::Boolean(true)),
            "false" | "0" | "no" | "off" => Ok(Value::Boolean(false)),
            _ => Err(fault("true or false")),
        },
    }
}
