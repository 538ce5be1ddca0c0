//! The `Limiter` port: how much may pass in a time, counted once for all processes that share the engine.
//!
//! The method is the generic cell rate algorithm (ITU-T I.371, annex A): of each key only the time at which its
//! whole burst will be free again is kept, so that one question is one read and one write, and nothing happens at
//! the edge of a window.
//!
//! Rules every engine keeps: a call is charged to all of its limits or to none, at one moment; what was refused is
//! charged nowhere; a key that was left alone long enough has its whole burst again and never more; a key whose
//! rate changes keeps its time. Losing the engine's memory lets one more burst pass.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Error, Result, Scope, codes};

/// The most limits of one call.
pub(crate) const MAX_LIMITS: usize = 8;

// The longest time in which a whole burst comes back; it keeps every number exact in a 64-bit float.
const MAX_REFILL: Duration = Duration::from_hours(30 * 24);

/// So many in each period, in bursts of at most so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval_us: u64,
    burst: u32,
}

impl Rate {
    /// `count` in each `period`, spread evenly, and at most `burst` at once after a rest. The time between two is
    /// kept in whole microseconds.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for zero of anything, for more than one in a microsecond, and where a whole burst takes
    /// longer than 30 days to come back.
    pub fn new(count: u32, period: Duration, burst: u32) -> Result<Self> {
        let invalid = |field: &str, message: &str| {
            Err(Error::new(codes::VALIDATION_ERROR, message.to_owned()).with_field(field))
        };
        if count == 0 {
            return invalid("count", "a rate lets at least one pass in a period");
        }
        if burst == 0 {
            return invalid("burst", "a burst is at least one");
        }
        let interval_us = (period.as_micros() + u128::from(count) / 2) / u128::from(count);
        if interval_us == 0 {
            return invalid("period", "a rate is at most one in a microsecond");
        }
        if interval_us * u128::from(burst) > MAX_REFILL.as_micros() {
            return invalid("period", "a whole burst comes back within 30 days");
        }
        Ok(Self { interval_us: u64::try_from(interval_us).unwrap_or(u64::MAX), burst })
    }

    /// The most that passes at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time after which one more may pass, in microseconds.
    #[must_use]
    pub fn interval_us(&self) -> u64 {
        self.interval_us
    }

    /// How long a whole burst takes to come back, in microseconds.
    #[must_use]
    pub fn refill_us(&self) -> u64 {
        self.interval_us * u64::from(self.burst)
    }

    /// What `cost` takes of it, in microseconds.
    #[must_use]
    pub fn cost_us(&self, cost: u32) -> u64 {
        self.interval_us * u64::from(cost)
    }

    /// Where a key stands from which `owed_us` is missing to its whole burst, and of which `cost` more was wanted
    /// in vain (0 when it was given).
    #[must_use]
    pub fn standing(&self, owed_us: u64, cost: u32) -> Standing {
        let free_us = self.refill_us().saturating_sub(owed_us);
        Standing {
            remaining: u32::try_from(free_us / self.interval_us).unwrap_or(u32::MAX),
            retry_after: Duration::from_micros(self.cost_us(cost).saturating_sub(free_us)),
            reset_after: Duration::from_micros(owed_us),
        }
    }
}

/// One limit of a call.
#[derive(Debug, Clone, Copy)]
pub struct Limit<'a> {
    /// What is counted, for example `key:ID` or `tenant`; at least one byte.
    pub key: &'a str,
    /// How much of it may pass.
    pub rate: Rate,
}

/// Where a limit stands after a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many may pass at once now.
    pub remaining: u32,
    /// When the same call can pass this limit; zero where it could.
    pub retry_after: Duration,
    /// When the whole burst is free again.
    pub reset_after: Duration,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may pass.
    pub admitted: bool,
    /// Where each limit stands, in the order of the call.
    pub standings: Vec<Standing>,
}

/// How much may pass, shared by all who ask the same engine.
#[async_trait]
pub trait Limiter: Send + Sync + Debug {
    /// Takes `cost` of every limit, or of none where one has too little. A cost of zero only looks.
    ///
    /// # Errors
    /// `TOO_LARGE` when `cost` is over a burst, so that it could never pass; those of [`check_take`].
    async fn take(&self, scope: &Scope, limits: &[Limit<'_>], cost: u32) -> Result<Verdict>;
}

/// Checks a call. Every engine calls it first.
///
/// # Errors
/// `TOO_LARGE` when `cost` is over a burst; `VALIDATION_ERROR` for no limit, more than 8, an empty key, or a key
/// that is given twice.
pub fn check_take(limits: &[Limit<'_>], cost: u32) -> Result<()> {
    let invalid = |message: String| Err(Error::new(codes::VALIDATION_ERROR, message).with_field("limits"));
    if limits.is_empty() || limits.len() > MAX_LIMITS {
        return invalid(format!("a call has 1 to {MAX_LIMITS} limits, not {}", limits.len()));
    }
    let mut seen = BTreeSet::new();
    for limit in limits {
        if limit.key.is_empty() {
            return invalid("a key has at least one byte".to_owned());
        }
        if !seen.insert(limit.key) {
            return invalid(format!("`{}` is given twice", limit.key.escape_debug()));
        }
        if cost > limit.rate.burst {
            let message = format!("at most {} pass at once, never {cost}", limit.rate.burst);
            return Err(Error::new(codes::TOO_LARGE, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn rates_are_checked() {
        let check = |count, period, burst, field: Option<&str>| {
            let found = Rate::new(count, period, burst).err();
            assert_eq!(found.as_ref().and_then(Error::field), field, "{count} {period:?} {burst}");
        };
        check(1_000, MINUTE, 100, None);
        check(u32::MAX, MINUTE * 90, 1, None);
        check(0, MINUTE, 1, Some("count"));
        check(1, MINUTE, 0, Some("burst"));
        check(1, Duration::ZERO, 1, Some("period"));
        check(3_000_000, Duration::from_secs(1), 1, Some("period"));
        check(1, MAX_REFILL, 1, None);
        check(1, MAX_REFILL, 2, Some("period"));
        check(1, Duration::MAX, u32::MAX, Some("period"));
    }

    #[test]
    fn a_standing_says_how_much_and_when() {
        let rate = Rate::new(60, MINUTE, 10).unwrap();
        let second = Duration::from_secs(1);
        let check = |owed_us, cost, remaining, retry_after, reset_after| {
            let expected = Standing { remaining, retry_after, reset_after };
            assert_eq!(rate.standing(owed_us, cost), expected, "{owed_us} {cost}");
        };
        check(0, 0, 10, Duration::ZERO, Duration::ZERO);
        check(1_000_000, 0, 9, Duration::ZERO, second);
        check(9_500_000, 1, 0, second / 2, second * 19 / 2);
        check(10_000_000, 3, 0, second * 3, second * 10);
        check(5_000_000, 5, 5, Duration::ZERO, second * 5);
    }

    #[test]
    fn calls_are_checked() {
        let rate = Rate::new(60, MINUTE, 10).unwrap();
        let check = |keys: &[&str], cost, code: Option<kernel::ErrorCode>| {
            let limits: Vec<_> = keys.iter().map(|key| Limit { key, rate }).collect();
            assert_eq!(check_take(&limits, cost).err().map(|error| error.code()), code, "{keys:?} {cost}");
        };
        check(&["a"], 10, None);
        check(&["a", "b"], 0, None);
        check(&[], 1, Some(codes::VALIDATION_ERROR));
        check(&["a", "b", "c", "d", "e", "f", "g", "h", "i"], 1, Some(codes::VALIDATION_ERROR));
        check(&[""], 1, Some(codes::VALIDATION_ERROR));
        check(&["a", "a"], 1, Some(codes::VALIDATION_ERROR));
        check(&["a"], 11, Some(codes::TOO_LARGE));
    }
}
