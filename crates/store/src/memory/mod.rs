//! A fake of every port, in memory, for tests: as plain as can be, honest to every rule, and gone when dropped.
//!
//! They refuse what an engine refuses, so that a test over a fake means something. To add one more: a file here
//! that passes the port's conformance suite.

mod blobs;
mod cache;
mod columns;
mod event_log;
mod limiter;
mod records;
mod vectors;

pub use blobs::memory_blobs;
pub use cache::MemoryCache;
pub use columns::MemoryColumns;
pub use event_log::MemoryEventLog;
pub use limiter::MemoryLimiter;
pub use records::MemoryRecords;
pub use vectors::MemoryVectors;

#[cfg(all(test, feature = "conformance"))]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use kernel::{ManualClock, Timestamp};

    use super::*;
    use crate::conformance::cache::CacheUnderTest;
    use crate::conformance::limiter::LimiterUnderTest;
    use crate::{Blobs, Cache, Columns, EventLog, Limiter, Records, Vectors};

    mod records {
        use super::*;

        fn open() -> impl AsyncFn() -> Arc<dyn Records> {
            let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
            async move || Arc::clone(&records)
        }

        crate::records_conformance!(open());
    }

    fn open_log(partitions: u32) -> impl AsyncFn() -> Arc<dyn EventLog> {
        let log: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(partitions));
        async move || Arc::clone(&log)
    }

    mod event_log {
        crate::event_log_conformance!(super::open_log(1));
    }

    mod event_log_in_five_partitions {
        crate::event_log_conformance!(super::open_log(5));
    }

    mod cache {
        use super::*;

        fn open() -> impl AsyncFn() -> CacheUnderTest {
            let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
            let cache: Arc<dyn Cache> = Arc::new(MemoryCache::new(Arc::clone(&clock) as Arc<_>));
            async move || {
                let clock = Arc::clone(&clock);
                CacheUnderTest {
                    cache: Arc::clone(&cache),
                    time_to_live: Duration::from_secs(60),
                    pass: Box::new(move |time| {
                        clock.advance(time);
                        Box::pin(std::future::ready(()))
                    }),
                }
            }
        }

        crate::cache_conformance!(open());
    }

    mod limiter {
        use super::*;

        fn open() -> impl AsyncFn() -> LimiterUnderTest {
            let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
            let limiter: Arc<dyn Limiter> = Arc::new(MemoryLimiter::new(Arc::clone(&clock) as Arc<_>));
            async move || {
                let clock = Arc::clone(&clock);
                LimiterUnderTest {
                    limiter: Arc::clone(&limiter),
                    interval: Duration::from_secs(60),
                    pass: Box::new(move |time| {
                        clock.advance(time);
                        Box::pin(std::future::ready(()))
                    }),
                }
            }
        }

        crate::limiter_conformance!(open());
    }

    mod vectors {
        use super::*;

        fn open() -> impl AsyncFn() -> Arc<dyn Vectors> {
            let vectors: Arc<dyn Vectors> = Arc::new(MemoryVectors::new());
            async move || Arc::clone(&vectors)
        }

        crate::vectors_conformance!(open());
    }

    mod columns {
        use super::*;

        fn open() -> impl AsyncFn() -> Arc<dyn Columns> {
            let columns: Arc<dyn Columns> = Arc::new(MemoryColumns::new());
            async move || Arc::clone(&columns)
        }

        crate::columns_conformance!(open());
    }

    mod blobs {
        use super::*;

        fn open() -> impl AsyncFn() -> Arc<dyn Blobs> {
            let blobs: Arc<dyn Blobs> = Arc::new(memory_blobs());
            async move || Arc::clone(&blobs)
        }

        crate::blobs_conformance!(open());
    }
}
