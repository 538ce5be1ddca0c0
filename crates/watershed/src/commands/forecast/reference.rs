//! What a forecaster learned from, as the reference that it is watched by.
//!
//! Levels of a curve are not exchangeable, so an input counts by its last change from day to day. An output counts by how far
//! the forecast of the first day goes from the last value, on the days of the comparison: those the model had not seen, as
//! it has not seen what it is asked when it serves. Of power the mean of a day counts so, by its change from the day before. It
//! refuses more features than a reference holds: the first of the table stand for the rest; and leaves out what has too few
//! values to be tested. To add a forecaster: a function beside these.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use kernel::{Error, Result, codes};
use market::algorithms::forecasting::Panel;
use market::algorithms::forecasting::power::{DayAhead, HOURS, PowerMarket};
use rollout::drift::document::{
    FEATURES_MAX, FILE, FORMAT, Feature, ReferenceDocument, Rows, SAMPLE_MIN, Side, Take, VERSION,
};

use crate::forecasters::power::{FORECASTS, PAST_PRICE, PRICE};

/// Chooses the sample where a model has no seed of its own.
const SEED: u64 = 42;

/// Passes where a reference may be written beside its model, as far as its features are known: all trainers write to the same
/// name, and models of other tensors would be watched by the wrong one. Who asks for a file means it.
pub(super) fn check(document: &ReferenceDocument, model: &Path, asked: Option<&Path>) -> Result<()> {
    if asked.is_some() {
        return Ok(());
    }
    let path = model.with_file_name(FILE);
    let is_free = match std::fs::read(&path) {
        Ok(bytes) => is_of_the_same(document, &bytes),
        Err(cause) => cause.kind() == ErrorKind::NotFound,
    };
    if is_free {
        return Ok(());
    }
    let message = format!(
        "{} is not a drift reference of this model, and is not written over: name another file with --drift-reference, or \
         remove it",
        path.display()
    );
    Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--drift-reference"))
}

/// Whether a file is a reference of the tensors of this one. A side without features says nothing: what has too few values is
/// left out, so that a reference may even be empty.
fn is_of_the_same(document: &ReferenceDocument, bytes: &[u8]) -> bool {
    // Not by `parse`, which refuses empty ones.
    let Ok(found) = serde_json::from_slice::<ReferenceDocument>(bytes) else { return false };
    let is_same = |side: Side| {
        let (old, new) = (tensors(&found, side), tensors(document, side));
        old.is_empty() || new.is_empty() || old == new
    };
    found.format == FORMAT && found.version == VERSION && is_same(Side::Input) && is_same(Side::Output)
}

fn tensors(document: &ReferenceDocument, side: Side) -> BTreeSet<&str> {
    let features = document.features.iter().filter(|feature| feature.side == side);
    features.map(|feature| feature.tensor.as_str()).collect()
}

/// Writes a reference to the file that was asked for, or beside its model; the text.
pub(super) fn write(document: &ReferenceDocument, model: &Path, asked: Option<&Path>) -> Result<String> {
    // Again: another may have been trained meanwhile.
    check(document, model, asked)?;
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

    #[test]
    fn the_reference_of_another_model_is_not_written_over() {
        let of = |input: &str, output: Option<&str>| {
            let mut document = ReferenceDocument::new(Rows::Histories);
            let values = || (0..20).map(f64::from);
            document.add(named(input, Side::Input), values(), SEED);
            if let Some(output) = output {
                document.add(named(output, Side::Output), values(), SEED);
            }
            document
        };
        let folder = tempfile::tempdir().unwrap();
        let (model, path) = (folder.path().join("model.json"), folder.path().join(FILE));
        let refused = |document: &ReferenceDocument| {
            let before = std::fs::read(&path).unwrap();
            let errors = [
                check(document, &model, None).unwrap_err(),
                write(document, &model, None).map(drop).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.field(), Some("--drift-reference"));
                assert!(error.message().contains("or remove it"), "{}", error.message());
            }
            assert_eq!(std::fs::read(&path).unwrap(), before);
        };
        write(&of("rate_1", Some("rate_1")), &model, None).unwrap();
        refused(&of("price", Some("day_ahead_price")));
        refused(&of("rate_1", Some("rate_10")));
        refused(&of("price", None));
        // Of the same tensors, also where outputs are not known yet, or have too few values.
        check(&of("rate_1", None), &model, None).unwrap();
        let text = write(&of("rate_1", None), &model, None).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        write(&of("rate_1", Some("rate_1")), &model, None).unwrap();
        // What is no reference at all.
        for other in ["", "{}", r#"{"format":"mine","version":1,"rows":"examples","features":[]}"#] {
            std::fs::write(&path, other).unwrap();
            refused(&of("rate_1", None));
        }
        let elsewhere = folder.path().join("elsewhere.json");
        write(&of("price", None), &model, Some(&elsewhere)).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("mine"), "it is as it was");
        write(&of("price", None), &model, Some(&path)).unwrap();
        // One without features is of nobody.
        let empty = ReferenceDocument::new(Rows::Histories);
        write(&empty, &model, Some(&path)).unwrap();
        write(&of("rate_1", None), &model, None).unwrap();
    }
}
