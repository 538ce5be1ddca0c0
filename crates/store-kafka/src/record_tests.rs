//! Every kind of record becomes an event, always the same one.

use super::*;

const NOON_MS: i64 = 1_704_110_400_000;

fn reading() -> Reading {
    Reading {
        topic: Topic::fixed("ingestion.market.ticks.raw.v1"),
        partition: 3,
        tenant: TenantId::new("default").unwrap(),
    }
}

fn record(value: &[u8]) -> Raw {
    Raw {
        offset: 7,
        time_ms: Some(NOON_MS),
        value: Some(value.to_vec()),
        bytes: value.len(),
        ..Raw::default()
    }
}

fn with_headers(value: &[u8], headers: &[(&str, &str)]) -> Raw {
    let headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Raw { headers, ..record(value) }
}

#[test]
fn an_event_comes_back_to_the_letter() {
    let json = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","tenantid":"shop","time":"2024-01-01T12:00:00Z","data":{"price":1.10}}"#;
    let event = Event::from_json(json.as_bytes()).unwrap();
    let written = Written::of(&event);
    assert_eq!(written.key, "1", "an event without a key is kept together by its id");
    let declared = with_headers(&written.value, &[("content-type", STRUCTURED)]);
    for raw in [declared, record(&written.value)] {
        let (found, kind) = reading().event(raw);
        assert_eq!((found.to_json(), kind), (event.to_json(), Kind::Event));
    }
}

#[test]
fn a_bare_event_gets_tenant_and_time() {
    let (event, kind) =
        reading().event(record(br#"{"specversion":"1.0","id":"1","source":"/a","type":"t"}"#));
    assert_eq!((event.tenant.as_str(), event.time.as_millisecond(), kind), ("default", NOON_MS, Kind::Event));
}

#[test]
fn an_event_in_headers_is_one_too() {
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", "9"),
        ("ce_source", "/sensor"),
        ("ce_type", "measured"),
        ("ce_tenantid", "desk"),
        ("ce_traceparent", "00-x"),
        ("content-type", "application/json"),
    ];
    let (event, kind) =
        reading().event(Raw { key: Some(b"k".to_vec()), ..with_headers(b"{\"c\":21}", &headers) });
    assert_eq!(kind, Kind::Event);
    assert_eq!(
        (&*event.id, &*event.source, &*event.kind, event.tenant.as_str()),
        ("9", "/sensor", "measured", "desk")
    );
    assert_eq!(event.partition_key.as_deref(), Some("k"));
    assert_eq!(event.data.unwrap().get(), "{\"c\":21}");
    assert_eq!(event.extensions.get("traceparent").unwrap(), "00-x");
    let (event, kind) = reading().event(with_headers(b"\xff\x00", &headers));
    assert_eq!((event.data_base64.as_deref(), kind), (Some("/wA="), Kind::Event));
}

#[test]
fn foreign_records_are_carried() {
    let check = |value: &[u8], tenant: &str, data: Option<&str>, base64: Option<&str>| {
        let (event, kind) = reading().event(record(value));
        assert_eq!(kind, Kind::Foreign, "{value:?}");
        assert_eq!(event.kind, FOREIGN);
        assert_eq!(event.id, "ingestion.market.ticks.raw.v1/3/7");
        assert_eq!(event.source, "/kafka/ingestion.market.ticks.raw.v1");
        assert_eq!(event.time.as_millisecond(), NOON_MS);
        assert_eq!(event.tenant.as_str(), tenant, "{value:?}");
        assert_eq!(event.data.as_ref().map(|data| data.get()), data);
        assert_eq!(event.data_base64.as_deref(), base64);
        Event::from_json(&event.to_json()).expect("it can be stored");
    };
    let plain = r#"{"price":31.2}"#;
    check(plain.as_bytes(), "default", Some(plain), None);
    let flat = r#"{"event_id":"e1","tenant_id":"desk","payload":{"symbol":"X","tenant_id":"other"}}"#;
    check(flat.as_bytes(), "desk", Some(flat), None);
    let nested = r#"{"envelope":{"tenant_id":"desk","event_id":"e"},"tenant_id":"other","payload":{}}"#;
    check(nested.as_bytes(), "desk", Some(nested), None);
    let no_name = r#"{"tenant_id":17,"envelope":[]}"#;
    check(no_name.as_bytes(), "default", Some(no_name), None);
    let unlawful = r#"{"tenant_id":"a/b c"}"#;
    check(unlawful.as_bytes(), "default", Some(unlawful), None);
    let twice = r#"{"tenant_id":"a","tenant_id":"b"}"#;
    check(twice.as_bytes(), "default", Some(twice), None);
    check(b"[1,2]", "default", Some("[1,2]"), None);
    check(b"{\"price\":", "default", None, Some("eyJwcmljZSI6"));
    check(b"NaN", "default", None, Some("TmFO"));
    check(b"\xff\xfe", "default", None, Some("//4="));
    check(b"", "default", None, Some(""));
    // What calls itself an event and is none is carried as it is, for the dead letters.
    for broken in [r#"{"specversion":"0.3","id":"1"}"#, r#"{"specversion":"1.0","id":"1","source":"/a"}"#] {
        check(broken.as_bytes(), "default", Some(broken), None);
    }
    let bad_tenant = r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","tenantid":"A b"}"#;
    check(bad_tenant.as_bytes(), "default", Some(bad_tenant), None);
}

#[test]
fn a_tombstone_is_carried() {
    let (event, kind) = reading().event(Raw { offset: 7, ..Raw::default() });
    assert_eq!(
        (event.data_base64.as_deref(), kind, event.time),
        (Some(""), Kind::Foreign, Timestamp::UNIX_EPOCH)
    );
}

#[test]
fn what_is_too_large_says_so() {
    let check = |raw: Raw, bytes: u64| {
        let (event, kind) = reading().event(raw);
        assert_eq!((kind, &*event.kind), (Kind::Unusable, UNUSABLE));
        let said: serde_json::Value = event.data_as().unwrap();
        assert_eq!((said["bytes"].as_u64(), said["offset"].as_u64()), (Some(bytes), Some(7)));
    };
    check(Raw { offset: 7, bytes: 50_000_000, ..Raw::default() }, 50_000_000);
    check(record(&vec![0xff; MAX_EVENT_BYTES]), MAX_EVENT_BYTES as u64);
}

#[test]
fn the_same_record_is_always_the_same_event() {
    for value in [&b"{}"[..], b"\xff", br#"{"specversion":"1.0","id":"1","source":"/a","type":"t"}"#] {
        let json = |_| reading().event(record(value)).0.to_json();
        assert_eq!(json(0), json(1));
    }
}
