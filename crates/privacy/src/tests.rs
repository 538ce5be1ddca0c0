//! The keyring, the sealed ports and erasures, over the fakes.

use std::sync::Arc;

use futures::TryStreamExt;
use kernel::{
    Clock, Entropy, Event, EventDraft, ManualClock, Result, Scope, SeededEntropy, TenantId, Timestamp,
};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;
use store::memory::{MemoryCache, MemoryEventLog, MemoryRecords, memory_blobs};
use store::{Blobs, Cache, EventLog, Outcome, PutMode, ReadLimit, Records, Topic};

use super::*;

const TOPIC: Topic = Topic::fixed("events");
const OLD: &str = "an old master key of 32 characters";
const NEW: &str = "a new master key with 32 characters";

#[derive(Debug)]
struct OfTest;

#[derive(Deserialize)]
struct Data {
    user_id: Option<String>,
}

impl Personal for OfTest {
    fn person(&self, event: &Event) -> Result<Option<Person>> {
        let data: Data = event.data_as()?;
        let rest = RawValue::from_string(r#"{"what":"film"}"#.to_owned()).ok();
        Ok(data.user_id.map(|id| Person { id, rest }))
    }
}

struct House {
    records: Arc<dyn Records>,
    inner: Arc<dyn EventLog>,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Process {
    keyring: Arc<Keyring>,
    log: Arc<dyn EventLog>,
    erasures: Erasures,
}

fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

impl House {
    fn new() -> Self {
        Self {
            records: Arc::new(MemoryRecords::new()),
            inner: Arc::new(MemoryEventLog::new(1)),
            entropy: Arc::new(SeededEntropy::new(3)),
            clock: Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH)),
        }
    }

    async fn open(&self, keys: &[&str], seals: bool) -> Result<Process> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let (records, entropy) = (Arc::clone(&self.records), Arc::clone(&self.entropy));
        let keyring = Arc::new(Keyring::open(records, MasterKeys::new(&keys)?, seals, entropy).await?);
        let log: Arc<dyn EventLog> =
            Arc::new(SealedLog::new(Arc::clone(&self.inner), Arc::clone(&keyring), Arc::new(OfTest)));
        let erasures = Erasures::new(Arc::clone(&keyring), Arc::clone(&log), TOPIC, Arc::clone(&self.clock));
        Ok(Process { keyring, log, erasures })
    }

    /// Whether the text is anywhere in the log or the records.
    async fn holds(&self, text: &str) -> bool {
        let events = self.inner.read(&TOPIC, 0, 0, ReadLimit::default()).await.unwrap();
        let records: Vec<_> = self.records.snapshot(&[]).try_concat().await.unwrap();
        let bytes = events.iter().map(|stored| stored.event.to_json());
        let records =
            records.iter().map(|record| serde_json::to_vec(&(&record.key, &record.indexes)).unwrap());
        let mut all: Vec<Vec<u8>> = bytes.chain(records).collect();
        let bodies: Vec<_> = self.records.snapshot(&[]).try_concat().await.unwrap();
        all.extend(bodies.into_iter().map(|record| record.body.to_vec()));
        all.iter().any(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    }
}

fn event(tenant: &str, id: &str, user: Option<&str>) -> Event {
    let data = serde_json::json!({"user_id": user, "secret": format!("marker of {id}")});
    let json = serde_json::json!({"specversion": "1.0", "id": id, "source": "/users/marker", "type": "t.v1",
        "subject": "marker", "partitionkey": "marker", "trace": "marker", "data": data});
    let draft: EventDraft = serde_json::from_value(json).unwrap();
    draft.seal(&scope(tenant), Timestamp::UNIX_EPOCH).unwrap()
}

impl Process {
    async fn append(&self, tenant: &str, id: &str, user: Option<&str>) -> Outcome {
        let events = vec![event(tenant, id, user)];
        self.log.append(&scope(tenant), &TOPIC, events).await.unwrap()[0].outcome
    }

    async fn read(&self) -> Vec<Event> {
        let read = self.log.read(&TOPIC, 0, 0, ReadLimit::default()).await.unwrap();
        read.into_iter().map(|stored| stored.event).filter(|event| event.kind != ERASED).collect()
    }

    /// The ids that can still be read, and how many cannot.
    async fn readable(&self) -> (Vec<String>, usize) {
        let read = self.read().await;
        let gone = read.iter().filter(|event| is_erased(event)).count();
        (read.into_iter().filter(|event| !is_erased(event)).map(|event| event.id).collect(), gone)
    }

    async fn erase(&self, tenant: &str, user: &str) -> Option<Erasure> {
        let prepared = self.erasures.prepare(&scope(tenant), user, false).await.unwrap()?;
        let erasure = self.erasures.begin(&scope(tenant), prepared).await.unwrap();
        self.erasures.tell(&scope(tenant), &erasure).await.unwrap();
        Some(erasure)
    }
}

#[tokio::test]
async fn an_event_comes_back_as_it_was_and_is_nowhere_in_the_open() {
    let house = House::new();
    let process = house.open(&[OLD], true).await.unwrap();
    assert_eq!(process.append("shop", "1", Some("ada-marker")).await, Outcome::New);
    assert_eq!(process.append("shop", "1", Some("ada-marker")).await, Outcome::Duplicate);
    assert!(!house.holds("marker").await);
    // As another process reads it.
    let other = house.open(&[OLD], false).await.unwrap();
    let read = other.read().await;
    let (mut found, sent) = (read[0].clone(), event("shop", "1", Some("ada-marker")));
    assert!(key_of(&found).is_some() && check_marks(&found).is_err());
    found.extensions.remove(KEY_MARK);
    assert_eq!(found.to_json(), sent.to_json());
    assert!(check_marks(&found).is_ok());
    process.append("shop", "2", None).await;
    assert!(house.holds("marker of 2").await, "what is of nobody is not sealed");
}

#[tokio::test]
async fn an_erasure_forgets_one_person_of_one_tenant_on_every_replica() {
    let house = House::new();
    let (one, two) = (house.open(&[OLD], true).await.unwrap(), house.open(&[OLD], true).await.unwrap());
    for (tenant, id, user) in [("shop", "1", "ada"), ("shop", "2", "bob"), ("other", "3", "ada")] {
        one.append(tenant, id, Some(user)).await;
    }
    assert_eq!(two.readable().await.0.len(), 3);
    let erasure = one.erase("shop", "ada").await.unwrap();
    for process in [&one, &two, &house.open(&[OLD], true).await.unwrap()] {
        assert_eq!(process.readable().await, (vec!["2".to_owned(), "3".to_owned()], 1));
    }
    let gone = one.read().await.into_iter().find(is_erased).unwrap();
    assert_eq!(gone.data.unwrap().get(), r#"{"what":"film"}"#);
    assert_eq!(one.erase("shop", "ada").await, None, "there is nothing left");
    // She comes back, on a replica that knew her: under another key.
    two.append("shop", "4", Some("ada")).await;
    assert_eq!(one.readable().await.0, ["2", "3", "4"]);
    let (listed, _) = one.erasures.list(&scope("shop"), None, 10).await.unwrap();
    assert_eq!((listed.len(), &listed[0].id, listed[0].progress), (1, &erasure.id, Progress::Told));
    assert_eq!(one.erasures.open(&scope("shop")).await.unwrap().len(), 1);
    one.erasures.mark(&scope("shop"), &erasure.id, Progress::Complete).await.unwrap();
    one.erasures.mark(&scope("shop"), &erasure.id, Progress::Told).await.unwrap();
    assert!(one.erasures.open(&scope("shop")).await.unwrap().is_empty());
    assert!(one.erasures.list(&scope("other"), None, 10).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_start_without_the_keys_in_use_is_refused_and_a_rotation_frees_the_old_one() {
    let house = House::new();
    assert!(house.open(&[], true).await.is_err(), "nothing can be sealed");
    assert!(house.open(&["short"], false).await.is_err());
    let process = house.open(&[OLD], true).await.unwrap();
    process.append("shop", "1", Some("ada")).await;
    for keys in [&[][..], &[NEW][..]] {
        let error = house.open(keys, true).await.unwrap_err();
        assert_eq!(error.field(), Some("compliance.encryption_keys"), "{error}");
    }
    let both = house.open(&[NEW, OLD], true).await.unwrap();
    // The store's secret, the tenant's and ada's key.
    assert_eq!(rotate(&both.keyring).await.unwrap(), Rotated { wrapped: 3, current: 0 });
    assert_eq!(rotate(&both.keyring).await.unwrap(), Rotated { wrapped: 0, current: 3 });
    let after = house.open(&[NEW], true).await.unwrap();
    assert_eq!(after.readable().await, (vec!["1".to_owned()], 0));
    assert_eq!(after.append("shop", "1", Some("ada")).await, Outcome::Duplicate);
    assert!(house.open(&[OLD], true).await.is_err(), "the old key opens nothing any more");
}

#[tokio::test]
async fn keys_of_a_later_backup_do_not_bring_back_who_was_forgotten() {
    let house = House::new();
    let process = house.open(&[OLD], true).await.unwrap();
    for (id, user) in [("1", "ada"), ("2", "bob")] {
        process.append("shop", id, Some(user)).await;
    }
    process.erase("shop", "ada").await.unwrap();
    let all: Vec<_> = house.records.snapshot(&[]).try_concat().await.unwrap();
    let kept = all.into_iter().filter(|record| TABLES.contains(&record.table.as_str())).collect();
    // The log of before, the keys of now.
    let restored = House { inner: Arc::clone(&house.inner), ..House::new() };
    restored.records.restore(kept).await.unwrap();
    let again = restored.open(&[OLD], true).await.unwrap();
    assert_eq!(again.readable().await, (vec!["2".to_owned()], 1));
    assert_eq!(again.erasures.replay(&scope("shop")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn objects_and_values_are_sealed_and_what_was_open_before_is_read() {
    let house = House::new();
    let (blobs, entropy): (Arc<dyn Blobs>, _) = (Arc::new(memory_blobs()), Arc::clone(&house.clock));
    let (scope, text) = (scope("shop"), bytes::Bytes::from_static(b"a marker in the open"));
    blobs.put(&scope, "a/before", text.clone(), PutMode::Create).await.unwrap();
    let keyring = house.open(&[OLD], true).await.unwrap().keyring;
    let sealed = SealedBlobs::new(Arc::clone(&blobs), Arc::clone(&keyring));
    sealed.put(&scope, "a/b", text.clone(), PutMode::Create).await.unwrap();
    assert_eq!(sealed.get(&scope, "a/before").await.unwrap(), text);
    assert_eq!(sealed.get(&scope, "a/b").await.unwrap(), text);
    assert_eq!(sealed.get_range(&scope, "a/b", 2..8).await.unwrap(), "marker");
    let raw = blobs.get(&scope, "a/b").await.unwrap();
    assert!(!raw.windows(6).any(|part| part == b"marker"));
    blobs.put(&scope, "a/moved", raw, PutMode::Create).await.unwrap();
    assert!(sealed.get(&scope, "a/moved").await.is_err(), "it is bound to its place");

    let cache: Arc<dyn Cache> = Arc::new(MemoryCache::new(entropy));
    let sealed = SealedCache::new(Arc::clone(&cache), keyring);
    let minute = std::time::Duration::from_secs(60);
    sealed.set(&scope, "a", text.clone(), minute).await.unwrap();
    assert_eq!(sealed.get(&scope, "a").await.unwrap(), Some(text));
    let raw = cache.get(&scope, "a").await.unwrap().unwrap();
    cache.set(&scope, "b", raw, minute).await.unwrap();
    assert_eq!(sealed.get(&scope, "b").await.unwrap(), None);
}

proptest! {
    #[test]
    fn any_change_of_what_is_sealed_is_found(plain: Vec<u8>, place: prop::sample::Index, bit in 0..8_u8) {
        let cipher = cipher::Cipher::new(&[7; 32]);
        let mut sealed = cipher.seal(&SeededEntropy::new(1), b"about", &plain);
        prop_assert_eq!(cipher.open(b"about", &sealed).unwrap(), plain);
        prop_assert!(cipher.open(b"else", &sealed).is_err());
        let place = place.index(sealed.len());
        sealed[place] ^= 1 << bit;
        prop_assert!(cipher.open(b"about", &sealed).is_err());
    }
}
