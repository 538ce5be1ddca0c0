//! Seeded draws. Each user has a stream of its own, so that one more user does not change the draws of the others.

use rand::RngExt;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The generator of one stream (a user, a resample) under a seed.
pub(crate) fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

/// Which `count` of `size` positions are chosen, each set equally likely.
pub(crate) fn choose(size: usize, count: usize, generator: &mut ChaCha8Rng) -> Vec<bool> {
    let mut chosen = vec![false; size];
    for position in index::sample(generator, size, count.min(size)) {
        chosen[position] = true;
    }
    chosen
}

/// Puts the values in a random order (Fisher & Yates).
pub(crate) fn shuffle<T>(values: &mut [T], generator: &mut ChaCha8Rng) {
    for last in (1..values.len()).rev() {
        values.swap(last, generator.random_range(0..=last as u64) as usize);
    }
}
