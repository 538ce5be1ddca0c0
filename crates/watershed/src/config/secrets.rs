//! The secrets of the settings. In production none may be one that everyone knows, or guesses soon; no error repeats any.
//!
//! To add a secret: a line in [`all`].

use std::collections::BTreeSet;

use kernel::Result;

use super::Config;
use super::sections::{Deployment, require};

/// Parts of secrets that are in examples and defaults everywhere.
const KNOWN: [&str; 16] = [
    "123456",
    "admin",
    "change-me",
    "change_me",
    "changeme",
    "default",
    "example",
    "letmein",
    "password",
    "postgres",
    "qwerty",
    "redis",
    "secret",
    "test",
    "watershed",
    "your-",
];
/// Fewer different bytes are a pattern and no secret.
const VARIETY_MIN: usize = 8;

/// Looks at every secret, where the server is for production.
///
/// # Errors
/// `VALIDATION_ERROR` naming the setting.
pub(super) fn validate(config: &Config) -> Result<()> {
    if config.server.environment != Deployment::Production {
        return Ok(());
    }
    let rule =
        "holds a secret that is easily guessed; make another for production, such as `openssl rand -hex 32`";
    all(config).iter().try_for_each(|(setting, secret)| require(!is_guessable(secret), setting, rule))
}

/// Every secret that is given, and the setting that gives it.
fn all(config: &Config) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |setting: &str, secret: &str| {
        if !secret.is_empty() {
            all.push((setting.to_owned(), secret.to_owned()));
        }
    };
    add("auth.api_key", config.auth.api_key.as_deref().unwrap_or_default());
    add("auth.jwt.secret", config.auth.jwt.secret.as_deref().unwrap_or_default());
    config.compliance.encryption_keys.iter().for_each(|key| add("compliance.encryption_keys", key));
    config.webhooks.secret_keys.iter().for_each(|key| add("webhooks.secret_keys", key));
    #[cfg(feature = "postgres")]
    for (name, password) in config.storage.postgres.iter().flat_map(store_postgres::Settings::passwords) {
        add(&format!("storage.postgres.{name}"), password.expose());
    }
    #[cfg(feature = "redis")]
    for (name, password) in config.storage.redis.iter().flat_map(store_redis::Settings::passwords) {
        add(&format!("storage.redis.{name}"), password.expose());
    }
    #[cfg(feature = "clickhouse")]
    for (name, password) in config.storage.clickhouse.iter().flat_map(store_clickhouse::Settings::passwords) {
        add(&format!("storage.clickhouse.{name}"), password.expose());
    }
    #[cfg(feature = "kafka")]
    for (name, password) in config.storage.kafka.iter().flat_map(store_kafka::Settings::passwords) {
        add(&format!("storage.kafka.{name}"), password.expose());
    }
    #[cfg(feature = "s3")]
    for (section, s3) in [("storage.s3", &config.storage.s3), ("backup.s3", &config.backup.s3)] {
        let secret = s3.as_ref().map(|s3| s3.secret_access_key.expose()).unwrap_or_default();
        add(&format!("{section}.secret_access_key"), secret);
    }
    all
}

fn is_guessable(secret: &str) -> bool {
    let lower = secret.to_ascii_lowercase();
    KNOWN.iter().any(|known| lower.contains(known)) || variety(secret) < VARIETY_MIN
}

fn variety(secret: &str) -> usize {
    secret.bytes().collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::super::Environment;
    use super::*;
    use kernel::Error;

    const GOOD: &str = "Zk3vX9pQ2mL7sT4yB8wR1cN6hJ5dF0gA";

    /// The variables of a deployment for production, this one among them.
    fn load(environment: &str, name: &'static str, value: &str) -> Result<Config> {
        let mut variables = vec![("ENVIRONMENT", environment), ("ENCRYPTION_KEYS", GOOD), ("API_KEY", GOOD)];
        variables.retain(|(known, _)| *known != name);
        variables.push((name, value));
        Config::load(None, &Environment::of(&variables), vec![])
    }

    /// Taken where things are tried out, refused in production; a good one is taken there too.
    #[track_caller]
    fn check(name: &'static str, bad: &str, good: &str, setting: &str) {
        assert!(load("staging", name, bad).is_ok(), "{name}={bad}");
        let error = load("production", name, bad).unwrap_err();
        assert_eq!(error.field(), Some(setting), "{name}={bad}: {error}");
        assert!(!error.to_string().contains(bad), "{error}");
        let found = load("production", name, good).err();
        assert_eq!(found.as_ref().map(Error::to_string), None, "{name}");
    }

    #[test]
    fn every_secret_is_looked_at() {
        check("API_KEY", "aaaaaaaaaaaaaaaa", GOOD, "auth.api_key");
        check("API_KEY", "my-secret-key-of-length", GOOD, "auth.api_key");
        check("JWT_SECRET", "your-256-bit-secret-goes-in-here", GOOD, "auth.jwt.secret");
        check("JWT_SECRET_KEY", "0101010101010101010101010101010101", GOOD, "auth.jwt.secret");
        let known = "change-me-to-a-key-of-32-characters-or-more";
        check("WEBHOOK_SECRET_KEYS", known, GOOD, "webhooks.secret_keys");
        check("ENCRYPTION_KEYS", known, GOOD, "compliance.encryption_keys");
        let second = format!("{GOOD},{known}");
        check("ENCRYPTION_KEYS", &second, GOOD, "compliance.encryption_keys");
    }

    #[cfg(all(feature = "postgres", feature = "redis"))]
    #[test]
    fn passwords_of_engines_are_looked_at() {
        let at = |password: &str| format!("postgresql://user:{password}@host:5432/recommendations");
        check("DATABASE_URL", &at("password"), &at("kX%2F9pQ2mL7s"), "storage.postgres.url");
        check("DATABASE_WRITE_URL", &at("pass%77ord"), &at(GOOD), "storage.postgres.url");
        check("DATABASE_URL", "host=h user=u password=postgres", "host=h user=u", "storage.postgres.url");
        check("DATABASE_READ_URL", &at("aaaaaaaaaa"), &at(GOOD), "storage.postgres.read_url");
        let cache = |password: &str| format!("redis://:{password}@redis:6379");
        check("REDIS_URL", &cache("changeme"), &cache(GOOD), "storage.redis.url");
        check("REDIS_URL", &cache("p%61ssword"), "redis://redis:6379", "storage.redis.url");
    }

    #[cfg(feature = "clickhouse")]
    #[test]
    fn passwords_of_column_stores_are_looked_at() {
        let at = |password: &str| format!("http://ada:{password}@clickhouse:8123");
        check("DATA_PROC_CLICKHOUSE_URL", &at("p%61ssword"), &at(GOOD), "storage.clickhouse.url");
    }

    #[cfg(feature = "kafka")]
    #[test]
    fn passwords_of_brokers_are_looked_at() {
        let at = |password: &str| format!("kafka://ada:{password}@broker:9092");
        check("DATA_PROC_KAFKA_BOOTSTRAP", &at("password"), &at(GOOD), "storage.kafka.url");
    }
}
