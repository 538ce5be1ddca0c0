//! `watershed train power-forecaster` and `watershed evaluate power-forecaster`.
//!
//! The comparison is of a model that is fitted once, as the file is; what fitting anew gives is told beside it where that is
//! asked for, because it takes seconds for each fit.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use kernel::{Error, Result, codes};
use market::algorithms::forecasting::power::{
    DayAhead, HOURS, PowerForecaster, PowerMarket, PowerReport, PowerSettings,
};
use market::algorithms::forecasting::{COVERAGES, ForecastFault, LEVELS, snapshot_of};

use super::registering::{Registration, Registry};
use super::{
    check_evaluation, check_training, check_until, of_file, reference, refused, tell, tell_in, text, write,
};
use crate::cli::{EvaluatePower, TrainPower};
use crate::config::Config;
use crate::forecasters::power::{FILE, PRICE};
use crate::{forecasters, terminal};

const NAME: &str = "power";

/// What was trained.
struct Trained {
    report: PowerReport,
    model: String,
    drift_reference: String,
}

/// A table and where it is from.
struct Table {
    market: PowerMarket,
    snapshot: String,
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        let text = text(path)?;
        let market = PowerMarket::parse(&text).map_err(|fault| of_file(path, &fault))?;
        Ok(Self { market, snapshot: snapshot_of(&text) })
    }
}

/// Trains, compares, writes the model, and registers it where that is asked for.
pub(in crate::commands) async fn train(asked: &TrainPower, config: &Config) -> Result<()> {
    let prepared = prepare(asked)?;
    let registry = Registry::find(&asked.registering, config).await?;
    let trained = make(asked, prepared)?;
    let Some(registry) = registry else { return Ok(()) };
    let registration = Registration {
        command: "watershed train power-forecaster",
        params: params(asked),
        metrics: metrics(&trained.report),
        data: &asked.data_path,
        snapshot: &trained.report.snapshot,
        files: vec![(FILE, trained.model), (rollout::drift::document::FILE, trained.drift_reference)],
    };
    registry.register(registration).await
}

/// What is read and found fit before anything is waited for.
struct Prepared {
    settings: PowerSettings,
    table: Table,
    until: usize,
    test: Range<usize>,
}

fn prepare(asked: &TrainPower) -> Result<Prepared> {
    let settings = PowerSettings {
        lear_windows_days: asked.lear_windows_days.clone(),
        kernel_window_days: asked.kernel_window_days,
        kernel_weight: asked.kernel_weight,
        calibration_days: asked.calibration_days,
        ..PowerSettings::default()
    };
    let others = [asked.drift_reference.as_deref(), asked.json.as_deref(), asked.plot.as_deref()];
    check_training(&asked.data_path, &asked.output, others)?;
    let table = Table::read(&asked.data_path)?;
    let all = table.market.price_days();
    let until = asked.train_until.map_or(all, |date| table.market.days_until(date).min(all));
    let test = if until < all { until..all } else { all.saturating_sub(asked.held_out_days)..all };
    if all == 0 {
        let fault = ForecastFault::TooFewDays { needed: settings.days_needed() + 1, found: 0 };
        return Err(of_file(&asked.data_path, &fault));
    }
    check_until(asked.train_until, until < all)?;
    if test.is_empty() {
        return Err(refused(ForecastFault::Setting { name: "held-out-days", bounds: "at least 1" }));
    }
    // Nobody waits for a training whose reference has no place.
    let known = reference::of_power(&table.market, until, (test.start, &[]));
    reference::check(&known, &asked.output, asked.drift_reference.as_deref())?;
    Ok(Prepared { settings, table, until, test })
}

fn make(asked: &TrainPower, prepared: Prepared) -> Result<Trained> {
    let Prepared { settings, table, until, test } = prepared;
    // With a date the model that is written is the one that is compared.
    let compared = fit(&table, test.start, &settings)?;
    let model = if until == test.start { None } else { Some(fit(&table, until, &settings)?) };
    let forecasts = answers(&compared, &table.market, test.clone())?;
    let document = reference::of_power(&table.market, until, (test.start, &forecasts));
    let report = report(&table, test, &forecasts, &settings, asked.refit_days)?;
    tell(&report, || report.to_svg(), asked.json.as_deref(), asked.plot.as_deref())?;
    let model = model.unwrap_or(compared);
    if settings.calibration_days > 0 && !model.has_intervals() {
        let needed = settings.days_needed() + settings.calibration_days;
        terminal::note(format!(
            "the model has no intervals and quantiles: they need {needed} days of history with these settings"
        ));
    }
    let model = model.to_json().map_err(refused)?;
    write(&asked.output, &model)?;
    let drift_reference = reference::write(&document, &asked.output, asked.drift_reference.as_deref())?;
    Ok(Trained { report, model, drift_reference })
}

/// A model of the days before one, with a bar over its fits.
fn fit(table: &Table, until: usize, settings: &PowerSettings) -> Result<PowerForecaster> {
    let bar = terminal::steps_bar(PowerForecaster::fits(settings) as u64);
    bar.set_message(format!("learning until {}", table.market.date(until.saturating_sub(1))));
    let fitted = PowerForecaster::train(&table.market, until, settings, &table.snapshot, &|| bar.inc(1));
    bar.finish_and_clear();
    fitted.map_err(refused)
}

fn answers(model: &PowerForecaster, market: &PowerMarket, days: Range<usize>) -> Result<Vec<DayAhead>> {
    days.map(|day| model.predict(market, day)).collect::<std::result::Result<_, _>>().map_err(refused)
}

/// Says how good forecasts were, with what fitting anew gives on the same days where that is asked for.
fn report(
    table: &Table,
    days: Range<usize>,
    forecasts: &[DayAhead],
    settings: &PowerSettings,
    refit_days: Option<usize>,
) -> Result<PowerReport> {
    let market = &table.market;
    let mut report = PowerReport::new(NAME, &table.snapshot, market, days.start, forecasts);
    if let Some(refit_days) = refit_days {
        if refit_days == 0 {
            return Err(refused(ForecastFault::Setting { name: "refit-days", bounds: "at least 1" }));
        }
        let bar = terminal::steps_bar(days.len().div_ceil(refit_days) as u64);
        bar.set_message("fitting anew");
        let walked = PowerForecaster::walk(market, days.clone(), settings, refit_days, &|| bar.inc(1));
        bar.finish_and_clear();
        let walked = walked.map_err(refused)?;
        report = report.with_refitted(market, days.start, forecasts, (refit_days, &walked.mean));
    }
    terminal::say(report.to_text().trim_end());
    Ok(report)
}

/// Scores a model on the days after its training.
pub(in crate::commands) fn evaluate(asked: &EvaluatePower) -> Result<()> {
    check_evaluation(
        [&asked.model_path, &asked.test_data_path],
        asked.predictions.as_deref(),
        asked.output_dir.as_deref(),
    )?;
    let model = PowerForecaster::from_json(&text(&asked.model_path)?).map_err(refused)?;
    let table = Table::read(&asked.test_data_path)?;
    let market = &table.market;
    let first = market.days_until(model.trained_until).max(PowerMarket::LAG_DAYS);
    let (scored, last) = (market.price_days(), (market.price_days() + 1).min(market.exogenous_days()));
    if first >= last {
        let message = format!(
            "no day is after {}, the last that the model learned from, with prices of {} days before it",
            model.trained_until,
            PowerMarket::LAG_DAYS
        );
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--test-data-path"));
    }
    let forecasts = answers(&model, market, first..last)?;
    let report = report(&table, first..scored.max(first), &forecasts, &model.settings, asked.refit_days)?;
    if let Some(path) = &asked.predictions {
        write(path, &predictions(market, first, &forecasts)?)?;
    }
    let Some(folder) = &asked.output_dir else { return Ok(()) };
    tell_in(folder, &report, || report.to_svg(), asked.create_plots)
}

/// A line for each hour, with columns of the names that a server answers by. Numbers are the shortest that are read back to the
/// same bits.
fn predictions(market: &PowerMarket, first: usize, forecasts: &[DayAhead]) -> Result<String> {
    let mut text = format!("date,hour,{PRICE}");
    let known = forecasts.first();
    if known.is_some_and(|forecast| forecast.half_widths.is_some()) {
        COVERAGES
            .iter()
            .for_each(|coverage| text.push_str(&format!(",{}", forecasters::half_width(PRICE, *coverage))));
    }
    if known.is_some_and(|forecast| forecast.quantiles.is_some()) {
        LEVELS.iter().for_each(|level| text.push_str(&format!(",{}", forecasters::quantile(PRICE, *level))));
    }
    text.push('\n');
    for (day, forecast) in forecasts.iter().enumerate() {
        let date = market.date(first + day);
        for hour in 0..HOURS {
            let widths = forecast.half_widths.iter().flat_map(|widths| widths[hour]);
            let quantiles = forecast.quantiles.iter().flat_map(|quantiles| quantiles[hour]);
            write!(text, "{date},{hour}").map_err(Error::internal)?;
            for value in [forecast.prices[hour]].into_iter().chain(widths).chain(quantiles) {
                write!(text, ",{value:?}").map_err(Error::internal)?;
            }
            text.push('\n');
        }
    }
    Ok(text)
}

fn params(asked: &TrainPower) -> Vec<(&'static str, String)> {
    let until = asked.train_until.map_or_else(|| "all".to_owned(), |date| date.to_string());
    let windows: Vec<String> = asked.lear_windows_days.iter().map(ToString::to_string).collect();
    vec![
        ("lear_windows_days", windows.join(",")),
        ("kernel_window_days", asked.kernel_window_days.to_string()),
        ("kernel_weight", asked.kernel_weight.to_string()),
        ("calibration_days", asked.calibration_days.to_string()),
        ("train_until", until),
    ]
}

fn metrics(report: &PowerReport) -> Vec<(&'static str, f64)> {
    let p = report.diebold_mariano.as_ref().map(|test| ("diebold_mariano_p", test.p_value));
    let losses = report
        .quantiles
        .as_ref()
        .map(|told| [("pinball_loss", told.pinball), ("naive_pinball_loss", told.naive_pinball)]);
    let scores = [
        ("mae", report.model.mae),
        ("rmse", report.model.rmse),
        ("rmae", report.model.rmae),
        ("naive_mae", report.naive.mae),
    ];
    scores.into_iter().chain(p).chain(losses.into_iter().flatten()).collect()
}
