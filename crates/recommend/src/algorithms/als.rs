//! iALS: matrix factorisation of implicit feedback by alternating least squares.
//!
//! Hu, Koren, Volinsky: "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, in the form of Rendle,
//! Krichene, Zhang, Koren: "Revisiting the Performance of iALS on Item Recommendation Benchmarks", RecSys 2022: the
//! loss is `sum over observed of w (1 - u.v)^2 + a * sum over all of (u.v)^2`, plus `l (n + a m)^nu` times the squared
//! norm of each factor, where `n` is the observed weight of its row and `m` the length of the row.
//!
//! Settings are relative to the data, so that one default serves sparse and dense data: `a` is set by the ratio of all
//! unobserved weight to all observed weight, and `l` so that a row of mean weight gets `l2` times that weight. With an
//! exponent of 1 that is the paper's form with `l = l2 / (1 + unobserved_ratio)`.
//!
//! Trains by a few conjugate gradient steps per row and sweep. Serves any history by the exact solution for its
//! factor, so new users need no training. Refuses: weights of 0 or less, which are skipped.

use super::als_solver::{LANES, Side, Workspace, factor_in_place, solve_in_place};
use super::error::{AlgorithmError, require};
use super::interactions::{History, Interactions, Merge};
use super::simd;
use super::{Recommender, Scratch};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How to train [`Als`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlsSettings {
    /// Length of the factors.
    pub factor_count: usize,
    /// Sweeps over users and items.
    pub iterations: usize,
    /// Conjugate gradient steps per row and sweep.
    pub solver_steps: usize,
    /// Regularisation of a row of mean weight, as a multiple of that weight; positive.
    pub l2: f32,
    /// How regularisation grows with the weight of a row: 0 for not at all, 1 for in proportion.
    pub l2_exponent: f32,
    /// The weight of all pairs of user and item together, as a multiple of the weight of all interactions; positive.
    /// An observed pair has its own weight on top.
    pub unobserved_ratio: f32,
    /// Standard deviation of the norm of initial factors.
    pub initial_scale: f32,
    /// Seed of the initial factors.
    pub seed: u64,
}

impl Default for AlsSettings {
    fn default() -> Self {
        Self {
            factor_count: 64,
            iterations: 15,
            solver_steps: 3,
            l2: 0.1,
            l2_exponent: 1.0,
            unobserved_ratio: 20.0,
            initial_scale: 0.1,
            seed: 0,
        }
    }
}

impl AlsSettings {
    /// # Errors
    /// [`AlgorithmError::Setting`] naming the field that is out of range.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        require((1..=4096).contains(&self.factor_count), "factor_count", "must be from 1 to 4096")?;
        require(self.iterations > 0, "iterations", "must be positive")?;
        require(self.solver_steps > 0, "solver_steps", "must be positive")?;
        require(self.l2 > 0.0 && self.l2.is_finite(), "l2", "must be positive and finite")?;
        require((0.0..=2.0).contains(&self.l2_exponent), "l2_exponent", "must be from 0 to 2")?;
        let ratio = self.unobserved_ratio;
        require(ratio > 0.0 && ratio.is_finite(), "unobserved_ratio", "must be positive and finite")?;
        let scale = self.initial_scale;
        require(scale > 0.0 && scale.is_finite(), "initial_scale", "must be positive and finite")
    }
}

/// The weights of the loss for one side, users or items, in units of the interactions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossWeights {
    /// Weight of each pair that was not observed.
    pub unobserved: f32,
    /// Weight of all unobserved pairs of a row.
    unobserved_row: f32,
    /// Mean observed weight of a row.
    mean_row: f32,
    l2: f32,
    l2_exponent: f32,
}

impl LossWeights {
    fn new(rows: &Interactions, settings: &AlsSettings) -> Self {
        let total: f64 = rows.weights().iter().map(|&weight| f64::from(weight)).sum();
        let (row_count, row_length) = (rows.user_count().max(1) as f64, rows.item_count().max(1) as f64);
        // Without interactions there is nothing to weigh, but equations must still have a solution.
        let mean_row = if total > 0.0 { total / row_count } else { 1.0 };
        let unobserved_row = f64::from(settings.unobserved_ratio) * mean_row;
        Self {
            unobserved: (unobserved_row / row_length) as f32,
            unobserved_row: unobserved_row as f32,
            mean_row: mean_row as f32,
            l2: settings.l2,
            l2_exponent: settings.l2_exponent,
        }
    }

    /// Regularisation of a row with this observed weight.
    fn l2_of(&self, observed: f32) -> f32 {
        let relative = (observed + self.unobserved_row) / (self.mean_row + self.unobserved_row);
        self.l2 * self.mean_row * relative.powf(self.l2_exponent)
    }
}

/// A trained model. Factors are row-major, `width` wide: `factor_count`, padded by zeros.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Als {
    /// The loss of a user, which fold-in minimises.
    pub user_loss: LossWeights,
    /// Length of a factor in memory.
    pub width: usize,
    /// `user_count x width`, as of the last sweep.
    pub user_factors: Vec<f32>,
    /// `item_count x width`.
    pub item_factors: Vec<f32>,
    /// `width x width`: the weight of unobserved pairs times the products of all item factors.
    pub item_gram: Vec<f32>,
}

impl Als {
    /// Trains on `interactions`; the weights of repeated entries of a user and item are summed.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn train(interactions: &Interactions, settings: &AlsSettings) -> Result<Self, AlgorithmError> {
        settings.validate()?;
        let by_user = observed(interactions);
        let by_item = by_user.transpose();
        let width = settings.factor_count.next_multiple_of(LANES);
        let mut item_factors = initial_factors(by_user.item_count(), width, settings);
        let mut user_factors = vec![0.0; by_user.user_count() * width];
        let user_loss = LossWeights::new(&by_user, settings);
        let item_loss = LossWeights::new(&by_item, settings);
        let steps = settings.solver_steps;
        for _ in 0..settings.iterations {
            sweep(&by_user, &user_loss, steps, (&item_factors, width), &mut user_factors);
            sweep(&by_item, &item_loss, steps, (&user_factors, width), &mut item_factors);
        }
        let item_gram = gram(&item_factors, width, user_loss.unobserved);
        Ok(Self { user_loss, width, user_factors, item_factors, item_gram })
    }

    /// The factor of a user with this history, exactly; known items only, repeats as their sum.
    pub fn fold_in(&self, history: History<'_>, scratch: &mut Scratch) -> Vec<f32> {
        let mut solution = scratch.floats(self.width);
        let factor = self.factored(history, scratch);
        for (item, weight) in self.observed_entries(history) {
            solution.iter_mut().zip(self.item(item)).for_each(|(sum, &value)| *sum += weight * value);
        }
        solve_in_place(&factor, self.width, &mut solution);
        scratch.give_back(factor);
        solution
    }

    /// Scores every item for a user with this factor, as [`Als::fold_in`] makes it.
    pub fn score_factor(&self, factor: &[f32], scores: &mut [f32]) {
        simd::matrix_times_vector(&self.item_factors, factor, scores);
    }

    /// The cosine of the angle between two items, at least 0; 0 for an item the model does not know.
    pub fn similarity(&self, one: u32, two: u32) -> f32 {
        let known = |item: u32| (item as usize) < self.item_factors.len() / self.width;
        if known(one) && known(two) { cosine(self.item(one), self.item(two)).max(0.0) } else { 0.0 }
    }

    /// The cosine of the angle between a user with this history and each user of the training.
    pub fn user_similarities(&self, history: History<'_>, scratch: &mut Scratch) -> Vec<f32> {
        let user = self.fold_in(history, scratch);
        let similarities =
            self.user_factors.chunks_exact(self.width).map(|other| cosine(&user, other)).collect();
        scratch.give_back(user);
        similarities
    }

    fn item(&self, item: u32) -> &[f32] {
        &self.item_factors[item as usize * self.width..][..self.width]
    }

    fn observed_entries<'a>(&self, history: History<'a>) -> impl Iterator<Item = (u32, f32)> + use<'a> {
        let item_count = self.item_factors.len() / self.width;
        let entries = history.items.iter().copied().zip(history.weights.iter().copied());
        entries.filter(move |&(item, weight)| (item as usize) < item_count && weight > 0.0)
    }

    /// The Cholesky factor of the equations of a user with this history.
    fn factored(&self, history: History<'_>, scratch: &mut Scratch) -> Vec<f32> {
        let mut matrix = scratch.floats(self.width * self.width);
        matrix.copy_from_slice(&self.item_gram);
        let mut observed = 0.0;
        for (item, weight) in self.observed_entries(history) {
            simd::add_outer_lower(weight, self.item(item), &mut matrix);
            observed += weight;
        }
        let l2 = self.user_loss.l2_of(observed);
        (0..self.width).for_each(|entry| matrix[entry * (self.width + 1)] += l2);
        factor_in_place(&mut matrix, self.width);
        matrix
    }
}

fn cosine(one: &[f32], two: &[f32]) -> f32 {
    let lengths = (simd::dot(one, one) * simd::dot(two, two)).sqrt();
    if lengths > 0.0 { simd::dot(one, two) / lengths } else { 0.0 }
}

/// One entry per user and item with a positive weight.
fn observed(interactions: &Interactions) -> Interactions {
    let merged =
        if interactions.has_repeats() { interactions.deduplicated(Merge::Sum) } else { interactions.clone() };
    if merged.weights().iter().all(|&weight| weight > 0.0) { merged } else { merged.positive() }
}

fn initial_factors(count: usize, width: usize, settings: &AlsSettings) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    // Uniform with a standard deviation of initial_scale / sqrt(factor_count).
    let half_range = settings.initial_scale * (3.0 / settings.factor_count as f32).sqrt();
    let mut factors = vec![0.0; count * width];
    for row in factors.chunks_exact_mut(width) {
        row[..settings.factor_count].fill_with(|| half_range * (2.0 * rng.random::<f32>() - 1.0));
    }
    factors
}

/// Rows whose products are summed by one task; fixed, so that sums do not depend on the number of threads.
const GRAM_ROWS: usize = 4096;

/// `scale * factors' factors`.
fn gram(factors: &[f32], width: usize, scale: f32) -> Vec<f32> {
    let partial = |rows: &[f32]| {
        let mut sum = vec![0.0; width * width];
        let rows = MatRef::from_column_major_slice(rows, width, rows.len() / width);
        let target = MatMut::from_column_major_slice_mut(&mut sum, width, width);
        matmul(target, Accum::Replace, rows, rows.transpose(), scale, Par::Seq);
        sum
    };
    let partials: Vec<Vec<f32>> = factors.par_chunks(GRAM_ROWS * width).map(partial).collect();
    let mut total = vec![0.0; width * width];
    for partial in partials {
        total.iter_mut().zip(partial).for_each(|(total, value)| *total += value);
    }
    total
}

/// Rows that one task solves.
const SWEEP_ROWS: usize = 32;

/// Moves all rows of one side towards their solution for the factors of the other.
fn sweep(
    rows: &Interactions,
    loss: &LossWeights,
    steps: usize,
    (others, width): (&[f32], usize),
    targets: &mut [f32],
) {
    let gram = gram(others, width, loss.unobserved);
    let side = Side { factors: others, gram: &gram, width };
    let tasks = targets.par_chunks_mut(SWEEP_ROWS * width).enumerate();
    tasks.for_each_init(Workspace::default, |workspace, (task, targets)| {
        for (local, target) in targets.chunks_exact_mut(width).enumerate() {
            let row = rows.row(task * SWEEP_ROWS + local);
            if row.is_empty() {
                // The solution is zero; conjugate gradient would only come near it.
                target.fill(0.0);
            } else {
                let l2 = loss.l2_of(row.weights.iter().sum());
                side.descend((row.items, row.weights), l2, steps, workspace, target);
            }
        }
    });
}

impl Recommender for Als {
    fn name(&self) -> &'static str {
        "als"
    }

    fn item_count(&self) -> usize {
        self.item_factors.len() / self.width
    }

    fn score(&self, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]) {
        assert_eq!(scores.len(), self.item_count(), "one score per item");
        let user = self.fold_in(history, scratch);
        simd::matrix_times_vector(&self.item_factors, &user, scores);
        scratch.give_back(user);
    }

    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        self.contributions_to(history, &[item]).pop().unwrap_or_default()
    }

    /// The decomposition of Hu, Koren, Volinsky, section 5: with `A` the equations of this user, entry `i` adds
    /// `w_i v_item' A^-1 v_i`.
    fn contributions_to(&self, history: History<'_>, items: &[u32]) -> Vec<Vec<(usize, f32)>> {
        let factor = self.factored(history, &mut Scratch::default());
        let is_known = |item: u32| (item as usize) < self.item_count();
        let entries = history.items.iter().copied().zip(history.weights.iter().copied()).enumerate();
        let entries: Vec<(usize, (u32, f32))> =
            entries.filter(|&(_, (item, weight))| is_known(item) && weight > 0.0).collect();
        let of_item = |&item: &u32| {
            if !is_known(item) {
                return Vec::new();
            }
            let mut solution = self.item(item).to_vec();
            solve_in_place(&factor, self.width, &mut solution);
            let added = |&(index, (from, weight)): &(usize, (u32, f32))| {
                (index, weight * simd::dot(&solution, self.item(from)))
            };
            entries.iter().map(added).collect()
        };
        items.iter().map(of_item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::testing::{
        check_contributions, check_threads_agree, random_sets, scores_of, weighted_sets,
    };
    use proptest::prelude::*;

    fn settings(factor_count: usize) -> AlsSettings {
        AlsSettings { factor_count, iterations: 300, solver_steps: 16, l2: 0.2, ..AlsSettings::default() }
    }

    /// The loss that training is to minimise, straight from its definition.
    fn loss(model: &Als, interactions: &Interactions) -> f64 {
        let by_item = interactions.transpose();
        let item_loss = LossWeights::new(&by_item, &settings(3));
        let (users, items) = (interactions.user_count(), interactions.item_count());
        let row = |factors: &[f32], index: usize| factors[index * model.width..][..model.width].to_vec();
        let mut total = 0.0;
        for user in 0..users {
            let factor = row(&model.user_factors, user);
            for item in 0..items {
                let score: f32 = factor.iter().zip(row(&model.item_factors, item)).map(|(a, b)| a * b).sum();
                total += f64::from(model.user_loss.unobserved * score * score);
                let history = interactions.row(user);
                if let Some(entry) = history.items.iter().position(|&other| other as usize == item) {
                    total += f64::from(history.weights[entry] * (1.0 - score) * (1.0 - score));
                }
            }
        }
        let norm = |factors: &[f32], index: usize| {
            row(factors, index).iter().map(|value| value * value).sum::<f32>()
        };
        let weight = |row: History<'_>| row.weights.iter().sum::<f32>();
        for user in 0..users {
            let l2 = model.user_loss.l2_of(weight(interactions.row(user)));
            total += f64::from(l2 * norm(&model.user_factors, user));
        }
        for item in 0..items {
            total += f64::from(item_loss.l2_of(weight(by_item.row(item))) * norm(&model.item_factors, item));
        }
        total
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn converges_to_a_minimum(interactions in weighted_sets()) {
            let model = Als::train(&interactions, &settings(3)).unwrap();
            let reached = loss(&model, &interactions);
            // Moving any factor either way makes it worse.
            for entry in (0..model.item_factors.len()).filter(|entry| entry % model.width < 3) {
                for change in [-0.01, 0.01] {
                    let mut moved = model.clone();
                    moved.item_factors[entry] += change;
                    prop_assert!(loss(&moved, &interactions) >= reached - 1e-4 * reached);
                }
            }
            check_contributions(&model, interactions.row(0), 1e-3);
        }

        #[test]
        fn fold_in_is_the_trained_factor(interactions in weighted_sets()) {
            let model = Als::train(&interactions, &settings(2)).unwrap();
            for user in 0..interactions.user_count() {
                let folded = model.fold_in(interactions.row(user), &mut Scratch::default());
                for (folded, trained) in folded.iter().zip(&model.user_factors[user * model.width..]) {
                    prop_assert!((folded - trained).abs() < 2e-2, "{folded} for {trained}");
                }
            }
        }
    }

    #[test]
    fn what_was_observed_scores_higher() {
        let interactions = random_sets(4, 60, 30, 0.15);
        let model =
            Als::train(&interactions, &AlsSettings { factor_count: 8, ..AlsSettings::default() }).unwrap();
        let (mut inside, mut outside) = ((0.0, 0.0), (0.0, 0.0));
        for row in interactions.rows() {
            for (item, score) in scores_of(&model, row).into_iter().enumerate() {
                let side = if row.items.contains(&(item as u32)) { &mut inside } else { &mut outside };
                *side = (side.0 + score, side.1 + 1.0);
            }
        }
        assert!(inside.0 / inside.1 > 2.0 * outside.0 / outside.1, "{inside:?} {outside:?}");
    }

    #[test]
    fn tiny_and_negative_data_train() {
        for rows in [vec![], vec![vec![]], vec![vec![0]]] {
            let interactions = Interactions::from_rows(&rows, rows.len()).unwrap();
            let model = Als::train(&interactions, &AlsSettings::default()).unwrap();
            assert!(scores_of(&model, History::EMPTY).iter().all(|&score| score == 0.0));
        }
        let mixed = Interactions::new(vec![0, 2], vec![0, 1], vec![1.0, -1.0], vec![], 2).unwrap();
        let model = Als::train(&mixed, &AlsSettings::default()).unwrap();
        assert!(model.item_factors[model.width..].iter().all(|&value| value == 0.0));
        check_contributions(&model, mixed.row(0), 1e-5);
    }

    #[test]
    fn the_scale_of_weights_does_not_matter() {
        let interactions = random_sets(4, 60, 30, 0.15);
        let heavier = interactions.map_weights(|row, entry| 8.0 * row.weights[entry]);
        let train = |interactions| Als::train(interactions, &AlsSettings::default()).unwrap().item_factors;
        let (light, heavy) = (train(&interactions), train(&heavier));
        assert!(light.iter().zip(&heavy).all(|(light, heavy)| (light - heavy).abs() < 1e-4));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let interactions = random_sets(1, 3, 3, 0.5);
        let good = AlsSettings::default();
        let cases = [
            AlsSettings { factor_count: 0, ..good.clone() },
            AlsSettings { iterations: 0, ..good.clone() },
            AlsSettings { solver_steps: 0, ..good.clone() },
            AlsSettings { l2: 0.0, ..good.clone() },
            AlsSettings { l2_exponent: -1.0, ..good.clone() },
            AlsSettings { unobserved_ratio: f32::NAN, ..good.clone() },
            AlsSettings { initial_scale: f32::INFINITY, ..good },
        ];
        for settings in cases {
            assert!(matches!(Als::train(&interactions, &settings), Err(AlgorithmError::Setting { .. })));
        }
    }

    #[test]
    fn threads_do_not_change_the_model() {
        let interactions = random_sets(3, 200, 90, 0.1);
        check_threads_agree(|| Als::train(&interactions, &AlsSettings::default()).unwrap());
    }
}
