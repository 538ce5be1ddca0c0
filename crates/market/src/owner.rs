//! What the domain tells the edge of raw ticks: which it takes, and what it notes on them.
//!
//! It refuses a message that speaks for another tenant, and what is no JSON object. Anything else is taken, so that it is
//! durable: what is no tick by the mapping of now becomes a dead letter of the stage `normalization`, and is replayed
//! once the mapping is mended.

use std::sync::Arc;

use async_trait::async_trait;
use edge::EventOwner;
use kernel::{Clock, Error, Event, Result, Scope, Timestamp, codes};
use serde_json::Value;
use store::{Appended, Topic};
use stream::REPLAY_OF;

use crate::algorithms::ticks::{RejectionCode, Tenancy, normalise};
use crate::events::{RECEIVED_AT, kinds};
use crate::settings::Rules;
use crate::topology::RAW_TICKS;

/// The owner of raw ticks.
#[derive(Debug)]
pub struct MarketOwner {
    rules: Arc<Rules>,
    clock: Arc<dyn Clock>,
}

impl MarketOwner {
    /// By these rules.
    #[must_use]
    pub fn new(rules: Arc<Rules>, clock: Arc<dyn Clock>) -> Self {
        Self { rules, clock }
    }
}

#[async_trait]
impl EventOwner for MarketOwner {
    fn kinds(&self) -> &'static [&'static str] {
        &[kinds::RAW_TICK]
    }

    fn topic(&self) -> Topic {
        RAW_TICKS
    }

    fn admit(&self, scope: &Scope, event: &mut Event) -> Result<()> {
        if event.extensions.contains_key(REPLAY_OF) {
            return Err(Error::new(codes::INVALID_EVENT, "is for the server alone").with_field(REPLAY_OF));
        }
        let now = self.clock.now();
        complete(&self.rules, scope, event, now)
    }

    async fn settled(&self, _: &[Appended]) {
        // The stages run on their own, maybe in another process.
    }
}

/// Notes on a raw message when it came, and, where it is a tick, when it happened and which instrument it is about. For
/// every way in.
///
/// # Errors
/// `TENANT_MISMATCH`; `INVALID_EVENT` for data that are no JSON object.
pub fn complete(rules: &Rules, scope: &Scope, event: &mut Event, now: Timestamp) -> Result<()> {
    let message = event.data.as_ref().map_or("null", |data| data.get());
    if !message.starts_with('{') {
        let error = Error::new(codes::INVALID_EVENT, "must be a JSON object, the message of a feed");
        return Err(error.with_field("data"));
    }
    let tenancy = Tenancy::Only(scope.tenant());
    let found = normalise(message.as_bytes(), &rules.normaliser, tenancy, &rules.terms);
    let found = found.map(|tick| (tick.occurred_us, tick.instrument.into_owned()));
    match found {
        Ok((occurred_us, instrument)) => {
            event.time = Timestamp::from_microsecond(occurred_us).unwrap_or(event.time);
            event.subject.get_or_insert_with(|| instrument.clone());
            event.partition_key.get_or_insert(instrument);
        }
        Err(fault) if fault.code == RejectionCode::TenantMismatch => return Err(fault.into()),
        Err(_) => {}
    }
    event.extensions.insert(RECEIVED_AT.to_owned(), Value::String(now.to_string()));
    Ok(())
}
