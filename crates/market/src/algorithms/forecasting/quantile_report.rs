//! How good quantiles were: the pinball loss (Koenker and Bassett 1978), which is lowest for the true quantile, and how much of
//! what came was at or below each, beside naive quantiles for the same cases.
//!
//! Twice the mean pinball loss over evenly spaced levels is about the continuous ranked probability score. It refuses
//! nothing: without cases there is no report.

use std::fmt::Write;

use serde::Serialize;

use super::{LEVELS, Quantiles};

/// What came, and what was said of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileCase {
    /// What came.
    pub truth: f64,
    /// What was said.
    pub quantiles: Quantiles,
    /// What the naive forecast and its past errors said.
    pub naive: Quantiles,
}

/// Of one level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LevelReport {
    /// The part that was to be at or below, 0 to 1.
    pub level: f64,
    /// The part that was.
    pub covered: f64,
    /// Mean pinball loss, in the unit of the values.
    pub pinball: f64,
    /// The part that was at or below the naive quantile.
    pub naive_covered: f64,
    /// Mean pinball loss of the naive quantile.
    pub naive_pinball: f64,
}

/// Over all levels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuantileReport {
    /// Cases.
    pub count: usize,
    /// Mean over the levels.
    pub pinball: f64,
    /// Of the naive quantiles.
    pub naive_pinball: f64,
    /// By level.
    pub levels: Vec<LevelReport>,
}

impl QuantileReport {
    /// Scores quantiles. `None` without a case.
    #[must_use]
    pub fn of(cases: impl Iterator<Item = QuantileCase>) -> Option<Self> {
        let mut count = 0_usize;
        let mut sums = [[0.0; 4]; LEVELS.len()];
        for QuantileCase { truth, quantiles, naive } in cases {
            count += 1;
            for (index, sums) in sums.iter_mut().enumerate() {
                let level = LEVELS[index];
                let below = |value: f64| f64::from(u8::from(truth <= value));
                sums[0] += below(quantiles[index]);
                sums[1] += pinball(level, quantiles[index], truth);
                sums[2] += below(naive[index]);
                sums[3] += pinball(level, naive[index], truth);
            }
        }
        let of = |(level, sums): (f64, [f64; 4])| {
            let [covered, pinball, naive_covered, naive_pinball] = sums.map(|sum| sum / count as f64);
            LevelReport { level, covered, pinball, naive_covered, naive_pinball }
        };
        let levels: Vec<LevelReport> = LEVELS.into_iter().zip(sums).map(of).collect();
        let mean = |of: fn(&LevelReport) -> f64| levels.iter().map(of).sum::<f64>() / levels.len() as f64;
        let (pinball, naive_pinball) = (mean(|level| level.pinball), mean(|level| level.naive_pinball));
        (count > 0).then_some(Self { count, pinball, naive_pinball, levels })
    }

    /// As lines of text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "quantiles: mean pinball loss {:.5}, of the naive ones {:.5}\n",
            self.pinball, self.naive_pinball
        );
        let mut line = |name: &str, of: &dyn Fn(&LevelReport) -> String| {
            let _ = write!(text, "{name:<18}");
            self.levels.iter().for_each(|level| {
                let _ = write!(text, "{:>8}", of(level));
            });
            text.push('\n');
        };
        line("level", &|level| format!("{:.0}%", 100.0 * level.level));
        line("at or below it", &|level| format!("{:.1}%", 100.0 * level.covered));
        line("the naive one", &|level| format!("{:.1}%", 100.0 * level.naive_covered));
        text
    }
}

fn pinball(level: f64, quantile: f64, truth: f64) -> f64 {
    let away = truth - quantile;
    if away >= 0.0 { level * away } else { (level - 1.0) * away }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_lowest_at_the_quantile() {
        let loss = |value: f64| {
            let cases = (0..100).map(|truth| QuantileCase {
                truth: f64::from(truth),
                quantiles: [value; 7],
                naive: [0.0; 7],
            });
            QuantileReport::of(cases).unwrap()
        };
        let at = |value: f64, index: usize| loss(value).levels[index].pinball;
        assert!(at(4.5, 0) < at(9.0, 0) && at(4.5, 0) < at(1.0, 0), "5 percent are below 4.5");
        assert!(at(89.5, 5) < at(95.0, 5) && at(89.5, 5) < at(80.0, 5));
        let found = loss(49.0);
        assert_eq!((found.count, found.levels[3].covered, found.levels[3].naive_covered), (100, 0.5, 0.01));
        assert!(found.naive_pinball > found.pinball && found.to_text().contains("50.0%"));
        assert_eq!(QuantileReport::of(std::iter::empty()), None);
    }
}
