//! `watershed serve`

use std::sync::Arc;
use std::time::Duration;

use edge::server::tls::Certificates;
use edge::server::{self, ConnectionSettings};
use kernel::{Error, Result, codes};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::app::{self, Ambient, App};
use crate::backups;
use crate::cli::Serve;
use crate::config::Config;
use crate::retention::Keeper;
use crate::{open_files, startup};

pub(super) async fn run(serve: Serve, config: Config) -> Result<()> {
    let app = startup::patiently(&config.storage, &Ambient::of_system(), || App::open(&config)).await?;
    listen(app, &serve, &config, |_| Ok(())).await
}

/// Serves until SIGTERM or SIGINT, then: `/ready` says no, no new connections, requests in flight are finished,
/// a last checkpoint is written.
pub(super) async fn listen(
    mut app: App,
    serve: &Serve,
    config: &Config,
    ready: impl FnOnce(&Served) -> Result<()>,
) -> Result<()> {
    let stopping = CancellationToken::new();
    let (static_key, key_file) =
        app::static_key(&config.auth, &config.storage.data_dir, app.ambient.entropy.as_ref())?;
    let tokens = app.tokens(&config.auth.jwt).await?;
    let shipper = backups::shipper(config, &app.engines, &app.ambient, &mut app.registry)?;
    let router = app.router(config, static_key, tokens.clone(), stopping.clone())?;
    let connections = connections(&app, config)?;
    let listener = server::listen(app::listen_address(config)?).await?;
    let address = listener.local_addr().map_err(Error::internal)?;
    watch_signals(stopping.clone())?;
    app.recommend.start(stopping.clone());
    app.engines.watch(&stopping);
    let keeper = keep_log(&app, config, &stopping);
    let keys = tokio::spawn(Arc::clone(&app.keys).run(stopping.clone()));
    if let Some(tokens) = tokens {
        tokio::spawn(tokens.run(stopping.clone()));
    }
    if let Some(certificates) = &connections.tls {
        tokio::spawn(Arc::clone(certificates).run(stopping.clone()));
        watch_hangups(Arc::clone(certificates))?;
    }
    let shipping = shipper.map(|shipper| tokio::spawn(shipper.run(stopping.clone())));
    info!(%address, "serving");
    if let Some(path) = &key_file {
        info!(path = %path.display(), "no API key is configured; callers use the one in this file");
    }
    if let Some(path) = &serve.address_file {
        std::fs::write(path, format!("{address}\n")).map_err(|cause| {
            Error::new(codes::UNAVAILABLE, format!("{} cannot be written: {cause}", path.display()))
        })?;
    }
    let scheme = if connections.tls.is_some() { "https" } else { "http" };
    ready(&Served { address, scheme, key_file })?;
    let patience = Duration::from_secs(config.server.shutdown_timeout_secs);
    server::serve(listener, router, connections, stopping, patience).await;
    if let Some(keeper) = keeper {
        keeper.await.map_err(Error::internal)?;
    }
    app.recommend.stop().await;
    keys.await.map_err(Error::internal)?;
    if let Some(shipping) = shipping {
        shipping.await.map_err(Error::internal)?;
    }
    info!("stopped");
    Ok(())
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
    pub key_file: Option<std::path::PathBuf>,
}

fn watch_signals(stopping: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::internal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::internal)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        stopping.cancel();
    });
    Ok(())
}
