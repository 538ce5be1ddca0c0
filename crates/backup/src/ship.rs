//! Backups while a server runs: one after the other, so that little is ever missing.

use std::time::Duration;

use kernel::ErrorKind;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{BackupMetrics, Created, Options, Rules, Source, Vault, create};

/// Makes a backup again and again.
#[derive(Debug, Clone)]
pub struct Shipper {
    /// What is backed up.
    pub source: Source,
    /// What belongs to it.
    pub rules: Rules,
    /// Where it goes.
    pub vault: Vault,
    /// How.
    pub options: Options,
    /// Between the end of one and the beginning of the next.
    pub pause: Duration,
    /// What is counted.
    pub metrics: BackupMetrics,
}

impl Shipper {
    /// Ships until `stop`. Many processes may do so at once: one makes a backup, the others wait.
    pub async fn run(self, stop: CancellationToken) {
        self.metrics.pause_seconds.set(i64::try_from(self.pause.as_secs()).unwrap_or(i64::MAX));
        loop {
            tokio::select! {
                // Nothing is lost: the next backup takes up what was sent.
                () = stop.cancelled() => return,
                () = self.ship() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }

    async fn ship(&self) {
        let began = self.source.clock.now();
        // Another process may have made one while this one paused. What is damaged, `create` tells.
        if let Ok(Some((newest, _))) = self.vault.newest().await
            && began.duration_since(newest.taken_at).unsigned_abs() < self.pause
        {
            self.metrics.last.set(newest.taken_at.as_second());
            return;
        }
        let Self { source, rules, vault, options, .. } = self;
        match create(source, rules, vault, options, &|_| ()).await {
            Ok(Created::New(manifest, uploaded)) => {
                self.metrics.taken.inc();
                self.metrics.bytes.inc_by(uploaded.bytes);
                self.metrics.last.set(manifest.taken_at.as_second());
                let (events, bytes) = (manifest.events(), uploaded.bytes);
                info!(backup = manifest.sequence, events, bytes, "backed up");
            }
            Ok(Created::Unchanged(manifest)) => {
                self.metrics.last.set(began.as_second());
                debug!(backup = manifest.sequence, "nothing to back up");
            }
            Err(error) if error.kind() == ErrorKind::Busy => debug!("another process makes a backup"),
            Err(error) if error.kind().is_retryable() => {
                self.metrics.failed.inc();
                warn!(error = %error.chain(), "no backup was made; it is tried again");
            }
            Err(error) => {
                self.metrics.failed.inc();
                error!(error = %error.chain(), "the backup failed");
            }
        }
    }
}
