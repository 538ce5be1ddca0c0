//! What is counted of views. The names are a contract with whoever watches them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The metrics of a process that follows a log.
#[derive(Debug, Clone, Default)]
pub struct StreamMetrics {
    /// Times that a view was overtaken by a cut of the log and went on from a newer checkpoint.
    pub overtaken: Counter,
}

impl StreamMetrics {
    /// Registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Times that events were cut from the log before the view saw them, and a newer checkpoint had them";
        registry.register("view_overtaken", help, metrics.overtaken.clone());
        metrics
    }
}
