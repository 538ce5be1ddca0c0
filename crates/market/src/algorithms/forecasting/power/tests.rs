//! Day-ahead forecasters on a made market: they learn what is there, and look at no price of the day.

use super::*;
use crate::algorithms::forecasting::envelope;

/// Days of a price that follows the first forecast, with a weekend and a slow wave.
fn market(days: usize, change: impl Fn(usize) -> f64) -> PowerMarket {
    let wave = |day: usize, hour: usize| ((day * 24 + hour) as f64 / 50.0).sin();
    let load = |day: usize| {
        std::array::from_fn(|hour| 100.0 + 20.0 * wave(day, hour) + ((day * 7_919) % 31) as f64 + change(day))
    };
    let wind: Vec<_> =
        (0..days).map(|day| std::array::from_fn(|hour| ((day * 31 + hour) % 17) as f64)).collect();
    let loads: Vec<[f64; HOURS]> = (0..days).map(load).collect();
    let price =
        |day: usize| std::array::from_fn(|hour| 0.5 * loads[day][hour] - wind[day][hour] + change(day));
    let prices = (0..days).map(price).collect();
    PowerMarket::new(jiff::civil::date(2020, 1, 6), prices, [loads, wind]).unwrap()
}

fn settings() -> PowerSettings {
    PowerSettings {
        lear_windows_days: vec![28, 56],
        kernel_window_days: 60,
        kernel_days: 3,
        ..PowerSettings::default()
    }
}

#[test]
fn it_learns_what_the_price_follows_and_beats_the_naive_forecast() {
    let market = market(120, |_| 0.0);
    let forecast = forecast_days(&market, 100, 14, &settings()).unwrap();
    let error = |told: &dyn Fn(usize) -> [f64; HOURS]| -> f64 {
        let hours = (0..14).flat_map(|day| told(day).into_iter().zip(market.prices(100 + day)));
        hours.map(|(told, truth)| (told - truth).abs()).sum::<f64>() / (14 * HOURS) as f64
    };
    let naive = error(&|day| naive(&market, 100 + day));
    assert!(error(&|day| forecast.lear[day]) < 0.5 * naive);
    assert!(error(&|day| forecast.mean[day]) < 0.6 * naive);
}

#[test]
fn the_future_changes_no_forecast() {
    let (calm, wild) = (market(110, |_| 0.0), market(110, |day| if day >= 103 { 900.0 } else { 0.0 }));
    let (calm, wild) = (
        forecast_days(&calm, 100, 3, &settings()).unwrap(),
        forecast_days(&wild, 100, 3, &settings()).unwrap(),
    );
    assert_eq!(calm, wild);
}

#[test]
fn tomorrow_needs_no_price_of_tomorrow() {
    let known = market(101, |_| 0.0);
    let [prices, load, wind] = known.series().map(<[_]>::to_vec);
    let until = |days: usize| {
        PowerMarket::new(jiff::civil::date(2020, 1, 6), prices[..days].to_vec(), [load.clone(), wind.clone()])
            .unwrap()
    };
    let tomorrow = forecast_days(&until(100), 100, 1, &settings()).unwrap();
    assert_eq!(tomorrow, forecast_days(&known, 100, 1, &settings()).unwrap());
    assert!(matches!(forecast_days(&until(99), 100, 1, &settings()), Err(ForecastFault::TooFewDays { .. })));
    assert!(matches!(forecast_days(&known, 100, 2, &settings()), Err(ForecastFault::TooFewDays { .. })));
    assert!(matches!(forecast_days(&known, 20, 1, &settings()), Err(ForecastFault::TooFewDays { .. })));
}

#[test]
fn constant_prices_stay_and_threads_change_nothing() {
    let days = vec![[30.0; HOURS]; 80];
    let market = PowerMarket::new(jiff::civil::date(2020, 1, 6), days.clone(), [days.clone(), days]).unwrap();
    let forecast = forecast_days(&market, 70, 5, &settings()).unwrap();
    assert!(forecast.mean.as_flattened().iter().all(|price| (price - 30.0).abs() < 1e-6));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| forecast_days(&market, 70, 5, &settings()).unwrap()), forecast);
}

/// With intervals and quantiles, of one window: each fit chooses its penalties, which takes most of a test.
fn calibrated() -> PowerSettings {
    PowerSettings {
        lear_windows_days: vec![28],
        kernel_window_days: 40,
        calibration_days: 63,
        ..PowerSettings::default()
    }
}

#[test]
fn what_is_read_back_predicts_the_same_bits_from_eight_days() {
    let market = market(150, |_| 0.0);
    let fits = std::cell::Cell::new(0);
    let heard = || fits.set(fits.get() + 1);
    let model = PowerForecaster::train(&market, 140, &calibrated(), "of", &heard).unwrap();
    assert_eq!((fits.get(), model.trained_until), (PowerForecaster::fits(&calibrated()), market.date(139)));
    let text = model.to_json().unwrap();
    let read = PowerForecaster::from_json(&text).unwrap();
    assert_eq!(read.to_json().unwrap(), text);
    let told = model.predict(&market, 147).unwrap();
    assert_eq!(read.predict(&market, 147).unwrap(), told);
    assert_eq!(read.predict(&market.part(140..148), 7).unwrap(), told);
    for (levels, price) in told.quantiles.unwrap().iter().zip(told.prices) {
        assert!(levels.is_sorted() && levels[3].to_bits() == price.to_bits(), "{levels:?} {price}");
    }
    assert!(matches!(read.predict(&market, 6), Err(ForecastFault::TooFewDays { needed: 8, .. })));
    assert!(matches!(read.predict(&market, 150), Err(ForecastFault::TooFewDays { .. })));
    for touched in [text.replacen("0.", "1.", 1), text[..text.len() / 2].to_owned(), "{}".to_owned()] {
        assert!(matches!(PowerForecaster::from_json(&touched), Err(ForecastFault::Artifact(_))));
    }
    let earlier = envelope::write("watershed-power-forecaster", 1, &model).unwrap();
    let told = PowerForecaster::from_json(&earlier).unwrap_err().to_string();
    assert!(told.contains("train it again"), "{told}");
    // What was written whole, but of arrays that do not fit together.
    for pointer in
        ["/fitted/lear", "/fitted/kernel/weights", "/calibration/quantiles", "/fitted/lear/0/means"]
    {
        let mut value = serde_json::to_value(&model).unwrap();
        value.pointer_mut(pointer).unwrap().as_array_mut().unwrap().pop();
        let text = envelope::write("watershed-power-forecaster", 2, &value).unwrap();
        assert!(matches!(PowerForecaster::from_json(&text), Err(ForecastFault::Artifact(_))), "{pointer}");
    }
}

#[test]
fn fitted_once_is_on_the_first_day_what_the_walk_is() {
    let market = market(110, |_| 0.0);
    let settings = PowerSettings { calibration_days: 0, ..calibrated() };
    let model = PowerForecaster::train(&market, 100, &settings, "", &|| ()).unwrap();
    assert!(!model.has_intervals());
    let walked = forecast_days(&market, 100, 1, &settings).unwrap();
    let told = model.predict(&market, 100).unwrap();
    assert!(told.quantiles.is_none() && told.half_widths.is_none());
    for (told, walked) in told.prices.iter().zip(walked.mean[0]) {
        assert!((told - walked).abs() < 1e-4, "{told} {walked}");
    }
    let anew = PowerForecaster::walk(&market, 100..105, &settings, 3, &|| ()).unwrap();
    let later = PowerForecaster::train(&market, 103, &settings, "", &|| ()).unwrap();
    for (fitted, day) in [(&model, 100), (&model, 102), (&later, 103), (&later, 104)] {
        assert_eq!(fitted.predict(&market, day).unwrap().prices, anew.mean[day - 100], "day {day}");
    }
}

#[test]
fn the_future_changes_no_model() {
    let (calm, wild) = (market(130, |_| 0.0), market(130, |day| if day >= 126 { 900.0 } else { 0.0 }));
    let settings = calibrated();
    let train = |market: &PowerMarket| PowerForecaster::train(market, 126, &settings, "", &|| ()).unwrap();
    assert!(train(&calm).has_intervals());
    assert_eq!(train(&calm).to_json().unwrap(), train(&wild).to_json().unwrap());
    let walk = |market: &PowerMarket| {
        let told = PowerForecaster::walk(market, 60..129, &settings, 40, &|| ()).unwrap();
        Calibration::walk(market, 60, &told, (63, 2))
    };
    let (calm, wild) = (walk(&calm), walk(&wild));
    assert_eq!(calm.iter().filter(|day| day.is_some()).count(), 69 - 63);
    // The days 123 to 125.
    assert!(calm[..66] == wild[..66] && calm[66..] != wild[66..]);
}

#[test]
fn a_report_compares_with_the_naive_forecast() {
    let market = market(150, |_| 0.0);
    let model = PowerForecaster::train(&market, 130, &calibrated(), "of", &|| ()).unwrap();
    let told: Vec<_> = (130..150).map(|day| model.predict(&market, day).unwrap()).collect();
    let walked = PowerForecaster::walk(&market, 130..150, &calibrated(), 20, &|| ()).unwrap();
    let report = PowerReport::new("power", "of", &market, 130, &told).with_refitted(
        &market,
        130,
        &told,
        (20, &walked.mean),
    );
    assert!(report.model.rmae < 1.0 && (report.naive.rmae - 1.0).abs() < 1e-12, "{report:?}");
    assert_eq!(report.refitted.as_ref().unwrap().scores, report.model, "never fitted anew");
    assert_eq!((report.day_count, report.hours.len(), report.intervals.len()), (20, 24, 2));
    let quantiles = report.quantiles.as_ref().unwrap();
    assert!(quantiles.pinball < quantiles.naive_pinball && quantiles.count == 480, "{quantiles:?}");
    assert!(
        report.to_text().contains("refitted each 20 days") && report.to_svg().unwrap().contains("</svg>")
    );
    let none = PowerReport::new("none", "", &market, 150, &[]);
    assert_eq!((none.day_count, none.model, none.quantiles.is_none()), (0, PriceScores::default(), true));
    assert!(none.to_svg().unwrap().contains("</svg>"));
}

#[test]
fn the_part_of_the_year_is_of_the_day_and_not_of_the_table() {
    let market = market(400, |_| 0.0);
    for from in [1, 30, 365] {
        let part = market.part(from..400);
        assert_eq!((part.season(10), part.date(10)), (market.season(from + 10), market.date(from + 10)));
    }
    assert_eq!(market.days_until(market.date(9)), 10);
    assert_eq!(market.days_until(jiff::civil::date(2019, 1, 1)), 0);
    assert_eq!(market.days_until(jiff::civil::date(2030, 1, 1)), 400);
}

#[test]
fn tables_and_settings_that_cannot_be_meant_are_refused() {
    let hours = |values: &str| {
        let rows = (0..24).map(|hour| format!("2020-01-06 {hour:02}:00:00,{values}\n"));
        format!("Date, Price, one, two\n{}", rows.collect::<String>())
    };
    assert_eq!(PowerMarket::parse(&hours("-5.5,1,2")).unwrap().prices(0), [-5.5; HOURS]);
    let told = |values: &str| PowerMarket::parse(&hours(values)).unwrap_err().to_string();
    assert!(told("NaN,1,2").starts_with("line 2: `NaN` in price is not a finite number"));
    assert!(told("1,2,abc").starts_with("line 2: `abc` in forecast 2 is not a number"));
    assert!(told("1e7,1,2").starts_with("price of hour 0 of 2020-01-06 is 10000000, not from"));
    assert!(PowerMarket::parse(&hours("1,2")).is_err());
    assert!(PowerMarket::parse("").is_err());
    assert!(PowerMarket::parse("Date,a,b,c\n2020-01-06 01:00:00,1,2,3\n").is_err());
    let gap = hours("1,1,1").replace("2020-01-06 05:00:00,1,1,1\n", "");
    assert!(PowerMarket::parse(&gap).is_err());
    let tomorrow = hours(",3,4").replace("2020-01-06", "2020-01-07").replace("Date, Price, one, two\n", "");
    let known = PowerMarket::parse(&format!("{}{tomorrow}", hours("5,1,2"))).unwrap();
    assert_eq!((known.price_days(), known.exogenous_days(), known.exogenous(1, 1)), (1, 2, [4.0; HOURS]));
    let hole = hours("5,1,2").replace("04:00:00,5", "04:00:00,");
    assert!(PowerMarket::parse(&hole).unwrap_err().to_string().contains("after an hour without one"));
    for wrong in [
        PowerSettings { kernel_weight: 1.5, ..settings() },
        PowerSettings { lear_windows_days: vec![], ..settings() },
        PowerSettings { kernel_days: 0, ..settings() },
        PowerSettings { calibration_days: 20, ..settings() },
        PowerSettings {
            kernel: KernelSettings { noise: f64::NAN, ..KernelSettings::default() },
            ..settings()
        },
    ] {
        assert!(matches!(
            forecast_days(&market(110, |_| 0.0), 100, 1, &wrong),
            Err(ForecastFault::Setting { .. })
        ));
    }
}
