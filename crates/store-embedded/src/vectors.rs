//! The `Vectors` port: every search scores every vector that passes the filter, so it is exact. A collection is
//! read into memory when it is first used, and written through.

mod flat;

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
use crate::writer::{Group, Job, Watcher, Writer};

// Above this many numbers, a search goes to a thread that may block.
const INLINE_NUMBERS: usize = 1 << 18;

/// A collection in memory; nothing until it was read from disk.
type Loaded = Arc<RwLock<Option<Flat>>>;

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
        self.0.read().values().for_each(|slot| *slot.write() = None);
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
}

impl EmbeddedVectors {
    pub(crate) fn new(writer: Arc<Writer>) -> Self {
        let collections = Arc::<Collections>::default();
        writer.watch(Arc::clone(&collections) as Arc<_>);
        Self { writer, collections }
    }

    /// The collection, read from disk on its first use.
    async fn loaded(&self, scope: &Scope, collection: Collection) -> Result<Loaded> {
        let slot = self.collections.slot(scope, collection);
        if slot.read().is_some() {
            return Ok(slot);
        }
        let tables = self.writer.engine().tables()?;
        let prefix = collection_key(scope, collection);
        let load = move || {
            // Locked before it is read: a write that is committed meanwhile is put on top after.
            let mut guard = slot.write();
            if guard.is_none() {
                let mut flat = Flat::default();
                for entry in tables.space(Space::Vectors).prefix(prefix.bytes()) {
                    let (place, value) = entry
                        .into_inner()
                        .map_err(|cause| failure("a stored vector cannot be read", cause))?;
                    flat.upsert(decode(&place[prefix.bytes().len()..], &value)?)?;
                }
                *guard = Some(flat);
            }
            drop(guard);
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
        let job = UpsertJob { slot, collection, prefix, items, encoded, claimed: false, answer };
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
        let search = move |slot: &Loaded, query: &[f32], filter: &VectorFilter| match &*slot.read() {
            None => Err(not_loaded()),
            Some(flat) => {
                flat.check_dimensions(collection)?;
                Ok(flat.search(collection.metric, query, count, filter))
            }
        };
        let numbers = slot.read().as_ref().map_or(0, Flat::numbers);
        if numbers <= INLINE_NUMBERS {
            return search(&slot, query, filter);
        }
        let (query, filter) = (query.to_vec(), filter.clone());
        tokio::task::spawn_blocking(move || search(&slot, &query, &filter)).await.map_err(Error::internal)?
    }

    async fn delete(&self, scope: &Scope, collection: Collection, keys: &[&str]) -> Result<u64> {
        let slot = self.loaded(scope, collection).await?;
        let prefix = collection_key(scope, collection);
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        let (answer, answered) = oneshot::channel();
        let job = DeleteJob { slot, prefix, keys, deleted: 0, answer };
        self.writer.run(Box::new(job), answered).await
    }

    async fn count(&self, scope: &Scope, collection: Collection) -> Result<u64> {
        let slot = self.loaded(scope, collection).await?;
        let guard = slot.read();
        guard.as_ref().map(|flat| flat.len() as u64).ok_or_else(not_loaded)
    }
}

/// One call of `upsert`.
struct UpsertJob {
    slot: Loaded,
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
        self.slot.write().as_mut().ok_or_else(not_loaded)?.claim(self.collection)?;
        self.claimed = true;
        for (item, value) in self.items.iter().zip(&self.encoded) {
            let place = self.prefix.clone().last(item.key.as_bytes());
            group.put(Space::Vectors, place.into_bytes().into(), value.clone());
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, outcome: Result<()>) {
        let mut slot = self.slot.write();
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
        let _ = self.answer.send(outcome);
    }
}

/// One call of `delete`.
struct DeleteJob {
    slot: Loaded,
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
            && let Some(flat) = &mut *self.slot.write()
        {
            self.keys.iter().for_each(|key| flat.remove(key));
        }
        let _ = self.answer.send(outcome.map(|()| self.deleted));
    }
}
