//! [`SharedOrLocal`]: a layer over the `Limiter` port for an engine that may be away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, ErrorKind, Result, Scope, TenantId};
use parking_lot::RwLock;

use crate::{Limit, Limiter, Verdict};

/// Limits that all processes share, and that this process counts alone while the shared engine is away: then each
/// process lets as much pass as all together should, but nobody is refused for it and nobody passes unlimited.
///
/// After a failure a tenant is counted here for a second without asking: where one node of several is away, its
/// tenants would else wait for it with every request.
#[derive(Debug)]
pub struct SharedOrLocal {
    shared: Arc<dyn Limiter>,
    local: Arc<dyn Limiter>,
    clock: Arc<dyn Clock>,
    /// Until when each tenant is counted here. Those whose time is over are forgotten with the next failure.
    held: RwLock<HashMap<TenantId, Duration>>,
    local_calls: AtomicU64,
}

/// How long a tenant is counted by this process after the shared engine failed it.
const HOLD: Duration = Duration::from_secs(1);

impl SharedOrLocal {
    /// Asks `shared`, and `local` when that is away.
    #[must_use]
    pub fn new(shared: Arc<dyn Limiter>, local: Arc<dyn Limiter>, clock: Arc<dyn Clock>) -> Self {
        Self { shared, local, clock, held: RwLock::default(), local_calls: AtomicU64::new(0) }
    }

    fn is_held(&self, tenant: &TenantId) -> bool {
        let until = self.held.read().get(tenant).copied();
        until.is_some_and(|until| self.clock.elapsed() < until)
    }

    fn hold(&self, tenant: &TenantId) {
        let now = self.clock.elapsed();
        let mut held = self.held.write();
        held.retain(|_, until| now < *until);
        held.insert(tenant.clone(), now.saturating_add(HOLD));
    }

    async fn take_here(&self, scope: &Scope, limits: &[Limit<'_>], cost: u32) -> Result<Verdict> {
        self.local_calls.fetch_add(1, Ordering::Relaxed);
        self.local.take(scope, limits, cost).await
    }

    /// How many calls were counted by this process alone.
    #[must_use]
    pub fn local_calls(&self) -> u64 {
        self.local_calls.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Limiter for SharedOrLocal {
    async fn take(&self, scope: &Scope, limits: &[Limit<'_>], cost: u32) -> Result<Verdict> {
        if self.is_held(scope.tenant()) {
            return self.take_here(scope, limits, cost).await;
        }
        match self.shared.take(scope, limits, cost).await {
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::StorageFull) => {
                self.hold(scope.tenant());
                self.take_here(scope, limits, cost).await
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use kernel::{Error, ManualClock, TenantId, Timestamp, codes};

    use super::*;
    use crate::Rate;
    use crate::memory::MemoryLimiter;

    #[derive(Debug)]
    struct Sometimes {
        inner: MemoryLimiter,
        away: AtomicBool,
    }

    #[async_trait]
    impl Limiter for Sometimes {
        async fn take(&self, scope: &Scope, limits: &[Limit<'_>], cost: u32) -> Result<Verdict> {
            if self.away.load(Ordering::Relaxed) {
                return Err(Error::new(codes::UNAVAILABLE, "away"));
            }
            self.inner.take(scope, limits, cost).await
        }
    }

    #[tokio::test]
    async fn limits_hold_while_the_shared_engine_is_away() {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let inner = MemoryLimiter::new(Arc::clone(&clock) as Arc<_>);
        let shared = Arc::new(Sometimes { inner, away: AtomicBool::new(false) });
        let local = Arc::new(MemoryLimiter::new(Arc::clone(&clock) as Arc<_>));
        let limiter = SharedOrLocal::new(Arc::clone(&shared) as Arc<_>, local, Arc::clone(&clock) as Arc<_>);
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let limit = [Limit { key: "a", rate: Rate::new(1, Duration::from_secs(60), 2).unwrap() }];
        let admitted = async || limiter.take(&scope, &limit, 1).await.unwrap().admitted;
        assert_eq!([admitted().await, admitted().await, admitted().await], [true, true, false]);
        shared.away.store(true, Ordering::Relaxed);
        assert_eq!([admitted().await, admitted().await, admitted().await], [true, true, false]);
        assert_eq!(limiter.local_calls(), 3);
        let refused = limiter.take(&scope, &limit, 3).await.unwrap_err();
        assert_eq!(refused.code(), codes::TOO_LARGE, "both refuse what is not lawful");
        shared.away.store(false, Ordering::Relaxed);
        assert_eq!((admitted().await, limiter.local_calls()), (false, 5), "it is not asked at once");
        clock.advance(HOLD);
        assert_eq!((admitted().await, limiter.local_calls()), (false, 5), "the shared count is as it was");
    }
}
