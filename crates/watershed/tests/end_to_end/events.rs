//! `/api/v1/events` and `/api/v1/dead-letters`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Home, KEY, Server, encode, metric, refused};

const PATH: &str = "/api/v1/events";
const SINGLE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const LINES: &str = "application/x-ndjson";

fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/shop/web", "type": "recommend.interaction.recorded.v1",
        "time": "2024-05-01T10:00:00Z",
        "data": {"user_id": "ada", "entity_id": id, "interaction_type": "view"}
    })
}

fn with(id: &str, name: &str, value: Value) -> Value {
    let mut event = event(id);
    event[name] = value;
    event
}

fn recorded(server: &Server) -> usize {
    let (status, list) = server.get("/api/v1/interactions/user/ada?limit=1000");
    if status == 404 { 0 } else { list.as_array().unwrap().len() }
}

fn letters(server: &Server) -> Vec<Value> {
    server.read("/api/v1/dead-letters?limit=1000")["dead_letters"].as_array().unwrap().clone()
}

#[test]
fn an_event_is_stored_once() {
    let server = Server::new();
    let (status, stored) = server.post_as(SINGLE, PATH, event("1").to_string());
    assert_eq!((status, stored["status"].as_str()), (201, Some("stored")));
    let (status, again) = server.post_as("application/json; charset=utf-8", PATH, event("1").to_string());
    assert_eq!((status, again["status"].as_str()), (200, Some("duplicate")));
    assert_eq!((&again["partition"], &again["offset"]), (&stored["partition"], &stored["offset"]));
    let other_source = with("1", "source", json!("/shop/app"));
    assert_eq!(server.post_as(SINGLE, PATH, other_source.to_string()).0, 201);
    assert_eq!(recorded(&server), 2);
    assert_eq!(server.read("/api/v1/interactions/user/ada")[0]["timestamp"], "2024-05-01T10:00:00Z");
}

#[test]
fn a_batch_tells_what_became_of_each() {
    let server = Server::new();
    let batch = json!([
        event("1"),
        event("2"),
        with("3", "time", json!("noon")),
        event("1"),
        with("4", "tenantid", json!("else"))
    ]);
    let (status, result) = server.post_as(BATCH, PATH, batch.to_string());
    assert_eq!(status, 207, "{result}");
    let counts = ["stored", "duplicates", "refused"].map(|name| result[name].as_u64().unwrap());
    assert_eq!(counts, [2, 1, 2]);
    let told: Vec<_> =
        result["results"].as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(told, ["stored", "stored", "refused", "duplicate", "refused"]);
    assert_eq!(result["results"][2]["problem"]["field"], "time");
    assert_eq!(result["results"][4]["problem"]["code"], "TENANT_MISMATCH");
    assert_eq!(recorded(&server), 2);
    assert_eq!(letters(&server).len(), 1, "another tenant's event is not kept");

    let (status, result) = server.post_as("application/json", PATH, json!([event("5")]).to_string());
    assert_eq!((status, &result["stored"]), (200, &json!(1)));
    let (status, result) = server.post_as(BATCH, PATH, "[]");
    assert_eq!((status, &result["results"]), (200, &json!([])));
    refused(&server.post_as(BATCH, PATH, r#"[{"a": NaN}]"#), 400, "INVALID_REQUEST", None);
    refused(&server.post_as(BATCH, PATH, r#"[{"specversion":"1.0"},"#), 400, "INVALID_REQUEST", None);
    let many = format!("[{}{{}}]", "{},".repeat(10_000));
    refused(&server.post_as(BATCH, PATH, many), 413, "TOO_LARGE", None);
}

#[test]
fn a_stream_names_the_lines_it_refuses_and_keeps_the_rest() {
    let server = Server::new();
    let mut body = format!("{}\n\n{}\r\nnot json\n", event("1"), event("2")).into_bytes();
    body.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":\"\xff\"}\n");
    body.extend(format!("{}\n", with("x", "data", json!("y".repeat(3 << 20)))).into_bytes());
    body.extend(format!("{}\n{}", event("1"), event("3")).into_bytes());
    let (status, result) = server.post_as(LINES, PATH, &body);
    assert_eq!(status, 207, "{result}");
    let counts = ["stored", "duplicates", "refused"].map(|name| result[name].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 3], "{result}");
    let lines = result["refused_lines"].as_array().unwrap();
    let told: Vec<_> = lines
        .iter()
        .map(|one| (one["line"].as_u64().unwrap(), one["problem"]["code"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(4, "INVALID_EVENT"), (5, "INVALID_EVENT"), (6, "TOO_LARGE")]);
    assert_eq!(recorded(&server), 3);
    assert_eq!(letters(&server).len(), 3);
    let (status, result) = server.post_as(LINES, PATH, "");
    assert_eq!((status, &result["stored"]), (200, &json!(0)));
}

#[test]
fn a_long_stream_is_taken_in_whole() {
    let server = Server::new();
    let lines: Vec<String> =
        (0..2_500).map(|number| event(&format!("{}", number % 2_400)).to_string()).collect();
    let (status, result) = server.post_as(LINES, PATH, lines.join("\n"));
    assert_eq!(
        (status, &result["stored"], &result["duplicates"]),
        (200, &json!(2_400), &json!(100)),
        "{result}"
    );
    assert_eq!(server.read("/api/v1/users/ada")["interactions"], 2_400);
}

/// A stream of events that is sent in chunks by hand.
struct Upload(TcpStream);

impl Upload {
    fn begin(server: &Server) -> Self {
        Self::begin_as(server, LINES)
    }

    fn begin_as(server: &Server, content_type: &str) -> Self {
        let address = std::fs::read_to_string(server.home().path("address")).unwrap();
        let mut stream = TcpStream::connect(address.trim_end()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: {}\r\nx-api-key: {KEY}\r\ncontent-type: {content_type}\r\n\
             transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
            address.trim_end()
        );
        stream.write_all(head.as_bytes()).unwrap();
        Self(stream)
    }

    fn send(&mut self, text: &str) {
        write!(self.0, "{:x}\r\n{text}\r\n", text.len()).unwrap();
    }

    /// The status and what stands in the body's chunks.
    fn answer(mut self) -> (u16, Value) {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {text:?}"));
        let body = &text[text.find("\r\n\r\n").unwrap()..];
        let json = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
        (
            status.parse().unwrap(),
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {text}")),
        )
    }
}

#[test]
fn a_stream_may_take_longer_than_a_request_but_may_not_stall() {
    let home = Home::new().allowing("request refused");
    let settings = std::fs::read_to_string(home.path("watershed.toml")).unwrap();
    home.write("watershed.toml", format!("{settings}\n[server]\nrequest_timeout_ms = 1000\n"));
    let server = home.serve();
    let send = |ids: std::ops::Range<u32>| {
        let mut upload = Upload::begin(&server);
        for id in ids {
            upload.send(&format!("{}\n", event(&id.to_string())));
            sleep(Duration::from_millis(250));
        }
        upload
    };
    let mut steady = send(0..8);
    steady.0.write_all(b"0\r\n\r\n").unwrap();
    let (status, result) = steady.answer();
    assert_eq!((status, &result["stored"], &result["refused"]), (200, &json!(8), &json!(0)), "{result}");

    let mut stalled = send(8..10);
    stalled.send("{\"specversion\":");
    let answer = stalled.answer();
    refused(&answer, 504, "TIMED_OUT", None);
    assert!(answer.1["detail"].as_str().unwrap().contains("1000 ms"), "{answer:?}");
    assert_eq!((&answer.1["stored"], &answer.1["refused"]), (&json!(2), &json!(0)), "{answer:?}");

    let broken = send(9..11);
    broken.0.shutdown(Shutdown::Write).unwrap();
    drop(broken);
    assert!(crate::support::wait(|| recorded(&server) == 11), "whole lines before the break are stored");
    assert_eq!(letters(&server), Vec::<Value>::new(), "a line that was cut is no event");
}

#[test]
fn probes_are_answered_while_every_place_is_taken() {
    let home = Home::new().allowing("OVERLOADED").allowing("request failed").allowing("request refused");
    let settings = std::fs::read_to_string(home.path("watershed.toml")).unwrap();
    home.write("watershed.toml", format!("{settings}\n[server]\nmax_concurrent_requests = 2\n"));
    let server = home.serve();
    let in_flight = || metric(&server, "http_requests_in_flight", &[]);
    let before = in_flight();
    let mut uploads = [Upload::begin_as(&server, SINGLE), Upload::begin_as(&server, SINGLE)];
    uploads.iter_mut().for_each(|upload| upload.send("{"));
    // First, because a question would take the place of an upload that is still to come.
    assert!(crate::support::wait(|| in_flight() >= before + 2.0), "both are here");
    assert!(crate::support::wait(|| server.get("/api/v1/users/ada").0 == 503), "every place is taken");
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(server.send("GET", path, &[], None).status, 200, "{path}");
    }
    drop(uploads);
    assert!(crate::support::wait(|| server.get("/api/v1/users/ada").0 == 404), "places are given back");
}

#[test]
fn streams_have_places_of_their_own_and_must_go_on_sending() {
    let home = Home::new();
    let settings = std::fs::read_to_string(home.path("watershed.toml")).unwrap();
    let limits = "max_concurrent_requests = 3\nmax_streams_per_tenant = 2\n";
    home.write("watershed.toml", format!("{settings}\n[server]\n{limits}"));
    let server = home.serve();
    let mut streams = [Upload::begin(&server), Upload::begin(&server)];
    streams.iter_mut().for_each(|stream| stream.send("\n"));
    let is_open = || metric(&server, "event_streams_open", &[]) == 2.0;
    assert!(crate::support::wait(is_open), "both are open");
    // One key has every stream that it may have, and nobody else notices.
    for _ in 0..5 {
        assert_eq!(server.get("/api/v1/users/ada").0, 404);
    }
    let third = Upload::begin(&server);
    refused(&third.answer(), 429, "TOO_MANY_STREAMS", None);
    assert_eq!(metric(&server, "event_streams_refused_total", &["reason=\"too_many\""]), 1.0);
    for (id, mut stream) in streams.into_iter().enumerate() {
        stream.send(&event(&id.to_string()).to_string());
        stream.0.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(stream.answer().1["stored"], 1);
    }
    let (status, result) = server.post_as(LINES, PATH, event("9").to_string());
    assert_eq!((status, &result["stored"]), (200, &json!(1)), "the places are free again");
}

#[test]
fn bad_events_are_refused_with_the_field() {
    let server = Server::new();
    let check = |event: Value, status: u16, code: &str, field: Option<&str>| {
        refused(&server.post_as(SINGLE, PATH, event.to_string()), status, code, field);
    };
    check(with("1", "specversion", json!("0.3")), 400, "INVALID_EVENT", Some("specversion"));
    check(with("1", "id", json!("")), 400, "INVALID_EVENT", Some("id"));
    check(with("1", "id", Value::Null), 400, "INVALID_EVENT", Some("id"));
    check(with("1", "source", json!("x".repeat(1_025))), 400, "INVALID_EVENT", Some("source"));
    check(with("1", "time", json!("2024-05-01 10:00")), 400, "INVALID_EVENT", Some("time"));
    check(with("1", "time", json!("2100-01-01T00:00:00Z")), 400, "VALIDATION_ERROR", Some("time"));
    check(with("1", "time", json!("1000-01-01T00:00:00Z")), 400, "VALIDATION_ERROR", Some("time"));
    check(with("1", "type", json!("shop.opened.v1")), 400, "UNKNOWN_EVENT_TYPE", Some("type"));
    check(with("1", "tenantid", json!("else")), 403, "TENANT_MISMATCH", Some("tenantid"));
    check(with("1", "Upper", json!(1)), 400, "INVALID_EVENT", Some("Upper"));
    check(with("1", "nested", json!({})), 400, "INVALID_EVENT", Some("nested"));
    check(with("1", "data", json!(7)), 400, "INVALID_EVENT", Some("data"));
    check(with("1", "data", json!({"user_id": 7})), 400, "INVALID_EVENT", Some("data.user_id"));
    check(with("1", "data", json!({"user_id": "u"})), 400, "INVALID_EVENT", Some("data.entity_id"));
    let kind = json!({"rating": "high"});
    let data = json!({"user_id": "u", "entity_id": "e", "interaction_type": kind});
    check(with("1", "data", data), 400, "INVALID_EVENT", Some("data.interaction_type.rating"));
    let data = json!({"user_id": "u", "entity_id": "e", "interaction_type": "view", "weight": 1e7});
    check(with("1", "data", data), 400, "VALIDATION_ERROR", Some("data.weight"));
    check(with("1", "data", json!("x".repeat(1 << 20))), 413, "TOO_LARGE", None);
    let zap = json!({"user_id": "ada", "entity_id": "e", "interaction_type": "zap"});
    check(with("1", "data", zap), 400, "UNKNOWN_INTERACTION_TYPE", Some("data.interaction_type"));
    check(json!({"specversion": "1.0", "id": 5}), 400, "INVALID_EVENT", Some("id"));
    check(json!("text"), 400, "INVALID_EVENT", None);

    let text = event("1").to_string();
    let nan = text.replace("\"view\"", "\"view\",\"weight\":NaN");
    refused(&server.post_as(SINGLE, PATH, nan), 400, "INVALID_EVENT", Some("data"));
    refused(&server.post_as(SINGLE, PATH, b"{\"id\":\"\xff\"}"), 400, "INVALID_EVENT", None);
    refused(&server.post_as(SINGLE, PATH, ""), 400, "INVALID_EVENT", None);
    refused(&server.post_as("text/plain", PATH, &text), 415, "UNSUPPORTED_MEDIA_TYPE", None);
    refused(&server.post_as("text/plain", "/api/v1/interactions", "{}"), 415, "UNSUPPORTED_MEDIA_TYPE", None);
    assert_eq!(recorded(&server), 0);
}

#[test]
fn fields_are_named_from_the_event_in_batches_lines_and_dead_letters() {
    let server = Server::new();
    let bad = with("1", "data", json!({"user_id": "", "entity_id": "e", "interaction_type": "view"}));
    let (_, batch) = server.post_as(BATCH, PATH, json!([bad]).to_string());
    assert_eq!(batch["results"][0]["problem"]["field"], "data.user_id", "{batch}");
    let (_, lines) = server.post_as(LINES, PATH, format!("{bad}\n").repeat(1_002));
    assert_eq!(lines["refused_lines"][0]["problem"]["field"], "data.user_id", "{lines}");
    let told = lines["refused_lines"].as_array().unwrap().len();
    assert_eq!((told, &lines["refused_lines_left_out"]), (1_000, &json!(2)));
    let reason = "data.user_id: an id must have at least one character";
    assert!(letters(&server).iter().all(|letter| letter["reason"] == reason), "{:?}", letters(&server)[0]);
    let bulk = json!({"interactions": [{"user_id": "u", "entity_id": "e", "interaction_type": "zap"}]});
    let (_, bulk) = server.post("/api/v1/interactions/bulk", &bulk);
    assert_eq!(bulk["errors"][0]["problem"]["field"], "interaction_type", "{bulk}");
}

#[test]
fn a_body_over_the_limit_is_refused_but_a_stream_has_none() {
    let server = Home::new().environment("MAX_REQUEST_SIZE_MB", "1").serve();
    let text = event("1").to_string();
    let batch = format!("[{text}{}]", " ".repeat(1 << 20));
    refused(&server.post_as(BATCH, PATH, batch), 413, "TOO_LARGE", None);
    let body = format!("{{\"entity_id\":\"e\"{}}}", " ".repeat(1 << 20));
    refused(&server.post_as("application/json", "/api/v1/entities", body), 413, "TOO_LARGE", None);
    let lines: Vec<String> =
        (0..12).map(|id| format!("{}{}", event(&id.to_string()), " ".repeat(100_000))).collect();
    let (status, result) = server.post_as(LINES, PATH, lines.join("\n"));
    assert_eq!((status, &result["stored"]), (200, &json!(12)), "{result}");
}

#[test]
fn whatever_is_refused_is_kept_with_its_reason() {
    let server = Server::new();
    let check = |refusal: (u16, Value), body: &str| {
        let (status, problem) = refusal;
        assert!((400..500).contains(&status), "{body}: {problem}");
        let kept = letters(&server);
        let of_it: Vec<_> =
            kept.iter().filter(|letter| letter["body"].as_str().unwrap().contains(body)).collect();
        assert_eq!(of_it.len(), 1, "{body}: {kept:?}");
        assert_eq!(of_it[0]["code"], problem["code"], "{body}");
        assert!(!kept.iter().any(|letter| letter.to_string().contains(KEY)));
    };
    check(server.post_as(SINGLE, PATH, b"{\"id\":\"first \xff\"}"), "first \u{fffd}");
    check(server.post_as(SINGLE, PATH, "no JSON"), "no JSON");
    check(server.post_as(BATCH, PATH, r#"[{"id":"second"},"#), "second");
    check(server.post_as(BATCH, PATH, b"[{\"id\":\"third \xff\"}]"), "third \u{fffd}");
    let zap = json!({"user_id": "fourth", "entity_id": "e", "interaction_type": "zap"});
    check(server.post("/api/v1/interactions", &zap), "fourth");
    let ancient = json!({
        "user_id": "fifth", "entity_id": "e", "interaction_type": "view", "timestamp": "1000-01-01T00:00:00Z"
    });
    check(server.post("/api/v1/interactions", &ancient), "fifth");
    assert_eq!(letters(&server).len(), 6);
    let elsewhere =
        json!({"user_id": "u", "entity_id": "e", "interaction_type": "view", "tenant_id": "else"});
    assert_eq!(server.post("/api/v1/interactions", &elsewhere).0, 403);
    assert_eq!(server.post_as(SINGLE, PATH, with("1", "tenantid", json!("else")).to_string()).0, 403);
    assert_eq!(letters(&server).len(), 6, "another tenant's data are not kept");
}

#[test]
fn a_bulk_request_with_a_key_is_stored_once() {
    let server = Server::new();
    let interaction =
        |entity: &str| json!({"user_id": "ada", "entity_id": entity, "interaction_type": "view"});
    let path = "/api/v1/interactions/bulk";
    let counts = |answer: &(u16, Value), key: &str, successful: u64, failed: u64| {
        let (status, result) = answer;
        assert_eq!((*status, &result["job_id"]), (202, &json!(key)), "{result}");
        assert_eq!(
            (&result["successful"], &result["failed"]),
            (&json!(successful), &json!(failed)),
            "{result}"
        );
    };
    let many: Vec<Value> = (0..5_000).map(|number| interaction(&format!("e-{number}"))).collect();
    // As after an import that ended half-way.
    counts(&server.post_once("key-1", path, &json!({"interactions": many[..3_000]})), "key-1", 3_000, 0);
    for _ in 0..2 {
        counts(&server.post_once("key-1", path, &json!({"interactions": many})), "key-1", 5_000, 0);
        assert_eq!(server.read("/api/v1/users/ada")["interactions"], 5_000);
    }
    let mut other = many[..3].to_vec();
    other[1] = interaction("else");
    let answer = server.post_once("key-1", path, &json!({"interactions": other}));
    counts(&answer, "key-1", 2, 1);
    let error = &answer.1["errors"][0];
    let told = (&error["index"], &error["problem"]["code"], &error["problem"]["field"]);
    assert_eq!(told, (&json!(1), &json!("CONFLICT"), &json!("idempotency-key")));
    assert_eq!(server.read("/api/v1/users/ada")["interactions"], 5_000);
    counts(&server.post_once("key-2", path, &json!({"interactions": many[..2]})), "key-2", 2, 0);
    assert_eq!(server.read("/api/v1/users/ada")["interactions"], 5_002);

    let path = "/api/v1/entities/bulk";
    let entities = json!({"entities": [
        {"entity_id": "e-0", "attributes": {"price": 0.1, "tags": ["x"]}, "available_from": "2024-05-01T00:00:00Z"}
    ]});
    counts(&server.post_once("key-1", path, &entities), "key-1", 0, 1);
    counts(&server.post_once("key-3", path, &entities), "key-3", 1, 0);
    assert_eq!(server.put("/api/v1/entities/e-0", &json!({"attributes": {"price": 5}})).0, 200);
    counts(&server.post_once("key-3", path, &entities), "key-3", 1, 0);
    assert_eq!(
        server.read("/api/v1/entities/e-0")["attributes"]["price"],
        5,
        "a retry does not undo what came later"
    );
    let (status, problem) = server.post_once(&"k".repeat(256), path, &entities);
    refused(&(status, problem), 400, "VALIDATION_ERROR", Some("idempotency-key"));
}

#[test]
fn dead_letters_are_listed_read_and_forgotten() {
    let server = Server::new();
    for number in 0..3 {
        let bad = with(&format!("bad-{number}"), "type", json!("shop.opened.v1"));
        assert_eq!(server.post_as(SINGLE, PATH, bad.to_string()).0, 400);
    }
    let all = letters(&server);
    let mut told: Vec<_> = all.iter().map(|letter| letter["event_id"].as_str().unwrap()).collect();
    told.sort_unstable();
    assert_eq!(told, ["bad-0", "bad-1", "bad-2"]);
    // Those of one millisecond are in no order.
    let times: Vec<_> = all.iter().map(|letter| &letter["refused_at"].as_str().unwrap()[..19]).collect();
    assert!(times.is_sorted_by(|one, two| one >= two), "newest first: {times:?}");
    let first = &all[0];
    let fields = ["stage", "code", "type"].map(|name| first[name].as_str().unwrap());
    assert_eq!(fields, ["edge", "UNKNOWN_EVENT_TYPE", "shop.opened.v1"]);
    assert!(first["reason"].as_str().unwrap().contains("shop.opened.v1"));
    let body: Value = serde_json::from_str(first["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["id"], first["event_id"]);

    let mut paged = Vec::new();
    let mut path = "/api/v1/dead-letters?limit=2".to_owned();
    loop {
        let page = server.read(&path);
        paged.extend(page["dead_letters"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/dead-letters?limit=2&cursor={}", encode(cursor));
    }
    assert_eq!(paged, all);
    let one = format!("/api/v1/dead-letters/{}", encode(first["id"].as_str().unwrap()));
    assert_eq!(&server.read(&one), first);
    assert_eq!(server.delete(&one), (204, Value::Null));
    refused(&server.get(&one), 404, "NOT_FOUND", None);
    assert_eq!(letters(&server), all[1..]);
    refused(&server.get("/api/v1/dead-letters?limit=0"), 400, "VALIDATION_ERROR", Some("limit"));
    refused(&server.get("/api/v1/dead-letters?limit=1001"), 400, "VALIDATION_ERROR", Some("limit"));
}
