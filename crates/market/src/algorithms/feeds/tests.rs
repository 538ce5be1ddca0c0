//! Feeds over messages of every form, and what they refuse.

use kernel::TenantId;
use proptest::prelude::*;

use super::*;
use crate::algorithms::ticks::{NoReference, Tenancy, Tick, normalise};

fn feeds(toml: &str) -> Result<Feeds, FeedFault> {
    #[derive(Deserialize)]
    struct Settings {
        feeds: Vec<Feed>,
    }
    let settings: Settings = toml::from_str(toml).unwrap();
    Feeds::new(&settings.feeds, &Mapping::default())
}

const NORDIC: &str = r#"
[[feeds]]
name = "nordic"
sources = ["np"]
when = "payload.kind == 'trade'"
market = "NP"
currency = "EUR"
unit = "MWh"
time_unit = "ms"
[feeds.fields]
symbol = { cel = "'NP_' + payload.area" }
price = { cel = "payload.cents / 100.0" }
volume = "data.size"
timestamp = "at"
sequence = { cel = "int(payload.number) + 1" }
[[feeds]]
name = "nordic-quotes"
sources = ["np"]
[feeds.fields]
symbol = "area"
bid = "b"
ask = { cel = "has(payload.a) ? payload.a : payload.b + 1.0" }
timestamp = "at"
"#;

fn read<R>(feeds: &Feeds, message: &str, then: impl FnOnce(&str, &Tick<'_>) -> R) -> Result<R, Rejection> {
    let found = feeds.translate(message.as_bytes())?.expect("it is of a feed");
    let tenant = TenantId::new("desk").unwrap();
    let text = found.message.as_bytes();
    let tick = normalise(text, found.normaliser, Tenancy::Only(&tenant), &NoReference)?;
    Ok(then(found.feed, &tick))
}

#[test]
fn a_message_becomes_what_its_feed_says() {
    let feeds = feeds(NORDIC).unwrap();
    let bare = r#"{"source_system":"np","kind":"trade","area":"SE3","cents":-1250,"data":{"size":3},"at":1704067200123,"number":6}"#;
    let raw = r#"{"envelope":{"event_id":"e1","tenant_id":"desk"},"payload":{"source_system":"np","metadata":{"x":1},
        "raw_payload":"{\"kind\":\"trade\",\"area\":\"SE3\",\"cents\":-1250,\"data\":{\"size\":3},\"at\":1704067200123,\"number\":6}"}}"#;
    for message in [bare, raw] {
        read(&feeds, message, |feed, tick| {
            assert_eq!(
                (feed, &*tick.symbol, tick.price, tick.volume),
                ("nordic", "NP_SE3", Some(-12.5), Some(3.0))
            );
            assert_eq!((tick.occurred_us, tick.sequence), (1_704_067_200_123_000, Some(7)));
            assert_eq!((&*tick.market, &*tick.currency, &*tick.unit), ("NP", "EUR", "MWh"));
        })
        .unwrap();
    }
    read(&feeds, raw, |_, tick| assert_eq!(tick.event_id.as_deref(), Some("e1"))).unwrap();
    let quote = r#"{"source_system":"np","area":"SE3","b":30,"at":1704067200}"#;
    read(&feeds, quote, |feed, tick| {
        assert_eq!((feed, tick.bid, tick.ask, tick.price), ("nordic-quotes", Some(30.0), Some(31.0), None));
    })
    .unwrap();
    for other in [r#"{"source_system":"miso","kind":"trade"}"#, "{", "[]", r#"{"kind":"trade"}"#] {
        assert!(feeds.translate(other.as_bytes()).unwrap().is_none(), "{other}");
    }
}

#[test]
fn what_a_feed_cannot_use_is_refused_with_its_name() {
    let feeds = feeds(NORDIC).unwrap();
    let check = |message: &str, code: RejectionCode, field: &str| {
        let refused = read(&feeds, message, |_, _| ()).unwrap_err();
        assert_eq!((refused.code, refused.field.as_str()), (code, field), "{refused}");
        refused.message
    };
    let told = check(
        r#"{"source_system":"np","kind":"trade","area":7,"cents":1,"at":1704067200123}"#,
        RejectionCode::WrongType,
        "payload.symbol",
    );
    assert!(told.contains("(feed `nordic`)"), "{told}");
    let no_price = r#"{"source_system":"np","kind":"trade","area":"SE3","at":1704067200123}"#;
    check(no_price, RejectionCode::Missing, "payload.price");
    let elsewhere = r#"{"source_system":"np","tenant_id":"other","kind":"trade","area":"SE3","cents":1,"at":1704067200123}"#;
    check(elsewhere, RejectionCode::TenantMismatch, "tenant_id");
    let long = format!(r#"{{"source_system":"np","kind":"trade","note":"{}"}}"#, "x".repeat(MOST_BYTES));
    check(&long, RejectionCode::TooLarge, "");
}

#[test]
fn feeds_are_checked_when_they_are_made() {
    let check = |part: &str, at: &str, reason: &str| {
        let fields = if part.contains("[feeds.fields]") {
            ""
        } else {
            "\n[feeds.fields]\nsymbol = \"s\"\nprice = \"p\""
        };
        let head = if part.contains("sources") { "" } else { "sources = [\"x\"]\n" };
        let fault = feeds(&format!("[[feeds]]\nname = \"one\"\n{head}{part}{fields}")).unwrap_err();
        assert!(fault.at == at && fault.reason.contains(reason), "{part}: {fault:?}");
    };
    check("sources = []", "one.sources", "names no source");
    check("when = \"payload.\"", "one.when", "");
    check("when = \"secret == 1\"", "one.when", "`secret` is not known");
    check("[feeds.fields]\nprice = \"p\"", "one.fields.symbol", "is missing");
    check("[feeds.fields]\nsymbol = \"s\"\nbid = \"b\"", "one.fields.price", "is missing");
    check("[feeds.fields]\nsymbol = \"a..b\"\nprice = \"p\"", "one.fields.symbol", "is not a path");
    let price = |cel: &str| format!("[feeds.fields]\nsymbol = \"s\"\nprice = {{ cel = \"{cel}\" }}");
    check(&price("payload.x.all(y, y > 1)"), "one.fields.price", "cannot stand here");
    check(&price("payload.x.matches('(a+)+')"), "one.fields.price", "`matches` is not known");
    check(&price("{'a': 1}.a"), "one.fields.price", "maps");
    check(&price(&format!("{}1{}", "(".repeat(40), ")".repeat(40))), "one.fields.price", "nested");
    check(&price(&"1+".repeat(2_000)), "one.fields.price", "at most 2000 bytes");
    let twice = "[[feeds]]\nname = \"a\"\nsources = [\"x\"]\n[feeds.fields]\nsymbol = \"s\"\nprice = \"p\"\n"
        .repeat(2);
    assert_eq!(feeds(&twice).unwrap_err().at, "a");
    assert_eq!(feeds(&twice.replace("\"a\"", "\"A\"")).unwrap_err().at, "A");
}

proptest! {
    #[test]
    fn whatever_comes_in_is_a_tick_or_is_refused(text in "\\PC{0,60}", number in any::<f64>(), kind in 0_usize..4) {
        let feeds = feeds(NORDIC).unwrap();
        let value = [
            serde_json::json!(text),
            serde_json::json!(number),
            serde_json::json!([text]),
            serde_json::json!({"area": number}),
        ][kind].clone();
        for name in ["kind", "area", "cents", "at", "number", "payload", "envelope", "b"] {
            let mut message = serde_json::json!({
                "source_system": "np", "kind": "trade", "area": "SE3", "cents": 1, "at": 1_704_067_200_123_i64,
                "number": 1,
            });
            message[name] = value.clone();
            let Ok(Some(found)) = feeds.translate(message.to_string().as_bytes()) else { continue };
            let tenant = TenantId::new("desk").unwrap();
            let _ = normalise(found.message.as_bytes(), found.normaliser, Tenancy::Only(&tenant), &NoReference);
        }
    }
}

#[test]
fn a_number_that_doubles_round_is_refused() {
    let feeds = feeds(NORDIC).unwrap();
    let check = |number: &str, other: &str, expected: Option<u64>| {
        let message = format!(
            r#"{{"source_system":"np","kind":"trade","area":"SE3","cents":1,"at":1704067200123,"number":{number},"other":{other}}}"#
        );
        match read(&feeds, &message, |_, tick| tick.sequence) {
            Ok(found) => assert_eq!(found, expected, "{number}"),
            Err(rejection) => {
                assert_eq!(expected, None, "{rejection}");
                assert!(rejection.to_string().contains("give its path"), "{rejection}");
            }
        }
    };
    check("9007199254740990", "9007199254740993", Some(9_007_199_254_740_991));
    check("9007199254740991", "1", None);
    check("9007199254740993", "1", None);
    check("-9007199254740993", "1", None);
    check("18446744073709551615", "1", None);
}
