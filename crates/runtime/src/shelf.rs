//! Versions in memory, and how much they may take.
//!
//! Room is put aside before a version is read, and given back when the last request that uses it is answered. Where there is
//! none, the version that was asked for the longest time ago goes: of the same tenant first, of another only where it was
//! idle for [`OTHERS_IDLE`]. What serves beside the version that is loaded stays until that is in its place.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kernel::{Error, Result, TenantId, codes};
use parking_lot::Mutex;

use crate::batcher::Batcher;
use crate::metrics::RuntimeMetrics;
use crate::model::{Model, unusable};
use crate::monitoring::Watched;

/// Another tenant's version is not dropped before it was idle for so long.
const OTHERS_IDLE: Duration = Duration::from_secs(60);
/// How long a version that was dropped may go on answering before the next is refused, and how often that is looked at.
const DRAIN_LOOKS: usize = 100;
const DRAIN_PAUSE: Duration = Duration::from_millis(20);

/// A version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    /// The model's id, which stays when its name changes.
    pub(crate) model_id: String,
    pub(crate) version: u64,
}

/// A version in memory. Whoever holds it can ask it, also after it was taken off the shelf.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) place: Place,
    pub(crate) platform: &'static str,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) batcher: Batcher,
    /// Whether requests are put together.
    pub(crate) batches: bool,
    /// What is seen of it.
    pub(crate) watched: Watched,
    #[expect(dead_code, reason = "given back when it is dropped")]
    pub(crate) room: Room,
    /// When it was last asked, in milliseconds of the clock that runs.
    pub(crate) asked_ms: AtomicU64,
}

/// Memory that is put aside.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: u64,
    taken: Arc<AtomicU64>,
    metrics: RuntimeMetrics,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        self.metrics.memory_bytes.dec_by(self.bytes.cast_signed());
    }
}

#[derive(Debug)]
pub(crate) struct Shelf {
    loaded: Mutex<HashMap<Place, Arc<Loaded>>>,
    capacity_bytes: u64,
    taken: Arc<AtomicU64>,
    metrics: RuntimeMetrics,
}

impl Shelf {
    pub(crate) fn new(capacity_bytes: u64, metrics: RuntimeMetrics) -> Self {
        Self { loaded: Mutex::default(), capacity_bytes, taken: Arc::default(), metrics }
    }

    /// The version, and notes that it was asked for.
    pub(crate) fn get(&self, place: &Place, now: Duration) -> Option<Arc<Loaded>> {
        let found = self.loaded.lock().get(place).cloned()?;
        found.asked_ms.store(millis(now), Ordering::Relaxed);
        Some(found)
    }

    /// The version, without counting as asking for it.
    pub(crate) fn peek(&self, place: &Place) -> Option<Arc<Loaded>> {
        self.loaded.lock().get(place).cloned()
    }

    /// Every version.
    pub(crate) fn all(&self) -> Vec<Arc<Loaded>> {
        self.loaded.lock().values().cloned().collect()
    }

    /// Puts memory aside for `place`; `beside` stays whatever happens.
    ///
    /// # Errors
    /// `MODEL_UNUSABLE` where there can be none; `OVERLOADED` where others are busy with all of it.
    pub(crate) async fn make_room(
        &self,
        place: &Place,
        beside: Option<&Place>,
        bytes: u64,
        now: Duration,
    ) -> Result<Room> {
        if bytes > self.capacity_bytes {
            let message = format!(
                "it takes {} MiB of memory, and `runtime.memory_mb` has {}",
                bytes.div_ceil(1 << 20),
                self.capacity_bytes >> 20
            );
            return Err(unusable(message));
        }
        for look in 0..DRAIN_LOOKS {
            if look > 0 {
                tokio::time::sleep(DRAIN_PAUSE).await;
            }
            loop {
                if let Some(room) = self.try_room(bytes) {
                    return Ok(room);
                }
                if !self.evict(place, beside, now) {
                    break;
                }
            }
        }
        Err(Error::new(
            codes::OVERLOADED,
            "all memory for models (`runtime.memory_mb`) is in use; ask again later",
        ))
    }

    fn try_room(&self, bytes: u64) -> Option<Room> {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.capacity_bytes);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        self.metrics.memory_bytes.inc_by(bytes.cast_signed());
        Some(Room { bytes, taken: Arc::clone(&self.taken), metrics: self.metrics.clone() })
    }

    /// Drops one version; whether there was one.
    fn evict(&self, place: &Place, beside: Option<&Place>, now: Duration) -> bool {
        let mut loaded = self.loaded.lock();
        let idle_since = millis(now.saturating_sub(OTHERS_IDLE));
        let may_go = |other: &&Arc<Loaded>| {
            let is_own = other.place.tenant == place.tenant;
            Some(&other.place) != beside && (is_own || other.asked_ms.load(Ordering::Relaxed) < idle_since)
        };
        let rank = |other: &&Arc<Loaded>| {
            (other.place.tenant != place.tenant, other.asked_ms.load(Ordering::Relaxed))
        };
        let Some(victim) = loaded.values().filter(may_go).min_by_key(rank).map(|found| found.place.clone())
        else {
            return false;
        };
        loaded.remove(&victim);
        self.metrics.evictions.inc();
        self.tell(&loaded);
        true
    }

    /// Puts a version there.
    pub(crate) fn put(&self, version: Arc<Loaded>) {
        let mut loaded = self.loaded.lock();
        loaded.insert(version.place.clone(), version);
        self.tell(&loaded);
    }

    /// Drops versions that nobody asked for since.
    pub(crate) fn sweep(&self, since: Duration) {
        let mut loaded = self.loaded.lock();
        loaded.retain(|_, version| version.asked_ms.load(Ordering::Relaxed) >= millis(since));
        self.tell(&loaded);
    }

    fn tell(&self, loaded: &HashMap<Place, Arc<Loaded>>) {
        self.metrics.versions.set(loaded.len().cast_signed() as i64);
    }

    #[cfg(test)]
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::batcher::BatchLimits;
    use crate::fake::Fake;
    use crate::processors::Processors;

    const NOW: Duration = Duration::from_secs(1_000);

    fn place(tenant: &str, version: u64) -> Place {
        Place { tenant: TenantId::new(tenant).unwrap(), model_id: "m".to_owned(), version }
    }

    fn shelf() -> Shelf {
        Shelf::new(100, RuntimeMetrics::register(&mut Registry::default()))
    }

    async fn load(shelf: &Shelf, place: Place, bytes: u64, asked: Duration) -> Arc<Loaded> {
        let room = shelf.make_room(&place, None, bytes, NOW).await.unwrap();
        let model: Arc<dyn Model> = Arc::new(Fake::doubles());
        let limits = BatchLimits { queue: 1, rows_max: 1, delay: Duration::ZERO, calls: 1 };
        let batcher = Batcher::start(&model, limits, &Arc::new(Processors::new(1, 1)), &shelf.metrics);
        let asked_ms = AtomicU64::new(millis(asked));
        let (batches, watched) = (false, Err(None));
        let version = Loaded { place, platform: "fake", model, batcher, batches, watched, room, asked_ms };
        let version = Arc::new(version);
        shelf.put(Arc::clone(&version));
        version
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_asked_longest_ago_goes() {
        let shelf = shelf();
        for (version, asked) in [(1, 30), (2, 10), (3, 20)] {
            load(&shelf, place("a", version), 30, Duration::from_secs(asked)).await;
        }
        load(&shelf, place("a", 4), 30, NOW).await;
        let left: Vec<u64> = (1..=4).filter(|version| shelf.peek(&place("a", *version)).is_some()).collect();
        assert_eq!((left, shelf.taken_bytes()), (vec![1, 3, 4], 90));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_makes_room_at_its_own_cost() {
        let shelf = shelf();
        load(&shelf, place("idle", 1), 20, Duration::ZERO).await;
        load(&shelf, place("busy", 1), 40, NOW).await;
        load(&shelf, place("own", 1), 40, NOW).await;
        load(&shelf, place("own", 2), 40, NOW).await;
        assert!(shelf.peek(&place("own", 1)).is_none() && shelf.peek(&place("idle", 1)).is_some());
        load(&shelf, place("own", 3), 60, NOW).await;
        assert!(shelf.peek(&place("idle", 1)).is_none() && shelf.peek(&place("busy", 1)).is_some());
        let refused = shelf.make_room(&place("own", 4), None, 61, NOW).await.unwrap_err();
        assert_eq!(refused.code(), codes::OVERLOADED, "others are busy");
        let refused = shelf.make_room(&place("own", 4), None, 101, NOW).await.unwrap_err();
        assert_eq!(refused.code(), crate::model::MODEL_UNUSABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_serves_stays_while_the_next_is_loaded_and_in_use_counts() {
        let shelf = shelf();
        let serving = load(&shelf, place("a", 1), 60, NOW).await;
        let beside = serving.place.clone();
        assert!(shelf.make_room(&place("a", 2), Some(&beside), 60, NOW).await.is_err());
        assert!(shelf.peek(&beside).is_some());
        let held = shelf.make_room(&place("a", 2), None, 60, NOW).await;
        assert!(held.is_err() && shelf.taken_bytes() == 60, "a request still uses the one that was dropped");
        drop(serving);
        // Its worker holds the model a moment longer, not the room.
        assert_eq!(shelf.taken_bytes(), 0);
        assert!(shelf.make_room(&place("a", 2), None, 60, NOW).await.is_ok());
    }

    #[tokio::test]
    async fn idle_versions_are_swept() {
        let shelf = shelf();
        load(&shelf, place("a", 1), 10, Duration::from_secs(1)).await;
        load(&shelf, place("a", 2), 10, Duration::from_secs(9)).await;
        shelf.sweep(Duration::from_secs(5));
        assert!(shelf.peek(&place("a", 1)).is_none() && shelf.peek(&place("a", 2)).is_some());
        assert_eq!((shelf.taken_bytes(), shelf.metrics.versions.get()), (10, 1));
    }
}
