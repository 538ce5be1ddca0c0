//! A primary that goes away in the middle: writes succeed again within ten seconds, without a restart.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests; how long it took is worth telling"
)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use kernel::{Clock, SystemClock};
use store_redis::{Mode, RedisStore};
use support::servers::{Cluster, SentinelSet};
use support::{open, settings, shared, shop, timed, until};

const HOUR: Duration = Duration::from_secs(3_600);
const FAILOVER: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_millis(800);

async fn writes(store: &RedisStore, key: &str) -> bool {
    let (result, took) = timed(store.cache().set(&shop(), key, Bytes::from_static(b"x"), HOUR)).await;
    assert!(took < WAIT, "a write waited {took:?}");
    result.is_ok()
}

async fn survives(stop: impl FnOnce(&mut SentinelSet)) -> (SentinelSet, RedisStore) {
    let mut set = SentinelSet::start().await;
    let store = open(&settings(&set.url(), Mode::Sentinel)).await;
    assert!(writes(&store, "a").await);
    let before = store.cache().acquire(&shop(), "train", "me", HOUR).await.unwrap().unwrap();
    stop(&mut set);
    until(FAILOVER, "a write fails", async || !writes(&store, "a").await).await;
    let took = until(FAILOVER, "writes succeed again", async || writes(&store, "a").await).await;
    println!("writes succeed {} ms after the first failure", took.as_millis());
    let after = store.cache().acquire(&shop(), "other", "me", HOUR).await.unwrap().unwrap();
    assert!(after.token > before.token);
    (set, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_is_replaced_by_the_sentinels() {
    survives(|set| set.servers[0].kill()).await;
}

/// A primary that hangs is replaced too; when it wakes it is a replica, and nobody writes to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_primary_is_replaced_by_the_sentinels() {
    let (set, store) = survives(|set| set.servers[0].signal("-STOP")).await;
    set.servers[0].signal("-CONT");
    for _ in 0..20 {
        assert!(writes(&store, "b").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A sentinel that hangs holds nobody up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_sentinel_is_passed_over() {
    let set = SentinelSet::start().await;
    set.sentinels[0].signal("-STOP");
    let (store, took) = timed(open(&settings(&set.url(), Mode::Sentinel))).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(writes(&store, "a").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_of_a_cluster_is_replaced() {
    let mut cluster = Cluster::start(1).await;
    let store = open(&settings(&cluster.url(), Mode::Cluster)).await;
    let keys: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    let all_written = async || {
        let mut written = true;
        for key in &keys {
            written &= writes(&store, key).await;
        }
        written
    };
    assert!(all_written().await);
    cluster.servers[0].kill();
    assert!(!all_written().await, "a third of the keys has no primary");
    let took = until(FAILOVER, "all keys are written again", all_written).await;
    println!("all keys are written {} ms after a round with failures", took.as_millis());
}

/// A shard that is away, without a replica and under load, costs the other shards nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shard_that_is_away_leaves_the_others() {
    let cluster = Cluster::start(0).await;
    let store = open(&settings(&cluster.url(), Mode::Cluster)).await;
    let keys: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    for key in &keys {
        assert!(writes(&store, key).await);
    }
    cluster.servers[0].signal("-STOP");
    let load = |key: String| {
        let store = store.clone();
        tokio::spawn(async move {
            let clock = SystemClock::new();
            let (mut written, mut lost) = (0, 0);
            while clock.elapsed() < Duration::from_secs(3) {
                let good = writes(&store, &key).await;
                (written, lost) = (written + u32::from(good), lost + u32::from(!good));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (written, lost)
        })
    };
    let mut counts = Vec::new();
    for task in keys.into_iter().map(load).collect::<Vec<_>>() {
        counts.push(task.await.unwrap());
    }
    let whole = counts.iter().filter(|(_, lost)| *lost == 0).count();
    let none = counts.iter().filter(|(written, _)| *written == 0).count();
    println!("of 60 keys {whole} lost no write and {none} lost all; {:?}", store.figures());
    assert_eq!(store.figures().broken, 0, "the pool stays open");
    assert!(whole >= 30 && whole + none == 60, "each key has its shard or has not: {counts:?}");
}

/// The keys of one call may lie on several nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_removes_from_every_node_of_a_cluster() {
    let store = open(&settings(&shared(Mode::Cluster), Mode::Cluster)).await;
    let cache = store.cache();
    let keys: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    for key in &keys {
        assert!(writes(&store, key).await);
        cache.add(&shop(), key, 1, HOUR).await.unwrap();
    }
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    cache.remove(&shop(), &names).await.unwrap();
    for key in &keys {
        assert_eq!(cache.get(&shop(), key).await.unwrap(), None);
        assert_eq!(cache.add(&shop(), key, 1, HOUR).await.unwrap(), 1);
    }
}
