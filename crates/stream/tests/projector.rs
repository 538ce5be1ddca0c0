//! The projector over the in-memory engines: live, restarted and rebuilt give the same bytes; faults lose nothing.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kernel::{Error, Event, EventDraft, ManualClock, Result, Scope, TenantId, Timestamp, codes};
use parking_lot::Mutex;
use store::memory::{MemoryEventLog, MemoryRecords, memory_blobs};
use store::{
    Appended, BlobInfo, Blobs, DeadLetters, EventLog, Extent, LogCapabilities, PutMode, ReadLimit, Retention,
    Stored, Topic,
};
use stream::{Fold, HISTORY_GONE, Projector, ProjectorParts, ProjectorSettings, Rejection, StreamMetrics};

const TOPIC: Topic = Topic::fixed("events");

/// Adds numbers up and remembers their order; refuses what is not a number.
#[derive(Debug, Default)]
struct Sums(Mutex<(u64, Vec<u64>)>);

impl Fold for Sums {
    fn name(&self) -> &'static str {
        "sums"
    }

    fn format(&self) -> u32 {
        1
    }

    fn apply(&self, _partition: u32, batch: &[Stored]) -> Vec<(usize, Rejection)> {
        let mut state = self.0.lock();
        let mut rejections = Vec::new();
        for (index, stored) in batch.iter().enumerate() {
            match stored.event.data_as::<u64>() {
                Ok(number) => {
                    state.0 += number;
                    state.1.push(number);
                }
                Err(error) => {
                    rejections.push((index, Rejection { code: "NOT_A_NUMBER", reason: error.to_string() }));
                }
            }
        }
        rejections
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(&*self.0.lock()).unwrap()
    }

    fn decode(&self, bytes: &[u8]) -> Result<()> {
        *self.0.lock() = serde_json::from_slice(bytes).map_err(kernel::Error::internal)?;
        Ok(())
    }

    fn clear(&self) {
        *self.0.lock() = (0, Vec::new());
    }
}

/// An engine that is away when a test says so.
#[derive(Debug)]
struct Moody<T> {
    inner: T,
    is_away: AtomicBool,
    /// The partition that cannot be read.
    lost: Mutex<Option<u32>>,
}

impl<T> Moody<T> {
    fn of(inner: T) -> Arc<Self> {
        Arc::new(Self { inner, is_away: AtomicBool::new(false), lost: Mutex::default() })
    }

    fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    fn check(&self) -> Result<()> {
        let is_away = self.is_away.load(Ordering::SeqCst);
        if is_away { Err(Error::new(codes::UNAVAILABLE, "is away")) } else { Ok(()) }
    }
}

#[async_trait]
impl EventLog for Moody<Arc<dyn EventLog>> {
    fn capabilities(&self) -> LogCapabilities {
        self.inner.capabilities()
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        self.inner.append(scope, topic, events).await
    }

    async fn read(&self, topic: &Topic, partition: u32, from: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        self.check()?;
        if *self.lost.lock() == Some(partition) {
            return Err(Error::new(codes::UNAVAILABLE, "is away"));
        }
        self.inner.read(topic, partition, from, limit).await
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        self.inner.extents(topic).await
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.inner.wait(topic, partition, offset).await
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.inner.commit(group, topic, partition, offset).await
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        self.inner.committed(group, topic, partition).await
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64> {
        self.inner.retain(topic, keep, now).await
    }
}

#[async_trait]
impl Blobs for Moody<Arc<dyn Blobs>> {
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()> {
        self.check()?;
        self.inner.put(scope, path, body, mode).await
    }

    async fn get(&self, scope: &Scope, path: &str) -> Result<Bytes> {
        self.inner.get(scope, path).await
    }

    async fn get_range(&self, scope: &Scope, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(scope, path, range).await
    }

    async fn list(&self, scope: &Scope, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.inner.list(scope, prefix).await
    }

    async fn delete(&self, scope: &Scope, path: &str) -> Result<()> {
        self.inner.delete(scope, path).await
    }
}

struct House {
    log: Arc<dyn EventLog>,
    blobs: Arc<dyn Blobs>,
    records: Arc<MemoryRecords>,
    scope: Scope,
    metrics: StreamMetrics,
    next: u64,
}

impl House {
    fn new() -> Self {
        Self {
            log: Arc::new(MemoryEventLog::new(1)),
            blobs: Arc::new(memory_blobs()),
            records: Arc::new(MemoryRecords::new()),
            scope: Scope::system(TenantId::new("t").unwrap(), "test"),
            metrics: StreamMetrics::default(),
            next: 0,
        }
    }

    fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.records.clone())
    }

    async fn start(&self, checkpoint_events: u64) -> Projector<Sums> {
        let settings = ProjectorSettings { checkpoint_events, ..ProjectorSettings::default() };
        self.try_start(settings).await.unwrap()
    }

    async fn try_start(&self, settings: ProjectorSettings) -> Result<Projector<Sums>> {
        let parts = ProjectorParts {
            log: self.log.clone(),
            blobs: self.blobs.clone(),
            dead_letters: self.dead_letters(),
            clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)),
            metrics: self.metrics.clone(),
        };
        Projector::start(parts, TOPIC, Arc::new(Sums::default()), settings).await
    }

    /// Leaves the newest events of the log.
    async fn cut(&self, events: u64) {
        let keep = Retention { events: Some(events), ..Retention::default() };
        self.log.retain(&TOPIC, keep, Timestamp::UNIX_EPOCH).await.unwrap();
    }

    async fn append(&mut self, data: &[&str]) -> Vec<Appended> {
        let events: Vec<Event> = data
            .iter()
            .map(|data| {
                self.next += 1;
                let json = format!(
                    r#"{{"specversion":"1.0","id":"{}","source":"/t","type":"t","data":{data}}}"#,
                    self.next
                );
                let draft: EventDraft = serde_json::from_str(&json).unwrap();
                draft.seal(&self.scope, Timestamp::UNIX_EPOCH).unwrap()
            })
            .collect();
        self.log.append(&self.scope, &TOPIC, events).await.unwrap()
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn live_restarted_and_rebuilt_are_the_same_bytes() {
    let mut house = House::new();
    let projector = house.start(3).await;
    for data in [&["1", "2"][..], &["3", "\"x\"", "4"], &["5"]] {
        let places = house.append(data).await;
        projector.reached(&places, PATIENCE).await.unwrap();
    }
    assert_eq!(projector.fold().0.lock().0, 15);
    let live = projector.fold().encode();
    projector.stop().await;

    let restarted = house.start(3).await;
    assert_eq!(restarted.fold().encode(), live);
    let places = house.append(&["6"]).await;
    restarted.reached(&places, PATIENCE).await.unwrap();
    let live = restarted.fold().encode();
    restarted.stop().await;

    house.blobs = Arc::new(memory_blobs());
    let rebuilt = house.start(1_000).await;
    assert_eq!(rebuilt.fold().encode(), live);
    rebuilt.stop().await;

    let (letters, _) = house.dead_letters().list(&house.scope, None, 10).await.unwrap();
    assert_eq!(letters.len(), 1, "a replay writes the letter over itself");
    assert_eq!((letters[0].code.as_str(), letters[0].event_id.as_deref()), ("NOT_A_NUMBER", Some("4")));
}

#[tokio::test]
async fn a_damaged_checkpoint_costs_a_longer_catch_up_only() {
    let mut house = House::new();
    let projector = house.start(2).await;
    for number in 1..=9 {
        let places = house.append(&[&number.to_string()]).await;
        projector.reached(&places, PATIENCE).await.unwrap();
    }
    let live = projector.fold().encode();
    projector.stop().await;

    let system = Scope::system(TenantId::new("_system").unwrap(), "test");
    let kept = house.blobs.list(&system, "checkpoints").await.unwrap();
    assert_eq!(kept.len(), 2);
    for damaged in kept.iter().rev() {
        house.blobs.put(&system, &damaged.path, vec![7; 40].into(), PutMode::Replace).await.unwrap();
        let restarted = house.start(1_000).await;
        assert_eq!(restarted.fold().encode(), live);
        drop(restarted);
    }
}

#[tokio::test]
async fn a_checkpoint_ahead_of_the_log_is_not_believed() {
    let mut house = House::new();
    let projector = house.start(1).await;
    let places = house.append(&["1", "2"]).await;
    projector.reached(&places, PATIENCE).await.unwrap();
    projector.stop().await;

    house.log = Arc::new(MemoryEventLog::new(1));
    let places = house.append(&["40"]).await;
    let restarted = house.start(1).await;
    restarted.reached(&places, PATIENCE).await.unwrap();
    assert_eq!(restarted.fold().0.lock().0, 40);
}

#[tokio::test]
async fn waiting_for_what_never_comes_ends() {
    let house = House::new();
    let projector = house.start(1).await;
    let never = [Appended { partition: 0, offset: 5, outcome: store::Outcome::New }];
    let error = projector.reached(&never, Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.code(), kernel::codes::TIMED_OUT);
}

#[tokio::test]
async fn a_view_outlives_the_events_that_its_checkpoint_holds() {
    let mut house = House::new();
    let projector = house.start(1_000).await;
    let places = house.append(&["1", "2", "3"]).await;
    projector.reached(&places, PATIENCE).await.unwrap();
    assert_eq!(projector.checkpoint().await.unwrap()[&0], 3);
    let places = house.append(&["4", "5"]).await;
    projector.reached(&places, PATIENCE).await.unwrap();
    assert_eq!(projector.checkpoint().await.unwrap()[&0], 3, "the older checkpoint still needs the fourth");
    assert_eq!(projector.checkpoint().await.unwrap()[&0], 3, "there is nothing new to hold");
    let live = projector.fold().encode();
    drop(projector);

    house.cut(2).await;
    let system = Scope::system(TenantId::new("_system").unwrap(), "test");
    let newest = house.blobs.list(&system, "checkpoints").await.unwrap().pop().unwrap();
    house.blobs.put(&system, &newest.path, vec![7; 40].into(), PutMode::Replace).await.unwrap();
    let restarted = house.start(1_000).await;
    assert_eq!(restarted.fold().encode(), live, "the older checkpoint and the rest of the log");
    let places = house.append(&["6"]).await;
    restarted.reached(&places, PATIENCE).await.unwrap();
    assert_eq!(restarted.checkpoint().await.unwrap()[&0], 6, "the damaged checkpoint counts no more");
    restarted.stop().await;
    house.cut(0).await;
    let restarted = house.start(1_000).await;
    assert_eq!(restarted.fold().0.lock().0, 21);
    restarted.stop().await;
    let error = restarted.checkpoint().await.unwrap_err();
    assert_eq!(error.code(), kernel::codes::UNAVAILABLE);
}

#[tokio::test]
async fn a_view_that_would_lack_events_is_refused() {
    let mut house = House::new();
    house.append(&["1", "2", "3"]).await;
    house.cut(1).await;
    let error = house.try_start(ProjectorSettings::default()).await.unwrap_err();
    assert_eq!(error.code(), HISTORY_GONE);
    assert!(error.message().contains("events 0 to 1 of partition 0"), "{error}");
    let settings = ProjectorSettings { accept_partial_history: true, ..ProjectorSettings::default() };
    let accepted = house.try_start(settings).await.unwrap();
    assert_eq!((accepted.fold().0.lock().0, accepted.progress()[&0]), (3, 3));
    accepted.stop().await;
    let restarted = house.start(1_000).await;
    assert_eq!(restarted.fold().0.lock().0, 3, "what was accepted once is in a checkpoint");

    // Everything went, so that there is nothing to read where the gap would show.
    house.blobs = Arc::new(memory_blobs());
    house.cut(0).await;
    assert_eq!(house.try_start(ProjectorSettings::default()).await.unwrap_err().code(), HISTORY_GONE);
    let accepted = house.try_start(settings).await.unwrap();
    assert_eq!((accepted.fold().0.lock().0, accepted.progress()[&0]), (0, 3));
}

#[tokio::test]
async fn a_view_that_was_overtaken_by_a_cut_stops() {
    for left in [0, 1] {
        let mut house = House::new();
        let projector = house.start(1_000).await;
        // The fold has no turn before the cut: nothing in between waits.
        house.append(&["1", "2", "3"]).await;
        house.cut(left).await;
        let mut failure = None;
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            failure = projector.failure();
            if failure.is_some() {
                break;
            }
        }
        assert!(failure.unwrap().contains("were cut from the log"), "{left} events left");
        assert_eq!(projector.fold().0.lock().0, 0);
    }
}

/// A projector that reads the log on its own way, with a switch, and writes nothing for others.
async fn follower(house: &mut House) -> (Projector<Sums>, Arc<Moody<Arc<dyn EventLog>>>) {
    let own = Arc::clone(&house.log);
    let way = Moody::of(Arc::clone(&own));
    house.log = way.clone();
    let settings = ProjectorSettings { writes_shared: false, ..ProjectorSettings::default() };
    let projector = house.try_start(settings).await.unwrap();
    house.log = own;
    (projector, way)
}

async fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be");
}

#[tokio::test]
async fn a_view_that_was_overtaken_goes_on_from_a_newer_checkpoint() {
    for left in [0, 1] {
        let mut house = House { log: Arc::new(MemoryEventLog::new(2)), ..House::new() };
        let (late, way) = follower(&mut house).await;
        let other = house.start(1_000).await;
        let places = house.append(&["1", "2", "3", "4"]).await;
        late.reached(&places, PATIENCE).await.unwrap();
        way.set_away(true);
        let places = house.append(&["5", "6", "7", "8", "9", "10"]).await;
        other.reached(&places, PATIENCE).await.unwrap();
        other.checkpoint().await.unwrap();
        house.cut(left).await;
        assert_eq!(late.fold().0.lock().0, 10, "it is behind");
        way.set_away(false);
        until(|| late.progress() == other.progress()).await;
        assert_eq!(late.fold().0.lock().0, 55);
        let places = house.append(&["11"]).await;
        for projector in [&late, &other] {
            projector.reached(&places, PATIENCE).await.unwrap();
            assert_eq!(projector.fold().0.lock().0, 66, "{left} events left");
        }
        assert_eq!(house.metrics.overtaken.get(), 1);
        assert_eq!(late.failure(), None);
        late.stop().await;
    }
}

/// One view cannot read a partition and another one the other; the first goes on from the checkpoint of the second, which holds
/// what was cut of the one and lacks what the first had of the other.
#[tokio::test]
async fn a_view_that_steps_back_in_a_quiet_partition_catches_up_there() {
    let mut house = House { log: Arc::new(MemoryEventLog::new(2)), ..House::new() };
    let (late, late_way) = follower(&mut house).await;
    let own = Arc::clone(&house.log);
    let other_way = Moody::of(Arc::clone(&own));
    house.log = other_way.clone();
    let other = house.start(1_000).await;
    house.log = own;
    *late_way.lost.lock() = Some(0);
    *other_way.lost.lock() = Some(1);
    house.append(&["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]).await;
    let ends: BTreeMap<u32, u64> = house
        .log
        .extents(&TOPIC)
        .await
        .unwrap()
        .iter()
        .map(|extent| (extent.partition, extent.next))
        .collect();
    assert!(ends.values().all(|end| *end > 0), "{ends:?}");
    until(|| (late.progress()[&1], other.progress()[&0]) == (ends[&1], ends[&0])).await;
    assert_eq!((late.progress()[&0], other.progress()[&1]), (0, 0));
    other.checkpoint().await.unwrap();
    let keep = Retention { events: Some(0), before: Some([(0, ends[&0])].into()), ..Retention::default() };
    house.log.retain(&TOPIC, keep, Timestamp::UNIX_EPOCH).await.unwrap();
    *late_way.lost.lock() = None;
    until(|| late.progress() == ends).await;
    assert_eq!((late.fold().0.lock().0, house.metrics.overtaken.get()), (55, 1));
}

#[tokio::test]
async fn a_checkpoint_that_lacks_what_went_helps_nobody() {
    let mut house = House::new();
    let other = house.start(1_000).await;
    let places = house.append(&["1"]).await;
    other.reached(&places, PATIENCE).await.unwrap();
    other.checkpoint().await.unwrap();
    drop(other);
    let (late, way) = follower(&mut house).await;
    way.set_away(true);
    house.append(&["2", "3"]).await;
    house.cut(1).await;
    way.set_away(false);
    until(|| late.failure().is_some()).await;
    assert!(late.failure().unwrap().contains("events 1 to 1 of partition 0 were cut"));
    assert_eq!((late.fold().0.lock().0, house.metrics.overtaken.get()), (1, 0));
}

#[tokio::test]
async fn who_writes_nothing_for_others_leaves_nothing_behind() {
    let mut house = House::new();
    let (quiet, _) = follower(&mut house).await;
    let places = house.append(&["1", "\"x\"", "2"]).await;
    quiet.reached(&places, PATIENCE).await.unwrap();
    assert_eq!(quiet.fold().0.lock().0, 3);
    quiet.stop().await;
    let system = Scope::system(TenantId::new("_system").unwrap(), "test");
    assert!(house.blobs.list(&system, "checkpoints").await.unwrap().is_empty());
    let letters =
        async |house: &House| house.dead_letters().list(&house.scope, None, 10).await.unwrap().0.len();
    assert_eq!(letters(&house).await, 0);
    house.start(1_000).await.stop().await;
    assert_eq!(letters(&house).await, 1, "who does sees every event too");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_holds_nobody_up_and_is_followed_again() {
    let log = Moody::of(Arc::new(MemoryEventLog::new(1)) as Arc<dyn EventLog>);
    let mut house = House { log: log.clone(), ..House::new() };
    let projector = house.start(1_000).await;
    log.set_away(true);
    let places = house.append(&["1"]).await;
    // Long before its patience ends: who wrote it need not wait, for it is durable.
    let error = projector.reached(&places, 60 * PATIENCE).await.unwrap_err();
    assert_eq!(error.code(), codes::UNAVAILABLE);
    assert_eq!(projector.failure(), None);
    log.set_away(false);
    let more = house.append(&["2"]).await;
    let reached = async || projector.reached(&more, PATIENCE).await.is_ok();
    while !reached().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(projector.fold().0.lock().0, 3);
    projector.stop().await;
}

#[tokio::test]
async fn checkpoints_that_are_not_written_stop_nothing() {
    let blobs = Moody::of(Arc::new(memory_blobs()) as Arc<dyn Blobs>);
    let mut house = House { blobs: blobs.clone(), ..House::new() };
    let projector = house.start(2).await;
    blobs.set_away(true);
    for number in 1..=9 {
        let places = house.append(&[&number.to_string()]).await;
        projector.reached(&places, PATIENCE).await.unwrap();
    }
    assert_eq!(projector.failure(), None);
    let live = projector.fold().encode();
    blobs.set_away(false);
    projector.stop().await;
    let system = Scope::system(TenantId::new("_system").unwrap(), "test");
    assert_eq!(house.blobs.list(&system, "checkpoints").await.unwrap().len(), 1, "the last one");
    let restarted = house.start(2).await;
    assert_eq!(restarted.fold().encode(), live);
}
