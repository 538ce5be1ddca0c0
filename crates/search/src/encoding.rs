//! An encoder that many ask: a few texts at a time, so that no request keeps the others waiting for long, and what was
//! encoded is remembered for a while (the `Cache` port). It refuses more work than can wait: it answers `OVERLOADED`.
//!
//! What is remembered is kept under the tenant, the version of the model and the hash of the text. A cache that is away
//! costs time and nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use kernel::{Error, ErrorKind, Result, Scope, codes};
use store::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::encoder::{Encoded, Encoder, ModelIdentity};
use crate::items::Item;
use crate::metrics::SearchMetrics;
use crate::words::blocking;

/// Texts of one request that are encoded at the same time; each call uses the threads that its encoder has.
const OF_ONE_REQUEST: usize = 2;
/// Of all requests: one that has many leaves room for one that has few.
const ENCODING_AT_ONCE: usize = OF_ONE_REQUEST + 1;
/// Calls that wait for that.
const WAITING_MAX: usize = 64;
/// Texts of a request that are encoded together.
const TEXTS_AT_ONCE: usize = 16;
/// Questions to the cache at the same time, for one request.
const LOOKUPS_AT_ONCE: usize = 16;
/// Tokens (4 bytes) and whether the text had more (1 byte) stand before the numbers.
const HEAD_BYTES: usize = 5;

/// Room for the work of all encoders of a process.
#[derive(Debug, Clone)]
pub(crate) struct Rooms {
    working: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self::of(ENCODING_AT_ONCE, WAITING_MAX)
    }
}

/// A place to work in, taken until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _permit: OwnedSemaphorePermit,
}

impl Room {
    fn of(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit }
    }
}

impl Rooms {
    /// So many work, and so many wait, those who work among them.
    pub(crate) fn of(working: usize, waiting: usize) -> Self {
        let of = |places| Arc::new(Semaphore::new(places));
        Self { working: of(working), waiting: of(waiting) }
    }

    /// A place among those who wait.
    ///
    /// # Errors
    /// `OVERLOADED` where there is none.
    pub(crate) fn wait(&self) -> Result<Room> {
        let overloaded =
            |_| Error::new(codes::OVERLOADED, "too many texts wait for a model; try again later");
        Arc::clone(&self.waiting).try_acquire_owned().map(Room::of).map_err(overloaded)
    }

    /// A place among those who work; it waits for one.
    ///
    /// # Errors
    /// None but for a defect.
    pub(crate) async fn work(&self) -> Result<Room> {
        Arc::clone(&self.working).acquire_owned().await.map(Room::of).map_err(Error::internal)
    }
}

/// Where what was encoded is remembered.
#[derive(Debug, Clone)]
pub(crate) struct Remembering {
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) time_to_live: Duration,
    pub(crate) metrics: SearchMetrics,
}

/// An encoder, shared.
#[derive(Debug, Clone)]
pub(crate) struct Encoding {
    encoder: Arc<dyn Encoder>,
    rooms: Rooms,
    remembering: Option<Remembering>,
}

impl Encoding {
    pub(crate) fn new(encoder: Arc<dyn Encoder>, rooms: Rooms, remembering: Option<Remembering>) -> Self {
        Self { encoder, rooms, remembering }
    }

    pub(crate) fn identity(&self) -> &ModelIdentity {
        self.encoder.identity()
    }

    /// See [`Encoder::makes`].
    pub(crate) fn makes(&self, dimensions: usize) -> bool {
        self.encoder.makes(dimensions)
    }

    /// The vectors of a caller's texts, in their order.
    ///
    /// # Errors
    /// `OVERLOADED` where too many wait; those of the encoder.
    pub(crate) async fn encode(&self, scope: &Scope, texts: Vec<String>) -> Result<Vec<Encoded>> {
        let _waiting = self.rooms.wait()?;
        let mut found = self.recall(scope, &texts).await;
        let places: Vec<usize> = (0..texts.len()).filter(|place| found[*place].is_none()).collect();
        let texts = &texts;
        let encode = |some: &[usize]| {
            let some = some.to_vec();
            async move {
                let missing = some.iter().map(|place| texts[*place].clone()).collect();
                let encoded = self.encode_patiently(missing).await?;
                self.remember(scope, some.iter().map(|place| texts[*place].as_str()).zip(&encoded)).await;
                Ok::<_, Error>(some.into_iter().zip(encoded))
            }
        };
        let parts = stream::iter(places.chunks(TEXTS_AT_ONCE).map(encode));
        let mut parts = std::pin::pin!(parts.buffer_unordered(OF_ONE_REQUEST));
        while let Some(part) = parts.try_next().await? {
            part.for_each(|(place, one)| found[place] = Some(one));
        }
        let whole: Option<Vec<Encoded>> = found.into_iter().collect();
        whole.ok_or_else(|| Error::internal("the encoder left a text out"))
    }

    async fn encode_patiently(&self, texts: Vec<String>) -> Result<Vec<Encoded>> {
        let room = self.rooms.work().await?;
        let encoder = Arc::clone(&self.encoder);
        blocking(move || {
            // Work goes on after who asked for it has gone: so does its place.
            let _room = room;
            encoder.encode(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        })
        .await
    }

    /// The vectors of items, where one text that cannot be encoded must not hold up the others: it has none.
    pub(crate) async fn encode_each(&self, items: &[(&str, &Item)]) -> Result<Vec<Option<Encoded>>> {
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

    /// What is remembered of texts, in their order.
    async fn recall(&self, scope: &Scope, texts: &[String]) -> Vec<Option<Encoded>> {
        let Some(remembering) = &self.remembering else { return vec![None; texts.len()] };
        let keys: Vec<String> = texts.iter().map(|text| self.key(text)).collect();
        let dimensions = self.identity().dimensions;
        let look = |key: String| async move {
            // What cannot be asked for is not there.
            let bytes = remembering.cache.get(scope, &key).await.ok().flatten()?;
            decode(&bytes, dimensions)
        };
        let found: Vec<Option<Encoded>> =
            stream::iter(keys).map(look).buffered(LOOKUPS_AT_ONCE).collect().await;
        let hits = found.iter().flatten().count();
        remembering.metrics.recalled(hits, texts.len() - hits);
        found
    }

    async fn remember<'a>(&self, scope: &Scope, encoded: impl Iterator<Item = (&'a str, &'a Encoded)>) {
        let Some(remembering) = &self.remembering else { return };
        let entries: Vec<(String, Bytes)> =
            encoded.map(|(text, encoded)| (self.key(text), encode(encoded))).collect();
        let set = |(key, value): (String, Bytes)| async move {
            remembering.cache.set(scope, &key, value, remembering.time_to_live).await.is_ok()
        };
        let set: Vec<bool> = stream::iter(entries).map(set).buffered(LOOKUPS_AT_ONCE).collect().await;
        drop(set);
    }

    fn key(&self, text: &str) -> String {
        format!("search.embedding.{}.{}", self.identity().version, blake3::hash(text.as_bytes()).to_hex())
    }
}

fn encode(encoded: &Encoded) -> Bytes {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 4 * encoded.vector.len());
    bytes.extend(u32::try_from(encoded.tokens).unwrap_or(u32::MAX).to_le_bytes());
    bytes.push(u8::from(encoded.is_truncated));
    bytes.extend(encoded.vector.iter().flat_map(|value| value.to_le_bytes()));
    bytes.into()
}

/// Nothing for what was not written by [`encode`] for a model of these dimensions.
fn decode(bytes: &[u8], dimensions: usize) -> Option<Encoded> {
    let (tokens, rest) = bytes.split_first_chunk::<4>()?;
    let (is_truncated, numbers) = rest.split_first()?;
    let (numbers, rest) = numbers.as_chunks::<4>();
    if numbers.len() != dimensions || !rest.is_empty() {
        return None;
    }
    let vector: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    let encoded =
        Encoded { vector, tokens: u32::from_le_bytes(*tokens) as usize, is_truncated: *is_truncated == 1 };
    encoded.vector.iter().all(|value| value.is_finite()).then_some(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_and_damage_does_not() {
        let encoded = Encoded { vector: vec![0.5, -1.0], tokens: 7, is_truncated: true };
        let bytes = encode(&encoded);
        assert_eq!(decode(&bytes, 2), Some(encoded));
        assert_eq!(decode(&bytes, 3), None);
        assert_eq!(decode(&bytes[..bytes.len() - 1], 2), None);
        assert_eq!(decode(&[], 2), None);
        let mut damaged = bytes.to_vec();
        damaged[HEAD_BYTES..HEAD_BYTES + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(decode(&damaged, 2), None);
    }
}
