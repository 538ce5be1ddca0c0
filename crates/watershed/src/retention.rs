//! Cuts the event log to the age that the settings give, now and every hour.
//!
//! A view outlives its events: before anything goes, the view is made durable, and only what every checkpoint holds may
//! go. An event counts as old by its own time, and goes when all before it in its partition went.
//!
//! To add a view over the same log: its projector here, and the least of all offsets for `before`.

use std::sync::Arc;
use std::time::Duration;

use edge::ingest::EVENTS;
use kernel::{Clock, Result};
use recommend::views::Views;
use store::{EventLog, ReadLimit, Retention};
use stream::Projector;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const PAUSE: Duration = Duration::from_secs(3_600);

/// Keeps the log short.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub log: Arc<dyn EventLog>,
    pub view: Arc<Projector<Views>>,
    pub clock: Arc<dyn Clock>,
    /// Events that are older may go.
    pub age: Duration,
}

impl Keeper {
    /// Cuts until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            match self.cut().await {
                Ok(0) => {}
                Ok(events) => info!(events, "events past their retention were removed from the log"),
                Err(error) => warn!(error = %error.chain(), "the log was not cut, trying again in an hour"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Removes what is old enough and in the view for good; returns how many events went.
    async fn cut(&self) -> Result<u64> {
        let keep = Retention { age: Some(self.age), ..Retention::default() };
        if !self.is_due(&keep).await? {
            return Ok(0);
        }
        let mut before = self.view.checkpoint().await?;
        for extent in self.log.extents(&EVENTS).await? {
            // The newest event stays: a partition without any could not be put back where it ends.
            before
                .entry(extent.partition)
                .and_modify(|next| *next = (*next).min(extent.next.saturating_sub(1)));
        }
        let keep = Retention { before: Some(before), ..keep };
        self.log.retain(&EVENTS, keep, self.clock.now()).await
    }

    /// Whether the oldest event of any partition may go: a checkpoint for nothing would be waste.
    async fn is_due(&self, keep: &Retention) -> Result<bool> {
        let one = ReadLimit { events: 1, ..ReadLimit::default() };
        for extent in self.log.extents(&EVENTS).await? {
            let oldest = self.log.read(&EVENTS, extent.partition, extent.first, one).await?;
            let is_old = |event: &store::Stored| {
                !keep.keeps(event.event.time, extent.next - extent.first, self.clock.now())
            };
            if oldest.first().is_some_and(is_old) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
