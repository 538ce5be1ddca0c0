//! Searches through the index, which the conformance suite's small collections do not need.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use common::{Schema, draw, scope_of};
use kernel::{Entropy, SeededEntropy};
use store::{Collection, Match, Metric, VectorFilter, VectorItem, Vectors};

fn number(random: &SeededEntropy) -> f32 {
    let bits = u16::try_from(random.next_u64() >> 48).expect("it has 16 bits");
    f32::from(bits) / 32_768.0 - 1.0
}

fn vector(random: &SeededEntropy, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| number(random)).collect()
}

/// Near one of 40 centres, as embeddings are near topics.
fn clustered(random: &SeededEntropy, dimensions: usize) -> Vec<f32> {
    let centre = vector(&draw(random.next_u64() % 40), dimensions);
    centre.into_iter().map(|centre| centre + number(random) * 0.7).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "short calls read better in tests")]
fn item(key: impl ToString, vector: Vec<f32>, tags: &[(&str, &str)]) -> VectorItem {
    let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    VectorItem { key: key.to_string(), vector, tags }
}

fn recall(found: &[Match], exact: &[Match]) -> f64 {
    let exact: HashSet<&str> = exact.iter().map(|found| &*found.key).collect();
    let hits = found.iter().filter(|found| exact.contains(&*found.key)).count();
    hits as f64 / exact.len() as f64
}

/// Two stores on one schema: one that searches through the index always, one that never does.
async fn both(schema: &Schema) -> (Arc<dyn Vectors>, Arc<dyn Vectors>) {
    let indexed = schema.open_with(|settings| settings.exact_search_vectors = 0).await.vectors();
    let exact = schema.open_with(|settings| settings.exact_search_vectors = u64::MAX).await.vectors();
    (indexed, exact)
}

/// A tenant with a twentieth of all vectors gets ten of its own, and nearly always the nearest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recall_holds_under_a_tenant_filter() {
    let schema = Schema::migrated().await;
    let (indexed, exact) = both(&schema).await;
    for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
        let collection = Collection { name: "items", dimensions: 24, metric };
        let random = draw(5);
        for (tenant, size) in [("large", 3_800), ("small", 200)] {
            let items = (0..size).map(|number| item(number, clustered(&random, 24), &[])).collect();
            indexed.upsert(&scope_of(tenant), collection, items).await.unwrap();
        }
        for tenant in ["large", "small"] {
            let mut sum = 0.0;
            for _ in 0..30 {
                let query = clustered(&random, 24);
                let search = async |vectors: &Arc<dyn Vectors>| {
                    vectors
                        .search(&scope_of(tenant), collection, &query, 10, &VectorFilter::new())
                        .await
                        .unwrap()
                };
                let (found, exact) = (search(&indexed).await, search(&exact).await);
                assert_eq!((found.len(), exact.len()), (10, 10));
                assert!(found.is_sorted_by(|left, right| left.score >= right.score));
                sum += recall(&found, &exact);
            }
            assert!(sum / 30.0 >= 0.95, "{metric:?} {tenant}: {}", sum / 30.0);
        }
        for tenant in ["large", "small"] {
            let keys: Vec<String> = (0..3_800).map(|number| number.to_string()).collect();
            let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
            indexed.delete(&scope_of(tenant), collection, &keys).await.unwrap();
        }
    }
}

/// However few items pass the filter, none is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rare_tag_is_found_whole() {
    let schema = Schema::migrated().await;
    let (indexed, _) = both(&schema).await;
    let collection = Collection { name: "items", dimensions: 16, metric: Metric::Euclidean };
    let random = draw(6);
    let rare =
        |number: i32| if number % 400 == 7 { &[("kind", "rare")][..] } else { &[("kind", "common")][..] };
    let items = (0..2_000).map(|number| item(number, vector(&random, 16), rare(number))).collect();
    indexed.upsert(&scope_of("shop"), collection, items).await.unwrap();
    let filter: VectorFilter = BTreeMap::from([("kind".to_owned(), "rare".to_owned())]);
    for count in [1, 5, 10] {
        let query = vector(&random, 16);
        let found = indexed.search(&scope_of("shop"), collection, &query, count, &filter).await.unwrap();
        assert_eq!(found.len(), count.min(5));
    }
}

/// In a large collection, what few pass a filter is scored and not looked for in the index.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_a_filter_of_few_is_found_exactly() {
    let schema = Schema::migrated().await;
    let (indexed, exact) = both(&schema).await;
    let some = schema.open_with(|settings| settings.exact_search_vectors = 100).await.vectors();
    let collection = Collection { name: "items", dimensions: 16, metric: Metric::Cosine };
    let random = draw(8);
    let kind = |number: i32| if number % 20 == 7 { "rare" } else { "common" };
    let tagged = |number| item(number, clustered(&random, 16), &[("kind", kind(number))]);
    indexed.upsert(&scope_of("shop"), collection, (0..2_000).map(tagged).collect()).await.unwrap();
    for kind in ["rare", "common", "missing"] {
        let filter: VectorFilter = BTreeMap::from([("kind".to_owned(), kind.to_owned())]);
        for count in [1, 10, 100, 101] {
            let query = clustered(&random, 16);
            let search = async |vectors: &Arc<dyn Vectors>| {
                vectors.search(&scope_of("shop"), collection, &query, count, &filter).await.unwrap()
            };
            let (found, truth) = (search(&some).await, search(&exact).await);
            assert_eq!(found.len(), truth.len(), "{kind} {count}");
            assert!(kind == "common" || found == truth, "{kind} {count}");
        }
    }
}

/// Vectors without an angle are not in the index of angles, and are found where their score of 0 belongs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zero_vectors_are_not_lost() {
    let schema = Schema::migrated().await;
    let (indexed, exact) = both(&schema).await;
    let collection = Collection { name: "angles", dimensions: 2, metric: Metric::Cosine };
    let items = [("zero", [0.0, 0.0]), ("back", [-1.0, 0.1]), ("side", [0.1, 1.0]), ("front", [1.0, 0.0])];
    let items = items.map(|(key, vector)| item(key, vector.into(), &[])).into();
    indexed.upsert(&scope_of("shop"), collection, items).await.unwrap();
    for count in 1..=4 {
        let search = async |vectors: &Arc<dyn Vectors>| {
            let query = &[1.0, 0.0];
            vectors.search(&scope_of("shop"), collection, query, count, &VectorFilter::new()).await.unwrap()
        };
        let found = search(&indexed).await;
        assert_eq!(found, search(&exact).await, "{count}");
        assert_eq!(found.len(), count);
    }
}

/// Long vectors are indexed in half precision, the longest not at all; scores are exact all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_vectors_are_searched() {
    let schema = Schema::migrated().await;
    let (indexed, exact) = both(&schema).await;
    for dimensions in [1_801, 2_000, 2_001, 4_000, 4_001, 4_096] {
        let collection = Collection { name: "long", dimensions, metric: Metric::Dot };
        let random = draw(7);
        let items = (0..40).map(|number| item(number, clustered(&random, dimensions), &[])).collect();
        indexed.upsert(&scope_of("shop"), collection, items).await.unwrap();
        let query = clustered(&random, dimensions);
        let search = async |vectors: &Arc<dyn Vectors>| {
            vectors.search(&scope_of("shop"), collection, &query, 5, &VectorFilter::new()).await.unwrap()
        };
        assert_eq!(search(&indexed).await, search(&exact).await, "{dimensions}");
        let keys: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
        assert_eq!(indexed.delete(&scope_of("shop"), collection, &keys).await.unwrap(), 40);
    }
}
