//! The wire: topics, what a normalised tick looks like on them, and the dead letter of a message that is no tick.
//!
//! The guide has two envelopes; both are read ([`crate::algorithms::ticks`]), and its flat one is written. Names of
//! fields and topics are a contract with who reads them today. What they mean is mended where it was wrong: `tick_id`
//! tells two trades of one microsecond apart, `unit` and `currency` are the instrument's, `price` is null in a quote.
//!
//! To add an event: its topic in [`topics`], a struct with the guide's field names, a test that holds them.

mod dead_letter;
mod kept;
mod tick;

use kernel::{TenantId, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::algorithms::bars::{Bar, Interval, Ohlcv};
use crate::algorithms::ticks::{Issues, PriceOrigin, Tick, TickId};

pub use dead_letter::DeadTick;
pub use kept::{KeptBar, LatestPrice};
pub(crate) use kept::{LatestData, LatestMetadata};
pub use tick::{Labels, TickMessage, TickPayload, TickQuality};

/// The types of events.
pub mod kinds {
    /// A raw message of a feed: the one that callers send.
    pub const RAW_TICK: &str = "market.tick.raw.v1";
    /// A normalised tick.
    pub const NORMALISED_TICK: &str = "market.tick.normalized.v1";
    /// A tick with what is known about it.
    pub const ENRICHED_TICK: &str = "market.tick.enriched.v1";
    /// One revision of a bar.
    pub const BAR: &str = "market.bar.v1";
    /// A revision of a row that a backfill made.
    pub const CORRECTED_ROW: &str = "market.row.corrected.v1";
    /// A price that is newer than the one before.
    pub const LATEST_PRICE: &str = "market.price.latest.v1";
    /// What a custom projection made of an event; no log has it.
    pub const CUSTOM: &str = "market.projection.custom.v1";
    /// What was quoted of a curve at one time.
    pub const CURVE_QUOTES: &str = "market.curve.quotes.v1";
}

/// The extension attribute of a raw message that says when the server took it in. It stands in for the clock, so that a
/// replay of the log gives the same.
pub const RECEIVED_AT: &str = "receivedat";

/// The topics of the guide's manifest. Its code defaults differ in four names; the manifest is what its documents use.
pub mod topics {
    /// Raw ticks, in.
    pub const RAW_TICKS: &str = "ingestion.market.ticks.raw.v1";
    /// Normalised ticks, out.
    pub const NORMALISED_TICKS: &str = "normalized.market.ticks.v1";
    /// Ticks with their classification and quality flags.
    pub const ENRICHED_TICKS: &str = "enriched.market.ticks.v1";
    /// Bars of five minutes.
    pub const BARS_5M: &str = "aggregated.market.bars.5m.v1";
    /// Bars of an hour.
    pub const BARS_1H: &str = "aggregated.market.bars.1h.v1";
    /// Bars of a trading day. The guide keeps them and has no topic for them.
    pub const BARS_1D: &str = "aggregated.market.bars.1d.v1";
    /// What was quoted of curves.
    pub const CURVE_UPDATES: &str = "pricing.curve.updates.v1";
    /// Latest prices.
    pub const LATEST_PRICES: &str = "served.market.latest_prices.v1";
    /// Messages that are no ticks.
    pub const DEAD_TICKS: &str = "processing.deadletter.market.ticks.v1";
    /// Ticks that could not be enriched.
    pub const DEAD_ENRICHMENT: &str = "processing.deadletter.enrichment.v1";
    /// Ticks that are in no bar: too late for all, or out of range.
    pub const DEAD_AGGREGATION: &str = "processing.deadletter.aggregation.v1";
    /// Ticks that could not be projected.
    pub const DEAD_PROJECTION: &str = "processing.deadletter.projection.v1";
    /// What backfills found to differ. The guide has none, because it writes over.
    pub const CORRECTED_ROWS: &str = "corrected.market.rows.v1";
    /// All of them, as backups and retention see them.
    pub const ALL: [&str; 13] = [
        RAW_TICKS,
        NORMALISED_TICKS,
        ENRICHED_TICKS,
        BARS_5M,
        BARS_1H,
        BARS_1D,
        CURVE_UPDATES,
        LATEST_PRICES,
        CORRECTED_ROWS,
        DEAD_TICKS,
        DEAD_ENRICHMENT,
        DEAD_AGGREGATION,
        DEAD_PROJECTION,
    ];
}

/// The version of the normalised tick.
pub const SCHEMA_VERSION: &str = "1.0.0";

/// What the writer of an event adds: time is a parameter.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// When it was normalised, microseconds since 1970.
    pub normalised_us: i64,
    /// Who did it.
    pub producer: &'a str,
}

/// A normalised tick on the wire.
#[derive(Debug, Serialize)]
pub struct NormalisedEvent<'a> {
    /// The identity of the tick: the same however often it comes.
    pub event_id: TickId,
    /// The trace of the raw message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<&'a str>,
    /// [`SCHEMA_VERSION`].
    pub schema_version: &'static str,
    /// The tenant.
    pub tenant_id: &'a str,
    /// Who normalised it.
    pub producer: &'a str,
    /// When the tick happened, microseconds since 1970.
    pub occurred_at: i64,
    /// When it was normalised, microseconds since 1970.
    pub ingested_at: i64,
    /// The tick.
    pub payload: NormalisedPayload<'a>,
}

/// The tick itself. See [`Tick`] for what the fields mean.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "each is the field of `Tick` with the guide's name")]
pub struct NormalisedPayload<'a> {
    pub tick_id: TickId,
    pub source_event_id: Option<&'a str>,
    pub symbol: &'a str,
    pub market: &'a str,
    pub instrument_id: &'a str,
    pub price: Option<f64>,
    pub volume: Option<f64>,
    pub bid_price: Option<f64>,
    pub ask_price: Option<f64>,
    pub currency: &'a str,
    pub unit: &'a str,
    pub normalized_at: i64,
    pub processing_lag_ms: i64,
    pub source_system: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    pub quality: Quality,
    pub metadata: Metadata<'a>,
    pub tags: [&'static str; 0],
}

/// What was missing or odd.
#[derive(Debug, Serialize)]
pub struct Quality {
    /// `fallback` where the price is the last known one, else `canonical`.
    pub status: &'static str,
    /// Their names.
    pub issues: Issues,
}

/// The metadata as they came; an empty object where there were none.
#[derive(Debug, Clone)]
pub struct Metadata<'a>(pub Option<&'a RawValue>);

impl Serialize for Metadata<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(raw) => raw.serialize(serializer),
            None => serializer.collect_map(std::iter::empty::<(&str, &str)>()),
        }
    }
}

impl<'a> NormalisedEvent<'a> {
    /// The tick, as it is written.
    #[must_use]
    pub fn of(tick: &'a Tick<'a>, stamp: Stamp<'a>) -> Self {
        let is_fallback = tick.price_origin == PriceOrigin::Backfilled;
        Self {
            event_id: tick.id,
            trace_id: tick.trace_id.as_deref(),
            schema_version: SCHEMA_VERSION,
            tenant_id: tick.tenant.as_str(),
            producer: stamp.producer,
            occurred_at: tick.occurred_us,
            ingested_at: stamp.normalised_us,
            payload: NormalisedPayload {
                tick_id: tick.id,
                source_event_id: tick.event_id.as_deref(),
                symbol: &tick.symbol,
                market: &tick.market,
                instrument_id: &tick.instrument,
                price: tick.price,
                volume: tick.volume,
                bid_price: tick.bid,
                ask_price: tick.ask,
                currency: &tick.currency,
                unit: &tick.unit,
                normalized_at: stamp.normalised_us,
                processing_lag_ms: stamp.normalised_us.saturating_sub(tick.occurred_us) / 1_000,
                source_system: &tick.source,
                sequence: tick.sequence,
                quality: Quality {
                    status: if is_fallback { "fallback" } else { "canonical" },
                    issues: tick.issues,
                },
                metadata: Metadata(tick.metadata),
                tags: [],
            },
        }
    }

    /// Appends it as JSON, on one line without an end.
    pub fn write(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("a tick has text keys and a vector takes all bytes");
    }
}

/// A bar on the wire.
#[derive(Debug, Clone, Serialize)]
pub struct BarEvent<'a> {
    /// The instrument.
    pub instrument_id: &'a str,
    /// Where it was traded; empty where nobody said.
    pub market: &'a str,
    /// `5m`, `1h`, `1d`.
    pub interval: Interval,
    /// Its first moment, in UTC.
    pub interval_start: Timestamp,
    /// The moment after its last, in UTC: a day is not always 24 hours.
    pub interval_end: Timestamp,
    /// How often it has changed since it was first told.
    pub revision: u32,
    /// Open, high, low, close, volume, VWAP, trade count.
    #[serde(flatten)]
    pub values: Ohlcv,
    /// The tenant.
    pub tenant_id: &'a str,
    /// Nothing yet; readers expect it.
    pub metadata: Metadata<'a>,
}

/// A time of the wire, microseconds since 1970; 1970 where no calendar has it.
pub(crate) fn moment(time_us: i64) -> Timestamp {
    Timestamp::from_microsecond(time_us).unwrap_or_default()
}

impl<'a> BarEvent<'a> {
    /// The bar of an instrument, as it is written.
    #[must_use]
    pub fn of(tenant: &'a TenantId, instrument: &'a str, market: &'a str, bar: &Bar) -> Self {
        Self {
            instrument_id: instrument,
            market,
            interval: bar.interval,
            interval_start: moment(bar.start_us),
            interval_end: moment(bar.end_us),
            revision: bar.revision,
            values: bar.values,
            tenant_id: tenant.as_str(),
            metadata: Metadata(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_the_names_of_the_guide() {
        let values = Ohlcv {
            open: 1.0,
            high: 3.0,
            low: -0.5,
            close: 2.0,
            volume: 7.0,
            vwap: Some(1.5),
            trade_count: 4,
        };
        let bar = Bar {
            interval: Interval::FIVE_MINUTES,
            start_us: 1_704_067_200_000_000,
            end_us: 1_704_067_500_000_000,
            revision: 1,
            values,
        };
        let tenant = TenantId::new("desk").unwrap();
        let found = serde_json::to_value(BarEvent::of(&tenant, "X", "PJM", &bar)).unwrap();
        let expected = serde_json::json!({
            "instrument_id": "X", "market": "PJM", "interval": "5m", "interval_start": "2024-01-01T00:00:00Z",
            "interval_end": "2024-01-01T00:05:00Z", "revision": 1, "open": 1.0, "high": 3.0, "low": -0.5, "close": 2.0,
            "volume": 7.0, "vwap": 1.5, "trade_count": 4, "tenant_id": "desk", "metadata": {},
        });
        assert_eq!(found, expected);
    }
}
