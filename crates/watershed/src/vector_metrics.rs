//! Counts and times what search asks of the engine of vectors, under the names of the guide of models.
//!
//! It changes nothing of what the engine answers. To add an operation: a name in [`OPERATIONS`], and its method.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Result, Scope, codes};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use store::{Collection, Match, VectorFilter, VectorItem, Vectors};

const OPERATIONS: [&str; 4] = ["upsert", "search", "delete", "count"];
/// `refused` is what does not fit its collection, as vectors of another length; callers have no part in that.
const OUTCOMES: [&str; 3] = ["done", "refused", "failed"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    operation: &'static str,
    outcome: &'static str,
}

/// An engine of vectors that is counted and timed.
#[derive(Debug)]
pub(crate) struct MeteredVectors {
    vectors: Arc<dyn Vectors>,
    clock: Arc<dyn Clock>,
    operations: Family<OutcomeLabels, Counter>,
    duration_seconds: Family<OperationLabels, Histogram>,
}

fn histogram() -> Histogram {
    Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0])
}

impl MeteredVectors {
    /// Over `vectors`.
    pub(crate) fn new(vectors: Arc<dyn Vectors>, clock: Arc<dyn Clock>, registry: &mut Registry) -> Self {
        let duration_seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let metered = Self { vectors, clock, operations: Family::default(), duration_seconds };
        // Made at once, because a rate needs a series that was there before the first.
        for operation in OPERATIONS {
            drop(metered.duration_seconds.get_or_create(&OperationLabels { operation }));
            for outcome in OUTCOMES {
                drop(metered.operations.get_or_create(&OutcomeLabels { operation, outcome }));
            }
        }
        let help = "What was asked of the engine of vectors, by what became of it";
        registry.register("ml_vector_store_operations", help, metered.operations.clone());
        let help = "From what was asked of the engine of vectors to its answer";
        registry.register("ml_vector_store_duration_seconds", help, metered.duration_seconds.clone());
        metered
    }

    async fn timed<T>(&self, operation: &'static str, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = self.clock.elapsed();
        let answer = asked.await;
        self.note(operation, &answer, self.clock.elapsed().saturating_sub(begun));
        answer
    }

    fn note<T>(&self, operation: &'static str, answer: &Result<T>, took: Duration) {
        let outcome = match answer {
            Ok(_) => "done",
            Err(error) if error.code() == codes::VALIDATION_ERROR => "refused",
            Err(_) => "failed",
        };
        self.operations.get_or_create(&OutcomeLabels { operation, outcome }).inc();
        self.duration_seconds.get_or_create(&OperationLabels { operation }).observe(took.as_secs_f64());
    }
}

#[async_trait]
impl Vectors for MeteredVectors {
    async fn upsert(&self, scope: &Scope, collection: Collection, items: Vec<VectorItem>) -> Result<()> {
        self.timed("upsert", self.vectors.upsert(scope, collection, items)).await
    }

    async fn search(
        &self,
        scope: &Scope,
        collection: Collection,
        query: &[f32],
        count: usize,
        filter: &VectorFilter,
    ) -> Result<Vec<Match>> {
        self.timed("search", self.vectors.search(scope, collection, query, count, filter)).await
    }

    async fn delete(&self, scope: &Scope, collection: Collection, keys: &[&str]) -> Result<u64> {
        self.timed("delete", self.vectors.delete(scope, collection, keys)).await
    }

    async fn count(&self, scope: &Scope, collection: Collection) -> Result<u64> {
        self.timed("count", self.vectors.count(scope, collection)).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kernel::{ManualClock, TenantId, Timestamp};
    use store::Metric;
    use store::memory::MemoryVectors;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_counted_by_what_became_of_it() {
        let mut registry = Registry::default();
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let vectors = MeteredVectors::new(Arc::new(MemoryVectors::new()), clock, &mut registry);
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let notes = Collection { name: "notes", dimensions: 2, metric: Metric::Cosine };
        let item = |vector: &[f32]| {
            vec![VectorItem { key: "a".to_owned(), vector: vector.to_vec(), tags: BTreeMap::new() }]
        };
        vectors.upsert(&scope, notes, item(&[1.0, 0.0])).await.unwrap();
        vectors.upsert(&scope, notes, item(&[1.0])).await.unwrap_err();
        let found = vectors.search(&scope, notes, &[1.0, 0.0], 5, &VectorFilter::new()).await.unwrap();
        assert_eq!((found.len(), vectors.count(&scope, notes).await.unwrap()), (1, 1));
        assert_eq!(vectors.delete(&scope, notes, &["a"]).await.unwrap(), 1);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for (operation, counts) in
            [("upsert", [1, 1, 0]), ("search", [1, 0, 0]), ("delete", [1, 0, 0]), ("count", [1, 0, 0])]
        {
            for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
                let line = format!(
                    "ml_vector_store_operations_total{{operation=\"{operation}\",outcome=\"{outcome}\"}} {count}\n"
                );
                assert!(text.contains(&line), "{line}{text}");
            }
        }
        assert!(text.contains("ml_vector_store_duration_seconds_count{operation=\"upsert\"} 2\n"), "{text}");
    }
}
