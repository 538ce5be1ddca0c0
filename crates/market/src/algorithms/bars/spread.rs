//! The spread between the best bid and the best ask of an interval, from real quotes, in a form that merges like
//! [`super::Partial`].
//!
//! A quote whose bid is above its ask is counted as crossed and kept out of the spread: it is an error or a moment
//! between two updates, and a negative spread would hide both.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{BarFault, exact};

/// The best prices at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quote {
    /// When, microseconds since 1970.
    pub time_us: i64,
    /// The producer's running number; 0 where there is none.
    pub sequence: u64,
    /// What somebody would pay.
    pub bid: f64,
    /// What somebody would take.
    pub ask: f64,
}

/// The quotes of an interval, or some of them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SpreadPartial {
    sum_units: i128,
    range_units: Option<(i64, i64)>,
    last: Option<(i64, u64, f64, f64)>,
    quote_count: u64,
    crossed_count: u64,
}

/// The spread of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean over the quotes; each counts once, however long it stood.
    pub mean: f64,
    /// The narrowest.
    pub min: f64,
    /// The widest.
    pub max: f64,
    /// The last by event time.
    pub last: f64,
    /// The middle of the last quote.
    pub last_middle: f64,
    /// Quotes that were not crossed.
    pub quote_count: u64,
    /// Quotes that were.
    pub crossed_count: u64,
}

impl SpreadPartial {
    /// One quote.
    ///
    /// # Errors
    /// `OutOfRange` for a bid or an ask that is not finite or beyond [`exact::MAGNITUDE_MAX`].
    pub fn of(quote: &Quote) -> Result<Self, BarFault> {
        let bid_units = exact::units(quote.bid, "bid")?;
        let ask_units = exact::units(quote.ask, "ask")?;
        if bid_units > ask_units {
            return Ok(Self { crossed_count: 1, ..Self::default() });
        }
        // Two magnitudes of 9e18 may differ by more than 64 bits hold.
        let units =
            i64::try_from(i128::from(ask_units) - i128::from(bid_units)).map_err(|_| BarFault::Overflow)?;
        Ok(Self {
            sum_units: i128::from(units),
            range_units: Some((units, units)),
            last: Some((quote.time_us, quote.sequence, quote.bid + 0.0, quote.ask + 0.0)),
            quote_count: 1,
            crossed_count: 0,
        })
    }

    /// Adds the quotes of another part of the same interval.
    ///
    /// # Errors
    /// `Overflow` where a total passes 1e20; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), BarFault> {
        self.sum_units = exact::sum(self.sum_units, other.sum_units)?;
        self.quote_count += other.quote_count;
        self.crossed_count += other.crossed_count;
        self.range_units = match (self.range_units, other.range_units) {
            (Some((low, high)), Some((other_low, other_high))) => {
                Some((low.min(other_low), high.max(other_high)))
            }
            (one, two) => one.or(two),
        };
        if is_later(other.last.as_ref(), self.last.as_ref()) {
            self.last = other.last;
        }
        Ok(())
    }

    /// The spread of these quotes; none where all were crossed.
    #[must_use]
    pub fn finish(&self) -> Option<Spread> {
        let (low, high) = self.range_units?;
        let (_, _, bid, ask) = self.last?;
        Some(Spread {
            mean: exact::number(self.sum_units) / self.quote_count as f64,
            min: exact::number(i128::from(low)),
            max: exact::number(i128::from(high)),
            last: exact::number(
                i128::from(exact::units(ask, "ask").ok()?) - i128::from(exact::units(bid, "bid").ok()?),
            ),
            last_middle: bid.midpoint(ask),
            quote_count: self.quote_count,
            crossed_count: self.crossed_count,
        })
    }
}

type Last = (i64, u64, f64, f64);

fn is_later(one: Option<&Last>, two: Option<&Last>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => {
            let by_time = (one.0, one.1).cmp(&(two.0, two.1));
            by_time.then(one.2.total_cmp(&two.2)).then(one.3.total_cmp(&two.3)) == Ordering::Greater
        }
        (one, two) => one.is_some() && two.is_none(),
    }
}
