//! What is kept, what goes, and what is never taken for kept.

use kernel::{TenantId, Timestamp};

use super::*;

static TOPIC: Topic = Topic::fixed("ticks");
const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: usize::MAX };
/// Of every event.
const BYTES: usize = 100;

fn event(id: u64) -> Event {
    let tenant = TenantId::new("desk").unwrap();
    Event::new(&tenant, id.to_string(), "/test", "t", Timestamp::UNIX_EPOCH)
}

/// Appends events whose ids are their offsets.
fn append(recent: &Arc<Recent>, partition: u32, offsets: &[u64]) {
    let Some(sent) = recent.send(&TOPIC) else { return };
    land(&sent, partition, offsets);
}

fn land(sent: &Sent, partition: u32, offsets: &[u64]) {
    let places: Vec<Appended> =
        offsets.iter().map(|offset| Appended { partition, offset: *offset, outcome: Outcome::New }).collect();
    sent.keep(&places, offsets.iter().map(|offset| (event(*offset), BYTES)));
}

#[track_caller]
fn check(recent: &Recent, partition: u32, offset: u64, limit: ReadLimit, expected: std::ops::Range<u64>) {
    let found = recent.read(&TOPIC, partition, offset, limit).events;
    let offsets: Vec<u64> = found.iter().map(|stored| stored.offset).collect();
    assert_eq!(offsets, expected.collect::<Vec<_>>());
    assert!(found.iter().all(|stored| stored.event.id == stored.offset.to_string()));
}

fn followed(most_bytes: u64) -> Arc<Recent> {
    let recent = Arc::new(Recent::new(most_bytes));
    recent.follow(&TOPIC, 0);
    recent
}

/// Room for so many events.
fn room(events: usize) -> u64 {
    (events * (BYTES + BYTES_BESIDE_TEXTS)) as u64
}

fn bytes(recent: &Recent) -> u64 {
    recent.shelves.lock().bytes as u64
}

#[test]
fn what_was_written_is_read_up_to_the_first_gap() {
    let recent = followed(1 << 20);
    append(&recent, 0, &[5, 6, 7]);
    append(&recent, 0, &[8, 9, 12, 13]);
    check(&recent, 0, 5, ALL, 5..10);
    check(&recent, 0, 6, ALL, 6..10);
    check(&recent, 0, 9, ALL, 9..10);
    check(&recent, 0, 12, ALL, 12..14);
    for unknown in [0, 4, 10, 11, 14, 15] {
        check(&recent, 0, unknown, ALL, 0..0);
    }
    assert_eq!(recent.end(&TOPIC, 0), 14);
    // What others wrote is never known.
    append(&recent, 0, &[15]);
    check(&recent, 0, 13, ALL, 13..14);
}

#[test]
fn limits_are_held_and_one_event_always_comes() {
    let recent = followed(1 << 20);
    append(&recent, 0, &[0, 1, 2]);
    append(&recent, 0, &[3, 4, 5]);
    check(&recent, 0, 1, ReadLimit { events: 2, ..ALL }, 1..3);
    check(&recent, 0, 1, ReadLimit { events: 4, ..ALL }, 1..5);
    check(&recent, 0, 1, ReadLimit { bytes: 3 * BYTES, ..ALL }, 1..4);
    check(&recent, 0, 1, ReadLimit { bytes: 3 * BYTES + 99, ..ALL }, 1..4);
    check(&recent, 0, 1, ReadLimit { bytes: 1, ..ALL }, 1..2);
}

#[test]
fn appends_may_land_in_any_order() {
    let recent = followed(1 << 20);
    let (first, second) = (recent.send(&TOPIC).unwrap(), recent.send(&TOPIC).unwrap());
    land(&second, 0, &[2, 3]);
    check(&recent, 0, 0, ALL, 0..0);
    land(&first, 0, &[0, 1]);
    check(&recent, 0, 0, ALL, 0..4);
    // As may the records of one append.
    append(&recent, 0, &[5, 4, 6]);
    check(&recent, 0, 0, ALL, 0..7);
}

#[test]
fn the_oldest_goes_where_there_is_no_more_room() {
    let recent = followed(room(10));
    recent.follow(&TOPIC, 1);
    // Somebody is still to read the rest of each.
    for partition in [0, 1] {
        append(&recent, partition, &[0, 1, 2, 3]);
        check(&recent, partition, 0, ReadLimit { events: 2, ..ALL }, 0..2);
    }
    check(&recent, 0, 2, ReadLimit { events: 1, ..ALL }, 2..3);
    append(&recent, 0, &[4, 5]);
    check(&recent, 0, 0, ALL, 0..6);
    append(&recent, 0, &[6]);
    check(&recent, 0, 0, ALL, 0..0);
    check(&recent, 0, 4, ALL, 4..7);
    check(&recent, 1, 0, ALL, 0..4);
    // What is more than all the room is not kept, and takes the rest with it.
    append(&recent, 0, &[7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]);
    check(&recent, 0, 7, ALL, 0..0);
    check(&recent, 1, 0, ALL, 0..0);
    assert_eq!(bytes(&recent), 0);
}

#[test]
fn what_everybody_has_read_goes_but_for_the_newest() {
    let recent = followed(room(10 * SHARE_OF_READ));
    append(&recent, 0, &[0, 1, 2, 3]);
    append(&recent, 0, &[4, 5, 6, 7]);
    check(&recent, 0, 0, ALL, 0..8);
    check(&recent, 0, 0, ReadLimit { events: 4, ..ALL }, 0..4);
    append(&recent, 0, &[8, 9, 10, 11, 12, 13]);
    check(&recent, 0, 0, ALL, 0..0);
    assert_eq!(bytes(&recent), room(10), "both have read what went");
    append(&recent, 0, &[14]);
    assert_eq!(bytes(&recent), room(11), "the second one has not read any more");
    check(&recent, 0, 4, ALL, 4..15);
    append(&recent, 0, &[15]);
    assert_eq!(bytes(&recent), room(8), "nor has the first one");
    check(&recent, 0, 15, ALL, 15..16);
    // Who does not go on for long is not waited for.
    for first in (16..72).step_by(8) {
        append(&recent, 0, &(first..first + 8).collect::<Vec<_>>());
        check(&recent, 0, first, ALL, first..first + 8);
    }
    assert!(bytes(&recent) <= room(10 + 8), "{}", bytes(&recent));
}

#[test]
fn what_nobody_has_read_stays_while_other_events_go() {
    let recent = followed(room(10 * SHARE_OF_READ));
    append(&recent, 0, &[0, 1, 2, 3]);
    append(&recent, 0, &[4, 5, 6, 7]);
    check(&recent, 0, 0, ALL, 0..8);
    append(&recent, 0, &(8..19).collect::<Vec<_>>());
    assert_eq!(bytes(&recent), room(11));
    check(&recent, 0, 8, ALL, 8..19);
}

#[test]
fn what_nobody_reads_stays_for_a_while_and_holds_up_nothing_else() {
    let recent = followed(room(10 * SHARE_OF_READ));
    recent.follow(&TOPIC, 1);
    append(&recent, 1, &[0, 1]);
    for first in (0..64).step_by(8) {
        append(&recent, 0, &(first..first + 8).collect::<Vec<_>>());
        check(&recent, 0, first, ALL, first..first + 8);
        if first == 24 {
            assert_eq!(bytes(&recent), room(2 + 32), "somebody may come and read the first one");
        }
    }
    assert!(bytes(&recent) <= room(10 + 8), "{}", bytes(&recent));
}

#[test]
fn who_was_given_by_brokers_what_is_not_here_is_not_waited_for() {
    let recent = followed(room(10 * SHARE_OF_READ));
    append(&recent, 0, &[0, 1]);
    check(&recent, 0, 0, ALL, 0..2);
    check(&recent, 0, 2, ALL, 0..0);
    recent.reaches(&TOPIC, 0, 2, 4);
    append(&recent, 0, &[4, 5, 6]);
    check(&recent, 0, 4, ALL, 4..7);
    append(&recent, 0, &(7..15).collect::<Vec<_>>());
    assert_eq!(bytes(&recent), room(8));
}

#[test]
fn a_partition_that_nobody_reads_any_more_is_no_longer_kept() {
    let recent = followed(room(4));
    append(&recent, 0, &[0, 1]);
    check(&recent, 0, 0, ALL, 0..2);
    for first in [2, 4, 6, 8] {
        append(&recent, 0, &[first, first + 1]);
    }
    assert_eq!((bytes(&recent), recent.end(&TOPIC, 0)), (0, 0));
    // Until somebody does.
    check(&recent, 0, 10, ALL, 0..0);
    append(&recent, 0, &[10, 11]);
    check(&recent, 0, 10, ALL, 10..12);
}

/// Appends offsets to a partition that holds 0 to 8, and was as long as that when the append began.
#[track_caller]
fn distrusts(offsets: &[u64]) {
    let recent = followed(1 << 20);
    recent.follow(&TOPIC, 1);
    append(&recent, 0, &[0, 1, 2, 3, 4, 5, 6, 7]);
    append(&recent, 1, &[0, 1]);
    append(&recent, 0, offsets);
    check(&recent, 0, 0, ALL, 0..0);
    check(&recent, 0, offsets[0], ALL, 0..0);
    check(&recent, 1, 0, ALL, 0..2);
    assert_eq!((recent.end(&TOPIC, 0), bytes(&recent)), (0, room(2)));
    append(&recent, 0, &[3, 4]);
    check(&recent, 0, 3, ALL, 3..5);
}

#[test]
fn offsets_that_cannot_be_are_not_kept_nor_what_was_before() {
    distrusts(&[0, 1]);
    distrusts(&[7]);
    distrusts(&[7, 8, 9]);
    distrusts(&[9, 9]);
}

#[test]
fn offsets_that_others_took_meanwhile_are_not_kept() {
    let recent = followed(1 << 20);
    let sent = recent.send(&TOPIC).unwrap();
    append(&recent, 0, &[0, 1, 2]);
    land(&sent, 0, &[2, 3]);
    check(&recent, 0, 0, ALL, 0..0);
    assert_eq!(bytes(&recent), 0);
    // Those that lie between what others took are.
    let sent = recent.send(&TOPIC).unwrap();
    append(&recent, 0, &[4, 6]);
    land(&sent, 0, &[5, 7]);
    check(&recent, 0, 4, ALL, 4..8);
}

#[test]
fn what_brokers_said_of_the_length_is_believed() {
    let recent = followed(1 << 20);
    recent.reaches(&TOPIC, 0, 0, 40);
    append(&recent, 0, &[1, 2]);
    check(&recent, 0, 1, ALL, 0..0);
    append(&recent, 0, &[40]);
    check(&recent, 0, 40, ALL, 40..41);
}

#[test]
fn an_append_that_began_before_a_partition_was_forgotten_is_not_kept() {
    let recent = followed(1 << 20);
    append(&recent, 0, &[0, 1]);
    let sent = recent.send(&TOPIC).unwrap();
    recent.forget(&TOPIC, 0);
    land(&sent, 0, &[2, 3]);
    check(&recent, 0, 2, ALL, 0..0);
    assert_eq!((recent.end(&TOPIC, 0), bytes(&recent)), (0, 0));
}

#[test]
fn what_a_broker_gives_back_as_another_event_is_left_to_it() {
    let recent = followed(1 << 20);
    let sent = recent.send(&TOPIC).unwrap();
    let lawful = event(0);
    let unlawful = Event { subject: Some("a\u{0}".to_owned()), ..event(1) };
    let places: Vec<Appended> =
        (0..4).map(|offset| Appended { partition: 0, offset, outcome: Outcome::New }).collect();
    let events =
        [(lawful.clone(), BYTES), (unlawful, BYTES), (lawful, MAX_EVENT_BYTES + 1), (event(3), BYTES)];
    sent.keep(&places, events.into_iter());
    check(&recent, 0, 0, ALL, 0..1);
    for gone in [1, 2] {
        check(&recent, 0, gone, ALL, 0..0);
    }
    check(&recent, 0, 3, ALL, 3..4);
}

#[test]
fn who_has_all_that_was_written_here_waits_a_little() {
    let recent = followed(1 << 20);
    let patience = |offset| recent.patience(&TOPIC, 0, offset);
    assert_eq!(patience(0), Duration::ZERO, "nothing was ever written here");
    append(&recent, 0, &[10, 11]);
    assert_eq!((patience(12), patience(11), patience(13)), (WAITS_FOR_MORE, Duration::ZERO, Duration::ZERO));
    let sent = recent.send(&TOPIC).unwrap();
    assert_eq!((patience(12), patience(11)), (WAITS_FOR_SENT, Duration::ZERO));
    // Others wrote after it: what they write next is not waited for here.
    recent.reaches(&TOPIC, 0, 0, 13);
    assert_eq!((patience(12), patience(13)), (Duration::ZERO, Duration::ZERO));
    land(&sent, 0, &[13]);
    drop(sent);
    assert_eq!((patience(13), patience(14)), (Duration::ZERO, WAITS_FOR_MORE));
    append(&recent, 0, &[14]);
    assert_eq!(patience(15), WAITS_FOR_SENT, "nobody else seems to write");
    recent.waited_in_vain(&TOPIC, 0);
    assert_eq!(patience(15), WAITS_FOR_MORE);
}

#[test]
fn who_took_from_brokers_what_only_this_process_writes_waits_for_it() {
    let recent = followed(1 << 20);
    let patience = |offset| recent.patience(&TOPIC, 0, offset);
    append(&recent, 0, &[10, 11]);
    let sent = recent.send(&TOPIC).unwrap();
    recent.reaches(&TOPIC, 0, 0, 13);
    assert_eq!(patience(13), Duration::ZERO, "another one may have written it");
    land(&sent, 0, &[12, 13]);
    recent.reaches(&TOPIC, 0, 0, 15);
    assert_eq!(patience(15), WAITS_FOR_SENT);
    recent.waited_in_vain(&TOPIC, 0);
    assert_eq!(patience(15), Duration::ZERO);
    drop(sent);
    let sent = recent.send(&TOPIC).unwrap();
    land(&sent, 0, &[15]);
    recent.reaches(&TOPIC, 0, 0, 17);
    assert_eq!(patience(17), Duration::ZERO, "another one wrote before it");
}

#[test]
fn a_row_is_of_reads_that_found_something() {
    let recent = followed(1 << 20);
    let row = || recent.row(&TOPIC, 0).map(|row| (row.from, row.reads));
    append(&recent, 0, &[10, 11]);
    assert_eq!(row(), None);
    check(&recent, 0, 10, ALL, 10..12);
    check(&recent, 0, 11, ALL, 11..12);
    // There is no more yet.
    check(&recent, 0, 12, ALL, 0..0);
    assert_eq!(row(), Some((10, 2)));
    append(&recent, 0, &[13]);
    check(&recent, 0, 12, ALL, 0..0);
    assert_eq!(row(), None);
    check(&recent, 0, 13, ALL, 13..14);
    assert_eq!(row(), Some((13, 1)));
}

#[test]
fn what_was_there_before_is_not_taken_for_new() {
    let recent = followed(1 << 20);
    append(&recent, 0, &[0, 1]);
    let sent = recent.send(&TOPIC).unwrap();
    let place = |offset, outcome| Appended { partition: 0, offset, outcome };
    let places = [place(1, Outcome::Duplicate), place(2, Outcome::New), place(2, Outcome::Duplicate)];
    sent.keep(&places, [1, 2, 2].map(|id| (event(id), BYTES)).into_iter());
    check(&recent, 0, 0, ALL, 0..3);
}

#[test]
fn nothing_is_kept_that_nobody_reads() {
    let (unread, off) = (Arc::new(Recent::new(1 << 20)), followed(0));
    assert!(unread.send(&TOPIC).is_none() && off.send(&TOPIC).is_none());
    let recent = followed(1 << 20);
    append(&recent, 1, &[0, 1]);
    assert_eq!(bytes(&recent), 0);
}

#[tokio::test]
async fn whoever_waits_is_told() {
    let recent = followed(1 << 20);
    let grown = recent.follow(&TOPIC, 0);
    let waits = grown.notified();
    tokio::pin!(waits);
    assert!(!waits.as_mut().enable());
    append(&recent, 0, &[0]);
    waits.await;
}
