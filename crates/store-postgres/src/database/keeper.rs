//! What is behind a [`Database`](super::Database): the pool, and the task that keeps it in shape.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Client, HookError, Object, Pool, PoolError};
use futures::future::join_all;
use kernel::{Entropy, Error, codes};

use crate::breaker::{Breaker, backoff};
use crate::failure::Failure;

const TIDY_EVERY: Duration = Duration::from_secs(1);

/// The pool, its breaker and its time limits.
pub(super) struct Shared {
    pub(super) name: &'static str,
    pub(super) pool: Pool,
    pub(super) breaker: Breaker,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) acquire_timeout: Duration,
    pub(super) statement_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_lifetime: Duration,
    pub(super) min_connections: usize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A connection that goes back to the pool unless it is discarded.
pub(super) struct Lent(pub(super) Option<Object>);

impl Lent {
    pub(super) fn client(&self) -> &Client {
        self.0.as_ref().expect("it is discarded last")
    }

    pub(super) fn discard(&mut self) {
        // Taken out of the pool, it is closed instead of lent again.
        self.0.take().map(Object::take);
    }
}

impl Shared {
    /// A connection, within the time limit.
    pub(super) async fn acquire(&self) -> Result<Client, Failure> {
        let failure = match tokio::time::timeout(self.acquire_timeout, self.pool.get()).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(PoolError::Backend(cause) | PoolError::PostCreateHook(HookError::Backend(cause)))) => {
                let failure = Failure::from(cause);
                if failure.is_outage { failure } else { Failure::unreachable(failure.error) }
            }
            Ok(Err(cause)) => Failure::unreachable(cause),
            Err(_) => {
                let status = self.pool.status();
                if status.size >= status.max_size {
                    return Err(Failure::exhausted());
                }
                Failure::unreachable(Error::new(codes::TIMED_OUT, "no connection was made in time"))
            }
        };
        self.note(&failure);
        Err(failure)
    }

    /// Counts a failure.
    pub(super) fn note(&self, failure: &Failure) {
        if !failure.is_outage {
            self.breaker.succeeded();
        } else if self.breaker.failed() {
            tracing::warn!(pool = self.name, cause = failure.error.chain(), "the database is away");
            // They may all be dead, and finding out takes a time limit each.
            self.pool.retain(|_, _| false);
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        let client = self.acquire().await?;
        let mut lent = Lent(Some(client));
        let found =
            match tokio::time::timeout(self.acquire_timeout, lent.client().batch_execute("SELECT 1")).await {
                Ok(found) => found.map_err(Failure::from),
                Err(_) => Err(Failure::silent()),
            };
        if found.is_err() {
            lent.discard();
        }
        found
    }

    /// Closes what is old, opens what is missing.
    async fn tidy(&self) {
        let (idle_timeout, max_lifetime) = (self.idle_timeout, self.max_lifetime);
        self.pool.retain(|_, metrics| metrics.last_used() <= idle_timeout && metrics.age() <= max_lifetime);
        if self.pool.status().size < self.min_connections {
            // Held together, so that each is another one.
            join_all((0..self.min_connections).map(|_| self.acquire())).await;
        }
    }
}

/// Tidies the pool every second, and probes the server while the breaker is open; it never ends.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut attempts = 0;
    loop {
        if !shared.breaker.is_open() {
            attempts = 0;
            shared.tidy().await;
            futures::future::select(
                Box::pin(shared.breaker.opened()),
                Box::pin(tokio::time::sleep(TIDY_EVERY)),
            )
            .await;
            continue;
        }
        tokio::time::sleep(backoff(attempts, &*shared.entropy)).await;
        match shared.probe().await {
            Ok(()) => {
                shared.breaker.close();
                tracing::info!(pool = shared.name, "the database is back");
            }
            Err(failure) => {
                attempts = attempts.saturating_add(1);
                tracing::debug!(
                    pool = shared.name,
                    cause = failure.error.chain(),
                    "the database is still away"
                );
            }
        }
    }
}
