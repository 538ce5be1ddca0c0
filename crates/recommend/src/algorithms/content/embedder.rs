//! Dense vectors from elsewhere: the trait that this domain asks for, and another plugs in.

use std::fmt::Debug;

use super::super::AlgorithmError;
use super::super::error::require;
use crate::attributes::Attributes;

/// Gives a dense vector for what attributes mean, such as the embedding of a title by a sentence encoder.
///
/// It is asked for the whole catalogue in a training, and for what changed every few seconds while serving: one that asks
/// elsewhere keeps what it was told. The same attributes give the same vector for as long as a model is served; one that
/// gives others needs a training.
pub trait ItemEmbedder: Debug + Send + Sync {
    /// The length of its vectors; at least 1.
    fn dimension(&self) -> usize;

    /// The vector of an entity with these attributes: of length [`ItemEmbedder::dimension`], finite, of any
    /// norm. `None` where there is nothing to embed.
    fn embed(&self, attributes: &Attributes) -> Option<Vec<f32>>;
}

/// Holds an embedder to its promise.
pub(super) fn checked(
    embedder: &dyn ItemEmbedder,
    attributes: &Attributes,
) -> Result<Option<Vec<f32>>, AlgorithmError> {
    let embedding = embedder.embed(attributes);
    if let Some(embedding) = &embedding {
        require(
            embedding.len() == embedder.dimension(),
            "embedder",
            "a vector has the dimension of its embedder",
        )?;
        require(embedding.iter().all(|value| value.is_finite()), "embedder", "a vector is finite")?;
    }
    Ok(embedding)
}
