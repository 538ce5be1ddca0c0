//! The settings of the engine, each with the default of the operators' guide.
//!
//! A URL is refused when it cannot be read, and its password appears in no error, log or dump of the configuration.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use store::Secret;
use tokio_postgres::config::{Host, SslMode};

use crate::tls::Verification;

const MAX_SCHEMA_BYTES: usize = 40;

/// The address of a server: `postgres://user:password@host:5432/name?sslmode=verify-full`.
///
/// `sslmode` means what it means to every PostgreSQL client: `disable`; `prefer` (where none is given) and `require`
/// encrypt without proof of who the server is, unless `sslrootcert=FILE` is given; `verify-ca` and `verify-full`
/// demand proof, by that file or the system's certificates.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Keeps the text as it is; [`Settings::check`] reads it.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// What the drivers need of it.
    pub(crate) fn parse(&self) -> Result<Address> {
        // The cause is dropped: it may quote a piece of the password.
        let refused = || {
            let message = "must look like postgres://user:password@host:5432/name; escape special characters";
            Error::new(codes::VALIDATION_ERROR, message).with_field("url")
        };
        let (text, mode, root) = self.split_tls().ok_or_else(refused)?;
        let mut config = tokio_postgres::Config::from_str(&text).map_err(|_| refused())?;
        if config.get_hosts().is_empty() {
            return Err(refused());
        }
        let has_root = root.is_some();
        let (ssl_mode, verification) = match mode.as_deref() {
            Some("disable") => (SslMode::Disable, Verification::None),
            None | Some("allow" | "prefer") if !has_root => (SslMode::Prefer, Verification::None),
            Some("require") if !has_root => (SslMode::Require, Verification::None),
            None | Some("allow" | "prefer") => (SslMode::Prefer, Verification::Authority),
            Some("require" | "verify-ca") => (SslMode::Require, Verification::Authority),
            Some("verify-full") => (SslMode::Require, Verification::Full),
            Some(_) => return Err(refused()),
        };
        config.ssl_mode(ssl_mode);
        Ok(Address { config, verification, root })
    }

    /// The URL without the parameters that the driver does not know, and those.
    fn split_tls(&self) -> Option<(String, Option<String>, Option<PathBuf>)> {
        let Some((base, query)) = self.0.split_once('?').filter(|_| self.0.contains("://")) else {
            return Some((self.0.clone(), None, None));
        };
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value.to_owned()),
                Some(("sslrootcert", value)) if !value.is_empty() && !value.contains('%') => {
                    root = Some(PathBuf::from(value));
                }
                Some(("sslrootcert", _)) => return None,
                _ => rest.push(pair),
            }
        }
        let rest = rest.join("&");
        let text = if rest.is_empty() { base.to_owned() } else { format!("{base}?{rest}") };
        Some((text, mode, root))
    }
}

/// A URL that was read.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) verification: Verification,
    pub(crate) root: Option<PathBuf>,
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(Address { config, .. }) = self.parse() else { return formatter.write_str("postgres://***") };
        write!(formatter, "postgres://{}", config.get_user().unwrap_or(""))?;
        if config.get_password().is_some() {
            formatter.write_str(":***")?;
        }
        let ports = config.get_ports();
        for (place, host) in config.get_hosts().iter().enumerate() {
            formatter.write_str(if place == 0 { "@" } else { "," })?;
            match host {
                Host::Tcp(name) => formatter.write_str(name)?,
                #[cfg(unix)]
                Host::Unix(path) => write!(formatter, "{}", path.display())?,
            }
            if let Some(port) = ports.get(place).or_else(|| ports.first()) {
                write!(formatter, ":{port}")?;
            }
        }
        write!(formatter, "/{}", config.get_dbname().unwrap_or(""))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<String> for DatabaseUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

/// The settings of a [`PostgresStore`](crate::PostgresStore).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The server that takes every write, and every read that must see the writes before it (`DATABASE_WRITE_URL`,
    /// else `DATABASE_URL`).
    #[schemars(with = "Option<String>")]
    pub url: Option<DatabaseUrl>,
    /// A replica that may lag behind (`DATABASE_READ_URL`). It serves reads of the event log as far as it has come,
    /// because an event never changes; every other read must see the newest write.
    #[schemars(with = "Option<String>")]
    pub read_url: Option<DatabaseUrl>,
    /// The schema that everything lives in: `a-z 0-9 _`, not a digit first, at most 40 characters.
    pub schema: String,
    /// Connections of each pool at most, 2 to 1,000 (`DATABASE_MAX_CONNECTIONS`).
    pub max_connections: usize,
    /// Connections that are kept open when there is nothing to do (`DATABASE_MIN_CONNECTIONS`).
    pub min_connections: usize,
    /// How long a caller waits for a connection (`DATABASE_ACQUIRE_TIMEOUT_SECS`).
    pub acquire_timeout_seconds: f64,
    /// A connection that was not used for so long is closed (`DATABASE_IDLE_TIMEOUT_SECS`).
    pub idle_timeout_seconds: f64,
    /// A connection that is so old is closed when it comes back (`DATABASE_MAX_LIFETIME_SECS`).
    pub max_lifetime_seconds: f64,
    /// How long a statement may take; the server ends it, and the caller stops waiting a second later.
    pub statement_timeout_seconds: f64,
    /// How long the server may say nothing, neither to a call nor to the heartbeat of a second, before calls are refused
    /// at once and those that wait are ended. One connection beside the pool is for this.
    pub silence_timeout_seconds: f64,
    /// Failures in a row after which calls are refused at once, until a probe succeeds.
    pub failures_to_open: u32,
    /// Partitions of a topic that is new; a topic keeps the count it was made with. 1 to 1,024.
    pub partitions: u32,
    /// How often a waiter looks for events that no notification told of.
    pub poll_seconds: f64,
    /// At most so many vectors (of one tenant, under a filter) are searched exactly, and more where many others share their
    /// index; the rest through that index. 0: always through the index. The server asks for no vectors yet; it is for
    /// programs that use this crate.
    pub exact_search_vectors: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: None,
            read_url: None,
            schema: "watershed".to_owned(),
            max_connections: 20,
            min_connections: 5,
            acquire_timeout_seconds: 3.0,
            idle_timeout_seconds: 600.0,
            max_lifetime_seconds: 1_800.0,
            statement_timeout_seconds: 5.0,
            silence_timeout_seconds: 2.0,
            failures_to_open: 5,
            partitions: 1,
            poll_seconds: 0.5,
            exact_search_vectors: 5_000,
        }
    }
}

/// A setting that [`Settings::check`] passed.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

impl Settings {
    /// Checks the bounds and reads the URLs.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn check(&self) -> Result<()> {
        self.write_address()?;
        self.read_address()?;
        let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let starts_well = self.schema.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !starts_well || self.schema.len() > MAX_SCHEMA_BYTES || !self.schema.bytes().all(lawful) {
            return Err(invalid("schema", "must be 1 to 40 characters of a-z 0-9 _, not a digit first"));
        }
        if self.schema.starts_with("pg_") {
            return Err(invalid("schema", "must not begin with pg_, which PostgreSQL keeps for itself"));
        }
        if !(2..=1_000).contains(&self.max_connections) {
            return Err(invalid("max_connections", "must be 2 to 1000"));
        }
        if self.min_connections > self.max_connections {
            return Err(invalid("min_connections", "must not be more than max_connections"));
        }
        if self.failures_to_open == 0 {
            return Err(invalid("failures_to_open", "must be at least 1"));
        }
        if !(1..=1_024).contains(&self.partitions) {
            return Err(invalid("partitions", "must be 1 to 1024"));
        }
        let times = [
            ("acquire_timeout_seconds", self.acquire_timeout_seconds, 60.0),
            ("idle_timeout_seconds", self.idle_timeout_seconds, 86_400.0),
            ("max_lifetime_seconds", self.max_lifetime_seconds, 864_000.0),
            ("statement_timeout_seconds", self.statement_timeout_seconds, 3_600.0),
            ("silence_timeout_seconds", self.silence_timeout_seconds, 60.0),
            ("poll_seconds", self.poll_seconds, 60.0),
        ];
        match times.iter().find(|(_, value, most)| !(0.01..=*most).contains(value)) {
            None => Ok(()),
            Some((name, _, most)) => Err(invalid(name, format!("must be 0.01 to {most} seconds"))),
        }
    }

    /// The passwords in the URLs, by the name of the setting; none of a URL that cannot be read.
    #[must_use]
    pub fn passwords(&self) -> Vec<(&'static str, Secret)> {
        let password = |name: &'static str, url: &Option<DatabaseUrl>| {
            let address = url.as_ref()?.parse().ok()?;
            let password = String::from_utf8_lossy(address.config.get_password()?).into_owned();
            Some((name, Secret::new(password)))
        };
        [password("url", &self.url), password("read_url", &self.read_url)].into_iter().flatten().collect()
    }

    pub(crate) fn write_address(&self) -> Result<Address> {
        let missing = || invalid("url", "set DATABASE_URL or DATABASE_WRITE_URL");
        self.url.as_ref().ok_or_else(missing)?.parse()
    }

    pub(crate) fn read_address(&self) -> Result<Option<Address>> {
        self.read_url
            .as_ref()
            .map(DatabaseUrl::parse)
            .transpose()
            .map_err(|error| error.with_field("read_url"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_held() {
        let good = || Settings { url: Some(DatabaseUrl::new("postgres://a:b@h/c")), ..Settings::default() };
        let check = |settings: Settings, field: Option<&str>| {
            let error = settings.check().err();
            assert_eq!(error.as_ref().and_then(Error::field), field, "{settings:?}");
        };
        check(good(), None);
        check(Settings::default(), Some("url"));
        check(Settings { url: Some(DatabaseUrl::new("nonsense")), ..good() }, Some("url"));
        check(Settings { url: Some(DatabaseUrl::new("postgres://h?sslmode=maybe")), ..good() }, Some("url"));
        check(Settings { read_url: Some(DatabaseUrl::new("")), ..good() }, Some("read_url"));
        for schema in ["", "Big", "1a", "a-b", "a\"b", "pg_a", &"x".repeat(41)] {
            check(Settings { schema: schema.to_owned(), ..good() }, Some("schema"));
        }
        check(Settings { max_connections: 1, ..good() }, Some("max_connections"));
        check(Settings { min_connections: 21, ..good() }, Some("min_connections"));
        check(Settings { failures_to_open: 0, ..good() }, Some("failures_to_open"));
        check(Settings { partitions: 0, ..good() }, Some("partitions"));
        check(Settings { silence_timeout_seconds: 0.0, ..good() }, Some("silence_timeout_seconds"));
        check(Settings { poll_seconds: f64::NAN, ..good() }, Some("poll_seconds"));
        check(Settings { acquire_timeout_seconds: 0.0, ..good() }, Some("acquire_timeout_seconds"));
    }

    #[test]
    fn a_password_is_never_shown() {
        let urls = [
            "postgres://user:hunter2@host:5432/name",
            "postgres://user:hunter2@host:not-a-port/name",
            "postgres://user:hunter2@host/name?unknown=hunter2",
            "host=h user=u password=hunter2 dbname=d",
            "host=h user=u password=x hunter2=d",
            "hunter2",
        ];
        for url in urls {
            let url = DatabaseUrl::new(url);
            let settings = Settings { url: Some(url.clone()), ..Settings::default() };
            let error = settings.check().err().map(|error| format!("{error:?} {error}"));
            let json = serde_json::to_string(&settings).unwrap();
            for shown in [format!("{settings:?}"), url.to_string(), json, error.unwrap_or_default()] {
                assert!(!shown.contains("hunter2"), "{shown}");
            }
        }
        let url = DatabaseUrl::new("postgres://user:hunter2@host:5433/name");
        assert_eq!(url.to_string(), "postgres://user:***@host:5433/name");
    }

    #[test]
    fn a_tls_mode_means_what_it_means_elsewhere() {
        let check = |query: &str, mode: SslMode, verification: Verification| {
            let address = DatabaseUrl::new(format!("postgres://a@h/c{query}")).parse().unwrap();
            assert_eq!(
                (address.config.get_ssl_mode(), address.verification),
                (mode, verification),
                "{query}"
            );
        };
        check("", SslMode::Prefer, Verification::None);
        check("?sslmode=disable", SslMode::Disable, Verification::None);
        check("?sslmode=require&connect_timeout=3", SslMode::Require, Verification::None);
        check("?sslmode=require&sslrootcert=/ca.pem", SslMode::Require, Verification::Authority);
        check("?sslmode=verify-ca", SslMode::Require, Verification::Authority);
        check("?sslmode=verify-full", SslMode::Require, Verification::Full);
    }
}
