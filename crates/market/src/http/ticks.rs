//! `POST /api/v1/market/ticks`: raw messages of feeds in, one, an array of them, or a line each.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use edge::http::events::{BatchOrStream, BrokenStream, EventResult, Intake, Taken, take};
use edge::{ApiResult, Caller};
use kernel::{Error, EventDraft, Result, codes};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use crate::events::kinds;

const SOURCE: &str = "/api/v1/market/ticks";

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(post))
}

/// A message of a feed.
pub(super) fn example() -> Value {
    serde_json::json!({
        "source_system": "miso", "market": "MISO", "symbol": "MISO_INDIANA_HUB", "sequence": 7,
        "timestamp": "2024-01-01T00:00:00Z", "price": 31.2, "volume": 10, "bid": 31.1, "ask": 31.3
    })
}

/// Take raw ticks in. They are durable when this answers; prices and bars show them within a second.
///
/// A message is plain JSON, in either envelope of the guide, or a CloudEvent around one of them. The settings
/// (`market.mapping`) say where it keeps what. What is JSON and no tick is stored all the same, and becomes a dead letter
/// with its reason; `POST /api/v1/market/validate` says so before.
#[utoipa::path(post, path = "/api/v1/market/ticks", tag = "market", operation_id = "post_market_ticks",
    request_body(content(
        (BTreeMap<String, Value> = "application/json", example = json!(example())),
        (String = "application/x-ndjson", example = json!(format!("{}\n", example()))))),
    responses((status = 201, description = "one message, stored", body = EventResult),
        (status = 200, description = "one message, a duplicate; a batch or stream, nothing refused", body = Taken),
        (status = 207, description = "a batch or stream, some refused", body = BatchOrStream),
        (status = 408, description = "the stream sent too little for too long; whole lines until then were taken in",
            body = BrokenStream, content_type = "application/problem+json"),
        (status = 504, description = "the stream stalled; whole lines until then were taken in", body = BrokenStream,
            content_type = "application/problem+json")))]
async fn post(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    request: Request,
) -> ApiResult<Response> {
    take(&Intake { ingest: state.ingest, read: Arc::new(draft) }, &scope, request).await
}

/// The event of a message. Its id is of its bytes, so that the same request sent again stores nothing, and two messages
/// that say they have one id are told apart by the stage that knows ticks.
fn draft(text: &str) -> Result<EventDraft> {
    let text = text.trim();
    if is_cloud_event(text) {
        return kernel::json::read(text).map_err(|fault| {
            let error = Error::new(codes::INVALID_EVENT, fault.message);
            match fault.field {
                Some(field) => error.with_field(field),
                None => error,
            }
        });
    }
    let data = RawValue::from_string(text.to_owned())
        .map_err(|cause| Error::new(codes::INVALID_EVENT, format!("the message is not JSON: {cause}")))?;
    Ok(EventDraft {
        specversion: Some(kernel::SPEC_VERSION.to_owned()),
        id: Some(blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()),
        source: Some(SOURCE.to_owned()),
        kind: Some(kinds::RAW_TICK.to_owned()),
        data: Some(data),
        ..EventDraft::default()
    })
}

fn is_cloud_event(text: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Marked {
        #[serde(default)]
        specversion: Option<serde::de::IgnoredAny>,
    }
    text.contains("\"specversion\"")
        && serde_json::from_str::<Marked>(text).is_ok_and(|marked| marked.specversion.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_an_event_of_its_bytes_unless_it_is_one_already() {
        let plain = draft("{\"price\":1}\r").unwrap();
        assert_eq!(plain.kind.as_deref(), Some(kinds::RAW_TICK));
        assert_eq!(plain.id, draft("{\"price\":1}").unwrap().id);
        assert_ne!(plain.id, draft("{\"price\":2}").unwrap().id);
        let event =
            r#"{"specversion":"1.0","id":"e","source":"/f","type":"market.tick.raw.v1","data":{"price":1}}"#;
        assert_eq!(draft(event).unwrap().id.as_deref(), Some("e"));
        assert_eq!(draft(r#"{"note":"\"specversion\""}"#).unwrap().source.as_deref(), Some(SOURCE));
        assert_eq!(draft("{\"price\":NaN}").unwrap_err().code(), codes::INVALID_EVENT);
        assert!(draft("").is_err());
    }
}
