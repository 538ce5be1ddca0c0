//! Dense vectors from elsewhere: the trait that this domain asks for, and another plugs in.

use std::fmt::Debug;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::super::AlgorithmError;
use super::super::error::require;
use crate::attributes::Attributes;

/// Entities that an embedder is asked about at once; between two such calls it can be stopped.
pub(crate) const EMBEDDED_AT_ONCE: usize = 64;

/// Gives a dense vector for what attributes mean, such as the embedding of a title by a sentence encoder.
///
/// It is asked for the whole catalogue in a training, and for what changed every few seconds while serving: one that asks
/// elsewhere keeps what it was told. The same attributes give the same vector for as long as its version is the same; one that
/// gives others needs a training.
pub trait ItemEmbedder: Debug + Send + Sync {
    /// The length of its vectors; at least 1.
    fn dimension(&self) -> usize;

    /// What tells its vectors from those of another. A model remembers which it was trained with, and takes no others.
    fn version(&self) -> &str;

    /// The vector of an entity with these attributes: of length [`ItemEmbedder::dimension`], finite, of any
    /// norm. `None` where there is nothing to embed.
    fn embed(&self, attributes: &Attributes) -> Option<Vec<f32>>;

    /// The same for some at once, in their order; one that is quicker at many has its own way. None where nobody waits for it any
    /// more.
    fn embed_each(&self, some: &[&Attributes]) -> Option<Vec<Option<Vec<f32>>>> {
        Some(some.iter().map(|attributes| self.embed(attributes)).collect())
    }
}

/// An embedder that gives up when it is told to.
#[derive(Debug, Clone)]
pub struct Stoppable {
    embedder: Arc<dyn ItemEmbedder>,
    stop: CancellationToken,
}

impl Stoppable {
    /// Asks `embedder` until `stop` is cancelled.
    #[must_use]
    pub fn new(embedder: Arc<dyn ItemEmbedder>, stop: CancellationToken) -> Self {
        Self { embedder, stop }
    }
}

impl ItemEmbedder for Stoppable {
    fn dimension(&self) -> usize {
        self.embedder.dimension()
    }

    fn version(&self) -> &str {
        self.embedder.version()
    }

    fn embed(&self, attributes: &Attributes) -> Option<Vec<f32>> {
        self.embedder.embed(attributes)
    }

    fn embed_each(&self, some: &[&Attributes]) -> Option<Vec<Option<Vec<f32>>>> {
        if self.stop.is_cancelled() { None } else { self.embedder.embed_each(some) }
    }
}

/// Holds an embedder to its promise.
pub(super) fn checked(
    embedder: &dyn ItemEmbedder,
    some: &[&Attributes],
) -> Result<Vec<Option<Vec<f32>>>, AlgorithmError> {
    let embeddings = embedder.embed_each(some).ok_or(AlgorithmError::Stopped)?;
    require(embeddings.len() == some.len(), "embedder", "there is an answer for each entity")?;
    for embedding in embeddings.iter().flatten() {
        require(
            embedding.len() == embedder.dimension(),
            "embedder",
            "a vector has the dimension of its embedder",
        )?;
        require(embedding.iter().all(|value| value.is_finite()), "embedder", "a vector is finite")?;
    }
    Ok(embeddings)
}
