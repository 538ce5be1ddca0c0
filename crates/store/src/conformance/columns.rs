//! The rules of the `Columns` port.

mod agreement;
mod removal;

use std::sync::Arc;

use kernel::codes;

pub use agreement::it_agrees_with_the_fake;
pub use removal::{
    deleting_takes_a_range_with_its_revisions, erasing_takes_one_tenant, retention_goes_over_every_series,
    tenants_and_tables_do_not_meet,
};

use super::{assert_refused, scope};
use crate::{
    Aggregation, Bucket, Column, ColumnKind, ColumnPage, ColumnRow, ColumnScan, ColumnTable, ColumnValue,
    Columns, MAX_APPEND_ROWS, MAX_TIME_NS, Measure, Partial, TimeRange,
};

/// One test per rule of the `Columns` port.
#[macro_export]
macro_rules! columns_conformance {
    ($open:expr) => {
        $crate::conformance_tests!(
            columns,
            $open,
            [
                an_append_is_seen_by_the_next_read,
                every_kind_of_value_comes_back,
                rows_are_in_the_order_of_time_and_id,
                a_revision_is_stored_once,
                the_highest_revision_counts_in_every_read,
                earlier_revisions_stay_readable,
                pages_continue_where_they_ended,
                a_cursor_of_another_scan_is_refused,
                a_range_holds_its_start_and_not_its_end,
                the_latest_is_as_of_a_time,
                buckets_hold_what_happened_in_them,
                prices_of_a_bar_and_their_mean_follow_from_partials,
                missing_values_are_passed_over,
                what_double_precision_cannot_hold_is_refused,
                bad_rows_are_refused_whole,
                bad_questions_are_refused,
                series_are_listed_in_order,
                deleting_takes_a_range_with_its_revisions,
                retention_goes_over_every_series,
                tenants_and_tables_do_not_meet,
                erasing_takes_one_tenant,
                columns_are_added_at_the_end,
                reopening_keeps_everything,
                large_appends_are_kept,
                concurrent_appends_are_all_kept,
                it_agrees_with_the_fake,
            ]
        );
    };
}

const PRICE: Column = Column { name: "price", kind: ColumnKind::Float };
const VOLUME: Column = Column { name: "volume", kind: ColumnKind::Integer };
const VENUE: Column = Column { name: "venue", kind: ColumnKind::Text };
const TICKS: ColumnTable = ColumnTable { name: "ticks", columns: &[PRICE, VOLUME, VENUE] };
const EVER: TimeRange = TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS };

type Open<'a> = &'a Arc<dyn Columns>;

fn row(series: &str, time_ns: i64, price: f64) -> ColumnRow {
    let values = vec![
        ColumnValue::Float(price),
        ColumnValue::Integer(time_ns % 100),
        ColumnValue::Text(format!("venue of {series}")),
    ];
    ColumnRow { series: series.to_owned(), time_ns, id: "1".to_owned(), revision: 0, values }
}

fn named(id: &str, row: ColumnRow) -> ColumnRow {
    ColumnRow { id: id.to_owned(), ..row }
}

fn revised(revision: u32, row: ColumnRow) -> ColumnRow {
    ColumnRow { revision, ..row }
}

fn range(from_ns: i64, to_ns: i64) -> TimeRange {
    TimeRange { from_ns, to_ns }
}

async fn append(columns: Open<'_>, rows: Vec<ColumnRow>) -> u64 {
    columns.append(&scope("desk"), TICKS, rows).await.expect("the rows are good")
}

async fn page(columns: Open<'_>, scan: &ColumnScan) -> ColumnPage {
    columns.scan(&scope("desk"), TICKS, scan).await.unwrap()
}

/// Everything of a series.
async fn all(columns: Open<'_>, series: &str) -> Vec<ColumnRow> {
    page(columns, &ColumnScan::new(series, EVER, 10_000)).await.rows
}

async fn times(columns: Open<'_>, series: &str) -> Vec<i64> {
    all(columns, series).await.iter().map(|row| row.time_ns).collect()
}

fn by(bucket_ns: i64, range: TimeRange, measures: &[Measure]) -> Aggregation {
    Aggregation { series: "WTI".to_owned(), range, bucket_ns, origin_ns: 0, measures: measures.to_vec() }
}

async fn buckets(columns: Open<'_>, aggregation: &Aggregation) -> Vec<Bucket> {
    columns.aggregate(&scope("desk"), TICKS, aggregation).await.unwrap()
}

/// What was appended is there at once, for every kind of read.
pub async fn an_append_is_seen_by_the_next_read(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    assert!(all(&columns, "WTI").await.is_empty());
    assert_eq!(append(&columns, vec![row("WTI", 5, -36.98), row("NG", 5, 2.5)]).await, 2);
    assert_eq!(all(&columns, "WTI").await, [row("WTI", 5, -36.98)]);
    let latest = columns.latest(&scope("desk"), TICKS, &["WTI"], 5).await.unwrap();
    assert_eq!(latest, [row("WTI", 5, -36.98)]);
    assert_eq!(append(&columns, vec![row("WTI", 6, 0.0)]).await, 1);
    assert_eq!(times(&columns, "WTI").await, [5, 6]);
    assert_eq!(append(&columns, Vec::new()).await, 0);
}

/// Numbers to the last bit, texts to the last byte, and what is missing.
pub async fn every_kind_of_value_comes_back(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let floats = [0.0, -0.0, f64::MIN, f64::MAX, f64::MIN_POSITIVE, 5e-324, 0.1 + 0.2, -36.98];
    let integers = [0, 1, -1, i64::MIN, i64::MAX, 1 << 53, (1 << 53) + 1, -7];
    let texts = ["", " ", "ünï", "a\u{10ffff}", "quo'te", "back\\slash", "line\nend", "{\"json\":[1]}"];
    let values = floats.iter().zip(integers).zip(texts).map(|((float, integer), text)| {
        vec![ColumnValue::Float(*float), ColumnValue::Integer(integer), ColumnValue::Text(text.to_owned())]
    });
    let mut rows: Vec<ColumnRow> =
        (0..).zip(values).map(|(time_ns, values)| ColumnRow { values, ..row("x", time_ns, 0.0) }).collect();
    rows.push(ColumnRow { values: vec![ColumnValue::Missing; 3], ..row("x", 99, 0.0) });
    append(&columns, rows.clone()).await;
    let found = all(&columns, "x").await;
    assert_eq!(found, rows);
    for (found, row) in found.iter().zip(&rows) {
        if let (ColumnValue::Float(found), ColumnValue::Float(given)) = (&found.values[0], &row.values[0]) {
            assert_eq!(found.to_bits(), given.to_bits());
        }
    }
}

/// Times before 1970 come first; ids are compared byte by byte.
pub async fn rows_are_in_the_order_of_time_and_id(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let places =
        [(-MAX_TIME_NS, "a"), (-1, "a"), (0, "A"), (0, "a"), (0, "a\u{1}"), (0, "aa"), (0, "é"), (7, "a")];
    let rows: Vec<ColumnRow> = places.map(|(time, id)| named(id, row("x", time, 1.0))).into();
    append(&columns, rows.iter().rev().cloned().collect()).await;
    // Neighbours in the order of names.
    append(&columns, ["w", "x\u{1}", "xx"].map(|series| row(series, 3, 1.0)).into()).await;
    assert_eq!(all(&columns, "x").await, rows);
    let scan = ColumnScan { descending: true, ..ColumnScan::new("x", EVER, 100) };
    assert_eq!(page(&columns, &scan).await.rows, rows.into_iter().rev().collect::<Vec<_>>());
}

/// The same name and revision again is a duplicate, in one batch too; the first stays.
pub async fn a_revision_is_stored_once(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    assert_eq!(append(&columns, vec![row("x", 1, 1.0), row("x", 1, 2.0), row("x", 2, 1.0)]).await, 2);
    assert_eq!(append(&columns, vec![row("x", 1, 3.0), row("x", 3, 1.0)]).await, 1);
    assert_eq!(append(&columns, vec![row("x", 1, 1.0)]).await, 0);
    assert_eq!(all(&columns, "x").await, [row("x", 1, 1.0), row("x", 2, 1.0), row("x", 3, 1.0)]);
}

/// Each row is read once, in its highest revision, whichever came last.
pub async fn the_highest_revision_counts_in_every_read(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let first = vec![row("WTI", 1, 1.0), row("WTI", 2, 2.0), named("2", row("WTI", 2, 20.0))];
    append(&columns, first).await;
    append(&columns, vec![revised(2, row("WTI", 2, 4.0)), revised(300, row("WTI", 1, 7.0))]).await;
    append(&columns, vec![revised(1, row("WTI", 2, 3.0)), revised(i32::MAX as u32, row("WTI", 3, 9.0))])
        .await;
    let expected = [
        revised(300, row("WTI", 1, 7.0)),
        revised(2, row("WTI", 2, 4.0)),
        named("2", row("WTI", 2, 20.0)),
        revised(i32::MAX as u32, row("WTI", 3, 9.0)),
    ];
    assert_eq!(all(&columns, "WTI").await, expected);
    let scan = ColumnScan { descending: true, ..ColumnScan::new("WTI", EVER, 3) };
    let found = page(&columns, &scan).await;
    let backwards: Vec<ColumnRow> = expected.iter().rev().cloned().collect();
    assert_eq!(found.rows, backwards[..3]);
    let rest = page(&columns, &ColumnScan { cursor: found.cursor, ..scan }).await;
    assert_eq!((rest.rows, rest.cursor), (backwards[3..].to_vec(), None));
    for (as_of_ns, place) in [(1, 0), (2, 2), (9, 3)] {
        let latest = columns.latest(&scope("desk"), TICKS, &["WTI"], as_of_ns).await.unwrap();
        assert_eq!(latest, expected[place..=place], "{as_of_ns}");
    }
    let sums = buckets(&columns, &by(10, range(0, 10), &[Measure::Column("price")])).await;
    assert_eq!((sums[0].rows, sums[0].partials[0].unwrap().sum), (4, 40.0));
}

/// Nothing is overwritten.
pub async fn earlier_revisions_stay_readable(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let revisions = [0, 1, 7, 256].map(|revision| revised(revision, row("x", 5, f64::from(revision))));
    append(&columns, revisions.iter().rev().cloned().collect()).await;
    append(&columns, vec![named("11", row("x", 5, 0.5)), row("x", 6, 0.5), row("x5", 5, 0.5)]).await;
    let desk = scope("desk");
    assert_eq!(columns.revisions(&desk, TICKS, "x", 5, "1").await.unwrap(), revisions);
    assert!(columns.revisions(&desk, TICKS, "x", 7, "1").await.unwrap().is_empty());
    assert!(columns.revisions(&scope("other"), TICKS, "x", 5, "1").await.unwrap().is_empty());
}

/// Pages of any length, both ways, with writes in between, are the whole once.
pub async fn pages_continue_where_they_ended(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let place = |number: i64| named(&format!("id{}", number % 3), row("x", number / 3, 1.0));
    append(&columns, (0..30).map(place).collect()).await;
    for limit in [1, 7, 29, 30, 31] {
        for descending in [false, true] {
            let mut scan = ColumnScan { descending, ..ColumnScan::new("x", range(1, 9), limit) };
            let mut found = Vec::new();
            loop {
                let page = page(&columns, &scan).await;
                assert!(page.rows.len() == limit || page.cursor.is_none());
                found.extend(page.rows);
                // A revision of what was passed moves nothing.
                append(&columns, vec![revised(u32::try_from(found.len()).unwrap(), place(3))]).await;
                scan.cursor = page.cursor;
                if scan.cursor.is_none() {
                    break;
                }
            }
            if descending {
                found.reverse();
            }
            let names: Vec<_> = found.iter().map(|row| (row.time_ns, row.id.clone())).collect();
            let expected: Vec<_> = (3..27).map(place).map(|row| (row.time_ns, row.id)).collect();
            assert_eq!(names, expected, "limit {limit}, descending {descending}");
        }
    }
}

/// A cursor goes with its table, series, range and direction; garbage is refused too.
pub async fn a_cursor_of_another_scan_is_refused(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    append(&columns, (0..9).map(|time| row("x", time, 1.0)).collect()).await;
    let first = ColumnScan::new("x", range(0, 9), 3);
    let good = ColumnScan { cursor: page(&columns, &first).await.cursor, limit: 5, ..first };
    assert_eq!(page(&columns, &good).await.rows.len(), 5);
    let others = [
        ColumnScan { descending: true, ..good.clone() },
        ColumnScan { series: "y".to_owned(), ..good.clone() },
        ColumnScan { range: range(0, 8), ..good.clone() },
        ColumnScan { cursor: Some("garbage".to_owned()), ..good.clone() },
    ];
    for other in others {
        assert_refused(columns.scan(&scope("desk"), TICKS, &other).await, codes::VALIDATION_ERROR);
    }
    let table = ColumnTable { name: "bars", ..TICKS };
    assert_refused(columns.scan(&scope("desk"), table, &good).await, codes::VALIDATION_ERROR);
    let theirs = columns.scan(&scope("other"), TICKS, &good).await.unwrap();
    assert!(theirs.rows.is_empty(), "a cursor does not carry into another tenant");
}

/// Neighbouring ranges share no row and lose none.
pub async fn a_range_holds_its_start_and_not_its_end(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    append(&columns, (-5..5).map(|time| row("x", time, 1.0)).collect()).await;
    let of = async |from_ns, to_ns| {
        let page = page(&columns, &ColumnScan::new("x", range(from_ns, to_ns), 100)).await;
        page.rows.iter().map(|row| row.time_ns).collect::<Vec<_>>()
    };
    assert_eq!(of(-2, 1).await, [-2, -1, 0]);
    assert_eq!(of(1, 3).await, [1, 2]);
    assert!(of(1, 1).await.is_empty());
    assert!(of(5, MAX_TIME_NS).await.is_empty());
}

/// The last row at or before a time, of each series that has one, in the order asked.
pub async fn the_latest_is_as_of_a_time(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    append(
        &columns,
        vec![row("a", 1, 1.0), row("a", 5, 5.0), named("2", row("a", 5, 6.0)), row("b", 3, 3.0)],
    )
    .await;
    append(&columns, vec![row("ab", 9, 9.0), row("b", -MAX_TIME_NS, 0.5)]).await;
    let check = async |series: &[&str], as_of_ns: i64, prices: &[f64]| {
        let found = columns.latest(&scope("desk"), TICKS, series, as_of_ns).await.unwrap();
        let found: Vec<_> = found.into_iter().map(|row| row.values[0].clone()).collect();
        let expected: Vec<_> = prices.iter().map(|price| ColumnValue::Float(*price)).collect();
        assert_eq!(found, expected, "{series:?} as of {as_of_ns}");
    };
    check(&["a", "b"], 9, &[6.0, 3.0]).await;
    check(&["b", "a"], 4, &[3.0, 1.0]).await;
    check(&["b", "a", "nothing"], 0, &[0.5]).await;
    check(&["a"], 5, &[6.0]).await;
    check(&["a"], 0, &[]).await;
    check(&[], 9, &[]).await;
}

/// Buckets are aligned to the origin, before 1970 too; the range cuts them; empty ones are left out.
pub async fn buckets_hold_what_happened_in_them(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    append(&columns, [-25, -20, -1, 0, 9, 10, 31, 39].map(|time| row("WTI", time, 1.0)).into()).await;
    append(&columns, vec![row("NG", 5, 1.0)]).await;
    let check = async |range: TimeRange, origin_ns: i64, expected: &[(i64, u64)]| {
        let asked = Aggregation { origin_ns, ..by(10, range, &[]) };
        let found = buckets(&columns, &asked).await;
        assert!(found.iter().all(|bucket| bucket.partials.is_empty()));
        let found: Vec<_> = found.iter().map(|bucket| (bucket.start_ns, bucket.rows)).collect();
        assert_eq!(found, expected, "{range:?} {origin_ns}");
    };
    check(range(-100, 100), 0, &[(-30, 1), (-20, 1), (-10, 1), (0, 2), (10, 1), (30, 2)]).await;
    check(range(-100, 100), 1_000_000_009, &[(-31, 1), (-21, 1), (-1, 2), (9, 2), (29, 1), (39, 1)]).await;
    check(range(-22, 9), 0, &[(-20, 1), (-10, 1), (0, 1)]).await;
    check(range(11, 31), 0, &[]).await;
}

/// Open, high, low, close, volume and the mean price by volume, of bars and of what they merge into.
pub async fn prices_of_a_bar_and_their_mean_follow_from_partials(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let trades = [(0, 10.0, 1), (3, 12.0, 2), (9, 9.5, 4), (12, 9.0, 1), (15, 11.0, 3)];
    let tick = |(time, price, volume): (i64, f64, i64)| {
        let values = vec![ColumnValue::Float(price), ColumnValue::Integer(volume), ColumnValue::Missing];
        ColumnRow { values, ..row("WTI", time, 0.0) }
    };
    append(&columns, trades.map(tick).into_iter().rev().collect()).await;
    let measures = [Measure::Column("price"), Measure::Column("volume"), Measure::Product("price", "volume")];
    let bars = buckets(&columns, &by(10, range(0, 20), &measures)).await;
    let price = |bucket: &Bucket| bucket.partials[0].unwrap();
    let expected =
        Partial { count: 3, sum: 31.5, min: 9.5, max: 12.0, first: 10.0, last: 9.5, first_ns: 0, last_ns: 9 };
    assert_eq!((bars.len(), price(&bars[0])), (2, expected));
    assert_eq!((price(&bars[1]).first, price(&bars[1]).last), (9.0, 11.0));
    let merged = |place: usize| bars[0].partials[place].unwrap().merged(bars[1].partials[place].unwrap());
    let whole = &buckets(&columns, &by(20, range(0, 20), &measures)).await[0];
    for place in 0..3 {
        assert_eq!(merged(place), whole.partials[place].unwrap());
    }
    let mean = merged(2).sum / merged(1).sum;
    assert!((mean - (10.0 + 24.0 + 38.0 + 9.0 + 33.0) / 11.0).abs() < 1e-12, "{mean}");
}

/// What is missing counts as a row and as nothing else.
pub async fn missing_values_are_passed_over(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let with = |time, price: Option<f64>, volume: Option<i64>| ColumnRow {
        values: vec![
            price.map_or(ColumnValue::Missing, ColumnValue::Float),
            volume.map_or(ColumnValue::Missing, ColumnValue::Integer),
            ColumnValue::Missing,
        ],
        ..row("WTI", time, 0.0)
    };
    append(&columns, vec![with(0, None, Some(1)), with(1, Some(2.0), None), with(2, Some(3.0), Some(5))])
        .await;
    append(&columns, vec![with(3, None, None), with(10, None, Some(4))]).await;
    let measures = [Measure::Column("price"), Measure::Product("volume", "price")];
    let found = buckets(&columns, &by(10, range(0, 20), &measures)).await;
    let price = found[0].partials[0].unwrap();
    assert_eq!((found[0].rows, price.count, price.first, price.first_ns, price.last_ns), (4, 2, 2.0, 1, 2));
    assert_eq!(found[0].partials[1].map(|product| (product.count, product.sum)), Some((1, 15.0)));
    assert_eq!(found[1].partials, [None, None]);
}

/// No infinity and no lost product comes back as an answer.
pub async fn what_double_precision_cannot_hold_is_refused(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    append(&columns, vec![row("WTI", 1, f64::MAX), row("WTI", 2, f64::MAX), row("WTI", 13, 1e-320)]).await;
    let refused = async |range, measure| {
        let found = columns.aggregate(&scope("desk"), TICKS, &by(10, range, &[measure])).await;
        assert_refused(found, codes::VALIDATION_ERROR);
    };
    refused(range(0, 10), Measure::Column("price")).await;
    refused(range(2, 3), Measure::Product("price", "volume")).await;
    refused(range(10, 20), Measure::Product("price", "price")).await;
    let fine = buckets(&columns, &by(10, range(1, 2), &[Measure::Column("price")])).await;
    assert_eq!(fine[0].partials[0].unwrap().sum, f64::MAX);
}

/// Numbers that are not finite, other kinds, bad names: nothing of the batch is kept, and the row and column are named.
pub async fn bad_rows_are_refused_whole(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let good = row("x", 1, 1.0);
    let with = |place: usize, value| {
        let mut bad = good.clone();
        bad.values[place] = value;
        bad
    };
    let bad = [
        (with(0, ColumnValue::Float(f64::NAN)), "price"),
        (with(0, ColumnValue::Float(f64::INFINITY)), "price"),
        (with(0, ColumnValue::Float(f64::NEG_INFINITY)), "price"),
        (with(0, ColumnValue::Text("1".to_owned())), "price"),
        (with(1, ColumnValue::Float(1.0)), "volume"),
        (with(2, ColumnValue::Text("\0".to_owned())), "venue"),
        (ColumnRow { values: vec![ColumnValue::Missing; 2], ..good.clone() }, "values"),
        (ColumnRow { series: String::new(), ..good.clone() }, "series"),
        (ColumnRow { series: "a\0b".to_owned(), ..good.clone() }, "series"),
        (ColumnRow { id: "x".repeat(257), ..good.clone() }, "id"),
        (ColumnRow { time_ns: MAX_TIME_NS + 1, ..good.clone() }, "time_ns"),
        (ColumnRow { revision: u32::MAX, ..good.clone() }, "revision"),
    ];
    for (bad, field) in bad {
        let error = columns.append(&scope("desk"), TICKS, vec![row("x", 0, 1.0), bad]).await.unwrap_err();
        assert_eq!((error.code(), error.field()), (codes::VALIDATION_ERROR, Some(field)));
        assert!(error.message().starts_with(&format!("row 1: `{field}`")), "{error}");
    }
    let many = (0..=i64::try_from(MAX_APPEND_ROWS).unwrap()).map(|time| row("x", time, 1.0)).collect();
    assert_refused(columns.append(&scope("desk"), TICKS, many).await, codes::TOO_LARGE);
    let long = |time| ColumnRow {
        values: vec![ColumnValue::Missing, ColumnValue::Missing, ColumnValue::Text("x".repeat(16 << 10))],
        ..row("x", time, 1.0)
    };
    let large = (0..1_100).map(long).collect();
    assert_refused(columns.append(&scope("desk"), TICKS, large).await, codes::TOO_LARGE);
    assert!(all(&columns, "x").await.is_empty());
}

/// Bad tables, names, ranges and limits are refused by every kind of read.
pub async fn bad_questions_are_refused(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let desk = scope("desk");
    append(&columns, vec![row("x", 1, 1.0)]).await;
    let refuse = |found: kernel::Result<()>| assert_refused(found, codes::VALIDATION_ERROR);
    let scans = [
        ColumnScan::new("", EVER, 1),
        ColumnScan::new("x", range(1, 0), 1),
        ColumnScan::new("x", range(i64::MIN, 0), 1),
        ColumnScan::new("x", EVER, 0),
        ColumnScan::new("x", EVER, 10_001),
    ];
    for scan in scans {
        refuse(columns.scan(&desk, TICKS, &scan).await.map(|_| ()));
    }
    let nameless = ColumnTable { name: "ticks\"; --", ..TICKS };
    refuse(columns.scan(&desk, nameless, &ColumnScan::new("x", EVER, 1)).await.map(|_| ()));
    refuse(columns.append(&desk, nameless, Vec::new()).await.map(|_| ()));
    let measures = [Measure::Column("venue"), Measure::Column("nothing"), Measure::Product("price", "venue")];
    for measure in measures {
        refuse(columns.aggregate(&desk, TICKS, &by(1, range(0, 9), &[measure])).await.map(|_| ()));
    }
    for (bucket_ns, to_ns) in [(0, 9), (-1, 9), (1, 10_001), (i64::MAX, 9)] {
        refuse(columns.aggregate(&desk, TICKS, &by(bucket_ns, range(0, to_ns), &[])).await.map(|_| ()));
    }
    refuse(columns.latest(&desk, TICKS, &["x", "x"], 9).await.map(|_| ()));
    refuse(columns.latest(&desk, TICKS, &["x\0"], 9).await.map(|_| ()));
    refuse(columns.latest(&desk, TICKS, &["x"], i64::MAX).await.map(|_| ()));
    refuse(columns.series(&desk, TICKS, None, 0).await.map(|_| ()));
    refuse(columns.revisions(&desk, TICKS, "x", 1, "1\0").await.map(|_| ()));
    refuse(columns.delete(&desk, TICKS, Some(""), EVER).await.map(|_| ()));
    refuse(columns.delete(&desk, TICKS, None, range(1, 0)).await.map(|_| ()));
    assert_eq!(times(&columns, "x").await, [1]);
}

/// Byte by byte, each once, page by page.
pub async fn series_are_listed_in_order(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let names = ["A", "NG_HH", "NG_HH_BALMO", "NG_HH\u{1}", "a", "é"];
    for (place, name) in names.iter().enumerate() {
        let place = i64::try_from(place).unwrap();
        append(
            &columns,
            vec![row(name, place, 1.0), row(name, 1_000 - place, 1.0), revised(1, row(name, place, 2.0))],
        )
        .await;
    }
    let mut names = names.map(str::to_owned);
    names.sort();
    let list =
        async |after: Option<&str>, limit| columns.series(&scope("desk"), TICKS, after, limit).await.unwrap();
    assert_eq!(list(None, 1_000).await, names);
    assert_eq!(list(None, 2).await, names[..2]);
    assert_eq!(list(Some(&names[1]), 3).await, names[2..5]);
    assert_eq!(list(Some("NG_HH_A"), 1).await, ["NG_HH_BALMO"], "after what is not there");
    assert!(list(Some("é"), 9).await.is_empty());
}

/// A later release may know more columns, and the one before it still reads.
pub async fn columns_are_added_at_the_end(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    append(&columns, vec![row("WTI", 1, 1.0)]).await;
    drop(columns);
    let columns = open().await;
    const QUALITY: Column = Column { name: "quality", kind: ColumnKind::Integer };
    let longer = ColumnTable { columns: &[PRICE, VOLUME, VENUE, QUALITY], ..TICKS };
    let mut new = row("WTI", 2, 2.0);
    new.values.push(ColumnValue::Integer(3));
    let desk = scope("desk");
    assert_eq!(columns.append(&desk, longer, vec![new.clone()]).await.unwrap(), 1);
    let found = columns.scan(&desk, longer, &ColumnScan::new("WTI", EVER, 9)).await.unwrap().rows;
    let mut old = row("WTI", 1, 1.0);
    old.values.push(ColumnValue::Missing);
    assert_eq!(found, [old, new]);
    let measures = [Measure::Column("quality")];
    let sums = columns.aggregate(&desk, longer, &by(10, range(0, 10), &measures)).await.unwrap();
    assert_eq!(sums[0].partials[0].map(|partial| (partial.count, partial.sum)), Some((1, 3.0)));
}

/// Rows, revisions and deletes outlive a restart.
pub async fn reopening_keeps_everything(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    append(&columns, vec![row("ünï", 1, 0.1), row("ünï", 2, 0.2), revised(1, row("ünï", 1, 0.3))]).await;
    columns.delete(&scope("desk"), TICKS, Some("ünï"), range(2, 3)).await.unwrap();
    drop(columns);
    let columns = open().await;
    assert_eq!(all(&columns, "ünï").await, [revised(1, row("ünï", 1, 0.3))]);
    assert_eq!(append(&columns, vec![row("ünï", 1, 9.0)]).await, 0, "revisions are known again");
    assert_eq!(append(&columns, vec![row("ünï", 2, 9.0)]).await, 1);
}

/// The most rows that one append takes, and the most that one page has.
pub async fn large_appends_are_kept(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let count = i64::try_from(MAX_APPEND_ROWS).unwrap();
    assert_eq!(
        append(&columns, (0..count).map(|time| row("WTI", time, 0.5)).collect()).await,
        MAX_APPEND_ROWS as u64
    );
    assert_eq!(times(&columns, "WTI").await, (0..count).collect::<Vec<_>>());
    let sums = buckets(&columns, &by(1, range(0, count), &[Measure::Column("price")])).await;
    assert_eq!(sums.len(), MAX_APPEND_ROWS, "as many buckets as there may be");
    let sums = buckets(&columns, &by(count, range(0, count), &[Measure::Column("price")])).await;
    assert_eq!((sums[0].rows, sums[0].partials[0].unwrap().sum), (MAX_APPEND_ROWS as u64, 5_000.0));
}

/// Appends from many callers at once all stay, and a row that many append is new to one of them.
pub async fn concurrent_appends_are_all_kept(open: impl AsyncFn() -> Arc<dyn Columns>) {
    let columns = open().await;
    let caller = |caller: u32| {
        let columns = Arc::clone(&columns);
        tokio::spawn(async move {
            let mut added = 0;
            for time in 0..10 {
                let own = named(&format!("caller {caller}"), row("x", time, 1.0));
                added +=
                    append(&columns, vec![own, named("shared", row("x", time, f64::from(caller)))]).await;
            }
            added
        })
    };
    let mut added = 0;
    for task in (0..6).map(caller).collect::<Vec<_>>() {
        added += task.await.unwrap();
    }
    assert_eq!((added, all(&columns, "x").await.len()), (70, 70));
}
