//! What would become of a message, without keeping anything of it.

use kernel::{Event, Result, Scope, Timestamp, codes};
use serde_json::value::RawValue;

use super::Service;
use crate::events::{RECEIVED_AT, TickMessage, kinds};
use crate::topology::{BarTrade, Enricher, normalised};

/// What a stage would do.
#[derive(Debug, Clone)]
pub struct Would {
    /// The stage that would refuse it.
    pub stage: &'static str,
    /// The stable code.
    pub code: &'static str,
    /// For people, with the field.
    pub reason: String,
}

/// What would become of a message.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The feed that reads it; none where the mapping does.
    pub feed: Option<String>,
    /// The tick, where it is one.
    pub tick: Option<TickMessage>,
    /// Why it would be a dead letter, where it would.
    pub refused: Option<Would>,
}

impl Service {
    /// What would become of a raw message of the scope's tenant that came at `now`.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` when it is no object, `INVALID_REQUEST` when it is no JSON.
    pub fn validate(&self, scope: &Scope, message: &str, now: Timestamp) -> Result<Verdict> {
        if !message.trim_start().starts_with('{') {
            let message = "must be a JSON object, the message of a feed";
            return Err(kernel::Error::new(codes::VALIDATION_ERROR, message));
        }
        let data = RawValue::from_string(message.to_owned()).map_err(|cause| {
            kernel::Error::new(codes::INVALID_REQUEST, format!("the body is not JSON: {cause}"))
        })?;
        let mut event = Event {
            data: Some(data.into()),
            ..Event::new(scope.tenant(), "validate", "/api/v1/market/validate", kinds::RAW_TICK, now)
        };
        event.extensions.insert(RECEIVED_AT.to_owned(), now.to_string().into());
        let refused = |stage: &'static str, rejection: stream::Rejection| {
            Some(Would { stage, code: rejection.code, reason: rejection.reason })
        };
        let feed = self.rules.feeds.translate(message.as_bytes()).ok().flatten();
        let feed = feed.map(|found| found.feed.to_owned());
        let tick = match normalised(&self.rules, &event) {
            Ok(tick) => tick,
            Err(rejection) => {
                return Ok(Verdict { feed, tick: None, refused: refused("normalization", rejection) });
            }
        };
        let tick = match Enricher::new(std::sync::Arc::clone(&self.rules)).enrich(tick.clone()) {
            Ok(tick) => tick,
            Err(rejection) => {
                return Ok(Verdict { feed, tick: Some(tick), refused: refused("enrichment", rejection) });
            }
        };
        let refused = BarTrade::of(&tick).err().and_then(|rejection| refused("aggregation", rejection));
        Ok(Verdict { feed, tick: Some(tick), refused })
    }
}
