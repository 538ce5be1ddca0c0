//! The circuit breaker: after some failures in a row, or when the server falls silent, calls are refused at once, so
//! that no caller waits for a server that is away; those that wait already end too. The pool's keeper probes it in the
//! background and closes the breaker when it answers (a "half-open" state that costs no caller anything). The idea is
//! M. Nygard's ("Release It!", 2007).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kernel::{Error, Result, codes};
use tokio::sync::watch;

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    failures: AtomicU32,
    /// Calls that were answered since the start.
    answers: AtomicU64,
    is_open: watch::Sender<bool>,
}

impl Breaker {
    pub(crate) fn new(limit: u32) -> Self {
        let is_open = watch::Sender::new(false);
        Self { limit, failures: AtomicU32::new(0), answers: AtomicU64::new(0), is_open }
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
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
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// The server was away. Returns whether this opened the breaker.
    pub(crate) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
        failures >= self.limit && self.open()
    }

    /// The server is silent, whatever became of single calls. Returns whether this opened the breaker.
    pub(crate) fn open(&self) -> bool {
        self.is_open.send_if_modified(|is_open| !std::mem::replace(is_open, true))
    }

    /// A probe succeeded.
    pub(crate) fn close(&self) {
        self.failures.store(0, Ordering::Release);
        self.is_open.send_replace(false);
    }

    /// Returns when it is open.
    pub(crate) async fn opened(&self) {
        // The sender is this breaker's own, so that there is nothing to fail.
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }
}

#[cfg(test)]
mod tests {
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
        assert!(breaker.open() && !breaker.open(), "silence opens it, once");
    }

    #[tokio::test]
    async fn who_waits_learns_of_it() {
        let breaker = Breaker::new(1);
        let opens = async { breaker.failed() };
        assert!(futures::join!(breaker.opened(), opens).1);
        breaker.opened().await;
    }
}
