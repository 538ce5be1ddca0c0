//! `GET /api/v1/market/stream`: prices and bars as they are told, as server-sent events, or over a WebSocket where one is
//! asked for. `GET /ws/prices` is the guide's name of the same for prices.
//!
//! - `feed`: what is to be said next to one caller, and when a stream ends. `events` and `socket`: how it is said.
//!
//! Every message has an id, from which a later stream goes on: `Last-Event-ID`, which browsers send by themselves, or `from`.
//! What a caller does not take waits in the log; who takes nothing for too long is told `STREAM_TOO_SLOW` and ended. Every
//! stream ends with a reason: a message `end`, and over a WebSocket a close frame too.
//!
//! Browsers let pages set no headers here. For server-sent events a page uses `fetch` and reads the body, or a WebSocket
//! with the protocols `watershed.v1` and `bearer.KEY`. A key in the address is refused: addresses are logged.
//!
//! To add a transport: another loop over [`Feed::next`].

mod events;
mod feed;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use edge::{ApiResult, Caller, Params, StillProven};
use kernel::{Error, Result, Scope, codes};
use serde::Deserialize;
use tracing::{Instrument, Span};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::HttpState;
use crate::service::live::{Live, LiveQuestion, StartAt};
use feed::Feed;

const MOST_INSTRUMENTS: usize = 200;

pub(super) fn routes() -> OpenApiRouter<HttpState> {
    OpenApiRouter::new().routes(routes!(get)).routes(routes!(prices))
}

/// What to tell, and where to begin.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct StreamParams {
    /// Of `price`, `bar_5m`, `bar_1h`, `bar_1d`, with commas between; `bar` stands for all three. Everything where missing.
    #[param(example = "price,bar_5m")]
    types: Option<String>,
    /// The ids of instruments, with commas between, 200 at most; all of them where missing.
    #[param(example = "MISO_INDIANA_HUB")]
    symbols: Option<String>,
    /// `latest` (as where missing), `earliest`, or the id of the last message that was taken. The header `Last-Event-ID`
    /// counts before it.
    #[param(example = "earliest")]
    from: Option<String>,
    /// Whether to wait for more. `false` ends with what was there when it was asked.
    #[param(example = false)]
    follow: Option<bool>,
}

impl StreamParams {
    fn question(&self, headers: &HeaderMap, usual: &str) -> Result<LiveQuestion> {
        let names = |text: &Option<String>| -> Vec<String> {
            let parts = text.as_deref().unwrap_or_default().split(',').map(str::trim);
            parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let instruments: BTreeSet<String> = names(&self.symbols).into_iter().collect();
        if instruments.len() > MOST_INSTRUMENTS {
            let message =
                format!("are {MOST_INSTRUMENTS} at most; leave them out and filter, or open another stream");
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("symbols"));
        }
        let mut types = names(&self.types);
        if types.is_empty() && !usual.is_empty() {
            types.push(usual.to_owned());
        }
        let last = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
        let start = match last.filter(|id| !id.is_empty()).or(self.from.as_deref()) {
            None | Some("latest") => StartAt::Latest,
            Some("earliest") => StartAt::Earliest,
            Some(position) => StartAt::Position(position.to_owned()),
        };
        Ok(LiveQuestion { types, instruments, start, follow: self.follow.unwrap_or(true) })
    }
}

type Upgrade = std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Who asks, and how.
struct Asked {
    scope: Scope,
    still_proven: StillProven,
    headers: HeaderMap,
    upgrade: Upgrade,
}

/// Follow prices and bars as they are told.
///
/// Server-sent events: each has its type (`price`, `bar`), an id and the data of its topic. A comment comes where nothing else
/// does. `lost` says that events were gone before they were read; `end` says why the stream ends. With `Upgrade: websocket`
/// the same are messages `{"type", "id", "data"}`; pages offer the protocols `watershed.v1` and `bearer.KEY`.
#[utoipa::path(get, path = "/api/v1/market/stream", tag = "market", operation_id = "stream_market",
    params(StreamParams, ("Last-Event-ID" = Option<String>, Header,
        description = "The id of the last message that was taken; it counts before `from`.")),
    responses((status = 200, content((String = "text/event-stream")))))]
async fn get(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    still_proven: StillProven,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> ApiResult<Response> {
    let question = params.question(&headers, "")?;
    Ok(answer(&state.live, &question, Asked { scope, still_proven, headers, upgrade }).await?)
}

/// Follow the newest prices: `/api/v1/market/stream` with `types=price`.
#[utoipa::path(get, path = "/ws/prices", tag = "market", operation_id = "stream_market_prices",
    params(StreamParams, ("Last-Event-ID" = Option<String>, Header,
        description = "The id of the last message that was taken; it counts before `from`.")),
    responses((status = 200, content((String = "text/event-stream")))))]
async fn prices(
    State(state): State<HttpState>,
    Caller(scope): Caller,
    still_proven: StillProven,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> ApiResult<Response> {
    let question = params.question(&headers, "price")?;
    Ok(answer(&state.live, &question, Asked { scope, still_proven, headers, upgrade }).await?)
}

async fn answer(live: &Arc<Live>, question: &LiveQuestion, asked: Asked) -> Result<Response> {
    let Asked { scope, still_proven, headers, upgrade } = asked;
    let upgrade = match headers.get(header::UPGRADE) {
        Some(to) if to.as_bytes().eq_ignore_ascii_case(b"websocket") => Some(handshake(&headers, upgrade)?),
        _ => None,
    };
    let place = live.begin(&scope)?;
    let follower = live.follow(&scope, question).await?;
    let feed = Feed::new(Arc::clone(live), place, still_proven, follower);
    let span = Span::current();
    Ok(match upgrade {
        None => events::answer(feed),
        Some(upgrade) => socket::prepared(upgrade)
            .on_upgrade(move |socket| socket::speak(feed, socket).instrument(span))
            .into_response(),
    })
}

fn handshake(headers: &HeaderMap, upgrade: Upgrade) -> Result<WebSocketUpgrade> {
    let refused =
        |why: String| Error::new(codes::INVALID_REQUEST, format!("this is no WebSocket handshake: {why}"));
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_body {
        // Its bytes would be taken for frames by one and for a body by another.
        return Err(refused("it has a body".to_owned()));
    }
    upgrade.map_err(|rejection| refused(rejection.to_string()))
}
