//! Price, currency and unit of a tick, and whether its market allows them.

use std::borrow::Cow;

use super::Fields;
use super::capture::Role;
use super::markets::MarketRules;
use super::rejection::{Rejection, RejectionCode};
use super::tick::{Issue, PriceOrigin, Reference, Tick};

/// What stands where nothing says what a price is in.
const UNKNOWN: &str = "unknown";

impl<'a> Fields<'a> {
    /// From the message; else none where there is a quote; else the last known one.
    pub(super) fn price(&mut self, tick: &mut Tick<'a>, reference: &dyn Reference) -> Result<(), Rejection> {
        let told = self.number(Role::Price)?;
        tick.price = told.map(|(_, price)| price);
        tick.price_origin = match told {
            Some((path, _)) if self.normaliser.is_first_price(path) => PriceOrigin::Primary,
            Some(_) => PriceOrigin::Alternative,
            None if tick.bid.is_some() && tick.ask.is_some() => PriceOrigin::Quote,
            None => {
                let last = reference.last_price(&tick.tenant, &tick.instrument);
                tick.price = last.filter(|price| price.is_finite());
                PriceOrigin::Backfilled
            }
        };
        if tick.price.is_none() && tick.price_origin == PriceOrigin::Backfilled {
            let field = self.normaliser.first_path(Role::Price);
            let message = "is missing, and so are a bid with an ask and a last price (backfill_not_found)";
            return Err(Rejection::new(RejectionCode::Missing, field, message));
        }
        if tick.price_origin == PriceOrigin::Backfilled {
            tick.issues.insert(Issue::PriceBackfilled);
        }
        if tick.price_origin != PriceOrigin::Primary {
            tick.issues.insert(Issue::MissingPricePrimary);
        }
        Ok(())
    }

    /// The instrument's own, else the message's, else the market's.
    pub(super) fn terms(
        &mut self,
        tick: &mut Tick<'a>,
        reference: &'a dyn Reference,
    ) -> Result<(), Rejection> {
        let own = reference.terms(&tick.tenant, &tick.instrument);
        let rules = self.normaliser.rules(&tick.market);
        let (currency, unit) = (self.name(Role::Currency)?, self.name(Role::Unit)?);
        if differ(own.currency, currency.as_deref()) {
            tick.issues.insert(Issue::CurrencyConflict);
        }
        if differ(own.unit, unit.as_deref()) {
            tick.issues.insert(Issue::UnitConflict);
        }
        let of_market = |text: &'a Option<Cow<'static, str>>| text.as_deref().map(Cow::Borrowed);
        let pick = |own: Option<&'a str>, told, market| own.map(Cow::Borrowed).or(told).or(market);
        let currency = pick(own.currency, currency, of_market(&rules.currency));
        let unit = pick(own.unit, unit, of_market(&rules.unit));
        if currency.is_none() {
            tick.issues.insert(Issue::MissingCurrency);
        }
        if unit.is_none() {
            tick.issues.insert(Issue::MissingUnit);
        }
        tick.currency = currency.unwrap_or(Cow::Borrowed(UNKNOWN));
        tick.unit = unit.unwrap_or(Cow::Borrowed(UNKNOWN));
        Ok(())
    }

    /// What the market allows.
    pub(super) fn check(&self, tick: &mut Tick<'a>) -> Result<(), Rejection> {
        let rules = self.normaliser.rules(&tick.market);
        for (role, price) in [(Role::Price, tick.price), (Role::Bid, tick.bid), (Role::Ask, tick.ask)] {
            if let Some(price) = price {
                allowed(rules, price)
                    .map_err(|told| self.rejected(RejectionCode::PriceNotAllowed, role, told))?;
            }
        }
        match tick.volume {
            None => tick.issues.insert(Issue::MissingVolume),
            Some(volume) if volume < 0.0 => {
                let told = format!("is {volume}; a volume is zero or more");
                return Err(self.rejected(RejectionCode::NegativeVolume, Role::Volume, told));
            }
            Some(_) => {}
        }
        if let (Some(bid), Some(ask)) = (tick.bid, tick.ask)
            && bid > ask
        {
            tick.issues.insert(Issue::CrossedQuote);
        }
        Ok(())
    }

    fn rejected(&self, code: RejectionCode, role: Role, message: String) -> Rejection {
        let found_at = self.found_at[role as usize].map(|path| self.normaliser.path(path).to_owned());
        Rejection::new(code, found_at.unwrap_or_else(|| self.normaliser.first_path(role)), message)
    }
}

fn differ(own: Option<&str>, told: Option<&str>) -> bool {
    matches!((own, told), (Some(own), Some(told)) if own != told)
}

fn allowed(rules: &MarketRules, price: f64) -> Result<(), String> {
    let market = if rules.market.is_empty() { "an unnamed market" } else { &rules.market };
    if price < 0.0 && !rules.negative_prices {
        return Err(format!("is {price}; {market} has no negative prices"));
    }
    if price == 0.0 && !rules.zero_prices {
        return Err(format!("is zero; {market} has no prices of zero"));
    }
    Ok(())
}
