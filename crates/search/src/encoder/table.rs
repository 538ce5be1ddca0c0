//! A static encoder: one vector for each token, their mean brought to length 1, as model2vec has it. Far quicker than a
//! layered one, and blind to the order of words.

use kernel::Result;

use super::Forward;
use super::files::ModelFiles;
use super::kernels::mean_and_normalise;

/// The vectors, by token.
#[derive(Debug)]
pub(super) struct Table {
    dimensions: usize,
    vectors: Vec<f32>,
}

impl Table {
    pub(super) fn new(files: &ModelFiles) -> Result<Self> {
        let dimensions = files.width_of("embeddings")?;
        Ok(Self { dimensions, vectors: files.tensor_of_rows("embeddings", dimensions)? })
    }
}

impl Forward for Table {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn vocabulary(&self) -> usize {
        self.vectors.len() / self.dimensions
    }

    fn forward(&self, texts: &[&[u32]]) -> Vec<f32> {
        let mut vectors = vec![0.0; texts.len() * self.dimensions];
        for (text, vector) in texts.iter().zip(vectors.chunks_exact_mut(self.dimensions)) {
            let rows = text
                .iter()
                .map(|token| &self.vectors[*token as usize * self.dimensions..][..self.dimensions]);
            mean_and_normalise(&rows.collect::<Vec<_>>().concat(), vector);
        }
        vectors
    }
}
