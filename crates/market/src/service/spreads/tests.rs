//! Quotes over engines in memory: kept once, told as of a time, and added up as a brute force adds them up.

use serde_json::{Value, json};

use super::*;
use crate::MarketSettings;
use crate::projection::rebuild;
use crate::service::PRICE_NOT_FOUND;
use crate::tests::{Desk, MINUTE_MS, START_MS, scope, tick};

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millisecond(START_MS + minute * MINUTE_MS).unwrap()
}

/// A quote without a trade.
fn quoted(sequence: u64, minute: f64, bid: f64, ask: f64) -> Value {
    let mut quote = tick(sequence, minute, 0.0);
    let fields = quote.as_object_mut().unwrap();
    fields.remove("price");
    fields.extend([("bid".to_owned(), json!(bid)), ("ask".to_owned(), json!(ask))]);
    quote
}

fn question(interval: Interval, limit: usize) -> SpreadQuestion {
    let (instrument, market) = ("HUB".to_owned(), None);
    SpreadQuestion { instrument, interval, from: at(-20_000), to: at(900), market, limit }
}

#[tokio::test]
async fn a_quote_alone_is_told_and_trades_stay_what_they_are() {
    let mut desk = Desk::new(2, &MarketSettings::default());
    desk.send("desk", &quoted(1, 1.0, 31.1, 31.3)).await.unwrap();
    desk.send("other", &quoted(1, 1.0, 1.0, 2.0)).await.unwrap();
    desk.run().await;
    let desks = scope("desk");
    let now = async |desk: &Desk| desk.service().quote_as_of(&desks, "HUB", None).await.unwrap();
    let first = now(&desk).await;
    assert_eq!((first.quote.spread(), first.market.as_str(), first.sequence), (Some(0.2), "PJM", Some(1)));
    let of_tick = first.quality_flags.clone();
    let flagged = |flag: &str| [of_tick.clone(), vec![flag.to_owned()]].concat();
    assert_eq!(desk.service().price(&desks, "HUB").unwrap_err().code(), PRICE_NOT_FOUND);

    // A trade without a quote, one with a crossed one, a locked quote below zero, and a late one.
    let mut crossed = tick(3, 3.0, 31.0);
    crossed["bid"] = json!(31.4);
    crossed["ask"] = json!(31.2);
    for message in [tick(2, 2.0, 30.0), crossed, quoted(4, 4.0, -5.0, -5.0), quoted(5, 3.5, 31.0, 31.5)] {
        desk.send("desk", &message).await.unwrap();
    }
    desk.run().await;
    let newest = now(&desk).await;
    assert_eq!((newest.quote.bid, newest.quote.basis_points()), (Some(-5.0), None));
    assert_eq!(newest.quality_flags, flagged("locked"));
    let service = desk.service();
    let then = async |minute| service.quote_as_of(&desks, "HUB", Some(at(minute))).await;
    assert_eq!(then(3).await.unwrap().quality_flags, flagged("crossed"));
    assert_eq!(then(2).await.unwrap(), first, "a trade says nothing of the quote");
    assert_eq!(then(0).await.unwrap_err().code(), QUOTE_NOT_FOUND);
    let unknown = service.quote_as_of(&desks, "NODE", None).await.unwrap_err();
    assert_eq!(unknown.code(), crate::service::INSTRUMENT_NOT_FOUND);
    assert_eq!(service.price(&desks, "HUB").unwrap().price.price, 31.0);
    let as_of = service.price_as_of(&desks, "HUB", at(10)).await.unwrap();
    assert_eq!(as_of.price.price, 31.0);
    assert_eq!(as_of.price.quality_flags, of_tick);

    // Once each, whatever comes again, and made again from the topics.
    desk.send(
        "desk",
        &json!({"envelope": {"event_id": "e", "tenant_id": "desk", "source": "x"},
        "payload": quoted(4, 4.0, -5.0, -5.0)}),
    )
    .await
    .unwrap();
    desk.run().await;
    let range = TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS };
    let rows = async |desk: &Desk| {
        desk.columns.scan(&desks, QUOTES, &ColumnScan::new("HUB", range, 100)).await.unwrap().rows
    };
    let before = rows(&desk).await;
    assert_eq!(before.len(), 4);
    let all = desk.columns.erase(&desks).await.unwrap();
    assert_eq!(rebuild(desk.log.as_ref(), desk.columns.as_ref()).await.unwrap(), all);
    assert_eq!(rows(&desk).await, before);
}

/// Every quote of every page, asked for so many intervals at a time.
async fn paged(service: &Service, mut asked: SpreadQuestion) -> Vec<ToldSpread> {
    let mut found = Vec::new();
    for _ in 0..500 {
        let page = service.spreads(&scope("desk"), &asked).await.unwrap();
        found.extend(page.spreads);
        let Some(next_us) = page.next_from_us else { return found };
        let next = Timestamp::from_microsecond(next_us).unwrap();
        assert!(next > asked.from, "a page goes on");
        asked.from = next;
    }
    panic!("the pages have no end");
}

#[tokio::test]
async fn intervals_are_those_of_a_brute_force_however_they_are_paged() {
    // The day of one market begins at another time.
    let settings: MarketSettings =
        toml::from_str("[bars.calendars.EPEX]\ntime_zone = \"Europe/Berlin\"\n").unwrap();
    let mut desk = Desk::new(1, &settings);
    let mut all = Vec::new();
    for number in 0..150_u64 {
        // Not in the order of time, some at once, some crossed and some locked; a day has no more than may be read.
        let minute = (number * 7_919 % 150 / 2) as i64 * 194 - 14_500;
        let (bid, width) = (30.0 + (number % 5) as f64, (number % 7) as f64 - 2.0);
        let market = if number % 3 == 0 { "EPEX" } else { "PJM" };
        let mut message = quoted(number, minute as f64, bid, bid + width);
        message["market"] = json!(market);
        desk.send("desk", &message).await.unwrap();
        let time_us = (START_MS + minute * MINUTE_MS) * 1_000;
        all.push((market, Quote { time_us, sequence: number, bid: Some(bid), ask: Some(bid + width) }));
    }
    desk.run().await;
    let service = desk.service();
    for interval in [Interval::FIVE_MINUTES, Interval::HOUR, Interval::Day] {
        let mut known = KnownSlots::default();
        let mut expected: BTreeMap<(i64, String), (i64, SpreadPartial)> = BTreeMap::new();
        for (market, quote) in &all {
            let slot = desk.rules.calendars.slot(&mut known, market, interval, quote.time_us).unwrap();
            let entry = expected.entry((slot.start_us, (*market).to_owned())).or_default();
            entry.0 = slot.end_us;
            entry.1.merge(&SpreadPartial::of(quote).unwrap()).unwrap();
        }
        let expected: Vec<ToldSpread> = expected
            .into_iter()
            .map(|((start_us, market), (end_us, partial))| ToldSpread {
                start_us,
                end_us,
                market,
                summary: partial.finish(),
                out_of_range_count: 0,
            })
            .collect();
        let counted = |told: &ToldSpread| {
            let summary = told.summary;
            summary.quote_count + summary.crossed_count + summary.locked_count
        };
        assert_eq!(expected.iter().map(counted).sum::<u64>(), 150);
        for limit in [1, 2, 3, 10, 1_000] {
            let found = paged(&service, question(interval, limit)).await;
            assert_eq!(found, expected, "{interval}, {limit} at a time");
            let of_one = SpreadQuestion { market: Some("EPEX".to_owned()), ..question(interval, limit) };
            let found = paged(&service, of_one).await;
            let of_one = expected.iter().filter(|told| told.market == "EPEX").cloned();
            assert_eq!(found, of_one.collect::<Vec<_>>(), "{interval}, {limit} at a time, of one market");
        }
        // Those that begin within a range, whole.
        let part = SpreadQuestion { from: at(-13_000), to: at(-8_000), ..question(interval, 1_000) };
        let found = paged(&service, part).await;
        let begins = at(-13_000).as_microsecond()..at(-8_000).as_microsecond();
        let within = expected.iter().filter(|told| begins.contains(&told.start_us)).cloned();
        assert_eq!(found, within.collect::<Vec<_>>(), "{interval}");
    }
}

#[tokio::test]
async fn a_part_of_an_interval_is_never_told_as_the_whole() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    for number in 0..=QUOTES_READ as u64 * 2 {
        desk.send("desk", &quoted(number, 0.01 * number as f64, 1.0, 2.0)).await.unwrap();
    }
    desk.send("desk", &quoted(1_000, 30.0, 1.0, 2.0)).await.unwrap();
    desk.run().await;
    let service = desk.service();
    let code = async |asked: &SpreadQuestion| {
        let refused = service.spreads(&scope("desk"), asked).await.unwrap_err();
        (refused.code().name, refused.field().map(str::to_owned))
    };
    let invalid = |field: &str| ("VALIDATION_ERROR", Some(field.to_owned()));
    let from_start = SpreadQuestion { from: at(0), ..question(Interval::FIVE_MINUTES, 10) };
    assert_eq!(code(&from_start).await, invalid("interval"));
    // What began before is not asked for, and is passed over.
    let from = Timestamp::from_millisecond(START_MS + MINUTE_MS / 10).unwrap();
    let later = SpreadQuestion { from, ..question(Interval::FIVE_MINUTES, 10) };
    let found = paged(&service, later).await;
    assert_eq!(found.iter().map(|told| told.summary.quote_count).collect::<Vec<_>>(), [1]);
    assert_eq!(code(&question(Interval::Minutes(1), 10)).await, invalid("interval"));
    let backwards = SpreadQuestion { to: at(-30_000), ..question(Interval::HOUR, 10) };
    assert_eq!(code(&backwards).await, invalid("to"));
    let unknown = SpreadQuestion { instrument: "NODE".to_owned(), ..question(Interval::HOUR, 10) };
    assert_eq!(code(&unknown).await, ("INSTRUMENT_NOT_FOUND", Some("instrument".to_owned())));
}
