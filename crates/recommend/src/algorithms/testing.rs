//! Small random interactions for the tests of this folder.

use super::interactions::{History, Interactions};
use super::{Recommender, Scratch};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sets of items as rows with weights of 1.
pub(crate) fn random_sets(seed: u64, user_count: usize, item_count: usize, density: f64) -> Interactions {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows: Vec<Vec<u32>> = (0..user_count)
        .map(|_| {
            // A squared draw makes some users and low items far busier than others.
            let user_density = density * 2.0 * rng.random::<f64>();
            (0..item_count as u32)
                .filter(|&item| rng.random::<f64>() < user_density * 2.0 / (1.0 + f64::from(item) * 0.1))
                .collect()
        })
        .collect();
    Interactions::from_rows(&rows, item_count).unwrap()
}

/// A strategy for small sets with weights in 0.5..2.
pub(crate) fn weighted_sets() -> impl Strategy<Value = Interactions> {
    (0_u64..1000, 1_usize..24, 1_usize..14).prop_map(|(seed, user_count, item_count)| {
        let sets = random_sets(seed, user_count, item_count, 0.3);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let weights = (0..sets.len()).map(|_| 0.5 + 1.5 * rng.random::<f32>()).collect();
        Interactions::new(sets.user_offsets().to_vec(), sets.items().to_vec(), weights, vec![], item_count)
            .unwrap()
    })
}

/// The scores of one history.
pub(crate) fn scores_of(model: &dyn Recommender, history: History<'_>) -> Vec<f32> {
    let mut scores = vec![f32::NAN; model.item_count()];
    model.score(history, &mut Scratch::default(), &mut scores);
    scores
}

/// Checks that contributions sum to scores, and that unknown items and an empty history are answered.
pub(crate) fn check_contributions(model: &dyn Recommender, history: History<'_>, tolerance: f32) {
    let scores = scores_of(model, history);
    for (item, &score) in scores.iter().enumerate() {
        let contributions = model.contributions(history, item as u32);
        let sum: f32 = contributions.iter().map(|&(_, contribution)| contribution).sum();
        assert!(contributions.iter().all(|&(index, _)| index < history.len()));
        assert!((score - sum).abs() <= tolerance * score.abs().max(1.0), "item {item}: {score} is not {sum}");
    }
    assert!(scores_of(model, History::EMPTY).iter().all(|&score| score == 0.0));
    let unknown = History { items: &[u32::MAX], weights: &[1.0], times: &[] };
    assert!(scores_of(model, unknown).iter().all(|&score| score == 0.0));
}

/// Runs `train` on one and on two threads and checks that the results are the same.
pub(crate) fn check_threads_agree<M: PartialEq + std::fmt::Debug + Send>(train: impl Fn() -> M + Sync) {
    let run = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&train);
    assert_eq!(run(1), run(2));
}
