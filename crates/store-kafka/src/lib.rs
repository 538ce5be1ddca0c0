//! The `EventLog` port on Kafka, or what speaks its protocol, by librdkafka.
//!
//! | file | holds |
//! |---|---|
//! | `config.rs`, `address.rs` | what operators set |
//! | `connect.rs`, `failure.rs` | the clients and what they complain of |
//! | `record.rs` | events as records; records of others as events |
//! | `topics.rs` | partitions, extents, topics that are made and that vanish |
//! | `append.rs`, `cursor.rs`, `groups.rs` | writing, reading, offsets for tools |
//! | `event_log.rs` | the port |
//!
//! What Kafka cannot do, the log does not claim:
//! - **It does not drop duplicates.** The producer is idempotent, so the client's own retries write once. An append that
//!   failed and is sent again may stand twice, and so may the outputs of a task that crashed after its commit: under the
//!   same (tenant, source, id), by which readers drop them, and with the place that they are from, by which stages do
//!   (`stream::Repeats`).
//! - **It does not cut.** How long events stay is the topic's own setting (`retention.ms`): `retain` removes nothing. A
//!   reader that comes too late gets the first event that is held, and a task says `HISTORY_GONE`.
//! - **It is not restored.** Brokers give out the offsets; a backup cannot bring them back.
//!
//! The offsets of a stream are committed with its state, never here. What `commit` tells the brokers is for tools that
//! show a group's lag. Who reads which partition is decided by leases and fencing in `stream`; no member joins a group.
//!
//! What is known of failures, and tested:
//! - **The brokers are away**: an append waits for them as long as `delivery_timeout_ms`, a read as long as
//!   `request_timeout_ms`, then each fails with `UNAVAILABLE`, one log line tells it, and another one when they are back.
//! - **A topic vanishes**: it is not made anew as if it had been empty; every call says that it vanished.
//! - **A partition is shorter than what was read of it**: `CORRUPTED`, because it is another one under the same name.
//! - **A record that is too large, or none of ours**: see `record.rs`; the partition goes on.
//! - **Partitions are added**: they are seen within seconds. Keys move to other partitions; the order of a key across the
//!   change is not kept.
//!
//! It was tested on `tansu` 0.6 (`sqlite:`) and on librdkafka's own mock of a cluster, not on Apache Kafka.
//!
//! It refuses addresses with settings in them, and transactions: what is aborted is not read (`read_committed`), and
//! nothing is written in one. To add a property of librdkafka: a field of [`Settings`] with bounds, a line in `connect.rs`.

mod address;
mod append;
mod config;
mod connect;
mod cursor;
mod event_log;
mod failure;
mod groups;
mod record;
mod topics;

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Result, TenantId};
use store::EventLog;

pub use config::{Compression, Mechanism, Settings, Start};
pub use connect::Figures;
/// The client, for whoever writes or reads beside the log, as tests do.
pub use rdkafka;
pub use record::{FOREIGN, UNUSABLE};

use crate::event_log::KafkaLog;

/// Brokers that are known. Its connections stay open until it and every port that came from it are dropped.
#[derive(Debug, Clone)]
pub struct KafkaStore {
    log: Arc<KafkaLog>,
}

impl KafkaStore {
    /// Reads the settings. It waits for nobody: brokers that are away are tried again in the background. `clock` must be
    /// a real one, for it tells how old is what is known of topics. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting that is wrong.
    pub fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let tenant = TenantId::new(settings.tenant.clone())
            .map_err(|cause| config::invalid("tenant", cause.message().to_owned()))?;
        Ok(Self { log: Arc::new(KafkaLog::open(settings, tenant, clock)?) })
    }

    /// The log.
    #[must_use]
    pub fn event_log(&self) -> Arc<dyn EventLog> {
        Arc::clone(&self.log) as Arc<dyn EventLog>
    }

    /// Asks whether a broker answers, within `limit`.
    ///
    /// # Errors
    /// `UNAVAILABLE` with what the client complained of last.
    pub async fn ping(&self, limit: Duration) -> Result<()> {
        self.log.topics().ping(limit).await
    }

    /// What was written and read so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.log.figures()
    }
}
