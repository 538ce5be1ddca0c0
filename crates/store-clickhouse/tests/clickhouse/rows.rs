//! Which row counts, whatever came first, whoever wrote it, and whatever was merged; months, time to live, other kinds.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Entropy, ManualClock, SeededEntropy, Timestamp, codes};
use store::memory::MemoryColumns;
use store::{
    Aggregation, Column, ColumnKind, ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, Measure,
    TimeRange,
};

use crate::common::{Database, EVER, TICKS, all, append, ask, row, scope, scope_of};

const DAY_NS: i64 = 86_400 * 1_000_000_000;

/// Everything that can be read of the one series, as text.
async fn everything(columns: &Arc<dyn Columns>) -> String {
    let desk = scope();
    let mut told = format!("{:?}\n", all(columns).await);
    let mut scan = ColumnScan { descending: true, ..ColumnScan::new("WTI", EVER, 3) };
    loop {
        let page = columns.scan(&desk, TICKS, &scan).await.unwrap();
        told += &format!("{:?}\n", page.rows);
        scan.cursor = page.cursor;
        if scan.cursor.is_none() {
            break;
        }
    }
    for time_ns in 0..4 {
        told += &format!("{:?}\n", columns.revisions(&desk, TICKS, "WTI", time_ns, "1").await.unwrap());
        told += &format!("{:?}\n", columns.latest(&desk, TICKS, &["WTI"], time_ns).await.unwrap());
    }
    let measures = vec![Measure::Column("price"), Measure::Product("price", "price")];
    let range = TimeRange { from_ns: 0, to_ns: 10 };
    let asked = Aggregation { series: "WTI".to_owned(), range, bucket_ns: 3, origin_ns: 0, measures };
    told + &format!("{:?}", columns.aggregate(&desk, TICKS, &asked).await.unwrap())
}

/// Two processes append revisions of the same rows in any order, some twice: what is read is what the fake says, after every
/// append, and the same after a merge of everything into one part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_in_any_order_and_a_merge_give_the_same_rows() {
    let lots = SeededEntropy::new(11);
    let below = |bound: u64| lots.next_u64() % bound;
    for _ in 0..4 {
        let database = Database::migrated().await;
        let writers = [database.open().await.columns(), database.open().await.columns()];
        let fake: Arc<dyn Columns> = Arc::new(MemoryColumns::new());
        for number in 0..12_u32 {
            let place = i64::try_from(below(4)).unwrap();
            let rows: Vec<ColumnRow> = (0..1 + below(3))
                .map(|_| row(place, u32::try_from(below(4)).unwrap(), f64::from(number) / 7.0))
                .collect();
            let writer = &writers[usize::try_from(below(2)).unwrap()];
            assert_eq!(append(writer, rows.clone()).await, append(&fake, rows).await);
            if below(4) == 0 {
                database.merge("ticks").await;
            }
        }
        let expected = everything(&fake).await;
        for merged in [false, true] {
            for writer in &writers {
                assert_eq!(everything(writer).await, expected, "merged: {merged}");
            }
            database.merge("ticks").await;
        }
    }
}

/// What two processes wrote in the same moment, both having looked before either wrote: the first that was begun counts, in
/// whatever order the parts came, before a merge and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rows_with_one_name_the_earlier_counts_and_not_the_last_block() {
    let database = Database::migrated().await;
    let columns = database.open().await.columns();
    append(&columns, vec![row(9, 0, 0.5)]).await;
    let insert = async |time_ns: i64, precedence: u64, price: f64| {
        ask(format!(
            "INSERT INTO `{}`.columns_ticks (tenant, series, time_ns, id, revision, precedence, v_price, v_venue) \
             SELECT 'desk', 'WTI', {time_ns}, '1', 0, {precedence}, {price}, 'price {price}'",
            database.name()
        ))
        .await;
    };
    for (time_ns, precedences) in [(0, [7, 3]), (1, [3, 7])] {
        for precedence in precedences {
            insert(time_ns, precedence, if precedence == 7 { 1.5 } else { 2.5 }).await;
        }
    }
    let expected = [row(0, 0, 1.5), row(1, 0, 1.5), row(9, 0, 0.5)];
    assert_eq!((all(&columns).await, database.stored("ticks").await), (expected.to_vec(), 5));
    database.merge("ticks").await;
    assert_eq!((all(&columns).await, database.stored("ticks").await), (expected.to_vec(), 3));
    assert_eq!(append(&columns, vec![row(0, 0, 9.0)]).await, 0, "it is known");
    insert(0, 1, 9.0).await;
    assert_eq!(
        columns.delete(&scope(), TICKS, None, EVER).await.unwrap(),
        3,
        "each revision is counted once"
    );
}

/// The view has one row of each, the one that counts, in whatever order revisions came, before a merge and after; a later
/// release's columns are shown beside the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_view_shows_the_rows_that_count() {
    const DEPTH: Column = Column { name: "revision", kind: ColumnKind::Integer };
    let database = Database::migrated().await;
    let columns = database.open().await.columns();
    append(&columns, vec![row(1, 2, 3.5)]).await;
    append(&columns, vec![row(1, 0, 1.5), row(1, 1, 2.5), row(2, 0, 4.5)]).await;
    let others = scope_of("other");
    columns.append(&others, TICKS, vec![row(1, 3, 9.5)]).await.unwrap();
    let view = async |values: &str| {
        let order = "ORDER BY tenant_id, time_ns";
        let from = format!("`{}`.current_ticks", database.name());
        ask(format!("SELECT tenant_id, series, toUnixTimestamp64Nano(time), id, revision, {values} FROM {from} {order}"))
            .await
    };
    let expected = "desk\tWTI\t1\t1\t2\t3.5\tprice 3.5\ndesk\tWTI\t2\t1\t0\t4.5\tprice 4.5\nother\tWTI\t1\t1\t3\t9.5\tprice 9.5";
    assert_eq!(view("price, venue").await, expected);
    database.merge("ticks").await;
    assert_eq!(view("price, venue").await, expected);
    let longer = ColumnTable { columns: const { &[TICKS.columns[0], TICKS.columns[1], DEPTH] }, ..TICKS };
    let newer = database.open().await.columns();
    let mut wider = row(3, 0, 5.5);
    wider.values.push(ColumnValue::Integer(7));
    newer.append(&scope_of("z"), longer, vec![wider]).await.unwrap();
    assert!(view("v_revision").await.ends_with("\nz\tWTI\t3\t1\t0\t7"), "{}", view("v_revision").await);
    append(&database.open().await.columns(), vec![row(9, 0, 1.0)]).await;
    assert!(view("v_revision").await.ends_with("\t7"), "an older release takes no column away");
}

/// Many processes append the same rows with other values at once: afterwards everybody reads the same, merged or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_race_agree_afterwards() {
    let database = Database::migrated().await;
    let mut writers = Vec::new();
    for _ in 0..4 {
        writers.push(database.open().await.columns());
    }
    let race = |(writer, columns): (u32, &Arc<dyn Columns>)| {
        let columns = Arc::clone(columns);
        tokio::spawn(async move {
            let mut added = 0;
            for round in 0..10 {
                added +=
                    append(&columns, vec![row(round, 0, f64::from(writer)), row(round, writer, 0.25)]).await;
            }
            added
        })
    };
    let races: Vec<_> = (1..).zip(&writers).map(race).collect();
    let mut added = 0;
    for race in races {
        added += race.await.unwrap();
    }
    assert!(added >= 50, "10 rows that all write and 40 of their own, not {added}");
    let expected = everything(&writers[0]).await;
    for writer in &writers {
        assert_eq!(everything(writer).await, expected);
    }
    database.merge("ticks").await;
    assert_eq!(everything(&writers[1]).await, expected);
    assert_eq!(database.stored("ticks").await, 50);
}

/// One append over more months than the server takes by itself, each month a partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn months_are_partitions_and_one_append_may_have_many() {
    let database = Database::migrated().await;
    let columns = database.open().await.columns();
    let rows: Vec<ColumnRow> = (0..150).map(|month| row(month * 31 * DAY_NS, 0, 1.0)).collect();
    assert_eq!(append(&columns, rows.clone()).await, 150);
    assert_eq!(all(&columns).await, rows);
    let partitions = format!(
        "SELECT uniqExact(partition) FROM system.parts WHERE database = '{}' AND table = 'columns_ticks' AND active",
        database.name()
    );
    assert_eq!(ask(partitions).await, "150");
    let latest = columns.latest(&scope(), TICKS, &["WTI"], EVER.to_ns).await.unwrap();
    assert_eq!(latest, rows[149..], "however long ago");
}

/// What is older than the settings say is in no answer from the moment on, whether the server dropped it or not; what is
/// kept for longer comes back as far as it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_is_in_no_answer() {
    let database = Database::migrated().await;
    let now_ns = 1_704_067_200_000_000_000; // 2024-01-01
    let clock = Arc::new(ManualClock::at(Timestamp::from_nanosecond(i128::from(now_ns)).unwrap()));
    let keep = |days: Option<u32>| {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        database.open_at(clock, move |settings| {
            settings.retention_days = days.map(|days| ("ticks".to_owned(), days)).into_iter().collect();
        })
    };
    let engine = async || {
        ask(format!(
            "SELECT engine_full FROM system.tables WHERE database = '{}' AND name = 'columns_ticks'",
            database.name()
        ))
        .await
    };
    let kept = keep(Some(2_000)).await.columns();
    // The server has a clock of its own, which is later: rows that it would drop at once are put a year from now.
    let ahead = 4_000 * DAY_NS;
    clock.advance(Duration::from_nanos(ahead.unsigned_abs()));
    let rows: Vec<ColumnRow> =
        [-1_999, -1_000, 0].map(|day| row(now_ns + ahead + day * DAY_NS, 0, 1.0)).into();
    assert_eq!(append(&kept, rows.clone()).await, 3);
    assert_eq!(append(&kept, vec![ColumnRow { revision: 1, ..rows[0].clone() }]).await, 1);
    assert_eq!(all(&kept).await.len(), 3);
    assert!(engine().await.contains("toIntervalDay(2001)"), "{}", engine().await);
    clock.advance(Duration::from_secs(86_400));
    assert_eq!(all(&kept).await.len(), 3, "its last day");
    clock.advance(Duration::from_secs(1));
    assert_eq!(all(&kept).await, rows[1..]);
    let desk = scope();
    let first = rows[0].time_ns;
    assert!(kept.revisions(&desk, TICKS, "WTI", first, "1").await.unwrap().is_empty());
    assert!(kept.latest(&desk, TICKS, &["WTI"], first + 1).await.unwrap().is_empty());
    let range = TimeRange { from_ns: first - 1, to_ns: first + 1 };
    let asked =
        Aggregation { series: "WTI".to_owned(), range, bucket_ns: 9, origin_ns: 0, measures: Vec::new() };
    assert!(kept.aggregate(&desk, TICKS, &asked).await.unwrap().is_empty());

    let shorter = keep(Some(10)).await.columns();
    assert_eq!(all(&shorter).await, rows[2..]);
    assert!(engine().await.contains("toIntervalDay(11)"));
    let ever = keep(None).await.columns();
    assert_eq!(all(&ever).await.len(), 3, "the server's clock is not that far");
    assert!(!engine().await.contains(" TTL "));
}

/// The server itself drops what is older by its own clock, whole parts at a time, also what was there before the setting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_drops_what_is_too_old() {
    let database = Database::migrated().await;
    let now_ns = i64::try_from(kernel::SystemClock::new().now().as_nanosecond()).unwrap();
    let rows =
        vec![row(now_ns - 400 * DAY_NS, 0, 1.0), row(now_ns - 400 * DAY_NS, 1, 2.0), row(now_ns, 0, 3.0)];
    assert_eq!(append(&database.open().await.columns(), rows).await, 3);
    let keep = |settings: &mut store_clickhouse::Settings| {
        settings.retention_days = [("ticks".to_owned(), 90)].into();
    };
    let columns = database.open_with(keep).await.columns();
    assert_eq!(all(&columns).await, [row(now_ns, 0, 3.0)]);
    database.merge("ticks").await;
    assert_eq!(database.stored("ticks").await, 1);
    assert_eq!(all(&database.open_with(|_| ()).await.columns()).await, [row(now_ns, 0, 3.0)]);
}

/// A column that was stored as another kind is an error that an operator must look at, not a cast.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_kind_is_refused() {
    let database = Database::migrated().await;
    append(&database.open().await.columns(), vec![row(1, 0, 1.0)]).await;
    const VENUE: Column = Column { name: "venue", kind: ColumnKind::Integer };
    let other = ColumnTable { columns: const { &[TICKS.columns[0], VENUE] }, ..TICKS };
    let columns = database.open().await.columns();
    let refused = columns.scan(&scope(), other, &ColumnScan::new("WTI", EVER, 9)).await.unwrap_err();
    assert_eq!(refused.code(), codes::CORRUPTED, "{refused:?}");
    assert!(refused.message().contains("`venue`"), "{refused}");
}

/// What is erased is not on the disk either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_tenant_is_not_in_any_part() {
    let database = Database::migrated().await;
    let columns = database.open().await.columns();
    append(&columns, vec![row(1, 0, 1.0), row(1, 1, 2.0)]).await;
    let other = scope_of("other");
    columns.append(&other, TICKS, vec![row(1, 0, 3.0)]).await.unwrap();
    assert_eq!(columns.erase(&scope()).await.unwrap(), 2);
    assert_eq!(database.stored("ticks").await, 1);
    assert_eq!(columns.series(&other, TICKS, None, 9).await.unwrap(), ["WTI"]);
}
