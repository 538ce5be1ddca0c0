//! What past errors say of how wrong a forecast may be: half widths around it, quantiles, and the quantiles of the naive forecast
//! to compare them with. Each hour is by itself.
//!
//! Quantiles are of the errors with their sign, and the forecast is the middle of them: on which side more of the errors of those
//! days were says little of the days to come.
//!
//! It refuses too few days: then nothing is promised.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::market::{HOURS, PowerMarket};
use super::{PowerForecast, naive};
use crate::algorithms::forecasting::conformal::{self, COVERAGES, LEVELS, Quantiles};

/// The quantiles of a day, by hour.
pub type DayQuantiles = [Quantiles; HOURS];

/// How many days it may be made of.
pub(super) const DAYS: RangeInclusive<usize> = 63..=1_456;

/// What the errors of some days taught.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// By hour, at [`COVERAGES`].
    pub half_widths: [[f64; COVERAGES.len()]; HOURS],
    /// By hour: what is added to the forecast for each of [`LEVELS`], 0 in the middle.
    quantiles: DayQuantiles,
    /// By hour: what is added to the naive forecast for each of [`LEVELS`].
    naive: DayQuantiles,
}

impl Calibration {
    /// From forecasts whose first day is the day `first`, as many as there are. `None` for fewer than 63.
    #[must_use]
    pub fn learn(market: &PowerMarket, first: usize, forecast: &PowerForecast) -> Option<Self> {
        let days = forecast.mean.len();
        if !DAYS.contains(&days) || first + days > market.price_days() {
            return None;
        }
        let truth: Vec<_> = (first..first + days).map(|day| market.prices(day)).collect();
        let naive: Vec<_> = (first..first + days).map(|day| self::naive(market, day)).collect();
        let errors = |told: &[[f64; HOURS]], hour: usize| -> Vec<f64> {
            truth.iter().zip(told).map(|(truth, told)| truth[hour] - told[hour]).collect()
        };
        let mut half_widths = [[0.0; COVERAGES.len()]; HOURS];
        let (mut quantiles, mut naive_quantiles) =
            ([[0.0; LEVELS.len()]; HOURS], [[0.0; LEVELS.len()]; HOURS]);
        for hour in 0..HOURS {
            quantiles[hour] = conformal::quantiles_around(&mut errors(&forecast.mean, hour))?;
            let mut absolute = errors(&forecast.mean, hour);
            absolute.iter_mut().for_each(|error| *error = error.abs());
            half_widths[hour] = conformal::half_widths(&mut absolute)?;
            naive_quantiles[hour] = conformal::quantiles(&mut errors(&naive, hour))?;
        }
        Some(Self { half_widths, quantiles, naive: naive_quantiles })
    }

    /// Of each day of a walk from the errors of the `days` before it, learned anew every `learned_days`-th; `None` for days that
    /// have too few before them.
    #[must_use]
    pub fn walk(
        market: &PowerMarket,
        first: usize,
        forecast: &PowerForecast,
        (days, learned_days): (usize, usize),
    ) -> Vec<Option<(DayQuantiles, DayQuantiles)>> {
        let mut known = None;
        let day = |day: usize| {
            let from = day.checked_sub(days)?;
            if (day - days).is_multiple_of(learned_days.max(1)) {
                known = Self::learn(market, first + from, &forecast.part(from..day));
            }
            let known: &Self = known.as_ref()?;
            Some((known.quantiles(forecast, day), known.naive(market, first + day)))
        };
        (0..forecast.mean.len()).map(day).collect()
    }

    /// Of a day of a forecast.
    pub(super) fn quantiles(&self, forecast: &PowerForecast, day: usize) -> DayQuantiles {
        around(forecast.mean[day], &self.quantiles)
    }

    /// Of the naive forecast of a day.
    pub(super) fn naive(&self, market: &PowerMarket, day: usize) -> DayQuantiles {
        around(naive(market, day), &self.naive)
    }
}

fn around(told: [f64; HOURS], errors: &DayQuantiles) -> DayQuantiles {
    std::array::from_fn(|hour| errors[hour].map(|error| told[hour] + error))
}
