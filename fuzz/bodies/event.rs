//! The event decoder: any bytes are refused or understood, and what is understood is written and read the same.

use kernel::{Event, EventDraft, Scope, TenantId, Timestamp};

/// # Panics
/// Where an event that was taken is not stored the same way twice.
pub(crate) fn event(bytes: &[u8]) {
    if let Ok(event) = Event::from_json(bytes) {
        let json = event.to_json();
        let again = Event::from_json(&json).expect("a stored event is read again");
        assert_eq!(again.to_json(), json, "an event is stored the same way twice");
    }
    if let Ok(draft) = serde_json::from_slice::<EventDraft>(bytes) {
        let tenant = TenantId::new("fuzz").expect("the name is in the set of characters");
        if let Ok(event) = draft.seal(&Scope::system(tenant, "fuzz"), Timestamp::UNIX_EPOCH) {
            assert!(Event::from_json(&event.to_json()).is_ok(), "a sealed event is read again");
        }
    }
}
