//! EASE for large catalogues: each item is regressed on its nearest neighbours only.
//!
//! For item `j` with the `support` items `S` that are most similar to it by cosine, `B_Sj` solves
//! `(G_SS + diag(l2_S)) B_Sj = G_Sj`, where `G` are co-occurrences: the feature selection of SLIM (Ning, Karypis:
//! "SLIM: Sparse Linear Methods for Top-N Recommender Systems", ICDM 2011) with the ridge of EASE in place of its
//! iterations, and with the sparsity pattern of Steck: "Markov Random Fields for Collaborative Filtering",
//! NeurIPS 2019. With the support of all items it is EASE.
//!
//! Costs `item_count * support^3 / 3` operations. Memory is `item_count * (neighbours + 2 * support)` entries of
//! 8 bytes: `G` keeps the strongest `neighbours` of each item, and co-occurrences below those are taken as 0.

use super::ease::{EaseSettings, Regularisation, frequency_powers, prepared};
use super::error::{AlgorithmError, require};
use super::interactions::Interactions;
use super::item_weights::{ItemToItem, ItemWeights, strongest_of};
use super::sparse_product::strongest_products;
use faer::linalg::cholesky::llt;
use faer::{Mat, Par, Spec};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How to train [`SparseEase`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparseEaseSettings {
    /// Regularisation and exponents, as of EASE; `layout` and `memory_limit_bytes` are not used.
    pub ease: EaseSettings,
    /// Items on which each item is regressed.
    pub support: usize,
    /// Co-occurrences kept per item; at least `support`.
    pub neighbours: usize,
}

impl Default for SparseEaseSettings {
    fn default() -> Self {
        Self { ease: EaseSettings::default(), support: 200, neighbours: 1000 }
    }
}

/// A trained model: the weights as they are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SparseEase {
    /// Item-to-item weights.
    pub weights: ItemWeights,
    /// How history items fade by age.
    pub age_exponent: f32,
}

/// Co-occurrences with the diagonal apart.
struct CoOccurrences {
    rows: Vec<Vec<(u32, f32)>>,
    frequencies: Vec<f32>,
}

impl SparseEase {
    /// Trains on `interactions`; repeated entries of a user and item count once, at their largest weight.
    ///
    /// # Errors
    /// Settings out of range, or equations too ill-conditioned for `l2`.
    pub fn train(interactions: &Interactions, settings: &SparseEaseSettings) -> Result<Self, AlgorithmError> {
        settings.ease.validate()?;
        require((1..=4096).contains(&settings.support), "support", "must be from 1 to 4096")?;
        require(settings.neighbours >= settings.support, "neighbours", "must be at least `support`")?;
        let graph = CoOccurrences::count(interactions, settings);
        let l2 = Regularisation::new(&graph.frequencies, &settings.ease);
        let columns: Result<Vec<Vec<(u32, f32)>>, AlgorithmError> = (0..interactions.item_count())
            .into_par_iter()
            .map_init(
                || Workspace::new(interactions.item_count(), settings.support),
                |workspace, item| workspace.solve(&graph, &l2, item as u32, settings.support),
            )
            .collect();
        let inputs = frequency_powers(&graph.frequencies, settings.ease.input_exponent);
        let outputs = frequency_powers(&graph.frequencies, settings.ease.output_exponent);
        let mut rows = vec![Vec::new(); interactions.item_count()];
        for (column, entries) in columns?.into_iter().enumerate() {
            for (row, weight) in entries {
                rows[row as usize].push((column as u32, weight * inputs[row as usize] * outputs[column]));
            }
        }
        Ok(Self { weights: ItemWeights::from_rows(rows), age_exponent: settings.ease.age_exponent })
    }
}

impl CoOccurrences {
    fn count(interactions: &Interactions, settings: &SparseEaseSettings) -> Self {
        let (by_user, user_factors) = prepared(interactions, settings.ease.user_exponent);
        let mut by_item = by_user.transpose();
        by_item =
            by_item.map_weights(|row, entry| row.weights[entry] * user_factors[row.items[entry] as usize]);
        let mut frequencies = vec![0.0; by_user.item_count()];
        for (user, row) in by_user.rows().enumerate() {
            for (&item, &weight) in row.items.iter().zip(row.weights) {
                frequencies[item as usize] += user_factors[user] * weight * weight;
            }
        }
        // Selected by cosine, kept as counts.
        let norms: Vec<f32> = frequencies.iter().map(|frequency: &f32| frequency.sqrt()).collect();
        let cosine =
            |item: u32, other: u32, count: f32| count / (norms[item as usize] * norms[other as usize]);
        let mut rows = strongest_products(&by_item, &by_user, settings.neighbours, cosine);
        for (item, row) in rows.iter_mut().enumerate() {
            row.iter_mut().for_each(|(other, value)| *value *= norms[item] * norms[*other as usize]);
        }
        Self { rows, frequencies }
    }

    /// The `count` items that are most similar to `item`, in rising order.
    fn nearest(&self, item: u32, count: usize) -> Vec<u32> {
        let norm = |other: u32| self.frequencies[other as usize].sqrt();
        let row = self.rows[item as usize].iter();
        let mut nearest: Vec<u32> =
            strongest_of(row.map(|&(other, value)| (other, value / norm(other))), count)
                .into_iter()
                .map(|(other, _)| other)
                .collect();
        nearest.sort_unstable();
        nearest
    }
}

/// Absent from the support.
const ABSENT: u32 = u32::MAX;

struct Workspace {
    /// Position of each item in the support.
    positions: Vec<u32>,
    matrix: Mat<f32>,
    memory: faer::dyn_stack::MemBuffer,
}

impl Workspace {
    fn new(item_count: usize, support: usize) -> Self {
        let support = support.min(item_count);
        let factor = llt::factor::cholesky_in_place_scratch::<f32>(support, Par::Seq, Spec::default());
        let solve = llt::solve::solve_in_place_scratch::<f32>(support, 1, Par::Seq);
        Self {
            positions: vec![ABSENT; item_count],
            matrix: Mat::zeros(support, support),
            memory: faer::dyn_stack::MemBuffer::new(factor.or(solve)),
        }
    }

    /// The weights of the support of `item`.
    fn solve(
        &mut self,
        graph: &CoOccurrences,
        l2: &Regularisation<'_>,
        item: u32,
        support: usize,
    ) -> Result<Vec<(u32, f32)>, AlgorithmError> {
        let support = graph.nearest(item, support);
        let count = support.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        self.fill(graph, l2, &support);
        let mut solution = Mat::<f32>::zeros(count, 1);
        for &(other, value) in &graph.rows[item as usize] {
            if let Ok(position) = support.binary_search(&other) {
                solution[(position, 0)] = value;
            }
        }
        let mut matrix = self.matrix.as_mut().submatrix_mut(0, 0, count, count);
        let stack = faer::dyn_stack::MemStack::new(&mut self.memory);
        llt::factor::cholesky_in_place(matrix.as_mut(), Default::default(), Par::Seq, stack, Spec::default())
            .map_err(|_| AlgorithmError::Singular("l2"))?;
        llt::solve::solve_in_place(matrix.as_ref(), solution.as_mut(), Par::Seq, stack);
        Ok(support.iter().enumerate().map(|(position, &other)| (other, solution[(position, 0)])).collect())
    }

    /// Writes the lower triangle of `G_SS + diag(l2_S)`.
    fn fill(&mut self, graph: &CoOccurrences, l2: &Regularisation<'_>, support: &[u32]) {
        for (position, &other) in support.iter().enumerate() {
            self.positions[other as usize] = position as u32;
        }
        let mut matrix = self.matrix.as_mut().submatrix_mut(0, 0, support.len(), support.len());
        matrix.fill(0.0);
        for (row, &other) in support.iter().enumerate() {
            matrix[(row, row)] = graph.frequencies[other as usize] + l2.of(other as usize);
            for &(column, value) in &graph.rows[other as usize] {
                let position = self.positions[column as usize];
                if position != ABSENT {
                    // An entry may be kept in one row and not in the other; it is the same number in both.
                    let column = position as usize;
                    matrix[(row.max(column), row.min(column))] = value;
                }
            }
        }
        for &other in support {
            self.positions[other as usize] = ABSENT;
        }
    }
}

impl ItemToItem for SparseEase {
    const NAME: &'static str = "sparse_ease";

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
    use crate::algorithms::History;
    use crate::algorithms::ease::Ease;
    use crate::algorithms::item_weights::Layout;
    use crate::algorithms::testing::{check_contributions, check_threads_agree, random_sets, weighted_sets};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn each_column_solves_its_own_equations(interactions in weighted_sets(), support in 1_usize..5) {
            let ease = EaseSettings::of_paper(3.0);
            let settings = SparseEaseSettings { ease, support, neighbours: 99 };
            let model = SparseEase::train(&interactions, &settings).unwrap();
            let count = interactions.item_count() as u32;
            let together = |left: u32, right: u32| -> f32 {
                let weight = |row: History<'_>, item: u32| {
                    row.items.iter().position(|&other| other == item).map_or(0.0, |entry| row.weights[entry])
                };
                interactions.rows().map(|row| weight(row, left) * weight(row, right)).sum()
            };
            for column in 0..count {
                let kept: Vec<u32> = (0..count).filter(|&row| model.weights.weight(row, column) != 0.0).collect();
                prop_assert!(kept.len() <= support);
                for &row in &kept {
                    let fitted: f32 = kept.iter()
                        .map(|&other| model.weights.weight(other, column) * together(row, other))
                        .sum();
                    let left = fitted + 3.0 * model.weights.weight(row, column);
                    prop_assert!((left - together(row, column)).abs() < 1e-2, "{left} for {}", together(row, column));
                }
            }
            check_contributions(&model, interactions.row(0), 1e-4);
        }
    }

    #[test]
    fn where_all_items_meet_it_is_ease() {
        let mut rows: Vec<Vec<u32>> =
            random_sets(4, 80, 20, 0.3).rows().map(|row| row.items.to_vec()).collect();
        rows.push((0..20).collect());
        let interactions = Interactions::from_rows(&rows, 20).unwrap();
        let ease = EaseSettings { l2: 3.0, layout: Layout::Strongest(20), ..EaseSettings::default() };
        let exact = Ease::train(&interactions, &ease).unwrap();
        let settings = SparseEaseSettings { ease, support: 20, neighbours: 20 };
        let model = SparseEase::train(&interactions, &settings).unwrap();
        for row in 0..20 {
            for column in 0..20 {
                let (weight, expected) =
                    (model.weights.weight(row, column), exact.weights.weight(row, column));
                assert!((weight - expected).abs() < 1e-4, "{weight} for {expected}");
            }
        }
    }

    #[test]
    fn tiny_data_trains_and_bad_settings_are_refused() {
        for rows in [vec![], vec![vec![]], vec![vec![0]]] {
            let interactions = Interactions::from_rows(&rows, rows.len()).unwrap();
            SparseEase::train(&interactions, &SparseEaseSettings::default()).unwrap();
            for (support, neighbours) in [(0, 5), (9, 5)] {
                let settings = SparseEaseSettings { support, neighbours, ..SparseEaseSettings::default() };
                assert!(SparseEase::train(&interactions, &settings).is_err());
            }
        }
    }

    #[test]
    fn threads_do_not_change_the_model() {
        let interactions = random_sets(3, 100, 90, 0.1);
        let settings = SparseEaseSettings { support: 10, neighbours: 20, ..SparseEaseSettings::default() };
        check_threads_agree(|| SparseEase::train(&interactions, &settings).unwrap());
    }
}
