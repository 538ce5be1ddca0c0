//! What is known of an interval from some of its trades: open, high, low, close, volume, in a form that merges.
//!
//! [`Partial::merge`] is associative and commutative to the bit, so that any split of the trades over threads, files or
//! restarts gives the same bar. Open and close are the first and last by event time, then by sequence, never by
//! arrival; trades equal in both are told apart by price, the lower one first.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{BarFault, exact};

/// A price that somebody paid or published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trade {
    /// When, microseconds since 1970.
    pub time_us: i64,
    /// The producer's running number; 0 where there is none.
    pub sequence: u64,
    /// In the currency and unit of the instrument.
    pub price: f64,
    /// Zero or more; 0 where it is not known.
    pub volume: f64,
}

/// A trade as the ends of a bar see it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Mark {
    time_us: i64,
    sequence: u64,
    price: f64,
}

impl Mark {
    fn order(&self, other: &Self) -> Ordering {
        let key = |mark: &Self| (mark.time_us, mark.sequence);
        key(self).cmp(&key(other)).then(self.price.total_cmp(&other.price))
    }
}

/// Some of the trades of an interval: at least one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    first: Mark,
    last: Mark,
    high: f64,
    low: f64,
    volume_units: i128,
    turnover_units: i128,
    trade_count: u64,
}

/// Open, high, low, close, volume.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ohlcv {
    /// The price of the first trade.
    pub open: f64,
    /// The highest.
    pub high: f64,
    /// The lowest.
    pub low: f64,
    /// The price of the last trade.
    pub close: f64,
    /// All volumes together.
    pub volume: f64,
    /// The mean price weighted by volume; none where there was no volume.
    pub vwap: Option<f64>,
    /// How many trades.
    pub trade_count: u64,
}

impl Partial {
    /// One trade.
    ///
    /// # Errors
    /// `OutOfRange` for a price or a volume that is not finite or beyond [`exact::MAGNITUDE_MAX`], or a volume below 0.
    pub fn of(trade: &Trade) -> Result<Self, BarFault> {
        let price = trade.price + 0.0; // Without the sign of a zero, which would make equal prices differ.
        let price_units = exact::units(price, "price")?;
        let volume_units = exact::units(trade.volume, "volume")?;
        if volume_units < 0 {
            return Err(BarFault::OutOfRange { field: "volume" });
        }
        let mark = Mark { time_us: trade.time_us, sequence: trade.sequence, price };
        Ok(Self {
            first: mark,
            last: mark,
            high: price,
            low: price,
            volume_units: i128::from(volume_units),
            turnover_units: i128::from(price_units) * i128::from(volume_units),
            trade_count: 1,
        })
    }

    /// Adds a trade.
    ///
    /// # Errors
    /// See [`Partial::of`]; nothing is added then.
    pub fn add(&mut self, trade: &Trade) -> Result<(), BarFault> {
        self.merge(&Self::of(trade)?)
    }

    /// Adds the trades of another part of the same interval.
    ///
    /// # Errors
    /// `Overflow` where a total passes 1e20; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), BarFault> {
        let volume_units = exact::sum(self.volume_units, other.volume_units)?;
        let turnover_units = exact::sum(self.turnover_units, other.turnover_units)?;
        self.volume_units = volume_units;
        self.turnover_units = turnover_units;
        self.trade_count += other.trade_count;
        if other.first.order(&self.first).is_lt() {
            self.first = other.first;
        }
        if other.last.order(&self.last).is_gt() {
            self.last = other.last;
        }
        self.high = self.high.max(other.high);
        self.low = self.low.min(other.low);
        Ok(())
    }

    /// The bar of these trades.
    #[must_use]
    pub fn finish(&self) -> Ohlcv {
        // The quotient is rounded and may leave the range of the prices by a last bit.
        let vwap = || exact::quotient(self.turnover_units, self.volume_units).clamp(self.low, self.high);
        Ohlcv {
            open: self.first.price,
            high: self.high,
            low: self.low,
            close: self.last.price,
            volume: exact::number(self.volume_units),
            vwap: (self.volume_units > 0).then(vwap),
            trade_count: self.trade_count,
        }
    }
}
