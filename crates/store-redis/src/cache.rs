//! The `Cache` port: one command for a value, one script for a counter or a lease.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Error, Result, Scope};
use store::{Cache, Lease, check_time_to_live};

use crate::keys::{Kind, key};
use crate::link::Link;
use crate::scripts;

// A longer time is cut: a cache may forget early, and no number gets too large for the server.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

// How long the token of a lease that has ended is remembered. After that the server's clock has gone on so far that
// tokens grow without it.
const TOKEN_MEMORY: Duration = Duration::from_hours(24);

/// The cache.
#[derive(Debug)]
pub(crate) struct RedisCache {
    link: Arc<Link>,
    prefix: String,
}

impl RedisCache {
    pub(crate) fn new(link: Arc<Link>, prefix: String) -> Self {
        Self { link, prefix }
    }

    fn key(&self, scope: &Scope, kind: Kind, name: &str) -> String {
        key(&self.prefix, scope, kind, name)
    }
}

/// Whole milliseconds, at least one.
fn milliseconds(time: Duration) -> u64 {
    let whole = time.min(LONGEST).as_nanos().div_ceil(1_000_000);
    u64::try_from(whole).unwrap_or(u64::MAX).max(1)
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, scope: &Scope, name: &str) -> Result<Option<Bytes>> {
        let mut command = redis::cmd("GET");
        command.arg(self.key(scope, Kind::Value, name));
        self.link.run(&command).await
    }

    async fn set(&self, scope: &Scope, name: &str, value: Bytes, time_to_live: Duration) -> Result<()> {
        check_time_to_live(time_to_live)?;
        let mut command = redis::cmd("SET");
        command
            .arg(self.key(scope, Kind::Value, name))
            .arg(&*value)
            .arg("PX")
            .arg(milliseconds(time_to_live));
        self.link.run(&command).await
    }

    async fn remove(&self, scope: &Scope, names: &[&str]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        // In a Cluster the client sends each node the keys that it has.
        let mut command = redis::cmd("UNLINK");
        for name in names {
            command.arg(self.key(scope, Kind::Value, name)).arg(self.key(scope, Kind::Counter, name));
        }
        self.link.run(&command).await
    }

    async fn add(&self, scope: &Scope, name: &str, amount: i64, time_to_live: Duration) -> Result<i64> {
        check_time_to_live(time_to_live)?;
        let keys = [self.key(scope, Kind::Counter, name)];
        let arguments = [amount.to_string(), milliseconds(time_to_live).to_string()];
        self.link.script(&scripts::ADD, &keys, &arguments).await
    }

    async fn acquire(
        &self,
        scope: &Scope,
        name: &str,
        holder: &str,
        time_to_live: Duration,
    ) -> Result<Option<Lease>> {
        check_time_to_live(time_to_live)?;
        let keys = [self.key(scope, Kind::Lease, name)];
        let arguments = [
            holder.to_owned(),
            milliseconds(time_to_live).to_string(),
            milliseconds(TOKEN_MEMORY).to_string(),
        ];
        let token: Option<String> = self.link.script(&scripts::ACQUIRE, &keys, &arguments).await?;
        let Some(token) = token else { return Ok(None) };
        let token = token.parse().map_err(Error::internal)?;
        Ok(Some(Lease { name: name.to_owned(), holder: holder.to_owned(), token }))
    }

    async fn release(&self, scope: &Scope, lease: &Lease) -> Result<()> {
        let keys = [self.key(scope, Kind::Lease, &lease.name)];
        let arguments =
            [lease.holder.clone(), lease.token.to_string(), milliseconds(TOKEN_MEMORY).to_string()];
        self.link.script(&scripts::RELEASE, &keys, &arguments).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_milliseconds_within_bounds() {
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(1_500)), 2);
        assert_eq!(milliseconds(Duration::from_secs(300)), 300_000);
        assert_eq!(milliseconds(Duration::MAX), milliseconds(LONGEST));
    }
}
