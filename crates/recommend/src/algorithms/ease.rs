//! EASE: a linear item-to-item model with a closed form (Steck: "Embarrassingly Shallow Autoencoders for Sparse
//! Data", WWW 2019).
//!
//! `B = argmin |A (X - X B)|^2 + sum_i l2_i |B_i|^2` with a zero diagonal is `B_ij = -P_ij / P_jj`, where `P` is the
//! inverse of `X' A^2 X + diag(l2)`. Beyond the paper: users with long histories may count less (`user_exponent`),
//! and `l2_i` may rise with the frequency of the item, which is the rescaling of Steck: "Markov Random Fields for
//! Collaborative Filtering", NeurIPS 2019. Weights may be rescaled by frequency when they are applied, as data
//! normalisation does in Park et al.: "Why is Normalization Necessary for Linear Recommenders?", SIGIR 2025.
//!
//! Costs `item_count^3` operations and `2 * item_count^2` bytes. Refuses: catalogues over its memory limit; those are
//! for [`super::sparse_ease`].

use super::error::{AlgorithmError, require};
use super::interactions::{Interactions, Merge};
use super::item_weights::{ItemToItem, ItemWeights, Layout};
use super::symmetric_inverse::{TILE, TiledSymmetric, peak_bytes};
use serde::{Deserialize, Serialize};

/// How to train [`Ease`]. The default ranks better than [`EaseSettings::of_paper`] on dense and on sparse data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EaseSettings {
    /// Regularisation of an item of mean frequency; positive.
    pub l2: f32,
    /// The regularisation of an item is `l2 * (frequency / mean frequency)^l2_exponent`; 0 is the paper.
    pub l2_exponent: f32,
    /// A user with `n` items counts `n^-user_exponent`; 0 is the paper.
    pub user_exponent: f32,
    /// A history item counts `frequency^-input_exponent`; 0 is the paper.
    pub input_exponent: f32,
    /// A score counts `frequency^-output_exponent`; 0 is the paper.
    pub output_exponent: f32,
    /// A history item `age` places from the end counts `age^-age_exponent`; the last has age 1. 0 where the order of a
    /// history says nothing.
    pub age_exponent: f32,
    /// The form in which weights are kept.
    pub layout: Layout,
    /// Refuse to train above this.
    pub memory_limit_bytes: usize,
}

impl Default for EaseSettings {
    fn default() -> Self {
        Self {
            l2: 60.0,
            l2_exponent: 0.0,
            user_exponent: 0.5,
            input_exponent: 0.25,
            output_exponent: 0.0,
            age_exponent: 0.0,
            layout: Layout::Automatic,
            memory_limit_bytes: 8 << 30,
        }
    }
}

impl EaseSettings {
    /// The model of the paper: all exponents 0.
    pub fn of_paper(l2: f32) -> Self {
        Self { l2, user_exponent: 0.0, input_exponent: 0.0, ..Self::default() }
    }

    /// # Errors
    /// [`AlgorithmError::Setting`] naming the field that is out of range.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        require(self.l2 > 0.0 && self.l2.is_finite(), "l2", "must be positive and finite")?;
        let exponents = [
            (self.l2_exponent, "l2_exponent"),
            (self.user_exponent, "user_exponent"),
            (self.input_exponent, "input_exponent"),
            (self.output_exponent, "output_exponent"),
            (self.age_exponent, "age_exponent"),
        ];
        for (exponent, name) in exponents {
            require((-2.0..=2.0).contains(&exponent), name, "must be from -2 to 2")?;
        }
        self.layout.validate()
    }
}

/// A trained model: the weights as they are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ease {
    /// Item-to-item weights.
    pub weights: ItemWeights,
    /// How history items fade by age.
    pub age_exponent: f32,
}

impl Ease {
    /// Trains on `interactions`; repeated entries of a user and item count once, at their largest weight.
    ///
    /// # Errors
    /// Settings out of range, too many items for the memory limit, or a matrix too ill-conditioned for `l2`.
    pub fn train(interactions: &Interactions, settings: &EaseSettings) -> Result<Self, AlgorithmError> {
        settings.validate()?;
        let needed_bytes = peak_bytes(interactions.item_count());
        if needed_bytes > settings.memory_limit_bytes {
            return Err(AlgorithmError::TooLarge {
                needed_bytes,
                limit_bytes: settings.memory_limit_bytes,
                advice: "use `sparse_ease` or raise `memory_limit_bytes`",
            });
        }
        let (mut matrix, frequencies) = gram(interactions, settings.user_exponent);
        let l2 = Regularisation::new(&frequencies, settings);
        matrix.add_to_diagonal(|item| l2.of(item));
        matrix.invert("l2")?;
        let weights = weights_from_inverse(&matrix, &frequencies, settings);
        Ok(Self { weights, age_exponent: settings.age_exponent })
    }
}

/// Regularisation per item.
pub(crate) struct Regularisation<'a> {
    frequencies: &'a [f32],
    mean: f32,
    l2: f32,
    exponent: f32,
}

impl<'a> Regularisation<'a> {
    pub(crate) fn new(frequencies: &'a [f32], settings: &EaseSettings) -> Self {
        let present = frequencies.iter().filter(|&&frequency| frequency > 0.0).count().max(1);
        let sum: f64 = frequencies.iter().map(|&frequency| f64::from(frequency)).sum();
        let mean = ((sum / present as f64) as f32).max(f32::MIN_POSITIVE);
        Self { frequencies, mean, l2: settings.l2, exponent: settings.l2_exponent }
    }

    pub(crate) fn of(&self, item: usize) -> f32 {
        let frequency = self.frequencies[item];
        // An item that nobody touched has no weights, whatever its regularisation.
        if frequency > 0.0 { self.l2 * (frequency / self.mean).powf(self.exponent) } else { self.l2 }
    }
}

/// Entries once per user and item, rows sorted by item, and the factor by which each user counts.
pub(crate) fn prepared(interactions: &Interactions, user_exponent: f32) -> (Interactions, Vec<f32>) {
    let sorted = if interactions.has_repeats() {
        interactions.deduplicated(Merge::Max).transpose().transpose()
    } else {
        interactions.transpose().transpose()
    };
    let user_factors = sorted.rows().map(|row| (row.len().max(1) as f32).powf(-user_exponent)).collect();
    (sorted, user_factors)
}

/// `X' A^2 X` and its diagonal, the (weighted) frequency of each item.
fn gram(interactions: &Interactions, user_exponent: f32) -> (TiledSymmetric, Vec<f32>) {
    let (by_user, user_factors) = prepared(interactions, user_exponent);
    let by_item = by_user.transpose();
    let matrix = TiledSymmetric::from_lower_rows(by_user.item_count(), |item, values| {
        let users = by_item.row(item);
        for (&user, &weight) in users.items.iter().zip(users.weights) {
            let row = by_user.row(user as usize);
            let strength = weight * user_factors[user as usize];
            // Rows are sorted, so the lower triangle is a prefix.
            let end = row.items.partition_point(|&other| other as usize <= item);
            for (&other, &weight) in row.items[..end].iter().zip(row.weights) {
                values[other as usize] += strength * weight;
            }
        }
    });
    let frequencies = matrix.diagonal();
    (matrix, frequencies)
}

/// `frequency^-exponent`, and 0 for an item that nobody touched.
pub(crate) fn frequency_powers(frequencies: &[f32], exponent: f32) -> Vec<f32> {
    let power = |&frequency: &f32| if frequency > 0.0 { frequency.powf(-exponent) } else { 0.0 };
    frequencies.iter().map(power).collect()
}

fn weights_from_inverse(
    inverse: &TiledSymmetric,
    frequencies: &[f32],
    settings: &EaseSettings,
) -> ItemWeights {
    let item_count = inverse.order();
    let inputs = frequency_powers(frequencies, settings.input_exponent);
    let outputs = frequency_powers(frequencies, settings.output_exponent);
    let factors: Vec<f32> =
        inverse.diagonal().iter().zip(&outputs).map(|(&diagonal, &output)| -output / diagonal).collect();
    let mut builder = settings.layout.builder(item_count);
    let mut rows = Vec::new();
    for block in 0..item_count.div_ceil(TILE) {
        inverse.copy_block_row(block, &mut rows);
        for (local, row) in rows.chunks_exact_mut(item_count).enumerate() {
            let item = block * TILE + local;
            row[item] = 0.0;
            row.iter_mut().zip(&factors).for_each(|(weight, &factor)| *weight *= inputs[item] * factor);
        }
        builder.push_rows(&rows);
    }
    builder.finish()
}

impl ItemToItem for Ease {
    const NAME: &'static str = "ease";

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
    use crate::algorithms::testing::{
        check_contributions, check_threads_agree, random_sets, scores_of, weighted_sets,
    };
    use faer::Mat;
    use faer::linalg::solvers::DenseSolveCore;
    use proptest::prelude::*;

    /// The closed form by a general inverse in double precision, weighted as the settings say.
    fn oracle(interactions: &Interactions, settings: &EaseSettings) -> Vec<f32> {
        let count = interactions.item_count();
        let mut matrix = Mat::<f64>::zeros(count, count);
        for row in interactions.rows() {
            let factor = (row.len().max(1) as f64).powf(-f64::from(settings.user_exponent));
            for (&left, &left_weight) in row.items.iter().zip(row.weights) {
                for (&right, &right_weight) in row.items.iter().zip(row.weights) {
                    matrix[(left as usize, right as usize)] += factor * f64::from(left_weight * right_weight);
                }
            }
        }
        let frequencies: Vec<f64> = (0..count).map(|item| matrix[(item, item)]).collect();
        let present = frequencies.iter().filter(|&&frequency| frequency > 0.0).count().max(1) as f64;
        let mean = frequencies.iter().sum::<f64>() / present;
        for item in 0..count {
            let relative = if frequencies[item] > 0.0 { frequencies[item] / mean } else { 1.0 };
            matrix[(item, item)] += f64::from(settings.l2) * relative.powf(f64::from(settings.l2_exponent));
        }
        let inverse = matrix.partial_piv_lu().inverse();
        let power = |item: usize, exponent: f32| frequencies[item].powf(-f64::from(exponent));
        let mut weights = vec![0.0; count * count];
        for row in 0..count {
            for column in 0..count {
                if row != column && frequencies[row] > 0.0 && frequencies[column] > 0.0 {
                    weights[row * count + column] = (-inverse[(row, column)] / inverse[(column, column)]
                        * power(row, settings.input_exponent)
                        * power(column, settings.output_exponent))
                        as f32;
                }
            }
        }
        weights
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn agrees_with_a_general_inverse(interactions in weighted_sets(), exponent in 0.0_f32..0.8, l2 in 0.5_f32..20.0) {
            let settings = EaseSettings {
                l2, l2_exponent: exponent, user_exponent: 1.0 - exponent, input_exponent: exponent * 0.5,
                output_exponent: 0.3, layout: Layout::Strongest(usize::MAX), ..EaseSettings::default()
            };
            let model = Ease::train(&interactions, &settings).unwrap();
            let expected = oracle(&interactions, &settings);
            let count = interactions.item_count();
            for (entry, &expected) in expected.iter().enumerate() {
                let weight = model.weights.weight((entry / count) as u32, (entry % count) as u32);
                prop_assert!((weight - expected).abs() <= 1e-4 + 1e-3 * expected.abs(), "{weight} for {expected}");
            }
            check_contributions(&model, interactions.row(0), 1e-4);
        }
    }

    #[test]
    fn the_served_layouts_stay_close() {
        let interactions = random_sets(1, 200, 60, 0.2);
        let train = |layout| {
            Ease::train(&interactions, &EaseSettings { layout, l2: 10.0, ..EaseSettings::default() }).unwrap()
        };
        let exact = scores_of(&train(Layout::Strongest(60)), interactions.row(0));
        let rounded = scores_of(&train(Layout::Dense), interactions.row(0));
        assert!(exact.iter().zip(&rounded).all(|(exact, rounded)| (exact - rounded).abs() < 0.03));
        assert_eq!(train(Layout::Automatic).weights, train(Layout::Dense).weights);
    }

    #[test]
    fn tiny_and_empty_data_train() {
        let cases: [&[&[u32]]; 4] = [&[], &[&[]], &[&[0]], &[&[0], &[0], &[]]];
        for rows in cases {
            let item_count = usize::from(rows.iter().any(|row| !row.is_empty()));
            let interactions = Interactions::from_rows(rows, item_count).unwrap();
            let model = Ease::train(&interactions, &EaseSettings::default()).unwrap();
            check_contributions(&model, History { items: &[0], weights: &[1.0], times: &[] }, 0.0);
        }
    }

    #[test]
    fn repeats_count_once() {
        let once = Interactions::from_rows(&[vec![0, 1], vec![1, 2]], 3).unwrap();
        let twice = Interactions::from_rows(&[vec![0, 1, 0], vec![1, 2, 2]], 3).unwrap();
        let train = |interactions| Ease::train(interactions, &EaseSettings::default()).unwrap();
        assert_eq!(train(&once), train(&twice));
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        let interactions = random_sets(1, 9, 9, 0.3);
        let refuse = |settings: EaseSettings| Ease::train(&interactions, &settings).unwrap_err().to_string();
        assert!(refuse(EaseSettings { l2: 0.0, ..EaseSettings::default() }).contains("`l2`"));
        assert!(refuse(EaseSettings { l2: f32::NAN, ..EaseSettings::default() }).contains("`l2`"));
        assert!(
            refuse(EaseSettings { user_exponent: 9.0, ..EaseSettings::default() }).contains("user_exponent")
        );
        assert!(
            refuse(EaseSettings { memory_limit_bytes: 9, ..EaseSettings::default() }).contains("sparse_ease")
        );
    }

    #[test]
    fn threads_do_not_change_the_model() {
        let interactions = random_sets(3, 300, 300, 0.05);
        check_threads_agree(|| Ease::train(&interactions, &EaseSettings::default()).unwrap());
    }
}
