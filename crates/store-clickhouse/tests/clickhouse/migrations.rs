//! The database's versions: up, down, twice, at once, cut off, and other releases.

use std::sync::Arc;

use kernel::{ManualClock, SystemClock, SystemEntropy, Timestamp, codes};
use store_clickhouse::{ClickHouseStore, MIGRATIONS, Migration, Migrator};

use crate::common::{Database, all, append, ask, row};

const ONE: Migration = Migration {
    number: 1,
    name: "one",
    up: "-- Makes one; and nothing else.\nCREATE TABLE IF NOT EXISTS {database}.one (n Int32) ENGINE = MergeTree ORDER BY n;\n",
    down: "DROP TABLE IF EXISTS {database}.one;\n",
    compatible_with: 1,
};
static STEPS: [Migration; 3] = [
    ONE,
    Migration {
        number: 2,
        name: "two",
        up: "ALTER TABLE {database}.one ADD COLUMN IF NOT EXISTS m Int32;\n\
             CREATE TABLE IF NOT EXISTS {database}.two (n Int32) ENGINE = MergeTree ORDER BY n;\n",
        down: "DROP TABLE IF EXISTS {database}.two;\nALTER TABLE {database}.one DROP COLUMN IF EXISTS m;\n",
        compatible_with: 1,
    },
    Migration {
        number: 3,
        name: "three",
        up: "DROP TABLE IF EXISTS {database}.two;\n",
        down: "CREATE TABLE IF NOT EXISTS {database}.two (n Int32) ENGINE = MergeTree ORDER BY n;\n",
        compatible_with: 3,
    },
];

async fn tables(database: &Database) -> Vec<String> {
    let found =
        ask(format!("SELECT name FROM system.tables WHERE database = '{}' ORDER BY name", database.name()));
    found.await.lines().map(str::to_owned).collect()
}

/// Up, status, plan and down agree; doing it again does nothing; going down leaves only the ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_goes_up_and_down() {
    let database = Database::empty();
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_000_000_000).unwrap()));
    let migrator = Migrator::new(&database.settings, clock, Arc::new(SystemEntropy::new())).unwrap();
    let plan = migrator.plan().await.unwrap();
    assert!(plan.starts_with("-- 0001 columns\n") && plan.contains("ReplacingMergeTree"), "{plan}");
    assert!(tables(&database).await.is_empty(), "a plan changes nothing");
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy::new()));
    let refused = ClickHouseStore::open(&database.settings, clock, entropy).await.unwrap_err();
    assert_eq!(refused.code(), codes::CONFLICT);
    assert!(refused.message().contains("lacks step 1 `columns`; run `watershed migrate up`"), "{refused}");

    let every: Vec<u32> = MIGRATIONS.iter().map(|step| step.number).collect();
    assert_eq!(migrator.up().await.unwrap(), every);
    assert!(migrator.up().await.unwrap().is_empty());
    assert!(migrator.plan().await.unwrap().is_empty());
    let status = migrator.status().await.unwrap();
    assert_eq!((status.version(), status.pending.len()), (every.len() as u32, 0));
    assert_eq!(status.applied[0].applied_at.as_second(), 1_000_000_000);
    let store = database.open().await;
    append(&store.columns(), vec![row(1, 0, 1.0)]).await;
    assert_eq!(tables(&database).await, ["columns_ticks", "current_ticks", "migrations"]);
    drop(store);
    let mut backwards = every.clone();
    backwards.reverse();
    assert_eq!(migrator.down(0).await.unwrap(), backwards);
    assert!(migrator.down(0).await.unwrap().is_empty());
    assert_eq!(tables(&database).await, ["migrations"]);
    assert_eq!(migrator.up().await.unwrap(), every, "and up again");
    assert!(all(&database.open().await.columns()).await.is_empty());
}

/// Many that migrate at once all end well, and the steps stand once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_together_do_not_race() {
    let database = Database::empty();
    let runs: Vec<_> = (0..6)
        .map(|_| {
            let migrator = database.migrator().with_steps(&STEPS[..2]);
            tokio::spawn(async move { migrator.up().await.unwrap() })
        })
        .collect();
    for run in runs {
        run.await.unwrap();
    }
    let status = database.migrator().with_steps(&STEPS[..2]).status().await.unwrap();
    assert_eq!((status.version(), status.applied.len(), status.pending.len()), (2, 2, 0));
    assert_eq!(tables(&database).await, ["migrations", "one", "two"]);
}

/// A step that fails in its middle does not stand, the steps before it do, and it is done by doing it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_cut_off_is_done_again() {
    let database = Database::empty();
    let broken = Migration {
        up: "ALTER TABLE {database}.one ADD COLUMN IF NOT EXISTS m Int32;\nCREATE NONSENSE;\n",
        ..STEPS[1]
    };
    let steps = [STEPS[0], broken];
    let error = database.migrator().with_steps(&steps).up().await.unwrap_err();
    assert!(error.message().starts_with("step 2 `two` failed"), "{error}");
    assert_eq!(database.migrator().with_steps(&STEPS).status().await.unwrap().version(), 1);
    assert_eq!(database.migrator().with_steps(&STEPS).up().await.unwrap(), [2, 3]);
    assert_eq!(tables(&database).await, ["migrations", "one"]);
}

/// A step that was done with other statements is refused by every call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_checksum_is_refused() {
    let database = Database::empty();
    database.migrator().with_steps(&STEPS).up().await.unwrap();
    let changed =
        [Migration { up: "CREATE TABLE IF NOT EXISTS {database}.one;\n", ..ONE }, STEPS[1], STEPS[2]];
    let migrator = database.migrator().with_steps(&changed);
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

/// A release runs on a newer database where that says so, and refuses it where it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_release_runs_on_a_compatible_database() {
    let database = Database::empty();
    let release = |count: usize| database.migrator().with_steps(&STEPS[..count]);
    release(2).up().await.unwrap();
    let status = release(1).status().await.unwrap();
    assert_eq!((status.version(), status.pending.len()), (2, 0));
    let refused = release(1).down(0).await.unwrap_err();
    assert!(refused.message().contains("take it back with the release that did it"), "{refused}");
    release(3).up().await.unwrap();
    for count in [1, 2] {
        let refused = release(count).status().await.unwrap_err();
        assert_eq!(refused.code(), codes::CONFLICT);
        assert!(refused.message().contains("ClickHouse is at step 3 `three`"), "{refused}");
    }
    assert_eq!(release(3).down(2).await.unwrap(), [3]);
    assert!(release(1).status().await.is_ok(), "and back");
}

/// The next release moves every table under the servers of this one, and back; nobody notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_store_does_not_notice_the_next_release() {
    let database = Database::migrated().await;
    let newest = MIGRATIONS.last().unwrap();
    let next = Migration {
        number: newest.number + 1,
        name: "what_the_next_release_adds",
        up: "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS next_note String DEFAULT 'new' AFTER tenant;\n",
        down: "ALTER TABLE {table} DROP COLUMN IF EXISTS next_note;\n",
        compatible_with: newest.number,
    };
    let steps: Vec<Migration> = MIGRATIONS.iter().copied().chain([next]).collect();
    let columns = database.open().await.columns();
    for round in 0..3 {
        append(&columns, vec![row(round, 0, 1.0)]).await;
        let others = database.open().await.columns();
        append(&others, vec![row(round, 1, 2.0)]).await;
        let expected: Vec<_> = (0..=round).map(|time_ns| row(time_ns, 1, 2.0)).collect();
        assert_eq!((all(&columns).await, all(&others).await), (expected.clone(), expected));
        let migrator = database.migrator().with_steps(&steps);
        match round {
            0 => assert_eq!(migrator.up().await.unwrap(), [next.number]),
            1 => assert_eq!(migrator.down(newest.number).await.unwrap(), [next.number]),
            _ => {}
        }
    }
}
