//! How sure a mean over users is: percentile intervals by resampling users (Efron 1979), seeded.
//!
//! Every column is resampled with the same users, so that a column of differences between two algorithms gives their
//! paired comparison: an interval that leaves out 0 says that the difference is larger than the choice of users explains.
//! It does not speak about the choice of split or of training seed.
//!
//! Refuses: values that are not finite, columns of different lengths.

use super::protocol::generator;
use super::{EvaluationError, require};
use rand::RngExt;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of the draws.
    pub seed: u64,
    /// Number of resamples, at least 100.
    pub resamples: usize,
    /// Share of resampled means inside the interval, in (0, 1).
    pub confidence: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 0, resamples: 1_000, confidence: 0.95 }
    }
}

/// A mean and where it may lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean over users.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether 0 lies outside: of a difference, whether it is larger than the choice of users explains.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// `left - right` user by user.
pub fn differences(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter().zip(right).map(|(left, right)| left - right).collect()
}

/// One interval per column; a column holds one value per user. With one user the interval is that value.
///
/// # Errors
/// [`EvaluationError::Setting`] for settings out of range; [`EvaluationError::Data`] for no users, for columns of different
/// lengths and for values that are not finite.
pub fn intervals(columns: &[Vec<f64>], settings: &Settings) -> Result<Vec<Interval>, EvaluationError> {
    require(settings.resamples >= 100, "resamples", "at least 100")?;
    require(
        settings.confidence > 0.0 && settings.confidence < 1.0,
        "confidence",
        "between 0 and 1, both excluded",
    )?;
    let Some(users) = columns.first().map(Vec::len) else { return Ok(Vec::new()) };
    let data = |message: &str| Err(EvaluationError::Data(message.to_owned()));
    if users == 0 {
        return data("there are no users to resample");
    }
    if columns.iter().any(|column| column.len() != users) {
        return data("the columns to resample have different numbers of users");
    }
    if columns.iter().flatten().any(|value| !value.is_finite()) {
        return data("a value to resample is not a finite number");
    }
    let resampled: Vec<Vec<f64>> = (0..settings.resamples)
        .into_par_iter()
        .map(|resample| {
            let times_drawn = draw(users, settings.seed, resample as u64);
            columns.iter().map(|column| weighted_mean(column, &times_drawn)).collect()
        })
        .collect();
    let tail = (1.0 - settings.confidence) / 2.0;
    let interval = |(index, column): (usize, &Vec<f64>)| {
        let mut means: Vec<f64> = resampled.iter().map(|means| means[index]).collect();
        means.sort_by(f64::total_cmp);
        let mean = column.iter().sum::<f64>() / users as f64;
        Interval { mean, low: quantile(&means, tail), high: quantile(&means, 1.0 - tail) }
    };
    Ok(columns.iter().enumerate().map(interval).collect())
}

/// How often each of `users` is drawn in one resample.
fn draw(users: usize, seed: u64, resample: u64) -> Vec<u32> {
    let mut generator = generator(seed, resample);
    let mut times_drawn = vec![0; users];
    for _ in 0..users {
        times_drawn[generator.random_range(0..users as u64) as usize] += 1;
    }
    times_drawn
}

fn weighted_mean(column: &[f64], times_drawn: &[u32]) -> f64 {
    let sum: f64 = column.iter().zip(times_drawn).map(|(value, &times)| value * f64::from(times)).sum();
    sum / column.len() as f64
}

/// The quantile of rising values, linear between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_interval_of_a_share_is_near_the_normal_one() {
        let column: Vec<f64> = (0..1_000).map(|user| f64::from(u8::from(user % 5 == 0))).collect();
        let interval = intervals(&[column], &Settings::default()).unwrap()[0];
        let half = 1.96 * (0.2_f64 * 0.8 / 1_000.0).sqrt();
        assert!((interval.mean - 0.2).abs() < 1e-12);
        assert!((interval.low - (0.2 - half)).abs() < 0.003, "{interval:?}");
        assert!((interval.high - (0.2 + half)).abs() < 0.003, "{interval:?}");
    }

    #[test]
    fn a_paired_difference_is_surer_than_two_means() {
        let left: Vec<f64> = (0..500).map(|user| f64::from(user % 7)).collect();
        let right: Vec<f64> =
            left.iter().enumerate().map(|(user, value)| value - 0.1 * (user % 2) as f64).collect();
        let difference = differences(&left, &right);
        let all = intervals(&[left, right, difference], &Settings::default()).unwrap();
        assert!(all[0].low < all[1].high, "the means overlap");
        assert!(all[2].excludes_zero());
        assert!((all[2].mean - 0.05).abs() < 1e-12);
    }

    #[test]
    fn small_and_bad_input() {
        let settings = Settings::default();
        assert_eq!(intervals(&[], &settings).unwrap(), []);
        assert_eq!(
            intervals(&[vec![0.5]], &settings).unwrap(),
            [Interval { mean: 0.5, low: 0.5, high: 0.5 }]
        );
        let check = |columns: &[Vec<f64>], settings: &Settings, expected: &str| {
            let error = intervals(columns, settings).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[vec![]], &settings, "no users");
        check(&[vec![1.0], vec![1.0, 2.0]], &settings, "different numbers");
        check(&[vec![f64::NAN]], &settings, "not a finite");
        check(&[vec![1.0]], &Settings { resamples: 9, ..settings }, "resamples");
        check(&[vec![1.0]], &Settings { confidence: f64::NAN, ..settings }, "confidence");
    }

    proptest! {
        #[test]
        fn intervals_hold_their_mean_and_repeat(
            column in prop::collection::vec(0.0_f64..1.0, 2..60), seed in 0_u64..5,
        ) {
            let settings = Settings { seed, resamples: 200, ..Settings::default() };
            let first = intervals(std::slice::from_ref(&column), &settings).unwrap();
            prop_assert!(first[0].low <= first[0].mean + 1e-12 && first[0].mean <= first[0].high + 1e-12);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let again = pool.install(|| intervals(&[column], &settings).unwrap());
            prop_assert_eq!(first, again);
        }
    }
}
