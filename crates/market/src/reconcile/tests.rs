//! Topics beside rows: as they are, and while they are written.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use store::ColumnPage;
use tokio::sync::Mutex;

use super::*;
use crate::MarketSettings;
use crate::projection::PRICES;
use crate::quality_report::{By, Question, report};
use crate::tests::meddled::{Meddled, Meddler};
use crate::tests::{Desk, MINUTE_MS, START_MS, scope, tick};
use crate::topology;

async fn look(desk: &Desk) -> Reconciliation {
    look_at(desk, desk.columns.as_ref()).await
}

async fn look_at(desk: &Desk, columns: &dyn Columns) -> Reconciliation {
    let topics = Topics::of_log(Arc::clone(&desk.log));
    let stages = topology::all(&desk.rules).unwrap();
    reconcile(&scope("desk"), &topics, &desk.records, columns, &stages).await.unwrap()
}

async fn a_desk() -> Desk {
    let mut desk = Desk::new(2, &MarketSettings::default());
    // 27 of them on the day before.
    for sequence in 0..60 {
        desk.send("desk", &tick(sequence, 30.0 * sequence as f64 - 800.0, sequence as f64 - 3.5))
            .await
            .unwrap();
    }
    desk.send("desk", &tick(100, 60.0, "NaN")).await.unwrap();
    desk.send("other", &tick(1, 1.0, 99.0)).await.unwrap();
    desk.run().await;
    desk
}

#[tokio::test(start_paused = true)]
async fn days_agree_until_a_row_is_lost() {
    let desk = a_desk().await;
    let found = look(&desk).await;
    assert_eq!((found.differences(), found.stages.len()), (0, 8), "{found:?}");
    let prices: Vec<&Day> = found.days.iter().filter(|day| day.table == PRICES.name).collect();
    assert_eq!(prices.iter().map(|day| day.served.rows).sum::<u64>(), 60);
    let sum: i128 = prices.iter().map(|day| day.told.sum_billionths).sum();
    assert_eq!(sum, 1_560_000_000_000);
    let start_ns = (START_MS + 10 * MINUTE_MS) * 1_000_000;
    let range = TimeRange { from_ns: start_ns, to_ns: start_ns + MINUTE_MS * 1_000_000 };
    desk.columns.delete(&scope("desk"), PRICES, None, range).await.unwrap();
    let found = look(&desk).await;
    assert_eq!(found.differences(), 1);
    assert_eq!(look(&Desk::new(1, &MarketSettings::default())).await.differences(), 0);
}

#[tokio::test]
async fn flags_are_counted_by_what_is_asked_for() {
    let desk = a_desk().await;
    let all = Question { from: None, to: None, market: None, instrument: None, by: By::Market };
    let ask = async |question: &Question| {
        let log = Arc::clone(&desk.log);
        report(&scope("desk"), desk.columns.as_ref(), log, question).await.unwrap()
    };
    let found = ask(&all).await;
    let line = &found.lines["PJM"];
    assert_eq!((found.lines.len(), line.prices, line.flags["price_negative"]), (1, 60, 4), "{found:?}");
    assert_eq!(found.refused["normalization"]["NOT_FINITE"], 1);
    let days = ask(&Question { by: By::Day, ..all.clone() }).await;
    assert_eq!(days.lines["2024-01-01T00:00:00Z"].prices, 33);
    let end = Timestamp::from_millisecond(START_MS + 60 * MINUTE_MS).unwrap();
    let hour = Question { to: Some(end), by: By::Hour, instrument: Some("HUB".to_owned()), ..all.clone() };
    assert_eq!(ask(&hour).await.lines["2024-01-01T00:00:00Z"].prices, 2);
    let none = Question { market: Some("MISO".to_owned()), by: By::Instrument, ..all };
    assert!(ask(&none).await.lines.is_empty());
}

/// Rows that are written while they are read, as a server beside does it, or that are on the way for a while.
#[derive(Debug)]
struct Beside {
    desk: Option<Mutex<Desk>>,
    sequence: AtomicU64,
    /// So many pages from now on lack a row.
    lacking: AtomicUsize,
}

impl Beside {
    /// A tick goes through all stages.
    async fn goes_on(&self) {
        let Some(desk) = &self.desk else { return };
        let mut desk = desk.lock().await;
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        desk.send("desk", &tick(sequence, 872.0 + 0.1 * sequence as f64, 7.0)).await.unwrap();
        desk.run().await;
    }
}

#[async_trait]
impl Meddler for Beside {
    async fn read(&self, page: &mut ColumnPage) {
        self.goes_on().await;
        let order = Ordering::Relaxed;
        if !page.rows.is_empty()
            && self.lacking.fetch_update(order, order, |left| left.checked_sub(1)).is_ok()
        {
            page.rows.pop();
        }
    }

    async fn before_series(&self) {
        self.goes_on().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_it_is_read_is_no_difference_and_what_is_lost_is() {
    let check = async |lost: bool, differences: usize| {
        let desk = a_desk().await;
        if lost {
            let start_ns = (START_MS + 10 * MINUTE_MS) * 1_000_000;
            let range = TimeRange { from_ns: start_ns, to_ns: start_ns + MINUTE_MS * 1_000_000 };
            assert_eq!(desk.columns.delete(&scope("desk"), PRICES, None, range).await.unwrap(), 1);
        }
        let same = desk.beside();
        let (columns, desk) = (Arc::clone(&desk.columns), Some(Mutex::new(desk)));
        let meddler = Beside { desk, sequence: AtomicU64::new(1_000), lacking: AtomicUsize::new(0) };
        let beside = Meddled { columns, meddler };
        let found = look_at(&same, &beside).await;
        assert!(beside.meddler.sequence.load(Ordering::Relaxed) > 1_004, "nothing came");
        assert_eq!(found.differences(), differences, "{found:#?}");
    };
    check(false, 0).await;
    check(true, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_on_the_way_is_waited_for() {
    let check = async |lacking: usize, differences: usize| {
        let desk = a_desk().await;
        let (columns, lacking) = (Arc::clone(&desk.columns), AtomicUsize::new(lacking));
        let beside =
            Meddled { columns, meddler: Beside { desk: None, sequence: AtomicU64::new(0), lacking } };
        let found = look_at(&desk, &beside).await;
        assert_eq!(found.differences(), differences, "{found:#?}");
    };
    check(0, 0).await;
    check(12, 0).await;
    check(usize::MAX, 4).await;
}
