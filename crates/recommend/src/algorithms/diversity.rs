//! Diversity: re-orders candidates so that the list is not ten times the same.
//!
//! Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): pick, one after another, the candidate with the largest
//! `lambda * relevance - (1 - lambda) * largest similarity to those picked`. Exact and deterministic: equal values go to
//! the candidate that came first. And how diverse a list is, which `evaluate` tells.
//!
//! Refuses: candidates that are not sorted are taken as they come; nothing is scored here.
//! To add one more: a function from candidates to positions of candidates, tested against an exhaustive search.

use super::topk::Scored;

/// The positions in `candidates` of the best `count` by maximal marginal relevance, in order of picking.
///
/// Relevance is the score of a candidate, scaled to 0..=1 over the candidates, so that `lambda` means the same for every
/// source. `similarity` takes two items and returns their similarity, in 0..=1 for the same reason; values that are NaN
/// count as 0. It is asked `count * candidates` times at most. `lambda` is clamped to 0..=1, and 1 (or NaN) keeps the
/// order of relevance. A candidate whose score is NaN has no relevance.
pub fn maximal_marginal_relevance(
    candidates: &[Scored],
    count: usize,
    lambda: f32,
    similarity: impl Fn(u32, u32) -> f32,
) -> Vec<usize> {
    let lambda = if lambda.is_nan() { 1.0 } else { lambda.clamp(0.0, 1.0) };
    let relevance = scaled(candidates);
    let mut nearest = vec![f32::NEG_INFINITY; candidates.len()];
    let mut is_picked = vec![false; candidates.len()];
    let mut picked: Vec<usize> = Vec::with_capacity(count.min(candidates.len()));
    while picked.len() < count.min(candidates.len()) {
        let mut best: Option<(usize, f32)> = None;
        for position in (0..candidates.len()).filter(|&position| !is_picked[position]) {
            let redundancy = if picked.is_empty() || lambda >= 1.0 { 0.0 } else { nearest[position] };
            let value = lambda * relevance[position] - (1.0 - lambda) * redundancy;
            if best.is_none_or(|(_, best_value)| value > best_value) {
                best = Some((position, value));
            }
        }
        let Some((chosen, _)) = best else { break };
        is_picked[chosen] = true;
        picked.push(chosen);
        if lambda < 1.0 && picked.len() < count {
            for position in (0..candidates.len()).filter(|&position| !is_picked[position]) {
                let to_chosen = similarity(candidates[position].item, candidates[chosen].item);
                nearest[position] = nearest[position].max(if to_chosen.is_nan() { 0.0 } else { to_chosen });
            }
        }
    }
    picked
}

/// Scores scaled to 0..=1; all 1 where they are equal; 0 for NaN and minus infinity, 1 for infinity.
fn scaled(candidates: &[Scored]) -> Vec<f32> {
    let finite = || candidates.iter().map(|candidate| candidate.score).filter(|score| score.is_finite());
    let (low, high) = (finite().fold(f32::INFINITY, f32::min), finite().fold(f32::NEG_INFINITY, f32::max));
    let scale = |score: f32| match score {
        _ if score.is_nan() || score == f32::NEG_INFINITY => 0.0,
        _ if high > low => ((score - low) / (high - low)).min(1.0),
        _ => 1.0,
    };
    candidates.iter().map(|candidate| scale(candidate.score)).collect()
}

/// The mean over pairs of a list of `1 - similarity` (Ziegler et al., WWW 2005); 0 for fewer than two items. A similarity
/// that is NaN counts as 0.
pub fn intra_list_diversity(items: &[u32], similarity: impl Fn(u32, u32) -> f32) -> f64 {
    let mut sum = 0.0;
    let mut pairs = 0.0;
    for (position, &left) in items.iter().enumerate() {
        for &right in &items[position + 1..] {
            let alike = similarity(left, right);
            sum += 1.0 - if alike.is_nan() { 0.0 } else { f64::from(alike) };
            pairs += 1.0;
        }
    }
    if pairs > 0.0 { sum / pairs } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scored(scores: &[f32]) -> Vec<Scored> {
        scores.iter().enumerate().map(|(item, &score)| Scored { item: item as u32, score }).collect()
    }

    /// Items of the same tens digit are the same.
    fn same_ten(left: u32, right: u32) -> f32 {
        f32::from(u8::from(left / 10 == right / 10))
    }

    #[test]
    fn picks_the_values_computed_by_hand() {
        let candidates =
            [(1, 1.0), (2, 0.9), (11, 0.5), (12, 0.0)].map(|(item, score)| Scored { item, score });
        let check = |lambda: f32, expected: &[usize]| {
            assert_eq!(
                maximal_marginal_relevance(&candidates, 3, lambda, same_ten),
                expected,
                "lambda {lambda}"
            );
        };
        check(1.0, &[0, 1, 2]);
        check(f32::NAN, &[0, 1, 2]);
        check(0.5, &[0, 2, 1]);
        check(0.0, &[0, 2, 1]);
        check(0.9, &[0, 1, 2]);
    }

    #[test]
    fn scores_that_are_not_numbers_come_last_and_nothing_fails() {
        let candidates = scored(&[f32::NAN, 1.0, f32::INFINITY, f32::NEG_INFINITY, 2.0]);
        assert_eq!(maximal_marginal_relevance(&candidates, 9, 1.0, same_ten)[..2], [2, 4]);
        assert_eq!(maximal_marginal_relevance(&candidates, 9, 0.5, |_, _| f32::NAN).len(), 5);
        assert!(maximal_marginal_relevance(&[], 3, 0.5, same_ten).is_empty());
        assert!(maximal_marginal_relevance(&candidates, 0, 0.5, same_ten).is_empty());
    }

    #[test]
    fn diversity_is_the_mean_over_pairs() {
        assert_eq!(intra_list_diversity(&[1], same_ten), 0.0);
        assert!((intra_list_diversity(&[1, 2, 11], same_ten) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(intra_list_diversity(&[1, 2], |_, _| f32::NAN), 1.0);
    }

    proptest! {
        #[test]
        fn every_pick_is_the_best_of_those_left(
            scores in prop::collection::vec(0_u8..9, 1..30), count in 0_usize..40, tenths in 0_u8..=10,
        ) {
            let candidates = scored(&scores.iter().map(|&score| f32::from(score)).collect::<Vec<_>>());
            let lambda = f32::from(tenths) / 10.0;
            let similarity = |left: u32, right: u32| 1.0 / (1.0 + left.abs_diff(right) as f32);
            let picked = maximal_marginal_relevance(&candidates, count, lambda, similarity);
            prop_assert_eq!(picked.len(), count.min(candidates.len()));
            let relevance = scaled(&candidates);
            let value = |position: usize, before: &[usize]| {
                let nearest = before.iter().map(|&other| similarity(position as u32, other as u32)).fold(0.0, f32::max);
                lambda * relevance[position] - (1.0 - lambda) * nearest
            };
            for (place, &position) in picked.iter().enumerate() {
                let before = &picked[..place];
                prop_assert!(!before.contains(&position));
                for other in (0..candidates.len()).filter(|other| !before.contains(other)) {
                    prop_assert!(value(position, before) >= value(other, before));
                }
            }
        }
    }
}
