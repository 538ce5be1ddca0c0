//! Lost requests, lost answers, a server that is away, one that says nothing: every call ends in time and says what to do,
//! nothing acknowledged is lost, nothing counts twice, and work goes on by itself when the server is back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::{Clock, ErrorKind, SystemClock, SystemEntropy, codes};
use parking_lot::Mutex;
use store::{ColumnRow, ColumnScan, Secret};
use store_clickhouse::{ClickHouseStore, Migrator, Settings};

use crate::common::own_server::OwnServer;
use crate::common::proxy::{Line, Proxy};
use crate::common::{Database, EVER, TICKS, all, append, row, scope};

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work).await.expect("it ends in time")
}

/// A store behind a proxy, whose table is open already.
async fn behind(proxy: &Proxy, database: &Database, change: impl FnOnce(&mut Settings)) -> ClickHouseStore {
    let store = database
        .open_with(|settings| {
            settings.url = proxy.url.clone();
            change(settings);
        })
        .await;
    store.columns().append(&scope(), TICKS, vec![row(-1, 0, 0.0)]).await.unwrap();
    store
}

fn rows(count: i64) -> Vec<ColumnRow> {
    (0..count).map(|time_ns| row(time_ns, 0, 1.0)).collect()
}

/// The INSERT was done and its answer is lost, or it never came there: what is missing is sent again, and counted once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_insert_neither_loses_nor_doubles() {
    let database = Database::migrated().await;
    let proxy = Proxy::start().await;
    let store = behind(&proxy, &database, |_| ()).await;
    let columns = store.columns();
    proxy.losses.answers.store(1, Ordering::SeqCst);
    assert_eq!(append(&columns, rows(100)).await, 100);
    assert_eq!((database.stored("ticks").await, proxy.losses.answers.load(Ordering::SeqCst)), (101, 0));
    proxy.losses.requests.store(2, Ordering::SeqCst);
    assert_eq!(append(&columns, rows(150)).await, 50, "those of before are known");
    assert_eq!((database.stored("ticks").await, proxy.losses.requests.load(Ordering::SeqCst)), (151, 0));
    assert_eq!(all(&columns).await.len(), 151);
    assert_eq!(store.figures().retried, 3);
}

/// When every try was in vain the caller is told so, and the same rows again are all there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_acknowledged_is_sent_again() {
    let database = Database::migrated().await;
    let proxy = Proxy::start().await;
    let columns = behind(&proxy, &database, |settings| settings.retries = 0).await.columns();
    proxy.losses.answers.store(1, Ordering::SeqCst);
    let error = columns.append(&scope(), TICKS, rows(5)).await.unwrap_err();
    assert_eq!(error.code(), codes::UNAVAILABLE, "{error:?}");
    assert!(error.message().contains("send it again"), "{error}");
    assert_eq!(append(&columns, rows(6)).await, 1, "five had arrived");
    assert_eq!(database.stored("ticks").await, 7);
}

/// Away: `UNAVAILABLE` with what to do, at once after some calls; back: work goes on, and a ping closes the circuit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_told_and_found_again() {
    let database = Database::migrated().await;
    let proxy = Proxy::start().await;
    let few = |settings: &mut Settings| (settings.retries, settings.failures_to_open) = (1, 3);
    let store = behind(&proxy, &database, few).await;
    let columns = store.columns();
    append(&columns, rows(10)).await;
    proxy.set(Line::Cut);
    for _ in 0..4 {
        let desk = scope();
        let call = columns.append(&desk, TICKS, vec![row(99, 0, 1.0)]);
        let error = within(Duration::from_secs(10), call).await.unwrap_err();
        assert_eq!((error.code(), error.kind().is_retryable()), (codes::UNAVAILABLE, true), "{error:?}");
        assert!(error.message().contains("send it again"), "{error}");
    }
    assert!(store.figures().is_open_circuit && store.figures().failed >= 3, "{:?}", store.figures());
    assert_eq!(store.ping(Duration::from_secs(2)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let clock = SystemClock::new();
    let refused = async {
        let began = clock.elapsed();
        let error = columns.append(&scope(), TICKS, vec![row(99, 0, 1.0)]).await.unwrap_err();
        (clock.elapsed() - began < Duration::from_millis(50)).then(|| error.message().to_owned())
    };
    // One call of each second is let through.
    let told = match refused.await {
        Some(told) => told,
        None => columns.append(&scope(), TICKS, rows(1)).await.unwrap_err().message().to_owned(),
    };
    assert!(told.contains("away"), "{told}");
    proxy.set(Line::Up);
    store.ping(Duration::from_secs(5)).await.unwrap();
    assert!(!store.figures().is_open_circuit);
    assert_eq!(append(&columns, vec![row(99, 0, 1.0)]).await, 1, "nothing of it was there");
    assert_eq!(all(&columns).await.len(), 12);
}

/// A connection that swallows everything ends in the time that the settings give.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends() {
    let database = Database::migrated().await;
    let proxy = Proxy::start().await;
    let columns = behind(&proxy, &database, |settings| settings.request_timeout_secs = 1).await.columns();
    proxy.set(Line::Frozen);
    let error = within(Duration::from_secs(20), columns.append(&scope(), TICKS, rows(3))).await.unwrap_err();
    assert_eq!(error.code(), codes::TIMED_OUT, "{error:?}");
    proxy.set(Line::Up);
    within(Duration::from_secs(20), async {
        while columns.append(&scope(), TICKS, rows(3)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(all(&columns).await.len(), 4);
}

/// Writers go on while the line is cut again and again: everything that was acknowledged is there, each row once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_survive_cut_lines() {
    let database = Database::migrated().await;
    let proxy = Arc::new(Proxy::start().await);
    let store = behind(&proxy, &database, |settings| settings.failures_to_open = 1_000).await;
    let cutter = {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                proxy.set(Line::Cut);
                tokio::time::sleep(Duration::from_millis(60)).await;
                proxy.set(Line::Up);
            }
        })
    };
    let writer = |writer: i64| {
        let columns = store.columns();
        tokio::spawn(async move {
            for number in 0..15 {
                let rows = vec![row(writer * 1_000 + number, 0, 1.0), row(writer * 1_000 + number, 1, 2.0)];
                while columns.append(&scope(), TICKS, rows.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        })
    };
    for writer in (0..3).map(writer).collect::<Vec<_>>() {
        within(Duration::from_secs(120), writer).await.unwrap();
    }
    cutter.abort();
    proxy.set(Line::Up);
    let columns = database.open().await.columns();
    let found = all(&columns).await;
    assert_eq!(found.len(), 46);
    assert!(found[1..].iter().all(|row| row.revision == 1), "{found:?}");
    database.merge("ticks").await;
    assert_eq!((all(&columns).await, database.stored("ticks").await), (found, 91));
}

/// The server is ended between two instructions, again and again, under writers: what was acknowledged is there when it is
/// back, each row once, and the writers go on by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_has_what_was_acknowledged() {
    let mut server = OwnServer::start().await;
    let settings = server.settings();
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
    let migrator = Migrator::new(&settings, Arc::clone(&clock) as Arc<_>, Arc::clone(&entropy) as Arc<_>);
    migrator.unwrap().up().await.unwrap();
    let columns = ClickHouseStore::open(&settings, clock, entropy).await.unwrap().columns();
    let (acknowledged, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let writer = |writer: i64| {
        let (columns, acknowledged) = (Arc::clone(&columns), Arc::clone(&acknowledged));
        let is_over = Arc::clone(&is_over);
        tokio::spawn(async move {
            for number in 0.. {
                let rows =
                    vec![row(writer * 100_000 + number, 0, 1.0), row(writer * 100_000 + number, 1, 2.0)];
                while columns.append(&scope(), TICKS, rows.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                acknowledged.lock().push(writer * 100_000 + number);
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
            }
        })
    };
    let writers: Vec<_> = (0..3).map(writer).collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before: HashSet<i64> = {
            // None is acknowledged between the look and the end.
            let acknowledged = acknowledged.lock();
            server.kill();
            acknowledged.iter().copied().collect()
        };
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.restart().await;
        let found = within(Duration::from_secs(60), async {
            loop {
                let scan = ColumnScan::new("WTI", EVER, 10_000);
                match columns.scan(&scope(), TICKS, &scan).await {
                    Ok(page) => return page.rows,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        })
        .await;
        let found: HashSet<i64> = found.iter().map(|row| row.time_ns).collect();
        assert!(before.is_subset(&found), "lost: {:?}", before.difference(&found).collect::<Vec<_>>());
    }
    is_over.store(true, Ordering::SeqCst);
    for writer in writers {
        within(Duration::from_secs(60), writer).await.unwrap();
    }
    let mut expected = acknowledged.lock().clone();
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().map(|time_ns| row(time_ns, 1, 2.0)).collect();
    assert_eq!(all(&columns).await, expected);
    assert!(expected.len() > 20, "{}", expected.len());
}

/// Who is not let in is told so, without the password; so is whoever finds nobody there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_not_shown() {
    let database = Database::migrated().await;
    let open = async |url: String| {
        let settings = Settings { url: Secret::new(url), ..database.settings.clone() };
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
        ClickHouseStore::open(&settings, clock, entropy).await.unwrap_err()
    };
    let url = crate::common::url();
    let host = url.split_once('@').unwrap().1;
    let error = open(format!("http://watershed:hunter2@{host}")).await;
    assert_eq!(error.code(), codes::UNAVAILABLE, "{error:?}");
    assert!(error.message().contains("refused the account"), "{error}");
    assert!(!format!("{error:?} {}", error.chain()).contains("hunter2"), "{error:?}");
    let error = open("http://watershed:hunter2@127.0.0.1:1".to_owned()).await;
    assert_eq!(error.message(), "ClickHouse cannot be reached; nothing was stored; send it again");
    assert!(!format!("{error:?} {}", error.chain()).contains("hunter2"), "{error:?}");
}
