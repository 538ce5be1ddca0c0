//! The storage ports, by access pattern, and what is written once above them.
//!
//! | port | about | losing it loses |
//! |---|---|---|
//! | [`Records`] | tenant-scoped documents, secondary indexes, transactions, compare-and-set | settings, registry |
//! | [`EventLog`] | append, read from an offset, commit, retention | everything |
//! | [`Cache`] | values with a time to live, counters, leases | nothing |
//! | [`Limiter`] | how much may pass in a time, shared by processes | one burst |
//! | [`Vectors`] | upsert, nearest neighbours under a filter | what can be re-embedded |
//! | [`Columns`] | typed rows by series and time, in revisions; bounded aggregates | what can be computed again |
//! | [`Blobs`] | immutable objects | trained models |
//!
//! It refuses a method that only one vendor can serve: such a thing is a declared capability. [`memory`] holds a
//! fake of every port for tests; `conformance` (a feature) holds the suite that every engine runs; [`recent`] is the memory
//! of newest events that engines share.
//!
//! To add an engine: a leaf crate `store-NAME` with one file per port it serves, and one line per port in its
//! tests that runs the suite. To add a port: a file in `port/`, its fake, its suite, its row above.

mod backoff;
#[cfg(feature = "conformance")]
pub mod conformance;
mod dead_letters;
mod leases;
mod limits;
mod members;
pub mod memory;
mod object_blobs;
mod object_parts;
mod port;
pub mod recent;
mod record_blobs;
mod repository;
mod secret;
mod tenants;

pub use backoff::backoff;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use leases::Leases;
pub use limits::SharedOrLocal;
pub use members::{Load, Members};
pub use object_blobs::ObjectBlobs;
pub use port::blobs::{BlobInfo, Blobs, PutMode, check_path};
pub use port::cache::{Cache, Lease, check_time_to_live};
pub use port::columns::{
    Accumulator, Aggregation, Bucket, Column, ColumnKind, ColumnPage, ColumnPlace, ColumnRow, ColumnScan,
    ColumnTable, ColumnValue, Columns, MAX_APPEND_BYTES, MAX_APPEND_ROWS, MAX_BUCKETS, MAX_COLUMNS,
    MAX_SCAN_ROWS, MAX_SERIES, MAX_TIME_NS, Measure, Partial, TimeRange, out_of_precision,
};
pub use port::event_log::{
    Appended, EventLog, Extent, LogCapabilities, MAX_APPEND_BATCH, Outcome, ReadLimit, Retention, Stored,
    Topic, check_append, check_group, check_restore, no_partition, other_partitions,
};
pub use port::limiter::{Limit, Limiter, Rate, Standing, Verdict, check_take};
pub use port::records::{
    Expect, IndexValue, MAX_BODY_BYTES, MAX_COMMIT_WRITES, MAX_KEY_BYTES, MAX_PAGE_RECORDS, Page, Position,
    Query, Record, Records, RecordsSnapshot, SavedRecord, Selection, Table, Write,
};
pub use port::vectors::{Collection, MAX_DIMENSIONS, Match, Metric, VectorFilter, VectorItem, Vectors};
pub use record_blobs::RecordBlobs;
pub use repository::{Document, Repository, Versioned};
pub use secret::Secret;
pub use tenants::Tenants;
