//! The circuit breaker: after some failures in a row, calls are refused at once, so that no caller waits for a server
//! that is away. The pool's keeper probes it in the background and closes the breaker when it answers (a "half-open"
//! state that costs no caller anything). The idea is M. Nygard's ("Release It!", 2007).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kernel::{Entropy, Error, Result, codes};
use tokio::sync::Notify;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    failures: AtomicU32,
    is_open: AtomicBool,
    opened: Notify,
}

impl Breaker {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, failures: AtomicU32::new(0), is_open: AtomicBool::new(false), opened: Notify::new() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Passes while it is closed.
    ///
    /// # Errors
    /// `UNAVAILABLE` while it is open.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_open() {
            let message = "the database is away; it is tried again every second";
            return Err(Error::new(codes::UNAVAILABLE, message));
        }
        Ok(())
    }

    /// The server answered: the failures begin anew, but only a probe closes an open breaker.
    pub(crate) fn succeeded(&self) {
        self.failures.store(0, Ordering::Release);
    }

    /// The server was away. Returns whether this opened the breaker.
    pub(crate) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
        let opens = failures >= self.limit && !self.is_open.swap(true, Ordering::AcqRel);
        if opens {
            self.opened.notify_one();
        }
        opens
    }

    /// A probe succeeded.
    pub(crate) fn close(&self) {
        self.failures.store(0, Ordering::Release);
        self.is_open.store(false, Ordering::Release);
    }

    /// Returns when it opens.
    pub(crate) async fn opened(&self) {
        self.opened.notified().await;
    }
}

/// How long to wait before the attempt after `attempts` failed ones: doubling to a limit, and half of it drawn by lot,
/// so that replicas do not come back all at once.
pub(crate) fn backoff(attempts: u32, entropy: &dyn Entropy) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << attempts.min(8)).min(LONGEST_WAIT);
    let half = full / 2;
    let lot_ms = entropy.next_u64() % (u64::try_from(half.as_millis()).unwrap_or(1) + 1);
    half + Duration::from_millis(lot_ms)
}

#[cfg(test)]
mod tests {
    use kernel::SeededEntropy;

    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_by_a_probe() {
        let breaker = Breaker::new(3);
        for _ in 0..5 {
            assert!(!breaker.failed() && !breaker.failed());
            breaker.succeeded();
        }
        assert!(breaker.check().is_ok());
        let opened = (0..4).map(|_| breaker.failed()).collect::<Vec<_>>();
        assert_eq!(opened, [false, false, true, false], "it opens once");
        assert_eq!(breaker.check().unwrap_err().code(), codes::UNAVAILABLE);
        breaker.succeeded();
        assert!(breaker.is_open(), "a late success of an old call proves nothing");
        breaker.close();
        assert!(breaker.check().is_ok() && !breaker.failed());
    }

    #[test]
    fn waits_grow_to_a_second_and_differ() {
        let entropy = SeededEntropy::new(1);
        for attempts in 0..100 {
            let full = FIRST_WAIT.saturating_mul(1 << attempts.min(8)).min(LONGEST_WAIT);
            let wait = backoff(attempts, &entropy);
            assert!((full / 2..=full).contains(&wait), "{wait:?} after {attempts}");
        }
        assert_ne!(backoff(9, &entropy), backoff(9, &entropy));
    }
}
