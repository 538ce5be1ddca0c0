//! A tick as it goes from stage to stage: what [`super::NormalisedEvent`] writes, and what the enrichment adds to it.
//!
//! It owns its texts, because an item of a stream outlives the event that it was read from. Most of them are short, so that
//! to read one costs few allocations.

use compact_str::{CompactString, ToCompactString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{SCHEMA_VERSION, Stamp};
use crate::algorithms::bars::{Quote, Trade};
use crate::algorithms::ticks::{PriceOrigin, Tick};

/// A tick with its envelope.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TickMessage {
    /// The identity of the tick.
    pub event_id: CompactString,
    /// The trace of the raw message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<CompactString>,
    /// [`SCHEMA_VERSION`].
    pub schema_version: CompactString,
    /// The tenant.
    pub tenant_id: CompactString,
    /// Who normalised it.
    pub producer: CompactString,
    /// When the tick happened, microseconds since 1970.
    pub occurred_at: i64,
    /// When it came in, microseconds since 1970.
    pub ingested_at: i64,
    /// The tick.
    pub payload: TickPayload,
}

/// The tick itself. See [`Tick`] for what the fields mean.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the field of `Tick` with the guide's name")]
pub struct TickPayload {
    pub tick_id: CompactString,
    pub source_event_id: Option<CompactString>,
    pub symbol: CompactString,
    pub market: CompactString,
    pub instrument_id: CompactString,
    pub price: Option<f64>,
    pub volume: Option<f64>,
    pub bid_price: Option<f64>,
    pub ask_price: Option<f64>,
    pub currency: CompactString,
    pub unit: CompactString,
    pub normalized_at: i64,
    pub processing_lag_ms: i64,
    pub source_system: CompactString,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    pub quality: TickQuality,
    pub metadata: Box<RawValue>,
    pub tags: Vec<CompactString>,
    /// The guide's flags, once it is enriched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality_flags: Option<Vec<CompactString>>,
    /// What the instrument is, once it is enriched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxonomy: Option<Labels>,
}

/// What was missing or odd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickQuality {
    /// `fallback` where the price is the last known one, else `canonical`.
    pub status: CompactString,
    /// Their names.
    pub issues: Vec<CompactString>,
}

/// What an instrument is, without the reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labels {
    /// What is traded.
    pub commodity: CompactString,
    /// Where.
    pub region: CompactString,
    /// How much it leads others.
    pub product_tier: CompactString,
    /// From 0 to 1.
    pub confidence: f64,
    /// How it was found.
    pub method: CompactString,
}

impl TickMessage {
    /// The tick, as it goes on.
    #[must_use]
    pub fn of(tick: &Tick<'_>, stamp: Stamp<'_>) -> Self {
        let status = if tick.price_origin == PriceOrigin::Backfilled { "fallback" } else { "canonical" };
        let id = tick.id.to_compact_string();
        Self {
            event_id: id.clone(),
            trace_id: tick.trace_id.as_deref().map(CompactString::from),
            schema_version: CompactString::const_new(SCHEMA_VERSION),
            tenant_id: tick.tenant.as_str().into(),
            producer: stamp.producer.into(),
            occurred_at: tick.occurred_us,
            ingested_at: stamp.normalised_us,
            payload: TickPayload {
                tick_id: id,
                source_event_id: tick.event_id.as_deref().map(CompactString::from),
                symbol: tick.symbol.as_ref().into(),
                market: tick.market.as_ref().into(),
                instrument_id: tick.instrument.as_ref().into(),
                price: tick.price,
                volume: tick.volume,
                bid_price: tick.bid,
                ask_price: tick.ask,
                currency: tick.currency.as_ref().into(),
                unit: tick.unit.as_ref().into(),
                normalized_at: stamp.normalised_us,
                processing_lag_ms: stamp.normalised_us.saturating_sub(tick.occurred_us) / 1_000,
                source_system: tick.source.as_ref().into(),
                sequence: tick.sequence,
                quality: TickQuality {
                    status: CompactString::const_new(status),
                    issues: tick.issues.names().map(CompactString::const_new).collect(),
                },
                metadata: tick.metadata.map_or_else(empty, ToOwned::to_owned),
                tags: Vec::new(),
                quality_flags: None,
                taxonomy: None,
            },
        }
    }

    /// The price, where somebody traded or published it, with what orders it among others.
    #[must_use]
    pub fn trade(&self) -> Option<Trade> {
        let payload = &self.payload;
        let price = payload.price.filter(|_| payload.quality.status != "fallback")?;
        Some(Trade {
            time_us: self.occurred_at,
            sequence: payload.sequence.unwrap_or(0),
            price,
            volume: payload.volume.unwrap_or(0.0),
        })
    }

    /// The quote, where there is a bid or an ask, with what orders it among others.
    #[must_use]
    pub fn quote(&self) -> Option<Quote> {
        let payload = &self.payload;
        (payload.bid_price.is_some() || payload.ask_price.is_some()).then(|| Quote {
            time_us: self.occurred_at,
            sequence: payload.sequence.unwrap_or(0),
            bid: payload.bid_price,
            ask: payload.ask_price,
        })
    }
}

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::ticks::{Mapping, NoReference, Normaliser, Tenancy, normalise};
    use crate::events::NormalisedEvent;

    #[test]
    fn it_is_written_as_the_borrowed_form_is_and_read_back() {
        let message = br#"{"event_id":"e1","trace_id":"t1","tenant_id":"desk","occurred_at":1704067200000000,
            "payload":{"source_system":"miso","market":"miso","symbol":"MISO_INDIANA_HUB","sequence":7,
            "raw_payload":"{\"price\":-31.2,\"bid\":31.1,\"ask\":31.3}","metadata":{"node":"x"}}}"#;
        let normaliser = Normaliser::new(Mapping::default()).unwrap();
        let tick = normalise(message, &normaliser, Tenancy::Named, &NoReference).unwrap();
        let stamp = Stamp { normalised_us: 1_704_067_200_500_000, producer: "test" };
        let owned = TickMessage::of(&tick, stamp);
        let text = serde_json::to_string(&owned).unwrap();
        let mut borrowed = Vec::new();
        NormalisedEvent::of(&tick, stamp).write(&mut borrowed);
        assert_eq!(text.as_bytes(), borrowed);
        let back: TickMessage = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
        let trade = Trade { time_us: 1_704_067_200_000_000, sequence: 7, price: -31.2, volume: 0.0 };
        assert_eq!(back.trade(), Some(trade));
    }
}
