//! Rolling statistics over the closing prices of bars: made when they are asked for, of the bars that an answer has and of those
//! before it, so that the first line of a page has a whole window where there are enough bars.
//!
//! It refuses to mix markets: a bar belongs to an instrument at a market, and a window has bars of one.

use std::collections::BTreeMap;

use kernel::{Result, Scope};
use store::{ColumnScan, MAX_TIME_NS, TimeRange};

use super::bars::{invalid, place_of, told};
use super::{BarAnswer, BarQuestion, Service, ToldBar};
use crate::algorithms::bars::{BarWindow, WindowStatistics};
use crate::projection::is_withdrawn;
use crate::topology::BAR_KINDS;

/// The longest window, in bars.
pub const WINDOW_MAX: usize = 1_000;
/// Rows before the first bar that are read at once, at least.
const ROWS_AT_ONCE: usize = 100;
/// How often they are.
const PAGES_LOOKED_AT: usize = 20;

/// Which statistics.
#[derive(Debug, Clone)]
pub struct StatisticsQuestion {
    /// Of which bars; gaps are not told and neighbours not merged.
    pub bars: BarQuestion,
    /// How many bars a window has, 2 to [`WINDOW_MAX`].
    pub window: usize,
}

/// A bar, and the window that ends with it.
#[derive(Debug, Clone, PartialEq)]
pub struct StatisticsLine {
    /// The bar.
    pub bar: ToldBar,
    /// Its closing price.
    pub close: f64,
    /// The first microsecond of the first bar of the window.
    pub window_start_us: i64,
    /// What is known of the closing prices.
    pub statistics: WindowStatistics,
}

/// Statistics of a range, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct StatisticsAnswer {
    /// One for each bar.
    pub lines: Vec<StatisticsLine>,
    /// Where the next page begins, where there are more.
    pub next_from_us: Option<i64>,
}

impl Service {
    /// The statistics of the bars of a range.
    ///
    /// # Errors
    /// Those of [`Service::bars`]; `VALIDATION_ERROR` for a window that is none, and where the bars are of several markets and
    /// none is named.
    pub async fn statistics(&self, scope: &Scope, question: &StatisticsQuestion) -> Result<StatisticsAnswer> {
        if !(2..=WINDOW_MAX).contains(&question.window) {
            return Err(invalid("window", format!("must be from 2 to {WINDOW_MAX}")));
        }
        let asked = BarQuestion { has_gaps: false, downsample: None, ..question.bars.clone() };
        let BarAnswer { bars, next_from_us } = self.bars(scope, &asked).await?;
        let Some(first) = bars.first() else {
            return Ok(StatisticsAnswer { lines: Vec::new(), next_from_us });
        };
        if let Some(other) = bars.iter().find(|bar| bar.market != first.market) {
            let message = format!(
                "must be given, because there are bars of `{}` and of `{}`; it is empty where nobody said",
                first.market.escape_debug(),
                other.market.escape_debug()
            );
            return Err(invalid("market", message));
        }
        let of_market = BarQuestion { market: Some(first.market.clone()), ..asked };
        let mut all = self.bars_before(scope, &of_market, first.start_us, question.window - 1).await?;
        let known = all.len();
        all.extend(bars);
        Ok(StatisticsAnswer { lines: lines(&all, known, question.window)?, next_from_us })
    }

    /// The last bars of a market that begin before a time, oldest first; fewer where there are no more.
    async fn bars_before(
        &self,
        scope: &Scope,
        question: &BarQuestion,
        until_us: i64,
        count: usize,
    ) -> Result<Vec<ToldBar>> {
        let place = place_of(question.interval)?;
        let until_ns = until_us.saturating_mul(1_000);
        let range = TimeRange { from_ns: -MAX_TIME_NS, to_ns: until_ns };
        let newest = ColumnScan::new(question.instrument.as_str(), range, count.max(ROWS_AT_ONCE));
        let mut scan = ColumnScan { descending: true, ..newest };
        let (mut bars, mut since_ns, mut is_whole) = (BTreeMap::new(), -MAX_TIME_NS, false);
        for _ in 0..PAGES_LOOKED_AT {
            let page = self.columns.scan(scope, BAR_KINDS[place].table, &scan).await?;
            let last_ns = page.rows.last().map(|row| row.time_ns);
            for row in page.rows.iter().filter(|row| !is_withdrawn(row)) {
                let bar = told(row, &BAR_KINDS[place])?;
                if question.market.as_ref().is_none_or(|market| *market == bar.market) {
                    bars.insert((bar.start_us, bar.market.clone()), bar);
                }
            }
            scan.cursor = page.cursor;
            if bars.len() >= count {
                since_ns = last_ns.unwrap_or(since_ns);
            }
            is_whole = bars.len() >= count || scan.cursor.is_none();
            if is_whole {
                break;
            }
        }
        if !is_whole {
            let message =
                "the bars before `from` lie behind too many of other markets; ask for a smaller one";
            return Err(invalid("window", message));
        }
        self.lay_open(scope, question, place, (since_ns, until_ns), &mut bars)?;
        let more = bars.len().saturating_sub(count);
        Ok(bars.into_values().skip(more).collect())
    }
}

/// A line for each bar from `known` on, with windows over all of them.
fn lines(bars: &[ToldBar], known: usize, length: usize) -> Result<Vec<StatisticsLine>> {
    let mut window = BarWindow::new(length).map_err(|fault| invalid("window", fault.to_string()))?;
    let mut lines = Vec::with_capacity(bars.len() - known);
    for (place, bar) in bars.iter().enumerate() {
        let Some(values) = bar.values else { continue };
        let statistics = window.push(values.close).map_err(kernel::Error::internal)?;
        if place < known {
            continue;
        }
        let first = (place + 1).saturating_sub(length);
        lines.push(StatisticsLine {
            bar: bar.clone(),
            close: values.close,
            window_start_us: bars[first].start_us,
            statistics,
        });
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use kernel::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::MarketSettings;
    use crate::algorithms::bars::{Change, Interval};
    use crate::service::BarState;
    use crate::tests::{Desk, MINUTE_MS, START_MS, scope, tick};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millisecond(START_MS + minute * MINUTE_MS).unwrap()
    }

    fn question(window: usize, limit: usize) -> StatisticsQuestion {
        let bars = BarQuestion {
            instrument: "HUB".to_owned(),
            interval: Interval::FIVE_MINUTES,
            from: at(0),
            to: at(10_000),
            market: None,
            limit,
            has_gaps: false,
            downsample: None,
        };
        StatisticsQuestion { bars, window }
    }

    /// Twenty bars that close at 1, 2, … with an hour of nothing in the middle; the last are open.
    async fn a_desk() -> Desk {
        let mut desk = Desk::new(1, &MarketSettings::default());
        for place in 0..20_u64 {
            let minute = 5.0 * place as f64 + if place < 10 { 1.0 } else { 61.0 };
            desk.send("desk", &tick(place, minute, place as f64 + 1.0)).await.unwrap();
        }
        desk.run().await;
        desk
    }

    #[tokio::test]
    async fn every_page_has_whole_windows() {
        let desk = a_desk().await;
        let service = desk.service();
        let whole = service.statistics(&scope("desk"), &question(4, 100)).await.unwrap();
        assert_eq!((whole.lines.len(), whole.next_from_us), (20, None));
        assert_eq!(whole.lines.iter().filter(|line| line.bar.state == BarState::Open).count(), 2);
        for (place, line) in whole.lines.iter().enumerate() {
            let (last, count) = (place as f64 + 1.0, place.min(3) + 1);
            let prices = line.statistics.prices;
            assert_eq!((line.close, prices.count as usize, prices.max), (last, count, last));
            assert_eq!(prices.min, last - count as f64 + 1.0);
            assert!((prices.mean - (prices.min + last) / 2.0).abs() < 1e-12);
            assert_eq!(line.window_start_us, whole.lines[place + 1 - count].bar.start_us, "no gap is filled");
            assert_eq!(line.statistics.change, Change::Logarithm);
            assert_eq!(line.statistics.volatility.is_some(), count > 2);
        }
        for limit in 1..=20 {
            let (mut asked, mut lines) = (question(4, limit), Vec::new());
            loop {
                let page = service.statistics(&scope("desk"), &asked).await.unwrap();
                lines.extend(page.lines);
                let Some(next_us) = page.next_from_us else { break };
                asked.bars.from = Timestamp::from_microsecond(next_us).unwrap();
            }
            assert_eq!(lines.len(), whole.lines.len(), "{limit} a page");
            for (line, of_whole) in lines.iter().zip(&whole.lines) {
                assert_eq!((&line.bar, line.window_start_us), (&of_whole.bar, of_whole.window_start_us));
                let figures = |line: &StatisticsLine| {
                    let WindowStatistics { prices, volatility, .. } = line.statistics;
                    [Some(prices.mean), prices.deviation, prices.z_score, Some(prices.range), volatility]
                };
                // Where a page begins decides in what order the sums are made: the last bits may differ.
                for (one, two) in figures(line).into_iter().zip(figures(of_whole)) {
                    assert_eq!(one.is_some(), two.is_some());
                    assert!((one.unwrap_or(0.0) - two.unwrap_or(0.0)).abs() < 1e-12, "{limit} a page");
                }
            }
        }
        let mut last = question(200, 100);
        last.bars.from = at(155);
        let lines = service.statistics(&scope("desk"), &last).await.unwrap().lines;
        assert_eq!((lines.len(), lines[0].statistics.prices.count), (1, 20), "all that there are before");
    }

    #[tokio::test]
    async fn a_late_trade_changes_its_windows() {
        let mut desk = a_desk().await;
        desk.send("desk", &tick(100, 152.5, -7.0)).await.unwrap();
        desk.run().await;
        let lines = desk.service().statistics(&scope("desk"), &question(3, 100)).await.unwrap().lines;
        let told: Vec<_> =
            lines.iter().rev().take(3).map(|line| (line.close, line.statistics.change)).collect();
        let difference = Change::Difference;
        assert_eq!(told, [(20.0, difference), (-7.0, difference), (18.0, Change::Logarithm)]);
    }

    #[tokio::test]
    async fn what_has_no_answer_is_refused() {
        let mut desk = a_desk().await;
        let mut elsewhere = tick(50, 147.0, 0.5);
        elsewhere["market"] = json!("MISO");
        desk.send("desk", &elsewhere).await.unwrap();
        desk.run().await;
        let service = desk.service();
        let code = async |asked: &StatisticsQuestion| {
            let refused = service.statistics(&scope("desk"), asked).await.unwrap_err();
            (refused.code().name, refused.field().map(str::to_owned))
        };
        let invalid = |field: &str| ("VALIDATION_ERROR", Some(field.to_owned()));
        assert_eq!(code(&question(1, 10)).await, invalid("window"));
        assert_eq!(code(&question(WINDOW_MAX + 1, 10)).await, invalid("window"));
        assert_eq!(code(&question(2, 100)).await, invalid("market"));
        let mut unknown = question(2, 10);
        unknown.bars.instrument = "NODE".to_owned();
        assert_eq!(code(&unknown).await, ("INSTRUMENT_NOT_FOUND", Some("instrument".to_owned())));
        let mut named = question(2, 100);
        named.bars.market = Some("PJM".to_owned());
        named.bars.from = at(45);
        let lines = service.statistics(&scope("desk"), &named).await.unwrap().lines;
        assert_eq!((lines.len(), lines[0].statistics.prices.min), (11, 9.0), "with the bar before");
        assert!(lines.iter().all(|line| line.statistics.prices.min >= 9.0), "and none of the other market");
    }
}
