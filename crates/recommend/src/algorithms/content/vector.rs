//! A vector of length 1: a sparse part from attributes and a dense part from an embedding.

use serde::{Deserialize, Serialize};

/// What an entity is like. The dot product of two is their cosine, from -1 to 1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContentVector {
    /// Feature and weight, by feature.
    entries: Vec<(u32, f32)>,
    /// Empty where there is no embedding.
    embedding: Vec<f32>,
}

impl ContentVector {
    /// Adds up entries of the same feature, and gives the whole the length 1; one that is all 0 stays so.
    pub(super) fn new(
        mut entries: Vec<(u32, f32)>,
        embedding: Option<&[f32]>,
        embedding_weight: f32,
    ) -> Self {
        entries.sort_by_key(|entry| entry.0);
        entries.dedup_by(|later, first| {
            let is_same = later.0 == first.0;
            if is_same {
                first.1 += later.1;
            }
            is_same
        });
        entries.retain(|entry| entry.1 != 0.0);
        let mut embedding = embedding.map(<[f32]>::to_vec).unwrap_or_default();
        let length = length(embedding.iter().copied());
        if length > 0.0 && embedding_weight > 0.0 {
            embedding.iter_mut().for_each(|value| *value *= embedding_weight / length);
        } else {
            embedding.clear();
        }
        let mut vector = Self { entries, embedding };
        let length = vector.length();
        if length > 0.0 {
            vector.entries.iter_mut().for_each(|entry| entry.1 /= length);
            vector.embedding.iter_mut().for_each(|value| *value /= length);
        }
        vector
    }

    fn length(&self) -> f32 {
        length(self.entries.iter().map(|entry| entry.1).chain(self.embedding.iter().copied()))
    }

    /// The sparse part: feature and weight, by feature.
    #[must_use]
    pub fn entries(&self) -> &[(u32, f32)] {
        &self.entries
    }

    /// The dense part; empty where there is no embedding.
    #[must_use]
    pub fn embedding(&self) -> &[f32] {
        &self.embedding
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.embedding.is_empty()
    }

    /// The cosine; 0 where nothing is known of one of them.
    #[must_use]
    pub fn dot(&self, other: &Self) -> f32 {
        let (mut a, mut b) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        let mut sum = 0.0;
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            match x.0.cmp(&y.0) {
                std::cmp::Ordering::Less => drop(a.next()),
                std::cmp::Ordering::Greater => drop(b.next()),
                std::cmp::Ordering::Equal => {
                    sum += x.1 * y.1;
                    a.next();
                    b.next();
                }
            }
        }
        sum + dense_dot(&self.embedding, &other.embedding)
    }
}

/// 0 where one of them is empty.
pub(super) fn dense_dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

// In 64 bits, as the squares of large weights leave the range of 32.
fn length(values: impl Iterator<Item = f32>) -> f32 {
    values.map(|value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}
