//! Lost connections, a server that is stopped, and a split network: every call ends in time, nothing acknowledged is
//! lost, and work goes on by itself when the server is back.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::proxy::{Line, Proxy};
use common::{ALL, Schema, TOPIC, connect, event, scope, url};
use kernel::{Clock, ErrorKind, SystemClock, SystemEntropy, codes};
use store::{Expect, Outcome, Table, Write};
use store_postgres::{DatabaseUrl, Migrator, PostgresStore, Settings};

const TABLE: Table = Table { name: "things", indexes: &[] };

fn put(key: &str) -> Vec<Write> {
    let (key, body) = (key.to_owned(), Bytes::from_static(b"x"));
    vec![Write::Put { table: TABLE, key, body, indexes: Vec::new(), expect: Expect::Any }]
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work).await.expect("it ends in time")
}

/// A store behind a proxy, with short time limits.
async fn behind(proxy: &Proxy, schema: &Schema) -> PostgresStore {
    schema
        .open_with(|settings| {
            settings.url = Some(DatabaseUrl::new(proxy.url.clone()));
            settings.acquire_timeout_seconds = 0.5;
            settings.statement_timeout_seconds = 0.5;
            settings.min_connections = 2;
        })
        .await
}

/// Ends every connection that the store has.
async fn terminate(application: &str) -> i64 {
    let terminate =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    connect().await.query_one(terminate, &[&application]).await.unwrap().get(0)
}

/// With every connection ended by the server, reads go on without an error and writes after at most one each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_is_replaced() {
    let schema = Schema::migrated().await;
    let name = schema.settings.schema.clone();
    let url = format!("{}?application_name={name}", common::url());
    let store = schema.open_with(|settings| settings.url = Some(DatabaseUrl::new(url))).await;
    let (records, log) = (store.records(), store.event_log());
    records.commit(&scope(), put("a")).await.unwrap();
    for round in 0..5 {
        log.append(&scope(), &TOPIC, vec![event(round)]).await.unwrap();
        assert!(terminate(&name).await > 0);
        assert!(records.get(&scope(), TABLE, "a").await.unwrap().is_some());
        let again = log.append(&scope(), &TOPIC, vec![event(round)]).await;
        let again = match again {
            Ok(again) => again,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                log.append(&scope(), &TOPIC, vec![event(round)]).await.unwrap()
            }
        };
        assert_eq!((again[0].offset, again[0].outcome), (round, Outcome::Duplicate));
    }
}

/// Connections that are ended while they append: what was acknowledged is there, each id once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_survive_killed_connections() {
    let schema = Schema::migrated().await;
    let name = schema.settings.schema.clone();
    let url = format!("{}?application_name={name}", common::url());
    let store = schema.open_with(|settings| settings.url = Some(DatabaseUrl::new(url))).await;
    let log = store.event_log();
    let appender = |caller: u32| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..60 {
                let id = format!("{caller} {number}");
                let place = loop {
                    match log.append(&scope(), &TOPIC, vec![event(&id)]).await {
                        Ok(places) => break places[0],
                        Err(error) => assert!(error.kind().is_retryable(), "{error:?}"),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                };
                acknowledged.push((id, place.offset));
            }
            acknowledged
        })
    };
    let appenders: Vec<_> = (0..6).map(appender).collect();
    for _ in 0..6 {
        terminate(&name).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let mut acknowledged = Vec::new();
    for appender in appenders {
        acknowledged.extend(within(Duration::from_secs(30), appender).await.unwrap());
    }
    let held = log.read(&TOPIC, 0, 0, ALL).await.unwrap();
    assert_eq!(held.len(), 360, "each id is held once");
    for (id, offset) in acknowledged {
        assert_eq!(held[usize::try_from(offset).unwrap()].event.id, id);
    }
}

/// A server that is stopped: calls fail soon, then at once; when it is back, they work again within five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_found_back() {
    let schema = Schema::migrated().await;
    let clock = SystemClock::new();
    let proxy = Proxy::start().await;
    let store = behind(&proxy, &schema).await;
    let (records, log) = (store.records(), store.event_log());
    records.commit(&scope(), put("a")).await.unwrap();
    let waiting = Arc::clone(&log);
    let waiter = tokio::spawn(async move { waiting.wait(&TOPIC, 0, 0).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    for line in [Line::Cut, Line::Frozen] {
        proxy.set(line);
        for _ in 0..20 {
            let error = within(Duration::from_secs(3), records.commit(&scope(), put("b"))).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            if store.pool().is_open_circuit {
                break;
            }
        }
        assert!(store.pool().is_open_circuit, "{line:?}");
        let start = clock.elapsed();
        for _ in 0..200 {
            let error = records.get(&scope(), TABLE, "a").await.unwrap_err();
            assert_eq!(error.code(), codes::UNAVAILABLE);
            assert!(log.append(&scope(), &TOPIC, vec![event(0)]).await.is_err());
            assert!(store.ping(Duration::from_secs(1)).await.is_err());
        }
        assert!(clock.elapsed().saturating_sub(start) < Duration::from_millis(500), "they fail at once");
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.set(Line::Up);
        let start = clock.elapsed();
        while records.get(&scope(), TABLE, "a").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(clock.elapsed().saturating_sub(start) < Duration::from_secs(5), "{line:?}");
        }
        assert!(!store.pool().is_open_circuit);
        store.ping(Duration::from_secs(1)).await.unwrap();
    }
    assert!(!waiter.is_finished());
    log.append(&scope(), &TOPIC, vec![event(1)]).await.unwrap();
    within(Duration::from_secs(1), waiter).await.unwrap().unwrap();
}

/// A waiter outlives an outage, and hears of events of another store after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_outlives_an_outage() {
    let schema = Schema::migrated().await;
    let proxy = Proxy::start().await;
    let reader = behind(&proxy, &schema).await.event_log();
    let writer = schema.open().await.event_log();
    writer.append(&scope(), &TOPIC, vec![event(0)]).await.unwrap();
    let waiting = Arc::clone(&reader);
    let waiter = tokio::spawn(async move { waiting.wait(&TOPIC, 0, 1).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.set(Line::Cut);
    writer.append(&scope(), &TOPIC, vec![event(1)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!waiter.is_finished());
    proxy.set(Line::Up);
    within(Duration::from_secs(5), waiter).await.unwrap().unwrap();
}

/// A statement that takes too long is ended by the server, and its caller told so; the connection stays good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_has_a_time_limit() {
    let schema = Schema::migrated().await;
    let store = schema.open_with(|settings| settings.statement_timeout_seconds = 0.3).await;
    let records = store.records();
    records.commit(&scope(), put("a")).await.unwrap();
    let mut client = schema.client().await;
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let refused = within(Duration::from_secs(2), records.commit(&scope(), put("a"))).await.unwrap_err();
    assert!(refused.kind().is_retryable(), "{refused:?}");
    transaction.rollback().await.unwrap();
    records.commit(&scope(), put("a")).await.unwrap();
    assert!(!store.pool().is_open_circuit, "a busy server is not away");
}

/// Who waits for a network that swallows everything is told soon, however long a statement may take; who waits for a
/// lock is waited with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_noticed() {
    let schema = Schema::migrated().await;
    let proxy = Proxy::start().await;
    let store = schema
        .open_with(|settings| {
            settings.url = Some(DatabaseUrl::new(proxy.url.clone()));
            settings.acquire_timeout_seconds = 30.0;
            settings.statement_timeout_seconds = 30.0;
            settings.silence_timeout_seconds = 0.3;
            settings.failures_to_open = 1_000;
        })
        .await;
    let records = store.records();
    records.commit(&scope(), put("a")).await.unwrap();
    let mut client = schema.client().await;
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let waiting = Arc::clone(&records);
    let waiter = tokio::spawn(async move { waiting.commit(&scope(), put("a")).await });
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!store.pool().is_open_circuit && !waiter.is_finished(), "a busy server is not away");
    transaction.rollback().await.unwrap();
    within(Duration::from_secs(2), waiter).await.unwrap().unwrap();

    proxy.set(Line::Frozen);
    let refused = within(Duration::from_secs(5), records.commit(&scope(), put("b"))).await.unwrap_err();
    assert_eq!(refused.code(), codes::UNAVAILABLE, "{refused:?}");
    assert!(store.pool().is_open_circuit);
    proxy.set(Line::Up);
    let found = async {
        while records.get(&scope(), TABLE, "a").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(Duration::from_secs(5), found).await;
}

/// When every connection is in use, a caller waits as long as it may and is then told to try again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_is_told() {
    let schema = Schema::migrated().await;
    let store = schema
        .open_with(|settings| {
            settings.max_connections = 2;
            settings.acquire_timeout_seconds = 0.3;
        })
        .await;
    let records = store.records();
    records.commit(&scope(), put("a")).await.unwrap();
    let mut client = schema.client().await;
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("LOCK TABLE records IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let get = || {
        let records = Arc::clone(&records);
        tokio::spawn(async move { records.get(&scope(), TABLE, "a").await })
    };
    let holders = [get(), get()];
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((store.pool().in_use, store.pool().max), (2, 2));
    let refused = within(Duration::from_secs(1), get()).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), codes::OVERLOADED, "{refused:?}");
    transaction.rollback().await.unwrap();
    for holder in holders {
        assert!(holder.await.unwrap().unwrap().is_some());
    }
    assert_eq!(store.pool().in_use, 0);
}

/// A server that is not there, or does not know the account, is told without the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_told() {
    let check = async |url: String| {
        let settings = Settings {
            url: Some(DatabaseUrl::new(url)),
            acquire_timeout_seconds: 0.5,
            ..Settings::default()
        };
        let opened =
            PostgresStore::open(settings, Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
        let error = within(Duration::from_secs(3), opened).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    };
    check("postgres://someone:hunter2@127.0.0.1:1/name".to_owned()).await;
    // Reserved for documentation (RFC 5737): nothing answers there.
    check("postgres://someone:hunter2@192.0.2.1:5432/name".to_owned()).await;
    let rest = common::url().split_once('@').unwrap().1.to_owned();
    check(format!("postgres://nobody-here:hunter2@{rest}")).await;
    check(format!("postgres://watershed:hunter2@{}", rest.replace("/postgres", "/missing"))).await;
}

/// The pool keeps its least number of connections open, and never more than its most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_keeps_its_size() {
    let schema = Schema::migrated().await;
    let store = schema.open_with(|settings| settings.min_connections = 3).await;
    let grown = async {
        while store.pool().idle < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(Duration::from_secs(5), grown).await;
    let records = store.records();
    let commits: Vec<_> = (0..40)
        .map(|number: u32| {
            let records = Arc::clone(&records);
            tokio::spawn(async move { records.commit(&scope(), put(&number.to_string())).await })
        })
        .collect();
    for commit in commits {
        commit.await.unwrap().unwrap();
    }
    let figures = store.pool();
    assert!(figures.idle <= 4 && figures.in_use == 0 && figures.waiting == 0, "{figures:?}");
}

/// A schema that was never migrated is refused with what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_not_there_is_told() {
    let schema = Schema::empty();
    let clock = Arc::new(SystemClock::new());
    let opened = PostgresStore::open(
        schema.settings.clone(),
        Arc::clone(&clock) as Arc<_>,
        Arc::new(SystemEntropy::new()),
    );
    let error = opened.await.unwrap_err();
    assert_eq!(error.code(), codes::CONFLICT);
    assert!(error.message().contains("watershed migrate up"), "{error}");
    assert_eq!(
        Migrator::new(&schema.settings, &*clock).status().await.unwrap().version(),
        0,
        "nothing was made"
    );
}

/// A replica that is away, or that has nothing yet, costs no event: the server that takes writes has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_may_be_away() {
    let schema = Schema::migrated().await;
    let proxy = Proxy::start().await;
    let replica = DatabaseUrl::new(proxy.url.clone());
    let store = schema
        .open_with(|settings| {
            settings.read_url = Some(replica);
            settings.acquire_timeout_seconds = 0.5;
        })
        .await;
    let log = store.event_log();
    log.append(&scope(), &TOPIC, vec![event(0)]).await.unwrap();
    assert_eq!(log.read(&TOPIC, 0, 0, ALL).await.unwrap().len(), 1);
    proxy.set(Line::Cut);
    for _ in 0..20 {
        assert_eq!(log.read(&TOPIC, 0, 0, ALL).await.unwrap().len(), 1);
    }
    assert!(store.read_pool().unwrap().is_open_circuit && !store.pool().is_open_circuit);
    let limit = Duration::from_millis(500);
    assert!(store.ping_replica(limit).await.unwrap_err().kind().is_retryable());
    store.ping(limit).await.unwrap();
}

/// Another database in place of the replica: where it lacks the schema its pulse says so; what it says wrongly is an error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_none_is_noticed() {
    let schema = Schema::migrated().await;
    let name = &schema.settings.schema;
    let here = connect().await;
    here.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await.unwrap();
    let mut address: Vec<String> = url().split('/').map(str::to_owned).collect();
    *address.last_mut().unwrap() = name.clone();
    let address = address.join("/");
    let store =
        schema.open_with(|settings| settings.read_url = Some(DatabaseUrl::new(address.clone()))).await;
    let log = store.event_log();
    log.append(&scope(), &TOPIC, vec![event(0)]).await.unwrap();
    assert_eq!(log.read(&TOPIC, 0, 0, ALL).await.unwrap().len(), 1);
    let told = store.ping_replica(Duration::from_secs(5)).await.unwrap_err();
    assert!(told.message().contains("the schema is not there"), "{told}");

    let (there, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let tables = format!(
        "CREATE SCHEMA \"{name}\"; SET search_path = \"{name}\"; \
         CREATE TABLE partitions AS SELECT 1 AS topic, 0 AS partition, 0::bigint AS first_offset, 1::bigint AS next_offset; \
         CREATE TABLE events AS SELECT 1 AS topic, 0 AS partition, 0::bigint AS place, 7 AS checksum, '{{}}'::bytea AS body"
    );
    there.batch_execute(&tables).await.unwrap();
    store.ping_replica(Duration::from_secs(5)).await.unwrap();
    let number: i32 = schema.client().await.query_one("SELECT number FROM topics", &[]).await.unwrap().get(0);
    there
        .batch_execute(&format!("UPDATE partitions SET topic = {number}; UPDATE events SET topic = {number}"))
        .await
        .unwrap();
    let read = log.read(&TOPIC, 0, 0, ALL).await;
    assert_eq!(read.unwrap_err().code(), codes::CORRUPTED);
    drop((there, log, store));
    here.batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await.unwrap();
}
