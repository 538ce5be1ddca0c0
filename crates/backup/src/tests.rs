//! The life of backups over the in-memory fakes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use kernel::{Clock, Error, ErrorCode, Event, ManualClock, Result, Scope, TenantId, Timestamp, codes};
use proptest::prelude::*;
use store::memory::{MemoryEventLog, MemoryRecords, memory_blobs};
use store::{
    BlobInfo, Blobs, Expect, IndexValue, Leases, PutMode, ReadLimit, Records, Retention, SavedRecord, Table,
    Topic, Write,
};

use crate::*;

mod cut;
mod shared;

const TOPIC: Topic = Topic::fixed("events");
const THINGS: Table = Table { name: "things", indexes: &["size"] };
const LEASES: Table = Table { name: "leases", indexes: &[] };
const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
const QUIET: Tell<'static> = &|_| ();

fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

fn rules() -> Rules {
    Rules {
        tables_kept_once: vec!["keys_of_now"],
        topics: vec![TOPIC],
        tables_left_out: vec!["leases"],
        folders_left_out: vec!["checkpoints"],
        written_once: vec!["models"],
        checkpoints: "checkpoints",
        progress: |body| serde_json::from_slice(body).map_err(|_| Error::new(codes::CORRUPTED, "no offsets")),
    }
}

/// Blobs that fail from some call on.
#[derive(Debug)]
struct Failing {
    inner: Arc<dyn Blobs>,
    calls: AtomicUsize,
    good: AtomicUsize,
    /// Deletions wait while a test holds it.
    gate: tokio::sync::RwLock<()>,
}

impl Failing {
    fn new() -> Arc<Self> {
        let (calls, good) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        Arc::new(Self { inner: Arc::new(memory_blobs()), calls, good, gate: tokio::sync::RwLock::default() })
    }

    /// From now on, so many calls are good.
    fn let_pass(&self, calls: usize) {
        self.calls.store(0, Ordering::Relaxed);
        self.good.store(calls, Ordering::Relaxed);
    }

    fn pass(&self) -> Result<()> {
        let is_good = self.calls.fetch_add(1, Ordering::Relaxed) < self.good.load(Ordering::Relaxed);
        if is_good { Ok(()) } else { Err(Error::new(codes::UNAVAILABLE, "pulled the plug")) }
    }
}

#[async_trait]
impl Blobs for Failing {
    async fn put(&self, scope: &Scope, path: &str, body: Bytes, mode: PutMode) -> Result<()> {
        self.pass()?;
        self.inner.put(scope, path, body, mode).await
    }

    async fn get(&self, scope: &Scope, path: &str) -> Result<Bytes> {
        self.pass()?;
        self.inner.get(scope, path).await
    }

    async fn get_range(&self, scope: &Scope, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.pass()?;
        self.inner.get_range(scope, path, range).await
    }

    async fn list(&self, scope: &Scope, prefix: &str) -> Result<Vec<BlobInfo>> {
        self.pass()?;
        self.inner.list(scope, prefix).await
    }

    async fn delete(&self, scope: &Scope, path: &str) -> Result<()> {
        self.pass()?;
        let _open = self.gate.read().await;
        self.inner.delete(scope, path).await
    }
}

/// Engines, and a vault for them.
struct World {
    source: Source,
    clock: Arc<ManualClock>,
    files: Arc<Failing>,
    vault: Vault,
}

impl World {
    fn new() -> Self {
        Self::with(2)
    }

    fn with(partitions: u32) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_000_000).unwrap()));
        let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
        let files = Failing::new();
        let source = Source {
            leases: Leases::new(Arc::clone(&records), Arc::clone(&clock) as Arc<_>, "one".to_owned()),
            records,
            log: Arc::new(MemoryEventLog::new(partitions)),
            blobs: Arc::new(memory_blobs()),
            clock: Arc::clone(&clock) as Arc<_>,
        };
        let vault = Vault::new(Arc::clone(&files) as Arc<_>, "the vault".to_owned()).unwrap();
        Self { source, clock, files, vault }
    }

    async fn with_data() -> Self {
        let world = Self::new();
        world.events(0..60).await;
        for tenant in ["shop", "shop2"] {
            world.record(tenant, "a", "1").await;
            let blobs = &world.source.blobs;
            let body = Bytes::from(format!("model of {tenant}"));
            blobs.put(&scope(tenant), "models/m/1.bin", body, PutMode::Create).await.unwrap();
        }
        let checkpoint = Bytes::from_static(b"a fold");
        let system = scope("_system");
        world.source.blobs.put(&system, "checkpoints/1", checkpoint, PutMode::Create).await.unwrap();
        world
    }

    /// Events of three tenants, a second apart; each advances the clock.
    async fn events(&self, ids: Range<u64>) {
        for id in ids {
            self.clock.advance(Duration::from_secs(1));
            let tenant = scope(["shop", "shop2", "shop3"][(id % 3) as usize]);
            let event = Event { tenant: tenant.tenant().clone(), ..self.event(id, self.clock.now()) };
            self.source.log.append(&tenant, &TOPIC, vec![event]).await.unwrap();
        }
    }

    fn event(&self, id: u64, time: Timestamp) -> Event {
        Event {
            subject: Some(format!("user-{}", id % 5)),
            data: Some(serde_json::value::to_raw_value(&"x".repeat(100)).unwrap().into()),
            ..Event::new(scope("shop").tenant(), id.to_string(), "/test", "test.happened", time)
        }
    }

    async fn record(&self, tenant: &str, key: &str, body: &str) {
        let put = |table, indexes| Write::Put {
            table,
            key: key.to_owned(),
            body: Bytes::from(body.repeat(40)),
            indexes,
            expect: Expect::Any,
        };
        let writes = vec![put(THINGS, vec![("size", IndexValue::Integer(7))]), put(LEASES, vec![])];
        self.source.records.commit(&scope(tenant), writes).await.unwrap();
    }

    async fn create(&self) -> Result<Created> {
        self.create_with(0, false).await
    }

    async fn create_with(&self, keep: usize, full: bool) -> Result<Created> {
        let options = Options { keep, full, release: "test" };
        create(&self.source, &rules(), &self.vault, &options, QUIET).await
    }

    async fn new_backup(&self) -> (Manifest, Uploaded) {
        match self.create().await.unwrap() {
            Created::New(manifest, uploaded) => (*manifest, uploaded),
            Created::Unchanged(manifest) => panic!("nothing changed since {}", manifest.sequence),
        }
    }

    fn target(&self) -> Target {
        let Source { records, log, blobs, .. } = self.source.clone();
        Target { records, log, blobs }
    }

    /// Brings a backup of `from` back into these engines.
    async fn restore(&self, from: &Self, wanted: Wanted) -> Result<Restored> {
        let plan = Plan::make(&from.vault, wanted).await?;
        verify_plan(&from.vault, &plan, QUIET).await?;
        restore(&self.target(), &rules(), &from.vault, &plan, QUIET).await
    }

    async fn state(&self) -> State {
        let mut events = Vec::new();
        for extent in self.source.log.extents(&TOPIC).await.unwrap() {
            let read = self.source.log.read(&TOPIC, extent.partition, 0, ALL).await.unwrap();
            let line = |stored: &store::Stored| (stored.offset, stored.event.to_json());
            events.push(read.iter().map(line).collect());
        }
        let mut objects = Vec::new();
        for tenant in ["_system", "shop", "shop2", "shop3"] {
            for blob in self.source.blobs.list(&scope(tenant), "").await.unwrap() {
                let body = self.source.blobs.get(&scope(tenant), &blob.path).await.unwrap();
                objects.push((tenant, blob.path, body));
            }
        }
        let records = self.source.records.snapshot(&["leases"]).try_concat().await.unwrap();
        State {
            events,
            records,
            objects: objects.into_iter().filter(|o| !o.1.starts_with("check")).collect(),
        }
    }

    /// Every file of the vault.
    async fn files(&self) -> Vec<String> {
        let listed = self.files.inner.list(&scope("_backup"), "").await.unwrap();
        listed.into_iter().map(|blob| blob.path).collect()
    }

    async fn change_file(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut body = self.files.inner.get(&scope("_backup"), path).await.unwrap().to_vec();
        change(&mut body);
        self.files.inner.put(&scope("_backup"), path, body.into(), PutMode::Replace).await.unwrap();
    }

    /// Fails unless every file of the vault is whole and belongs to a backup.
    async fn check_vault(&self, backups: usize) {
        let verified = verify(&self.vault, QUIET).await.unwrap();
        assert_eq!(verified.backups, backups);
        // And the list of what is kept once.
        assert_eq!(self.files().await.len(), verified.backups + verified.parts + 1, "leftovers");
    }
}

#[derive(Debug, PartialEq)]
struct State {
    events: Vec<Vec<(u64, Vec<u8>)>>,
    records: Vec<SavedRecord>,
    objects: Vec<(&'static str, String, Bytes)>,
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T>, code: ErrorCode, part: &str) {
    let error = outcome.expect_err("it is refused");
    assert!(error.code() == code && error.message().contains(part), "no `{part}` in {error:?}");
}

#[tokio::test]
async fn what_is_backed_up_comes_back() {
    let world = World::with_data().await;
    let (manifest, uploaded) = world.new_backup().await;
    assert!(manifest.segments().count() > 4, "there are many segments");
    assert_eq!((manifest.events(), manifest.record_count(), manifest.objects.len()), (60, 2, 2));
    assert!(uploaded.parts > 6, "{uploaded:?}");
    world.check_vault(1).await;
    // New topics would have another number of partitions there.
    let other = World::with(7);
    let stale = Bytes::from_static(b"a fold of another log");
    other.source.blobs.put(&scope("_system"), "checkpoints/9", stale, PutMode::Create).await.unwrap();
    let restored = other.restore(&world, Wanted::default()).await.unwrap();
    assert_eq!((restored.events, restored.records, restored.objects), (60, 2, 2));
    assert_eq!(restored.newest_event, Some(world.clock.now()));
    assert_eq!(other.state().await, world.state().await);
    assert!(
        other.source.blobs.list(&scope("_system"), "").await.unwrap().is_empty(),
        "no checkpoint is left"
    );
    // Both go on in the same way.
    world.events(60..70).await;
    other.clock.advance(world.clock.elapsed() - Duration::from_secs(10));
    other.events(60..70).await;
    assert_eq!(other.state().await, world.state().await);
}

#[tokio::test]
async fn nothing_at_all_can_be_backed_up() {
    let world = World::new();
    assert_eq!(world.new_backup().await.0.events(), 0);
    let other = World::new();
    assert_eq!(other.restore(&world, Wanted::default()).await.unwrap(), Restored::default());
    refused(Plan::make(&World::new().vault, Wanted::default()).await, codes::NOT_FOUND, "no backup");
    refused(
        Plan::make(&world.vault, Wanted { backup: Some(9), to_time: None }).await,
        codes::NOT_FOUND,
        "no backup 9",
    );
}

#[tokio::test]
async fn only_what_is_new_is_sent() {
    let world = World::with_data().await;
    let (first, all) = world.new_backup().await;
    assert!(matches!(world.create().await.unwrap(), Created::Unchanged(held) if *held == first));
    world.events(60..61).await;
    let (second, uploaded) = world.new_backup().await;
    assert_eq!(uploaded.parts, 1, "the last segment of one partition");
    assert!(uploaded.bytes < all.bytes / 4, "{uploaded:?}");
    assert_eq!(second.previous.as_ref().map(|previous| previous.sequence), Some(1));
    world.record("shop", "b", "2").await;
    assert_eq!(world.new_backup().await.1.parts, 1, "the records of one table");
    world.check_vault(3).await;
    for (backup, events) in [(1, 60), (2, 61), (3, 61)] {
        let wanted = Wanted { backup: Some(backup), to_time: None };
        assert_eq!(World::new().restore(&world, wanted).await.unwrap().events, events);
    }
}

#[tokio::test]
async fn the_newest_are_kept() {
    let world = World::with_data().await;
    for round in 1..=6 {
        world.events(60 * round..60 * round + 40).await;
        world.record("shop", "a", &round.to_string()).await;
        assert!(matches!(world.create_with(3, false).await.unwrap(), Created::New(..)));
    }
    assert_eq!(world.vault.sequences().await.unwrap(), [4, 5, 6]);
    world.check_vault(3).await;
    let other = World::new();
    other.restore(&world, Wanted::default()).await.unwrap();
    assert_eq!(other.state().await, world.state().await);
}

#[tokio::test]
async fn a_backup_that_is_killed_anywhere_harms_nothing() {
    let mut killed = 0;
    for calls in 0.. {
        let world = World::with_data().await;
        world.new_backup().await;
        let before = world.state().await;
        world.events(60..90).await;
        world.record("shop", "b", "2").await;
        world.files.let_pass(calls);
        let outcome = world.create_with(1, false).await;
        let is_done = world.files.calls.load(Ordering::Relaxed) <= calls;
        world.files.let_pass(usize::MAX);
        if is_done {
            assert!(matches!(outcome, Ok(Created::New(_, uploaded)) if uploaded.pruned == 1));
            break;
        }
        killed += 1;
        verify(&world.vault, QUIET).await.unwrap();
        if outcome.is_err() {
            let other = World::new();
            other.restore(&world, Wanted::default()).await.unwrap();
            assert_eq!(other.state().await, before, "the last good one is as it was");
        }
        world.events(90..91).await;
        assert!(matches!(world.create_with(1, false).await.unwrap(), Created::New(..)));
        world.check_vault(1).await;
        let other = World::new();
        other.restore(&world, Wanted::default()).await.unwrap();
        assert_eq!(other.state().await, world.state().await);
    }
    assert!(killed > 10, "{killed}");
}

#[tokio::test]
async fn a_restore_that_is_killed_anywhere_goes_on() {
    let world = World::with_data().await;
    world.new_backup().await;
    let plan = Plan::make(&world.vault, Wanted::default()).await.unwrap();
    for calls in 0.. {
        let other = World::new();
        world.files.let_pass(calls);
        let run = async || restore(&other.target(), &rules(), &world.vault, &plan, QUIET).await;
        let outcome = run().await;
        world.files.let_pass(usize::MAX);
        if outcome.is_ok() {
            assert!(calls > 8, "{calls}");
            break;
        }
        refused(refuse_unfinished(&other.source.records).await, codes::CONFLICT, "again");
        refused(other.create().await, codes::CONFLICT, "cut off");
        let later = World::with_data().await;
        later.events(60..61).await;
        later.new_backup().await;
        refused(other.restore(&later, Wanted::default()).await, codes::CONFLICT, "another restore");
        run().await.unwrap();
        refuse_unfinished(&other.source.records).await.unwrap();
        assert_eq!(other.state().await, world.state().await);
    }
}

#[tokio::test]
async fn data_is_never_restored_over() {
    let world = World::with_data().await;
    world.new_backup().await;
    let (with_event, with_record) = (World::new(), World::new());
    with_event.events(0..1).await;
    with_record.record("shop", "a", "1").await;
    for (other, what) in [(with_event, "topic `events`"), (with_record, "table `leases`")] {
        let before = other.state().await;
        refused(other.restore(&world, Wanted::default()).await, codes::CONFLICT, what);
        assert_eq!(other.state().await, before);
    }
}

#[tokio::test]
async fn the_log_is_cut_at_a_time() {
    let world = World::with_data().await;
    let first = world.new_backup().await.0;
    world.events(60..80).await;
    world.record("shop", "a", "2").await;
    world.clock.advance(Duration::from_secs(1));
    world.new_backup().await;
    let start = Timestamp::from_second(1_000_000).unwrap();
    let at = |second: u64| start + Duration::from_secs(second);
    let check = async |second: u64, events: u64, record: &str, is_older: bool| {
        let wanted = Wanted { backup: None, to_time: Some(at(second)) };
        let plan = Plan::make(&world.vault, wanted).await.unwrap();
        assert_eq!(plan.is_older_than_every_backup(), is_older, "{second}");
        let other = World::new();
        assert_eq!(other.restore(&world, wanted).await.unwrap().events, events, "{second}");
        let found = other.source.records.get(&scope("shop"), THINGS, "a").await.unwrap().unwrap();
        assert_eq!(found.body, record.repeat(40), "{second}");
        plan.recovery_point()
    };
    assert_eq!(first.taken_at, at(60));
    assert_eq!(check(60, 60, "1", false).await, at(60));
    assert_eq!(check(73, 73, "1", false).await, at(73));
    assert_eq!(check(80, 80, "1", false).await, at(80));
    assert_eq!(check(81, 80, "2", false).await, at(81));
    assert_eq!(check(5_000, 80, "2", false).await, at(81));
    assert_eq!(check(30, 30, "1", true).await, at(30), "before every backup");
    assert_eq!(check(0, 0, "1", true).await, at(0));
}

#[tokio::test]
async fn another_log_is_not_mixed_in() {
    let world = World::with_data().await;
    world.new_backup().await;
    let mut empty = World::new();
    empty.vault = world.vault.clone();
    refused(empty.create().await, codes::CONFLICT, "another log");
    let mut longer = World::new();
    longer.events(1_000..1_100).await;
    longer.vault = world.vault.clone();
    refused(longer.create().await, codes::CONFLICT, "another log");
    let mut other = World::with(3);
    other.events(0..61).await;
    other.vault = world.vault.clone();
    refused(other.create().await, codes::CONFLICT, "another log");
    // One that was restored goes on where the first was.
    let mut restored = World::new();
    restored.restore(&world, Wanted::default()).await.unwrap();
    restored.events(60..62).await;
    restored.vault = world.vault.clone();
    assert_eq!(restored.new_backup().await.0.sequence, 2);
    world.events(62..70).await;
    refused(world.create().await, codes::CONFLICT, "went on after");
    assert_eq!(verify(&world.vault, QUIET).await.unwrap().backups, 2);
}

#[tokio::test]
async fn what_retention_took_stays_in_the_backups() {
    let world = World::with_data().await;
    world.new_backup().await;
    let whole = world.state().await;
    let keep = Retention { age: None, events: Some(8), ..Retention::default() };
    world.source.log.retain(&TOPIC, keep, world.clock.now()).await.unwrap();
    world.events(60..65).await;
    let (manifest, _) = world.new_backup().await;
    assert_eq!(manifest.events(), 65);
    let other = World::new();
    other.restore(&world, Wanted::default()).await.unwrap();
    let (found, left) = (other.state().await, world.state().await);
    for ((found, whole), left) in found.events.iter().zip(&whole.events).zip(&left.events) {
        assert!(found.starts_with(whole), "what was there before the cut comes back");
        assert!(found.ends_with(left), "and what came after it");
    }
}

#[tokio::test]
async fn one_backup_at_a_time() {
    let world = World::with_data().await;
    let records = Arc::clone(&world.source.records);
    let two = Leases::new(records, Arc::clone(&world.clock) as Arc<_>, "two".to_owned());
    assert!(two.acquire(&scope("_system"), "backup", Duration::from_secs(60)).await.unwrap());
    refused(world.create().await, codes::OVERLOADED, "another process");
    world.clock.advance(Duration::from_secs(60));
    world.new_backup().await;
    assert!(two.acquire(&scope("_system"), "backup", Duration::from_secs(60)).await.unwrap(), "given up");
}

#[tokio::test]
async fn a_damaged_vault_is_healed_by_sending_everything() {
    let world = World::with_data().await;
    world.new_backup().await;
    world.change_file("manifests/0000000001.json", |body| body[100] ^= 1).await;
    world.events(60..61).await;
    refused(world.create().await, codes::CORRUPTED, "--full");
    assert!(matches!(world.create_with(1, true).await.unwrap(), Created::New(..)));
    world.check_vault(1).await;
    // A part that vanished is sent again.
    let part = world.files().await.into_iter().find(|path| path.starts_with("parts/")).unwrap();
    world.files.inner.delete(&scope("_backup"), &part).await.unwrap();
    refused(verify(&world.vault, QUIET).await, codes::CORRUPTED, "is missing");
    world.create_with(1, false).await.unwrap();
    world.check_vault(1).await;
}

#[tokio::test]
async fn a_shipper_ships_what_comes() {
    tokio::time::pause();
    let world = World::with_data().await;
    let metrics = BackupMetrics::default();
    let shipper = Shipper {
        source: world.source.clone(),
        rules: rules(),
        vault: world.vault.clone(),
        options: Options { keep: 2, full: false, release: "test" },
        pause: Duration::from_secs(10),
        metrics: metrics.clone(),
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(shipper.run(stop.clone()));
    for round in 0_u64..4 {
        tokio::time::sleep(Duration::from_secs(11)).await;
        world.clock.advance(Duration::from_secs(11));
        world.events(100 * round + 100..100 * round + 110).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(metrics.failed.get(), 0);
    assert!(metrics.taken.get() >= 3, "{}", metrics.taken.get());
    world.check_vault(2).await;
    let other = World::new();
    other.restore(&world, Wanted::default()).await.unwrap();
    assert_eq!(other.state().await, world.state().await);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any change of any file is found and named, and nothing is restored.
    #[test]
    fn every_damage_is_found_and_named(file: prop::sample::Index, byte: prop::sample::Index, bit in 0..8_u8, cut: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            world.events(0..12).await;
            world.record("shop", "a", "1").await;
            let body = Bytes::from_static(b"model");
            world.source.blobs.put(&scope("shop"), "models/1", body, PutMode::Create).await.unwrap();
            world.new_backup().await;
            let files = world.files().await;
            let path = file.get(&files);
            world.change_file(path, |body| {
                let at = byte.index(body.len());
                if cut { body.truncate(at) } else { body[at] ^= 1 << bit }
            }).await;
            refused(verify(&world.vault, QUIET).await, codes::CORRUPTED, path);
            let other = World::new();
            refused(other.restore(&world, Wanted::default()).await, codes::CORRUPTED, path);
            let nothing = other.source.records.snapshot(&[]).try_concat().await.unwrap();
            assert!(nothing.is_empty() && other.state().await.events.concat().is_empty());
        });
    }

    #[test]
    fn garbage_is_refused(bytes: Vec<u8>) {
        let _ = Manifest::open(&bytes);
        let _ = part::read_events(0, &bytes);
        let _ = part::read_records(&bytes);
        let size = bytes.len() as u64;
        let part = Part { blake3: blake3::hash(&bytes).to_hex().to_string(), bytes: size, raw_bytes: size, sent_for: 0 };
        let _ = part::unpack(&part, &bytes);
    }
}
