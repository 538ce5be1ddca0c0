//! Mounts the domains on the edge: one list of parts, one router, one OpenAPI document.

use std::iter::once;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::get;
use axum::{Json, Router, middleware};
use edge::auth::{Authenticator, Tokens};
use edge::browsers;
use edge::http::{self, dead_letters, events, health};
use edge::ingest::{Ingest, IngestParts};
use edge::middleware::{Around, Limits, Tracing, around, method_not_allowed, not_found};
use edge::streams::{PlaceLimits, StreamLimits};
use edge::{
    AccessMetrics, ApiError, ApiResult, AuditLog, Authenticators, Caller, HttpMetrics, KeyRing, StaticKey,
};
use kernel::{Clock, Entropy, Error, Permission, Result, Scope, SystemClock, SystemEntropy, TenantId, codes};
use market::{Market, MarketParts};
use prometheus_client::registry::Registry;
use recommend::{Recommend, RecommendParts};
use registry::{ModelRegistry, RegistryParts};
use runtime::jobs::{JobParts, Jobs};
use runtime::{Runtime, RuntimeParts};
use stream::{HISTORY_GONE, ProjectorSettings};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use webhooks::Webhooks;

use crate::config::{Config, JwtSettings, Part, Role, Roles};
use crate::crew::Crew;
use crate::engine_metrics::EngineMetrics;
use crate::engines::Engines;
use crate::forecasters::curve::CurveForecasters;
use crate::forecasters::power::PowerForecasters;
use crate::guard::{self, Guarded};
use crate::holders::FeaturesOfUsers;
use crate::process_metrics::ProcessMetrics;
use crate::{hooks, jwks, ports};

/// Probes and scrapes that are answered at the same time.
const PROBES_AT_ONCE: usize = 64;

/// The rate of a stream is looked at each time that it was waited for so long.
const STREAM_WINDOW: Duration = Duration::from_secs(60);
/// Time and randomness of the process.
#[derive(Debug, Clone)]
pub(crate) struct Ambient {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

impl Ambient {
    pub(crate) fn of_system() -> Self {
        Self { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy::new()) }
    }
}

/// The open application: engines and domains, without a listening socket.
#[derive(Debug)]
pub(crate) struct App {
    pub ambient: Ambient,
    /// The engines themselves.
    pub engines: Engines,
    /// Those of their ports that hold personal data, as domains use them.
    pub guarded: Guarded,
    pub registry: Registry,
    pub http_metrics: HttpMetrics,
    pub access_metrics: AccessMetrics,
    pub ingest: Ingest,
    pub recommend: Recommend,
    pub models: ModelRegistry,
    pub runtime: Runtime,
    pub jobs: Jobs,
    /// None where `market.enabled` says so.
    pub market: Option<Market>,
    pub audit: AuditLog,
    pub keys: Arc<KeyRing>,
    pub webhooks: Arc<Webhooks>,
    #[cfg(feature = "search")]
    pub search: Arc<search::Search>,
    pub crew: Arc<Crew>,
}

impl App {
    /// Opens engines, restores views and models, for a command: it has every role, and asks no registered model.
    ///
    /// # Errors
    /// Those of the engines; damaged data.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        Self::open_with(config, &Roles::default(), Vec::new()).await
    }

    /// The same, for a server with these roles.
    ///
    /// # Errors
    /// As [`App::open`]; `VALIDATION_ERROR` where what registered models need is not there.
    pub(crate) async fn open_as(config: &Config, roles: &Roles) -> Result<Self> {
        let engines = if roles.has(Role::Api) { engines_of_models(config).await? } else { Vec::new() };
        Self::open_with(config, roles, engines).await
    }

    /// The same, with what loads registered models. It fails as [`App::open`] does.
    pub(crate) async fn open_with(
        config: &Config,
        roles: &Roles,
        engines_of_models: Vec<Arc<dyn runtime::model::Engine>>,
    ) -> Result<Self> {
        let ambient = Ambient::of_system();
        let engines = Engines::open(&config.storage, &ambient).await?;
        backup::refuse_unfinished(&engines.records).await?;
        let guarded = guard::open(config, &engines, &ambient).await?;
        let (audit, keys) = access(&engines, &ambient).await?;
        let mut registry = Registry::default();
        registry.register_collector(Box::new(EngineMetrics(engines.clone())));
        registry.register_collector(Box::new(ProcessMetrics));
        let http_metrics = HttpMetrics::register(&mut registry);
        let access_metrics = AccessMetrics::register(&mut registry);
        let models = models(config, &engines, &guarded, &ambient, audit.clone());
        #[cfg(feature = "search")]
        let search =
            crate::finding::open(config, (&engines, &guarded), &models, &ambient, &mut registry).await?;
        #[cfg(feature = "search")]
        let (embedder, candidates) = crate::candidates::of(&search, &config.search);
        #[cfg(not(feature = "search"))]
        let (embedder, candidates) = (None, None);
        let parts = RecommendParts {
            log: Arc::clone(&guarded.log),
            records: Arc::clone(&engines.records),
            blobs: Arc::clone(&guarded.blobs),
            cache: Arc::clone(&guarded.cache),
            dead_letters: guarded.dead_letters.clone(),
            holders: vec![Arc::new(FeaturesOfUsers::new(&engines, &ambient))],
            erasures: guarded.erasures.clone(),
            audit: audit.clone(),
            clock: Arc::clone(&ambient.clock),
            entropy: Arc::clone(&ambient.entropy),
            embedder,
            candidates,
            views: ProjectorSettings {
                accept_partial_history: config.storage.accept_partial_history,
                writes_shared: roles.has(Role::Stream),
                ..ProjectorSettings::default()
            },
        };
        let recommend = Recommend::open(parts, config.recommend.clone(), &mut registry).await;
        let recommend = recommend.map_err(|error| match error.code() {
            HISTORY_GONE => error.with_field("storage.accept_partial_history"),
            _ => error,
        })?;
        let market = open_market(config, &engines, &guarded, &ambient, roles, &mut registry).await?;
        let owners: Vec<_> = once(recommend.owner()).chain(market.as_ref().map(Market::owner)).collect();
        let ingest = Ingest::new(ingest_parts(&guarded, &ambient, &http_metrics), &owners);
        let runtime = RuntimeParts {
            engines: engines_of_models,
            ..runtime_parts(&models, &engines, &ambient, audit.clone())
        };
        let runtime = Runtime::new(runtime, config.runtime.clone(), &mut registry);
        runtime.try_promotions();
        let jobs = jobs(config, &runtime, (&engines, &guarded), &ambient, &mut registry);
        let webhooks = hooks::open(config, &engines, &ambient, &recommend, audit.clone(), &mut registry)?;
        let notes = engines.are_shared.then(|| Arc::clone(&engines.records));
        let crew = Arc::new(Crew::new(roles.clone(), notes, Arc::clone(&ambient.clock), &mut registry));
        Ok(Self {
            ambient,
            engines,
            guarded,
            registry,
            http_metrics,
            access_metrics,
            ingest,
            recommend,
            models,
            runtime,
            jobs,
            market,
            audit,
            keys,
            webhooks,
            #[cfg(feature = "search")]
            search,
            crew,
        })
    }

    fn api_routes(&self) -> OpenApiRouter {
        let market = self.market.as_ref().map(|market| market.routes(self.ingest.clone()));
        let routes = market.unwrap_or_default();
        #[cfg(feature = "search")]
        let routes = routes.merge(search::http::routes(Arc::clone(&self.search)));
        routes
            .merge(events::routes(self.ingest.clone()))
            .merge(dead_letters::routes(self.guarded.dead_letters.clone()))
            .merge(http::keys::routes(Arc::clone(&self.keys)))
            .merge(http::audit::routes(self.audit.clone()))
            .merge(webhooks::http::routes(Arc::clone(&self.webhooks)))
            .merge(registry::http::routes(self.models.clone()))
            .merge(runtime::http::routes(self.runtime.clone(), self.jobs.clone()))
            .merge(self.recommend.routes(self.ingest.clone()))
    }

    /// What proves tokens, where they are taken.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for settings that make no sense.
    pub(crate) async fn tokens(&self, settings: &JwtSettings) -> Result<Option<Arc<Tokens>>> {
        if !settings.is_enabled() {
            return Ok(None);
        }
        if settings.publishes() && settings.audience.is_none() {
            warn!("tokens that the provider made for other services are taken too; set auth.jwt.audience");
        }
        let source = jwks::source(settings)?;
        let (clock, metrics) = (Arc::clone(&self.ambient.clock), self.access_metrics.clone());
        let tokens = Tokens::open(settings.expected(), source, clock, metrics).await?;
        Ok(Some(Arc::new(tokens)))
    }

    /// Everything that a credential is asked for.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for limits that make no sense.
    fn guarded(
        &self,
        config: &Config,
        static_key: Option<StaticKey>,
        tokens: Option<Arc<Tokens>>,
    ) -> Result<Router> {
        let mut kinds: Vec<Arc<dyn Authenticator>> = vec![Arc::clone(&self.keys) as _];
        kinds.extend(static_key.map(|key| Arc::new(key) as _));
        kinds.extend(tokens.map(|tokens| tokens as _));
        let authenticators = Authenticators::new(kinds);
        let (api, document) = api(self.api_routes());
        let document = Arc::new(document);
        let api = api
            .route("/api/docs", get(move || std::future::ready(Json(Arc::clone(&document)))))
            .merge(registry::mlflow::routes(self.models.clone()))
            .route("/api/config", get(show_config).with_state(Arc::new(config.clone())));
        #[cfg(feature = "grpc")]
        let api = api.merge(runtime::grpc::routes(self.runtime.clone()));
        #[cfg(feature = "profile")]
        let api = api.merge(crate::profile::routes(config.clone()));
        let api = api.method_not_allowed_fallback(method_not_allowed);
        let api = match config.server.rate_limit.limits(Arc::clone(&self.engines.limiter))? {
            Some(limits) => api.layer(middleware::from_fn_with_state(limits, edge::limits::limit)),
            None => api,
        };
        Ok(api
            .layer(DefaultBodyLimit::max(config.server.max_request_size_mb << 20))
            .layer(middleware::from_fn_with_state(authenticators, edge::auth::require)))
    }

    /// What answers on the server's own port, which is everything that the roles of the settings need, and on the ports of
    /// parts; `stopping` makes `/ready` say no.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for limits that make no sense.
    pub(crate) fn routers(
        &mut self,
        config: &Config,
        static_key: Option<StaticKey>,
        tokens: Option<Arc<Tokens>>,
        tracing: Option<Arc<dyn Tracing>>,
        stopping: CancellationToken,
    ) -> Result<Routers> {
        let api = if config.server.roles.has(Role::Api) {
            Router::new().merge(self.guarded(config, static_key, tokens)?).fallback(not_found)
        } else {
            let names = config.server.roles.names();
            Router::new().fallback(move || std::future::ready(not_answered_here(&names)))
        };
        let registry = Arc::new(std::mem::take(&mut self.registry));
        let mut checks = vec![self.recommend.check()];
        checks.extend(self.market.as_ref().map(Market::check));
        checks.push(Arc::clone(&self.crew) as _);
        #[cfg(feature = "search")]
        checks.push(Arc::new(search::SearchCheck(Arc::clone(&self.search))));
        checks.extend(self.engines.pulses.iter().map(|pulse| Arc::clone(pulse) as Arc<dyn health::Check>));
        let probes = health::Health::new(checks, stopping, registry);
        let limits = Limits {
            request_timeout: Duration::from_millis(config.server.request_timeout_ms),
            concurrency: config.server.max_concurrent_requests,
            streams: StreamLimits {
                places: PlaceLimits {
                    per_tenant: config.server.max_streams_per_tenant,
                    in_all: config.server.max_concurrent_requests,
                },
                bytes_per_second_min: config.server.stream_min_bytes_per_sec,
                window: STREAM_WINDOW,
            },
            answers: PlaceLimits {
                per_tenant: config.server.max_exports_per_tenant,
                in_all: config.server.max_exports,
            },
        };
        let ambient = &self.ambient;
        let metrics = self.http_metrics.clone();
        let state = Around::new(metrics, Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy), limits);
        let state = state.with_tracing(tracing).with_watch(self.webhooks.answers());
        // Probes have places of their own: a server with much to do is alive.
        let apart = state.clone().with_places(PROBES_AT_ONCE);
        #[cfg(feature = "grpc")]
        let probes = runtime::grpc::probes(probes.clone()).merge(health::routes(probes));
        #[cfg(not(feature = "grpc"))]
        let probes = health::routes(probes);
        let layers =
            Layers { state, apart, compresses: config.server.compression, cors: config.server.cors.layer()? };
        let of_part = |(part, _): (Part, u16)| {
            let router = layers.put_around(ports::only(api.clone(), part), ports::only(probes.clone(), part));
            (part, ports::renamed(router, part))
        };
        let parts = config.server.ports.asked().into_iter().map(of_part).collect();
        Ok(Routers { parts, all: layers.put_around(api, probes) })
    }
}

/// What stands around every answer. Every port has the same, so that limits are those of all ports together.
struct Layers {
    state: Around,
    /// Of probes.
    apart: Around,
    compresses: bool,
    cors: Option<browsers::Cors>,
}

impl Layers {
    fn put_around(&self, api: Router, probes: Router) -> Router {
        let api = api.layer(middleware::from_fn_with_state(ports::DIALECTS, edge::dialect::translate));
        let api = api.layer(middleware::from_fn_with_state(self.state.clone(), around));
        let api = if self.compresses { api.layer(browsers::compression()) } else { api };
        // Outermost, so that pages may read refusals too.
        let api = match &self.cors {
            Some(cors) => api.layer(cors.clone()),
            None => api,
        };
        let router = api.merge(probes.layer(middleware::from_fn_with_state(self.apart.clone(), around)));
        // Outside of all that refuses, so that callers of gRPC are told of it in their words.
        #[cfg(feature = "grpc")]
        let router = router.layer(middleware::from_fn(runtime::grpc::translate));
        router
    }
}

/// What answers on each port.
pub(crate) struct Routers {
    /// On the server's own.
    pub all: Router,
    /// On those of parts, in the order of the settings.
    pub parts: Vec<(Part, Router)>,
}

/// Not 404, which would say that what was asked for does not exist.
fn not_answered_here(roles: &str) -> ApiError {
    let message = format!(
        "this server answers no requests but probes, for its roles are: {roles}; ask one that has the role `api`"
    );
    ApiError(Error::new(codes::UNAVAILABLE, message))
}

/// Market data, where the settings have it.
async fn open_market(
    config: &Config,
    engines: &Engines,
    guarded: &Guarded,
    ambient: &Ambient,
    roles: &Roles,
    registry: &mut Registry,
) -> Result<Option<Market>> {
    if !config.market.enabled {
        return Ok(None);
    }
    // Ticks are of nobody: the engines hold them as they are.
    let parts = MarketParts {
        topics: engines.topics.clone(),
        records: Arc::clone(&engines.records),
        columns: Arc::clone(&engines.columns),
        cache: Arc::clone(&engines.cache),
        blobs: Arc::clone(&engines.blobs),
        dead_letters: guarded.dead_letters.clone(),
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
        is_alone: !engines.are_shared,
        views: ProjectorSettings {
            accept_partial_history: config.storage.accept_partial_history,
            writes_shared: roles.has(Role::Stream),
            ..ProjectorSettings::default()
        },
    };
    Market::open(parts, &config.market, registry).await.map(Some)
}

/// The process is the operator's: administrators of other tenants see theirs only.
pub(crate) fn require_operator(scope: &Scope, config: &Config) -> Result<()> {
    scope.require(Permission::Admin)?;
    if scope.tenant().as_str() == config.auth.tenant {
        return Ok(());
    }
    let message = "this is for administrators of the operator's tenant (`auth.tenant`)";
    Err(Error::new(codes::PERMISSION_DENIED, message))
}

/// The settings that are in force, without secrets.
async fn show_config(
    State(config): State<Arc<Config>>,
    Caller(scope): Caller,
) -> ApiResult<Json<Arc<Config>>> {
    require_operator(&scope, &config)?;
    Ok(Json(config))
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Watershed",
    description = "Streams of events into ranked decisions. Every error is an RFC 9457 problem with a stable `code`."
))]
struct Document;

fn api(routes: OpenApiRouter) -> (Router, utoipa::openapi::OpenApi) {
    let (router, mut document) =
        OpenApiRouter::with_openapi(Document::openapi()).merge(routes).split_for_parts();
    edge::openapi::complete(&mut document);
    (router, document)
}

/// The OpenAPI document as pretty JSON, made from the routes themselves.
///
/// # Errors
/// Those of opening an application in a folder that is removed again.
pub(crate) async fn openapi_json() -> Result<String> {
    let folder = std::env::temp_dir().join(format!("watershed-openapi-{}", std::process::id()));
    let mut config = Config::default();
    config.storage.data_dir.clone_from(&folder);
    let app = App::open(&config).await?;
    let document = api(app.api_routes()).1;
    app.recommend.stop().await;
    if let Some(market) = app.market {
        market.stop().await;
    }
    drop((app.ingest, app.engines, app.guarded, app.keys, app.audit, app.webhooks, app.models, app.runtime));
    drop(app.jobs);
    #[cfg(feature = "search")]
    drop(app.search);
    // What cannot be removed from a temporary folder is the system's to tidy.
    let _ = std::fs::remove_dir_all(folder);
    document.to_pretty_json().map_err(Error::internal)
}

/// The keys of every tenant, and the audit that their changes go to.
///
/// # Errors
/// Those of the engine.
pub(crate) async fn access(engines: &Engines, ambient: &Ambient) -> Result<(AuditLog, Arc<KeyRing>)> {
    let (records, clock) = (Arc::clone(&engines.records), Arc::clone(&ambient.clock));
    let audit = AuditLog::new(Arc::clone(&records), Arc::clone(&clock));
    let keys = KeyRing::open(records, audit.clone(), clock, Arc::clone(&ambient.entropy)).await?;
    Ok((audit, Arc::new(keys.among_replicas(engines.are_shared))))
}

/// Experiments, runs and models, with their artifacts sealed like everything that may be personal.
pub(crate) fn models(
    config: &Config,
    engines: &Engines,
    guarded: &Guarded,
    ambient: &Ambient,
    audit: AuditLog,
) -> ModelRegistry {
    let parts = RegistryParts {
        records: Arc::clone(&engines.records),
        blobs: Arc::clone(&guarded.blobs),
        audit,
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
    };
    ModelRegistry::new(parts, &config.registry)
}

/// What serves registered models: the formats of everybody, and those of the domains.
///
/// # Errors
/// `VALIDATION_ERROR` naming the setting of a library that cannot be opened.
pub(crate) async fn engines_of_models(config: &Config) -> Result<Vec<Arc<dyn runtime::model::Engine>>> {
    let settings = config.runtime.clone();
    // A library is read, and may try a graphics processor.
    let open = move || runtime::engines::open(&settings);
    let mut engines = tokio::task::spawn_blocking(open).await.map_err(Error::internal)??;
    engines.push(Arc::new(CurveForecasters));
    engines.push(Arc::new(PowerForecasters));
    Ok(engines)
}

/// What serves registered models works with, without what loads them.
fn ingest_parts(guarded: &Guarded, ambient: &Ambient, metrics: &HttpMetrics) -> IngestParts {
    IngestParts {
        log: Arc::clone(&guarded.log),
        dead_letters: guarded.dead_letters.clone(),
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
        metrics: metrics.clone(),
    }
}

fn runtime_parts(
    models: &ModelRegistry,
    engines: &Engines,
    ambient: &Ambient,
    audit: AuditLog,
) -> RuntimeParts {
    RuntimeParts {
        models: models.models.clone(),
        files: models.files.clone(),
        engines: Vec::new(),
        records: Arc::clone(&engines.records),
        audit,
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
    }
}

/// Rows that are answered in the background, sealed like everything that may be personal.
fn jobs(
    config: &Config,
    runtime: &Runtime,
    (engines, guarded): (&Engines, &Guarded),
    ambient: &Ambient,
    registry: &mut Registry,
) -> Jobs {
    let parts = JobParts {
        runtime: runtime.clone(),
        records: Arc::clone(&engines.records),
        blobs: Arc::clone(&guarded.blobs),
        clock: Arc::clone(&ambient.clock),
        entropy: Arc::clone(&ambient.entropy),
    };
    Jobs::new(parts, config.runtime.jobs.clone(), registry)
}

/// The key of the settings. Where they have none and records are in the data folder, one is made and kept in a file there;
/// where records are shared there is none: replicas must have the same keys.
///
/// # Errors
/// `VALIDATION_ERROR` for a short key; `UNAVAILABLE` when the key file cannot be written.
pub(crate) fn static_key(
    config: &Config,
    entropy: &dyn Entropy,
) -> Result<(Option<StaticKey>, Option<PathBuf>)> {
    let tenant = TenantId::new(&config.auth.tenant)?;
    if let Some(key) = &config.auth.api_key {
        return Ok((Some(StaticKey::new(key, tenant)?), None));
    }
    if config.storage.chosen().shares_records() {
        return Ok((None, None));
    }
    let path = config.storage.data_dir.join("api-key");
    let key = kept_key(&path, entropy)?;
    Ok((Some(StaticKey::new(&key, tenant)?), Some(path)))
}

/// The key in a file; makes one where there is none.
///
/// # Errors
/// `UNAVAILABLE` when the file cannot be written.
pub(crate) fn kept_key(path: &Path, entropy: &dyn Entropy) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(key) => Ok(key.trim().to_owned()),
        Err(_) => make_key(path, entropy),
    }
}

fn make_key(path: &Path, entropy: &dyn Entropy) -> Result<String> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let key = format!("{:016x}{:016x}", entropy.next_u64(), entropy.next_u64());
    let fault = |cause: std::io::Error| {
        Error::new(codes::UNAVAILABLE, format!("the key file {} cannot be written", path.display()))
            .with_source(cause)
    };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fault)?;
    file.write_all(key.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(fault)?;
    Ok(key)
}

/// Where the server listens, on its own port or that of a part.
///
/// # Errors
/// `VALIDATION_ERROR` when the host is not an address.
pub(crate) fn listen_address(config: &Config, port: u16) -> Result<SocketAddr> {
    let host =
        config.server.host.parse().map_err(|cause| {
            Error::new(codes::VALIDATION_ERROR, format!("{cause}")).with_field("server.host")
        })?;
    Ok(SocketAddr::new(host, port))
}
