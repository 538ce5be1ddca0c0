//! Streams last as long as callers like, so they have places of their own beside those of other requests: so many for each
//! tenant and so many in all, for streams of events in and for answers that are streams out. A stream of events that sends too
//! little for too long is ended, and so is an answer of which the next piece is not made in time.
//!
//! It refuses one stream too many with [`TOO_MANY_STREAMS`], and ends a slow one with [`STREAM_TOO_SLOW`]. To make another
//! endpoint a stream: let it call `StepLimit::take_over`, and hand every part of the body to `StepLimit::received`; where the
//! answer is the stream, let the handler take an [`AnswerStream`] and give its pieces to [`AnswerStream::body`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use bytes::Bytes;
use futures::{Stream, TryStreamExt, stream};
use kernel::{Error, ErrorCode, ErrorKind, Result, TenantId, codes};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tracing::error;

use crate::metrics::StreamLabels;
use crate::middleware::Bounds;
use crate::{ApiError, Caller, HttpMetrics};

/// The tenant, or the server, has as many streams as there may be.
pub const TOO_MANY_STREAMS: ErrorCode = ErrorCode {
    name: "TOO_MANY_STREAMS",
    kind: ErrorKind::Busy,
    title: "More streams at once than the limit lets pass",
};

/// A stream sent too little.
pub const STREAM_TOO_SLOW: ErrorCode = ErrorCode {
    name: "STREAM_TOO_SLOW",
    kind: ErrorKind::Busy,
    title: "The stream sent too little for too long",
};

/// How many streams there may be.
#[derive(Debug, Clone, Copy)]
pub struct PlaceLimits {
    /// Of one tenant at once.
    pub per_tenant: usize,
    /// Of all tenants at once.
    pub in_all: usize,
}

/// How many streams of events there may be, and how slow.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// How many.
    pub places: PlaceLimits,
    /// Bytes a second that a stream sends at least while it is waited for; 0 lets it send as little as it likes.
    pub bytes_per_second_min: u64,
    /// The rate is looked at each time that a stream was waited for so long.
    pub window: Duration,
}

/// The places of one kind of streams.
#[derive(Debug)]
struct Places {
    limits: PlaceLimits,
    taken: Mutex<Taken>,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Taken {
    in_all: usize,
    by_tenant: BTreeMap<TenantId, usize>,
}

impl Places {
    fn new(limits: PlaceLimits, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default(), gauge })
    }

    /// A place for the tenant, until it is dropped; else how many are taken, and by whom.
    fn take(self: &Arc<Self>, tenant: &TenantId) -> Result<Place, String> {
        let mut taken = self.taken.lock();
        let of_tenant = taken.by_tenant.get(tenant).copied().unwrap_or(0);
        if of_tenant >= self.limits.per_tenant {
            return Err(format!("this tenant has {of_tenant} open, as many as it may"));
        }
        if taken.in_all >= self.limits.in_all {
            return Err("the server has as many open as it may".to_owned());
        }
        taken.in_all += 1;
        taken.by_tenant.insert(tenant.clone(), of_tenant + 1);
        self.gauge.inc();
        Ok(Place { places: Arc::clone(self), tenant: tenant.clone() })
    }
}

/// One of the streams there may be. Dropping it frees it.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    tenant: TenantId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.in_all -= 1;
        if let Some(count) = taken.by_tenant.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.by_tenant.remove(&self.tenant);
            }
        }
        self.places.gauge.dec();
    }
}

/// The streams of events that are open.
#[derive(Debug)]
pub(crate) struct Streams {
    limits: StreamLimits,
    places: Arc<Places>,
    metrics: HttpMetrics,
}

impl Streams {
    pub(crate) fn new(limits: StreamLimits, metrics: HttpMetrics) -> Arc<Self> {
        let places = Places::new(limits.places, metrics.streams_open.clone());
        Arc::new(Self { limits, places, metrics })
    }

    /// A place for a stream of the tenant, until it is dropped.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub(crate) fn begin(self: &Arc<Self>, tenant: &TenantId) -> Result<StreamPlace> {
        let place = self.places.take(tenant).map_err(|why| {
            self.refused("too_many");
            Error::new(TOO_MANY_STREAMS, format!("of streams, {why}; end one, or send batches"))
        })?;
        let pace = Pace::new(self.limits.bytes_per_second_min, self.limits.window);
        Ok(StreamPlace { streams: Arc::clone(self), _place: place, pace })
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.streams_refused.get_or_create(&StreamLabels { reason }).inc();
    }
}

/// A stream of events that is open.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    streams: Arc<Streams>,
    _place: Place,
    pace: Pace,
}

impl StreamPlace {
    /// Notes that so many bytes came after the stream was waited for so long.
    ///
    /// # Errors
    /// `STREAM_TOO_SLOW`.
    pub(crate) fn received(&mut self, bytes: usize, waited: Duration) -> Result<()> {
        self.pace.received(bytes, waited).inspect_err(|_| self.streams.refused("too_slow"))
    }
}

/// The answers that are streams.
#[derive(Debug)]
pub(crate) struct Answers {
    places: Arc<Places>,
    metrics: HttpMetrics,
}

impl Answers {
    pub(crate) fn new(limits: PlaceLimits, metrics: HttpMetrics) -> Arc<Self> {
        Arc::new(Self { places: Places::new(limits, metrics.answer_streams_open.clone()), metrics })
    }

    fn begin(&self, tenant: &TenantId) -> Result<Place> {
        self.places.take(tenant).map_err(|why| {
            self.metrics.answer_streams_refused.inc();
            Error::new(TOO_MANY_STREAMS, format!("of exports, {why}; wait until one ends"))
        })
    }
}

/// A place for an answer that is a stream: the handler takes it last of its arguments, so that only a request that is right
/// takes one. It is free again when the body ended or was dropped. There are no bounds outside [`crate::middleware::around`].
#[derive(Debug, Default)]
pub struct AnswerStream {
    place: Option<Place>,
    /// For each piece.
    longest: Option<Duration>,
}

impl<S: Sync> FromRequestParts<S> for AnswerStream {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Caller(scope) = <Caller as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        let Some(bounds) = parts.extensions.get::<Bounds>() else { return Ok(Self::default()) };
        let place = bounds.answers.begin(scope.tenant())?;
        Ok(Self { place: Some(place), longest: Some(bounds.longest) })
    }
}

impl AnswerStream {
    /// The body that these pieces make, which holds the place. It breaks off where a piece fails, or is not made within the time
    /// that a request has, so that no one takes a part for the whole.
    pub fn body(self, pieces: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Body {
        let Self { place, longest } = self;
        let pieces = stream::try_unfold((Box::pin(pieces), place), move |(mut pieces, place)| async move {
            let next = match longest {
                None => pieces.try_next().await?,
                Some(longest) => {
                    let late = |_| {
                        let message = format!("a piece was not made within {} ms", longest.as_millis());
                        Error::new(codes::TIMED_OUT, message)
                    };
                    tokio::time::timeout(longest, pieces.try_next()).await.map_err(late)??
                }
            };
            Ok(next.map(|piece| (piece, (pieces, place))))
        });
        // The caller sees no more than that the connection ends.
        Body::from_stream(pieces.inspect_err(broke_off))
    }
}

fn broke_off(error: &Error) {
    error!(error = %error.chain(), "an export broke off");
}

/// How much came in the window that runs now.
#[derive(Debug)]
struct Pace {
    bytes_per_second_min: u64,
    window: Duration,
    bytes: u64,
    waited: Duration,
}

impl Pace {
    fn new(bytes_per_second_min: u64, window: Duration) -> Self {
        Self { bytes_per_second_min, window, bytes: 0, waited: Duration::ZERO }
    }

    fn received(&mut self, bytes: usize, waited: Duration) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.waited = self.waited.saturating_add(waited);
        if self.waited < self.window {
            return Ok(());
        }
        let least = self.bytes_per_second_min as f64 * self.waited.as_secs_f64();
        if (self.bytes as f64) < least {
            let message = format!(
                "{} bytes in {} s of waiting, and a stream sends {} bytes a second at least; send what there is as \
                 batches and open a stream for much",
                self.bytes,
                self.waited.as_secs(),
                self.bytes_per_second_min
            );
            return Err(Error::new(STREAM_TOO_SLOW, message));
        }
        (self.bytes, self.waited) = (0, Duration::ZERO);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    const LIMITS: StreamLimits = StreamLimits {
        places: PlaceLimits { per_tenant: 2, in_all: 3 },
        bytes_per_second_min: 10,
        window: Duration::from_secs(60),
    };

    #[test]
    fn a_tenant_takes_its_own_places_only() {
        let metrics = HttpMetrics::register(&mut Registry::default());
        let streams = Streams::new(LIMITS, metrics.clone());
        let [shop, bar, inn] = ["shop", "bar", "inn"].map(|name| TenantId::new(name).unwrap());
        let held = [streams.begin(&shop).unwrap(), streams.begin(&shop).unwrap()];
        let refused = streams.begin(&shop).unwrap_err();
        assert!(refused.code() == TOO_MANY_STREAMS && refused.message().contains("tenant"), "{refused}");
        let other = streams.begin(&bar).unwrap();
        assert!(streams.begin(&inn).unwrap_err().message().contains("server"));
        assert_eq!(metrics.streams_open.get(), 3);
        drop(other);
        drop(streams.begin(&inn).unwrap());
        drop(held);
        assert_eq!(metrics.streams_open.get(), 0);
        assert!(
            streams.places.taken.lock().by_tenant.is_empty(),
            "nothing is kept of tenants without streams"
        );
        let too_many = StreamLabels { reason: "too_many" };
        assert_eq!(metrics.streams_refused.get_or_create(&too_many).get(), 2);
    }

    #[test]
    fn the_rate_is_that_of_each_window() {
        let check = |least: u64, parts: &[(usize, u64)], good: usize| {
            let mut pace = Pace::new(least, Duration::from_secs(60));
            let passed = parts
                .iter()
                .take_while(|(bytes, secs)| pace.received(*bytes, Duration::from_secs(*secs)).is_ok());
            assert_eq!(passed.count(), good, "{parts:?}");
        };
        check(10, &[(600, 60), (600, 60)], 2);
        check(10, &[(599, 60)], 0);
        // What came at once does not pay for later.
        check(10, &[(1_000_000, 60), (1, 30), (1, 30)], 2);
        // What is waited for less than a window is not judged.
        check(10, &[(1, 59)], 1);
        check(0, &[(0, 1_000), (1, 1_000)], 2);
        check(u64::MAX, &[(usize::MAX, 1_000)], 0);
    }
}
