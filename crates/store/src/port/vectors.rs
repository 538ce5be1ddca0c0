//! The `Vectors` port: nearest neighbours under a filter, by tenant and collection.
//!
//! Rules every engine keeps: an upsert is seen by searches after it; a search returns exactly
//! `min(count, matching vectors)` results, best first, ties by key; vectors are finite and of the collection's
//! dimensions; in one upsert the last item of a key wins.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use kernel::{Error, Result, Scope, codes};

/// The most dimensions a collection has.
pub const MAX_DIMENSIONS: usize = 4_096;

/// The largest tag, name and value together, and the longest key, in bytes.
pub(crate) const MAX_TAG_BYTES: usize = 512;

/// How nearness is measured. Scores are always "higher is nearer".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Cosine of the angle, −1 to 1; a zero vector scores 0.
    Cosine,
    /// Inner product.
    Dot,
    /// Minus the squared Euclidean distance.
    Euclidean,
}

/// A set of vectors of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// `a-z 0-9 _`, at most 40 characters.
    pub name: &'static str,
    /// The length of each vector, 1 to 4,096.
    pub dimensions: usize,
    /// How nearness is measured.
    pub metric: Metric,
}

impl Collection {
    /// Checks a vector of this collection.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a wrong length or a value that is not finite, naming its place.
    pub fn check(&self, vector: &[f32]) -> Result<()> {
        if self.dimensions == 0 || self.dimensions > MAX_DIMENSIONS {
            return Err(invalid("dimensions", format!("a collection has 1 to {MAX_DIMENSIONS} dimensions")));
        }
        if vector.len() != self.dimensions {
            let message = format!("`{}` has {} dimensions, not {}", self.name, self.dimensions, vector.len());
            return Err(invalid("vector", message));
        }
        match vector.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(place) => Err(invalid("vector", format!("value {place} is not a finite number"))),
        }
    }

    /// Checks every item of an upsert. Every engine calls it before it writes.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the item.
    pub fn check_items(&self, items: &[VectorItem]) -> Result<()> {
        for item in items {
            if item.key.is_empty() || item.key.len() > MAX_TAG_BYTES {
                return Err(invalid("key", format!("a key has 1 to {MAX_TAG_BYTES} bytes")));
            }
            if item.tags.iter().any(|(name, value)| name.len() + value.len() > MAX_TAG_BYTES) {
                return Err(invalid("tags", format!("a tag has at most {MAX_TAG_BYTES} bytes")));
            }
            self.check(&item.vector).map_err(|error| {
                invalid("vector", format!("item `{}`: {}", item.key.escape_debug(), error.message()))
            })?;
        }
        Ok(())
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

/// A vector with its key and tags.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorItem {
    /// Unique in the collection.
    pub key: String,
    /// As long as the collection's dimensions, finite.
    pub vector: Vec<f32>,
    /// What a filter can ask for.
    pub tags: BTreeMap<String, String>,
}

/// Every pair must be among an item's tags.
pub type VectorFilter = BTreeMap<String, String>;

/// One result.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The item's key.
    pub key: String,
    /// Higher is nearer.
    pub score: f32,
}

/// Nearest neighbours under a filter.
#[async_trait]
pub trait Vectors: Send + Sync + Debug {
    /// Adds or replaces.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for a wrong length, a value that is not finite, or a collection that holds vectors of
    /// other dimensions; then none was written.
    async fn upsert(&self, scope: &Scope, collection: Collection, items: Vec<VectorItem>) -> Result<()>;

    /// The `count` nearest to `query` among the items that pass `filter`.
    async fn search(
        &self,
        scope: &Scope,
        collection: Collection,
        query: &[f32],
        count: usize,
        filter: &VectorFilter,
    ) -> Result<Vec<Match>>;

    /// Removes; returns how many were there.
    async fn delete(&self, scope: &Scope, collection: Collection, keys: &[&str]) -> Result<u64>;

    /// How many vectors the collection holds.
    async fn count(&self, scope: &Scope, collection: Collection) -> Result<u64>;
}
