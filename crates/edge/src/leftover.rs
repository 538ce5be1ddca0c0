//! What a handler left unread of a request's body. HTTP/1.1 closes a connection with an unread body, so that a caller who
//! was refused early would find the connection gone at the next request; a small rest is read and thrown away instead.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;

/// The longest rest that is read; a longer one costs the caller the connection.
const MAX_REST_BYTES: usize = 256 << 10;
/// The longest time that a rest may take to arrive.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a body goes that was dropped before its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leftover(Arc<Mutex<Option<Body>>>);

impl Leftover {
    /// The request, with a body that comes back here; none where there is no body.
    pub(crate) fn watch(request: Request<Body>) -> (Request<Body>, Option<Self>) {
        if request.body().is_end_stream() {
            return (request, None);
        }
        let leftover = Self::default();
        let watched = |body| Body::new(Watched { body: Some(body), leftover: leftover.clone() });
        (request.map(watched), Some(leftover))
    }

    /// Reads the rest, or tells the caller that the connection ends.
    pub(crate) async fn discard(self, mut response: Response<Body>) -> Response<Body> {
        let rest = self.0.lock().take();
        if let Some(rest) = rest.filter(|rest| !rest.is_end_stream()) {
            let read = tokio::time::timeout(PATIENCE, Limited::new(rest, MAX_REST_BYTES).collect()).await;
            if !matches!(read, Ok(Ok(_))) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response
    }
}

struct Watched {
    body: Option<Body>,
    leftover: Leftover,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) {
            // A stream that ended is not to be asked again.
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map_or_else(|| http_body::SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        *self.leftover.0.lock() = self.body.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_small_rest_is_read_and_a_long_one_ends_the_connection() {
        let check = async |bytes: usize, read: bool, closes: bool| {
            let (request, leftover) = Leftover::watch(Request::new(Body::from(vec![0; bytes])));
            if read {
                let _ = request.into_body().collect().await.unwrap();
            } else {
                drop(request);
            }
            let response = Response::new(Body::empty());
            let response = match leftover {
                Some(leftover) => leftover.discard(response).await,
                None => response,
            };
            assert_eq!(response.headers().contains_key(header::CONNECTION), closes, "{bytes} {read}");
        };
        check(0, false, false).await;
        check(10, false, false).await;
        check(MAX_REST_BYTES + 1, false, true).await;
        check(MAX_REST_BYTES + 1, true, false).await;
    }
}
