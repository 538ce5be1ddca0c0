//! The blend against what it promises.

use super::*;
use crate::algorithms::{History, Interactions, Recommender, Scratch};
use proptest::prelude::*;
use std::sync::Arc;

/// Scores each item by a fixed vector plus, per history item, the closeness to it.
struct Model {
    name: &'static str,
    base: Vec<f32>,
    reach: f32,
}

impl Recommender for Model {
    fn name(&self) -> &'static str {
        self.name
    }

    fn item_count(&self) -> usize {
        self.base.len()
    }

    fn score(&self, history: History<'_>, _: &mut Scratch, scores: &mut [f32]) {
        scores.copy_from_slice(&self.base);
        for (item, score) in scores.iter_mut().enumerate() {
            *score += self.contributions(history, item as u32).iter().map(|&(_, value)| value).sum::<f32>();
        }
    }

    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        let closeness = |from: u32| self.reach / (1.0 + from.abs_diff(item) as f32);
        history
            .items
            .iter()
            .map(|&from| closeness(from))
            .enumerate()
            .filter(|&(_, value)| value != 0.0)
            .collect()
    }
}

fn source(name: &'static str, base: Vec<f32>, reach: f32) -> Source {
    Source::new(Arc::new(Model { name, base, reach }))
}

fn popularity(item_count: usize) -> Source {
    source("popularity", (0..item_count).map(|item| 1.0 / (1.0 + item as f32)).collect(), 0.0)
}

fn near(item_count: usize) -> Source {
    source("near", vec![0.0; item_count], 1.0)
}

fn history(items: &[u32]) -> History<'_> {
    const ONES: [f32; 64] = [1.0; 64];
    History { items, weights: &ONES[..items.len()], times: &[] }
}

fn best(hybrid: &Hybrid, items: &[u32]) -> usize {
    let mut scores = vec![f32::NAN; hybrid.item_count()];
    hybrid.score(history(items), &mut Scratch::default(), &mut scores);
    assert!(scores.iter().all(|score| score.is_finite()));
    (0..scores.len())
        .max_by(|&left, &right| scores[left].total_cmp(&scores[right]).then(right.cmp(&left)))
        .unwrap()
}

/// Scores with gaps: some not finite, some equal.
fn scores(item_count: usize) -> impl Strategy<Value = Vec<f32>> {
    let value =
        prop_oneof![8 => -3.0_f32..3.0, 2 => Just(0.0), 1 => Just(f32::NAN), 1 => Just(f32::NEG_INFINITY)];
    prop_oneof![9 => prop::collection::vec(value, item_count), 1 => Just(vec![2.0; item_count])]
}

proptest! {
    #[test]
    fn terms_add_up_to_exactly_the_score(
        sources in prop::collection::vec(scores(40), 1..6), weights in prop::collection::vec(0.0_f32..2.0, 6), stand_in in 0.0_f32..=1.0,
    ) {
        let blend = Blend { stand_in, ..Blend::fixed(&weights[..sources.len()]).unwrap() };
        let views: Vec<&[f32]> = sources.iter().map(Vec::as_slice).collect();
        let mut blended = vec![f32::NAN; 40];
        let voices = blend.combine(3, &views, &mut blended);
        let items: Vec<u32> = (0..40).collect();
        for (terms, &score) in voices.explain(&views, &items).iter().zip(&blended) {
            prop_assert!(score.is_finite());
            if terms.iter().any(|&term| term != 0.0) {
                prop_assert_eq!(terms.iter().sum::<f32>(), score);
            }
        }
    }

    #[test]
    fn one_source_keeps_its_order(scores in scores(60)) {
        let mut blended = vec![0.0; 60];
        Blend::fixed(&[0.7]).unwrap().combine(0, &[&scores], &mut blended);
        for left in 0..60 {
            for right in 0..60 {
                let is_ordered = scores[left].is_finite() && scores[right].is_finite() && scores[left] > scores[right];
                prop_assert!(!is_ordered || blended[left] >= blended[right]);
            }
        }
    }
}

#[test]
fn a_silent_source_leaves_the_others_to_decide() {
    let hybrid = |weights: &[f32]| {
        Hybrid::new(vec![popularity(30), near(30)], Blend::fixed(weights).unwrap()).unwrap()
    };
    assert_eq!(best(&hybrid(&[0.1, 0.9]), &[20]), 20);
    assert_eq!(best(&hybrid(&[0.1, 0.9]), &[]), 0, "nothing is near to an empty history");
    assert_eq!(best(&hybrid(&[0.0, 1.0]), &[]), 0, "a weight of 0 is better than nothing");
    let silent = Hybrid::new(vec![near(3)], Blend::fixed(&[1.0]).unwrap()).unwrap();
    let mut scores = [f32::NAN; 3];
    silent.score(History::EMPTY, &mut Scratch::default(), &mut scores);
    assert_eq!(scores, [0.0; 3]);
}

#[test]
fn others_stand_in_for_a_source_that_does_not_know_an_item() {
    let training = Interactions::from_rows(&[(0..29).collect::<Vec<u32>>()], 30).unwrap();
    let mut content = vec![0.0; 30];
    (content[29], content[28]) = (5.0, 4.9);
    let near = Source::collaborative(near(30).recommender, &training);
    assert_eq!(*near.silent_items, [29]);
    let sources = vec![near, source("content", content, 0.0)];
    let rank_of_new = |stand_in: f32| {
        let blend = Blend { stand_in, ..Blend::fixed(&[0.5, 0.5]).unwrap() };
        let hybrid = Hybrid::new(sources.clone(), blend).unwrap();
        let mut scores = vec![0.0; 30];
        hybrid.score(history(&[27]), &mut Scratch::default(), &mut scores);
        scores.iter().filter(|&&score| score > scores[29]).count()
    };
    assert_eq!(rank_of_new(1.0), 0, "content speaks for both");
    assert!(rank_of_new(0.0) > 0, "content speaks for itself");
}

#[test]
fn an_item_that_nobody_knows_comes_last() {
    let mut blended = [0.0; 4];
    Blend::fixed(&[1.0, 1.0]).unwrap().combine(
        0,
        &[&[1.0, 2.0, f32::NAN, 3.0], &[1.0, 9.0, f32::INFINITY, 2.0]],
        &mut blended,
    );
    assert!(blended[2] < blended[0] && blended[2].is_finite(), "{blended:?}");
}

#[test]
fn weights_by_group_are_those_asked_for() {
    let learned = Blend::fixed(&[0.3, 0.1, 0.0, 0.0]).unwrap();
    let grouped = learned.with_group_weights(&[0, 0, 1, 1], &[0.6, 0.4]).unwrap();
    let expected = [0.45, 0.15, 0.2, 0.2];
    assert!(
        grouped.weights(0).iter().zip(expected).all(|(weight, expected)| (weight - expected).abs() < 1e-6)
    );
    assert!(learned.with_group_weights(&[0, 0, 1], &[0.6, 0.4]).is_err());
    assert!(learned.with_group_weights(&[0, 0, 1, 2], &[0.6, 0.4]).is_err());
    assert!(learned.with_group_weights(&[0, 0, 1, 1], &[0.6, f32::NAN]).is_err());
}

#[test]
fn weights_are_chosen_by_the_length_of_the_history() {
    let bucket = |history_length: usize, weight: f32| Bucket { history_length, weights: vec![weight] };
    let blend = Blend { buckets: vec![bucket(0, 0.1), bucket(3, 0.2), bucket(9, 0.3)], stand_in: 0.5 };
    blend.validate().unwrap();
    for (length, expected) in [(0, 0.1), (2, 0.1), (3, 0.2), (8, 0.2), (9, 0.3), (usize::MAX, 0.3)] {
        assert_eq!(blend.weights(length), [expected]);
    }
}

#[test]
fn what_cannot_be_blended_is_refused() {
    let check = |blend: Blend, expected: &str| {
        let error = Hybrid::new(vec![popularity(9), near(9)], blend).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let fixed = |weights: &[f32]| Blend::fixed(weights).unwrap();
    assert!(
        Blend::fixed(&[]).is_err() && Blend::fixed(&[-1.0]).is_err() && Blend::fixed(&[f32::NAN]).is_err()
    );
    check(fixed(&[1.0]), "weights");
    check(Blend { stand_in: f32::NAN, ..fixed(&[1.0, 1.0]) }, "stand_in");
    check(Blend { buckets: vec![], ..fixed(&[1.0, 1.0]) }, "buckets");
    let error = Hybrid::new(vec![popularity(9), near(8)], fixed(&[1.0, 1.0])).unwrap_err().to_string();
    assert!(error.contains("same catalogue"), "{error}");
    let empty = Interactions::from_rows(&[vec![]], 9).unwrap();
    let refuse = |settings: FitSettings| {
        Blend::fit(&[popularity(9)], &empty, &empty, None, &settings).unwrap_err().to_string()
    };
    assert!(refuse(FitSettings { l2: 0.0, ..Default::default() }).contains("l2"));
    assert!(refuse(FitSettings { bucket_starts: vec![1], ..Default::default() }).contains("bucket_starts"));
    assert!(
        refuse(FitSettings { candidates_per_source: 9, ..Default::default() })
            .contains("candidates_per_source")
    );
}

/// Users who take the item after their last one, save every fifth, who takes the first item.
fn followers(item_count: u32) -> (Interactions, Interactions) {
    let rows = |of: &dyn Fn(u32) -> Vec<u32>| {
        Interactions::from_rows(&(0..120).map(of).collect::<Vec<_>>(), 60).unwrap()
    };
    let first = |user: u32| 2 + user * 7 % (item_count - 12);
    let histories = rows(&|user| (first(user)..first(user) + 1 + user % 6).collect());
    let targets = rows(&|user| vec![if user % 5 == 0 { 0 } else { first(user) + 1 + user % 6 }]);
    (histories, targets)
}

#[test]
fn fitting_finds_the_source_that_is_right_and_repeats() {
    let (histories, targets) = followers(60);
    let noise = source("noise", (0..60).map(|item| (item * 37 % 60) as f32).collect(), 0.0);
    let sources = vec![noise, popularity(60), near(60)];
    let settings = FitSettings { users_per_bucket: 20, ..Default::default() };
    let (hybrid, fitted) = Hybrid::fit(sources.clone(), &histories, &targets, &settings).unwrap();
    let weights = hybrid.blend().weights(4).to_vec();
    assert!(weights[2] > weights[0] && (weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{weights:?}");
    assert!(fitted.source_ndcg.iter().all(|&part| fitted.ndcg >= part - 1e-9), "{fitted:?}");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let again = pool.install(|| Blend::fit(&sources, &histories, &targets, None, &settings).unwrap());
    assert_eq!(fitted, again);
}

#[test]
fn the_smallest_data_have_a_blend() {
    let one = Interactions::from_rows(&[vec![0]], 1).unwrap();
    let (hybrid, fitted) = Hybrid::fit(vec![popularity(1)], &one, &one, &FitSettings::default()).unwrap();
    assert_eq!((fitted.user_count, best(&hybrid, &[0])), (0, 0));
    let none = Interactions::from_rows::<Vec<u32>>(&[], 1).unwrap();
    assert_eq!(
        Blend::fit(&[popularity(1)], &none, &none, None, &FitSettings::default()).unwrap().user_count,
        0
    );
}

#[test]
fn history_entries_share_the_terms_of_their_sources() {
    let hybrid = Hybrid::new(vec![popularity(30), near(30)], Blend::fixed(&[0.2, 0.8]).unwrap()).unwrap();
    let (items, mut scratch) = ([4_u32, 9], Scratch::default());
    let terms = hybrid.explain_with(hybrid.blend(), history(&items), &[8], &mut scratch);
    let entries = hybrid.contributions(history(&items), 8);
    let total: f32 = entries.iter().map(|&(_, value)| value).sum();
    assert!((total - terms[0][1]).abs() < 1e-6, "popularity names no entry");
    assert!(entries[1].1 > entries[0].1, "item 9 is nearer to 8 than item 4");
}
