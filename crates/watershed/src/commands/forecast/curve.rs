//! `watershed train curve-forecaster` and `watershed evaluate curve-forecaster`.

use std::ops::Range;
use std::path::Path;

use kernel::{Error, Result, codes};
use market::algorithms::forecasting::curve::{CurveForecaster, CurveSettings, Intervals, walk_forward};
use market::algorithms::forecasting::{CurveType, ForecastFault, Panel, Report};

use super::registering::{Registration, Registry};
use super::{
    check_evaluation, check_training, check_until, of_file, reference, refused, tell, tell_in, text, write,
};
use crate::cli::{EvaluateCurve, TrainCurve};
use crate::config::Config;
use crate::{forecasters, terminal};

/// One of so many rows is held out for the comparison where no date is given.
const HELD_OUT: usize = 5;

/// What was trained.
struct Trained {
    report: Report,
    model: String,
    drift_reference: String,
}

/// Trains, compares, writes the model, and registers it where that is asked for.
pub(in crate::commands) async fn train(asked: &TrainCurve, config: &Config) -> Result<()> {
    let prepared = prepare(asked)?;
    let registry = Registry::find(&asked.registering, config).await?;
    let trained = make(asked, prepared)?;
    let Some(registry) = registry else { return Ok(()) };
    let registration = Registration {
        command: "watershed train curve-forecaster",
        params: params(asked),
        metrics: metrics(&trained.report),
        data: &asked.data_path,
        snapshot: &trained.report.snapshot,
        files: vec![
            (forecasters::curve::FILE, trained.model),
            (rollout::drift::document::FILE, trained.drift_reference),
        ],
    };
    registry.register(registration).await
}

/// What is read and found fit before anything is waited for.
struct Prepared {
    settings: CurveSettings,
    panel: Panel,
    until: usize,
    test: Range<usize>,
}

fn prepare(asked: &TrainCurve) -> Result<Prepared> {
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
    let others = [asked.drift_reference.as_deref(), asked.json.as_deref(), asked.plot.as_deref()];
    check_training(&asked.data_path, &asked.output, others)?;
    let panel = read(&asked.data_path, asked.curve_type)?;
    settings.check(&panel).map_err(refused)?;
    for told in panel.told_left_out(asked.curve_type).into_iter().chain(panel.told_ended()) {
        terminal::note(told);
    }
    let rows = panel.dates.len();
    let until = match asked.train_until {
        Some(date) => panel.dates.partition_point(|day| *day <= date),
        None => rows,
    };
    check_until(asked.train_until, rows == 0 || panel.has_scores(until, asked.forecast_horizon))?;
    let test = if until < rows { until..rows } else { rows - rows / HELD_OUT..rows };
    if test.is_empty() {
        return Err(of_file(&asked.data_path, &ForecastFault::TooShort { needed: HELD_OUT, found: rows }));
    }
    // Nobody waits for a training whose reference has no place.
    let known = reference::of_curve(&panel, until, (test.start, &[]), asked.seed);
    reference::check(&known, &asked.output, asked.drift_reference.as_deref())?;
    Ok(Prepared { settings, panel, until, test })
}

fn make(asked: &TrainCurve, prepared: Prepared) -> Result<Trained> {
    let Prepared { settings, panel, until, test } = prepared;
    let forecasts = walk_forward(&panel, test.clone(), &settings, asked.refit_days).map_err(refused)?;
    let intervals = Intervals::learn(&panel, test.start, &settings).map_err(refused)?;
    let half_widths: Vec<_> = test.clone().map(|row| intervals.at(&panel, row)).collect();
    let both = |(row, values): (usize, &Vec<Vec<f64>>)| {
        (intervals.quantiles_at(&panel, row, values), intervals.persistence_at(&panel, row))
    };
    let quantiles: Vec<_> = test.clone().zip(&forecasts).map(both).collect();
    let report = Report::new(asked.model_type.name(), &panel, test.start, &forecasts)
        .with_intervals(&panel, test.start, &forecasts, &half_widths)
        .with_quantiles(&panel, test.start, &quantiles);
    terminal::say(report.to_text().trim_end());
    tell(&report, || report.to_svg(), asked.json.as_deref(), asked.plot.as_deref())?;
    let model = CurveForecaster::train(&panel, until, asked.curve_type, settings).map_err(refused)?;
    let model = model.to_json().map_err(refused)?;
    write(&asked.output, &model)?;
    let document = reference::of_curve(&panel, until, (test.start, &forecasts), asked.seed);
    let drift_reference = reference::write(&document, &asked.output, asked.drift_reference.as_deref())?;
    Ok(Trained { report, model, drift_reference })
}

/// Scores a model on the days after its training.
pub(in crate::commands) fn evaluate(asked: &EvaluateCurve) -> Result<()> {
    check_evaluation(
        [&asked.model_path, &asked.test_data_path],
        asked.predictions.as_deref(),
        asked.output_dir.as_deref(),
    )?;
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
    let (mut forecasts, mut half_widths, mut quantiles) = (Vec::new(), Vec::new(), Vec::new());
    for row in first..panel.dates.len() {
        let told = model.predict(&panel, row).map_err(refused)?;
        forecasts.push(told.values);
        half_widths.push(told.half_widths);
        quantiles.push((told.quantiles, told.persistence_quantiles));
    }
    let report = Report::new(model.settings.model_type.name(), &panel, first, &forecasts)
        .with_intervals(&panel, first, &forecasts, &half_widths)
        .with_quantiles(&panel, first, &quantiles);
    terminal::say(report.to_text().trim_end());
    if let Some(path) = &asked.predictions {
        write(path, &predictions(&panel, first, &forecasts))?;
    }
    let Some(folder) = &asked.output_dir else { return Ok(()) };
    tell_in(folder, &report, || report.to_svg(), asked.create_plots)
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

fn read(path: &Path, curve_type: CurveType) -> Result<Panel> {
    Panel::parse(&text(path)?, curve_type).map_err(|fault| of_file(path, &fault))
}

fn params(asked: &TrainCurve) -> Vec<(&'static str, String)> {
    let until = asked.train_until.map_or_else(|| "all".to_owned(), |date| date.to_string());
    vec![
        ("curve_type", asked.curve_type.to_string()),
        ("model_type", asked.model_type.name().to_owned()),
        ("lookback_days", asked.lookback_days.to_string()),
        ("forecast_horizon", asked.forecast_horizon.to_string()),
        ("n_estimators", asked.n_estimators.to_string()),
        ("max_depth", asked.max_depth.to_string()),
        ("learning_rate", asked.learning_rate.to_string()),
        ("alpha", asked.alpha.to_string()),
        ("seed", asked.seed.to_string()),
        ("train_until", until),
    ]
}

fn metrics(report: &Report) -> Vec<(&'static str, f64)> {
    let p = report.diebold_mariano.as_ref().map(|test| ("diebold_mariano_p", test.p_value));
    let losses = report
        .quantiles
        .as_ref()
        .map(|told| [("pinball_loss", told.pinball), ("persistence_pinball_loss", told.naive_pinball)]);
    let scores = [
        ("rmse", report.model.rmse),
        ("mae", report.model.mae),
        ("persistence_rmse", report.persistence.rmse),
        ("seasonal_naive_rmse", report.seasonal_naive.rmse),
    ];
    scores.into_iter().chain(p).chain(losses.into_iter().flatten()).collect()
}
