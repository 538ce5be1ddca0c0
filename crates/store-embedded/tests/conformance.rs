//! The embedded engine keeps the rules of every port.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, ManualClock, Scope, SystemClock, TenantId, Timestamp};
use store::conformance::cache::CacheUnderTest;
use store::{Blobs, Collection, Columns, EventLog, Metric, Records, VectorItem, Vectors};
use store_embedded::{EmbeddedStore, Options};
use tempfile::TempDir;

fn open(folder: &TempDir, options: Options, clock: Arc<dyn Clock>) -> EmbeddedStore {
    EmbeddedStore::open(folder.path(), options, clock).unwrap()
}

/// Opens one new folder again and again; small buffers, so that tables are written too.
fn opener(partitions: u32) -> impl Fn() -> EmbeddedStore {
    opener_with(Options { partitions, ..Options::default() })
}

fn opener_with(options: Options) -> impl Fn() -> EmbeddedStore {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { write_buffer_bytes: 1 << 20, ..options };
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

mod event_log_that_keeps_nothing_in_memory {
    fn open() -> impl AsyncFn() -> std::sync::Arc<dyn super::EventLog> {
        let open = super::opener_with(super::Options { recent_bytes: 0, ..super::Options::default() });
        async move || open().event_log()
    }

    store::event_log_conformance!(open());
}

mod vectors {
    fn open() -> impl AsyncFn() -> std::sync::Arc<dyn super::Vectors> {
        let open = super::opener(1);
        async move || open().vectors()
    }

    store::vectors_conformance!(open());
}

mod vectors_through_the_index {
    fn open() -> impl AsyncFn() -> std::sync::Arc<dyn super::Vectors> {
        let options = super::Options { exact_search_vectors: 200, ..super::Options::default() };
        let open = super::opener_with(options);
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

/// The index is built in the background, and again after a restart.
#[tokio::test]
async fn vectors_are_indexed_before_long() {
    let open = opener_with(Options { exact_search_vectors: 500, ..Options::default() });
    let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
    let collection = Collection { name: "items", dimensions: 4, metric: Metric::Euclidean };
    let item = |number: u16| VectorItem {
        key: number.to_string(),
        vector: (0..4).map(|place| f32::from(number >> (4 * place) & 15)).collect(),
        tags: BTreeMap::new(),
    };
    let mut store = open();
    store.vectors().upsert(&scope, collection, (0..2_000).map(item).collect()).await.unwrap();
    for _ in 0..2 {
        for _ in 0..1_200 {
            if store.vectors_to_index() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(store.vectors_to_index(), 0);
        for number in [0, 77, 1_999] {
            let query = item(number).vector;
            let found =
                store.vectors().search(&scope, collection, &query, 3, &BTreeMap::new()).await.unwrap();
            assert_eq!((found.len(), &*found[0].key), (3, &*number.to_string()));
        }
        drop(store);
        store = open();
        assert_eq!(store.vectors().count(&scope, collection).await.unwrap(), 2_000);
    }
}
