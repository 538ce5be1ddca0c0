//! Records, the event log, vectors and columns on PostgreSQL with pgvector.
//!
//! | file | about |
//! |---|---|
//! | `config.rs`, `tls.rs` | the settings, the URL, what a server must prove |
//! | `database.rs`, `breaker.rs`, `failure.rs` | the pool, its time limits, what a failure means |
//! | `migrations.rs`, `migrations/` | the schema and its versions |
//! | `records.rs`, `event_log.rs`, `vectors.rs`, `columns.rs` | the ports |
//!
//! Everything lives in one schema. Every write is one statement and one transaction; those that compare and lock are
//! functions of the schema, so that no lock is held while bytes travel. It refuses to start on a schema that this
//! release cannot run on, and it never waits without an end: callers get `UNAVAILABLE` or `TIMED_OUT`, at once while
//! the circuit is open.
//!
//! What is known of failures, and tested:
//! - **A lost connection**: a read is done again on another one; a write is `UNAVAILABLE`, and sending it again is safe
//!   for events (they are found as duplicates) and for records with an expectation.
//! - **A server that is away**: after some failures calls are refused at once; a background probe finds it back within
//!   about a second of its return.
//! - **A network that swallows everything**: a heartbeat of a second notices within `silence_timeout_seconds`; calls
//!   that wait end then, and a probe finds the server back within about that time of its return.
//! - **Damaged events**: each has a checksum, and a gap between offsets is damage too.
//!
//! What it asks of the server: PostgreSQL 14 or newer, pgvector 0.8 or newer. A pooler between must pool by session,
//! because `search_path`, prepared statements and `LISTEN` belong to a session.
//!
//! To add a port: its file here, its tables in a new migration, one call of its conformance suite in the tests.

mod breaker;
mod columns;
mod config;
mod database;
mod event_log;
mod failure;
mod migrations;
mod records;
mod tls;
mod vectors;

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Entropy, Error, Result, codes};
use store::{Columns, EventLog, Records, Vectors};

pub use config::{DatabaseUrl, Settings};
pub use database::PoolFigures;
pub use migrations::{ALL as MIGRATIONS, Applied, Migration, Migrator, RELEASED, Status};

use crate::columns::PostgresColumns;
use crate::database::Database;
use crate::event_log::PostgresEventLog;
use crate::records::PostgresRecords;
use crate::vectors::PostgresVectors;

/// One schema of one server. Its connections and background tasks end when the store and every port that came from it
/// are dropped.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    database: Arc<Database>,
    replica: Option<Arc<Database>>,
    records: Arc<PostgresRecords>,
    event_log: Arc<PostgresEventLog>,
    vectors: Arc<PostgresVectors>,
    columns: Arc<PostgresColumns>,
}

impl PostgresStore {
    /// Connects, and checks that this release can run on the schema. It does not migrate: see [`Migrator::up`].
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting; `UNAVAILABLE` or `TIMED_OUT` when the server does not answer; `CONFLICT`
    /// when the schema is older than this release, newer than it can run on, or was made with other statements.
    pub async fn open(settings: Settings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        settings.check()?;
        let status = Migrator::new(&settings, &*clock).status().await?;
        if let Some((number, name)) = status.pending.first() {
            let message = format!("the schema lacks step {number} `{name}`; run `watershed migrate up`");
            return Err(Error::new(codes::CONFLICT, message));
        }
        let write = settings.write_address()?;
        let database = Arc::new(Database::new("write", &write, &settings, Arc::clone(&entropy))?);
        let replica = match settings.read_address()? {
            None => None,
            Some(address) => {
                Some(Arc::new(Database::new("read", &address, &settings, Arc::clone(&entropy))?))
            }
        };
        let log = PostgresEventLog::new(Arc::clone(&database), replica.clone(), &settings, &entropy);
        Ok(Self {
            records: Arc::new(PostgresRecords::new(Arc::clone(&database), settings.schema.clone())),
            event_log: Arc::new(log),
            vectors: Arc::new(PostgresVectors::new(Arc::clone(&database), settings.exact_search_vectors)),
            columns: Arc::new(PostgresColumns::new(Arc::clone(&database))),
            database,
            replica,
        })
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> Arc<dyn Records> {
        Arc::clone(&self.records) as Arc<dyn Records>
    }

    /// The event log.
    #[must_use]
    pub fn event_log(&self) -> Arc<dyn EventLog> {
        Arc::clone(&self.event_log) as Arc<dyn EventLog>
    }

    /// The vectors.
    #[must_use]
    pub fn vectors(&self) -> Arc<dyn Vectors> {
        Arc::clone(&self.vectors) as Arc<dyn Vectors>
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> Arc<dyn Columns> {
        Arc::clone(&self.columns) as Arc<dyn Columns>
    }

    /// Asks the server that takes writes for a sign of life, over the pool: one that is busy gives none in time. Whether the
    /// server is away the heartbeat says ([`PoolFigures::is_open_circuit`]).
    ///
    /// # Errors
    /// `UNAVAILABLE` or `TIMED_OUT` when there is none within `limit`; at once while the circuit is open.
    pub async fn ping(&self, limit: Duration) -> Result<()> {
        self.database.ping(limit).await
    }

    /// Asks the replica for a sign of life, and whether it has the schema. Nothing where there is no replica.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `TIMED_OUT` when there is no sign within `limit`, or no schema.
    pub async fn ping_replica(&self, limit: Duration) -> Result<()> {
        let Some(replica) = &self.replica else { return Ok(()) };
        replica.ping(limit).await?;
        replica.read("SELECT 1 FROM partitions LIMIT 1", &[]).await.map(drop)
    }

    /// The figures of the pool of the server that takes writes.
    #[must_use]
    pub fn pool(&self) -> PoolFigures {
        self.database.figures()
    }

    /// The figures of the replica's pool, where there is a replica.
    #[must_use]
    pub fn read_pool(&self) -> Option<PoolFigures> {
        self.replica.as_ref().map(|replica| replica.figures())
    }
}
