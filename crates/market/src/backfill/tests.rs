//! A backfill beside live, over engines in memory.

use std::sync::Arc;

use kernel::{Clock, ManualClock, TenantId, Timestamp, codes};
use proptest::prelude::*;
use serde_json::{Value, json};
use store::memory::{MemoryColumns, MemoryEventLog, MemoryRecords};
use store::{
    ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, Leases, MAX_TIME_NS, Retention, TimeRange,
    Topic,
};
use stream::{HISTORY_GONE, Punctuation, REPLAY_OF};

use super::difference::Comparison;
use super::replay::Replay;
use super::routes::Settled;
use super::{Found, LEASE, Live, Progress, Report, Scratch, Wanted, backfill, system};
use crate::events::{RECEIVED_AT, topics};
use crate::projection::{Corrections, PRICES, QUOTES, rebuild};
use crate::tests::{Desk, MINUTE_MS, START_MS, scope, tick};
use crate::topology::BAR_KINDS;
use crate::{MarketSettings, Rules, Topics};

const TABLES: [ColumnTable; 5] = [PRICES, QUOTES, BAR_KINDS[0].table, BAR_KINDS[1].table, BAR_KINDS[2].table];

fn quiet() -> Progress {
    Arc::new(|_, _, _| {})
}

fn scratch() -> Scratch {
    Scratch {
        log: Arc::new(MemoryEventLog::new(1)),
        records: Arc::new(MemoryRecords::new()),
        columns: Arc::new(MemoryColumns::default()),
    }
}

fn live(desk: &Desk) -> Live {
    let now = Timestamp::from_millisecond(START_MS + 9_000 * MINUTE_MS).unwrap();
    Live {
        topics: Topics::of_log(Arc::clone(&desk.log)),
        records: Arc::clone(&desk.records),
        columns: Arc::clone(&desk.columns),
        leases: leases(desk, "one"),
        clock: Arc::new(ManualClock::at(now)) as Arc<dyn Clock>,
    }
}

fn leases(desk: &Desk, holder: &str) -> Leases {
    let clock = Arc::new(ManualClock::at(minute(9_000)));
    Leases::new(Arc::clone(&desk.records), clock, holder.to_owned())
}

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millisecond(START_MS + minute * MINUTE_MS).unwrap()
}

fn wanted() -> Wanted {
    Wanted {
        tenant: TenantId::new("desk").unwrap(),
        from: minute(-10_000),
        to: minute(10_000),
        instrument: None,
        is_dry_run: false,
        settings: "as they are".to_owned(),
    }
}

fn rules(toml: &str) -> Arc<Rules> {
    Arc::new(toml::from_str::<MarketSettings>(toml).unwrap().rules().unwrap())
}

/// Every row of the tenant, with its revision.
async fn rows(columns: &dyn Columns) -> Vec<(&'static str, ColumnRow)> {
    let range = TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS };
    let mut all = Vec::new();
    for table in TABLES {
        for series in columns.series(&scope("desk"), table, None, 1_000).await.unwrap() {
            let page =
                columns.scan(&scope("desk"), table, &ColumnScan::new(series, range, 10_000)).await.unwrap();
            all.extend(page.rows.into_iter().map(|row| (table.name, row)));
        }
    }
    all
}

async fn run(desk: &Desk, wanted: &Wanted) -> Report {
    backfill(&live(desk), &scratch(), &desk.rules, wanted, &quiet()).await.unwrap()
}

fn sum(report: &Report) -> Found {
    report.tables.values().fold(Found::default(), |mut sum, found| {
        sum.equal += found.equal;
        sum.added += found.added;
        sum.changed += found.changed;
        sum.withdrawn += found.withdrawn;
        sum.left_to_live += found.left_to_live;
        sum
    })
}

/// Says that the tenant was silent up to a minute.
async fn silence(desk: &Desk, until: i64) {
    let tenant = TenantId::new("desk").unwrap();
    let now_ms = START_MS + until * MINUTE_MS;
    for extent in desk.log.extents(&Topic::fixed(topics::ENRICHED_TICKS)).await.unwrap() {
        for key in 0..64 {
            let said = Punctuation { partition: extent.partition, now_ms, is_idle: true };
            let event = said.event(&tenant, &format!("k{key}")).unwrap();
            desk.log
                .append(&scope("desk"), &Topic::fixed(topics::ENRICHED_TICKS), vec![event])
                .await
                .unwrap();
        }
    }
}

/// Sends ticks in steps with live between them, and a word of the clock behind each step.
async fn desk_with(steps: &[Vec<Value>], partitions: u32) -> Desk {
    let mut desk = Desk::new(partitions, &MarketSettings::default());
    for (place, step) in steps.iter().enumerate() {
        for message in step {
            desk.send("desk", message).await.unwrap();
        }
        desk.run().await;
        // The last one closes every bar.
        let until = if place + 1 == steps.len() { 3_000 } else { 60 + 200 * place as i64 };
        silence(&desk, until).await;
        desk.run().await;
    }
    desk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_live_made_is_made_again_to_the_byte(
        ticks in proptest::collection::vec((0_u64..60, 0_u32..400, -50_i32..50, 0_usize..3), 1..60),
        partitions in 1_u32..3,
        cut in 0_u64..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let message = |(sequence, minute, price, symbol): &(u64, u32, i32, usize)| {
                let mut tick = tick(*sequence, f64::from(*minute), f64::from(*price));
                tick["symbol"] = json!(["HUB", "NODE", "ZONE"][*symbol]);
                tick
            };
            let steps: Vec<Vec<Value>> = ticks.chunks(20).map(|step| step.iter().map(message).collect()).collect();
            let desk = desk_with(&steps, partitions).await;
            let before = rows(desk.columns.as_ref()).await;
            let report = run(&desk, &wanted()).await;
            assert_eq!((sum(&report).equal, sum(&report).different()), (before.len() as u64, 0), "{report:?}");
            // Stopped anywhere, and the rows of live lost meanwhile.
            let (live, scratch, progress) = (live(&desk), scratch(), quiet());
            let plan = super::planned(&live, &scratch, &wanted()).await.unwrap();
            let (tenant, rules) = (&wanted().tenant, &desk.rules);
            let routes = &plan.routes(&live, tenant).await.unwrap();
            let replay = Replay {
                live: &live, scratch: &scratch, rules, tenant, routes, progress: &progress,
            };
            for (partition, until) in &plan.until {
                replay.normalise(*partition, if cut < 20 { cut } else { *until }).await.unwrap();
            }
            if cut >= 20 {
                replay.merge(plan.until.keys()).await.unwrap();
                replay.enrich(0).await.unwrap();
            }
            desk.columns.erase(&scope("desk")).await.unwrap();
            let report = backfill(&live, &scratch, &desk.rules, &wanted(), &progress).await.unwrap();
            // What live committed last is delivered once more.
            assert_eq!(sum(&report).added + sum(&report).equal, before.len() as u64);
            assert_eq!(rows(desk.columns.as_ref()).await, before);
        });
    }
}

#[tokio::test]
async fn by_other_rules_the_next_revision_says_so() {
    let ticks: Vec<Value> =
        (0..30).map(|place| tick(place, 2.0 * place as f64, 10.0 + place as f64)).collect();
    let mut desk = desk_with(std::slice::from_ref(&ticks), 1).await;
    let before = rows(desk.columns.as_ref()).await;
    // Prices were read from the wrong place.
    desk.rules = rules("[mapping]\nprice = [\"volume\"]\nvolume = []");
    let dry = Wanted { is_dry_run: true, ..wanted() };
    let told = run(&desk, &dry).await;
    assert_eq!(rows(desk.columns.as_ref()).await, before, "a dry run writes nothing");
    let found = sum(&told);
    assert_eq!(
        (found.equal, found.changed, found.added, found.withdrawn),
        (0, before.len() as u64, 0, 0),
        "{told:?}"
    );
    let first = &told.changes[0];
    assert_eq!(
        (first.values[0].0, &first.values[0].1, &first.values[0].2),
        ("price", &json!(10.0), &json!(2.0))
    );
    assert_eq!(sum(&run(&desk, &wanted()).await), found);
    // What live would have given by these rules.
    let mut second = Desk::new(1, &MarketSettings::default());
    second.rules = Arc::clone(&desk.rules);
    for message in &ticks {
        second.send("desk", message).await.unwrap();
    }
    second.run().await;
    silence(&second, 3_000).await;
    second.run().await;
    let values = |rows: Vec<(&'static str, ColumnRow)>| -> Vec<_> {
        rows.into_iter().map(|(table, row)| (table, ColumnRow { revision: 0, ..row })).collect()
    };
    let after = rows(desk.columns.as_ref()).await;
    assert!(after.iter().zip(&before).all(|(after, before)| after.1.revision == before.1.revision + 1));
    assert_eq!(values(after.clone()), values(rows(second.columns.as_ref()).await));
    assert_eq!(sum(&run(&desk, &wanted()).await).different(), 0, "it is done");
    // The topics have it too.
    desk.columns.erase(&scope("desk")).await.unwrap();
    rebuild(desk.log.as_ref(), desk.columns.as_ref()).await.unwrap();
    assert_eq!(rows(desk.columns.as_ref()).await, after);
}

#[tokio::test]
async fn what_is_no_tick_any_more_is_withdrawn_and_what_is_one_now_is_added() {
    let mut only_new = tick(8, 1.0, 0.0);
    only_new.as_object_mut().unwrap().remove("price");
    only_new["close"] = json!(7.5);
    let mut desk = desk_with(&[vec![tick(1, 1.0, 30.0), tick(2, 30.0, 31.0), only_new]], 1).await;
    let as_of = |desk: &Desk| {
        let (service, time) = (desk.service(), minute(2));
        async move { service.price_as_of(&scope("desk"), "HUB", time).await.map(|quoted| quoted.price.price) }
    };
    assert_eq!(as_of(&desk).await.unwrap(), 30.0);
    desk.rules = rules("[mapping]\nprice = [\"close\"]\nvolume = []");
    let part = Wanted { to: minute(15), ..wanted() };
    let report = run(&desk, &part).await;
    let prices = report.tables["market_prices"];
    assert_eq!((prices.added, prices.changed, prices.withdrawn), (1, 0, 1), "{report:?}");
    assert_eq!(report.tables["bars_5m"].changed, 1);
    assert_eq!(as_of(&desk).await.unwrap(), 7.5);
    desk.rules = rules("[mapping]\nprice = [\"nothing\"]\nvolume = []");
    let report = run(&desk, &part).await;
    assert_eq!((report.tables["market_prices"].withdrawn, report.tables["bars_5m"].withdrawn), (1, 1));
    assert_eq!(as_of(&desk).await.unwrap_err().code(), crate::service::PRICE_NOT_FOUND);
    assert_eq!(sum(&run(&desk, &part).await).different(), 0);
}

#[tokio::test]
async fn quotes_are_made_again_as_prices_are() {
    let quoted = |place: u64, minute: f64, has_trade: bool| {
        let mut quote = tick(place, minute, 10.5);
        (quote["bid"], quote["ask"]) = (json!(10.0), json!(11.0));
        if !has_trade {
            quote.as_object_mut().unwrap().remove("price");
        }
        quote
    };
    let ticks = vec![tick(1, 1.0, 30.0), quoted(2, 2.0, true), quoted(3, 3.0, false), quoted(4, 30.0, false)];
    let mut desk = desk_with(&[ticks], 2).await;
    let before = rows(desk.columns.as_ref()).await;
    let quotes = |report: &Report| report.tables["market_quotes"];
    let same = run(&desk, &wanted()).await;
    assert_eq!((quotes(&same).equal, sum(&same).different()), (3, 0), "{same:?}");
    // Rows of before there was a table of quotes.
    let range = TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS };
    desk.columns.delete(&scope("desk"), QUOTES, None, range).await.unwrap();
    assert_eq!(rebuild(desk.log.as_ref(), desk.columns.as_ref()).await.unwrap(), 3);
    assert_eq!(rows(desk.columns.as_ref()).await, before);

    // Bids were taken for asks.
    let newest = async |desk: &Desk| desk.service().quote_as_of(&scope("desk"), "HUB", None).await;
    assert_eq!(newest(&desk).await.unwrap().quote.spread(), Some(1.0));
    desk.rules = rules("[mapping]\nbid = [\"ask\"]\nask = [\"bid\"]");
    let report = run(&desk, &wanted()).await;
    assert_eq!((quotes(&report).changed, sum(&report).different()), (3, 4), "one is of a trade: {report:?}");
    let crossed = newest(&desk).await.unwrap();
    assert!(crossed.quote.spread() == Some(-1.0) && crossed.quality_flags.contains(&"crossed".to_owned()));
    // Nobody quoted at all.
    desk.rules = rules("[mapping]\nbid = []\nask = []");
    let report = run(&desk, &wanted()).await;
    assert_eq!((quotes(&report).withdrawn, report.tables["bars_5m"].different()), (3, 0), "{report:?}");
    assert_eq!(newest(&desk).await.unwrap_err().code(), crate::service::QUOTE_NOT_FOUND);
    assert_eq!(sum(&run(&desk, &wanted()).await).different(), 0, "it is done");
}

#[tokio::test]
async fn bars_that_live_can_change_are_left_to_it() {
    let ticks: Vec<Value> = (0..30).map(|place| tick(place, place as f64, 10.0)).collect();
    let mut desk = Desk::new(1, &MarketSettings::default());
    for message in &ticks {
        desk.send("desk", message).await.unwrap();
    }
    desk.run().await;
    desk.rules = rules("[mapping]\nprice = [\"volume\"]\nvolume = []");
    let one = Wanted { instrument: Some("HUB".to_owned()), ..wanted() };
    let bars = run(&desk, &one).await.tables["bars_5m"];
    // The newest tick is of minute 29: five bars are closed, and those that end at minute 14 or before stay.
    assert_eq!((bars.changed, bars.left_to_live), (2, 2));
    let none = Wanted { instrument: Some("NODE".to_owned()), ..wanted() };
    assert_eq!(sum(&run(&desk, &none).await), Found::default());
    let other = Wanted { tenant: TenantId::new("other").unwrap(), ..wanted() };
    assert_eq!(sum(&run(&desk, &other).await), Found::default());
    // A price that came after the plan is none of its business.
    let early = ManualClock::at(minute(1_000));
    let live = Live { clock: Arc::new(early), ..live(&desk) };
    desk.rules = rules("[mapping]\nprice = [\"nothing\"]\nvolume = []");
    let report = backfill(&live, &scratch(), &desk.rules, &wanted(), &quiet()).await.unwrap();
    assert_eq!(
        (report.tables["market_prices"].withdrawn, report.tables["market_prices"].left_to_live),
        (0, 30)
    );
}

#[tokio::test]
async fn what_cannot_be_made_again_is_refused() {
    let desk = desk_with(&[(0..5).map(|place| tick(place, place as f64, 10.0)).collect()], 1).await;
    let (live, scratch) = (live(&desk), scratch());
    let code = async |wanted: &Wanted, scratch: &Scratch| {
        backfill(&live, scratch, &desk.rules, wanted, &quiet()).await.unwrap_err().code()
    };
    let backwards = Wanted { to: minute(-20_000), ..wanted() };
    assert_eq!(code(&backwards, &scratch).await, codes::VALIDATION_ERROR);
    backfill(&live, &scratch, &desk.rules, &wanted(), &quiet()).await.unwrap();
    let by_others = Wanted { settings: "others".to_owned(), ..wanted() };
    assert_eq!(code(&by_others, &scratch).await, codes::CONFLICT);
    let keep = Retention { events: Some(2), ..Retention::default() };
    let raw = Topic::fixed(topics::RAW_TICKS);
    desk.log.retain(&raw, keep, minute(0)).await.unwrap();
    let other = super::tests::scratch();
    assert_eq!(code(&wanted(), &other).await, HISTORY_GONE);
    // Ticks came in minute 1,000.
    let later = Wanted { from: minute(1_002), ..wanted() };
    let other = super::tests::scratch();
    backfill(&live, &other, &desk.rules, &later, &quiet()).await.unwrap();
}

#[tokio::test]
async fn ticks_of_one_instrument_in_several_partitions_are_made_again_together() {
    let mut desk = Desk::new(3, &MarketSettings::default());
    for place in 0..60_u64 {
        // Every seventh is late, so that bars are revised.
        let minute = if place % 7 == 6 { place as f64 - 6.0 } else { place as f64 };
        desk.send_by("desk", &tick(place, minute, place as f64), Some(&format!("k{}", place % 9)))
            .await
            .unwrap();
    }
    let raw = desk.log.extents(&Topic::fixed(topics::RAW_TICKS)).await.unwrap();
    assert!(raw.iter().all(|extent| extent.next > 0), "{raw:?}");
    desk.run().await;
    silence(&desk, 3_000).await;
    desk.run().await;
    let before = rows(desk.columns.as_ref()).await;
    let found = sum(&run(&desk, &wanted()).await);
    assert_eq!((found.equal, found.different(), found.left_to_live), (before.len() as u64, 0, 0));
}

#[tokio::test]
async fn a_partition_that_is_silent_keeps_nothing_from_the_others() {
    let mut desk = Desk::new(2, &MarketSettings::default());
    for (place, symbol) in ["A", "B", "C", "D", "E", "F"].into_iter().enumerate() {
        for number in 0..30 {
            let mut tick = tick(place as u64 * 100 + number, 2.0 * number as f64, 10.0);
            tick["symbol"] = json!(symbol);
            desk.send("desk", &tick).await.unwrap();
        }
    }
    desk.run().await;
    // One partition hears of a tick that is ten hours newer.
    let mut newest = tick(999, 600.0, 10.0);
    newest["symbol"] = json!("A");
    desk.send("desk", &newest).await.unwrap();
    desk.run().await;
    desk.rules = rules("[mapping]\nprice = [\"volume\"]\nvolume = []");
    let report = run(&desk, &Wanted { instrument: Some("A".to_owned()), ..wanted() }).await;
    assert_eq!(
        (report.tables["bars_5m"].changed, report.tables["bars_5m"].left_to_live),
        (12, 0),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_correction_without_its_row_is_taken_in_before_anything_is_compared() {
    let ticks: Vec<Value> = (0..10).map(|place| tick(place, place as f64, 10.0)).collect();
    let desk = desk_with(&[ticks], 1).await;
    let (_, row) = rows(desk.columns.as_ref()).await.swap_remove(0);
    let mut orphan = ColumnRow { revision: 1, ..row.clone() };
    orphan.values[0] = ColumnValue::Float(99.0);
    let corrections = Corrections { table: PRICES, rows: &[orphan] };
    corrections.append(&scope("desk"), desk.log.as_ref(), minute(0)).await.unwrap();
    let dry = Wanted { is_dry_run: true, ..wanted() };
    assert_eq!(sum(&run(&desk, &dry).await).different(), 0);
    assert_eq!(sum(&run(&desk, &wanted()).await).changed, 1);
    let after = rows(desk.columns.as_ref()).await;
    assert_eq!(after[0].1, ColumnRow { revision: 2, ..row });
    desk.columns.erase(&scope("desk")).await.unwrap();
    rebuild(desk.log.as_ref(), desk.columns.as_ref()).await.unwrap();
    assert_eq!(rows(desk.columns.as_ref()).await, after);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_compared_before_live_has_taken_and_delivered_everything() {
    let mut desk = desk_with(&[vec![tick(1, 1.0, 30.0)]], 1).await;
    desk.columns.erase(&scope("desk")).await.unwrap();
    let dry = Wanted { is_dry_run: true, ..wanted() };
    assert_eq!(sum(&run(&desk, &dry).await).equal, 0);
    assert!(sum(&run(&desk, &wanted()).await).equal > 0, "what live committed was delivered first");
    desk.send("desk", &tick(2, 2.0, 31.0)).await.unwrap();
    let (live, scratch) = (live(&desk), scratch());
    let lagging = backfill(&live, &scratch, &desk.rules, &wanted(), &quiet()).await.unwrap_err();
    assert_eq!(lagging.code(), codes::CONFLICT);
    assert!(lagging.to_string().contains("normalization"), "{lagging}");
    desk.run().await;
    backfill(&live, &scratch, &desk.rules, &wanted(), &quiet()).await.unwrap();
    // One at a time.
    let other = leases(&desk, "two");
    assert!(other.acquire(&system(), "backfill/desk", LEASE).await.unwrap());
    let second = backfill(&live, &super::tests::scratch(), &desk.rules, &wanted(), &quiet()).await;
    assert_eq!(second.unwrap_err().code(), codes::CONFLICT);
}

#[tokio::test]
async fn a_revision_that_live_wrote_meanwhile_is_told() {
    let desk = desk_with(&[vec![tick(1, 1.0, 30.0)]], 1).await;
    let (live, scratch, wanted) = (live(&desk), scratch(), wanted());
    let plan = super::planned(&live, &scratch, &wanted).await.unwrap();
    let routes = plan.routes(&live, &wanted.tenant).await.unwrap();
    let settled = Settled::of(&live, &scratch, &desk.rules, &wanted.tenant, routes).await.unwrap();
    let comparison = Comparison {
        live: &live,
        scratch: &scratch,
        wanted: &wanted,
        range: wanted.range().unwrap(),
        settled,
        retained_us: None,
        planned_at: plan.planned_at,
    };
    let (_, row) = rows(desk.columns.as_ref()).await.swap_remove(0);
    comparison.write(&scope("desk"), PRICES, &mut vec![row.clone()]).await.unwrap();
    let mut other = row;
    other.values[0] = ColumnValue::Float(99.0);
    let told = comparison.write(&scope("desk"), PRICES, &mut vec![other]).await.unwrap_err();
    assert_eq!(told.code(), codes::CONFLICT);
}

#[tokio::test]
async fn the_oldest_message_says_when_it_came_or_nothing_is_made_again() {
    let desk = desk_with(&[vec![tick(1, 1.0, 30.0)]], 1).await;
    let raw = Topic::fixed(topics::RAW_TICKS);
    let first = desk.log.read(&raw, 0, 0, crate::tests::all()).await.unwrap().swap_remove(0).event;
    let later = Wanted { from: minute(9_000), ..wanted() };
    let code = async |id: &str, is_replay: bool, received: Option<&str>| {
        let mut event = first.clone();
        event.id = id.to_owned();
        let replay = is_replay.then(|| (REPLAY_OF.to_owned(), json!("1")));
        let received = received.map(|time| (RECEIVED_AT.to_owned(), json!(time)));
        event.extensions = replay.into_iter().chain(received).collect();
        desk.log.append(&scope("desk"), &raw, vec![event]).await.unwrap();
        let keep = Retention { events: Some(1), ..Retention::default() };
        desk.log.retain(&raw, keep, minute(0)).await.unwrap();
        super::check_history(&live(&desk), &desk.rules, &later).await.map_err(|error| error.code())
    };
    assert_eq!(code("unknown", false, None).await, Err(HISTORY_GONE));
    assert_eq!(code("again", true, Some("1990-01-01T00:00:00Z")).await, Err(HISTORY_GONE));
    let known = code("known", false, Some("2000-01-01T00:00:00Z")).await.unwrap();
    assert_eq!(known, Some(946_684_800_000_000));
}

#[tokio::test]
async fn a_price_behind_very_many_withdrawn_ones_is_not_looked_for_without_end() {
    let desk = desk_with(&[vec![tick(1, 1.0, 30.0)]], 1).await;
    let (_, row) = rows(desk.columns.as_ref()).await.swap_remove(0);
    let gone = ColumnRow { values: vec![ColumnValue::Missing; row.values.len()], revision: 1, ..row.clone() };
    let of = |number: i64| ColumnRow { time_ns: row.time_ns + number, ..gone.clone() };
    let as_of = async || desk.service().price_as_of(&scope("desk"), "HUB", minute(2)).await;
    for (numbers, is_found) in [(1..1_500, true), (1_500..21_000, false)] {
        for chunk in numbers.collect::<Vec<i64>>().chunks(500) {
            let rows = chunk.iter().map(|number| of(*number)).collect();
            desk.columns.append(&scope("desk"), PRICES, rows).await.unwrap();
        }
        match as_of().await {
            Ok(found) => assert!(is_found && found.price.price == 30.0),
            Err(error) => {
                assert!(!is_found && error.to_string().contains("ask for a time before"), "{error}");
            }
        }
    }
}
