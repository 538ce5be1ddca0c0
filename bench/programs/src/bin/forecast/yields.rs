//! The Treasury's par yields one to five days ahead: the model is chosen on 2014 to 2017 and tested on what follows.

use std::path::Path;

use jiff::civil::{Date, date};
use market::algorithms::forecasting::curve::{CurveSettings, ModelType, walk_forward};
use market::algorithms::forecasting::{CurveType, ForecastFault, Panel, Report};
use serde_json::json;

use crate::{Told, read};

const VALIDATION: Date = date(2014, 1, 1);
const TEST: Date = date(2018, 1, 1);
/// Fitted anew each month on the days before; trees once, before the part begins.
const REFIT_ROWS: usize = 21;

fn candidates(quick: bool) -> Vec<CurveSettings> {
    let of = |model_type, alpha| CurveSettings { model_type, alpha, ..CurveSettings::default() };
    let mut all = vec![of(ModelType::NelsonSiegel, 1.0), of(ModelType::NelsonSiegelVar, 1.0)];
    if !quick {
        all.extend([
            of(ModelType::NelsonSiegel, 0.3),
            of(ModelType::NelsonSiegel, 3.0),
            of(ModelType::Ridge, 1.0),
            of(ModelType::Ridge, 100.0),
            of(ModelType::RandomForest, 1.0),
            of(ModelType::GradientBoosting, 1.0),
            of(ModelType::Ensemble, 1.0),
        ]);
    }
    all
}

fn report(
    panel: &Panel,
    rows: std::ops::Range<usize>,
    settings: &CurveSettings,
) -> Result<Report, ForecastFault> {
    let is_slow = matches!(
        settings.model_type,
        ModelType::RandomForest | ModelType::GradientBoosting | ModelType::Ensemble
    );
    let forecasts = walk_forward(panel, rows.clone(), settings, (!is_slow).then_some(REFIT_ROWS))?;
    let name = format!("{}, alpha {}", settings.model_type, settings.alpha);
    Ok(Report::new(&name, panel, rows.start, &forecasts))
}

pub(crate) fn run(folder: &Path, quick: bool) -> Told {
    let panel = Panel::parse(&read(&folder.join("treasury/ust.csv"))?, CurveType::Yield)?;
    let (validation, test) = (panel.row_from(VALIDATION), panel.row_from(TEST));
    let test_end = if quick { test + 250 } else { panel.dates.len() };
    // The last origins' targets are before the test too.
    let steps = CurveSettings::default().forecast_horizon;
    let mut tried = Vec::new();
    for settings in candidates(quick) {
        eprintln!("{}, alpha {}", settings.model_type, settings.alpha);
        let found = report(&panel, validation..test - steps, &settings)?;
        let outcome = report(&panel, test..test_end, &settings)?;
        tried.push((found, outcome));
    }
    let lowest = |left: &&(Report, Report), right: &&(Report, Report)| {
        left.0.model.rmse.total_cmp(&right.0.model.rmse)
    };
    let (_, chosen) = tried.iter().min_by(lowest).ok_or("there is no candidate")?;
    let all: Vec<_> = tried
        .iter()
        .map(|(found, outcome)| {
            json!({
                "name": found.name,
                "validation": found.model.rmse,
                "validation_persistence": found.persistence.rmse,
                "test": outcome.model.rmse,
                "test_diebold_mariano": outcome.diebold_mariano,
            })
        })
        .collect();
    Ok(json!({ "chosen": chosen, "candidates": all }))
}
