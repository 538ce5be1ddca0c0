//! What a market trades in, and which prices it can have. A table: to add a market is to add a line, here or in the
//! mapping, which comes first.
//!
//! Zero and negative prices are real in power, gas and once in oil (WTI, 2020-04-20), so a market that is not listed may
//! have them. A carbon allowance and a rate of exchange cannot.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One market.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MarketRules {
    /// Its name in capitals.
    pub market: Cow<'static, str>,
    /// ISO 4217; none where its instruments differ.
    #[serde(default)]
    pub currency: Option<Cow<'static, str>>,
    /// What one is paid for; none where its instruments differ.
    #[serde(default)]
    pub unit: Option<Cow<'static, str>>,
    /// Whether a price may be below zero.
    #[serde(default = "yes")]
    pub negative_prices: bool,
    /// Whether a price may be zero.
    #[serde(default = "yes")]
    pub zero_prices: bool,
}

fn yes() -> bool {
    true
}

const fn market(
    market: &'static str,
    currency: Option<&'static str>,
    unit: Option<&'static str>,
    any_sign: bool,
) -> MarketRules {
    const fn kept(text: Option<&'static str>) -> Option<Cow<'static, str>> {
        match text {
            Some(text) => Some(Cow::Borrowed(text)),
            None => None,
        }
    }
    MarketRules {
        market: Cow::Borrowed(market),
        currency: kept(currency),
        unit: kept(unit),
        negative_prices: any_sign,
        zero_prices: any_sign,
    }
}

/// The markets that need no configuration.
pub const KNOWN_MARKETS: &[MarketRules] = &[
    market("MISO", Some("USD"), Some("MWh"), true),
    market("CAISO", Some("USD"), Some("MWh"), true),
    market("ERCOT", Some("USD"), Some("MWh"), true),
    market("PJM", Some("USD"), Some("MWh"), true),
    market("NYISO", Some("USD"), Some("MWh"), true),
    market("ISONE", Some("USD"), Some("MWh"), true),
    market("SPP", Some("USD"), Some("MWh"), true),
    market("WECC", Some("USD"), Some("MWh"), true),
    market("EPEX", Some("EUR"), Some("MWh"), true),
    market("NORDPOOL", Some("EUR"), Some("MWh"), true),
    market("NYMEX", Some("USD"), None, true),
    market("ICE", None, None, true),
    market("CARBON", None, Some("ton_CO2e"), false),
    market("EUA", Some("EUR"), Some("ton_CO2e"), false),
    market("CCA", Some("USD"), Some("ton_CO2e"), false),
    market("RGGI", Some("USD"), Some("ton_CO2e"), false),
    market("FX", None, None, false),
];

/// The rules of a market that nobody described.
pub(super) const UNKNOWN_MARKET: MarketRules = market("", None, None, true);
