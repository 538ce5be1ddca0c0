//! Brings the scores of one source to the unit in which sources are added.
//!
//! A z-score over the catalogue, compressed: `sign(z) * (sqrt(1 + |z|) - 1)`. Scores have long tails, the more so the larger
//! the catalogue, and in a linear sum the source with the longest tail decides alone. The root was chosen on validation users
//! of three data sets: the logarithm is as good and dearer, a voice that saturates fails on large catalogues, where the best
//! items have z-scores above 20, and ranks lose what the scores knew.

use pulp::{Arch, Simd, WithSimd};

/// Independent partial sums, so that the compiler can use vectors of any width and the result is the same with each.
const LANES: usize = 16;

/// Scores summed in single precision before the sum is carried on in double precision.
const BLOCK: usize = 1024;

/// The mean and spread of one source's scores for one user, with its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Voice {
    pub(super) weight: f32,
    mean: f32,
    inverse_deviation: f32,
}

impl Voice {
    /// `None` where the finite scores are all equal, so that they order nothing.
    pub(super) fn of(scores: &[f32], weight: f32) -> Option<Self> {
        let reference = scores.iter().copied().find(|score| score.is_finite())?;
        let (mut count, mut sum, mut squares) = Arch::new().dispatch(Moments::<false> { scores, reference });
        if !sum.is_finite() || !squares.is_finite() {
            (count, sum, squares) = Arch::new().dispatch(Moments::<true> { scores, reference });
        }
        let mean = sum / count;
        let variance = squares / count - mean * mean;
        // Rounding alone can leave a spread of a few units in the last place of the mean.
        let least = 1e-6 * (f64::from(reference).abs() + mean.abs());
        if !(variance.is_finite() && variance > least * least) {
            return None;
        }
        let inverse_deviation = (1.0 / variance.sqrt()) as f32;
        let mean = (f64::from(reference) + mean) as f32;
        (inverse_deviation.is_finite() && mean.is_finite()).then_some(Self {
            weight,
            mean,
            inverse_deviation,
        })
    }

    /// The term of one score.
    #[inline(always)]
    pub(super) fn speak(&self, score: f32) -> f32 {
        let z = (score - self.mean) * self.inverse_deviation;
        self.weight * ((1.0 + z.abs()).sqrt() - 1.0).copysign(z)
    }

    /// `sums += speak(scores)`; a score that is not finite leaves a sum that is not, also under a weight of 0.
    pub(super) fn add(&self, scores: &[f32], sums: &mut [f32]) {
        Arch::new().dispatch(
            #[inline(always)]
            || {
                for (sum, &score) in sums.iter_mut().zip(scores) {
                    *sum += self.speak(score);
                }
            },
        );
    }
}

/// Takes the count, the sum and the sum of squares of `score - reference`, of all or of the finite scores.
struct Moments<'a, const ONLY_FINITE: bool> {
    scores: &'a [f32],
    reference: f32,
}

impl<const ONLY_FINITE: bool> WithSimd for Moments<'_, ONLY_FINITE> {
    type Output = (f64, f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let Self { scores, reference } = self;
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        for block in scores.chunks(BLOCK) {
            let (mut sums, mut sums_of_squares) = ([0.0_f32; LANES], [0.0_f32; LANES]);
            let (lanes, rest) = block.as_chunks::<LANES>();
            for scores in lanes {
                add_lanes::<ONLY_FINITE>(scores, reference, &mut sums, &mut sums_of_squares);
            }
            let mut last = [reference; LANES];
            last[..rest.len()].copy_from_slice(rest);
            add_lanes::<ONLY_FINITE>(&last, reference, &mut sums, &mut sums_of_squares);
            sum += total(&sums);
            squares += total(&sums_of_squares);
        }
        let ignored = if ONLY_FINITE { not_finite(scores) } else { 0 };
        ((scores.len() - ignored) as f64, sum, squares)
    }
}

#[inline(always)]
fn add_lanes<const ONLY_FINITE: bool>(
    scores: &[f32; LANES],
    reference: f32,
    sums: &mut [f32; LANES],
    sums_of_squares: &mut [f32; LANES],
) {
    for lane in 0..LANES {
        let is_ignored = ONLY_FINITE && !scores[lane].is_finite();
        let difference = if is_ignored { 0.0 } else { scores[lane] - reference };
        sums[lane] += difference;
        sums_of_squares[lane] += difference * difference;
    }
}

#[inline(always)]
fn total(lanes: &[f32; LANES]) -> f64 {
    lanes.iter().map(|&value| f64::from(value)).sum()
}

/// How many scores are not finite numbers.
#[inline]
pub(super) fn not_finite(scores: &[f32]) -> usize {
    // 32-bit counts, as wide as the scores, so that the compiler can use vectors.
    scores
        .chunks(BLOCK)
        .map(|block| block.iter().map(|score| u32::from(!score.is_finite())).sum::<u32>() as usize)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scores_that_order_nothing_are_silent() {
        for scores in
            [vec![], vec![3.0; 5], vec![f32::NAN; 3], vec![0.1; 4_000], vec![f32::INFINITY, 1.0, 1.0]]
        {
            assert_eq!(Voice::of(&scores, 1.0), None, "{scores:?}");
        }
        assert!(Voice::of(&[0.0, 1e-30], 1.0).is_none(), "a spread below the range of the inverse");
    }

    #[test]
    fn huge_scores_do_not_overflow_into_nonsense() {
        let scores = [f32::MAX, f32::MIN, 0.0, 1.0];
        if let Some(voice) = Voice::of(&scores, 1.0) {
            assert!(scores.iter().all(|&score| voice.speak(score).is_finite()));
        }
    }

    proptest! {
        #[test]
        fn the_voice_is_the_compressed_z_score(
            scores in prop::collection::vec(-50.0_f32..50.0, 2..3_000), shift in -100.0_f32..100.0,
        ) {
            let scores: Vec<f32> = scores.iter().map(|score| score + shift).collect();
            let count = scores.len() as f64;
            let mean = scores.iter().map(|&score| f64::from(score)).sum::<f64>() / count;
            let variance = scores.iter().map(|&score| (f64::from(score) - mean).powi(2)).sum::<f64>() / count;
            prop_assume!(variance > 1e-3);
            let voice = Voice::of(&scores, 2.0).unwrap();
            let mut sums = vec![1.0; scores.len()];
            voice.add(&scores, &mut sums);
            for (&score, &sum) in scores.iter().zip(&sums) {
                let z: f64 = (f64::from(score) - mean) / variance.sqrt();
                prop_assert!((f64::from(voice.speak(score)) - 2.0 * ((1.0 + z.abs()).sqrt() - 1.0).copysign(z)).abs() < 1e-2);
                prop_assert_eq!(1.0 + voice.speak(score), sum, "the vector loop rounds as the scalar one does");
            }
        }

        #[test]
        fn scores_that_are_not_finite_do_not_count(
            scores in prop::collection::vec(prop_oneof![3 => -5.0_f32..5.0, 1 => Just(f32::NAN), 1 => Just(f32::INFINITY)], 2..200),
        ) {
            let finite: Vec<f32> = scores.iter().copied().filter(|score| score.is_finite()).collect();
            let (all, some) = (Voice::of(&scores, 1.0), Voice::of(&finite, 1.0));
            prop_assert_eq!(all.is_some(), some.is_some());
            if let (Some(all), Some(some)) = (all, some) {
                prop_assert!((all.mean - some.mean).abs() < 1e-4);
                prop_assert!((all.inverse_deviation / some.inverse_deviation - 1.0).abs() < 1e-4);
            }
        }
    }
}
