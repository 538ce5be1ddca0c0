//! The index of one collection, built here and not in the background, against exact search.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::{Match, Metric, VectorFilter, VectorItem};

use super::flat::{Flat, State};
use super::graph::Scratch;
use super::indexer::{Slot, step};
use super::search::Question;

const DIMENSIONS: usize = 12;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::Euclidean];

fn tagged(key: usize, vector: Vec<f32>) -> VectorItem {
    let tags = [("half", key % 2), ("some", key % 5), ("one", key)];
    let tags = tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
    VectorItem { key: key.to_string(), vector, tags }
}

/// Vectors near some centres, each `spread` around its own, all moved by `offset`.
fn clustered(count: usize, spread: f32, offset: f32, seed: u64) -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut centres = ChaCha8Rng::seed_from_u64(99);
    let centres: Vec<f32> = (0..20 * DIMENSIONS).map(|_| centres.random_range(-1.0..1.0)).collect();
    let mut vector = || {
        let centre = random.random_range(0..20) * DIMENSIONS;
        let near = |centre: &f32| offset + centre + random.random_range(-spread..spread);
        centres[centre..][..DIMENSIONS].iter().map(near).collect()
    };
    (0..count).map(|_| vector()).collect()
}

/// A collection whose every vector is in its graph.
fn indexed(metric: Metric, vectors: &[Vec<f32>]) -> Slot {
    let slot = Slot::default();
    let mut flat = Flat::new(metric, 0);
    for (key, vector) in vectors.iter().enumerate() {
        flat.upsert(tagged(key, vector.clone())).unwrap();
    }
    *slot.flat.write() = Some(flat);
    finish(&slot);
    slot
}

fn finish(slot: &Slot) {
    let (mut scratch, stop) = (Scratch::default(), AtomicBool::new(false));
    while step(slot, &mut scratch, &stop) {}
    assert_eq!(slot.flat.read().as_ref().unwrap().waiting(), 0);
}

fn ask(
    slot: &Slot,
    metric: Metric,
    query: &[f32],
    count: usize,
    filter: &VectorFilter,
    exact: bool,
) -> Vec<Match> {
    let mut guard = slot.flat.write();
    let flat = guard.as_mut().unwrap();
    flat.exact_rows = if exact { usize::MAX } else { 0 };
    let found = flat.search(&Question { metric, query, count, filter }, usize::MAX).unwrap();
    flat.exact_rows = 0;
    found
}

/// The part of the ten nearest that is found, and that there are as many and as good as their scores say.
fn recall(slot: &Slot, metric: Metric, queries: &[Vec<f32>], filter: &VectorFilter) -> f64 {
    let (mut hits, mut all) = (0, 0);
    for query in queries {
        let exact = ask(slot, metric, query, 10, filter, true);
        let found = ask(slot, metric, query, 10, filter, false);
        assert_eq!(found.len(), exact.len(), "{metric:?} {filter:?}");
        let keys: HashSet<&str> = found.iter().map(|found| &*found.key).collect();
        assert_eq!(keys.len(), found.len(), "none is found twice");
        // What is as near as the last is as good.
        let least = exact.last().map_or(0.0, |last| last.score);
        hits += found.iter().filter(|found| found.score >= least).count();
        all += exact.len();
    }
    hits as f64 / all.max(1) as f64
}

fn filter(name: &str, value: usize) -> VectorFilter {
    BTreeMap::from([(name.to_owned(), value.to_string())])
}

#[test]
fn most_of_the_nearest_are_found() {
    let queries = clustered(30, 0.5, 0.0, 2);
    for metric in METRICS {
        let slot = indexed(metric, &clustered(1_500, 0.5, 0.0, 1));
        for narrowed in [VectorFilter::new(), filter("half", 1), filter("some", 2), filter("one", 7)] {
            let recall = recall(&slot, metric, &queries, &narrowed);
            assert!(recall >= 0.95, "{metric:?} {narrowed:?}: {recall}");
        }
        let both = [filter("half", 1), filter("some", 2)].into_iter().flatten().collect();
        assert!(recall(&slot, metric, &queries, &both) >= 0.95, "{metric:?}");
    }
}

#[test]
fn what_eight_bits_cannot_tell_is_found_by_its_numbers() {
    // Twenty places far from each other, with all their vectors within less than one step of the codes.
    let queries = clustered(20, 0.0005, 0.0, 2);
    let slot = indexed(Metric::Euclidean, &clustered(1_000, 0.0005, 0.0, 1));
    assert!(recall(&slot, Metric::Euclidean, &queries, &VectorFilter::new()) >= 0.95);
    let about = format!("{:?}", slot.flat.read().as_ref().unwrap().graph);
    assert!(about.contains("Graph<f32>"), "single precision");
}

#[test]
fn vectors_that_are_all_the_same_or_nothing_are_found() {
    let mut vectors = vec![vec![1.0; DIMENSIONS]; 300];
    vectors.extend(vec![vec![0.0; DIMENSIONS]; 300]);
    vectors.extend(clustered(300, 0.5, 0.0, 1));
    for metric in METRICS {
        let slot = indexed(metric, &vectors);
        let queries = [vec![1.0; DIMENSIONS], vec![0.0; DIMENSIONS], vec![-1.0; DIMENSIONS]];
        assert!(recall(&slot, metric, &queries, &VectorFilter::new()) >= 0.9, "{metric:?}");
    }
}

#[test]
fn deleted_ones_never_appear_and_their_places_are_used_again() {
    let vectors = clustered(1_500, 0.5, 0.0, 1);
    let queries = clustered(20, 0.5, 0.0, 2);
    let slot = indexed(Metric::Euclidean, &vectors);
    for key in 0..700 {
        slot.flat.write().as_mut().unwrap().remove(&key.to_string());
        if key % 100 == 0 {
            assert!(recall(&slot, Metric::Euclidean, &queries[..3], &VectorFilter::new()) >= 0.9);
        }
    }
    finish(&slot);
    assert!(slot.flat.read().as_ref().unwrap().gone < 300, "the graph was repaired");
    assert!(recall(&slot, Metric::Euclidean, &queries, &VectorFilter::new()) >= 0.95);
    for (key, vector) in vectors.iter().enumerate().take(700) {
        slot.flat.write().as_mut().unwrap().upsert(tagged(key, vector.clone())).unwrap();
    }
    finish(&slot);
    assert!(recall(&slot, Metric::Euclidean, &queries, &VectorFilter::new()) >= 0.95);
    assert!(slot.flat.read().as_ref().unwrap().states.len() < 1_900, "places were used again");
    for key in 0..1_500 {
        slot.flat.write().as_mut().unwrap().remove(&key.to_string());
    }
    finish(&slot);
    assert!(ask(&slot, Metric::Euclidean, &queries[0], 10, &VectorFilter::new(), false).is_empty());
}

#[test]
fn what_is_replaced_moves() {
    let vectors = clustered(1_200, 0.5, 0.0, 1);
    let slot = indexed(Metric::Euclidean, &vectors);
    let far = vec![9.0; DIMENSIONS];
    slot.flat.write().as_mut().unwrap().upsert(tagged(5, far.clone())).unwrap();
    for _ in 0..2 {
        let found = ask(&slot, Metric::Euclidean, &far, 1, &VectorFilter::new(), false);
        assert_eq!((&*found[0].key, found[0].score), ("5", 0.0));
        let found = ask(&slot, Metric::Euclidean, &vectors[5], 5, &VectorFilter::new(), false);
        assert!(found.iter().all(|found| found.key != "5"));
        finish(&slot);
    }
    let states = &slot.flat.read().as_ref().unwrap().states.clone();
    assert_eq!(states.iter().filter(|state| **state == State::Gone).count(), 1);
}

#[test]
fn the_same_vectors_get_the_same_answers() {
    let vectors = clustered(1_200, 0.5, 0.0, 1);
    let answers = || {
        let slot = indexed(Metric::Cosine, &vectors);
        let ask = |query: &Vec<f32>| ask(&slot, Metric::Cosine, query, 20, &VectorFilter::new(), false);
        clustered(10, 0.5, 0.0, 2).iter().map(ask).collect::<Vec<_>>()
    };
    assert_eq!(answers(), answers());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However writes, deletes and the indexer meet: as many results as there are, none of them deleted, each with its score.
    #[test]
    fn results_are_of_what_is_there(
        steps in proptest::collection::vec((0..40_usize, -3_i8..4, 0..5_u8), 1..150),
        metric in proptest::sample::select(&METRICS),
    ) {
        let slot = Slot::default();
        *slot.flat.write() = Some(Flat::new(metric, 0));
        let (mut scratch, stop) = (Scratch::default(), AtomicBool::new(false));
        for (key, value, action) in steps {
            match action {
                0 => slot.flat.write().as_mut().unwrap().remove(&key.to_string()),
                1 => _ = step(&slot, &mut scratch, &stop),
                _ => {
                    let item = tagged(key, vec![f32::from(value), key as f32, 1.0]);
                    slot.flat.write().as_mut().unwrap().upsert(item).unwrap();
                }
            }
            for narrowed in [VectorFilter::new(), filter("half", 1)] {
                let query = [f32::from(value), 3.0, -1.0];
                let exact = ask(&slot, metric, &query, 100, &narrowed, true);
                let found = ask(&slot, metric, &query, 4, &narrowed, false);
                prop_assert_eq!(found.len(), exact.len().min(4));
                prop_assert!(found.iter().all(|found| exact.contains(found)), "{:?} {:?}", found, exact);
            }
        }
    }
}
