//! What is behind a [`Database`](super::Database): the pool, and the task that keeps it in shape.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Client, ClientWrapper, HookError, Object, Pool, PoolError};
use futures::future::join_all;
use kernel::{Entropy, Error, codes};
use store::backoff;

use crate::breaker::Breaker;
use crate::failure::Failure;

const TIDY_EVERY: Duration = Duration::from_secs(1);
const BEAT_EVERY: Duration = Duration::from_secs(1);

// Beats in a row that failed at once, as where a connection is refused.
const MISSES_TO_OPEN: u32 = 2;

/// The pool, its breaker and its time limits.
pub(super) struct Shared {
    pub(super) name: &'static str,
    pub(super) pool: Pool,
    pub(super) breaker: Breaker,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) acquire_timeout: Duration,
    pub(super) statement_timeout: Duration,
    /// How long the server may say nothing.
    pub(super) silence: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_lifetime: Duration,
    pub(super) min_connections: usize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Database").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a heartbeat found.
enum Beat {
    /// The server lives, or is too busy with calls to be asked.
    Heard,
    /// It failed before the time was over.
    Missed(Failure),
    /// Nothing was said for the whole time.
    Silent,
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
            self.gone(failure);
        }
    }

    fn gone(&self, failure: &Failure) {
        tracing::warn!(pool = self.name, cause = failure.error.chain(), "the database is away");
        // They may all be dead, and finding out takes a time limit each.
        self.pool.retain(|_, _| false);
    }

    async fn probe(&self) -> Result<(), Failure> {
        let asked = async {
            let client = self.acquire().await?;
            let mut lent = Lent(Some(client));
            let found = lent.client().batch_execute("SELECT 1").await.map_err(Failure::from);
            if found.is_err() {
                lent.discard();
            }
            found
        };
        // A probe of a network that swallows everything must not hold the next one up.
        tokio::time::timeout(self.silence, asked).await.unwrap_or_else(|_| Err(Failure::silent()))
    }

    /// Asks for a sign of life on a connection of its own. Statements that take long, or wait for a lock, say nothing of
    /// the server; one that waits for nobody does, and so does any call that was answered meanwhile.
    async fn beat(&self, own: &mut Option<ClientWrapper>) -> Beat {
        let before = self.breaker.answers();
        let had_own = own.as_ref().is_some_and(|client| !client.is_closed());
        let asked = async {
            let client = match own.take().filter(|client| !client.is_closed()) {
                Some(client) => client,
                None => Object::take(self.acquire().await?),
            };
            client.batch_execute("SELECT 1").await?;
            *own = Some(client);
            Ok::<(), Failure>(())
        };
        let asked = tokio::time::timeout(self.silence, asked).await;
        let status = self.pool.status();
        let is_crowded = !had_own && status.size >= status.max_size;
        match asked {
            Ok(Ok(())) => Beat::Heard,
            _ if is_crowded || self.breaker.answers() != before => Beat::Heard,
            Ok(Err(failure)) => Beat::Missed(failure),
            Err(_) => Beat::Silent,
        }
    }

    /// Closes what is old, opens what is missing.
    async fn tidy(&self) {
        let (idle_timeout, max_lifetime) = (self.idle_timeout, self.max_lifetime);
        self.pool.retain(|_, metrics| metrics.last_used() <= idle_timeout && metrics.age() <= max_lifetime);
        if self.pool.status().size < self.min_connections {
            // Held together, so that each is another one.
            let filled = join_all((0..self.min_connections).map(|_| self.acquire()));
            tokio::select! {
                _ = filled => {}
                () = self.breaker.opened() => {}
            }
        }
    }
}

/// Keeps the pool in shape; it never ends.
pub(super) async fn keep(shared: Arc<Shared>) {
    futures::join!(shared.keep_tidy(), shared.keep_listening());
}

impl Shared {
    /// Tidies the pool every second, and probes the server while the breaker is open.
    async fn keep_tidy(&self) {
        let mut attempts = 0;
        loop {
            if !self.breaker.is_open() {
                attempts = 0;
                self.tidy().await;
                let _ = tokio::time::timeout(TIDY_EVERY, self.breaker.opened()).await;
                continue;
            }
            tokio::time::sleep(backoff(attempts, &*self.entropy)).await;
            match self.probe().await {
                Ok(()) => {
                    self.breaker.close();
                    tracing::info!(pool = self.name, "the database is back");
                }
                Err(failure) => {
                    attempts = attempts.saturating_add(1);
                    let cause = failure.error.chain();
                    tracing::debug!(pool = self.name, cause, "the database is still away");
                }
            }
        }
    }

    /// Asks for a sign of life every second while the breaker is closed, and opens it when there is none.
    async fn keep_listening(&self) {
        let (mut own, mut misses) = (None, 0);
        loop {
            if self.breaker.is_open() {
                (own, misses) = (None, 0);
            } else {
                let failure = match self.beat(&mut own).await {
                    Beat::Heard => {
                        misses = 0;
                        None
                    }
                    Beat::Missed(failure) => {
                        misses += 1;
                        Some(failure).filter(|_| misses >= MISSES_TO_OPEN)
                    }
                    Beat::Silent => Some(Failure::silent()),
                };
                if let Some(failure) = failure.filter(|_| self.breaker.open()) {
                    self.gone(&failure);
                }
            }
            tokio::time::sleep(BEAT_EVERY).await;
        }
    }
}
