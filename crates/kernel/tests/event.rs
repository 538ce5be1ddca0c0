//! The envelope: what is taken for an event, and what is kept of it.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

use std::sync::Arc;

use kernel::{Error, Event, EventDraft, Extensions, Payload, Result, Scope, TenantId, Timestamp, codes};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

fn scope() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

fn seal(json: &str) -> Result<Event> {
    let draft: EventDraft =
        serde_json::from_str(json).map_err(|cause| Error::new(codes::INVALID_EVENT, cause.to_string()))?;
    draft.seal(&scope(), Timestamp::UNIX_EPOCH)
}

#[test]
fn lawful_is_what_its_json_seals_again() {
    let check = |change: &dyn Fn(&mut Event), is_lawful: bool| {
        let mut event = Event::new(scope().tenant(), "1", "/a", "t", Timestamp::UNIX_EPOCH);
        change(&mut event);
        let sealed = seal(std::str::from_utf8(&event.to_json()).unwrap());
        let is_same = sealed.is_ok_and(|sealed| {
            let kept = (&sealed.subject, sealed.data.is_some(), &sealed.extensions);
            kept == (&event.subject, event.data.is_some(), &event.extensions)
                && sealed.to_json() == event.to_json()
        });
        assert_eq!((event.is_lawful(), is_same), (is_lawful, is_lawful), "{event:?}");
    };
    let raw = |text: &str| Some(RawValue::from_string(text.to_owned()).unwrap().into());
    check(&|_| (), true);
    check(&|event| event.data = raw("{\"a\": [1, null]}"), true);
    check(&|event| event.data = raw("null"), false);
    check(&|event| event.subject = Some("b\"c".to_owned()), true);
    check(&|event| event.subject = Some("b\u{7}".to_owned()), false);
    check(&|event| event.subject = Some(String::new()), false);
    check(&|event| event.id = "i".repeat(1_025), false);
    check(&|event| event.data_schema = Some("s".repeat(1_024)), true);
    check(&|event| _ = event.extensions.insert("n".to_owned(), 3.into()), true);
    check(&|event| _ = event.extensions.insert("n".to_owned(), Value::Null), true);
    check(&|event| _ = event.extensions.insert("n".to_owned(), 3.5.into()), false);
    check(&|event| _ = event.extensions.insert("Bad".to_owned(), 3.into()), false);
    check(&|event| _ = event.extensions.insert("subject".to_owned(), "s".into()), false);
    let both = |event: &mut Event| {
        (event.data, event.data_base64) = (raw("1"), Some("YQ==".to_owned()));
    };
    check(&both, false);
}

#[test]
fn envelope_is_checked() {
    let check = |json: &str, fault: Option<(&str, &str)>| {
        let found = seal(json)
            .err()
            .map(|error| (error.code().name.to_owned(), error.field().unwrap_or("").to_owned()));
        assert_eq!(found, fault.map(|(code, field)| (code.to_owned(), field.to_owned())), "{json}");
    };
    check(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t"}"#, None);
    check(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","tenantid":"shop"}"#, None);
    check(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","trace":"x","n":3,"b":true}"#, None);
    let invalid = |field| Some(("INVALID_EVENT", field));
    check(r#"{"id":"1","source":"/a","type":"t"}"#, invalid("specversion"));
    check(r#"{"specversion":"0.3","id":"1","source":"/a","type":"t"}"#, invalid("specversion"));
    check(r#"{"specversion":"1.0","id":"","source":"/a","type":"t"}"#, invalid("id"));
    check(r#"{"specversion":"1.0","id":"a\u0000","source":"/a","type":"t"}"#, invalid("id"));
    check(r#"{"specversion":"1.0","id":"1","type":"t"}"#, invalid("source"));
    check(r#"{"specversion":"1.0","id":"1","source":"/a"}"#, invalid("type"));
    check(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","time":"noon"}"#, invalid("time"));
    check(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","Bad":"x"}"#, invalid("Bad"));
    check(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","o":{}}"#, invalid("o"));
    check(
        r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data":1,"data_base64":"YQ=="}"#,
        invalid("data_base64"),
    );
    check(
        r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","tenantid":"other"}"#,
        Some(("TENANT_MISMATCH", "tenantid")),
    );
    check(r#"[1]"#, invalid(""));
    check(r#"{"specversion":"1.0","id":1}"#, invalid(""));
}

#[test]
fn data_is_kept_to_the_letter() {
    let event = seal(
        r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data":{"price":1.10,"big":12345678901234567890}}"#,
    )
    .unwrap();
    let again = Event::from_json(&event.to_json()).unwrap();
    assert_eq!(again.data.unwrap().get(), r#"{"price":1.10,"big":12345678901234567890}"#);
    assert_eq!(again.tenant.as_str(), "shop");
}

proptest! {
    #[test]
    fn decoder_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::from_json(&bytes);
        let _ = serde_json::from_slice::<EventDraft>(&bytes);
    }

    #[test]
    fn stored_form_round_trips(
        id in "[ -~]{1,40}", source in "/[a-z/]{1,40}", subject in proptest::option::of("[a-z]{1,20}"),
        unix_ms in 0_i64..4_000_000_000_000, text in "\\PC{0,40}",
    ) {
        let event = Event {
            id, source, kind: "test.happened".to_owned(), tenant: TenantId::new("shop").unwrap(),
            time: Timestamp::from_millisecond(unix_ms).unwrap(), subject, partition_key: None,
            data_content_type: None, data_schema: None,
            data: Some(serde_json::value::to_raw_value(&text).unwrap().into()), data_base64: None,
            extensions: Extensions::new(),
        };
        let again = Event::from_json(&event.to_json()).unwrap();
        prop_assert_eq!(again.to_json(), event.to_json());
        prop_assert_eq!(again.data_as::<String>().unwrap(), text);
    }
}

#[test]
fn a_payload_is_read_once_by_all_who_have_a_copy() {
    let event = seal(r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data":[1,2]}"#).unwrap();
    let [event, copy] = [event.clone(), event];
    let first: Arc<Vec<u8>> = copy.shared_data_as().unwrap();
    assert!(Arc::ptr_eq(&first, &event.shared_data_as().unwrap()));
    // As another type it is read again, and so is another text.
    assert_eq!(*event.shared_data_as::<(u8, u8)>().unwrap(), (1, 2));
    assert_eq!(event.shared_data_as::<String>().unwrap_err().field(), Some("data"));
    assert!(Arc::ptr_eq(&first, &event.shared_data_as().unwrap()));
    let other = Event { data: Some(RawValue::from_string("[3]".to_owned()).unwrap().into()), ..event };
    assert_eq!(*other.shared_data_as::<Vec<u8>>().unwrap(), [3]);
    let written = Event { data: Some(Payload::of(&first).unwrap()), ..other };
    assert!(Arc::ptr_eq(&first, &written.shared_data_as().unwrap()));
    assert_eq!(written.data_as::<Vec<u8>>().unwrap(), [1, 2]);
    assert!(Event { data: None, ..written }.shared_data_as::<Vec<u8>>().is_err());
}
