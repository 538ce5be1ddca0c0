//! Exact scores, and the best of them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use store::{Match, Metric};

use super::flat::Flat;

/// Sums run in this many lanes, added in one order, so that every machine gets the same score.
const LANES: usize = 16;

/// The nearest of some rows, best first, ties by key.
pub(super) fn nearest_of(
    flat: &Flat,
    metric: Metric,
    query: &[f32],
    count: usize,
    rows: &[u32],
) -> Vec<Match> {
    let scores = pulp::Arch::new().dispatch(Scoring { flat, metric, query, rows });
    // The worst of the best is on top.
    let mut best: BinaryHeap<Candidate<'_>> = BinaryHeap::new();
    for (row, score) in rows.iter().zip(scores) {
        let candidate = Candidate { score, key: &flat.keys[*row as usize] };
        if best.len() < count {
            best.push(candidate);
        } else if best.peek().is_some_and(|worst| candidate < *worst) {
            best.pop();
            best.push(candidate);
        }
    }
    let found = best.into_sorted_vec();
    found.into_iter().map(|found| Match { key: found.key.to_owned(), score: found.score }).collect()
}

/// The part that runs with the widest registers of the machine. All of it must be inlined for that.
struct Scoring<'a> {
    flat: &'a Flat,
    metric: Metric,
    query: &'a [f32],
    rows: &'a [u32],
}

impl pulp::NullaryFnOnce for Scoring<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn call(self) -> Vec<f32> {
        let Self { flat, metric, query, rows } = self;
        let query_norm = dot(query, query).sqrt();
        let mut scores = Vec::with_capacity(rows.len());
        for row in rows {
            let vector = &flat.numbers[*row as usize * flat.dimensions..][..flat.dimensions];
            scores.push(match metric {
                Metric::Dot => dot(query, vector),
                Metric::Euclidean => -squared_distance(query, vector),
                Metric::Cosine => {
                    let norm = query_norm * flat.norms[*row as usize];
                    if norm > 0.0 { (dot(query, vector) / norm).clamp(-1.0, 1.0) } else { 0.0 }
                }
            });
        }
        scores
    }
}

/// Ordered from best to worst.
#[derive(Debug)]
struct Candidate<'a> {
    score: f32,
    key: &'a str,
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.key.cmp(other.key))
    }
}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

#[inline(always)]
fn sum_of(left: &[f32], right: &[f32], part: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (left, left_rest) = left.as_chunks::<LANES>();
    let (right, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..LANES {
            lanes[lane] += part(left[lane], right[lane]);
        }
    }
    for (lane, (left, right)) in left_rest.iter().zip(right_rest).enumerate() {
        lanes[lane] += part(*left, *right);
    }
    lanes.iter().sum()
}

#[inline(always)]
pub(super) fn dot(left: &[f32], right: &[f32]) -> f32 {
    sum_of(left, right, |left, right| left * right)
}

#[inline(always)]
fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    sum_of(left, right, |left, right| (left - right) * (left - right))
}
