//! One connection: the handshake where there is TLS, then HTTP/1.1 or HTTP/2 until it ends. In the open, HTTP/2 is spoken with
//! clients that begin with it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use prometheus_client::metrics::gauge::Gauge;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::debug;

use super::MAX_HEAD_BYTES;
use super::stall::Stalling;
use super::strict::Strict;
use super::tls::HTTP_2;
use crate::metrics::AccessMetrics;

/// A caller that has not ended the handshake by then is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A caller that began the head of a request and has not ended it by then is refused.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A caller that takes nothing of its answer for so long is cut off.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A caller that was told to go and has no request open is cut off after so long.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(10);
/// What HTTP/2 begins with; no method of HTTP/1.1 has this name.
const PREFACE: &[u8; 4] = b"PRI ";
/// Before it is looked again for the rest of the first bytes.
const HEAD_PAUSE: Duration = Duration::from_millis(5);
/// Requests that one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 128;

/// One of the connections there may be. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Place {
    pub(super) fn take(permit: OwnedSemaphorePermit, open: &Gauge) -> Self {
        open.inc();
        Self { _permit: permit, open: open.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// What the server does now.
#[derive(Debug, Default)]
pub(super) struct Load {
    begun: AtomicU64,
    in_flight: AtomicU64,
}

impl Load {
    /// Requests since the start.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Requests that are being answered.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Counts a request, whose answer may never be waited for.
struct InFlight(Arc<Load>);

impl InFlight {
    fn begin(load: &Arc<Load>) -> Self {
        load.begun.fetch_add(1, Ordering::Relaxed);
        load.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that was taken, and what it is served with.
pub(super) struct Connection {
    pub(super) router: Router,
    pub(super) load: Arc<Load>,
    /// From then on answers ask for the connection to be closed.
    pub(super) stop: CancellationToken,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) idle_timeout: Duration,
    pub(super) metrics: AccessMetrics,
    /// Is waited for where it speaks HTTP/1.1.
    pub(super) watcher: Watcher,
    /// Tells it to end where it speaks HTTP/2.
    pub(super) http2_end: CancellationToken,
    /// Is waited for where it speaks HTTP/2.
    pub(super) http2_watcher: Watcher,
    pub(super) place: Place,
}

impl Connection {
    /// Serves it to its end. At `end` a handshake that is under way is given up, and HTTP/1.1 takes no more requests.
    pub(super) async fn serve(mut self, stream: TcpStream, end: CancellationToken) {
        // Answers are small and written whole, so waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = self.tls.take() else { return self.in_the_open(stream, end).await };
        let handshake = TlsAcceptor::from(tls).accept(Stalling::new(stream, STALL_TIMEOUT));
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => accepted,
        };
        match accepted {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) => self.http2(stream).await,
            Ok(Ok(stream)) => self.http1(stream, end).await,
            Ok(Err(error)) => self.failed_handshake(&error.to_string()),
            Err(_) => self.failed_handshake("it took too long"),
        }
    }

    /// Without TLS a client that speaks HTTP/2 says so by how it begins.
    async fn in_the_open(self, stream: TcpStream, end: CancellationToken) {
        let begun = tokio::select! {
            () = end.cancelled() => return,
            begun = tokio::time::timeout(self.idle_timeout, begins_http2(&stream)) => begun,
        };
        let Ok(is_http2) = begun else { return };
        let stream = Stalling::new(stream, STALL_TIMEOUT);
        if is_http2 { self.http2(stream).await } else { self.http1(stream, end).await }
    }

    fn failed_handshake(&self, error: &str) {
        self.metrics.handshakes_failed.inc();
        debug!(error, "a handshake failed");
    }

    async fn http1(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        end: CancellationToken,
    ) {
        let is_upgraded = Arc::new(AtomicBool::new(false));
        let strict = Strict::with_place(stream, HEAD_TIMEOUT, self.place, Arc::clone(&is_upgraded));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // It runs from the end of the request before: the time of the head alone is kept by `Strict`.
            .header_read_timeout(self.idle_timeout)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(
                TokioIo::new(strict),
                answers(self.router, self.load, self.stop, Kept::Http1(is_upgraded)),
            )
            .with_upgrades();
        drop(self.http2_watcher);
        let ended = {
            let mut connection = pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => ended,
                () = end.cancelled() => {
                    // What was begun is finished, and nothing more is taken.
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        };
        told(ended);
        drop(self.watcher);
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (open, mut opened) = watch::channel(0);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(self.idle_timeout)
            .keep_alive_timeout(HEAD_TIMEOUT)
            .serve_connection(
                TokioIo::new(stream),
                answers(self.router, self.load, self.stop, Kept::Http2(open)),
            );
        drop(self.watcher);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.http2_end.cancelled() => None,
            // Pings are answered by clients that nobody uses.
            () = idle(&mut opened, self.idle_timeout) => None,
        };
        match ended {
            Some(ended) => told(ended),
            None => {
                // GOAWAY: what is open is finished, and the caller knows what is not taken any more.
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection => told(ended),
                    () = idle(&mut opened, FAREWELL_TIMEOUT) => debug!("a client did not go when it was told to"),
                }
            }
        }
        drop((self.http2_watcher, self.place));
    }
}

/// Waits for the first bytes of a caller, and leaves them where they are.
async fn begins_http2(stream: &TcpStream) -> bool {
    let mut head = [0; PREFACE.len()];
    loop {
        // A connection that broke is for whoever reads it next.
        let Ok(count) = stream.peek(&mut head).await else { return false };
        if count == 0 || head[..count] != PREFACE[..count] {
            return false;
        }
        if count == PREFACE.len() {
            return true;
        }
        // What is there already would be told again and again.
        tokio::time::sleep(HEAD_PAUSE).await;
    }
}

/// Returns when no request was open for so long.
async fn idle(open: &mut watch::Receiver<usize>, patience: Duration) {
    loop {
        if open.wait_for(|count| *count == 0).await.is_err() {
            // The connection holds the other end, and is being dropped.
            return std::future::pending().await;
        }
        tokio::select! {
            () = tokio::time::sleep(patience) => return,
            changed = open.changed() => if changed.is_err() { return std::future::pending().await },
        }
    }
}

/// A request of a connection, open until its answer was sent or given up.
struct OpenRequest(watch::Sender<usize>);

impl OpenRequest {
    fn begin(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|count| *count += 1);
        Self(open.clone())
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The body of an answer, which keeps its request open.
struct OpenBody {
    body: Body,
    _open: OpenRequest,
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

fn told(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

/// What is noted of a connection beside its load.
enum Kept {
    /// Whether it was agreed to speak another protocol.
    Http1(Arc<AtomicBool>),
    /// How many requests are open.
    Http2(watch::Sender<usize>),
}

/// What answers the requests of a connection.
fn answers(
    router: Router,
    load: Arc<Load>,
    stop: CancellationToken,
    kept: Kept,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = Response,
    Error = Infallible,
    Future = impl Future<Output = Result<Response, Infallible>> + Send,
> {
    service_fn(move |request: Request<Incoming>| {
        let in_flight = InFlight::begin(&load);
        let (open, is_upgraded) = match &kept {
            Kept::Http1(is_upgraded) => (None, Some(Arc::clone(is_upgraded))),
            Kept::Http2(open) => (Some(OpenRequest::begin(open)), None),
        };
        // HTTP/2 says it to the whole connection.
        let may_close = request.version() <= Version::HTTP_11;
        // Whatever it asks for: who stands in front may read it otherwise. But for HTTP/2 in the open, which some clients ask for
        // with each request and nobody takes for a stream of their own.
        let asked_for = request.headers().get_all(header::UPGRADE);
        let asks_for_upgrade = asked_for.iter().any(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"));
        let (answer, stop) = (router.clone().oneshot(request.map(axum::body::Body::new)), stop.clone());
        async move {
            let _in_flight = in_flight;
            let mut response = answer.await?;
            if let Some(is_upgraded) = is_upgraded
                && response.status() == StatusCode::SWITCHING_PROTOCOLS
            {
                is_upgraded.store(true, Ordering::Release);
                // The header that says so must stay as it is.
                return Ok(response);
            }
            // After a refused upgrade: who stands in front may take it for agreed, and pass on unseen what comes next. While
            // it stops: the caller's next request goes to another server instead of to a closed connection.
            if may_close && (asks_for_upgrade || stop.is_cancelled()) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(match open {
                Some(open) => response.map(|body| Body::new(OpenBody { body, _open: open })),
                None => response,
            })
        }
    })
}
