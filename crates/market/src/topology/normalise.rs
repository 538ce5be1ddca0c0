//! Raw messages to ticks: read by the mapping, checked, each one once.

use std::sync::Arc;

use kernel::{Event, Result, TenantId};
use store::{MAX_TIME_NS, Topic};
use stream::{Rejection, Topology, read};

use super::{NORMALISED_TICKS, RAW_TICKS, emission, received_us};
use crate::algorithms::quality::QualityLimits;
use crate::algorithms::ticks::{RejectionCode, SequenceScope, Tenancy};
use crate::events::{Stamp, TickMessage, kinds, topics};
use crate::settings::Rules;

const DEAD_TICKS: Topic = Topic::fixed(topics::DEAD_TICKS);
const PRODUCER: &str = concat!("watershed@", env!("CARGO_PKG_VERSION"));
/// The code of a tick that happens later than it came.
const FROM_THE_FUTURE: &str = "FROM_THE_FUTURE";

pub(super) fn topology(rules: &Arc<Rules>) -> Result<Topology> {
    let (deduplication, rules) = (rules.deduplication, Arc::clone(rules));
    let built = Topology::new("normalization", RAW_TICKS, move || {
        let (rules, scope) = (Arc::clone(&rules), rules.normaliser.sequence_scope());
        read("normalise", move |event| normalised(&rules, event).map(Arc::new))
            .deduplicate("deduplicate", deduplication, move |tick, key| identify(scope, tick, key))
            .to("normalized", NORMALISED_TICKS, |tick| emission(kinds::NORMALISED_TICK, tick))
    });
    Ok(built?.with_dead_letters(DEAD_TICKS))
}

/// What a raw message says, as a tick.
///
/// # Errors
/// What is wrong with it, with the code of [`RejectionCode`] or `FROM_THE_FUTURE`.
pub fn normalised(rules: &Rules, event: &Event) -> Result<TickMessage, Rejection> {
    if event.tenant == TenantId::server() {
        let reason = "the sender speaks for the server itself, which has no ticks".to_owned();
        return Err(Rejection { code: RejectionCode::TenantMismatch.name(), reason });
    }
    let message = event.data.as_ref().map_or("null", |data| data.get());
    let tenancy = Tenancy::Only(&event.tenant);
    let found = rules.read(message.as_bytes(), tenancy, |tick, _| {
        let arrived_us = received_us(event).or(tick.ingested_us);
        check_moment(tick.occurred_us, arrived_us, &rules.quality)?;
        let stamp = Stamp { normalised_us: arrived_us.unwrap_or(tick.occurred_us), producer: PRODUCER };
        Ok(TickMessage::of(tick, stamp))
    });
    found.map_err(|fault| Rejection { code: fault.code.name(), reason: fault.to_string() })?
}

/// Passes for a time that is not later than clocks differ, and that bars and columns can hold.
///
/// # Errors
/// `FROM_THE_FUTURE`, `BAD_TIME`.
pub fn check_moment(
    occurred_us: i64,
    arrived_us: Option<i64>,
    limits: &QualityLimits,
) -> Result<(), Rejection> {
    let ahead_us = arrived_us.map_or(0, |arrived_us| occurred_us.saturating_sub(arrived_us));
    if ahead_us > i64::from(limits.future_tolerance_seconds) * 1_000_000 {
        let reason =
            format!("happened {} s after it arrived; mend the clock of the producer", ahead_us / 1_000_000);
        return Err(Rejection { code: FROM_THE_FUTURE, reason });
    }
    if occurred_us.checked_mul(1_000).is_none_or(|time_ns| time_ns.abs() > MAX_TIME_NS) {
        let reason = "must be a time of the years 1685 to 2255".to_owned();
        return Err(Rejection { code: RejectionCode::BadTime.name(), reason });
    }
    Ok(())
}

/// A number within its source where there is one, else the identity of the tick.
fn identify(scope: SequenceScope, tick: &TickMessage, key: &mut Vec<u8>) -> Option<u64> {
    let payload = &tick.payload;
    if payload.sequence.is_none() {
        key.extend_from_slice(payload.tick_id.as_bytes());
        return None;
    }
    key.extend_from_slice(payload.source_system.as_bytes());
    if scope == SequenceScope::Symbol {
        key.push(0);
        key.extend_from_slice(payload.symbol.as_bytes());
    }
    payload.sequence
}
