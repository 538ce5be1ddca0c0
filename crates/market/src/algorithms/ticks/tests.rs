//! The examples of the guide, every rejection with its field, and what must not depend on the envelope.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::events::{NormalisedEvent, Stamp};

/// The example of the guide.
const GUIDE: &str = r#"{"event_id":"e1","trace_id":"t1","schema_version":"1.0.0","tenant_id":"default","producer":"miso@1",
 "occurred_at":1704067200000000,"ingested_at":1704067200500000,
 "payload":{"source_system":"miso","market":"miso","symbol":"MISO_INDIANA_HUB","sequence":7,
  "received_at":1704067200400000,"raw_payload":"{\"price\":31.2,\"volume\":10,\"bid\":31.1,\"ask\":31.3}",
  "encoding":"json","metadata":{},"retry_count":0,"checksum":null}}"#;

fn normaliser() -> Normaliser {
    Normaliser::new(Mapping::default()).unwrap()
}

fn written(message: &str) -> Result<Value, Rejection> {
    let normaliser = normaliser();
    let tick = normalise(message.as_bytes(), &normaliser, Tenancy::Named, &NoReference)?;
    let stamp = Stamp { normalised_us: 1_704_067_201_000_000, producer: "normalize-ticks@1.0.0" };
    let mut bytes = Vec::new();
    NormalisedEvent::of(&tick, stamp).write(&mut bytes);
    Ok(serde_json::from_slice(&bytes).unwrap())
}

/// The guide's message with its raw payload in place of its own.
fn with_raw(raw: &str) -> String {
    let mut message: Value = serde_json::from_str(GUIDE).unwrap();
    message["payload"]["raw_payload"] = json!(raw);
    message.to_string()
}

#[test]
fn the_example_of_the_guide_becomes_a_tick() {
    let tick = written(GUIDE).unwrap();
    assert_eq!(tick["tenant_id"], "default");
    assert_eq!(tick["occurred_at"], 1_704_067_200_000_000_i64);
    assert_eq!(tick["trace_id"], "t1");
    let payload = &tick["payload"];
    for (field, value) in [
        ("source_event_id", json!("e1")),
        ("symbol", json!("MISO_INDIANA_HUB")),
        ("instrument_id", json!("MISO_INDIANA_HUB")),
        ("market", json!("MISO")),
        ("price", json!(31.2)),
        ("volume", json!(10.0)),
        ("bid_price", json!(31.1)),
        ("ask_price", json!(31.3)),
        ("currency", json!("USD")),
        ("unit", json!("MWh")),
        ("processing_lag_ms", json!(1000)),
        ("source_system", json!("miso")),
        ("quality", json!({"status": "canonical", "issues": []})),
        ("metadata", json!({})),
    ] {
        assert_eq!(payload[field], value, "{field}");
    }
    assert_eq!(payload["tick_id"].as_str().unwrap().len(), 32);
}

#[test]
fn both_envelopes_say_the_same() {
    let a = json!({
        "envelope": {"event_type": "tick", "event_id": "e1", "timestamp": "2024-01-01T00:00:00Z", "tenant_id": "default",
            "source": "miso", "version": "1", "correlation_id": "t1", "causation_id": null, "metadata": {}},
        "payload": {"market": "miso", "symbol": "MISO_INDIANA_HUB", "sequence": 7, "price": 31.2, "volume": 10,
            "bid": 31.1, "ask": 31.3},
    });
    assert_eq!(written(&a.to_string()).unwrap(), written(GUIDE).unwrap());
}

#[test]
fn a_bare_object_needs_a_mapping_and_a_proven_tenant() {
    let mapping: Mapping = serde_json::from_value(json!({
        "price": ["data.p"], "volume": ["data.q"], "bid": [], "ask": [], "time": ["data.T"], "sequence": ["data.t"],
        "symbol": ["data.s"], "sequence_scope": "symbol", "default_source": "binance", "default_market": "crypto",
    }))
    .unwrap();
    let normaliser = Normaliser::new(mapping).unwrap();
    let message =
        br#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT",
        "t":5266583935,"p":"61800.30","q":"0.006","X":"MARKET","m":false}}"#;
    let tenant = TenantId::new("desk").unwrap();
    let tick = normalise(message, &normaliser, Tenancy::Only(&tenant), &NoReference).unwrap();
    assert_eq!((tick.price, tick.volume), (Some(61_800.3), Some(0.006)));
    assert_eq!((tick.occurred_us, tick.sequence), (1_723_161_256_322_000, Some(5_266_583_935)));
    assert_eq!(
        (&*tick.market, &*tick.source, tick.price_origin),
        ("CRYPTO", "binance", PriceOrigin::Primary)
    );
    let unnamed = normalise(message, &normaliser, Tenancy::Named, &NoReference).unwrap_err();
    assert_eq!((unnamed.code, unnamed.field.as_str()), (RejectionCode::Missing, "tenant_id"));
}

#[test]
fn what_is_wrong_is_named() {
    let check = |message: &str, code: RejectionCode, field: &str| {
        let rejection = written(message).unwrap_err();
        assert_eq!((rejection.code, rejection.field.as_str()), (code, field), "{message}");
    };
    let raw = |raw: &str, code, field: &str| check(&with_raw(raw), code, field);
    raw(r#"{"price":NaN}"#, RejectionCode::NotFinite, "payload.raw_payload.price");
    raw(r#"{"price":1,"bid":-Infinity}"#, RejectionCode::NotFinite, "payload.raw_payload.bid");
    raw(r#"{"price":"NaN"}"#, RejectionCode::NotFinite, "payload.raw_payload.price");
    raw(r#"{"price":"-inf"}"#, RejectionCode::NotFinite, "payload.raw_payload.price");
    raw(r#"{"price":1e999}"#, RejectionCode::NotFinite, "payload.raw_payload.price");
    raw(r#"{"price":"1,5"}"#, RejectionCode::WrongType, "payload.raw_payload.price");
    raw(r#"{"price":true}"#, RejectionCode::WrongType, "payload.raw_payload.price");
    raw(r#"{"price":[1]}"#, RejectionCode::WrongType, "payload.raw_payload.price");
    raw(r#"{"price":1,"price":2}"#, RejectionCode::Repeated, "payload.raw_payload.price");
    raw(r#"{"volume":1}"#, RejectionCode::Missing, "payload.price");
    raw(r#"{"price":1,"volume":-1}"#, RejectionCode::NegativeVolume, "payload.raw_payload.volume");
    raw(r#"{"price":1,"time":5}"#, RejectionCode::BadTime, "payload.raw_payload.time");
    raw("not json", RejectionCode::Malformed, "payload.raw_payload");
    raw("[1]", RejectionCode::Malformed, "payload.raw_payload");
    check("", RejectionCode::Malformed, "");
    check("[]", RejectionCode::Malformed, "");
    check(
        &GUIDE.replace(r#""encoding":"json""#, r#""encoding":"avro""#),
        RejectionCode::Encoding,
        "payload.encoding",
    );
    check(
        &GUIDE.replace(r#""sequence":7"#, r#""sequence":-7"#),
        RejectionCode::WrongType,
        "payload.sequence",
    );
    check(&GUIDE.replace(r#""tenant_id":"default","#, ""), RejectionCode::Missing, "tenant_id");
    check(&GUIDE.replace(r#""default""#, r#""a/b""#), RejectionCode::BadName, "tenant_id");
    check(&GUIDE.replace("MISO_INDIANA_HUB", "a\\u0000"), RejectionCode::BadName, "payload.symbol");
    check(
        &GUIDE.replace(r#""occurred_at":1704067200000000,"#, ""),
        RejectionCode::Missing,
        "payload.timestamp",
    );
    let normaliser = normaliser();
    let other = TenantId::new("other").unwrap();
    let stranger = normalise(GUIDE.as_bytes(), &normaliser, Tenancy::Only(&other), &NoReference).unwrap_err();
    assert_eq!(stranger.code, RejectionCode::TenantMismatch);
    let long = vec![b' '; kernel::MAX_EVENT_BYTES + 1];
    let long = normalise(&long, &normaliser, Tenancy::Named, &NoReference).unwrap_err();
    assert_eq!(long.code, RejectionCode::TooLarge);
    let binary = normalise(&[0xff], &normaliser, Tenancy::Named, &NoReference).unwrap_err();
    assert_eq!(binary.code, RejectionCode::Malformed);
}

#[test]
fn zero_and_negative_prices_are_as_the_market_has_them() {
    for (price, text) in [(0.0, "0"), (-36.98, "-36.98"), (0.0, "-0.0")] {
        let tick = written(&with_raw(&format!(r#"{{"price":{text}}}"#))).unwrap();
        assert_eq!(tick["payload"]["price"], json!(price));
        assert_eq!(tick["payload"]["quality"]["issues"], json!(["missing_volume"]));
        for market in ["carbon", "FX"] {
            let message = with_raw(&format!(r#"{{"price":{text}}}"#))
                .replace(r#""market":"miso""#, &format!(r#""market":"{market}""#));
            assert_eq!(
                written(&message).unwrap_err().code,
                RejectionCode::PriceNotAllowed,
                "{market} {text}"
            );
        }
    }
}

#[test]
fn a_quote_has_no_price_and_a_backfilled_one_is_no_trade() {
    struct Known;
    impl Reference for Known {
        fn terms(&self, _: &TenantId, instrument: &str) -> Terms<'_> {
            let unit = (instrument == "MISO_INDIANA_HUB").then_some("kWh");
            Terms { currency: Some("EUR"), unit }
        }
        fn last_price(&self, _: &TenantId, _: &str) -> Option<f64> {
            Some(30.0)
        }
    }
    let normaliser = normaliser();
    let check = |raw: &str, price: Option<f64>, traded: Option<f64>, issues: &[&str]| {
        let message = with_raw(raw);
        let tick = normalise(message.as_bytes(), &normaliser, Tenancy::Named, &Known).unwrap();
        assert_eq!((tick.price, tick.traded_price()), (price, traded), "{raw}");
        assert_eq!(tick.issues.names().collect::<Vec<_>>(), issues, "{raw}");
        assert_eq!((&*tick.currency, &*tick.unit), ("EUR", "kWh"));
    };
    check(r#"{"bid":1,"ask":2,"volume":0}"#, None, None, &["missing_price_primary"]);
    check(r#"{"bid":3,"ask":2,"volume":0}"#, None, None, &["missing_price_primary", "crossed_quote"]);
    check(r#"{"volume":1}"#, Some(30.0), None, &["price_backfilled", "missing_price_primary"]);
    check(r#"{"last_price":5,"volume":1}"#, Some(5.0), Some(5.0), &["missing_price_primary"]);
    check(r#"{"value":6,"last_price":5,"volume":1}"#, Some(5.0), Some(5.0), &["missing_price_primary"]);
    check(r#"{"price":5,"volume":1,"unit":"MWh"}"#, Some(5.0), Some(5.0), &["unit_conflict"]);
}

#[test]
fn identity_is_tenant_source_and_sequence() {
    let normaliser = normaliser();
    let id =
        |message: &str| normalise(message.as_bytes(), &normaliser, Tenancy::Named, &NoReference).unwrap().id;
    let first = id(GUIDE);
    assert_eq!(first, id(&GUIDE.replace(r#""event_id":"e1""#, r#""event_id":"e2""#)));
    assert_eq!(first, id(&GUIDE.replace("1704067200000000", "1704067200")));
    assert_ne!(first, id(&GUIDE.replace(r#""sequence":7"#, r#""sequence":8"#)));
    assert_ne!(first, id(&GUIDE.replace(r#""tenant_id":"default""#, r#""tenant_id":"other""#)));
    assert_ne!(first, id(&GUIDE.replace(r#""source_system":"miso""#, r#""source_system":"misoX""#)));
    let unnumbered = GUIDE.replace(r#""sequence":7,"#, "");
    assert_ne!(first, id(&unnumbered));
    assert_ne!(id(&unnumbered), id(&unnumbered.replace(r#""event_id":"e1""#, r#""event_id":"e2""#)));
}

#[test]
fn metadata_name_the_instrument_and_are_passed_on() {
    let message = GUIDE.replace(r#""metadata":{}"#, r#""metadata":{"instrument_id":"IND","node":{"a":[1]}}"#);
    let tick = written(&message).unwrap();
    assert_eq!(tick["payload"]["instrument_id"], "IND");
    assert_eq!(tick["payload"]["metadata"], json!({"instrument_id":"IND","node":{"a":[1]}}));
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = normalise(&bytes, &normaliser(), Tenancy::Named, &NoReference);
    }

    #[test]
    fn broken_messages_never_panic(cut in 0..GUIDE.len(), byte in any::<u8>()) {
        let mut bytes = GUIDE.as_bytes().to_vec();
        bytes[cut] = byte;
        let _ = normalise(&bytes, &normaliser(), Tenancy::Named, &NoReference);
        let _ = normalise(&bytes[..cut], &normaliser(), Tenancy::Named, &NoReference);
    }

    #[test]
    fn prices_come_through_to_the_bit(price in -1e6_f64..1e6, volume in 0_f64..1e9) {
        let tick = written(&with_raw(&json!({"price": price, "volume": volume}).to_string())).unwrap();
        prop_assert_eq!(tick["payload"]["price"].as_f64().unwrap().to_bits(), (price + 0.0).to_bits());
        prop_assert_eq!(tick["payload"]["volume"].as_f64().unwrap().to_bits(), (volume + 0.0).to_bits());
    }
}
