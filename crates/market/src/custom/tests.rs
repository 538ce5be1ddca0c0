//! What projections keep, whatever comes in whatever order, however often, and by whom.

use std::sync::LazyLock;
use std::time::Duration;

use kernel::ManualClock;
use proptest::prelude::*;
use serde_json::{Value, json};
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{Page, Record, Write};

use super::counting::Count;
use super::*;
use crate::MarketSettings;
use crate::events::topics;
use crate::tests::{Desk, scope, tick};

const DECLARED: &str = r#"
    [[projections]]
    name = "notional"
    from = "price"
    when = "event.market == 'PJM'"
    fields = { amount = "event.price * event.volume", price = "event.price" }
    [[projections]]
    name = "spread"
    from = "quote"
    key = "event.market + '/' + event.instrument_id"
    fields = { spread = "event.ask_price - event.bid_price" }
    [[projections]]
    name = "range"
    from = "bar_5m"
    fields = { range = "event.high - event.low", start = "event.interval_start" }
    ttl_seconds = 3600
"#;

fn desk(toml: &str) -> Desk {
    let settings: MarketSettings = toml::from_str(toml).unwrap();
    Desk::new(2, &settings)
}

async fn told(desk: &Desk, tenant: &str, name: &str, minute: i64) -> Vec<(String, Value)> {
    let custom = Custom::new(Arc::clone(&desk.rules), Arc::clone(&desk.records));
    let now = Timestamp::from_millisecond(crate::tests::START_MS + minute * 60_000).unwrap();
    let (found, cursor) = custom.list(&scope(tenant), name, (None, 100), now).await.unwrap();
    assert!(cursor.is_none());
    for kept in &found {
        assert_eq!(custom.get(&scope(tenant), name, &kept.key, now).await.unwrap(), *kept);
    }
    found.into_iter().map(|kept| (kept.key, Value::Object(kept.data))).collect()
}

fn one(key: &str, data: Value) -> Vec<(String, Value)> {
    vec![(key.to_owned(), data)]
}

#[tokio::test]
async fn the_newest_of_each_key_is_kept() {
    let mut desk = desk(DECLARED);
    desk.send("a", &tick(2, 1.0, 20.0)).await.unwrap();
    let mut quote = tick(3, 2.0, Value::Null);
    (quote["bid"], quote["ask"]) = (json!(30.0), json!(30.5));
    desk.send("a", &quote).await.unwrap();
    desk.send("b", &tick(1, 0.0, 7.0)).await.unwrap();
    desk.run().await;
    assert_eq!(told(&desk, "a", "notional", 0).await, one("HUB", json!({"amount": 40.0, "price": 20.0})));
    assert_eq!(told(&desk, "a", "spread", 0).await, one("PJM/HUB", json!({"spread": 0.5})));
    assert_eq!(told(&desk, "b", "notional", 0).await, one("HUB", json!({"amount": 14.0, "price": 7.0})));
    assert_eq!(told(&desk, "b", "spread", 0).await, []);
    assert_eq!(told(&desk, "a", "range", 0).await, [], "no bar is told yet");

    // Late, and then two that close the bar and revise it.
    desk.send("a", &tick(1, 0.5, 10.0)).await.unwrap();
    desk.send("a", &tick(4, 11.0, 25.0)).await.unwrap();
    desk.run().await;
    let start = "2024-01-01T00:00:00Z";
    assert_eq!(told(&desk, "a", "range", 5).await, one("HUB", json!({"range": 10.0, "start": start})));
    desk.send("a", &tick(5, 3.0, 50.0)).await.unwrap();
    desk.run().await;
    assert_eq!(told(&desk, "a", "range", 5).await, one("HUB", json!({"range": 40.0, "start": start})));
    assert_eq!(told(&desk, "a", "notional", 5).await, one("HUB", json!({"amount": 50.0, "price": 25.0})));
    assert_eq!(told(&desk, "a", "range", 64).await.len(), 1);
    assert_eq!(told(&desk, "a", "range", 65).await, [], "an hour after the end of the bar");
    assert!(desk.events(topics::DEAD_PROJECTION).await.is_empty());

    let custom = Custom::new(Arc::clone(&desk.rules), Arc::clone(&desk.records));
    let now = Timestamp::UNIX_EPOCH;
    for (name, key, field) in
        [("none", "HUB", "name"), ("notional", "NONE", "key"), ("notional", "a\0", "key")]
    {
        let refused = custom.get(&scope("a"), name, key, now).await.unwrap_err();
        assert_eq!((refused.code(), refused.field()), (codes::NOT_FOUND, Some(field)), "{name} {key:?}");
    }
}

#[tokio::test]
async fn what_fails_is_a_dead_letter_and_stops_nothing() {
    let failing = format!(
        "{DECLARED}[[projections]]\nname = \"wrong\"\nfrom = \"price\"\nfields = {{ a = \"event.price + 'x'\" }}"
    );
    let mut desk = desk(&failing);
    desk.send("a", &tick(1, 1.0, 20.0)).await.unwrap();
    let totals = desk.run().await;
    assert_eq!(told(&desk, "a", "notional", 0).await.len(), 1);
    assert_eq!(totals["custom_ticks"].dead_lettered, 1);
    let letters = desk.service().letters().clone();
    let (found, _) = letters.list(&scope("a"), "projection", None, 10).await.unwrap();
    assert_eq!((found.len(), found[0].letter.code.as_str()), (1, "EXPRESSION_FAILED"));
    assert!(found[0].letter.reason.starts_with("projection `wrong`, `a`:"), "{}", found[0].letter.reason);
    let refused = letters.replay(&scope("a"), &found[0].id, Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert_eq!(refused.code(), codes::CONFLICT);
    assert_eq!(desk.events(topics::ENRICHED_TICKS).await.len(), 1, "no trade counts twice");
}

#[tokio::test]
async fn a_rebuild_makes_what_is_declared_now() {
    let mut desk = desk(DECLARED);
    for (number, minute) in [(1, 0.0), (2, 6.0), (3, 20.0), (4, 3.0)] {
        desk.send("a", &tick(number, minute, 10.0 + minute)).await.unwrap();
    }
    desk.run().await;
    let all = async |desk: &Desk| {
        let mut all = Vec::new();
        for name in ["notional", "spread", "range"] {
            all.extend(told(desk, "a", name, 0).await);
        }
        all
    };
    let live = all(&desk).await;
    assert_eq!(live.len(), 2);
    let again = async |desk: &Desk| {
        let clock: Arc<dyn Clock> = desk.clock.clone();
        rebuild(desk.log.as_ref(), &desk.records, &desk.rules, &clock).await.unwrap()
    };
    assert_eq!(again(&desk).await, Rebuilt::default(), "everything is there");
    desk.records = Arc::new(MemoryRecords::new());
    assert_eq!(again(&desk).await.kept, 2);
    assert_eq!(all(&desk).await, live);

    // Declared otherwise, it begins anew, until it is made again.
    let changed = DECLARED.replace("event.price * event.volume", "event.volume");
    let settings: MarketSettings = toml::from_str(&changed).unwrap();
    desk.rules = Arc::new(settings.rules().unwrap());
    assert_eq!(told(&desk, "a", "notional", 0).await, []);
    assert_eq!(again(&desk).await, Rebuilt { kept: 1, removed: 1, ..Rebuilt::default() });
    assert_eq!(told(&desk, "a", "notional", 0).await, one("HUB", json!({"amount": 2.0, "price": 30.0})));

    // Of whom nothing is in the topics any more, and where nothing is declared any more, nothing stays.
    let gone = Kept { definition: "other".to_owned(), ..made("gone", 1) };
    Keeping::new(Arc::clone(&desk.records), Arc::clone(&desk.rules), desk.clock.clone(), MOST_KEYS)
        .keep(&scope("gone"), vec![gone])
        .await
        .unwrap();
    assert_eq!(again(&desk).await, Rebuilt { removed: 1, ..Rebuilt::default() });
    desk.rules = Arc::new(MarketSettings::default().rules().unwrap());
    assert_eq!(again(&desk).await, Rebuilt { removed: 2, ..Rebuilt::default() });
    for tenant in ["a", "gone"] {
        assert_eq!((keys(&desk, tenant).await, counted(&desk, tenant).await), (0, 0), "{tenant}");
    }
}

/// The projection of which [`made`] makes values.
const OF_MADE: &str = r#"
    [[projections]]
    name = "x"
    from = "price"
    fields = { price = "event.price" }
"#;

static RULES_OF_MADE: LazyLock<Arc<Rules>> =
    LazyLock::new(|| Arc::new(toml::from_str::<MarketSettings>(OF_MADE).unwrap().rules().unwrap()));

fn made(key: &str, occurred_us: i64) -> Kept {
    Kept {
        projection: "x".to_owned(),
        definition: RULES_OF_MADE.projections.named("x").unwrap().1.to_owned(),
        key: key.to_owned(),
        instrument_id: String::new(),
        data: Map::new(),
        occurred_us,
        sequence: 0,
        id: String::new(),
        told_us: 0,
        ends_ms: None,
        changed_ms: 0,
    }
}

async fn all_kept(desk: &Desk, tenant: &str) -> Vec<Kept> {
    let kept: Repository<Kept> = Repository::new(Arc::clone(&desk.records));
    let all = kept.list_all(&scope(tenant), Query::new(Selection::All, 100)).await.unwrap();
    all.into_iter().map(|found| found.document).collect()
}

async fn keys(desk: &Desk, tenant: &str) -> u64 {
    all_kept(desk, tenant).await.len() as u64
}

/// As many keys as the counts of a tenant say.
async fn counted(desk: &Desk, tenant: &str) -> u64 {
    let counts: Repository<Count> = Repository::new(Arc::clone(&desk.records));
    let all = counts.list_all(&scope(tenant), Query::new(Selection::All, 100)).await.unwrap();
    all.iter().map(|found| found.document.keys).sum()
}

#[tokio::test]
async fn a_rebuild_says_of_each_value_when_it_was_written() {
    /// A clock that goes on with each look.
    #[derive(Debug)]
    struct Going(ManualClock);
    impl Clock for Going {
        fn now(&self) -> Timestamp {
            self.0.advance(Duration::from_secs(1));
            self.0.now()
        }

        fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
    }
    let mut desk = desk(DECLARED);
    desk.send("a", &tick(1, 1.0, 20.0)).await.unwrap();
    desk.send("b", &tick(1, 1.0, 20.0)).await.unwrap();
    desk.run().await;
    desk.records = Arc::new(MemoryRecords::new());
    let clock: Arc<dyn Clock> = Arc::new(Going(ManualClock::at(Timestamp::UNIX_EPOCH)));
    rebuild(desk.log.as_ref(), &desk.records, &desk.rules, &clock).await.unwrap();
    let written = [all_kept(&desk, "a").await.remove(0), all_kept(&desk, "b").await.remove(0)];
    assert_ne!(written[0].changed_ms, written[1].changed_ms, "each with its commit");
}

#[tokio::test]
async fn what_is_past_its_time_is_taken_away_and_not_made_again() {
    let mut desk = desk(DECLARED);
    desk.clock.advance(Duration::from_millis(crate::tests::START_MS.unsigned_abs()));
    for (number, minute) in [(1, 0.0), (2, 20.0)] {
        desk.send("a", &tick(number, minute, 10.0 + minute)).await.unwrap();
    }
    desk.run().await;
    let sweeper = |desk: &Desk| {
        Sweeper::new(Arc::clone(&desk.records), Arc::clone(&desk.rules), Arc::clone(&desk.clock) as _)
    };
    assert_eq!((keys(&desk, "a").await, counted(&desk, "a").await), (2, 2), "the trade and the range");
    assert_eq!(sweeper(&desk).sweep().await.unwrap(), 0);

    // Declared to last longer after all, it stays for that long; the bar ended after five minutes.
    desk.clock.advance(Duration::from_secs(300 + 3_600));
    let longer: MarketSettings = toml::from_str(&DECLARED.replace("3600", "7200")).unwrap();
    let before = std::mem::replace(&mut desk.rules, Arc::new(longer.rules().unwrap()));
    assert_eq!(sweeper(&desk).sweep().await.unwrap(), 0);
    assert_eq!(told(&desk, "a", "range", 66).await.len(), 1);
    desk.rules = before;
    assert_eq!(sweeper(&desk).sweep().await.unwrap(), 0, "it is noted to end later");
    desk.clock.advance(Duration::from_secs(3_600));
    assert_eq!(sweeper(&desk).sweep().await.unwrap(), 1);
    assert_eq!((keys(&desk, "a").await, counted(&desk, "a").await), (1, 1));

    let clock: Arc<dyn Clock> = desk.clock.clone();
    let done = rebuild(desk.log.as_ref(), &desk.records, &desk.rules, &clock).await.unwrap();
    assert_eq!(done, Rebuilt::default(), "it would say nothing");
    assert_eq!(keys(&desk, "a").await, 1);
}

#[tokio::test]
async fn what_is_past_its_time_goes_with_a_rebuild_whatever_was_declared_before() {
    let mut desk = desk(&DECLARED.replace("ttl_seconds = 3600", ""));
    for (number, minute) in [(1, 0.0), (2, 20.0)] {
        desk.send("a", &tick(number, minute, 10.0 + minute)).await.unwrap();
    }
    desk.run().await;
    assert_eq!(keys(&desk, "a").await, 2);
    desk.clock.advance(Duration::from_millis(crate::tests::START_MS.unsigned_abs() + 86_400_000));
    let settings: MarketSettings = toml::from_str(DECLARED).unwrap();
    desk.rules = Arc::new(settings.rules().unwrap());
    let clock: Arc<dyn Clock> = desk.clock.clone();
    let done = rebuild(desk.log.as_ref(), &desk.records, &desk.rules, &clock).await.unwrap();
    assert_eq!(done, Rebuilt { ended: 1, ..Rebuilt::default() });
    assert_eq!(keys(&desk, "a").await, 1);
}

#[tokio::test]
async fn what_lives_at_a_rebuild_is_noted_to_end_by_the_declaration_of_now() {
    let mut desk = desk(&DECLARED.replace("ttl_seconds = 3600", ""));
    desk.clock.advance(Duration::from_millis(crate::tests::START_MS.unsigned_abs()));
    for (number, minute) in [(1, 0.0), (2, 20.0)] {
        desk.send("a", &tick(number, minute, 10.0 + minute)).await.unwrap();
    }
    desk.run().await;
    assert!(all_kept(&desk, "a").await.iter().all(|kept| kept.ends_ms.is_none()));
    let settings: MarketSettings = toml::from_str(DECLARED).unwrap();
    desk.rules = Arc::new(settings.rules().unwrap());
    let clock: Arc<dyn Clock> = desk.clock.clone();
    let done = rebuild(desk.log.as_ref(), &desk.records, &desk.rules, &clock).await.unwrap();
    assert_eq!((done, keys(&desk, "a").await), (Rebuilt::default(), 2));
    desk.clock.advance(Duration::from_secs(300 + 3_600));
    let sweeper = Sweeper::new(Arc::clone(&desk.records), Arc::clone(&desk.rules), clock);
    assert_eq!(sweeper.sweep().await.unwrap(), 1);
    assert_eq!((keys(&desk, "a").await, counted(&desk, "a").await), (1, 1));
}

#[tokio::test]
async fn what_was_made_for_a_declaration_of_before_is_not_kept_when_it_is_delivered_again() {
    let mut desk = desk(DECLARED);
    desk.send("a", &tick(1, 1.0, 20.0)).await.unwrap();
    desk.run().await;
    let changed = DECLARED.replace("event.price * event.volume", "event.volume");
    let settings: MarketSettings = toml::from_str(&changed).unwrap();
    desk.rules = Arc::new(settings.rules().unwrap());
    let clock: Arc<dyn Clock> = desk.clock.clone();
    let done = rebuild(desk.log.as_ref(), &desk.records, &desk.rules, &clock).await.unwrap();
    assert_eq!(done, Rebuilt { kept: 1, removed: 1, ..Rebuilt::default() });
    // Each stage is opened anew.
    desk.run().await;
    assert_eq!((keys(&desk, "a").await, counted(&desk, "a").await), (1, 1));
    assert_eq!(told(&desk, "a", "notional", 0).await, one("HUB", json!({"amount": 2.0, "price": 20.0})));
}

fn sink(desk: &Desk, most_keys: u64) -> CustomSink {
    let (log, records) = (Arc::clone(&desk.log), Arc::clone(&desk.records));
    CustomSink::new(log, records, Arc::clone(&desk.rules), desk.clock.clone()).with_most_keys(most_keys)
}

fn output(tenant: &str, kept: &Kept) -> Output {
    let data = serde_json::value::to_raw_value(kept).unwrap();
    let (tenant, id) = (scope(tenant).tenant().clone(), format!("e-{}-{}", kept.key, kept.occurred_us));
    let source = "/watershed/stream/custom_ticks/1";
    let event = Event::new(&tenant, id, source, kinds::CUSTOM, Timestamp::UNIX_EPOCH);
    Output { topic: KEPT, event: Event { data: Some(data.into()), ..event } }
}

#[tokio::test]
async fn keys_have_a_bound_and_what_is_beyond_it_is_a_dead_letter() {
    let desk = desk(OF_MADE);
    let refused = Counter::default();
    let sink = sink(&desk, 3).counting(refused.clone());
    let outputs: Vec<Output> = ["1", "2", "3", "4", "5"].map(|key| output("a", &made(key, 1))).into();
    for _ in 0..2 {
        sink.deliver(outputs.clone()).await.unwrap();
    }
    assert_eq!((keys(&desk, "a").await, counted(&desk, "a").await), (3, 3));
    let letters = desk.events(topics::DEAD_PROJECTION).await;
    assert_eq!(letters.len(), 2, "the same ones when they are delivered again");
    assert_eq!(refused.get(), 4, "two, twice");
    let letter: Letter = letters[0].data_as().unwrap();
    assert_eq!((letter.code.as_str(), letter.topology.as_str()), (TOO_MANY_KEYS, "custom_ticks"));
    // Those that are there go on, and so do other tenants.
    sink.deliver(vec![output("a", &made("2", 9)), output("b", &made("5", 1))]).await.unwrap();
    assert!(all_kept(&desk, "a").await.iter().any(|kept| kept.occurred_us == 9));
    assert_eq!(keys(&desk, "b").await, 1);
    assert_eq!(desk.events(topics::DEAD_PROJECTION).await.len(), 2);
}

#[tokio::test]
async fn what_is_past_its_time_makes_room_whoever_else_writes() {
    let mut desk = desk(&format!("{OF_MADE}ttl_seconds = 2\n"));
    desk.records = Arc::new(Yielding::default());
    let sweeper =
        Sweeper::new(Arc::clone(&desk.records), Arc::clone(&desk.rules), Arc::clone(&desk.clock) as _);
    // As many as live at a time.
    let (one, two) = (sink(&desk, 12), sink(&desk, 12));
    for second in 0..30_i64 {
        let outputs = |name: &str| {
            let key = |number: i64| format!("{name}-{second}-{number}");
            let now = |key: String| Kept { told_us: second * 1_000_000, ..made(&key, second) };
            (0..3).map(|number| output("a", &now(key(number)))).collect::<Vec<_>>()
        };
        let delivered = tokio::join!(one.deliver(outputs("one")), two.deliver(outputs("two")));
        assert!(delivered.0.is_ok() && delivered.1.is_ok(), "{delivered:?}");
        desk.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(desk.events(topics::DEAD_PROJECTION).await.len(), 0, "nothing was refused");
    // A sweep comes through beside who writes all the while.
    desk.clock.advance(Duration::from_secs(10));
    let written = async {
        for number in 0..8 {
            let kept = Kept { told_us: 40_000_000, ..made(&format!("late-{number}"), 40) };
            one.deliver(vec![output("a", &kept)]).await.unwrap();
        }
    };
    let (swept, ()) = tokio::join!(sweeper.sweep(), written);
    swept.unwrap();
    assert!(all_kept(&desk, "a").await.iter().all(|kept| kept.occurred_us == 40));
    assert_eq!((keys(&desk, "a").await, counted(&desk, "a").await), (8, 8));
}

/// Records in which others come between a read and what follows it.
#[derive(Debug, Default)]
struct Yielding(MemoryRecords);

#[async_trait]
impl Records for Yielding {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        let found = self.0.get(scope, table, key).await;
        tokio::task::yield_now().await;
        found
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        self.0.list(scope, table, query).await
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        tokio::task::yield_now().await;
        self.0.commit(scope, writes).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        self.0.erase(scope).await
    }
}

/// A value of one of three keys that happened at one of a few times.
fn value() -> impl Strategy<Value = Kept> {
    (0..3_u8, 0..4_i64, 0..3_u64, 0..3_u8).prop_map(|(key, occurred_us, sequence, id)| Kept {
        sequence,
        id: id.to_string(),
        ..made(&key.to_string(), occurred_us)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Two processes deliver the same things in batches of their own, some of them twice, at the same time.
    #[test]
    fn what_is_kept_is_the_newest(
        one in prop::collection::vec(prop::collection::vec(value(), 1..5), 1..6),
        two in prop::collection::vec(prop::collection::vec(value(), 1..5), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let records: Arc<dyn Records> = Arc::new(Yielding::default());
            let log: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(1));
            let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
            let tenant = scope("a").tenant().clone();
            let rules = || RULES_OF_MADE.clone();
            let sink = || CustomSink::new(Arc::clone(&log), Arc::clone(&records), rules(), clock.clone());
            let output = |kept: &Kept| {
                let data = serde_json::value::to_raw_value(kept).unwrap();
                let event = kernel::Event::new(&tenant, "e", "/test", kinds::CUSTOM, Timestamp::UNIX_EPOCH);
                Output { topic: KEPT, event: kernel::Event { data: Some(data.into()), ..event } }
            };
            let deliver = async |batches: &[Vec<Kept>]| {
                let sink = sink();
                for batch in batches {
                    sink.deliver(batch.iter().map(output).collect()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            tokio::join!(deliver(&one), deliver(&two));
            deliver(&one[..1]).await;
            let mut newest: BTreeMap<&str, (i64, u64, &str)> = BTreeMap::new();
            for kept in one.iter().chain(&two).flatten() {
                let best = newest.entry(&kept.key).or_insert_with(|| kept.order());
                *best = kept.order().max(*best);
            }
            let kept: Repository<Kept> = Repository::new(Arc::clone(&records));
            let all = kept.list_all(&scope("a"), Query::new(Selection::All, 100)).await.unwrap();
            let found: BTreeMap<&str, (i64, u64, &str)> =
                all.iter().map(|kept| (kept.document.key.as_str(), kept.document.order())).collect();
            assert_eq!(found, newest);
            let counts: Repository<Count> = Repository::new(Arc::clone(&records));
            let counts = counts.list_all(&scope("a"), Query::new(Selection::All, 100)).await.unwrap();
            assert_eq!(counts[0].document.keys, newest.len() as u64, "keys are counted exactly");
        });
    }
}
