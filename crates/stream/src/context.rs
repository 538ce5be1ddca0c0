//! What an operator knows besides its item, and where outputs and dead letters are gathered until the commit.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

use kernel::{Event, Extensions, MAX_EVENT_BYTES, Payload, TenantId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::Topic;
use xxhash_rust::xxh3::xxh3_128;

use crate::{Output, PLACE, Rejection, dead_letter};

/// An output could not be encoded, or is larger than an event may be.
const BAD_OUTPUT: &str = "BAD_OUTPUT";

/// The event at hand and what came of it so far.
#[derive(Debug)]
pub struct Context {
    pub(crate) origin: Origin,
    pub(crate) event: Event,
    pub(crate) offset: u64,
    pub(crate) watermark_ms: i64,
    pub(crate) fate: Fate,
    pub(crate) outputs: Vec<Output>,
    /// The outputs in the form in which they are stored.
    pub(crate) outbox: Vec<u8>,
    cause: Cause,
    place: Place,
    key: Vec<u8>,
}

/// Whose outputs these are.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) topology: String,
    pub(crate) version: u32,
    /// The `source` of every output.
    pub(crate) source: String,
    pub(crate) input: Topic,
    pub(crate) dead_letters: Topic,
    pub(crate) partition: u32,
    /// Namespace and partition, where outputs say their place.
    pub(crate) task: Option<String>,
}

/// Where the next output is from, as [`PLACE`] says it.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    base: u64,
    offset: u64,
    index: u32,
}

/// What makes an output: an event, or a revision of a window; and how many outputs it made so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cause {
    identity: u128,
    made: u32,
}

/// What became of the event so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) arrivals: u32,
    pub(crate) rejections: u32,
    pub(crate) duplicates: u32,
}

/// What an output says. Its id, source and tenant follow from what made it.
#[derive(Debug)]
pub struct Emission {
    /// The event's type.
    pub kind: Cow<'static, str>,
    /// The event's time.
    pub time: Timestamp,
    /// What it is about.
    pub subject: Option<String>,
    /// Outputs with the same key stay in order.
    pub partition_key: Option<String>,
    /// The payload.
    pub data: Payload,
}

impl Emission {
    /// An output with this payload, about nothing in particular.
    ///
    /// # Errors
    /// `BAD_OUTPUT` when the payload has no JSON form.
    pub fn new(kind: &'static str, time: Timestamp, data: &impl Serialize) -> Result<Self, Rejection> {
        Self::with(kind, time, serde_json::value::to_raw_value(data).map(Payload::from))
    }

    /// As [`Emission::new`]; whoever reads the payload as a `T` in this process gets the value itself, so its JSON must say all
    /// of it.
    ///
    /// # Errors
    /// As [`Emission::new`].
    pub fn shared<T>(kind: &'static str, time: Timestamp, data: &Arc<T>) -> Result<Self, Rejection>
    where
        T: Serialize + DeserializeOwned + Any + Send + Sync,
    {
        Self::with(kind, time, Payload::of(data))
    }

    fn with(
        kind: &'static str,
        time: Timestamp,
        data: serde_json::Result<Payload>,
    ) -> Result<Self, Rejection> {
        let data = data.map_err(|error| Rejection { code: BAD_OUTPUT, reason: error.to_string() })?;
        Ok(Self { kind: Cow::Borrowed(kind), time, subject: None, partition_key: None, data })
    }

    /// The same about `subject`, in order with the others about it.
    #[must_use]
    pub fn about(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }
}

impl Context {
    pub(crate) fn new(origin: Origin, event: Event) -> Self {
        Self {
            origin,
            event,
            offset: 0,
            watermark_ms: i64::MIN,
            fate: Fate::default(),
            outputs: Vec::new(),
            outbox: Vec::new(),
            cause: Cause::default(),
            place: Place::default(),
            key: Vec::new(),
        }
    }

    /// What comes is of the event at `offset`, in a commit that begins at `base`.
    pub(crate) fn stand_at(&mut self, base: u64, offset: u64) {
        self.place = Place { base, offset, index: 0 };
    }

    /// Turns to the next event.
    pub(crate) fn turn_to(&mut self, offset: u64, event: Event, watermark_ms: i64) {
        self.key.clear();
        self.key.extend_from_slice(event.source.as_bytes());
        self.key.push(0);
        self.key.extend_from_slice(event.id.as_bytes());
        self.cause = Cause { identity: xxh3_128(&self.key), made: 0 };
        self.event = event;
        self.offset = offset;
        self.watermark_ms = watermark_ms;
        self.fate = Fate::default();
    }

    /// The event at hand. While a watermark moves, it is the one that moved it.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The partition of the event.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.origin.partition
    }

    /// Whose event it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.event.tenant
    }

    /// The time of the event, in milliseconds since 1970.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        self.event.time.as_millisecond()
    }

    /// No event of this tenant is expected to be older; `i64::MIN` before the first.
    #[must_use]
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// The event became part of a state or an output.
    pub fn arrive(&mut self) {
        self.fate.arrivals += 1;
    }

    /// The event was seen before.
    pub fn duplicate(&mut self) {
        self.fate.duplicates += 1;
    }

    /// Sends the event to the dead letters.
    pub fn reject(&mut self, operator: &str, rejection: &Rejection) {
        self.fate.rejections += 1;
        let letter = dead_letter::emission(&self.origin, self.offset, &self.event, operator, rejection);
        let sent = self.send(&self.origin.dead_letters.clone(), "dead", letter);
        debug_assert!(sent.is_ok(), "a letter is bounded");
    }

    /// Adds an output of the operator `operator`.
    ///
    /// # Errors
    /// `BAD_OUTPUT` when it is larger than an event may be.
    pub fn send(&mut self, topic: &Topic, operator: &str, emission: Emission) -> Result<(), Rejection> {
        let event = Event {
            id: self.next_id(operator),
            source: self.origin.source.clone(),
            kind: emission.kind.into_owned(),
            tenant: self.event.tenant.clone(),
            time: emission.time,
            subject: emission.subject,
            partition_key: emission.partition_key,
            data_content_type: None,
            data_schema: None,
            data: Some(emission.data),
            data_base64: None,
            extensions: self.next_place(),
        };
        let output = Output { topic: topic.clone(), event };
        let start = self.outbox.len();
        let bytes = output.write(&mut self.outbox);
        if bytes > MAX_EVENT_BYTES {
            self.outbox.truncate(start);
            let reason = format!("an output has at most {MAX_EVENT_BYTES} bytes, not {bytes}");
            return Err(Rejection { code: BAD_OUTPUT, reason });
        }
        self.outputs.push(output);
        Ok(())
    }

    fn next_place(&mut self) -> Extensions {
        let Some(task) = &self.origin.task else { return Extensions::new() };
        let Place { base, offset, index } = self.place;
        self.place.index += 1;
        let text = format!("{task}/{base}/{offset}/{index}");
        Extensions::from_iter([(PLACE.to_owned(), Value::String(text))])
    }

    fn next_id(&mut self, operator: &str) -> String {
        self.key.clear();
        self.key.extend_from_slice(&self.cause.identity.to_le_bytes());
        self.key.extend_from_slice(&self.cause.made.to_le_bytes());
        self.key.extend_from_slice(operator.as_bytes());
        self.cause.made += 1;
        hexadecimal(xxh3_128(&self.key))
    }

    /// Runs `body` with outputs that are made by what `identity` names, and no longer by the event.
    pub(crate) fn caused_by<R>(&mut self, identity: &[u8], body: impl FnOnce(&mut Self) -> R) -> R {
        let cause = Cause { identity: xxh3_128(identity), made: 0 };
        let earlier = std::mem::replace(&mut self.cause, cause);
        let result = body(self);
        self.cause = earlier;
        result
    }

    /// A buffer with the tenant, for the key of a state. [`Context::give_back`] saves its memory.
    pub(crate) fn key(&mut self) -> Vec<u8> {
        let mut key = std::mem::take(&mut self.key);
        write_tenant(&self.event.tenant, &mut key);
        key
    }

    pub(crate) fn give_back(&mut self, key: Vec<u8>) {
        self.key = key;
    }
}

/// Begins a key of state with its tenant.
pub(crate) fn write_tenant(tenant: &TenantId, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(tenant.as_str().as_bytes());
    key.push(0);
}

/// The tenant and the rest of a key of state.
pub(crate) fn split_tenant(key: &[u8]) -> Option<(TenantId, &[u8])> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let tenant = TenantId::new(std::str::from_utf8(&key[..end]).ok()?).ok()?;
    Some((tenant, &key[end + 1..]))
}

fn hexadecimal(number: u128) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(32);
    for byte in number.to_be_bytes() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
