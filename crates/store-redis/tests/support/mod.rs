//! What the tests share: the servers that the environment names, servers of a test's own, and a proxy that fails on
//! demand. A test that lacks its server fails and says how to run it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod proxy;
pub(crate) mod servers;

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Entropy, Scope, SystemClock, SystemEntropy, TenantId};
use store::Secret;
use store_redis::{Mode, RedisStore, Settings};

/// The variable, which `scripts/with-engines` sets.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "this is how a test learns of its servers")]
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `scripts/with-engines --only redis cargo nextest run -p store-redis`")
    })
}

/// The address of the shared servers of a mode.
#[track_caller]
pub(crate) fn shared(mode: Mode) -> String {
    match mode {
        Mode::Plain => variable("WATERSHED_TEST_REDIS_URL"),
        Mode::Sentinel => variable("WATERSHED_TEST_REDIS_SENTINEL_URLS"),
        Mode::Cluster => variable("WATERSHED_TEST_REDIS_CLUSTER_URLS"),
    }
}

/// Settings for `url` under a prefix that no other test has.
pub(crate) fn settings(url: &str, mode: Mode) -> Settings {
    Settings {
        url: Secret::new(url),
        mode,
        prefix: format!("test-{:016x}", SystemEntropy::new().next_u64()),
        pool_size: 3,
        ..Settings::default()
    }
}

pub(crate) async fn open(settings: &Settings) -> RedisStore {
    RedisStore::open(settings, Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new())).await.unwrap()
}

pub(crate) fn shop() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

/// How long a future takes, beside what it gives.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let clock = SystemClock::new();
    let value = future.await;
    (value, clock.elapsed())
}

/// Asks every 10 ms until `holds`, and returns how long that took.
pub(crate) async fn until(limit: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let clock = SystemClock::new();
    while !holds().await {
        assert!(clock.elapsed() < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    clock.elapsed()
}
