//! `watershed train curve-forecaster` and `watershed evaluate curve-forecaster`: forecasts of curves, always printed
//! beside persistence. They read files and write files; nothing that is served is touched, and the registry only where it is
//! asked for.

mod reference;
mod registering;

use std::path::Path;

use kernel::{Error, Result, codes};
use market::algorithms::forecasting::curve::{CurveForecaster, CurveSettings, Intervals, walk_forward};
use market::algorithms::forecasting::{CurveType, ForecastFault, Panel, Report};

use self::registering::Trained;
use crate::cli::{EvaluateCurve, TrainCurve};
use crate::config::Config;
use crate::terminal;

/// One of so many rows is held out for the comparison where no date is given.
const HELD_OUT: usize = 5;
const REPORT: &str = "evaluation_report";

/// Trains, compares, writes the model, and registers it where that is asked for.
pub(super) async fn train(asked: &TrainCurve, config: &Config) -> Result<()> {
    if let Some(name) = &asked.register {
        registering::check(name)?;
    }
    let trained = make(asked)?;
    match &asked.register {
        Some(name) => registering::register(config, name, asked, &trained).await,
        None => Ok(()),
    }
}

fn make(asked: &TrainCurve) -> Result<Trained> {
    let settings = CurveSettings {
        model_type: asked.model_type,
        lookback_days: asked.lookback_days,
        forecast_horizon: asked.forecast_horizon,
        n_estimators: asked.n_estimators,
        max_depth: asked.max_depth,
        learning_rate: asked.learning_rate,
        alpha: asked.alpha,
        seed: asked.seed,
    };
    let panel = read(&asked.data_path, asked.curve_type)?;
    let rows = panel.dates.len();
    let until = match asked.train_until {
        Some(date) => panel.dates.partition_point(|day| *day <= date),
        None => rows,
    };
    let test = if until < rows { until..rows } else { rows - rows / HELD_OUT..rows };
    if test.is_empty() {
        return Err(refused(ForecastFault::TooShort { needed: HELD_OUT, found: rows }));
    }
    let forecasts = walk_forward(&panel, test.clone(), &settings, asked.refit_days).map_err(refused)?;
    let intervals = Intervals::learn(&panel, test.start, &settings).map_err(refused)?;
    let half_widths: Vec<_> = test.clone().map(|row| intervals.at(&panel, row)).collect();
    let report = Report::new(asked.model_type.name(), &panel, test.start, &forecasts).with_intervals(
        &panel,
        test.start,
        &forecasts,
        &half_widths,
    );
    terminal::say(report.to_text().trim_end());
    tell(&report, asked.json.as_deref(), asked.plot.as_deref())?;
    let model = CurveForecaster::train(&panel, until, asked.curve_type, settings).map_err(refused)?;
    let model = model.to_json().map_err(refused)?;
    write(&asked.output, &model)?;
    let beside = || asked.output.with_file_name(rollout::drift::document::FILE);
    let path = asked.drift_reference.clone().unwrap_or_else(beside);
    let reference = reference::of_curve(&panel, until, (test.start, &forecasts), asked.seed);
    let drift_reference = serde_json::to_string(&reference).map_err(Error::internal)?;
    write(&path, &drift_reference)?;
    Ok(Trained { report, model, drift_reference })
}

/// Scores a model on the days after its training.
pub(super) fn evaluate(asked: &EvaluateCurve) -> Result<()> {
    let model = CurveForecaster::from_json(&text(&asked.model_path)?).map_err(refused)?;
    if model.curve_type != asked.curve_type {
        let message = format!("the model is of a {} curve", model.curve_type);
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--curve-type"));
    }
    let panel = read(&asked.test_data_path, asked.curve_type)?;
    let after = panel.dates.partition_point(|day| *day <= model.trained_until);
    let first = after.max(model.settings.rows_needed() - 1);
    if first >= panel.dates.len() {
        let message = format!(
            "no day is after {}, the last that the model learned from, with {} days before it",
            model.trained_until,
            model.settings.rows_needed() - 1
        );
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--test-data-path"));
    }
    let (forecasts, half_widths): (Vec<_>, Vec<_>) = (first..panel.dates.len())
        .map(|row| model.predict(&panel, row).map(|forecast| (forecast.values, forecast.half_widths)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?
        .into_iter()
        .unzip();
    let report = Report::new(model.settings.model_type.name(), &panel, first, &forecasts).with_intervals(
        &panel,
        first,
        &forecasts,
        &half_widths,
    );
    terminal::say(report.to_text().trim_end());
    if let Some(path) = &asked.predictions {
        write(path, &predictions(&panel, first, &forecasts))?;
    }
    let Some(folder) = &asked.output_dir else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|cause| unwritable(folder, &cause))?;
    let file = |ending: &str| folder.join(format!("{REPORT}.{ending}"));
    tell(&report, Some(&file("json")), asked.create_plots.then(|| file("svg")).as_deref())
}

/// A line for each day that was forecast from and each day ahead, a column for each target. Numbers are the shortest that are
/// read back to the same bits.
fn predictions(panel: &Panel, first: usize, forecasts: &[Vec<Vec<f64>>]) -> String {
    let mut text = format!("date,days_ahead,{}\n", panel.targets.join(","));
    for (date, steps) in panel.dates[first..].iter().zip(forecasts) {
        for (ahead, values) in steps.iter().enumerate() {
            let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            text.push_str(&format!("{date},{},{}\n", ahead + 1, values.join(",")));
        }
    }
    text
}

fn tell(report: &Report, json: Option<&Path>, plot: Option<&Path>) -> Result<()> {
    if let Some(path) = json {
        write(path, &serde_json::to_string_pretty(report).map_err(Error::internal)?)?;
    }
    if let Some(path) = plot {
        write(path, &report.to_svg().map_err(refused)?)?;
    }
    Ok(())
}

fn read(path: &Path, curve_type: CurveType) -> Result<Panel> {
    Panel::parse(&text(path)?, curve_type).map_err(refused)
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|cause| {
        Error::new(codes::VALIDATION_ERROR, format!("{} cannot be read: {cause}", path.display()))
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|cause| unwritable(path, &cause))?;
    terminal::note(format!("wrote {}", path.display()));
    Ok(())
}

fn unwritable(path: &Path, cause: &std::io::Error) -> Error {
    Error::new(codes::UNAVAILABLE, format!("{} cannot be written: {cause}", path.display()))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn refused(fault: ForecastFault) -> Error {
    Error::new(codes::VALIDATION_ERROR, fault.to_string())
}
