//! The four stages of market data, each a stream of its own, in event time and exactly once.
//!
//! ```text
//! ingestion.market.ticks.raw.v1 ─ normalization ─▶ normalized.market.ticks.v1
//!   ─ enrichment ─▶ enriched.market.ticks.v1 ─┬ aggregation ─▶ aggregated.market.bars.{5m,1h,1d}.v1
//!                                             └ projection ─▶ served.market.latest_prices.v1
//! ```
//!
//! Beside them, [`custom`] has a stage for each topic that projections of the settings are made of.
//!
//! A stage knows topics and not where they live. What it makes of an event depends on the log and the settings: when a
//! message was taken in stands in the message ([`crate::events::RECEIVED_AT`]).
//!
//! To add a stage: a file with its operators, a line in [`all`].

mod aggregate;
mod custom;
mod enrich;
mod normalise;
mod project;

use std::sync::Arc;

use kernel::{Event, Result, Timestamp};
use serde_json::Value;
use store::Topic;
use stream::{Emission, Rejection, Topology};

pub use aggregate::{BAR_KINDS, BarKind, BarPartial, BarTrade};
pub(crate) use custom::{CUSTOM, inputs, project, told};
pub use custom::{KEPT, custom};
pub use enrich::Enricher;
pub use normalise::{check_moment, normalised};

use crate::events::{RECEIVED_AT, TickMessage, moment, topics};
use crate::settings::Rules;

/// Raw messages.
pub const RAW_TICKS: Topic = Topic::fixed(topics::RAW_TICKS);
/// Normalised ticks.
pub const NORMALISED_TICKS: Topic = Topic::fixed(topics::NORMALISED_TICKS);
/// Enriched ticks.
pub const ENRICHED_TICKS: Topic = Topic::fixed(topics::ENRICHED_TICKS);
/// Latest prices.
pub const LATEST_PRICES: Topic = Topic::fixed(topics::LATEST_PRICES);

/// The name of the stage that makes bars, the only one that waits for time.
pub const AGGREGATION: &str = "aggregation";

/// The stages, in the order in which a tick meets them.
///
/// # Errors
/// None that a test would not find.
pub fn all(rules: &Arc<Rules>) -> Result<Vec<Topology>> {
    let stages = [
        normalise::topology(rules)?,
        enrich::topology(rules)?,
        aggregate::topology(rules)?,
        project::topology()?,
    ];
    Ok(stages.into_iter().map(|stage| stage.with_event_time(rules.event_time)).collect())
}

/// When the server took a message in, microseconds since 1970; none where it came another way.
pub(crate) fn received_us(event: &Event) -> Option<i64> {
    let text = event.extensions.get(RECEIVED_AT).and_then(Value::as_str)?;
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

fn decode(event: &Event) -> Result<Arc<TickMessage>, Rejection> {
    event.shared_data_as().map_err(Rejection::from)
}

fn emission(kind: &'static str, tick: &Arc<TickMessage>) -> Result<Emission, Rejection> {
    Ok(Emission::shared(kind, moment(tick.occurred_at), tick)?.about(tick.payload.instrument_id.as_str()))
}
