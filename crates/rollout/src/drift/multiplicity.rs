//! Many tests at once, and again and again.
//!
//! - [`holm`] over the features of a look: no false alarm among all with the look's probability, whatever hangs together
//!   (Holm 1979).
//! - [`benjamini_hochberg`] where a share of false names is fine: more is found (Benjamini and Hochberg 1995).
//! - [`look_level`] over time: the levels of all looks add up to the whole.

/// The sum of `1 / (n ln(n)^2)` from 2 on.
const SPENDING_SUM: f64 = 2.109_742_801_2;

/// The level of the `look`-th look, 1 for the first: `level / (c (t + 1) ln(t + 1)^2)`. The sum over all looks is `level`; the
/// hundredth still has a half of a tenthousandth of it, where spending by squares would leave a tenth of that.
#[must_use]
pub fn look_level(level: f64, look: u64) -> f64 {
    let at = look.max(1) as f64 + 1.0;
    level / (SPENDING_SUM * at * at.ln() * at.ln())
}

/// Adjusted p-values: those at or below a level are rejected at it, with a probability of any false one of that at most.
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let order = by_size(p_values);
    let mut adjusted = vec![1.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (rank, at) in order.into_iter().enumerate() {
        largest = largest.max((p_values.len() - rank) as f64 * p_values[at]).min(1.0);
        adjusted[at] = largest;
    }
    adjusted
}

/// Adjusted p-values: of those at or below a level, that share is false on average, where tests are independent or hang
/// together positively.
#[must_use]
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let order = by_size(p_values);
    let mut adjusted = vec![1.0; p_values.len()];
    let mut least = 1.0_f64;
    for (rank, at) in order.into_iter().enumerate().rev() {
        least = least.min(p_values.len() as f64 / (rank + 1) as f64 * p_values[at]);
        adjusted[at] = least;
    }
    adjusted
}

fn by_size(p_values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|one, two| p_values[*one].total_cmp(&p_values[*two]));
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_values() {
        // As R's p.adjust gives them.
        let p_values = [0.01, 0.04, 0.03, 0.005];
        let check = |found: Vec<f64>, expected: [f64; 4]| {
            let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12);
            assert!(near, "{found:?}");
        };
        check(holm(&p_values), [0.03, 0.06, 0.06, 0.02]);
        check(benjamini_hochberg(&p_values), [0.02, 0.04, 0.04, 0.02]);
        assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
    }

    #[test]
    fn all_looks_spend_the_level_and_no_more() {
        let spent: f64 = (1..2_000_000).map(|look| look_level(0.05, look)).sum();
        // The rest of the sum from n on is about 1 / ln(n).
        let rest = 0.05 / SPENDING_SUM / 2_000_000_f64.ln();
        assert!(spent < 0.05 && (spent + rest - 0.05).abs() < 1e-5, "{spent} {rest}");
        assert_eq!(look_level(0.05, 0), look_level(0.05, 1));
    }

    proptest! {
        #[test]
        fn adjusted_values_are_larger_and_keep_the_order(p_values in proptest::collection::vec(0.0..=1.0_f64, 0..20)) {
            let (strict, lenient) = (holm(&p_values), benjamini_hochberg(&p_values));
            for at in 0..p_values.len() {
                prop_assert!(p_values[at] <= lenient[at] && lenient[at] <= strict[at] && strict[at] <= 1.0);
                for other in 0..p_values.len() {
                    if p_values[at] < p_values[other] {
                        prop_assert!(strict[at] <= strict[other] && lenient[at] <= lenient[other]);
                    }
                }
            }
        }
    }
}
