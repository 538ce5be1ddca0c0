//! What is counted of backups. The names are a contract with whoever watches them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The metrics of a process that ships backups.
#[derive(Debug, Clone, Default)]
pub struct BackupMetrics {
    pub(crate) taken: Counter,
    pub(crate) failed: Counter,
    pub(crate) bytes: Counter,
    pub(crate) last: Gauge,
    pub(crate) pause_seconds: Gauge,
}

impl BackupMetrics {
    /// Registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("backups_taken", "Backups that this process made", metrics.taken.clone());
        registry.register(
            "backups_failed",
            "Backups that this process could not make",
            metrics.failed.clone(),
        );
        registry.register("backup_uploaded_bytes", "Bytes that were sent", metrics.bytes.clone());
        registry.register(
            "backup_last_success_timestamp_seconds",
            "When everything was last known to be backed up, in unix seconds; 0 before",
            metrics.last.clone(),
        );
        registry.register(
            "backup_pause_seconds",
            "Between the end of a backup and the beginning of the next, as the settings say",
            metrics.pause_seconds.clone(),
        );
        metrics
    }
}
