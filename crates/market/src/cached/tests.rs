//! What stands in the cache, over engines in memory: never missing, never twice, of one writer.

mod long_look;

use std::sync::atomic::{AtomicUsize, Ordering};

use kernel::{Event, ManualClock, SeededEntropy, Timestamp};
use serde_json::{Value, json};
use store::memory::{MemoryCache, MemoryRecords};
use store::{ColumnValue, Page, Query, Record, Records, Table, Write};

use super::curves::Curves;
use super::custom::Customs;
use super::prices::Prices;
use super::*;
use crate::MarketSettings;
use crate::custom::{CustomSink, Kept};
use crate::service::curves::{QuoteSet, QuotesEvent, TenorQuote, UPDATES, row_of};
use crate::tests::{Desk, scope, tick};

struct Place {
    desk: Desk,
    cache: Arc<dyn Cache>,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let cache = Arc::new(MemoryCache::new(Arc::clone(&clock) as Arc<_>));
        Self { desk: Desk::new(1, &MarketSettings::default()), cache, clock }
    }

    fn writer(&self, seed: u64) -> Writer {
        self.writer_of(Box::new(Prices::new(Arc::clone(&self.desk.views))), seed)
    }

    fn curves(&self, seed: u64) -> Writer {
        self.writer_of(
            Box::new(Curves::new(Arc::clone(&self.desk.log), Arc::clone(&self.desk.columns))),
            seed,
        )
    }

    fn writer_of(&self, served: Box<dyn Served>, seed: u64) -> Writer {
        let entropy = Arc::new(SeededEntropy::new(seed));
        let (cache, clock) = (Arc::clone(&self.cache), Arc::clone(&self.clock) as Arc<_>);
        Writer::new(served, cache, clock, entropy, Duration::from_secs(60)).unwrap()
    }

    async fn quote(&self, tenant: &str, set: QuoteSet) {
        self.desk.service().quote(&scope(tenant), set, Timestamp::UNIX_EPOCH).await.unwrap();
    }

    async fn curve(&self, tenant: &str, name: &str) -> Option<Value> {
        let key = format!("served:curve_snapshot:{name}");
        let found = self.cache.get(&scope(tenant), &key).await.unwrap();
        found.map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    async fn take(&mut self, tenant: &str, messages: &[Value]) {
        for message in messages {
            self.desk.send(tenant, message).await.unwrap();
        }
        self.desk.run().await;
    }

    async fn price(&self, tenant: &str) -> Option<Value> {
        let found = self.cache.get(&scope(tenant), "served:latest_price:HUB").await.unwrap();
        found.map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }
}

#[tokio::test]
async fn a_price_stands_with_its_tenant_as_long_as_it_is_the_newest() {
    let mut served = Place::new();
    let mut writer = served.writer(1);
    served.take("a", &[tick(1, 0.0, -31.2)]).await;
    served.take("b", &[tick(1, 0.0, 7.0)]).await;
    assert_eq!(writer.look().await.unwrap(), 2);
    assert_eq!(writer.look().await.unwrap(), 0, "nothing changed");
    let told = served.price("a").await.unwrap();
    assert_eq!(told["data"]["price"], json!(-31.2));
    assert_eq!((&told["tenant_id"], &told["projection_type"]), (&json!("a"), &json!("latest_price")));
    assert_eq!(served.price("b").await.unwrap()["data"]["price"], json!(7.0));
    served.take("a", &[tick(2, 1.0, 5.0)]).await;
    assert_eq!(writer.look().await.unwrap(), 1);
    assert_eq!(served.price("a").await.unwrap()["data"]["price"], json!(5.0));
    // Much longer than a value lives, and at no moment is it missing.
    for _ in 0..600 {
        served.clock.advance(Duration::from_secs(1));
        writer.look().await.unwrap();
        assert!(served.price("a").await.is_some());
    }
}

#[tokio::test]
async fn values_do_not_end_all_at_once() {
    let mut served = Place::new();
    let mut writer = served.writer(2);
    let named = |number: u64| {
        let mut message = tick(number, 0.0, 1.0);
        message["symbol"] = json!(format!("HUB_{number}"));
        message
    };
    served.take("a", &(0..200).map(named).collect::<Vec<_>>()).await;
    assert_eq!(writer.look().await.unwrap(), 200);
    let mut most = 0;
    for _ in 0..600 {
        served.clock.advance(Duration::from_secs(1));
        most = most.max(writer.look().await.unwrap());
    }
    assert!(most < 40, "{most} of 200 in one second");
}

#[tokio::test]
async fn one_of_two_servers_writes() {
    let mut served = Place::new();
    let (mut one, mut two) = (served.writer(3), served.writer(4));
    served.take("a", &[tick(1, 0.0, 1.0)]).await;
    assert_eq!((one.look().await.unwrap(), two.look().await.unwrap()), (1, 0));
    served.clock.advance(LEASE + Duration::from_secs(1));
    assert_eq!((two.look().await.unwrap(), one.look().await.unwrap()), (1, 0), "the first was silent");
}

fn quotes(curve: &str, day: i64, rate: f64) -> QuoteSet {
    let quote = |tenor: &str, rate: f64| TenorQuote { tenor: tenor.to_owned(), rate };
    QuoteSet {
        curve: curve.to_owned(),
        as_of: Timestamp::from_second(day * 86_400).unwrap(),
        frequency: 2,
        quotes: vec![quote("3m", rate), quote("1y", rate + 0.001), quote("10y", rate + 0.002)],
    }
}

#[tokio::test]
async fn curves_stand_at_the_horizons_of_the_guide_and_only_changed_ones_are_written() {
    let place = Place::new();
    let mut writer = place.curves(5);
    assert_eq!(writer.look().await.unwrap(), 0, "nobody quoted anything");
    place.quote("a", quotes("UST", 3, 0.04)).await;
    place.quote("a", quotes("ESTR", 3, 0.02)).await;
    place.quote("b", quotes("UST", 3, 0.05)).await;
    assert_eq!(writer.look().await.unwrap(), 12);
    assert_eq!(writer.look().await.unwrap(), 0, "nothing changed");
    let told = place.curve("a", "UST:1y").await.unwrap();
    assert_eq!((&told["projection_type"], &told["instrument_id"]), (&json!("curve_snapshot"), &json!("UST")));
    assert_eq!((&told["tenant_id"], &told["data"]["horizon"]), (&json!("a"), &json!("1y")));
    let points = told["data"]["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[11]["term_years"]), (12, &json!(1.0)));
    assert!((points[11]["par_rate"].as_f64().unwrap() - 0.041).abs() < 1e-9, "the quote: {}", points[11]);
    assert_ne!(place.curve("b", "UST:1y").await.unwrap()["data"]["points"], told["data"]["points"]);
    assert!(place.curve("b", "ESTR:1y").await.is_none(), "that of another tenant");

    // Another set for the same time, and one of an earlier time, which is not the newest.
    place.quote("a", quotes("UST", 3, 0.03)).await;
    place.quote("a", quotes("ESTR", 2, 0.9)).await;
    assert_eq!(writer.look().await.unwrap(), 4);
    assert!(place.curve("a", "UST:1y").await.unwrap()["data"]["revision"].as_u64() > Some(0));
    for _ in 0..600 {
        place.clock.advance(Duration::from_secs(1));
        writer.look().await.unwrap();
        for name in ["UST:1m", "UST:3m", "UST:6m", "UST:1y", "ESTR:6m"] {
            assert!(place.curve("a", name).await.is_some(), "{name}");
        }
    }
}

#[tokio::test]
async fn quotes_whose_row_is_late_are_waited_for() {
    let place = Place::new();
    let mut writer = place.curves(6);
    place.quote("a", quotes("UST", 3, 0.04)).await;
    assert_eq!(writer.look().await.unwrap(), 4);
    let before = place.curve("a", "UST:1m").await.unwrap();
    // The event of a writer that has not made its row yet.
    let event = || QuotesEvent { set: quotes("UST", 4, 0.01), after: None, base: 0 };
    let data = serde_json::value::to_raw_value(&event()).unwrap();
    let (tenant, kind) = (scope("a").tenant().clone(), crate::events::kinds::CURVE_QUOTES);
    let told = Event {
        data: Some(data.into()),
        ..Event::new(&tenant, "late", "/test", kind, Timestamp::UNIX_EPOCH)
    };
    let appended = place.desk.log.append(&scope("a"), &UPDATES, vec![told]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(writer.look().await.unwrap(), 0);
        place.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(place.curve("a", "UST:1m").await.unwrap(), before);
    let row = row_of(event(), appended[0].offset).unwrap().unwrap();
    let table = crate::service::curves::CURVE_QUOTES;
    place.desk.columns.append(&scope("a"), table, vec![row]).await.unwrap();
    assert_eq!(writer.look().await.unwrap(), 4);
    assert_eq!(place.curve("a", "UST:1m").await.unwrap()["data"]["as_of"], json!("1970-01-05T00:00:00Z"));
}

#[tokio::test]
async fn custom_projections_stand_as_long_as_they_say_something() {
    let declared = r#"
        [[projections]]
        name = "notional"
        from = "price"
        fields = { amount = "event.price * event.volume" }
        [[projections]]
        name = "brief"
        from = "price"
        fields = { price = "event.price" }
        ttl_seconds = 100
    "#;
    let mut place = Place::new();
    let settings: MarketSettings = toml::from_str(declared).unwrap();
    place.desk = Desk::new(1, &settings);
    let start = Duration::from_millis(crate::tests::START_MS.unsigned_abs());
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    clock.advance(start);
    place.desk.clock = Arc::clone(&clock);
    let (views, rules) = (Arc::clone(&place.desk.views), Arc::clone(&place.desk.rules));
    let customs = Customs::new(views, rules, Arc::clone(&place.desk.records), Arc::clone(&clock) as Arc<_>);
    let mut writer = place.writer_of(Box::new(customs), 7);
    place.take("a", &[tick(1, 0.0, 3.0)]).await;
    assert_eq!(writer.look().await.unwrap(), 2);
    assert_eq!(writer.look().await.unwrap(), 0, "nothing changed");
    let found = async |place: &Place, name: &str| {
        let found = place.cache.get(&scope("a"), &format!("served:custom:{name}:HUB")).await.unwrap();
        found.map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let told = found(&place, "notional").await.unwrap();
    assert_eq!((&told["projection_type"], &told["data"]), (&json!("notional"), &json!({"amount": 6.0})));
    place.take("a", &[tick(2, 0.1, 4.0)]).await;
    assert_eq!(writer.look().await.unwrap(), 2);
    assert_eq!(found(&place, "notional").await.unwrap()["data"], json!({"amount": 8.0}));
    for second in 0..300 {
        writer.look().await.unwrap();
        assert!(found(&place, "notional").await.is_some());
        // It happened six seconds after the start.
        assert_eq!(found(&place, "brief").await.is_some(), second < 106, "{second}");
        place.clock.advance(Duration::from_secs(1));
        clock.advance(Duration::from_secs(1));
    }
}

/// A set of quotes that nobody checked, with its row.
async fn quote_unchecked(place: &Place, set: QuoteSet, is_torn: bool) {
    let event = || QuotesEvent { set: set.clone(), after: None, base: 0 };
    let data = serde_json::value::to_raw_value(&event()).unwrap();
    let (tenant, kind) = (scope("a").tenant().clone(), crate::events::kinds::CURVE_QUOTES);
    let id = format!("unchecked-{}", set.curve);
    let told =
        Event { data: Some(data.into()), ..Event::new(&tenant, id, "/test", kind, Timestamp::UNIX_EPOCH) };
    let appended = place.desk.log.append(&scope("a"), &UPDATES, vec![told]).await.unwrap();
    let mut row = row_of(event(), appended[0].offset).unwrap().unwrap();
    if is_torn {
        row.values[1] = ColumnValue::Text("no quotes".to_owned());
    }
    let table = crate::service::curves::CURVE_QUOTES;
    place.desk.columns.append(&scope("a"), table, vec![row]).await.unwrap();
}

#[tokio::test]
async fn a_curve_that_cannot_be_made_stops_no_other() {
    let place = Place::new();
    let mut writer = place.curves(8);
    quote_unchecked(&place, quotes("A_TORN", 3, 0.04), true).await;
    let mut falling = quotes("B_FALLING", 3, 0.04);
    falling.quotes.reverse();
    quote_unchecked(&place, falling, false).await;
    place.quote("a", quotes("UST", 3, 0.04)).await;
    place.quote("b", quotes("UST", 3, 0.05)).await;
    assert_eq!(writer.look().await.unwrap(), 8, "of both tenants");
    for _ in 0..20 {
        place.clock.advance(Duration::from_secs(1));
        writer.look().await.unwrap();
        assert!(place.curve("a", "UST:1y").await.is_some());
    }
    assert!(place.curve("a", "B_FALLING:1y").await.is_none());
    place.quote("a", quotes("A_TORN", 4, 0.04)).await;
    place.quote("a", quotes("B_FALLING", 4, 0.04)).await;
    writer.look().await.unwrap();
    for name in ["A_TORN:1y", "B_FALLING:1m"] {
        assert!(place.curve("a", name).await.is_some(), "{name} was quoted anew");
    }
}

/// One value, before which something happens.
#[derive(Debug)]
struct Fake {
    value: &'static str,
    clock: Arc<ManualClock>,
    meanwhile: Meanwhile,
}

#[derive(Debug)]
enum Meanwhile {
    Nothing,
    /// So many seconds go by, one by one.
    Seconds(u64),
    /// So often there is nothing to write yet, and a second goes by.
    Empty(u64),
    /// The lease ends, and another writes.
    Other(Box<Writer>),
}

#[async_trait]
impl Served for Fake {
    fn kind(&self) -> &'static str {
        "fake"
    }

    fn topic(&self) -> Topic {
        UPDATES
    }

    fn pause(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn due(&mut self, written: &Written) -> Result<Batch> {
        match &mut self.meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Seconds(seconds) => {
                for _ in 0..*seconds {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    self.clock.advance(Duration::from_secs(1));
                }
            }
            Meanwhile::Empty(0) => {}
            Meanwhile::Empty(left) => {
                *left -= 1;
                self.clock.advance(Duration::from_secs(1));
                return Ok(Batch { due: Vec::new(), is_more: true });
            }
            Meanwhile::Other(other) => {
                self.clock.advance(LEASE + Duration::from_secs(1));
                assert_eq!(other.look().await?, 1);
            }
        }
        let (tenant, state) = (scope("a").tenant().clone(), State { at: 0, id: self.value.to_owned() });
        if written.stands(&tenant, "one", 0, self.value) {
            return Ok(Batch::default());
        }
        let (name, value) = ("one".to_owned(), self.value.as_bytes().to_vec());
        let due = vec![Due { tenant, name, state, value, lives_at_most: None }];
        Ok(Batch { due, is_more: false })
    }
}

impl Place {
    fn fake(&self, value: &'static str, meanwhile: Meanwhile, seed: u64) -> Writer {
        self.writer_of(Box::new(Fake { value, clock: Arc::clone(&self.clock), meanwhile }), seed)
    }

    async fn faked(&self) -> String {
        let found = self.cache.get(&scope("a"), "served:fake:one").await.unwrap();
        String::from_utf8(found.unwrap().to_vec()).unwrap()
    }
}

#[tokio::test]
async fn what_was_made_while_another_wrote_is_dropped() {
    let place = Place::new();
    let other = Box::new(place.fake("newer", Meanwhile::Nothing, 10));
    let mut writer = place.fake("older", Meanwhile::Other(other), 9);
    assert_eq!(writer.look().await.unwrap(), 0);
    assert_eq!(place.faked().await, "newer");
}

#[tokio::test(start_paused = true)]
async fn the_lease_lasts_as_long_as_what_is_made_under_it() {
    let place = Place::new();
    let mut writer = place.fake("slow", Meanwhile::Seconds(20), 11);
    let mut other = place.fake("other", Meanwhile::Nothing, 12);
    let others = async {
        let mut written = 0;
        for _ in 0..19 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            written += other.look().await.unwrap();
        }
        written
    };
    let (looked, others) = tokio::join!(writer.look(), others);
    assert_eq!((looked.unwrap(), others), (1, 0));
    assert_eq!(place.faked().await, "slow");
}

#[tokio::test]
async fn the_lease_lasts_while_there_is_nothing_to_write_yet() {
    let place = Place::new();
    let mut writer = place.fake("late", Meanwhile::Empty(8), 13);
    assert_eq!(writer.look().await.unwrap(), 1);
    assert_eq!(place.faked().await, "late");
}

/// Records that say how many were listed.
#[derive(Debug, Default)]
struct Listed {
    records: MemoryRecords,
    count: AtomicUsize,
}

#[async_trait]
impl Records for Listed {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        self.records.get(scope, table, key).await
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        let page = self.records.list(scope, table, query).await?;
        self.count.fetch_add(page.records.len(), Ordering::Relaxed);
        Ok(page)
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        self.records.commit(scope, writes).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        self.records.erase(scope).await
    }
}

/// Keeps values of the projection `notional` under keys of these numbers, as a server or a rebuild with this clock.
async fn keep(place: &Place, numbers: std::ops::Range<i64>, price: f64, clock: &Arc<ManualClock>) {
    let (desk, records) = (&place.desk, Arc::clone(&place.desk.records));
    let rules = Arc::clone(&desk.rules);
    let sink = CustomSink::new(Arc::clone(&desk.log), records, rules, Arc::clone(clock) as _);
    let (_, definition) = desk.rules.projections.named("notional").unwrap();
    let output = |number: i64| {
        let kept = Kept {
            projection: "notional".to_owned(),
            definition: definition.to_owned(),
            key: format!("key-{number:04}"),
            instrument_id: "HUB".to_owned(),
            data: serde_json::Map::from_iter([("amount".to_owned(), json!(price))]),
            occurred_us: price as i64,
            sequence: 0,
            id: format!("{number}-{price}"),
            told_us: 0,
            ends_ms: None,
            changed_ms: 0,
        };
        let data = serde_json::value::to_raw_value(&kept).unwrap();
        let (tenant, kind) = (scope("a").tenant().clone(), crate::events::kinds::CUSTOM);
        let event = Event::new(&tenant, &kept.id, "/test", kind, Timestamp::UNIX_EPOCH);
        ::stream::Output { topic: crate::topology::KEPT, event: Event { data: Some(data.into()), ..event } }
    };
    ::stream::Sink::deliver(&sink, numbers.map(output).collect()).await.unwrap();
}

#[tokio::test]
async fn many_values_are_written_some_at_a_time_and_only_what_changed_is_read_again() {
    let declared =
        "[[projections]]\nname = \"notional\"\nfrom = \"price\"\nfields = { amount = \"event.price\" }\n";
    let mut place = Place::new();
    place.desk = Desk::new(1, &toml::from_str(declared).unwrap());
    let listed = Arc::new(Listed::default());
    place.desk.records = Arc::clone(&listed) as _;
    place.desk.clock = Arc::clone(&place.clock);
    place.clock.advance(Duration::from_millis(crate::tests::START_MS.unsigned_abs()));
    place.take("a", &[tick(1, 0.0, 3.0)]).await;
    keep(&place, 0..2_500, 1.0, &place.clock).await;
    let (views, rules) = (Arc::clone(&place.desk.views), Arc::clone(&place.desk.rules));
    let records = Arc::clone(&place.desk.records);
    let customs = Customs::new(views, rules, records, Arc::clone(&place.clock) as _);
    let mut writer = place.writer_of(Box::new(customs), 13);
    assert_eq!(writer.look().await.unwrap(), 2_501);
    assert_eq!(writer.look().await.unwrap(), 0, "nothing changed");
    let found = async |place: &Place, number: i64| {
        let key = format!("served:custom:notional:key-{number:04}");
        let found = place.cache.get(&scope("a"), &key).await.unwrap().unwrap();
        serde_json::from_slice::<Value>(&found).unwrap()["data"]["amount"].clone()
    };
    // Nobody writes for a while: after as long as clocks may differ nothing is read by what changed.
    for _ in 0..20 {
        place.clock.advance(Duration::from_secs(1));
        writer.look().await.unwrap();
    }
    let before = listed.count.load(Ordering::Relaxed);
    for _ in 0..40 {
        place.clock.advance(Duration::from_secs(1));
        writer.look().await.unwrap();
    }
    assert_eq!(listed.count.load(Ordering::Relaxed), before);
    // Then a rebuild writes, whose clock is behind, and it takes a while.
    let behind = Arc::new(ManualClock::at(place.clock.now()));
    place.clock.advance(Duration::from_secs(10));
    writer.look().await.unwrap();
    for step in 0..5_i64 {
        keep(&place, step * 10..(step + 1) * 10, 2.0, &behind).await;
        writer.look().await.unwrap();
        assert_eq!(found(&place, step * 10).await, json!(2.0), "{step}");
        place.clock.advance(Duration::from_secs(30));
        behind.advance(Duration::from_secs(30));
        writer.look().await.unwrap();
    }
    assert_eq!(found(&place, 2_499).await, json!(1.0), "it was written again in time");
}
