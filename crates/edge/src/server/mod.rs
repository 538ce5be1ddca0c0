//! Listening, and stopping without dropping a request.
//!
//! HTTP/1.1 in the open; over TLS also HTTP/2, as the client and the server agree in the handshake. Every wait for a
//! caller has an end: for the handshake, for the head of a request, for the next request, for an answer to be taken.
//! There are so many connections at most; one more is answered with 503 and closed.
//!
//! - `connection`: one of them, from the handshake to its end.
//! - [`tls`]: certificates, and their reload while serving.
//! - `strict`: what of HTTP/1.1 other servers read differently is refused.
//! - `stall`: who takes no answer is cut off.

mod connection;
mod stall;
mod strict;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use kernel::{Error, Result, codes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::AccessMetrics;
use crate::problem::Problem;
use connection::{Connection, Place};
use tls::Certificates;

/// The largest head of a request; also what is read of a body at once.
const MAX_HEAD_BYTES: usize = 64 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections over the limit that are told so at once; more are closed without a word.
const FAREWELLS_MAX: usize = 64;
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens the listening socket.
///
/// # Errors
/// `UNAVAILABLE` naming the address when it is taken or may not be used.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        Error::new(
            codes::UNAVAILABLE,
            format!("cannot listen on {address}: {cause}; choose another with --port"),
        )
    })
}

/// How connections are treated.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// Connections at most.
    pub max: usize,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// The certificates; none serves in the open.
    pub tls: Option<Arc<Certificates>>,
    /// Where it is counted.
    pub metrics: AccessMetrics,
}

/// Serves until `stop`, then finishes the requests it has, for `patience` at most.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ConnectionSettings,
    stop: CancellationToken,
    patience: Duration,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(settings.max));
    let farewells = Arc::new(Semaphore::new(FAREWELLS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, Arc::clone(&places).try_acquire_owned()) {
            (Ok((stream, _)), Ok(place)) => {
                let connection = Connection {
                    router: router.clone(),
                    tls: settings.tls.as_ref().map(|certificates| certificates.current()),
                    idle_timeout: settings.idle_timeout,
                    metrics: settings.metrics.clone(),
                    watcher: graceful.watcher(),
                    place: Place::take(place, &settings.metrics.connections_open),
                };
                tokio::spawn(connection.serve(stream, stop.clone()));
            }
            (Ok((stream, _)), Err(_)) => {
                settings.metrics.connections_refused.inc();
                // Who expects TLS would not understand a word.
                if let (None, Ok(turn)) = (&settings.tls, Arc::clone(&farewells).try_acquire_owned()) {
                    tokio::spawn(turn_away(stream, turn));
                }
            }
            (Err(error), _) => {
                // Too many open files and the like pass by themselves; spinning on them would not help.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    info!(connections = graceful.count(), "finishing the requests in flight");
    if tokio::time::timeout(patience, graceful.shutdown()).await.is_err() {
        warn!("some requests did not finish in time");
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
