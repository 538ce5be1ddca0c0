//! How the longest time that a server takes to stop is shared: by requests, and by what comes after them.
//!
//! What follows has its part set aside, however long the requests take. To add a step: a field, and its share in `of`.

use std::time::Duration;

/// The parts of the time, one after the other. Together they are no more than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares {
    /// Requests, the delay included.
    pub requests: Duration,
    /// What is in memory is written, also when the requests took all that they had. It gets what they leave, too.
    pub last_write: Duration,
    /// Work beside, which is given up.
    pub last_work: Duration,
    /// The last spans are sent.
    pub last_spans: Duration,
}

impl Shares {
    /// The most that each needs; less of a limit in which that would take more than half.
    pub(super) fn of(limit: Duration) -> Self {
        let last_write = Duration::from_secs(5).min(limit / 4);
        let last_work = Duration::from_secs(1).min(limit / 8);
        let last_spans = Duration::from_secs(2).min(limit / 8);
        let requests = limit.saturating_sub(last_write + last_work + last_spans);
        Self { requests, last_write, last_work, last_spans }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn together_they_are_the_limit_and_requests_have_half_of_it() {
        for limit_ms in [0, 1, 999, 1_000, 2_000, 8_000, 16_000, 30_000, 600_000, u64::from(u32::MAX)] {
            let limit = Duration::from_millis(limit_ms);
            let Shares { requests, last_write, last_work, last_spans } = Shares::of(limit);
            assert_eq!(requests + last_write + last_work + last_spans, limit);
            assert!(requests >= limit / 2, "{limit:?}");
        }
        let Shares { requests, last_write, .. } = Shares::of(Duration::from_secs(30));
        assert_eq!((requests.as_secs(), last_write.as_secs()), (22, 5));
    }
}
