//! The rules of the `Vectors` port.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::codes;

use super::{Draw, assert_refused, scope};
use crate::memory::MemoryVectors;
use crate::{Collection, Match, Metric, VectorFilter, VectorItem, Vectors};

/// One test per rule of the `Vectors` port.
#[macro_export]
macro_rules! vectors_conformance {
    ($open:expr) => {
        $crate::conformance_tests!(
            vectors,
            $open,
            [
                an_upsert_is_seen_by_the_next_search,
                each_metric_scores_as_it_says,
                a_zero_vector_scores_zero,
                ties_are_ordered_by_key,
                results_are_as_many_as_there_are,
                searches_are_exact,
                large_collections_are_searched_well,
                a_filter_asks_for_every_pair,
                bad_vectors_are_refused_whole,
                other_dimensions_are_refused,
                replacing_takes_the_last_and_forgets_the_first,
                deleting_counts_what_was_there,
                tenants_and_collections_do_not_meet,
                reopening_keeps_everything,
                concurrent_upserts_are_all_kept,
            ]
        );
    };
}

const DOT: Collection = Collection { name: "dot", dimensions: 2, metric: Metric::Dot };

fn item(key: impl ToString, vector: &[f32]) -> VectorItem {
    VectorItem { key: key.to_string(), vector: vector.to_vec(), tags: BTreeMap::new() }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

async fn upsert(vectors: &Arc<dyn Vectors>, collection: Collection, items: Vec<VectorItem>) {
    vectors.upsert(&scope("shop"), collection, items).await.expect("the vectors are good");
}

async fn search(
    vectors: &Arc<dyn Vectors>,
    collection: Collection,
    query: &[f32],
    count: usize,
) -> Vec<Match> {
    vectors.search(&scope("shop"), collection, query, count, &VectorFilter::new()).await.unwrap()
}

fn keys_of(matches: &[Match]) -> Vec<&str> {
    matches.iter().map(|found| &*found.key).collect()
}

/// What was added is found at once.
pub async fn an_upsert_is_seen_by_the_next_search(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    assert!(search(&vectors, DOT, &[1.0, 0.0], 5).await.is_empty());
    assert_eq!(vectors.count(&scope("shop"), DOT).await.unwrap(), 0);
    upsert(&vectors, DOT, vec![item("a", &[1.0, 2.0]), item("b", &[3.0, 4.0])]).await;
    assert_eq!(keys_of(&search(&vectors, DOT, &[1.0, 0.0], 5).await), ["b", "a"]);
    upsert(&vectors, DOT, vec![item("c", &[5.0, 0.0])]).await;
    assert_eq!(keys_of(&search(&vectors, DOT, &[1.0, 0.0], 5).await), ["c", "b", "a"]);
    assert_eq!(vectors.count(&scope("shop"), DOT).await.unwrap(), 3);
    upsert(&vectors, DOT, Vec::new()).await;
}

/// Cosine, inner product and negative squared distance, each higher for nearer.
pub async fn each_metric_scores_as_it_says(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let cases = [
        (Metric::Dot, [("far", 8.0), ("near", 5.0), ("back", -3.0)]),
        (Metric::Euclidean, [("near", -4.0), ("far", -25.0), ("back", -36.0)]),
        (Metric::Cosine, [("near", 1.0), ("far", 0.8), ("back", -1.0)]),
    ];
    for (metric, expected) in cases {
        let name = match metric {
            Metric::Dot => "by_dot",
            Metric::Euclidean => "by_distance",
            Metric::Cosine => "by_angle",
        };
        let collection = Collection { name, dimensions: 2, metric };
        // From (3, 0): 2 away along it, 5 away across, and behind.
        let scale = if metric == Metric::Dot { 1.0 } else { 3.0 };
        let items = match metric {
            Metric::Dot => {
                vec![item("near", &[5.0, 0.0]), item("far", &[8.0, 6.0]), item("back", &[-3.0, 0.0])]
            }
            Metric::Euclidean => {
                vec![item("near", &[5.0, 0.0]), item("far", &[6.0, 4.0]), item("back", &[-3.0, 0.0])]
            }
            Metric::Cosine => {
                vec![item("near", &[5.0, 0.0]), item("far", &[4.0, 3.0]), item("back", &[-3.0, 0.0])]
            }
        };
        upsert(&vectors, collection, items).await;
        let found = search(&vectors, collection, &[scale, 0.0], 3).await;
        assert_eq!(found.len(), 3);
        for (found, (key, score)) in found.iter().zip(expected) {
            assert_eq!(found.key, key, "{metric:?}");
            assert!((found.score - score).abs() < 1e-6, "{metric:?}: {found:?}, not {score}");
        }
    }
}

/// Cosine of a zero vector is 0, on either side.
pub async fn a_zero_vector_scores_zero(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let collection = Collection { name: "angle", dimensions: 2, metric: Metric::Cosine };
    upsert(&vectors, collection, vec![item("zero", &[0.0, 0.0]), item("back", &[-1.0, 0.0])]).await;
    let found = search(&vectors, collection, &[1.0, 0.0], 2).await;
    assert_eq!((keys_of(&found), found[0].score), (vec!["zero", "back"], 0.0));
    let found = search(&vectors, collection, &[0.0, 0.0], 2).await;
    assert_eq!(keys_of(&found), ["back", "zero"], "all score 0, so by key");
}

/// Equal scores are in key order, also at the cut.
pub async fn ties_are_ordered_by_key(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    upsert(&vectors, DOT, ["d", "b", "e", "a", "c"].map(|key| item(key, &[1.0, 1.0])).into()).await;
    for count in 1..=5 {
        assert_eq!(
            keys_of(&search(&vectors, DOT, &[1.0, 1.0], count).await),
            ["a", "b", "c", "d", "e"][..count]
        );
    }
}

/// Exactly `min(count, matching)` results come back.
pub async fn results_are_as_many_as_there_are(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let number = |number: u8| item(number, &[f32::from(number), 0.0]);
    upsert(&vectors, DOT, (0..20).map(number).collect()).await;
    for count in [0, 1, 19, 20, 21, 10_000] {
        assert_eq!(search(&vectors, DOT, &[1.0, 0.0], count).await.len(), count.min(20));
    }
}

fn random_vector(draw: &mut Draw, dimensions: usize) -> Vec<f32> {
    // Small whole numbers, so that every sum is exact in single precision.
    (0..dimensions).map(|_| f32::from(i8::try_from(draw.below(17)).unwrap() - 8)).collect()
}

/// For every metric and odd lengths, filtered or not, the results are those of the fake, which tries them all.
pub async fn searches_are_exact(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let fake: Arc<dyn Vectors> = Arc::new(MemoryVectors::new());
    let mut draw = Draw(3);
    let collections = [
        Collection { name: "c1", dimensions: 1, metric: Metric::Dot },
        Collection { name: "c2", dimensions: 33, metric: Metric::Euclidean },
        Collection { name: "c3", dimensions: 100, metric: Metric::Dot },
        Collection { name: "c4", dimensions: 64, metric: Metric::Cosine },
    ];
    for collection in collections {
        let items: Vec<VectorItem> = (0..300)
            .map(|number| VectorItem {
                tags: pairs(&[
                    ("colour", ["red", "green", "blue"][number % 3]),
                    ("size", if number < 30 { "s" } else { "l" }),
                ]),
                ..item(number, &random_vector(&mut draw, collection.dimensions))
            })
            .collect();
        upsert(&vectors, collection, items.clone()).await;
        upsert(&fake, collection, items).await;
        for filter in [pairs(&[]), pairs(&[("colour", "red")]), pairs(&[("colour", "blue"), ("size", "s")])] {
            for count in [1, 10, 300] {
                let query = random_vector(&mut draw, collection.dimensions);
                let shop = scope("shop");
                let found = vectors.search(&shop, collection, &query, count, &filter).await.unwrap();
                let expected = fake.search(&shop, collection, &query, count, &filter).await.unwrap();
                assert_eq!(found.len(), expected.len(), "{collection:?} {filter:?}");
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found.score - expected.score).abs() <= 1e-5, "{found:?} {expected:?}");
                    if collection.metric != Metric::Cosine {
                        assert_eq!(found.key, expected.key, "{collection:?} {filter:?}");
                    }
                }
            }
        }
    }
}

/// Of the nearest of many, filtered or not, nearly all are found; results are as many as there are, each with its score,
/// and none that was deleted or replaced.
pub async fn large_collections_are_searched_well(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let fake: Arc<dyn Vectors> = Arc::new(MemoryVectors::new());
    let mut draw = Draw(5);
    let collection = Collection { name: "large", dimensions: 8, metric: Metric::Euclidean };
    let tagged = |number: u64, vector: &[f32]| VectorItem {
        tags: pairs(&[
            ("half", ["a", "b"][(number % 2) as usize]),
            ("few", if number % 97 == 3 { "y" } else { "n" }),
        ]),
        ..item(number, vector)
    };
    for part in 0..5 {
        let items: Vec<VectorItem> =
            (0..500).map(|number| tagged(part * 500 + number, &random_vector(&mut draw, 8))).collect();
        upsert(&vectors, collection, items.clone()).await;
        upsert(&fake, collection, items).await;
    }
    let shop = scope("shop");
    for round in 0..2 {
        let (mut hits, mut all) = (0, 0);
        for filter in [pairs(&[]), pairs(&[("half", "b")]), pairs(&[("few", "y")]), pairs(&[("few", "z")])] {
            for _ in 0..10 {
                let query = random_vector(&mut draw, 8);
                let found = vectors.search(&shop, collection, &query, 10, &filter).await.unwrap();
                let expected = fake.search(&shop, collection, &query, 2_500, &filter).await.unwrap();
                assert_eq!(found.len(), expected.len().min(10), "{filter:?}");
                assert!(found.iter().all(|found| expected.contains(found)), "{filter:?}: {found:?}");
                let least = expected.get(9).map_or(f32::NEG_INFINITY, |last| last.score);
                hits += found.iter().filter(|found| found.score >= least).count();
                all += found.len();
            }
        }
        assert!(hits * 100 >= all * 95, "round {round}: {hits} of {all}");
        let gone: Vec<String> = (0..300).map(|number: u64| (number * 8).to_string()).collect();
        let gone: Vec<&str> = gone.iter().map(|key| &**key).collect();
        let moved: Vec<VectorItem> =
            (0..300).map(|number| tagged(number * 8 + 1, &random_vector(&mut draw, 8))).collect();
        for engine in [&vectors, &fake] {
            engine.delete(&shop, collection, &gone).await.unwrap();
            upsert(engine, collection, moved.clone()).await;
        }
    }
}

/// A filter passes items that have every pair, and the count is of those.
pub async fn a_filter_asks_for_every_pair(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let tagged =
        |key: &str, tags: &[(&str, &str)]| VectorItem { tags: pairs(tags), ..item(key, &[1.0, 0.0]) };
    let mut items: Vec<VectorItem> =
        (0..50).map(|number| tagged(&format!("other{number}"), &[("k", "x")])).collect();
    items.extend([tagged("a", &[("k", "v")]), tagged("b", &[("k", "v"), ("l", "w")]), tagged("c", &[])]);
    upsert(&vectors, DOT, items).await;
    let check = async |filter: &[(&str, &str)], keys: &[&str]| {
        let found = vectors.search(&scope("shop"), DOT, &[1.0, 0.0], 2, &pairs(filter)).await.unwrap();
        assert_eq!(keys_of(&found), keys, "{filter:?}");
    };
    check(&[("k", "v")], &["a", "b"]).await;
    check(&[("k", "v"), ("l", "w")], &["b"]).await;
    check(&[("k", "w")], &[]).await;
    check(&[("missing", "v")], &[]).await;
    check(&[], &["a", "b"]).await;
}

/// A wrong length or a number that is not finite is refused, and nothing of its batch is kept.
pub async fn bad_vectors_are_refused_whole(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let bad: [&[f32]; 6] =
        [&[f32::NAN, 0.0], &[0.0, f32::INFINITY], &[f32::NEG_INFINITY, 0.0], &[1.0], &[1.0, 2.0, 3.0], &[]];
    for vector in bad {
        let items = vec![item("good", &[1.0, 2.0]), item("bad", vector)];
        assert_refused(vectors.upsert(&scope("shop"), DOT, items).await, codes::VALIDATION_ERROR);
        let refused = vectors.search(&scope("shop"), DOT, vector, 1, &VectorFilter::new()).await;
        assert_refused(refused, codes::VALIDATION_ERROR);
    }
    let nameless = vec![item("", &[1.0, 2.0])];
    assert_refused(vectors.upsert(&scope("shop"), DOT, nameless).await, codes::VALIDATION_ERROR);
    assert_eq!(vectors.count(&scope("shop"), DOT).await.unwrap(), 0);
}

/// A collection that holds vectors keeps its dimensions; an empty one may change them.
pub async fn other_dimensions_are_refused(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let wide = Collection { dimensions: 3, ..DOT };
    upsert(&vectors, DOT, vec![item("a", &[1.0, 2.0])]).await;
    let refused = vectors.upsert(&scope("shop"), wide, vec![item("b", &[1.0, 2.0, 3.0])]).await;
    assert_refused(refused, codes::VALIDATION_ERROR);
    let refused = vectors.search(&scope("shop"), wide, &[1.0, 2.0, 3.0], 1, &VectorFilter::new()).await;
    assert_refused(refused, codes::VALIDATION_ERROR);
    assert_eq!(vectors.delete(&scope("shop"), DOT, &["a"]).await.unwrap(), 1);
    upsert(&vectors, wide, vec![item("b", &[1.0, 2.0, 3.0])]).await;
    assert_eq!(keys_of(&search(&vectors, wide, &[1.0, 0.0, 0.0], 9).await), ["b"]);
}

/// A key has one vector and one set of tags: the last.
pub async fn replacing_takes_the_last_and_forgets_the_first(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let tagged =
        |colour, vector: &[f32]| VectorItem { tags: pairs(&[("colour", colour)]), ..item("a", vector) };
    upsert(&vectors, DOT, vec![tagged("red", &[1.0, 0.0]), tagged("green", &[2.0, 0.0])]).await;
    upsert(&vectors, DOT, vec![tagged("blue", &[3.0, 0.0])]).await;
    assert_eq!(search(&vectors, DOT, &[1.0, 0.0], 9).await, [Match { key: "a".to_owned(), score: 3.0 }]);
    assert_eq!(vectors.count(&scope("shop"), DOT).await.unwrap(), 1);
    let red =
        vectors.search(&scope("shop"), DOT, &[1.0, 0.0], 9, &pairs(&[("colour", "red")])).await.unwrap();
    assert!(red.is_empty(), "the old tags are gone");
}

/// Deleting tells how many were there, and the rest is found as before.
pub async fn deleting_counts_what_was_there(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    upsert(&vectors, DOT, (0..6_u8).map(|number| item(number, &[f32::from(number), 0.0])).collect()).await;
    assert_eq!(vectors.delete(&scope("shop"), DOT, &["1", "4", "1", "missing"]).await.unwrap(), 2);
    assert_eq!(vectors.delete(&scope("shop"), DOT, &["1"]).await.unwrap(), 0);
    assert_eq!(keys_of(&search(&vectors, DOT, &[1.0, 0.0], 9).await), ["5", "3", "2", "0"]);
    upsert(&vectors, DOT, vec![item("4", &[9.0, 0.0])]).await;
    assert_eq!(keys_of(&search(&vectors, DOT, &[1.0, 0.0], 2).await), ["4", "5"]);
}

/// No call sees or touches another tenant's vectors or another collection's.
pub async fn tenants_and_collections_do_not_meet(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let other = Collection { name: "dot_2", ..DOT };
    upsert(&vectors, DOT, vec![item("a", &[1.0, 0.0])]).await;
    upsert(&vectors, other, vec![item("b", &[1.0, 0.0])]).await;
    vectors.upsert(&scope("shop2"), DOT, vec![item("c", &[1.0, 0.0])]).await.unwrap();
    assert_eq!(vectors.delete(&scope("shop2"), DOT, &["a", "b"]).await.unwrap(), 0);
    assert_eq!(keys_of(&search(&vectors, DOT, &[1.0, 0.0], 9).await), ["a"]);
    assert_eq!(keys_of(&search(&vectors, other, &[1.0, 0.0], 9).await), ["b"]);
    assert_eq!(vectors.count(&scope("shop2"), DOT).await.unwrap(), 1);
}

/// Vectors and tags outlive a restart; so does a delete.
pub async fn reopening_keeps_everything(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let tagged = VectorItem { tags: pairs(&[("colour", "rot")]), ..item("ünï", &[1.5, -2.25]) };
    upsert(&vectors, DOT, vec![tagged, item("b", &[1.0, 1.0]), item("c", &[1.0, 1.0])]).await;
    vectors.delete(&scope("shop"), DOT, &["c"]).await.unwrap();
    drop(vectors);
    let vectors = open().await;
    let found =
        vectors.search(&scope("shop"), DOT, &[2.0, 4.0], 9, &pairs(&[("colour", "rot")])).await.unwrap();
    assert_eq!(found, [Match { key: "ünï".to_owned(), score: -6.0 }]);
    assert_eq!(vectors.count(&scope("shop"), DOT).await.unwrap(), 2);
}

/// Upserts from many callers at once all stay.
pub async fn concurrent_upserts_are_all_kept(open: impl AsyncFn() -> Arc<dyn Vectors>) {
    let vectors = open().await;
    let caller = |caller: u8| {
        let vectors = Arc::clone(&vectors);
        tokio::spawn(async move {
            for number in 0..10_u8 {
                upsert(&vectors, DOT, vec![item(format!("{caller}/{number}"), &[f32::from(number), 1.0])])
                    .await;
            }
        })
    };
    for task in (0..6).map(caller).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(vectors.count(&scope("shop"), DOT).await.unwrap(), 60);
    assert_eq!(search(&vectors, DOT, &[1.0, 0.0], 100).await.len(), 60);
}
