//! The engine on a real one: the rules of the port, which row counts, what is away, the steps of its database.
//!
//! It refuses to run without a server: `scripts/with-engines --only clickhouse` starts one. To add a subject: a module.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;
mod migrations;
mod outage;
mod rows;

mod conformance {
    store::columns_conformance!(crate::common::opener());
}
