//! Randomness as a parameter. Ids, jitter and exploration draw from an [`Entropy`]; algorithms take a seed.

use std::fmt::Debug;

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

use crate::Timestamp;

/// Where random bits come from.
pub trait Entropy: Send + Sync + Debug {
    /// The next 64 random bits.
    fn next_u64(&self) -> u64;

    /// A time-ordered id (UUID version 7, RFC 9562) for something made at `now`.
    fn id(&self, now: Timestamp) -> Uuid {
        let mut bytes = [0_u8; 10];
        bytes[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next_u64().to_le_bytes()[..2]);
        let unix_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(unix_ms, &bytes).into_uuid()
    }
}

/// A seeded generator, for tests and for everything that must be repeatable.
#[derive(Debug)]
pub struct SeededEntropy {
    generator: Mutex<ChaCha8Rng>,
}

impl SeededEntropy {
    /// The same seed gives the same bits, on every machine and in every release.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { generator: Mutex::new(ChaCha8Rng::seed_from_u64(seed)) }
    }
}

impl Entropy for SeededEntropy {
    fn next_u64(&self) -> u64 {
        self.generator.lock().next_u64()
    }
}

/// Seeded once from the operating system.
#[derive(Debug)]
pub struct SystemEntropy(SeededEntropy);

impl SystemEntropy {
    /// Reads a seed from the operating system.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for randomness")]
    pub fn new() -> Self {
        let seed: [u8; 32] = rand::random();
        Self(SeededEntropy { generator: Mutex::new(ChaCha8Rng::from_seed(seed)) })
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_gives_same_ids_in_time_order() {
        let (one, two) = (SeededEntropy::new(7), SeededEntropy::new(7));
        let early = Timestamp::from_millisecond(1_000).unwrap();
        let late = Timestamp::from_millisecond(2_000).unwrap();
        let first = one.id(early);
        assert_eq!(first, two.id(early));
        assert!(first < one.id(late), "ids sort by time");
        assert_ne!(one.id(late), one.id(late));
    }
}
