//! Forecasters of power prices: the columns of the table are the inputs, a row an hour, and the last 24 rows are of the day that is
//! asked for. Its prices are not known: `price` ends a day before, or its last 24 values stand for nothing and are not read.
//!
//! The answer is that day, hour by hour: `day_ahead_price`, which is no `price` because what was asked last is no forecast to
//! compare it with; half widths and quantiles where the model has them, and the `date` that it is of. It refuses hours that are
//! missing or out of their order, and fewer than seven days before.

use jiff::civil::Date;
use kernel::{Error, Result, codes};
use market::algorithms::forecasting::power::{DayAhead, HOURS, PowerForecaster, PowerMarket};
use market::algorithms::forecasting::{COVERAGES, LEVELS};
use runtime::model::{Engine, Model, Package, Signature, unusable};
use runtime::tensor::{DataType, Tensor, Values};

use super::{claims, half_width, quantile, refused, spec, without_beside};

pub(crate) const FILE: &str = "power_forecaster.json";
/// What is forecast.
pub(crate) const PRICE: &str = "day_ahead_price";
const DATE: &str = "date";
const HOUR: &str = "hour";
/// What was paid before.
pub(crate) const PAST_PRICE: &str = "price";
/// What is forecast of the day by others.
pub(crate) const FORECASTS: [&str; 2] = ["forecast_1", "forecast_2"];

/// Loads forecasters of power prices.
#[derive(Debug)]
pub(crate) struct PowerForecasters;

impl Engine for PowerForecasters {
    fn platform(&self) -> &'static str {
        "watershed_power_forecaster"
    }

    fn claims(&self, paths: &[&str]) -> bool {
        claims(paths, FILE)
    }

    fn load(&self, mut package: Package) -> Result<Box<dyn Model>> {
        without_beside(&mut package);
        let (_, bytes) = package.only(".json", FILE)?;
        let text = std::str::from_utf8(bytes).map_err(|_| unusable("it is not text"))?;
        let forecaster = PowerForecaster::from_json(text).map_err(|fault| unusable(fault.to_string()))?;
        Ok(Box::new(Served::new(forecaster)))
    }
}

#[derive(Debug)]
struct Served {
    forecaster: PowerForecaster,
    signature: Signature,
}

impl Served {
    fn new(forecaster: PowerForecaster) -> Self {
        let number = |name: &str| spec(name, DataType::Fp64, None);
        let inputs = vec![
            spec(DATE, DataType::Bytes, None),
            spec(HOUR, DataType::Int64, None),
            number(PAST_PRICE),
            number(FORECASTS[0]),
            number(FORECASTS[1]),
        ];
        let day = Some(HOURS);
        let mut outputs = vec![spec(PRICE, DataType::Fp64, day)];
        if forecaster.has_intervals() {
            let widths = COVERAGES.into_iter().map(|coverage| half_width(PRICE, coverage));
            let names = widths.chain(LEVELS.into_iter().map(|level| quantile(PRICE, level)));
            outputs.extend(names.map(|name| spec(&name, DataType::Fp64, day)));
        }
        outputs.push(spec(DATE, DataType::Bytes, day));
        let signature = Signature { inputs, outputs, has_batch_axis: false, takes_blanks: false };
        Self { signature, forecaster }
    }
}

/// The market that the inputs are of, without prices of its last day.
fn market(inputs: &[Tensor]) -> Result<PowerMarket> {
    let [dates, hours, prices, one, two] = inputs else { return Err(refused(DATE, "is missing")) };
    let (Values::Bytes(dates), Values::Int64(hours)) = (&dates.values, &hours.values) else {
        return Err(refused(DATE, "is BYTES, and `hour` INT64"));
    };
    let first_day = first_day(dates, hours)?;
    let rows = dates.len();
    let column = |tensor: &Tensor, least: usize| {
        let Values::Fp64(values) = &tensor.values else { return Err(refused(&tensor.name, "is FP64")) };
        if values.len() != rows && values.len() != least {
            return Err(refused(&tensor.name, "has a value for each date; `price` may end a day before"));
        }
        Ok(values[..least].as_chunks::<HOURS>().0.to_vec())
    };
    let (prices, exogenous) = (column(prices, rows - HOURS)?, [column(one, rows)?, column(two, rows)?]);
    PowerMarket::new(first_day, prices, exogenous)
        .map_err(|fault| Error::new(codes::VALIDATION_ERROR, fault.to_string()).with_field("inputs"))
}

/// The first of whole days, an hour after the other.
fn first_day(dates: &[String], hours: &[i64]) -> Result<Date> {
    if dates.is_empty() || !dates.len().is_multiple_of(HOURS) {
        return Err(refused(DATE, "has 24 rows for each day"));
    }
    if hours.len() != dates.len() {
        return Err(refused(HOUR, "has a value for each date"));
    }
    let day = |text: &String| text.parse::<Date>().map_err(|_| refused(DATE, "has days, as 2026-01-31"));
    let first = day(&dates[0])?;
    let mut expected = first;
    for (dates, hours) in dates.chunks(HOURS).zip(hours.chunks(HOURS)) {
        for (at, (date, hour)) in (0..).zip(dates.iter().zip(hours)) {
            if day(date)? != expected {
                return Err(refused(
                    DATE,
                    &format!("has 24 rows for each day; {expected} is missing or too short"),
                ));
            }
            if *hour != at {
                return Err(refused(
                    HOUR,
                    &format!("goes from 0 to 23 on each day; on {expected} it has {hour} for {at}"),
                ));
            }
        }
        expected = expected.tomorrow().unwrap_or(expected);
    }
    Ok(first)
}

impl Model for Served {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn takes_rows_alone(&self) -> bool {
        false
    }

    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let market = market(inputs)?;
        let day = market.price_days();
        let forecast = self
            .forecaster
            .predict(&market, day)
            .map_err(|fault| Error::new(codes::VALIDATION_ERROR, fault.to_string()).with_field("inputs"))?;
        let DayAhead { prices, half_widths, quantiles, .. } = forecast;
        let mut columns = vec![prices.to_vec()];
        for (index, _) in COVERAGES.iter().enumerate() {
            columns.extend(half_widths.map(|hours| hours.iter().map(|widths| widths[index]).collect()));
        }
        for (index, _) in LEVELS.iter().enumerate() {
            columns.extend(quantiles.map(|hours| hours.iter().map(|levels| levels[index]).collect()));
        }
        let dates = Values::Bytes(vec![market.date(day).to_string(); HOURS]);
        let values = columns.into_iter().map(Values::Fp64).chain([dates]);
        let named = self.signature.outputs.iter().zip(values);
        named.map(|(spec, values)| Tensor::new(spec.name.clone(), vec![HOURS], values)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use market::algorithms::forecasting::power::PowerSettings;

    use super::*;

    const DAYS: usize = 150;

    /// A market whose price follows its first forecast.
    fn made() -> PowerMarket {
        let load = |day: usize, hour: usize| 100.0 + ((day * 31 + hour * 7) % 41) as f64;
        let wind = |day: usize, hour: usize| ((day * 17 + hour) % 23) as f64;
        let days = |of: &dyn Fn(usize, usize) -> f64| -> Vec<[f64; HOURS]> {
            (0..DAYS).map(|day| std::array::from_fn(|hour| of(day, hour))).collect()
        };
        let price =
            |day: usize, hour: usize| load(day, hour) / 3.0 - wind(day, hour) / 7.0 + (day % 5) as f64;
        let first = jiff::civil::date(2020, 1, 6);
        PowerMarket::new(first, days(&price), [days(&load), days(&wind)]).unwrap()
    }

    fn trained() -> PowerForecaster {
        let settings = PowerSettings {
            lear_windows_days: vec![28],
            kernel_window_days: 40,
            calibration_days: 63,
            ..PowerSettings::default()
        };
        PowerForecaster::train(&made(), DAYS - 10, &settings, "", &|| ()).unwrap()
    }

    /// The rows of some days; `price` with or without values for the last.
    fn inputs(days: std::ops::Range<usize>, whole: bool) -> Vec<Tensor> {
        let market = made();
        let (dates, hours): (Vec<String>, Vec<i64>) = days
            .clone()
            .flat_map(|day| (0..24).map(move |hour| (day, hour)))
            .map(|(day, hour)| (market.date(day).to_string(), hour))
            .unzip();
        let rows = dates.len();
        let mut prices: Vec<f64> = days.clone().flat_map(|day| market.prices(day)).collect();
        prices[rows - HOURS..].fill(0.0);
        prices.truncate(if whole { rows } else { rows - HOURS });
        let exogenous =
            |which: usize| days.clone().flat_map(|day| market.exogenous(which, day)).collect::<Vec<f64>>();
        vec![
            Tensor::new(DATE, vec![rows], Values::Bytes(dates)).unwrap(),
            Tensor::new(HOUR, vec![rows], Values::Int64(hours)).unwrap(),
            Tensor::new(PAST_PRICE, vec![prices.len()], Values::Fp64(prices)).unwrap(),
            Tensor::new(FORECASTS[0], vec![rows], Values::Fp64(exogenous(0))).unwrap(),
            Tensor::new(FORECASTS[1], vec![rows], Values::Fp64(exogenous(1))).unwrap(),
        ]
    }

    fn load(json: &str) -> Result<Box<dyn Model>> {
        let files = BTreeMap::from([(FILE.to_owned(), json.as_bytes().to_vec().into())]);
        PowerForecasters.load(Package { files })
    }

    #[test]
    fn it_answers_as_it_does_offline() {
        let offline = trained();
        let served = load(&offline.to_json().unwrap()).unwrap();
        let day = DAYS - 3;
        let expected = offline.predict(&made(), day).unwrap();
        for (from, whole) in [(day - 7, true), (day - 7, false), (0, true)] {
            let found = served.infer(&inputs(from..day + 1, whole)).unwrap();
            let names: Vec<_> = served.signature().outputs.iter().map(|spec| spec.name.as_str()).collect();
            assert_eq!(found.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), names);
            assert_eq!(
                (found.len(), names[2], names[3]),
                (11, "day_ahead_price.half_width_95", "day_ahead_price.quantile_05")
            );
            assert_eq!(found[10].values, Values::Bytes(vec![made().date(day).to_string(); HOURS]));
            assert_eq!(found[0].values, Values::Fp64(expected.prices.to_vec()), "from {from}");
            let (widths, quantiles) = (expected.half_widths.unwrap(), expected.quantiles.unwrap());
            assert_eq!(found[1].values, Values::Fp64(widths.iter().map(|width| width[0]).collect()));
            assert_eq!(found[9].values, Values::Fp64(quantiles.iter().map(|levels| levels[6]).collect()));
        }
    }

    #[test]
    fn inputs_that_cannot_be_meant_are_refused() {
        let served = load(&trained().to_json().unwrap()).unwrap();
        let check = |change: &dyn Fn(&mut Vec<Tensor>), field: &str| {
            let mut asked = inputs(100..108, true);
            change(&mut asked);
            assert_eq!(served.infer(&asked).unwrap_err().field(), Some(field));
        };
        let texts = |tensor: &mut Tensor, at: usize, text: &str| {
            let Values::Bytes(values) = &mut tensor.values else { panic!("{tensor:?}") };
            values[at] = text.to_owned();
        };
        check(&|asked| *asked = inputs(101..108, true), "inputs");
        check(&|asked| asked[0].values = Values::Bytes(Vec::new()), "inputs.date");
        check(&|asked| texts(&mut asked[0], 30, "yesterday"), "inputs.date");
        check(&|asked| texts(&mut asked[0], 30, "2020-01-01"), "inputs.date");
        check(&|asked| asked[1].values = Values::Int64(vec![0; 192]), "inputs.hour");
        check(&|asked| asked[1].values = Values::Int64(vec![0; 3]), "inputs.hour");
        check(&|asked| asked[2].values = Values::Fp64(vec![1.0; 100]), "inputs.price");
        check(&|asked| asked[2].values = Values::Fp64(vec![1e9; 192]), "inputs");
        check(&|asked| asked[4].values = Values::Fp64(vec![1.0; 168]), "inputs.forecast_2");
    }

    #[test]
    fn what_is_no_forecaster_is_refused() {
        for text in
            ["", "{}", r#"{"format":"watershed-curve-forecaster","version":2,"blake3":"","model":{}}"#]
        {
            assert_eq!(load(text).unwrap_err().code(), runtime::model::MODEL_UNUSABLE, "{text}");
        }
        assert!(PowerForecasters.claims(&["MLmodel", "model/power_forecaster.json"]));
        assert!(!PowerForecasters.claims(&["curve_forecaster.json"]));
        assert!(!PowerForecasters.claims(&["curve_forecaster.json", "power_forecaster.json"]));
        assert!(!PowerForecasters.claims(&["other.json"]));
    }
}
