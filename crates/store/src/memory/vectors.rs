//! The fake of the `Vectors` port: every search scores every vector.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use kernel::{Error, Result, Scope, TenantId, codes};
use parking_lot::RwLock;

use crate::{Collection, Match, Metric, VectorFilter, VectorItem, Vectors};

type Items = BTreeMap<String, VectorItem>;

/// Vectors in a map per collection.
#[derive(Debug, Default)]
pub struct MemoryVectors {
    collections: RwLock<HashMap<(TenantId, &'static str), Items>>,
}

impl MemoryVectors {
    /// No vectors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// The score in double precision, rounded once.
#[expect(clippy::cast_possible_truncation, reason = "a score is a single-precision number")]
fn score(metric: Metric, left: &[f32], right: &[f32]) -> f32 {
    let sum = |part: fn(f64, f64) -> f64| -> f64 {
        left.iter().zip(right).map(|(l, r)| part(f64::from(*l), f64::from(*r))).sum()
    };
    match metric {
        Metric::Dot => sum(|l, r| l * r) as f32,
        Metric::Euclidean => -sum(|l, r| (l - r) * (l - r)) as f32,
        Metric::Cosine => {
            let norm = (sum(|l, _| l * l) * sum(|_, r| r * r)).sqrt();
            if norm > 0.0 { (sum(|l, r| l * r) / norm) as f32 } else { 0.0 }
        }
    }
}

fn key_of(scope: &Scope, collection: Collection) -> (TenantId, &'static str) {
    (scope.tenant().clone(), collection.name)
}

#[async_trait]
impl Vectors for MemoryVectors {
    async fn upsert(&self, scope: &Scope, collection: Collection, items: Vec<VectorItem>) -> Result<()> {
        collection.check_items(&items)?;
        let mut collections = self.collections.write();
        let held = collections.entry(key_of(scope, collection)).or_default();
        if held.values().any(|item| item.vector.len() != collection.dimensions) {
            let message = format!("`{}` holds vectors of other dimensions", collection.name);
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("dimensions"));
        }
        held.extend(items.into_iter().map(|item| (item.key.clone(), item)));
        Ok(())
    }

    async fn search(
        &self,
        scope: &Scope,
        collection: Collection,
        query: &[f32],
        count: usize,
        filter: &VectorFilter,
    ) -> Result<Vec<Match>> {
        collection.check(query)?;
        let collections = self.collections.read();
        let Some(items) = collections.get(&key_of(scope, collection)) else { return Ok(Vec::new()) };
        if items.values().any(|item| item.vector.len() != collection.dimensions) {
            let message = format!("`{}` holds vectors of other dimensions", collection.name);
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("dimensions"));
        }
        let passes =
            |item: &&VectorItem| filter.iter().all(|(name, value)| item.tags.get(name) == Some(value));
        let mut found: Vec<Match> = items
            .values()
            .filter(passes)
            .map(|item| Match { key: item.key.clone(), score: score(collection.metric, query, &item.vector) })
            .collect();
        found.sort_by(|l, r| r.score.total_cmp(&l.score).then_with(|| l.key.cmp(&r.key)));
        found.truncate(count);
        Ok(found)
    }

    async fn delete(&self, scope: &Scope, collection: Collection, keys: &[&str]) -> Result<u64> {
        let mut collections = self.collections.write();
        let Some(items) = collections.get_mut(&key_of(scope, collection)) else { return Ok(0) };
        Ok(keys.iter().filter(|key| items.remove(**key).is_some()).count() as u64)
    }

    async fn count(&self, scope: &Scope, collection: Collection) -> Result<u64> {
        let collections = self.collections.read();
        Ok(collections.get(&key_of(scope, collection)).map_or(0, |items| items.len() as u64))
    }
}
