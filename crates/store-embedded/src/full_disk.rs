//! Tests of a full disk: with a space that lies, and on a small file system that really fills up.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kernel::{Error, Event, EventDraft, Scope, SystemClock, TenantId, Timestamp, codes};
use store::{EventLog, Expect, Outcome, PutMode, ReadLimit, Retention, Table, Topic, Write};

use crate::space::{FileSystemSpace, FreeSpace};
use crate::{EmbeddedStore, Options};

const TOPIC: Topic = Topic::fixed("events");
const TABLE: Table = Table { name: "things", indexes: &[] };
const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
const MIB: u64 = 1 << 20;

/// A disk with as much room as it is told.
#[derive(Debug, Clone)]
struct Told(Arc<AtomicU64>);

impl FreeSpace for Told {
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }
}

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

/// Events of about a kibibyte that do not compress.
fn events(batch: u64, count: u64) -> Vec<Event> {
    (0..count)
        .map(|number| {
            let id = format!("{batch}-{number}");
            let noise: String = (0..16)
                .map(|part| blake3::hash(format!("{id}/{part}").as_bytes()).to_hex().to_string())
                .collect();
            let json = format!(
                r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"t","data":"{noise}"}}"#
            );
            let draft: EventDraft = serde_json::from_str(&json).unwrap();
            draft.seal(&scope(), Timestamp::UNIX_EPOCH).unwrap()
        })
        .collect()
}

fn put(key: &str, body: Bytes) -> Vec<Write> {
    vec![Write::Put { table: TABLE, key: key.to_owned(), body, indexes: Vec::new(), expect: Expect::Any }]
}

fn open(path: &Path, space: Box<dyn FreeSpace>) -> EmbeddedStore {
    let options = Options { reserve_bytes: 4 * MIB, write_buffer_bytes: 2 * MIB, ..Options::default() };
    EmbeddedStore::open_on(path, options, Arc::new(SystemClock::new()), space).unwrap()
}

#[tokio::test]
async fn writes_stop_at_the_reserve_and_go_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let told = Told(Arc::new(AtomicU64::new(1 << 40)));
    let store = open(folder.path(), Box::new(told.clone()));
    let (log, records) = (store.event_log(), store.records());
    log.append(&scope(), &TOPIC, events(0, 10)).await.unwrap();
    told.0.store(3 * MIB, Ordering::Relaxed);
    let full = |error: Error| assert_eq!(error.code(), codes::STORAGE_FULL, "{error:?}");
    full(log.append(&scope(), &TOPIC, events(1, 10)).await.unwrap_err());
    full(records.commit(&scope(), put("a", Bytes::from_static(b"x"))).await.unwrap_err());
    full(log.commit("fold", &TOPIC, 0, 3).await.unwrap_err());
    assert_eq!(log.read(&TOPIC, 0, 0, ALL).await.unwrap().len(), 10, "reading goes on");
    let keep = Retention { events: Some(5), ..Retention::default() };
    assert_eq!(
        log.retain(&TOPIC, keep, Timestamp::UNIX_EPOCH).await.unwrap(),
        5,
        "making room may use the reserve"
    );
    told.0.store(1 << 40, Ordering::Relaxed);
    let places = log.append(&scope(), &TOPIC, events(1, 10)).await.unwrap();
    assert!(places.iter().all(|place| place.outcome == Outcome::New), "nothing of it was written before");
    assert_eq!(records.get(&scope(), TABLE, "a").await.unwrap(), None);
    assert_eq!(log.committed("fold", &TOPIC, 0).await.unwrap(), 0);
}

/// A small file system in memory, gone when dropped. None where the process may not mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    #[expect(clippy::disallowed_methods, reason = "a test that must not be skipped in CI")]
    fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mounted.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        assert!(
            std::env::var("CI").is_err(),
            "CI must run this test as root, so that it can mount: {mounted:?}"
        );
        eprintln!("skipped: a tmpfs cannot be mounted here; run as root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Fills the disk through the log until an append fails; returns how many batches were acknowledged.
async fn fill(log: &Arc<dyn EventLog>, first_batch: u64) -> (u64, Error) {
    let mut batch = first_batch;
    loop {
        match log.append(&scope(), &TOPIC, events(batch, 200)).await {
            Ok(_) => batch += 1,
            Err(error) => return (batch, error),
        }
        assert!(batch < 10_000, "the disk never filled up");
    }
}

async fn assert_holds(log: &Arc<dyn EventLog>, batches: u64) {
    let stored = log.read(&TOPIC, 0, 0, ALL).await.unwrap();
    let expected = (0..batches).flat_map(|batch| (0..200).map(move |number| format!("{batch}-{number}")));
    let mut found = stored.iter().map(|stored| stored.event.id.clone());
    for id in expected {
        assert_eq!(found.next().as_ref(), Some(&id), "an acknowledged event is not in its place");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_disk_fills_up_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::mount(96 * MIB) else { return };
    let path = disk.path().join("store");
    let store = open(&path, Box::new(FileSystemSpace::new(disk.path())));
    let log = store.event_log();
    let (batches, error) = fill(&log, 0).await;
    assert_eq!(error.code(), codes::STORAGE_FULL, "{error:?}");
    assert!(batches > 50, "only {batches} batches fitted");
    // A blob takes the rest, past the reserve, and fails as what it is.
    let blob = Bytes::from(vec![7; 100 << 20]);
    let refused = store.blobs().put(&scope(), "too/large", blob, PutMode::Replace).await.unwrap_err();
    assert_eq!(refused.code(), codes::STORAGE_FULL, "{refused:?}");
    assert_holds(&log, batches).await;
    drop((log, store));

    let store = open(&path, Box::new(FileSystemSpace::new(disk.path())));
    let log = store.event_log();
    assert_holds(&log, batches).await;
    // What opening tidied may have made some room.
    let (batches, error) = fill(&log, batches).await;
    assert_eq!(error.code(), codes::STORAGE_FULL, "{error:?}");
    let more = "mount -o remount,size=200m";
    let remounted =
        Command::new("sh").args(["-c", &format!("{more} '{}'", disk.path().display())]).status().unwrap();
    assert!(remounted.success());
    let places = log.append(&scope(), &TOPIC, events(batches, 200)).await.unwrap();
    assert!(places.iter().all(|place| place.outcome == Outcome::New));
    assert_holds(&log, batches + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_gave_up_is_opened_again_when_there_is_room() {
    let Some(disk) = SmallDisk::mount(64 * MIB) else { return };
    let path = disk.path().join("store");
    // This space lies, so that the disk fills up under the database.
    let told = Told(Arc::new(AtomicU64::new(1 << 40)));
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 20 << 20]).unwrap();
    let store = open(&path, Box::new(told.clone()));
    let log = store.event_log();
    let (batches, error) = fill(&log, 0).await;
    assert!(matches!(error.code(), codes::STORAGE_FULL | codes::UNAVAILABLE), "{error:?}");
    told.0.store(0, Ordering::Relaxed);
    for _ in 0..3 {
        let error = log.append(&scope(), &TOPIC, events(batches, 200)).await.unwrap_err();
        assert_eq!(error.code(), codes::STORAGE_FULL, "{error:?}");
    }
    assert_holds(&log, batches).await;

    fs::remove_file(&ballast).unwrap();
    told.0.store(1 << 40, Ordering::Relaxed);
    let mut attempts = 0;
    while let Err(error) = log.append(&scope(), &TOPIC, events(batches, 200)).await {
        assert!(matches!(error.code(), codes::STORAGE_FULL | codes::UNAVAILABLE), "{error:?}");
        attempts += 1;
        assert!(attempts < 100, "it never opened again: {error:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // Those of the batch that failed may have been found as duplicates; in any case each is there once.
    assert_holds(&log, batches + 1).await;
    assert_eq!(log.extents(&TOPIC).await.unwrap()[0].next, (batches + 1) * 200);
    drop((log, store));
    let store = open(&path, Box::new(told));
    assert_holds(&store.event_log(), batches + 1).await;
}
