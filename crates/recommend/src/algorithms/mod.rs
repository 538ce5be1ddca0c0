//! Recommendation algorithms: pure functions and plain structs over interactions, each named with its paper.
//!
//! Refuses: input or output, clocks, global randomness, `async`, tenants. Identifiers here are dense `u32` item
//! and user indices; whoever calls keeps the table of names.
//!
//! To add one more: write a file with a serialisable struct, a `Settings` struct with a `Default` and a `validate`,
//! a `train` function, implement [`Recommender`], and test it against a brute-force oracle.

pub mod als;
mod als_solver;
pub mod blend;
pub mod content;
pub mod diversity;
pub mod ease;
pub mod error;
pub mod graph_filter;
pub mod interactions;
pub mod item_weights;
pub mod neighbours;
pub mod popularity;
pub mod randomised_svd;
pub mod sequence;
mod simd;
pub mod sparse_ease;
mod sparse_product;
pub mod symmetric_inverse;
#[cfg(test)]
mod testing;
pub mod topk;
pub mod transitions;
pub mod user_neighbours;

pub use error::AlgorithmError;
pub use interactions::{History, Interactions};

/// Working memory that is reused between requests, so that scoring does not allocate once warm.
#[derive(Debug, Default)]
pub struct Scratch {
    floats: Vec<Vec<f32>>,
}

impl Scratch {
    /// Hands out a buffer of `len` zeros. Return it with [`Scratch::give_back`] to keep its memory.
    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        let mut buffer = self.floats.pop().unwrap_or_default();
        buffer.clear();
        buffer.resize(len, 0.0);
        buffer
    }

    /// Takes a buffer back, whatever its length.
    pub fn give_back(&mut self, buffer: Vec<f32>) {
        self.floats.push(buffer);
    }
}

/// A trained model that scores every item for one user.
pub trait Recommender: Send + Sync {
    /// The name used in settings, tables and answers.
    fn name(&self) -> &'static str;

    /// The number of items; also the length that `scores` must have.
    fn item_count(&self) -> usize;

    /// Scores every item for a user with this history; higher is better. Writes all of `scores` and allocates
    /// nothing beyond `scratch`. History items that the model does not know (`>= item_count`) add nothing.
    ///
    /// # Panics
    /// If `scores.len() != self.item_count()`.
    fn score(&self, history: History<'_>, scratch: &mut Scratch, scores: &mut [f32]);

    /// The contribution of each history entry to the score of `item`, as `(index in history, contribution)`, in
    /// history order. The contributions sum to the score. Entries that contribute exactly nothing are left out.
    /// Empty where the score does not depend on the history.
    fn contributions(&self, history: History<'_>, item: u32) -> Vec<(usize, f32)>;

    /// As [`Recommender::contributions`], for each of `items`; cheaper where they share work.
    fn contributions_to(&self, history: History<'_>, items: &[u32]) -> Vec<Vec<(usize, f32)>> {
        items.iter().map(|item| self.contributions(history, *item)).collect()
    }
}
