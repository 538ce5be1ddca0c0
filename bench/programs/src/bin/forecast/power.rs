//! Five markets on their published test hours, beside the published forecasts and the naive one.

use std::path::Path;

use market::algorithms::forecasting::power::{
    Calibration, CoverageReport, HOURS, PowerForecast, PowerForecaster, PowerMarket, PowerSettings,
    forecast_days, half_widths, mean_errors, naive,
};
use market::algorithms::forecasting::{QuantileCase, QuantileReport, diebold_mariano};
use serde_json::{Value, json};

use crate::{Arguments, Fault, Told, read};

pub(crate) const MARKETS: [&str; 5] = ["PJM", "NP", "BE", "FR", "DE"];
/// 17,472 hours at the end of each table.
const TEST_DAYS: usize = 728;
const QUICK_DAYS: usize = 14;
/// Days whose errors the intervals are made of; days of the test before that many have none.
const INTERVAL_DAYS: usize = 182;
/// Days after which quantiles are learned anew, from the errors of `calibration_days` before.
const QUANTILE_DAYS: usize = 7;

type Days = Vec<[f64; HOURS]>;

pub(crate) fn run(arguments: &Arguments) -> Told {
    let mut settings: PowerSettings = serde_json::from_str(&arguments.settings)?;
    if arguments.quick {
        settings.kernel_days = 7;
        settings.kernel_window_days = 364;
        settings.lear_windows_days = vec![56, 84, 364];
    }
    let mut markets = serde_json::Map::new();
    for name in &arguments.markets {
        eprintln!("{name}");
        markets.insert(name.clone(), one(arguments, name, &settings)?);
    }
    Ok(json!({ "markets": markets, "settings": settings }))
}

fn one(arguments: &Arguments, name: &str, settings: &PowerSettings) -> Told {
    let folder = arguments.data.join("power");
    let market = PowerMarket::parse(&read(&folder.join(format!("{name}.csv")))?)?;
    let test = market.price_days() - TEST_DAYS;
    let (first, count) = match arguments.validation_days {
        Some(days) => (test.checked_sub(days).ok_or("there are not so many days before the test")?, days),
        None => (test, if arguments.quick { QUICK_DAYS } else { TEST_DAYS }),
    };
    let forecast = forecast_days(&market, first, count, settings)?;
    let truth: Days = (first..first + count).map(|day| market.prices(day)).collect();
    let seasonal: Days = (first..first + count).map(|day| naive(&market, day)).collect();
    let mut told = ours(&forecast, &truth);
    told["quantiles"] = json!(quantiles(&market, first, &forecast, settings));
    if !arguments.refit_days.is_empty() {
        let of = |days: &usize| aged(&market, first..first + count, settings, *days);
        told["by_refit_days"] = arguments.refit_days.iter().map(of).collect::<Result<Value, _>>()?;
    }
    told["days"] = json!(count);
    told["naive"] = json!(error(&seasonal, &truth));
    if arguments.validation_days.is_none() {
        let path = folder.join(format!("published-forecasts/{name}.csv"));
        let published = |column| published(&path, column, count);
        if error(&published("Real price")?, &truth) > 1e-6 {
            return Err(format!("the published forecasts of {name} are of other hours").into());
        }
        let (lear, network) = (published("LEAR Ensemble")?, published("DNN Ensemble")?);
        told["published_lear"] = json!(error(&lear, &truth));
        told["published_dnn"] = json!(error(&network, &truth));
        let against = |other: &Days| {
            diebold_mariano(&mean_errors(&forecast.mean, &truth), &mean_errors(other, &truth), 1)
        };
        told["against_lear"] = json!(against(&lear));
        told["against_dnn"] = json!(against(&network));
    }
    Ok(told)
}

fn ours(forecast: &PowerForecast, truth: &Days) -> Value {
    let mixes: Vec<f64> = (0..=10)
        .map(|tenths| {
            let weight = f64::from(tenths) / 10.0;
            let mix = |day: usize, hour: usize| {
                weight * forecast.kernel[day][hour] + (1.0 - weight) * forecast.lear[day][hour]
            };
            error(&(0..truth.len()).map(|day| std::array::from_fn(|hour| mix(day, hour))).collect(), truth)
        })
        .collect();
    json!({
        "mae": error(&forecast.mean, truth),
        "lear": error(&forecast.lear, truth),
        "kernel": error(&forecast.kernel, truth),
        "by_tenths_of_kernel": mixes,
        "intervals": CoverageReport::of(&forecast.mean, truth, &half_widths(&forecast.mean, truth, INTERVAL_DAYS)),
    })
}

/// Quantiles of the walk, each from the days before it, beside those of the naive forecast.
fn quantiles(
    market: &PowerMarket,
    first: usize,
    forecast: &PowerForecast,
    settings: &PowerSettings,
) -> Option<QuantileReport> {
    let told = Calibration::walk(market, first, forecast, (settings.calibration_days, QUANTILE_DAYS));
    let days =
        told.into_iter().enumerate().filter_map(|(day, told)| Some((market.prices(first + day), told?)));
    QuantileReport::of(days.flat_map(|(truth, (quantiles, naive))| {
        (0..HOURS).map(move |hour| QuantileCase {
            truth: truth[hour],
            quantiles: quantiles[hour],
            naive: naive[hour],
        })
    }))
}

/// The error where everything is fitted anew only after so many days.
fn aged(
    market: &PowerMarket,
    days: std::ops::Range<usize>,
    settings: &PowerSettings,
    refit_days: usize,
) -> Told {
    let truth: Days = days.clone().map(|day| market.prices(day)).collect();
    let told = PowerForecaster::walk(market, days, settings, refit_days, &|| ())?;
    Ok(json!({ "refit_days": refit_days, "mae": error(&told.mean, &truth) }))
}

fn published(path: &Path, column: &str, count: usize) -> Result<Days, Fault> {
    let text = read(path)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let place =
        reader.headers()?.iter().position(|name| name == column).ok_or("a published column is missing")?;
    let values = reader.records().map(|row| Ok(row?[place].parse()?)).collect::<Result<Vec<f64>, Fault>>()?;
    Ok(values.as_chunks::<HOURS>().0[..count].to_vec())
}

fn error(told: &Days, truth: &Days) -> f64 {
    mean_errors(told, truth).iter().sum::<f64>() / truth.len() as f64
}
