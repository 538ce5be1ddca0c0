//! Bars, spreads and rolling statistics, from trades and quotes in any order.
//!
//! - [`Partial`]: some trades of an interval; merges in any order and grouping to the same bits.
//! - [`Calendar`], [`Interval`], [`Slots`]: which interval of an exchange's clock an instant is in.
//! - [`BarSeries`]: the bars of one instrument under a watermark, with revisions.
//! - [`gaps()`]: where nobody traded. [`SpreadPartial`], [`Rolling`], [`Volatility`], [`BarWindow`]: what the guide calls
//!   custom.
//!
//! It refuses prices that nobody paid: a backfilled one ([`crate::algorithms::ticks::Tick::traded_price`]) is no trade,
//! and a gap stays a gap. To add an interval: `Interval`. To add a statistic that must not depend on the order of
//! arrival: a struct with `of`, `merge` and `finish`, and the property test of `Partial`.

mod calendar;
pub mod exact;
pub mod gaps;
mod interval;
mod partial;
mod rolling;
mod series;
mod slots;
mod spread;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use calendar::{Calendar, CalendarSettings, Slot};
pub use gaps::gaps;
pub use interval::Interval;
pub use partial::{Ohlcv, Partial, Trade};
pub use rolling::{BarWindow, Change, Moments, Rolling, RollingStatistics, Volatility, WindowStatistics};
pub use series::{Admission, Bar, BarSeries, BarSettings, SeriesState};
pub use slots::Slots;
pub use spread::{Quote, QuoteState, Spread, SpreadPartial, SpreadSummary};

/// Why something cannot be in a bar.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BarFault {
    /// A number that is not finite, too large, or of the wrong sign.
    #[error("{field} is not a finite number within its range")]
    OutOfRange {
        /// The field.
        field: &'static str,
    },
    /// A total that does not fit.
    #[error("the total of an interval is too large")]
    Overflow,
    /// Not the name of an interval.
    #[error("`{0}` is not an interval; minutes that divide 60 (`5m`), `1h` or `1d`")]
    Interval(String),
    /// Not an exchange.
    #[error("the calendar cannot be used: {0}")]
    Calendar(String),
    /// Beyond the years that a calendar has.
    #[error("the time is not between the years -9999 and 9999")]
    Time,
    /// Too many intervals in one question.
    #[error("the range has too many intervals; ask for less")]
    TooLong,
    /// A window of no values.
    #[error("a window has at least one value")]
    Window,
}
