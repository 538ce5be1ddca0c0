//! Measures records on a server: `commit_rate URL [COMMITS]` commits one record with one indexed value at a time, from
//! 1 and from 16 tasks, reads them, and lists pages by value. It makes a schema and drops it.

#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::{Clock, Entropy, Error, Result, Scope, SystemClock, SystemEntropy, TenantId};
use store::{Expect, IndexValue, Query, Records, Selection, Table, Write};
use store_postgres::{DatabaseUrl, Migrator, PostgresStore, Settings};

const TABLE: Table = Table { name: "things", indexes: &["time"] };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (url, commits) = match arguments[..] {
        [url] => (url, 4_000),
        [url, commits] => (url, commits.parse().expect("a count of commits")),
        _ => {
            println!("usage: commit_rate URL [COMMITS]");
            return;
        }
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(measure(url, commits)).expect("the server is good");
}

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").expect("a lawful name"), "commit_rate")
}

async fn measure(url: &str, commits: u32) -> Result<()> {
    let schema = format!("commit_rate_{:016x}", SystemEntropy::new().next_u64());
    let settings = Settings { url: Some(DatabaseUrl::new(url)), schema, ..Settings::default() };
    let clock = Arc::new(SystemClock::new());
    let migrator = Migrator::new(&settings, &*clock);
    migrator.up().await?;
    let opened =
        PostgresStore::open(settings.clone(), Arc::clone(&clock) as Arc<_>, Arc::new(SystemEntropy::new()));
    let outcome = run(&opened.await?.records(), commits, &*clock).await;
    migrator.down(0).await?;
    outcome
}

fn tell(what: &str, count: u32, taken: Duration) {
    println!("{what}: {:.0} a second", f64::from(count) / taken.as_secs_f64());
}

async fn run(records: &Arc<dyn Records>, commits: u32, clock: &dyn Clock) -> Result<()> {
    for tasks in [1, 16] {
        let begin = clock.elapsed();
        let task = |task: u32| {
            let records = Arc::clone(records);
            tokio::spawn(async move {
                for number in 0..commits / tasks {
                    let write = Write::Put {
                        table: TABLE,
                        key: format!("{task} {number}"),
                        body: Bytes::from(vec![7; 200]),
                        indexes: vec![("time", IndexValue::Integer(i64::from(number)))],
                        expect: Expect::Any,
                    };
                    records.commit(&scope(), vec![write]).await?;
                }
                Ok::<_, Error>(())
            })
        };
        for task in (0..tasks).map(task).collect::<Vec<_>>() {
            task.await.map_err(Error::internal)??;
        }
        tell(&format!("commits from {tasks} tasks"), commits, clock.elapsed().saturating_sub(begin));
    }
    let begin = clock.elapsed();
    for number in 0..1_000 {
        records.get(&scope(), TABLE, &format!("0 {}", number % (commits / 16).max(1))).await?;
    }
    tell("reads by key from 1 task", 1_000, clock.elapsed().saturating_sub(begin));
    let begin = clock.elapsed();
    let all = Selection::Between("time", IndexValue::Integer(0), IndexValue::Integer(i64::MAX));
    for _ in 0..200 {
        records.list(&scope(), TABLE, &Query { descending: true, ..Query::new(all.clone(), 100) }).await?;
    }
    tell("pages of 100 by value from 1 task", 200, clock.elapsed().saturating_sub(begin));
    Ok(())
}
