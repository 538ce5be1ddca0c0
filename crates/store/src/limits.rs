//! [`SharedOrLocal`]: a layer over the `Limiter` port for an engine that may be away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use kernel::{ErrorKind, Result, Scope};

use crate::{Limit, Limiter, Verdict};

/// Limits that all processes share, and that this process counts alone while the shared engine is away: then each
/// process lets as much pass as all together should, but nobody is refused for it and nobody passes unlimited.
#[derive(Debug)]
pub struct SharedOrLocal {
    shared: Arc<dyn Limiter>,
    local: Arc<dyn Limiter>,
    local_calls: AtomicU64,
}

impl SharedOrLocal {
    /// Asks `shared`, and `local` when that is away.
    #[must_use]
    pub fn new(shared: Arc<dyn Limiter>, local: Arc<dyn Limiter>) -> Self {
        Self { shared, local, local_calls: AtomicU64::new(0) }
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
        match self.shared.take(scope, limits, cost).await {
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::StorageFull) => {
                self.local_calls.fetch_add(1, Ordering::Relaxed);
                self.local.take(scope, limits, cost).await
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

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
        let local = Arc::new(MemoryLimiter::new(clock));
        let limiter = SharedOrLocal::new(Arc::clone(&shared) as Arc<_>, local);
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
        assert!(!admitted().await, "the shared count is as it was");
    }
}
