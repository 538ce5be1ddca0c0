//! The environment: the names that operators know, and the setting that each one sets.
//!
//! To add one: a line in [`NAMES`], then `make generate` for `docs/generated/configuration.md`.

use std::collections::BTreeMap;

use kernel::{Error, Result, codes};
use toml::{Table, Value};

/// How the text of a variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    /// Texts with commas between them.
    List,
}

/// Variable, the setting that it sets, the kind of its value.
pub(crate) const NAMES: &[(&str, &str, Kind)] = &[
    ("ENVIRONMENT", "server.environment", Kind::Text),
    ("ROLES", "server.roles", Kind::List),
    ("HOST", "server.host", Kind::Text),
    ("PORT", "server.port", Kind::Integer),
    ("WORKER_THREADS", "server.worker_threads", Kind::Integer),
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
    ("DATABASE_URL", "storage.postgres.url", Kind::Text),
    ("DATABASE_WRITE_URL", "storage.postgres.url", Kind::Text),
    ("DATABASE_READ_URL", "storage.postgres.read_url", Kind::Text),
    ("DATABASE_MAX_CONNECTIONS", "storage.postgres.max_connections", Kind::Integer),
    ("DATABASE_MIN_CONNECTIONS", "storage.postgres.min_connections", Kind::Integer),
    ("DATABASE_ACQUIRE_TIMEOUT_SECS", "storage.postgres.acquire_timeout_seconds", Kind::Number),
    ("DATABASE_IDLE_TIMEOUT_SECS", "storage.postgres.idle_timeout_seconds", Kind::Number),
    ("DATABASE_MAX_LIFETIME_SECS", "storage.postgres.max_lifetime_seconds", Kind::Number),
    ("REDIS_URL", "storage.redis.url", Kind::Text),
    ("REDIS_CLUSTER_MODE", "storage.redis.mode", Kind::Text),
    ("REDIS_POOL_SIZE", "storage.redis.pool_size", Kind::Integer),
    ("REDIS_CONNECTION_TIMEOUT_SECS", "storage.redis.connection_timeout_secs", Kind::Integer),
    ("S3_BUCKET", "storage.s3.bucket", Kind::Text),
    ("S3_ENDPOINT", "storage.s3.endpoint", Kind::Text),
    ("ENCRYPT_PERSONAL", "compliance.encrypt_personal", Kind::Boolean),
    ("ENCRYPTION_KEYS", "compliance.encryption_keys", Kind::List),
    ("ENCRYPTION_KEY", "compliance.encryption_keys", Kind::List),
    ("BACKUP_TO", "backup.to", Kind::Text),
    ("BACKUP_EVERY_SECS", "backup.every_secs", Kind::Integer),
    ("BACKUP_KEEP", "backup.keep", Kind::Integer),
    ("LOG_LEVEL", "log.level", Kind::Text),
    ("RUST_LOG", "log.filter", Kind::Text),
    ("LOG_FORMAT", "log.format", Kind::Text),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "trace.endpoint", Kind::Text),
    ("OTEL_SERVICE_NAME", "trace.service_name", Kind::Text),
    ("OTEL_TRACES_SAMPLER_ARG", "trace.sample_ratio", Kind::Number),
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
        let read = |(name, _, _): &(&'static str, _, _)| {
            std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| (*name, value))
        };
        Self(NAMES.iter().filter_map(read).collect())
    }

    #[cfg(test)]
    pub(crate) fn of(variables: &[(&'static str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
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
