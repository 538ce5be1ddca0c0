//! A tick: what a message says once it is understood, with what was missing or odd about it.

use std::borrow::Cow;

use kernel::TenantId;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::value::RawValue;

use super::identity::TickId;

/// Where the price is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PriceOrigin {
    /// The message, under the first name of the mapping.
    #[default]
    Primary,
    /// The message, under another name.
    Alternative,
    /// The last price that was known. No bar counts it.
    Backfilled,
    /// Nowhere: a quote, with a bid and an ask.
    Quote,
}

/// One thing that was missing or odd. The names are the guide's where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Issue {
    /// No volume.
    MissingVolume = 1,
    /// The price is the last known one.
    PriceBackfilled = 1 << 1,
    /// No price under the first name of the mapping.
    MissingPricePrimary = 1 << 2,
    /// Nothing says what one is paid for.
    MissingUnit = 1 << 3,
    /// Nothing says in which currency.
    MissingCurrency = 1 << 4,
    /// The message and the instrument disagree; the instrument counts.
    UnitConflict = 1 << 5,
    /// The message and the instrument disagree; the instrument counts.
    CurrencyConflict = 1 << 6,
    /// The bid is above the ask.
    CrossedQuote = 1 << 7,
}

impl Issue {
    const ALL: [(Self, &'static str); 8] = [
        (Self::MissingVolume, "missing_volume"),
        (Self::PriceBackfilled, "price_backfilled"),
        (Self::MissingPricePrimary, "missing_price_primary"),
        (Self::MissingUnit, "missing_unit"),
        (Self::MissingCurrency, "missing_currency"),
        (Self::UnitConflict, "unit_conflict"),
        (Self::CurrencyConflict, "currency_conflict"),
        (Self::CrossedQuote, "crossed_quote"),
    ];
}

/// A set of issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Issues(u16);

impl Issues {
    /// Adds one.
    pub fn insert(&mut self, issue: Issue) {
        self.0 |= issue as u16;
    }

    /// Whether it is there.
    #[must_use]
    pub fn contains(self, issue: Issue) -> bool {
        self.0 & issue as u16 != 0
    }

    /// Their names, always in the same order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Issue::ALL.into_iter().filter(move |(issue, _)| self.contains(*issue)).map(|(_, name)| name)
    }
}

impl Serialize for Issues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for name in self.names() {
            list.serialize_element(name)?;
        }
        list.end()
    }
}

/// What an instrument is quoted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms<'a> {
    /// ISO 4217.
    pub currency: Option<&'a str>,
    /// What one is paid for: `MWh`, `bbl`, `MMBtu`, `ton_CO2e`.
    pub unit: Option<&'a str>,
}

/// What is known about instruments beside the message.
pub trait Reference {
    /// What the instrument is quoted in.
    fn terms(&self, tenant: &TenantId, instrument: &str) -> Terms<'_>;

    /// Its last price, where backfilling is wanted.
    fn last_price(&self, tenant: &TenantId, instrument: &str) -> Option<f64>;
}

/// Nothing is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReference;

impl Reference for NoReference {
    fn terms(&self, _: &TenantId, _: &str) -> Terms<'_> {
        Terms::default()
    }

    fn last_price(&self, _: &TenantId, _: &str) -> Option<f64> {
        None
    }
}

/// What a message says. Texts are borrowed from the message where they have no escapes.
#[derive(Debug, Clone)]
pub struct Tick<'a> {
    /// Equal for the same tick however often it comes.
    pub id: TickId,
    /// The tenant.
    pub tenant: TenantId,
    /// The id of the message.
    pub event_id: Option<Cow<'a, str>>,
    /// The trace that it belongs to.
    pub trace_id: Option<Cow<'a, str>>,
    /// Who sent it.
    pub source: Cow<'a, str>,
    /// In capitals; empty where none was named.
    pub market: Cow<'a, str>,
    /// The producer's name of the instrument.
    pub symbol: Cow<'a, str>,
    /// Our name of it.
    pub instrument: Cow<'a, str>,
    /// When it happened, microseconds since 1970.
    pub occurred_us: i64,
    /// When it was received, microseconds since 1970.
    pub ingested_us: Option<i64>,
    /// The producer's running number.
    pub sequence: Option<u64>,
    /// Finite; none for a quote.
    pub price: Option<f64>,
    /// Where it is from.
    pub price_origin: PriceOrigin,
    /// At least zero.
    pub volume: Option<f64>,
    /// Best price that somebody would pay.
    pub bid: Option<f64>,
    /// Best price that somebody would take.
    pub ask: Option<f64>,
    /// ISO 4217; `unknown` where nothing says.
    pub currency: Cow<'a, str>,
    /// What one is paid for; `unknown` where nothing says.
    pub unit: Cow<'a, str>,
    /// What was missing or odd.
    pub issues: Issues,
    /// Passed on as they are.
    pub metadata: Option<&'a RawValue>,
}

impl Tick<'_> {
    /// The price, where somebody traded or published it: what bars are made of.
    #[must_use]
    pub fn traded_price(&self) -> Option<f64> {
        self.price.filter(|_| self.price_origin != PriceOrigin::Backfilled)
    }
}
