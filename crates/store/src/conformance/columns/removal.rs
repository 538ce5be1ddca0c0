//! What is removed, and what stays: ranges, series, tenants, tables.

use std::sync::Arc;

use super::{EVER, PRICE, TICKS, all, append, by, range, revised, row, times};
use crate::conformance::scope;
use crate::{ColumnRow, ColumnScan, ColumnTable, ColumnValue, Columns, Measure};

/// A range goes with every revision in it, and nothing beside it.
pub async fn deleting_takes_a_range_with_its_revisions(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    append(&columns, (0..10).map(|time| row("x", time, 1.0)).collect()).await;
    append(&columns, vec![revised(1, row("x", 4, 2.0)), row("y", 4, 1.0), row("x1", 4, 1.0)]).await;
    let desk = scope("desk");
    assert_eq!(columns.delete(&desk, TICKS, Some("x"), range(3, 6)).await.unwrap(), 4);
    assert_eq!(columns.delete(&desk, TICKS, Some("x"), range(3, 6)).await.unwrap(), 0);
    assert_eq!(times(&columns, "x").await, [0, 1, 2, 6, 7, 8, 9]);
    assert!(columns.revisions(&desk, TICKS, "x", 4, "1").await.unwrap().is_empty());
    assert_eq!((times(&columns, "y").await, times(&columns, "x1").await), (vec![4], vec![4]));
    assert_eq!(append(&columns, vec![row("x", 4, 3.0)]).await, 1, "what is gone may come again");
    assert_eq!(columns.delete(&desk, TICKS, Some("y"), EVER).await.unwrap(), 1);
    assert_eq!(columns.series(&desk, TICKS, None, 9).await.unwrap(), ["x", "x1"]);
}

/// Without a series, the range goes everywhere.
pub async fn retention_goes_over_every_series(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let rows = (0..12_000).map(|number| row(&format!("s{}", number % 7), number, 1.0));
    let rows: Vec<ColumnRow> = rows.collect();
    for part in rows.chunks(6_000) {
        append(&columns, part.to_vec()).await;
    }
    let desk = scope("desk");
    assert_eq!(columns.delete(&desk, TICKS, None, range(-9, 11_990)).await.unwrap(), 11_990);
    let mut left = Vec::new();
    for series in columns.series(&desk, TICKS, None, 100).await.unwrap() {
        left.extend(times(&columns, &series).await);
    }
    left.sort_unstable();
    assert_eq!(left, (11_990..12_000).collect::<Vec<_>>());
}

/// No call sees or touches another tenant's rows or another table's.
pub async fn tenants_and_tables_do_not_meet(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let (desk, other) = (scope("desk"), scope("desk2"));
    let bars = ColumnTable { name: "ticks_2", ..TICKS };
    append(&columns, vec![row("WTI", 1, 1.0)]).await;
    columns.append(&other, TICKS, vec![row("WTI", 1, 2.0), row("only", 1, 2.0)]).await.unwrap();
    columns.append(&desk, bars, vec![row("WTI", 1, 3.0)]).await.unwrap();
    assert_eq!(all(&columns, "WTI").await, [row("WTI", 1, 1.0)]);
    assert_eq!(columns.series(&desk, TICKS, None, 9).await.unwrap(), ["WTI"]);
    assert_eq!(columns.latest(&desk, bars, &["WTI", "only"], 9).await.unwrap(), [row("WTI", 1, 3.0)]);
    let sums =
        columns.aggregate(&other, TICKS, &by(10, range(0, 10), &[Measure::Column("price")])).await.unwrap();
    assert_eq!(sums[0].partials[0].unwrap().sum, 2.0);
    assert_eq!(columns.delete(&other, TICKS, None, EVER).await.unwrap(), 2);
    assert_eq!(all(&columns, "WTI").await, [row("WTI", 1, 1.0)]);
    assert_eq!(columns.scan(&desk, bars, &ColumnScan::new("WTI", EVER, 9)).await.unwrap().rows.len(), 1);
}

/// Every table of one tenant goes, revisions counted.
pub async fn erasing_takes_one_tenant(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let (desk, other) = (scope("desk"), scope("desk2"));
    let bars = ColumnTable { name: "bars", columns: &[PRICE] };
    append(&columns, (0..7_000).map(|time| row("x", time, 1.0)).collect()).await;
    append(&columns, vec![revised(1, row("x", 1, 1.0))]).await;
    let bar = ColumnRow { values: vec![ColumnValue::Float(1.0)], ..row("x", 1, 0.0) };
    columns.append(&desk, bars, vec![bar]).await.unwrap();
    columns.append(&other, TICKS, vec![row("x", 1, 1.0)]).await.unwrap();
    assert_eq!(columns.erase(&desk).await.unwrap(), 7_002);
    assert_eq!(columns.erase(&desk).await.unwrap(), 0);
    assert!(columns.series(&desk, TICKS, None, 9).await.unwrap().is_empty());
    assert!(columns.series(&desk, bars, None, 9).await.unwrap().is_empty());
    assert_eq!(columns.series(&other, TICKS, None, 9).await.unwrap(), ["x"]);
}
