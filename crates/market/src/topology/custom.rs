//! Custom projections: what the settings make of prices, quotes and bars, by key; kept by [`crate::custom`].
//!
//! One stage for each topic that a projection is made of, and none where there is none. They remember nothing, so that a
//! projection that is declared, changed or taken away needs no other state. What an expression refuses is a dead letter of
//! theirs; other projections of the same event go on.

use std::sync::Arc;

use kernel::{Event, Result};
use serde_json::{Map, Value};
use store::Topic;
use stream::{Emission, Rejection, Topology, read};

use super::{BAR_KINDS, ENRICHED_TICKS, moment};
use crate::algorithms::projections::{Origin, Projections};
use crate::custom::Kept;
use crate::events::{KeptBar, TickMessage, kinds, topics};
use crate::settings::Rules;

/// What the names of these stages begin with.
pub(crate) const CUSTOM: &str = "custom_";
/// Where they send what they make: the sink keeps it, and no log has it.
pub const KEPT: Topic = Topic::fixed("served.market.custom.v1");
const DEAD: Topic = Topic::fixed(topics::DEAD_PROJECTION);
/// The code of an event that an expression cannot be asked of.
const EXPRESSION_FAILED: &str = "EXPRESSION_FAILED";

/// What can be projected of an event.
#[derive(Debug)]
pub(crate) struct Told {
    origins: &'static [Origin],
    instrument: String,
    occurred_us: i64,
    sequence: u64,
    id: String,
    told_us: i64,
    event: Map<String, Value>,
}

/// The topics that these projections are made of, with the names of their stages.
pub(crate) fn inputs(projections: &Projections) -> Vec<(String, Topic)> {
    let reads = |origins: &[Origin]| origins.iter().any(|origin| projections.reads(*origin));
    let ticks = reads(&[Origin::Price, Origin::Quote]).then(|| (format!("{CUSTOM}ticks"), ENRICHED_TICKS));
    let bars = BAR_KINDS.iter().zip(BARS).filter(|(_, origin)| reads(origin));
    let bars = bars.map(|(kind, _)| (format!("{CUSTOM}{}", kind.table.name), Topic::fixed(kind.topic)));
    ticks.into_iter().chain(bars).collect()
}

/// As [`BAR_KINDS`] has them.
const BARS: [&[Origin]; BAR_KINDS.len()] = [&[Origin::Bar5m], &[Origin::Bar1h], &[Origin::Bar1d]];

/// The stages of the custom projections of the settings.
///
/// # Errors
/// None that a test would not find.
pub fn custom(rules: &Arc<Rules>) -> Result<Vec<Topology>> {
    let stage = |(name, topic): (String, Topic)| {
        let (rules, input, event_time) = (Arc::clone(rules), topic.clone(), rules.event_time);
        let built = Topology::new(&name, topic, move || {
            let (rules, input) = (Arc::clone(&rules), input.clone());
            read("decode", move |event| told(&input, event))
                .flat_map("evaluate", move |told, made| {
                    made.extend(project(&rules.projections, told));
                    Ok(())
                })
                .map("project", |made| made)
                .to("kept", KEPT, |kept: &Kept| {
                    let emission = Emission::new(kinds::CUSTOM, moment(kept.told_us), kept)?;
                    Ok(emission.about(&kept.instrument_id))
                })
        });
        Ok(built?.with_dead_letters(DEAD).with_event_time(event_time))
    };
    inputs(&rules.projections).into_iter().map(stage).collect()
}

/// What can be projected of an event of a topic.
pub(crate) fn told(topic: &Topic, event: &Event) -> Result<Told, Rejection> {
    let mut all: Map<String, Value> = event.data_as()?;
    if let Some((kind, origins)) = BAR_KINDS.iter().zip(BARS).find(|(kind, _)| kind.topic == topic.as_str()) {
        let bar: KeptBar = event.data_as()?;
        let start_us = bar.interval_start.as_microsecond();
        let id =
            format!("{}/{}/{}/{start_us}/{}", bar.instrument_id, bar.market, kind.table.name, bar.revision);
        return Ok(Told {
            origins,
            occurred_us: start_us,
            sequence: u64::from(bar.revision),
            id,
            told_us: bar.interval_end.as_microsecond(),
            instrument: bar.instrument_id,
            event: all,
        });
    }
    let tick: Arc<TickMessage> = event.shared_data_as()?;
    let Some(Value::Object(mut payload)) = all.remove("payload") else { return Err(no_payload()) };
    payload.insert("occurred_at".to_owned(), Value::from(tick.occurred_at));
    let origins: &[Origin] = match (tick.trade(), tick.quote()) {
        (Some(_), Some(_)) => &[Origin::Price, Origin::Quote],
        (Some(_), None) => &[Origin::Price],
        (None, Some(_)) => &[Origin::Quote],
        (None, None) => &[],
    };
    Ok(Told {
        origins,
        occurred_us: tick.occurred_at,
        sequence: tick.payload.sequence.unwrap_or(0),
        id: tick.payload.tick_id.to_string(),
        told_us: tick.occurred_at,
        instrument: tick.payload.instrument_id.to_string(),
        event: payload,
    })
}

fn no_payload() -> Rejection {
    Rejection { code: "INVALID_EVENT", reason: "a tick has no payload".to_owned() }
}

/// What the projections make of it.
pub(crate) fn project(projections: &Projections, told: Told) -> Vec<Result<Kept, Rejection>> {
    let Told { origins, instrument, occurred_us, sequence, id, told_us, event } = told;
    let made = projections.apply(origins, event).into_iter().map(|made| {
        let made = made.map_err(|reason| Rejection { code: EXPRESSION_FAILED, reason })?;
        let kept = Kept {
            projection: made.projection.to_owned(),
            definition: made.definition.to_owned(),
            key: made.key.unwrap_or_else(|| instrument.clone()),
            instrument_id: instrument.clone(),
            data: made.data,
            occurred_us,
            sequence,
            id: id.clone(),
            told_us,
            ends_ms: None,
            changed_ms: 0,
        };
        Ok(match projections.named(made.projection) {
            Some((projection, _)) => kept.ending(projection),
            None => kept,
        })
    });
    made.collect()
}
