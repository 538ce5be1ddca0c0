//! Bars against all trades at once, slots against their neighbours, windows against their values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn us(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

fn calendar(time_zone: &str, day_begins_minute: i32) -> Calendar {
    Calendar::new(CalendarSettings {
        time_zone: time_zone.to_owned(),
        day_begins_minute,
        ..CalendarSettings::default()
    })
    .unwrap()
}

/// All trades of an interval at once, by the book.
fn oracle(trades: &[Trade]) -> Ohlcv {
    let mut sorted = trades.to_vec();
    sorted.sort_by(|a, b| {
        (a.time_us, a.sequence)
            .cmp(&(b.time_us, b.sequence))
            .then((a.price + 0.0).total_cmp(&(b.price + 0.0)))
    });
    let whole = |value: f64| (value * 1e9).round() as i128;
    let volume: i128 = trades.iter().map(|trade| whole(trade.volume)).sum();
    let turnover: i128 = trades.iter().map(|trade| whole(trade.price) * whole(trade.volume)).sum();
    let prices = || trades.iter().map(|trade| trade.price + 0.0);
    let (low, high) = (prices().fold(f64::INFINITY, f64::min), prices().fold(f64::NEG_INFINITY, f64::max));
    Ohlcv {
        open: sorted[0].price + 0.0,
        high,
        low,
        close: sorted[sorted.len() - 1].price + 0.0,
        volume: volume as f64 / 1e9,
        vwap: (volume > 0).then(|| (turnover as f64 / volume as f64 / 1e9).clamp(low, high)),
        trade_count: trades.len() as u64,
    }
}

prop_compose! {
    fn any_trade()(
        time_us in 0..200_i64, sequence in 0..3_u64, cents in -500..500_i64, volume in 0..1_000_u32,
    ) -> Trade {
        // Two days in 200 steps, so that times, sequences and prices meet often.
        Trade { time_us: time_us * 864_000_000, sequence, price: cents as f64 / 100.0, volume: f64::from(volume) / 1e3 }
    }
}

fn folded(trades: &[Trade]) -> Partial {
    let mut partial = Partial::of(&trades[0]).unwrap();
    for trade in &trades[1..] {
        partial.add(trade).unwrap();
    }
    partial
}

/// Every bar told so far, recomputed from all trades at every watermark.
struct Naive {
    settings: BarSettings,
    calendar: Calendar,
    watermark_us: i64,
    trades: BTreeMap<(Interval, i64), (i64, Vec<Trade>)>,
    told: BTreeMap<(Interval, i64), (u32, usize)>,
}

impl Naive {
    fn add(&mut self, trade: &Trade) -> Admission {
        let mut admission = Admission::default();
        for interval in &self.settings.intervals {
            let slot = self.calendar.slot(*interval, trade.time_us).unwrap();
            if slot.end_us <= self.watermark_us.saturating_sub(self.settings.allowed_lateness_us) {
                admission.too_late += 1;
            } else {
                admission.bars += 1;
                let of_slot = self.trades.entry((*interval, slot.start_us)).or_default();
                *of_slot = (slot.end_us, [std::mem::take(&mut of_slot.1), vec![*trade]].concat());
            }
        }
        admission
    }

    fn advance(&mut self, watermark_us: i64) -> Vec<Bar> {
        self.watermark_us = self.watermark_us.max(watermark_us);
        let mut bars = Vec::new();
        for ((interval, start_us), (end_us, trades)) in &self.trades {
            let (revision, known) = self.told.get(&(*interval, *start_us)).copied().unwrap_or((0, 0));
            if *end_us <= self.watermark_us && trades.len() > known {
                let (interval, start_us, end_us) = (*interval, *start_us, *end_us);
                bars.push(Bar { interval, start_us, end_us, revision, values: oracle(trades) });
                self.told.insert((interval, start_us), (revision + 1, trades.len()));
            }
        }
        bars
    }
}

proptest! {
    #[test]
    fn partials_merge_in_any_order_and_grouping(
        trades in prop::collection::vec(any_trade(), 1..40), seed in any::<u64>(), cuts in prop::collection::vec(0..40_usize, 0..5),
    ) {
        let whole = folded(&trades);
        prop_assert_eq!(whole.finish(), oracle(&trades));
        let mut shuffled = trades.clone();
        shuffled.sort_by_key(|trade| (trade.time_us as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut cuts: BTreeSet<usize> = cuts.into_iter().filter(|cut| *cut < trades.len()).collect();
        cuts.extend([0, trades.len()]);
        let cuts: Vec<usize> = cuts.into_iter().collect();
        let mut parts: Vec<Partial> = cuts.windows(2).map(|pair| folded(&shuffled[pair[0]..pair[1]])).collect();
        // From the right, so that the grouping differs too.
        let mut merged = parts.pop().unwrap();
        while let Some(part) = parts.pop() {
            let mut left = part;
            left.merge(&merged).unwrap();
            merged.merge(&part).unwrap();
            prop_assert_eq!(left, merged);
        }
        prop_assert_eq!(merged, whole);
    }

    #[test]
    fn a_series_tells_what_the_oracle_tells(
        trades in prop::collection::vec(any_trade(), 1..80), every in 1..10_usize, lateness_hours in 0..30_i64,
    ) {
        let settings = BarSettings { allowed_lateness_us: lateness_hours * 3_600_000_000, ..BarSettings::default() };
        let zone = "America/New_York";
        let mut series = BarSeries::new(Arc::new(calendar(zone, -360)), &settings);
        let mut naive = Naive {
            settings: settings.clone(), calendar: calendar(zone, -360), watermark_us: i64::MIN,
            trades: BTreeMap::new(), told: BTreeMap::new(),
        };
        for (number, trade) in trades.iter().enumerate() {
            prop_assert_eq!(series.add(trade).unwrap(), naive.add(trade));
            if number % every == 0 {
                let mut told = Vec::new();
                series.advance(trade.time_us - 3_600_000_000, &mut told);
                prop_assert_eq!(told, naive.advance(trade.time_us - 3_600_000_000));
                // A restart in between changes nothing.
                let text = serde_json::to_string(series.state()).unwrap();
                let state = serde_json::from_str(&text).unwrap();
                series = BarSeries::restore(Arc::new(calendar(zone, -360)), &settings, state);
            }
        }
        let mut told = Vec::new();
        series.advance(i64::MAX, &mut told);
        prop_assert_eq!(told, naive.advance(i64::MAX));
        prop_assert_eq!(series.open_count(), 0);
    }

    #[test]
    fn slots_are_kept_right(
        times in prop::collection::vec(0..2_000_000_000_i64, 1..50), zone in 0..6_usize, begin in -1_439..1_440,
    ) {
        let zones = ["UTC", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kolkata", "Europe/Berlin"];
        let calendar = calendar(zones[zone], begin);
        let mut slots = Slots::default();
        for time_us in times.iter().map(|second| second * 1_000_000) {
            for interval in [Interval::FIVE_MINUTES, Interval::HOUR, Interval::Day] {
                let slot = calendar.slot(interval, time_us).unwrap();
                prop_assert!(slot.contains(time_us));
                prop_assert_eq!(slots.slot(&calendar, interval, time_us).unwrap(), slot);
                // Slots meet: none overlaps its neighbours, and nothing lies between.
                prop_assert_eq!(calendar.slot(interval, slot.end_us).unwrap().start_us, slot.end_us);
                prop_assert_eq!(calendar.slot(interval, slot.start_us - 1).unwrap().end_us, slot.start_us);
            }
        }
    }

    #[test]
    fn spreads_merge_in_any_order(
        quotes in prop::collection::vec((0..5_i64, 0..3_u64, -50..50_i64, -10..50_i64, 0..12_u8), 1..30),
    ) {
        // Of twelve quotes one has no bid, and one no ask.
        let quotes: Vec<(Quote, i64)> = quotes
            .into_iter()
            .map(|(time_us, sequence, bid, width, sides)| {
                let (low, high) = (bid as f64 / 10.0, (bid + width) as f64 / 10.0);
                let (bid, ask) = ((sides != 0).then_some(low), (sides != 1).then_some(high));
                (Quote { time_us, sequence, bid, ask }, width)
            })
            .collect();
        let parts: Vec<SpreadPartial> = quotes.iter().map(|(quote, _)| SpreadPartial::of(quote).unwrap()).collect();
        let (mut forward, mut backward) = (SpreadPartial::default(), SpreadPartial::default());
        for (one, two) in parts.iter().zip(parts.iter().rev()) {
            forward.merge(one).unwrap();
            backward.merge(two).unwrap();
        }
        prop_assert_eq!(forward, backward);
        let found = forward.finish();
        let two_sided = || quotes.iter().filter(|(quote, _)| quote.bid.is_some() && quote.ask.is_some());
        let count = |is: fn(i64) -> bool| two_sided().filter(|(_, width)| is(*width)).count() as u64;
        prop_assert_eq!(found.quote_count, count(|width| width > 0));
        prop_assert_eq!(found.locked_count, count(|width| width == 0));
        prop_assert_eq!(found.crossed_count, count(|width| width < 0));
        prop_assert_eq!(found.one_sided_count as usize, quotes.len() - two_sided().count());
        let sound: Vec<&(Quote, i64)> = two_sided().filter(|(_, width)| *width > 0).collect();
        let Some(spread) = found.spread else { prop_assert!(sound.is_empty()); return Ok(()); };
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let widths = || sound.iter().map(|(_, width)| *width);
        prop_assert_eq!(spread.min, widths().min().unwrap() as f64 / 10.0);
        prop_assert_eq!(spread.max, widths().max().unwrap() as f64 / 10.0);
        prop_assert!((spread.mean - mean(widths().map(|width| width as f64 / 10.0).collect())).abs() < 1e-9);
        let points: Option<Vec<f64>> = sound
            .iter()
            .map(|(quote, width)| {
                let middle = (quote.bid.unwrap() + quote.ask.unwrap()) / 2.0;
                (middle > 0.0).then(|| *width as f64 / 10.0 / middle * 10_000.0)
            })
            .collect();
        prop_assert!(near(spread.mean_basis_points, points.map(mean)), "{spread:?}");
    }

    #[test]
    fn rolling_statistics_are_those_of_the_window(
        values in prop::collection::vec(-1e3..1e3_f64, 1..60), length in 1..20_usize, spike in 0..60_usize, far in 0..2_i32,
    ) {
        let mut values: Vec<f64> = values.iter().map(|value| value + f64::from(far) * 1e9).collect();
        if let Some(value) = values.get_mut(spike) {
            *value *= 1e6;
        }
        let mut rolling = Rolling::new(length).unwrap();
        for end in 1..=values.len() {
            let window = &values[end.saturating_sub(length)..end];
            let found = rolling.push(values[end - 1]).unwrap();
            let mean = window.iter().sum::<f64>() / window.len() as f64;
            let squared: f64 = window.iter().map(|value| (value - mean).powi(2)).sum();
            let scale = window.iter().fold(1.0_f64, |most, value| most.max(value.abs()));
            prop_assert_eq!(found.count as usize, window.len());
            prop_assert!((found.mean - mean).abs() <= 1e-12 * scale);
            if window.len() > 1 {
                let deviation = (squared / (window.len() - 1) as f64).sqrt();
                prop_assert!((found.deviation.unwrap() - deviation).abs() <= 1e-9 * deviation + 1e-13 * scale);
            }
            prop_assert_eq!(found.max, window.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            prop_assert_eq!(found.min, window.iter().copied().fold(f64::INFINITY, f64::min));
        }
    }

    #[test]
    fn windows_of_bars_are_told_as_the_oracle_tells_them(
        cents in prop::collection::vec(-200..2_000_i32, 1..60), length in 2..12_usize, far in 0..2_i32,
    ) {
        // Also far from zero, where a sum of squares has no digit of the deviation left.
        let prices: Vec<f64> = cents.iter().map(|cents| f64::from(*cents) / 100.0 + f64::from(far) * 1e9).collect();
        let mut rolling = BarWindow::new(length).unwrap();
        for end in 1..=prices.len() {
            let window = &prices[end.saturating_sub(length)..end];
            let found = rolling.push(prices[end - 1]).unwrap();
            let (count, mean, deviation) = two_passes(window);
            prop_assert_eq!(found.prices.count as usize, count);
            prop_assert!(near(Some(found.prices.mean), Some(mean)));
            prop_assert!(near(found.prices.deviation, deviation));
            // Where all are the same, or far away, what is left of the oracle's deviation is its own rounding.
            if let Some(deviation) = deviation.filter(|deviation| far == 0 && *deviation > 1e-3) {
                let z_score = Some((prices[end - 1] - mean) / deviation);
                prop_assert!(near(found.prices.z_score, z_score), "{:?} is not {:?}", found.prices, z_score);
            }
            let is_positive = window.iter().all(|price| *price > 0.0);
            prop_assert_eq!(found.change == Change::Logarithm, is_positive);
            let changes: Vec<f64> = window
                .windows(2)
                .map(|pair| if is_positive { (pair[1] / pair[0]).ln() } else { pair[1] - pair[0] })
                .collect();
            prop_assert!(near(found.volatility, two_passes(&changes).2), "{:?} of {:?}", found.volatility, changes);
        }
    }
}

/// Count, mean and deviation of the sample, by the book.
fn two_passes(values: &[f64]) -> (usize, f64, Option<f64>) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squared: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let deviation = (values.len() > 1).then(|| (squared / (values.len() - 1) as f64).sqrt());
    (values.len(), mean, deviation)
}

fn near(found: Option<f64>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
        (found, expected) => found == expected,
    }
}

#[test]
fn one_quote_says_what_its_spread_is_worth() {
    let check = |bid: Option<f64>, ask: Option<f64>, flag: Option<&str>, spread, points: Option<f64>| {
        let quote = Quote { time_us: 0, sequence: 0, bid, ask };
        assert_eq!((quote.state().flag(), quote.spread()), (flag, spread), "{quote:?}");
        assert!(near(quote.basis_points(), points), "{quote:?}: {:?}", quote.basis_points());
    };
    check(Some(31.1), Some(31.3), None, Some(0.2), Some(64.102_564_1));
    check(Some(31.3), Some(31.3), Some("locked"), Some(0.0), Some(0.0));
    check(Some(31.3), Some(31.1), Some("crossed"), Some(-0.2), Some(-64.102_564_1));
    // Power: around zero and below there is no share of the price.
    check(Some(-5.0), Some(-4.5), None, Some(0.5), None);
    check(Some(-1.0), Some(1.0), None, Some(2.0), None);
    check(Some(-1.0), Some(3.0), None, Some(4.0), Some(40_000.0));
    check(Some(1.0), None, Some("one_sided"), None, None);
    check(None, Some(1.0), Some("one_sided"), None, None);
    let wide = Quote { time_us: 0, sequence: 0, bid: Some(-9e9), ask: Some(9e9) };
    assert_eq!(SpreadPartial::of(&wide), Err(BarFault::Overflow), "apart by more than 64 bits hold");
    let beyond = Quote { ask: Some(1e10), ..wide };
    assert!(
        SpreadPartial::of(&beyond).is_err()
            && SpreadPartial::of(&Quote { bid: Some(f64::NAN), ..wide }).is_err()
    );
}

#[test]
fn a_window_of_bars_names_what_its_volatility_is_of() {
    let mut window = BarWindow::new(3).unwrap();
    let told: Vec<_> = [1.0, 2.0, 4.0, -4.0, 4.0, 4.0, 4.0, 8.0]
        .map(|price| window.push(price).unwrap())
        .into_iter()
        .map(|told| (told.change, told.volatility))
        .collect();
    let (logarithm, difference) = (Change::Logarithm, Change::Difference);
    let expected = [
        (logarithm, None),
        (logarithm, None),
        (logarithm, Some(0.0)),
        (difference, Some(50.0_f64.sqrt())),
        (difference, Some(128.0_f64.sqrt())),
        (difference, Some(32.0_f64.sqrt())),
        (logarithm, Some(0.0)),
        (logarithm, Some(2.0_f64.ln() / 2.0_f64.sqrt())),
    ];
    for (place, (found, expected)) in told.iter().zip(expected).enumerate() {
        assert!(found.0 == expected.0 && near(found.1, expected.1), "{place}: {found:?} is not {expected:?}");
    }
    assert!(BarWindow::new(1).is_err() && BarWindow::new(0).is_err());
    assert!(window.push(f64::NAN).is_err());
    let flat = window.push(8.0).and_then(|_| window.push(8.0)).and_then(|_| window.push(8.0)).unwrap().prices;
    assert_eq!((flat.deviation, flat.z_score), (Some(0.0), None), "no deviation, no score");
    // Quotients that no double holds.
    let mut far = BarWindow::new(3).unwrap();
    let volatility = [1e-305, 1e9, 1e-305].map(|price| far.push(price).unwrap().volatility)[2];
    assert!(near(volatility, Some((1e9_f64.ln() - 1e-305_f64.ln()) * 2.0_f64.sqrt())), "{volatility:?}");
}

#[test]
fn days_follow_the_clock_of_the_exchange() {
    let check = |calendar: &Calendar, time: &str, start: &str, end: &str| {
        let slot = calendar.slot(Interval::Day, us(time)).unwrap();
        assert_eq!((slot.start_us, slot.end_us), (us(start), us(end)), "{time}");
    };
    let new_york = calendar("America/New_York", 0);
    check(&new_york, "2024-03-10T12:00:00Z", "2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z");
    check(&new_york, "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z");
    let cme = calendar("America/New_York", -360);
    check(&cme, "2024-01-02T22:59:59Z", "2024-01-01T23:00:00Z", "2024-01-02T23:00:00Z");
    check(&cme, "2024-01-02T23:00:00Z", "2024-01-02T23:00:00Z", "2024-01-03T23:00:00Z");
    assert_eq!(cme.date_of(us("2024-01-02T23:00:00Z")).unwrap(), jiff::civil::date(2024, 1, 3));
    // The clock skips midnight.
    let sao_paulo = calendar("America/Sao_Paulo", 0);
    check(&sao_paulo, "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    let calendar = calendar("America/New_York", 0);
    let start = |time: &str| calendar.slot(Interval::HOUR, us(time)).unwrap().start_us;
    assert_eq!(start("2024-11-03T05:30:00Z"), us("2024-11-03T05:00:00Z"));
    assert_eq!(start("2024-11-03T06:30:00Z"), us("2024-11-03T06:00:00Z"));
}

#[test]
fn calendars_are_checked() {
    let check = |change: fn(&mut CalendarSettings), is_good: bool| {
        let mut settings = CalendarSettings::default();
        change(&mut settings);
        assert_eq!(Calendar::new(settings.clone()).is_ok(), is_good, "{settings:?}");
    };
    check(|_| {}, true);
    check(|settings| settings.time_zone = "Moon/Crater".to_owned(), false);
    check(|settings| settings.day_begins_minute = 1_440, false);
    check(|settings| settings.trades = Some(570..960), true);
    check(|settings| settings.trades = Some(std::ops::Range { start: 960, end: 570 }), false);
    check(|settings| settings.closed_weekdays = vec![0], false);
}

#[test]
fn gaps_are_where_the_exchange_trades_and_nobody_did() {
    let calendar = Calendar::new(CalendarSettings {
        time_zone: "America/New_York".to_owned(),
        trades: Some(570..960),
        closed_weekdays: vec![6, 7],
        holidays: BTreeSet::from([jiff::civil::date(2024, 1, 15)]),
        ..CalendarSettings::default()
    })
    .unwrap();
    let (from, until) = (us("2024-01-12T00:00:00Z"), us("2024-01-17T00:00:00Z"));
    let days = gaps(&calendar, Interval::Day, from, until, &BTreeSet::new()).unwrap();
    let starts: Vec<i64> = days.iter().map(|slot| slot.start_us).collect();
    assert_eq!(starts, [us("2024-01-12T05:00:00Z"), us("2024-01-16T05:00:00Z")]);
    let all = gaps(&calendar, Interval::FIVE_MINUTES, from, until, &BTreeSet::new()).unwrap();
    assert_eq!(all.len(), 2 * 78);
    let traded = BTreeSet::from([us("2024-01-12T14:30:00Z")]);
    assert_eq!(gaps(&calendar, Interval::FIVE_MINUTES, from, until, &traded).unwrap(), all[1..]);
    assert_eq!(gaps(&calendar, Interval::HOUR, until, from, &traded), Ok(Vec::new()));
    assert_eq!(
        gaps(&calendar, Interval::Minutes(1), us("1990-01-01T00:00:00Z"), until, &traded),
        Err(BarFault::TooLong)
    );
}

#[test]
fn numbers_that_no_bar_can_hold_are_refused() {
    let trade = Trade { time_us: 0, sequence: 0, price: 1.0, volume: 1.0 };
    for (price, volume) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (1e10, 1.0), (1.0, -1.0), (1.0, f64::NAN)]
    {
        assert!(matches!(Partial::of(&Trade { price, volume, ..trade }), Err(BarFault::OutOfRange { .. })));
    }
    let large = Trade { price: 9e9, volume: 9e9, ..trade };
    let mut partial = Partial::of(&large).unwrap();
    partial.add(&large).unwrap();
    let before = partial;
    assert_eq!(partial.add(&large), Err(BarFault::Overflow));
    assert_eq!(partial, before);
    let mut series = BarSeries::new(Arc::new(calendar("UTC", 0)), &BarSettings::default());
    assert_eq!(series.add(&Trade { time_us: i64::MAX, ..trade }), Err(BarFault::Time));
    assert!(Rolling::new(0).is_err());
    assert!(Rolling::new(2).unwrap().push(f64::NAN).is_err());
}

#[test]
fn volatility_is_the_deviation_of_changes() {
    let mut differences = Volatility::new(Change::Difference, 10).unwrap();
    let found: Vec<_> = [1.0, -1.0, 1.0].map(|price| differences.push(price).unwrap()).into();
    assert_eq!(found, [None, None, Some(8.0_f64.sqrt())]);
    let mut logarithms = Volatility::new(Change::Logarithm, 10).unwrap();
    assert!(logarithms.push(0.0).is_err() && logarithms.push(-36.98).is_err());
    for price in [1.0, 2.0, 4.0] {
        logarithms.push(price).unwrap();
    }
    assert_eq!(logarithms.push(8.0).unwrap(), Some(0.0));
}
