//! A stream as server-sent events.
//!
//! A task of its own fills the body, so that a stream ends in time also where nobody asks the body for more (HTTP/2 asks for
//! nothing while the caller lets nothing in). No more than a piece waits for the caller.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tracing::Instrument;

use super::feed::{End, Feed, Next, Telling};
use crate::service::live::Told;

/// What is here already goes together, up to so much.
const PIECE_BYTES: usize = 16 << 10;

/// What stands after everything else, also where the caller did not take all of that.
type LastWord = Arc<Mutex<Option<Bytes>>>;

pub(super) fn answer(feed: Feed) -> Response {
    let (give, pieces) = mpsc::channel(1);
    let last = LastWord::default();
    tokio::spawn(tell(feed, give, Arc::clone(&last)).in_current_span());
    let pieces = futures::stream::unfold((pieces, last), |(mut pieces, last)| async move {
        let piece = match pieces.recv().await {
            Some(piece) => piece,
            None => last.lock().take()?,
        };
        Some((Ok::<_, Infallible>(piece), (pieces, last)))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

async fn tell(mut feed: Feed, give: mpsc::Sender<Bytes>, last: LastWord) {
    let mut text = format!("retry: {}\n", feed.retry_ms());
    let end = loop {
        let next = tokio::select! {
            next = feed.next() => next,
            () = give.closed() => return,
        };
        let (standing, telling) = feed.parts();
        let mut end = said(&mut text, telling, next);
        while end.is_none() && text.len() < PIECE_BYTES {
            let Some(next) = telling.queued() else { break };
            end = said(&mut text, telling, next);
        }
        let piece = Bytes::from(std::mem::take(&mut text));
        if !piece.is_empty() {
            match standing.give(give.send(piece)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(end) => break end,
            }
        }
        if let Some(end) = end {
            break end;
        }
    };
    feed.end(&end);
    let mut word = String::new();
    event(&mut word, "end", None, &serde_json::to_string(&end).unwrap_or_default());
    *last.lock() = Some(Bytes::from(word));
}

/// Adds it to the text, unless it is the end.
fn said(text: &mut String, telling: &Telling, next: Next) -> Option<End> {
    match next {
        Next::End(end) => return Some(end),
        Next::Heartbeat => text.extend([": heartbeat\nid: ", &telling.position(), "\n\n"]),
        Next::Told(Told::Lost { kind, events }) => {
            let data = serde_json::json!({"type": kind, "events": events}).to_string();
            event(text, "lost", Some(&telling.position()), &data);
        }
        Next::Told(ref told @ Told::Message { kind, .. }) => {
            let data = told.data().map_or("null", |data| data.get());
            event(text, kind, Some(&telling.position()), data);
        }
    }
    None
}

/// One event. Data of several lines is that many `data` fields.
fn event(text: &mut String, kind: &str, id: Option<&str>, data: &str) {
    if let Some(id) = id {
        text.extend(["id: ", id, "\n"]);
    }
    let _ = writeln!(text, "event: {kind}");
    for line in data.split(['\n', '\r']) {
        text.extend(["data: ", line, "\n"]);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_its_lines() {
        let check = |id: Option<&str>, data: &str, expected: &str| {
            let mut text = String::new();
            event(&mut text, "price", id, data);
            assert_eq!(text, expected);
        };
        check(Some("price:1"), "{\n}", "id: price:1\nevent: price\ndata: {\ndata: }\n\n");
        check(None, "{}", "event: price\ndata: {}\n\n");
    }
}
