//! The `Cache` port: what may vanish at any moment without loss.
//!
//! Rules every engine keeps: a value is gone after its time to live; a lease is held by one holder at a time for
//! as long as the engine keeps its promises (it is an optimisation, never the only guard of correctness); a time
//! to live of zero is a `VALIDATION_ERROR`. Values, counters and leases of one name do not meet.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Error, Result, Scope, codes};

/// A held lease. The token grows with each new holder, so that a late holder can be fenced off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is held.
    pub name: String,
    /// Who holds it.
    pub holder: String,
    /// Larger than every earlier holder's.
    pub token: u64,
}

/// Values with a time to live, counters, leases; keyed by tenant and name.
#[async_trait]
pub trait Cache: Send + Sync + Debug {
    /// The value, unless it is gone.
    async fn get(&self, scope: &Scope, key: &str) -> Result<Option<Bytes>>;

    /// Sets the value for `time_to_live` (which must be longer than zero).
    async fn set(&self, scope: &Scope, key: &str, value: Bytes, time_to_live: Duration) -> Result<()>;

    /// Removes the values and counters of these keys.
    async fn remove(&self, scope: &Scope, keys: &[&str]) -> Result<()>;

    /// Adds to a counter, stopping at the ends of `i64`, and returns its new value. The time to live starts with
    /// the first addition.
    async fn add(&self, scope: &Scope, key: &str, amount: i64, time_to_live: Duration) -> Result<i64>;

    /// Takes or extends the lease `name` for `holder`; none while another holds it. Extending keeps the token.
    async fn acquire(
        &self,
        scope: &Scope,
        name: &str,
        holder: &str,
        time_to_live: Duration,
    ) -> Result<Option<Lease>>;

    /// Gives a lease back; harmless when it is held by another by now.
    async fn release(&self, scope: &Scope, lease: &Lease) -> Result<()>;
}

/// Checks a time to live. Every engine calls it before it writes.
///
/// # Errors
/// `VALIDATION_ERROR` when it is zero.
pub fn check_time_to_live(time_to_live: Duration) -> Result<()> {
    if time_to_live.is_zero() {
        let message = "must be longer than zero; remove the key instead";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("time_to_live"));
    }
    Ok(())
}
