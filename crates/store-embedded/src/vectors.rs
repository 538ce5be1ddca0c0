//! The `Vectors` port. A collection is read into memory when it is first used, and written through.
//!
//! Up to `exact_search_vectors`, and where few pass a filter, every vector that passes is scored: those answers are exact.
//! Larger collections get a graph of near neighbours (`graph.rs`) over vectors rounded to eight bits (`coding.rs`), and what
//! it finds is scored again by the numbers. One thread builds it in the background (`indexer.rs`) and searches score what it
//! has not reached, so that a write is seen at once and waits for no graph. There are never fewer results than there are
//! matches; only the choice among near equals of many is approximate.
//!
//! The graph is not stored: after a restart it is built again from the vectors, and searches are exact meanwhile. It is the
//! same for the same vectors in the same order, on any machine; what a search finds may differ while it is being built.
//! Memory for each vector: 4 bytes a dimension, its key and tags and about 100 bytes; in a graph another byte a dimension
//! (four where eight bits are too few) and about 140 bytes. Deleted vectors keep theirs until they are a fifth of a graph;
//! memory of a collection is used again by it, and given back at a restart.

mod beam;
mod coding;
mod flat;
mod graph;
mod indexer;
mod score;
mod search;
mod tags;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use fjall::Slice;
use kernel::{Error, Result, Scope, TenantId, codes};
use parking_lot::RwLock;
use store::{Collection, Match, VectorFilter, VectorItem, Vectors};
use tokio::sync::oneshot;

use crate::engine::{Space, Tables, failure};
use crate::keys::Key;
use crate::vectors::flat::Flat;
use crate::vectors::indexer::{Indexer, Slot};
use crate::vectors::search::Question;
use crate::writer::{Group, Job, Watcher, Writer};

// Above this many numbers, a search goes to a thread that may block.
const INLINE_NUMBERS: usize = 1 << 18;

type Loaded = Arc<Slot>;

/// The collections that were used.
#[derive(Debug, Default)]
struct Collections(RwLock<HashMap<(TenantId, &'static str), Loaded>>);

impl Collections {
    fn slot(&self, scope: &Scope, collection: Collection) -> Loaded {
        let key = (scope.tenant().clone(), collection.name);
        if let Some(slot) = self.0.read().get(&key) {
            return Arc::clone(slot);
        }
        Arc::clone(self.0.write().entry(key).or_default())
    }
}

impl Watcher for Collections {
    // A commit that failed may be on disk whole after all, so everything is read again when it is asked for.
    fn reopened(&self, _tables: &Tables) -> Result<()> {
        self.0.read().values().for_each(|slot| *slot.flat.write() = None);
        Ok(())
    }
}

fn not_loaded() -> Error {
    Error::new(codes::UNAVAILABLE, "the store was opened again meanwhile; try again")
}

/// The vectors of one folder.
#[derive(Debug)]
pub(crate) struct EmbeddedVectors {
    writer: Arc<Writer>,
    collections: Arc<Collections>,
    indexer: Arc<Indexer>,
}

impl EmbeddedVectors {
    pub(crate) fn new(writer: Arc<Writer>) -> Self {
        let collections = Arc::<Collections>::default();
        writer.watch(Arc::clone(&collections) as Arc<_>);
        Self { writer, collections, indexer: Arc::default() }
    }

    /// How many vectors of large collections are not in their index yet.
    pub(crate) fn waiting(&self) -> usize {
        let collections = self.collections.0.read();
        collections.values().filter_map(|slot| slot.flat.read().as_ref().map(Flat::waiting)).sum()
    }

    /// The collection, read from disk on its first use.
    async fn loaded(&self, scope: &Scope, collection: Collection) -> Result<Loaded> {
        let slot = self.collections.slot(scope, collection);
        if slot.flat.read().is_some() {
            return Ok(slot);
        }
        let tables = self.writer.engine().tables()?;
        let prefix = collection_key(scope, collection);
        let exact =
            usize::try_from(self.writer.engine().options().exact_search_vectors).unwrap_or(usize::MAX);
        let indexer = Arc::clone(&self.indexer);
        let load = move || {
            // Locked before it is read: a write that is committed meanwhile is put on top after.
            let mut guard = slot.flat.write();
            if guard.is_none() {
                let mut flat = Flat::new(collection.metric, exact);
                for entry in tables.space(Space::Vectors).prefix(prefix.bytes()) {
                    let (place, value) = entry
                        .into_inner()
                        .map_err(|cause| failure("a stored vector cannot be read", cause))?;
                    flat.upsert(decode(&place[prefix.bytes().len()..], &value)?)?;
                }
                *guard = Some(flat);
            }
            drop(guard);
            indexer.wake(&slot);
            Ok(slot)
        };
        tokio::task::spawn_blocking(load).await.map_err(Error::internal)?
    }
}

fn collection_key(scope: &Scope, collection: Collection) -> Key {
    Key::of(scope).name(collection.name)
}

/// Dimensions (4 bytes), the numbers (4 bytes each), the tags as JSON.
fn encode(item: &VectorItem) -> Result<Slice> {
    let dimensions = u32::try_from(item.vector.len()).map_err(Error::internal)?;
    let mut bytes = dimensions.to_le_bytes().to_vec();
    bytes.extend(item.vector.iter().flat_map(|value| value.to_le_bytes()));
    serde_json::to_writer(&mut bytes, &item.tags).map_err(Error::internal)?;
    Ok(bytes.into())
}

fn decode(key: &[u8], bytes: &[u8]) -> Result<VectorItem> {
    let damaged = || Error::new(codes::CORRUPTED, "a stored vector is damaged");
    let key = String::from_utf8(key.to_vec()).map_err(|_| damaged())?;
    let (dimensions, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let dimensions = u32::from_le_bytes(*dimensions) as usize;
    let (numbers, tags) = rest.split_at_checked(dimensions.saturating_mul(4)).ok_or_else(damaged)?;
    let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let vector = numbers.chunks_exact(4).map(number).collect();
    let tags: BTreeMap<String, String> = serde_json::from_slice(tags).map_err(|_| damaged())?;
    Ok(VectorItem { key, vector, tags })
}

#[async_trait]
impl Vectors for EmbeddedVectors {
    async fn upsert(&self, scope: &Scope, collection: Collection, items: Vec<VectorItem>) -> Result<()> {
        collection.check_items(&items)?;
        let slot = self.loaded(scope, collection).await?;
        let encoded = items.iter().map(encode).collect::<Result<_>>()?;
        let prefix = collection_key(scope, collection);
        let (answer, answered) = oneshot::channel();
        let indexer = Arc::clone(&self.indexer);
        let job = UpsertJob { slot, indexer, collection, prefix, items, encoded, claimed: false, answer };
        self.writer.run(Box::new(job), answered).await
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
        let slot = self.loaded(scope, collection).await?;
        let search = move |slot: &Slot, query: &[f32], filter: &VectorFilter, most_rows| {
            let guard = slot.flat.read();
            let flat = guard.as_ref().ok_or_else(not_loaded)?;
            flat.check_dimensions(collection)?;
            Ok(flat.search(&Question { metric: collection.metric, query, count, filter }, most_rows))
        };
        if let Some(found) = search(&slot, query, filter, INLINE_NUMBERS / collection.dimensions)? {
            return Ok(found);
        }
        let (query, filter) = (query.to_vec(), filter.clone());
        let blocking = move || search(&slot, &query, &filter, usize::MAX).map(Option::unwrap_or_default);
        tokio::task::spawn_blocking(blocking).await.map_err(Error::internal)?
    }

    async fn delete(&self, scope: &Scope, collection: Collection, keys: &[&str]) -> Result<u64> {
        let slot = self.loaded(scope, collection).await?;
        let prefix = collection_key(scope, collection);
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let (answer, answered) = oneshot::channel();
        let indexer = Arc::clone(&self.indexer);
        let job = DeleteJob { slot, indexer, prefix, keys, deleted: 0, answer };
        self.writer.run(Box::new(job), answered).await
    }

    async fn count(&self, scope: &Scope, collection: Collection) -> Result<u64> {
        let slot = self.loaded(scope, collection).await?;
        let guard = slot.flat.read();
        guard.as_ref().map(|flat| flat.len() as u64).ok_or_else(not_loaded)
    }
}

/// One call of `upsert`.
struct UpsertJob {
    slot: Loaded,
    indexer: Arc<Indexer>,
    collection: Collection,
    prefix: Key,
    items: Vec<VectorItem>,
    encoded: Vec<Slice>,
    claimed: bool,
    answer: oneshot::Sender<Result<()>>,
}

impl Job for UpsertJob {
    fn bytes(&self) -> u64 {
        self.encoded.iter().map(|value| value.len() as u64 + 600).sum()
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        self.slot.flat.write().as_mut().ok_or_else(not_loaded)?.claim(self.collection)?;
        self.claimed = true;
        for (item, value) in self.items.iter().zip(&self.encoded) {
            let place = self.prefix.clone().last(item.key.as_bytes());
            group.put(Space::Vectors, place.into_bytes().into(), value.clone());
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, outcome: Result<()>) {
        let mut slot = self.slot.flat.write();
        if let Some(flat) = &mut *slot {
            if self.claimed {
                flat.release();
            }
            // What does not fit is found out, and told, when the collection is read again.
            if outcome.is_ok() && self.items.drain(..).try_for_each(|item| flat.upsert(item)).is_err() {
                *slot = None;
            }
        }
        drop(slot);
        self.indexer.wake(&self.slot);
        let _ = self.answer.send(outcome);
    }
}

/// One call of `delete`.
struct DeleteJob {
    slot: Loaded,
    indexer: Arc<Indexer>,
    prefix: Key,
    keys: Vec<String>,
    deleted: u64,
    answer: oneshot::Sender<Result<u64>>,
}

impl Job for DeleteJob {
    fn bytes(&self) -> u64 {
        self.keys.len() as u64 * 600
    }

    fn prepare(&mut self, group: &mut Group<'_>) -> Result<()> {
        let place = |key: &String| -> Slice { self.prefix.clone().last(key.as_bytes()).into_bytes().into() };
        let mut places: Vec<Slice> = self.keys.iter().map(place).collect();
        places.sort();
        places.dedup();
        let mut found = Vec::new();
        for place in places {
            if group.get(Space::Vectors, &place)?.is_some() {
                found.push(place);
            }
        }
        self.deleted = found.len() as u64;
        found.into_iter().for_each(|place| group.remove(Space::Vectors, place));
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        if outcome.is_ok()
            && let Some(flat) = &mut *self.slot.flat.write()
        {
            self.keys.iter().for_each(|key| flat.remove(key));
        }
        self.indexer.wake(&self.slot);
        let _ = self.answer.send(outcome.map(|()| self.deleted));
    }
}
