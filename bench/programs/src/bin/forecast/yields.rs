//! The Treasury's par yields one to five days ahead: the model is chosen on 1994 to 2017 and tested on what follows.
//!
//! It is chosen by the lowest statistic of Diebold and Mariano against persistence, not by the lowest error: a gain of
//! a tenth of a percent is worth having only where it came in most years. The test is scored after the choice is made.

use std::ops::Range;
use std::path::Path;

use jiff::civil::{Date, date};
use market::algorithms::forecasting::curve::{CurveSettings, Intervals, ModelType, walk_forward};
use market::algorithms::forecasting::{CurveType, ForecastFault, Panel, Report};
use serde_json::{Value, json};

use crate::{Told, read};

const VALIDATION: Date = date(1994, 1, 1);
const VALIDATION_QUICK: Date = date(2014, 1, 1);
const TEST: Date = date(2018, 1, 1);
const QUICK_ROWS: usize = 250;
/// Models of few columns are fitted anew each month on the days before, ridge of all lags each year, trees after years.
const REFIT_ROWS: usize = 21;
const REFIT_ROWS_OF_LAGS: usize = 250;
const REFIT_ROWS_OF_TREES: usize = 2_000;

fn candidates(quick: bool) -> Vec<CurveSettings> {
    let of = |model_type, alpha| CurveSettings { model_type, alpha, ..CurveSettings::default() };
    let mut all = vec![of(ModelType::NelsonSiegel, 1.0), of(ModelType::NelsonSiegelVar, 1.0)];
    if !quick {
        all.extend([
            of(ModelType::NelsonSiegel, 0.3),
            of(ModelType::NelsonSiegel, 3.0),
            of(ModelType::NelsonSiegel, 10.0),
            of(ModelType::NelsonSiegelVar, 10.0),
            of(ModelType::Ridge, 1.0),
            of(ModelType::Ridge, 100.0),
            of(ModelType::RandomForest, 1.0),
            of(ModelType::GradientBoosting, 1.0),
            of(ModelType::Ensemble, 1.0),
        ]);
    }
    all
}

fn report(panel: &Panel, rows: Range<usize>, settings: &CurveSettings) -> Result<Report, ForecastFault> {
    let refit_rows = match settings.model_type {
        ModelType::NelsonSiegel | ModelType::NelsonSiegelVar => REFIT_ROWS,
        ModelType::Ridge => REFIT_ROWS_OF_LAGS,
        _ => REFIT_ROWS_OF_TREES,
    };
    let forecasts = walk_forward(panel, rows.clone(), settings, Some(refit_rows))?;
    let name = format!("{}, alpha {}", settings.model_type, settings.alpha);
    let intervals = Intervals::learn(panel, rows.start, settings)?;
    let half_widths: Vec<_> = rows.clone().map(|row| intervals.at(panel, row)).collect();
    let both = |(row, values): (usize, &Vec<Vec<f64>>)| {
        (intervals.quantiles_at(panel, row, values), intervals.persistence_at(panel, row))
    };
    let quantiles: Vec<_> = rows.clone().zip(&forecasts).map(both).collect();
    let report = Report::new(&name, panel, rows.start, &forecasts);
    let report = report.with_intervals(panel, rows.start, &forecasts, &half_widths);
    Ok(report.with_quantiles(panel, rows.start, &quantiles))
}

pub(crate) fn run(folder: &Path, quick: bool) -> Told {
    let panel = Panel::parse(&read(&folder.join("treasury/ust.csv"))?, CurveType::Yield)?;
    let test = panel.row_from(TEST);
    let validation = panel.row_from(if quick { VALIDATION_QUICK } else { VALIDATION });
    let test_end = if quick { test + QUICK_ROWS } else { panel.dates.len() };
    // The last origins' targets are before the test too.
    let steps = CurveSettings::default().forecast_horizon;
    let mut tried = Vec::new();
    for settings in candidates(quick) {
        eprintln!("{}, alpha {}", settings.model_type, settings.alpha);
        tried.push((settings, report(&panel, validation..test - steps, &settings)?));
    }
    let statistic = |report: &Report| report.diebold_mariano.map_or(f64::INFINITY, |test| test.statistic);
    let lowest =
        |left: &&(_, Report), right: &&(_, Report)| statistic(&left.1).total_cmp(&statistic(&right.1));
    let (settings, _) = tried.iter().min_by(lowest).ok_or("there is no candidate")?;
    let chosen = report(&panel, test..test_end, settings)?;
    let told = |(settings, found): &(CurveSettings, Report)| -> Told {
        let outcome = report(&panel, test..test_end, settings)?;
        Ok(json!({
            "name": found.name,
            "validation": found.model.rmse,
            "validation_persistence": found.persistence.rmse,
            "validation_diebold_mariano": found.diebold_mariano,
            "test": outcome.model.rmse,
            "test_diebold_mariano": outcome.diebold_mariano,
        }))
    };
    let all = tried.iter().map(told).collect::<Result<Vec<Value>, _>>()?;
    Ok(json!({ "chosen": chosen, "candidates": all }))
}
