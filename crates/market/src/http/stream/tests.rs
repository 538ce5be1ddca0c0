//! Streams over real sockets, and what becomes of callers who take nothing.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::routing::get;
use edge::metrics::AccessMetrics;
use edge::server::{ConnectionSettings, Port, ShutdownTimes, listen, serve};
use edge::{ApiError, Authenticator, Authenticators};
use parking_lot::Mutex;
use store::memory::MemoryEventLog;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::service::live::tests::{Counting, live, over, scope, tell, tell_long};
use crate::settings::StreamSettings;
use feed::Next;

const LONGEST: Duration = Duration::from_secs(20);
const HANDSHAKE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: watershed.v1\r\n";

/// Takes every credential for one of this scope.
#[derive(Debug)]
struct Door(Mutex<Option<Scope>>);

impl Authenticator for Door {
    fn scope_of(&self, _: &str) -> Option<Scope> {
        self.0.lock().clone()
    }
}

fn door() -> (Arc<Door>, Authenticators) {
    let door = Arc::new(Door(Mutex::new(Some(scope("desk")))));
    let authenticators = Authenticators::new(vec![Arc::clone(&door) as _]);
    (door, authenticators)
}

/// A request to a server of its own, and what is said to it up to and with a text.
struct Talk(TcpStream);

impl Talk {
    async fn begin(address: SocketAddr, headers: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET / HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nlast-event-id: price:0\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Self(socket)
    }

    async fn until(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&heard).ends_with(end) {
                heard.push(self.0.read_u8().await.unwrap());
            }
        };
        let in_time = tokio::time::timeout(LONGEST, reading).await;
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(in_time.is_ok(), "no {end:?} in {heard:?}");
        heard
    }

    async fn is_over(&mut self) {
        let mut rest = Vec::new();
        let over = tokio::time::timeout(LONGEST, self.0.read_to_end(&mut rest)).await;
        assert!(over.is_ok(), "it is not closed after {:?}", String::from_utf8_lossy(&rest));
    }
}

/// A server with one address, which answers streams of a tenant.
async fn server(feeds: Arc<Live>, authenticators: Authenticators, stop: &CancellationToken) -> SocketAddr {
    let answer =
        move |Caller(scope): Caller, still_proven: StillProven, headers: HeaderMap, upgrade: Upgrade| {
            let feeds = Arc::clone(&feeds);
            async move {
                let question = StreamParams::default().question(&headers, "price")?;
                let asked = Asked { scope, still_proven, headers, upgrade };
                answer(&feeds, &question, asked).await.map_err(ApiError)
            }
        };
    let listener = listen("127.0.0.1:0".parse().unwrap(), "--port").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = ConnectionSettings {
        max: 10,
        idle_timeout: LONGEST,
        tls: None,
        metrics: AccessMetrics::register(&mut prometheus_client::registry::Registry::default()),
    };
    let times = ShutdownTimes { delay: Duration::ZERO, longest: LONGEST };
    let guard = axum::middleware::from_fn_with_state(authenticators, edge::auth::require);
    let router = Router::new().route("/", get(answer)).layer(guard);
    tokio::spawn(serve(vec![Port { listener, router }], settings, stop.clone(), times));
    address
}

async fn all_places_are_free(feeds: &Live) {
    let free = async {
        while feeds.open() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(LONGEST, free).await.is_ok(), "{} places are taken", feeds.open());
}

#[tokio::test]
async fn events_go_on_from_an_id_and_end_with_a_reason() {
    let log = Arc::new(MemoryEventLog::new(1));
    for number in 0..3 {
        tell(log.as_ref(), "desk", "I", number).await;
    }
    let (feeds, stop) = (live(&log, StreamSettings::default()), CancellationToken::new());
    let address = server(Arc::clone(&feeds), door().1, &stop).await;
    let mut talk = Talk::begin(address, "").await;
    let head = talk.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    let told = talk.until("id: price:3\nevent: price\ndata: {\"number\":2}\n\n").await;
    assert!(told.contains("retry: ") && told.contains(": heartbeat\nid: price:0\n\n"), "{told}");
    assert!(told.contains("id: price:1\nevent: price\ndata: {\"number\":0}\n\n"), "{told}");
    tell(log.as_ref(), "desk", "I", 3).await;
    talk.until("id: price:4\nevent: price\ndata: {\"number\":3}\n\n").await;
    feeds.stop.cancel();
    let end = talk.until("\n\n\r\n0\r\n\r\n").await;
    assert!(end.contains("event: end\ndata: {\"code\":\"SERVER_STOPPING\""), "{end}");
    assert!(end.contains("\"retry_ms\":"), "{end}");
}

#[tokio::test]
async fn a_websocket_tells_the_same_and_takes_no_messages() {
    let log = Arc::new(MemoryEventLog::new(1));
    tell(log.as_ref(), "desk", "I", 7).await;
    let (feeds, stop) = (live(&log, StreamSettings::default()), CancellationToken::new());
    let address = server(Arc::clone(&feeds), door().1, &stop).await;
    let mut talk = Talk::begin(address, HANDSHAKE).await;
    let head = talk.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("watershed.v1"), "{head}");
    let begin = talk.until(r#"{"type":"price","id":"price:1","data":{"number":7}}"#).await;
    assert!(begin.contains(r#"{"type":"heartbeat","id":"price:0"}"#), "{begin}");
    // What is no request passes, line feeds and all, once the server agreed to it.
    talk.0.write_all(&[0x81, 0x83, 0, 0, 0, 0, b'\n', b'\n', b'\n']).await.unwrap();
    let end = talk.until("UNEXPECTED_MESSAGE").await;
    assert!(end.contains(r#"{"type":"end","data":{"code":"#), "{end}");
    drop(talk);
    all_places_are_free(&feeds).await;
}

#[tokio::test]
async fn a_handshake_that_is_refused_ends_the_connection() {
    let log = Arc::new(MemoryEventLog::new(1));
    let (feeds, stop) = (live(&log, StreamSettings::default()), CancellationToken::new());
    let (door, authenticators) = door();
    let address = server(Arc::clone(&feeds), authenticators, &stop).await;
    let check = async |headers: String, status: u32| {
        let mut talk = Talk::begin(address, &headers).await;
        // What a server in front would pass on as frames is answered by nobody.
        talk.0.write_all(b"GET / HTTP/1.1\r\nhost: y\r\n\r\n").await.unwrap();
        let head = talk.until("\r\n\r\n").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{headers:?}: {head}");
        assert!(head.contains("connection: close"), "{headers:?}: {head}");
        talk.is_over().await;
    };
    check("upgrade: websocket\r\n".to_owned(), 400).await;
    check(HANDSHAKE.replace("version: 13", "version: 7"), 400).await;
    check(format!("{HANDSHAKE}content-length: 1\r\n"), 400).await;
    check(HANDSHAKE.replace("websocket\r\n", "WebSocket\r\ntransfer-encoding: chunked\r\n"), 400).await;
    *door.0.lock() = None;
    check(HANDSHAKE.to_owned(), 401).await;
    assert_eq!(feeds.open(), 0);
}

#[tokio::test]
async fn a_credential_that_ends_ends_its_streams() {
    let log = Arc::new(MemoryEventLog::new(1));
    let (feeds, stop) = (live(&log, StreamSettings::default()), CancellationToken::new());
    let (door, authenticators) = door();
    let address = server(Arc::clone(&feeds), authenticators, &stop).await;
    let mut talks = [Talk::begin(address, "").await, Talk::begin(address, HANDSHAKE).await];
    for talk in &mut talks {
        talk.until("price:0").await;
    }
    *door.0.lock() = Some(scope("other"));
    for talk in &mut talks {
        talk.until("CREDENTIAL_ENDED").await;
    }
    all_places_are_free(&feeds).await;
}

/// A stream of a caller who has all of a log to take.
async fn feed(feeds: &Arc<Live>) -> Feed {
    feed_of(feeds, door().1).await
}

async fn feed_of(feeds: &Arc<Live>, authenticators: Authenticators) -> Feed {
    let request = axum::http::Request::builder().header("x-api-key", "k").body(()).unwrap();
    let (mut parts, ()) = request.into_parts();
    parts.extensions.insert(Caller(scope("desk")));
    parts.extensions.insert(authenticators);
    let still_proven = StillProven::from_request_parts(&mut parts, &()).await.unwrap();
    let question = StreamParams { from: Some("earliest".to_owned()), ..StreamParams::default() };
    let question = question.question(&HeaderMap::new(), "price").unwrap();
    let follower = feeds.follow(&scope("desk"), &question).await.unwrap();
    Feed::new(Arc::clone(feeds), feeds.begin(&scope("desk")).unwrap(), still_proven, follower)
}

#[tokio::test]
async fn who_takes_nothing_holds_nothing_and_is_told_why_it_ended() {
    const EVENTS: u64 = 3_000;
    let log = Arc::new(MemoryEventLog::new(1));
    for number in 0..EVENTS {
        tell(log.as_ref(), "desk", "I", number).await;
    }
    let settings = StreamSettings { slow_after_seconds: 1, ..StreamSettings::default() };
    let feeds = live(&log, settings);
    let response = events::answer(feed(&feeds).await);
    all_places_are_free(&feeds).await;
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("event: end\ndata: {\"code\":\"STREAM_TOO_SLOW\""), "{text}");
    assert!(text.len() < 64 << 10, "{} bytes waited for the caller", text.len());

    // Who goes away is not waited for.
    drop(events::answer(feed(&feeds).await));
    all_places_are_free(&feeds).await;

    // And who takes everything has everything, once and in order.
    let response = events::answer(feed(&feeds).await);
    let mut pieces = response.into_body().into_data_stream();
    let mut text = String::new();
    let reading = async {
        while !text.contains(&format!("{{\"number\":{}}}", EVENTS - 1)) {
            let piece = futures::StreamExt::next(&mut pieces).await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    tokio::time::timeout(LONGEST, reading).await.unwrap();
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: price:")).collect();
    assert_eq!(ids, (0..=EVENTS).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// Returns when nothing more is told, because callers take nothing.
async fn nobody_takes_more(feeds: &Live, of: u64) {
    let (mut told, mut quiet) = (0, 0);
    while quiet < 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = feeds.metrics.messages.get();
        quiet = if now > 0 && now == told { quiet + 1 } else { 0 };
        told = now;
    }
    assert!(told < of, "all was taken");
}

#[tokio::test]
async fn who_takes_nothing_is_not_waited_for_once_the_stream_must_end() {
    const EVENTS: u64 = 400;
    let log = Arc::new(MemoryEventLog::new(1));
    for number in 0..EVENTS {
        tell_long(log.as_ref(), number, 64 << 10).await;
    }
    let check = async |is_socket: bool, is_stop: bool, code: &str| {
        let feeds = live(&log, StreamSettings { slow_after_seconds: 25, ..StreamSettings::default() });
        let (door, authenticators) = door();
        let stop = CancellationToken::new();
        let (mut talk, mut response) = (None, None);
        if is_socket {
            let address = server(Arc::clone(&feeds), authenticators, &stop).await;
            talk = Some(Talk::begin(address, HANDSHAKE).await);
        } else {
            response = Some(events::answer(feed_of(&feeds, authenticators).await));
        }
        nobody_takes_more(&feeds, EVENTS).await;
        assert_eq!(feeds.open(), 1, "{code}");
        let begun = tokio::time::Instant::now();
        if is_stop {
            feeds.stop.cancel();
        } else {
            *door.0.lock() = None;
        }
        all_places_are_free(&feeds).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(4), "{code}: it ended after {took:?}");
        if let Some(response) = response {
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            assert!(text.contains(&format!("event: end\ndata: {{\"code\":\"{code}\"")), "no {code}");
        }
        drop(talk);
    };
    for is_socket in [false, true] {
        check(is_socket, true, "SERVER_STOPPING").await;
        check(is_socket, false, "CREDENTIAL_ENDED").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_lasts_longer_than_the_silence_is_one_read() {
    let log = Counting::new(1, false);
    tell(log.as_ref(), "desk", "I", 7).await;
    log.read_ms.store(100_000, Ordering::Relaxed);
    let mut feed = feed(&Arc::new(over(&log))).await;
    let mut heartbeats = 0;
    let told = loop {
        match feed.next().await {
            Next::Heartbeat => heartbeats += 1,
            Next::Told(told) => break told,
            Next::End(end) => panic!("{end:?}"),
        }
    };
    assert_eq!(told.data().map(|data| data.get()), Some("{\"number\":7}"));
    assert_eq!((heartbeats, log.reads.load(Ordering::Relaxed)), (7, 1), "and it said that it is there");
}

#[tokio::test(start_paused = true)]
async fn a_look_for_partitions_that_fails_is_tried_again() {
    let check = async |faults: usize, code: Option<&str>| {
        let log = Counting::new(1, false);
        let mut feed = feed(&Arc::new(over(&log))).await;
        log.faults.store(faults, Ordering::Relaxed);
        assert!(matches!(feed.next().await, Next::Heartbeat), "it says that it is there all the same");
        let second = feed.next().await;
        match code {
            None => assert!(matches!(second, Next::Heartbeat), "{faults} faults"),
            Some(code) => assert!(matches!(second, Next::End(end) if end.code == code), "{faults} faults"),
        }
    };
    check(0, None).await;
    check(10, None).await;
    check(usize::MAX, Some("UNAVAILABLE")).await;
}

#[test]
fn where_to_begin_is_the_header_before_the_parameter() {
    let check = |header: Option<&'static str>, from: Option<&str>, expected: StartAt| {
        let params = StreamParams { from: from.map(str::to_owned), ..StreamParams::default() };
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert("last-event-id", header.parse().unwrap());
        }
        assert_eq!(params.question(&headers, "").unwrap().start, expected, "{header:?} {from:?}");
    };
    check(None, None, StartAt::Latest);
    check(None, Some("earliest"), StartAt::Earliest);
    check(Some(""), Some("earliest"), StartAt::Earliest);
    check(Some("price:3"), Some("earliest"), StartAt::Position("price:3".to_owned()));
    let many = (0..=MOST_INSTRUMENTS).map(|number| format!("I{number}")).collect::<Vec<_>>().join(",");
    let params = StreamParams { symbols: Some(many), ..StreamParams::default() };
    let refused = params.question(&HeaderMap::new(), "").unwrap_err();
    assert_eq!(refused.field(), Some("symbols"));
}
