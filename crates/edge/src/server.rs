//! Listening, and stopping without dropping a request.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use kernel::{Error, Result, codes};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, info, warn};

/// A caller that has not sent the head of a request by then is cut off.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// Serves until `stop`, then finishes the requests it has, for `patience` at most.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, patience: Duration) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connection(stream, router.clone(), &graceful),
            Err(error) => {
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

fn connection(stream: TcpStream, router: Router, graceful: &GracefulShutdown) {
    // Answers are small and written whole, so waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection ended early");
        }
    });
}
