//! What can be set of content vectors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::AlgorithmError;
use super::super::error::require;

/// How much each family of attributes counts. 0 leaves it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FamilyWeights {
    /// Texts that repeat, such as a brand.
    pub categories: f32,
    /// Lists of tags.
    pub tags: f32,
    /// Texts to be read.
    pub text: f32,
    /// Numbers.
    pub numbers: f32,
    /// Booleans.
    pub booleans: f32,
    /// Embeddings, where there is an embedder.
    pub embedding: f32,
}

impl Default for FamilyWeights {
    fn default() -> Self {
        Self { categories: 1.0, tags: 1.0, text: 0.8, numbers: 0.4, booleans: 0.2, embedding: 1.0 }
    }
}

/// How attributes become vectors, and histories profiles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContentSettings {
    /// Whether rare words count more than common ones (`USE_TFIDF_FOR_TEXT`).
    pub use_tfidf_for_text: bool,
    /// Whether numbers are scaled by their distribution; otherwise between the least and the greatest
    /// (`NORMALIZE_NUMERICAL_FEATURES`).
    pub normalize_numerical_features: bool,
    /// The number of buckets that words are hashed into, 1 to 1,048,576 (`FEATURE_VECTOR_DIMENSION`).
    pub feature_vector_dimension: u32,
    /// The least cosine of similar items, 0 to 1 (`SIMILARITY_THRESHOLD`).
    pub similarity_threshold: f32,
    /// Whether pairs of neighbouring words are words too.
    pub use_bigrams: bool,
    /// By family of attributes; finite and at least 0.
    pub weights: FamilyWeights,
    /// By the name of an attribute, times the weight of its family; finite and at least 0.
    pub attribute_weights: BTreeMap<String, f32>,
    /// How many of the latest interactions make the profile; at least 1.
    pub history_items: usize,
    /// Where times are known, an interaction this much older counts half.
    pub history_half_life_seconds: f64,
    /// Where times are not known, an interaction this many places earlier counts half.
    pub history_half_life_items: f64,
}

impl Default for ContentSettings {
    fn default() -> Self {
        Self {
            use_tfidf_for_text: true,
            normalize_numerical_features: true,
            feature_vector_dimension: 512,
            similarity_threshold: 0.5,
            use_bigrams: false,
            weights: FamilyWeights::default(),
            attribute_weights: BTreeMap::new(),
            history_items: 100,
            history_half_life_seconds: 30.0 * 86_400.0,
            history_half_life_items: 10.0,
        }
    }
}

impl ContentSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] that names the setting.
    pub fn validate(&self) -> Result<(), AlgorithmError> {
        let dimension = self.feature_vector_dimension;
        require((1..=1 << 20).contains(&dimension), "feature_vector_dimension", "1 to 1048576")?;
        require((0.0..=1.0).contains(&self.similarity_threshold), "similarity_threshold", "0 to 1")?;
        require(self.history_items > 0, "history_items", "at least 1")?;
        let is_time = |value: f64| value.is_finite() && value > 0.0;
        require(is_time(self.history_half_life_seconds), "history_half_life_seconds", "above 0")?;
        require(is_time(self.history_half_life_items), "history_half_life_items", "above 0")?;
        let FamilyWeights { categories, tags, text, numbers, booleans, embedding } = self.weights;
        let is_weight = |weight: f32| (0.0..=1e6).contains(&weight);
        let families = [categories, tags, text, numbers, booleans, embedding];
        require(families.into_iter().all(is_weight), "weights", "each 0 to 1000000")?;
        require(
            self.attribute_weights.values().copied().all(is_weight),
            "attribute_weights",
            "each 0 to 1000000",
        )
    }
}
