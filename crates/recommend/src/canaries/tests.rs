//! Canaries over engines that fail, hang and lag.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use edge::AuditLog;
use kernel::{
    Clock, Error, ErrorKind, Event, Id, ManualClock, Result, Scope, SeededEntropy, TenantId, Timestamp, codes,
};
use rollout::canary::{Arm, Plan};
use serde_json::json;
use store::memory::{MemoryEventLog, MemoryRecords, memory_blobs};
use store::{
    Appended, DeadLetters, EventLog, Extent, Leases, LogCapabilities, Page, Query, ReadLimit, Record,
    Records, Retention, Stored, Table, Topic, Write,
};
use stream::{Projector, ProjectorParts, ProjectorSettings, StreamMetrics};
use tokio_util::sync::CancellationToken;

use super::{Assigned, Canaries, CanaryParts, NewCanary, PATIENCE, Waiting, event};
use crate::events::{ArmSettings, CanaryShown, EntityName, Mode, Stage, kinds};
use crate::metrics::CanaryMetrics;
use crate::views::Views;

const WINDOW: Duration = Duration::from_secs(10);

/// What is wrong with the engines.
#[derive(Debug, Default)]
struct Faults {
    records_are_away: AtomicBool,
    log_lags: AtomicBool,
    log_hangs: AtomicBool,
}

fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

fn set(flag: &AtomicBool, value: bool) {
    flag.store(value, Ordering::Relaxed);
}

#[derive(Debug)]
struct FaultyRecords {
    inner: MemoryRecords,
    faults: Arc<Faults>,
}

impl FaultyRecords {
    fn answering(&self) -> Result<&MemoryRecords> {
        let away = || Error::new(codes::UNAVAILABLE, "the records are away");
        if is(&self.faults.records_are_away) { Err(away()) } else { Ok(&self.inner) }
    }
}

#[async_trait]
impl Records for FaultyRecords {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        self.answering()?.get(scope, table, key).await
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        self.answering()?.list(scope, table, query).await
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        self.answering()?.commit(scope, writes).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        self.answering()?.erase(scope).await
    }
}

/// It takes nothing of `gone`, nor what comes with it, as the sealing log does while a person is being forgotten.
#[derive(Debug)]
struct FaultyLog {
    inner: MemoryEventLog,
    faults: Arc<Faults>,
}

#[async_trait]
impl EventLog for FaultyLog {
    fn capabilities(&self) -> LogCapabilities {
        self.inner.capabilities()
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        let of_gone = |event: &Event| event.data.as_ref().is_some_and(|data| data.get().contains("gone"));
        if events.iter().any(of_gone) {
            return Err(Error::new(codes::UNAVAILABLE, "the person is being forgotten just now"));
        }
        self.inner.append(scope, topic, events).await
    }

    async fn read(&self, topic: &Topic, number: u32, from: u64, limit: ReadLimit) -> Result<Vec<Stored>> {
        if is(&self.faults.log_lags) {
            return Ok(Vec::new());
        }
        self.inner.read(topic, number, from, limit).await
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        if is(&self.faults.log_hangs) {
            std::future::pending::<()>().await;
        }
        self.inner.extents(topic).await
    }

    async fn wait(&self, topic: &Topic, number: u32, from: u64) -> Result<()> {
        while is(&self.faults.log_lags) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.inner.wait(topic, number, from).await
    }

    async fn commit(&self, group: &str, topic: &Topic, number: u32, at: u64) -> Result<()> {
        self.inner.commit(group, topic, number, at).await
    }

    async fn committed(&self, group: &str, topic: &Topic, number: u32) -> Result<u64> {
        self.inner.committed(group, topic, number).await
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64> {
        self.inner.retain(topic, keep, now).await
    }

    async fn restore(&self, topic: &Topic, of: u32, number: u32, events: Vec<Stored>) -> Result<()> {
        self.inner.restore(topic, of, number, events).await
    }
}

struct House {
    canaries: Arc<Canaries>,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
}

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

impl House {
    /// Where a canary runs that gives the candidate to half of the users.
    async fn new() -> Self {
        let faults = Arc::new(Faults::default());
        let log: Arc<dyn EventLog> =
            Arc::new(FaultyLog { inner: MemoryEventLog::new(1), faults: Arc::clone(&faults) });
        let records: Arc<dyn Records> =
            Arc::new(FaultyRecords { inner: MemoryRecords::new(), faults: Arc::clone(&faults) });
        let manual = Arc::new(ManualClock::at(Timestamp::from_second(1_000_000).unwrap()));
        let clock: Arc<dyn Clock> = Arc::clone(&manual) as Arc<dyn Clock>;
        let views = Arc::new(Views::default());
        let parts = ProjectorParts {
            log: Arc::clone(&log),
            blobs: Arc::new(memory_blobs()),
            dead_letters: DeadLetters::new(Arc::clone(&records)),
            clock: Arc::clone(&clock),
            metrics: StreamMetrics::default(),
        };
        let settings = ProjectorSettings::default();
        let projector =
            Projector::start(parts, edge::ingest::EVENTS, Arc::clone(&views), settings).await.unwrap();
        let canaries = Arc::new(Canaries::new(CanaryParts {
            views,
            projector: Arc::new(projector),
            log,
            audit: AuditLog::new(Arc::clone(&records), Arc::clone(&clock)),
            leases: Leases::new(Arc::clone(&records), Arc::clone(&clock), "one".to_owned()),
            records,
            clock,
            entropy: Arc::new(SeededEntropy::new(1)),
            metrics: CanaryMetrics::default(),
        }));
        let asked = NewCanary {
            name: Some("one".to_owned()),
            mode: Mode::Canary,
            candidate: ArmSettings { algorithm: Some("latest".to_owned()), ..ArmSettings::default() },
            plan: Plan { steps_percent: vec![50, 100], sample_min: 1_000, ..Plan::default() },
            outcome_window_seconds: WINDOW.as_secs(),
            slow_ms: 100,
        };
        canaries.start(&scope(), asked).await.unwrap();
        Self { canaries, clock: manual, faults }
    }

    fn shown(&self, user: &str, arm: Arm) -> Waiting {
        let film = EntityName { entity_id: Id::new("film").unwrap(), entity_type: "item".to_owned() };
        let shown = CanaryShown {
            canary: "one".to_owned(),
            user_id: Id::new(user).unwrap(),
            arm,
            failed: false,
            slow: false,
            entities: vec![film],
        };
        Waiting { tenant: scope().tenant().clone(), at: self.clock.now(), shown }
    }

    /// Shows forty users something in each arm.
    async fn show_all(&self) {
        for arm in [Arm::Control, Arm::Candidate] {
            let batch = (0..40).map(|user| self.shown(&format!("{}-{user}", arm.name()), arm)).collect();
            self.canaries.write_shown(batch).await.unwrap();
        }
    }

    /// Each user of an arm chooses what was shown.
    async fn choose_all(&self, arm: Arm) {
        let choice = |user: usize| {
            let user_id = format!("{}-{user}", arm.name());
            let data = json!({"user_id": user_id, "entity_id": "film", "interaction_type": "view"});
            self.event(kinds::INTERACTION_RECORDED, &user_id, &data)
        };
        self.append((0..40).map(choice).collect()).await;
    }

    fn event(&self, kind: &str, id: &str, data: &serde_json::Value) -> Event {
        event(scope().tenant(), kind, id.to_owned(), self.clock.now(), None, data).unwrap()
    }

    async fn append(&self, events: Vec<Event>) {
        let parts = &self.canaries.parts;
        let places = parts.log.append(&scope(), &edge::ingest::EVENTS, events).await.unwrap();
        if !is(&self.faults.log_lags) {
            parts.projector.reached(&places, PATIENCE).await.unwrap();
        }
    }

    async fn show_all_of_the_log(&self) {
        let ends = crate::log_ends::log_ends(&*self.canaries.parts.log).await.unwrap();
        self.canaries.parts.projector.reached(&ends, PATIENCE).await.unwrap();
    }

    fn knows(&self, user: &str) -> bool {
        self.canaries.parts.views.of(&scope()).read().users.find(user).is_some()
    }

    fn stage(&self) -> Stage {
        self.canaries.find(&scope(), "one").unwrap().stage
    }

    /// Canaries that run, looks that failed, answers that do not count.
    fn counted(&self) -> (i64, u64, u64) {
        let metrics = &self.canaries.parts.metrics;
        (metrics.running.get(), metrics.failed_looks.get(), metrics.uncounted.get())
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_runs_also_where_its_gates_cannot_be_read() {
    let house = House::new().await;
    set(&house.faults.records_are_away, true);
    house.canaries.look_after_all().await.unwrap_err();
    assert_eq!(house.counted(), (1, 1, 0));
    set(&house.faults.records_are_away, false);
    house.canaries.look_after_all().await.unwrap();
    // The lease is fresh and nothing was decided: there is nothing to ask the records for.
    set(&house.faults.records_are_away, true);
    house.canaries.look_after_all().await.unwrap();
    set(&house.faults.records_are_away, false);
    house.canaries.roll_back(&scope(), "one", "").await.unwrap();
    house.canaries.look_after_all().await.unwrap();
    assert_eq!(house.counted(), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn no_window_closes_before_the_view_shows_what_was_chosen_in_it() {
    let house = House::new().await;
    house.show_all().await;
    house.clock.advance(WINDOW / 2);
    house.choose_all(Arm::Control).await;
    set(&house.faults.log_lags, true);
    house.choose_all(Arm::Candidate).await;
    house.clock.advance(WINDOW);
    assert_eq!(house.canaries.look_after_all().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((house.stage(), house.counted()), (Stage::Running, (1, 1, 0)));
    set(&house.faults.log_lags, false);
    house.canaries.look_after_all().await.unwrap();
    assert_eq!((house.stage(), house.counted()), (Stage::Running, (1, 1, 0)));
    // The gates were open, and close where nothing was chosen.
    let canary = house.canaries.find(&scope(), "one").unwrap();
    let reading = house.canaries.reading(&scope(), &canary).await.unwrap().unwrap();
    assert_eq!((reading.gates[2].candidate.count, reading.gates[2].candidate.total()), (40, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_hangs_fails_and_what_is_shown_is_written_meanwhile() {
    let house = House::new().await;
    set(&house.faults.log_hangs, true);
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&house.canaries).run(stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.canaries.queue.send(house.shown("ada", Arm::Candidate)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(house.knows("ada"));
    assert_eq!(house.counted(), (1, 0, 0));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(house.counted().1 > 0);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_comes_back_with_what_was_shown_before_an_erasure() {
    let house = House::new().await;
    let queued = house.shown("ada", Arm::Candidate);
    let erased = house.event(privacy::ERASED, "erased", &json!({"erasure_id": "1", "keys": []}));
    house.append(vec![erased]).await;
    house.clock.advance(Duration::from_millis(1));
    let later = house.shown("bob", Arm::Candidate);
    house.canaries.write_shown(vec![queued, later]).await.unwrap();
    house.show_all_of_the_log().await;
    assert_eq!((house.knows("ada"), house.knows("bob"), house.counted()), (false, true, (0, 0, 1)));
}

#[tokio::test(start_paused = true)]
async fn who_is_being_forgotten_takes_nobody_along() {
    let house = House::new().await;
    let batch = ["ada", "gone", "bob"].map(|user| house.shown(user, Arm::Candidate));
    house.canaries.write_shown(batch.into()).await.unwrap_err();
    house.show_all_of_the_log().await;
    assert_eq!(["ada", "gone", "bob"].map(|user| house.knows(user)), [true, false, true]);
    assert_eq!(house.counted(), (0, 0, 1));
    // Where everything fails, it is not tried for each.
    let batch = (0..9).map(|number| house.shown(&format!("gone-{number}"), Arm::Candidate)).collect();
    house.canaries.write_shown(batch).await.unwrap_err();
    assert_eq!(house.counted(), (0, 0, 10));
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_making_panics_has_failed() {
    let house = House::new().await;
    let mut waiting = house.canaries.waiting.lock().take().unwrap();
    let assigned: Assigned = house.canaries.assigned(&scope(), "ada").unwrap();
    let make = || panic!("an algorithm that is tried");
    let user_id = Id::new("ada").unwrap();
    let made = house.canaries.observe(&scope(), &user_id, Some(&assigned), true, make);
    assert_eq!(made.unwrap_err().code(), codes::INTERNAL_ERROR);
    let shown = waiting.try_recv().unwrap().shown;
    assert_eq!((shown.user_id, shown.failed, shown.entities), (user_id, true, Vec::new()));
}
