//! The `Limiter` port of one process: exact, in a map that forgets who has a whole burst. A test's fake, and what
//! counts alone while a shared engine is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Result, Scope, TenantId};
use parking_lot::Mutex;

use crate::{Limit, Limiter, Verdict, check_take};

type Key = (TenantId, String);

// Keys that have their whole burst are looked for when the map has doubled since the last time.
const SWEEP_KEYS: usize = 1_024;

/// Limits that one process counts.
#[derive(Debug)]
pub struct MemoryLimiter {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When each key has its whole burst again.
    full_at: HashMap<Key, Duration>,
    swept_keys: usize,
}

impl State {
    fn sweep(&mut self, now: Duration) {
        if self.full_at.len() >= SWEEP_KEYS.max(2 * self.swept_keys) {
            self.full_at.retain(|_, end| now < *end);
            self.swept_keys = self.full_at.len();
        }
    }
}

impl MemoryLimiter {
    /// Limits whose time runs on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }
}

#[async_trait]
impl Limiter for MemoryLimiter {
    async fn take(&self, scope: &Scope, limits: &[Limit<'_>], cost: u32) -> Result<Verdict> {
        check_take(limits, cost)?;
        let now = self.clock.elapsed();
        let mut state = self.state.lock();
        state.sweep(now);
        let keys: Vec<Key> =
            limits.iter().map(|limit| (scope.tenant().clone(), limit.key.to_owned())).collect();
        let mut owed = Vec::with_capacity(limits.len());
        for (key, limit) in keys.iter().zip(limits) {
            let most = Duration::from_micros(limit.rate.refill_us());
            let missing = state.full_at.get(key).map_or(Duration::ZERO, |end| end.saturating_sub(now));
            if missing > most {
                // The burst was made smaller: what it owes beyond that is forgiven, refused or not.
                state.full_at.insert(key.clone(), now.saturating_add(most));
            }
            owed.push(u64::try_from(missing.min(most).as_micros()).unwrap_or(u64::MAX));
        }
        let fits =
            |(owed, limit): (&u64, &Limit<'_>)| owed + limit.rate.cost_us(cost) <= limit.rate.refill_us();
        let admitted = owed.iter().zip(limits).all(fits);
        if !admitted {
            let standings = owed.iter().zip(limits).map(|(owed, limit)| limit.rate.standing(*owed, cost));
            return Ok(Verdict { admitted, standings: standings.collect() });
        }
        let mut standings = Vec::with_capacity(limits.len());
        for ((key, owed), limit) in keys.into_iter().zip(owed).zip(limits) {
            let owed = owed + limit.rate.cost_us(cost);
            if cost > 0 {
                state.full_at.insert(key, now.saturating_add(Duration::from_micros(owed)));
            }
            standings.push(limit.rate.standing(owed, 0));
        }
        Ok(Verdict { admitted, standings })
    }
}

#[cfg(test)]
mod tests {
    use kernel::{ManualClock, Timestamp};

    use super::*;
    use crate::Rate;

    #[tokio::test]
    async fn memory_is_bounded() {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let limiter = MemoryLimiter::new(Arc::clone(&clock) as Arc<_>);
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let rate = Rate::new(1, Duration::from_secs(60), 1).unwrap();
        for number in 0..20_000 {
            let key = number.to_string();
            assert!(limiter.take(&scope, &[Limit { key: &key, rate }], 1).await.unwrap().admitted);
            clock.advance(Duration::from_secs(1));
        }
        assert!(limiter.state.lock().full_at.len() <= 2 * SWEEP_KEYS);
    }
}
