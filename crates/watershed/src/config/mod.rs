//! Configuration: a TOML file, over it the environment, over it the flags.
//!
//! Each crate owns the type of its section; only this one sees the whole. To add a setting: a field with a doc
//! comment and a default in its owner's section, and a line in [`environment`] if operators know a name for it;
//! then `make generate` for the schema and `docs/generated/configuration.md`.

mod backup;
mod browsers;
mod client;
mod environment;
mod jwt;
mod ports;
mod reference;
mod roles;
mod secrets;
mod sections;
mod storage;
mod tls;

use std::path::Path;

use kernel::{Error, Result, codes};
use market::MarketSettings;
use privacy::PrivacySettings;
use recommend::RecommendSettings;
use registry::RegistrySettings;
use runtime::RuntimeSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use webhooks::WebhookSettings;

pub(crate) use backup::BackupSettings;
use client::ClientSettings;
pub(crate) use environment::Environment;
#[cfg(feature = "s3")]
pub(crate) use environment::aws_variables;
pub(crate) use jwt::{JwtSettings, jwks_url};
pub(crate) use ports::Part;
pub(crate) use reference::page as reference;
pub(crate) use roles::{Role, Roles};
pub(crate) use sections::{AuthSettings, LogFormat, LogSettings, ServerSettings, TraceSettings};
use sections::{Deployment, require};
pub(crate) use storage::{Engine, StorageSettings};

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where and how it listens.
    pub server: ServerSettings,
    /// Who may ask.
    pub auth: AuthSettings,
    /// Which engines, and where they are.
    pub storage: StorageSettings,
    /// Where backups go, and how often.
    pub backup: BackupSettings,
    /// Which running server commands ask.
    pub client: ClientSettings,
    /// What it tells of itself.
    pub log: LogSettings,
    /// Where traces of requests go.
    pub trace: TraceSettings,
    /// Recommendations.
    pub recommend: RecommendSettings,
    /// Experiments, runs and models.
    pub registry: RegistrySettings,
    /// How registered models are served.
    pub runtime: RuntimeSettings,
    /// Market data.
    pub market: MarketSettings,
    /// How personal data is kept.
    pub compliance: PrivacySettings,
    /// Messages about what happened, sent to addresses that tenants name.
    pub webhooks: WebhookSettings,
    /// Search by words and by meaning.
    #[cfg(feature = "search")]
    pub search: search::SearchSettings,
}

/// One setting given by a flag: its path and value.
pub(crate) type Override = (&'static str, Value);

impl Config {
    /// Reads the file (the default one may be missing), then the environment, then `overrides`.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting and where it was given.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: &Environment,
        overrides: Vec<Override>,
    ) -> Result<Self> {
        let mut table = match file {
            Some(path) => read_file(path)?,
            None => Table::new(),
        };
        environment.apply(&mut table)?;
        for (path, value) in overrides {
            set(&mut table, path, value);
        }
        let config: Self = serde_path_to_error::deserialize(Value::Table(table)).map_err(|fault| {
            let field = fault.path().to_string();
            Error::new(codes::VALIDATION_ERROR, fault.into_inner().message().to_owned()).with_field(field)
        })?;
        config.validate()?;
        Ok(config)
    }

    /// Gives every part of the API that this build has a port: the one that is set, or its usual one.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where that port is another's.
    pub(crate) fn open_usual_ports(&mut self) -> Result<()> {
        self.server.ports.fill();
        self.validate()
    }

    fn validate(&self) -> Result<()> {
        self.server.validate()?;
        self.auth.validate()?;
        self.storage.validate()?;
        self.backup.validate()?;
        self.client.validate()?;
        self.trace.validate()?;
        self.recommend.validate()?;
        self.registry.validate()?;
        self.runtime.validate()?;
        self.market.validate()?;
        let is_read_by_others = self.storage.chosen().cache == Engine::Redis;
        let rule = "needs Redis, which others can read: set `storage.redis.url`";
        require(is_read_by_others || !self.market.cache.enabled, "market.cache.enabled", rule)?;
        self.compliance.validate()?;
        self.validate_keys()?;
        #[cfg(feature = "search")]
        self.search.validate()?;
        self.webhooks.validate()?;
        secrets::validate(self)
    }

    /// In production, a key that lies beside what it seals is refused.
    fn validate_keys(&self) -> Result<()> {
        let keys = &self.compliance.encryption_keys;
        let in_production = self.server.environment == Deployment::Production;
        let has_keys = !keys.is_empty() || !self.compliance.encrypt_personal;
        let rule = "must be given in production; `openssl rand -base64 32` makes one";
        require(!in_production || has_keys, "compliance.encryption_keys", rule)?;
        let is_shared = self.storage.chosen().records != Engine::Embedded;
        let rule = "must be given, the same on every replica; `openssl rand -base64 32` makes one";
        require(!is_shared || has_keys, "compliance.encryption_keys", rule)
    }
}

fn read_file(path: &Path) -> Result<Table> {
    let fault =
        |message: String| Error::new(codes::VALIDATION_ERROR, message).with_field(path.display().to_string());
    let text = std::fs::read_to_string(path).map_err(|cause| fault(format!("cannot be read: {cause}")))?;
    text.parse().map_err(|cause| fault(format!("is not TOML: {cause}")))
}

/// Sets `a.b.c` in a table, making the tables on the way.
fn set(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_environment_over_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watershed.toml");
        std::fs::write(
            &path,
            "[server]\nport = 1\nhost = \"127.0.0.1\"\n[recommend.answers]\ndefault_count = 7\n",
        )
        .unwrap();
        let environment = Environment::of(&[("PORT", "2"), ("MAX_RECOMMENDATION_COUNT", "50")]);
        let config = Config::load(Some(&path), &environment, vec![]).unwrap();
        assert_eq!((config.server.port, config.server.host.as_str()), (2, "127.0.0.1"));
        assert_eq!(config.recommend.answers.default_count, 7);
        assert_eq!(config.recommend.answers.max_count, 50);
        let flags = vec![("server.port", Value::Integer(3))];
        assert_eq!(Config::load(Some(&path), &environment, flags).unwrap().server.port, 3);
    }

    #[cfg(feature = "redis")]
    #[test]
    fn prices_for_others_need_a_cache_that_others_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watershed.toml");
        std::fs::write(&path, "[market.cache]\nenabled = true\n").unwrap();
        let refused = Config::load(Some(&path), &Environment::of(&[]), vec![]).unwrap_err();
        assert_eq!(refused.field(), Some("market.cache.enabled"));
        let environment = Environment::of(&[("REDIS_URL", "redis://127.0.0.1:6379")]);
        assert!(Config::load(Some(&path), &environment, vec![]).is_ok());
    }

    #[test]
    fn names_of_the_earlier_system_set_what_they_say() {
        let environment = Environment::of(&[
            ("SIMILARITY_THRESHOLD", "0.7"),
            ("FEATURE_VECTOR_DIMENSION", "256"),
            ("USE_TFIDF_FOR_TEXT", "false"),
            ("NORMALIZE_NUMERICAL_FEATURES", "no"),
            ("COLLABORATIVE_K_NEIGHBORS", "40"),
            ("MAX_BLOCKING_THREADS", "64"),
            ("ENABLE_CORS", "true"),
            ("CORS_ALLOWED_ORIGINS", "https://a.example, https://b.example"),
            ("ENABLE_COMPRESSION", "true"),
            ("TRACING_ENABLED", "false"),
            ("REQUIRE_API_KEY", "true"),
            ("BULK_IMPORT_BATCH_SIZE", "1000"),
        ]);
        let config = Config::load(None, &environment, vec![]).unwrap();
        let settings = &config.recommend.training.algorithm_settings;
        let set: Vec<_> =
            settings.values().flatten().map(|(name, value)| format!("{name} {value}")).collect();
        let expected = [
            "feature_vector_dimension 256",
            "normalize_numerical_features false",
            "similarity_threshold 0.7",
            "use_tfidf_for_text false",
            "neighbour_count 40",
        ];
        assert_eq!(set, expected);
        assert!(config.server.compression && config.server.cors.enabled && !config.trace.enabled);
        assert_eq!(config.server.cors.allowed_origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.server.max_blocking_threads, 64);
        let told: Vec<_> = environment.without_effect(&config).into_iter().map(|(name, _)| name).collect();
        assert_eq!(told, ["BULK_IMPORT_BATCH_SIZE", "COLLABORATIVE_K_NEIGHBORS"]);
    }

    #[test]
    fn every_part_may_have_its_usual_port() {
        let environment = Environment::of(&[("ML_MODEL_SERVING_PORT", "19005")]);
        let mut config = Config::load(None, &environment, vec![]).unwrap();
        config.open_usual_ports().unwrap();
        let ports: Vec<_> = config.server.ports.asked().into_iter().map(|(_, port)| port).collect();
        let search = if cfg!(feature = "search") { &[9006, 9007][..] } else { &[] };
        assert_eq!(ports, [&[5000, 19005][..], search].concat());
        config.server.port = 5000;
        assert_eq!(config.open_usual_ports().unwrap_err().field(), Some("server.ports.registry"));
    }

    #[test]
    fn names_of_the_platform_of_models_set_what_they_say() {
        let environment = Environment::of(&[
            ("ML_ENV", "dev"),
            ("ML_MLFLOW_PORT", "5000"),
            ("ML_MODEL_SERVING_PORT", "9005"),
            ("ML_JWT_SECRET_KEY", "Zk3vX9pQ2mL7sT4yB8wR1cN6hJ5dF0gA"),
            ("ML_JWT_ALGORITHM", "HS256"),
            ("ML_LOG_LEVEL", "INFO"),
            ("ML_LOG_FORMAT", "json"),
            ("ML_OTEL_SERVICE_NAME", "ml-platform"),
            ("ML_TRACING_ENABLED", "false"),
            ("ML_GPU_PREFERENCE", "auto"),
            ("ML_AUTH_ENABLED", "false"),
            ("ML_AB_TESTING_ENABLED", "false"),
            ("ML_MLFLOW_TRACKING_URI", "http://mlflow-server:5000"),
            ("ML_VECTOR_DIMENSION", "384"),
        ]);
        let config = Config::load(None, &environment, vec![]).unwrap();
        assert_eq!(config.server.environment, Deployment::Development);
        assert_eq!(config.server.ports.asked(), [(Part::Registry, 5000), (Part::Serving, 9005)]);
        assert_eq!((config.log.level.as_str(), config.log.format), ("INFO", LogFormat::Json));
        assert!(config.auth.jwt.is_enabled() && !config.trace.enabled);
        let told: Vec<_> = environment.without_effect(&config).into_iter().map(|(name, _)| name).collect();
        assert_eq!(told, ["ML_AUTH_ENABLED", "ML_MLFLOW_TRACKING_URI", "ML_VECTOR_DIMENSION"]);
    }

    #[cfg(feature = "otlp")]
    #[test]
    fn a_collector_of_the_earlier_system_is_asked_over_http() {
        let check = |variables: &[(&'static str, &str)], endpoint: &str, told: usize| {
            let environment = Environment::of(variables);
            let config = Config::load(None, &environment, vec![]).unwrap();
            assert_eq!(config.trace.endpoint.as_deref(), Some(endpoint));
            assert_eq!(environment.without_effect(&config).len(), told);
        };
        check(&[("TRACING_ENDPOINT", "http://collector:4317")], "http://collector:4318", 1);
        check(&[("TRACING_ENDPOINT", "http://collector:4318")], "http://collector:4318", 0);
        let both = [
            ("TRACING_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://other:4318"),
        ];
        check(&both, "http://other:4318", 0);
    }

    #[test]
    fn a_variable_may_hold_a_list() {
        let secret = "Zk3vX9pQ2mL7sT4yB8wR1cN6hJ5dF0gA";
        let environment = Environment::of(&[("JWT_SECRET", secret), ("JWT_ALGORITHM", "HS256, HS512")]);
        let config = Config::load(None, &environment, vec![]).unwrap();
        assert_eq!(config.auth.jwt.algorithms, ["HS256", "HS512"]);
        let shown = toml::to_string(&config).unwrap();
        assert!(!shown.contains(secret) && !format!("{config:?}").contains(secret), "{shown}");
    }

    #[test]
    fn faults_name_the_setting() {
        let check = |toml: &str, environment: &[(&'static str, &str)], part: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("watershed.toml");
            std::fs::write(&path, toml).unwrap();
            let error = Config::load(Some(&path), &Environment::of(environment), vec![]).unwrap_err();
            assert!(error.to_string().contains(part), "{error} does not say `{part}`");
        };
        check("[server]\nprot = 1", &[], "server.prot: unknown field `prot`");
        check("[server]\nport = 70000", &[], "server.port");
        check("server", &[], "is not TOML");
        check("", &[("PORT", "eighty")], "PORT");
        check("", &[("ML_MODEL_SERVING_PORT", "8080")], "server.ports.serving: must be another port than");
        check("", &[("ML_MLFLOW_PORT", "70000")], "server.ports.registry");
        check("", &[("ML_ENV", "moon")], "server.environment");
        check("[client]\nserver = \"localhost:8080\"", &[], "client.server: is the address of a server");
        check(
            "",
            &[("ML_ENV", "prod"), ("ML_JWT_SECRET_KEY", "dev-secret-key-change-in-production")],
            "auth.jwt.secret",
        );
        check("", &[("ENVIRONMENT", "production"), ("API_KEY", "my-secret-key-of-length")], "auth.api_key");
        check("", &[("DEFAULT_TENANT_ID", "_system")], "auth.tenant");
        check("", &[("JWT_SECRET", "short")], "auth.jwt.secret");
        let known = "your-256-bit-secret-goes-in-here";
        check("", &[("ENVIRONMENT", "production"), ("JWT_SECRET_KEY", known)], "auth.jwt.secret");
        check("", &[("JWT_JWKS_URL", "http://id.example/keys")], "auth.jwt.jwks_url");
        check("", &[("TLS_CERT_FILE", "certificate.pem")], "server.tls");
        check("", &[("TLS_CLIENT_CA_FILE", "clients.pem")], "server.tls");
        check("", &[("MAX_CONNECTIONS", "0")], "server.max_connections");
        check(
            "",
            &[("ROLES", "api,worker")],
            "server.roles[1]: unknown variant `worker`, expected one of `api`,",
        );
        check("", &[("ROLES", ",")], "server.roles: must name at least one");
        check("[server]\nroles = []", &[], "server.roles: must name at least one");
        check("[server]\nroles = [\"\"]", &[], "server.roles[0]: unknown variant ``");
        check("", &[("SHUTDOWN_DELAY_SECS", "30")], "server.shutdown_delay_secs");
        check("", &[("WEBHOOK_RETRY_MAX_ATTEMPTS", "0")], "webhooks.max_attempts");
        check("", &[("WEBHOOK_SECRET_KEYS", "short")], "webhooks.secret_keys");
        let keys = "compliance.encryption_keys";
        check("", &[("ENCRYPTION_KEYS", "short")], keys);
        check("", &[("ENVIRONMENT", "production"), ("ENCRYPT_PERSONAL", "true")], keys);
        let known = "change-me-to-a-key-of-32-characters-or-more";
        check("", &[("ENVIRONMENT", "production"), ("ENCRYPTION_KEYS", known)], keys);
        let production = |name, secret| [("ENVIRONMENT", "production"), (name, secret)];
        check("", &production("API_KEY", "aaaaaaaaaaaaaaaa"), "auth.api_key");
        check("", &production("WEBHOOK_SECRET_KEYS", known), "webhooks.secret_keys");
        check("", &[("SIMILARITY_THRESHOLD", "2")], "recommend.training.algorithm_settings.content");
        check("", &[("MAX_BLOCKING_THREADS", "1")], "server.max_blocking_threads");
        check("", &[("ENABLE_CORS", "true")], "server.cors.allowed_origins");
        let wrong = [("ENABLE_CORS", "true"), ("CORS_ALLOWED_ORIGINS", "*,https://a.example")];
        check("", &wrong, "server.cors.allowed_origins");
        for endpoint in
            ["http://user:hunter2@collector:4318", "http://collector/?token=hunter2", "collector:4318"]
        {
            let found = Config::load(None, &Environment::of(&[("TRACING_ENDPOINT", endpoint)]), vec![]);
            let error = found.unwrap_err();
            assert_eq!(error.field(), Some("trace.endpoint"), "{endpoint}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        check("[recommend.retention_days]\nview = 0", &[], "recommend.retention_days");
        check("", &[("OTEL_TRACES_SAMPLER_ARG", "1.5")], "trace.sample_ratio");
        check("", &[("RECOMMENDATION_CACHE_TTL_SECS", "-1")], "recommend.cache.recommendation_ttl_secs");
        check(
            "",
            &[("COLLABORATIVE_WEIGHT", "0.9"), ("CONTENT_BASED_WEIGHT", "0.4")],
            "collaborative_weight",
        );
    }
}
