//! Streams of events last as long as their senders like, so they have places of their own: so many for each tenant and
//! so many in all, beside those of other requests. A stream that sends too little for too long is ended.
//!
//! It refuses one stream too many with [`TOO_MANY_STREAMS`], and ends a slow one with [`STREAM_TOO_SLOW`]. To make another
//! endpoint a stream: let it call `StepLimit::take_over`, and hand every part of the body to `StepLimit::received`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, ErrorCode, ErrorKind, Result, TenantId};
use parking_lot::Mutex;

use crate::HttpMetrics;
use crate::metrics::StreamLabels;

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

/// How many streams there may be, and how slow.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Streams of one tenant at once.
    pub per_tenant: usize,
    /// Streams of all tenants at once.
    pub in_all: usize,
    /// Bytes a second that a stream sends at least while it is waited for; 0 lets it send as little as it likes.
    pub bytes_per_second_min: u64,
    /// The rate is looked at each time that a stream was waited for so long.
    pub window: Duration,
}

/// The streams that are open.
#[derive(Debug)]
pub(crate) struct Streams {
    limits: StreamLimits,
    open: Mutex<Open>,
    metrics: HttpMetrics,
}

#[derive(Debug, Default)]
struct Open {
    in_all: usize,
    by_tenant: BTreeMap<TenantId, usize>,
}

impl Streams {
    pub(crate) fn new(limits: StreamLimits, metrics: HttpMetrics) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::default(), metrics })
    }

    /// A place for a stream of the tenant, until it is dropped.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub(crate) fn begin(self: &Arc<Self>, tenant: &TenantId) -> Result<StreamPlace> {
        let mut open = self.open.lock();
        let of_tenant = open.by_tenant.get(tenant).copied().unwrap_or(0);
        let limit = match (of_tenant >= self.limits.per_tenant, open.in_all >= self.limits.in_all) {
            (true, _) => Some(format!("this tenant has {of_tenant} streams open, as many as it may")),
            (_, true) => Some("the server has as many streams open as it may".to_owned()),
            _ => None,
        };
        if let Some(limit) = limit {
            drop(open);
            self.refused("too_many");
            let message = format!("{limit}; end one, or send batches");
            return Err(Error::new(TOO_MANY_STREAMS, message));
        }
        open.in_all += 1;
        open.by_tenant.insert(tenant.clone(), of_tenant + 1);
        self.metrics.streams_open.inc();
        let pace = Pace::new(self.limits.bytes_per_second_min, self.limits.window);
        Ok(StreamPlace { streams: Arc::clone(self), tenant: tenant.clone(), pace })
    }

    fn refused(&self, reason: &'static str) {
        self.metrics.streams_refused.get_or_create(&StreamLabels { reason }).inc();
    }
}

/// One of the streams there may be. Dropping it frees it.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    streams: Arc<Streams>,
    tenant: TenantId,
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

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.in_all -= 1;
        if let Some(count) = open.by_tenant.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                open.by_tenant.remove(&self.tenant);
            }
        }
        self.streams.metrics.streams_open.dec();
    }
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

    const LIMITS: StreamLimits =
        StreamLimits { per_tenant: 2, in_all: 3, bytes_per_second_min: 10, window: Duration::from_secs(60) };

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
        assert!(streams.open.lock().by_tenant.is_empty(), "nothing is kept of tenants without streams");
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
