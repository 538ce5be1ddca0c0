//! A linear filter on the item graph: smooth, keep the low frequencies, then sharpen.
//!
//! With `R = D_U^-a X D_I^-b` and the graph `P = R' R`, a history `r` is smoothed to `r P`, plus `ideal_weight` times
//! its projection on the `rank` smoothest directions (GF-CF: Shen et al.: "How Powerful is Graph Convolution for
//! Recommendation?", CIKM 2021), and sharpened by `exp(-sharpening P)`, as the reverse of heat flow (BSPM: Choi, Hong,
//! Park, Cho: "Blurring-Sharpening Process Models for Collaborative Filtering", SIGIR 2023), to fourth order.
//!
//! All of it is linear in the history, so it is applied once to each item, and the strongest weights are served.
//! Costs about `2 * entries * item_count` products per power of `P`. Refuses: nonlinear filters.

use super::error::{AlgorithmError, require};
use super::interactions::{History, Interactions, Merge};
use super::item_weights::{ItemToItem, ItemWeights, strongest};
use super::randomised_svd::{multiply_into, right_singular_vectors};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How to train [`GraphFilter`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraphFilterSettings {
    /// A user with `n` interactions counts `n^-user_exponent`; 0.5 is GF-CF.
    pub user_exponent: f32,
    /// An item with `n` interactions counts `n^-item_exponent`; 0.5 is GF-CF.
    pub item_exponent: f32,
    /// Directions of the ideal low-pass filter.
    pub rank: usize,
    /// Weight of the ideal low-pass filter; 0 to leave it out.
    pub ideal_weight: f32,
    /// Time for which the smoothed signal is sharpened; 0 is GF-CF.
    pub sharpening: f32,
    /// A history item `age` places from the end counts `age^-age_exponent`; the last has age 1. 0 where the order of a
    /// history says nothing.
    pub age_exponent: f32,
    /// Weights kept per item.
    pub row_length: usize,
    /// Seed of the random projection.
    pub seed: u64,
}

impl Default for GraphFilterSettings {
    fn default() -> Self {
        Self {
            user_exponent: 0.5,
            item_exponent: 0.5,
            rank: 256,
            ideal_weight: 0.3,
            sharpening: 0.0,
            age_exponent: 0.0,
            row_length: 500,
            seed: 0,
        }
    }
}

impl GraphFilterSettings {
    /// # Errors
    /// [`AlgorithmError::Setting`] naming the field that is out of range.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        require((0.0..=1.0).contains(&self.user_exponent), "user_exponent", "must be from 0 to 1")?;
        require((0.0..=1.0).contains(&self.item_exponent), "item_exponent", "must be from 0 to 1")?;
        require((0.0..=100.0).contains(&self.ideal_weight), "ideal_weight", "must be from 0 to 100")?;
        require((0.0..=4.0).contains(&self.sharpening), "sharpening", "must be from 0 to 4")?;
        require((0.0..=4.0).contains(&self.age_exponent), "age_exponent", "must be from 0 to 4")?;
        require(self.row_length > 0, "row_length", "must be positive")
    }
}

/// A trained model: the filter as it is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GraphFilter {
    /// Item-to-item weights.
    pub weights: ItemWeights,
    /// How history items fade by age.
    pub age_exponent: f32,
}

/// Histories that are filtered at once.
const BLOCK: usize = 64;

impl GraphFilter {
    /// Trains on `interactions`; repeated entries of a user and item count once, at their largest weight, and weights
    /// of 0 or less not at all.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn train(
        interactions: &Interactions,
        settings: &GraphFilterSettings,
    ) -> Result<Self, AlgorithmError> {
        let filter = Filter::new(interactions, settings)?;
        let item_count = interactions.item_count();
        let items: Vec<u32> = (0..item_count as u32).collect();
        let rows = items
            .par_chunks(BLOCK)
            .flat_map_iter(|items| {
                let units: Vec<History<'_>> = items
                    .iter()
                    .map(|item| History { items: std::slice::from_ref(item), weights: &[1.0], times: &[] })
                    .collect();
                let filtered = filter.apply(&units);
                let kept: Vec<Vec<(u32, f32)>> = (0..items.len())
                    .map(|column| {
                        let row: Vec<f32> =
                            filtered.iter().skip(column).step_by(items.len()).copied().collect();
                        strongest(&row, settings.row_length)
                    })
                    .collect();
                kept
            })
            .collect();
        Ok(Self { weights: ItemWeights::from_rows(rows), age_exponent: settings.age_exponent })
    }
}

/// The filter before it is applied.
#[derive(Debug)]
pub struct Filter {
    by_user: Interactions,
    by_item: Interactions,
    /// `item_count x rank`, row-major.
    directions: Vec<f32>,
    rank: usize,
    /// `frequency^item_exponent`; 0 for an item that nobody touched.
    item_scales: Vec<f32>,
    settings: GraphFilterSettings,
}

impl Filter {
    /// Normalises the interactions and finds the smoothest directions.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn new(interactions: &Interactions, settings: &GraphFilterSettings) -> Result<Self, AlgorithmError> {
        settings.validate()?;
        let merged = interactions.deduplicated(Merge::Max).positive();
        let item_scales: Vec<f32> =
            weight_sums(&merged.transpose()).iter().map(|&sum| sum.powf(settings.item_exponent)).collect();
        let item_scales: Vec<f32> = item_scales
            .iter()
            .zip(merged.item_frequencies())
            .map(|(&scale, frequency)| if frequency > 0 { scale } else { 0.0 })
            .collect();
        let by_user = merged.map_weights(|row, entry| {
            let user_scale = row.weights.iter().sum::<f32>().powf(settings.user_exponent);
            row.weights[entry] / (user_scale * item_scales[row.items[entry] as usize])
        });
        let rank = if settings.ideal_weight > 0.0 { settings.rank } else { 0 };
        let (directions, rank) = right_singular_vectors(&by_user, rank, 3, settings.seed);
        let by_item = by_user.transpose();
        Ok(Self { by_user, by_item, directions, rank, item_scales, settings: settings.clone() })
    }

    /// Filters some histories; unknown items add nothing. Row-major, one row per item, one column per history.
    ///
    /// Runs on the calling thread and needs memory for `histories` times users and four times items.
    pub fn apply(&self, histories: &[History<'_>]) -> Vec<f32> {
        let (width, item_count) = (histories.len(), self.by_item.user_count());
        let mut signal = vec![0.0; item_count * width];
        for (column, history) in histories.iter().enumerate() {
            for (&item, &weight) in history.items.iter().zip(history.weights) {
                if (item as usize) < item_count {
                    signal[item as usize * width + column] += weight;
                }
            }
        }
        let mut users = vec![0.0; self.by_user.user_count() * width];
        let mut smooth = vec![0.0; item_count * width];
        self.propagate(&signal, width, &mut users, &mut smooth);
        self.add_ideal(&mut signal, width, &mut smooth);
        if self.settings.sharpening > 0.0 {
            self.sharpen(&mut signal, width, &mut users, &mut smooth);
        }
        smooth
    }

    /// `target = P signal`.
    fn propagate(&self, signal: &[f32], width: usize, users: &mut [f32], target: &mut [f32]) {
        multiply_into(&self.by_user, signal, width, users);
        multiply_into(&self.by_item, users, width, target);
    }

    /// `smooth += ideal_weight * D^b V V' D^-b signal`; the signal is overwritten.
    fn add_ideal(&self, signal: &mut [f32], width: usize, smooth: &mut [f32]) {
        let (item_count, rank) = (self.item_scales.len(), self.rank);
        if rank == 0 {
            return;
        }
        for (row, &scale) in signal.chunks_exact_mut(width).zip(&self.item_scales) {
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            row.iter_mut().for_each(|value| *value *= inverse);
        }
        let directions = MatRef::from_row_major_slice(&self.directions, item_count, rank);
        let mut spectrum = vec![0.0; rank * width];
        let signal_view = MatRef::from_row_major_slice(signal, item_count, width);
        let spectrum_view = MatMut::from_row_major_slice_mut(&mut spectrum, rank, width);
        matmul(spectrum_view, Accum::Replace, directions.transpose(), signal_view, 1.0, Par::Seq);
        let spectrum_view = MatRef::from_row_major_slice(&spectrum, rank, width);
        let signal_view = MatMut::from_row_major_slice_mut(signal, item_count, width);
        matmul(signal_view, Accum::Replace, directions, spectrum_view, self.settings.ideal_weight, Par::Seq);
        let rows = smooth.chunks_exact_mut(width).zip(signal.chunks_exact(width)).zip(&self.item_scales);
        for ((smooth, ideal), &scale) in rows {
            smooth.iter_mut().zip(ideal).for_each(|(smooth, &ideal)| *smooth += scale * ideal);
        }
    }

    /// `smooth = exp(-sharpening P) smooth` to fourth order; the signal is overwritten.
    fn sharpen(&self, signal: &mut Vec<f32>, width: usize, users: &mut [f32], smooth: &mut [f32]) {
        signal.copy_from_slice(smooth);
        let mut next = vec![0.0; signal.len()];
        for order in 1..=4 {
            self.propagate(signal, width, users, &mut next);
            let factor = -self.settings.sharpening / order as f32;
            for (next, smooth) in next.iter_mut().zip(&mut *smooth) {
                *next *= factor;
                *smooth += *next;
            }
            std::mem::swap(signal, &mut next);
        }
    }
}

/// The sum of weights of each row.
fn weight_sums(rows: &Interactions) -> Vec<f32> {
    rows.rows().map(|row| row.weights.iter().sum()).collect()
}

impl ItemToItem for GraphFilter {
    const NAME: &'static str = "graph_filter";

    fn weights(&self) -> &ItemWeights {
        &self.weights
    }

    fn age_exponent(&self) -> f32 {
        self.age_exponent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::testing::{
        check_contributions, check_threads_agree, random_sets, scores_of, weighted_sets,
    };
    use faer::Mat;
    use proptest::prelude::*;

    /// The filter by dense matrices in double precision, with the directions from a full decomposition.
    fn oracle(interactions: &Interactions, settings: &GraphFilterSettings, history: History<'_>) -> Vec<f64> {
        let (users, items) = (interactions.user_count(), interactions.item_count());
        let mut matrix = Mat::<f64>::zeros(users, items);
        for (user, row) in interactions.rows().enumerate() {
            for (&item, &weight) in row.items.iter().zip(row.weights) {
                matrix[(user, item as usize)] = f64::from(weight);
            }
        }
        let power = |sum: f64, exponent: f32| if sum > 0.0 { sum.powf(-f64::from(exponent)) } else { 0.0 };
        let row_sum = |user: usize| (0..items).map(|item| matrix[(user, item)]).sum::<f64>();
        let column_sum = |item: usize| (0..users).map(|user| matrix[(user, item)]).sum::<f64>();
        let item_powers: Vec<f64> =
            (0..items).map(|item| power(column_sum(item), settings.item_exponent)).collect();
        let normalised = Mat::from_fn(users, items, |user, item| {
            matrix[(user, item)] * power(row_sum(user), settings.user_exponent) * item_powers[item]
        });
        let graph = normalised.transpose() * &normalised;
        let mut signal = Mat::<f64>::zeros(items, 1);
        for (&item, &weight) in history.items.iter().zip(history.weights) {
            signal[(item as usize, 0)] += f64::from(weight);
        }
        let mut smooth = &graph * &signal;
        let right =
            normalised.thin_svd().unwrap().V().subcols(0, settings.rank.min(users.min(items))).to_owned();
        let scaled = Mat::from_fn(items, 1, |item, _| signal[(item, 0)] * item_powers[item]);
        let ideal = &right * (right.transpose() * scaled);
        for item in (0..items).filter(|&item| item_powers[item] > 0.0) {
            smooth[(item, 0)] += f64::from(settings.ideal_weight) * ideal[(item, 0)] / item_powers[item];
        }
        let mut term = smooth.clone();
        for order in 1..=4 {
            term = &graph * &term * faer::Scale(-f64::from(settings.sharpening) / f64::from(order));
            smooth += &term;
        }
        (0..items).map(|item| smooth[(item, 0)]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn agrees_with_dense_matrices(interactions in weighted_sets(), sharpening in 0.0_f32..2.0) {
            // With all directions, or none, there are no close singular values to tell apart.
            for (rank, ideal_weight) in [(0, 1.0), (99, 0.3)] {
                let settings = GraphFilterSettings {
                    sharpening, rank, ideal_weight, item_exponent: 0.4, row_length: 99, ..GraphFilterSettings::default()
                };
                let model = GraphFilter::train(&interactions, &settings).unwrap();
                let history = interactions.row(0);
                let expected = oracle(&interactions, &settings, history);
                for (score, expected) in scores_of(&model, history).into_iter().zip(expected) {
                    prop_assert!((f64::from(score) - expected).abs() < 2e-3, "{score} for {expected}");
                }
                check_contributions(&model, history, 1e-4);
            }
        }
    }

    #[test]
    fn tiny_and_empty_data_train() {
        for rows in [vec![], vec![vec![]], vec![vec![0]]] {
            let interactions = Interactions::from_rows(&rows, rows.len()).unwrap();
            GraphFilter::train(&interactions, &GraphFilterSettings::default()).unwrap();
        }
        let bad = GraphFilterSettings { sharpening: f32::NAN, ..GraphFilterSettings::default() };
        assert!(GraphFilter::train(&random_sets(1, 2, 2, 0.5), &bad).is_err());
    }

    #[test]
    fn threads_do_not_change_the_model() {
        let sets = random_sets(2, 200, 150, 0.1);
        let settings = GraphFilterSettings { sharpening: 1.0, rank: 8, ..GraphFilterSettings::default() };
        check_threads_agree(|| GraphFilter::train(&sets, &settings).unwrap());
    }
}
