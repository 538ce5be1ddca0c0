//! Whether a server that this process stands on answers, asked in the background so that a probe never waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use edge::http::health::Check;
use futures::future::BoxFuture;
use kernel::Result;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often a server is asked, and how long it may take to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pause: Duration,
    limit: Duration,
}

impl Pace {
    /// For a server that requests need.
    #[cfg(any(feature = "clickhouse", feature = "kafka", feature = "postgres", feature = "redis"))]
    pub(crate) const QUICK: Self = Self { pause: Duration::from_secs(1), limit: Duration::from_millis(800) };
    /// For one that only training and checkpoints need, and that may ask money for every question.
    #[cfg(feature = "s3")]
    pub(crate) const SLOW: Self = Self { pause: Duration::from_secs(30), limit: Duration::from_secs(5) };
}

type Ping = Box<dyn Fn(Duration) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// The pulse of one server.
pub(crate) struct Pulse {
    name: &'static str,
    /// Whether the process is not ready without it.
    needed: bool,
    pace: Pace,
    ping: Ping,
    fault: Mutex<Option<String>>,
}

impl fmt::Debug for Pulse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pulse").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pulse {
    #[cfg_attr(
        not(any(
            feature = "clickhouse",
            feature = "kafka",
            feature = "postgres",
            feature = "redis",
            feature = "s3"
        )),
        expect(dead_code, reason = "the embedded engines need no listening to")
    )]
    /// Of the server that `ping` asks, within the time that it is given.
    pub(crate) fn new(
        name: &'static str,
        needed: bool,
        pace: Pace,
        ping: impl Fn(Duration) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { name, needed, pace, ping: Box::new(ping), fault: Mutex::new(None) })
    }

    /// Asks again and again until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let Pace { pause, limit } = self.pace;
        loop {
            let fault = match tokio::time::timeout(limit, (self.ping)(limit)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.message().to_owned()),
                Err(_) => Some(format!("no answer within {} ms", limit.as_millis())),
            };
            let before = std::mem::replace(&mut *self.fault.lock(), fault.clone());
            match (before, fault) {
                (None, Some(reason)) => warn!(server = self.name, reason, "does not answer"),
                (Some(_), None) => info!(server = self.name, "answers again"),
                _ => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Check for Pulse {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    fn is_needed(&self) -> bool {
        self.needed
    }
}
