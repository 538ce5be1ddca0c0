//! Traces: what a collector gets, whom a trace follows, and that nobody waits for a collector.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use kernel::{Clock, SystemClock};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use serde_json::json;

use crate::support::{Home, KEY, Server, metric, wait};

const LIST: &str = "/api/v1/recommendations/popular";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector of OTLP over HTTP that keeps what it gets. Its thread ends with the test.
struct Collector {
    endpoint: &'static str,
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::<Mutex<Vec<_>>>::default();
        let keep = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                take(stream.unwrap(), &keep);
            }
        });
        Self { endpoint: endpoint.leak(), got }
    }

    /// The spans of this name, once there are some.
    fn spans(&self, name: &str) -> Vec<Span> {
        let mut found = Vec::new();
        wait(|| {
            let got = self.got.lock().unwrap();
            let scopes =
                got.iter().flat_map(|request| &request.resource_spans).flat_map(|of| &of.scope_spans);
            found = scopes.flat_map(|scope| &scope.spans).filter(|span| span.name == name).cloned().collect();
            !found.is_empty()
        });
        found
    }
}

/// Answers every export of one connection.
fn take(stream: TcpStream, keep: &Mutex<Vec<ExportTraceServiceRequest>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
            head.push_str(&line);
            head.push('\n');
        }
        assert!(head.starts_with("post /v1/traces "), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        keep.lock().unwrap().push(ExportTraceServiceRequest::decode(&body[..]).unwrap());
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn traced(endpoint: &'static str) -> Home {
    Home::new()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .environment("OTEL_BSP_SCHEDULE_DELAY", "100")
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    let value = found.and_then(|found| found.value.as_ref()).and_then(|value| value.value.as_ref());
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} is {other:?} in {attributes:?}"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks with this `traceparent`; the `traceresponse`.
fn ask(server: &Server, parent: Option<&str>) -> String {
    let mut headers = vec![("x-api-key", KEY), ("x-request-id", "request-1")];
    headers.extend(parent.map(|parent| ("traceparent", parent)));
    let reply = server.send("GET", LIST, &headers, None);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("traceresponse").to_owned()
}

#[test]
fn a_request_is_a_span_of_its_callers_trace() {
    let collector = Collector::new();
    let server = traced(collector.endpoint).environment("OTEL_SERVICE_NAME", "shop").serve();
    let told = ask(&server, Some(&format!("00-{TRACE}-{PARENT}-01")));
    let spans = collector.spans(&format!("GET {LIST}"));
    let [span] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(
        (hexadecimal(&span.trace_id), hexadecimal(&span.parent_span_id)),
        (TRACE.into(), PARENT.into())
    );
    assert_eq!(told, format!("00-{TRACE}-{}-01", hexadecimal(&span.span_id)));
    assert_eq!(span.kind, SpanKind::Server as i32);
    assert!(span.end_time_unix_nano > span.start_time_unix_nano);
    let expected = [
        ("http.request.method", "GET"),
        ("http.route", LIST),
        ("http.response.status_code", "200"),
        ("request_id", "request-1"),
    ];
    for (key, value) in expected {
        assert_eq!(attribute(&span.attributes, key), value);
    }
    let answers = collector.spans("recommend.answer");
    assert_eq!(hexadecimal(&answers[0].parent_span_id), hexadecimal(&span.span_id));
    let resource = collector.got.lock().unwrap()[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name"), "shop");
    assert!(wait(|| metric(&server, "trace_spans_sent_total", &[]) >= 2.0));

    // Without a caller's trace one begins here; a broken header is as none.
    for parent in [None, Some("00-nonsense"), Some("00-00000000000000000000000000000000-0000000000000000-01")]
    {
        let told = ask(&server, parent);
        assert!(told.len() == 55 && !told.contains(TRACE) && told.ends_with("-01"), "{parent:?}: {told}");
    }
    // The last spans are sent before the end.
    server.create("/api/v1/entities", &json!({"entity_id": "a"}));
    server.stop();
    assert_eq!(collector.spans("POST /api/v1/entities").len(), 1);
    assert_eq!(collector.spans("events.append").len(), 1);
}

#[test]
fn a_sampled_share_is_recorded_and_the_callers_wish_counts() {
    let collector = Collector::new();
    let server = traced(collector.endpoint).environment("OTEL_TRACES_SAMPLER_ARG", "0").serve();
    assert!(ask(&server, None).ends_with("-00"));
    assert!(ask(&server, Some(&format!("00-{TRACE}-{PARENT}-00"))).ends_with("-00"));
    assert!(ask(&server, Some(&format!("00-{TRACE}-{PARENT}-01"))).ends_with("-01"));
    let spans = collector.spans(&format!("GET {LIST}"));
    assert_eq!(spans.len(), 1);
    assert!(spans.iter().all(|span| span.status.as_ref().is_none_or(|s| s.code != StatusCode::Error as i32)));
}

#[test]
fn log_lines_of_a_request_name_its_trace() {
    let collector = Collector::new();
    let server = traced(collector.endpoint)
        .environment("LOG_LEVEL", "debug")
        .environment("LOG_FORMAT", "json")
        .serve();
    ask(&server, Some(&format!("00-{TRACE}-{PARENT}-01")));
    let is_it =
        |line: &str| line.contains(&format!("\"trace_id\":\"{TRACE}\"")) && line.contains("request-1");
    assert!(wait(|| server.log().lines().any(is_it)), "{}", server.log());
}

#[test]
fn nobody_waits_for_a_collector() {
    let clock = SystemClock::new();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let check = |endpoint: String, says_so: bool| {
        let server = traced(endpoint.leak()).allowing("the collector of traces does not answer").serve();
        let longest = (0..3_000).map(|_| {
            let began = clock.elapsed();
            ask(&server, None);
            clock.elapsed() - began
        });
        let longest = longest.max().unwrap();
        // On a busy machine an answer takes milliseconds; one that waited for a collector would take its 5 seconds.
        assert!(longest < Duration::from_secs(4), "a request took {longest:?}");
        if says_so {
            assert!(wait(|| metric(&server, "trace_spans_lost_total", &[]) > 0.0));
            assert_eq!(server.log().matches("does not answer").count(), 1);
        }
        let began = clock.elapsed();
        server.stop();
        assert!(clock.elapsed() - began < Duration::from_secs(10));
    };
    check(format!("http://{gone}"), true);
    // It takes connections and never answers.
    check(format!("http://{}", deaf.local_addr().unwrap()), false);
}

#[test]
fn a_stop_keeps_its_limit_where_a_request_and_the_collector_are_stuck() {
    let clock = SystemClock::new();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap()).leak();
    let home = traced(endpoint).allowing("requests did not finish").allowing("the collector of traces");
    home.append_settings("[server]\nshutdown_timeout_secs = 4\n");
    let server = home.serve();
    ask(&server, None);
    let mut stuck = TcpStream::connect(server.address()).unwrap();
    let head =
        format!("POST /api/v1/entities HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: 9\r\n\r\n");
    stuck.write_all(head.as_bytes()).unwrap();
    assert!(wait(|| metric(&server, "http_connections_open", &[]) >= 2.0));
    let began = clock.elapsed();
    server.ask_to_stop();
    assert_eq!(server.ended(), Some(0));
    let took = clock.elapsed() - began;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let check = |name: &'static str, value: &'static str, part: &str| {
        Home::new().environment(name, value).run(&["config"]).failed_with(part);
    };
    check("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318", "trace.endpoint");
    check("OTEL_TRACES_SAMPLER_ARG", "2", "trace.sample_ratio");
}
