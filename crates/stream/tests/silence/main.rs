//! Two stages, the first of which may fail: who waits there is not silent, and who is silent is found out all the same. The
//! clock stands still but for what a test says.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

mod brokers;
mod elsewhere;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Clock, Error, Event, ManualClock, Scope, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{EventLog, Leases, ReadLimit, Records, Topic};
use stream::{
    Emission, EventTime, LogSink, LogSource, Output, PUNCTUATION, Partial, Sink, TaskParts, Topology,
    Windows, Worker, WorkerSettings, read,
};
use tokio_util::sync::CancellationToken;

const RAW: Topic = Topic::fixed("raw");
const MIDDLE: Topic = Topic::fixed("middle");
const OUT: Topic = Topic::fixed("out");
const DEAD: Topic = Topic::fixed("dead");
const MINUTE_MS: i64 = 60_000;

/// Hands on while it is open, after so many seconds.
#[derive(Debug)]
struct Gate {
    sink: LogSink,
    is_open: AtomicBool,
    delay: AtomicU64,
}

#[async_trait]
impl Sink for Gate {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        tokio::time::sleep(Duration::from_secs(self.delay.load(Ordering::Relaxed))).await;
        if self.is_open.load(Ordering::Relaxed) {
            return self.sink.deliver(outputs).await;
        }
        Err(Error::new(codes::UNAVAILABLE, "what the rows go to is away"))
    }
}

/// Passes numbers on.
fn pass() -> Topology {
    let built = Topology::new("pass", RAW, || {
        read("decode", |event| Ok((event.time, event.data_as::<i64>()?))).to(
            "passed",
            MIDDLE,
            |(time, number)| Emission::new("number", *time, number),
        )
    });
    built.unwrap().with_dead_letters(DEAD)
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

/// Adds numbers up in windows of ten minutes, with a minute of disorder.
fn sums() -> Topology {
    let built = Topology::new("sums", MIDDLE, || {
        let key = |_: &(i64, i64), key: &mut Vec<u8>| key.push(b'k');
        read("decode", |event| Ok((event.time.as_millisecond(), event.data_as()?)))
            .window::<Total, _>("ten", Windows::tumbling(10 * MINUTE_MS), (key, |item: &(i64, i64)| item.0))
            .to("out", OUT, |result| {
                let said = (result.start_ms / MINUTE_MS, result.revision, result.value);
                Emission::new("sum", Timestamp::UNIX_EPOCH, &said)
            })
    });
    let rule = EventTime { delay_ms: MINUTE_MS, future_limit_ms: None, believed_run: 0 };
    built.unwrap().with_dead_letters(DEAD).with_event_time(rule)
}

struct House {
    log: Arc<dyn EventLog>,
    clock: Arc<ManualClock>,
    gate: Arc<Gate>,
    first: Arc<Worker>,
    sent: u64,
    stop: CancellationToken,
}

impl House {
    /// Both stages run; where the first one `is_elsewhere`, another process has it.
    fn new(is_elsewhere: bool) -> Self {
        let log: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(1));
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let clock = Arc::new(ManualClock::at(Timestamp::from_millisecond(20 * MINUTE_MS).unwrap()));
        let sink = LogSink::new(Arc::clone(&log));
        let gate = Arc::new(Gate { sink, is_open: AtomicBool::new(true), delay: AtomicU64::new(0) });
        let worker = |holder: &str, topology: Topology, sink: Arc<dyn Sink>| {
            let leases = Leases::new(Arc::clone(&records), clock.clone(), holder.to_owned());
            let source = Arc::new(LogSource::new(Arc::clone(&log), topology.input().clone()));
            let parts = TaskParts { source, sink, records: Arc::clone(&records) };
            let settings =
                WorkerSettings { idle_after: Duration::from_secs(60), ..WorkerSettings::default() };
            Worker::new(Arc::new(topology), parts, Arc::clone(&log), leases, clock.clone(), settings)
        };
        let pass = |holder: &str| Arc::new(worker(holder, pass(), gate.clone()));
        let first = pass("one");
        let known = if is_elsewhere { pass("two") } else { Arc::clone(&first) };
        let second = worker("two", sums(), Arc::new(LogSink::new(Arc::clone(&log)))).after(Some(known));
        let stop = CancellationToken::new();
        for worker in [Arc::clone(&first), Arc::new(second)] {
            tokio::spawn(worker.run(stop.clone()));
        }
        Self { log, clock, gate, first, sent: 0, stop }
    }

    async fn send(&mut self, tenant: &str, minute: i64, number: i64) {
        self.sent += 1;
        let scope = Scope::system(TenantId::new(tenant).unwrap(), "test");
        let time = Timestamp::from_millisecond(minute * MINUTE_MS).unwrap();
        let data = serde_json::value::to_raw_value(&number).unwrap();
        let event = Event::new(scope.tenant(), format!("e{}", self.sent), "/feed", "number", time);
        self.log.append(&scope, &RAW, vec![Event { data: Some(data.into()), ..event }]).await.unwrap();
    }

    /// So much time goes by, and the stages do in it what they can.
    async fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        tokio::time::sleep(Duration::from_secs(25)).await;
    }

    async fn events(&self, topic: &Topic) -> Vec<Event> {
        let limit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
        let found = self.log.read(topic, 0, 0, limit).await.unwrap();
        found.into_iter().map(|stored| stored.event).collect()
    }

    async fn sums(&self) -> Vec<String> {
        let told = self.events(&OUT).await;
        told.iter().map(|event| event.data.as_ref().unwrap().get().to_owned()).collect()
    }

    async fn is_anybody_silent(&self) -> bool {
        self.events(&MIDDLE).await.iter().any(|event| event.kind == PUNCTUATION)
    }
}

async fn who_waits_is_not_silent(is_elsewhere: bool) {
    let mut house = House::new(is_elsewhere);
    house.send("desk", 1, 1).await;
    house.pass(1).await;
    assert_eq!(house.events(&MIDDLE).await.len(), 1);
    house.gate.is_open.store(false, Ordering::Relaxed);
    house.send("desk", 2, 2).await;
    for minute in 0..30 {
        house.pass(60).await;
        if minute == 3 {
            house.send("desk", 3, 4).await;
        }
        assert!(!house.is_anybody_silent().await, "minute {minute}");
    }
    let standing = house.first.standings().remove(&0).unwrap();
    assert!(standing.failure.unwrap().contains("is away"));
    assert_eq!(standing.lag_events, 1, "what came while it fails is seen");
    house.send("desk", 4, 8).await;
    house.pass(0).await;
    assert_eq!(house.first.standings()[&0].lag_events, 2);

    house.gate.is_open.store(true, Ordering::Relaxed);
    house.pass(1).await;
    assert_eq!(house.events(&MIDDLE).await.len(), 4, "everything came, and nothing else");
    assert_eq!(house.sums().await, [""; 0]);
    house.pass(30).await;
    assert!(!house.is_anybody_silent().await, "it moved half a minute ago");
    house.pass(31).await;
    if is_elsewhere {
        assert_eq!(house.sums().await, [""; 0], "what was committed elsewhere may be on its way");
        house.pass(15).await;
    }
    assert_eq!(house.sums().await, ["[0,0,15]"], "now it is silent");
    assert!(house.events(&DEAD).await.is_empty(), "nothing came too late");
    house.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_a_stage_that_fails_is_not_silent() {
    who_waits_is_not_silent(false).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_a_stage_of_another_process_is_not_silent() {
    who_waits_is_not_silent(true).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_found_out_while_others_go_on() {
    let mut house = House::new(false);
    house.send("desk", 1, 1).await;
    for step in 0..6 {
        house.send("other", 20 + step, 1).await;
        house.pass(30).await;
        house.send("other", 20 + step, 1).await;
    }
    house.pass(1).await;
    let silent: Vec<String> = house
        .events(&MIDDLE)
        .await
        .into_iter()
        .filter(|event| event.kind == PUNCTUATION)
        .map(|event| event.tenant.to_string())
        .collect();
    assert_eq!(silent, ["desk"], "once, and not who goes on");
    assert_eq!(house.sums().await[0], "[0,0,1]");
    house.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_told_the_time_when_that_was_so() {
    let mut house = House::new(false);
    house.send("desk", 1, 1).await;
    house.pass(1).await;
    // It is silent, which is known only once what another one sent before has come.
    house.gate.delay.store(20, Ordering::Relaxed);
    house.send("other", 20, 1).await;
    house.clock.advance(Duration::from_secs(61));
    let silent_at = house.clock.now();
    tokio::time::sleep(Duration::from_secs(6)).await;
    // By then it goes on, and this is on its way.
    house.clock.advance(Duration::from_secs(20 * 60));
    house.send("desk", 31, 2).await;
    for _ in 0..18 {
        house.clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let told = house.events(&MIDDLE).await;
    let silent: Vec<_> = told.iter().filter(|event| event.kind == PUNCTUATION).collect();
    assert_eq!(silent.iter().map(|event| event.time).collect::<Vec<_>>(), [silent_at]);
    assert!(house.events(&DEAD).await.is_empty(), "nothing came too late");
    house.stop.cancel();
}
