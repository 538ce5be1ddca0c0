//! What payloads may hold, and when they may be from.

use kernel::{EventDraft, Scope, TenantId};

use super::*;

fn read(kind: &str, data: &str) -> Result<RecommendEvent> {
    let json = format!(r#"{{"specversion":"1.0","id":"1","source":"/t","type":"{kind}","data":{data}}}"#);
    let draft: EventDraft = serde_json::from_str(&json).unwrap();
    let scope = Scope::system(TenantId::new("t").unwrap(), "test");
    let event = draft.seal(&scope, Timestamp::UNIX_EPOCH).unwrap();
    RecommendEvent::read(&event).map(|read| read.expect("known type"))
}

#[test]
fn payloads_are_checked() {
    let check = |kind: &str, data: &str, fault: Option<&str>| {
        let found = read(kind, data).err().map(|error| error.to_string());
        match (&found, fault) {
            (None, None) => {}
            (Some(found), Some(fault)) if found.contains(fault) => {}
            _ => panic!("{data}: found {found:?}, expected {fault:?}"),
        }
    };
    let interaction = |rest: &str| format!(r#"{{"user_id":"u","entity_id":"e",{rest}}}"#);
    let recorded = kinds::INTERACTION_RECORDED;
    check(recorded, &interaction(r#""interaction_type":"view""#), None);
    check(recorded, &interaction(r#""interaction_type":{"rating":4.5}"#), None);
    check(recorded, &interaction(r#""interaction_type":{"custom":"share"}"#), None);
    check(recorded, &interaction(r#""interaction_type":"rating","weight":3"#), None);
    check(
        recorded,
        &interaction(r#""interaction_type":"rating""#),
        Some("data.interaction_type: a rating needs"),
    );
    check(recorded, &interaction(r#""interaction_type":{"rating":1e9}"#), Some("interaction_type.rating"));
    check(recorded, &interaction(r#""interaction_type":7"#), Some("as an interaction type"));
    check(recorded, &interaction(r#""interaction_type":[4.5]"#), Some("as an interaction type"));
    check(recorded, &interaction(r#""interaction_type":{"rating":1,"custom":"a"}"#), Some("one of"));
    check(recorded, r#"["u","e","item","view"]"#, Some("must be a JSON object"));
    check(recorded, &interaction(r#""interaction_type":"view","unknown":1"#), Some("unknown field"));
    check(recorded, r#"{"user_id":"","entity_id":"e","interaction_type":"view"}"#, Some("an id must have"));
    check(recorded, r#"{"entity_id":"e","interaction_type":"view"}"#, Some("missing field `user_id`"));
    check(recorded, "null", Some("data: is missing"));
    check(recorded, "7", Some("data: invalid type: integer `7`, expected a JSON object"));
    check(kinds::ENTITY_PUT, r#"{"entity_id":"e"}"#, None);
    check(kinds::ENTITY_PUT, r#"{"entity_id":"e","attributes":{"a":{"b":1}}}"#, Some("data.attributes.a: "));
    check(kinds::ENTITY_PUT, r#"{"entity_id":"e","entity_type":""}"#, Some("entity_type"));
    check(kinds::ENTITY_PATCHED, r#"{"entity_id":"e","attributes":{"a":null},"available_until":null}"#, None);
    check(kinds::INTERACTION_TYPE_PUT, r#"{"interaction_type":"share","weight":-2}"#, None);
    check(kinds::INTERACTION_TYPE_PUT, r#"{"interaction_type":"share","weight":1e7}"#, Some("weight"));
}

#[test]
fn times_must_be_plausible() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let check = |time: &str, good: bool| {
        assert_eq!(check_time(time.parse().unwrap(), now).is_ok(), good, "{time}");
    };
    check("2026-01-01T00:04:59Z", true);
    check("2026-01-01T00:06:00Z", false);
    check("1970-01-01T00:00:00Z", true);
    check("1969-12-31T23:59:59Z", false);
}

#[test]
fn null_and_missing_differ_in_a_patch() {
    let patch = |json: &str| serde_json::from_str::<EntityPatch>(json).unwrap();
    assert_eq!(patch(r#"{"entity_id":"e"}"#).available_until, None);
    assert_eq!(patch(r#"{"entity_id":"e","available_until":null}"#).available_until, Some(None));
    let round = r#"{"entity_id":"e","entity_type":"item","available_until":null}"#;
    assert_eq!(serde_json::to_string(&patch(round)).unwrap(), round);
}
