//! The end of a process: what SIGTERM does, step by step, and where it may write while it lives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use kernel::{Clock, SystemClock};

use crate::support::{Home, KEY, Server, files, wait};

const LIST: &str = "/api/v1/recommendations/popular";

/// A connection that is kept open, by hand.
struct Line(BufReader<TcpStream>);

/// Status, whether the connection is to be closed, body.
type Told = (u16, bool, String);

impl Line {
    fn to(server: &Server) -> std::io::Result<Self> {
        let stream = TcpStream::connect(server.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())
    }

    fn get(&mut self, path: &str) -> std::io::Result<Told> {
        self.write(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\n\r\n"))?;
        self.read()
    }

    /// The head of a request whose body has so many bytes.
    fn begin_post(&mut self, path: &str, length: usize) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        );
        self.write(&head).unwrap();
    }

    fn read(&mut self) -> std::io::Result<Told> {
        let (mut status, mut closes, mut length) = (0, false, 0);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            closes |= line == "connection: close";
            if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.parse().unwrap();
            }
            if line.is_empty() {
                let mut body = vec![0; length];
                self.0.read_exact(&mut body)?;
                return Ok((status, closes, String::from_utf8(body).unwrap()));
            }
        }
    }
}

/// A server with settings for its section.
fn server(settings: &str) -> Server {
    let home = Home::new();
    let all = std::fs::read_to_string(home.path("watershed.toml")).unwrap();
    home.write("watershed.toml", format!("{all}\n[server]\n{settings}\n"));
    home.serve()
}

fn refuses_connections(server: &Server) -> bool {
    wait(|| TcpStream::connect(server.address()).is_err())
}

#[test]
fn requests_in_flight_and_open_connections_are_served_to_their_end() {
    let clock = SystemClock::new();
    let server = server("shutdown_timeout_secs = 30");
    let body = r#"{"entity_id":"late"}"#;
    let (mut slow, mut kept, mut idle) =
        (Line::to(&server).unwrap(), Line::to(&server).unwrap(), Line::to(&server).unwrap());
    slow.begin_post("/api/v1/entities", body.len());
    slow.write(&body[..5]).unwrap();
    assert_eq!(kept.get(LIST).unwrap().0, 200);
    assert!(!idle.get(LIST).unwrap().1, "a connection stays open while the server runs");

    let began = clock.elapsed();
    server.ask_to_stop();
    assert!(refuses_connections(&server), "new connections are refused");
    let (status, closes, told) = kept.get("/ready").unwrap();
    assert_eq!((status, closes), (503, true), "{told}");
    assert!(told.contains("shutting down") && told.contains("in_progress"), "{told}");
    slow.write(&body[5..]).unwrap();
    let (status, closes, told) = slow.read().unwrap();
    assert_eq!((status, closes), (201, true), "{told}");
    let mut rest = Vec::new();
    assert_eq!(idle.0.read_to_end(&mut rest).unwrap(), 0, "an idle connection is closed without a word");
    let log = server.log();
    assert_eq!(server.ended(), Some(0), "{log}");
    let took = clock.elapsed() - began;
    assert!(took < Duration::from_secs(10), "it waits no longer than it has to, not {took:?}");
}

#[test]
fn what_was_acknowledged_in_the_end_is_there_at_the_next_start() {
    let mut server = server("shutdown_timeout_secs = 30");
    let body = r#"{"entity_id":"late"}"#;
    let mut slow = Line::to(&server).unwrap();
    slow.begin_post("/api/v1/entities", body.len());
    server.ask_to_stop();
    assert!(refuses_connections(&server));
    slow.write(body).unwrap();
    assert_eq!(slow.read().unwrap().0, 201);
    server.restart();
    assert_eq!(server.read("/api/v1/entities/late?entity_type=item")["entity_id"], "late");
}

#[test]
fn under_load_no_request_fails() {
    let server = server("shutdown_timeout_secs = 30\nshutdown_delay_secs = 2");
    let (answered, told_to_go, is_out) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                // As a load balancer does: it connects again whenever it is told to, until it knows from the probe.
                while !is_out.load(Ordering::Relaxed) {
                    let mut line = Line::to(&server).expect("connections are taken until the delay is over");
                    loop {
                        let (status, closes, body) = line.get(LIST).expect("every request has an answer");
                        assert_eq!(status, 200, "{body}");
                        answered.fetch_add(1, Ordering::Relaxed);
                        if closes {
                            told_to_go.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                    }
                }
            });
        }
        assert!(wait(|| answered.load(Ordering::Relaxed) > 300));
        server.ask_to_stop();
        let probe = || Line::to(&server).unwrap().get("/ready").unwrap().0;
        assert!(wait(|| probe() == 503), "readiness says no at once");
        assert!(wait(|| told_to_go.load(Ordering::Relaxed) > 60), "requests are answered meanwhile");
        is_out.store(true, Ordering::Relaxed);
    });
    let log = server.log();
    assert_eq!(server.ended(), Some(0), "{log}");
}

#[test]
fn a_request_that_never_ends_is_cut_off_in_time() {
    let clock = SystemClock::new();
    let server = server("shutdown_timeout_secs = 4");
    let mut stuck = Line::to(&server).unwrap();
    stuck.begin_post("/api/v1/entities", 1_000);
    assert_eq!(Line::to(&server).unwrap().get("/health").unwrap().0, 200);
    let began = clock.elapsed();
    server.ask_to_stop();
    assert_eq!(server.ended(), Some(0));
    let took = clock.elapsed() - began;
    // It has half of the time; what follows has the other.
    assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&took), "{took:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let clock = SystemClock::new();
    let server = server("shutdown_timeout_secs = 60");
    let mut stuck = Line::to(&server).unwrap();
    stuck.begin_post("/api/v1/entities", 1_000);
    assert_eq!(Line::to(&server).unwrap().get("/health").unwrap().0, 200);
    server.ask_to_stop();
    assert!(refuses_connections(&server));
    let began = clock.elapsed();
    server.ask_to_stop();
    assert_eq!(server.ended(), Some(143));
    assert!(clock.elapsed() - began < Duration::from_secs(5));
}

/// The whole file system is read-only but for one folder, and the user is nobody, as in the guide's container. What the
/// folder holds at the end.
fn written_where_all_else_is_read_only(home: &Home, options: &str) -> Vec<PathBuf> {
    let place = home.path("");
    let (place, binary) = (place.to_str().unwrap(), env!("CARGO_BIN_EXE_watershed"));
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout.starts_with(b"0");
    // Within a user namespace of its own nobody else's files are writable, and root there is nobody special.
    let drop_rights =
        if is_root { "setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs" } else { "" };
    let script = format!(
        "set -e
        mkdir {place}/data && chmod 777 {place}/data && chmod 755 {place}
        mount --make-rprivate /
        mount --bind {place}/data {place}/data
        mount -o remount,bind,ro /
        mount -o remount,bind,ro /tmp 2>/dev/null || true
        if touch {place}/written 2>/dev/null; then echo 'the file system can be written'; exit 3; fi
        cd {place}
        exec {drop_rights} {binary} serve --host 127.0.0.1 --port 0 {options} --address-file {place}/data/address"
    );
    let mut unshare = Command::new("unshare");
    if !is_root {
        unshare.arg("--map-root-user");
    }
    unshare
        .args(["--mount", "sh", "-c", &script])
        .env_clear()
        .env("API_KEY", KEY)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let log = std::fs::File::create(home.path("server.log")).unwrap();
    let mut child = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let said = || std::fs::read_to_string(home.path("server.log")).unwrap();
    let address = || std::fs::read_to_string(home.path("data/address")).unwrap_or_default();
    assert!(wait(|| address().ends_with('\n') || child.try_wait().unwrap().is_some()));
    assert!(child.try_wait().unwrap().is_none(), "{}", said());
    let server = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    let at = |path: &str| format!("http://{}{path}", address().trim_end());
    let made = server
        .post(at("/api/v1/entities"))
        .header("x-api-key", KEY)
        .send_json(serde_json::json!({"entity_id": "a"}));
    assert_eq!(made.unwrap().status(), 201, "{}", said());
    assert_eq!(server.get(at("/ready")).call().unwrap().status(), 200);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", said());
    let (inside, beside): (Vec<_>, Vec<_>) =
        files(&home.path("")).into_iter().partition(|path| path.starts_with(home.path("data")));
    let mut beside: Vec<_> = beside.iter().map(|path| path.file_name().unwrap()).collect();
    beside.sort();
    assert_eq!(beside, ["server.log", "watershed.toml"]);
    inside
}

#[test]
fn it_needs_to_write_nowhere_but_in_the_data_folder() {
    let home = Home::new();
    let data = home.path("data");
    let written = written_where_all_else_is_read_only(&home, &format!("--data-dir {}", data.display()));
    assert!(written.len() > 1, "the store is there: {written:?}");
}

#[cfg(all(feature = "postgres", feature = "redis"))]
#[test]
fn on_a_database_it_needs_to_write_nowhere() {
    use crate::replicas::{NO_LIMIT, drop_schema, shared};
    let home = Home::with_settings(&shared(NO_LIMIT));
    home.run(&["migrate", "up"]).succeeded();
    let settings = home.path("watershed.toml");
    let written = written_where_all_else_is_read_only(&home, &format!("--config {}", settings.display()));
    assert_eq!(written, [home.path("data/address")], "nothing but where it listens");
    drop_schema(&home);
}
