//! The newest price of each instrument, told when it changes.
//!
//! Newest is by event time, then by sequence, then by identity: never by arrival.

use std::sync::Arc;

use compact_str::CompactString;
use kernel::Result;
use serde::{Deserialize, Serialize};
use stream::{Emission, KeyedFold, Rejection, Topology, read};

use super::{ENRICHED_TICKS, LATEST_PRICES, decode, moment};
use crate::events::{LatestPrice, TickMessage, kinds};

pub(super) fn topology() -> Result<Topology> {
    Topology::new("projection", ENRICHED_TICKS, || {
        read("decode", decode).filter("prices", |tick| tick.trade().is_some()).keyed("latest", Newest).to(
            "latest_price",
            LATEST_PRICES,
            |tick| {
                let emission =
                    Emission::new(kinds::LATEST_PRICE, moment(tick.occurred_at), &LatestPrice::of(tick))?;
                Ok(emission.about(tick.payload.instrument_id.as_str()))
            },
        )
    })
}

struct Newest;

/// Which tick is the newest so far.
#[derive(Default, PartialEq, PartialOrd, Serialize, Deserialize)]
struct Place {
    occurred_us: i64,
    sequence: u64,
    tick_id: CompactString,
}

impl KeyedFold for Newest {
    type In = Arc<TickMessage>;
    type State = Option<Place>;
    type Out = Arc<TickMessage>;

    fn key(&self, item: &Arc<TickMessage>, key: &mut Vec<u8>) {
        key.extend_from_slice(item.payload.instrument_id.as_bytes());
    }

    fn apply(
        &mut self,
        state: &mut Option<Place>,
        item: Arc<TickMessage>,
        out: &mut Vec<Arc<TickMessage>>,
    ) -> Result<(), Rejection> {
        let place = Place {
            occurred_us: item.occurred_at,
            sequence: item.payload.sequence.unwrap_or(0),
            tick_id: item.payload.tick_id.clone(),
        };
        if state.as_ref().is_none_or(|newest| *newest < place) {
            *state = Some(place);
            out.push(item);
        }
        Ok(())
    }
}
