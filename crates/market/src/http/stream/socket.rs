//! A stream over a WebSocket (RFC 6455).

use std::pin::pin;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use bytes::Bytes;
use futures::SinkExt;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Instant;

use super::feed::{End, Feed, HEARTBEAT, Next, Telling};
use crate::service::live::Told;

/// What a WebSocket speaks.
const PROTOCOL: &str = "watershed.v1";
/// Callers have nothing to say but pings and a close.
const MOST_INBOUND_BYTES: usize = 4 << 10;
const WRITE_BYTES: usize = 16 << 10;
/// Far above the largest message. What else waits for a caller who does not read is answers to pings.
const MOST_WAITING_BYTES: usize = 4 << 20;
/// Pings and pongs of a caller in the time of a heartbeat.
const MOST_INBOUND_FRAMES: u32 = 256;
/// What is here already goes together, so many messages at most.
const TOGETHER: usize = 64;
/// Pings that a caller may leave unanswered.
const MOST_UNANSWERED: u32 = 2;
/// How long a caller has to take the reason of an end.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) fn prepared(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(MOST_INBOUND_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(MOST_WAITING_BYTES)
        .max_frame_size(MOST_INBOUND_BYTES)
        .max_message_size(MOST_INBOUND_BYTES)
}

/// A message.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

fn said(kind: &str, id: Option<&str>, data: Option<&RawValue>) -> Message {
    Message::Text(serde_json::to_string(&Said { kind, id, data }).unwrap_or_default().into())
}

/// What was heard of a caller.
struct Hearing {
    /// Our pings since anything was.
    unanswered: u32,
    frames: u32,
    counted_from: Instant,
}

/// What a stream does about what its caller sent.
enum Heard {
    GoOn,
    End(End),
    /// The caller closes, and takes an answer to it.
    Closed,
    Gone,
}

impl Hearing {
    fn begin() -> Self {
        Self { unanswered: 0, frames: 0, counted_from: Instant::now() }
    }

    fn take(&mut self, heard: Option<&Result<Message, axum::Error>>) -> Heard {
        self.unanswered = 0;
        match heard {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => self.count(),
            Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                let message = "a stream takes no messages; ask with parameters";
                Heard::End(End::new("UNEXPECTED_MESSAGE", 1003, message))
            }
            Some(Ok(Message::Close(_))) => Heard::Closed,
            Some(Err(_)) | None => Heard::Gone,
        }
    }

    /// By time and not by heartbeats, which a stream with much to tell has none of.
    fn count(&mut self) -> Heard {
        let now = Instant::now();
        if now.duration_since(self.counted_from) >= HEARTBEAT {
            (self.frames, self.counted_from) = (0, now);
        }
        self.frames += 1;
        if self.frames <= MOST_INBOUND_FRAMES {
            return Heard::GoOn;
        }
        let seconds = HEARTBEAT.as_secs();
        let message = format!("a stream takes {MOST_INBOUND_FRAMES} pings and pongs in {seconds} s at most");
        Heard::End(End::new("UNEXPECTED_MESSAGE", 1008, message))
    }
}

/// Tells a caller what comes, until either ends it.
pub(super) async fn speak(mut feed: Feed, mut socket: WebSocket) {
    let mut hearing = Hearing::begin();
    let end = 'telling: loop {
        let next = {
            // It stays the same beside all that is heard: what it reads of the log meanwhile is not begun again.
            let mut coming = pin!(feed.next());
            loop {
                let heard = tokio::select! {
                    next = coming.as_mut() => break next,
                    heard = socket.recv() => heard,
                };
                match hearing.take(heard.as_ref()) {
                    Heard::GoOn => {}
                    Heard::End(end) => break 'telling end,
                    Heard::Closed => {
                        // The answer to it goes out while more is read.
                        let _ = tokio::time::timeout(FAREWELL, socket.recv()).await;
                        return;
                    }
                    Heard::Gone => return,
                }
            }
        };
        if matches!(next, Next::Heartbeat) {
            if hearing.unanswered == MOST_UNANSWERED {
                // Nobody is there to be told.
                return;
            }
            hearing.unanswered += 1;
        }
        let (standing, telling) = feed.parts();
        match standing.give(give(telling, &mut socket, next)).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(end))) | Err(end) => break end,
            Ok(Err(_)) => return,
        }
    };
    feed.end(&end);
    // A close frame has little room.
    let data = to_raw_value(&end).ok();
    let frame = CloseFrame { code: end.close, reason: end.code.into() };
    let farewell = async {
        socket.send(said("end", None, data.as_deref())).await?;
        socket.send(Message::Close(Some(frame))).await?;
        // The caller closes in turn, or is cut off.
        while let Some(Ok(_)) = socket.recv().await {}
        Ok::<(), axum::Error>(())
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

/// Says what is next, and what is here already.
async fn give(telling: &mut Telling, socket: &mut WebSocket, next: Next) -> Result<Option<End>, axum::Error> {
    let mut said_now = 0;
    let mut next = Some(next);
    while let Some(one) = next {
        match one {
            Next::End(end) => return Ok(Some(end)),
            Next::Heartbeat => {
                socket.feed(said("heartbeat", Some(&telling.position()), None)).await?;
                // Pages do not see it; their browsers answer it.
                socket.feed(Message::Ping(Bytes::new())).await?;
            }
            Next::Told(Told::Lost { kind, events }) => {
                let data = to_raw_value(&serde_json::json!({"type": kind, "events": events})).ok();
                socket.feed(said("lost", Some(&telling.position()), data.as_deref())).await?;
            }
            Next::Told(ref told @ Told::Message { kind, .. }) => {
                socket.feed(said(kind, Some(&telling.position()), told.data())).await?;
            }
        }
        said_now += 1;
        next = if said_now < TOGETHER { telling.queued() } else { None };
    }
    socket.flush().await.map(|()| None)
}
