//! Dead letters of a stream: an event in the topology's dead-letter topic for each event that an operator refused.
//!
//! A letter names the place in the log, the operator, the code and the reason, and holds the event itself unless that
//! is too large to be held by another event. [`replay`] appends the event of a letter to its topic again. It gets a
//! new id, because the log knows the old one; the extension `replayof` names the old one, and [`identity`] reads it.

use kernel::{Error, Event, MAX_EVENT_BYTES, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use store::{Appended, EventLog, ReadLimit, Topic};

use crate::context::Origin;
use crate::{Emission, Rejection};

/// The type of a dead letter.
pub const DEAD_LETTER: &str = "stream.deadletter";

/// The extension that names the event of which this is a replay.
pub const REPLAY_OF: &str = "replayof";

const MOST_REASON_BYTES: usize = 1_024;

/// What a dead letter says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Letter {
    /// The stable code of the reason.
    pub code: String,
    /// The reason, for people.
    pub reason: String,
    /// The topology that refused the event.
    pub topology: String,
    /// Its version.
    pub version: u32,
    /// The operator that refused it.
    pub operator: String,
    /// The topic of the event.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its id.
    pub event_id: String,
    /// Its source.
    pub event_source: String,
    /// The event; none where it is too large.
    pub event: Option<Box<RawValue>>,
}

/// The letter for the event at `offset`.
pub(crate) fn emission(
    origin: &Origin,
    offset: u64,
    event: &Event,
    operator: &str,
    rejection: &Rejection,
) -> Emission {
    let json = String::from_utf8(event.to_json()).ok().filter(|json| json.len() <= MAX_EVENT_BYTES / 2);
    let mut reason = rejection.reason.clone();
    reason.truncate(reason.floor_char_boundary(MOST_REASON_BYTES));
    let letter = Letter {
        code: rejection.code.to_owned(),
        reason,
        topology: origin.topology.clone(),
        version: origin.version,
        operator: operator.to_owned(),
        topic: origin.input.as_str().to_owned(),
        partition: origin.partition,
        offset,
        event_id: event.id.clone(),
        event_source: event.source.clone(),
        event: json.and_then(|json| RawValue::from_string(json).ok()),
    };
    Emission {
        kind: DEAD_LETTER.into(),
        time: event.time,
        subject: None,
        partition_key: None,
        data: serde_json::value::to_raw_value(&letter).expect("a letter has a JSON form").into(),
    }
}

/// Source and id under which an event was first sent.
#[must_use]
pub fn identity(event: &Event) -> (&str, &str) {
    let first = event.extensions.get(REPLAY_OF).and_then(Value::as_str);
    (&event.source, first.unwrap_or(&event.id))
}

/// Appends the event of a letter to its topic again, as of `now`.
///
/// # Errors
/// `VALIDATION_ERROR` when `letter` is none, `NOT_FOUND` when its event is no longer in the log, those of the log.
pub async fn replay(scope: &Scope, log: &dyn EventLog, letter: &Event, now: Timestamp) -> Result<Appended> {
    let said: Letter = letter
        .data_as()
        .map_err(|cause| Error::new(codes::VALIDATION_ERROR, "this is no dead letter").with_source(cause))?;
    let topic = Topic::new(said.topic.clone())?;
    let mut event = match &said.event {
        Some(json) => Event::from_json(json.get().as_bytes())?,
        None => find(log, &topic, &said).await?,
    };
    let (_, first) = identity(&event);
    let first = first.to_owned();
    event.id = format!("{first}~{}", now.as_millisecond());
    event.extensions.insert(REPLAY_OF.to_owned(), Value::String(first));
    let places = log.append(scope, &topic, vec![event]).await?;
    places.first().copied().ok_or_else(|| Error::internal("an append returned no place"))
}

async fn find(log: &dyn EventLog, topic: &Topic, letter: &Letter) -> Result<Event> {
    let limit = ReadLimit { events: 1, ..ReadLimit::default() };
    let found = log.read(topic, letter.partition, letter.offset, limit).await?;
    let found = found.into_iter().find(|stored| stored.offset == letter.offset);
    found.map(|stored| stored.event).ok_or_else(|| {
        let message = format!("event {} of `{topic}` is no longer in the log", letter.offset);
        Error::new(codes::NOT_FOUND, message)
    })
}
