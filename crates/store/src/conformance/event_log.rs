//! The rules of the `EventLog` port.

mod restore;
mod retention;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kernel::{Event, Timestamp, codes};
use serde_json::value::{RawValue, to_raw_value};

pub use restore::{a_restore_goes_on_where_the_partition_ends, restored_events_stand_where_they_stood};

use super::{Draw, assert_refused, scope};
use crate::memory::MemoryEventLog;
use crate::{Appended, EventLog, Extent, MAX_APPEND_BATCH, Outcome, ReadLimit, Retention, Stored, Topic};

pub use retention::*;

/// One test per rule of the `EventLog` port.
#[macro_export]
macro_rules! event_log_conformance {
    ($open:expr) => {
        $crate::conformance_tests!(
            event_log,
            $open,
            [
                offsets_start_at_zero_and_grow_by_one,
                an_empty_topic_has_empty_extents,
                an_event_is_kept_to_the_letter,
                reads_keep_their_limits,
                one_batch_has_no_duplicates,
                later_batches_have_no_duplicates,
                reopening_keeps_duplicates_out,
                an_identity_is_tenant_source_and_id,
                one_partition_key_keeps_its_order,
                topics_do_not_meet,
                reopening_keeps_everything,
                another_tenants_event_is_refused,
                too_large_a_batch_is_refused,
                concurrent_appends_do_not_collide,
                one_event_from_many_callers_is_written_once,
                retention_by_count_keeps_the_newest,
                retention_by_age_stops_at_the_first_young_event,
                retention_by_both_bounds_keeps_what_is_within_both,
                retention_stops_at_the_offset_that_must_stay,
                offsets_are_not_reused_after_retention,
                an_id_that_retention_took_may_come_again,
                a_waiter_wakes_when_an_event_comes,
                a_waiter_for_what_is_there_returns_at_once,
                a_dropped_waiter_is_harmless,
                groups_remember_their_offsets,
                a_missing_partition_is_refused,
                a_bad_group_is_refused,
                restored_events_stand_where_they_stood,
                a_restore_goes_on_where_the_partition_ends,
                it_agrees_with_the_fake,
            ]
        );
    };
}

const TOPIC: Topic = Topic::fixed("events");
const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: usize::MAX };

fn event_of(tenant: &str, source: &str, id: &str, key: &str) -> Event {
    Event {
        partition_key: Some(key.to_owned()),
        ..Event::new(scope(tenant).tenant(), id, source, "test.happened", Timestamp::UNIX_EPOCH)
    }
}

fn event(id: impl ToString) -> Event {
    event_of("shop", "/test", &id.to_string(), "key")
}

fn events(ids: std::ops::Range<u64>) -> Vec<Event> {
    ids.map(event).collect()
}

async fn append(log: &Arc<dyn EventLog>, events: Vec<Event>) -> Vec<Appended> {
    log.append(&scope("shop"), &TOPIC, events).await.expect("the events are good")
}

async fn read_all(log: &Arc<dyn EventLog>, topic: &Topic) -> Vec<Vec<Stored>> {
    let mut partitions = Vec::new();
    for extent in log.extents(topic).await.unwrap() {
        let found = log.read(topic, extent.partition, 0, ALL).await.unwrap();
        assert_eq!(found.len() as u64, extent.next - extent.first, "every event of {extent:?} is read");
        for (offset, stored) in (extent.first..).zip(&found) {
            assert_eq!(stored.offset, offset, "offsets grow by one");
        }
        partitions.push(found);
    }
    partitions
}

/// The extent of the partition that the events of `event` go to.
async fn extent_of(log: &Arc<dyn EventLog>, partition: u32) -> Extent {
    log.extents(&TOPIC).await.unwrap()[partition as usize]
}

fn ids_of(stored: &[Stored]) -> Vec<&str> {
    stored.iter().map(|stored| &*stored.event.id).collect()
}

/// Offsets of a partition start at 0 and grow by one.
pub async fn offsets_start_at_zero_and_grow_by_one(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let mut expected = 0;
    for size in [1, 3, 0, 2] {
        let places = append(&log, events(expected..expected + size)).await;
        assert_eq!(places.len() as u64, size);
        for place in places {
            let new = Appended { partition: place.partition, offset: expected, outcome: Outcome::New };
            assert_eq!(place, new);
            expected += 1;
        }
    }
    let partition = append(&log, vec![event("last")]).await[0].partition;
    assert_eq!(extent_of(&log, partition).await, Extent { partition, first: 0, next: 7 });
    let found = log.read(&TOPIC, partition, 0, ALL).await.unwrap();
    assert_eq!(ids_of(&found), ["0", "1", "2", "3", "4", "5", "last"]);
}

/// A topic that nobody wrote to has empty partitions.
pub async fn an_empty_topic_has_empty_extents(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let extents = log.extents(&TOPIC).await.unwrap();
    assert!(!extents.is_empty());
    for (partition, extent) in (0..).zip(extents) {
        assert_eq!(extent, Extent { partition, first: 0, next: 0 });
        assert!(log.read(&TOPIC, partition, 0, ALL).await.unwrap().is_empty());
        assert!(log.read(&TOPIC, partition, 99, ALL).await.unwrap().is_empty());
    }
    assert_eq!(log.retain(&TOPIC, Retention::default(), Timestamp::MAX).await.unwrap(), 0);
}

/// What is read is what was written, byte for byte.
pub async fn an_event_is_kept_to_the_letter(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let mut full = event("ünï \u{1f600}");
    full.subject = Some("名前".to_owned());
    full.data_schema = Some("https://example.org/schema".to_owned());
    let data = RawValue::from_string(r#"{"price":1.10,"n":12345678901234567890}"#.to_owned());
    full.data = Some(data.unwrap().into());
    full.extensions.insert("traceparent".to_owned(), "00-x".into());
    let mut large = event("large");
    large.data = Some(to_raw_value(&"x".repeat(500_000)).unwrap().into());
    let mut binary = event("binary");
    binary.data_base64 = Some("AAECAw==".to_owned());
    let written: Vec<Vec<u8>> = [&full, &large, &binary].map(Event::to_json).to_vec();
    let place = append(&log, vec![full, large, binary]).await[0];
    let found = log.read(&TOPIC, place.partition, 0, ALL).await.unwrap();
    let read: Vec<Vec<u8>> = found.iter().map(|stored| stored.event.to_json()).collect();
    assert!(read == written, "the events came back changed");
}

/// A read returns at most what it may, at least one event, and starts where it is told.
pub async fn reads_keep_their_limits(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let partition = append(&log, events(0..10)).await[0].partition;
    let check = async |offset, limit: ReadLimit, ids: &[&str]| {
        let found = log.read(&TOPIC, partition, offset, limit).await.unwrap();
        assert_eq!(ids_of(&found), ids, "from {offset} with {limit:?}");
    };
    check(0, ReadLimit { events: 3, bytes: usize::MAX }, &["0", "1", "2"]).await;
    check(3, ReadLimit { events: 2, bytes: usize::MAX }, &["3", "4"]).await;
    check(0, ReadLimit { events: 10, bytes: 1 }, &["0"]).await;
    check(9, ALL, &["9"]).await;
    check(10, ALL, &[]).await;
    check(u64::MAX, ALL, &[]).await;
    let some = log.read(&TOPIC, partition, 0, ReadLimit { events: 10, bytes: 700 }).await.unwrap();
    assert!((2..10).contains(&some.len()), "{} events in 700 bytes", some.len());
}

/// An id that comes twice in one batch is written once.
pub async fn one_batch_has_no_duplicates(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    if !log.capabilities().deduplicates {
        return;
    }
    let places = append(&log, vec![event("a"), event("b"), event("a"), event("a")]).await;
    let outcomes: Vec<_> = places.iter().map(|place| (place.offset, place.outcome)).collect();
    let duplicate = (0, Outcome::Duplicate);
    assert_eq!(outcomes, [(0, Outcome::New), (1, Outcome::New), duplicate, duplicate]);
    assert_eq!(extent_of(&log, places[0].partition).await.next, 2);
}

/// An id that an earlier batch brought is not written again; its first place is returned.
pub async fn later_batches_have_no_duplicates(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    if !log.capabilities().deduplicates {
        return;
    }
    let first = append(&log, events(0..5)).await;
    let again = append(&log, events(3..7)).await;
    for (earlier, later) in first[3..].iter().zip(&again) {
        assert_eq!(*later, Appended { outcome: Outcome::Duplicate, ..*earlier });
    }
    assert_eq!(again[2].outcome, Outcome::New);
    assert_eq!(again[2].offset, 5);
    assert_eq!(extent_of(&log, first[0].partition).await.next, 7);
}

/// An id is known after a restart.
pub async fn reopening_keeps_duplicates_out(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    if !log.capabilities().deduplicates {
        return;
    }
    let first = append(&log, events(0..5)).await;
    drop(log);
    let log = open().await;
    let again = append(&log, events(0..6)).await;
    for (earlier, later) in first.iter().zip(&again) {
        assert_eq!(*later, Appended { outcome: Outcome::Duplicate, ..*earlier });
    }
    assert_eq!((again[5].offset, again[5].outcome), (5, Outcome::New));
}

/// Only tenant, source and id together make a duplicate.
pub async fn an_identity_is_tenant_source_and_id(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let same = |tenant, source| event_of(tenant, source, "1", "key");
    append(&log, vec![same("shop", "/a")]).await;
    let source = append(&log, vec![same("shop", "/b")]).await[0];
    assert_eq!(source.outcome, Outcome::New);
    let tenant = log.append(&scope("other"), &TOPIC, vec![same("other", "/a")]).await.unwrap()[0];
    assert_eq!(tenant.outcome, Outcome::New);
    // The parts must not run into each other.
    let place =
        append(&log, vec![event_of("shop", "/a1", "2", "key"), event_of("shop", "/a", "12", "key")]).await;
    assert!(place.iter().all(|place| place.outcome == Outcome::New));
}

/// Events with one partition key go to one partition and stay in order; another key may go elsewhere.
pub async fn one_partition_key_keeps_its_order(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let batch = |round: u64| {
        (0..20).map(move |key| event_of("shop", "/test", &format!("{round}:{key}"), &key.to_string()))
    };
    let mut partition_of = BTreeMap::new();
    for round in 0..10 {
        let batch: Vec<Event> = batch(round).collect();
        let keys: Vec<_> = batch.iter().map(|event| event.partition_key.clone()).collect();
        for (key, place) in keys.into_iter().zip(append(&log, batch).await) {
            assert_eq!(
                *partition_of.entry(key.clone()).or_insert(place.partition),
                place.partition,
                "{key:?}"
            );
        }
    }
    let mut next_round = BTreeMap::new();
    for stored in read_all(&log, &TOPIC).await.into_iter().flatten() {
        let next = next_round.entry(stored.event.partition_key.clone()).or_insert(0);
        assert!(stored.event.id.starts_with(&format!("{next}:")), "{} after {next}", stored.event.id);
        *next += 1;
    }
    assert!(next_round.values().all(|next| *next == 10));
}

/// Topics share neither offsets nor ids nor groups.
pub async fn topics_do_not_meet(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let other = Topic::fixed("events.other");
    append(&log, events(0..3)).await;
    let place = log.append(&scope("shop"), &other, vec![event(0)]).await.unwrap()[0];
    assert_eq!((place.offset, place.outcome), (0, Outcome::New));
    assert_eq!(log.read(&other, place.partition, 0, ALL).await.unwrap().len(), 1);
    log.commit("fold", &other, 0, 9).await.unwrap();
    assert_eq!(log.committed("fold", &TOPIC, 0).await.unwrap(), 0);
}

/// Places, events and offsets outlive a restart, and offsets go on after it.
pub async fn reopening_keeps_everything(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let partition = append(&log, events(0..7)).await[0].partition;
    log.commit("fold", &TOPIC, partition, 4).await.unwrap();
    drop(log);
    let log = open().await;
    assert_eq!(extent_of(&log, partition).await, Extent { partition, first: 0, next: 7 });
    assert_eq!(log.committed("fold", &TOPIC, partition).await.unwrap(), 4);
    assert_eq!(append(&log, vec![event("next")]).await[0].offset, 7);
    let found = log.read(&TOPIC, partition, 5, ALL).await.unwrap();
    assert_eq!(ids_of(&found), ["5", "6", "next"]);
}

/// An event of another tenant than the scope's is refused with its whole batch.
pub async fn another_tenants_event_is_refused(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let batch = vec![event("mine"), event_of("other", "/test", "theirs", "key")];
    assert_refused(log.append(&scope("shop"), &TOPIC, batch).await, codes::TENANT_MISMATCH);
    assert!(read_all(&log, &TOPIC).await.iter().all(Vec::is_empty), "none was written");
}

/// A batch over the limit is refused whole; one at the limit is not.
pub async fn too_large_a_batch_is_refused(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let limit = MAX_APPEND_BATCH as u64;
    let refused = log.append(&scope("shop"), &TOPIC, events(0..limit + 1)).await;
    assert_refused(refused.map(|places| places.len()), codes::TOO_LARGE);
    assert!(read_all(&log, &TOPIC).await.iter().all(Vec::is_empty), "none was written");
    assert_eq!(append(&log, events(0..limit)).await.len(), MAX_APPEND_BATCH);
}

/// Many callers get distinct places without gaps, and each caller's events stay in its order.
pub async fn concurrent_appends_do_not_collide(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let caller = |number: u64| {
        let log = Arc::clone(&log);
        async move {
            let mut places = Vec::new();
            for round in 0..20_u64 {
                let batch = (0..5).map(|item| event(format!("{number}/{:03}", round * 5 + item))).collect();
                places.extend(append(&log, batch).await);
            }
            places
        }
    };
    let callers: Vec<_> = (0..8).map(|number| tokio::spawn(caller(number))).collect();
    let mut seen = HashSet::new();
    for task in callers {
        for place in task.await.unwrap() {
            assert!(seen.insert((place.partition, place.offset)), "{place:?} was given twice");
        }
    }
    let found: Vec<_> = read_all(&log, &TOPIC).await.into_iter().flatten().collect();
    assert_eq!(found.len(), 8 * 100);
    for number in 0..8 {
        let prefix = format!("{number}/");
        let of_caller: Vec<_> = ids_of(&found).into_iter().filter(|id| id.starts_with(&prefix)).collect();
        assert!(of_caller.is_sorted() && of_caller.len() == 100, "caller {number}: {of_caller:?}");
    }
}

/// The same events from several callers at once are each new to exactly one of them.
pub async fn one_event_from_many_callers_is_written_once(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    if !log.capabilities().deduplicates {
        return;
    }
    let callers: Vec<_> = (0..6)
        .map(|_| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { append(&log, events(0..50)).await })
        })
        .collect();
    let mut new = 0;
    let mut places = HashSet::new();
    for task in callers {
        for (id, place) in task.await.unwrap().into_iter().enumerate() {
            new += usize::from(place.outcome == Outcome::New);
            places.insert((id, place.partition, place.offset));
        }
    }
    assert_eq!((new, places.len()), (50, 50), "each event has one place");
}

async fn is_pending(future: impl Future) -> bool {
    tokio::time::timeout(Duration::from_millis(50), future).await.is_err()
}

/// A waiter sleeps until its offset was given, also on a topic that nobody wrote to yet.
pub async fn a_waiter_wakes_when_an_event_comes(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    // Learnt from another topic, so that the waiter comes first.
    let probe = log.append(&scope("shop"), &Topic::fixed("probe"), vec![event(0)]).await.unwrap()[0];
    let waiter = |offset| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { log.wait(&TOPIC, probe.partition, offset).await })
    };
    let (first, third) = (waiter(0), waiter(2));
    assert!(is_pending(log.wait(&TOPIC, probe.partition, 0)).await, "nothing is there");
    append(&log, events(0..2)).await;
    first.await.unwrap().unwrap();
    assert!(!third.is_finished(), "offset 2 was not given");
    append(&log, events(2..3)).await;
    third.await.unwrap().unwrap();
}

/// Waiting for what was given returns at once, also after a restart.
pub async fn a_waiter_for_what_is_there_returns_at_once(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let partition = append(&log, events(0..3)).await[0].partition;
    log.wait(&TOPIC, partition, 2).await.unwrap();
    drop(log);
    let log = open().await;
    log.wait(&TOPIC, partition, 2).await.unwrap();
    assert!(is_pending(log.wait(&TOPIC, partition, 3)).await);
}

/// Dropping a waiter changes nothing for the others.
pub async fn a_dropped_waiter_is_harmless(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let partition = append(&log, events(0..1)).await[0].partition;
    let other = Arc::clone(&log);
    let waiter = tokio::spawn(async move { other.wait(&TOPIC, partition, 1).await });
    for _ in 0..5 {
        assert!(is_pending(log.wait(&TOPIC, partition, 1)).await);
    }
    append(&log, events(1..2)).await;
    waiter.await.unwrap().unwrap();
}

/// Groups, topics and partitions have their own offsets, and an offset may go back.
pub async fn groups_remember_their_offsets(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    assert_eq!(log.committed("fold", &TOPIC, 0).await.unwrap(), 0);
    for offset in [3, 9, 5] {
        log.commit("fold", &TOPIC, 0, offset).await.unwrap();
        assert_eq!(log.committed("fold", &TOPIC, 0).await.unwrap(), offset);
    }
    assert_eq!(log.committed("train", &TOPIC, 0).await.unwrap(), 0);
    for extent in &log.extents(&TOPIC).await.unwrap()[1..] {
        assert_eq!(log.committed("fold", &TOPIC, extent.partition).await.unwrap(), 0);
    }
}

/// A partition that the topic does not have is refused by every call that names one.
pub async fn a_missing_partition_is_refused(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    let check = async || {
        let missing = u32::try_from(log.extents(&TOPIC).await.unwrap().len()).unwrap();
        assert_refused(log.read(&TOPIC, missing, 0, ALL).await, codes::NOT_FOUND);
        assert_refused(log.wait(&TOPIC, missing, 0).await, codes::NOT_FOUND);
        assert_refused(log.commit("fold", &TOPIC, missing, 0).await, codes::NOT_FOUND);
        assert_refused(log.committed("fold", &TOPIC, missing).await, codes::NOT_FOUND);
    };
    check().await;
    append(&log, events(0..1)).await;
    check().await;
}

/// A group without a name, or with control characters, is refused.
pub async fn a_bad_group_is_refused(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    for group in ["", "a\0b", &"x".repeat(129)] {
        assert_refused(log.commit(group, &TOPIC, 0, 1).await, codes::VALIDATION_ERROR);
        assert_refused(log.committed(group, &TOPIC, 0).await, codes::VALIDATION_ERROR);
    }
}

/// A few hundred random calls give what the fake gives, over restarts. Partitions may differ, so one key is used.
pub async fn it_agrees_with_the_fake(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let mut log = open().await;
    let capabilities = log.capabilities();
    if !capabilities.retains_at_once || !capabilities.deduplicates {
        return;
    }
    let fake: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(1));
    let mut draw = Draw(7);
    let partition = append(&log, vec![event(0)]).await[0].partition;
    append(&fake, vec![event(0)]).await;
    for _ in 0..300 {
        match draw.below(10) {
            0..6 => {
                let batch: Vec<Event> = (0..draw.below(6)).map(|_| event(draw.below(400))).collect();
                let places = |places: Vec<Appended>| -> Vec<_> {
                    places.into_iter().map(|place| (place.offset, place.outcome)).collect()
                };
                assert_eq!(places(append(&log, batch.clone()).await), places(append(&fake, batch).await));
            }
            6..8 => {
                let (offset, events) = (draw.below(500), 1 + draw.below(9));
                let limit = ReadLimit { events: usize::try_from(events).unwrap(), bytes: usize::MAX };
                let found = log.read(&TOPIC, partition, offset, limit).await.unwrap();
                let expected = fake.read(&TOPIC, 0, offset, limit).await.unwrap();
                assert_eq!(ids_of(&found), ids_of(&expected));
            }
            8 => {
                let keep = Retention { events: Some(draw.below(200)), ..Retention::default() };
                let removed = log.retain(&TOPIC, keep.clone(), Timestamp::UNIX_EPOCH).await.unwrap();
                assert_eq!(removed, fake.retain(&TOPIC, keep, Timestamp::UNIX_EPOCH).await.unwrap());
            }
            _ => {
                drop(log);
                log = open().await;
            }
        }
        let extent = extent_of(&log, partition).await;
        let expected = extent_of(&fake, 0).await;
        assert_eq!((extent.first, extent.next), (expected.first, expected.next));
    }
}
