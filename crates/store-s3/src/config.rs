//! The settings of the engine, each with a default that suits Amazon's own service.

use std::time::Duration;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Secret, check_path};

/// The settings of an [`S3Store`](crate::S3Store). What is left empty is taken from the `AWS_*` variables that
/// [`S3Store::open`](crate::S3Store::open) is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The bucket. It must be there.
    pub bucket: String,
    /// The folder in it, such as `watershed/production`; empty for the whole bucket.
    pub prefix: String,
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// The address of the service where it is not Amazon's, such as `https://minio:9000`.
    pub endpoint: String,
    /// Whether the endpoint may be plain `http://`.
    pub allow_http: bool,
    /// Who signs, with `secret_access_key`. Where both are empty and the variables name nobody, the machine's own role.
    pub access_key_id: String,
    /// The key that goes with `access_key_id`.
    #[schemars(with = "String")]
    pub secret_access_key: Secret,
    /// The token of a session, where the key is of one.
    #[schemars(with = "String")]
    pub session_token: Secret,
    /// Larger objects go and come in parts of this size, four at a time. 5 to 512.
    pub part_size_mb: u64,
    /// How long opening a connection may take, and an answer to `ping`. 1 to 60.
    pub connection_timeout_secs: u64,
    /// How long one request may take: a small object, or one part. 1 to 600.
    pub request_timeout_secs: u64,
    /// How often a request that failed is tried again. 0 to 10.
    pub retries: u32,
    /// After how long it is not tried again. 1 to 300.
    pub retry_timeout_secs: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            prefix: String::new(),
            region: String::new(),
            endpoint: String::new(),
            allow_http: false,
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            session_token: Secret::default(),
            part_size_mb: 16,
            connection_timeout_secs: 5,
            request_timeout_secs: 30,
            retries: 3,
            retry_timeout_secs: 60,
        }
    }
}

impl Settings {
    /// Checks the bounds.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(invalid(name, format!("must be {low} to {high}, not {value}")))
        };
        if self.bucket.is_empty() {
            return Err(invalid("bucket", "name the bucket"));
        }
        if !self.prefix.is_empty() {
            check_path(&self.prefix).map_err(|error| invalid("prefix", error.message()))?;
        }
        if self.endpoint.starts_with("http://") && !self.allow_http {
            return Err(invalid("endpoint", "is not encrypted: use https:// or set `allow_http`"));
        }
        // It is shown in the configuration.
        if self.endpoint.contains('@') || self.endpoint.contains('?') {
            return Err(invalid(
                "endpoint",
                "must not hold a user, a password or a query; set `access_key_id` and `secret_access_key`",
            ));
        }
        if self.access_key_id.is_empty() != self.secret_access_key.is_empty() {
            return Err(invalid("secret_access_key", "goes with `access_key_id`: set both or neither"));
        }
        within("part_size_mb", self.part_size_mb, 5, 512)?;
        within("connection_timeout_secs", self.connection_timeout_secs, 1, 60)?;
        within("request_timeout_secs", self.request_timeout_secs, 1, 600)?;
        within("retries", u64::from(self.retries), 0, 10)?;
        within("retry_timeout_secs", self.retry_timeout_secs, 1, 300)
    }

    pub(crate) fn connection_timeout(&self) -> Duration {
        Duration::from_secs(self.connection_timeout_secs)
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
        let good = || Settings { bucket: "models".to_owned(), ..Settings::default() };
        let check = |settings: Settings, field: Option<&str>| {
            let error = settings.check().err();
            assert_eq!(error.as_ref().and_then(Error::field), field, "{settings:?}");
        };
        check(good(), None);
        check(Settings::default(), Some("bucket"));
        check(Settings { prefix: "a/b".to_owned(), ..good() }, None);
        check(Settings { prefix: "/a".to_owned(), ..good() }, Some("prefix"));
        check(Settings { endpoint: "http://minio".to_owned(), ..good() }, Some("endpoint"));
        check(Settings { endpoint: "http://minio".to_owned(), allow_http: true, ..good() }, None);
        check(Settings { access_key_id: "a".to_owned(), ..good() }, Some("secret_access_key"));
        check(Settings { part_size_mb: 4, ..good() }, Some("part_size_mb"));
        check(Settings { retries: 11, ..good() }, Some("retries"));
    }

    #[test]
    fn settings_are_shown_without_secrets() {
        let text = r#"{"bucket": "b", "secret_access_key": "hunter2", "session_token": "hunter3"}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        let shown = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
