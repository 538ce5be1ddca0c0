//! Whether one forecast is better than another, or was only lucky (Diebold and Mariano 1995), with the correction for
//! small samples of Harvey, Leybourne and Newbold 1997.
//!
//! It refuses samples without a difference: it then says that nothing is known.

use serde::Serialize;

/// The outcome of a test of equal losses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DieboldMariano {
    /// Below zero where the first forecast loses less.
    pub statistic: f64,
    /// Of a difference at least so large where there is none, to either side.
    pub p_value: f64,
    /// Mean loss of the first less that of the second.
    pub mean_difference: f64,
}

/// Compares losses at the same times, of forecasts so many steps ahead. `None` for fewer than `2 · horizon + 2` of them,
/// and where the differences do not vary.
#[must_use]
pub fn diebold_mariano(first: &[f64], second: &[f64], horizon: usize) -> Option<DieboldMariano> {
    let differences: Vec<f64> = first.iter().zip(second).map(|(first, second)| first - second).collect();
    let (count, horizon) = (differences.len(), horizon.max(1));
    if count < 2 * horizon + 2 {
        return None;
    }
    let (rows, steps) = (count as f64, horizon as f64);
    let mean = differences.iter().sum::<f64>() / rows;
    let covariance = |lag: usize| -> f64 {
        let pairs = differences.iter().zip(&differences[lag..]);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / rows
    };
    // Bartlett's weights, so that the variance cannot be negative.
    let weighted = (1..horizon).map(|lag| 2.0 * (1.0 - lag as f64 / steps) * covariance(lag));
    let variance = (covariance(0) + weighted.sum::<f64>()) / rows;
    if !(variance > 0.0 && variance.is_finite()) {
        return None;
    }
    let correction = ((rows + 1.0 - 2.0 * steps + steps * (steps - 1.0) / rows) / rows).max(0.0).sqrt();
    let statistic = correction * mean / variance.sqrt();
    Some(DieboldMariano { statistic, p_value: two_sided(statistic, rows - 1.0), mean_difference: mean })
}

/// Of Student's distribution.
fn two_sided(statistic: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / (freedom + statistic * statistic), freedom / 2.0, 0.5)
}

/// The regularised incomplete beta function by its continued fraction, Lentz's method.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let logarithm = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (1.0 - x).ln();
    let guard = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / guard(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..500 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for term in [even, odd] {
            d = 1.0 / guard(1.0 + term * d);
            c = guard(1.0 + term / c);
            fraction *= d * c;
        }
        if (d * c - 1.0).abs() < 1e-14 {
            break;
        }
    }
    (logarithm.exp() * fraction / a).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_tables() {
        for (statistic, freedom, expected) in [
            (2.228, 10.0, 0.05),
            (1.96, 1e6, 0.05),
            (0.0, 5.0, 1.0),
            (3.169, 10.0, 0.01),
            (12.706, 1.0, 0.05),
        ] {
            let found = two_sided(statistic, freedom);
            assert!((found - expected).abs() < 2e-4, "{statistic} {freedom}: {found}");
        }
    }

    #[test]
    fn a_clear_winner_is_found_and_equals_are_not() {
        let noise = |index: usize| ((index * 7_919) % 101) as f64 / 101.0;
        let second: Vec<f64> = (0..200).map(noise).collect();
        let better: Vec<f64> =
            (0..200).map(|index| noise(index) - 0.2 - 0.1 * noise(index * 31 + 5)).collect();
        let found = diebold_mariano(&better, &second, 5).unwrap();
        assert!(found.statistic < -10.0 && found.p_value < 1e-6);
        let swapped = diebold_mariano(&second, &better, 5).unwrap();
        assert!((found.statistic + swapped.statistic).abs() < 1e-9);
        let (even, odd): (Vec<f64>, Vec<f64>) =
            (0..200).map(|index| (noise(index), noise(index * 13 + 3))).unzip();
        assert!(diebold_mariano(&even, &odd, 1).unwrap().p_value > 0.01);
        assert_eq!(diebold_mariano(&second, &second, 1), None);
        assert_eq!(diebold_mariano(&[1.0, 2.0], &[2.0, 1.0], 1), None);
        assert_eq!(diebold_mariano(&[], &[], 1), None);
    }
}
