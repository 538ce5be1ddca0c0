//! The vectors of items of one job: made by an encoder, kept through the `Vectors` port in a collection of the job's own, so
//! that vectors of two models are never compared.
//!
//! A vector's key names the item, the place of the change in the log that it was made of, and the digest of the item then.
//! So a server that is late cannot win: what it writes stands beside what is newer, takes nothing away that is newer, and
//! is passed over by searches, because its digest is not that of the item as it is now.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use kernel::{Error, Result, Scope, codes};
use store::{Collection, Match, Metric, VectorFilter, VectorItem, Vectors};
use tokio_util::sync::CancellationToken;

use crate::encoder::Encoded;
use crate::encoding::Encoding;
use crate::index::{Filter, TextIndex};
use crate::items::{Change, Item};

/// Items that are encoded together.
const ITEMS_AT_ONCE: usize = 64;
/// Questions for older vectors at the same time.
const LOOKS_AT_ONCE: usize = 8;
/// Older vectors of one item that are taken away at once; there is one, but for late servers.
const OLDER_MAX: usize = 64;
/// Vectors that are taken away together where all are to go.
const REMOVED_AT_ONCE: usize = 500;
/// Between the item and the place in the key of a vector; no item's key has control characters but one other.
const SEPARATOR: char = '\u{1e}';
/// Digits of the place, and of the digest.
const DIGITS: usize = 16;

/// An encoder and what it made.
#[derive(Debug, Clone)]
pub(crate) struct Meanings {
    encoding: Encoding,
    vectors: Arc<dyn Vectors>,
    collection: Collection,
}

/// What was found, of an item as it was once.
#[derive(Debug, Clone)]
pub(crate) struct Meant {
    key: String,
    digest: u64,
    pub(crate) score: f32,
}

impl Meant {
    /// Nothing for what is no key of ours.
    fn of(found: &Match) -> Option<Self> {
        let (item, rest) = found.key.rsplit_once(SEPARATOR)?;
        let (_, digest) = rest.split_at_checked(DIGITS)?;
        let digest = u64::from_str_radix(digest, 16).ok()?;
        Some(Self { key: item.to_owned(), digest, score: found.score })
    }
}

/// Of what was found, what is of items as they are now: best first, ties by key, each item once.
///
/// # Errors
/// Those of the index.
pub(crate) fn current(found: &[Meant], index: &TextIndex) -> Result<Vec<(String, f32)>> {
    let mut current: BTreeMap<&str, f32> = BTreeMap::new();
    for meant in found {
        // Of an item that was changed or deleted since, it is the meaning of what is no longer there.
        if index.digest(&meant.key)? == Some(meant.digest) {
            let best = current.entry(&meant.key).or_insert(meant.score);
            *best = best.max(meant.score);
        }
    }
    let mut current: Vec<(String, f32)> =
        current.into_iter().map(|(key, score)| (key.to_owned(), score)).collect();
    // A stable sort: equal scores keep the order of their keys.
    current.sort_by(|left, right| right.1.total_cmp(&left.1));
    Ok(current)
}

fn key_of(item: &str, offset: u64, digest: u64) -> String {
    format!("{item}{SEPARATOR}{offset:016x}{digest:016x}")
}

/// The place of a key; nothing for what is no key of ours.
fn offset_of(key: &str) -> Option<u64> {
    let (_, rest) = key.rsplit_once(SEPARATOR)?;
    u64::from_str_radix(rest.get(..DIGITS)?, 16).ok()
}

impl Meanings {
    /// `name` is the collection's.
    pub(crate) fn new(encoding: Encoding, vectors: Arc<dyn Vectors>, name: &'static str) -> Self {
        let dimensions = encoding.identity().dimensions;
        Self { encoding, vectors, collection: Collection { name, dimensions, metric: Metric::Cosine } }
    }

    pub(crate) fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// What is nearest to a vector; [`current`] tells what of it still is.
    pub(crate) async fn nearest(
        &self,
        scope: &Scope,
        query: &[f32],
        count: usize,
        filter: &Filter,
    ) -> Result<Vec<Meant>> {
        let mut wanted = VectorFilter::new();
        wanted.extend(filter.tags.iter().map(|tag| (tag_name(tag), HAS.to_owned())));
        wanted.extend(filter.attributes.iter().map(|attribute| (attribute.clone(), HAS.to_owned())));
        if filter.types.is_empty() {
            let found = self.vectors.search(scope, self.collection, query, count, &wanted).await?;
            return Ok(found.iter().filter_map(Meant::of).collect());
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
        Ok(found.iter().filter_map(Meant::of).collect())
    }

    pub(crate) async fn count(&self, scope: &Scope) -> Result<u64> {
        self.vectors.count(scope, self.collection).await
    }

    /// Takes changes of a tenant in, each with its place in its partition.
    ///
    /// # Errors
    /// Those of the encoder and the vectors; `UNAVAILABLE` where `stop` came first: then they are to be taken in again.
    pub(crate) async fn take(
        &self,
        scope: &Scope,
        changes: Vec<(u64, Change)>,
        stop: &CancellationToken,
    ) -> Result<()> {
        // Of several changes of one item the last counts.
        let last: BTreeMap<String, (u64, Change)> =
            changes.into_iter().map(|(offset, change)| (change.key(), (offset, change))).collect();
        let put: Vec<(&str, u64, &Item)> = last
            .iter()
            .filter_map(|(key, (offset, change))| match change {
                Change::Put(item) => Some((key.as_str(), *offset, item.as_ref())),
                Change::Delete(_) => None,
            })
            .collect();
        for some in put.chunks(ITEMS_AT_ONCE) {
            // A batch of long texts takes many seconds, which a server that stops has not.
            if stop.is_cancelled() {
                return Err(Error::new(
                    codes::UNAVAILABLE,
                    "vectors are not made any more: the server stops",
                ));
            }
            let texts: Vec<(&str, &Item)> = some.iter().map(|(key, _, item)| (*key, *item)).collect();
            let mut items = Vec::with_capacity(some.len());
            for ((key, offset, item), encoded) in some.iter().zip(self.encoding.encode_each(&texts).await?) {
                if let Some(Encoded { vector, .. }) = encoded {
                    let name = key_of(key, *offset, item.digest()?);
                    items.push(VectorItem { key: name, vector, tags: tags(key, item) });
                }
            }
            self.vectors.upsert(scope, self.collection, items).await?;
        }
        self.remove_older(scope, last.iter().map(|(key, (offset, _))| (key.clone(), *offset)).collect()).await
    }

    /// Takes away what was made of items before these places.
    async fn remove_older(&self, scope: &Scope, items: Vec<(String, u64)>) -> Result<()> {
        let mut query = vec![0.0; self.collection.dimensions];
        query[0] = 1.0;
        let query = &query;
        let look = |(key, offset): (String, u64)| async move {
            let wanted = VectorFilter::from([(ITEM.to_owned(), key)]);
            let found = self.vectors.search(scope, self.collection, query, OLDER_MAX, &wanted).await?;
            let is_older = |key: &String| offset_of(key).is_some_and(|place| place < offset);
            Ok::<_, Error>(found.into_iter().map(|found| found.key).filter(is_older).collect::<Vec<_>>())
        };
        let looks = stream::iter(items).map(look).buffered(LOOKS_AT_ONCE);
        let older: Vec<String> = looks.try_concat().await?;
        if !older.is_empty() {
            let older: Vec<&str> = older.iter().map(String::as_str).collect();
            self.vectors.delete(scope, self.collection, &older).await?;
        }
        Ok(())
    }
}

/// Takes some vectors of a collection away, whatever they are of. Returns how many; 0 when there are none.
///
/// # Errors
/// Those of the engine; `INTERNAL_ERROR` where it does not take away what it has.
pub(crate) async fn remove_some(vectors: &dyn Vectors, scope: &Scope, collection: Collection) -> Result<u64> {
    let mut query = vec![0.0; collection.dimensions];
    query[0] = 1.0;
    let found = vectors.search(scope, collection, &query, REMOVED_AT_ONCE, &VectorFilter::new()).await?;
    if found.is_empty() {
        return Ok(0);
    }
    let keys: Vec<&str> = found.iter().map(|found| found.key.as_str()).collect();
    match vectors.delete(scope, collection, &keys).await? {
        0 => Err(Error::internal("vectors that were found could not be deleted")),
        removed => Ok(removed),
    }
}

/// The tag of an item's type.
const TYPE: &str = "type";
/// The tag of the item itself.
const ITEM: &str = "item";
/// The value of tags that an item has or has not.
const HAS: &str = "1";

fn tag_name(tag: &str) -> String {
    format!("tag:{tag}")
}

fn tags(key: &str, item: &Item) -> BTreeMap<String, String> {
    let mut tags =
        BTreeMap::from([(TYPE.to_owned(), item.entity_type.to_string()), (ITEM.to_owned(), key.to_owned())]);
    tags.extend(item.tags.iter().map(|tag| (tag_name(tag), HAS.to_owned())));
    tags.extend(item.attributes().map(|attribute| (attribute, HAS.to_owned())));
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_the_item_its_place_and_its_state() {
        let key = key_of("note\u{1f}1", 7, u64::MAX);
        assert_eq!(offset_of(&key), Some(7));
        let of = |key: &str| Meant::of(&Match { key: key.to_owned(), score: 1.0 });
        let meant = of(&key).unwrap();
        assert_eq!((meant.key.as_str(), meant.digest), ("note\u{1f}1", u64::MAX));
        assert!(of("note\u{1f}1").is_none() && of("x\u{1e}ä").is_none() && offset_of("x\u{1e}ä").is_none());
        // The longest key of an item leaves room.
        assert!(200 + 1 + 255 + key.len() - "note\u{1f}1".len() <= 512);
    }
}
