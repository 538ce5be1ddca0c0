//! A log that is away for a moment is asked again: else one failure would send callers away who only have to come back.
//!
//! It refuses to wait for ever, and to ask again where that would change nothing.

use std::time::Duration;

use kernel::{Error, Result};
use tracing::warn;

/// How often it is asked again, and after which pause.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    /// After the first time.
    pub(crate) times: u32,
    /// Before each of them.
    pub(crate) pause: Duration,
}

impl Retry {
    /// As long as a server is restarted.
    pub(crate) const USUAL: Self = Self { times: 10, pause: Duration::from_secs(1) };

    /// Whether what failed so often before is worth another try.
    pub(crate) fn is_worth(self, error: &Error, retries: u32) -> bool {
        error.kind().is_retryable() && retries < self.times
    }

    /// The answer, or the last fault. Who asks is told of the first one in the log.
    pub(super) async fn patiently<T, F>(self, topic: &str, partition: u32, ask: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut retries = 0;
        loop {
            let error = match ask().await {
                Err(error) if self.is_worth(&error, retries) => error,
                answer => return answer,
            };
            if retries == 0 {
                warn!(topic, partition, error = %error.chain(), "a topic cannot be read now, and is tried again");
            }
            retries += 1;
            tokio::time::sleep(self.pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kernel::{ErrorCode, codes};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_so_often_and_no_more() {
        let check = async |faults: u32, code: ErrorCode, asked: u32, is_answered: bool| {
            let (times, begun) = (Cell::new(0), Instant::now());
            let ask = || async {
                times.set(times.get() + 1);
                if times.get() > faults { Ok(()) } else { Err(Error::new(code, "away")) }
            };
            let answer = Retry::USUAL.patiently("t", 0, ask).await;
            assert_eq!((times.get(), answer.is_ok()), (asked, is_answered), "{faults} faults");
            assert_eq!(begun.elapsed(), Retry::USUAL.pause * (asked - 1), "{faults} faults");
        };
        check(0, codes::UNAVAILABLE, 1, true).await;
        check(10, codes::UNAVAILABLE, 11, true).await;
        check(11, codes::UNAVAILABLE, 11, false).await;
        check(1, codes::CORRUPTED, 1, false).await;
    }
}
