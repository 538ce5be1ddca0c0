//! Two processes that share nothing but the vault.

use super::*;

/// Another process over the same data, with leases of its own: it does not know of the first.
fn beside(world: &World) -> World {
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let leases = Leases::new(records, Arc::clone(&world.clock) as Arc<_>, "two".to_owned());
    World {
        source: Source { leases, ..world.source.clone() },
        clock: Arc::clone(&world.clock),
        files: Arc::clone(&world.files),
        vault: world.vault.clone(),
    }
}

#[tokio::test]
async fn a_prune_under_way_harms_no_backup_that_is_made_meanwhile() {
    let world = World::with_data().await;
    world.new_backup().await;
    // A backup that was killed left a part, which the next one is about to remove.
    world.record("shop", "a", "2").await;
    world.files.let_pass(4);
    assert!(world.create().await.is_err());
    world.files.let_pass(usize::MAX);
    let left = world.files().await;
    world.record("shop", "a", "3").await;
    let closed = world.files.gate.write().await;
    let first = beside(&world);
    let pruning = tokio::spawn(async move { first.create_with(1, false).await });
    while world.vault.sequences().await.unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    // Meanwhile the data is again what the killed backup sent, and another process backs it up.
    world.record("shop", "a", "2").await;
    let second = beside(&world);
    let second = tokio::spawn(async move { second.create().await });
    while world.vault.sequences().await.unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    drop(closed);
    assert!(matches!(second.await.unwrap().unwrap(), Created::New(manifest, _) if manifest.sequence == 3));
    assert!(matches!(pruning.await.unwrap().unwrap(), Created::New(manifest, _) if manifest.sequence == 2));
    let files = world.files().await;
    assert!(left.iter().any(|path| !files.contains(path)), "the prune removed something");
    verify(&world.vault, QUIET).await.unwrap();
    let other = World::new();
    other.restore(&world, Wanted::default()).await.unwrap();
    assert_eq!(other.state().await, world.state().await);
    world.record("shop", "a", "4").await;
    world.create_with(1, false).await.unwrap();
    world.check_vault(1).await;
}

#[tokio::test]
async fn of_two_backups_of_one_number_one_is_made_and_is_whole() {
    // Wherever the first one stands when the other begins and ends.
    for turns in 0..40 {
        let world = World::with_data().await;
        world.new_backup().await;
        world.events(60..90).await;
        let (one, two) = (beside(&world), beside(&world));
        let first = tokio::spawn(async move { one.create_with(1, false).await });
        for _ in 0..turns * 3 {
            tokio::task::yield_now().await;
        }
        let second = two.create_with(1, false).await;
        let first = first.await.unwrap();
        assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
        for error in [first.err(), second.err()].into_iter().flatten() {
            assert_eq!(error.code(), codes::CONFLICT, "{error:?}");
        }
        verify(&world.vault, QUIET).await.unwrap();
        let other = World::new();
        other.restore(&world, Wanted::default()).await.unwrap();
        assert_eq!(other.state().await, world.state().await);
        world.events(90..91).await;
        world.create_with(1, false).await.unwrap();
        world.check_vault(1).await;
    }
}
