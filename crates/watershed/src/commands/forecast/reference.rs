//! What a curve forecaster learned from, as the reference that it is watched by.
//!
//! Levels of a curve are not exchangeable, so an input counts by its last change from day to day. An output counts by how far
//! the forecast of the first day goes from the last value, on the days of the comparison: those the model had not seen, as
//! it has not seen what it is asked when it serves. It refuses more features than a reference holds: the first of the
//! table stand for the rest; and leaves out what has too few values to be tested.

use market::algorithms::forecasting::Panel;
use rollout::drift::document::{FEATURES_MAX, Feature, ReferenceDocument, Rows, SAMPLE_MIN, Side, Take};

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
}
