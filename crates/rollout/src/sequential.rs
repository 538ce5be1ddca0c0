//! Tests and intervals that hold at every look: one may stop, go on, or decide whenever one likes.
//!
//! All rest on one martingale. For observations between 0 and 1 with mean `p`, the beta mixture of likelihoods over the
//! likelihood at `p` is a nonnegative supermartingale that starts at 1 (exactly a martingale for 0 and 1; for what lies
//! between because `(q/p)^x ((1-q)/(1-p))^(1-x)` is convex in `x`). By Ville's inequality it exceeds `1/a` ever with
//! probability `a` at most. The mixture is Krichevsky and Trofimov's, beta(1/2, 1/2).
//!
//! - An interval is all `p` whose ratio is below `1/a`: Waudby-Smith and Ramdas 2020, "Confidence sequences for sampling
//!   without replacement" (prior-posterior ratios); Howard, Ramdas, McAuliffe and Sekhon 2021 for the family.
//! - A test of two arms takes the product of both mixtures over the best likelihood that the null hypothesis allows, which
//!   is below the product at the true one: a mixture sequential probability ratio test (Robbins 1970; Johari, Koomen,
//!   Pekelis and Walsh 2017 for A/B tests) that needs no variance and no large sample.
//! - The interval of a difference is the dual of these tests: all differences that the same product does not reject at the same
//!   level. So an interval, both one-sided tests and the test of equality never speak against each other.
//!
//! The arms may take turns in any order, also one that depends on what was seen. Each observation must have its arm's mean
//! given all before it: observations of one subject that hang together belong into one. It refuses approximate levels.

use crate::Tally;

/// Bisections of an interval, down to the last bit.
const BISECTIONS: usize = 55;

/// An interval, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub lower: f64,
    /// Its upper end.
    pub upper: f64,
}

impl Interval {
    /// Whether it has `value`.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.lower <= value && value <= self.upper
    }
}

/// What speaks against a null hypothesis: the logarithm of an e-value.
///
/// Under the null it exceeds `ln(1/a)` at any time with probability `a` at most.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
pub struct Evidence(pub f64);

impl Evidence {
    /// The always-valid p-value of this look. The least over all looks is one too.
    #[must_use]
    pub fn p_value(self) -> f64 {
        (-self.0).exp().min(1.0)
    }

    /// Whether the null hypothesis is rejected at this level.
    #[must_use]
    pub fn rejects(self, level: f64) -> bool {
        self.0 >= -level.ln()
    }
}

/// `x ln y`, 0 where x is 0.
fn x_ln(x: f64, y: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x * y.ln() }
}

fn ln_beta(a: f64, b: f64) -> f64 {
    libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b)
}

/// The logarithm of the mixture of likelihoods.
fn ln_mixture(tally: Tally) -> f64 {
    ln_beta(tally.total() + 0.5, tally.rest() + 0.5) - ln_beta(0.5, 0.5)
}

fn ln_likelihood(tally: Tally, mean: f64) -> f64 {
    x_ln(tally.total(), mean) + x_ln(tally.rest(), 1.0 - mean)
}

fn is_within(tally: Tally, mean: f64, level: f64) -> bool {
    ln_likelihood(tally, mean) >= ln_mixture(tally) + level.ln()
}

/// Where a mean lies at every look, with probability `1 - level` at least; 0 to 1 of nothing.
#[must_use]
pub fn mean_interval(tally: Tally, level: f64) -> Interval {
    let is_in = |mean: f64| is_within(tally, mean, level);
    Interval { lower: end_towards(0.0, tally.mean(), is_in), upper: end_towards(1.0, tally.mean(), is_in) }
}

/// The end of an interval that has `inside`, towards `beyond`, which it may have too.
fn end_towards(beyond: f64, inside: f64, is_in: impl Fn(f64) -> bool) -> f64 {
    if is_in(beyond) {
        return beyond;
    }
    let (mut out, mut inside) = (beyond, inside);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(out, inside);
        if is_in(middle) { inside = middle } else { out = middle }
    }
    // The outer one, so that rounding never makes it narrower.
    out
}

/// Whether some pair of means so far apart is not rejected at this level.
fn is_difference_within(control: Tally, candidate: Tally, difference: f64, level: f64) -> bool {
    best_at(control, candidate, difference) > ln_mixture(control) + ln_mixture(candidate) + level.ln()
}

/// Where the mean of `candidate` less that of `control` lies at every look, with probability `1 - level` at least.
///
/// It is what [`against_no_worse`] and [`against_equal`] leave over at this level: the first rejects a tolerance that is below
/// the interval, the second 0 where that is outside of it. With that probability the product of both mixtures never rejects
/// the pair of true means, and so never their difference: both ends hold at once.
#[must_use]
pub fn difference_interval(control: Tally, candidate: Tally, level: f64) -> Interval {
    let is_in = |difference: f64| is_difference_within(control, candidate, difference, level);
    // The likelihood is concave in both means, so its best falls to both sides of what was seen.
    let seen = candidate.mean() - control.mean();
    Interval { lower: end_towards(-1.0, seen, is_in), upper: end_towards(1.0, seen, is_in) }
}

/// What speaks against the candidate's mean being at most the control's plus `tolerance` (0 to 1).
#[must_use]
pub fn against_no_worse(control: Tally, candidate: Tally, tolerance: f64) -> Evidence {
    let best = if candidate.mean() <= control.mean() + tolerance {
        ln_likelihood(control, control.mean()) + ln_likelihood(candidate, candidate.mean())
    } else {
        best_on_boundary(control, candidate, tolerance)
    };
    Evidence(ln_mixture(control) + ln_mixture(candidate) - best)
}

/// What speaks against equal means.
#[must_use]
pub fn against_equal(control: Tally, candidate: Tally) -> Evidence {
    let mut both = control;
    both.merge(candidate);
    Evidence(ln_mixture(control) + ln_mixture(candidate) - ln_likelihood(both, both.mean()))
}

/// The best likelihood with the candidate's mean so much above the control's; below it where that is negative.
fn best_at(control: Tally, candidate: Tally, difference: f64) -> f64 {
    match difference < 0.0 {
        true => best_on_boundary(candidate, control, -difference),
        false => best_on_boundary(control, candidate, difference),
    }
}

/// The best likelihood with the candidate's mean `tolerance` above the control's. It is concave in the mean, so its slope
/// falls and its zero is found by bisection.
fn best_on_boundary(control: Tally, candidate: Tally, tolerance: f64) -> f64 {
    // A sum that rounds above 1 has no logarithm of what is missing to 1.
    let at = |mean: f64| ln_likelihood(control, mean) + ln_likelihood(candidate, (mean + tolerance).min(1.0));
    let slope = |mean: f64| {
        control.total() / mean - control.rest() / (1.0 - mean) + candidate.total() / (mean + tolerance)
            - candidate.rest() / (1.0 - mean - tolerance)
    };
    let (mut lower, mut upper) = (0.0, 1.0 - tolerance);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(lower, upper);
        if slope(middle) > 0.0 { lower = middle } else { upper = middle }
    }
    at(lower).max(at(upper))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn nothing_says_nothing() {
        let none = Tally::default();
        assert_eq!(mean_interval(none, 0.05), Interval { lower: 0.0, upper: 1.0 });
        assert_eq!(against_no_worse(none, none, 0.0).p_value(), 1.0);
        assert_eq!(against_equal(none, Tally::of(1, 1)).p_value(), 1.0);
        assert_eq!(against_no_worse(none, Tally::of(50, 50), 0.0).p_value(), 1.0);
        assert!(against_no_worse(none, Tally::of(5, 5), 1.0).0.is_finite());
    }

    #[test]
    fn a_large_difference_is_seen_soon_and_its_direction_counts() {
        let (good, bad) = (Tally::of(315, 450), Tally::of(48, 50));
        assert!(against_no_worse(good, bad, 0.0).rejects(0.05 / 3.0));
        assert!(!against_no_worse(bad, good, 0.0).rejects(0.5));
        assert!(!against_no_worse(good, bad, 0.25).rejects(0.5));
        assert!(against_equal(good, bad).rejects(0.05) && against_equal(bad, good).rejects(0.05));
        let interval = difference_interval(good, bad, 0.05);
        assert!(interval.lower > 0.0 && interval.contains(48.0 / 50.0 - 0.7), "{interval:?}");
    }

    #[test]
    fn what_is_rejected_has_an_interval_without_it() {
        let check = |control: (u64, u64), candidate: (u64, u64), level: f64, is_worse: bool| {
            let tally = |(total, count)| Tally { count, total_millionths: total };
            let (control, candidate) = (tally(control), tally(candidate));
            let interval = difference_interval(control, candidate, level);
            assert_eq!(against_no_worse(control, candidate, 0.0).rejects(level), is_worse, "{interval:?}");
            assert_eq!(interval.lower > 0.0, is_worse, "{interval:?}");
        };
        // Few of the candidate, all lost: an interval made of one for each arm reached below 0 here.
        check((190_000, 19), (5_000_000, 5), 0.05 / 3.0, true);
        check((190_000, 19), (1_000_000, 1), 0.05 / 3.0, false);
        check((0, 0), (5_000_000, 5), 0.05 / 3.0, false);
        check((10_000_000, 100), (12_000_000, 100), 0.05 / 3.0, false);
    }

    /// The share of runs that are rejected at any look, and that leave the interval of the truth at any look.
    fn ever(means: [f64; 2], tolerance: f64, looks: usize, runs: u64, level: f64) -> [f64; 3] {
        let mut alarms = [0_u64; 3];
        for run in 0..runs {
            let mut random = ChaCha8Rng::seed_from_u64(run);
            let mut tallies = [Tally::default(); 2];
            let mut is_out = [false; 3];
            for _ in 0..looks {
                // One in four is a candidate, as at a step of a canary.
                let arm = usize::from(random.random::<f64>() < 0.25);
                tallies[arm].add(f64::from(u8::from(random.random::<f64>() < means[arm])));
                let [control, candidate] = tallies;
                is_out[0] |= against_no_worse(control, candidate, tolerance).rejects(level);
                is_out[1] |= against_equal(control, candidate).rejects(level);
                is_out[2] |= !is_difference_within(control, candidate, means[1] - means[0], level);
            }
            for (count, is_out) in alarms.iter_mut().zip(is_out) {
                *count += u64::from(is_out);
            }
        }
        alarms.map(|count| count as f64 / runs as f64)
    }

    /// What is promised: a look after every observation, and still at most the level. A fixed-size test at 5 % looked at so
    /// often would be wrong in more than a third of the runs.
    #[test]
    fn peeking_at_every_observation_keeps_the_level() {
        for mean in [0.05, 0.3, 0.5] {
            let [one_sided, two_sided, interval] = ever([mean, mean], 0.0, 600, 150, 0.1);
            assert!(
                one_sided <= 0.1 && two_sided <= 0.1 && interval <= 0.1,
                "{mean}: {one_sided} {two_sided}"
            );
        }
        let [at_the_boundary, _, _] = ever([0.3, 0.4], 0.1, 400, 100, 0.1);
        assert!(at_the_boundary <= 0.1, "{at_the_boundary}");
    }

    #[test]
    fn a_true_difference_is_found() {
        let [one_sided, two_sided, _] = ever([0.3, 0.6], 0.0, 800, 50, 0.05);
        assert!(one_sided >= 0.9 && two_sided >= 0.9, "{one_sided} {two_sided}");
    }

    proptest! {
        #[test]
        fn intervals_hold_the_mean_and_shrink_with_the_level(hits in 0..500_u64, count in 0..500_u64) {
            let tally = Tally::of(hits, count);
            let (wide, narrow) = (mean_interval(tally, 0.01), mean_interval(tally, 0.2));
            prop_assert!(wide.lower <= narrow.lower && narrow.upper <= wide.upper);
            prop_assert!(count == 0 || narrow.contains(tally.mean()));
        }

        #[test]
        fn evidence_is_finite_and_falls_with_the_tolerance(
            a in 0..300_u64, b in 0..300_u64, n in 0..300_u64, m in 0..300_u64, tolerance in 0.0..0.99_f64,
        ) {
            let (control, candidate) = (Tally::of(a, n), Tally::of(b, m));
            let strict = against_no_worse(control, candidate, 0.0);
            let lenient = against_no_worse(control, candidate, tolerance);
            prop_assert!(strict.0.is_finite() && lenient.0.is_finite());
            prop_assert!(lenient.0 <= strict.0 + 1e-6, "{:?} {:?}", lenient, strict);
        }

        /// Tests and interval are of one kind: neither says what the other denies.
        #[test]
        fn the_interval_is_what_the_tests_leave_over(
            a in 0..200_u64, b in 0..40_u64, n in 0..200_u64, m in 0..40_u64, tolerance in 0.0..0.9_f64, level in 1e-6..0.5_f64,
        ) {
            let (control, candidate) = (Tally::of(a, n), Tally::of(b, m));
            let found = difference_interval(control, candidate, level);
            prop_assert!(found.lower <= found.upper && found.contains(candidate.mean() - control.mean()));
            let wide = difference_interval(control, candidate, level / 10.0);
            prop_assert!(wide.lower <= found.lower && found.upper <= wide.upper);
            let turned = difference_interval(candidate, control, level);
            prop_assert!((turned.lower + found.upper).abs() < 1e-9 && (turned.upper + found.lower).abs() < 1e-9);
            // At an end itself, rounding decides.
            let is_clear = |value: f64| (found.lower - value).abs() > 1e-9 && (found.upper - value).abs() > 1e-9;
            if is_clear(tolerance) {
                let is_above = found.lower > tolerance;
                prop_assert_eq!(against_no_worse(control, candidate, tolerance).rejects(level), is_above, "{:?}", found);
            }
            if is_clear(0.0) {
                prop_assert_eq!(against_equal(control, candidate).rejects(level), !found.contains(0.0), "{:?}", found);
            }
        }

        /// The boundary's best against a fine grid.
        #[test]
        fn the_best_of_the_null_is_found(a in 1..50_u64, b in 1..50_u64, tolerance in 0.0..0.5_f64) {
            let (control, candidate) = (Tally::of(a, 60), Tally::of(b, 55));
            let found = best_on_boundary(control, candidate, tolerance);
            let grid = (1..2_000).map(|step| f64::from(step) / 2_000.0 * (1.0 - tolerance));
            let best = grid
                .map(|mean| ln_likelihood(control, mean) + ln_likelihood(candidate, mean + tolerance))
                .fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(found >= best - 1e-9 && found - best < 1e-2, "{} {}", found, best);
        }
    }
}
