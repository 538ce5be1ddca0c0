//! Damaged files: what was acknowledged and is whole is there, and damage is reported, never read as data and
//! never dropped in silence.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::{Event, EventDraft, Result, Scope, SystemClock, TenantId, Timestamp, codes};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use store::{Expect, IndexValue, Query, ReadLimit, Selection, Table, Topic, Write};
use store_embedded::{EmbeddedStore, Options};

const TOPIC: Topic = Topic::fixed("events");
const TABLE: Table = Table { name: "things", indexes: &["size"] };
const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: usize::MAX };

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

fn open(folder: &Path) -> Result<EmbeddedStore> {
    let options = Options { write_buffer_bytes: 1 << 20, ..Options::default() };
    EmbeddedStore::open(folder, options, Arc::new(SystemClock::new()))
}

fn event(number: u64) -> Event {
    let noise: String = (0..4)
        .map(|part| format!("{:016x}", (number * 4 + part).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let json =
        format!(r#"{{"specversion":"1.0","id":"{number}","source":"/test","type":"t","data":"{noise}"}}"#);
    let draft: EventDraft = serde_json::from_str(&json).unwrap();
    draft.seal(&scope(), Timestamp::UNIX_EPOCH).unwrap()
}

fn put(number: u64) -> Write {
    let indexes = vec![("size", IndexValue::Integer(i64::try_from(number).unwrap()))];
    let body = format!("body of {number}").into();
    Write::Put { table: TABLE, key: format!("{number:06}"), body, indexes, expect: Expect::Any }
}

/// Appends batches of ten events and as many records.
async fn write(folder: &Path, batches: u64) {
    let store = open(folder).unwrap();
    for batch in 0..batches {
        let numbers = batch * 10..batch * 10 + 10;
        store.event_log().append(&scope(), &TOPIC, numbers.clone().map(event).collect()).await.unwrap();
        store.records().commit(&scope(), numbers.map(put).collect()).await.unwrap();
    }
    drop(store);
    // Most of the zeros that a journal is made with would only make the tests slow.
    let path = journal(folder);
    let end = end_of(&fs::read(&path).unwrap()) as u64;
    fs::File::options().write(true).open(path).unwrap().set_len(end + 10_000).unwrap();
}

/// Reads everything: how many events and records there are. What is there must be what was written.
async fn read(folder: &Path) -> Result<(u64, u64)> {
    let store = open(folder)?;
    let events = store.event_log().read(&TOPIC, 0, 0, ALL).await?;
    for (number, stored) in (0..).zip(&events) {
        assert_eq!(stored.offset, number);
        assert!(stored.event.to_json() == event(number).to_json(), "event {number} came back changed");
    }
    let next = store.event_log().extents(&TOPIC).await?[0].next;
    assert_eq!(next, events.len() as u64);
    let mut records = 0;
    for selection in
        [Selection::All, Selection::Between("size", IndexValue::Integer(0), IndexValue::Integer(i64::MAX))]
    {
        let page = store.records().list(&scope(), TABLE, &Query::new(selection, 10_000)).await?;
        for (number, record) in (0..).zip(&page.records) {
            let Write::Put { key, body, .. } = put(number) else { unreachable!() };
            assert_eq!((&record.key, &record.body), (&key, &body));
        }
        records = page.records.len() as u64;
    }
    Ok((next, records))
}

fn files_in(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_in(&path, found) } else { found.push(path) }
    }
    found.sort();
}

fn journal(folder: &Path) -> PathBuf {
    let mut files = Vec::new();
    files_in(&folder.join("keyed"), &mut files);
    files.into_iter().rfind(|path| path.extension().is_some_and(|extension| extension == "jnl")).unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    let mut files = Vec::new();
    files_in(from, &mut files);
    for file in files {
        let copy = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
}

fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[tokio::test]
async fn a_torn_journal_keeps_every_whole_write() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 20).await;
    let whole = fs::read(journal(folder.path())).unwrap();
    let end = end_of(&whole);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..25 {
        let cut = random.random_range(end / 3..=end);
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        fs::write(journal(copy.path()), &whole[..cut]).unwrap();
        let (events, records) = read(copy.path()).await.unwrap();
        // Each write is there whole or not at all, in the order it was acknowledged in.
        assert!(events % 10 == 0 && (records == events || records + 10 == events), "{events} and {records}");
        let share = cut as u64 * 200 / end as u64;
        assert!(events + 20 >= share, "cut to {cut} of {end} bytes, only {events} events are left");
        // And the log goes on where it ends.
        let store = open(copy.path()).unwrap();
        let place = store.event_log().append(&scope(), &TOPIC, vec![event(events)]).await.unwrap()[0];
        assert_eq!(place.offset, events);
        drop(store);
        assert_eq!(read(copy.path()).await.unwrap().0, events + 1);
    }
}

#[tokio::test]
async fn garbage_behind_the_journal_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 5).await;
    let path = journal(folder.path());
    let whole = fs::read(&path).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..20 {
        let mut bytes = whole[..end_of(&whole)].to_vec();
        bytes.extend((0..random.random_range(1..5_000)).map(|_| random.random_range(0..=4_u8)));
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(folder.path()).await.unwrap(), (50, 50));
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_journal_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 5).await;
    let path = journal(folder.path());
    let whole = fs::read(&path).unwrap();
    let end = end_of(&whole);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut silent = 0;
    for _ in 0..60 {
        let mut bytes = whole.clone();
        let place = random.random_range(0..end);
        bytes[place] ^= 1 << random.random_range(0..8);
        fs::write(&path, &bytes).unwrap();
        match read(folder.path()).await {
            Err(error) => assert_eq!(error.code(), codes::CORRUPTED, "byte {place}: {error:?}"),
            // In the very last write, a flipped bit in the frame cannot be told from a torn write.
            Ok(found) => {
                assert!(place > end - 2_500, "byte {place} of {end}: {found:?}");
                silent += 1;
            }
        }
    }
    assert!(silent < 10, "{silent} of 60 flips were taken for a torn write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_any_other_file_is_reported_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 600).await;
    assert_eq!(read(folder.path()).await.unwrap(), (6_000, 6_000));
    let mut files = Vec::new();
    files_in(&folder.path().join("keyed"), &mut files);
    files.retain(|path| path.extension().is_none() && path.file_name().is_some_and(|name| name != "lock"));
    let tables =
        files.iter().filter(|path| path.components().any(|part| part.as_os_str() == "tables")).count();
    assert!(tables > 0, "the test needs tables: {files:?}");
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut reported = 0;
    let mut faults = Vec::new();
    for round in 0..45 {
        let path = &files[random.random_range(0..files.len())];
        let whole = fs::read(path).unwrap();
        let mut bytes = whole.clone();
        if bytes.is_empty() {
            continue;
        }
        let place = random.random_range(0..bytes.len());
        match round % 3 {
            0 => bytes[place] ^= 1 << random.random_range(0..8),
            1 => bytes.truncate(place),
            _ => bytes[place..].iter_mut().take(512).for_each(|byte| *byte = 0),
        }
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        fs::write(copy.path().join(path.strip_prefix(folder.path()).unwrap()), &bytes).unwrap();
        let outcome = {
            let copy = copy.path().to_owned();
            tokio::task::spawn_blocking(move || {
                let handle = tokio::runtime::Handle::current();
                catch_unwind(AssertUnwindSafe(|| handle.block_on(read(&copy))))
            })
            .await
            .unwrap()
        };
        let name = path.strip_prefix(folder.path()).unwrap().display();
        match outcome {
            Ok(Ok((6_000, 6_000))) => {}
            Ok(Ok(found)) => {
                faults.push(format!("{name} at {place}: {found:?} are left, and nothing was said"));
            }
            Ok(Err(error)) if error.code() == codes::CORRUPTED => reported += 1,
            Ok(Err(error)) => faults.push(format!("{name} at {place}: {error:?}")),
            Err(_) => faults.push(format!("{name} at {place}: a panic")),
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(reported > 15, "only {reported} damages were noticed");
}
