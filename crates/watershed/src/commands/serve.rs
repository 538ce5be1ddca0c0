//! `watershed serve`: until SIGTERM or SIGINT, then in order: `/ready` says no; no new connections; requests in flight
//! are finished; what is in memory is written; the engines are closed. A second signal ends the process at once, and
//! nothing is lost by that: what was acknowledged is durable.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edge::server::tls::Certificates;
use edge::server::{self, ConnectionSettings, Port, ShutdownTimes};
use kernel::{Error, Result, codes};
use recommend::trainer::Duties;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::shutdown::Shares;
use crate::app::{self, Ambient, App, Routers};
use crate::backups;
use crate::cli::Serve;
use crate::config::{Config, Part, Role};
use crate::lag::Lag;
use crate::logging::Telemetry;
use crate::retention::Keeper;
use crate::{open_files, startup};

/// What a shell says of a process that SIGTERM ended.
const ENDED_AT_ONCE: i32 = 143;

pub(super) async fn run(serve: Serve, config: Config, telemetry: &Telemetry) -> Result<()> {
    // Before the engines, because the first process of a container has no other way to be stopped.
    let stopping = watch_signals()?;
    let ambient = Ambient::of_system();
    let app = tokio::select! {
        () = stopping.cancelled() => return Ok(()),
        app = startup::patiently(&config.storage, &ambient, || App::open_as(&config, &config.server.roles)) => app?,
    };
    Serving { app, config: &config, telemetry, stopping }.run(&serve, |_| ()).await
}

/// How long a start waits for the index of words; a server whose index takes longer listens, and is not ready.
#[cfg(feature = "search")]
const SEARCH_PATIENCE: Duration = Duration::from_secs(2);

/// An application that is about to be served, and what tells it to stop.
pub(super) struct Serving<'a> {
    pub app: App,
    pub config: &'a Config,
    pub telemetry: &'a Telemetry,
    pub stopping: CancellationToken,
}

impl Serving<'_> {
    /// Serves until it is told to stop; `ready` is called when it listens.
    pub(super) async fn run(self, serve: &Serve, ready: impl FnOnce(&Served)) -> Result<()> {
        let Self { mut app, config, telemetry, stopping } = self;
        telemetry.register(&mut app.registry);
        let (static_key, key_file) = app::static_key(config, app.ambient.entropy.as_ref())?;
        let has_key = static_key.is_some();
        let [answers, streams, trains] =
            [Role::Api, Role::Stream, Role::Trainer].map(|role| config.server.roles.has(role));
        let tokens = if answers { app.tokens(&config.auth.jwt).await? } else { None };
        let shipper = match streams {
            true => backups::shipper(config, &app.engines, &app.ambient, &mut app.registry)?,
            false => None,
        };
        let lag = Lag::new(Arc::clone(&app.engines.log), app.recommend.projector(), &mut app.registry);
        let routers =
            app.routers(config, static_key, tokens.clone(), telemetry.tracing(), stopping.clone())?;
        let connections = connections(&app, config)?;
        #[cfg(feature = "search")]
        app.search.begin(answers, streams, SEARCH_PATIENCE).await;
        let listening = listen(config).await?;
        let address = listening.all.local_addr().map_err(Error::internal)?;
        let (ports, of_parts) = ports(listening, routers)?;
        app.recommend.start(Duties { trains, answers }, stopping.clone());
        let shares = Shares::of(Duration::from_secs(config.server.shutdown_timeout_secs));
        let delay = Duration::from_secs(config.server.shutdown_delay_secs).min(shares.requests);
        begin_market(&mut app, streams, &stopping, delay);
        app.engines.watch(&stopping);
        tokio::spawn(Arc::clone(&app.crew).run(stopping.clone()));
        let keeper = streams.then(|| keep_log(&app, config, &stopping)).flatten();
        // Each server tells of the requests that it failed itself.
        let hooks = (streams || answers)
            .then(|| tokio::spawn(Arc::clone(&app.webhooks).run(streams, stopping.clone())));
        // Requests are answered while it stops, with keys that may be revoked.
        let ended = CancellationToken::new();
        let keys = answers.then(|| tokio::spawn(Arc::clone(&app.keys).run(ended.clone())));
        if let Some(tokens) = tokens {
            tokio::spawn(tokens.run(ended.clone()));
        }
        if let Some(certificates) = &connections.tls {
            tokio::spawn(Arc::clone(certificates).run(ended.clone()));
            watch_hangups(Arc::clone(certificates))?;
        }
        tokio::spawn(lag.run(stopping.clone()));
        let watching = answers.then(|| tokio::spawn(app.runtime.clone().run(ended.clone())));
        let jobs = answers.then(|| tokio::spawn(app.jobs.clone().run(stopping.clone())));
        let shipping = shipper.map(|shipper| tokio::spawn(shipper.run(stopping.clone())));
        info!(%address, roles = config.server.roles.names(), "serving");
        if let Some(path) = &key_file {
            info!(path = %path.display(), "no API key is configured; callers use the one in this file");
        } else if answers && !has_key {
            tell_of_keys(app.keys.has_any() || config.auth.jwt.is_enabled());
        }
        write_addresses(serve, address, &of_parts)?;
        let scheme = if connections.tls.is_some() { "https" } else { "http" };
        ready(&Served { address, scheme, has_key, key_file });
        let times = ShutdownTimes { delay, longest: shares.requests };
        let left = server::serve(ports, connections, stopping, times).await;
        ended.cancel();
        let end = async {
            if let Some(keeper) = keeper {
                keeper.await.map_err(Error::internal)?;
            }
            app.recommend.stop().await;
            if let Some(market) = app.market {
                market.stop().await;
            }
            #[cfg(feature = "search")]
            app.search.stop().await;
            for task in [keys, hooks, shipping, watching, jobs].into_iter().flatten() {
                task.await.map_err(Error::internal)?;
            }
            Ok::<(), Error>(())
        };
        match tokio::time::timeout(left + shares.last_write, end).await {
            Ok(ended) => ended?,
            Err(_) => warn!("not all was written in time; the next start reads more of the log"),
        }
        info!("stopped");
        Ok(())
    }
}

/// Streams to callers end with the server; the stages run where it has that role.
fn begin_market(app: &mut App, streams: bool, stopping: &CancellationToken, delay: Duration) {
    let Some(market) = app.market.as_mut() else { return };
    market.end_streams(stopping, delay);
    if streams {
        market.start(stopping);
    }
}

/// The open sockets of a server.
pub(super) struct Listening {
    /// Of its own port.
    all: TcpListener,
    /// Of the parts, in the order of the settings.
    parts: Vec<TcpListener>,
}

/// Opens the socket of each port.
///
/// # Errors
/// `UNAVAILABLE` naming the port that is taken, and its setting.
pub(super) async fn listen(config: &Config) -> Result<Listening> {
    let all = server::listen(app::listen_address(config, config.server.port)?, "--port").await?;
    let mut parts = Vec::new();
    for (part, port) in config.server.ports.asked() {
        parts.push(server::listen(app::listen_address(config, port)?, part.setting()).await?);
    }
    Ok(Listening { all, parts })
}

/// Where each part answers, in the order of the settings.
type PartAddresses = Vec<(Part, SocketAddr)>;

/// What answers on each socket, and where the parts are.
fn ports(listening: Listening, routers: Routers) -> Result<(Vec<Port>, PartAddresses)> {
    let mut ports = vec![Port { listener: listening.all, router: routers.all }];
    let mut addresses = Vec::new();
    for (listener, (part, router)) in listening.parts.into_iter().zip(routers.parts) {
        let address = listener.local_addr().map_err(Error::internal)?;
        info!(%address, part = part.name(), "a part of the API has a port of its own");
        addresses.push((part, address));
        ports.push(Port { listener, router });
    }
    Ok((ports, addresses))
}

/// For whoever started it on a free port: a line of the server's own, and one for each part with its name.
fn write_addresses(serve: &Serve, address: SocketAddr, of_parts: &[(Part, SocketAddr)]) -> Result<()> {
    let Some(path) = &serve.address_file else { return Ok(()) };
    let parts: String =
        of_parts.iter().map(|(part, address)| format!("{address} {}\n", part.name())).collect();
    std::fs::write(path, format!("{address}\n{parts}")).map_err(|cause| {
        Error::new(codes::UNAVAILABLE, format!("{} cannot be written: {cause}", path.display()))
    })
}

/// Replicas must have the same keys: none is made where records are shared.
fn tell_of_keys(lets_anyone_in: bool) {
    let what_to_do = "set API_KEY or run `watershed keys create`";
    if lets_anyone_in {
        info!(
            "the settings hold no API key: callers use keys that were made, or tokens; for one more {what_to_do}"
        );
    } else {
        warn!("no key lets anyone in; {what_to_do}");
    }
}

/// How connections are treated; makes room for them.
fn connections(app: &App, config: &Config) -> Result<ConnectionSettings> {
    let metrics = app.access_metrics.clone();
    let tls = match config.server.tls.files() {
        Some(files) => Some(Arc::new(Certificates::open(files, metrics.clone())?)),
        None => None,
    };
    Ok(ConnectionSettings {
        max: open_files::make_room(config.server.max_connections),
        idle_timeout: Duration::from_secs(config.server.idle_timeout_secs),
        tls,
        metrics,
    })
}

/// SIGHUP looks at the certificates at once.
fn watch_hangups(certificates: Arc<Certificates>) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::internal)?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let certificates = Arc::clone(&certificates);
            if tokio::task::spawn_blocking(move || certificates.look()).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Cuts the log while serving, where the settings say how old an event may become.
fn keep_log(app: &App, config: &Config, stopping: &CancellationToken) -> Option<JoinHandle<()>> {
    let age = config.storage.log_retention()?;
    let (log, view) = (Arc::clone(&app.engines.log), app.recommend.projector());
    let keeper = Keeper { log, view, clock: Arc::clone(&app.ambient.clock), age };
    Some(tokio::spawn(keeper.run(stopping.clone())))
}

/// What a caller needs to know.
pub(super) struct Served {
    pub address: std::net::SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Whether there is a key of the settings or of a file.
    pub has_key: bool,
    pub key_file: Option<std::path::PathBuf>,
}

/// Cancelled by the first SIGTERM or SIGINT. The second one ends the process.
pub(super) fn watch_signals() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::internal)?;
    let stopping = CancellationToken::new();
    let first = stopping.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        info!("stopping: not ready any more");
        first.cancel();
        either(&mut terminate, &mut interrupt).await;
        std::process::exit(ENDED_AT_ONCE);
    });
    Ok(stopping)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
