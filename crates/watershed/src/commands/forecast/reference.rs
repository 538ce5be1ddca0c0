//! What a forecaster learned from, as the reference that it is watched by.
//!
//! Levels of a curve are not exchangeable, so an input counts by its last change from day to day. An output counts by how far
//! the forecast of the first day goes from the last value, on the days of the comparison: those the model had not seen, as
//! it has not seen what it is asked when it serves. Of power the mean of a day counts so, by its change from the day before. It
//! refuses more features than a reference holds: the first of the table stand for the rest; and leaves out what has too few
//! values to be tested. To add a forecaster: a function beside these.

use std::path::Path;

use kernel::{Error, Result};
use market::algorithms::forecasting::Panel;
use market::algorithms::forecasting::power::{DayAhead, HOURS, PowerMarket};
use rollout::drift::document::{
    FEATURES_MAX, FILE, Feature, ReferenceDocument, Rows, SAMPLE_MIN, Side, Take,
};

use crate::forecasters::power::{FORECASTS, PAST_PRICE, PRICE};

/// Chooses the sample where a model has no seed of its own.
const SEED: u64 = 42;

/// Writes a reference to the file that was asked for, or beside its model; the text.
pub(super) fn write(document: &ReferenceDocument, model: &Path, asked: Option<&Path>) -> Result<String> {
    let text = serde_json::to_string(document).map_err(Error::internal)?;
    let beside = model.with_file_name(FILE);
    super::write(asked.unwrap_or(&beside), &text)?;
    Ok(text)
}

/// Of the rows up to `until`, and of forecasts by row (from a first), step and target.
pub(super) fn of_curve(
    panel: &Panel,
    until: usize,
    (first, forecasts): (usize, &[Vec<Vec<f64>>]),
    seed: u64,
) -> ReferenceDocument {
    let mut document = ReferenceDocument::new(Rows::Histories);
    let inputs = panel.targets.iter().enumerate().map(|(at, name)| (name, &panel.values, at));
    let extras = panel.features.iter().enumerate().map(|(at, name)| (name, &panel.extras, at));
    let (targets, columns) = (panel.targets.len(), inputs.chain(extras));
    // Outputs have their places first: they are fewer, and what a model says matters most.
    for (name, rows, at) in columns.take(FEATURES_MAX.saturating_sub(targets).max(FEATURES_MAX / 2)) {
        let changes = rows[..until].windows(2).map(|pair| pair[1][at] - pair[0][at]);
        let feature = Feature::named(format!("{name}.change"), Side::Input, name, Take::LastChange);
        document.add(feature, changes, seed);
    }
    for (at, name) in panel.targets.iter().enumerate().take(FEATURES_MAX - document.features.len()) {
        let steps = forecasts.iter().enumerate().map(|(number, steps)| {
            steps.first().map_or(f64::NAN, |step| step[at] - panel.values[first + number][at])
        });
        let feature = Feature::named(format!("{name}.forecast"), Side::Output, name, Take::FromLast);
        document.add(feature, steps, seed);
    }
    document.features.retain(|feature| feature.sample.len() >= SAMPLE_MIN);
    document
}

/// Of the days before `until`, and of forecasts by day from a first.
pub(super) fn of_power(
    market: &PowerMarket,
    until: usize,
    (first, forecasts): (usize, &[DayAhead]),
) -> ReferenceDocument {
    let mut document = ReferenceDocument::new(Rows::Histories);
    let price = |day: usize| mean(market.prices(day));
    // Prices of the day that is asked for are not known.
    let past = Feature { at: HOURS, ..named(PAST_PRICE, Side::Input) };
    document.add(past, changes((0..until).map(price)), SEED);
    for (which, name) in FORECASTS.into_iter().enumerate() {
        let means = (0..until).map(|day| mean(market.exogenous(which, day)));
        document.add(named(name, Side::Input), changes(means), SEED);
    }
    let steps = (first..).zip(forecasts).map(|(day, forecast)| {
        day.checked_sub(1).map_or(f64::NAN, |before| mean(forecast.prices) - price(before))
    });
    let answer = Feature { from: Some(PAST_PRICE.to_owned()), ..named(PRICE, Side::Output) };
    document.add(answer, steps, SEED);
    document.features.retain(|feature| feature.sample.len() >= SAMPLE_MIN);
    document
}

fn named(tensor: &str, side: Side) -> Feature {
    Feature::named(format!("{tensor}.change"), side, tensor, Take::DayChange)
}

fn mean(hours: [f64; HOURS]) -> f64 {
    hours.iter().sum::<f64>() / HOURS as f64
}

fn changes(means: impl Iterator<Item = f64>) -> Vec<f64> {
    let means: Vec<f64> = means.collect();
    means.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use market::algorithms::forecasting::CurveType;

    use super::*;

    #[test]
    fn changes_and_forecasts_are_what_they_say() {
        let mut text = String::from("date,rate_1,rate_10");
        for day in 1..=30 {
            write!(text, "\n2020-01-{day:02},{},{}", day * day, 5).unwrap();
        }
        let panel = Panel::parse(&text, CurveType::Yield).unwrap();
        let forecasts = vec![vec![vec![260.0, 5.5]]; 15];
        let document = of_curve(&panel, 15, (15, &forecasts), 1);
        document.validate().unwrap();
        let found = |name: &str| document.features.iter().find(|one| one.name == name).unwrap();
        assert_eq!(document.features.len(), 4);
        let changes = found("rate_1.change");
        assert_eq!((changes.count, changes.sample[0], changes.sample[13]), (14, 3.0, 29.0));
        assert_eq!(found("rate_10.change").sample, [0.0; 14]);
        let steps = found("rate_1.forecast");
        assert_eq!((steps.count, steps.sample.last()), (15, Some(&4.0)), "260 less the square of 16");
        assert_eq!(found("rate_10.forecast").sample, [0.5; 15]);
        let few = of_curve(&panel, 5, (15, &forecasts), 1);
        assert_eq!(few.features.len(), 2, "four changes are too few");
    }

    #[test]
    fn of_power_the_means_of_days_count_by_their_changes() {
        let days = |of: &dyn Fn(usize) -> f64| -> Vec<[f64; HOURS]> {
            (0..40).map(|day| std::array::from_fn(|hour| of(day) + hour as f64)).collect()
        };
        let columns = [days(&|_| 5.0), days(&|day| 2.0 * day as f64)];
        let prices = days(&|day| (day * day) as f64);
        let market = PowerMarket::new(jiff::civil::date(2020, 1, 6), prices, columns).unwrap();
        let forecast = DayAhead {
            prices: std::array::from_fn(|hour| 960.0 + hour as f64),
            half_widths: None,
            quantiles: None,
            naive_quantiles: None,
        };
        let forecasts = vec![forecast; 10];
        let document = of_power(&market, 30, (30, &forecasts));
        document.validate().unwrap();
        let sample = |at: usize| (document.features[at].name.as_str(), &document.features[at].sample[..]);
        let squares: Vec<f64> = (0..29).map(|day| f64::from(2 * day + 1)).collect();
        assert_eq!(sample(0), ("price.change", &squares[..]));
        assert_eq!(sample(1), ("forecast_1.change", &[0.0; 29][..]));
        assert_eq!(sample(2), ("forecast_2.change", &[2.0; 29][..]));
        let (name, steps) = sample(3);
        assert_eq!((name, steps.len(), steps[9]), ("day_ahead_price.change", 10, 960.0 - 29.0 * 29.0));
        assert_eq!((document.features[0].at, document.features[3].from.as_deref()), (24, Some("price")));
        let few = of_power(&market, 30, (30, &[]));
        assert_eq!(few.features.len(), 3, "nothing was forecast");
    }
}
