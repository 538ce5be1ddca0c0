//! A forecaster of prices against the naive forecast: over all hours, by hour, its intervals and its quantiles.
//!
//! The relative error is the mean absolute error over that of the naive forecast on the same days (Lago et al. 2021). The test of
//! Diebold and Mariano compares mean absolute errors by day. It refuses nothing: without days all is zero.

use std::fmt::Write;

use serde::Serialize;

use super::market::{HOURS, PowerMarket};
use super::{DayAhead, naive};
use crate::algorithms::forecasting::chart::{self, Chart, Line};
use crate::algorithms::forecasting::{
    COVERAGES, DieboldMariano, ForecastFault, QuantileCase, QuantileReport, diebold_mariano,
};

type Days = [[f64; HOURS]];

/// Errors of one forecaster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PriceScores {
    /// Mean absolute error, in the unit of the prices.
    pub mae: f64,
    /// Root mean squared error.
    pub rmse: f64,
    /// Mean absolute error over that of the naive forecast; 0 where that has none.
    pub rmae: f64,
}

impl PriceScores {
    fn of(told: &Days, truth: &Days, naive_mae: f64) -> Self {
        let errors = told.as_flattened().iter().zip(truth.as_flattened()).map(|(told, truth)| told - truth);
        let hours = truth.as_flattened().len().max(1) as f64;
        let mae = errors.clone().map(f64::abs).sum::<f64>() / hours;
        let rmse = (errors.map(|error| error * error).sum::<f64>() / hours).sqrt();
        Self { mae, rmse, rmae: if naive_mae > 0.0 { mae / naive_mae } else { 0.0 } }
    }
}

/// Of an hour of the day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct HourReport {
    /// 0 to 23.
    pub hour: usize,
    /// Mean absolute error.
    pub mae: f64,
    /// Of the naive forecast.
    pub naive_mae: f64,
}

/// Intervals of one nominal coverage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CoverageReport {
    /// What was promised, 0 to 1.
    pub nominal: f64,
    /// The part of the prices that were within.
    pub covered: f64,
    /// Mean of the half widths.
    pub half_width: f64,
}

impl CoverageReport {
    /// Compares intervals around forecasts with what came, by day; none for days without. Empty where none has any.
    #[must_use]
    pub fn of(
        told: &[[f64; HOURS]],
        truth: &[[f64; HOURS]],
        widths: &[Option<[[f64; COVERAGES.len()]; HOURS]>],
    ) -> Vec<Self> {
        let of = |(index, nominal): (usize, f64)| {
            let (mut count, mut within, mut sum) = (0_usize, 0_usize, 0.0);
            for ((told, truth), widths) in told.iter().zip(truth).zip(widths) {
                for (hour, width) in widths.iter().flatten().enumerate() {
                    count += 1;
                    sum += width[index];
                    within += usize::from((told[hour] - truth[hour]).abs() <= width[index]);
                }
            }
            let hours = count as f64;
            (count > 0).then(|| Self { nominal, covered: within as f64 / hours, half_width: sum / hours })
        };
        COVERAGES.into_iter().enumerate().filter_map(of).collect()
    }
}

/// What fitting anew gives on the same days.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefittedReport {
    /// After so many days.
    pub refit_days: usize,
    /// Its errors.
    pub scores: PriceScores,
    /// Refitted against fitted once.
    pub diebold_mariano: Option<DieboldMariano>,
}

/// How a forecaster did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PowerReport {
    /// Who.
    pub name: String,
    /// BLAKE3 of the data, in hexadecimal.
    pub snapshot: String,
    /// The first and the last day that was forecast.
    pub days: [String; 2],
    /// How many.
    pub day_count: usize,
    /// Of the forecaster.
    pub model: PriceScores,
    /// Of the naive forecast of the field.
    pub naive: PriceScores,
    /// Forecaster against the naive forecast.
    pub diebold_mariano: Option<DieboldMariano>,
    /// Of each nominal coverage; empty where there were no intervals.
    pub intervals: Vec<CoverageReport>,
    /// None where there were no quantiles.
    pub quantiles: Option<QuantileReport>,
    /// Where it was asked for.
    pub refitted: Option<RefittedReport>,
    /// By hour.
    pub hours: Vec<HourReport>,
}

impl PowerReport {
    /// Scores the forecasts of the day `first` and of those after it, as far as there are prices.
    #[must_use]
    pub fn new(
        name: &str,
        snapshot: &str,
        market: &PowerMarket,
        first: usize,
        forecasts: &[DayAhead],
    ) -> Self {
        let count = forecasts.len().min(market.price_days().saturating_sub(first));
        let forecasts = &forecasts[..count];
        let truth: Vec<_> = (first..first + count).map(|day| market.prices(day)).collect();
        let seasonal: Vec<_> = (first..first + count).map(|day| naive(market, day)).collect();
        let told: Vec<_> = forecasts.iter().map(|forecast| forecast.prices).collect();
        let widths: Vec<_> = forecasts.iter().map(|forecast| forecast.half_widths).collect();
        let naive_mae = PriceScores::of(&seasonal, &truth, 0.0).mae;
        let (errors, naive_errors) = (mean_errors(&told, &truth), mean_errors(&seasonal, &truth));
        let hour = |hour: usize| {
            let mae = |told: &Days| {
                let sum: f64 =
                    told.iter().zip(&truth).map(|(told, truth)| (told[hour] - truth[hour]).abs()).sum();
                sum / count.max(1) as f64
            };
            HourReport { hour, mae: mae(&told), naive_mae: mae(&seasonal) }
        };
        let cases = forecasts.iter().zip(&truth).flat_map(|(forecast, truth)| {
            let both = forecast.quantiles.iter().flatten().zip(forecast.naive_quantiles.iter().flatten());
            both.zip(truth).map(|((quantiles, naive), truth)| QuantileCase {
                truth: *truth,
                quantiles: *quantiles,
                naive: *naive,
            })
        });
        Self {
            name: name.to_owned(),
            snapshot: snapshot.to_owned(),
            days: [first, first + count.saturating_sub(1)].map(|day| market.date(day).to_string()),
            day_count: count,
            model: PriceScores::of(&told, &truth, naive_mae),
            naive: PriceScores::of(&seasonal, &truth, naive_mae),
            diebold_mariano: diebold_mariano(&errors, &naive_errors, 1),
            intervals: CoverageReport::of(&told, &truth, &widths),
            quantiles: QuantileReport::of(cases),
            refitted: None,
            hours: (0..HOURS).map(hour).collect(),
        }
    }

    /// With what fitting anew gives on the same days.
    #[must_use]
    pub fn with_refitted(
        mut self,
        market: &PowerMarket,
        first: usize,
        forecasts: &[DayAhead],
        (refit_days, refitted): (usize, &[[f64; HOURS]]),
    ) -> Self {
        let count = self.day_count.min(refitted.len());
        let truth: Vec<_> = (first..first + count).map(|day| market.prices(day)).collect();
        let once: Vec<_> = forecasts[..count].iter().map(|forecast| forecast.prices).collect();
        let refitted = &refitted[..count];
        self.refitted = Some(RefittedReport {
            refit_days,
            scores: PriceScores::of(refitted, &truth, self.naive.mae),
            diebold_mariano: diebold_mariano(&mean_errors(refitted, &truth), &mean_errors(&once, &truth), 1),
        });
        self
    }

    /// As a table.
    #[must_use]
    pub fn to_text(&self) -> String {
        let [from, until] = &self.days;
        let mut text = format!("{}, {} days from {from} to {until}\n", self.name, self.day_count);
        let mut line = |name: &str, cells: [String; 3], test: &str| {
            let [mae, rmse, rmae] = cells;
            let _ = writeln!(text, "{name:<24}{mae:>10}{rmse:>10}{rmae:>10}{test}");
        };
        line("", ["mae", "rmse", "rmae"].map(str::to_owned), "");
        let cells =
            |scores: &PriceScores| [scores.mae, scores.rmse, scores.rmae].map(|value| format!("{value:.3}"));
        let against = |test: Option<&DieboldMariano>, whom: &str| {
            test.map_or_else(String::new, |test| {
                format!("   DM {:.2}, p {:.3}, against {whom}", test.statistic, test.p_value)
            })
        };
        line("fitted once", cells(&self.model), &against(self.diebold_mariano.as_ref(), "naive"));
        if let Some(of) = &self.refitted {
            let name = format!("refitted each {} days", of.refit_days);
            line(&name, cells(&of.scores), &against(of.diebold_mariano.as_ref(), "fitted once"));
        }
        line("naive", cells(&self.naive), "");
        for of in &self.intervals {
            let (nominal, covered) = (100.0 * of.nominal, 100.0 * of.covered);
            let width = of.half_width;
            let _ = writeln!(
                text,
                "intervals of {nominal:.0}% held {covered:.1}% of the prices, mean half width {width:.3}"
            );
        }
        if let Some(quantiles) = &self.quantiles {
            text.push_str(&quantiles.to_text());
        }
        text
    }

    /// Mean absolute errors by hour, as SVG.
    ///
    /// # Errors
    /// [`ForecastFault::Chart`].
    pub fn to_svg(&self) -> Result<String, ForecastFault> {
        let of =
            |mae: fn(&HourReport) -> f64| self.hours.iter().map(|of| (of.hour as f64, mae(of))).collect();
        chart::render(&Chart {
            caption: format!("mean absolute error, {} to {}", self.days[0], self.days[1]),
            across: "hour of the day",
            places: (0.0, (HOURS - 1) as f64),
            lines: vec![
                Line { name: &self.name, places: of(|hour| hour.mae), colour: chart::OURS },
                Line { name: "naive", places: of(|hour| hour.naive_mae), colour: chart::FIRST_PEER },
            ],
        })
    }
}

/// The mean absolute error of each day.
#[must_use]
pub fn mean_errors(told: &[[f64; HOURS]], truth: &[[f64; HOURS]]) -> Vec<f64> {
    let day = |(told, truth): (&[f64; HOURS], &[f64; HOURS])| {
        told.iter().zip(truth).map(|(told, truth)| (told - truth).abs()).sum::<f64>() / HOURS as f64
    };
    told.iter().zip(truth).map(day).collect()
}
