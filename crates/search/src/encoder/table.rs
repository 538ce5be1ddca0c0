//! A static encoder: one vector for each token, their mean brought to length 1, as model2vec has it. Far quicker than a
//! layered one, and blind to the order of words. Marks of a text's beginning and end and unknown words do not count. Tokens may
//! have a weight, and share rows (model2vec's `weights` and `mapping`); they are laid out here, a row for each token. It refuses
//! a mapping to rows that are not there, and weights of other tokens than it has.

use kernel::Result;

use super::Forward;
use super::files::{ModelFiles, unusable_weights};
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
        let rows = files.tensor_of_rows("embeddings", dimensions)?;
        let mut vectors = if files.has_tensor("mapping") {
            by_token(&rows, dimensions, &files.numbers("mapping")?)?
        } else {
            rows
        };
        if files.has_tensor("weights") {
            let weights = files.tensor("weights", &[vectors.len() / dimensions])?;
            for (vector, weight) in vectors.chunks_exact_mut(dimensions).zip(weights) {
                vector.iter_mut().for_each(|value| *value *= weight);
            }
        }
        Ok(Self { dimensions, vectors })
    }
}

/// The row of each token, one after the other.
fn by_token(rows: &[f32], dimensions: usize, mapping: &[f32]) -> Result<Vec<f32>> {
    let mut vectors = Vec::with_capacity(mapping.len() * dimensions);
    for (token, row) in mapping.iter().enumerate() {
        // What is negative or has a fraction is no place in a table.
        let place = Some(*row as usize).filter(|place| *place as f32 == *row);
        let row = place.and_then(|place| rows.get(place * dimensions..(place + 1) * dimensions));
        let missing = || unusable_weights(format!("`mapping` gives token {token} a row that is not there"));
        vectors.extend_from_slice(row.ok_or_else(missing)?);
    }
    Ok(vectors)
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
