//! The sections that belong to the binary.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use edge::RateLimits;
use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Limiter, Rate};

use super::browsers::CorsSettings;
use super::jwt::JwtSettings;
use super::ports::PortSettings;
use super::roles::Roles;
use super::tls::TlsSettings;

/// What the server is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Deployment {
    /// Trying things out.
    #[default]
    Development,
    /// Trying out what will serve users.
    Staging,
    /// Serving users: secrets that everyone knows, or guesses soon, are refused.
    Production,
}

/// Where and how it listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSettings {
    /// What the server is for: `development`, `staging` or `production`.
    pub environment: Deployment,
    /// What this server of the deployment does: `api` answers requests; `stream` does what is done once for all servers
    /// (checkpoints, dead letters, retention, backups, webhooks); `trainer` takes part in the election of who trains. All
    /// of it where missing. Every role must be filled by some server; each may be by many. `serve` alone looks at it.
    pub roles: Roles,
    /// The address to listen on.
    pub host: String,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// Further ports, each for a part of the API; none where missing.
    pub ports: PortSettings,
    /// Threads that answer requests; 0 takes one for each processor.
    pub worker_threads: usize,
    /// Threads for what waits for a disk, made when they are needed; at least 8.
    pub max_blocking_threads: usize,
    /// The largest body of a request, in MiB. Streams of events have no limit.
    pub max_request_size_mb: usize,
    /// The longest a request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// Requests answered at once; more are refused with 503. There may be as many streams of events beside them.
    pub max_concurrent_requests: usize,
    /// Streams of events that one tenant may have open at once; more are refused with 429. They last long, so they take
    /// no place of other requests.
    pub max_streams_per_tenant: usize,
    /// Bytes a second that a stream of events must send on average in each minute that it is waited for; one that sends
    /// less is ended with 408. 0 lets it send as little as it likes.
    pub stream_min_bytes_per_sec: u64,
    /// Exports that one tenant may have open at once; more are refused with 429. They are streams too, which last as long as
    /// their readers like.
    pub max_exports_per_tenant: usize,
    /// Exports of all tenants at once.
    pub max_exports: usize,
    /// Connections at once; more are refused with 503. Each takes a file of the process's limit, which is raised to fit.
    pub max_connections: usize,
    /// Seconds that a connection may wait for its next request, whether it answers pings or not. Longer than what a load balancer in front waits, so
    /// that it never sends into a connection that is just being closed.
    pub idle_timeout_secs: u64,
    /// Seconds that a shutdown takes at most, the delay included. Requests in flight have all of it but 8 s, and at least
    /// half; the rest is for the last checkpoint or backup and the last spans. Give the process a little longer than that
    /// before it is killed.
    pub shutdown_timeout_secs: u64,
    /// Seconds after SIGTERM in which new connections are still taken, for load balancers that only learn from `/ready`
    /// that this server is going. Leave it at 0 where something waits before SIGTERM, as a `preStop` hook does.
    pub shutdown_delay_secs: u64,
    /// How many requests may be sent.
    pub rate_limit: RateLimitSettings,
    /// Compress answers of 1 KiB and more (gzip) for callers who accept that. It takes processor time, which a load balancer in
    /// front may rather spend.
    pub compression: bool,
    /// Which pages of other origins may ask.
    pub cors: CorsSettings,
    /// Certificates; without them it serves in the open.
    pub tls: TlsSettings,
}

/// How many requests a key and its tenant may send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RateLimitSettings {
    /// Whether there are limits at all.
    pub enabled: bool,
    /// Requests of one key a minute.
    pub requests_per_minute: u32,
    /// Requests of one key at once, after a rest.
    pub burst_size: u32,
    /// Requests of all keys of a tenant a minute.
    pub tenant_requests_per_minute: u32,
    /// Requests of all keys of a tenant at once, after a rest.
    pub tenant_burst_size: u32,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            requests_per_minute: 1_000,
            burst_size: 100,
            tenant_requests_per_minute: 10_000,
            tenant_burst_size: 1_000,
        }
    }
}

impl RateLimitSettings {
    /// The limits, counted by `limiter`; none where there shall be none.
    pub(crate) fn limits(&self, limiter: Arc<dyn Limiter>) -> Result<Option<RateLimits>> {
        if !self.enabled {
            return Ok(None);
        }
        let rate = |count, burst| {
            Rate::new(count, Duration::from_secs(60), burst)
                .map_err(|error| error.with_field("server.rate_limit"))
        };
        let key = rate(self.requests_per_minute, self.burst_size)?;
        let tenant = rate(self.tenant_requests_per_minute, self.tenant_burst_size)?;
        Ok(Some(RateLimits::new(limiter, key, tenant)))
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            environment: Deployment::Development,
            roles: Roles::default(),
            host: "0.0.0.0".to_owned(),
            port: 8080,
            ports: PortSettings::default(),
            worker_threads: 0,
            max_blocking_threads: 512,
            max_request_size_mb: 10,
            request_timeout_ms: 30_000,
            max_concurrent_requests: 1_024,
            max_streams_per_tenant: 32,
            stream_min_bytes_per_sec: 64,
            max_exports_per_tenant: 8,
            max_exports: 64,
            max_connections: 16_384,
            idle_timeout_secs: 75,
            shutdown_timeout_secs: 30,
            shutdown_delay_secs: 0,
            rate_limit: RateLimitSettings::default(),
            compression: false,
            cors: CorsSettings::default(),
            tls: TlsSettings::default(),
        }
    }
}

const MAX_CONNECTIONS: usize = 1_000_000;
const MIN_BLOCKING_THREADS: usize = 8;
const MAX_BLOCKING_THREADS: usize = 100_000;

impl ServerSettings {
    pub(super) fn validate(&self) -> Result<()> {
        let rule = "must name at least one of `api`, `stream` and `trainer`";
        require(!self.roles.is_empty(), "server.roles", rule)?;
        require(self.host.parse::<std::net::IpAddr>().is_ok(), "server.host", "must be an IP address")?;
        self.ports.validate(self.port)?;
        require(self.max_request_size_mb >= 1, "server.max_request_size_mb", "must be at least 1")?;
        require(
            self.shutdown_delay_secs < self.shutdown_timeout_secs.max(1),
            "server.shutdown_delay_secs",
            "must be less than shutdown_timeout_secs",
        )?;
        require(self.request_timeout_ms >= 1, "server.request_timeout_ms", "must be at least 1")?;
        require(self.max_concurrent_requests >= 1, "server.max_concurrent_requests", "must be at least 1")?;
        require(self.max_streams_per_tenant >= 1, "server.max_streams_per_tenant", "must be at least 1")?;
        require(self.max_exports_per_tenant >= 1, "server.max_exports_per_tenant", "must be at least 1")?;
        require(self.max_exports >= 1, "server.max_exports", "must be at least 1")?;
        let threads = MIN_BLOCKING_THREADS..=MAX_BLOCKING_THREADS;
        let rule = "must be between 8 and 100000";
        require(threads.contains(&self.max_blocking_threads), "server.max_blocking_threads", rule)?;
        let connections = 1..=MAX_CONNECTIONS;
        let rule = "must be between 1 and 1000000";
        require(connections.contains(&self.max_connections), "server.max_connections", rule)?;
        require(self.idle_timeout_secs >= 1, "server.idle_timeout_secs", "must be at least 1")?;
        self.cors.layer()?;
        self.tls.validate()
    }
}

/// Who may ask.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthSettings {
    /// The key that callers send, at least 16 characters. Where missing, and records are kept in the data folder, one is made
    /// at the first start and kept there in the file `api-key`. Where records are shared there is none: make keys with
    /// `watershed keys create`.
    #[serde(skip_serializing)]
    pub api_key: Option<String>,
    /// The tenant that the key speaks for.
    pub tenant: String,
    /// Tokens of an identity provider.
    pub jwt: JwtSettings,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self { api_key: None, tenant: "default".to_owned(), jwt: JwtSettings::default() }
    }
}

impl AuthSettings {
    pub(super) fn validate(&self) -> Result<()> {
        require(
            !self.tenant.starts_with('_'),
            "auth.tenant",
            "names that begin with `_` are the server's own",
        )?;
        self.jwt.validate()
    }
}

impl fmt::Debug for AuthSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("AuthSettings");
        shown.field("tenant", &self.tenant).field("jwt", &self.jwt).finish_non_exhaustive()
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What it tells of itself, on standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// A filter by module, such as `info,recommend=debug`; wins over `level`.
    pub filter: Option<String>,
    /// How lines are written.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), filter: None, format: LogFormat::Text }
    }
}

/// Where traces of requests go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TraceSettings {
    /// Whether traces are sent where there is a collector.
    pub enabled: bool,
    /// The address of an OpenTelemetry collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. There are
    /// no traces without one. `TRACING_ENDPOINT` with the port 4317, which speaks gRPC, means port 4318.
    pub endpoint: Option<String>,
    /// What the collector knows this server as.
    pub service_name: String,
    /// The share of traces, 0 to 1, that begin here and are recorded. A caller's trace is recorded where the caller
    /// records it.
    pub sample_ratio: f64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { enabled: true, endpoint: None, service_name: "watershed".to_owned(), sample_ratio: 1.0 }
    }
}

impl TraceSettings {
    /// Where traces go, where they are to go anywhere.
    pub(crate) fn collector(&self) -> Option<&str> {
        self.endpoint.as_deref().filter(|_| self.enabled)
    }

    pub(super) fn validate(&self) -> Result<()> {
        let is_built = cfg!(feature = "otlp") || self.collector().is_none();
        let rule = "this build sends no traces; build with `cargo build --features otlp`";
        require(is_built, "trace.endpoint", rule)?;
        let Some(endpoint) = &self.endpoint else { return self.validate_ratio() };
        let fault = |rule: &str| Error::new(codes::VALIDATION_ERROR, rule).with_field("trace.endpoint");
        let url = url::Url::parse(endpoint).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let url = url.ok_or_else(|| fault("must be an address that begins with http:// or https://"))?;
        // It is shown, in `watershed config` and `/api/config`.
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        if has_credentials || url.query().is_some() || url.fragment().is_some() {
            return Err(fault(
                "must not hold a user, a password or a query; OTEL_EXPORTER_OTLP_HEADERS takes what the collector asks for",
            ));
        }
        self.validate_ratio()
    }

    fn validate_ratio(&self) -> Result<()> {
        require((0.0..=1.0).contains(&self.sample_ratio), "trace.sample_ratio", "must be between 0 and 1")
    }
}

pub(super) fn require(holds: bool, setting: &str, rule: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::new(codes::VALIDATION_ERROR, rule).with_field(setting)) }
}
