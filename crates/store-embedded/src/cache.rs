//! The `Cache` port, in memory: values in a bounded map that drops what is asked for least, counters and leases in
//! exact ones that drop only what has expired.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Clock, Result, Scope, TenantId};
use moka::sync::Cache as BoundedMap;
use parking_lot::Mutex;
use store::{Cache, Lease, check_time_to_live};

type Key = (TenantId, String);

// Roughly what an entry takes beside its key and value.
const ENTRY_BYTES: usize = 128;

// Expired counters and leases are looked for when a map has doubled since the last time.
const SWEEP_ENTRIES: usize = 1_024;

/// The cache of one process.
#[derive(Debug)]
pub(crate) struct EmbeddedCache {
    clock: Arc<dyn Clock>,
    values: BoundedMap<Key, (Bytes, Duration)>,
    counters: Mutex<Expiring<i64>>,
    leases: Mutex<Leases>,
}

#[derive(Debug)]
struct Leases {
    held: Expiring<Lease>,
    last_token: u64,
}

impl EmbeddedCache {
    /// An empty cache. `opened` counts the processes that had the folder, so that tokens grow from one to the next.
    pub(crate) fn new(bytes: u64, opened: u64, clock: Arc<dyn Clock>) -> Self {
        let weigh = |(tenant, name): &Key, (value, _): &(Bytes, Duration)| {
            let bytes = tenant.as_str().len() + name.len() + value.len() + ENTRY_BYTES;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let values = BoundedMap::builder().max_capacity(bytes).weigher(weigh).build();
        let leases = Leases { held: Expiring::default(), last_token: opened << 32 };
        Self { clock, values, counters: Mutex::default(), leases: Mutex::new(leases) }
    }
}

/// A map whose entries end. An entry is exact until then.
#[derive(Debug)]
struct Expiring<V> {
    entries: HashMap<Key, (V, Duration)>,
    swept_entries: usize,
}

impl<V> Default for Expiring<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), swept_entries: 0 }
    }
}

impl<V> Expiring<V> {
    fn get_mut(&mut self, key: &Key, now: Duration) -> Option<&mut (V, Duration)> {
        self.entries.get_mut(key).filter(|(_, end)| now < *end)
    }

    fn insert(&mut self, key: Key, value: V, now: Duration, end: Duration) {
        if self.entries.len() >= SWEEP_ENTRIES.max(2 * self.swept_entries) {
            self.entries.retain(|_, (_, end)| now < *end);
            self.swept_entries = self.entries.len();
        }
        self.entries.insert(key, (value, end));
    }
}

fn key_of(scope: &Scope, name: &str) -> Key {
    (scope.tenant().clone(), name.to_owned())
}

#[async_trait]
impl Cache for EmbeddedCache {
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>> {
        let now = self.clock.elapsed();
        let found = self.values.get(&key_of(scope, key));
        Ok(found.filter(|(_, end)| now < *end).map(|(value, _)| value))
    }

    async fn set(&self, scope: &Scope, key: &str, value: Bytes, time_to_live: Duration) -> Result<()> {
        check_time_to_live(time_to_live)?;
        self.values.insert(key_of(scope, key), (value, self.clock.elapsed().saturating_add(time_to_live)));
        Ok(())
    }

    async fn remove(&self, scope: &Scope, keys: &[&str]) -> Result<()> {
        for key in keys {
            let key = key_of(scope, key);
            self.values.invalidate(&key);
            self.counters.lock().entries.remove(&key);
        }
        Ok(())
    }

    async fn add(&self, scope: &Scope, key: &str, amount: i64, time_to_live: Duration) -> Result<i64> {
        check_time_to_live(time_to_live)?;
        let now = self.clock.elapsed();
        let key = key_of(scope, key);
        let mut counters = self.counters.lock();
        if let Some((sum, _)) = counters.get_mut(&key, now) {
            *sum = sum.saturating_add(amount);
            return Ok(*sum);
        }
        counters.insert(key, amount, now, now.saturating_add(time_to_live));
        Ok(amount)
    }

    async fn acquire(
        &self,
        scope: &Scope,
        name: &str,
        holder: &str,
        time_to_live: Duration,
    ) -> Result<Option<Lease>> {
        check_time_to_live(time_to_live)?;
        let now = self.clock.elapsed();
        let end = now.saturating_add(time_to_live);
        let key = key_of(scope, name);
        let mut leases = self.leases.lock();
        if let Some((lease, until)) = leases.held.get_mut(&key, now) {
            if lease.holder != holder {
                return Ok(None);
            }
            *until = end;
            return Ok(Some(lease.clone()));
        }
        leases.last_token += 1;
        let lease = Lease { name: name.to_owned(), holder: holder.to_owned(), token: leases.last_token };
        leases.held.insert(key, lease.clone(), now, end);
        Ok(Some(lease))
    }

    async fn release(&self, scope: &Scope, lease: &Lease) -> Result<()> {
        let key = key_of(scope, &lease.name);
        let mut leases = self.leases.lock();
        if leases.held.entries.get(&key).is_some_and(|(held, _)| held == lease) {
            leases.held.entries.remove(&key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kernel::{ManualClock, Timestamp};

    use super::*;

    #[tokio::test]
    async fn memory_is_bounded() {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let cache = EmbeddedCache::new(1 << 20, 1, Arc::clone(&clock) as Arc<_>);
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let minute = Duration::from_secs(60);
        for number in 0..5_000 {
            let key = number.to_string();
            cache.set(&scope, &key, Bytes::from(vec![0; 1_000]), minute).await.unwrap();
            cache.add(&scope, &key, 1, minute).await.unwrap();
            cache.acquire(&scope, &key, "me", minute).await.unwrap();
            clock.advance(Duration::from_secs(1));
        }
        cache.values.run_pending_tasks();
        assert!(cache.values.weighted_size() <= 1 << 20);
        assert!(cache.counters.lock().entries.len() <= 2 * SWEEP_ENTRIES);
        assert!(cache.leases.lock().held.entries.len() <= 2 * SWEEP_ENTRIES);
        assert_eq!(cache.add(&scope, "4999", 1, minute).await.unwrap(), 2, "what has not expired is kept");
    }
}
