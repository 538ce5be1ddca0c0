//! The `Cache` and `Limiter` ports on Redis 6 and later, or what speaks its protocol: one server, a Sentinel set, or
//! a Cluster.
//!
//! | file | holds |
//! |---|---|
//! | `config.rs`, `address.rs` | what operators set |
//! | `connect.rs` | finding the primary, opening a connection |
//! | `link.rs` | the pool, the breaker, the task that mends them |
//! | `keys.rs`, `scripts.rs` | what is in the server |
//! | `cache.rs`, `limiter.rs` | the ports |
//!
//! Losing the cache loses nothing, so nobody waits for it: a command ends within its time, and at once while the
//! servers are away. What is known of failures, and tested:
//! - **The servers are away** or stall: after a few commands have waited their time, the rest fail at once with
//!   `UNAVAILABLE`, until the task in the background has been answered.
//! - **One node of a Cluster is away**: its keys fail, each within its time; the others go on.
//! - **A primary fails over**: commands fail until the sentinels, or the nodes, have named another. What the old
//!   primary had not passed on is lost; the tokens of leases grow even so.
//! - **A command that failed** is not sent again: a counter may or may not have counted it.
//!
//! It refuses addresses with settings in them, and certificates that do not prove the server. To add a port: its file
//! here, its kind of key, one call of its conformance suite in the tests.

mod address;
mod cache;
mod config;
mod connect;
mod keys;
mod limiter;
mod link;
mod scripts;

use std::sync::Arc;

use kernel::{Clock, Entropy, Result};
use store::{Cache, Limiter};

pub use config::{Mode, Settings};
pub use link::Figures;

use crate::cache::RedisCache;
use crate::limiter::RedisLimiter;
use crate::link::Link;

/// An open store. Its connections stay open until it and every port that came from it are dropped.
#[derive(Debug, Clone)]
pub struct RedisStore {
    link: Arc<Link>,
    prefix: String,
}

impl RedisStore {
    /// Opens the store, waiting for the servers at most as long as opening a connection may take. Servers that are away
    /// are no error: they are tried again in the background. `clock` must be a real one, for it tells how long nothing
    /// was answered; `entropy` spreads the tries. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting that is wrong.
    pub async fn open(settings: &Settings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let link = Link::open(settings, clock, entropy).await?;
        Ok(Self { link: Arc::new(link), prefix: settings.prefix.clone() })
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> Arc<dyn Cache> {
        Arc::new(RedisCache::new(Arc::clone(&self.link), self.prefix.clone()))
    }

    /// The limiter.
    #[must_use]
    pub fn limiter(&self) -> Arc<dyn Limiter> {
        Arc::new(RedisLimiter::new(Arc::clone(&self.link), self.prefix.clone()))
    }

    /// Asks whether the servers answer: of a Cluster, every primary.
    ///
    /// # Errors
    /// `UNAVAILABLE` or `TIMED_OUT`, within the time of a command.
    pub async fn ping(&self) -> Result<()> {
        self.link.run(&redis::cmd("PING")).await
    }

    /// What is known of the connections.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.link.figures()
    }
}
