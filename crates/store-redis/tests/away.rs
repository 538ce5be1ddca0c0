//! Servers that are away, stall, or come back empty: every wait is bounded, and it mends itself.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::codes;
use store::{Cache, Limit, Rate};
use store_redis::{Mode, RedisStore, Settings};
use support::proxy::{Proxy, Weather};
use support::servers::{PASSWORD, Server, free_port};
use support::{open, settings, shared, shop, timed, until};

const HOUR: Duration = Duration::from_secs(3_600);

// A command waits 250 ms; a busy machine may take longer to say so.
const WAIT: Duration = Duration::from_millis(800);
const RECOVERY: Duration = Duration::from_secs(5);

async fn through_proxy() -> (Proxy, RedisStore) {
    let url = shared(Mode::Plain);
    let (head, host) = url.rsplit_once('@').unwrap();
    let proxy = Proxy::to(host.to_owned()).await;
    let settings = settings(&format!("{head}@{}", proxy.address), Mode::Plain);
    let store = open(&settings).await;
    (proxy, store)
}

async fn set(cache: &Arc<dyn Cache>, key: &str) -> kernel::Result<()> {
    cache.set(&shop(), key, Bytes::from(key.to_owned()), HOUR).await
}

/// Calls until the breaker is open, checking that none waits long, then checks that calls fail at once.
async fn fails_fast(store: &RedisStore) {
    let cache = store.cache();
    let opens = async || {
        let (result, took) = timed(set(&cache, "a")).await;
        assert!(took < WAIT, "a call waited {took:?}");
        result.is_err() && store.figures().open == 0
    };
    until(Duration::from_secs(6), "the breaker opens", opens).await;
    let (error, took) = timed(async {
        for _ in 0..199 {
            let _ = set(&cache, "a").await;
        }
        set(&cache, "a").await.unwrap_err()
    })
    .await;
    assert_eq!(error.code(), codes::UNAVAILABLE);
    assert!(took < WAIT, "200 calls took {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_is_bounded_and_mends() {
    let (proxy, store) = through_proxy().await;
    set(&store.cache(), "a").await.unwrap();
    proxy.set(Weather::Cut);
    fails_fast(&store).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.set(Weather::Fair);
    let took = until(RECOVERY, "it mends", async || set(&store.cache(), "a").await.is_ok()).await;
    println!("recovered {} ms after a cut of 3 s", took.as_millis());
    until(RECOVERY, "the pool is full", async || store.figures().open == 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_is_bounded_and_mends() {
    let (proxy, store) = through_proxy().await;
    set(&store.cache(), "a").await.unwrap();
    proxy.set(Weather::Stalled);
    let (error, took) = timed(set(&store.cache(), "a")).await;
    assert_eq!(error.unwrap_err().code(), codes::TIMED_OUT);
    assert!(took < WAIT, "{took:?}");
    fails_fast(&store).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxy.set(Weather::Fair);
    let took = until(RECOVERY, "it mends", async || set(&store.cache(), "a").await.is_ok()).await;
    println!("recovered {} ms after a stall of 3 s", took.as_millis());
    assert!(store.figures().timed_out > 0 && store.figures().broken == 1, "{:?}", store.figures());
}

/// A stall is found out even when nobody asks, so that the first to ask does not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_is_found_while_idle() {
    let (proxy, store) = through_proxy().await;
    proxy.set(Weather::Stalled);
    until(Duration::from_secs(6), "the breaker opens", async || store.figures().open == 0).await;
    let (error, took) = timed(store.ping()).await;
    assert_eq!(error.unwrap_err().code(), codes::UNAVAILABLE);
    assert!(took < Duration::from_millis(100), "{took:?}");
}

/// Who gives up waiting leaves an answer behind; nobody else gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_answers_reach_nobody() {
    let (proxy, store) = through_proxy().await;
    let cache = store.cache();
    for number in 0..20 {
        set(&cache, &number.to_string()).await.unwrap();
    }
    for round in 0..3 {
        proxy.set(Weather::Stalled);
        let late = timed(cache.get(&shop(), "0")).await.0;
        assert!(late.is_err(), "{round}");
        proxy.set(Weather::Fair);
        for number in 0..20 {
            let key = number.to_string();
            if let Ok(found) = cache.get(&shop(), &key).await {
                assert_eq!(found, Some(Bytes::from(key)), "{round}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let (store, took) =
        timed(open(&settings(&format!("redis://:{PASSWORD}@127.0.0.1:{port}"), Mode::Plain))).await;
    assert!(took < Duration::from_secs(2), "opening took {took:?}");
    let error = store.ping().await.unwrap_err();
    assert_eq!(error.code(), codes::UNAVAILABLE);
    assert!(error.chain().contains("refused"), "{error:?}");
    let _server = Server::start(folder.path(), port, &[]).await;
    until(RECOVERY, "it is found", async || store.ping().await.is_ok()).await;
}

/// A server that lost everything, scripts too, is used again; tokens of leases grow even so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_come_back_empty() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = Server::start(folder.path(), port, &[]).await;
    let store = open(&settings(&format!("redis://:{PASSWORD}@127.0.0.1:{port}"), Mode::Plain)).await;
    let (cache, limiter) = (store.cache(), store.limiter());
    let before = cache.acquire(&shop(), "train", "me", HOUR).await.unwrap().unwrap();
    assert_eq!(cache.add(&shop(), "hits", 5, HOUR).await.unwrap(), 5);
    server.kill();
    let _server = Server::start(folder.path(), port, &[]).await;
    until(RECOVERY, "it mends", async || store.ping().await.is_ok()).await;
    let after = cache.acquire(&shop(), "train", "you", HOUR).await.unwrap().unwrap();
    assert!(after.token > before.token, "{after:?} after {before:?}");
    assert_eq!(cache.add(&shop(), "hits", 1, HOUR).await.unwrap(), 1);
    let limit = Limit { key: "a", rate: Rate::new(1, HOUR, 1).unwrap() };
    assert!(limiter.take(&shop(), &[limit], 1).await.unwrap().admitted);
}

/// One connection that is closed by the server is replaced; the others go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lost_connection_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port(), &[]).await;
    let settings = settings(&format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port), Mode::Plain);
    let store = open(&settings).await;
    let own = server.ask(&["CLIENT", "LIST"]);
    let line = own.lines().find(|line| !line.contains("cmd=client")).unwrap();
    let id = line.split(' ').next().unwrap().trim_start_matches("id=");
    assert_eq!(server.ask(&["CLIENT", "KILL", "ID", id]).trim(), "1");
    until(RECOVERY, "it is replaced", async || store.figures().open == 3 && store.figures().opened == 4)
        .await;
    let (answered, broken) = (store.figures().answered, store.figures().broken);
    for _ in 0..9 {
        store.ping().await.unwrap();
    }
    assert!(store.figures().answered >= answered + 9);
    assert_eq!(broken, 0);
}

/// A wrong password is told from a server that is away, and told to nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_not_repeated() {
    let url = shared(Mode::Plain);
    let (_, host) = url.rsplit_once('@').unwrap();
    let settings = settings(&format!("redis://:hunter2@{host}"), Mode::Plain);
    let store = open(&settings).await;
    let error = store.ping().await.unwrap_err();
    assert_eq!(error.code(), codes::UNAVAILABLE);
    assert!(error.chain().to_lowercase().contains("auth"), "{error:?}");
    let shown = format!("{error:?} {store:?} {settings:?} {:?}", store.cache());
    assert!(!shown.contains("hunter2"), "{shown}");
}

/// A server without room says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"];
    let server = Server::start(folder.path(), free_port(), &options).await;
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port);
    let store = open(&Settings { command_timeout_ms: 5_000, ..settings(&url, Mode::Plain) }).await;
    let error = store.cache().set(&shop(), "a", Bytes::from(vec![0; 2 << 20]), HOUR).await;
    let error = match error {
        Err(error) => error,
        Ok(()) => set(&store.cache(), "b").await.unwrap_err(),
    };
    assert_eq!(error.code(), codes::STORAGE_FULL, "{error:?}");
    assert_eq!(store.cache().add(&shop(), "c", 1, HOUR).await.unwrap_err().code(), codes::STORAGE_FULL);
    assert_eq!(store.figures().open, 3, "it is not away");
}
