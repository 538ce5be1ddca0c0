//! One file per port: the trait, its types, its rules.

pub(crate) mod blobs;
pub(crate) mod cache;
pub(crate) mod columns;
pub(crate) mod cursor;
pub(crate) mod event_log;
pub(crate) mod limiter;
pub(crate) mod records;
pub(crate) mod vectors;
