//! The quality flags of the guide, with its names and limits.
//!
//! | flag | when |
//! |---|---|
//! | `valid` | no other flag |
//! | `price_negative` | the price is below zero: real in power and gas, so told and not refused |
//! | `out_of_range` | the price is above the limit (10,000), or below the lower one where one is set |
//! | `volume_spike` | the volume is above the limit (1,000,000) |
//! | `missing_metadata` | the instrument is not known |
//! | `late_arrival` | it came more than 300 s after it happened |
//! | `duplicate` | it was there before |
//!
//! The guide's lower price limit of zero would flag every negative price twice, so that none is set unless configured.
//! A tick from the future is refused, as in the guide, beyond a tolerance for clocks that differ. A spike of the price is
//! not flagged: the guide's threshold for it was never used.

use schemars::JsonSchema;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize as Derived};

const MICROSECONDS: i64 = 1_000_000;
/// The flag of what has no other.
pub const VALID: &str = "valid";

/// One flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum QualityFlag {
    /// The price is below zero.
    PriceNegative = 1,
    /// The volume is above the limit.
    VolumeSpike = 1 << 1,
    /// The instrument is not known.
    MissingMetadata = 1 << 2,
    /// It came late.
    LateArrival = 1 << 3,
    /// It was there before.
    Duplicate = 1 << 4,
    /// The price is beyond a limit.
    OutOfRange = 1 << 5,
}

impl QualityFlag {
    const ALL: [(Self, &'static str); 6] = [
        (Self::PriceNegative, "price_negative"),
        (Self::VolumeSpike, "volume_spike"),
        (Self::MissingMetadata, "missing_metadata"),
        (Self::LateArrival, "late_arrival"),
        (Self::Duplicate, "duplicate"),
        (Self::OutOfRange, "out_of_range"),
    ];
}

/// The flags of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QualityFlags(u8);

impl QualityFlags {
    /// Whether there is none.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.0 == 0
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(self, flag: QualityFlag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// Their names, always in the same order; `valid` where there are none.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set = QualityFlag::ALL.into_iter().filter(move |(flag, _)| self.contains(*flag));
        self.is_valid().then_some(VALID).into_iter().chain(set.map(|(_, name)| name))
    }

    fn insert_if(&mut self, flag: QualityFlag, is_set: bool) {
        if is_set {
            self.0 |= flag as u8;
        }
    }
}

impl Serialize for QualityFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for name in self.names() {
            list.serialize_element(name)?;
        }
        list.end()
    }
}

/// The limits.
#[derive(Debug, Clone, PartialEq, Derived, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QualityLimits {
    /// A lower price is `out_of_range`; none does not look.
    pub price_min: Option<f64>,
    /// A higher price is `out_of_range`.
    pub price_max: f64,
    /// A higher volume is a `volume_spike`.
    pub volume_max: f64,
    /// Later is a `late_arrival`.
    pub late_after_seconds: u32,
    /// Further in the future is refused.
    pub future_tolerance_seconds: u32,
}

impl Default for QualityLimits {
    fn default() -> Self {
        Self {
            price_min: None,
            price_max: 10_000.0,
            volume_max: 1_000_000.0,
            late_after_seconds: 300,
            future_tolerance_seconds: 60,
        }
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Observed {
    /// The price, where there is one.
    pub price: Option<f64>,
    /// The volume, where it is known.
    pub volume: Option<f64>,
    /// When it happened, microseconds since 1970.
    pub occurred_us: i64,
    /// When it came, microseconds since 1970.
    pub arrived_us: i64,
    /// Whether the instrument is known.
    pub has_metadata: bool,
    /// Whether it was there before.
    pub is_duplicate: bool,
}

/// The tick says that it happens later than now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("happened {ahead_seconds} s after it arrived; mend the clock of the producer")]
pub struct FromTheFuture {
    /// How far ahead it is, in whole seconds.
    pub ahead_seconds: i64,
}

/// The flags of a tick.
///
/// # Errors
/// [`FromTheFuture`] for one that is further ahead than clocks differ.
pub fn assess(observed: &Observed, limits: &QualityLimits) -> Result<QualityFlags, FromTheFuture> {
    let late_us = observed.arrived_us.saturating_sub(observed.occurred_us);
    if late_us < -i64::from(limits.future_tolerance_seconds) * MICROSECONDS {
        return Err(FromTheFuture { ahead_seconds: late_us.saturating_neg() / MICROSECONDS });
    }
    let price = |is_odd: &dyn Fn(f64) -> bool| observed.price.is_some_and(is_odd);
    let mut flags = QualityFlags::default();
    flags.insert_if(QualityFlag::PriceNegative, price(&|price| price < 0.0));
    flags.insert_if(
        QualityFlag::VolumeSpike,
        observed.volume.is_some_and(|volume| volume > limits.volume_max),
    );
    flags.insert_if(QualityFlag::MissingMetadata, !observed.has_metadata);
    flags.insert_if(QualityFlag::LateArrival, late_us > i64::from(limits.late_after_seconds) * MICROSECONDS);
    flags.insert_if(QualityFlag::Duplicate, observed.is_duplicate);
    let is_low = |price: f64| limits.price_min.is_some_and(|least| price < least);
    flags.insert_if(QualityFlag::OutOfRange, price(&|price| price > limits.price_max || is_low(price)));
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Observed = Observed {
        price: Some(31.2),
        volume: Some(10.0),
        occurred_us: 1_704_067_200_000_000,
        arrived_us: 1_704_067_200_400_000,
        has_metadata: true,
        is_duplicate: false,
    };

    fn names(change: fn(&mut Observed)) -> Vec<&'static str> {
        let mut observed = GOOD;
        change(&mut observed);
        assess(&observed, &QualityLimits::default()).unwrap().names().collect()
    }

    #[test]
    fn flags_have_the_names_and_limits_of_the_guide() {
        let check = |change: fn(&mut Observed), expected: &[&str]| assert_eq!(names(change), expected);
        check(|_| {}, &["valid"]);
        check(|tick| tick.price = Some(0.0), &["valid"]);
        check(|tick| tick.price = None, &["valid"]);
        check(|tick| tick.price = Some(-36.98), &["price_negative"]);
        check(|tick| tick.price = Some(10_000.0), &["valid"]);
        check(|tick| tick.price = Some(10_000.01), &["out_of_range"]);
        check(|tick| tick.volume = Some(1_000_000.0), &["valid"]);
        check(|tick| tick.volume = Some(1_000_001.0), &["volume_spike"]);
        check(|tick| tick.has_metadata = false, &["missing_metadata"]);
        check(|tick| tick.is_duplicate = true, &["duplicate"]);
        check(|tick| tick.arrived_us = tick.occurred_us + 300_000_000, &["valid"]);
        check(|tick| tick.arrived_us = tick.occurred_us + 300_000_001, &["late_arrival"]);
        check(
            |tick| {
                tick.price = Some(-1.0);
                tick.is_duplicate = true;
            },
            &["price_negative", "duplicate"],
        );
    }

    #[test]
    fn the_future_is_refused_beyond_what_clocks_differ() {
        let limits = QualityLimits { price_min: Some(0.0), ..QualityLimits::default() };
        let ahead = |us: i64| assess(&Observed { arrived_us: GOOD.occurred_us - us, ..GOOD }, &limits);
        assert!(ahead(60_000_000).is_ok());
        assert_eq!(ahead(31_536_000_000_000), Err(FromTheFuture { ahead_seconds: 31_536_000 }));
        let low = assess(&Observed { price: Some(-1.0), ..GOOD }, &limits).unwrap();
        assert!(low.contains(QualityFlag::OutOfRange) && low.contains(QualityFlag::PriceNegative));
        assert_eq!(serde_json::to_string(&low).unwrap(), r#"["price_negative","out_of_range"]"#);
    }
}
