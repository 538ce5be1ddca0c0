//! The engine keeps the rules of its ports on one server, a Sentinel set and a Cluster.

mod support;

use std::time::Duration;

use store::conformance::cache::CacheUnderTest;
use store::conformance::limiter::LimiterUnderTest;
use store_redis::{Mode, Settings};

use crate::support::{settings, shared};

fn patient(mode: Mode) -> Settings {
    // A busy machine must not look like a cache that is away.
    Settings { command_timeout_ms: 10_000, ..settings(&shared(mode), mode) }
}

fn cache(mode: Mode) -> impl AsyncFn() -> CacheUnderTest {
    let settings = patient(mode);
    async move || CacheUnderTest {
        cache: support::open(&settings).await.cache(),
        time_to_live: Duration::from_millis(600),
        pass: Box::new(|time| Box::pin(tokio::time::sleep(time))),
    }
}

fn limiter(mode: Mode) -> impl AsyncFn() -> LimiterUnderTest {
    let settings = patient(mode);
    async move || LimiterUnderTest {
        limiter: support::open(&settings).await.limiter(),
        interval: Duration::from_millis(500),
        pass: Box::new(|time| Box::pin(tokio::time::sleep(time))),
    }
}

mod plain {
    mod cache {
        store::cache_conformance!(crate::cache(store_redis::Mode::Plain));
    }
    mod limiter {
        store::limiter_conformance!(crate::limiter(store_redis::Mode::Plain));
    }
}

mod sentinel {
    mod cache {
        store::cache_conformance!(crate::cache(store_redis::Mode::Sentinel));
    }
    mod limiter {
        store::limiter_conformance!(crate::limiter(store_redis::Mode::Sentinel));
    }
}

mod cluster {
    mod cache {
        store::cache_conformance!(crate::cache(store_redis::Mode::Cluster));
    }
    mod limiter {
        store::limiter_conformance!(crate::limiter(store_redis::Mode::Cluster));
    }
}
