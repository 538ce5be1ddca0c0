//! What a restore asks of the `EventLog` port.

use std::sync::Arc;

use kernel::codes;

use super::{TOPIC, append, event, event_of, extent_of, read_all};
use crate::conformance::assert_refused;
use crate::{EventLog, Extent, MAX_APPEND_BATCH, Outcome, Stored};

fn stored(offsets: std::ops::Range<u64>) -> Vec<Stored> {
    let tenant = |offset: u64| if offset.is_multiple_of(3) { "shop2" } else { "shop" };
    offsets
        .map(|offset| Stored { offset, event: event_of(tenant(offset), "/test", &offset.to_string(), "key") })
        .collect()
}

/// Events of several tenants get their offsets back in every partition, and are known as duplicates.
pub async fn restored_events_stand_where_they_stood(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    if !log.capabilities().restores {
        return;
    }
    log.restore(&TOPIC, 3, 1, stored(0..40)).await.unwrap();
    log.restore(&TOPIC, 3, 1, stored(40..100)).await.unwrap();
    // The beginning of this one went by retention.
    log.restore(&TOPIC, 3, 2, stored(1_000..1_010)).await.unwrap();
    let extent = |partition, first, next| Extent { partition, first, next };
    let expected = [extent(0, 0, 0), extent(1, 0, 100), extent(2, 1_000, 1_010)];
    assert_eq!(log.extents(&TOPIC).await.unwrap(), expected);
    drop(log);
    let log = open().await;
    assert_eq!(log.extents(&TOPIC).await.unwrap(), expected);
    let found = read_all(&log, &TOPIC).await;
    let json = |stored: &Stored| (stored.offset, stored.event.to_json());
    let all = |stored: &[Stored]| stored.iter().map(json).collect::<Vec<_>>();
    assert_eq!(all(&found[1]), all(&stored(0..100)));
    assert_eq!(all(&found[2]), all(&stored(1_000..1_010)));
    let again = append(&log, vec![event(7), event(1_001), event(5_000)]).await;
    let places: Vec<_> = again.iter().map(|place| (place.partition, place.offset, place.outcome)).collect();
    assert_eq!(places[..2], [(1, 7, Outcome::Duplicate), (2, 1_001, Outcome::Duplicate)]);
    assert_eq!(places[2].2, Outcome::New);
}

/// A restore with a gap, over what is there, or into another number of partitions is refused and writes nothing.
pub async fn a_restore_goes_on_where_the_partition_ends(open: impl AsyncFn() -> Arc<dyn EventLog>) {
    let log = open().await;
    if !log.capabilities().restores {
        return;
    }
    log.restore(&TOPIC, 2, 0, stored(0..10)).await.unwrap();
    let mut gap = stored(10..15);
    gap.remove(2);
    for (partitions, partition, events) in [
        (2, 0, stored(0..10)),
        (2, 0, stored(9..12)),
        (2, 0, stored(11..12)),
        (2, 0, gap.clone()),
        (3, 2, stored(0..1)),
        (2, 1, gap),
    ] {
        assert_refused(log.restore(&TOPIC, partitions, partition, events).await, codes::CONFLICT);
    }
    assert_refused(log.restore(&TOPIC, 2, 2, stored(0..1)).await, codes::NOT_FOUND);
    let many = stored(10..11 + MAX_APPEND_BATCH as u64);
    assert_refused(log.restore(&TOPIC, 2, 0, many).await, codes::TOO_LARGE);
    log.restore(&TOPIC, 2, 0, Vec::new()).await.unwrap();
    let found = read_all(&log, &TOPIC).await;
    assert_eq!((found[0].len(), found[1].len()), (10, 0));
    log.restore(&TOPIC, 2, 0, stored(10..12)).await.unwrap();
    assert_eq!(extent_of(&log, 0).await.next, 12);
}
