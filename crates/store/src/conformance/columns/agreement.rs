//! An engine against the fake, over random appends, deletes and reads.

use std::sync::Arc;

use kernel::Scope;

use super::{EVER, TICKS, by, range};
use crate::conformance::{Draw, scope};
use crate::memory::MemoryColumns;
use crate::{Aggregation, ColumnRow, ColumnScan, ColumnValue, Columns, Measure};

fn below(draw: &mut Draw, bound: u64) -> i64 {
    i64::try_from(draw.below(bound)).unwrap()
}

fn random_row(draw: &mut Draw) -> ColumnRow {
    // Fractions whose sums round, so that the order of adding shows.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let price = below(draw, 2_001) as f64 / 7.0 - 100.0;
    let mut value = |value: ColumnValue| if draw.below(5) == 0 { ColumnValue::Missing } else { value };
    let values = vec![
        value(ColumnValue::Float(price)),
        value(ColumnValue::Integer(3)),
        value(ColumnValue::Text("ab".to_owned())),
    ];
    ColumnRow {
        series: ["WTI", "WTI2", "NG"][usize::try_from(draw.below(3)).unwrap()].to_owned(),
        time_ns: below(draw, 60) - 30,
        id: ["1", "10", "2"][usize::try_from(draw.below(3)).unwrap()].to_owned(),
        revision: u32::try_from(draw.below(3)).unwrap(),
        values,
    }
}

/// What every kind of read finds.
async fn everything(columns: &Arc<dyn Columns>, scope: &Scope, draw: &mut Draw) -> String {
    let from = below(draw, 60) - 30;
    let within = range(from, from + below(draw, 40));
    let mut told = String::new();
    let mut scan = ColumnScan::new("WTI", within, 1 + usize::try_from(draw.below(9)).unwrap());
    scan.descending = draw.below(2) == 0;
    loop {
        let page = columns.scan(scope, TICKS, &scan).await.unwrap();
        told += &format!("{:?} {}\n", page.rows, page.cursor.is_some());
        scan.cursor = page.cursor;
        if scan.cursor.is_none() {
            break;
        }
    }
    let measures = [Measure::Column("price"), Measure::Column("volume"), Measure::Product("price", "volume")];
    let origin_ns = below(draw, 9) - 4;
    let asked = Aggregation { origin_ns, ..by(1 + below(draw, 12), within, &measures) };
    told += &format!("{:?}\n", columns.aggregate(scope, TICKS, &asked).await.unwrap());
    told += &format!("{:?}\n", columns.latest(scope, TICKS, &["NG", "WTI"], from).await.unwrap());
    told += &format!("{:?}\n", columns.revisions(scope, TICKS, "WTI", from, "10").await.unwrap());
    told + &format!("{:?}", columns.series(scope, TICKS, None, 2).await.unwrap())
}

/// A hundred random appends and deletes, and every kind of read after each, give what the fake gives, to the last bit,
/// over restarts.
pub async fn it_agrees_with_the_fake(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let fake: Arc<dyn Columns> = Arc::new(MemoryColumns::new());
    let mut columns = open().await;
    let mut draw = Draw(17);
    let scopes: [Scope; 2] = [scope("desk"), scope("desk2")];
    for _ in 0..100 {
        let scope = &scopes[usize::try_from(draw.below(2)).unwrap()];
        let rows: Vec<ColumnRow> = (0..draw.below(30)).map(|_| random_row(&mut draw)).collect();
        let found = columns.append(scope, TICKS, rows.clone()).await.unwrap();
        assert_eq!(found, fake.append(scope, TICKS, rows).await.unwrap());
        if draw.below(6) == 0 {
            let from = below(&mut draw, 60) - 30;
            let gone = if draw.below(9) == 0 { EVER } else { range(from, from + 5) };
            let series = ["WTI", "NG"].get(usize::try_from(draw.below(3)).unwrap()).copied();
            let found = columns.delete(scope, TICKS, series, gone).await.unwrap();
            assert_eq!(found, fake.delete(scope, TICKS, series, gone).await.unwrap(), "{series:?} {gone:?}");
        }
        if draw.below(20) == 0 {
            drop(columns);
            columns = open().await;
        }
        let mut again = Draw(draw.below(u64::MAX));
        let seed = again.0;
        let found = everything(&columns, scope, &mut again).await;
        assert_eq!(found, everything(&fake, scope, &mut Draw(seed)).await);
    }
}
