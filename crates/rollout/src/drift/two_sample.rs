//! Tests of whether two samples are of one distribution.
//!
//! The p-value of Kolmogorov and Smirnov is exact up to [`EXACT_CELLS`] pairs of values: the probability that a random path
//! over the grid of both samples leaves the band of the statistic (Hodges 1958), added up from what leaves it, so that tiny
//! p-values keep all their digits. Beyond, it is the limit with Stephens' correction (1970). Where values are equal the
//! p-value is too large and never too small.

/// Pairs of values up to which p-values are exact.
pub const EXACT_CELLS: usize = 10_000_000;
/// Shares of the population stability index are at least this, so that empty bins do not make it infinite.
const LEAST_SHARE: f64 = 1e-4;
const BINS: usize = 10;

/// What a test found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tested {
    /// The largest distance of both distribution functions.
    pub statistic: f64,
    /// How probable one at least as large is where nothing differs.
    pub p_value: f64,
}

/// Whether two samples, each sorted and without NaN, are of one distribution. Where one is empty nothing is known: 0 and 1.
#[must_use]
pub fn kolmogorov_smirnov(one: &[f64], two: &[f64]) -> Tested {
    if one.is_empty() || two.is_empty() {
        return Tested { statistic: 0.0, p_value: 1.0 };
    }
    let distance = distance(one, two);
    let (first, second) = (one.len() as f64, two.len() as f64);
    let statistic = distance as f64 / (first * second);
    let p_value = if one.len().saturating_mul(two.len()) <= EXACT_CELLS {
        exact(one.len() as i64, two.len() as i64, distance)
    } else {
        limit(statistic, (first * second / (first + second)).sqrt())
    };
    Tested { statistic, p_value }
}

/// The largest distance, times the sizes of both: a whole number, which compares without rounding.
fn distance(one: &[f64], two: &[f64]) -> i64 {
    let (mut at_one, mut at_two, mut largest) = (0, 0, 0_i64);
    while at_one < one.len() && at_two < two.len() {
        let value = one[at_one].min(two[at_two]);
        at_one += one[at_one..].iter().take_while(|other| **other <= value).count();
        at_two += two[at_two..].iter().take_while(|other| **other <= value).count();
        let apart = at_one as i64 * two.len() as i64 - at_two as i64 * one.len() as i64;
        largest = largest.max(apart.abs());
    }
    largest
}

/// The probability that a path over the grid meets a point at least `distance` off its diagonal. Each point is reached from
/// the left or from below with the odds of its coordinates.
fn exact(columns: i64, rows: i64, distance: i64) -> f64 {
    if distance <= 0 {
        return 1.0;
    }
    // `left[j]` is the probability that a path to column i - 1 and row j has met one.
    let mut left = vec![1.0; rows as usize + 1];
    for i in 0..=columns {
        // Rows within the band: |i rows - j columns| < distance.
        let first = (i * rows - distance).div_euclid(columns) + 1;
        let last = (i * rows + distance - 1).div_euclid(columns);
        let (first, last) = (first.max(0), last.min(rows));
        let mut below = 1.0;
        for j in first..=last {
            let met = if i + j == 0 {
                0.0
            } else {
                let from_left = if i > 0 { left[j as usize] } else { 0.0 };
                let from_below = if j > 0 { below } else { 0.0 };
                (i as f64 * from_left + j as f64 * from_below) / (i + j) as f64
            };
            left[j as usize] = met;
            below = met;
        }
        // What the band leaves behind is outside for good; what lies above is 1 until the band reaches it.
        if let Ok(before) = usize::try_from(first - 1) {
            left[before.min(rows as usize)] = 1.0;
        }
    }
    left[rows as usize].clamp(0.0, 1.0)
}

fn limit(statistic: f64, root_size: f64) -> f64 {
    let scaled = (root_size + 0.12 + 0.11 / root_size) * statistic;
    if scaled < 0.2 {
        return 1.0;
    }
    let term = |index: i32| {
        let sign = if index % 2 == 1 { 2.0 } else { -2.0 };
        sign * (-2.0 * f64::from(index * index) * scaled * scaled).exp()
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

/// Fisher's exact test, two-sided, of `hits` among `hits + others` in two samples: the probability of all tables that are no
/// more probable than this one.
#[must_use]
pub fn fisher_exact(hits_one: u64, others_one: u64, hits_two: u64, others_two: u64) -> f64 {
    let (size_one, size_two, hits) = (hits_one + others_one, hits_two + others_two, hits_one + hits_two);
    if size_one == 0 || size_two == 0 {
        return 1.0;
    }
    let ln_choose = |of: u64, taken: u64| {
        libm::lgamma(of as f64 + 1.0)
            - libm::lgamma(taken as f64 + 1.0)
            - libm::lgamma((of - taken) as f64 + 1.0)
    };
    let all = ln_choose(size_one + size_two, hits);
    let probability =
        |hits_two: u64| ln_choose(size_one, hits - hits_two) + ln_choose(size_two, hits_two) - all;
    let own = probability(hits_two);
    // Rounding must not leave out a table that is as probable.
    let most = own + 1e-7;
    let tables = hits.saturating_sub(size_one)..=hits.min(size_two);
    let sum: f64 = tables.map(probability).filter(|other| *other <= most).map(f64::exp).sum();
    sum.clamp(0.0, 1.0)
}

/// The population stability index over the tenths of the first sample, both sorted; 0 where one is empty.
#[must_use]
pub fn population_stability_index(one: &[f64], two: &[f64]) -> f64 {
    if one.is_empty() || two.is_empty() {
        return 0.0;
    }
    let share_below = |sample: &[f64], edge: f64| {
        sample.partition_point(|value| *value <= edge) as f64 / sample.len() as f64
    };
    let mut edges: Vec<f64> = (1..BINS).map(|bin| one[(bin * one.len() / BINS).min(one.len() - 1)]).collect();
    edges.dedup();
    edges.push(f64::INFINITY);
    let (mut index, mut before) = (0.0, (0.0, 0.0));
    for edge in edges {
        let upto = (share_below(one, edge), share_below(two, edge));
        let (expected, found) = ((upto.0 - before.0).max(LEAST_SHARE), (upto.1 - before.1).max(LEAST_SHARE));
        index += (found - expected) * (found / expected).ln();
        before = upto;
    }
    index
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected.max(1e-300) + 1e-300, "{found:e} {expected:e}");
    }

    #[test]
    fn small_samples_by_hand() {
        // All orders of 2 and 2 values: 6, of which 2 are apart.
        let apart = kolmogorov_smirnov(&[1.0, 2.0], &[3.0, 4.0]);
        assert_eq!(apart.statistic, 1.0);
        near(apart.p_value, 2.0 / 6.0);
        near(kolmogorov_smirnov(&[1.0], &[2.0]).p_value, 1.0);
        // 3 and 4 apart: 2 of 35.
        near(kolmogorov_smirnov(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0, 7.0]).p_value, 2.0 / 35.0);
        assert_eq!(kolmogorov_smirnov(&[], &[1.0]).p_value, 1.0);
        assert_eq!(kolmogorov_smirnov(&[1.0, 1.0], &[1.0]).statistic, 0.0);
        // 30 and 70 apart: 2 of the ways to choose 30 of 100.
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let ways = 29_372_339_821_610_944_823_963_760.0_f64;
        near(kolmogorov_smirnov(&values[..30], &values[30..]).p_value, 2.0 / ways);
    }

    #[test]
    fn the_limit_is_near_what_is_exact() {
        for distance in [6_000_i64, 10_000, 16_000] {
            let (exact, limit) = (
                exact(300, 400, distance),
                limit(distance as f64 / 120_000.0, (120_000.0_f64 / 700.0).sqrt()),
            );
            assert!((exact - limit).abs() < 0.01, "{exact} {limit}");
        }
    }

    #[test]
    fn tables_by_hand() {
        near(fisher_exact(0, 3, 3, 0), 2.0 / 20.0);
        near(fisher_exact(1, 1, 1, 1), 1.0);
        near(fisher_exact(0, 0, 3, 0), 1.0);
        assert!(fisher_exact(0, 600, 60, 0) < 1e-60);
    }

    #[test]
    fn the_index_of_equal_samples_is_none_and_of_others_large() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let shifted: Vec<f64> = values.iter().map(|value| value + 50.0).collect();
        assert_eq!(population_stability_index(&values, &values), 0.0);
        assert!(population_stability_index(&values, &shifted) > 1.0);
        assert_eq!(population_stability_index(&[], &values), 0.0);
        assert!(population_stability_index(&[1.0; 5], &values).is_finite());
    }

    /// Every order of the samples, one after the other.
    fn brute_force(columns: usize, rows: usize, distance: i64) -> f64 {
        let (mut met, mut all) = (0_u32, 0_u32);
        for order in 0_u32..1 << (columns + rows) {
            if order.count_ones() as usize != columns {
                continue;
            }
            let (mut i, mut j, mut is_met) = (0_i64, 0_i64, false);
            for step in 0..columns + rows {
                if order >> step & 1 == 1 {
                    i += 1;
                } else {
                    j += 1;
                }
                is_met |= (i * rows as i64 - j * columns as i64).abs() >= distance;
            }
            met += u32::from(is_met);
            all += 1;
        }
        f64::from(met) / f64::from(all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn p_values_are_those_of_every_order(columns in 1..7_usize, rows in 1..7_usize, distance in 1..40_i64) {
            let found = exact(columns as i64, rows as i64, distance);
            prop_assert!((found - brute_force(columns, rows, distance)).abs() < 1e-12);
        }

        #[test]
        fn both_samples_are_alike_to_it(
            mut one in proptest::collection::vec(-9..9_i32, 1..40), mut two in proptest::collection::vec(-9..9_i32, 1..40),
        ) {
            one.sort_unstable();
            two.sort_unstable();
            let floats = |values: &[i32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
            let (first, second) = (kolmogorov_smirnov(&floats(&one), &floats(&two)), kolmogorov_smirnov(&floats(&two), &floats(&one)));
            prop_assert_eq!(first.statistic, second.statistic);
            prop_assert!((first.p_value - second.p_value).abs() < 1e-9 && (0.0..=1.0).contains(&first.p_value));
        }
    }
}
