//! The bars of one instrument as its trades come in, in whatever order.
//!
//! A bar is told once the watermark has passed its end, and told again, with the next revision, when a late trade has
//! changed it: nothing is overwritten in silence. Once the watermark has passed its end by the allowed lateness it is
//! closed for good, and a trade that comes still later is counted as too late, never dropped unseen. What is told
//! depends on the trades and on the watermarks between them, not on the order of trades between two watermarks.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{BarFault, Calendar, Interval, Ohlcv, Partial, Slots, Trade};

/// Which bars are made, and how long they wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BarSettings {
    /// The bars of the guide: 5m, 1h, 1d.
    pub intervals: Vec<Interval>,
    /// How long after its end a bar can still change, in microseconds of the watermark.
    pub allowed_lateness_us: i64,
}

impl Default for BarSettings {
    /// 5m, 1h, 1d; ten minutes, the guide's `LATE_DATA_THRESHOLD`.
    fn default() -> Self {
        Self {
            intervals: vec![Interval::FIVE_MINUTES, Interval::HOUR, Interval::Day],
            allowed_lateness_us: 600_000_000,
        }
    }
}

/// One bar, as told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// How long it is.
    pub interval: Interval,
    /// Its first microsecond.
    pub start_us: i64,
    /// The microsecond after its last.
    pub end_us: i64,
    /// How often it has changed since it was first told: 0, 1, 2, ...
    pub revision: u32,
    /// What was traded.
    #[serde(flatten)]
    pub values: Ohlcv,
}

/// What became of a trade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Admission {
    /// Bars that it is in.
    pub bars: u32,
    /// Bars that were closed before it came.
    pub too_late: u32,
}

/// A bar that can still change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    end_us: i64,
    partial: Partial,
    /// The revision that is told next.
    revision: u32,
    /// Whether it has changed since it was told.
    changed: bool,
}

/// What must be kept of a series over a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesState {
    watermark_us: i64,
    open: Vec<(Interval, BTreeMap<i64, Open>)>,
}

/// The bars of one instrument.
#[derive(Debug, Clone)]
pub struct BarSeries {
    calendar: Arc<Calendar>,
    allowed_lateness_us: i64,
    slots: Slots,
    state: SeriesState,
}

impl BarSeries {
    /// No trades yet.
    #[must_use]
    pub fn new(calendar: Arc<Calendar>, settings: &BarSettings) -> Self {
        let open = settings.intervals.iter().map(|interval| (*interval, BTreeMap::new())).collect();
        Self::restore(calendar, settings, SeriesState { watermark_us: i64::MIN, open })
    }

    /// Goes on from a state. Intervals that the settings no longer have are forgotten; new ones begin empty.
    #[must_use]
    pub fn restore(calendar: Arc<Calendar>, settings: &BarSettings, mut state: SeriesState) -> Self {
        let mut kept = |interval: &Interval| {
            let place = state.open.iter().position(|(known, _)| known == interval);
            (*interval, place.map(|place| state.open.swap_remove(place).1).unwrap_or_default())
        };
        state.open = settings.intervals.iter().map(&mut kept).collect();
        Self {
            calendar,
            allowed_lateness_us: settings.allowed_lateness_us.max(0),
            slots: Slots::default(),
            state,
        }
    }

    /// What must be kept over a restart.
    #[must_use]
    pub fn state(&self) -> &SeriesState {
        &self.state
    }

    /// How many bars can still change.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.state.open.iter().map(|(_, bars)| bars.len()).sum()
    }

    /// Adds a trade to every bar that it is in.
    ///
    /// # Errors
    /// See [`Partial::of`] and [`Partial::merge`]; where its numbers are refused no bar has changed.
    pub fn add(&mut self, trade: &Trade) -> Result<Admission, BarFault> {
        let one = Partial::of(trade)?;
        let closed_before_us = self.state.watermark_us.saturating_sub(self.allowed_lateness_us);
        let mut admission = Admission::default();
        for (interval, bars) in &mut self.state.open {
            let slot = self.slots.slot(&self.calendar, *interval, trade.time_us)?;
            if slot.end_us <= closed_before_us {
                admission.too_late += 1;
                continue;
            }
            match bars.get_mut(&slot.start_us) {
                Some(open) => {
                    open.partial.merge(&one)?;
                    open.changed = true;
                }
                None => {
                    let open = Open { end_us: slot.end_us, partial: one, revision: 0, changed: true };
                    bars.insert(slot.start_us, open);
                }
            }
            admission.bars += 1;
        }
        Ok(admission)
    }

    /// Says that all trades before `watermark_us` should be there. Appends to `told` what is new or has changed, by
    /// interval, then by time. A watermark never goes back: an earlier one tells what has changed since.
    pub fn advance(&mut self, watermark_us: i64, told: &mut Vec<Bar>) {
        self.state.watermark_us = self.state.watermark_us.max(watermark_us);
        let watermark_us = self.state.watermark_us;
        let closed_before_us = watermark_us.saturating_sub(self.allowed_lateness_us);
        for (interval, bars) in &mut self.state.open {
            for (start_us, open) in bars.iter_mut().take_while(|(_, open)| open.end_us <= watermark_us) {
                if !std::mem::take(&mut open.changed) {
                    continue;
                }
                told.push(Bar {
                    interval: *interval,
                    start_us: *start_us,
                    end_us: open.end_us,
                    revision: open.revision,
                    values: open.partial.finish(),
                });
                open.revision = open.revision.saturating_add(1);
            }
            while bars.first_key_value().is_some_and(|(_, open)| open.end_us <= closed_before_us) {
                bars.pop_first();
            }
        }
    }
}
