//! The clients: how each is set up, and one ear for what all of them complain of.
//!
//! librdkafka mends its connections by itself and complains of each try. What it says goes to the log at `debug`; that
//! the brokers are away is told once, when a call fails because of it, and once when a call succeeds again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::Result;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, info, warn};

use crate::address::Address;
use crate::config::{Settings, invalid};
use crate::failure;

/// The group of clients that read. It never commits.
const READERS: &str = "watershed-readers";

/// What was written and read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records that brokers acknowledged.
    pub appended: u64,
    /// Records that they did not, whatever the reason.
    pub append_failures: u64,
    /// Events that were read of what this process had just written, and not from brokers.
    pub recent: u64,
    /// Records that were read from brokers.
    pub read: u64,
    /// Of these, records that were no events.
    pub foreign: u64,
    /// Of these, records that are too large or otherwise cannot be handed over whole.
    pub unusable: u64,
    /// Calls that failed because no broker answered.
    pub failures: u64,
    /// Whether the last call was answered.
    pub is_answering: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub appended: AtomicU64,
    pub append_failures: AtomicU64,
    pub recent: AtomicU64,
    pub read: AtomicU64,
    pub foreign: AtomicU64,
    pub unusable: AtomicU64,
    pub failures: AtomicU64,
}

/// What is known of the brokers, from all clients.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub counters: Counters,
    /// What a client complained of last.
    complaint: Mutex<Option<String>>,
    is_away: Mutex<bool>,
}

impl Health {
    /// A call was not answered.
    pub(crate) fn fails(&self) -> Option<String> {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        let complaint = self.complaint.lock().clone();
        if !std::mem::replace(&mut *self.is_away.lock(), true) {
            let reason = complaint.as_deref().unwrap_or("no answer in time");
            warn!(server = "kafka", reason, "does not answer");
        }
        complaint
    }

    /// A call was answered.
    pub(crate) fn answers(&self) {
        if std::mem::take(&mut *self.is_away.lock()) {
            *self.complaint.lock() = None;
            info!(server = "kafka", "answers again");
        }
    }

    pub(crate) fn figures(&self) -> Figures {
        let counters = &self.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            appended: read(&counters.appended),
            append_failures: read(&counters.append_failures),
            recent: read(&counters.recent),
            read: read(&counters.read),
            foreign: read(&counters.foreign),
            unusable: read(&counters.unusable),
            failures: read(&counters.failures),
            is_answering: !*self.is_away.lock(),
        }
    }
}

/// The ear of one client.
#[derive(Debug, Clone)]
pub(crate) struct Listener(pub Arc<Health>);

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                warn!(server = "kafka", facility, line, "the client complains");
            }
            _ => debug!(server = "kafka", facility, line, "the client says"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        debug!(server = "kafka", error = %error, reason, "the client complains");
        *self.0.complaint.lock() = Some(reason.to_owned());
    }
}

impl ConsumerContext for Listener {}

/// Makes clients.
#[derive(Clone)]
pub(crate) struct Clients {
    base: ClientConfig,
    settings: Settings,
    pub health: Arc<Health>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Clients").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Clients {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        settings.check()?;
        let address = Address::parse(&settings.url)?;
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", &address.brokers)
            .set("client.id", "watershed")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("receive.message.max.bytes", settings.receive_max_bytes.to_string())
            .set_log_level(RDKafkaLogLevel::Warning);
        let is_signed = !address.user.is_empty();
        let protocol = match (address.tls, is_signed) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        base.set("security.protocol", protocol);
        if is_signed {
            base.set("sasl.mechanism", settings.sasl_mechanism.name())
                .set("sasl.username", &address.user)
                .set("sasl.password", address.password.expose());
        }
        let files = [
            ("ssl.ca.location", "ca_file", &settings.ca_file),
            ("ssl.certificate.location", "certificate_file", &settings.certificate_file),
            ("ssl.key.location", "key_file", &settings.key_file),
        ];
        for (property, field, path) in files {
            if !path.is_empty() {
                std::fs::metadata(path)
                    .map_err(|cause| invalid(field, format!("`{path}` cannot be read: {cause}")))?;
                base.set(property, path);
            }
        }
        if !settings.key_password.is_empty() {
            base.set("ssl.key.password", settings.key_password.expose());
        }
        Ok(Self { base, settings: settings.clone(), health: Arc::default() })
    }

    fn make<T: FromClientConfigAndContext<Listener>>(&self, config: &ClientConfig) -> Result<T> {
        config
            .create_with_context(Listener(Arc::clone(&self.health)))
            .map_err(|cause| failure::of_client(&cause))
    }

    /// One that writes: in order, and once however often it tries.
    pub(crate) fn producer<T: FromClientConfigAndContext<Listener>>(&self) -> Result<T> {
        let settings = &self.settings;
        let mut config = self.base.clone();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", settings.linger_ms.to_string())
            .set("compression.type", settings.compression.name())
            // Where a key goes for every other client of the ecosystem.
            .set("partitioner", "murmur2_random")
            // An event has at most 1 MiB; its record is a little larger. The topic must take it too.
            .set("message.max.bytes", (2 * kernel::MAX_EVENT_BYTES).to_string())
            .set("delivery.timeout.ms", settings.delivery_timeout_ms.to_string())
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "262144");
        self.make(&config)
    }

    /// One that asks and commits for `group`.
    pub(crate) fn member<T: FromClientConfigAndContext<Listener>>(&self, group: &str) -> Result<T> {
        let mut config = self.base.clone();
        config.set("group.id", group).set("enable.auto.commit", "false");
        self.make(&config)
    }

    /// One that asks and nothing else.
    pub(crate) fn asker<T: FromClientConfigAndContext<Listener>>(&self) -> Result<T> {
        self.member(READERS)
    }

    /// One that reads a partition.
    pub(crate) fn reader<T: FromClientConfigAndContext<Listener>>(&self) -> Result<T> {
        let settings = &self.settings;
        let read_ahead = settings.read_ahead_bytes;
        let mut config = self.base.clone();
        config
            .set("group.id", READERS)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            // Where the asked offset is gone, reading goes on at the first that is held, which the reader sees.
            .set("auto.offset.reset", "earliest")
            .set("fetch.min.bytes", settings.fetch_min_bytes.to_string())
            .set("fetch.wait.max.ms", settings.fetch_max_wait_ms.to_string())
            .set("fetch.message.max.bytes", read_ahead.min(4 << 20).to_string())
            .set("fetch.max.bytes", read_ahead.clamp(1 << 20, settings.receive_max_bytes - 4_096).to_string())
            .set("queued.max.messages.kbytes", (read_ahead / 1_024).to_string())
            // The time a reader that was full waits before it asks again: as short as reading takes.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "100");
        self.make(&config)
    }

    /// One that makes topics.
    pub(crate) fn administrator(&self) -> Result<rdkafka::admin::AdminClient<DefaultClientContext>> {
        use rdkafka::config::FromClientConfig;
        rdkafka::admin::AdminClient::from_config(&self.base).map_err(|cause| failure::of_client(&cause))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}
