//! The event log with what is personal in it sealed: whoever holds this port need not know.
//!
//! An event of a person is appended under a hash of its source and id, with its time, type and tenant in the open, and
//! all else sealed. When it is read it is as it was sent, with the name of its key as [`KEY_MARK`]. Where the key is gone
//! it has [`ERASED_MARK`], and its data are what may be counted without the person, or nothing.
//!
//! It refuses events from outside that carry these marks ([`check_marks`], called by whoever admits events).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Event, Extensions, Result, Scope, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use store::{Appended, EventLog, Extent, LogCapabilities, ReadLimit, Retention, Stored, Topic, check_append};

use crate::cipher::{decode, encode};
use crate::erasures::{ERASED, Erased};
use crate::keyring::{Key, TenantSecret};
use crate::{Keyring, corrupted};

/// The extension attribute of an event whose key is gone.
pub const ERASED_MARK: &str = "erased";
/// The extension attribute with the name of the key that an event was sealed under.
pub const KEY_MARK: &str = "sealedby";
/// The media type of sealed data.
const MEDIA_TYPE: &str = "application/vnd.watershed.sealed+json";
const SOURCE: &str = "/sealed";

/// Who an event is about.
#[derive(Debug)]
pub struct Person {
    /// The user id.
    pub id: String,
    /// What stays readable when the person is gone: nothing that tells who it was.
    pub rest: Option<Box<RawValue>>,
}

/// Knows the events of a domain.
pub trait Personal: Send + Sync + Debug {
    /// Who the event is about; none where it is about nobody.
    ///
    /// # Errors
    /// What does not fit.
    fn person(&self, event: &Event) -> Result<Option<Person>>;
}

/// Whether the key of an event is gone.
#[must_use]
pub fn is_erased(event: &Event) -> bool {
    event.extensions.contains_key(ERASED_MARK)
}

/// The name of the key that an event was sealed under.
#[must_use]
pub fn key_of(event: &Event) -> Option<&str> {
    event.extensions.get(KEY_MARK).and_then(Value::as_str)
}

/// Passes when an event from outside has none of the marks.
///
/// # Errors
/// `INVALID_EVENT` naming the mark.
pub fn check_marks(event: &Event) -> Result<()> {
    let marked = [ERASED_MARK, KEY_MARK].into_iter().find(|mark| event.extensions.contains_key(*mark));
    let is_sealed = event.data_content_type.as_deref() == Some(MEDIA_TYPE);
    match marked.or_else(|| is_sealed.then_some("datacontenttype")) {
        None => Ok(()),
        Some(field) => Err(Error::new(codes::INVALID_EVENT, "is for the server alone").with_field(field)),
    }
}

/// All of an event that is not in the open.
#[derive(Serialize, Deserialize)]
struct Hidden<'a> {
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    subject: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    partition_key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    schema: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    base64: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "has_none", default)]
    extensions: Cow<'a, Extensions>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    data: Option<Cow<'a, RawValue>>,
}

#[expect(clippy::ptr_arg, reason = "serde passes a reference to the field")]
fn has_none(extensions: &Cow<'_, Extensions>) -> bool {
    extensions.is_empty()
}

/// The data of a sealed event.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    sealed: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none", default, borrow)]
    rest: Option<&'a RawValue>,
}

/// What the sealed part is bound to: moved to another event it does not open.
fn about(event: &Event, key: &str, rest: Option<&RawValue>) -> Vec<u8> {
    let rest = rest.map_or("", RawValue::get);
    let time = event.time.as_nanosecond();
    format!("{}\0{}\0{}\0{time}\0{key}\0{rest}", event.tenant, event.kind, event.id).into_bytes()
}

/// An event log over another, which holds no person's data in the open.
#[derive(Debug)]
pub struct SealedLog {
    inner: Arc<dyn EventLog>,
    keyring: Arc<Keyring>,
    personal: Arc<dyn Personal>,
}

impl SealedLog {
    /// Over `inner`; `personal` says which events are about whom.
    #[must_use]
    pub fn new(inner: Arc<dyn EventLog>, keyring: Arc<Keyring>, personal: Arc<dyn Personal>) -> Self {
        Self { inner, keyring, personal }
    }

    async fn seal_all(&self, tenant: &TenantId, events: Vec<Event>) -> Result<Vec<Event>> {
        let persons = events.iter().map(|event| self.personal.person(event));
        let persons: Vec<Option<Person>> = persons.collect::<Result<_>>()?;
        let names: BTreeSet<String> = persons.iter().flatten().map(|person| person.id.clone()).collect();
        if names.is_empty() {
            return Ok(events);
        }
        let secret = self.keyring.tenant(tenant).await?;
        let keys = self.keyring.of_persons(tenant, names).await?;
        let sealed = events.into_iter().zip(persons).map(|(event, person)| match person {
            None => Ok(event),
            Some(person) => {
                let key = keys.get(&person.id).ok_or_else(|| Error::internal("a person without a key"))?;
                self.seal(&secret, key, event, person.rest.as_deref())
            }
        });
        sealed.collect()
    }

    fn seal(&self, secret: &TenantSecret, key: &Key, event: Event, rest: Option<&RawValue>) -> Result<Event> {
        let hidden = Hidden {
            id: Cow::Borrowed(&event.id),
            source: Cow::Borrowed(&event.source),
            subject: event.subject.as_deref().map(Cow::Borrowed),
            partition_key: event.partition_key.as_deref().map(Cow::Borrowed),
            content_type: event.data_content_type.as_deref().map(Cow::Borrowed),
            schema: event.data_schema.as_deref().map(Cow::Borrowed),
            base64: event.data_base64.as_deref().map(Cow::Borrowed),
            extensions: Cow::Borrowed(&event.extensions),
            data: event.data.as_deref().map(Cow::Borrowed),
        };
        let plain = serde_json::to_vec(&hidden).map_err(Error::internal)?;
        let sealed = Event {
            partition_key: Some(key.name.clone()),
            data_content_type: Some(MEDIA_TYPE.to_owned()),
            ..Event::new(&event.tenant, secret.id(&event.source, &event.id), SOURCE, event.kind, event.time)
        };
        let about = about(&sealed, &key.name, rest);
        let text = encode(&key.cipher.seal(&*self.keyring.entropy, &about, &plain));
        let envelope = Envelope { key: Cow::Borrowed(&key.name), sealed: Cow::Owned(text), rest };
        let data = serde_json::value::to_raw_value(&envelope).map_err(Error::internal)?;
        Ok(Event { data: Some(data.into()), ..sealed })
    }

    async fn open_all(&self, mut batch: Vec<Stored>) -> Result<Vec<Stored>> {
        for stored in batch.iter().filter(|stored| stored.event.kind == ERASED) {
            let erased: Erased = stored.event.data_as()?;
            self.keyring.forget(&stored.event.tenant, &erased.keys);
        }
        let mut names: BTreeMap<TenantId, BTreeSet<String>> = BTreeMap::new();
        for stored in batch.iter().filter(|stored| is_sealed(&stored.event)) {
            let key = envelope(&stored.event)?.key.into_owned();
            match names.get_mut(&stored.event.tenant) {
                Some(of_tenant) => drop(of_tenant.insert(key)),
                None => drop(names.insert(stored.event.tenant.clone(), BTreeSet::from([key]))),
            }
        }
        if names.is_empty() {
            return Ok(batch);
        }
        let mut keys: HashMap<TenantId, HashMap<String, Arc<Key>>> = HashMap::new();
        for (tenant, names) in names {
            let found = self.keyring.named(&tenant, names).await?;
            keys.insert(tenant, found);
        }
        for stored in batch.iter_mut().filter(|stored| is_sealed(&stored.event)) {
            let opened = {
                let envelope = envelope(&stored.event)?;
                let key = keys.get(&stored.event.tenant).and_then(|keys| keys.get(&*envelope.key));
                match key {
                    None => forgotten(&stored.event, envelope.rest),
                    Some(key) => open(&stored.event, key, &envelope).map_err(|error| {
                        let message = format!("event {} of the log: {}", stored.offset, error.message());
                        Error::new(error.code(), message).with_source(error)
                    })?,
                }
            };
            stored.event = opened;
        }
        Ok(batch)
    }
}

fn is_sealed(event: &Event) -> bool {
    event.data_content_type.as_deref() == Some(MEDIA_TYPE)
}

fn envelope(event: &Event) -> Result<Envelope<'_>> {
    event.data_as().map_err(|cause| corrupted("a sealed event cannot be read").with_source(cause))
}

fn open(event: &Event, key: &Key, envelope: &Envelope<'_>) -> Result<Event> {
    let about = about(event, &key.name, envelope.rest);
    let plain = key.cipher.open(&about, &decode(&envelope.sealed)?)?;
    let hidden: Hidden<'_> = serde_json::from_slice(&plain)
        .map_err(|cause| corrupted("a sealed event cannot be read").with_source(cause))?;
    let mut extensions = hidden.extensions.into_owned();
    extensions.insert(KEY_MARK.to_owned(), Value::String(key.name.clone()));
    Ok(Event {
        id: hidden.id.into_owned(),
        source: hidden.source.into_owned(),
        kind: event.kind.clone(),
        tenant: event.tenant.clone(),
        time: event.time,
        subject: hidden.subject.map(Cow::into_owned),
        partition_key: hidden.partition_key.map(Cow::into_owned),
        data_content_type: hidden.content_type.map(Cow::into_owned),
        data_schema: hidden.schema.map(Cow::into_owned),
        data: hidden.data.map(|data| data.into_owned().into()),
        data_base64: hidden.base64.map(Cow::into_owned),
        extensions,
    })
}

/// The event without the person.
fn forgotten(event: &Event, rest: Option<&RawValue>) -> Event {
    Event {
        data: rest.map(|rest| rest.to_owned().into()),
        data_content_type: None,
        partition_key: None,
        extensions: Extensions::from_iter([(ERASED_MARK.to_owned(), Value::Bool(true))]),
        ..event.clone()
    }
}

#[async_trait]
impl EventLog for SealedLog {
    fn capabilities(&self) -> LogCapabilities {
        self.inner.capabilities()
    }

    async fn append(&self, scope: &Scope, topic: &Topic, events: Vec<Event>) -> Result<Vec<Appended>> {
        check_append(scope, &events)?;
        let events = match self.keyring.seals() {
            true => self.seal_all(scope.tenant(), events).await?,
            false => events,
        };
        self.inner.append(scope, topic, events).await
    }

    async fn read(
        &self,
        topic: &Topic,
        partition: u32,
        offset: u64,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>> {
        self.open_all(self.inner.read(topic, partition, offset, limit).await?).await
    }

    async fn extents(&self, topic: &Topic) -> Result<Vec<Extent>> {
        self.inner.extents(topic).await
    }

    async fn wait(&self, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.inner.wait(topic, partition, offset).await
    }

    async fn commit(&self, group: &str, topic: &Topic, partition: u32, offset: u64) -> Result<()> {
        self.inner.commit(group, topic, partition, offset).await
    }

    async fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<u64> {
        self.inner.committed(group, topic, partition).await
    }

    async fn retain(&self, topic: &Topic, keep: Retention, now: Timestamp) -> Result<u64> {
        self.inner.retain(topic, keep, now).await
    }
}
