//! The engine keeps the rules of every port it serves, on a real server.

mod common;

use std::sync::Arc;

use store::{Columns, EventLog, Records, Vectors};

fn open_records() -> impl AsyncFn() -> Arc<dyn Records> {
    let open = common::opener(|_| ());
    async move || open().await.records()
}

fn open_log(partitions: u32) -> impl AsyncFn() -> Arc<dyn EventLog> {
    let open = common::opener(move |settings| settings.partitions = partitions);
    async move || open().await.event_log()
}

/// With a replica's URL: the same server, which is the replica that is never behind.
fn open_log_with_replica() -> impl AsyncFn() -> Arc<dyn EventLog> {
    let open = common::opener(|settings| settings.read_url.clone_from(&settings.url));
    async move || open().await.event_log()
}

fn open_vectors(exact_search_vectors: u64) -> impl AsyncFn() -> Arc<dyn Vectors> {
    let open = common::opener(move |settings| settings.exact_search_vectors = exact_search_vectors);
    async move || open().await.vectors()
}

fn open_columns() -> impl AsyncFn() -> Arc<dyn Columns> {
    let open = common::opener(|_| ());
    async move || open().await.columns()
}

mod records {
    store::records_conformance!(super::open_records());
}

mod event_log {
    store::event_log_conformance!(super::open_log(1));
}

mod event_log_in_five_partitions {
    store::event_log_conformance!(super::open_log(5));
}

mod event_log_with_replica {
    store::event_log_conformance!(super::open_log_with_replica());
}

mod vectors {
    store::vectors_conformance!(super::open_vectors(5_000));
}

mod columns {
    store::columns_conformance!(super::open_columns());
}

/// A release must go on when the next one has moved the schema.
mod on_the_schema_of_the_next_release {
    use std::sync::Arc;

    use store::{EventLog, Records, Vectors};

    fn open_records() -> impl AsyncFn() -> Arc<dyn Records> {
        let open = crate::common::opener_on_next();
        async move || open().await.records()
    }

    fn open_log() -> impl AsyncFn() -> Arc<dyn EventLog> {
        let open = crate::common::opener_on_next();
        async move || open().await.event_log()
    }

    fn open_vectors() -> impl AsyncFn() -> Arc<dyn Vectors> {
        let open = crate::common::opener_on_next();
        async move || open().await.vectors()
    }

    mod records {
        store::records_conformance!(super::open_records());
    }

    mod event_log {
        store::event_log_conformance!(super::open_log());
    }

    mod vectors {
        store::vectors_conformance!(super::open_vectors());
    }
}

/// What holds of large collections too: all but the order and choice among equal scores, which are approximate there.
mod vectors_through_the_index {
    store::conformance_tests!(
        vectors,
        super::open_vectors(0),
        [
            an_upsert_is_seen_by_the_next_search,
            each_metric_scores_as_it_says,
            a_zero_vector_scores_zero,
            results_are_as_many_as_there_are,
            bad_vectors_are_refused_whole,
            other_dimensions_are_refused,
            replacing_takes_the_last_and_forgets_the_first,
            deleting_counts_what_was_there,
            tenants_and_collections_do_not_meet,
            reopening_keeps_everything,
            concurrent_upserts_are_all_kept,
        ]
    );
}
