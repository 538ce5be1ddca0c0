//! Curves over a log that is given partitions while they are quoted.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use kernel::{Event, TenantId};
use proptest::prelude::*;
use store::memory::{MemoryColumns, MemoryEventLog};
use store::{Appended, Columns, EventLog, Extent, LogCapabilities, ReadLimit, Retention, Stored};

use super::*;
use crate::MarketSettings;
use crate::projection::rebuild;
use crate::views::MarketViews;

#[test]
fn tenors_are_years() {
    let check = |tenor: &str, expected: Option<f64>| assert_eq!(years(tenor), expected, "{tenor:?}");
    check("10y", Some(10.0));
    check("6M", Some(0.5));
    check("52w", Some(1.0));
    check("365d", Some(1.0));
    for wrong in ["", "y", "10", "1.5y", "-1y", "+1y", "1é", "999999y"] {
        check(wrong, None);
    }
}

/// A log whose curves are all in one partition, and from some time on in another.
#[derive(Debug)]
struct Growing {
    partitions: Vec<MemoryEventLog>,
    at: AtomicUsize,
    /// What comes next is written, and its writer is told that it is not.
    fails: AtomicBool,
}

impl Growing {
    fn new() -> Arc<Self> {
        let partitions = (0..4).map(|_| MemoryEventLog::new(1)).collect();
        Arc::new(Self { partitions, at: AtomicUsize::new(0), fails: AtomicBool::new(false) })
    }

    fn move_to(&self, partition: usize) {
        self.at.store(partition % self.partitions.len(), Ordering::Relaxed);
    }
}

#[async_trait]
impl EventLog for Growing {
    fn capabilities(&self) -> LogCapabilities {
        self.partitions[0].capabilities()
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        // Others come between what a writer saw and what it writes.
        tokio::task::yield_now().await;
        let at = self.at.load(Ordering::Relaxed);
        let places = self.partitions[at].append(scope, topic, events).await?;
        if self.fails.swap(false, Ordering::Relaxed) {
            return Err(Error::new(codes::UNAVAILABLE, "the answer was lost"));
        }
        let number = u32::try_from(at).unwrap();
        Ok(places.into_iter().map(|place| Appended { partition: number, ..place }).collect())
    }

    async fn read(&self, topic: &Topic, part: u32, offset: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        self.partitions[part as usize].read(topic, 0, offset, limit).await
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        let mut found = Vec::new();
        for (partition, log) in (0..).zip(&self.partitions) {
            found.extend(log.extents(topic).await?.into_iter().map(|extent| Extent { partition, ..extent }));
        }
        Ok(found)
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.partitions[partition as usize].wait(topic, 0, offset).await
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.partitions[partition as usize].commit(group, topic, 0, offset).await
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        self.partitions[partition as usize].committed(group, topic, 0).await
    }

    async fn retain(&self, _: &Topic, _: Retention, _: Timestamp) -> Result<u64> {
        Ok(0)
    }
}

static SCOPE: LazyLock<Scope> = LazyLock::new(|| Scope::system(TenantId::new("desk").unwrap(), "test"));

fn service(log: &Arc<Growing>, columns: &Arc<MemoryColumns>) -> Service {
    let rules = Arc::new(MarketSettings::default().rules().unwrap());
    let views = Arc::new(MarketViews::new(Arc::clone(&rules)));
    Service::new(rules, views, Arc::clone(columns) as _, Arc::clone(log) as _)
}

fn set(day: i64, rate: f64) -> QuoteSet {
    QuoteSet {
        curve: "UST".to_owned(),
        as_of: Timestamp::from_second(day * 86_400).unwrap(),
        frequency: 2,
        quotes: vec![TenorQuote { tenor: "1y".to_owned(), rate }],
    }
}

async fn revisions(columns: &dyn Columns, day: i64) -> Vec<ColumnRow> {
    let time_ns = nanoseconds(set(day, 0.0).as_of, "as_of").unwrap();
    columns.revisions(&SCOPE, CURVE_QUOTES, "UST", time_ns, ROW).await.unwrap()
}

#[tokio::test]
async fn a_curve_goes_on_in_a_partition_that_was_added() {
    let (log, columns) = (Growing::new(), Arc::new(MemoryColumns::default()));
    let service = service(&log, &columns);
    let now = Timestamp::UNIX_EPOCH;
    for rate in [0.01, 0.02, 0.03] {
        service.quote(&SCOPE, set(1, rate), now).await.unwrap();
    }
    log.move_to(1);
    let moved = service.quote(&SCOPE, set(1, 0.04), now).await.unwrap();
    assert!(moved.revision > 2, "{moved:?}");
    let again = service.quote(&SCOPE, set(1, 0.04), now).await.unwrap();
    assert_eq!(again, moved, "the same again is the same");
    // From now on one event is enough.
    let length = log.extents(&UPDATES).await.unwrap()[1].next;
    let next = service.quote(&SCOPE, set(1, 0.05), now).await.unwrap();
    assert_eq!(log.extents(&UPDATES).await.unwrap()[1].next, length + 1);
    assert!(next.revision > moved.revision, "{next:?}");
    assert_eq!(
        revisions(columns.as_ref(), 1).await.len(),
        5,
        "and nothing is a revision of its own that was not kept"
    );
}

/// Events and rows of releases that knew no base.
#[tokio::test]
async fn what_was_written_before_is_read_and_gone_on_from() {
    let (log, columns) = (Growing::new(), Arc::new(MemoryColumns::default()));
    let service = service(&log, &columns);
    for (offset, rate) in [(0, 0.01), (1, 0.02)] {
        let data = serde_json::value::to_raw_value(&set(1, rate)).unwrap();
        let kind = kinds::CURVE_QUOTES;
        let event = Event::new(SCOPE.tenant(), offset.to_string(), SOURCE, kind, Timestamp::UNIX_EPOCH);
        let event = Event { subject: Some("UST".to_owned()), data: Some(data.into()), ..event };
        log.append(&SCOPE, &UPDATES, vec![event]).await.unwrap();
    }
    rebuild(log.as_ref(), columns.as_ref()).await.unwrap();
    let before = revisions(columns.as_ref(), 1).await;
    assert_eq!(before.iter().map(|row| row.revision).collect::<Vec<_>>(), [0, 1]);
    let old = Arc::new(MemoryColumns::default());
    for mut row in before {
        *row.values.last_mut().unwrap() = ColumnValue::Missing;
        old.append(&SCOPE, CURVE_QUOTES, vec![row]).await.unwrap();
    }
    let service = Service { columns: old, ..service };
    let next = service.quote(&SCOPE, set(1, 0.03), Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(next.revision, 2);
}

/// What becomes of the answer of the log.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Comes,
    /// The caller sends again.
    IsLost,
    /// So is the caller.
    IsLostForGood,
}

/// What happens to a curve.
#[derive(Debug, Clone)]
enum Step {
    Quote {
        day: i64,
        rate: f64,
        answer: Answer,
    },
    /// Two who saw the same.
    Both {
        day: i64,
        rates: (f64, f64),
    },
    Move(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rate = || (1..6_u32).prop_map(|rate| f64::from(rate) / 100.0);
    let answer = prop_oneof![Just(Answer::Comes), Just(Answer::IsLost), Just(Answer::IsLostForGood)];
    let step = prop_oneof![
        4 => (0..2_i64, rate(), answer).prop_map(|(day, rate, answer)| Step::Quote { day, rate, answer }),
        2 => (0..2_i64, (rate(), rate())).prop_map(|(day, rates)| Step::Both { day, rates }),
        1 => (0..4_usize).prop_map(Step::Move),
    ];
    prop::collection::vec(step, 1..40)
}

/// A curve, and what its callers know of it.
struct Market {
    log: Arc<Growing>,
    columns: Arc<MemoryColumns>,
    service: Service,
    /// By day, what was kept last; none where somebody was not told.
    last: BTreeMap<i64, Option<KeptQuotes>>,
    /// Every call has a time of its own.
    now: Cell<i64>,
}

impl Market {
    async fn quote(&self, day: i64, rate: f64) -> Result<KeptQuotes> {
        self.now.set(self.now.get() + 1);
        let now = Timestamp::from_second(self.now.get()).unwrap();
        self.service.quote(&SCOPE, set(day, rate), now).await
    }

    async fn served(&self, day: i64) -> Option<KeptQuotes> {
        revisions(self.columns.as_ref(), day).await.last().map(|row| kept(row).unwrap())
    }

    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Move(partition) => self.move_to(partition).await,
            Step::Both { day, rates } => self.both(day, rates).await,
            Step::Quote { day, rate, answer } => self.one(day, rate, answer).await,
        }
    }

    async fn move_to(&mut self, partition: usize) {
        // What nobody was told of, and nobody quoted over, is in the log alone: it may come back over what is quoted after
        // partitions were added.
        let unsure: Vec<i64> =
            self.last.iter().filter(|(_, last)| last.is_none()).map(|(day, _)| *day).collect();
        for day in unsure {
            // Nobody quoted this rate before.
            let rate = 0.06 + 1e-6 * self.now.get() as f64;
            let kept = self.quote(day, rate).await.unwrap();
            self.last.insert(day, Some(kept));
        }
        self.log.move_to(partition);
    }

    async fn both(&mut self, day: i64, rates: (f64, f64)) {
        let before = self.served(day).await;
        let (one, other) = tokio::join!(self.quote(day, rates.0), self.quote(day, rates.1));
        for kept in [one.unwrap(), other.unwrap()] {
            let is_same = before.as_ref() == Some(&kept);
            let grows = before.as_ref().is_none_or(|before| kept.revision > before.revision);
            assert!(is_same || grows, "{kept:?} after {before:?}");
        }
        self.note(day, before.as_ref()).await;
    }

    async fn one(&mut self, day: i64, rate: f64, answer: Answer) {
        let before = self.served(day).await;
        if answer != Answer::Comes {
            self.log.fails.store(true, Ordering::Relaxed);
            let is_lost = self.quote(day, rate).await.is_err();
            self.log.fails.store(false, Ordering::Relaxed);
            if is_lost {
                self.last.insert(day, None);
            }
            if answer == Answer::IsLostForGood {
                return;
            }
        }
        let kept = self.quote(day, rate).await.unwrap();
        let is_same = before.as_ref() == Some(&kept);
        let grows = before.as_ref().is_none_or(|before| kept.revision > before.revision);
        assert!(is_same || grows, "{kept:?} after {before:?}");
        assert_eq!(self.served(day).await.as_ref(), Some(&kept), "an answer is what is served");
        self.note(day, before.as_ref()).await;
    }

    /// What is served now was kept last, unless it is what was there before somebody was not told.
    async fn note(&mut self, day: i64, before: Option<&KeptQuotes>) {
        let served = self.served(day).await;
        if served.as_ref() != before || self.last.get(&day) != Some(&None) {
            self.last.insert(day, served);
        }
    }

    async fn check(&self) {
        let again = MemoryColumns::default();
        rebuild(self.log.as_ref(), &again).await.unwrap();
        for (day, last) in &self.last {
            let (made, served) =
                (revisions(&again, *day).await, revisions(self.columns.as_ref(), *day).await);
            assert!(served.iter().all(|row| made.contains(row)), "{served:?} is not in {made:?}");
            if let Some(last) = last {
                assert_eq!(served.last().map(|row| kept(row).unwrap()).as_ref(), Some(last), "served");
                assert_eq!(made.last().map(|row| kept(row).unwrap()).as_ref(), Some(last), "made again");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn revisions_grow_and_rows_that_are_made_again_are_the_same(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (log, columns) = (Growing::new(), Arc::new(MemoryColumns::default()));
            let service = service(&log, &columns);
            let mut market = Market { log, columns, service, last: BTreeMap::new(), now: Cell::new(0) };
            for step in &steps {
                market.take(step).await;
            }
            market.check().await;
        });
    }
}
