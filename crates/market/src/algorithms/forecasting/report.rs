//! A forecaster against persistence and the seasonal naive forecast: by step, by target, over all.
//!
//! The seasonal naive forecast of a day is the value of the same day of the week before, five rows earlier. Each test of
//! Diebold and Mariano compares mean squared errors by day of origin. It refuses nothing: without cases all is zero.

use std::fmt::Write;

use serde::Serialize;

use super::chart::{self, Chart, Line};
use super::curve::{CurveQuantiles, HalfWidths};
use super::scores::Case;
use super::{
    DieboldMariano, ForecastFault, IntervalReport, Panel, QuantileReport, Scores, coverage, diebold_mariano,
};

const SEASON_ROWS: usize = 5;
/// A difference is told for certain where the test of Diebold and Mariano gives so much or less.
const CERTAIN_P: f64 = 0.05;

/// Scores of one step ahead.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Rows ahead, from 1.
    pub step: usize,
    /// Of the forecaster.
    pub model: Scores,
    /// Of today's value.
    pub persistence: Scores,
    /// Of the value a week before.
    pub seasonal_naive: Scores,
    /// Forecaster against persistence.
    pub diebold_mariano: Option<DieboldMariano>,
}

/// Scores of one target over all steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetReport {
    /// The column.
    pub target: String,
    /// Of the forecaster.
    pub model: Scores,
    /// Of today's value.
    pub persistence: Scores,
    /// Of the value a week before.
    pub seasonal_naive: Scores,
}

/// How a forecaster did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Who.
    pub name: String,
    /// BLAKE3 of the data, in hexadecimal.
    pub snapshot: String,
    /// The first and the last day that was forecast from.
    pub origins: [String; 2],
    /// Over all steps and targets.
    pub model: Scores,
    /// Of today's value.
    pub persistence: Scores,
    /// Of the value a week before.
    pub seasonal_naive: Scores,
    /// Forecaster against persistence over all steps.
    pub diebold_mariano: Option<DieboldMariano>,
    /// Root mean squared error of last target less first: the slope of the curve. Model, then persistence.
    pub slope_rmse: [f64; 2],
    /// Of each nominal coverage; empty where there were no intervals.
    pub intervals: Vec<IntervalReport>,
    /// None where there were no quantiles.
    pub quantiles: Option<QuantileReport>,
    /// By step.
    pub steps: Vec<StepReport>,
    /// By target.
    pub targets: Vec<TargetReport>,
}

#[derive(Clone, Copy)]
enum Who {
    Model,
    Persistence,
    Seasonal,
}

struct Trial<'a> {
    panel: &'a Panel,
    first: usize,
    forecasts: &'a [Vec<Vec<f64>>],
}

impl Trial<'_> {
    fn steps(&self) -> usize {
        self.forecasts.first().map_or(0, Vec::len)
    }

    fn value(&self, who: Who, origin: usize, step: usize, target: usize) -> f64 {
        let row = self.first + origin;
        match who {
            Who::Model => self.forecasts[origin][step - 1][target],
            Who::Persistence => self.panel.values[row][target],
            Who::Seasonal => {
                let weeks = step.div_ceil(SEASON_ROWS) * SEASON_ROWS;
                self.panel.values[(row + step).saturating_sub(weeks)][target]
            }
        }
    }

    /// What was quoted, of one origin.
    fn cases(&self, who: Who, origin: usize, step: usize) -> impl Iterator<Item = (usize, Case)> + Clone {
        let row = self.first + origin;
        let truth = self.panel.values.get(row + step).zip(self.panel.quoted.get(row + step));
        truth.into_iter().flat_map(move |(truth, quoted)| {
            (0..truth.len()).filter(move |target| quoted[*target] && self.panel.quoted[row][*target]).map(
                move |target| {
                    let today = self.panel.values[row][target];
                    (
                        target,
                        Case { today, forecast: self.value(who, origin, step, target), truth: truth[target] },
                    )
                },
            )
        })
    }

    fn scores(&self, who: Who, step: Option<usize>, target: Option<usize>) -> Scores {
        let steps = step.map_or_else(|| 1..=self.steps(), |step| step..=step);
        let cases = (0..self.forecasts.len())
            .flat_map(move |origin| steps.clone().flat_map(move |step| self.cases(who, origin, step)))
            .filter(move |(of, _)| target.is_none_or(|target| target == *of))
            .map(|(_, case)| case);
        Scores::of(cases)
    }

    /// The mean squared error of each origin.
    fn losses(&self, who: Who, step: Option<usize>) -> Vec<f64> {
        let steps = step.map_or_else(|| 1..=self.steps(), |step| step..=step);
        let loss = |origin| {
            let cases =
                steps.clone().flat_map(move |step| self.cases(who, origin, step)).map(|(_, case)| case);
            Some(Scores::of(cases)).filter(|scores| scores.count > 0).map(|scores| scores.mse)
        };
        (0..self.forecasts.len()).filter_map(loss).collect()
    }

    fn test(&self, step: Option<usize>) -> Option<DieboldMariano> {
        let horizon = step.unwrap_or_else(|| self.steps());
        diebold_mariano(&self.losses(Who::Model, step), &self.losses(Who::Persistence, step), horizon)
    }

    fn slope_rmse(&self, who: Who) -> f64 {
        let last = self.panel.targets.len().saturating_sub(1);
        let (mut sum, mut count) = (0.0, 0_usize);
        for origin in 0..self.forecasts.len() {
            for step in 1..=self.steps() {
                let cases: Vec<_> = self.cases(who, origin, step).collect();
                let of = |wanted| cases.iter().find(|(target, _)| *target == wanted).map(|(_, case)| case);
                if let (Some(short), Some(long)) = (of(0), of(last)) {
                    sum += ((long.forecast - short.forecast) - (long.truth - short.truth)).powi(2);
                    count += 1;
                }
            }
        }
        if count > 0 { (sum / count as f64).sqrt() } else { 0.0 }
    }
}

impl Report {
    /// Scores forecasts (by origin, step and target) whose first origin is the row `first`. What was not quoted, at the
    /// origin or when it came, is not scored.
    #[must_use]
    pub fn new(name: &str, panel: &Panel, first: usize, forecasts: &[Vec<Vec<f64>>]) -> Self {
        let trial = Trial { panel, first, forecasts };
        let three = |step, target| {
            [Who::Model, Who::Persistence, Who::Seasonal].map(|who| trial.scores(who, step, target))
        };
        let [model, persistence, seasonal_naive] = three(None, None);
        let steps = (1..=trial.steps()).map(|step| {
            let [model, persistence, seasonal_naive] = three(Some(step), None);
            StepReport { step, model, persistence, seasonal_naive, diebold_mariano: trial.test(Some(step)) }
        });
        let targets = panel.targets.iter().enumerate().map(|(index, target)| {
            let [model, persistence, seasonal_naive] = three(None, Some(index));
            TargetReport { target: target.clone(), model, persistence, seasonal_naive }
        });
        let day = |row: usize| panel.dates.get(row).map(ToString::to_string).unwrap_or_default();
        Self {
            name: name.to_owned(),
            snapshot: panel.snapshot.clone(),
            origins: [day(first), day(first + forecasts.len().saturating_sub(1))],
            model,
            persistence,
            seasonal_naive,
            diebold_mariano: trial.test(None),
            slope_rmse: [trial.slope_rmse(Who::Model), trial.slope_rmse(Who::Persistence)],
            intervals: Vec::new(),
            quantiles: None,
            steps: steps.collect(),
            targets: targets.collect(),
        }
    }

    /// With how often the truth was within intervals around the same forecasts, one set of half widths for each origin.
    #[must_use]
    pub fn with_intervals(
        mut self,
        panel: &Panel,
        first: usize,
        forecasts: &[Vec<Vec<f64>>],
        half_widths: &[HalfWidths],
    ) -> Self {
        self.intervals = coverage::score(panel, first, forecasts, half_widths);
        self
    }

    /// With how good quantiles were, beside those of persistence: one of each for each origin.
    #[must_use]
    pub fn with_quantiles(
        mut self,
        panel: &Panel,
        first: usize,
        told: &[(CurveQuantiles, CurveQuantiles)],
    ) -> Self {
        self.quantiles = coverage::quantiles(panel, first, told);
        self
    }

    /// As a table.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}, forecast from {} to {}\n", self.name, self.origins[0], self.origins[1]);
        let head = ["", "rmse", "persistence", "seasonal", "mae", "persistence", "direction", "DM", "p"];
        let mut line = |cells: [String; 9]| {
            let [first, rest @ ..] = cells;
            let _ = write!(text, "{first:<14}");
            rest.iter().for_each(|cell| {
                let _ = write!(text, "{cell:>13}");
            });
            text.push('\n');
        };
        line(head.map(str::to_owned));
        let row = |name: String, all: [&Scores; 3], test: Option<&DieboldMariano>| {
            let [model, persistence, seasonal] = all;
            let known =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
            [
                name,
                format!("{:.5}", model.rmse),
                format!("{:.5}", persistence.rmse),
                format!("{:.5}", seasonal.rmse),
                format!("{:.5}", model.mae),
                format!("{:.5}", persistence.mae),
                format!("{:.3}", model.directional_accuracy),
                known(test.map(|test| test.statistic)),
                known(test.map(|test| test.p_value)),
            ]
        };
        for of in &self.steps {
            let all = [&of.model, &of.persistence, &of.seasonal_naive];
            line(row(format!("step {}", of.step), all, of.diebold_mariano.as_ref()));
        }
        for of in &self.targets {
            line(row(of.target.clone(), [&of.model, &of.persistence, &of.seasonal_naive], None));
        }
        let all = [&self.model, &self.persistence, &self.seasonal_naive];
        line(row("all".to_owned(), all, self.diebold_mariano.as_ref()));
        let _ = writeln!(text, "{}", self.verdict());
        for of in &self.intervals {
            let (nominal, covered) = (100.0 * of.nominal, 100.0 * of.covered);
            let _ = writeln!(
                text,
                "intervals of {nominal:.0}% held {covered:.1}% of the values, mean half width {:.5}",
                of.half_width
            );
        }
        if let Some(quantiles) = &self.quantiles {
            text.push_str(&quantiles.to_text());
        }
        text
    }

    /// How the model compares with "tomorrow equals today", in words.
    fn verdict(&self) -> String {
        if self.persistence.rmse <= 0.0 || self.model.count == 0 {
            return "nothing to compare with: persistence made no error".to_owned();
        }
        let share = self.model.rmse / self.persistence.rmse;
        let certain = self.diebold_mariano.as_ref().filter(|test| test.p_value <= CERTAIN_P);
        let said = match certain {
            None => "it is not certain that the model is better or worse than persistence",
            Some(test) if test.mean_difference < 0.0 => "the model is better than persistence",
            Some(_) => "the model is worse than persistence: tomorrow equals today serves better",
        };
        format!("{said}; its rmse is {share:.4} of that of persistence")
    }

    /// Root mean squared errors by step, as SVG.
    ///
    /// # Errors
    /// [`ForecastFault::Chart`].
    pub fn to_svg(&self) -> Result<String, ForecastFault> {
        let of = |rmse: fn(&StepReport) -> f64| -> Vec<(f64, f64)> {
            self.steps.iter().map(|step| (step.step as f64, rmse(step))).collect()
        };
        let line = |name, places, colour| Line { name, places, colour };
        chart::render(&Chart {
            caption: format!("root mean squared error, {} to {}", self.origins[0], self.origins[1]),
            across: "steps ahead",
            places: (1.0, self.steps.len().max(2) as f64),
            lines: vec![
                line(&self.name, of(|step| step.model.rmse), chart::OURS),
                line("persistence", of(|step| step.persistence.rmse), chart::FIRST_PEER),
                line("seasonal naive", of(|step| step.seasonal_naive.rmse), chart::SECOND_PEER),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::forecasting::CurveType;

    #[test]
    fn persistence_scores_as_itself_and_no_case_is_no_fault() {
        let days = (1..=20).map(|day| format!("2020-01-{day:02},{}\n", (day * 7) % 5));
        let text = format!("date,price\n{}", days.collect::<String>());
        let panel = Panel::parse(&text, CurveType::Commodity).unwrap();
        let same: Vec<_> = (8..18).map(|row| vec![panel.values[row].clone(); 3]).collect();
        let report = Report::new("same", &panel, 8, &same);
        assert_eq!(report.model, report.persistence);
        assert_eq!(report.diebold_mariano, None);
        assert_eq!(report.seasonal_naive.rmse, 0.0);
        // Of the last two origins some steps are beyond the data.
        assert_eq!(report.model.count, 10 * 3 - 1);
        assert!(report.to_text().contains("it is not certain that the model is better or worse"));
        assert!(report.to_text().contains("step 3") && report.to_svg().unwrap().contains("</svg>"));
        let none = Report::new("none", &panel, 8, &[]);
        assert_eq!(none.model.count, 0);
        assert!(none.to_text().ends_with("nothing to compare with: persistence made no error\n"));
        assert!(none.to_svg().unwrap().contains("</svg>"));
    }

    #[test]
    fn the_verdict_is_that_of_the_test() {
        let days = (1..=28).map(|day| format!("2020-01-{day:02},{}\n", (day * day * 7) % 23));
        let text = format!("date,price\n{}", days.collect::<String>());
        let panel = Panel::parse(&text, CurveType::Commodity).unwrap();
        let check = |off: f64, expected: &str| {
            let forecasts: Vec<_> = (8..27).map(|row| vec![vec![panel.values[row + 1][0] + off]]).collect();
            let text = Report::new("it", &panel, 8, &forecasts).to_text();
            assert!(text.contains(expected), "{text}");
        };
        check(0.1, "\nthe model is better than persistence; its rmse is 0.0");
        check(100.0, "\nthe model is worse than persistence: tomorrow equals today serves better");
    }
}
