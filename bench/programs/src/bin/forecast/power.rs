//! Five markets on their published test hours, beside the published forecasts and the naive one.

use std::path::Path;

use market::algorithms::forecasting::power::{
    HOURS, PowerForecast, PowerMarket, PowerSettings, forecast_days, half_widths, naive,
};
use market::algorithms::forecasting::{COVERAGES, diebold_mariano};
use serde_json::{Value, json};

use crate::{Arguments, Fault, Told, read};

pub(crate) const MARKETS: [&str; 5] = ["PJM", "NP", "BE", "FR", "DE"];
/// 17,472 hours at the end of each table.
const TEST_DAYS: usize = 728;
const QUICK_DAYS: usize = 14;
/// Days whose errors the intervals are made of; days of the test before that many have none.
const INTERVAL_DAYS: usize = 182;

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
    let mut told = ours(&forecast, &truth, settings);
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
        let against =
            |other: &Days| diebold_mariano(&losses(&forecast.mean, &truth), &losses(other, &truth), 1);
        told["against_lear"] = json!(against(&lear));
        told["against_dnn"] = json!(against(&network));
    }
    Ok(told)
}

fn ours(forecast: &PowerForecast, truth: &Days, settings: &PowerSettings) -> Value {
    let windows = settings.lear_windows_days.iter().zip(&forecast.lear_windows);
    let windows: Vec<Value> =
        windows.map(|(days, told)| json!({ "days": days, "mae": error(told, truth) })).collect();
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
        "lear_windows": windows,
        "by_tenths_of_kernel": mixes,
        "intervals": covered(&forecast.mean, truth),
    })
}

/// How often prices were within their intervals.
fn covered(told: &Days, truth: &Days) -> Vec<Value> {
    let widths = half_widths(told, truth, INTERVAL_DAYS);
    let of = |(index, nominal): (usize, f64)| {
        let (mut count, mut within, mut sum) = (0_usize, 0_usize, 0.0);
        for ((told, truth), widths) in told.iter().zip(truth).zip(&widths) {
            for (hour, width) in widths.iter().flatten().enumerate() {
                count += 1;
                sum += width[index];
                within += usize::from((told[hour] - truth[hour]).abs() <= width[index]);
            }
        }
        let rows = count as f64;
        (count > 0)
            .then(|| json!({ "nominal": nominal, "covered": within as f64 / rows, "half_width": sum / rows }))
    };
    COVERAGES.into_iter().enumerate().filter_map(of).collect()
}

fn published(path: &Path, column: &str, count: usize) -> Result<Days, Fault> {
    let text = read(path)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let place =
        reader.headers()?.iter().position(|name| name == column).ok_or("a published column is missing")?;
    let values = reader.records().map(|row| Ok(row?[place].parse()?)).collect::<Result<Vec<f64>, Fault>>()?;
    Ok(values.as_chunks::<HOURS>().0[..count].to_vec())
}

/// Mean absolute error of each day.
fn losses(told: &Days, truth: &Days) -> Vec<f64> {
    let day = |(told, truth): (&[f64; HOURS], &[f64; HOURS])| {
        told.iter().zip(truth).map(|(told, truth)| (told - truth).abs()).sum::<f64>() / HOURS as f64
    };
    told.iter().zip(truth).map(day).collect()
}

fn error(told: &Days, truth: &Days) -> f64 {
    losses(told, truth).iter().sum::<f64>() / truth.len() as f64
}
