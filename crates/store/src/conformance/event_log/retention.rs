//! The rules of `EventLog::retain`, over a log of ten events a second apart.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Event, Timestamp};

use super::{ALL, TOPIC, append, event, extent_of};
use crate::{EventLog, Extent, Outcome, Retention};

async fn log_of_ten(open: &impl AsyncFn() -> Arc<dyn EventLog>) -> (Arc<dyn EventLog>, u32) {
    let log = open().await;
    let batch =
        (0..10_i64).map(|second| Event { time: Timestamp::from_second(second).unwrap(), ..event(second) });
    let partition = append(&log, batch.collect()).await[0].partition;
    (log, partition)
}

/// With a bound on the count, the newest stay and reads start at the first that is held.
pub async fn retention_by_count_keeps_the_newest(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let (log, partition) = log_of_ten(&open).await;
    if !log.capabilities().retains_at_once {
        return;
    }
    let keep = Retention { events: Some(3), ..Retention::default() };
    assert_eq!(log.retain(&TOPIC, keep.clone(), Timestamp::UNIX_EPOCH).await.unwrap(), 7);
    assert_eq!(extent_of(&log, partition).await, Extent { partition, first: 7, next: 10 });
    let found = log.read(&TOPIC, partition, 2, ALL).await.unwrap();
    assert_eq!(found.iter().map(|stored| stored.offset).collect::<Vec<_>>(), [7, 8, 9]);
    assert_eq!(log.retain(&TOPIC, keep, Timestamp::UNIX_EPOCH).await.unwrap(), 0, "nothing is left to do");
    assert_eq!(
        log.retain(&TOPIC, Retention::default(), Timestamp::MAX).await.unwrap(),
        0,
        "no bound, no removal"
    );
}

/// With a bound on the age, events go from the oldest offset on until one is young enough.
pub async fn retention_by_age_stops_at_the_first_young_event(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let (log, partition) = log_of_ten(&open).await;
    if !log.capabilities().retains_at_once {
        return;
    }
    // An old event behind a young one stays.
    append(&log, vec![event("late")]).await;
    let keep = Retention { age: Some(Duration::from_secs(60)), ..Retention::default() };
    assert_eq!(log.retain(&TOPIC, keep, Timestamp::from_second(64).unwrap()).await.unwrap(), 4);
    assert_eq!(extent_of(&log, partition).await, Extent { partition, first: 4, next: 11 });
}

/// With both bounds, an event stays only when it is within both.
pub async fn retention_by_both_bounds_keeps_what_is_within_both(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    for (age_seconds, events, removed) in [(60, 2, 8), (55, 9, 9)] {
        let (log, _) = log_of_ten(&open).await;
        if !log.capabilities().retains_at_once {
            return;
        }
        let age = Some(Duration::from_secs(age_seconds));
        let keep = Retention { age, events: Some(events), ..Retention::default() };
        let before: u64 = log.extents(&TOPIC).await.unwrap().iter().map(|extent| extent.first).sum();
        let now = Timestamp::from_second(64).unwrap();
        let found = log.retain(&TOPIC, keep.clone(), now).await.unwrap();
        assert_eq!(before + found, removed, "{keep:?}");
    }
}

/// What a reader has not made its own yet stays, however old it is.
pub async fn retention_stops_at_the_offset_that_must_stay(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let (log, partition) = log_of_ten(&open).await;
    if !log.capabilities().retains_at_once {
        return;
    }
    let before = |offsets: &[(u32, u64)]| Retention {
        events: Some(2),
        before: Some(offsets.iter().copied().collect()),
        ..Retention::default()
    };
    for (keep, removed) in [
        (before(&[]), 0),
        (before(&[(partition, 0)]), 0),
        (before(&[(partition, 3)]), 3),
        (before(&[(partition, 3)]), 0),
        (before(&[(partition, 99)]), 5),
    ] {
        let found = log.retain(&TOPIC, keep.clone(), Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(found, removed, "{keep:?}");
    }
    assert_eq!(extent_of(&log, partition).await, Extent { partition, first: 8, next: 10 });
}

/// After retention took everything, the next event gets the next offset, also after a restart.
pub async fn offsets_are_not_reused_after_retention(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let (log, partition) = log_of_ten(&open).await;
    if !log.capabilities().retains_at_once {
        return;
    }
    let nothing = Retention { events: Some(0), ..Retention::default() };
    assert_eq!(log.retain(&TOPIC, nothing.clone(), Timestamp::UNIX_EPOCH).await.unwrap(), 10);
    assert_eq!(extent_of(&log, partition).await, Extent { partition, first: 10, next: 10 });
    assert!(log.read(&TOPIC, partition, 0, ALL).await.unwrap().is_empty());
    drop(log);
    let log = open().await;
    assert_eq!(extent_of(&log, partition).await, Extent { partition, first: 10, next: 10 });
    assert_eq!(append(&log, vec![event("a")]).await[0].offset, 10);
    assert_eq!(log.retain(&TOPIC, nothing, Timestamp::UNIX_EPOCH).await.unwrap(), 1);
    assert_eq!(append(&log, vec![event("b")]).await[0].offset, 11);
}

/// An id is forgotten with its event, and only with it.
pub async fn an_id_that_retention_took_may_come_again(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let (log, _) = log_of_ten(&open).await;
    let capabilities = log.capabilities();
    if !capabilities.retains_at_once || !capabilities.deduplicates {
        return;
    }
    log.retain(&TOPIC, Retention { events: Some(5), ..Retention::default() }, Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    let again = append(&log, vec![event(4), event(5)]).await;
    assert_eq!((again[0].offset, again[0].outcome), (10, Outcome::New));
    assert_eq!((again[1].offset, again[1].outcome), (5, Outcome::Duplicate));
    log.retain(&TOPIC, Retention { events: Some(1), ..Retention::default() }, Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    assert_eq!(append(&log, vec![event(4)]).await[0].outcome, Outcome::Duplicate, "its second place is held");
}
