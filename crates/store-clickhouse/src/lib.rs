//! The `Columns` port on ClickHouse, over its HTTP interface.
//!
//! | file | about |
//! |---|---|
//! | `config.rs` | the settings, the URL |
//! | `client.rs`, `breaker.rs`, `failure.rs` | a statement over HTTP, its time limits, what a failure means |
//! | `encoding.rs` | rows as bytes (`RowBinary`) |
//! | `migrations.rs`, `migrations/` | the ledger, and what every table is made with |
//! | `columns.rs`, `columns/` | the port |
//!
//! It speaks HTTP by `reqwest`, which the house has: the tables are declared when the program runs, so that the typed rows of
//! the `clickhouse` crate have no type to be, and what is left of it then is an HTTP client.
//!
//! **Never the last block.** ClickHouse has no unique keys; two inserts of one row are two rows until parts are merged, and
//! merges come when they come. So a row carries what decides: its revision, and within a revision its `precedence`, which is
//! higher the earlier it was written. A read takes the highest of both itself, from whatever parts there are; a merge of
//! `ReplacingMergeTree(precedence)` takes the same, so that a read before and after a merge is one answer, in whatever order
//! revisions and retries came. A bar is a whole row here, each revision with all that it is made of (`market` folds it): the
//! state that aggregates is `argMax` of the whole row by (revision, precedence), not a sum that a retry counts twice, and not an
//! `argMax` of each column, because columns of one row must never come from two writers. It is made when it is read: earlier
//! revisions stay, which a stored state would drop. `current_NAME` is a view of it for people (`columns/tables.rs`).
//!
//! **Appends.** What is there already is asked for first and not sent again; one INSERT is waited for until its part is on
//! disk (no asynchronous inserts, `fsync_after_insert`). When its answer is lost, what arrived is asked for and only what is
//! missing is sent, under the precedence of the first try, so that nothing is lost and nothing counts twice.
//!
//! What it does not promise, for ClickHouse has no transactions:
//! - An append over several months is one part for each: where the server dies between two of them the caller gets an error,
//!   some rows are there, and the same append again completes it.
//! - Appends of one process to one table of a tenant take turns. Two processes that append the same revision of the same row
//!   in the same moment may both be told that it was new; so may one whose rows overtake those of a caller who gave up. Which
//!   of the two stays is in the rows: every read and every merge takes the same one.
//! - It was written for one server. On replicas reads and writes must go to the same one.
//!
//! It refuses a database that lacks its steps, and to wait without an end: callers get `UNAVAILABLE` or `TIMED_OUT`, at once
//! while the circuit is open. Nothing that was not acknowledged counts as stored; whoever sent it keeps it and sends it again.
//!
//! To add a port: its file here, its tables in a new migration, one call of its conformance suite in the tests.

mod breaker;
mod client;
mod columns;
mod config;
mod encoding;
mod failure;
mod migrations;
mod text;

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Entropy, Error, Result, codes};
use store::Columns;

pub use client::Figures;
pub use config::Settings;
pub use migrations::{ALL as MIGRATIONS, Applied, Migration, Migrator, RELEASED, Status};

use crate::client::Client;
use crate::columns::ClickHouseColumns;

/// One database of one server.
#[derive(Debug, Clone)]
pub struct ClickHouseStore {
    client: Arc<Client>,
    columns: Arc<ClickHouseColumns>,
}

impl ClickHouseStore {
    /// Checks that the server answers and that this release can run on the database. It does not migrate: see
    /// [`Migrator::up`].
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting; `UNAVAILABLE` or `TIMED_OUT` when the server does not answer; `CONFLICT` when
    /// the database lacks a step of this release, is newer than it can run on, or was made with other statements.
    pub async fn open(settings: &Settings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let client = Arc::new(Client::new(settings, Arc::clone(&clock), Arc::clone(&entropy))?);
        let status = Migrator::over(Arc::clone(&client), settings, Arc::clone(&clock)).status().await?;
        if let Some((number, name)) = status.pending.first() {
            let message = format!("ClickHouse lacks step {number} `{name}`; run `watershed migrate up`");
            return Err(Error::new(codes::CONFLICT, message));
        }
        let columns = Arc::new(ClickHouseColumns::new(Arc::clone(&client), settings, clock, entropy));
        Ok(Self { client, columns })
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> Arc<dyn Columns> {
        Arc::clone(&self.columns) as Arc<dyn Columns>
    }

    /// Asks the server for a sign of life. An answer closes the circuit.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `TIMED_OUT` when there is none within `limit`.
    pub async fn ping(&self, limit: Duration) -> Result<()> {
        self.client.ping(limit).await
    }

    /// What became of the statements since the start.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.client.figures()
    }
}
