//! The circuit breaker: after some failures in a row calls are refused at once, so that no caller waits for a server that is
//! away. Once a second one call is let through to try it; the first that succeeds closes the circuit. The idea is M. Nygard's
//! ("Release It!", 2007).

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, Result, codes};
use parking_lot::Mutex;

const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Breaker {
    limit: u32,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// When it opened, or when a call was last let through since.
    open_since: Option<Duration>,
}

impl Breaker {
    pub(crate) fn new(limit: u32, clock: Arc<dyn Clock>) -> Self {
        Self { limit, clock, state: Mutex::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().open_since.is_some()
    }

    /// Passes while it is closed, and for one call of each second while it is open.
    ///
    /// # Errors
    /// `UNAVAILABLE` otherwise.
    pub(crate) fn check(&self) -> Result<()> {
        let mut state = self.state.lock();
        let Some(since) = state.open_since else { return Ok(()) };
        let now = self.clock.elapsed();
        if now.saturating_sub(since) >= TRIED_AGAIN_AFTER {
            state.open_since = Some(now);
            return Ok(());
        }
        let message = "ClickHouse is away; it is tried again every second; keep what was to be stored and send it again";
        Err(Error::new(codes::UNAVAILABLE, message))
    }

    /// The server answered.
    pub(crate) fn succeeded(&self) {
        *self.state.lock() = State::default();
    }

    /// The server was away. Returns whether this opened the circuit.
    pub(crate) fn failed(&self) -> bool {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        let opens = state.failures >= self.limit && state.open_since.is_none();
        if state.failures >= self.limit {
            state.open_since = Some(self.clock.elapsed());
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use kernel::{ManualClock, Timestamp};

    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_a_second_through() {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let breaker = Breaker::new(3, Arc::clone(&clock) as Arc<dyn Clock>);
        for _ in 0..5 {
            assert!(!breaker.failed() && !breaker.failed());
            breaker.succeeded();
        }
        let opened = (0..4).map(|_| breaker.failed()).collect::<Vec<_>>();
        assert_eq!(opened, [false, false, true, false], "it opens once");
        assert_eq!(breaker.check().unwrap_err().code(), codes::UNAVAILABLE);
        clock.advance(Duration::from_secs(1));
        assert!(breaker.check().is_ok() && breaker.check().is_err(), "one of each second");
        assert!(!breaker.failed() && breaker.check().is_err());
        clock.advance(Duration::from_secs(1));
        assert!(breaker.check().is_ok());
        breaker.succeeded();
        assert!(!breaker.is_open() && breaker.check().is_ok() && breaker.check().is_ok());
    }
}
