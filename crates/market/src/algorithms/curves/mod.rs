//! Curves from quoted tenors, and the shape of a year in power and gas.
//!
//! - [`Curve::bootstrap`]: par rates to discount factors, zero and forward rates.
//! - [`Method`]: how it runs between quotes. [`Curve::faults`]: what would be free money.
//! - [`seasonal`]: a price of a year or a month, spread over its months or hours as history says, with its mean kept.
//!
//! Rates are fractions of one (0.05 is five percent), terms are years, zero and forward rates are continuously
//! compounded. It refuses a curve that does not price its quotes, and it invents no quote: the ends run flat.

mod bootstrap;
mod interpolation;
mod monotone_convex;
mod pchip;
pub mod seasonal;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use interpolation::Interpolant;
pub use interpolation::Method;

const QUOTES_MAX: usize = 64;
const TERM_MAX: f64 = 100.0;
const RATE_MAX: f64 = 1.0;
const SAMPLES: usize = 32;
/// Forward rates above minus this are rounding, not arbitrage.
const ROUNDING: f64 = 1e-12;

/// The rate at which a bond of a term costs what it pays back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ParQuote {
    /// In years.
    pub term_years: f64,
    /// A fraction of one, compounded as often as coupons are paid; simple for terms of less than one coupon.
    pub rate: f64,
}

/// Why there is no curve.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CurveFault {
    /// None, or more than anyone quotes.
    #[error("a curve needs 1 to {QUOTES_MAX} quotes")]
    Count,
    /// A term that is not within reason, or not after the one before.
    #[error("the term {0} is not above the one before and at most {TERM_MAX} years")]
    Term(f64),
    /// A rate that is not within reason.
    #[error("the rate {0} is not a number between -1 and 1; 0.05 is five percent")]
    Rate(f64),
    /// Coupons that nobody pays.
    #[error("coupons are paid 1 to 12 times a year")]
    Frequency,
    /// No discount factors price these quotes with this interpolation.
    #[error("no curve prices all quotes; look for one that is out of line")]
    NoCurve,
}

/// What would be free money.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Arbitrage {
    /// The quotes themselves imply a negative forward rate between two terms.
    ImpliedNegativeForward {
        /// In years.
        from_years: f64,
        /// In years.
        until_years: f64,
        /// The mean forward rate between them.
        rate: f64,
    },
    /// The interpolation makes one where the quotes imply none.
    InterpolatedNegativeForward {
        /// In years.
        from_years: f64,
        /// In years.
        until_years: f64,
        /// The lowest forward rate that was met.
        rate: f64,
    },
}

/// One point of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// In years.
    pub term_years: f64,
    /// What one in that many years is worth now.
    pub discount: f64,
    /// Continuously compounded.
    pub zero_rate: f64,
    /// At that moment, continuously compounded.
    pub forward_rate: f64,
}

/// What money at a later time is worth now.
#[derive(Debug, Clone)]
pub struct Curve {
    interpolant: Interpolant,
    frequency: u32,
    method: Method,
    last_term: f64,
}

impl Curve {
    /// The curve that prices every quote at par. Terms rise; `frequency` is how often a year coupons are paid (2 for US
    /// Treasuries).
    ///
    /// # Errors
    /// See [`CurveFault`].
    pub fn bootstrap(quotes: &[ParQuote], frequency: u32, method: Method) -> Result<Self, CurveFault> {
        if quotes.is_empty() || quotes.len() > QUOTES_MAX {
            return Err(CurveFault::Count);
        }
        if !(1..=12).contains(&frequency) {
            return Err(CurveFault::Frequency);
        }
        let mut before = 0.0;
        for quote in quotes {
            // Written so that NaN is refused too.
            let is_term = quote.term_years > before && quote.term_years <= TERM_MAX;
            let is_rate = quote.rate.abs() < RATE_MAX;
            if !is_term {
                return Err(CurveFault::Term(quote.term_years));
            }
            if !is_rate {
                return Err(CurveFault::Rate(quote.rate));
            }
            before = quote.term_years;
        }
        let zeros = bootstrap::zeros(quotes, frequency, method)?;
        let times: Vec<f64> = quotes.iter().map(|quote| quote.term_years).collect();
        let interpolant = Interpolant::new(method, &times, &zeros);
        Ok(Self { interpolant, frequency, method, last_term: before })
    }

    /// How it runs between quotes.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// Everything about one term. A term below zero is taken for zero.
    #[must_use]
    pub fn point(&self, term_years: f64) -> CurvePoint {
        let term_years = term_years.max(0.0);
        let point = self.interpolant.at(term_years);
        // At zero the zero rate is the limit, which is the forward rate.
        let zero_rate = if term_years > 0.0 { point.log / term_years } else { point.forward };
        CurvePoint { term_years, discount: (-point.log).exp(), zero_rate, forward_rate: point.forward }
    }

    /// What one in that many years is worth now.
    #[must_use]
    pub fn discount(&self, term_years: f64) -> f64 {
        self.point(term_years).discount
    }

    /// The mean forward rate between two terms, continuously compounded; the one at the moment where they are the same.
    #[must_use]
    pub fn forward_between(&self, from_years: f64, until_years: f64) -> f64 {
        let (from, until) = (from_years.max(0.0), until_years.max(0.0));
        if from == until {
            return self.point(from).forward_rate;
        }
        (self.interpolant.at(until).log - self.interpolant.at(from).log) / (until - from)
    }

    /// The rate at which a bond of that term costs what it pays back: the quote, at a quoted term.
    ///
    /// # Errors
    /// `Term` for one that is not above zero and within reason.
    pub fn par_rate(&self, term_years: f64) -> Result<f64, CurveFault> {
        if term_years > 0.0 && term_years <= TERM_MAX {
            Ok(bootstrap::par_rate(&self.interpolant, term_years, self.frequency))
        } else {
            Err(CurveFault::Term(term_years))
        }
    }

    /// A snapshot at `count` terms, evenly apart up to `horizon_years` (the guide has 12 for 1m, 3m, 6m and 1y).
    #[must_use]
    pub fn snapshot(&self, horizon_years: f64, count: usize) -> Vec<CurvePoint> {
        (1..=count).map(|place| self.point(horizon_years * place as f64 / count as f64)).collect()
    }

    /// The longest quoted term, in years. Beyond it the forward rate is assumed to stay what it was.
    #[must_use]
    pub fn last_term_years(&self) -> f64 {
        self.last_term
    }

    /// Where it would be free money to borrow and lend, between quoted terms: negative forward rates, told apart by
    /// whether the quotes or the interpolation made them. Real where rates are negative; else an error.
    #[must_use]
    pub fn faults(&self) -> Vec<Arbitrage> {
        let mut found = Vec::new();
        for (from_years, until_years, rate) in self.interpolant.implied_forwards() {
            if rate < -ROUNDING {
                found.push(Arbitrage::ImpliedNegativeForward { from_years, until_years, rate });
                continue;
            }
            let samples = (0..=SAMPLES).map(|sample| {
                // Just inside the section: at a node the forward may jump.
                let share = (sample as f64 / SAMPLES as f64).clamp(1e-9, 1.0);
                self.interpolant.at(from_years + share * (until_years - from_years)).forward
            });
            let lowest = samples.fold(f64::INFINITY, f64::min);
            if lowest < -ROUNDING {
                let rate = lowest;
                found.push(Arbitrage::InterpolatedNegativeForward { from_years, until_years, rate });
            }
        }
        found
    }
}
