//! How long an engine that is away is left alone before it is tried again. It refuses to know what is tried: that is a loop of
//! the engine's own.

use std::time::Duration;

use kernel::Entropy;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long to wait before the attempt after `attempts` failed ones: doubling to a limit, and half of it drawn by lot,
/// so that replicas do not come back all at once.
#[must_use]
pub fn backoff(attempts: u32, entropy: &dyn Entropy) -> Duration {
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
