//! Quantiles of prices by quantile regression averaging (Nowotarski and Weron 2015): the price of each hour regressed on what the
//! parts of the forecast said of it; then conformalised (Romano, Patterson and Candès 2019) on later days, each level by itself.
//!
//! A level that crosses another is sorted away, which never makes the loss larger (Chernozhukov, Fernández-Val and Galichon
//! 2010). It refuses too few days to correct with: then there are no quantiles.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::market::HOURS;
use crate::algorithms::forecasting::conformal::{self, LEVELS, Quantiles};
use crate::algorithms::forecasting::quantile_regression::{Line, Rows};

/// What an hour taught.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hour {
    /// By level: a constant and a coefficient for each part.
    lines: Vec<Line>,
    /// By level: what is added to it.
    corrections: Quantiles,
}

/// The quantiles of a day, by hour.
pub type DayQuantiles = [Quantiles; HOURS];

/// Quantiles of each hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Averaging(Vec<Hour>);

impl Averaging {
    /// Regresses on some days, corrects on others. Parts and truth are by day.
    pub(super) fn learn(
        parts: &[&[[f64; HOURS]]],
        truth: &[[f64; HOURS]],
        learned: Range<usize>,
        corrected: Range<usize>,
    ) -> Option<Self> {
        let hour = |hour: usize| {
            let of = |days: &[[f64; HOURS]]| -> Vec<f64> {
                days[learned.clone()].iter().map(|day| day[hour]).collect()
            };
            let columns: Vec<Vec<f64>> = parts.iter().map(|part| of(part)).collect();
            let targets = of(truth);
            let rows = Rows::of(&columns);
            let lines: Vec<Line> = LEVELS.iter().map(|level| rows.fit(&targets, *level)).collect();
            let mut errors = vec![Vec::with_capacity(corrected.len()); LEVELS.len()];
            for day in corrected.clone() {
                let told = sorted(&lines, &parts.iter().map(|part| part[day][hour]).collect::<Vec<_>>());
                errors.iter_mut().zip(told).for_each(|(errors, told)| errors.push(truth[day][hour] - told));
            }
            let mut corrections = [0.0; LEVELS.len()];
            for ((correction, errors), level) in corrections.iter_mut().zip(&mut errors).zip(LEVELS) {
                errors.sort_by(f64::total_cmp);
                *correction = *errors.get(conformal::rank(errors.len(), level)?)?;
            }
            Some(Hour { lines, corrections })
        };
        (0..HOURS).into_par_iter().map(hour).collect::<Option<_>>().map(Self)
    }

    /// Of a day, from what the parts say of it.
    pub(super) fn at(&self, parts: &[[f64; HOURS]]) -> DayQuantiles {
        std::array::from_fn(|hour| {
            let Hour { lines, corrections } = &self.0[hour];
            let mut told = sorted(lines, &parts.iter().map(|part| part[hour]).collect::<Vec<_>>());
            told.iter_mut().zip(corrections).for_each(|(told, correction)| *told += correction);
            told.sort_by(f64::total_cmp);
            told
        })
    }

    /// Whether its arrays fit together.
    pub(super) fn is_sound(&self, parts: usize) -> bool {
        let line = |line: &Line| line.coefficients.len() == parts;
        self.0.len() == HOURS
            && self.0.iter().all(|hour| hour.lines.len() == LEVELS.len() && hour.lines.iter().all(line))
    }
}

fn sorted(lines: &[Line], row: &[f64]) -> Quantiles {
    let mut told: Quantiles = std::array::from_fn(|level| lines[level].at(row.iter().copied()));
    told.sort_by(f64::total_cmp);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    type Days = Vec<[f64; HOURS]>;

    /// Two parts and a price whose error is even between -1 and 3 around the first.
    fn made(days: usize) -> (Days, Days, Days) {
        let noise = |day: usize, hour: usize| ((day * 7_919 + hour * 31) % 401) as f64 / 401.0;
        let make = |of: &dyn Fn(usize, usize) -> f64| -> Vec<[f64; HOURS]> {
            (0..days).map(|day| std::array::from_fn(|hour| of(day, hour))).collect()
        };
        let one = |day: usize, hour: usize| 30.0 + ((day * 13 + hour) % 17) as f64;
        let two = |day: usize, hour: usize| one(day, hour) + ((day * 5) % 3) as f64;
        let truth = |day: usize, hour: usize| one(day, hour) - 1.0 + 4.0 * noise(day, hour);
        (make(&one), make(&two), make(&truth))
    }

    #[test]
    fn quantiles_are_where_the_errors_are_and_never_cross() {
        let (one, two, truth) = made(400);
        let learned = Averaging::learn(&[&one, &two], &truth, 0..182, 182..273).unwrap();
        let mut below = [0_usize; LEVELS.len()];
        for day in 273..400 {
            let told = learned.at(&[one[day], two[day]]);
            for (hour, told) in told.iter().enumerate() {
                assert!(told.is_sorted());
                below
                    .iter_mut()
                    .zip(told)
                    .for_each(|(below, told)| *below += usize::from(truth[day][hour] <= *told));
            }
        }
        for (below, level) in below.into_iter().zip(LEVELS) {
            let covered = below as f64 / (127 * HOURS) as f64;
            assert!((covered - level).abs() < 0.03, "{level}: {covered}");
        }
        let middle = learned.at(&[[35.0; HOURS], [36.0; HOURS]])[3][3];
        assert!((middle - 36.0).abs() < 0.5, "{middle}");
        assert!(learned.is_sound(2) && !learned.is_sound(3));
    }

    #[test]
    fn the_days_after_change_nothing_and_too_few_promise_nothing() {
        let (one, two, mut truth) = made(120);
        let learn = |truth: &[[f64; HOURS]]| Averaging::learn(&[&one, &two], truth, 0..60, 60..90).unwrap();
        let before = learn(&truth);
        truth[90..].iter_mut().for_each(|day| day.fill(1e5));
        assert_eq!(learn(&truth), before);
        assert!(Averaging::learn(&[&one, &two], &truth, 0..60, 60..78).is_none());
    }

    #[test]
    fn a_shift_after_the_regression_is_corrected() {
        let (one, two, mut truth) = made(273);
        truth[182..].iter_mut().flatten().for_each(|price| *price += 10.0);
        let learned = Averaging::learn(&[&one, &two], &truth, 0..182, 182..273).unwrap();
        let middle = learned.at(&[[35.0; HOURS], [36.0; HOURS]])[3][3];
        assert!((middle - 46.0).abs() < 0.7, "{middle}");
    }
}
