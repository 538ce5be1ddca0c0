//! Bars and latest prices as they are read back from their topics.

use compact_str::CompactString;
use kernel::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Labels, TickMessage, moment};
use crate::algorithms::bars::{Interval, Ohlcv};

/// What [`super::BarEvent`] wrote.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[expect(missing_docs, reason = "each is the field of `BarEvent`")]
pub struct KeptBar {
    pub instrument_id: String,
    pub market: String,
    pub interval: Interval,
    pub interval_start: Timestamp,
    pub interval_end: Timestamp,
    pub revision: u32,
    #[serde(flatten)]
    pub values: Ohlcv,
}

/// The newest price of an instrument, as it is told on its topic: the guide's projection.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "each is a field of the guide's projection")]
pub struct LatestPrice<'a> {
    pub projection_type: &'static str,
    pub instrument_id: &'a str,
    pub data: LatestData<'a>,
    pub last_updated: Timestamp,
    pub tenant_id: &'a str,
    pub metadata: LatestMetadata<'a>,
}

/// The price.
#[derive(Debug, Serialize)]
pub struct LatestData<'a> {
    pub price: Option<f64>,
    pub volume: Option<f64>,
    pub timestamp: Timestamp,
    pub source: &'a str,
    pub quality_flags: &'a [CompactString],
    pub market: &'a str,
    pub currency: &'a str,
    pub unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taxonomy: Option<&'a Labels>,
}

/// Where it is from.
#[derive(Debug, Serialize)]
pub struct LatestMetadata<'a> {
    pub projection_id: &'a str,
    pub source_event_id: Option<&'a str>,
}

impl<'a> LatestPrice<'a> {
    /// The price of an enriched tick.
    #[must_use]
    pub fn of(tick: &'a TickMessage) -> Self {
        let payload = &tick.payload;
        Self {
            projection_type: "latest_price",
            instrument_id: &payload.instrument_id,
            data: LatestData {
                price: payload.price,
                volume: payload.volume,
                timestamp: moment(tick.occurred_at),
                source: &payload.source_system,
                quality_flags: payload.quality_flags.as_deref().unwrap_or_default(),
                market: &payload.market,
                currency: &payload.currency,
                unit: &payload.unit,
                taxonomy: payload.taxonomy.as_ref(),
            },
            last_updated: moment(tick.ingested_at),
            tenant_id: &tick.tenant_id,
            metadata: LatestMetadata {
                projection_id: &payload.tick_id,
                source_event_id: payload.source_event_id.as_deref(),
            },
        }
    }
}
