//! The stages together, over engines in memory: what comes in is what goes out, whatever happens on the way.

pub(crate) mod meddled;

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Event, EventDraft, ManualClock, Scope, TenantId, Timestamp};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use store::memory::{MemoryColumns, MemoryEventLog, MemoryRecords};
use store::{ColumnScan, Columns, EventLog, MAX_TIME_NS, ReadLimit, Records, TimeRange, Topic};
use stream::{
    Fold, Letter, LogSource, PLACE, Punctuation, Sink, Source, Step, Task, TaskParts, TaskSettings, Totals,
    replay,
};

use crate::custom::CustomSink;
use crate::events::{RECEIVED_AT, TickMessage, kinds, topics};
use crate::owner::{BrokerTicks, complete};
use crate::projection::{PRICES, ProjectionSink, rebuild};
use crate::service::curves::{CURVE_QUOTES, QuoteSet, TenorQuote};
use crate::service::{BarQuestion, BarState, Service, ToldBar};
use crate::topology::{self, BAR_KINDS, CUSTOM, RAW_TICKS};
use crate::views::MarketViews;
use crate::{MarketSettings, Rules};

pub(crate) const START_MS: i64 = 1_704_067_200_000; // 2024-01-01
pub(crate) const MINUTE_MS: i64 = 60_000;

/// All stages of one process.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) columns: Arc<dyn Columns>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) views: Arc<MarketViews>,
    /// When what projections keep is written.
    pub(crate) clock: Arc<ManualClock>,
    seen: BTreeMap<(String, u32), u64>,
}

pub(crate) fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

impl Desk {
    pub(crate) fn new(partitions: u32, settings: &MarketSettings) -> Self {
        let rules = Arc::new(settings.rules().unwrap());
        Self {
            log: Arc::new(MemoryEventLog::new(partitions)),
            records: Arc::new(MemoryRecords::new()),
            columns: Arc::new(MemoryColumns::default()),
            views: Arc::new(MarketViews::new(Arc::clone(&rules))),
            rules,
            clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)),
            seen: BTreeMap::new(),
        }
    }

    /// The same engines, for who looks on.
    pub(crate) fn beside(&self) -> Self {
        Self {
            log: Arc::clone(&self.log),
            records: Arc::clone(&self.records),
            columns: Arc::clone(&self.columns),
            rules: Arc::clone(&self.rules),
            views: Arc::clone(&self.views),
            clock: Arc::clone(&self.clock),
            seen: self.seen.clone(),
        }
    }

    /// A message as the edge appends it, at a time after everything that the tests tell of.
    pub(crate) async fn send(&self, tenant: &str, message: &Value) -> kernel::Result<()> {
        self.send_by(tenant, message, None).await
    }

    /// With a key of its own, which chooses the partition.
    pub(crate) async fn send_by(
        &self,
        tenant: &str,
        message: &Value,
        key: Option<&str>,
    ) -> kernel::Result<()> {
        let now = Timestamp::from_millisecond(START_MS + 1_000 * MINUTE_MS).unwrap();
        self.send_at(tenant, message, key, now).await
    }

    /// And at a time.
    pub(crate) async fn send_at(
        &self,
        tenant: &str,
        message: &Value,
        key: Option<&str>,
        now: Timestamp,
    ) -> kernel::Result<()> {
        let scope = scope(tenant);
        let text = message.to_string();
        let draft = EventDraft {
            specversion: Some("1.0".to_owned()),
            id: Some(blake3::hash(text.as_bytes()).to_string()),
            source: Some("/test".to_owned()),
            kind: Some(kinds::RAW_TICK.to_owned()),
            data: Some(RawValue::from_string(text).unwrap()),
            ..EventDraft::default()
        };
        let mut event = draft.seal(&scope, now).unwrap();
        event.partition_key = key.map(str::to_owned);
        complete(&self.rules, &scope, &mut event, now)?;
        assert!(event.extensions.contains_key(RECEIVED_AT));
        self.log.append(&scope, &RAW_TICKS, vec![event]).await.map(drop)
    }

    /// Every stage to the end of its topic, each opened anew; what became of the events, by stage.
    pub(crate) async fn run(&mut self) -> BTreeMap<String, Totals> {
        let mut all = BTreeMap::new();
        let stages = topology::all(&self.rules).unwrap().into_iter();
        for stage in stages.chain(topology::custom(&self.rules).unwrap()) {
            let stage = Arc::new(stage);
            let (log, columns) = (Arc::clone(&self.log), Arc::clone(&self.columns));
            let sink: Arc<dyn Sink> = if stage.name().starts_with(CUSTOM) {
                let (records, rules) = (Arc::clone(&self.records), Arc::clone(&self.rules));
                Arc::new(CustomSink::new(log, records, rules, Arc::clone(&self.clock) as _))
            } else {
                Arc::new(ProjectionSink::new(log, columns))
            };
            let parts = TaskParts {
                source: Arc::new(LogSource::new(Arc::clone(&self.log), stage.input().clone())),
                sink,
                records: Arc::clone(&self.records),
            };
            let mut sum = Totals::default();
            for extent in self.log.extents(stage.input()).await.unwrap() {
                let batch = ReadLimit { events: 3, ..ReadLimit::default() };
                let settings = TaskSettings { batch, ..TaskSettings::default() };
                let mut task =
                    Task::open(Arc::clone(&stage), parts.clone(), extent.partition, settings).await.unwrap();
                while let Step::Took(_) = task.step().await.unwrap() {}
                let totals = task.totals();
                let accounted = totals.passed + totals.duplicates + totals.dead_lettered + totals.filtered;
                assert_eq!(totals.taken, accounted, "{}: {totals:?}", stage.name());
                sum.taken += totals.taken;
                sum.passed += totals.passed;
                sum.duplicates += totals.duplicates;
                sum.dead_lettered += totals.dead_lettered;
                sum.filtered += totals.filtered;
            }
            all.insert(stage.name().to_owned(), sum);
        }
        self.follow().await;
        all
    }

    async fn follow(&mut self) {
        let topic = Topic::fixed(topics::ENRICHED_TICKS);
        for extent in self.log.extents(&topic).await.unwrap() {
            let next = self.seen.entry((topic.as_str().to_owned(), extent.partition)).or_default();
            let batch = self.log.read(&topic, extent.partition, *next, all()).await.unwrap();
            *next += batch.len() as u64;
            assert!(self.views.apply(extent.partition, &batch).is_empty());
        }
    }

    pub(crate) async fn events(&self, topic: &'static str) -> Vec<Event> {
        let topic = Topic::fixed(topic);
        let mut events = Vec::new();
        for extent in self.log.extents(&topic).await.unwrap() {
            let found = self.log.read(&topic, extent.partition, 0, all()).await.unwrap();
            events.extend(found.into_iter().map(|stored| stored.event));
        }
        events
    }

    pub(crate) fn service(&self) -> Service {
        let (rules, views) = (Arc::clone(&self.rules), Arc::clone(&self.views));
        Service::new(rules, views, Arc::clone(&self.columns), Arc::clone(&self.log))
    }

    async fn bars(&self, tenant: &str, kind: usize) -> Vec<ToldBar> {
        let question = BarQuestion {
            instrument: "HUB".to_owned(),
            interval: BAR_KINDS[kind].interval,
            from: Timestamp::from_millisecond(START_MS).unwrap(),
            to: Timestamp::from_millisecond(START_MS + 1_440 * MINUTE_MS).unwrap(),
            market: None,
            limit: 1_000,
            has_gaps: false,
            downsample: None,
        };
        self.service().bars(&scope(tenant), &question).await.unwrap().bars
    }
}

pub(crate) fn all() -> ReadLimit {
    ReadLimit { events: usize::MAX, bytes: usize::MAX }
}

pub(crate) fn tick(sequence: u64, minute: f64, price: impl Into<Value>) -> Value {
    let time_us = (START_MS as f64 * 1_000.0 + minute * 60e6) as i64;
    json!({
        "source_system": "feed", "market": "pjm", "symbol": "HUB", "sequence": sequence, "timestamp": time_us,
        "price": price.into(), "volume": 2
    })
}

fn shown(bars: &[ToldBar]) -> Vec<(i64, f64, u64, Option<u32>, BarState)> {
    let line = |bar: &ToldBar| {
        let values = bar.values.unwrap();
        let minute = (bar.start_us / 1_000 - START_MS) / MINUTE_MS;
        (minute, values.close, values.trade_count, bar.revision, bar.state)
    };
    bars.iter().map(line).collect()
}

#[tokio::test]
async fn ticks_become_prices_and_bars_and_late_ones_revise_them() {
    let mut desk = Desk::new(2, &MarketSettings::default());
    for (sequence, minute, price) in [(1, 0.5, 30.0), (2, 1.5, -36.98), (3, 6.0, 31.0)] {
        desk.send("desk", &tick(sequence, minute, price)).await.unwrap();
    }
    desk.send("other", &tick(1, 2.0, 99.0)).await.unwrap();
    desk.run().await;
    let open = BarState::Open;
    assert_eq!(shown(&desk.bars("desk", 0).await), [(0, -36.98, 2, None, open), (5, 31.0, 1, None, open)]);
    assert_eq!(desk.service().price(&scope("desk"), "HUB").unwrap().price.price, 31.0);
    assert_eq!(desk.service().price(&scope("other"), "HUB").unwrap().price.price, 99.0);
    assert!(desk.service().price(&scope("third"), "HUB").is_err());
    let as_of = Timestamp::from_millisecond(START_MS + 2 * MINUTE_MS).unwrap();
    let then = desk.service().price_as_of(&scope("desk"), "HUB", as_of).await.unwrap();
    assert_eq!((then.price.price, then.price.market.as_str(), then.price.sequence), (-36.98, "PJM", Some(2)));

    // Five minutes of delay: the first bar is told.
    desk.send("desk", &tick(4, 10.5, 32.0)).await.unwrap();
    desk.run().await;
    let closed = BarState::Closed;
    assert_eq!(shown(&desk.bars("desk", 0).await)[0], (0, -36.98, 2, Some(0), closed));
    // A late one revises it.
    desk.send("desk", &tick(5, 1.75, 29.0)).await.unwrap();
    desk.run().await;
    let bars = desk.bars("desk", 0).await;
    assert_eq!(shown(&bars)[0], (0, 29.0, 3, Some(1), closed));
    assert_eq!((bars[0].market.as_str(), bars[0].values.unwrap().low), ("PJM", -36.98));
    assert_eq!(shown(&desk.bars("desk", 1).await), [(0, 32.0, 5, None, open)]);
    assert_eq!(shown(&desk.bars("other", 2).await), [(0, 99.0, 1, None, open)]);
    // The newest price is by event time, not by arrival.
    assert_eq!(desk.service().price(&scope("desk"), "HUB").unwrap().price.price, 32.0);
    let told = desk.events(topics::LATEST_PRICES).await;
    assert_eq!(told.iter().filter(|event| event.tenant.as_str() == "desk").count(), 4);
}

#[tokio::test]
async fn what_stages_hand_on_in_memory_is_what_its_json_says() {
    let mut desk = Desk::new(2, &MarketSettings::default());
    let prices =
        [json!(30.1), json!(-36.98), json!(0), json!(-0.0), json!("31.50"), json!(1e-7), json!(12_345.678_9)];
    for (number, price) in (1..).zip(&prices) {
        desk.send("desk", &tick(number, number as f64, price.clone())).await.unwrap();
    }
    let mut odd = tick(90, 9.5, 31.0);
    odd["symbol"] = json!("NÖRD \"HUB\" of a name that is longer than what is kept in place");
    odd["metadata"] = json!({"node": "x", "depth": [1, 2.50, null]});
    odd["bid"] = json!(30.9);
    odd["trace_id"] = json!("t-1");
    odd.as_object_mut().unwrap().remove("volume");
    desk.send("desk", &odd).await.unwrap();
    desk.run().await;
    for topic in [topics::NORMALISED_TICKS, topics::ENRICHED_TICKS] {
        let events = desk.events(topic).await;
        assert_eq!(events.len(), prices.len() + 1, "{topic}");
        for event in events {
            let handed: Arc<TickMessage> = event.shared_data_as().unwrap();
            let read: TickMessage = event.data_as().unwrap();
            assert_eq!(format!("{handed:?}"), format!("{read:?}"));
            assert!(Arc::ptr_eq(&handed, &event.shared_data_as().unwrap()));
        }
    }
}

#[tokio::test]
async fn what_comes_in_is_passed_on_dropped_as_known_or_a_dead_letter() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    for sequence in 0..40 {
        desk.send("desk", &tick(sequence, 0.1 * sequence as f64, 30.0 + sequence as f64)).await.unwrap();
    }
    // Twice, with another envelope around it.
    let again = json!({"envelope": {"event_id": "e7", "tenant_id": "desk", "source": "x"}, "payload": tick(7, 0.7, 37.0)});
    desk.send("desk", &again).await.unwrap();
    for (sequence, bad) in [(100, json!("NaN")), (101, json!("Infinity")), (102, json!(true))] {
        desk.send("desk", &tick(sequence, 1.0, bad)).await.unwrap();
    }
    // A year ahead: refused, and the watermark stays.
    desk.send("desk", &tick(103, 525_600.0, 30.0)).await.unwrap();
    let quote = json!({"source_system": "feed", "symbol": "HUB", "sequence": 104, "timestamp": START_MS, "bid": 1, "ask": 2});
    desk.send("desk", &quote).await.unwrap();
    let elsewhere = json!({"tenant_id": "other", "source_system": "feed", "symbol": "HUB", "timestamp": START_MS, "price": 1});
    assert_eq!(desk.send("desk", &elsewhere).await.unwrap_err().code(), kernel::codes::TENANT_MISMATCH);
    let totals = desk.run().await;
    let first = totals["normalization"];
    assert_eq!((first.taken, first.passed, first.duplicates, first.dead_lettered), (46, 41, 1, 4));
    assert_eq!((totals["enrichment"].passed, totals["aggregation"].filtered), (41, 1));
    let letters = desk.events(topics::DEAD_TICKS).await;
    let codes: Vec<String> = letters.iter().map(|letter| letter.data_as::<Letter>().unwrap().code).collect();
    assert_eq!(codes, ["NOT_FINITE", "NOT_FINITE", "WRONG_TYPE", "FROM_THE_FUTURE"]);
    assert_eq!(desk.service().price(&scope("desk"), "HUB").unwrap().quote.unwrap().bid, Some(1.0));

    // Once the mapping is mended, a letter is replayed.
    desk.rules = Arc::new(
        toml::from_str::<MarketSettings>("[mapping]\nprice = [\"volume\"]\nvolume = []")
            .unwrap()
            .rules()
            .unwrap(),
    );
    replay(&scope("desk"), desk.log.as_ref(), &letters[2], Timestamp::UNIX_EPOCH).await.unwrap();
    let totals = desk.run().await;
    assert_eq!((totals["normalization"].taken, totals["normalization"].passed), (47, 42));
}

#[tokio::test]
async fn what_the_clock_closed_is_closed_for_the_view_too() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    desk.send("desk", &tick(1, 0.5, 30.0)).await.unwrap();
    desk.run().await;
    let tenant = TenantId::new("desk").unwrap();
    let now_ms = START_MS + 5_000 * MINUTE_MS;
    let event = Punctuation { partition: 0, now_ms, is_idle: true }.event(&tenant, "k").unwrap();
    desk.log.append(&scope("desk"), &Topic::fixed(topics::ENRICHED_TICKS), vec![event]).await.unwrap();
    desk.run().await;
    assert_eq!(shown(&desk.bars("desk", 2).await), [(0, 30.0, 1, Some(0), BarState::Closed)]);
    desk.send("desk", &tick(2, 0.6, 31.0)).await.unwrap();
    let totals = desk.run().await;
    assert_eq!(totals["aggregation"].dead_lettered, 1);
    assert_eq!(shown(&desk.bars("desk", 0).await), [(0, 30.0, 1, Some(0), BarState::Closed)]);
    assert_eq!(desk.service().price(&scope("desk"), "HUB").unwrap().price.price, 31.0);
}

#[tokio::test]
async fn rows_and_the_view_are_made_again_from_the_topics() {
    let mut desk = Desk::new(2, &MarketSettings::default());
    for sequence in 0..60 {
        desk.send("desk", &tick(sequence, sequence as f64, 30.0)).await.unwrap();
    }
    desk.run().await;
    let bars = desk.bars("desk", 0).await;
    assert_eq!(bars.len(), 12);
    let other = MarketViews::new(Arc::clone(&desk.rules));
    other.decode(&desk.views.encode()).unwrap();
    assert_eq!(other.encode(), desk.views.encode());
    assert!(other.decode(b"\xff").is_err());
    let before = desk.columns.erase(&scope("desk")).await.unwrap();
    assert_eq!(rebuild(desk.log.as_ref(), desk.columns.as_ref()).await.unwrap(), before);
    assert_eq!(rebuild(desk.log.as_ref(), desk.columns.as_ref()).await.unwrap(), 0);
    assert_eq!(desk.bars("desk", 0).await, bars);
    let range = TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS };
    let page = desk.columns.scan(&scope("desk"), PRICES, &ColumnScan::new("HUB", range, 100)).await.unwrap();
    assert_eq!(page.rows.len(), 60);
}

#[tokio::test]
async fn pages_gaps_and_fewer_lines() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    for (sequence, minute) in [(1, 1.0), (2, 6.0), (3, 21.0), (4, 26.0), (5, 120.0)] {
        desk.send("desk", &tick(sequence, minute, 30.0)).await.unwrap();
    }
    desk.run().await;
    let service = desk.service();
    let at = |minute: i64| Timestamp::from_millisecond(START_MS + minute * MINUTE_MS).unwrap();
    let question = BarQuestion {
        instrument: "HUB".to_owned(),
        interval: BAR_KINDS[0].interval,
        from: at(0),
        to: at(60),
        market: None,
        limit: 3,
        has_gaps: false,
        downsample: None,
    };
    let minutes = |bars: &[ToldBar]| -> Vec<i64> {
        bars.iter().map(|bar| (bar.start_us / 1_000 - START_MS) / MINUTE_MS).collect()
    };
    let scope = scope("desk");
    let first = service.bars(&scope, &question).await.unwrap();
    assert_eq!((minutes(&first.bars), first.next_from_us), (vec![0, 5, 20], Some(at(25).as_microsecond())));
    let next = BarQuestion { from: at(25), ..question.clone() };
    let second = service.bars(&scope, &next).await.unwrap();
    assert_eq!((minutes(&second.bars), second.next_from_us), (vec![25], None));
    let marked = BarQuestion { limit: 10, has_gaps: true, ..question.clone() };
    let marked = service.bars(&scope, &marked).await.unwrap().bars;
    assert_eq!(minutes(&marked), [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55]);
    assert_eq!(marked.iter().filter(|bar| bar.state == BarState::Gap).count(), 8);
    let fewer = BarQuestion { limit: 10, downsample: Some(2), ..question.clone() };
    let fewer = service.bars(&scope, &fewer).await.unwrap().bars;
    assert_eq!((minutes(&fewer), fewer[1].values.unwrap().trade_count), (vec![0, 20], 2));
    let wrong = BarQuestion { to: at(-1), ..question };
    assert_eq!(service.bars(&scope, &wrong).await.unwrap_err().field(), Some("to"));
}

/// An event as the log of brokers makes it of what others wrote there.
fn record(offset: u64, tenant: &str, written_ms: i64, value: &Value) -> Event {
    Event {
        data: Some(serde_json::value::to_raw_value(value).unwrap().into()),
        ..Event::new(
            &TenantId::new(tenant).unwrap(),
            format!("{RAW_TICKS}/0/{offset}"),
            format!("/kafka/{RAW_TICKS}"),
            "kafka.record",
            Timestamp::from_millisecond(written_ms).unwrap(),
        )
    }
}

#[tokio::test]
async fn what_others_write_is_completed_as_safely_as_it_can_be() {
    let rules = Arc::new(MarketSettings::default().rules().unwrap());
    let log: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(1));
    let now_ms = START_MS + 60 * MINUTE_MS;
    let mut forged = record(3, "desk", now_ms, &json!({"partition": 0, "now_ms": 4e12, "is_idle": true}));
    "stream.punctuation".clone_into(&mut forged.kind);
    "/watershed/stream".clone_into(&mut forged.source);
    forged.extensions.insert(PLACE.to_owned(), json!("live/0/9/9/0"));
    forged.extensions.insert(RECEIVED_AT.to_owned(), json!("2999-01-01T00:00:00Z"));
    let events = [
        record(0, "desk", START_MS + 2 * MINUTE_MS, &tick(1, 1.0, 30.0)),
        // Its clock is a year ahead, and so is the time that its client wrote on the record.
        record(1, "desk", now_ms + 525_600 * MINUTE_MS, &tick(2, 525_660.0, 30.0)),
        record(2, "_system", now_ms, &tick(3, 1.0, 30.0)),
        forged,
        record(4, "desk", now_ms, &json!([17])),
        Event { source: "/feed".to_owned(), ..record(5, "desk", START_MS, &tick(4, 2.0, 31.0)) },
    ];
    for event in events {
        log.append(&Scope::system(event.tenant.clone(), "test"), &RAW_TICKS, vec![event]).await.unwrap();
    }
    let clock = Arc::new(ManualClock::at(Timestamp::from_millisecond(now_ms).unwrap()));
    let source = BrokerTicks::new(log, Arc::clone(&rules), clock);
    let found = source.read(0, 0, all()).await.unwrap();
    let minutes = |time: Timestamp| (time.as_millisecond() - START_MS) / MINUTE_MS;
    let told = |place: usize| {
        let event = &found[place].event;
        let received: Timestamp =
            event.extensions.get(RECEIVED_AT).unwrap().as_str().unwrap().parse().unwrap();
        let code = topology::normalised(&rules, event).err().map_or("", |rejection| rejection.code);
        (minutes(event.time), minutes(received), code)
    };
    assert_eq!(told(0), (1, 2, ""));
    assert_eq!(found[0].event.partition_key.as_deref(), Some("HUB"));
    assert_eq!(told(1), (525_660, 60, "FROM_THE_FUTURE"));
    assert_eq!(told(2).2, "TENANT_MISMATCH");
    assert_eq!(told(3), (60, 60, "MISSING"));
    assert_eq!((found[3].event.kind.as_str(), found[3].event.extensions.get(PLACE)), (kinds::RAW_TICK, None));
    assert_eq!(told(4), (60, 60, "MALFORMED"));
    // An event says when it happened and not when it was written: it came when it is read.
    assert_eq!(told(5), (2, 60, ""));
}

#[tokio::test]
async fn a_view_over_brokers_takes_what_comes_again_once() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    for sequence in 0..6 {
        desk.send("desk", &tick(sequence, sequence as f64, 30.0)).await.unwrap();
    }
    desk.run().await;
    let topic = Topic::fixed(topics::ENRICHED_TICKS);
    let mut batch = desk.log.read(&topic, 0, 0, all()).await.unwrap();
    for (place, stored) in batch.iter_mut().enumerate() {
        let text = format!("brokers/0/0/{place}/0");
        stored.event.extensions.insert(PLACE.to_owned(), json!(text));
    }
    let views = MarketViews::over_repeats(Arc::clone(&desk.rules), "other");
    assert!(views.apply(0, &batch).is_empty());
    let other = MarketViews::over_repeats(Arc::clone(&desk.rules), "other");
    other.decode(&views.encode()).unwrap();
    for view in [&views, &other] {
        let before = view.encode();
        assert!(view.apply(0, &batch).is_empty());
        assert_eq!(view.encode(), before);
        let trades = view.of(&TenantId::new("desk").unwrap(), |tenant| {
            let bars = tenant.instrument("HUB").unwrap().open_bars(2);
            bars.iter().map(|bar| bar.partial.finish().trade_count).sum::<u64>()
        });
        assert_eq!(trades, 6);
    }
}

/// The quotes of a line of the Treasury's history; 0.0 is a term that was not issued.
fn treasury_quotes(line: &str) -> (Timestamp, Vec<TenorQuote>) {
    const TENORS: [&str; 11] = ["1m", "3m", "6m", "1y", "2y", "3y", "5y", "7y", "10y", "20y", "30y"];
    let mut cells = line.split(',');
    let day = cells.next().unwrap();
    let rates = TENORS.iter().zip(cells).map(|(tenor, cell)| (tenor, cell.parse::<f64>().unwrap_or(0.0)));
    let quoted = rates.filter(|(_, percent)| *percent != 0.0);
    let quote =
        |(tenor, percent): (&&str, f64)| TenorQuote { tenor: (*tenor).to_owned(), rate: percent / 100.0 };
    (format!("{day}T00:00:00Z").parse().unwrap(), quoted.map(quote).collect())
}

#[tokio::test]
async fn what_was_quoted_is_kept_in_revisions_and_made_again_from_the_log() {
    let desk = Desk::new(2, &MarketSettings::default());
    let (service, owner) = (desk.service(), scope("desk"));
    let now = Timestamp::UNIX_EPOCH;
    let (as_of, quotes) =
        treasury_quotes("2020-03-09,0.57,0.33,0.27,0.31,0.38,0.40,0.46,0.56,0.54,0.87,0.99,0.99");
    let set = QuoteSet { curve: "UST".to_owned(), as_of, frequency: 2, quotes };
    let first = service.quote(&owner, set.clone(), now).await.unwrap();
    assert_eq!(service.quote(&owner, set.clone(), now).await.unwrap(), first, "the same again is the same");
    // Another, and the first one back: each is a revision.
    let mut other = set.clone();
    other.quotes.pop();
    let second = service.quote(&owner, other, now).await.unwrap();
    let third = service.quote(&owner, set.clone(), now).await.unwrap();
    assert!(first.revision < second.revision && second.revision < third.revision);
    let earlier = QuoteSet { as_of: "2020-03-06T00:00:00Z".parse().unwrap(), ..set.clone() };
    service.quote(&owner, earlier.clone(), now).await.unwrap();
    let check = async |time: &str, expected: Option<&QuoteSet>| {
        let found = service.quotes_as_of(&owner, "UST", time.parse().unwrap()).await;
        assert_eq!(found.as_ref().ok().map(|kept| &kept.set), expected, "{time}: {found:?}");
    };
    check("2020-03-09T00:00:00Z", Some(&set)).await;
    check("2020-03-08T23:00:00Z", Some(&earlier)).await;
    check("2020-03-05T00:00:00Z", None).await;
    assert!(service.quotes_as_of(&scope("other"), "UST", as_of).await.is_err(), "another tenant has none");
    let all = (Timestamp::UNIX_EPOCH, "2030-01-01T00:00:00Z".parse().unwrap());
    let (page, cursor) = service.quote_history(&owner, "UST", all, None, 1).await.unwrap();
    assert_eq!(page.iter().map(|kept| &kept.set).collect::<Vec<_>>(), [&set]);
    let (page, _) = service.quote_history(&owner, "UST", all, cursor, 1).await.unwrap();
    assert_eq!(page.iter().map(|kept| &kept.set).collect::<Vec<_>>(), [&earlier]);

    let empty = MemoryColumns::default();
    assert_eq!(rebuild(desk.log.as_ref(), &empty).await.unwrap(), 4);
    let rows = empty.latest(&owner, CURVE_QUOTES, &["UST"], MAX_TIME_NS).await.unwrap();
    assert_eq!(rows, desk.columns.latest(&owner, CURVE_QUOTES, &["UST"], MAX_TIME_NS).await.unwrap());
}

#[tokio::test]
async fn quotes_that_make_no_curve_are_refused() {
    let desk = Desk::new(1, &MarketSettings::default());
    let service = desk.service();
    let check = async |name: &str, frequency: u32, quotes: &[(&str, f64)], field: &str| {
        let quote = |(tenor, rate): &(&str, f64)| TenorQuote { tenor: (*tenor).to_owned(), rate: *rate };
        let set = QuoteSet {
            curve: name.to_owned(),
            as_of: Timestamp::UNIX_EPOCH,
            frequency,
            quotes: quotes.iter().map(quote).collect(),
        };
        let refused = service.quote(&scope("desk"), set, Timestamp::UNIX_EPOCH).await.unwrap_err();
        assert_eq!((refused.code().name, refused.field()), ("VALIDATION_ERROR", Some(field)), "{refused}");
    };
    check("C", 2, &[], "quotes").await;
    check("C", 2, &[("2y", 0.04), ("1y", 0.04)], "quotes").await;
    check("C", 2, &[("1y", f64::NAN)], "quotes").await;
    check("C", 2, &[("1y", 4.0)], "quotes").await;
    check("C", 2, &[("soon", 0.04)], "quotes").await;
    check("C", 0, &[("1y", 0.04)], "frequency").await;
    check("", 2, &[("1y", 0.04)], "name").await;
    assert!(desk.events(topics::CURVE_UPDATES).await.is_empty());
}
