//! Every metric of search. Label values come from fixed sets, never from what a tenant wrote.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

const SECONDS: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
}

const EMBEDDINGS: CacheLabels = CacheLabels { cache: "embeddings" };

/// The metrics of search.
#[derive(Debug, Clone)]
pub struct SearchMetrics {
    searches: Family<OutcomeLabels, Counter>,
    search_seconds: Histogram,
    changes: Counter,
    texts: Counter,
    encode_seconds: Histogram,
    cache_hits: Family<CacheLabels, Counter>,
    cache_misses: Family<CacheLabels, Counter>,
    pending: Gauge,
}

impl SearchMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            searches: Family::default(),
            search_seconds: Histogram::new(SECONDS),
            changes: Counter::default(),
            texts: Counter::default(),
            encode_seconds: Histogram::new(SECONDS),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
            pending: Gauge::default(),
        };
        for counts in [&metrics.cache_hits, &metrics.cache_misses] {
            drop(counts.get_or_create(&EMBEDDINGS));
        }
        // A rate needs series that begin at nought.
        for outcome in ["found", "empty", "failed"] {
            drop(metrics.searches.get_or_create(&OutcomeLabels { outcome }));
        }
        registry.register("ml_search_requests", "Searches, by what became of them", metrics.searches.clone());
        let help = "From a search to its results";
        registry.register("ml_search_duration_seconds", help, metrics.search_seconds.clone());
        registry.register("ml_search_changes", "Items put or deleted by callers", metrics.changes.clone());
        registry.register("ml_embedding_texts", "Texts that callers had encoded", metrics.texts.clone());
        let help = "From a request for vectors to its vectors";
        registry.register("ml_embedding_duration_seconds", help, metrics.encode_seconds.clone());
        let help = "Texts whose vector was remembered";
        registry.register("ml_cache_hits", help, metrics.cache_hits.clone());
        let help = "Texts whose vector was not remembered";
        registry.register("ml_cache_misses", help, metrics.cache_misses.clone());
        let help = "Changes of items whose vector the model of the settings has not made yet";
        registry.register("ml_embedding_pending_changes", help, metrics.pending.clone());
        metrics
    }

    pub(crate) fn recalled(&self, hits: usize, misses: usize) {
        self.cache_hits.get_or_create(&EMBEDDINGS).inc_by(hits as u64);
        self.cache_misses.get_or_create(&EMBEDDINGS).inc_by(misses as u64);
    }

    pub(crate) fn pending(&self, changes: u64) {
        self.pending.set(i64::try_from(changes).unwrap_or(i64::MAX));
    }

    pub(crate) fn searched(&self, found: Option<usize>, took: Duration) {
        let outcome = match found {
            None => "failed",
            Some(0) => "empty",
            Some(_) => "found",
        };
        self.searches.get_or_create(&OutcomeLabels { outcome }).inc();
        self.search_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn changed(&self, changes: usize) {
        self.changes.inc_by(changes as u64);
    }

    pub(crate) fn encoded(&self, texts: usize, took: Duration) {
        self.texts.inc_by(texts as u64);
        self.encode_seconds.observe(took.as_secs_f64());
    }
}
