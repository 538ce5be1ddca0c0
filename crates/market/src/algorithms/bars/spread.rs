//! What real quotes say: the spread between the best bid and the best ask, of one quote and of those of an interval, in a form
//! that merges like [`super::Partial`].
//!
//! A quote whose bid is above its ask is crossed, one whose bid is its ask is locked: an error, or a moment between two
//! updates. Both are counted and kept out of means and ranges, which a spread of nothing or less would bend unseen (Holden &
//! Jacobsen, "Liquidity measurement problems in fast, competitive markets", 2014, section 2, leave them out too). So is a
//! quote of one side, which has no spread. It refuses a side that nobody quoted: none is taken from an earlier quote.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{BarFault, exact};

const BASIS_POINTS: f64 = 10_000.0;

/// The best prices at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quote {
    /// When, microseconds since 1970.
    pub time_us: i64,
    /// The producer's running number; 0 where there is none.
    pub sequence: u64,
    /// What somebody would pay.
    pub bid: Option<f64>,
    /// What somebody would take.
    pub ask: Option<f64>,
}

/// Whether a quote has a spread that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuoteState {
    /// The bid is below the ask.
    Sound,
    /// They are the same.
    Locked,
    /// The bid is above the ask.
    Crossed,
    /// One of them is not there.
    OneSided,
}

impl QuoteState {
    /// What says so among the quality flags; none where all is well.
    #[must_use]
    pub fn flag(self) -> Option<&'static str> {
        match self {
            Self::Sound => None,
            Self::Locked => Some("locked"),
            Self::Crossed => Some("crossed"),
            Self::OneSided => Some("one_sided"),
        }
    }
}

impl Quote {
    /// Whether its spread means something.
    #[must_use]
    pub fn state(&self) -> QuoteState {
        match (self.bid, self.ask) {
            (Some(bid), Some(ask)) if bid < ask => QuoteState::Sound,
            (Some(bid), Some(ask)) if bid > ask => QuoteState::Crossed,
            (Some(_), Some(_)) => QuoteState::Locked,
            _ => QuoteState::OneSided,
        }
    }

    /// The middle between bid and ask.
    #[must_use]
    pub fn middle(&self) -> Option<f64> {
        Some(self.bid?.midpoint(self.ask?))
    }

    /// The ask less the bid, as decimals: below zero where it is crossed.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let (bid, ask) = (self.bid?, self.ask?);
        Some(match (exact::units(bid, "bid"), exact::units(ask, "ask")) {
            (Ok(bid), Ok(ask)) => exact::number(i128::from(ask) - i128::from(bid)),
            _ => ask - bid,
        })
    }

    /// The spread in ten-thousandths of the middle; none where that is zero or below, as power prices may be.
    #[must_use]
    pub fn basis_points(&self) -> Option<f64> {
        let middle = self.middle().filter(|middle| *middle > 0.0)?;
        Some(self.spread()? / middle * BASIS_POINTS).filter(|points| points.is_finite())
    }
}

/// The quotes of an interval, or some of them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SpreadPartial {
    sum_units: i128,
    points_units: i128,
    range_units: Option<(i64, i64)>,
    last: Option<Last>,
    quote_count: u64,
    /// Of them those that have no basis points.
    without_points_count: u64,
    crossed_count: u64,
    locked_count: u64,
    one_sided_count: u64,
}

/// Time, number, bid and ask.
type Last = (i64, u64, f64, f64);

/// What the quotes of an interval say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SpreadSummary {
    /// The spread of the sound ones; none where there are none.
    pub spread: Option<Spread>,
    /// Quotes that are sound.
    pub quote_count: u64,
    /// Quotes that are crossed.
    pub crossed_count: u64,
    /// Quotes that are locked.
    pub locked_count: u64,
    /// Quotes of one side.
    pub one_sided_count: u64,
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
    /// The mean in basis points; none where one of the quotes has none.
    pub mean_basis_points: Option<f64>,
}

impl SpreadPartial {
    /// One quote.
    ///
    /// # Errors
    /// `OutOfRange` for a bid or an ask that is not finite or beyond [`exact::MAGNITUDE_MAX`].
    pub fn of(quote: &Quote) -> Result<Self, BarFault> {
        let bid_units = exact::units(quote.bid.unwrap_or(0.0), "bid")?;
        let ask_units = exact::units(quote.ask.unwrap_or(0.0), "ask")?;
        let (bid, ask) = match (quote.state(), quote.bid, quote.ask) {
            (QuoteState::Sound, Some(bid), Some(ask)) => (bid, ask),
            (QuoteState::Crossed, ..) => return Ok(Self { crossed_count: 1, ..Self::default() }),
            (QuoteState::Locked, ..) => return Ok(Self { locked_count: 1, ..Self::default() }),
            _ => return Ok(Self { one_sided_count: 1, ..Self::default() }),
        };
        // Two magnitudes of 9e18 may differ by more than 64 bits hold.
        let units =
            i64::try_from(i128::from(ask_units) - i128::from(bid_units)).map_err(|_| BarFault::Overflow)?;
        // A quote whose middle is next to nothing has more of them than can be added up.
        let points_units = quote.basis_points().and_then(|points| exact::units(points, "basis_points").ok());
        Ok(Self {
            sum_units: i128::from(units),
            points_units: points_units.map_or(0, i128::from),
            range_units: Some((units, units)),
            last: Some((quote.time_us, quote.sequence, bid + 0.0, ask + 0.0)),
            quote_count: 1,
            without_points_count: u64::from(points_units.is_none()),
            ..Self::default()
        })
    }

    /// Adds the quotes of another part of the same interval.
    ///
    /// # Errors
    /// `Overflow` where a total passes 1e20; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), BarFault> {
        let sum_units = exact::sum(self.sum_units, other.sum_units)?;
        self.points_units = exact::sum(self.points_units, other.points_units)?;
        self.sum_units = sum_units;
        self.quote_count += other.quote_count;
        self.without_points_count += other.without_points_count;
        self.crossed_count += other.crossed_count;
        self.locked_count += other.locked_count;
        self.one_sided_count += other.one_sided_count;
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

    /// What these quotes say.
    #[must_use]
    pub fn finish(&self) -> SpreadSummary {
        SpreadSummary {
            spread: self.spread(),
            quote_count: self.quote_count,
            crossed_count: self.crossed_count,
            locked_count: self.locked_count,
            one_sided_count: self.one_sided_count,
        }
    }

    fn spread(&self) -> Option<Spread> {
        let (low, high) = self.range_units?;
        let (time_us, sequence, bid, ask) = self.last?;
        let last = Quote { time_us, sequence, bid: Some(bid), ask: Some(ask) };
        let count = self.quote_count as f64;
        let points = exact::number(self.points_units) / count;
        Some(Spread {
            // The quotient is rounded and may leave the range by a last bit.
            mean: (exact::number(self.sum_units) / count)
                .clamp(exact::number(low.into()), exact::number(high.into())),
            min: exact::number(i128::from(low)),
            max: exact::number(i128::from(high)),
            last: last.spread()?,
            last_middle: last.middle()?,
            mean_basis_points: (self.without_points_count == 0).then_some(points),
        })
    }
}

fn is_later(one: Option<&Last>, two: Option<&Last>) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => {
            let by_time = (one.0, one.1).cmp(&(two.0, two.1));
            by_time.then(one.2.total_cmp(&two.2)).then(one.3.total_cmp(&two.3)) == Ordering::Greater
        }
        (one, two) => one.is_some() && two.is_none(),
    }
}
