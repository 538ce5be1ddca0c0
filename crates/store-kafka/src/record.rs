//! Events as records, and records of others as events.
//!
//! An event is written as the CloudEvents binding for Kafka has it (version 1.0.2), structured: the record's value is the
//! event as JSON, its key the partition key, else the subject, else the id, as in every log, so that an event that is sent
//! again meets its double. The record's timestamp is the time of writing, never the event's: brokers cut and refuse by it.
//!
//! | a record | becomes |
//! |---|---|
//! | a CloudEvent, structured or in headers (binary) | that event; the record's time where it has none |
//! | any other JSON | an event of type [`FOREIGN`] with that JSON in `data` |
//! | anything else, also nothing (a tombstone) | an event of type [`FOREIGN`] with the bytes in `data_base64` |
//! | too large, or held and not handed over | an event of type [`UNUSABLE`] that says so; the record stays where it is |
//!
//! What is made for a foreign record is the same whenever it is read: its id is `topic/partition/offset`, its source
//! `/kafka/TOPIC`, its time the record's. Its tenant is what the guide's envelopes say (`tenant_id`, or that of
//! `envelope`), else the default one. Whether it makes sense is for the `read` of a topology to say: what that refuses
//! becomes a dead letter, and the partition goes on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kernel::{Event, EventDraft, MAX_EVENT_BYTES, MAX_EXTENSIONS, Scope, TenantId, Timestamp};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use store::Topic;

/// The type of an event that was made of a record that is none.
pub const FOREIGN: &str = "kafka.record";

/// The type of an event that stands for a record that cannot be handed over.
pub const UNUSABLE: &str = "kafka.record.unusable";

const STRUCTURED: &str = "application/cloudevents+json";
/// What an event needs besides its data.
const ENVELOPE_BYTES: usize = 8_192;
const MOST_JSON_BYTES: usize = MAX_EVENT_BYTES;
/// Base64 makes four bytes of three.
const MOST_OTHER_BYTES: usize = (MAX_EVENT_BYTES - ENVELOPE_BYTES) / 4 * 3;
const MOST_KEY_BYTES: usize = 1_024;

/// A record, taken from the client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Raw {
    pub offset: u64,
    pub time_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// None for a tombstone and for what is too large.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
    /// The length of the value.
    pub bytes: usize,
    /// The brokers hold it and did not hand it over.
    pub is_withheld: bool,
}

impl Raw {
    pub(crate) fn take(message: &BorrowedMessage<'_>) -> Self {
        let payload = message.payload();
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let texts = headers.iter().filter_map(|header| {
                let value = header.value.filter(|value| value.len() <= MOST_KEY_BYTES)?;
                Some((header.key.to_ascii_lowercase(), value.to_vec()))
            });
            texts.collect()
        });
        Self {
            offset: u64::try_from(message.offset()).unwrap_or_default(),
            time_ms: message.timestamp().to_millis(),
            key: message.key().filter(|key| key.len() <= MOST_KEY_BYTES).map(<[u8]>::to_vec),
            value: payload.filter(|value| value.len() <= MOST_JSON_BYTES).map(<[u8]>::to_vec),
            headers,
            bytes: payload.map_or(0, <[u8]>::len),
            is_withheld: false,
        }
    }

    /// One that the brokers hold and do not hand over.
    pub(crate) fn withheld(offset: u64) -> Self {
        Self { offset, is_withheld: true, ..Self::default() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }

    fn time(&self) -> Timestamp {
        let known = self.time_ms.and_then(|time_ms| Timestamp::from_millisecond(time_ms).ok());
        known.unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// What an event is written as.
pub(crate) struct Written {
    pub key: String,
    pub value: Vec<u8>,
}

impl Written {
    pub(crate) fn of(event: &Event) -> Self {
        let key = event.partition_key.as_ref().or(event.subject.as_ref()).unwrap_or(&event.id);
        Self { key: key.clone(), value: event.to_json() }
    }
}

/// The headers of every event that is written.
pub(crate) fn headers() -> OwnedHeaders {
    OwnedHeaders::new_with_capacity(1).insert(Header { key: "content-type", value: Some(STRUCTURED) })
}

/// What kind of record it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Foreign,
    Unusable,
}

/// Reads records of one partition.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub topic: Topic,
    pub partition: u32,
    pub tenant: TenantId,
}

impl Reading {
    /// The event of a record. There always is one.
    pub(crate) fn event(&self, raw: Raw) -> (Event, Kind) {
        match self.cloud_event(&raw) {
            Some(event) => (event, Kind::Event),
            None => self.foreign(raw),
        }
    }

    fn cloud_event(&self, raw: &Raw) -> Option<Event> {
        let draft = if raw.header("ce_specversion").is_some() {
            binary(raw)?
        } else {
            let text = std::str::from_utf8(raw.value.as_deref()?).ok()?;
            let is_declared = raw.header("content-type").is_some_and(|kind| kind.starts_with(STRUCTURED));
            if !is_declared && !looks_structured(text) {
                return None;
            }
            serde_json::from_str::<EventDraft>(text).ok()?
        };
        let tenant = match &draft.tenantid {
            Some(named) => TenantId::new(named.clone()).ok()?,
            None => self.tenant.clone(),
        };
        draft.seal(&Scope::system(tenant, "kafka"), raw.time()).ok()
    }

    fn foreign(&self, raw: Raw) -> (Event, Kind) {
        let time = raw.time();
        let partition_key = raw.key.as_deref().and_then(attribute);
        let data_content_type = raw.header("content-type").and_then(|kind| attribute(kind.as_bytes()));
        let (tenant, data, data_base64, kind) = match raw.value {
            Some(value) => match json(value) {
                Ok((data, tenant)) => (tenant, Some(data), None, Kind::Foreign),
                Err(value) if value.len() <= MOST_OTHER_BYTES => {
                    (None, None, Some(STANDARD.encode(value)), Kind::Foreign)
                }
                Err(_) => (None, Some(self.too_large(raw.offset, raw.bytes)), None, Kind::Unusable),
            },
            None if raw.bytes > 0 || raw.is_withheld => {
                (None, Some(self.too_large(raw.offset, raw.bytes)), None, Kind::Unusable)
            }
            None => (None, None, Some(String::new()), Kind::Foreign),
        };
        let event = Event {
            id: format!("{}/{}/{}", self.topic, self.partition, raw.offset),
            source: format!("/kafka/{}", self.topic),
            kind: if kind == Kind::Unusable { UNUSABLE } else { FOREIGN }.to_owned(),
            tenant: tenant.unwrap_or_else(|| self.tenant.clone()),
            time,
            subject: None,
            partition_key,
            data_content_type,
            data_schema: None,
            data: data.map(Into::into),
            data_base64,
            extensions: kernel::Extensions::new(),
        };
        (event, kind)
    }

    fn too_large(&self, offset: u64, bytes: usize) -> Box<RawValue> {
        #[derive(Serialize)]
        struct TooLarge<'a> {
            reason: &'static str,
            topic: &'a str,
            partition: u32,
            offset: u64,
            /// Zero where nobody knows.
            bytes: usize,
            most_bytes: usize,
        }
        let said = TooLarge {
            reason: if bytes > 0 {
                "the record is larger than an event may be; it is still in the topic"
            } else {
                "the brokers hold the record and do not hand it over; it is larger than their answers"
            },
            topic: self.topic.as_str(),
            partition: self.partition,
            offset,
            bytes,
            most_bytes: MOST_JSON_BYTES,
        };
        to_raw_value(&said).expect("it has a JSON form")
    }
}

/// Whether it has the attribute that every CloudEvent has.
fn looks_structured(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow)]
        specversion: Option<&'a RawValue>,
    }
    text.contains("\"specversion\"")
        && serde_json::from_str::<Peek<'_>>(text).is_ok_and(|peek| peek.specversion.is_some())
}

/// A CloudEvent whose attributes are in headers that begin with `ce_`.
fn binary(raw: &Raw) -> Option<EventDraft> {
    let mut draft = EventDraft::default();
    for (name, value) in &raw.headers {
        let Some(name) = name.strip_prefix("ce_") else { continue };
        let value = Some(std::str::from_utf8(value).ok()?.to_owned());
        match name {
            "specversion" => draft.specversion = value,
            "id" => draft.id = value,
            "source" => draft.source = value,
            "type" => draft.kind = value,
            "subject" => draft.subject = value,
            "time" => draft.time = value,
            "tenantid" => draft.tenantid = value,
            "partitionkey" => draft.partitionkey = value,
            "dataschema" => draft.dataschema = value,
            other => {
                draft.extensions.insert(other.to_owned(), serde_json::Value::String(value?));
                if draft.extensions.len() > MAX_EXTENSIONS {
                    return None;
                }
            }
        }
    }
    if draft.partitionkey.is_none() {
        draft.partitionkey = raw.key.as_deref().and_then(attribute);
    }
    draft.datacontenttype = raw.header("content-type").map(str::to_owned);
    match raw.value.clone().map(json) {
        Some(Ok((data, _))) => draft.data = Some(data),
        Some(Err(bytes)) if bytes.len() <= MOST_OTHER_BYTES => {
            draft.data_base64 = Some(STANDARD.encode(bytes));
        }
        Some(Err(_)) => return None,
        None if raw.bytes > 0 => return None,
        None => {}
    }
    Some(draft)
}

/// The value as JSON with the tenant that an envelope of the guide names, or the bytes again.
fn json(value: Vec<u8>) -> Result<(Box<RawValue>, Option<TenantId>), Vec<u8>> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        tenant_id: Option<&'a RawValue>,
        #[serde(borrow)]
        envelope: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        tenant_id: Option<&'a RawValue>,
    }
    let text = match String::from_utf8(value) {
        Ok(text) => text,
        Err(cause) => return Err(cause.into_bytes()),
    };
    // `RawValue` keeps the text only where it is JSON from end to end.
    if serde_json::from_str::<&RawValue>(&text).is_err() {
        return Err(text.into_bytes());
    }
    let outer = serde_json::from_str::<Outer<'_>>(&text).ok();
    let inner =
        outer.as_ref().and_then(|outer| serde_json::from_str::<Inner<'_>>(outer.envelope?.get()).ok());
    let named = inner.and_then(|inner| inner.tenant_id).or_else(|| outer?.tenant_id);
    let named = named.and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    let tenant = named.and_then(|name| TenantId::new(name).ok());
    match RawValue::from_string(text) {
        Ok(data) => Ok((data, tenant)),
        Err(_) => Err(Vec::new()),
    }
}

/// Bytes as an attribute, where they may be one.
fn attribute(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_lawful = !text.is_empty() && text.len() <= MOST_KEY_BYTES && !text.chars().any(char::is_control);
    is_lawful.then(|| text.to_owned())
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
