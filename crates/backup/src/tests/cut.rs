//! Logs that are cut: by retention before the first backup, and at a time by a restore.

use super::*;

/// Cuts each partition to its newest eight events.
async fn retain(world: &World) {
    let keep = Retention { age: None, events: Some(8), ..Retention::default() };
    world.source.log.retain(&TOPIC, keep, world.clock.now()).await.unwrap();
}

/// A checkpoint of a view that has seen everything, as the view would write it.
async fn checkpoint(world: &World) -> String {
    let extents = world.source.log.extents(&TOPIC).await.unwrap();
    let offsets: BTreeMap<u32, u64> = extents.iter().map(|extent| (extent.partition, extent.next)).collect();
    let path = format!("checkpoints/events/view/{:020}", offsets.values().sum::<u64>());
    let body = Bytes::from(serde_json::to_vec(&offsets).unwrap());
    world.source.blobs.put(&scope("_system"), &path, body, PutMode::Replace).await.unwrap();
    path
}

async fn checkpoints(world: &World) -> Vec<String> {
    let listed = world.source.blobs.list(&scope("_system"), "checkpoints").await.unwrap();
    listed.into_iter().map(|blob| blob.path).collect()
}

#[tokio::test]
async fn a_log_that_was_cut_before_the_first_backup_comes_with_its_views() {
    let world = World::with_data().await;
    retain(&world).await;
    refused(world.create().await, codes::CONFLICT, "start the server once");
    checkpoint(&world).await;
    let newest = checkpoint(&world).await;
    let damaged = "checkpoints/events/view/99999999999999999999";
    let system = scope("_system");
    world.source.blobs.put(&system, damaged, Bytes::from_static(b"?"), PutMode::Replace).await.unwrap();
    world.events(60..70).await;
    let (manifest, _) = world.new_backup().await;
    assert_eq!((manifest.events(), manifest.views.len()), (8 + 8 + 10, 1));
    world.check_vault(1).await;
    let other = World::with(7);
    other.restore(&world, Wanted::default()).await.unwrap();
    assert_eq!(other.state().await, world.state().await);
    assert_eq!(checkpoints(&other).await, [newest.as_str()]);
    // It goes on: what is there already is not sent again, and retention may go on too.
    world.events(70..71).await;
    assert_eq!(world.new_backup().await.1.parts, 1);
    retain(&world).await;
    world.events(71..90).await;
    let (third, _) = world.new_backup().await;
    assert_eq!((third.events(), third.views.len()), (8 + 8 + 30, 1));
    let other = World::with(7);
    other.restore(&world, Wanted::default()).await.unwrap();
    // A time that the views have passed already cannot be met; one that they have not can.
    let start = Timestamp::from_second(1_000_000).unwrap();
    let to = |second: u64| Wanted { backup: None, to_time: Some(start + Duration::from_secs(second)) };
    refused(World::new().restore(&world, to(50)).await, codes::CONFLICT, "views of a later time");
    let other = World::with(7);
    assert_eq!(other.restore(&world, to(80)).await.unwrap().events, 8 + 8 + 20);
    assert_eq!(checkpoints(&other).await, [newest]);
}

#[tokio::test]
async fn a_gap_between_two_backups_is_bridged_by_the_views() {
    let world = World::with_data().await;
    assert!(world.new_backup().await.0.views.is_empty(), "a whole log needs no checkpoint");
    world.events(60..120).await;
    retain(&world).await;
    refused(world.create().await, codes::CONFLICT, "no checkpoint of a view");
    checkpoint(&world).await;
    let (second, _) = world.new_backup().await;
    assert_eq!((second.events(), second.views.len()), (16, 1));
    let other = World::with(7);
    other.restore(&world, Wanted::default()).await.unwrap();
    assert_eq!(other.state().await, world.state().await);
    let first = Wanted { backup: Some(1), to_time: None };
    assert_eq!(World::new().restore(&world, first).await.unwrap().events, 60);
}

#[tokio::test]
async fn a_view_that_is_behind_the_cut_makes_no_backup() {
    let world = World::with_data().await;
    let path = checkpoint(&world).await;
    world.events(60..100).await;
    retain(&world).await;
    refused(world.create().await, codes::UNAVAILABLE, "try again");
    assert_eq!(checkpoints(&world).await.last(), Some(&path));
    checkpoint(&world).await;
    world.new_backup().await;
}

/// Events of one user, by the second of their own time.
async fn timed(world: &World, ids: Range<u64>, seconds: &[u64]) {
    let start = Timestamp::from_second(1_000_000).unwrap();
    for (id, second) in ids.zip(seconds) {
        let event = world.event(id, start + Duration::from_secs(*second));
        world.source.log.append(&scope("shop"), &TOPIC, vec![event]).await.unwrap();
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead_cuts_off_nothing() {
    let world = World::with(1);
    timed(&world, 0..2, &[1, 2]).await;
    world.clock.advance(Duration::from_secs(2));
    world.new_backup().await;
    // The third has the clock of tomorrow, the last but one was sent late.
    timed(&world, 2..8, &[3, 90_000, 4, 9, 5, 10]).await;
    world.clock.advance(Duration::from_secs(20));
    world.new_backup().await;
    let check = async |second: u64, expected: u64| {
        let start = Timestamp::from_second(1_000_000).unwrap();
        let wanted = Wanted { backup: None, to_time: Some(start + Duration::from_secs(second)) };
        let other = World::with(1);
        assert_eq!(other.restore(&world, wanted).await.unwrap().events, expected, "{second}");
        let (found, all) = (other.state().await.events, world.state().await.events);
        assert!(all[0].starts_with(&found[0]), "places stay as they were");
    };
    check(2, 2).await;
    check(3, 3).await;
    // What the clock ahead sent stays, because what came after it was not later.
    check(4, 5).await;
    // The late one brings along what came before it.
    check(5, 7).await;
    check(9, 7).await;
    check(10, 8).await;
    check(25, 8).await;
}

#[tokio::test]
async fn a_time_is_found_across_segments() {
    let world = World::with(1);
    world.new_backup().await;
    // A whole segment and more of events that are ahead, then one that is not.
    let seconds: Vec<u64> = (0..30).map(|id| if id == 29 { 5 } else { 1_000 + id }).collect();
    timed(&world, 0..30, &seconds).await;
    world.clock.advance(Duration::from_secs(20));
    let (manifest, _) = world.new_backup().await;
    assert!(manifest.segments().count() > 2);
    let start = Timestamp::from_second(1_000_000).unwrap();
    for (second, events) in [(4, 0), (5, 30), (10, 30)] {
        let wanted = Wanted { backup: None, to_time: Some(start + Duration::from_secs(second)) };
        assert_eq!(World::with(1).restore(&world, wanted).await.unwrap().events, events, "{second}");
    }
}
