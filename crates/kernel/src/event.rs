//! The one event envelope: CloudEvents 1.0 in JSON, with `tenantid` and `partitionkey` as extension attributes
//! (CloudEvents specification 1.0.2; JSON event format 1.0.2).
//!
//! An [`EventDraft`] is what a caller sent; [`EventDraft::seal`] checks it against a [`Scope`] and makes an
//! [`Event`]. It refuses other spec versions, attribute names outside `a-z0-9`, and a tenant that the
//! scope does not speak for. What `data` means is the business of the domain that owns the event type.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use litemap::LiteMap;
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Error, Payload, Result, Scope, TenantId, Timestamp, codes, json};

/// The only spec version that is understood.
pub const SPEC_VERSION: &str = "1.0";

/// The largest event, in bytes of JSON.
pub const MAX_EVENT_BYTES: usize = 1 << 20;

/// The names that no extension may have, since they say something else.
const ATTRIBUTES: [&str; 11] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "tenantid",
    "partitionkey",
    "datacontenttype",
    "dataschema",
    "data",
];

const MAX_ATTRIBUTE_BYTES: usize = 1_024;

/// What most events need besides their payload.
const ENVELOPE_BYTES: usize = 512;

/// As many attributes beside those of every event may one have.
pub const MAX_EXTENSIONS: usize = 32;

const MAX_NAME_BYTES: usize = 20;

/// Attributes by name, in order. Most events have one or two, which a tree takes many times the memory for. Where there are
/// none its own JSON is `[]`: leave it out there, as [`Event`] does.
pub type Extensions = LiteMap<String, Value>;

/// An event as a caller sent it: `time`, `tenantid` may be missing, nothing is checked beyond its shape.
#[derive(Debug, Default, Clone)]
pub struct EventDraft {
    /// Must be `1.0`.
    pub specversion: Option<String>,
    /// Unique within the source.
    pub id: Option<String>,
    /// Who made it (a URI reference).
    pub source: Option<String>,
    /// What happened, as a reverse-DNS name.
    pub kind: Option<String>,
    /// What it happened to, within the source.
    pub subject: Option<String>,
    /// When it happened; the time of arrival where missing.
    pub time: Option<String>,
    /// The tenant; the scope's where missing.
    pub tenantid: Option<String>,
    /// Events with the same key stay in order.
    pub partitionkey: Option<String>,
    /// The media type of `data`.
    pub datacontenttype: Option<String>,
    /// The schema of `data`.
    pub dataschema: Option<String>,
    /// The payload.
    pub data: Option<Box<RawValue>>,
    /// The payload, where it is binary.
    pub data_base64: Option<String>,
    /// Every other attribute.
    pub extensions: Extensions,
}

/// A checked event of one tenant.
#[derive(Debug, Clone)]
pub struct Event {
    /// Unique within the source and the tenant.
    pub id: String,
    /// Who made it.
    pub source: String,
    /// What happened.
    pub kind: String,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// When it happened.
    pub time: Timestamp,
    /// What it happened to.
    pub subject: Option<String>,
    /// Events with the same key stay in order.
    pub partition_key: Option<String>,
    /// The media type of `data`.
    pub data_content_type: Option<String>,
    /// The schema of `data`.
    pub data_schema: Option<String>,
    /// The payload as JSON text.
    pub data: Option<Payload>,
    /// The payload, where it is binary.
    pub data_base64: Option<String>,
    /// Every other attribute, by name.
    pub extensions: Extensions,
}

impl EventDraft {
    /// Checks the draft and makes it an event of the scope's tenant. `now` stands in for a missing time.
    ///
    /// # Errors
    /// `INVALID_EVENT` naming the attribute, or `TENANT_MISMATCH`.
    pub fn seal(self, scope: &Scope, now: Timestamp) -> Result<Event> {
        match self.specversion.as_deref() {
            Some(SPEC_VERSION) => {}
            Some(other) => {
                return Err(invalid("specversion", format!("only 1.0 is understood, not `{other}`")));
            }
            None => return Err(invalid("specversion", "is missing; it must be `1.0`")),
        }
        if self.data.is_some() && self.data_base64.is_some() {
            return Err(invalid("data_base64", "an event has `data` or `data_base64`, not both"));
        }
        if let Some(tenant) = &self.tenantid
            && tenant != scope.tenant().as_str()
        {
            let message = format!("the credential speaks for `{}`, not for `{tenant}`", scope.tenant());
            return Err(Error::new(codes::TENANT_MISMATCH, message).with_field("tenantid"));
        }
        let time = match self.time {
            None => now,
            Some(text) => text.parse().map_err(|cause| {
                invalid("time", format!("`{text}` is not an RFC 3339 time with an offset"))
                    .with_source(Box::<dyn std::error::Error + Send + Sync>::from(format!("{cause}")))
            })?,
        };
        check_extensions(&self.extensions)?;
        Ok(Event {
            id: required("id", self.id)?,
            source: required("source", self.source)?,
            kind: required("type", self.kind)?,
            tenant: scope.tenant().clone(),
            time,
            subject: optional("subject", self.subject)?,
            partition_key: optional("partitionkey", self.partitionkey)?,
            data_content_type: optional("datacontenttype", self.datacontenttype)?,
            data_schema: optional("dataschema", self.dataschema)?,
            data: self.data.map(Payload::from),
            data_base64: self.data_base64,
            extensions: self.extensions,
        })
    }
}

impl EventDraft {
    /// The event that was sealed earlier, where every attribute that a sealed event has is there.
    fn unseal(self) -> Result<Event> {
        let present = |field, value: Option<String>| value.ok_or_else(|| invalid(field, "is missing"));
        if self.specversion.as_deref() != Some(SPEC_VERSION) {
            return Err(invalid("specversion", "must be `1.0`"));
        }
        let time = present("time", self.time)?;
        Ok(Event {
            id: present("id", self.id)?,
            source: present("source", self.source)?,
            kind: present("type", self.kind)?,
            tenant: TenantId::new(present("tenantid", self.tenantid)?)?,
            time: time.parse().map_err(|_| invalid("time", "is not an RFC 3339 time"))?,
            subject: self.subject,
            partition_key: self.partitionkey,
            data_content_type: self.datacontenttype,
            data_schema: self.dataschema,
            data: self.data.map(Payload::from),
            data_base64: self.data_base64,
            extensions: self.extensions,
        })
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(codes::INVALID_EVENT, message).with_field(field)
}

fn required(field: &str, value: Option<String>) -> Result<String> {
    optional(field, value)?.ok_or_else(|| invalid(field, "is missing"))
}

fn optional(field: &str, value: Option<String>) -> Result<Option<String>> {
    value.as_deref().map_or(Ok(()), |text| check_text(field, text))?;
    Ok(value)
}

fn check_text(field: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        Err(invalid(field, "must not be empty"))
    } else if text.len() > MAX_ATTRIBUTE_BYTES {
        Err(invalid(field, format!("has at most {MAX_ATTRIBUTE_BYTES} bytes, not {}", text.len())))
    } else if text.chars().any(char::is_control) {
        Err(invalid(field, "must not have control characters"))
    } else {
        Ok(())
    }
}

fn check_extensions(extensions: &Extensions) -> Result<()> {
    if extensions.len() > MAX_EXTENSIONS {
        return Err(invalid("extensions", format!("an event has at most {MAX_EXTENSIONS} of them")));
    }
    for (name, value) in extensions {
        let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(lawful) {
            let shown: String = name.chars().take(64).collect();
            let rule = format!("an attribute name is 1 to {MAX_NAME_BYTES} of a-z and 0-9");
            return Err(invalid(&shown.escape_debug().to_string(), rule));
        }
        match value {
            Value::String(text) => check_text(name, text)?,
            Value::Bool(_) | Value::Null => {}
            Value::Number(number) if number.is_i64() => {}
            _ => return Err(invalid(name, "an extension is a string, a whole number or a boolean")),
        }
    }
    Ok(())
}

impl Event {
    /// An event with what every one must have; the rest is laid over it.
    #[must_use]
    pub fn new(
        tenant: &TenantId,
        id: impl Into<String>,
        source: impl Into<String>,
        kind: impl Into<String>,
        time: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            kind: kind.into(),
            tenant: tenant.clone(),
            time,
            subject: None,
            partition_key: None,
            data_content_type: None,
            data_schema: None,
            data: None,
            data_base64: None,
            extensions: Extensions::new(),
        }
    }

    /// Whether the JSON of this event, sealed once more, is this event: what was laid over it keeps the rules of a draft.
    #[must_use]
    pub fn is_lawful(&self) -> bool {
        let required = [&self.id, &self.source, &self.kind];
        let optional = [&self.subject, &self.partition_key, &self.data_content_type, &self.data_schema];
        let mut texts = required.into_iter().chain(optional.into_iter().flatten());
        // A null that is written is read as nothing.
        let is_null = self.data.as_ref().is_some_and(|data| data.get() == "null");
        texts.all(|text| check_text("", text).is_ok())
            && check_extensions(&self.extensions).is_ok()
            && !self.extensions.keys().any(|name| ATTRIBUTES.contains(&name.as_str()))
            && !is_null
            && (self.data.is_none() || self.data_base64.is_none())
    }

    /// The payload as `T`.
    ///
    /// # Errors
    /// `INVALID_EVENT` naming the field of `data` that does not fit, such as `data.user_id`.
    pub fn data_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        let raw = match (&self.data, &self.data_base64) {
            (Some(data), _) => data.get(),
            (None, Some(_)) => {
                return Err(invalid("data_base64", "events of this type are JSON; send it as `data`"));
            }
            (None, None) => "null",
        };
        json::read(raw).map_err(|fault| {
            if raw == "null" {
                return invalid("data", "is missing; it must be a JSON object");
            }
            let field =
                fault.field.as_ref().map_or_else(|| "data".to_owned(), |field| format!("data.{field}"));
            invalid(&field, fault.message_without_place())
        })
    }

    /// As [`Event::data_as`], and where it was read as a `T` before, that value.
    ///
    /// # Errors
    /// As [`Event::data_as`].
    pub fn shared_data_as<T: DeserializeOwned + Any + Send + Sync>(&self) -> Result<Arc<T>> {
        if let Some(known) = self.data.as_ref().and_then(Payload::value) {
            return Ok(known);
        }
        let read = Arc::new(self.data_as()?);
        if let Some(data) = &self.data {
            data.keep(&read);
        }
        Ok(read)
    }

    /// The event as JSON text, the form that is stored and sent.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let payload = self.data.as_ref().map_or(0, |data| data.get().len());
        let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + payload);
        serde_json::to_writer(&mut bytes, self).expect("every part of an event has a JSON form");
        bytes
    }

    /// Reads what [`Event::to_json`] wrote. What was checked when it was sealed is not checked again.
    ///
    /// # Errors
    /// `CORRUPTED` when it is anything else.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let corrupted = |cause: Box<dyn std::error::Error + Send + Sync>| {
            Error::new(codes::CORRUPTED, "a stored event cannot be read").with_source(cause)
        };
        // One look at all of the text is faster than one at each part.
        let text = std::str::from_utf8(bytes).map_err(|cause| corrupted(cause.into()))?;
        let draft: EventDraft = serde_json::from_str(text).map_err(|cause| corrupted(cause.into()))?;
        draft.unseal().map_err(|cause| corrupted(cause.into()))
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", SPEC_VERSION)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("source", &self.source)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("tenantid", &self.tenant)?;
        map.serialize_entry("time", &self.time)?;
        let optional = [
            ("subject", &self.subject),
            ("partitionkey", &self.partition_key),
            ("datacontenttype", &self.data_content_type),
            ("dataschema", &self.data_schema),
            ("data_base64", &self.data_base64),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        for (name, value) in &self.extensions {
            map.serialize_entry(name, value)?;
        }
        if let Some(data) = &self.data {
            map.serialize_entry("data", data)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for EventDraft {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DraftVisitor)
    }
}

// By hand, because `serde(flatten)` cannot keep `data` as raw text.
struct DraftVisitor;

/// The name of an attribute; copied only where it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for DraftVisitor {
    type Value = EventDraft;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a CloudEvent as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventDraft, A::Error> {
        let mut draft = EventDraft::default();
        while let Some(Name(name)) = map.next_key()? {
            match name.as_ref() {
                "specversion" => draft.specversion = map.next_value()?,
                "id" => draft.id = map.next_value()?,
                "source" => draft.source = map.next_value()?,
                "type" => draft.kind = map.next_value()?,
                "subject" => draft.subject = map.next_value()?,
                "time" => draft.time = map.next_value()?,
                "tenantid" => draft.tenantid = map.next_value()?,
                "partitionkey" => draft.partitionkey = map.next_value()?,
                "datacontenttype" => draft.datacontenttype = map.next_value()?,
                "dataschema" => draft.dataschema = map.next_value()?,
                "data" => draft.data = map.next_value()?,
                "data_base64" => draft.data_base64 = map.next_value()?,
                _ => {
                    let name = name.into_owned();
                    if draft.extensions.len() > MAX_EXTENSIONS {
                        return Err(de::Error::custom(format!(
                            "an event has at most {MAX_EXTENSIONS} extension attributes"
                        )));
                    }
                    draft.extensions.insert(name, map.next_value()?);
                }
            }
        }
        Ok(draft)
    }
}
