//! Random choices whose results never depend on the platform or the version of a library: ChaCha8 gives the
//! bits, this file the rest, with `libm` for powers, as those of the standard library differ between
//! platforms.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

// One number per purpose, so that what is added later moves nothing that is there.
pub(super) const ENTITY: u64 = 1;
pub(super) const SEGMENT: u64 = 2;
pub(super) const USER_ATTRIBUTES: u64 = 3;
pub(super) const USER_BEHAVIOUR: u64 = 4;
pub(super) const CATEGORY: u64 = 5;

#[derive(Debug, Clone)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// The stream of one thing: `purpose` and `index` choose it.
    pub(super) fn of(seed: u64, purpose: u64, index: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed ^ purpose << 56);
        generator.set_stream(index);
        Self(generator)
    }

    /// From 0 up to but not including 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// From 0 up to but not including `count`; 0 where that is 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.unit() * count as f64) as usize
    }

    pub(super) fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words.get(self.below(words.len())).copied().unwrap_or_default()
    }

    /// Nearly normal: mean 0, variance 1, within 3.5 (the sum of four uniform numbers).
    pub(super) fn normal(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.unit()).sum();
        (sum - 2.0) * 3.0_f64.sqrt()
    }
}

/// A fixed random number of something, without a stream (SplitMix64, Steele et al. 2014).
pub(super) fn hash(seed: u64, value: u64) -> u64 {
    let mut mixed = seed.wrapping_add(value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Ranks whose probability falls as a power of the rank, by inverting the continuous distribution: constant
/// time.
#[derive(Debug, Clone, Copy)]
pub(super) struct PowerLaw {
    count: usize,
    top: f64,
}

impl PowerLaw {
    /// The skew of what people take.
    const EXPONENT: f64 = 0.9;

    pub(super) fn new(count: usize) -> Self {
        Self { count, top: libm::pow(count as f64 + 1.0, 1.0 - Self::EXPONENT) - 1.0 }
    }

    /// A rank from 0; lower ranks are likelier.
    pub(super) fn rank(self, random: &mut Random) -> usize {
        let rank = libm::pow(1.0 + self.top * random.unit(), 1.0 / (1.0 - Self::EXPONENT)) - 1.0;
        (rank as usize).min(self.count.saturating_sub(1))
    }

    /// The probability of a rank.
    #[cfg(test)]
    pub(super) fn probability(self, rank: usize) -> f64 {
        let power = |at: usize| (at as f64 + 1.0).powf(1.0 - Self::EXPONENT);
        (power(rank + 1) - power(rank)) / self.top
    }
}
