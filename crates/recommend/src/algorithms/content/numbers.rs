//! Places numbers between 0 and 1 by their distribution, and turns a place into features that are near where
//! numbers are near.
//!
//! A plain scaled number is useless to a cosine: two small prices would be unlike each other. So a place is
//! spread over its two neighbouring knots, `cos` and `sin` of the way between them, which has length 1 and a
//! dot product that falls smoothly with distance.

use serde::{Deserialize, Serialize};

/// The knots that places are spread over.
pub(super) const KNOTS: usize = 10;

const QUANTILES: usize = 33;
/// Values further than this many deviations from the mean share a place.
const DEVIATIONS: f64 = 2.5;

/// Where a value stands between 0 and 1. Never NaN, and never falls as the value rises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum NumberScale {
    /// Between the least and the greatest value.
    Linear { least: f64, greatest: f64 },
    /// By deviations from the mean: for values without a long tail.
    Standard { mean: f64, deviation: f64 },
    /// The same of the logarithm: for values from 0 with a long tail, such as prices and counts.
    Logarithm { mean: f64, deviation: f64 },
    /// By rank among the values seen: for everything else.
    Quantile { quantiles: Vec<f64> },
}

impl NumberScale {
    /// Chooses by the skew of the values. `values` are finite and not empty; they are sorted here.
    pub(super) fn fit(values: &mut [f64], normalise: bool) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let (least, greatest) = (values[0], values[values.len() - 1]);
        if !normalise {
            return Self::Linear { least, greatest };
        }
        if let Some((mean, deviation)) = mean_and_deviation(&values.iter().copied()) {
            return Self::Standard { mean, deviation };
        }
        if least >= 0.0
            && let Some((mean, deviation)) = mean_and_deviation(&values.iter().map(|value| value.ln_1p()))
        {
            return Self::Logarithm { mean, deviation };
        }
        let last = values.len() - 1;
        let quantile = |at: usize| values[at * last / (QUANTILES - 1)];
        Self::Quantile { quantiles: (0..QUANTILES).map(quantile).collect() }
    }

    /// The place of a finite value.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self {
            // Halves keep the difference of two huge values finite.
            Self::Linear { least, greatest } => {
                ratio(value / 2.0 - least / 2.0, greatest / 2.0 - least / 2.0)
            }
            Self::Standard { mean, deviation } => standard(value, *mean, *deviation),
            Self::Logarithm { mean, deviation } => standard(value.max(0.0).ln_1p(), *mean, *deviation),
            Self::Quantile { quantiles } => rank(quantiles, value),
        }
    }
}

/// Nothing where the values are too skewed, or too large to square.
fn mean_and_deviation<I: ExactSizeIterator<Item = f64> + Clone>(values: &I) -> Option<(f64, f64)> {
    const GREATEST_SKEW: f64 = 1.0;
    let count = values.len() as f64;
    let mean = values.clone().map(|value| value / count).sum::<f64>();
    let moment = |power: i32| values.clone().map(|value| (value - mean).powi(power)).sum::<f64>() / count;
    let variance = moment(2);
    let skew = if variance > 0.0 { moment(3) / variance.powf(1.5) } else { 0.0 };
    (variance.is_finite() && skew.is_finite() && skew.abs() <= GREATEST_SKEW).then(|| (mean, variance.sqrt()))
}

fn standard(value: f64, mean: f64, deviation: f64) -> f64 {
    ratio(value - mean + DEVIATIONS * deviation, 2.0 * DEVIATIONS * deviation)
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.5 }
}

fn rank(quantiles: &[f64], value: f64) -> f64 {
    let last = (quantiles.len() - 1) as f64;
    let below = quantiles.partition_point(|&quantile| quantile < value);
    let until = quantiles.partition_point(|&quantile| quantile <= value);
    if below < until {
        return (below + until - 1) as f64 / 2.0 / last;
    }
    match (below.checked_sub(1).map(|at| quantiles[at]), quantiles.get(below)) {
        (Some(left), Some(&right)) => {
            let way = ratio(value / 2.0 - left / 2.0, right / 2.0 - left / 2.0);
            (below as f64 - 1.0 + way) / last
        }
        (None, _) => 0.0,
        (_, None) => 1.0,
    }
}

/// A place as two features: the knot, how much of it, and how much of the next.
pub(super) fn spread(place: f64) -> (usize, f32, f32) {
    let along = place.clamp(0.0, 1.0) * (KNOTS - 1) as f64;
    let knot = (along as usize).min(KNOTS - 2);
    let angle = (along - knot as f64) * std::f64::consts::FRAC_PI_2;
    (knot, angle.cos() as f32, angle.sin() as f32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_scale_follows_the_distribution() {
        let check = |values: &[f64], normalise: bool, expected: &str| {
            let scale = NumberScale::fit(&mut values.to_vec(), normalise);
            assert!(format!("{scale:?}").starts_with(expected), "{values:?}: {scale:?}");
        };
        let even: Vec<f64> = (1_950..2_020).map(f64::from).collect();
        let prices: Vec<f64> = (0..100).map(|step| (f64::from(step) / 12.0).exp()).collect();
        let two_sided: Vec<f64> =
            prices.iter().chain([&-5_000.0]).map(|price| price * price * price).collect();
        check(&even, true, "Standard");
        check(&even, false, "Linear");
        check(&prices, true, "Logarithm");
        check(&two_sided, true, "Quantile");
        check(&[f64::MAX, -f64::MAX, 1.0, 2.0], true, "Quantile");
        check(&[7.0], true, "Standard");
    }

    proptest! {
        #[test]
        fn places_are_in_order(
            values in prop::collection::vec(prop_oneof![-1e3..1e3, prop::num::f64::NORMAL, Just(0.0)], 1..40),
            probes in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::ZERO, 2..20), normalise: bool,
        ) {
            let scale = NumberScale::fit(&mut values.clone(), normalise);
            let mut probes: Vec<f64> = probes.into_iter().chain(values).collect();
            probes.sort_by(f64::total_cmp);
            let places: Vec<f64> = probes.iter().map(|&probe| scale.place(probe)).collect();
            prop_assert!(places.iter().all(|place| (0.0..=1.0).contains(place)), "{:?} {:?}", scale, places);
            prop_assert!(places.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12), "{:?} {:?}", scale, places);
        }

        #[test]
        fn near_places_are_alike(a in 0.0..1.0_f64, b in 0.0..1.0_f64) {
            let dot = |a: f64, b: f64| {
                let dense = |place: f64| {
                    let (knot, here, next) = spread(place);
                    let mut vector = [0.0_f32; KNOTS];
                    (vector[knot], vector[knot + 1]) = (here, next);
                    vector
                };
                dense(a).iter().zip(dense(b)).map(|(a, b)| a * b).sum::<f32>()
            };
            prop_assert!((dot(a, a) - 1.0).abs() < 1e-5);
            prop_assert!(dot(a, b) <= 1.0 + 1e-5);
            if (a - b).abs() > 2.0 / (KNOTS - 1) as f64 {
                prop_assert_eq!(dot(a, b), 0.0);
            }
        }
    }
}
