//! The schema's versions: up, down, races, cut-off steps, and other releases.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::sync::Arc;

use common::{Schema, connect, event, scope};
use kernel::{ManualClock, SystemClock, SystemEntropy, Timestamp, codes};
use store::{Expect, Table, Write};
use store_postgres::{MIGRATIONS, Migration, Migrator, PostgresStore, RELEASED};

const STEPS: [Migration; 3] = [
    Migration {
        number: 1,
        name: "one",
        up: "CREATE TABLE one (n int)",
        down: "DROP TABLE one",
        compatible_with: 1,
    },
    Migration {
        number: 2,
        name: "two",
        up: "ALTER TABLE one ADD COLUMN m int DEFAULT 0; CREATE TABLE two ()",
        down: "DROP TABLE two; ALTER TABLE one DROP COLUMN m",
        compatible_with: 1,
    },
    Migration {
        number: 3,
        name: "three",
        up: "DROP TABLE two",
        down: "CREATE TABLE two ()",
        compatible_with: 3,
    },
];

async fn tables(schema: &Schema) -> Vec<String> {
    let select = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY 1";
    let rows = connect().await.query(select, &[&schema.settings.schema]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Up, status, plan and down agree, and going down leaves only the ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_goes_up_and_down() {
    let schema = Schema::empty();
    let clock = ManualClock::at(Timestamp::from_second(1_000_000_000).unwrap());
    let migrator = Migrator::new(&schema.settings, &clock);
    let plan = migrator.plan().await.unwrap();
    assert!(plan.starts_with("-- 0001 initial\n") && plan.contains("CREATE TABLE records"), "{plan}");
    assert!(tables(&schema).await.is_empty(), "a plan changes nothing");
    let every: Vec<i32> = MIGRATIONS.iter().map(|step| step.number).collect();
    assert_eq!(migrator.up().await.unwrap(), every);
    assert!(migrator.up().await.unwrap().is_empty());
    assert!(migrator.plan().await.unwrap().is_empty());
    let status = migrator.status().await.unwrap();
    assert_eq!((status.version(), status.pending.len()), (every.len() as i32, 0));
    assert_eq!(status.applied[0].applied_at.as_second(), 1_000_000_000);
    let store = schema.open().await;
    store.event_log().append(&scope(), &common::TOPIC, vec![event(1)]).await.unwrap();
    drop(store);
    let mut backwards = every.clone();
    backwards.reverse();
    assert_eq!(migrator.down(0).await.unwrap(), backwards);
    assert_eq!(tables(&schema).await, ["migrations"]);
    assert_eq!(migrator.up().await.unwrap(), every, "and up again");
}

/// Of many that migrate at once, each step is done by one, and all end well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_do_not_race() {
    let schema = Schema::empty();
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let settings = schema.settings.clone();
            tokio::spawn(async move {
                let clock = SystemClock::new();
                Migrator::new(&settings, &clock).with_steps(&STEPS).up().await.unwrap()
            })
        })
        .collect();
    let mut done = Vec::new();
    for run in runs {
        done.extend(run.await.unwrap());
    }
    done.sort_unstable();
    assert_eq!(done, [1, 2, 3]);
}

/// A step that fails in its middle leaves nothing, and the steps before it stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_cut_off_leaves_nothing() {
    let schema = Schema::empty();
    let clock = SystemClock::new();
    let broken = Migration { up: "CREATE TABLE half (); SELECT 1 / 0; CREATE TABLE rest ()", ..STEPS[1] };
    let steps = [STEPS[0], broken];
    let error = Migrator::new(&schema.settings, &clock).with_steps(&steps).up().await.unwrap_err();
    assert_eq!(error.message(), "step 2 `two` failed; nothing of it was kept");
    assert_eq!(tables(&schema).await, ["migrations", "one"]);
    let good = Migrator::new(&schema.settings, &clock).with_steps(&STEPS);
    assert_eq!(good.up().await.unwrap(), [2, 3]);
}

/// A process that dies in the middle of a step: its connection ends, and with it everything of the step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_step_leaves_nothing() {
    let schema = Schema::empty();
    let settings = schema.settings.clone();
    let slow = Migration { up: "CREATE TABLE half (); SELECT pg_sleep(60)", ..STEPS[0] };
    let run = tokio::spawn(async move {
        let (clock, steps) = (SystemClock::new(), [slow]);
        Migrator::new(&settings, &clock).with_steps(&steps).up().await
    });
    let client = connect().await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE query LIKE 'CREATE TABLE half (); SELECT pg_sleep%' AND wait_event = 'PgSleep'";
    while client.query_one(kill, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(run.await.unwrap().unwrap_err().kind().is_retryable());
    assert!(!tables(&schema).await.contains(&"half".to_owned()));
    let clock = SystemClock::new();
    let good = Migrator::new(&schema.settings, &clock).with_steps(&STEPS);
    assert_eq!(good.up().await.unwrap(), [1, 2, 3], "nobody holds the lock");
}

/// A step that was done with other statements is refused by every call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_checksum_is_refused() {
    let schema = Schema::empty();
    let clock = SystemClock::new();
    Migrator::new(&schema.settings, &clock).with_steps(&STEPS).up().await.unwrap();
    let changed = [Migration { up: "CREATE TABLE one (n bigint)", ..STEPS[0] }, STEPS[1], STEPS[2]];
    let migrator = Migrator::new(&schema.settings, &clock).with_steps(&changed);
    for error in [
        migrator.status().await.unwrap_err(),
        migrator.plan().await.unwrap_err(),
        migrator.up().await.unwrap_err(),
        migrator.down(0).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), codes::CONFLICT);
        assert!(error.message().starts_with("step 1 `one` was done with other statements"), "{error}");
    }
}

/// A release runs on a newer schema where that says so, and refuses it where it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_release_runs_on_a_compatible_schema() {
    let schema = Schema::empty();
    let clock = SystemClock::new();
    let release = |count: usize| Migrator::new(&schema.settings, &clock).with_steps(&STEPS[..count]);
    release(2).up().await.unwrap();
    // Step 2 only adds, so the release before it goes on.
    let status = release(1).status().await.unwrap();
    assert_eq!((status.version(), status.pending.len()), (2, 0));
    assert!(release(1).up().await.unwrap().is_empty());
    let refused = release(1).down(0).await.unwrap_err();
    assert!(refused.message().contains("take it back with the release that did it"), "{refused}");
    // Step 3 takes away what release 2 uses.
    release(3).up().await.unwrap();
    for count in [1, 2] {
        let refused = release(count).status().await.unwrap_err();
        assert_eq!(refused.code(), codes::CONFLICT);
        assert!(refused.message().contains("the schema is at step 3 `three`"), "{refused}");
    }
    assert_eq!(release(3).down(2).await.unwrap(), [3]);
    assert!(release(1).status().await.is_ok(), "and back");
}

/// The schema of the release before under this one, and back: refused until it is moved, and the release before runs on it
/// then. What was stored stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_release_before_and_this_one_share_a_schema() {
    let schema = Schema::empty();
    let clock = SystemClock::new();
    let before = &MIGRATIONS[..RELEASED.len()];
    let (old, new) =
        (Migrator::new(&schema.settings, &clock).with_steps(before), Migrator::new(&schema.settings, &clock));
    old.up().await.unwrap();
    let new_steps: Vec<i32> = MIGRATIONS[before.len()..].iter().map(|step| step.number).collect();
    if let Some(first) = new_steps.first() {
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
        let refused = PostgresStore::open(schema.settings.clone(), clock, entropy).await.unwrap_err();
        assert_eq!(refused.code(), codes::CONFLICT);
        assert!(refused.message().contains(&format!("lacks step {first}")), "{refused}");
    }
    assert_eq!(new.up().await.unwrap(), new_steps);
    let store = schema.open().await;
    store.event_log().append(&scope(), &common::TOPIC, vec![event(1)]).await.unwrap();
    assert!(old.status().await.unwrap().pending.is_empty(), "the release before runs on it");
    let newest = before.last().map_or(0, |step| step.number);
    drop(store);
    let mut backwards = new_steps.clone();
    backwards.reverse();
    assert_eq!(new.down(newest).await.unwrap(), backwards);
    assert_eq!(old.status().await.unwrap().version(), newest, "and back");
    assert_eq!(new.up().await.unwrap(), new_steps);
    let read = schema.open().await.event_log().read(&common::TOPIC, 0, 0, common::ALL).await.unwrap();
    assert_eq!(read.len(), 1);
}

/// The next release moves the schema under the servers of this one, whose statements are prepared already, and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_store_does_not_notice_the_next_release() {
    let schema = Schema::migrated().await;
    let clock = SystemClock::new();
    let steps = common::next_release();
    let next = Migrator::new(&schema.settings, &clock).with_steps(&steps);
    let newest = MIGRATIONS.last().unwrap().number;
    let store = schema.open().await;
    let (log, records) = (store.event_log(), store.records());
    let table = Table { name: "things", indexes: &[] };
    let use_all = async |round: u64| {
        // More often than there are connections, so that each has been used.
        for turn in 0..20 {
            let id = round * 100 + turn;
            log.append(&scope(), &common::TOPIC, vec![event(id)]).await.unwrap();
            let (key, body) = (format!("key-{id}"), vec![7].into());
            let write = Write::Put { table, key: key.clone(), body, expect: Expect::Absent, indexes: vec![] };
            records.commit(&scope(), vec![write]).await.unwrap();
            assert!(records.get(&scope(), table, &key).await.unwrap().is_some());
            log.commit("group", &common::TOPIC, 0, id).await.unwrap();
        }
        let read = log.read(&common::TOPIC, 0, 0, common::ALL).await.unwrap();
        assert_eq!(read.len() as u64, 20 * (round + 1));
    };
    use_all(0).await;
    assert_eq!(next.up().await.unwrap(), [newest + 1]);
    use_all(1).await;
    assert_eq!(next.down(newest).await.unwrap(), [newest + 1]);
    use_all(2).await;
}
