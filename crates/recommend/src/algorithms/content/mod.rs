//! Content-based recommendation: entities are alike when their attributes are (Lops, de Gemmis and Semeraro
//! 2011, "Content-based recommender systems"; TF-IDF and cosine as in Salton and Buckley 1988).
//!
//! ```text
//! ContentModel::fit(catalogue)      learns the scales, the rarities and a vector for each item
//! vector(attributes)                of anything, also of what came after the fit
//! insert(item, vector)              a new item is recommended at once
//! similar(vector, count)            exact cosine over an inverted index
//! score(history)                    as a [`Recommender`]: the mean of the history's vectors, recent ones first
//! explain(attributes, attributes)   which attributes made two items alike, adding up to the cosine
//! ```
//!
//! Refuses: nested attributes, and meaning that is not in the attributes: for that an [`ItemEmbedder`] gives
//! a dense vector. To add one more kind of attribute: its statistics and parts in `encoder`.

mod dates;
mod embedder;
mod encoder;
mod explain;
mod index;
mod numbers;
mod settings;
#[cfg(test)]
mod tests;
mod text;
mod vector;

use serde::{Deserialize, Serialize};

use super::topk::{Scored, top_k_into};
use super::{AlgorithmError, History, Recommender, Scratch};
use crate::attributes::Attributes;
use encoder::Encoder;
use index::Index;

pub(crate) use embedder::EMBEDDED_AT_ONCE;
pub use embedder::{ItemEmbedder, Stoppable};
pub use explain::AttributeMatch;
pub use settings::{ContentSettings, FamilyWeights};
pub use vector::ContentVector;

/// A catalogue as vectors, with an index over them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct ContentModel {
    encoder: Encoder,
    vectors: Vec<ContentVector>,
    #[serde(skip)]
    index: Index,
    /// The length of the embeddings; 0 where there are none.
    #[serde(skip)]
    dimension: usize,
}

/// The index is made again when a model is read.
#[derive(Deserialize)]
struct Stored {
    encoder: Encoder,
    vectors: Vec<ContentVector>,
}

impl From<Stored> for ContentModel {
    fn from(stored: Stored) -> Self {
        Self::over(stored.encoder, stored.vectors)
    }
}

impl ContentModel {
    /// Learns from `catalogue`, item by item; an item without attributes is like nothing.
    ///
    /// # Errors
    /// [`AlgorithmError::Setting`] for a setting out of its range, or an embedding that is not what its
    /// embedder promised; [`AlgorithmError::Stopped`] where the embedder gave up.
    pub fn fit(
        catalogue: &[Attributes],
        embedder: Option<&dyn ItemEmbedder>,
        settings: ContentSettings,
    ) -> Result<Self, AlgorithmError> {
        settings.validate()?;
        let encoder = Encoder::fit(catalogue, settings);
        let mut vectors = Vec::with_capacity(catalogue.len());
        for some in catalogue.chunks(EMBEDDED_AT_ONCE) {
            vectors.extend(encode(&encoder, &some.iter().collect::<Vec<_>>(), embedder)?);
        }
        Ok(Self::over(encoder, vectors))
    }

    fn over(encoder: Encoder, vectors: Vec<ContentVector>) -> Self {
        let index = Index::new(&vectors, encoder.features());
        let dimension = vectors.iter().map(|vector| vector.embedding().len()).max().unwrap_or(0);
        Self { encoder, vectors, index, dimension }
    }

    /// The length of the embeddings; 0 where no item has one.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The settings of the fit.
    #[must_use]
    pub fn settings(&self) -> &ContentSettings {
        self.encoder.settings()
    }

    /// The vector of any entity. What the catalogue did not know is left out.
    ///
    /// # Errors
    /// As [`ContentModel::fit`], of the embedding.
    pub fn vector(
        &self,
        attributes: &Attributes,
        embedder: Option<&dyn ItemEmbedder>,
    ) -> Result<ContentVector, AlgorithmError> {
        Ok(encode(&self.encoder, &[attributes], embedder)?.pop().unwrap_or_default())
    }

    /// The vectors of some, in their order.
    ///
    /// # Errors
    /// As [`ContentModel::vector`], of the first that has one.
    pub fn vectors(
        &self,
        some: &[&Attributes],
        embedder: Option<&dyn ItemEmbedder>,
    ) -> Result<Vec<ContentVector>, AlgorithmError> {
        encode(&self.encoder, some, embedder)
    }

    /// The vector of an item of the model.
    #[must_use]
    pub fn item_vector(&self, item: u32) -> Option<&ContentVector> {
        self.vectors.get(item as usize)
    }

    /// Puts an item in, in place of what it was; the scales and rarities stay as they were learned. An item
    /// past the end makes the model longer, with items between that are like nothing.
    pub fn insert(&mut self, item: u32, vector: ContentVector) {
        let at = item as usize;
        if at >= self.vectors.len() {
            self.vectors.resize_with(at + 1, ContentVector::default);
        }
        self.index.replace(item, &self.vectors[at], &vector);
        self.dimension = self.dimension.max(vector.embedding().len());
        self.vectors[at] = vector;
    }

    /// Takes an item out: it is like nothing from here on, and other items keep their places.
    pub fn remove(&mut self, item: u32) {
        if (item as usize) < self.vectors.len() {
            self.insert(item, ContentVector::default());
        }
    }

    /// The `count` items most like `vector`, best first, by exact cosine, that are not excluded and reach
    /// [`ContentSettings::similarity_threshold`].
    #[must_use]
    pub fn similar(
        &self,
        vector: &ContentVector,
        count: usize,
        is_excluded: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Vec<Scored> {
        let mut scores = scratch.floats(self.vectors.len());
        self.index.add_scores(vector.entries(), &mut scores);
        self.add_dense(vector.embedding(), &mut scores);
        // What has nothing in common is not similar, even where the threshold is 0.
        let threshold = self.settings().similarity_threshold.max(f32::MIN_POSITIVE);
        let mut selected = Vec::new();
        top_k_into(&scores, is_excluded, count, &mut selected);
        selected.retain(|scored| scored.score >= threshold);
        scratch.give_back(scores);
        selected
    }

    /// The cosine of two items; 0 for an item the model does not know.
    #[must_use]
    pub fn similarity(&self, one: u32, two: u32) -> f32 {
        self.item_vector(one)
            .zip(self.item_vector(two))
            .map_or(0.0, |(one, two)| one.dot(two).clamp(0.0, 1.0))
    }

    fn add_dense(&self, embedding: &[f32], scores: &mut [f32]) {
        if embedding.is_empty() {
            return;
        }
        for (vector, score) in self.vectors.iter().zip(scores) {
            *score += vector::dense_dot(vector.embedding(), embedding);
        }
    }

    /// The share of each history entry in the mean: its weight, halved with age, over the sum of their sizes.
    fn shares(&self, history: History<'_>) -> Vec<(usize, f32)> {
        let settings = self.settings();
        let first = history.len().saturating_sub(settings.history_items);
        let last_time = history.times.last().copied().unwrap_or(0);
        let mut shares: Vec<(usize, f32)> = (first..history.len())
            .filter(|&entry| {
                self.vectors.get(history.items[entry] as usize).is_some_and(|vector| !vector.is_empty())
            })
            .map(|entry| {
                let half_lives = match history.times.get(entry) {
                    Some(time) => (last_time - time) as f64 / 1_000.0 / settings.history_half_life_seconds,
                    None => (history.len() - 1 - entry) as f64 / settings.history_half_life_items,
                };
                (entry, history.weights[entry] * (-half_lives).exp2() as f32)
            })
            .collect();
        let total: f32 = shares.iter().map(|share| share.1.abs()).sum();
        shares.retain(|share| share.1 != 0.0);
        shares.iter_mut().for_each(|share| share.1 /= total);
        shares
    }
}

impl Recommender for ContentModel {
    fn name(&self) -> &'static str {
        "content_based"
    }

    fn item_count(&self) -> usize {
        self.vectors.len()
    }

    fn score(&self, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]) {
        assert_eq!(scores.len(), self.vectors.len(), "one score for each item");
        scores.fill(0.0);
        let mut features = scratch.floats(self.index.features());
        let mut embedding = scratch.floats(self.dimension);
        for (entry, share) in self.shares(history) {
            let vector = &self.vectors[history.items[entry] as usize];
            vector
                .entries()
                .iter()
                .for_each(|&(feature, weight)| features[feature as usize] += share * weight);
            embedding.iter_mut().zip(vector.embedding()).for_each(|(sum, value)| *sum += share * value);
        }
        let profile = features.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
        for (feature, &weight) in profile {
            self.index.add_feature(feature as u32, weight, scores);
        }
        if embedding.iter().any(|value| *value != 0.0) {
            self.add_dense(&embedding, scores);
        }
        scratch.give_back(features);
        scratch.give_back(embedding);
    }

    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)> {
        let Some(vector) = self.item_vector(item) else { return Vec::new() };
        let shares = self.shares(history).into_iter();
        let contributions = shares
            .map(|(entry, share)| (entry, share * self.vectors[history.items[entry] as usize].dot(vector)));
        contributions.filter(|contribution| contribution.1 != 0.0).collect()
    }
}

fn encode(
    encoder: &Encoder,
    some: &[&Attributes],
    embedder: Option<&dyn ItemEmbedder>,
) -> Result<Vec<ContentVector>, AlgorithmError> {
    let embeddings = match embedder {
        Some(embedder) => embedder::checked(embedder, some)?,
        None => vec![None; some.len()],
    };
    let both = some.iter().zip(&embeddings);
    Ok(both.map(|(attributes, embedding)| encoder.vector(attributes, embedding.as_deref())).collect())
}
