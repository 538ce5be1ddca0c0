//! Erasures on a replica that lags, and erasures that are cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Error, Event, EventDraft, Result, Scope, SystemClock, TenantId, Timestamp, codes};
use recommend::{Recommend, RecommendSettings};
use store::memory::MemoryEventLog;
use store::{Appended, DeadLetter, EventLog, Extent, LogCapabilities, ReadLimit, Retention, Stored, Topic};

use crate::parts;

/// A log that gives nothing more to read, or takes no word of an erasure, while it is told so.
#[derive(Debug)]
struct Slow {
    inner: MemoryEventLog,
    lags: AtomicBool,
    is_away: AtomicBool,
}

impl Slow {
    fn new() -> Arc<Self> {
        let inner = MemoryEventLog::new(1);
        Arc::new(Self { inner, lags: AtomicBool::new(false), is_away: AtomicBool::new(false) })
    }
}

#[async_trait]
impl EventLog for Slow {
    fn capabilities(&self) -> LogCapabilities {
        self.inner.capabilities()
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        if self.is_away.load(Ordering::Relaxed) && events.iter().any(|event| event.kind == privacy::ERASED) {
            return Err(Error::new(codes::UNAVAILABLE, "the log is away"));
        }
        self.inner.append(scope, topic, events).await
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>> {
        if self.lags.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        self.inner.read(topic, partition, offset, limit).await
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        self.inner.extents(topic).await
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        while self.lags.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
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

    async fn restore(
        &self,
        topic: &Topic,
        partitions: u32,
        partition: u32,
        events: Vec<Stored>,
    ) -> Result<()> {
        self.inner.restore(topic, partitions, partition, events).await
    }
}

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

fn interaction(id: &str, user: &str) -> Event {
    let json = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/t","type":"recommend.interaction.recorded.v1",
            "data":{{"user_id":"{user}","entity_id":"film","interaction_type":"view"}}}}"#
    );
    serde_json::from_str::<EventDraft>(&json).unwrap().seal(&scope(), Timestamp::UNIX_EPOCH).unwrap()
}

fn knows(recommend: &Recommend, user: &str) -> bool {
    recommend.views().of(&scope()).read().users.find(user).is_some()
}

async fn append(log: &Slow, recommend: &Recommend, id: &str, user: &str) {
    let places = log.append(&scope(), &edge::ingest::EVENTS, vec![interaction(id, user)]).await.unwrap();
    if !log.lags.load(Ordering::Relaxed) {
        recommend.projector().reached(&places, Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_decided_by_a_view_that_lags() {
    let (log, scope) = (Slow::new(), scope());
    let parts = parts(log.clone(), Arc::new(SystemClock::new())).await;
    let mut registry = prometheus_client::registry::Registry::default();
    let recommend = Recommend::open(parts, RecommendSettings::default(), &mut registry).await.unwrap();
    // A partition that the view knows.
    append(&log, &recommend, "1", "bob").await;
    log.lags.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(1)).await;
    append(&log, &recommend, "2", "ada").await;
    let refused = recommend.forgetting().forget(&scope, "ada").await.unwrap_err();
    assert_eq!(refused.code(), codes::UNAVAILABLE, "{refused}");
    assert!(refused.message().contains("nothing was done"), "{refused}");
    // One that catches up meanwhile is waited for.
    let catches_up = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        log.lags.store(false, Ordering::Relaxed);
    };
    let (forgotten, ()) = tokio::join!(recommend.forgetting().forget(&scope, "ada"), catches_up);
    let forgotten = forgotten.unwrap();
    assert!(forgotten.erasure.is_some() && forgotten.unsealed);
    assert!(!knows(&recommend, "ada") && knows(&recommend, "bob"));
    recommend.stop().await;
}

#[tokio::test]
async fn an_erasure_that_is_cut_off_leaves_nothing_undone() {
    let (log, scope) = (Slow::new(), scope());
    let parts = parts(log.clone(), Arc::new(SystemClock::new())).await;
    let (audit, letters) = (parts.audit.clone(), parts.dead_letters.clone());
    let mut registry = prometheus_client::registry::Registry::default();
    let recommend = Recommend::open(parts, RecommendSettings::default(), &mut registry).await.unwrap();
    append(&log, &recommend, "1", "ada").await;
    let reason = Error::new(codes::VALIDATION_ERROR, "no");
    for (id, user) in [("1", "ada"), ("2", "bob")] {
        let body = format!(r#"{{"data":{{"user_id":"{user}"}}}}"#);
        let letter = DeadLetter::of_text(id.to_owned(), &body, &reason, Timestamp::UNIX_EPOCH);
        letters.add(&scope, vec![letter]).await.unwrap();
    }

    log.is_away.store(true, Ordering::Relaxed);
    assert!(recommend.forgetting().forget(&scope, "ada").await.is_err());
    let (entries, _) = audit.list(&scope, None, 10).await.unwrap();
    let (left, _) = letters.list(&scope, None, 10).await.unwrap();
    let left: Vec<_> = left.iter().map(|letter| letter.id.as_str()).collect();
    let open = recommend.forgetting().erasures().open(&scope).await.unwrap();
    assert_eq!((entries.len(), &left[..], open.len()), (1, &["2"][..], 1));
    assert_eq!((entries[0].action.as_str(), &entries[0].subject), ("person.erased", &open[0].id));
    assert_eq!(
        (&entries[0].details["dead_letters"], &entries[0].details["keys"]),
        (&"1".into(), &"0".into())
    );

    // Any replica takes it up, and nothing is said twice.
    log.is_away.store(false, Ordering::Relaxed);
    recommend.forgetting().complete(&scope).await.unwrap();
    assert!(!knows(&recommend, "ada"));
    assert!(recommend.forgetting().erasures().open(&scope).await.unwrap().is_empty());
    assert!(recommend.forgetting().forget(&scope, "ada").await.unwrap().erasure.is_none());
    assert_eq!(audit.list(&scope, None, 10).await.unwrap().0.len(), 1);
    recommend.stop().await;
}

#[tokio::test]
async fn a_training_that_an_erasure_overtakes_is_made_again() {
    let (log, scope) = (Slow::new(), scope());
    let parts = parts(log.clone(), Arc::new(SystemClock::new())).await;
    let erasures = parts.erasures.clone();
    let mut settings = RecommendSettings::default();
    settings.schedule.forget_within_hours = 0;
    let mut registry = prometheus_client::registry::Registry::default();
    let recommend = Recommend::open(parts, settings, &mut registry).await.unwrap();
    let append_all = async || {
        for id in 0..60 {
            log.append(&scope, &edge::ingest::EVENTS, vec![crate::interaction(&scope, id)]).await.unwrap();
        }
        append(&log, &recommend, "last", "ada").await;
    };
    append_all().await;
    // Another replica forgets, and this one does not hear of it before it trains.
    log.lags.store(true, Ordering::Relaxed);
    let prepared = erasures.prepare(&scope, "u-1", true).await.unwrap().unwrap();
    let erasure = erasures.begin(&scope, prepared).await.unwrap();
    let places = erasures.tell(&scope, &erasure).await.unwrap();
    assert!(knows(&recommend, "u-1"));
    recommend.train(&scope, |_| ()).await.unwrap();
    assert!(!recommend.trainer().is_due(&scope));
    log.lags.store(false, Ordering::Relaxed);
    recommend.projector().reached(&places, Duration::from_secs(5)).await.unwrap();
    assert!(recommend.trainer().is_due(&scope), "the model knows who is forgotten");
    recommend.train(&scope, |_| ()).await.unwrap();
    assert!(!recommend.trainer().is_due(&scope));
    recommend.stop().await;
}
