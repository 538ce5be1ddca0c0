//! One ranking out of several: reciprocal ranks, weighted scores, sums of scores.
//!
//! Scores of different searches are not comparable, so that all but the first way bring each list to 0 to 1 first. It
//! refuses NaN: such a score counts as the list's least. Ties go to the key, so that the order is always the same.
//! To add a way: a variant of [`Fusion`] and its arm in [`fuse`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::algorithms::evaluation::ndcg;

/// What a reciprocal rank adds to the rank (Cormack, Clarke and Büttcher 2009).
const RANK_OFFSET: f64 = 60.0;
/// Weights that are tried when one is learned.
const WEIGHT_STEPS: usize = 20;

/// How rankings by words and by meaning become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SearchFusion)]
pub enum Fusion {
    /// Reciprocal ranks: each list gives 1 / (60 + rank).
    Rrf,
    /// Scores between each list's least and greatest, 0.7 for meaning and 0.3 for words.
    Weighted,
    /// The plain sum of the same (Fox and Shaw 1994).
    Combsum,
    /// As `weighted`, with this share for meaning, 0 to 1, as it was learned on validation queries.
    Learned(f64),
}

impl Fusion {
    /// What each of the two lists counts, words first.
    fn weights(self) -> [f64; 2] {
        match self {
            Self::Rrf | Self::Combsum => [1.0, 1.0],
            Self::Weighted => [0.3, 0.7],
            Self::Learned(semantic) => [1.0 - semantic, semantic],
        }
    }
}

/// A result with what each list gave for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused<K> {
    /// What was found.
    pub key: K,
    /// Higher is better.
    pub score: f64,
    /// What the list by words gave, where it has the key.
    pub lexical: Option<f64>,
    /// What the list by meaning gave, where it has the key.
    pub semantic: Option<f64>,
}

/// One ranking of two, each best first. A key that a list has not gets nothing from it.
#[must_use]
pub fn fuse<K: Ord + Clone>(fusion: Fusion, lexical: &[(K, f32)], semantic: &[(K, f32)]) -> Vec<Fused<K>> {
    let mut found: BTreeMap<K, [Option<f64>; 2]> = BTreeMap::new();
    for (place, (list, weight)) in [lexical, semantic].into_iter().zip(fusion.weights()).enumerate() {
        let normal = Normal::of(list);
        for (rank, (key, score)) in (1_u32..).zip(list) {
            let given = match fusion {
                Fusion::Rrf => 1.0 / (RANK_OFFSET + f64::from(rank)),
                Fusion::Weighted | Fusion::Combsum | Fusion::Learned(_) => normal.of_score(*score),
            };
            // Where a list has a key twice, its best place counts.
            found.entry(key.clone()).or_default()[place].get_or_insert(weight * given);
        }
    }
    let mut fused: Vec<Fused<K>> = found
        .into_iter()
        .map(|(key, [lexical, semantic])| {
            let score = lexical.unwrap_or(0.0) + semantic.unwrap_or(0.0);
            Fused { key, score, lexical, semantic }
        })
        .collect();
    // A stable sort: equal scores keep the order of their keys.
    fused.sort_by(|left, right| right.score.total_cmp(&left.score));
    fused
}

/// A list's least and greatest score.
struct Normal {
    least: f32,
    greatest: f32,
}

impl Normal {
    fn of<K>(list: &[(K, f32)]) -> Self {
        let finite = || list.iter().map(|(_, score)| *score).filter(|score| score.is_finite());
        Self {
            least: finite().fold(f32::INFINITY, f32::min),
            greatest: finite().fold(f32::NEG_INFINITY, f32::max),
        }
    }

    fn of_score(&self, score: f32) -> f64 {
        if !score.is_finite() {
            return 0.0;
        }
        let width = f64::from(self.greatest) - f64::from(self.least);
        // All alike: each is as good as the best.
        if width > 0.0 { (f64::from(score) - f64::from(self.least)) / width } else { 1.0 }
    }
}

/// One validation query: two rankings and what is relevant.
#[derive(Debug, Clone)]
pub struct Validation<K> {
    /// Found by words, best first.
    pub lexical: Vec<(K, f32)>,
    /// Found by meaning, best first.
    pub semantic: Vec<(K, f32)>,
    /// Grades of what is relevant.
    pub judged: BTreeMap<K, i32>,
}

/// What was learned of judged queries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// The share for meaning, 0 to 1.
    pub weight: f64,
    /// Mean nDCG@10 of the queries that it was learned on.
    pub ndcg: f64,
    /// Mean nDCG@10 of queries that it was not learned on: each fifth of them by the share that the rest teaches. Missing
    /// where there are fewer than [`HELD_OUT_MIN`] queries.
    pub held_out_ndcg: Option<f64>,
}

/// Queries that are enough to hold some out.
pub const HELD_OUT_MIN: usize = 10;
const FOLDS: usize = 5;

/// The share for meaning with which the fused rankings have the highest mean nDCG@10; the smaller one of two that are
/// equal. Nothing where there is nothing to learn from.
#[must_use]
pub fn learn<K: Ord + Clone>(validation: &[Validation<K>]) -> Option<Learned> {
    let gains: Vec<Vec<f64>> = validation.iter().map(gains).collect();
    if gains.is_empty() {
        return None;
    }
    let best = best_step(gains.iter());
    let mean = |sum: f64| sum / gains.len() as f64;
    let held_out = || {
        let of_query = |(query, own): (usize, &Vec<f64>)| {
            let others = gains.iter().enumerate().filter(|(other, _)| other % FOLDS != query % FOLDS);
            own[best_step(others.map(|(_, gains)| gains))]
        };
        mean(gains.iter().enumerate().map(of_query).sum())
    };
    Some(Learned {
        weight: weight_of(best),
        ndcg: mean(gains.iter().map(|query| query[best]).sum()),
        held_out_ndcg: (gains.len() >= HELD_OUT_MIN).then(held_out),
    })
}

/// The mean nDCG@10 of a way to fuse; 0 where there are no queries.
#[must_use]
pub fn mean_ndcg<K: Ord + Clone>(fusion: Fusion, validation: &[Validation<K>]) -> f64 {
    let sum: f64 = validation.iter().map(|query| ndcg_of(fusion, query)).sum();
    if validation.is_empty() { 0.0 } else { sum / validation.len() as f64 }
}

/// The share for meaning that [`learn`] finds; half where there is nothing to learn from.
#[must_use]
pub fn learn_weight<K: Ord + Clone>(validation: &[Validation<K>]) -> f64 {
    learn(validation).map_or(0.5, |learned| learned.weight)
}

fn weight_of(step: usize) -> f64 {
    step as f64 / WEIGHT_STEPS as f64
}

fn ndcg_of<K: Ord + Clone>(fusion: Fusion, query: &Validation<K>) -> f64 {
    let ranked = fuse(fusion, &query.lexical, &query.semantic);
    let keys: Vec<K> = ranked.into_iter().map(|fused| fused.key).collect();
    ndcg(&keys, &query.judged, 10)
}

/// What each share gives for a query.
fn gains<K: Ord + Clone>(query: &Validation<K>) -> Vec<f64> {
    (0..=WEIGHT_STEPS).map(|step| ndcg_of(Fusion::Learned(weight_of(step)), query)).collect()
}

/// The step with the highest sum, the first of equals.
fn best_step<'a>(gains: impl Iterator<Item = &'a Vec<f64>>) -> usize {
    let mut sums = [0.0; WEIGHT_STEPS + 1];
    for query in gains {
        sums.iter_mut().zip(query).for_each(|(sum, gain)| *sum += gain);
    }
    let better = |best: usize, step: usize| if sums[step] > sums[best] { step } else { best };
    (0..=WEIGHT_STEPS).fold(0, better)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys<'a>(fused: &'a [Fused<&'a str>]) -> Vec<&'a str> {
        fused.iter().map(|fused| fused.key).collect()
    }

    #[test]
    fn ways_differ_as_they_should() {
        let lexical = [("a", 10.0), ("b", 9.0), ("c", 0.0)];
        let semantic = [("c", 0.9), ("b", 0.8), ("d", 0.1)];
        let check =
            |fusion, expected: &[&str]| assert_eq!(keys(&fuse(fusion, &lexical, &semantic)), expected);
        check(Fusion::Rrf, &["c", "b", "a", "d"]);
        check(Fusion::Combsum, &["b", "a", "c", "d"]);
        check(Fusion::Weighted, &["b", "c", "a", "d"]);
        check(Fusion::Learned(0.0), &["a", "b", "c", "d"]);
        check(Fusion::Learned(1.0), &["c", "b", "a", "d"]);
        let first = &fuse(Fusion::Rrf, &lexical, &semantic)[0];
        assert_eq!((first.lexical, first.semantic), (Some(1.0 / 63.0), Some(1.0 / 61.0)));
    }

    #[test]
    fn odd_lists_are_taken() {
        assert!(fuse::<u32>(Fusion::Rrf, &[], &[]).is_empty());
        let one = fuse(Fusion::Combsum, &[("a", f32::NAN), ("b", 5.0)], &[]);
        assert_eq!(keys(&one), ["b", "a"]);
        assert_eq!(one[0].score, 1.0);
        let twice = fuse(Fusion::Rrf, &[("a", 2.0), ("a", 1.0)], &[]);
        assert_eq!((twice.len(), twice[0].score), (1, 1.0 / 61.0));
    }

    #[test]
    fn weight_follows_the_better_list() {
        let judged = BTreeMap::from([("right", 1)]);
        let good = vec![("right", 2.0), ("wrong", 1.0)];
        let bad = vec![("wrong", 2.0), ("right", 1.0)];
        let query = |lexical: &[_], semantic: &[_]| Validation {
            lexical: lexical.to_vec(),
            semantic: semantic.to_vec(),
            judged: judged.clone(),
        };
        assert_eq!(learn_weight(&[query(&good, &bad)]), 0.0);
        assert!(learn_weight(&[query(&bad, &good)]) >= 0.5);
        assert_eq!((learn_weight::<&str>(&[]), learn::<&str>(&[])), (0.5, None));
        let learned = learn(&vec![query(&good, &bad); HELD_OUT_MIN - 1]).unwrap();
        assert_eq!((learned.ndcg, learned.held_out_ndcg), (1.0, None));
        assert_eq!(mean_ndcg(Fusion::Learned(learned.weight), &[query(&good, &bad)]), 1.0);
        // Half of the queries contradict the others, and ties go to the wrong one: no share suits all.
        let judged = BTreeMap::from([("wrong", 1)]);
        let torn: Vec<Validation<&str>> = (0..20)
            .map(|place| {
                let (lexical, semantic) = if place % 2 == 0 { (&good, &bad) } else { (&bad, &good) };
                Validation { judged: judged.clone(), ..query(lexical, semantic) }
            })
            .collect();
        let learned = learn(&torn).unwrap();
        assert!(learned.held_out_ndcg.unwrap() <= learned.ndcg && learned.ndcg < 1.0, "{learned:?}");
    }

    proptest! {
        #[test]
        fn every_key_comes_once_in_order(
            lexical in proptest::collection::vec((0_u8..20, -5.0_f32..5.0), 0..20),
            semantic in proptest::collection::vec((0_u8..20, -5.0_f32..5.0), 0..20),
        ) {
            for fusion in [Fusion::Rrf, Fusion::Weighted, Fusion::Combsum, Fusion::Learned(0.4)] {
                let fused = fuse(fusion, &lexical, &semantic);
                let mut keys: Vec<u8> = fused.iter().map(|fused| fused.key).collect();
                keys.sort_unstable();
                let mut expected: Vec<u8> = lexical.iter().chain(&semantic).map(|(key, _)| *key).collect();
                expected.sort_unstable();
                expected.dedup();
                prop_assert_eq!(keys, expected);
                prop_assert!(fused.windows(2).all(|pair| pair[0].score >= pair[1].score));
            }
        }
    }
}
