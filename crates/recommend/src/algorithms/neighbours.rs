//! Item-based nearest neighbours: a score is the sum of similarities to the items of the history.
//!
//! Sarwar, Karypis, Konstan, Riedl: "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001; the
//! weightings are those of text retrieval (Robertson, Zaragoza: "The Probabilistic Relevance Framework: BM25 and
//! Beyond", 2009), with items as documents and users as terms. Shrinkage is that of Ferrari Dacrema, Cremonesi,
//! Jannach: "Are We Really Making Much Progress?", RecSys 2019.
//!
//! Refuses: negative weights in training (an interaction that repels is for the ranker, not for a cosine).

use super::error::{AlgorithmError, require};
use super::interactions::{History, Interactions, Merge};
use super::item_weights::{ItemToItem, ItemWeights};
use super::sparse_product::strongest_products;
use serde::{Deserialize, Serialize};

/// How an interaction counts towards the similarity of two items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// Its weight; the product is divided by the norms of both items.
    Cosine,
    /// The root of its weight times `ln(items / (1 + items of the user))`, then as cosine.
    TfIdf,
    /// The saturated weight of BM25 times the same logarithm; the product is not divided.
    Bm25 {
        /// Saturation; non-negative. Larger lets strong weights count more.
        k1: f32,
        /// How far popular items are discounted, from 0 to 1.
        b: f32,
    },
}

/// How to train [`Neighbours`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NeighboursSettings {
    /// Weighting of interactions.
    pub weighting: Weighting,
    /// Neighbours kept per item.
    pub neighbour_count: usize,
    /// Added to the product of norms, so that similarity from little evidence is small. Not used by BM25.
    pub shrinkage: f32,
    /// A history item `age` places from the end counts `age^-age_exponent`; the last has age 1. 0 where the order of a
    /// history says nothing.
    pub age_exponent: f32,
}

impl Default for NeighboursSettings {
    fn default() -> Self {
        Self {
            weighting: Weighting::Bm25 { k1: 1.2, b: 0.75 },
            neighbour_count: 100,
            shrinkage: 0.0,
            age_exponent: 0.0,
        }
    }
}

impl NeighboursSettings {
    /// # Errors
    /// [`AlgorithmError::Setting`] naming the field that is out of range.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        require(self.neighbour_count > 0, "neighbour_count", "must be positive")?;
        require(
            self.shrinkage >= 0.0 && self.shrinkage.is_finite(),
            "shrinkage",
            "must be finite, 0 or more",
        )?;
        require((0.0..=4.0).contains(&self.age_exponent), "age_exponent", "must be from 0 to 4")?;
        if let Weighting::Bm25 { k1, b } = self.weighting {
            require(k1 >= 0.0 && k1.is_finite(), "k1", "must be finite, 0 or more")?;
            require((0.0..=1.0).contains(&b), "b", "must be from 0 to 1")?;
        }
        Ok(())
    }
}

/// A trained model: similarities of the nearest neighbours of each item, symmetric before they are cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Similarities: row = item in the history, column = neighbour.
    pub similarities: ItemWeights,
    /// How history items fade by age.
    pub age_exponent: f32,
}

impl Neighbours {
    /// Trains on `interactions`; repeated entries of a user and item are summed.
    ///
    /// # Errors
    /// Settings out of range, or a negative weight.
    pub fn train(interactions: &Interactions, settings: &NeighboursSettings) -> Result<Self, AlgorithmError> {
        settings.validate()?;
        if let Some(entry) = interactions.weights().iter().position(|&weight| weight < 0.0) {
            let weight = interactions.weights()[entry];
            return Err(AlgorithmError::Interactions(format!(
                "entry {entry} has the weight {weight}; neighbours take weights of 0 or more"
            )));
        }
        let weighted = weighted(interactions, settings.weighting);
        let by_item = weighted.transpose();
        let norm = |row: History<'_>| row.weights.iter().map(|weight| weight * weight).sum::<f32>().sqrt();
        let norms: Vec<f32> = by_item.rows().map(norm).collect();
        let rescale = |item: u32, other: u32, product: f32| match settings.weighting {
            Weighting::Bm25 { .. } => product,
            _ => product / (norms[item as usize] * norms[other as usize] + settings.shrinkage),
        };
        let rows = strongest_products(&by_item, &weighted, settings.neighbour_count, rescale);
        Ok(Self { similarities: ItemWeights::from_rows(rows), age_exponent: settings.age_exponent })
    }
}

/// The interactions, once per user and item, with their weights replaced.
fn weighted(interactions: &Interactions, weighting: Weighting) -> Interactions {
    let merged = interactions.deduplicated(Merge::Sum);
    let item_count = merged.item_count() as f32;
    let item_sums = super::popularity::Popularity::train(&merged).scores;
    let mean_sum = item_sums.iter().sum::<f32>() / item_sums.len().max(1) as f32;
    let rarity = |row: &History<'_>| (item_count / (1.0 + row.len() as f32)).ln().max(0.0);
    merged.map_weights(|row, entry| {
        let weight = row.weights[entry];
        match weighting {
            Weighting::Cosine => weight,
            Weighting::TfIdf => weight.sqrt() * rarity(row),
            Weighting::Bm25 { k1, b } => {
                let length = 1.0 - b + b * item_sums[row.items[entry] as usize] / mean_sum;
                let scale = k1 * length + weight;
                if scale > 0.0 { weight * (k1 + 1.0) / scale * rarity(row) } else { 0.0 }
            }
        }
    })
}

impl ItemToItem for Neighbours {
    const NAME: &'static str = "neighbours";

    fn weights(&self) -> &ItemWeights {
        &self.similarities
    }

    fn age_exponent(&self) -> f32 {
        self.age_exponent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::testing::{check_contributions, check_threads_agree, random_sets, weighted_sets};
    use proptest::prelude::*;

    /// The similarity of two items, straight from the definitions.
    fn oracle(interactions: &Interactions, settings: &NeighboursSettings, left: u32, right: u32) -> f32 {
        let item_sum = |item: u32| -> f32 {
            let entries = interactions.items().iter().zip(interactions.weights());
            entries.filter(|&(&other, _)| other == item).map(|(_, weight)| weight).sum()
        };
        let mean = interactions.weights().iter().sum::<f32>() / interactions.item_count() as f32;
        let column = |item: u32| -> Vec<f32> {
            let entry = |row: History<'_>| {
                let Some(entry) = row.items.iter().position(|&other| other == item) else { return 0.0 };
                let (weight, documents) = (row.weights[entry], interactions.item_count() as f32);
                let rarity = (documents.ln() - (1.0 + row.len() as f32).ln()).max(0.0);
                match settings.weighting {
                    Weighting::Cosine => weight,
                    Weighting::TfIdf => weight.sqrt() * rarity,
                    Weighting::Bm25 { k1, b } => {
                        weight * (k1 + 1.0) / (k1 * (1.0 - b + b * item_sum(item) / mean) + weight) * rarity
                    }
                }
            };
            interactions.rows().map(entry).collect()
        };
        let (left, right) = (column(left), column(right));
        let product = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f32>();
        let dot = product(&left, &right);
        if dot == 0.0 || matches!(settings.weighting, Weighting::Bm25 { .. }) {
            return dot;
        }
        dot / (product(&left, &left).sqrt() * product(&right, &right).sqrt() + settings.shrinkage)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn agrees_with_the_definitions(interactions in weighted_sets(), shrinkage in 0.0_f32..3.0) {
            for weighting in [Weighting::Cosine, Weighting::TfIdf, Weighting::Bm25 { k1: 1.5, b: 0.6 }] {
                let settings = NeighboursSettings { weighting, neighbour_count: 99, shrinkage, age_exponent: 0.4 };
                let model = Neighbours::train(&interactions, &settings).unwrap();
                for left in 0..interactions.item_count() as u32 {
                    for right in 0..interactions.item_count() as u32 {
                        let expected =
                            if left == right { 0.0 } else { oracle(&interactions, &settings, left, right) };
                        let similarity = model.similarities.weight(left, right);
                        prop_assert!((similarity - expected).abs() < 1e-4 * expected.max(1.0));
                    }
                }
                check_contributions(&model, interactions.row(0), 1e-5);
            }
        }
    }

    #[test]
    fn settings_and_weights_out_of_range_are_refused() {
        let sets = random_sets(1, 5, 5, 0.5);
        let cases = [
            NeighboursSettings { neighbour_count: 0, ..NeighboursSettings::default() },
            NeighboursSettings { shrinkage: -1.0, ..NeighboursSettings::default() },
            NeighboursSettings { weighting: Weighting::Bm25 { k1: f32::NAN, b: 0.5 }, ..Default::default() },
            NeighboursSettings { weighting: Weighting::Bm25 { k1: 1.0, b: 1.5 }, ..Default::default() },
        ];
        for settings in cases {
            assert!(matches!(Neighbours::train(&sets, &settings), Err(AlgorithmError::Setting { .. })));
        }
        let negative = Interactions::new(vec![0, 1], vec![0], vec![-1.0], vec![], 1).unwrap();
        assert!(Neighbours::train(&negative, &NeighboursSettings::default()).is_err());
    }

    #[test]
    fn tiny_and_empty_data_train() {
        for rows in [vec![], vec![vec![]], vec![vec![0]]] {
            let interactions = Interactions::from_rows(&rows, rows.len()).unwrap();
            Neighbours::train(&interactions, &NeighboursSettings::default()).unwrap();
        }
    }

    #[test]
    fn threads_do_not_change_the_model() {
        let sets = random_sets(2, 100, 60, 0.2);
        check_threads_agree(|| Neighbours::train(&sets, &NeighboursSettings::default()).unwrap());
    }
}
