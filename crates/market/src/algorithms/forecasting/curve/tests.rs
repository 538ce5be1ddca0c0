//! Curve forecasters on curves that are known: constant, noisy, missing, and no look ahead.

use proptest::prelude::*;

use super::*;
use crate::algorithms::forecasting::{Report, envelope};

const TENORS: [&str; 5] = ["0.25", "1", "2", "5", "10"];

/// A table of so many days, each of a level that wanders and a slope.
fn table(days: usize, change: impl Fn(usize, usize) -> f64) -> Panel {
    let mut text = format!("date,{}\n", TENORS.map(|tenor| format!("rate_{tenor}")).join(","));
    let mut date = jiff::civil::date(2010, 1, 1);
    for day in 0..days {
        let wander = ((day * 7_919) % 997) as f64 / 997.0;
        let values: Vec<String> = (0..TENORS.len())
            .map(|tenor| format!("{}", 2.0 + 0.2 * tenor as f64 + 0.1 * wander + change(day, tenor)))
            .collect();
        text.push_str(&format!("{date},{}\n", values.join(",")));
        date = date.tomorrow().unwrap();
    }
    Panel::parse(&text, CurveType::Yield).unwrap()
}

fn settings(model_type: ModelType) -> CurveSettings {
    CurveSettings { model_type, lookback_days: 5, n_estimators: 5, max_depth: 3, ..CurveSettings::default() }
}

#[test]
fn the_future_changes_no_forecast_of_any_model() {
    let (before, until) = (table(220, |_, _| 0.0), 180);
    let after = table(220, |day, tenor| if day >= until { 5.0 + (day * tenor) as f64 } else { 0.0 });
    for kind in ModelType::ALL {
        let walk = |panel: &Panel| walk_forward(panel, 160..until, &settings(kind), Some(7)).unwrap();
        assert_eq!(walk(&before), walk(&after), "{kind}");
        let train =
            |panel: &Panel| CurveForecaster::train(panel, until, CurveType::Yield, settings(kind)).unwrap();
        let (one, two) = (train(&before), train(&after));
        assert_eq!(one.fitted, two.fitted, "{kind}");
        assert_eq!(one.intervals, two.intervals, "{kind}");
    }
}

#[test]
fn what_is_read_back_predicts_the_same_bits() {
    let panel = table(160, |_, _| 0.0);
    for kind in ModelType::ALL {
        let model = CurveForecaster::train(&panel, 150, CurveType::Yield, settings(kind)).unwrap();
        let text = model.to_json().unwrap();
        let read = CurveForecaster::from_json(&text).unwrap();
        assert_eq!(read, model, "{kind}");
        assert_eq!(read.predict(&panel, 155).unwrap(), model.predict(&panel, 155).unwrap());
        let touched = text.replacen("0.", "1.", 1);
        assert!(matches!(CurveForecaster::from_json(&touched), Err(ForecastFault::Artifact(_))), "{kind}");
        assert!(CurveForecaster::from_json(&text[..text.len() / 2]).is_err());
    }
}

#[test]
fn a_file_of_the_release_before_is_read_and_has_no_quantiles() {
    let panel = table(400, |_, _| 0.0);
    let model = CurveForecaster::train(&panel, 390, CurveType::Yield, settings(ModelType::Ridge)).unwrap();
    assert!(model.has_intervals() && model.has_quantiles());
    let mut old = serde_json::to_value(&model).unwrap();
    for name in ["quantiles", "persistence"] {
        assert!(old["intervals"].as_object_mut().unwrap().remove(name).is_some());
    }
    let text = envelope::write("watershed-curve-forecaster", 1, &old).unwrap();
    let read = CurveForecaster::from_json(&text).unwrap();
    assert!(read.has_intervals() && !read.has_quantiles());
    let (old, new) = (read.predict(&panel, 395).unwrap(), model.predict(&panel, 395).unwrap());
    assert_eq!((&old.values, &old.half_widths), (&new.values, &new.half_widths));
    assert!(old.quantiles.is_empty() && old.persistence_quantiles.is_empty());
    assert!(CurveForecaster::from_json(&text.replacen("\"version\":1", "\"version\":3", 1)).is_err());
}

#[test]
fn a_constant_curve_stays_and_has_no_width() {
    let mut panel = table(160, |_, _| 0.0);
    panel.values.iter_mut().for_each(|row| row.fill(3.0));
    for kind in ModelType::ALL {
        let model = CurveForecaster::train(&panel, 150, CurveType::Yield, settings(kind)).unwrap();
        let forecast = model.predict(&panel, 159).unwrap();
        assert!(forecast.values.iter().flatten().all(|value| (value - 3.0).abs() < 1e-9), "{kind}");
        assert!(forecast.half_widths.iter().flatten().flatten().all(|width| *width < 1e-9));
        assert!(forecast.quantiles.iter().flatten().flatten().all(|value| (value - 3.0).abs() < 1e-9));
    }
}

#[test]
fn intervals_are_wide_where_the_curve_has_lately_moved_and_hold_what_they_promise() {
    let noise = |day: usize, tenor: usize| ((day * 104_729 + tenor * 31) % 499) as f64 / 499.0 - 0.5;
    let panel = table(600, |day, tenor| if day < 500 { noise(day, tenor) } else { 5.0 * noise(day, tenor) });
    let known = Intervals::learn(&panel, 400, &settings(ModelType::NelsonSiegel)).unwrap();
    let (calm, wild) = (known.at(&panel, 450), known.at(&panel, 590));
    assert!(wild[0][0][0] > 3.0 * calm[0][0][0] && calm[4][4][1] > calm[4][4][0]);
    let forecasts = walk_forward(&panel, 400..480, &settings(ModelType::NelsonSiegel), None).unwrap();
    let widths: Vec<_> = (400..480).map(|row| known.at(&panel, row)).collect();
    let told = Report::new("", &panel, 400, &forecasts).with_intervals(&panel, 400, &forecasts, &widths);
    assert!((told.intervals[0].covered - 0.8).abs() < 0.1, "{:?}", told.intervals);
    let both = |row: usize| {
        (known.quantiles_at(&panel, row, &forecasts[row - 400]), known.persistence_at(&panel, row))
    };
    let both: Vec<_> = (400..480).map(both).collect();
    assert!(both.iter().flat_map(|(told, _)| told.iter().flatten()).all(|cell| cell.is_sorted()));
    let told = told.with_quantiles(&panel, 400, &both).quantiles.unwrap();
    for level in &told.levels {
        assert!((level.covered - level.level).abs() < 0.1, "{told:?}");
    }
    let short = Intervals::learn(&panel, 100, &settings(ModelType::NelsonSiegel)).unwrap();
    assert!(short.at(&panel, 300).is_empty());
}

#[test]
fn what_cannot_be_done_is_refused() {
    let panel = table(160, |_, _| 0.0);
    let train = |until, settings| CurveForecaster::train(&panel, until, CurveType::Yield, settings);
    assert!(matches!(train(1, settings(ModelType::Ridge)), Err(ForecastFault::TooShort { .. })));
    assert!(matches!(train(161, settings(ModelType::Ridge)), Err(ForecastFault::TooShort { .. })));
    let wrong = CurveSettings { alpha: 0.0, ..settings(ModelType::Ridge) };
    assert!(matches!(train(150, wrong), Err(ForecastFault::Setting { name: "alpha", .. })));
    let model = train(150, settings(ModelType::Ridge)).unwrap();
    assert!(matches!(model.predict(&panel, 3), Err(ForecastFault::TooShort { .. })));
    assert!(matches!(model.predict(&panel, 160), Err(ForecastFault::TooShort { .. })));
    let mut other = panel.clone();
    other.targets[0] = "rate_3".to_owned();
    assert!(matches!(model.predict(&other, 150), Err(ForecastFault::Columns { .. })));
    let commodity = Panel::parse("date,price\n2020-01-01,1\n", CurveType::Commodity).unwrap();
    let found = CurveForecaster::train(&commodity, 1, CurveType::Commodity, settings(ModelType::Ridge));
    assert!(matches!(found, Err(ForecastFault::TooShort { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn a_level_added_to_all_is_added_to_the_forecast(level in -1.0..5.0_f64) {
        let (low, high) = (table(120, |_, _| 0.0), table(120, |_, _| level));
        let kind = settings(ModelType::NelsonSiegel);
        let low = walk_forward(&low, 110..112, &kind, None).unwrap();
        let high = walk_forward(&high, 110..112, &kind, None).unwrap();
        for (low, high) in low.iter().flatten().flatten().zip(high.iter().flatten().flatten()) {
            prop_assert!((low + level - high).abs() < 1e-6);
        }
    }
}
