//! The embedded engine keeps the rules of every port.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, ManualClock, SystemClock, Timestamp};
use store::conformance::cache::CacheUnderTest;
use store::{Blobs, Columns, EventLog, Records, Vectors};
use store_embedded::{EmbeddedStore, Options};
use tempfile::TempDir;

fn open(folder: &TempDir, options: Options, clock: Arc<dyn Clock>) -> EmbeddedStore {
    EmbeddedStore::open(folder.path(), options, clock).unwrap()
}

/// Opens one new folder again and again; small buffers, so that tables are written too.
fn opener(partitions: u32) -> impl Fn() -> EmbeddedStore {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { partitions, write_buffer_bytes: 1 << 20, ..Options::default() };
    move || open(&folder, options, Arc::new(SystemClock::new()))
}

mod records {
    fn open() -> impl AsyncFn() -> std::sync::Arc<dyn super::Records> {
        let open = super::opener(1);
        async move || open().records()
    }

    store::records_conformance!(open());
}

fn open_log(partitions: u32) -> impl AsyncFn() -> Arc<dyn EventLog> {
    let open = opener(partitions);
    async move || open().event_log()
}

mod event_log {
    store::event_log_conformance!(super::open_log(1));
}

mod event_log_in_five_partitions {
    store::event_log_conformance!(super::open_log(5));
}

mod vectors {
    fn open() -> impl AsyncFn() -> std::sync::Arc<dyn super::Vectors> {
        let open = super::opener(1);
        async move || open().vectors()
    }

    store::vectors_conformance!(open());
}

mod columns {
    fn open() -> impl AsyncFn() -> std::sync::Arc<dyn super::Columns> {
        let open = super::opener(1);
        async move || open().columns()
    }

    store::columns_conformance!(open());
}

mod blobs {
    fn open() -> impl AsyncFn() -> std::sync::Arc<dyn super::Blobs> {
        let open = super::opener(1);
        async move || open().blobs()
    }

    store::blobs_conformance!(open());
}

mod cache {
    use super::*;

    fn open() -> impl AsyncFn() -> CacheUnderTest {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        async move || {
            let store = super::open(&folder, Options::default(), Arc::clone(&clock) as Arc<_>);
            let clock = Arc::clone(&clock);
            CacheUnderTest {
                cache: store.cache(),
                time_to_live: Duration::from_secs(60),
                pass: Box::new(move |time| {
                    clock.advance(time);
                    Box::pin(std::future::ready(()))
                }),
            }
        }
    }

    store::cache_conformance!(open());
}
