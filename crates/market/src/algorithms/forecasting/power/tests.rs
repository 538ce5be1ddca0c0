//! Day-ahead forecasters on a made market: they learn what is there, and look at no price of the day.

use super::*;

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
    assert!(matches!(forecast_days(&until(99), 100, 1, &settings()), Err(ForecastFault::TooShort { .. })));
    assert!(matches!(forecast_days(&known, 100, 2, &settings()), Err(ForecastFault::TooShort { .. })));
    assert!(matches!(forecast_days(&known, 20, 1, &settings()), Err(ForecastFault::TooShort { .. })));
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

#[test]
fn tables_and_settings_that_cannot_be_meant_are_refused() {
    let hours = |values: &str| {
        let rows = (0..24).map(|hour| format!("2020-01-06 {hour:02}:00:00,{values}\n"));
        format!("Date, Price, one, two\n{}", rows.collect::<String>())
    };
    assert_eq!(PowerMarket::parse(&hours("-5.5,1,2")).unwrap().prices(0), [-5.5; HOURS]);
    assert!(matches!(PowerMarket::parse(&hours("NaN,1,2")), Err(ForecastFault::NotFinite { row: 0, .. })));
    assert!(PowerMarket::parse(&hours("1,2")).is_err());
    assert!(PowerMarket::parse("").is_err());
    assert!(PowerMarket::parse("Date,a,b,c\n2020-01-06 01:00:00,1,2,3\n").is_err());
    let gap = hours("1,1,1").replace("2020-01-06 05:00:00,1,1,1\n", "");
    assert!(PowerMarket::parse(&gap).is_err());
    for wrong in [
        PowerSettings { kernel_weight: 1.5, ..settings() },
        PowerSettings { lear_windows_days: vec![], ..settings() },
        PowerSettings { kernel_days: 0, ..settings() },
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
