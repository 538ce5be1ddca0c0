//! Changes of items as events of a topic of their own, which is where items live: it is never cut, and every index can be
//! made again from it.
//!
//! To add a kind of change: a name here, a variant of [`Change`], and what each [`crate::follower::Sink`] does with it.

use kernel::{Error, Event, MAX_EVENT_BYTES, Result, Scope, Timestamp, codes};
use serde::Serialize;
use store::Topic;

use crate::items::{Change, Item, ItemName};

/// Where changes go.
pub const ITEMS: Topic = Topic::fixed("search.items");

const SOURCE: &str = "/search";
const PUT: &str = "search.item.put.v1";
const DELETED: &str = "search.item.deleted.v1";
/// What an event has beside its data.
const ENVELOPE_BYTES: usize = 4_096;

/// The event of a change.
///
/// # Errors
/// `TOO_LARGE` for one that no log takes.
pub(crate) fn event_of(scope: &Scope, change: &Change, id: String, now: Timestamp) -> Result<Event> {
    let (kind, name, data) = match change {
        Change::Put(item) => (PUT, item.name(), raw(item)?),
        Change::Delete(name) => (DELETED, name.clone(), raw(name)?),
    };
    if data.get().len() + ENVELOPE_BYTES > MAX_EVENT_BYTES {
        let message = format!("an item has at most {} bytes as JSON", MAX_EVENT_BYTES - ENVELOPE_BYTES);
        return Err(Error::new(codes::TOO_LARGE, message));
    }
    Ok(Event {
        id,
        source: SOURCE.to_owned(),
        kind: kind.to_owned(),
        tenant: scope.tenant().clone(),
        time: now,
        subject: None,
        // Changes of one item keep their order.
        partition_key: Some(format!("{}/{}", name.entity_type, name.entity_id)),
        data_content_type: None,
        data_schema: None,
        data: Some(data.into()),
        data_base64: None,
        extensions: kernel::Extensions::new(),
    })
}

fn raw<T: Serialize>(data: &T) -> Result<Box<serde_json::value::RawValue>> {
    serde_json::value::to_raw_value(data).map_err(Error::internal)
}

/// What tells an event from any other that may stand in its place in another log.
pub(crate) fn mark_of(event: &Event) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [event.id.as_str(), event.tenant.as_str(), &event.time.to_string()] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The change of an event; nothing for other events.
///
/// # Errors
/// `INVALID_EVENT` for an event that does not say what it should.
pub(crate) fn change_of(event: &Event) -> Result<Option<Change>> {
    match event.kind.as_str() {
        PUT => Ok(Some(Change::Put(Box::new(event.data_as::<Item>()?)))),
        DELETED => Ok(Some(Change::Delete(event.data_as::<ItemName>()?))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use kernel::TenantId;
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_come_back_from_their_events() {
        let scope = Scope::system(TenantId::new("desk").unwrap(), "test");
        let item: Item = serde_json::from_value(json!({
            "entity_type": "note", "entity_id": "a/b", "text": "x", "metadata": {"n": 1}, "tags": ["t"]
        }))
        .unwrap();
        for change in [Change::Delete(item.name()), Change::Put(Box::new(item))] {
            let event = event_of(&scope, &change, "1".to_owned(), Timestamp::UNIX_EPOCH).unwrap();
            let event = Event::from_json(&event.to_json()).unwrap();
            assert_eq!(change_of(&event).unwrap(), Some(change));
            assert_eq!(change_of(&Event { kind: "other".to_owned(), ..event }).unwrap(), None);
        }
    }

    #[test]
    fn what_no_log_takes_is_refused() {
        let scope = Scope::system(TenantId::new("desk").unwrap(), "test");
        let text = "\u{1}".repeat(200 << 10);
        let item =
            serde_json::from_value(json!({"entity_type": "note", "entity_id": "1", "text": text})).unwrap();
        let refused =
            event_of(&scope, &Change::Put(item), "1".to_owned(), Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(refused.code(), codes::TOO_LARGE);
    }
}
