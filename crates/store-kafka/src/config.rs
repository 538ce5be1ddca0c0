//! The settings of the engine. Their defaults are for a broker beside the process.

use std::time::Duration;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::Secret;

use crate::address::Address;

/// How the password in the address is shown to the brokers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mechanism {
    /// As it is: over TLS only.
    #[default]
    #[serde(rename = "PLAIN")]
    Plain,
    /// By a proof (RFC 5802) with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// By a proof (RFC 5802) with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// How records are packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Little work, about half the bytes.
    #[default]
    Lz4,
    /// More work, fewer bytes.
    Zstd,
    /// For brokers and tools that know nothing else.
    Gzip,
    /// As little work as LZ4.
    Snappy,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
        }
    }
}

/// Where a stream that is new begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At the oldest record that is held, so that nothing is missed.
    #[default]
    Earliest,
    /// At what comes next.
    Latest,
}

/// The settings of a [`KafkaStore`](crate::KafkaStore).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where the brokers are: `kafka://` or `kafkas://` (TLS), `[user:password@]`, one or more `host[:port]` with commas
    /// between them. Special characters of a password are percent-encoded.
    #[schemars(with = "String")]
    pub url: Secret,
    /// How the password is shown: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Mechanism,
    /// A file with the certificates of the authority that vouches for the brokers, in PEM; empty for those that the
    /// machine trusts.
    pub ca_file: String,
    /// A file with the certificate that this process shows, in PEM; empty for none.
    pub certificate_file: String,
    /// A file with the key of that certificate, in PEM.
    pub key_file: String,
    /// What the key is locked with; empty where it is not.
    #[schemars(with = "String")]
    pub key_password: Secret,
    /// What the name of every topic begins with, up to 64 characters of `a-z 0-9 . _ -`: deployments that share brokers
    /// differ in it. Empty for the names as they are.
    pub topic_prefix: String,
    /// The tenant of records that name none. Whoever may write to a topic speaks for every tenant that its records name:
    /// the brokers' access lists decide who that is.
    pub tenant: String,
    /// Make topics that are not there. Where not, a missing topic is an error.
    pub create_topics: bool,
    /// Partitions of a topic that is made. 1 to 10,000.
    pub partitions: u32,
    /// Copies of a topic that is made; 0 leaves it to the brokers. At most 100.
    pub replicas: u16,
    /// How records are packed: `none`, `lz4`, `zstd`, `gzip` or `snappy`.
    pub compression: Compression,
    /// How long a record waits for others to travel with. At most 1,000.
    pub linger_ms: u64,
    /// How long brokers may be away until an append fails. 1,000 to 600,000.
    pub delivery_timeout_ms: u64,
    /// How long any other question to the brokers may take. 100 to 60,000.
    pub request_timeout_ms: u64,
    /// Bytes that a broker collects before it answers a reader, at most for `fetch_max_wait_ms`. 1 to 10,000,000.
    pub fetch_min_bytes: u32,
    /// How long a broker may collect. 1 to 60,000.
    pub fetch_max_wait_ms: u32,
    /// Bytes that are read ahead of each reader. 65,536 to 1,073,741,824.
    pub read_ahead_bytes: u64,
    /// Bytes of records that are kept of what this process wrote last, so that its own stages need not fetch them; 0 keeps
    /// none. At most 17,179,869,184.
    pub recent_bytes: u64,
    /// The largest answer that is taken from a broker, which bounds the largest record that can be refused and passed
    /// over. 1,000,000 to 2,000,000,000.
    pub receive_max_bytes: u64,
    /// Records that are handed over at once. 1 to 100,000.
    pub max_poll_records: usize,
    /// Where a stream that is new begins: `earliest` or `latest`.
    pub auto_offset_reset: Start,
    /// Tell the brokers how far a stream came, for tools that show its lag. Nothing is ever read from that.
    pub auto_commit: bool,
    /// How long a partition stays with a process that is silent: the lease. 1,000 to 600,000.
    pub session_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            sasl_mechanism: Mechanism::Plain,
            ca_file: String::new(),
            certificate_file: String::new(),
            key_file: String::new(),
            key_password: Secret::default(),
            topic_prefix: String::new(),
            tenant: "default".to_owned(),
            create_topics: true,
            partitions: 4,
            replicas: 0,
            compression: Compression::Lz4,
            linger_ms: 2,
            delivery_timeout_ms: 30_000,
            request_timeout_ms: 5_000,
            fetch_min_bytes: 1,
            fetch_max_wait_ms: 500,
            read_ahead_bytes: 16 << 20,
            recent_bytes: 128 << 20,
            receive_max_bytes: 256 << 20,
            max_poll_records: 100_000,
            auto_offset_reset: Start::Earliest,
            auto_commit: true,
            session_timeout_ms: 30_000,
        }
    }
}

impl Settings {
    /// The passwords, by the name of the setting; none of an address that cannot be read.
    #[must_use]
    pub fn passwords(&self) -> Vec<(&'static str, Secret)> {
        let of_address = Address::parse(&self.url).ok().map(|address| ("url", address.password));
        let of_key = ("key_password", self.key_password.clone());
        let given = |(_, password): &(&str, Secret)| !password.is_empty();
        of_address.into_iter().chain([of_key]).filter(given).collect()
    }

    /// Checks the bounds; the address is checked when the store is opened.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn check(&self) -> Result<()> {
        let bounds: [(&str, u64, u64, u64); 12] = [
            ("partitions", self.partitions.into(), 1, 10_000),
            ("replicas", self.replicas.into(), 0, 100),
            ("linger_ms", self.linger_ms, 0, 1_000),
            ("delivery_timeout_ms", self.delivery_timeout_ms, 1_000, 600_000),
            ("request_timeout_ms", self.request_timeout_ms, 100, 60_000),
            ("fetch_min_bytes", self.fetch_min_bytes.into(), 1, 10_000_000),
            ("fetch_max_wait_ms", self.fetch_max_wait_ms.into(), 1, 60_000),
            ("read_ahead_bytes", self.read_ahead_bytes, 65_536, 1 << 30),
            ("recent_bytes", self.recent_bytes, 0, 1 << 34),
            ("receive_max_bytes", self.receive_max_bytes, 1_000_000, 2_000_000_000),
            ("max_poll_records", self.max_poll_records as u64, 1, 100_000),
            ("session_timeout_ms", self.session_timeout_ms, 1_000, 600_000),
        ];
        for (name, value, low, high) in bounds {
            if !(low..=high).contains(&value) {
                return Err(invalid(name, format!("must be {low} to {high}, not {value}")));
            }
        }
        let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if self.topic_prefix.len() > 64 || !self.topic_prefix.bytes().all(lawful) {
            return Err(invalid("topic_prefix", "is at most 64 characters of a-z 0-9 . _ -"));
        }
        if self.certificate_file.is_empty() != self.key_file.is_empty() {
            return Err(invalid("key_file", "goes with certificate_file; give both or neither"));
        }
        Ok(())
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// How long a partition stays with a process that is silent.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.session_timeout_ms)
    }
}

pub(crate) fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_held() {
        let check = |settings: Settings, field: Option<&str>| {
            let error = settings.check().err();
            assert_eq!(error.as_ref().and_then(Error::field), field, "{settings:?}");
        };
        let base = Settings::default;
        check(base(), None);
        check(Settings { partitions: 0, ..base() }, Some("partitions"));
        check(Settings { replicas: 101, ..base() }, Some("replicas"));
        check(Settings { delivery_timeout_ms: 999, ..base() }, Some("delivery_timeout_ms"));
        check(Settings { receive_max_bytes: 1, ..base() }, Some("receive_max_bytes"));
        check(Settings { topic_prefix: "A".to_owned(), ..base() }, Some("topic_prefix"));
        check(Settings { certificate_file: "a".to_owned(), ..base() }, Some("key_file"));
    }

    #[test]
    fn settings_are_shown_without_secrets() {
        let json = r#"{"url": "kafkas://ada:hunter2@a", "key_password": "hunter3", "sasl_mechanism": "SCRAM-SHA-512"}"#;
        let settings: Settings = serde_json::from_str(json).unwrap();
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("hunter") && shown.contains("***"), "{shown}");
        assert_eq!(settings.sasl_mechanism, Mechanism::ScramSha512);
    }
}
