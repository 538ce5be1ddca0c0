//! Measures of a ranking, as `trec_eval` computes them.
//!
//! Grades above 0 are relevant, and the gain of nDCG is the grade itself (Järvelin and Kekäläinen 2002), as in
//! `ndcg_cut`. A query without relevant documents measures 0 in each; `trec_eval` leaves such queries out of its means,
//! and so should who takes means here. To add a measure: a function, and its value in the test, from `trec_eval`.

use std::collections::BTreeMap;

/// Discounted gain of the first `cutoff` results, divided by the greatest that there could be.
#[must_use]
pub fn ndcg<K: Ord>(ranked: &[K], judged: &BTreeMap<K, i32>, cutoff: usize) -> f64 {
    let mut grades: Vec<i32> = judged.values().copied().filter(|grade| *grade > 0).collect();
    grades.sort_unstable_by(|left, right| right.cmp(left));
    let ideal = discounted(grades.into_iter().take(cutoff));
    if ideal <= 0.0 {
        return 0.0;
    }
    let of_key = |key: &K| judged.get(key).copied().unwrap_or(0).max(0);
    discounted(ranked.iter().take(cutoff).map(of_key)) / ideal
}

fn discounted(gains: impl Iterator<Item = i32>) -> f64 {
    (2_u32..).zip(gains).map(|(place, gain)| f64::from(gain) / f64::from(place).log2()).sum()
}

/// The part of what is relevant that is among the first `cutoff` results.
#[must_use]
pub fn recall<K: Ord>(ranked: &[K], judged: &BTreeMap<K, i32>, cutoff: usize) -> f64 {
    let relevant = judged.values().filter(|grade| **grade > 0).count();
    let found = ranked.iter().take(cutoff).filter(|key| is_relevant(key, judged)).count();
    if relevant == 0 { 0.0 } else { found as f64 / relevant as f64 }
}

/// Precision at the place of each relevant document, averaged over all that are relevant, found or not.
#[must_use]
pub fn average_precision<K: Ord>(ranked: &[K], judged: &BTreeMap<K, i32>) -> f64 {
    let relevant = judged.values().filter(|grade| **grade > 0).count();
    let mut found = 0_usize;
    let mut sum = 0.0;
    for (place, key) in (1_usize..).zip(ranked) {
        if is_relevant(&key, judged) {
            found += 1;
            sum += found as f64 / place as f64;
        }
    }
    if relevant == 0 { 0.0 } else { sum / relevant as f64 }
}

fn is_relevant<K: Ord>(key: &&K, judged: &BTreeMap<K, i32>) -> bool {
    judged.get(*key).is_some_and(|grade| *grade > 0)
}

/// The order in which `trec_eval` takes results: by score, and of equal scores the greater name first, whatever ranks the
/// run claims.
#[must_use]
pub fn trec_order(mut results: Vec<(String, f32)>) -> Vec<String> {
    results.sort_by(|left, right| right.1.total_cmp(&left.1).then_with(|| right.0.cmp(&left.0)));
    results.into_iter().map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(grades: &[(&'static str, i32)]) -> BTreeMap<&'static str, i32> {
        grades.iter().copied().collect()
    }

    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12, "{value} is not {expected}");
    }

    #[test]
    fn agrees_with_figures_worked_out_by_hand() {
        let judged = judged(&[("a", 2), ("b", 1), ("c", 0), ("d", -1), ("e", 1)]);
        let ranked = ["c", "a", "d", "e"];
        let ideal = 2.0 + 1.0 / 3_f64.log2() + 0.5;
        close(ndcg(&ranked, &judged, 10), (2.0 / 3_f64.log2() + 1.0 / 5_f64.log2()) / ideal);
        close(ndcg(&ranked, &judged, 1), 0.0);
        close(recall(&ranked, &judged, 10), 2.0 / 3.0);
        close(recall(&ranked, &judged, 2), 1.0 / 3.0);
        close(average_precision(&ranked, &judged), (0.5 + 0.5) / 3.0);
    }

    #[test]
    fn empty_queries_measure_nothing() {
        let nothing = judged(&[("a", 0)]);
        close(ndcg(&["a"], &nothing, 10), 0.0);
        close(recall(&["a"], &nothing, 10), 0.0);
        close(average_precision(&["a"], &nothing), 0.0);
        close(ndcg(&[], &judged(&[("a", 1)]), 10), 0.0);
        close(ndcg(&["a"], &judged(&[("a", 1)]), 10), 1.0);
    }

    #[test]
    fn equal_scores_come_in_the_order_of_trec_eval() {
        let results = [("a", 1.0), ("c", 2.0), ("b", 1.0)].map(|(key, score)| (key.to_owned(), score));
        assert_eq!(trec_order(results.to_vec()), ["c", "b", "a"]);
    }
}
