//! The keys that an identity provider publishes (JWKS, RFC 7517): read at the start, again from time to time, and once
//! more when a token names a key that is not among them.
//!
//! While the source is away or damaged the last good keys stay. Keys that are not for signatures, or of a kind that is not
//! known, are passed over, as RFC 7517 asks. A secret (`oct`) is never taken from here. Reads are bounded: one at a time,
//! at most one in ten seconds however many tokens name unknown keys, and few requests wait for it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use kernel::{Clock, Error, Result, codes};
use parking_lot::{Mutex, RwLock};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::{AccessMetrics, OutcomeLabels};

/// The shortest time between two reads that tokens ask for.
const PAUSE: Duration = Duration::from_secs(10);
/// Requests that may wait for a read at once.
const WAITING_MAX: usize = 64;
/// More keys than any provider has; the rest is passed over.
const KEYS_MAX: usize = 100;

/// Where a provider publishes its keys.
#[async_trait]
pub trait KeySource: Send + Sync + Debug {
    /// The JWKS document. It must end in bounded time.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be had.
    async fn fetch(&self) -> Result<String>;

    /// Between two reads that nobody asked for.
    fn interval(&self) -> Duration;
}

struct Published {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    key: Arc<DecodingKey>,
}

/// The keys of one provider.
pub(super) struct PublishedKeys {
    source: Arc<dyn KeySource>,
    keys: RwLock<Vec<Published>>,
    last_read: tokio::sync::Mutex<Option<Duration>>,
    waiting: Semaphore,
    fault: Mutex<Option<String>>,
    clock: Arc<dyn Clock>,
    metrics: AccessMetrics,
}

impl Debug for PublishedKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PublishedKeys").field("source", &self.source).finish_non_exhaustive()
    }
}

impl PublishedKeys {
    /// Reads them. Keys that cannot be had yet are no error: until they come, no token under them passes.
    pub(super) async fn open(
        source: Arc<dyn KeySource>,
        clock: Arc<dyn Clock>,
        metrics: AccessMetrics,
    ) -> Self {
        let keys = Self {
            source,
            keys: RwLock::default(),
            last_read: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
            fault: Mutex::default(),
            clock,
            metrics,
        };
        keys.read(Duration::ZERO).await;
        keys
    }

    /// The key that a token names; where it names none, the only one.
    pub(super) fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Option<Arc<DecodingKey>> {
        let keys = self.keys.read();
        let found = match id {
            Some(id) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            None => keys.first().filter(|_| keys.len() == 1),
        };
        let found = found.filter(|key| key.algorithm.is_none_or(|only| only == algorithm))?;
        (found.key.family() == algorithm.family()).then(|| Arc::clone(&found.key))
    }

    /// Reads the keys once more for a token that names an unknown one, unless they were just read.
    pub(super) async fn look_again(&self) {
        if let Ok(_place) = self.waiting.try_acquire() {
            self.read(PAUSE).await;
        }
    }

    /// Reads the keys unless they were read within `pause`.
    async fn read(&self, pause: Duration) {
        let mut last_read = self.last_read.lock().await;
        if last_read.is_some_and(|last| self.clock.elapsed().saturating_sub(last) < pause) {
            return;
        }
        let found = self.source.fetch().await.and_then(|text| keys_of(&text));
        *last_read = Some(self.clock.elapsed());
        let outcome = if found.is_ok() { "ok" } else { "failed" };
        self.metrics.token_key_reads.get_or_create(&OutcomeLabels { outcome }).inc();
        let fault = match found {
            Ok(keys) => {
                *self.keys.write() = keys;
                None
            }
            Err(error) => Some(error.chain()),
        };
        let before = std::mem::replace(&mut *self.fault.lock(), fault.clone());
        match (before, fault) {
            (None, Some(error)) => warn!(error, "the provider's keys stay as they were"),
            (Some(_), None) => info!("the provider's keys can be read again"),
            _ => {}
        }
    }

    /// Follows the provider until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.source.interval()) => self.read(Duration::ZERO).await,
            }
        }
    }
}

fn keys_of(text: &str) -> Result<Vec<Published>> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }
    let document: Document = serde_json::from_str(text).map_err(|cause| {
        Error::new(codes::UNAVAILABLE, "the provider's keys are not a JWKS document").with_source(cause)
    })?;
    let keys = document.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Ok(keys.filter_map(|key| published(&key)).take(KEYS_MAX).collect())
}

/// The key where it verifies signatures.
fn published(key: &Jwk) -> Option<Published> {
    let common = &key.common;
    let is_secret = matches!(key.algorithm, AlgorithmParameters::OctetKey(_));
    let other_use = common.public_key_use.as_ref().is_some_and(|what| *what != PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    if is_secret || other_use || !verifies {
        return None;
    }
    let algorithm = match common.key_algorithm {
        Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
        None => None,
    };
    let decoding = DecodingKey::from_jwk(key).ok()?;
    Some(Published { id: common.key_id.clone(), algorithm, key: Arc::new(decoding) })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kernel::ManualClock;
    use prometheus_client::registry::Registry;
    use serde_json::json;

    use super::*;

    // The public key of RFC 8037, appendix A.2.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    /// Publishes key `1` at the first read, `2` at the second, and so on; fails while `away`.
    #[derive(Debug, Default)]
    struct Rotating {
        reads: AtomicUsize,
        away: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl KeySource for Rotating {
        async fn fetch(&self) -> Result<String> {
            let read = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::task::yield_now().await;
            if self.away.load(Ordering::Relaxed) {
                return Err(Error::new(codes::UNAVAILABLE, "away"));
            }
            Ok(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": X, "kid": read.to_string()}]})
                .to_string())
        }

        fn interval(&self) -> Duration {
            Duration::from_secs(300)
        }
    }

    async fn open() -> (Arc<Rotating>, Arc<ManualClock>, Arc<PublishedKeys>) {
        let source = Arc::new(Rotating::default());
        let clock = Arc::new(ManualClock::at(kernel::Timestamp::UNIX_EPOCH));
        let metrics = AccessMetrics::register(&mut Registry::default());
        let keys = PublishedKeys::open(Arc::clone(&source) as _, Arc::clone(&clock) as _, metrics).await;
        (source, clock, Arc::new(keys))
    }

    #[tokio::test]
    async fn unknown_keys_cause_one_read_in_ten_seconds() {
        let (source, clock, keys) = open().await;
        let has = |id: &str| keys.find(Algorithm::EdDSA, Some(id)).is_some();
        assert!(has("1") && !has("2"));
        let storm = async || {
            futures::future::join_all((0..500).map(|_| keys.look_again())).await;
            source.reads.load(Ordering::Relaxed)
        };
        assert_eq!(storm().await, 1, "they were just read");
        clock.advance(PAUSE);
        assert_eq!(storm().await, 2);
        assert!(!has("1") && has("2"), "what is published no more is refused");
        source.away.store(true, Ordering::Relaxed);
        clock.advance(PAUSE);
        assert_eq!(storm().await, 3);
        assert!(has("2"), "the last good keys stay");
    }

    #[test]
    fn only_keys_for_signatures_are_taken() {
        let key = |change: Value| {
            let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "k"});
            key.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            key
        };
        let check = |key: Value, taken: usize| {
            let text = json!({"keys": [key, {"kty": "new-kind", "kid": "x"}, 7]}).to_string();
            assert_eq!(keys_of(&text).unwrap().len(), taken, "{text}");
        };
        check(key(json!({})), 1);
        check(key(json!({"use": "sig", "alg": "EdDSA", "key_ops": ["verify"]})), 1);
        check(key(json!({"use": "enc"})), 0);
        check(key(json!({"key_ops": ["encrypt"]})), 0);
        check(key(json!({"alg": "RSA-OAEP"})), 0);
        check(json!({"kty": "oct", "k": "c2VjcmV0", "kid": "k"}), 0);
        for broken in ["", "{", "[]", "{}", r#"{"keys": 1}"#] {
            assert_eq!(keys_of(broken).err().map(|error| error.code()), Some(codes::UNAVAILABLE), "{broken}");
        }
        assert!(keys_of(r#"{"keys": []}"#).unwrap().is_empty());
    }
}
