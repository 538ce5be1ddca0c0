//! The settings of the engine. Their defaults are for a server beside the process.
//!
//! The password in the URL appears in no error, log or dump of the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Error, Result, codes};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::Secret;

const MAX_DATABASE_BYTES: usize = 40;
/// The server's dates end in 2106.
const MAX_RETENTION_DAYS: u32 = 3_650;

/// The settings of a [`ClickHouseStore`](crate::ClickHouseStore).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where its HTTP interface is: `http://` or `https://`, `[user[:password]@]`, `host[:port]` (`DATA_PROC_CLICKHOUSE_URL`).
    /// Special characters of a password are percent-encoded. Without a user it is the server's `default`.
    #[schemars(with = "String")]
    pub url: Secret,
    /// The database that everything lives in, made by `watershed migrate up`: `a-z 0-9 _`, not a digit first, at most 40
    /// characters (`DATA_PROC_CLICKHOUSE_DATABASE`).
    pub database: String,
    /// A file with the certificates of the authority that vouches for the server, in PEM; empty for those that the machine
    /// trusts.
    pub ca_file: String,
    /// Statements at once at most, each on a connection of its own, 1 to 1,000 (`DATA_PROC_CLICKHOUSE_POOL_MAX`).
    pub max_connections: usize,
    /// How long opening a connection may take, and waiting for one. 1 to 60.
    pub connection_timeout_secs: u64,
    /// How long a statement may take; the server ends it too. 1 to 600. Migrations and deletes may take an hour.
    pub request_timeout_secs: u64,
    /// How often a statement that found the server away is tried again. 0 to 10.
    pub retries: u32,
    /// Failures in a row after which calls are refused at once, until one that is let through each second succeeds.
    pub failures_to_open: u32,
    /// Days that rows of a table are kept, by their own time and the table's name, such as `bars_5m = 1095`; for ever
    /// where missing. Older ones are in no answer, and the server drops each part of a table once all of it is older. 1 to
    /// 3,650.
    pub retention_days: BTreeMap<String, u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            database: "watershed".to_owned(),
            ca_file: String::new(),
            max_connections: 20,
            connection_timeout_secs: 5,
            request_timeout_secs: 30,
            retries: 3,
            failures_to_open: 5,
            retention_days: BTreeMap::new(),
        }
    }
}

/// The parts of the URL.
#[derive(Debug)]
pub(crate) struct Address {
    /// Without the account.
    pub(crate) url: Url,
    pub(crate) user: String,
    pub(crate) password: Secret,
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

fn within(name: &str, value: u64, low: u64, high: u64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(invalid(name, format!("must be {low} to {high}, not {value}")))
}

/// A part of a URL without its percent signs.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

impl Settings {
    /// Checks the bounds and reads the URL.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn check(&self) -> Result<()> {
        self.address()?;
        let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let starts_well = self.database.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !starts_well || self.database.len() > MAX_DATABASE_BYTES || !self.database.bytes().all(lawful) {
            return Err(invalid("database", "must be 1 to 40 characters of a-z 0-9 _, not a digit first"));
        }
        within("max_connections", self.max_connections as u64, 1, 1_000)?;
        within("connection_timeout_secs", self.connection_timeout_secs, 1, 60)?;
        within("request_timeout_secs", self.request_timeout_secs, 1, 600)?;
        within("retries", u64::from(self.retries), 0, 10)?;
        within("failures_to_open", u64::from(self.failures_to_open), 1, 1_000)?;
        for (table, days) in &self.retention_days {
            within(&format!("retention_days.{table}"), u64::from(*days), 1, u64::from(MAX_RETENTION_DAYS))?;
        }
        Ok(())
    }

    pub(crate) fn address(&self) -> Result<Address> {
        let wrong = || {
            let message =
                "must be http:// or https://, [user[:password]@]host[:port], with no path and no query";
            invalid("url", message)
        };
        let mut url = Url::parse(self.url.expose()).map_err(|_| wrong())?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !is_bare {
            return Err(wrong());
        }
        let user = decoded(url.username()).ok_or_else(wrong)?;
        let password = decoded(url.password().unwrap_or_default()).ok_or_else(wrong)?;
        // They go in headers.
        if user.contains(char::is_control) || password.contains(char::is_control) {
            return Err(wrong());
        }
        url.set_password(None).and_then(|()| url.set_username("")).map_err(|()| wrong())?;
        Ok(Address { url, user, password: Secret::new(password) })
    }

    /// The password in the URL, by the name of the setting; none of a URL that cannot be read.
    #[must_use]
    pub fn passwords(&self) -> Vec<(&'static str, Secret)> {
        let password = self.address().ok().map(|address| ("url", address.password));
        password.into_iter().filter(|(_, password)| !password.is_empty()).collect()
    }

    pub(crate) fn connection_timeout(&self) -> Duration {
        Duration::from_secs(self.connection_timeout_secs)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Settings {
        Settings { url: Secret::new(url), ..Settings::default() }
    }

    #[test]
    fn bounds_are_held() {
        let check = |settings: Settings, field: Option<&str>| {
            let error = settings.check().err();
            assert_eq!(error.as_ref().and_then(Error::field), field, "{settings:?}");
        };
        let good = || at("http://localhost:8123");
        check(good(), None);
        check(at("https://ada:pass%20word@host"), None);
        for bad in
            ["", "nonsense", "tcp://host:9000", "http://host/path", "http://host?a=b", "http://a:%zz@host"]
        {
            check(at(bad), Some("url"));
        }
        check(at("http://a:b%0d%0ac@host"), Some("url"));
        for database in ["", "Big", "1a", "a-b", "a`b", &"x".repeat(41)] {
            check(Settings { database: database.to_owned(), ..good() }, Some("database"));
        }
        check(Settings { max_connections: 0, ..good() }, Some("max_connections"));
        check(Settings { connection_timeout_secs: 0, ..good() }, Some("connection_timeout_secs"));
        check(Settings { request_timeout_secs: 601, ..good() }, Some("request_timeout_secs"));
        check(Settings { retries: 11, ..good() }, Some("retries"));
        check(Settings { failures_to_open: 0, ..good() }, Some("failures_to_open"));
        let kept = |days: u32| BTreeMap::from([("bars".to_owned(), days)]);
        check(Settings { retention_days: kept(3_650), ..good() }, None);
        check(Settings { retention_days: kept(3_651), ..good() }, Some("retention_days.bars"));
    }

    #[test]
    fn an_account_is_taken_out_of_the_url() {
        let address = at("https://ada:pass%20word@host:8443").address().unwrap();
        assert_eq!(address.url.as_str(), "https://host:8443/");
        assert_eq!((address.user.as_str(), address.password.expose()), ("ada", "pass word"));
        assert_eq!(at("http://host").passwords(), []);
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in
            ["http://ada:hunter2@host", "http://ada:hunter2@host/x", "hunter2", "http://hunter2:%zz@host"]
        {
            let settings = at(url);
            let error = settings.check().err().map(|error| format!("{error:?} {error}")).unwrap_or_default();
            let json = serde_json::to_string(&settings).unwrap();
            let address = settings.address().map(|address| format!("{address:?}")).unwrap_or_default();
            for shown in [format!("{settings:?}"), json, error, address] {
                assert!(!shown.contains("hunter2"), "{shown}");
            }
        }
    }
}
