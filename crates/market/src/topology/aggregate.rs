//! Ticks to bars of five minutes, an hour and a trading day, in revisions.
//!
//! A bar belongs to an instrument at a market, because the market says when a day begins. To add an interval: a line in
//! [`BAR_KINDS`], a branch below, its topic; then a format of the state that is one higher.

use std::cell::RefCell;
use std::sync::Arc;

use kernel::Result;
use serde::{Deserialize, Serialize};
use store::{Column, ColumnKind, ColumnTable, Topic};
use stream::{Emission, Partial as StreamPartial, Rejection, Topology, WindowResult, Windows, read};

use super::{AGGREGATION, ENRICHED_TICKS, decode, moment};
use crate::algorithms::bars::{Bar, Interval, Partial, Trade};
use crate::events::{BarEvent, TickMessage, kinds, topics};
use crate::settings::{KnownSlots, Rules};

/// The largest turnover of a tick, in units of its currency: sums of what is not larger stay exact.
const MOST_TURNOVER: f64 = 1e15;

/// One length of bars, and where they go.
#[derive(Debug, Clone, Copy)]
pub struct BarKind {
    /// How long.
    pub interval: Interval,
    /// The topic of their revisions.
    pub topic: &'static str,
    /// The table that answers are made of.
    pub table: ColumnTable,
}

const COLUMNS: &[Column] = &[
    Column { name: "open_price", kind: ColumnKind::Float },
    Column { name: "high_price", kind: ColumnKind::Float },
    Column { name: "low_price", kind: ColumnKind::Float },
    Column { name: "close_price", kind: ColumnKind::Float },
    Column { name: "volume", kind: ColumnKind::Float },
    Column { name: "vwap", kind: ColumnKind::Float },
    Column { name: "trade_count", kind: ColumnKind::Integer },
    Column { name: "interval_end_us", kind: ColumnKind::Integer },
];

/// Every length of bars.
pub const BAR_KINDS: [BarKind; 3] = [
    kind(Interval::FIVE_MINUTES, topics::BARS_5M, "bars_5m"),
    kind(Interval::HOUR, topics::BARS_1H, "bars_1h"),
    kind(Interval::Day, topics::BARS_1D, "bars_1d"),
];

const fn kind(interval: Interval, topic: &'static str, table: &'static str) -> BarKind {
    BarKind { interval, topic, table: ColumnTable { name: table, columns: COLUMNS } }
}

/// A trade on its way into bars.
#[derive(Debug, Clone, PartialEq)]
pub struct BarTrade {
    /// Of which instrument.
    pub instrument: Arc<str>,
    /// Where; empty where nobody said.
    pub market: Arc<str>,
    /// The trade.
    pub trade: Trade,
}

impl BarTrade {
    /// The trade that a tick is; none where it is a quote.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` for numbers that no bar can add up.
    pub fn of(tick: &TickMessage) -> Result<Option<Self>, Rejection> {
        let Some(trade) = tick.trade() else { return Ok(None) };
        let refused = |reason: String| Rejection { code: "OUT_OF_RANGE", reason };
        Partial::of(&trade).map_err(|fault| refused(fault.to_string()))?;
        if (trade.price * trade.volume).abs() > MOST_TURNOVER {
            return Err(refused(format!("price times volume is more than {MOST_TURNOVER:e}")));
        }
        let payload = &tick.payload;
        let (instrument, market) = (payload.instrument_id.as_str().into(), payload.market.as_str().into());
        Ok(Some(Self { instrument, market, trade }))
    }
}

/// What a bar is made of so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BarPartial(pub Option<Partial>);

impl StreamPartial for BarPartial {
    type Item = BarTrade;
    type Output = Self;

    fn add(&mut self, _: i64, item: &BarTrade) {
        let Ok(one) = Partial::of(&item.trade) else { return };
        self.merge(Self(Some(one)));
    }

    fn merge(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            // A sum that 128 bits cannot hold is of more trades than there are, as large as one may be.
            (Some(partial), Some(other)) => drop(partial.merge(&other)),
            (None, other) => self.0 = other,
            (Some(_), None) => {}
        }
    }

    fn finish(&self) -> Self {
        self.clone()
    }
}

pub(super) fn topology(rules: &Arc<Rules>) -> Result<Topology> {
    let rules = Arc::clone(rules);
    Topology::new(AGGREGATION, ENRICHED_TICKS, move || {
        let windows = |place: usize| windows(&rules, BAR_KINDS[place].interval);
        let fold = (key, |item: &BarTrade| item.trade.time_us.div_euclid(1_000));
        let topic = |place: usize| Topic::fixed(BAR_KINDS[place].topic);
        read("decode", decode)
            .flat_map("trade", |tick, trades| {
                trades.extend(BarTrade::of(&tick)?);
                Ok(())
            })
            .branch(|trades| {
                let bars = trades.window::<BarPartial, _>("bars_5m", windows(0), fold);
                bars.to("bars_5m_out", topic(0), |result| say(0, result))
            })
            .branch(|trades| {
                let bars = trades.window::<BarPartial, _>("bars_1h", windows(1), fold);
                bars.to("bars_1h_out", topic(1), |result| say(1, result))
            })
            .window::<BarPartial, _>("bars_1d", windows(2), fold)
            .to("bars_1d_out", topic(2), |result| say(2, result))
    })
}

fn windows(rules: &Arc<Rules>, interval: Interval) -> Windows<BarTrade> {
    let (rules, lateness_ms) = (Arc::clone(rules), rules.lateness_ms);
    let known = RefCell::new(KnownSlots::default());
    let assign = move |item: &BarTrade, _: i64, spans: &mut Vec<(i64, i64)>| {
        let time_us = item.trade.time_us;
        let slot = rules.calendars.slot(&mut known.borrow_mut(), &item.market, interval, time_us);
        spans.extend(slot.map(|slot| (slot.start_us.div_euclid(1_000), slot.end_us.div_euclid(1_000))));
    };
    Windows::by(assign).with_lateness(lateness_ms)
}

fn key(item: &BarTrade, key: &mut Vec<u8>) {
    key.extend_from_slice(item.instrument.as_bytes());
    key.push(0);
    key.extend_from_slice(item.market.as_bytes());
}

fn say(place: usize, result: &WindowResult<BarPartial>) -> Result<Emission, Rejection> {
    let damaged = || Rejection { code: "CORRUPTED", reason: "a window has no trades or no key".to_owned() };
    let key = std::str::from_utf8(&result.key).ok().and_then(|key| key.split_once('\0'));
    let (instrument, market) = key.ok_or_else(damaged)?;
    let bar = Bar {
        interval: BAR_KINDS[place].interval,
        start_us: result.start_ms.saturating_mul(1_000),
        end_us: result.end_ms.saturating_mul(1_000),
        revision: result.revision,
        values: result.value.0.ok_or_else(damaged)?.finish(),
    };
    let event = BarEvent::of(&result.tenant, instrument, market, &bar);
    Ok(Emission::new(kinds::BAR, moment(bar.start_us), &event)?.about(instrument))
}
