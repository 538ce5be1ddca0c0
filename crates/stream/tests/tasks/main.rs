//! Tasks over engines that work: what is told by one test each and does not need a simulation.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use kernel::{Error, Event, EventDraft, Scope, SystemClock, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{EventLog, Extent, Query, ReadLimit, Records, Retention, Selection, Stored, Table, Topic};
use store_embedded::{EmbeddedStore, Options};
use stream::{
    Backfill, Deduplication, Emission, EventTime, FENCED, HISTORY_GONE, KeyedFold, Letter, LogSink,
    LogSource, Output, Partial, Punctuation, Rejection, Selected, Sink, Source, Step, TOO_FAR_AHEAD, Task,
    TaskParts, TaskSettings, Topology, Windows, backfill, decode, identity, read, replay,
};
use tokio::sync::Semaphore;

mod workers;

const IN: Topic = Topic::fixed("in");
const OUT: Topic = Topic::fixed("out");
const DEAD: Topic = Topic::fixed("dead");
const MINUTE_MS: i64 = 60_000;

struct House {
    log: Arc<dyn EventLog>,
    records: Arc<dyn Records>,
    scope: Scope,
    sent: u64,
}

impl House {
    fn new(partitions: u32) -> Self {
        Self::over(Arc::new(MemoryEventLog::new(partitions)), Arc::new(MemoryRecords::new()))
    }

    fn over(log: Arc<dyn EventLog>, records: Arc<dyn Records>) -> Self {
        Self { log, records, scope: Scope::system(TenantId::new("desk").unwrap(), "test"), sent: 0 }
    }

    fn parts(&self) -> TaskParts {
        TaskParts {
            source: Arc::new(LogSource::new(Arc::clone(&self.log), IN)),
            sink: Arc::new(LogSink::new(Arc::clone(&self.log))),
            records: Arc::clone(&self.records),
        }
    }

    async fn open(&self, topology: &Topology) -> kernel::Result<Task> {
        let batch = ReadLimit { events: 3, ..ReadLimit::default() };
        let settings = TaskSettings { batch, ..TaskSettings::default() };
        Task::open(Arc::new(topology.clone()), self.parts(), 0, settings).await
    }

    /// Sends events: time in minutes, what they are about, a number or anything else.
    async fn send(&mut self, events: &[(i64, &str, &str)]) {
        for (minute, subject, data) in events {
            self.sent += 1;
            let draft = EventDraft {
                specversion: Some("1.0".to_owned()),
                id: Some(format!("e{}", self.sent)),
                source: Some("/feed".to_owned()),
                kind: Some("number".to_owned()),
                subject: Some(*subject).filter(|subject| !subject.is_empty()).map(str::to_owned),
                time: Some(Timestamp::from_millisecond(minute * MINUTE_MS).unwrap().to_string()),
                data: Some(serde_json::value::RawValue::from_string((*data).to_owned()).unwrap()),
                ..EventDraft::default()
            };
            let event = draft.seal(&self.scope, Timestamp::UNIX_EPOCH).unwrap();
            self.log.append(&self.scope, &IN, vec![event]).await.unwrap();
        }
    }

    async fn events(&self, topic: &Topic) -> Vec<Event> {
        let mut events = Vec::new();
        for extent in self.log.extents(topic).await.unwrap() {
            let limit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
            let found = self.log.read(topic, extent.partition, 0, limit).await.unwrap();
            events.extend(found.into_iter().map(|stored| stored.event));
        }
        events
    }

    async fn data(&self, topic: &Topic) -> Vec<String> {
        self.events(topic).await.iter().map(|event| event.data.as_ref().unwrap().get().to_owned()).collect()
    }

    async fn letters(&self) -> Vec<(String, String)> {
        let letters = self.events(&DEAD).await;
        let letters = letters.iter().map(|letter| letter.data_as::<Letter>().unwrap());
        letters.map(|letter| (letter.event_id, letter.code)).collect()
    }
}

async fn finish(task: &mut Task) {
    while let Step::Took(_) = task.step().await.unwrap() {}
}

/// Passes numbers on, each event once.
fn numbers(accepts_text: bool) -> Topology {
    let built = Topology::new("numbers", IN, move || {
        read("decode", |event| Ok(event.clone()))
            .deduplicate("once", Deduplication::default(), |event, key| {
                key.extend_from_slice(identity(event).1.as_bytes());
                None
            })
            .map("number", move |event: Event| match event.data_as::<i64>() {
                Err(_) if accepts_text => Ok((event.time, 0)),
                number => Ok((event.time, number?)),
            })
            .to("out", OUT, |(time, number)| Emission::new("number", *time, number))
    });
    built.unwrap().with_dead_letters(DEAD)
}

#[tokio::test]
async fn dead_letters_are_replayed_once_the_mapping_is_mended() {
    let mut house = House::new(1);
    house.send(&[(0, "a", "1"), (0, "a", "\"two\""), (0, "a", "3")]).await;
    finish(&mut house.open(&numbers(false)).await.unwrap()).await;
    assert_eq!(house.data(&OUT).await, ["1", "3"]);
    assert_eq!(house.letters().await, [("e2".to_owned(), "INVALID_EVENT".to_owned())]);
    let letter = house.events(&DEAD).await.remove(0);
    for minute in [1, 2] {
        // The second time it is a duplicate.
        let now = Timestamp::from_millisecond(minute * MINUTE_MS).unwrap();
        replay(&house.scope, &*house.log, &letter, now).await.unwrap();
    }
    let mut mended = house.open(&numbers(true).with_version(2)).await.unwrap();
    finish(&mut mended).await;
    assert_eq!(house.data(&OUT).await, ["1", "3", "0"]);
    assert_eq!((mended.totals().duplicates, mended.totals().dead_lettered), (1, 1));
    let sources: Vec<_> = house.events(&OUT).await.into_iter().map(|event| event.source).collect();
    assert_eq!(sources[1..], ["/watershed/stream/numbers/1", "/watershed/stream/numbers/2"]);
    let no_letter =
        replay(&house.scope, &*house.log, &house.events(&OUT).await[0], Timestamp::UNIX_EPOCH).await;
    assert_eq!(no_letter.unwrap_err().code(), kernel::codes::VALIDATION_ERROR);
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Total(i64);

impl Partial for Total {
    type Item = (i64, i64);
    type Output = i64;

    fn add(&mut self, _: i64, item: &(i64, i64)) {
        self.0 += item.1;
    }

    fn merge(&mut self, other: Self) {
        self.0 += other.0;
    }

    fn finish(&self) -> i64 {
        self.0
    }
}

/// Sums in windows of ten minutes, changed for five minutes after, with a minute of disorder and an hour ahead.
fn sums() -> Topology {
    let built = Topology::new("sums", IN, || {
        let key = |_: &(i64, i64), key: &mut Vec<u8>| key.push(b'k');
        let windows = Windows::tumbling(10 * MINUTE_MS).with_lateness(5 * MINUTE_MS);
        read("decode", |event| Ok((event.time.as_millisecond(), event.data_as()?)))
            .window::<Total, _>("ten", windows, (key, |item: &(i64, i64)| item.0))
            .to("out", OUT, |result| {
                let said = (result.start_ms / MINUTE_MS, result.revision, result.value);
                Emission::new("sum", Timestamp::UNIX_EPOCH, &said)
            })
    });
    let rule = EventTime { delay_ms: MINUTE_MS, future_limit_ms: Some(60 * MINUTE_MS), believed_run: 3 };
    built.unwrap().with_dead_letters(DEAD).with_event_time(rule)
}

#[tokio::test]
async fn windows_are_revised_and_then_settled() {
    let mut house = House::new(1);
    let mut task = house.open(&sums()).await.unwrap();
    house.send(&[(1, "", "1"), (9, "", "2"), (10, "", "10")]).await;
    finish(&mut task).await;
    assert_eq!(house.data(&OUT).await, [""; 0], "the watermark is at 9");
    let open = task.windows("ten", house.scope.tenant(), b"k");
    let seen: Vec<_> = open
        .iter()
        .map(|window| {
            (window.start_ms / MINUTE_MS, window.revision, decode::<Total>(&window.partial).unwrap().0)
        })
        .collect();
    assert_eq!(seen, [(0, None, 3), (10, None, 10)], "as they stand");
    house
        .send(&[(11, "", "20"), (5, "", "4"), (12, "", "0"), (8, "", "5"), (16, "", "0"), (9, "", "9")])
        .await;
    finish(&mut task).await;
    assert_eq!(house.data(&OUT).await, ["[0,0,3]", "[0,1,7]", "[0,2,12]"]);
    assert_eq!(house.letters().await, [("e9".to_owned(), "LATE".to_owned())]);
}

#[tokio::test]
async fn a_producer_a_year_ahead_moves_nothing() {
    const YEAR: i64 = 365 * 24 * 60;
    let mut house = House::new(1);
    let mut task = house.open(&sums()).await.unwrap();
    house.send(&[(1, "", "1"), (YEAR, "", "2"), (YEAR + 1, "", "2")]).await;
    finish(&mut task).await;
    assert_eq!((task.held(), task.watermarks().next().unwrap().1), (2, 0));
    house.send(&[(2, "", "4")]).await;
    finish(&mut task).await;
    let ahead = |id: &str| (id.to_owned(), TOO_FAR_AHEAD.to_owned());
    assert_eq!((task.held(), house.letters().await), (0, vec![ahead("e2"), ahead("e3")]));

    // A gap that a punctuation marks, and one that nobody marked.
    let tenant = house.scope.tenant().clone();
    for (minute, is_idle) in [(300, true), (600, false)] {
        let punctuation = Punctuation { partition: 0, now_ms: minute * MINUTE_MS, is_idle };
        let event = punctuation.event(&tenant, "any").unwrap();
        house.log.append(&house.scope, &IN, vec![event]).await.unwrap();
    }
    finish(&mut task).await;
    assert_eq!(house.data(&OUT).await, ["[0,0,5]"], "who is silent closes windows");
    house.send(&[(601, "", "8"), (900, "", "1"), (901, "", "1")]).await;
    finish(&mut task).await;
    assert_eq!((task.totals().passed, task.held()), (3, 2));
    house.send(&[(902, "", "1")]).await;
    finish(&mut task).await;
    assert_eq!((task.totals().passed, task.held()), (6, 0));
    assert_eq!(house.data(&OUT).await, ["[0,0,5]", "[600,0,8]"]);
}

#[tokio::test]
async fn who_was_overtaken_can_commit_nothing() {
    let mut house = House::new(1);
    house.send(&[(0, "", "1"), (0, "", "2")]).await;
    let mut sleeper = house.open(&numbers(false)).await.unwrap();
    let mut task = house.open(&numbers(false)).await.unwrap();
    assert_eq!(sleeper.step().await.unwrap_err().code(), FENCED);
    assert_eq!(house.data(&OUT).await, [""; 0]);
    finish(&mut task).await;
    assert_eq!(sleeper.step().await.unwrap_err().code(), FENCED);
    assert_eq!(house.data(&OUT).await, ["1", "2"]);
}

/// A sink that takes as much as it is let.
#[derive(Debug)]
struct Gate {
    sink: Arc<dyn Sink>,
    is_open: Semaphore,
    is_away: AtomicBool,
}

#[async_trait]
impl Sink for Gate {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        self.is_open.acquire().await.unwrap().forget();
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Error::new(codes::UNAVAILABLE, "away"));
        }
        self.sink.deliver(outputs).await
    }
}

#[tokio::test]
async fn what_comes_next_is_applied_while_outputs_are_on_their_way_and_committed_after_it() {
    let mut house = House::new(1);
    let numbers = Arc::new(numbers(false));
    let sink = house.parts().sink;
    let gate = Arc::new(Gate { sink, is_open: Semaphore::new(0), is_away: AtomicBool::new(false) });
    let parts = TaskParts { sink: Arc::clone(&gate) as _, ..house.parts() };
    let batch = ReadLimit { events: 3, ..ReadLimit::default() };
    let settings = TaskSettings { batch, ..TaskSettings::default() };
    let mut task = Task::open(Arc::clone(&numbers), parts.clone(), 0, settings.clone()).await.unwrap();
    let committed = async || Task::look(&numbers, &parts.records, &settings, 0).await.unwrap().unwrap().0;

    house.send(&(1..=6).map(|_| (0, "", "1")).collect::<Vec<_>>()).await;
    assert_eq!(task.step_ahead().await.unwrap(), Step::Took(3));
    assert!(task.step_ahead().now_or_never().is_none(), "it waits for the outputs of the first commit");
    assert_eq!((task.next_offset(), committed().await, house.data(&OUT).await.len()), (6, 3, 0));
    gate.is_open.add_permits(1);
    assert_eq!(task.step_ahead().await.unwrap(), Step::Took(3));
    assert_eq!((committed().await, house.data(&OUT).await.len()), (6, 3));

    house.send(&[(0, "", "1")]).await;
    gate.is_away.store(true, Ordering::Relaxed);
    gate.is_open.add_permits(1);
    assert_eq!(task.step_ahead().await.unwrap_err().code(), codes::UNAVAILABLE);
    assert_eq!(committed().await, 6);
    gate.is_away.store(false, Ordering::Relaxed);
    gate.is_open.add_permits(2);
    assert_eq!(task.step_ahead().await.unwrap(), Step::Took(1));
    task.settle().await.unwrap();
    assert_eq!((committed().await, house.data(&OUT).await.len()), (7, 7));
    assert_eq!(task.totals().passed, 7);
}

/// A sink that does not have it all at the first look.
#[derive(Debug)]
struct Lazy(Arc<dyn Sink>);

#[async_trait]
impl Sink for Lazy {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        tokio::task::yield_now().await;
        self.0.deliver(outputs).await
    }
}

/// A source that gives nothing before the outputs of all before it are there.
#[derive(Debug)]
struct Behind(LogSource, Arc<dyn EventLog>);

#[async_trait]
impl Source for Behind {
    async fn read(&self, partition: u32, offset: u64, limit: ReadLimit) -> kernel::Result<Vec<Stored>> {
        while self.1.extents(&OUT).await?.iter().map(|extent| extent.next).sum::<u64>() < offset {
            tokio::task::yield_now().await;
        }
        self.0.read(partition, offset, limit).await
    }

    async fn extents(&self) -> kernel::Result<Vec<Extent>> {
        self.0.extents().await
    }

    async fn wait(&self, partition: u32, offset: u64) -> kernel::Result<()> {
        self.0.wait(partition, offset).await
    }
}

#[tokio::test]
async fn outputs_go_on_their_way_while_the_source_is_waited_for() {
    let mut house = House::new(1);
    house.send(&(1..=6).map(|_| (0, "", "1")).collect::<Vec<_>>()).await;
    let source = Behind(LogSource::new(Arc::clone(&house.log), IN), Arc::clone(&house.log));
    let TaskParts { sink, records, .. } = house.parts();
    let parts = TaskParts { source: Arc::new(source), sink: Arc::new(Lazy(sink)), records };
    let batch = ReadLimit { events: 3, ..ReadLimit::default() };
    let settings = TaskSettings { batch, ..TaskSettings::default() };
    let mut task = Task::open(Arc::new(numbers(false)), parts, 0, settings).await.unwrap();
    for _ in 0..2 {
        let stepping = tokio::time::timeout(std::time::Duration::from_secs(10), task.step_ahead());
        assert_eq!(stepping.await.unwrap().unwrap(), Step::Took(3));
    }
    task.settle().await.unwrap();
    assert_eq!(house.data(&OUT).await.len(), 6);
}

#[tokio::test]
async fn what_is_no_longer_there_is_missed() {
    let mut house = House::new(1);
    house.send(&[(0, "", "1"), (0, "", "2"), (0, "", "3"), (0, "", "4"), (0, "", "5")]).await;
    let mut task = house.open(&numbers(false)).await.unwrap();
    assert_eq!(task.step().await.unwrap(), Step::Took(3));
    let keep = Retention { events: Some(1), ..Retention::default() };
    house.log.retain(&IN, keep, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(task.step().await.unwrap_err().code(), HISTORY_GONE);
    // A topology that never ran begins with what there is.
    let mut house = House { records: Arc::new(MemoryRecords::new()), ..house };
    let mut task = house.open(&numbers(false)).await.unwrap();
    finish(&mut task).await;
    assert_eq!((task.totals().taken, task.next_offset()), (1, 5));
    house.send(&[(0, "", "6")]).await;
    let refused = house.open(&numbers(false).with_format(2)).await.unwrap_err();
    assert_eq!(refused.field(), Some("format"));
    let refused = house.open(&Topology::new("numbers", IN, || read("other", |_| Ok(()))).unwrap()).await;
    assert_eq!(refused.unwrap_err().field(), Some("format"));
}

/// Keeps every text that it is given.
struct Texts;

impl KeyedFold for Texts {
    type In = Event;
    type State = Vec<String>;
    type Out = usize;

    fn key(&self, event: &Event, key: &mut Vec<u8>) {
        key.extend_from_slice(event.subject.as_deref().unwrap_or_default().as_bytes());
    }

    fn apply(
        &mut self,
        texts: &mut Vec<String>,
        event: Event,
        out: &mut Vec<usize>,
    ) -> Result<(), Rejection> {
        texts.push(event.data_as::<String>()?);
        out.push(texts.len());
        Ok(())
    }
}

#[tokio::test]
async fn a_large_state_is_kept_in_pages() {
    let topology =
        Topology::new("texts", IN, || read("decode", |event| Ok(event.clone())).keyed("texts", Texts));
    let topology = topology.unwrap().with_dead_letters(DEAD);
    let mut house = House::new(1);
    let text = format!("\"{}\"", "x".repeat(900_000));
    for _ in 0..20 {
        house.send(&[(0, "one", &text)]).await;
    }
    let mut task = house.open(&topology).await.unwrap();
    finish(&mut task).await;
    let state = task.state();
    assert!(state.len() > store::MAX_BODY_BYTES);
    assert_eq!(house.open(&topology).await.unwrap().state(), state);
    // An output or a letter that no event can hold is told by a letter that one can.
    let huge = Topology::new("huge", IN, || {
        read("decode", |event| Ok(event.time))
            .to("out", OUT, |time| Emission::new("huge", *time, &"x".repeat(kernel::MAX_EVENT_BYTES)))
    });
    finish(&mut house.open(&huge.unwrap().with_dead_letters(DEAD)).await.unwrap()).await;
    assert_eq!(house.letters().await.len(), 20);
    let letter = house.events(&DEAD).await.remove(0);
    let place = replay(&house.scope, &*house.log, &letter, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(place.offset, 20, "the event was read from where the letter says");
}

#[tokio::test]
async fn old_changes_are_taken_away() {
    let table = Table { name: "stream_tasks", indexes: &[] };
    let mut house = House::new(1);
    let system = Scope::system(TenantId::new("_system").unwrap(), "test");
    let mut task = house.open(&sums()).await.unwrap();
    let mut most = 0;
    for minute in 0..400 {
        house.send(&[(minute, "", "1")]).await;
        finish(&mut task).await;
        let query = Query::new(Selection::All, 1_000);
        most = most.max(house.records.list(&system, table, &query).await.unwrap().records.len());
    }
    assert!(most < 80, "{most} records for two windows");
    let state = task.state();
    assert_eq!(house.open(&sums()).await.unwrap().state(), state);
}

#[tokio::test]
async fn a_part_is_made_again_as_it_was() {
    let mut house = House::new(1);
    for minute in 0..40 {
        house.send(&[(minute, ["a", "b"][minute as usize % 2], "1")]).await;
    }
    let mut live = house.open(&sums()).await.unwrap();
    finish(&mut live).await;
    let made = house.data(&OUT).await;
    let topology = Arc::new(sums());
    let range = Backfill { namespace: "again".to_owned(), ..Backfill::default() };
    let totals = backfill(&topology, &house.parts(), &range).await.unwrap();
    assert_eq!((totals[&0], house.data(&OUT).await), (live.totals(), made), "the log knew all of it");
    let until = BTreeMap::from([(0, 20)]);
    let half = Backfill { namespace: "half".to_owned(), until, ..Backfill::default() };
    assert_eq!(backfill(&topology, &house.parts(), &half).await.unwrap()[&0].taken, 20);
    let parts = house.parts();
    let of_b = Selected::new(Arc::clone(&parts.source), |event| event.subject.as_deref() == Some("b"));
    let parts = TaskParts { source: Arc::new(of_b), ..parts };
    let part = Backfill { namespace: "part".to_owned(), ..Backfill::default() };
    assert_eq!(backfill(&topology, &parts, &part).await.unwrap()[&0].taken, 20);
    let live = Backfill { namespace: "live".to_owned(), ..Backfill::default() };
    assert_eq!(backfill(&topology, &parts, &live).await.unwrap_err().field(), Some("namespace"));
}

fn embedded(folder: &tempfile::TempDir) -> EmbeddedStore {
    EmbeddedStore::open(folder.path(), Options::default(), Arc::new(SystemClock::new())).unwrap()
}

#[tokio::test]
async fn a_folder_has_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = None;
    for round in 0..3 {
        let store = embedded(&folder);
        let mut house = House { sent: round * 10, ..House::over(store.event_log(), store.records()) };
        let mut task = house.open(&sums()).await.unwrap();
        assert!(expected.is_none_or(|expected| task.state() == expected));
        for minute in 0..10 {
            house.send(&[(round as i64 * 10 + minute, "", "1")]).await;
        }
        finish(&mut task).await;
        expected = Some(task.state());
    }
    let store = embedded(&folder);
    let house = House::over(store.event_log(), store.records());
    assert_eq!(house.data(&OUT).await, ["[0,0,10]", "[10,0,10]"]);
}
