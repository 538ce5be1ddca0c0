//! A static encoder: one vector for each token, their mean brought to length 1, as model2vec has it. Far quicker than a
//! layered one, and blind to the order of words. Marks of a text's beginning and end and unknown words do not count. It
//! refuses tables that weight their tokens or share rows among them, as quantised ones do.

use kernel::{Error, Result, codes};

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
        if let Some(name) = ["weights", "mapping"].into_iter().find(|name| files.has_tensor(name)) {
            let message = format!(
                "the table has `{name}`, which is not understood; save it without vocabulary quantisation"
            );
            return Err(Error::new(codes::VALIDATION_ERROR, message));
        }
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

    fn takes_special_tokens(&self) -> bool {
        false
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
