//! Listening, and stopping without dropping a request.
//!
//! HTTP/1.1 and HTTP/2: over TLS as the client and the server agree in the handshake, in the open as the client begins. Every wait for a
//! caller has an end: for the handshake, for the head of a request, for the next request (also where an HTTP/2 client
//! answers pings meanwhile; it is told with GOAWAY), for an answer to be taken.
//! There are so many connections at most; one more is answered with 503 and closed.
//!
//! - `connection`: one of them, from the handshake to its end.
//! - [`tls`]: certificates, and their reload while serving.
//! - `repolled`: a connection that wakes itself goes on at once.
//! - `strict`: what of HTTP/1.1 other servers read differently is refused.
//! - `stall`: who takes no answer is cut off.

mod connection;
mod repolled;
mod stall;
mod strict;
pub mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future::join_all;
use hyper_util::server::graceful::GracefulShutdown;
use kernel::{Error, Result, codes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::AccessMetrics;
use crate::problem::Problem;
use connection::{Connection, Load, Place};
use repolled::Repolled;
use tls::Certificates;

/// The largest head of a request; also what is read of a body at once.
const MAX_HEAD_BYTES: usize = 64 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Callers that sent nothing for so many turns are idle.
const QUIET_TURNS: u32 = 50;
const TURN: Duration = Duration::from_millis(10);
/// Connections over the limit that are told so at once; more are closed without a word.
const FAREWELLS_MAX: usize = 64;
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens a listening socket; `setting` is what chooses its port.
///
/// # Errors
/// `UNAVAILABLE` naming the address when it is taken or may not be used.
pub async fn listen(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        Error::new(
            codes::UNAVAILABLE,
            format!("cannot listen on {address}: {cause}; choose another with {setting}"),
        )
    })
}

/// A listening socket and what answers there.
#[derive(Debug)]
pub struct Port {
    /// The socket.
    pub listener: TcpListener,
    /// What answers.
    pub router: Router,
}

/// How connections are treated.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// Connections at most, of all ports together.
    pub max: usize,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// The certificates; none serves in the open.
    pub tls: Option<Arc<Certificates>>,
    /// Where it is counted.
    pub metrics: AccessMetrics,
}

/// How long a server takes to stop.
#[derive(Debug, Clone, Copy)]
pub struct ShutdownTimes {
    /// New connections are still taken for so long, for load balancers that do not know yet.
    pub delay: Duration,
    /// The longest that all of it may take, the delay included.
    pub longest: Duration,
}

/// Serves on every port until `stop`, which makes `/ready` say no, then:
/// takes new connections for the delay; takes no more; finishes the requests it has, each answered with
/// `connection: close`; waits for callers that keep a connection open until they are idle. Ends early when nobody is
/// left. What is not finished in time is cut off. Returns what is left of the time.
pub async fn serve(
    ports: Vec<Port>,
    settings: ConnectionSettings,
    stop: CancellationToken,
    times: ShutdownTimes,
) -> Duration {
    let connections = Connections::new(settings, stop.clone());
    connections.accept(&ports, stop.cancelled()).await;
    let began = Instant::now();
    connections.accept(&ports, tokio::time::sleep(times.delay)).await;
    for port in ports {
        connections.close(port);
    }
    let (open, requests) =
        (connections.settings.metrics.connections_open.get(), connections.load.in_flight());
    info!(connections = open, requests, "finishing the requests in flight");
    let left = times.longest.saturating_sub(began.elapsed());
    if tokio::time::timeout(left, connections.finish()).await.is_err() {
        warn!("some requests did not finish in time");
    }
    times.longest.saturating_sub(began.elapsed())
}

/// The open connections, and what new ones are served with.
struct Connections {
    settings: ConnectionSettings,
    stop: CancellationToken,
    /// Ends handshakes that are under way, and tells connections that speak HTTP/1.1 to end.
    end: CancellationToken,
    load: Arc<Load>,
    graceful: GracefulShutdown,
    /// Tells connections that speak HTTP/2 to end.
    http2_end: CancellationToken,
    http2_graceful: GracefulShutdown,
    places: Arc<Semaphore>,
    farewells: Arc<Semaphore>,
}

impl Connections {
    fn new(settings: ConnectionSettings, stop: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(settings.max));
        Self {
            settings,
            stop,
            end: CancellationToken::new(),
            load: Arc::default(),
            graceful: GracefulShutdown::new(),
            http2_end: CancellationToken::new(),
            http2_graceful: GracefulShutdown::new(),
            places,
            farewells: Arc::new(Semaphore::new(FAREWELLS_MAX)),
        }
    }

    /// Takes connections until `end`.
    async fn accept(&self, ports: &[Port], end: impl Future<Output = ()>) {
        tokio::select! {
            () = end => {}
            _ = join_all(ports.iter().map(|port| self.accept_on(port))) => {}
        }
    }

    /// Takes connections of one port, without end.
    async fn accept_on(&self, Port { listener, router }: &Port) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.open(stream, router),
                Err(error) => {
                    // Too many open files and the like pass by themselves; spinning on them would not help.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Takes who is connected already and nobody after: the kernel accepts callers ahead of us, and would cut off those
    /// that are left with it.
    fn close(&self, Port { listener, router }: Port) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((stream, _)) = listener.accept() {
            match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                Ok(stream) => self.open(stream, &router),
                Err(error) => warn!(%error, "cannot take the last connections"),
            }
        }
    }

    fn open(&self, stream: TcpStream, router: &Router) {
        let settings = &self.settings;
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let connection = Connection {
                router: router.clone(),
                load: Arc::clone(&self.load),
                stop: self.stop.clone(),
                tls: settings.tls.as_ref().map(|certificates| certificates.current()),
                idle_timeout: settings.idle_timeout,
                metrics: settings.metrics.clone(),
                watcher: self.graceful.watcher(),
                http2_end: self.http2_end.clone(),
                http2_watcher: self.http2_graceful.watcher(),
                place: Place::take(place, &settings.metrics.connections_open),
            };
            let end = self.end.clone();
            tokio::spawn(async move { Repolled::new(pin!(connection.serve(stream, end))).await });
            return;
        }
        settings.metrics.connections_refused.inc();
        // Who expects TLS would not understand a word.
        if let (None, Ok(turn)) = (&settings.tls, Arc::clone(&self.farewells).try_acquire_owned()) {
            tokio::spawn(turn_away(stream, turn));
        }
    }

    /// Waits until no connection is left.
    async fn finish(self) {
        let Self { load, graceful, http2_end, http2_graceful, end, .. } = self;
        let http1 = async {
            // A caller may be about to use a connection that looks idle, so idle ones are not closed at once.
            let mut quiet = 0;
            while quiet < QUIET_TURNS && graceful.count() > 0 {
                let before = load.begun();
                tokio::time::sleep(TURN).await;
                let is_quiet = load.begun() == before && load.in_flight() == 0;
                quiet = if is_quiet { quiet + 1 } else { 0 };
            }
            end.cancel();
            graceful.shutdown().await;
        };
        // HTTP/2 tells the caller which requests are not taken any more, so its connections can end now.
        http2_end.cancel();
        tokio::join!(http2_graceful.shutdown(), http1);
    }
}

/// Tells a caller that there are too many, and waits until it has read that.
async fn turn_away(mut stream: TcpStream, _turn: OwnedSemaphorePermit) {
    let message = "the server has as many connections as it can; try again shortly";
    let problem = Problem::of(&Error::new(codes::OVERLOADED, message));
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let told = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing over what the caller sent would take the answer back.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Who does not listen is not waited for.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, told).await;
}

#[cfg(test)]
mod tests;
