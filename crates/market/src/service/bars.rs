//! Bars of a range: those that were told, in their newest revision, with those that are open laid over them.

use std::collections::{BTreeMap, BTreeSet};

use kernel::{Error, Permission, Result, Scope, Timestamp, codes};
use store::{ColumnRow, ColumnScan, MAX_SCAN_ROWS, TimeRange};

use super::{Service, float, instrument_not_found, nanoseconds, whole};
use crate::algorithms::bars::{BarFault, Interval, Ohlcv, gaps};
use crate::projection::{NO_MARKET, is_withdrawn};
use crate::topology::{BAR_KINDS, BarKind};

/// Intervals that are looked at for gaps, at most.
const MOST_INTERVALS: i64 = 100_000;
const TOO_LONG: &str = "the range has too many intervals to tell gaps; ask for less";

/// Whether a bar still changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BarState {
    /// It has trades that were not told yet.
    Open,
    /// It was told; a late trade may still revise it.
    Closed,
    /// Nobody traded although the market was open.
    Gap,
}

/// A bar in an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldBar {
    /// Its first microsecond.
    pub start_us: i64,
    /// The microsecond after its last.
    pub end_us: i64,
    /// Where it was traded; empty where nobody said.
    pub market: String,
    /// The newest revision that was told; none where it was not told yet.
    pub revision: Option<u32>,
    /// Whether it still changes.
    pub state: BarState,
    /// What was traded; none in a gap.
    pub values: Option<Ohlcv>,
    /// How many bars it was made of.
    pub bars: u32,
}

/// Which bars.
#[derive(Debug, Clone)]
pub struct BarQuestion {
    /// Of which instrument.
    pub instrument: String,
    /// How long.
    pub interval: Interval,
    /// Those that begin at that time or later.
    pub from: Timestamp,
    /// And before this.
    pub to: Timestamp,
    /// Of this market only.
    pub market: Option<String>,
    /// At most so many trades-bearing bars are read.
    pub limit: usize,
    /// Whether gaps are told.
    pub has_gaps: bool,
    /// Merges neighbours until there are at most so many.
    pub downsample: Option<usize>,
}

/// The bars of a range, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct BarAnswer {
    /// The bars.
    pub bars: Vec<ToldBar>,
    /// Where the next page begins, where there are more.
    pub next_from_us: Option<i64>,
}

impl Service {
    /// The bars of a range.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for an interval that is not kept, or a range that is none; `INSTRUMENT_NOT_FOUND`; those of the
    /// engine.
    pub async fn bars(&self, scope: &Scope, question: &BarQuestion) -> Result<BarAnswer> {
        scope.require(Permission::Read)?;
        let place = place_of(question.interval)?;
        let (from_ns, to_ns) = (nanoseconds(question.from, "from")?, nanoseconds(question.to, "to")?);
        if to_ns < from_ns {
            return Err(invalid("to", "must not be before `from`"));
        }
        let mut bars = BTreeMap::new();
        let range = TimeRange { from_ns, to_ns };
        let end_ns = self.closed(scope, question, &BAR_KINDS[place], range, &mut bars).await?;
        let newest_us =
            self.lay_open(scope, question, place, (from_ns, end_ns.unwrap_or(to_ns)), &mut bars)?;
        let mut bars: Vec<ToldBar> = bars.into_values().collect();
        let mut next_from_us = end_ns.map(|end_ns| end_ns.div_euclid(1_000));
        if bars.len() > question.limit {
            let next_us = bars[question.limit].start_us;
            // Bars of one time are of one page, unless they fill it.
            let whole = bars.partition_point(|bar| bar.start_us < next_us);
            bars.truncate(if whole == 0 { question.limit } else { whole });
            next_from_us = Some(if whole == 0 { next_us + 1 } else { next_us });
        }
        if question.has_gaps {
            let until_us = next_from_us.unwrap_or_else(|| to_ns.div_euclid(1_000)).min(newest_us);
            self.mark_gaps(question, until_us, &mut bars)?;
        }
        if let Some(most) = question.downsample {
            bars = downsampled(bars, most);
        }
        Ok(BarAnswer { bars, next_from_us })
    }

    /// Adds the rows of a range; where they end, if there are more than asked for.
    async fn closed(
        &self,
        scope: &Scope,
        question: &BarQuestion,
        kind: &BarKind,
        range: TimeRange,
        bars: &mut BTreeMap<(i64, String), ToldBar>,
    ) -> Result<Option<i64>> {
        let limit = (question.limit + 1).min(MAX_SCAN_ROWS);
        let mut scan = ColumnScan::new(question.instrument.as_str(), range, limit);
        loop {
            let page = self.columns.scan(scope, kind.table, &scan).await?;
            let last_ns = page.rows.last().map(|row| row.time_ns);
            for row in page.rows.into_iter().filter(|row| !is_withdrawn(row)) {
                let bar = told(&row, kind)?;
                if question.market.as_ref().is_none_or(|market| *market == bar.market) {
                    bars.insert((bar.start_us, bar.market.clone()), bar);
                }
            }
            scan.cursor = page.cursor;
            if scan.cursor.is_none() {
                return Ok(None);
            }
            if bars.len() > question.limit {
                return Ok(last_ns.map(|last_ns| last_ns + 1));
            }
        }
    }

    /// Lays the open bars over those that were told; how far ticks have come, in microseconds.
    pub(super) fn lay_open(
        &self,
        scope: &Scope,
        question: &BarQuestion,
        place: usize,
        (from_ns, end_ns): (i64, i64),
        bars: &mut BTreeMap<(i64, String), ToldBar>,
    ) -> Result<i64> {
        self.views.of(scope.tenant(), |view| {
            let known = view.instrument(&question.instrument);
            let known = known.ok_or_else(|| instrument_not_found(&question.instrument))?;
            for open in known.open_bars(place) {
                let start_ns = open.start_us.saturating_mul(1_000);
                let is_asked = (from_ns..end_ns).contains(&start_ns)
                    && question.market.as_ref().is_none_or(|market| *market == open.market);
                let key = (open.start_us, open.market.clone());
                let values = open.partial.finish();
                let earlier = bars.get(&key);
                let count = |bar: &ToldBar| bar.values.map_or(0, |values| values.trade_count);
                if !is_asked || earlier.is_some_and(|earlier| count(earlier) >= values.trade_count) {
                    continue;
                }
                let bar = ToldBar {
                    start_us: open.start_us,
                    end_us: open.end_us,
                    market: open.market.clone(),
                    revision: earlier.and_then(|earlier| earlier.revision),
                    state: BarState::Open,
                    values: Some(values),
                    bars: 1,
                };
                bars.insert(key, bar);
            }
            Ok(known.price.as_ref().map_or(i64::MIN, |price| price.occurred_us))
        })
    }

    /// Puts in the intervals in which the market was open and nobody traded, up to the newest trade.
    fn mark_gaps(&self, question: &BarQuestion, until_us: i64, bars: &mut Vec<ToldBar>) -> Result<()> {
        let market = question.market.clone().or_else(|| bars.last().map(|bar| bar.market.clone()));
        let market = market.unwrap_or_default();
        let from_us = question.from.as_microsecond();
        let length_us = match question.interval {
            Interval::Minutes(minutes) => i64::from(minutes) * 60_000_000,
            Interval::Day => 86_400_000_000,
        };
        // Told before they are counted, which would take a while.
        if until_us.saturating_sub(from_us) / length_us > MOST_INTERVALS {
            return Err(invalid("from", TOO_LONG));
        }
        let starts: BTreeSet<i64> = bars.iter().map(|bar| bar.start_us).collect();
        let calendar = self.rules.calendars.of(&market);
        let found =
            gaps(calendar, question.interval, from_us, until_us, &starts).map_err(|fault| match fault {
                BarFault::TooLong => invalid("from", TOO_LONG),
                other => invalid("from", other.to_string()),
            })?;
        let room = MAX_SCAN_ROWS.saturating_sub(bars.len());
        if found.len() > room {
            let message = format!(
                "there are {} gaps, and an answer has {MAX_SCAN_ROWS} rows; ask for less",
                found.len()
            );
            return Err(invalid("from", message));
        }
        bars.extend(found.into_iter().map(|slot| ToldBar {
            start_us: slot.start_us,
            end_us: slot.end_us,
            market: market.clone(),
            revision: None,
            state: BarState::Gap,
            values: None,
            bars: 1,
        }));
        bars.sort_by(|one, other| (one.start_us, &one.market).cmp(&(other.start_us, &other.market)));
        Ok(())
    }
}

/// The place of an interval in [`BAR_KINDS`].
pub(super) fn place_of(interval: Interval) -> Result<usize> {
    let place = BAR_KINDS.iter().position(|kind| kind.interval == interval);
    place.ok_or_else(|| invalid("interval", "bars of 5m, 1h and 1d are kept"))
}

pub(super) fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message.into()).with_field(field)
}

pub(super) fn told(row: &ColumnRow, kind: &BarKind) -> Result<ToldBar> {
    let number = |name: &str| {
        float(row, kind.table, name)?.ok_or_else(|| Error::internal("a row of bars lacks a price"))
    };
    let integer = |name: &str| Ok::<_, Error>(whole(row, kind.table, name)?.unwrap_or(0));
    Ok(ToldBar {
        start_us: row.time_ns.div_euclid(1_000),
        end_us: integer("interval_end_us")?,
        market: if row.id == NO_MARKET { String::new() } else { row.id.clone() },
        revision: Some(row.revision),
        state: BarState::Closed,
        values: Some(Ohlcv {
            open: number("open_price")?,
            high: number("high_price")?,
            low: number("low_price")?,
            close: number("close_price")?,
            volume: number("volume")?,
            vwap: float(row, kind.table, "vwap")?,
            trade_count: u64::try_from(integer("trade_count")?).unwrap_or(0),
        }),
        bars: 1,
    })
}

/// Merges as many neighbours of one market into each as leave at most `most`.
fn downsampled(bars: Vec<ToldBar>, most: usize) -> Vec<ToldBar> {
    let most = most.max(1);
    let together = bars.len().div_ceil(most).max(1);
    let mut by_market: BTreeMap<String, Vec<ToldBar>> = BTreeMap::new();
    for bar in bars {
        by_market.entry(bar.market.clone()).or_default().push(bar);
    }
    let chunks = by_market.values().flat_map(|bars| bars.chunks(together));
    let mut merged: Vec<ToldBar> = chunks
        .filter_map(|chunk| chunk.iter().cloned().reduce(|earlier, later| both(earlier, &later)))
        .collect();
    merged.sort_by(|one, other| (one.start_us, &one.market).cmp(&(other.start_us, &other.market)));
    merged
}

/// A bar and a later one of the same market as one.
fn both(earlier: ToldBar, later: &ToldBar) -> ToldBar {
    let values = match (earlier.values, later.values) {
        (Some(one), Some(two)) => Some(Ohlcv {
            open: one.open,
            high: one.high.max(two.high),
            low: one.low.min(two.low),
            close: two.close,
            volume: one.volume + two.volume,
            vwap: weighted(&one, &two),
            trade_count: one.trade_count + two.trade_count,
        }),
        (one, two) => one.or(two),
    };
    let state = match (earlier.state, later.state) {
        (BarState::Gap, other) | (other, BarState::Gap) => other,
        (BarState::Open, _) | (_, BarState::Open) => BarState::Open,
        (BarState::Closed, BarState::Closed) => BarState::Closed,
    };
    ToldBar {
        end_us: later.end_us,
        // Of several bars there is no one revision.
        revision: None,
        state,
        values,
        bars: earlier.bars + later.bars,
        ..earlier
    }
}

fn weighted(one: &Ohlcv, two: &Ohlcv) -> Option<f64> {
    match (one.vwap, two.vwap) {
        (Some(first), Some(second)) => {
            let volume = one.volume + two.volume;
            Some((first * one.volume + second * two.volume) / volume).filter(|mean| mean.is_finite())
        }
        (first, second) => first.or(second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(start_us: i64, price: f64, volume: f64) -> ToldBar {
        let values = Ohlcv {
            open: price,
            high: price + 1.0,
            low: price - 1.0,
            close: price + 0.5,
            volume,
            vwap: (volume > 0.0).then_some(price),
            trade_count: 2,
        };
        ToldBar {
            start_us,
            end_us: start_us + 10,
            market: String::new(),
            revision: Some(0),
            state: BarState::Closed,
            values: Some(values),
            bars: 1,
        }
    }

    #[test]
    fn merged_bars_say_what_their_parts_say() {
        let bars = vec![bar(0, 10.0, 1.0), bar(10, -20.0, 3.0), bar(20, 5.0, 0.0)];
        let found = downsampled(bars.clone(), 2);
        assert_eq!((found.len(), found[0].bars, found[1].bars), (2, 2, 1));
        let values = found[0].values.unwrap();
        let ends = (values.open, values.high, values.low, values.close, values.volume, values.trade_count);
        assert_eq!(ends, (10.0, 11.0, -21.0, -19.5, 4.0, 4));
        assert_eq!(values.vwap, Some(-12.5));
        assert_eq!((found[0].start_us, found[0].end_us, found[0].revision), (0, 20, None));
        assert_eq!(downsampled(bars.clone(), 3), bars);
        assert_eq!(downsampled(bars, 1).len(), 1);
        assert!(downsampled(Vec::new(), 0).is_empty());
    }
}
