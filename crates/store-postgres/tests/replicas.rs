//! Many stores on one server: they see each other's events soon, in order, and once.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{ALL, Schema, TOPIC, draw, event, scope};
use kernel::{Clock, Entropy, Event, SystemClock};
use proptest::prelude::*;
use store::{Appended, EventLog, Outcome, Stored};

const SECOND: Duration = Duration::from_secs(1);

/// A waiter in one store wakes within a second of an append in another, by notification and without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_wakes_for_another_stores_event() {
    let schema = Schema::migrated().await;
    let clock = SystemClock::new();
    // With so rare a look, only a notification can be so soon.
    for (poll_seconds, limit) in [(30.0, SECOND), (0.2, SECOND)] {
        let writer = schema.open().await.event_log();
        let reader = schema.open_with(|settings| settings.poll_seconds = poll_seconds).await.event_log();
        let next =
            writer.append(&scope(), &TOPIC, vec![event(format!("first {poll_seconds}"))]).await.unwrap();
        let offset = next[0].offset + 1;
        reader.wait(&TOPIC, 0, offset - 1).await.unwrap();
        let waiting = Arc::clone(&reader);
        let waiter = tokio::spawn(async move { waiting.wait(&TOPIC, 0, offset).await });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!waiter.is_finished());
        let start = clock.elapsed();
        writer.append(&scope(), &TOPIC, vec![event(format!("second {poll_seconds}"))]).await.unwrap();
        tokio::time::timeout(limit, waiter).await.expect("it wakes in time").unwrap().unwrap();
        let taken = clock.elapsed().saturating_sub(start);
        assert_eq!(reader.read(&TOPIC, 0, offset, ALL).await.unwrap().len(), 1, "after {taken:?}");
    }
}

/// A notification that never came is made up for: here the other writer's go to a channel that nobody listens to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_looks_by_itself() {
    let schema = Schema::migrated().await;
    let log = schema.open().await.event_log();
    log.append(&scope(), &TOPIC, vec![event("first")]).await.unwrap();
    let waiting = Arc::clone(&log);
    let waiter = tokio::spawn(async move { waiting.wait(&TOPIC, 0, 1).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    // What a store does, without its notification.
    let append = "SELECT append_events(1, ARRAY[0], ARRAY[gen_random_uuid()], ARRAY[0::int8], ARRAY[0], ARRAY[''::bytea])";
    schema.client().await.batch_execute(append).await.unwrap();
    tokio::time::timeout(SECOND, waiter).await.expect("it looks in time").unwrap().unwrap();
}

/// Follows the log like a processor: reads on from the last offset, and never looks back.
async fn follow(log: Arc<dyn EventLog>, partitions: u32, is_done: Arc<AtomicBool>) -> Vec<Vec<Stored>> {
    let mut found: Vec<Vec<Stored>> = (0..partitions).map(|_| Vec::new()).collect();
    loop {
        // Read before the last look, so that nothing comes after it.
        let was_done = is_done.load(Ordering::Acquire);
        let mut is_quiet = true;
        for (partition, events) in (0..partitions).zip(&mut found) {
            let next = events.last().map_or(0, |stored| stored.offset + 1);
            let more = log.read(&TOPIC, partition, next, ALL).await.unwrap();
            is_quiet &= more.is_empty();
            events.extend(more);
        }
        if was_done && is_quiet {
            return found;
        }
    }
}

/// Stores that append at once, and a reader of each that follows: no reader skips an event, whatever order the
/// transactions commit in. A slow foreign transaction that holds a place shows that the order is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_skips_an_event() {
    let schema = Schema::migrated().await;
    let partitions = 3;
    let open = async || schema.open_with(|settings| settings.partitions = partitions).await.event_log();
    let stores = [open().await, open().await, open().await];
    stores[0].append(&scope(), &TOPIC, vec![event("first")]).await.unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = stores
        .iter()
        .map(|log| tokio::spawn(follow(Arc::clone(log), partitions, Arc::clone(&is_done))))
        .collect();
    let appender = |number: usize| {
        let log = Arc::clone(&stores[number % stores.len()]);
        let random = draw(number as u64);
        tokio::spawn(async move {
            for round in 0..25 {
                let size = random.next_u64() % 9 + 1;
                let batch = (0..size).map(|item| {
                    let key = Some((random.next_u64() % 7).to_string());
                    Event { partition_key: key, ..event(format!("{number} {round} {item}")) }
                });
                log.append(&scope(), &TOPIC, batch.collect()).await.unwrap();
            }
        })
    };
    let appenders: Vec<_> = (0..9).map(appender).collect();
    // Takes places early and commits late, again and again.
    let mut slow = schema.client().await;
    for _ in 0..10 {
        let transaction = slow.transaction().await.unwrap();
        let json = String::from_utf8(event(draw(1).next_u64()).to_json()).unwrap();
        let checksum = crc32fast::hash(json.as_bytes()).cast_signed();
        let append = "SELECT append_events(1, ARRAY[1], ARRAY[gen_random_uuid()], ARRAY[0::int8], ARRAY[$1::int4], ARRAY[$2::bytea])";
        transaction.execute(append, &[&checksum, &json.as_bytes()]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        transaction.commit().await.unwrap();
    }
    for appender in appenders {
        appender.await.unwrap();
    }
    is_done.store(true, Ordering::Release);
    let extents = stores[0].extents(&TOPIC).await.unwrap();
    for reader in readers {
        for (extent, events) in extents.iter().zip(reader.await.unwrap()) {
            let offsets: Vec<u64> = events.iter().map(|stored| stored.offset).collect();
            assert_eq!(offsets, (0..extent.next).collect::<Vec<_>>(), "partition {}", extent.partition);
        }
    }
    assert!(extents.iter().map(|extent| extent.next).sum::<u64>() > 225);
}

/// Groups of appends from several stores at once, with many ids in common.
async fn append_at_once(batches: Vec<Vec<u8>>) -> (Vec<(u8, Appended)>, Vec<Vec<Stored>>) {
    let schema = Schema::migrated().await;
    let open = async || schema.open_with(|settings| settings.partitions = 2).await.event_log();
    let stores = [open().await, open().await];
    let calls: Vec<_> = batches
        .into_iter()
        .enumerate()
        .map(|(number, ids)| {
            let log = Arc::clone(&stores[number % 2]);
            tokio::spawn(async move {
                // The same id may come with another key, so for another partition.
                let key = Some(number.to_string());
                let batch = ids.iter().map(|id| Event { partition_key: key.clone(), ..event(id) }).collect();
                let places = log.append(&scope(), &TOPIC, batch).await.unwrap();
                ids.into_iter().zip(places).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut places = Vec::new();
    for call in calls {
        places.extend(call.await.unwrap());
    }
    let mut held = Vec::new();
    for extent in stores[0].extents(&TOPIC).await.unwrap() {
        let events = stores[0].read(&TOPIC, extent.partition, 0, ALL).await.unwrap();
        assert_eq!(events.len() as u64, extent.next, "offsets are dense");
        held.push(events);
    }
    (places, held)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever batches are appended at once, from two stores: each id is held once, was new to one caller, and has
    /// one place that all callers were told.
    #[test]
    fn each_event_is_held_once(batches in prop::collection::vec(prop::collection::vec(0_u8..30, 1..12), 1..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (places, held) = runtime.block_on(append_at_once(batches));
        let mut place_of: HashMap<u8, (u32, u64)> = HashMap::new();
        let mut new = HashSet::new();
        for (id, place) in &places {
            let at = (place.partition, place.offset);
            prop_assert_eq!(*place_of.entry(*id).or_insert(at), at, "one place for {}", id);
            prop_assert!(place.outcome == Outcome::Duplicate || new.insert(*id), "{} is new twice", id);
        }
        prop_assert_eq!(new.len(), place_of.len(), "each is new once");
        prop_assert_eq!(held.iter().map(Vec::len).sum::<usize>(), place_of.len());
        for (id, (partition, offset)) in place_of {
            let stored = &held[partition as usize][usize::try_from(offset).unwrap()];
            prop_assert_eq!(&stored.event.id, &id.to_string());
        }
    }
}

/// Two stores that compare and set one record never both win, and a version never comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_stores_wins_a_version() {
    use bytes::Bytes;
    use store::{Expect, Table, Write};
    const TABLE: Table = Table { name: "things", indexes: &[] };
    let schema = Schema::migrated().await;
    let stores = [schema.open().await.records(), schema.open().await.records()];
    let task = |number: usize| {
        let records = Arc::clone(&stores[number % 2]);
        tokio::spawn(async move {
            let mut versions = Vec::new();
            for _ in 0..40 {
                let found = records.get(&scope(), TABLE, "a").await.unwrap();
                let expect = found.map_or(Expect::Absent, |found| Expect::Version(found.version));
                let key = "a".to_owned();
                let write = if expect != Expect::Absent && versions.len() % 3 == 2 {
                    Write::Delete { table: TABLE, key, expect }
                } else {
                    Write::Put { table: TABLE, key, body: Bytes::new(), indexes: Vec::new(), expect }
                };
                if let Ok(written) = records.commit(&scope(), vec![write]).await {
                    versions.push(written[0]);
                }
            }
            versions
        })
    };
    let mut seen = HashSet::new();
    for task in (0..6).map(task).collect::<Vec<_>>() {
        let versions: Vec<u64> = task.await.unwrap().into_iter().filter(|version| *version > 0).collect();
        assert!(versions.is_sorted(), "{versions:?}");
        assert!(versions.iter().all(|version| seen.insert(*version)), "a version came twice");
    }
    assert!(!seen.is_empty());
}
