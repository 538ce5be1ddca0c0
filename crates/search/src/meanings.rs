//! The vectors of items as a [`Sink`]: made by an encoder, kept through the `Vectors` port, one collection for each
//! version of a model, so that vectors of two models are never compared. What is in is remembered in the log, by model:
//! another model takes all of the log in again, and one of many replicas is enough to do it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Result, Scope, codes};
use store::{Collection, EventLog, Match, Metric, Stored, VectorFilter, VectorItem, Vectors};
use tokio::sync::Semaphore;

use crate::encoder::{Encoded, Encoder};
use crate::follower::Sink;
use crate::index::{Filter, Progress};
use crate::items::{Change, Item};
use crate::log::ITEMS;
use crate::words::{blocking, changes};

/// Texts that are encoded at the same time; each call uses the threads that its encoder has.
const ENCODING_AT_ONCE: usize = 2;
/// Calls that wait for that.
const WAITING_MAX: usize = 64;
/// Items that are encoded together.
const ITEMS_AT_ONCE: usize = 64;

/// An encoder and what it made.
#[derive(Debug, Clone)]
pub(crate) struct Meanings {
    encoder: Arc<dyn Encoder>,
    vectors: Arc<dyn Vectors>,
    collection: Collection,
    room: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Meanings {
    pub(crate) fn new(encoder: Arc<dyn Encoder>, vectors: Arc<dyn Vectors>) -> Self {
        let identity = encoder.identity();
        // Once for each model of a process: the port wants names that live as long as it does.
        let name: &'static str = Box::leak(format!("search_{}", identity.version).into_boxed_str());
        let collection = Collection { name, dimensions: identity.dimensions, metric: Metric::Cosine };
        let (room, waiting) = (Semaphore::new(ENCODING_AT_ONCE), Semaphore::new(WAITING_MAX));
        Self { encoder, vectors, collection, room: Arc::new(room), waiting: Arc::new(waiting) }
    }

    pub(crate) fn encoder(&self) -> &Arc<dyn Encoder> {
        &self.encoder
    }

    /// The vectors of texts.
    ///
    /// # Errors
    /// `OVERLOADED` where too many wait; those of the encoder.
    pub(crate) async fn encode(&self, texts: Vec<String>) -> Result<Vec<Encoded>> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        let overloaded =
            |_| Error::new(codes::OVERLOADED, "too many texts wait to be encoded; try again later");
        let _waiting = waiting.map_err(overloaded)?;
        self.encode_patiently(texts).await
    }

    async fn encode_patiently(&self, texts: Vec<String>) -> Result<Vec<Encoded>> {
        let _room = Arc::clone(&self.room).acquire_owned().await.map_err(Error::internal)?;
        let encoder = Arc::clone(&self.encoder);
        blocking(move || encoder.encode(&texts.iter().map(String::as_str).collect::<Vec<_>>())).await
    }

    /// What is nearest to a vector, best first, ties by key.
    pub(crate) async fn nearest(
        &self,
        scope: &Scope,
        query: &[f32],
        count: usize,
        filter: &Filter,
    ) -> Result<Vec<Match>> {
        let mut wanted = VectorFilter::new();
        wanted.extend(filter.tags.iter().map(|tag| (tag_name(tag), HAS.to_owned())));
        wanted.extend(filter.attributes.iter().map(|attribute| (attribute.clone(), HAS.to_owned())));
        if filter.types.is_empty() {
            return self.vectors.search(scope, self.collection, query, count, &wanted).await;
        }
        let mut found = Vec::new();
        for kind in &filter.types {
            wanted.insert(TYPE.to_owned(), kind.clone());
            found.extend(self.vectors.search(scope, self.collection, query, count, &wanted).await?);
        }
        found
            .sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.key.cmp(&right.key)));
        found.dedup_by(|left, right| left.key == right.key);
        found.truncate(count);
        Ok(found)
    }

    pub(crate) async fn count(&self, scope: &Scope) -> Result<u64> {
        self.vectors.count(scope, self.collection).await
    }

    fn group(&self) -> String {
        format!("search.vectors.{}", self.encoder.identity().version)
    }

    async fn take_tenant(&self, scope: &Scope, changes: Vec<Change>) -> Result<()> {
        // Of several changes of one item the last counts.
        let last: BTreeMap<String, Change> =
            changes.into_iter().map(|change| (change.key(), change)).collect();
        let gone: Vec<&str> = last
            .iter()
            .filter(|(_, change)| matches!(change, Change::Delete(_)))
            .map(|(key, _)| key.as_str())
            .collect();
        if !gone.is_empty() {
            self.vectors.delete(scope, self.collection, &gone).await?;
        }
        let put: Vec<(&String, &Item)> = last
            .iter()
            .filter_map(|(key, change)| match change {
                Change::Put(item) => Some((key, item.as_ref())),
                Change::Delete(_) => None,
            })
            .collect();
        for some in put.chunks(ITEMS_AT_ONCE) {
            let texts = some.iter().map(|(_, item)| item.text.clone()).collect();
            let encoded = self.encode_patiently(texts).await?;
            let item = |((key, item), encoded): (&(&String, &Item), Encoded)| VectorItem {
                key: (*key).clone(),
                vector: encoded.vector,
                tags: tags(item),
            };
            let items = some.iter().zip(encoded).map(item).collect();
            self.vectors.upsert(scope, self.collection, items).await?;
        }
        Ok(())
    }
}

/// The tag of an item's type.
const TYPE: &str = "type";
/// The value of tags that an item has or has not.
const HAS: &str = "1";

fn tag_name(tag: &str) -> String {
    format!("tag:{tag}")
}

fn tags(item: &Item) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([(TYPE.to_owned(), item.entity_type.to_string())]);
    tags.extend(item.tags.iter().map(|tag| (tag_name(tag), HAS.to_owned())));
    tags.extend(item.attributes().map(|attribute| (attribute, HAS.to_owned())));
    tags
}

#[async_trait]
impl Sink for Meanings {
    fn name(&self) -> &'static str {
        "vectors"
    }

    async fn restore(&self, log: &dyn EventLog) -> Result<Progress> {
        let mut progress = Progress::new();
        for extent in log.extents(&ITEMS).await? {
            progress.insert(extent.partition, log.committed(&self.group(), &ITEMS, extent.partition).await?);
        }
        Ok(progress)
    }

    /// Vectors are made again over those that are there. One whose item is gone is passed over by searches.
    async fn clear(&self) -> Result<()> {
        Ok(())
    }

    async fn take(&self, batch: Vec<Stored>) -> Result<()> {
        for (tenant, changes) in changes(&batch) {
            self.take_tenant(&Scope::system(tenant, "search"), changes).await?;
        }
        Ok(())
    }

    async fn save(&self, log: &dyn EventLog, progress: &Progress) -> Result<()> {
        for (partition, next) in progress {
            log.commit(&self.group(), &ITEMS, *partition, *next).await?;
        }
        Ok(())
    }
}
