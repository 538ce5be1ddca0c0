//! The settings of the engine. Their defaults are for a server beside the process.

use std::fmt;
use std::time::Duration;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::Secret;

use crate::address::Address;

/// How the servers at the address stand together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Mode {
    /// One server, or an address that always leads to the primary.
    #[default]
    Plain,
    /// Sentinels, which name the primary of a service.
    Sentinel,
    /// Some nodes of a Cluster, which name the others.
    Cluster,
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plain => "plain",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    /// `true` means a Cluster and `false` means plain: older deployments are configured so.
    fn try_from(text: String) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "plain" | "false" | "" => Ok(Self::Plain),
            "sentinel" => Ok(Self::Sentinel),
            "cluster" | "true" => Ok(Self::Cluster),
            _ => Err(format!("`{}` is not `plain`, `sentinel` or `cluster`", text.escape_debug())),
        }
    }
}

/// The settings of a [`RedisStore`](crate::RedisStore).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it is: `redis://` or `rediss://` (TLS), `[user][:password]@`, one or more `host[:port]` with commas
    /// between them, and after a `/` the database of a plain server or the service that the sentinels watch
    /// (`mymaster` where none is given). Special characters of a password are percent-encoded.
    #[schemars(with = "String")]
    pub url: Secret,
    /// How the servers stand together.
    #[schemars(with = "String")]
    pub mode: Mode,
    /// What the sentinels themselves ask for; the password in the address is the servers'.
    #[schemars(with = "String")]
    pub sentinel_password: Secret,
    /// A file with the certificates of the authority that vouches for the servers, in PEM; empty for those that the
    /// machine trusts.
    pub ca_file: String,
    /// What every key begins with, 1 to 64 characters of `a-z A-Z 0-9 _ - .`: deployments that share a server differ
    /// in it.
    pub prefix: String,
    /// Connections, to each node where there are several. 1 to 1,000.
    pub pool_size: u32,
    /// How long opening a connection may take. 1 to 60.
    pub connection_timeout_secs: u64,
    /// How long a command may take before the caller goes on without it. 1 to 60,000.
    pub command_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            mode: Mode::Plain,
            sentinel_password: Secret::default(),
            ca_file: String::new(),
            prefix: "watershed".to_owned(),
            pool_size: 10,
            connection_timeout_secs: 5,
            command_timeout_ms: 250,
        }
    }
}

impl Settings {
    /// Checks the bounds; the address is checked when the store is opened.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: u64, high: u64| {
            if (1..=high).contains(&value) {
                return Ok(());
            }
            Err(invalid(name, format!("must be 1 to {high}, not {value}")))
        };
        within("pool_size", u64::from(self.pool_size), 1_000)?;
        within("connection_timeout_secs", self.connection_timeout_secs, 60)?;
        within("command_timeout_ms", self.command_timeout_ms, 60_000)?;
        let lawful = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.bytes().all(lawful) {
            return Err(invalid("prefix", "is 1 to 64 characters of a-z A-Z 0-9 _ - ."));
        }
        Ok(())
    }

    /// The passwords, by the name of the setting; none of an address that cannot be read.
    #[must_use]
    pub fn passwords(&self) -> Vec<(&'static str, Secret)> {
        let of_servers = Address::parse(&self.url, self.mode).ok().map(|address| ("url", address.password));
        let of_sentinels = ("sentinel_password", self.sentinel_password.clone());
        let given = |(_, password): &(&str, Secret)| !password.is_empty();
        of_servers.into_iter().chain([of_sentinels]).filter(given).collect()
    }

    pub(crate) fn connection_timeout(&self) -> Duration {
        Duration::from_secs(self.connection_timeout_secs)
    }

    pub(crate) fn command_timeout(&self) -> Duration {
        Duration::from_millis(self.command_timeout_ms)
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
        check(Settings::default(), None);
        check(Settings { pool_size: 0, ..Settings::default() }, Some("pool_size"));
        check(
            Settings { connection_timeout_secs: 0, ..Settings::default() },
            Some("connection_timeout_secs"),
        );
        check(Settings { command_timeout_ms: 60_001, ..Settings::default() }, Some("command_timeout_ms"));
        check(Settings { prefix: String::new(), ..Settings::default() }, Some("prefix"));
        check(Settings { prefix: "a:b".to_owned(), ..Settings::default() }, Some("prefix"));
        check(Settings { prefix: "{a}".to_owned(), ..Settings::default() }, Some("prefix"));
    }

    #[test]
    fn modes_have_old_names_too() {
        let check = |text: &str, mode: Option<Mode>| {
            assert_eq!(Mode::try_from(text.to_owned()).ok(), mode, "{text}");
        };
        check("plain", Some(Mode::Plain));
        check("false", Some(Mode::Plain));
        check("sentinel", Some(Mode::Sentinel));
        check("cluster", Some(Mode::Cluster));
        check("True", Some(Mode::Cluster));
        check("yes", None);
    }

    #[test]
    fn settings_are_shown_without_secrets() {
        let settings: Settings =
            serde_json::from_str(r#"{"url": "redis://:hunter2@cache", "sentinel_password": "hunter3"}"#)
                .unwrap();
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("watershed") && shown.contains("***"), "{shown}");
    }
}
