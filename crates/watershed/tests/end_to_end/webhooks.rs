//! Webhooks from outside: what a receiver gets and can check, what becomes of it where the receiver fails, what may not be
//! reached, and that a crash loses nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Home, KEY, SETTINGS, Server, metric, refused, wait};

/// Quick retries, and receivers on this machine.
const WEBHOOKS: &str = "
[webhooks]
allow_private = true
allow_http = true
timeout_secs = 1
max_attempts = 2
retry_backoff_secs = 1
trending_interval_secs = 1
errors_window_secs = 1
errors_requests_min = 5
";

/// A request as it came, with its headers in small letters.
#[derive(Debug, Clone)]
struct Got {
    headers: Vec<(String, String)>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Whether each tag of the signature is one under the secret, as a receiver finds out.
    fn tags(&self, secret: &str) -> Vec<bool> {
        let mut parts = self.header("watershed-signature").split(',');
        let time = parts.next().unwrap().strip_prefix("t=").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signed = format!("{time}.{}", self.body);
        let is_genuine = |part: &str| {
            let tag = part.strip_prefix("v1=").unwrap();
            let byte = |at: usize| u8::from_str_radix(&tag[2 * at..2 * at + 2], 16).unwrap();
            let tag: Vec<u8> = (0..tag.len() / 2).map(byte).collect();
            hmac::verify(&key, signed.as_bytes(), &tag).is_ok()
        };
        parts.map(is_genuine).collect()
    }

    /// Checks the signature as a receiver would.
    #[track_caller]
    fn check_signature(&self, secret: &str) {
        assert_eq!(self.tags(secret), [true], "{} of {}", self.header("watershed-signature"), self.body);
    }
}

/// Takes webhooks on this machine, and answers with the status that it is told.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
    status: Arc<Mutex<u16>>,
}

impl Receiver {
    fn answering(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let (got, status) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(status)));
        let (all, answer) = (Arc::clone(&got), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let request = read(stream.as_ref().unwrap());
                let status = *answer.lock().unwrap();
                // Before the answer, so that who sees the answer sees the request.
                all.lock().unwrap().extend(request);
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                // A server that was killed does not wait for its answer.
                let _ = stream.unwrap().write_all(answer.as_bytes());
            }
        });
        Self { url, got, status }
    }

    fn answer(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// The events of a type that came.
    fn of_type(&self, kind: &str) -> Vec<Value> {
        self.got().iter().map(Got::event).filter(|event| event["type"] == kind).collect()
    }
}

/// The request; none where it broke off.
fn read(stream: &TcpStream) -> Option<Got> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Got { headers, body: String::from_utf8(body).ok()? })
}

fn home(more: &str) -> Home {
    Home::with_settings(&format!("{SETTINGS}{WEBHOOKS}{more}"))
}

fn subscribe(server: &Server, receiver: &Receiver, events: &[&str]) -> (String, String) {
    let made = server.create("/api/v1/webhooks", &json!({"url": receiver.url, "events": events}));
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("id"), text("secret"))
}

fn test(server: &Server, webhook: &str) -> String {
    let (status, delivery) = server.post(&format!("/api/v1/webhooks/{webhook}/test"), &json!({}));
    assert_eq!(status, 202, "{delivery}");
    delivery["id"].as_str().unwrap().to_owned()
}

/// Waits until the delivery stands there, and returns it.
#[track_caller]
fn stands(server: &Server, delivery: &str, state: &str) -> Value {
    let mut found = Value::Null;
    let reached = wait(|| {
        found = server.read(&format!("/api/v1/webhook-deliveries/{delivery}"));
        found["state"] == state
    });
    assert!(reached, "not {state}: {found}");
    found
}

#[test]
fn a_message_is_signed_delivered_and_audited() {
    let server = home("").serve();
    let receiver = Receiver::answering(204);
    let (id, secret) = subscribe(&server, &receiver, &["model.updated"]);
    let delivery = test(&server, &id);
    let delivered = stands(&server, &delivery, "delivered");
    assert_eq!((&delivered["attempts"], &delivered["last_status"]), (&json!(1), &json!(204)));
    let got = receiver.got().remove(0);
    got.check_signature(&secret);
    assert_eq!(got.header("content-type"), "application/cloudevents+json");
    assert_eq!(got.header("watershed-delivery"), delivery);
    assert!(got.header("traceparent").starts_with("00-"));
    let event = got.event();
    assert_eq!((event["type"].as_str(), event["tenantid"].as_str()), (Some("webhook.test"), Some("default")));
    assert_eq!(
        (&event["id"], got.body.as_str()),
        (&delivered["event_id"], delivered["body"].as_str().unwrap())
    );

    let path = format!("/api/v1/webhooks/{id}");
    let listed = server.read("/api/v1/webhooks");
    assert!(!listed.to_string().contains("whsec") && !server.read(&path).to_string().contains("whsec"));
    let (status, changed) = server.patch(&path, &json!({"active": false, "description": "off"}));
    assert_eq!((status, &changed["active"], &changed["url"]), (200, &json!(false), &json!(receiver.url)));
    refused(&server.post(&format!("{path}/test"), &json!({})), 409, "CONFLICT", None);
    assert_eq!(server.delete(&path).0, 204);
    refused(&server.get(&path), 404, "NOT_FOUND", None);
    let audit = server.read("/api/v1/audit");
    let actions: Vec<_> =
        audit["entries"].as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["webhook.deleted", "webhook.updated", "webhook.tested", "webhook.created"]);
    assert!(!server.log().contains(&secret) && !audit.to_string().contains(&secret));
    assert_eq!(metric(&server, "webhook_attempts_total", &[r#"outcome="delivered""#]), 1.0);
}

#[test]
fn a_rotated_secret_and_the_one_before_sign_together_for_a_while() {
    let server = home("").serve();
    let receiver = Receiver::answering(204);
    let (id, first) = subscribe(&server, &receiver, &["model.updated"]);
    let path = format!("/api/v1/webhooks/{id}/rotate-secret");
    let rotate = |grace: Value| {
        let (status, rotated) = server.post(&path, &grace);
        assert_eq!(status, 200, "{rotated}");
        (rotated["secret"].as_str().unwrap().to_owned(), rotated["previous_secret_until"].is_string())
    };
    let last = |server: &Server| {
        stands(server, &test(server, &id), "delivered");
        receiver.got().pop().unwrap()
    };
    last(&server).check_signature(&first);
    let (second, has_grace) = rotate(json!({"grace_secs": 2}));
    assert!(has_grace && second != first);
    let got = last(&server);
    assert_eq!((got.tags(&second), got.tags(&first)), (vec![true, false], vec![false, true]));
    assert!(wait(|| last(&server).tags(&second) == [true]), "the grace ends");
    // A day where nothing is said, nothing where there is none.
    let (third, has_grace) = rotate(json!({}));
    assert!(has_grace);
    assert_eq!(last(&server).tags(&second), [false, true]);
    let (fourth, has_grace) = rotate(json!({"grace_secs": 0}));
    assert!(!has_grace && fourth != third);
    last(&server).check_signature(&fourth);
    refused(
        &server.post(&path, &json!({"grace_secs": 604_801})),
        400,
        "VALIDATION_ERROR",
        Some("grace_secs"),
    );
    refused(&server.post("/api/v1/webhooks/00/rotate-secret", &json!({})), 404, "NOT_FOUND", None);
    let audit = server.read("/api/v1/audit");
    assert_eq!(audit.to_string().matches("webhook.rotated").count(), 3);
    let log = server.log();
    assert!(
        [first, second, third, fourth]
            .iter()
            .all(|secret| !log.contains(secret) && !audit.to_string().contains(secret))
    );
}

#[test]
fn a_failure_is_retried_then_given_up_then_replayed() {
    let server = home("").serve();
    let receiver = Receiver::answering(500);
    let (id, secret) = subscribe(&server, &receiver, &["model.updated"]);
    let retried = test(&server, &id);
    assert!(wait(|| receiver.got().len() == 1));
    receiver.answer(200);
    assert_eq!(stands(&server, &retried, "delivered")["attempts"], 2);
    let got = receiver.got();
    assert_eq!(got[0].body, got[1].body, "the id tells a receiver that it is the same");

    receiver.answer(302);
    let mut given_up = [test(&server, &id), test(&server, &id)];
    // Ids tell the order to the millisecond only.
    given_up.sort();
    for delivery in &given_up {
        let dead = stands(&server, delivery, "dead");
        assert_eq!(dead["last_error"], "answered 302; redirects are not followed", "{dead}");
    }
    let path = format!("/api/v1/webhook-deliveries?state=dead&webhook_id={id}&limit=1");
    let page = server.read(&path);
    assert_eq!(page["deliveries"][0]["id"], given_up[1].as_str(), "newest first: {page}");
    let next = server.read(&format!("{path}&cursor={}", page["next_cursor"].as_str().unwrap()));
    assert_eq!(next["deliveries"][0]["id"], given_up[0].as_str(), "{next}");
    receiver.answer(200);
    let (status, _) = server.post(&format!("/api/v1/webhook-deliveries/{}/replay", given_up[0]), &json!({}));
    assert_eq!(status, 202);
    stands(&server, &given_up[0], "delivered");
    let (status, replayed) = server.post("/api/v1/webhook-deliveries/replay", &json!({}));
    assert_eq!((status, replayed), (202, json!({"replayed": 1, "more": false})));
    stands(&server, &given_up[1], "delivered");
    receiver.got().iter().for_each(|one| one.check_signature(&secret));
    assert_eq!(metric(&server, "webhook_attempts_total", &[r#"outcome="dead""#]), 2.0);
}

#[test]
fn a_crash_between_writing_down_and_delivering_loses_nothing() {
    let home = home("enabled = false\n");
    let settings = std::fs::read_to_string(home.path("watershed.toml")).unwrap();
    let mut server = home.serve();
    let receiver = Receiver::answering(200);
    let (id, secret) = subscribe(&server, &receiver, &["model.updated"]);
    let deliveries = [test(&server, &id), test(&server, &id)];
    assert!(receiver.got().is_empty(), "this server does not deliver");
    server.home().write("watershed.toml", settings.strip_suffix("enabled = false\n").unwrap());
    server.crash_and_restart();
    // Again between the writing down and the end of a delivery.
    assert!(wait(|| !receiver.got().is_empty()));
    server.crash_and_restart();
    for delivery in &deliveries {
        stands(&server, delivery, "delivered");
    }
    let got = receiver.got();
    got.iter().for_each(|one| one.check_signature(&secret));
    assert!(deliveries.iter().all(|id| got.iter().any(|one| one.header("watershed-delivery") == id)));
}

#[test]
fn no_request_reaches_an_address_that_is_not_public() {
    let strict = format!("{SETTINGS}\n[webhooks]\nmax_attempts = 1\n");
    let server = Home::with_settings(&strict).serve();
    for url in [
        "http://hooks.example/",
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
        "https://localhost/",
        "https://169.254.169.254/latest",
        "https://0x7f.1/",
        "https://u:p@hooks.example/",
        "nonsense",
    ] {
        let answer = server.post("/api/v1/webhooks", &json!({"url": url, "events": ["model.updated"]}));
        refused(&answer, 400, "VALIDATION_ERROR", Some("url"));
    }
    let answer = server.post("/api/v1/webhooks", &json!({"url": "https://hooks.example/", "events": []}));
    refused(&answer, 400, "VALIDATION_ERROR", Some("events"));
    drop(server);

    // What was taken while it was allowed is looked at again when it is sent.
    let mut server = home("").serve();
    let receiver = Receiver::answering(200);
    let port = receiver.url.rsplit(':').next().unwrap().to_owned();
    let named = format!("http://localhost:{port}");
    let ids = [receiver.url.clone(), named].map(|url| {
        let made = server.create("/api/v1/webhooks", &json!({"url": url, "events": ["model.updated"]}));
        made["id"].as_str().unwrap().to_owned()
    });
    let settings = format!("{SETTINGS}\n[webhooks]\nallow_http = true\nmax_attempts = 1\n");
    server.home().write("watershed.toml", settings);
    server.restart();
    for id in &ids {
        let dead = stands(&server, &test(&server, id), "dead");
        let reason = dead["last_error"].as_str().unwrap();
        assert!(reason.contains("is not a public address"), "{reason}");
    }
    assert!(receiver.got().is_empty());
}

#[test]
fn models_trending_and_failures_are_told() {
    let mut server = home("").allowing("not answered within 300 ms").serve();
    let receiver = Receiver::answering(200);
    let events = ["model.updated", "trending.changed", "errors.threshold"];
    let (_, secret) = subscribe(&server, &receiver, &events);
    // The first look notes the list, and what enters it later is told: each film has more viewers than those before.
    let mut films = 0;
    let told = wait(|| {
        films += 1;
        for user in 0..films {
            let (user, entity) = (format!("user-{user}"), format!("film-{films}"));
            let body = json!({"user_id": user, "entity_id": entity, "interaction_type": "view"});
            server.create("/api/v1/interactions", &body);
        }
        !receiver.of_type("trending.changed").is_empty()
    });
    assert!(told, "{}", server.log());
    let change = receiver.of_type("trending.changed").remove(0);
    assert!(change["data"]["entered"].as_array().is_some_and(|list| !list.is_empty()), "{change}");

    let settings = std::fs::read_to_string(server.home().path("watershed.toml")).unwrap();
    let schedule = "incremental_update_interval_secs = 1\nmin_interactions = 1";
    let training = settings.replace("incremental_update_interval_secs = 3600", schedule);
    server.home().write("watershed.toml", training + "[server]\nrequest_timeout_ms = 300\n");
    server.restart();
    assert!(wait(|| !receiver.of_type("model.updated").is_empty()), "{}", server.log());
    assert_eq!(receiver.of_type("model.updated")[0]["data"]["version"], 1);

    let told = wait(|| {
        let broken: Vec<_> = (0..5).map(|_| unfinished(&server)).collect();
        broken.into_iter().for_each(|stream| assert_eq!(status(stream), "HTTP/1.1 504"));
        !receiver.of_type("errors.threshold").is_empty()
    });
    assert!(told, "{}", server.log());
    let failures = receiver.of_type("errors.threshold").remove(0);
    assert!(failures["data"]["errors"].as_u64().unwrap() >= 5, "{failures}");
    receiver.got().iter().for_each(|one| one.check_signature(&secret));
}

/// A request whose body does not come, so that its time runs out.
fn unfinished(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /api/v1/entities HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn status(mut stream: TcpStream) -> String {
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    String::from_utf8(start.to_vec()).unwrap()
}
