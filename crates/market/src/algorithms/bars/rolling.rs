//! Mean, volatility and z-score over the last values of a series (the guide's windows are 10, 50 and 100).
//!
//! Nothing is ever subtracted from a running sum, so that no error builds up and a window that has left a spike behind
//! is as exact as one that never saw it. Moments merge (Chan, Golub & LeVeque, "Updating formulae and a pairwise
//! algorithm for computing sample variances", 1982) and the window is two stacks of them (Tangwongsan, Hirzel &
//! Schneider, "Low-latency sliding-window aggregation in worst-case constant time", 2017, section 2): constant time a
//! value on average.

use serde::{Deserialize, Serialize};

use super::BarFault;

/// Count, mean, squared deviations, and range of some values. Merging is associative up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// How many.
    pub count: u64,
    /// Their mean; 0 of none.
    pub mean: f64,
    /// The sum of the squared deviations from it.
    pub squared: f64,
    /// The smallest; infinity of none.
    pub min: f64,
    /// The largest; minus infinity of none.
    pub max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, mean: 0.0, squared: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Moments {
    /// Of one value.
    #[must_use]
    pub fn of(value: f64) -> Self {
        Self { count: 1, mean: value, squared: 0.0, min: value, max: value }
    }

    /// Of the values of both.
    #[must_use]
    pub fn merged(&self, other: &Self) -> Self {
        let (left, right) = (self.count as f64, other.count as f64);
        match (self.count, other.count) {
            (0, _) => return *other,
            (_, 0) => return *self,
            _ => {}
        }
        let total = left + right;
        let apart = other.mean - self.mean;
        Self {
            count: self.count + other.count,
            mean: self.mean + apart * (right / total),
            squared: self.squared + other.squared + apart * apart * (left * right / total),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// The standard deviation of the sample; none of fewer than two values.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squared / (self.count - 1) as f64).sqrt())
    }
}

/// The last values of a series.
#[derive(Debug, Clone)]
pub struct Rolling {
    length: usize,
    /// The older values, the oldest on top, each with the moments of itself and all under it.
    older: Vec<(f64, Moments)>,
    /// The newer values, the newest on top.
    newer: Vec<f64>,
    newer_moments: Moments,
}

/// What is known of the last values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RollingStatistics {
    /// How many there were: fewer than the window at the start.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The standard deviation of the sample.
    pub deviation: Option<f64>,
    /// How many deviations the last value is from the mean; none where there is no deviation.
    pub z_score: Option<f64>,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The largest less the smallest.
    pub range: f64,
}

impl Rolling {
    /// A window of that many values.
    ///
    /// # Errors
    /// `Window` for none.
    pub fn new(length: usize) -> Result<Self, BarFault> {
        if length == 0 {
            return Err(BarFault::Window);
        }
        Ok(Self { length, older: Vec::new(), newer: Vec::new(), newer_moments: Moments::default() })
    }

    /// Takes a value in, lets the oldest go where the window is full, and says what is known now.
    ///
    /// # Errors
    /// `OutOfRange` for a value that is not finite; the window is as before.
    pub fn push(&mut self, value: f64) -> Result<RollingStatistics, BarFault> {
        if !value.is_finite() {
            return Err(BarFault::OutOfRange { field: "value" });
        }
        if self.older.len() + self.newer.len() == self.length {
            self.drop_oldest();
        }
        self.newer.push(value);
        self.newer_moments = self.newer_moments.merged(&Moments::of(value));
        Ok(self.statistics(value))
    }

    fn drop_oldest(&mut self) {
        if self.older.is_empty() {
            let mut moments = Moments::default();
            for value in self.newer.drain(..).rev() {
                moments = Moments::of(value).merged(&moments);
                self.older.push((value, moments));
            }
            self.newer_moments = Moments::default();
        }
        self.older.pop();
    }

    fn statistics(&self, last: f64) -> RollingStatistics {
        let older = self.older.last().map(|(_, moments)| *moments).unwrap_or_default();
        let all = older.merged(&self.newer_moments);
        let deviation = all.deviation();
        RollingStatistics {
            count: all.count,
            mean: all.mean,
            deviation,
            z_score: deviation
                .filter(|deviation| *deviation > 0.0)
                .map(|deviation| (last - all.mean) / deviation),
            min: all.min,
            max: all.max,
            range: all.max - all.min,
        }
    }
}

/// How a price changes from one value to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The difference: for prices that can be zero or negative (power, gas).
    #[default]
    Difference,
    /// The logarithm of the quotient: for prices that are always positive.
    Logarithm,
}

/// The volatility of a price: the deviation of its last changes.
#[derive(Debug, Clone)]
pub struct Volatility {
    change: Change,
    previous: Option<f64>,
    changes: Rolling,
}

impl Volatility {
    /// Over that many changes.
    ///
    /// # Errors
    /// `Window` for none.
    pub fn new(change: Change, length: usize) -> Result<Self, BarFault> {
        Ok(Self { change, previous: None, changes: Rolling::new(length)? })
    }

    /// Takes a price in and says the volatility for one step, where there are two changes. Multiply by the root of the
    /// steps in a year for that of a year.
    ///
    /// # Errors
    /// `OutOfRange` for a price that is not finite, or not positive where logarithms are taken; it is passed over.
    pub fn push(&mut self, price: f64) -> Result<Option<f64>, BarFault> {
        if !price.is_finite() || (self.change == Change::Logarithm && price <= 0.0) {
            return Err(BarFault::OutOfRange { field: "price" });
        }
        let Some(previous) = self.previous.replace(price) else { return Ok(None) };
        let change = match self.change {
            Change::Difference => price - previous,
            Change::Logarithm => {
                // A quotient that no double holds is that of logarithms further apart than rounding matters for.
                let quotient = price / previous;
                if quotient.is_normal() { quotient.ln() } else { price.ln() - previous.ln() }
            }
        };
        Ok(self.changes.push(change)?.deviation)
    }
}

/// What is known of the prices of the last bars.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowStatistics {
    /// Of the prices themselves.
    pub prices: RollingStatistics,
    /// The deviation of the changes from bar to bar within the window, for one step; none of fewer than two changes.
    pub volatility: Option<f64>,
    /// What changes those are: of one kind in a window, because a deviation of both would have no unit.
    pub change: Change,
}

/// The prices of the last bars, one after another. Bars count, not time: a gap between two of them is not filled, and the
/// change over it is one change.
///
/// Changes are logarithms where every price of the window is positive, and differences where one is not, which power and
/// gas have.
#[derive(Debug, Clone)]
pub struct BarWindow {
    prices: Rolling,
    differences: Volatility,
    logarithms: Volatility,
}

impl BarWindow {
    /// A window of that many bars.
    ///
    /// # Errors
    /// `Window` for fewer than two.
    pub fn new(length: usize) -> Result<Self, BarFault> {
        let changes = length.saturating_sub(1);
        Ok(Self {
            prices: Rolling::new(length)?,
            differences: Volatility::new(Change::Difference, changes)?,
            logarithms: Volatility::new(Change::Logarithm, changes)?,
        })
    }

    /// Takes the price of the next bar in, and says what is known of the window that ends with it.
    ///
    /// # Errors
    /// `OutOfRange` for a price that is not finite; the window is as before.
    pub fn push(&mut self, price: f64) -> Result<WindowStatistics, BarFault> {
        let prices = self.prices.push(price)?;
        let difference = self.differences.push(price)?;
        // A price that has no logarithm is passed over. What is told of logarithms then spans it, and nobody is told: it is
        // out of their window by the time that it is out of the window of prices.
        let logarithm = if price > 0.0 { self.logarithms.push(price)? } else { None };
        let (volatility, change) = match prices.min > 0.0 {
            true => (logarithm, Change::Logarithm),
            false => (difference, Change::Difference),
        };
        Ok(WindowStatistics { prices, volatility, change })
    }
}
