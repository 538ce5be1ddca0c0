//! The vectors of items as a [`Sink`]: made by an encoder, kept through the `Vectors` port, one collection for each
//! version of a model, so that vectors of two models are never compared. What is in is remembered in the log, by model:
//! another model takes all of the log in again, and one of many replicas is enough to do it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, ErrorKind, Result, Scope, codes};
use store::{Collection, EventLog, Match, Metric, Stored, VectorFilter, VectorItem, Vectors};
use tokio::sync::Semaphore;
use tracing::warn;

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
/// Texts of a request that are encoded together.
const TEXTS_AT_ONCE: usize = 16;

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

    /// The vectors of texts, a few at a time, so that no request keeps the others waiting for long.
    ///
    /// # Errors
    /// `OVERLOADED` where too many wait; those of the encoder.
    pub(crate) async fn encode(&self, texts: Vec<String>) -> Result<Vec<Encoded>> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        let overloaded =
            |_| Error::new(codes::OVERLOADED, "too many texts wait to be encoded; try again later");
        let _waiting = waiting.map_err(overloaded)?;
        let (mut encoded, mut texts) = (Vec::with_capacity(texts.len()), texts.into_iter());
        while texts.len() > 0 {
            encoded.extend(self.encode_patiently(texts.by_ref().take(TEXTS_AT_ONCE).collect()).await?);
        }
        Ok(encoded)
    }

    async fn encode_patiently(&self, texts: Vec<String>) -> Result<Vec<Encoded>> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(Error::internal)?;
        let encoder = Arc::clone(&self.encoder);
        blocking(move || {
            // Work goes on after who asked for it has gone: so does its place.
            let _room = room;
            encoder.encode(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .await
    }

    /// The same where one text that cannot be encoded must not hold up the others: it has none.
    async fn encode_each(&self, items: &[(&String, &Item)]) -> Result<Vec<Option<Encoded>>> {
        let texts = items.iter().map(|(_, item)| item.text.clone()).collect();
        match self.encode_patiently(texts).await {
            Ok(encoded) => return Ok(encoded.into_iter().map(Some).collect()),
            Err(error) if error.kind() != ErrorKind::Invalid => return Err(error),
            Err(_) => {}
        }
        let mut encoded = Vec::with_capacity(items.len());
        for (key, item) in items {
            encoded.push(match self.encode_patiently(vec![item.text.clone()]).await {
                Ok(mut one) => one.pop(),
                Err(error) if error.kind() != ErrorKind::Invalid => return Err(error),
                Err(error) => {
                    warn!(error = %error.chain(), key, "an item has no vector: its text cannot be encoded");
                    None
                }
            });
        }
        Ok(encoded)
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

    /// Events of all tenants that have no vector, whoever makes them.
    pub(crate) async fn lag(&self, log: &dyn EventLog) -> Result<u64> {
        let mut lag = 0;
        for extent in log.extents(&ITEMS).await? {
            let committed = log.committed(&self.group(), &ITEMS, extent.partition).await?;
            lag += extent.next.saturating_sub(committed.max(extent.first));
        }
        Ok(lag)
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
            let (mut items, mut without) = (Vec::with_capacity(some.len()), Vec::new());
            for ((key, item), encoded) in some.iter().zip(self.encode_each(some).await?) {
                match encoded {
                    Some(Encoded { vector, .. }) => {
                        items.push(VectorItem { key: (*key).clone(), vector, tags: tags(item) });
                    }
                    None => without.push(key.as_str()),
                }
            }
            self.vectors.upsert(scope, self.collection, items).await?;
            if !without.is_empty() {
                self.vectors.delete(scope, self.collection, &without).await?;
            }
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

    async fn take(&self, _: u32, batch: Vec<Stored>) -> Result<()> {
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
