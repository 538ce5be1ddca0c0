//! The dead letter of a message that is no tick, with the names of the guide's record.

use std::borrow::Cow;

use serde::Serialize;

use crate::algorithms::ticks::{Rejection, RejectionCode};

/// The dead letter of a message that is no tick: the payload of the guide's record. Its outer fields are the stream's.
#[derive(Debug, Clone, Serialize)]
pub struct DeadTick<'a> {
    /// The id of the message, where it had one.
    pub failed_event_id: Option<Cow<'a, str>>,
    /// The topic that it came on.
    pub failed_topic: &'a str,
    /// Always `NORMALIZATION`.
    pub failure_stage: &'static str,
    /// The guide's code.
    pub error_code: &'static str,
    /// What exactly was wrong.
    pub reason: RejectionCode,
    /// The field.
    pub field: &'a str,
    /// For people.
    pub error_message: &'a str,
    /// How often it was tried again.
    pub retry_count: u32,
    /// The message to the byte, as text; what is not UTF-8 is replaced.
    pub raw_event: Cow<'a, str>,
}

impl<'a> DeadTick<'a> {
    /// The dead letter of `message`.
    #[must_use]
    pub fn of(message: &'a [u8], topic: &'a str, rejection: &'a Rejection, retry_count: u32) -> Self {
        Self {
            failed_event_id: event_id(message),
            failed_topic: topic,
            failure_stage: "NORMALIZATION",
            error_code: rejection.code.wire_name(),
            reason: rejection.code,
            field: &rejection.field,
            error_message: &rejection.message,
            retry_count,
            raw_event: String::from_utf8_lossy(message),
        }
    }
}

/// The id of a message, where it can be read at all.
fn event_id(message: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Named<'a> {
        #[serde(borrow, default)]
        event_id: Option<Cow<'a, str>>,
    }
    #[derive(serde::Deserialize)]
    struct Outer<'a> {
        #[serde(borrow, flatten)]
        flat: Named<'a>,
        #[serde(borrow, default)]
        envelope: Option<Named<'a>>,
    }
    let outer: Outer<'_> = serde_json::from_slice(message).ok()?;
    outer.flat.event_id.or_else(|| outer.envelope?.event_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::ticks::{Mapping, NoReference, Normaliser, Tenancy, normalise};
    use crate::events::topics;

    #[test]
    fn a_dead_letter_has_the_names_of_the_guide() {
        let message =
            br#"{"envelope":{"event_id":"e9","tenant_id":"default"},"payload":{"symbol":"X","price":"NaN",
            "timestamp":"2024-01-01","source_system":"s"}}"#;
        let normaliser = Normaliser::new(Mapping::default()).unwrap();
        let rejection = normalise(message, &normaliser, Tenancy::Named, &NoReference).unwrap_err();
        let letter = serde_json::to_value(DeadTick::of(message, topics::RAW_TICKS, &rejection, 2)).unwrap();
        for (field, value) in [
            ("failed_event_id", "e9"),
            ("failed_topic", "ingestion.market.ticks.raw.v1"),
            ("failure_stage", "NORMALIZATION"),
            ("error_code", "VALIDATION_ERROR"),
            ("reason", "NOT_FINITE"),
            ("field", "payload.price"),
        ] {
            assert_eq!(letter[field], value, "{field}");
        }
        assert_eq!(letter["retry_count"], 2);
        assert_eq!(letter["raw_event"].as_str().unwrap().as_bytes(), message);
        assert_eq!(event_id(b"\xff"), None);
        assert_eq!(event_id(br#"{"event_id":"a"}"#).as_deref(), Some("a"));
    }
}
