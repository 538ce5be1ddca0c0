//! How far the view is behind the log, looked at every few seconds, so that a replica that lags is seen.
//!
//! It refuses to guess: while the log does not answer, the figure stays as it was, and `engines_answering` says why.

use std::sync::Arc;
use std::time::Duration;

use edge::ingest::EVENTS;
use kernel::Result;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use recommend::views::Views;
use store::EventLog;
use stream::Projector;
use tokio_util::sync::CancellationToken;
use tracing::debug;

const PAUSE: Duration = Duration::from_secs(5);

/// Looks at one view of one log.
#[derive(Debug)]
pub(crate) struct Lag {
    log: Arc<dyn EventLog>,
    view: Arc<Projector<Views>>,
    events: Gauge,
}

impl Lag {
    /// Registers what it tells.
    pub(crate) fn new(log: Arc<dyn EventLog>, view: Arc<Projector<Views>>, registry: &mut Registry) -> Self {
        let events = Gauge::default();
        let help = "Events of the log that the view of this process does not show yet";
        registry.register("view_events_behind", help, events.clone());
        Self { log, view, events }
    }

    /// Looks until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            match self.behind().await {
                Ok(events) => {
                    self.events.set(i64::try_from(events).unwrap_or(i64::MAX));
                }
                Err(error) => debug!(error = %error.chain(), "how far the view is cannot be told"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn behind(&self) -> Result<u64> {
        // Before the log is asked, so that what comes meanwhile counts as behind and not as ahead.
        let progress = self.view.progress();
        let extents = self.log.extents(&EVENTS).await?;
        let of = |extent: store::Extent| {
            extent.next.saturating_sub(progress.get(&extent.partition).copied().unwrap_or(0))
        };
        Ok(extents.into_iter().map(of).sum())
    }
}
