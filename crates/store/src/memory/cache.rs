//! The fake of the `Cache` port: three maps and a clock. It never forgets early and has no bound.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Clock, Result, Scope, TenantId};
use parking_lot::Mutex;

use crate::{Cache, Lease, check_time_to_live};

type Key = (TenantId, String);

/// A cache without bounds.
#[derive(Debug)]
pub struct MemoryCache {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: HashMap<Key, (Bytes, Duration)>,
    counters: HashMap<Key, (i64, Duration)>,
    leases: HashMap<Key, (Lease, Duration)>,
    last_token: u64,
}

impl MemoryCache {
    /// An empty cache whose times to live run on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }
}

fn key_of(scope: &Scope, name: &str) -> Key {
    (scope.tenant().clone(), name.to_owned())
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>> {
        let now = self.clock.elapsed();
        let state = self.state.lock();
        let found = state.values.get(&key_of(scope, key));
        Ok(found.filter(|(_, end)| now < *end).map(|(value, _)| value.clone()))
    }

    async fn set(&self, scope: &Scope, key: &str, value: Bytes, time_to_live: Duration) -> Result<()> {
        check_time_to_live(time_to_live)?;
        let end = self.clock.elapsed().saturating_add(time_to_live);
        self.state.lock().values.insert(key_of(scope, key), (value, end));
        Ok(())
    }

    async fn remove(&self, scope: &Scope, keys: &[&str]) -> Result<()> {
        let mut state = self.state.lock();
        for key in keys {
            let key = key_of(scope, key);
            state.values.remove(&key);
            state.counters.remove(&key);
        }
        Ok(())
    }

    async fn add(&self, scope: &Scope, key: &str, amount: i64, time_to_live: Duration) -> Result<i64> {
        check_time_to_live(time_to_live)?;
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        let fresh = (0, now.saturating_add(time_to_live));
        let counter = state.counters.entry(key_of(scope, key)).or_insert(fresh);
        if now >= counter.1 {
            *counter = fresh;
        }
        counter.0 = counter.0.saturating_add(amount);
        Ok(counter.0)
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
        let mut state = self.state.lock();
        let State { leases, last_token, .. } = &mut *state;
        let key = key_of(scope, name);
        if let Some((lease, until)) = leases.get_mut(&key)
            && now < *until
        {
            if lease.holder != holder {
                return Ok(None);
            }
            *until = end;
            return Ok(Some(lease.clone()));
        }
        *last_token += 1;
        let lease = Lease { name: name.to_owned(), holder: holder.to_owned(), token: *last_token };
        leases.insert(key, (lease.clone(), end));
        Ok(Some(lease))
    }

    async fn release(&self, scope: &Scope, lease: &Lease) -> Result<()> {
        let mut state = self.state.lock();
        let key = key_of(scope, &lease.name);
        if state.leases.get(&key).is_some_and(|(held, _)| held == lease) {
            state.leases.remove(&key);
        }
        Ok(())
    }
}
