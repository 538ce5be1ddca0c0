//! Streams over a log in memory.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Event, EventDraft, Timestamp};
use serde_json::value::RawValue;
use store::memory::MemoryEventLog;
use store::{Appended, Extent, LogCapabilities, ReadLimit, Retention, Stored, Topic};
use stream::PLACE;

use super::*;

const PRICES: Topic = Topic::fixed(topics::LATEST_PRICES);

pub(crate) fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

pub(crate) fn live(log: &Arc<MemoryEventLog>, settings: StreamSettings) -> Arc<Live> {
    Arc::new(Live::new(Arc::clone(log) as _, settings, LiveMetrics::default()))
}

fn event(tenant: &str, instrument: &str, number: u64) -> Event {
    let data = RawValue::from_string(format!("{{\"number\":{number}}}")).unwrap();
    let draft = EventDraft {
        specversion: Some("1.0".to_owned()),
        id: Some(format!("{tenant}-{instrument}-{number}")),
        source: Some("/test".to_owned()),
        kind: Some(kinds::LATEST_PRICE.to_owned()),
        subject: Some(instrument.to_owned()),
        partitionkey: Some(instrument.to_owned()),
        data: Some(data),
        ..EventDraft::default()
    };
    draft.seal(&scope(tenant), Timestamp::UNIX_EPOCH).unwrap()
}

pub(crate) async fn tell(log: &dyn EventLog, tenant: &str, instrument: &str, number: u64) {
    log.append(&scope(tenant), &PRICES, vec![event(tenant, instrument, number)]).await.unwrap();
}

/// Tells something long.
pub(crate) async fn tell_long(log: &dyn EventLog, number: u64, bytes: usize) {
    let data = RawValue::from_string(format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(bytes)));
    let event = Event { data: Some(data.unwrap().into()), ..event("desk", "I", number) };
    log.append(&scope("desk"), &PRICES, vec![event]).await.unwrap();
}

/// A log that counts its reads, may claim to keep repeats, and is away or slow where it is told to be.
#[derive(Debug)]
pub(crate) struct Counting {
    log: MemoryEventLog,
    pub(crate) reads: AtomicUsize,
    keeps_repeats: bool,
    /// Reads and looks at extents that fail from now on.
    pub(crate) faults: AtomicUsize,
    pub(crate) read_ms: AtomicU64,
}

impl Counting {
    pub(crate) fn new(partitions: u32, keeps_repeats: bool) -> Arc<Self> {
        let (reads, faults, read_ms) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { log: MemoryEventLog::new(partitions), reads, keeps_repeats, faults, read_ms })
    }

    fn answers(&self) -> Result<()> {
        let order = Ordering::Relaxed;
        match self.faults.fetch_update(order, order, |faults| faults.checked_sub(1)) {
            Ok(_) => Err(Error::new(codes::UNAVAILABLE, "the log is away")),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl EventLog for Counting {
    fn capabilities(&self) -> LogCapabilities {
        LogCapabilities { deduplicates: !self.keeps_repeats, ..self.log.capabilities() }
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        self.log.append(scope, topic, events).await
    }

    async fn read(&self, topic: &Topic, part: u32, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(self.read_ms.load(Ordering::Relaxed))).await;
        self.answers()?;
        self.log.read(topic, part, offset, limit).await
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        self.answers()?;
        self.log.extents(topic).await
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.log.wait(topic, partition, offset).await
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.log.commit(group, topic, partition, offset).await
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        self.log.committed(group, topic, partition).await
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64> {
        self.log.retain(topic, keep, now).await
    }
}

pub(crate) fn over(log: &Arc<Counting>) -> Live {
    Live::new(Arc::clone(log) as _, StreamSettings::default(), LiveMetrics::default())
}

fn question(start: StartAt, follow: bool) -> LiveQuestion {
    LiveQuestion { types: vec!["price".to_owned()], instruments: BTreeSet::new(), start, follow }
}

fn number(told: &Told) -> u64 {
    let data = told.data().unwrap_or_else(|| panic!("{told:?} is no message"));
    serde_json::from_str::<serde_json::Value>(data.get()).unwrap()["number"].as_u64().unwrap()
}

/// All that is told up to the end, each with the position after it.
async fn all(live: &Live, tenant: &str, asked: &LiveQuestion) -> Vec<(u64, String)> {
    let mut follower = live.follow(&scope(tenant), asked).await.unwrap();
    let mut found = Vec::new();
    while let Some(told) = follower.next().await.unwrap() {
        found.push((number(&told), follower.position()));
    }
    found
}

/// The next ones, each waited for in short turns, as one does who looks at other things meanwhile.
async fn some(follower: &mut Follower, count: usize) -> Vec<u64> {
    let mut found = Vec::new();
    while found.len() < count {
        if let Ok(told) = tokio::time::timeout(Duration::from_millis(1), follower.next()).await {
            found.push(number(&told.unwrap().unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn from_every_position_on_nothing_is_missing_and_nothing_twice() {
    let log = Arc::new(MemoryEventLog::new(3));
    for number in 0..40 {
        tell(log.as_ref(), "desk", &format!("I{}", number % 7), number).await;
        tell(log.as_ref(), "other", "I0", 1_000 + number).await;
    }
    let live = live(&log, StreamSettings::default());
    let whole = all(&live, "desk", &question(StartAt::Earliest, false)).await;
    let numbers: BTreeSet<u64> = whole.iter().map(|(number, _)| *number).collect();
    assert_eq!((whole.len(), numbers), (40, (0..40).collect()), "and nothing of the other tenant");
    for cut in 0..whole.len() {
        let position = StartAt::Position(whole[cut].1.clone());
        let rest = all(&live, "desk", &question(position.clone(), false)).await;
        let found: BTreeSet<u64> = rest.iter().map(|(number, _)| *number).collect();
        let expected: BTreeSet<u64> = whole[cut + 1..].iter().map(|(number, _)| *number).collect();
        assert_eq!((rest.len(), &found), (expected.len(), &expected), "after {}", whole[cut].1);
        let mut follower = live.follow(&scope("desk"), &question(position, true)).await.unwrap();
        let live_too: BTreeSet<u64> = some(&mut follower, expected.len()).await.into_iter().collect();
        assert_eq!(live_too, expected, "after {}", whole[cut].1);
    }
    assert!(all(&live, "desk", &question(StartAt::Latest, false)).await.is_empty());
    let one =
        LiveQuestion { instruments: BTreeSet::from(["I3".to_owned()]), ..question(StartAt::Earliest, false) };
    let found: Vec<u64> = all(&live, "desk", &one).await.into_iter().map(|(number, _)| number).collect();
    assert_eq!(found, [3, 10, 17, 24, 31, 38]);
}

#[tokio::test]
async fn many_followers_read_once_and_each_has_everything_in_order() {
    const EVENTS: u64 = 300;
    let log = Counting::new(2, false);
    let live = over(&log);
    let mut followers = Vec::new();
    for _ in 0..20 {
        followers.push(live.follow(&scope("desk"), &question(StartAt::Latest, true)).await.unwrap());
    }
    for number in 0..EVENTS {
        tell(log.as_ref(), "desk", &format!("I{}", number % 5), number).await;
        tell(log.as_ref(), "other", "I0", number).await;
        if number % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    // One is late, and what it missed is no longer in memory.
    let mut late = followers.pop().unwrap();
    for follower in &mut followers {
        tokio::task::yield_now().await;
        let found = some(follower, EVENTS as usize).await;
        for instrument in 0..5 {
            let own = found.iter().copied().filter(|number| number % 5 == instrument);
            assert!(own.eq((0..EVENTS).filter(|number| number % 5 == instrument)), "{found:?}");
        }
        let more = tokio::time::timeout(Duration::from_millis(2), follower.next()).await;
        assert!(more.is_err(), "nothing comes twice");
    }
    assert_eq!(some(&mut late, EVENTS as usize).await.len() as u64, EVENTS);
    let resumed = question(StartAt::Position(late.position()), false);
    assert!(all(&live, "desk", &resumed).await.is_empty());
    drop((followers, late));
    tell(log.as_ref(), "desk", "I0", EVENTS).await;
    let reads = log.reads.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(log.reads.load(Ordering::Relaxed), reads, "nobody follows, and nobody reads");
}

#[tokio::test]
async fn what_is_of_others_is_passed_over() {
    let log = Counting::new(1, false);
    let live = over(&log);
    for number in 0..5 {
        tell(log.as_ref(), if number == 1 { "desk" } else { "other" }, "I", number).await;
    }
    let mut follower = live.follow(&scope("desk"), &question(StartAt::Earliest, true)).await.unwrap();
    assert_eq!((some(&mut follower, 1).await, follower.position()), (vec![1], "price:2".to_owned()));
    assert!(tokio::time::timeout(Duration::from_millis(5), follower.next()).await.is_err());
    follower.refresh().await.unwrap();
    assert_eq!(follower.position(), "price:5", "so that retention takes nothing of the caller");
}

#[tokio::test]
async fn who_is_at_the_end_costs_no_reads() {
    let log = Counting::new(1, false);
    let live = over(&log);
    let mut followers = Vec::new();
    for _ in 0..50 {
        followers.push(live.follow(&scope("desk"), &question(StartAt::Latest, true)).await.unwrap());
    }
    for number in 0..10 {
        tell(log.as_ref(), "desk", "I", number).await;
        for follower in &mut followers {
            assert_eq!(some(follower, 1).await, [number]);
        }
    }
    assert!(log.reads.load(Ordering::Relaxed) <= 20, "{log:?}");
}

#[tokio::test]
async fn what_a_broker_keeps_twice_is_told_once() {
    let log = Counting::new(1, true);
    let told = async |id: u64, place: &str| {
        let mut event = event("desk", "I", id);
        event.source = "/watershed/stream/projection/1".to_owned();
        event.extensions.insert(PLACE.to_owned(), place.into());
        log.append(&scope("desk"), &PRICES, vec![event]).await.unwrap();
    };
    for offset in 0..4 {
        told(offset, &format!("brokers/0/0/{offset}/0")).await;
    }
    let live = over(&log);
    let mut from_start = live.follow(&scope("desk"), &question(StartAt::Earliest, true)).await.unwrap();
    let mut from_end = live.follow(&scope("desk"), &question(StartAt::Latest, true)).await.unwrap();
    assert_eq!(some(&mut from_start, 4).await, [0, 1, 2, 3]);
    told(12, "brokers/0/0/2/0").await;
    told(13, "brokers/0/0/3/0").await;
    told(4, "brokers/0/4/4/0").await;
    assert_eq!(some(&mut from_start, 1).await, [4]);
    assert_eq!(some(&mut from_end, 1).await, [4]);
    let resumed = question(StartAt::Position("price:3".to_owned()), false);
    let found: Vec<u64> = all(&live, "desk", &resumed).await.into_iter().map(|(number, _)| number).collect();
    assert_eq!(found, [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_tried_again_and_then_told_and_read_by_the_next() {
    let check = async |start: StartAt, keeps_repeats: bool, faults: usize, is_told: bool| {
        let log = Counting::new(1, keeps_repeats);
        let live = over(&log);
        tell(log.as_ref(), "desk", "I", 0).await;
        // From the end everything is read for all who follow, and from an earlier place for one alone.
        let expected = if start == StartAt::Latest { vec![1] } else { vec![0, 1] };
        let shown = format!("from {start:?}, {faults} faults");
        let mut follower = live.follow(&scope("desk"), &question(start, true)).await.unwrap();
        tokio::task::yield_now().await;
        log.faults.store(faults, Ordering::Relaxed);
        tell(log.as_ref(), "desk", "I", 1).await;
        if is_told {
            assert_eq!(some(&mut follower, expected.len()).await, expected, "{shown}");
            return;
        }
        let position = follower.position();
        let fault = tokio::time::timeout(Duration::from_secs(60), follower.next()).await;
        assert_eq!(fault.unwrap().unwrap_err().code(), codes::UNAVAILABLE, "{shown}");
        log.faults.store(0, Ordering::Relaxed);
        let again = question(StartAt::Position(position), true);
        let mut next = live.follow(&scope("desk"), &again).await.unwrap();
        assert_eq!(some(&mut next, expected.len()).await, expected, "{shown}");
    };
    for keeps_repeats in [false, true] {
        for start in [StartAt::Latest, StartAt::Earliest, StartAt::Position("price:0".to_owned())] {
            check(start.clone(), keeps_repeats, 10, true).await;
            check(start, keeps_repeats, usize::MAX, false).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_goes_on_whoever_waits_for_it() {
    let log = Counting::new(2, false);
    for number in 0..6 {
        tell(log.as_ref(), "desk", &format!("I{number}"), number).await;
    }
    log.read_ms.store(20_000, Ordering::Relaxed);
    let live = over(&log);
    let mut follower = live.follow(&scope("desk"), &question(StartAt::Earliest, true)).await.unwrap();
    let mut found = Vec::new();
    // Each turn is shorter than a read, and between them it is looked for partitions.
    for _ in 0..100 {
        if found.len() == 6 {
            break;
        }
        match tokio::time::timeout(Duration::from_secs(15), follower.next()).await {
            Ok(told) => found.push(number(&told.unwrap().unwrap())),
            Err(_) => follower.refresh().await.unwrap(),
        }
    }
    found.sort_unstable();
    let used = log.extents(&PRICES).await.unwrap().into_iter().filter(|extent| extent.next > 0).count();
    assert_eq!(
        (found, log.reads.load(Ordering::Relaxed)),
        ((0..6).collect(), used),
        "one read of each partition"
    );
    assert!(tokio::time::timeout(Duration::from_secs(60), follower.next()).await.is_err());
    assert_eq!(log.reads.load(Ordering::Relaxed), used, "and none where nothing came");
}

#[tokio::test]
async fn what_retention_took_is_told() {
    let log = Arc::new(MemoryEventLog::new(1));
    for number in 0..10 {
        tell(log.as_ref(), "desk", "I", number).await;
    }
    let keep = Retention { events: Some(4), ..Retention::default() };
    log.retain(&PRICES, keep.clone(), Timestamp::UNIX_EPOCH).await.unwrap();
    let live = live(&log, StreamSettings::default());
    for follow in [false, true] {
        let asked = question(StartAt::Position("price:2".to_owned()), follow);
        let mut follower = live.follow(&scope("desk"), &asked).await.unwrap();
        assert_eq!(follower.position(), "price:2", "who is cut off now is told again");
        let first = follower.next().await.unwrap().unwrap();
        assert!(matches!(&first, Told::Lost { events: 4, kind: "price" }), "{first:?}");
        assert_eq!(follower.position(), "price:6");
        assert_eq!(number(&follower.next().await.unwrap().unwrap()), 6);
    }
    // Behind a follower who is slow, too.
    let asked = question(StartAt::Position("price:6".to_owned()), true);
    let mut slow = live.follow(&scope("desk"), &asked).await.unwrap();
    for number in 10..20 {
        tell(log.as_ref(), "desk", "I", number).await;
    }
    log.retain(&PRICES, keep, Timestamp::UNIX_EPOCH).await.unwrap();
    let first = slow.next().await.unwrap().unwrap();
    assert!(matches!(&first, Told::Lost { events: 10, .. }), "{first:?}");
    assert_eq!((slow.position().as_str(), some(&mut slow, 4).await), ("price:16", vec![16, 17, 18, 19]));
}

#[tokio::test]
async fn a_position_is_of_these_types_and_of_this_log() {
    let log = Arc::new(MemoryEventLog::new(2));
    let live = live(&log, StreamSettings::default());
    let check = async |from: &str, types: &[&str], field: Option<&str>| {
        let types = types.iter().map(|name| (*name).to_owned()).collect();
        let asked = LiveQuestion { types, ..question(StartAt::Position(from.to_owned()), false) };
        let found = live.follow(&scope("desk"), &asked).await;
        assert_eq!(found.as_ref().err().map(|error| error.field()), field.map(Some), "{from} {asked:?}");
    };
    check("price:0.0", &["price"], None).await;
    // A partition that was added since.
    check("price:0", &["price"], None).await;
    check("price:0.0-bar_5m:0.0-bar_1h:0.0-bar_1d:0.0", &[], None).await;
    check("bar_5m:0.0-bar_1h:0.0-bar_1d:0.0", &["bar"], None).await;
    check("price:0.0", &["bar"], Some("from")).await;
    check("price:0.1", &["price"], Some("from")).await;
    check("price:0.0.0", &["price"], Some("from")).await;
    for wrong in ["", "price", "price:x", "price:-1", "0.0", "price:99999999999999999999"] {
        check(wrong, &["price"], Some("from")).await;
    }
    check(&format!("price:{}", "0.".repeat(30_000)), &["price"], Some("from")).await;
    check("price:0.0", &["tick"], Some("types")).await;
}

#[tokio::test]
async fn places_are_bounded_and_freed() {
    let log = Arc::new(MemoryEventLog::new(1));
    let settings =
        StreamSettings { max: 3, max_per_tenant: 2, max_per_credential: 2, ..StreamSettings::default() };
    let live = live(&log, settings);
    let held = [live.begin(&scope("desk")).unwrap(), live.begin(&scope("desk")).unwrap()];
    assert!(held[0].retry_ms.abs_diff(held[1].retry_ms) > 100, "not all at once: {held:?}");
    let refused = live.begin(&scope("desk")).unwrap_err();
    assert_eq!(refused.code(), edge::streams::TOO_MANY_STREAMS);
    let other = live.begin(&scope("other")).unwrap();
    assert!(live.begin(&scope("third")).unwrap_err().message().contains("server"));
    assert_eq!((live.open(), live.metrics.open.get()), (3, 3));
    drop((held, other));
    assert_eq!((live.open(), live.metrics.open.get()), (0, 0));
    assert!(live.taken.lock().by_credential.is_empty(), "nothing is kept of who has none");
    live.stop.cancel();
    assert_eq!(live.begin(&scope("desk")).unwrap_err().code(), codes::UNAVAILABLE);
}
